"""Runs an unmodified script and checks the jobs that it would start, instead of starting them."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import functools
import itertools
import os
import runpy
import sys
import types
from typing import Any, Callable, Iterable, Iterator, Optional, Sequence

import numpy as np

from estimator_spec_ext.compat import checkpoints, frames
from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat.interception import FUNCTION, METHODS, Interception
from estimator_spec_ext.compat.logs import quiet_logs
from estimator_spec_ext.diagnostics import Report, Severity, merge_reports
from estimator_spec_ext.hooks import enclosed
from estimator_spec_ext.preflight import api, warm_start
from estimator_spec_ext.preflight.facts import PREDICT, UNUSED_STOPPING, Job, ModeFacts
from estimator_spec_ext.reports.text import short_path

# A loop that waits for the step to move would never end: nothing is trained.
_MOST_CALLS = 50
_MOST_ROWS = 1000
# So many calls of one method that differ from each other are looked at.
_MOST_JOBS = 3
_MOST_BYTES = 1 << 20  # of an array that two input functions may share


class _Enough(BaseException):
    """Ends a script that goes on calling."""


class Unknown(float):
    """Not a number, and neither are its elements."""

    def __getitem__(self, key: Any) -> 'Unknown':
        return self


class Results(dict[str, Any]):
    """What an intercepted evaluation returns: not a number, whatever is asked for."""

    def __missing__(self, key: str) -> Unknown:
        return Unknown('nan')


class Predictions(Iterator[Any]):
    """What an intercepted predict() returns: some rows for `next`, and none for a loop."""

    def __init__(self) -> None:
        self._left = _MOST_ROWS

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __next__(self) -> Any:
        self._left -= 1
        if self._left < 0:  # a loop of `next` waits for the end
            raise StopIteration
        return Results()

    def close(self) -> None:
        """As a generator has it."""


def check_quietly(job: Job, **options: Any) -> Report:
    """Checks a job without what TensorFlow logs of its own work: it would hide the progress.

    Args:
      job: the job.
      **options: those of `preflight`.

    Returns:
      A `Report`.
    """
    with quiet_logs():
        return api.check_job(job, **options)


class _Calls(dict[Any, Any]):
    """Calls of one method that differ: in the code of their input function or in their hooks."""

    def note(self, value: Any, input_fn: Any, hooks: Any = None) -> None:
        """Keeps what one call means, unless a call like it was kept."""
        self.setdefault((_code_of(input_fn), tuple(map(type, hooks or ()))), value)

    def get_nth(self, number: int) -> Any:
        """What the call of this number means; None when there are fewer."""
        return next(itertools.islice(self.values(), number, None), None)


class _Pieces:
    """What single calls on one estimator tell of its job."""

    def __init__(self, estimator: Any, trained: Iterable[str]) -> None:
        self.estimator = estimator
        self.train, self.evaluate, self.predict = _Calls(), _Calls(), _Calls()
        self.receiver_fns: dict[Any, None] = {}
        self.calls: collections.Counter[str] = collections.Counter()
        self.has_weights = True
        self.same_hooks = False
        self.promised = frozenset(trained)
        self.checked_train: Any = None
        self.idle_trainings = 0
        self._hooks_of_train: list[Any] = []

    def notice_hooks(self, hooks: Iterable[Any]) -> None:
        """Looks whether train() gets a hook that it was given before."""
        self.same_hooks |= any(hook is other for hook in hooks for other in self._hooks_of_train)
        self._hooks_of_train.extend(hooks)

    def jobs(self) -> Iterator[Job]:
        """The job of the first calls, and those of calls that differ from them."""
        most = max(map(len, (self.train, self.evaluate, self.predict)))
        for number in range(min(max(most, 1), _MOST_JOBS)):
            train, evaluate = self.train.get_nth(number), self.evaluate.get_nth(number)
            predict, steps = self.predict.get_nth(number), None
            rounds = self.calls['train']
            receiver_fns = () if number else tuple(self.receiver_fns)
            if train is None and evaluate is None and predict is None and not receiver_fns:
                return
            if train is None:  # EVAL and PREDICT need the checkpoint of an earlier call
                train = self.train.get_nth(0) or self.checked_train
            trained_before = train is not None and train is self.checked_train
            rounds += 2 * trained_before  # it evaluates meanwhile
            if train is not None:
                train, steps = train
            yield Job(self.estimator, train, evaluate, receiver_fns,
                      predicts=bool(self.calls['predict']), has_weights=self.has_weights,
                      nested=False, predict_input_fn=predict, train_steps=steps,
                      same_hooks=self.same_hooks, promised=self.promised,
                      rounds=rounds, trained_before=trained_before, further=bool(number),
                      idle_trainings=0 if number else self.idle_trainings)


class Script:
    """One run of a script.

    Args:
      path: the script.
      arguments: its own arguments.
      options: options of `preflight`.
      say: takes a line about what is going on.
    """

    def __init__(self, path: str, arguments: Sequence[str], options: dict[str, Any],
                 say: Callable[[str], None]) -> None:
        self._path = path
        self._arguments = list(arguments)
        self._options = options
        self._say = say
        self._reports: list[Report] = []
        self._pieces: dict[int, _Pieces] = {}
        self._notes: list[str] = []
        self._jobs = 0
        self._trained: set[str] = set()
        self._left: dict[str, tuple[Any, Any]] = {}
        self._without_predict: dict[int, str] = {}
        self._last_step: dict[str, int] = {}
        self._best_exporters: dict[str, dict[str, Any]] = {}
        self._promised_step: dict[str, Optional[int]] = {}
        self._hooks: list[Any] = []
        handlers: dict[str, Callable[..., Any]] = {
            name: self._method(name) for name in METHODS}
        handlers[FUNCTION] = self._train_and_evaluate
        self._interception = Interception(handlers, (api.train_and_evaluate,), self._latest)

    def run(self) -> Report:
        """Runs the script up to its end, and gives what was found in all its jobs.

        Returns:
          A `Report`.

        Raises:
          PreflightInterrupted: on Ctrl-C, with what was found until then.
        """
        try:
            self._notes.extend(self._run())
        except KeyboardInterrupt as error:
            if isinstance(error, api.PreflightInterrupted):
                self._reports.append(error.report)
            else:
                self._notes.append('interrupted; the rest of the script was not reached')
            raise api.PreflightInterrupted(self._whole()) from None
        return self._whole()

    def _whole(self) -> Report:
        return merge_reports([*self._reports, Report(notes=tuple(self._notes))],
                             depth=self._options.get('depth', 'serve'))

    def _run(self) -> list[str]:
        ended: Optional[BaseException] = None
        with self._interception.active():
            try:
                with _as_main(self._path, self._arguments):
                    runpy.run_path(self._path, run_name='__main__')
            except (SystemExit, _Enough) as error:
                ended = error if isinstance(error, SystemExit) and error.code else None
            except Exception as error:  # noqa: BLE001 - the script is the user's
                ended = error
        calls: dict[str, collections.Counter[str]] = {}
        for pieces in self._pieces.values():
            self._check_pieces(pieces)
            # A new estimator for each round is the same job, if it has the same folder.
            calls.setdefault(_folder(pieces.estimator), collections.Counter()).update(pieces.calls)
        for counts in calls.values():
            self._reports.append(api.judge_calls(None, counts, self._options.get('suppress')))
        if self._jobs and ended is None:
            self._reports.append(api.judge_calls(
                None, {UNUSED_STOPPING: self._unused_stopping()}, self._options.get('suppress')))
        if ended is None:
            self._calm_predict()
        notes = []
        if ended is not None:
            if self._jobs:
                file, line = frames.error_site(ended)
                where = '' if file is None else f' at {short_path(file)}:{line}'
                notes.append(f'the script ended with {type(ended).__name__}{where}, and what '
                             'follows was not reached: its calls gave no real results')
            else:
                self._reports.append(api.failed_before_job(ended))
        elif not self._jobs:
            notes.append('the script started no tf.estimator job')
        return notes

    def _calm_predict(self) -> None:
        """What a script never asks for is worth a note."""
        asked = {_folder(pieces.estimator) for pieces in self._pieces.values()
                 if set(pieces.calls) - {'train', 'evaluate'}}
        for position, folder in self._without_predict.items():
            if folder not in asked:
                self._reports[position] = api.soften_predict(
                    self._reports[position], Severity.INFO)

    def _unused_stopping(self) -> int:
        """How many early-stopping hooks no call was given, by themselves or inside another hook."""
        known = set(map(id, self._hooks))
        for hook in self._hooks:
            known.update(map(id, getattr(hook, '__dict__', {}).values()))
        return sum(id(hook) not in known for hook in self._interception.stopping_hooks)

    def _train_and_evaluate(self, estimator: Any, train_spec: Any, eval_spec: Any,
                            **unused: Any) -> Any:
        self._check(estimator, train_spec, eval_spec)
        self._pieces_of(estimator).checked_train = train_spec, None
        self._trained.add(_folder(estimator))
        self._promised_step[_folder(estimator)] = getattr(train_spec, 'max_steps', None)
        return Results(global_step=getattr(train_spec, 'max_steps', None) or 0,
                       loss=Unknown('nan')), []

    def _check(self, estimator: Any, train_spec: Any, eval_spec: Any) -> None:
        self._jobs += 1
        for spec in (train_spec, eval_spec):
            self._hooks.extend(getattr(spec, 'hooks', None) or ())
        folder, last = _folder(estimator), getattr(train_spec, 'max_steps', None)
        job = api.job_of(estimator, train_spec, eval_spec, None)
        job = dataclasses.replace(job,
                                  promised=frozenset(self._trained - {folder}),
                                  idle_trainings=int(self._reach(folder, last)),
                                  replaced_exporters=self._replaced(job, folder))
        self._check_job(job)

    def _replaced(self, job: Job, folder: str) -> frozenset[str]:
        """The BestExporters of a job that stand in the place of other objects."""
        best = {exporter.name: exporter
                for exporter in job.exporters_of(tf_estimator.BestExporter)}
        before = self._best_exporters.setdefault(folder, {})
        replaced = frozenset(name for name, exporter in best.items()
                             if before.get(name, exporter) is not exporter)
        before.update(best)
        return replaced

    def _reach(self, folder: str, step: Optional[int]) -> bool:
        """Whether earlier calls of train() come to a step for certain."""
        if step is None or self._last_step.get(folder, 0) < step:
            return False
        built = self._trained_into(folder)
        return built is not None and built.cardinality == 'infinite'

    def _trained_into(self, *folders: str) -> Optional[ModeFacts]:
        """TRAIN of an estimator with one of these folders, where train() was called; else None."""
        for pieces in self._pieces.values():
            if pieces.train and _folder(pieces.estimator) in folders:
                return api.build_training(next(pieces.jobs()))
        return None

    def _check_job(self, job: Job) -> None:
        """Checks a job beside what an earlier estimator leaves in the same folder."""
        folder = _folder(job.estimator)
        owner, left = self._left.get(folder, (job.estimator, None))
        if owner is not job.estimator:
            job = dataclasses.replace(job, earlier=left)
        if warm_start.is_promised(job):
            job = dataclasses.replace(job, warm_source=self._to_come(warm_start.source_of(job)))
        if not job.uses_predict:
            self._without_predict[len(self._reports)] = folder
        self._reports.append(check_quietly(job, progress=self._say, **self._options))
        for found in job.leaves:
            self._left[folder] = job.estimator, found

    def _to_come(self, path: str) -> Optional[checkpoints.Checkpoint]:
        """The checkpoint that an earlier call leaves at a path; None when it is not known."""
        folders = (path, os.path.dirname(path))
        for folder in folders:
            if folder in self._left:
                return self._left[folder][1]
        built = self._trained_into(*folders)
        return None if built is None else checkpoints.to_come(built.saved)

    def _latest(self, folder: str) -> Optional[str]:
        """The checkpoint that the script would have left in a folder by now; None for none."""
        path = os.path.abspath(folder)
        if path not in self._trained:
            return None
        return os.path.join(path, f'model.ckpt-{self._step_of(path)}')

    def _step_of(self, folder: str) -> int:
        """The step to which the calls before would have come, if their data lasted."""
        return max(self._promised_step.get(folder) or 1, self._last_step.get(folder, 1))

    def _method(self, name: str) -> Callable[..., Any]:
        def caught(estimator: Any, *args: Any, **kwargs: Any) -> Any:
            pieces = self._pieces_of(estimator)
            pieces.calls[name] += 1
            if pieces.calls[name] > _MOST_CALLS:
                raise _Enough
            if name == 'train':
                self._trained.add(_folder(estimator))
            # Nothing is trained here: a real run would find what was trained before this call.
            pieces.has_weights &= (_folder(estimator) in self._trained
                                   or bool(kwargs.get('checkpoint_path'))
                                   or bool(self._trained) and 'checkpoint_path' in kwargs)
            return getattr(self, f'_{name}')(pieces, *args, **kwargs)
        return caught

    def _pieces_of(self, estimator: Any) -> _Pieces:
        if id(estimator) not in self._pieces:
            # What is trained into its own folder is there for the calls that follow.
            self._pieces[id(estimator)] = _Pieces(estimator, self._trained - {_folder(estimator)})
        return self._pieces[id(estimator)]

    def _train(self, pieces: _Pieces, input_fn: Any, hooks: Any = None, steps: Any = None,
               max_steps: Any = None, saving_listeners: Any = None) -> Any:
        self._hooks.extend(hooks or ())
        pieces.notice_hooks(hooks or ())
        folder = _folder(pieces.estimator)
        last = self._last_step.get(folder, 0)
        if max_steps is not None:
            pieces.idle_trainings += max_steps <= last
            self._last_step[folder] = max(last, max_steps)
        elif steps is not None:
            self._last_step[folder] = last + steps
        # Of a further call it is not known at which step it begins.
        spec = tf_estimator.TrainSpec(input_fn, max_steps=None if pieces.train else max_steps,
                                      hooks=hooks, saving_listeners=saving_listeners)
        pieces.train.note((spec, steps), input_fn, hooks)
        return pieces.estimator

    def _evaluate(self, pieces: _Pieces, input_fn: Any, steps: Any = None, hooks: Any = None,
                  checkpoint_path: Any = None, name: Any = None) -> Any:
        self._hooks.extend(hooks or ())
        # evaluate() is called when the script says so: nothing throttles it.
        pieces.evaluate.note(
            tf_estimator.EvalSpec(input_fn, steps=steps, hooks=hooks, name=name, throttle_secs=0),
            input_fn, hooks)
        return Results(global_step=0, loss=Unknown('nan'))

    def _predict(self, pieces: _Pieces, input_fn: Any, predict_keys: Any = None, hooks: Any = None,
                 checkpoint_path: Any = None, yield_single_examples: bool = True) -> Any:
        self._hooks.extend(hooks or ())
        pieces.predict.note(input_fn, input_fn)
        return Predictions()

    def _export_saved_model(self, pieces: _Pieces, export_dir_base: Any,
                            serving_input_receiver_fn: Any = None, assets_extra: Any = None,
                            as_text: Any = False, checkpoint_path: Any = None,
                            experimental_mode: str = PREDICT, **unused: Any) -> Any:
        if callable(serving_input_receiver_fn) and experimental_mode == PREDICT:
            pieces.receiver_fns[serving_input_receiver_fn] = None
        return os.fsencode(str(export_dir_base))

    _export_savedmodel = _export_saved_model

    def _experimental_export_all_saved_models(
            self, pieces: _Pieces, export_dir_base: Any, input_receiver_fn_map: Any = None,
            *unused: Any, **options: Any) -> Any:
        receiver_fns = input_receiver_fn_map if isinstance(input_receiver_fn_map, dict) else {}
        return self._export_saved_model(pieces, export_dir_base, receiver_fns.get(PREDICT))

    def _check_pieces(self, pieces: _Pieces) -> None:
        for job in pieces.jobs():
            self._jobs += 1
            self._check_job(job)


def _code_of(function: Any, depth: int = 0) -> Any:
    """What tells one input function from another: two lambdas of one line are alike."""
    if isinstance(function, functools.partial) and depth < 5:
        return (_code_of(function.func, depth + 1), tuple(map(_value_of, function.args)),
                tuple((name, _value_of(value)) for name, value in function.keywords.items()))
    if isinstance(function, types.MethodType):
        return _code_of(function.__func__, depth + 1), id(function.__self__)
    if not isinstance(function, types.FunctionType) or depth >= 5:
        return id(function)
    return function.__code__, tuple(
        _value_of(value, depth + 1) for value in enclosed(function).values())


def _value_of(argument: Any, depth: int = 0) -> Any:
    """Something that is equal for equal arguments, as far as that is cheap to tell."""
    if isinstance(argument, np.ndarray) and argument.dtype != object and (
            argument.nbytes <= _MOST_BYTES):
        return argument.shape, argument.tobytes()
    if isinstance(argument, types.FunctionType):
        return _code_of(argument, depth)
    known = isinstance(argument, (str, int, float)) or argument is None
    return argument if known else id(argument)


def _folder(estimator: Any) -> str:
    return os.path.abspath(str(estimator.model_dir))


@contextlib.contextmanager
def _as_main(path: str, arguments: list[str]) -> Iterator[None]:
    """The command line and the import path as `python script.py ...` sets them."""
    kept_arguments, kept_path = sys.argv, list(sys.path)
    sys.argv = [path, *arguments]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    try:
        yield
    finally:
        sys.argv = kept_arguments
        sys.path[:] = kept_path

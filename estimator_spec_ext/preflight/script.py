"""Runs an unmodified script and checks the jobs that it would start, instead of starting them."""

from __future__ import annotations

import collections
import contextlib
import os
import runpy
import sys
from typing import Any, Callable, Iterator, Optional, Sequence

from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat.interception import FUNCTION, METHODS, Interception
from estimator_spec_ext.compat.logs import quiet_logs
from estimator_spec_ext.diagnostics import Report, merge_reports
from estimator_spec_ext.preflight import api
from estimator_spec_ext.preflight.facts import UNUSED_STOPPING, Job

# A loop that waits for the step to move would never end: nothing is trained.
_MOST_CALLS = 50


class _Enough(BaseException):
    """Ends a script that goes on calling."""


class Results(dict[str, Any]):
    """What an intercepted evaluation returns: not a number, whatever is asked for."""

    def __missing__(self, key: str) -> float:
        return float('nan')


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


class _Pieces:
    """What single calls on one estimator tell of its job."""

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator
        self.train: Any = None
        self.evaluate: Any = None
        self.receiver_fn: Any = None
        self.calls: collections.Counter[str] = collections.Counter()
        self.has_weights = True


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
        self._hooks: list[Any] = []
        handlers: dict[str, Callable[..., Any]] = {
            name: self._method(name) for name in METHODS}
        handlers[FUNCTION] = self._train_and_evaluate
        self._interception = Interception(handlers, (api.train_and_evaluate,))

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
        for pieces in self._pieces.values():
            self._check_pieces(pieces)
        if self._jobs and ended is None:
            self._reports.append(api.judge_calls(
                None, {UNUSED_STOPPING: self._unused_stopping()}, self._options.get('suppress')))
        notes = []
        if ended is not None:
            if self._jobs:
                notes.append(f'the script ended with {type(ended).__name__} after its job was '
                             'checked; its results were not those of a real run')
            else:
                self._reports.append(api.failed_before_job(ended))
        elif not self._jobs:
            notes.append('the script started no tf.estimator job')
        return notes

    def _unused_stopping(self) -> int:
        """How many early-stopping hooks no call was given, by themselves or inside another hook."""
        known = set(map(id, self._hooks))
        for hook in self._hooks:
            known.update(map(id, getattr(hook, '__dict__', {}).values()))
        return sum(id(hook) not in known for hook in self._interception.stopping_hooks)

    def _train_and_evaluate(self, estimator: Any, train_spec: Any, eval_spec: Any,
                            **unused: Any) -> Any:
        self._check(estimator, train_spec, eval_spec)
        self._trained.add(_folder(estimator))
        return Results(global_step=getattr(train_spec, 'max_steps', None) or 0), []

    def _check(self, estimator: Any, train_spec: Any, eval_spec: Any) -> None:
        self._jobs += 1
        for spec in (train_spec, eval_spec):
            self._hooks.extend(getattr(spec, 'hooks', None) or ())
        self._reports.append(check_quietly(
            api.job_of(estimator, train_spec, eval_spec, None), progress=self._say,
            **self._options))

    def _method(self, name: str) -> Callable[..., Any]:
        def caught(estimator: Any, *args: Any, **kwargs: Any) -> Any:
            pieces = self._pieces.setdefault(id(estimator), _Pieces(estimator))
            pieces.calls[name] += 1
            if pieces.calls[name] > _MOST_CALLS:
                raise _Enough
            self._hooks.extend(kwargs.get('hooks') or (args[1:2] and args[1]) or ())
            if name == 'train':
                self._trained.add(_folder(estimator))
            # Nothing is trained here: a real run would find what was trained before this call.
            pieces.has_weights &= (_folder(estimator) in self._trained
                                   or bool(kwargs.get('checkpoint_path')))
            return getattr(self, f'_{name}', self._export)(pieces, *args, **kwargs)
        return caught

    def _train(self, pieces: _Pieces, input_fn: Any, hooks: Any = None, steps: Any = None,
               max_steps: Any = None, saving_listeners: Any = None) -> Any:
        if pieces.train is None:
            pieces.train = tf_estimator.TrainSpec(input_fn, max_steps=max_steps, hooks=hooks,
                                                  saving_listeners=saving_listeners)
        return pieces.estimator

    def _evaluate(self, pieces: _Pieces, input_fn: Any, steps: Any = None, hooks: Any = None,
                  checkpoint_path: Any = None, name: Any = None) -> Any:
        if pieces.evaluate is None:
            # evaluate() is called when the script says so: nothing throttles it.
            pieces.evaluate = tf_estimator.EvalSpec(input_fn, steps=steps, hooks=hooks, name=name,
                                                    throttle_secs=0)
        return Results(global_step=0)

    def _predict(self, pieces: _Pieces, input_fn: Any, *unused: Any, **options: Any) -> Any:
        if pieces.evaluate is None:
            pieces.evaluate = tf_estimator.EvalSpec(input_fn, steps=1, throttle_secs=0)
        return iter(())

    def _export(self, pieces: _Pieces, export_dir_base: Any,
                serving_input_receiver_fn: Any = None, *unused: Any, **options: Any) -> Any:
        if callable(serving_input_receiver_fn):
            pieces.receiver_fn = serving_input_receiver_fn
        return os.fsencode(str(export_dir_base))

    def _check_pieces(self, pieces: _Pieces) -> None:
        if pieces.train is None and pieces.evaluate is None and pieces.receiver_fn is None:
            return
        self._jobs += 1
        job = api.job_of(pieces.estimator, pieces.train, pieces.evaluate, pieces.receiver_fn,
                         predicts=bool(pieces.calls['predict']), has_weights=pieces.has_weights,
                         nested=False)
        self._reports.append(check_quietly(job, progress=self._say, **self._options))
        self._reports.append(api.judge_calls(pieces.estimator, pieces.calls,
                                             self._options.get('suppress')))


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

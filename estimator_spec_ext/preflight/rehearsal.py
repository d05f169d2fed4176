"""Depth 'run': each mode for a few steps, for real, in a scratch folder."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Callable, Iterator, Mapping, Optional

import numpy as np

from estimator_spec_ext.compat import checkpoints, rehearsal_internals
from estimator_spec_ext.compat import estimator_internals as internals
from estimator_spec_ext.preflight import batches, crashes, sessions
from estimator_spec_ext.preflight.facts import (
    EVAL,
    PREDICT,
    TRAIN,
    Crash,
    Job,
    ModeFacts,
    Place,
    Placed,
)
from estimator_spec_ext.preflight.limits import Limits, TimeLimit
from estimator_spec_ext.preflight.recorder import STEPS, Inside, MetricWatch, Recorder, Watch
from estimator_spec_ext.preflight.scratch import Scratch

RESUME, FEWER, BOTH = 'resume', 'fewer', 'both'
_SECONDS_A_MODE = 180.
_MOST_FILES = 20_000


class Rehearsed(Placed):
    """What one rehearsal gave.

    Attributes:
      name: 'train', 'resume', 'fewer' (TRAIN on smaller batches), 'eval', 'both' or 'infer'.
      mode: the `tf.estimator.ModeKeys` value.
      build: the mode as depth 'graph' built it.
      crash: the exception that ended it; None when all went well.
      recorder: what the hook of TRAIN saw; None in other modes.
      metrics: results of EVAL.
      spoilt: whether what the metrics of EVAL add up has become NaN.
      answers: (rows in the batch, prediction by key) of PREDICT.
      bad_size: the batch size at which the mode died, where it works with the job's own.
      bad_place: the user's own line at which it died then; None where that is not known.
      shared: the classes of the hooks that take part in TRAIN and in EVAL, for the name 'both'.
    """

    def __init__(self, name: str, build: ModeFacts) -> None:
        super().__init__()
        self.name = name
        self.mode = build.mode
        self.site = build.site
        self.build = build
        self.crash: Optional[Crash] = None
        self.recorder: Optional[Recorder] = None
        self.metrics: Mapping[str, Any] = {}
        self.spoilt = False
        self.answers: list[tuple[int, Mapping[str, Any]]] = []
        self.bad_size: Optional[int] = None
        self.bad_place: Optional[Place] = None
        self.shared: tuple[str, ...] = ()


class RunFacts(Placed):
    """The rehearsals side by side, for the rules of the stage 'run'.

    Attributes:
      job: the job.
      rehearsed: by name.
      changed_files: files of the user's model_dir that changed meanwhile.
      left_out: (class, reason) of hooks that took no part.
    """

    def __init__(self, job: Job, rehearsed: Mapping[str, Rehearsed],
                 changed_files: tuple[str, ...], left_out: tuple[tuple[str, str], ...]) -> None:
        super().__init__()
        self.job = job
        self.rehearsed = rehearsed
        self.changed_files = changed_files
        self.left_out = left_out

    def get(self, *names: str) -> Iterator[Rehearsed]:
        """The rehearsals of these names that took place."""
        for name in names:
            if name in self.rehearsed:
                yield self.rehearsed[name]


class Rehearsal:
    """Rehearses the modes of a job, one after the other.

    Args:
      job: the job.
      builds: its modes, as they were built.
      scratch: where to work.
      limits: the time.
      say: takes a line about what is going on.

    Attributes:
      rehearsed: what was rehearsed, by name.
      notes: what was not, and why.
      rows: rows of the input of EVAL, and after PREDICT their features alone; None where they
        cannot be cut.
    """

    def __init__(self, job: Job, builds: tuple[ModeFacts, ...], scratch: Scratch, limits: Limits,
                 say: Callable[[str], None]) -> None:
        self._job = job
        self._builds = builds
        self._scratch = scratch
        self._limits = limits
        self._say = say
        self.rehearsed: dict[str, Rehearsed] = {}
        self.notes: list[str] = []
        self.rows: Optional[batches.Cut] = None
        self._training: list[Any] = []

    def run(self) -> RunFacts:
        """All rehearsals that make sense."""
        before = _files(self._job.estimator.model_dir)
        for build in self._worth():
            self._rehearse(build)
        changed = _changes(before, _files(self._job.estimator.model_dir))
        return RunFacts(self._job, self.rehearsed, changed, tuple(self._scratch.left_out))

    def _worth(self) -> Iterator[ModeFacts]:
        if rehearsal_internals.has_cluster(self._job.estimator):
            self.notes.append('not rehearsed: the job belongs to a cluster, and needs its other '
                              'tasks')
            return
        for mode in (TRAIN, EVAL, PREDICT):
            of_mode = [build for build in self._builds if build.mode == mode]
            if not of_mode:
                continue
            name = crashes.MODE_NAMES[mode]
            if any(build.failed for build in of_mode):
                self.notes.append(f'{name} not rehearsed: it has errors')
                if mode == TRAIN:
                    return
            elif mode != TRAIN and not self.has_checkpoint():
                self.notes.append(f'{name} not rehearsed: there is no checkpoint')
            elif not self._limits.left:
                self.notes.append(f'{name} not rehearsed: no time left')
            elif self._limits.cancelled.is_set():
                self.notes.append(f'{name} not rehearsed: the one before it has not ended')
            else:
                # What the job itself hands to predict() comes before what an export is given.
                yield next((build for build in of_mode if build.source == 'input'), of_mode[0])

    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint to restore."""
        if self._job.train_spec is not None:
            return checkpoints.read_checkpoint(self._scratch.model_dir) is not None
        return checkpoints.read_checkpoint(self._job.estimator.model_dir) is not None

    def checkpoint_path(self) -> Optional[str]:
        """A checkpoint of the user's is read where it is; those of the scratch folder are found."""
        if self._job.train_spec is not None:
            return None
        found = checkpoints.read_checkpoint(self._job.estimator.model_dir)
        return None if found is None else found.path

    def _rehearse(self, build: ModeFacts) -> None:
        self._scratch.prepared.clear()
        if build.mode == TRAIN:
            hooks = self._job.train_spec.hooks
            # What the first train() leaves in them is what the second one finds.
            with self._scratch.borrowed(hooks if self._job.same_hooks else ()):
                self._train(build, TRAIN, STEPS, restore=not self._job.same_hooks)
                self._training = list(self._scratch.prepared)
                if TRAIN in self.rehearsed and self.rehearsed[TRAIN].crash is None and (
                        self.has_checkpoint()):
                    self._train(build, RESUME, 1)
            if RESUME in self.rehearsed and self.rehearsed[RESUME].crash is None:
                self._train_on_fewer(build)
        elif build.mode == EVAL:
            self._evaluate(build)
            self._share(build, [hook for hook in self._scratch.prepared
                                if any(hook is other for other in self._training)])
        else:
            self._predict(build)

    @contextlib.contextmanager
    def _watched(self, name: str, build: ModeFacts) -> Iterator[tuple[Rehearsed, Any, Any]]:
        """Notes a crash of what is done inside; gives the result, the estimator and its tap."""
        self._say(f'rehearsing {crashes.MODE_NAMES[build.mode or ""]}'
                  + {RESUME: ' once more', FEWER: ' on smaller batches'}.get(name, ''))
        result = Rehearsed(name, build)
        # Of the last seconds nothing can be concluded.
        enough = self._limits.left >= min(_SECONDS_A_MODE, self._limits.seconds / 2)
        tap = internals.Tap(lambda tap: None, lambda tap: None)
        tap.edit_spec = self._scratch.edit_spec
        estimator = internals.probe(self._scratch.estimator, tap)
        try:
            yield result, estimator, tap
        except TimeLimit:
            if not enough:
                self.notes.append(f'{crashes.MODE_NAMES[build.mode or ""]} not rehearsed to its '
                                  'end: no time left')
                return
            result.crash = Crash(sessions.HANG, 'session', TimeLimit(), 'no end in sight',
                                 build.site)
        except (Exception, SystemExit) as error:
            if tap.stage != internals.AFTER:
                self._cannot_build(build, name, error)
                return
            if 'signal only works in main thread' in str(error):
                self.notes.append(f'{crashes.MODE_NAMES[build.mode or ""]} not rehearsed: a hook '
                                  'sets a signal handler, which only a main thread may')
                return
            result.crash = sessions.crash_of(error, tap.graph)
        self.rehearsed[name] = result

    def _cannot_build(self, build: ModeFacts, name: str, error: BaseException) -> None:
        # It was built before. What model_fn keeps from call to call is told elsewhere; PREDICT on
        # the features of EVAL need not work where a serving receiver gives others.
        what = crashes.MODE_NAMES[build.mode or '']
        self.notes.append(f'{what} not rehearsed: building it once more gives '
                          f'{type(error).__name__}')

    def _limited(self, function: Callable[[], Any]) -> Any:
        return self._limits.run(function, _SECONDS_A_MODE)

    def _train(self, build: ModeFacts, name: str, steps: int, *, restore: bool = True) -> None:
        spec = self._job.train_spec
        recorder = Recorder(steps, self._limits)
        with self._watched(name, build) as (result, estimator, _):
            result.recorder = recorder
            with self._scratch.borrowed(spec.hooks, restore=restore) as hooks, (
                    self._scratch.borrowed(spec.saving_listeners)) as listeners:
                self._limited(lambda: estimator.train(
                    spec.input_fn, hooks=[*hooks, recorder], saving_listeners=listeners or None))

    def _train_on_fewer(self, build: ModeFacts) -> None:
        """TRAIN on a batch as small as its data may give; what it learns of it is forgotten."""
        spec, smaller = self._job.train_spec, build.smaller_batch
        last = min((steps for steps in (spec.max_steps, self._job.train_steps)
                    if steps is not None), default=None)
        if (smaller is None or not smaller.comes_within(last)
                or self._job.config.train_distribute is not None):
            return
        own = batches.own(self._job.estimator, spec.input_fn, TRAIN)
        sizes = batches.SIZES if smaller.rows is None else (smaller.rows,)
        rows = self._cut(own, labelled=True, sizes=sizes)
        if rows is None:
            return
        watch = Watch(self._limits)
        with self._scratch.aside(), self._watched(FEWER, build) as (result, estimator, tap):
            with self._scratch.borrowed(spec.hooks) as hooks:
                try:
                    self._limited(lambda: estimator.train(
                        batches.followed(own, 1, rows), hooks=[*hooks, watch]))
                except TimeLimit:
                    raise
                except (Exception, SystemExit) as error:
                    if watch.runs:  # it took the batch of the job's own
                        result.bad_size = sizes[min(watch.runs, len(sizes)) - 1]
                        result.bad_place = sessions.crash_of(error, tap.graph).place

    def _evaluate(self, build: ModeFacts) -> None:
        spec = self._job.eval_spec
        steps = STEPS if spec.steps is None else min(STEPS, spec.steps)
        own = batches.own(self._job.estimator, spec.input_fn, EVAL)
        with self._watched(EVAL, build) as (result, estimator, tap):
            smaller = build.smaller_batch
            if (smaller is not None and smaller.comes_within(spec.steps)
                    and internals.eval_strategy(self._job.estimator) is None):
                self.rows = self._cut(own, labelled=True)
            rows = self.rows
            if rows is not None:
                watch, place, crashed = MetricWatch(self._limits), None, False
                try:
                    result.metrics = self._evaluated(
                        estimator, batches.followed(own, steps, rows), None, watch)
                except TimeLimit:
                    raise
                except (Exception, SystemExit) as error:
                    crashed, place = True, sessions.crash_of(error, tap.graph).place
                loss = result.metrics.get('loss')
                if not crashed and loss == loss and not watch.spoilt:
                    return
            alone = MetricWatch(self._limits)
            result.metrics = self._evaluated(estimator, spec.input_fn, steps, alone)
            result.spoilt = alone.spoilt
            # Then it died of the size of the batch alone.
            if rows is not None and crashed and watch.runs >= alone.runs:
                result.bad_size = batches.SIZES[min(watch.runs - alone.runs, 1)]
                result.bad_place = place

    def _share(self, build: ModeFacts, shared: list[Any]) -> None:
        """EVAL within TRAIN, or right after it, where a hook takes part in both."""
        done = [self.rehearsed.get(name) for name in (TRAIN, RESUME, EVAL)]
        if not shared or any(result is None or result.crash is not None for result in done):
            return
        train, evaluate = self._job.train_spec, self._job.eval_spec
        with self._watched(BOTH, build) as (result, estimator, tap):
            result.shared = tuple(sorted({type(hook).__name__ for hook in shared}))
            with self._scratch.acting(shared), self._scratch.borrowed(train.hooks) as hooks, (
                    self._scratch.borrowed(evaluate.hooks)) as eval_hooks:

                def evaluation() -> None:
                    inner = internals.Tap(lambda tap: None, lambda tap: None)
                    inner.edit_spec = tap.edit_spec
                    internals.probe(self._scratch.estimator, inner).evaluate(
                        evaluate.input_fn, steps=1, hooks=[*eval_hooks, Watch(self._limits)],
                        name=evaluate.name)

                def both() -> None:
                    inside = Inside(self._limits, evaluation if self._job.nested else None)
                    estimator.train(train.input_fn, hooks=[*hooks, inside])
                    if not self._job.nested:
                        evaluation()

                self._limited(both)

    def _evaluated(self, estimator: Any, input_fn: Any, steps: Optional[int],
                   watch: Watch) -> Mapping[str, Any]:
        spec = self._job.eval_spec
        with self._scratch.borrowed(spec.hooks) as hooks:
            results: Mapping[str, Any] = self._limited(lambda: estimator.evaluate(
                input_fn, steps=steps, hooks=[*hooks, watch], name=spec.name,
                checkpoint_path=self.checkpoint_path()))
        return results

    def _predict(self, build: ModeFacts) -> None:
        source = self._job.features_source
        if source is None:
            return
        own = batches.own(self._job.estimator, *source)
        with self._watched(PREDICT, build) as (result, estimator, tap):
            known = self.rows if source[1] == EVAL else None
            if known is None:
                known = self._cut(own, labelled=False)
            rows = self.rows = None if known is None else known.features
            if rows is None:
                self._limited(lambda: self._answers(estimator, own, (0,), result))
                result.answers = []  # of the job's own size: nothing to compare
                return
            try:
                self._limited(lambda: self._answers(
                    estimator, rows.dataset, batches.SIZES, result))
            except TimeLimit:
                raise
            except (Exception, SystemExit) as error:
                # Does it die of the size of the batch alone?
                place = sessions.crash_of(error, tap.graph).place
                died_at = batches.SIZES[len(result.answers)]
                answers, result.answers = result.answers, []
                self._limited(lambda: self._answers(estimator, own, (0,), result))
                result.answers, result.bad_size, result.bad_place = answers, died_at, place

    def requests(self) -> Optional[batches.Cut]:
        """Rows to make requests of: clients send what they like, whatever the job's batches are."""
        source = self._job.features_source
        if self.rows is not None or source is None:
            return None if self.rows is None else self.rows.features
        with contextlib.suppress(TimeLimit):
            return self._cut(batches.own(self._job.estimator, *source), labelled=False, fixed=True)
        return None

    def _cut(self, input_fn: Callable[[], Any], *, labelled: bool,
             fixed: bool = False,
             sizes: tuple[int, ...] = batches.SIZES) -> Optional[batches.Cut]:
        config = self._job.config.session_config
        try:
            found: Optional[batches.Cut] = self._limited(lambda: batches.cut(
                input_fn, config, labelled=labelled, fixed=fixed, sizes=sizes,
                watch=self._limits.watch))
        except TimeLimit:
            raise
        except Exception:  # noqa: BLE001 - what the input raises is told by the others
            return None
        return found

    def _answers(self, estimator: Any, input_fn: Any, sizes: tuple[int, ...],
                 result: Rehearsed) -> None:
        answers = estimator.predict(input_fn, yield_single_examples=False,
                                    hooks=[Watch(self._limits)],
                                    checkpoint_path=self.checkpoint_path())
        with contextlib.closing(answers):
            for size in sizes:
                values = next(answers, None)
                if values is None:
                    return
                kept = values if isinstance(values, dict) else {'': values}
                result.answers.append((size, {str(key): np.asarray(value)
                                              for key, value in kept.items()}))


def _files(folder: Any) -> dict[str, tuple[int, int]]:
    """Size and time of the files of a folder; at most so many, and local ones alone."""
    found: dict[str, tuple[int, int]] = {}
    for root, _, names in os.walk(str(folder)):
        for name in names:
            path = os.path.join(root, name)
            with contextlib.suppress(OSError):
                status = os.stat(path)
                found[os.path.relpath(path, str(folder))] = (status.st_size, status.st_mtime_ns)
        if len(found) > _MOST_FILES:
            break
    return found


def _changes(before: dict[str, Any], after: dict[str, Any]) -> tuple[str, ...]:
    if len(before) > _MOST_FILES:
        return ()
    return tuple(sorted(name for name in {*before, *after} if before.get(name) != after.get(name)))

"""The hook that counts the steps of a rehearsal, and what it saw."""

from __future__ import annotations

import time
from typing import Any, Callable, Optional

import numpy as np

from estimator_spec_ext.compat import distribution, tf, v1
from estimator_spec_ext.preflight.limits import Limits

STEPS = 2
# Gradient accumulation and loss scaling leave the step where it is for a while.
_MOST_STEPS = 10
_MOST_ELEMENTS = 20_000_000


class Watch(v1.train.SessionRunHook):
    """Hands a session to what closes it when time is up, and counts its steps.

    Args:
      limits: the time.

    Attributes:
      runs: how many steps were taken.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.runs = 0

    def after_create_session(self, session: Any, coord: Any) -> None:
        self._limits.watch(session)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self.runs += 1


class Inside(Watch):
    """Calls a function after the first step of a session, and ends it after the third.

    Args:
      limits: the time.
      function: takes no arguments; None for no call.
    """

    def __init__(self, limits: Limits, function: Optional[Callable[[], Any]]) -> None:
        super().__init__(limits)
        self._function = function

    def after_run(self, run_context: Any, run_values: Any) -> None:
        super().after_run(run_context, run_values)
        if self.runs == 1 and self._function is not None:
            self._function()
        elif self.runs > 2:
            run_context.request_stop()


class MetricWatch(Watch):
    """Also looks, when an evaluation ends, whether what its metrics add up has become NaN.

    A ratio of two sums may be 0 / 0 for the first batches and right later; a sum that is NaN stays
    so.

    Args:
      limits: the time.

    Attributes:
      spoilt: whether a variable of a metric holds NaN.
    """

    def __init__(self, limits: Limits) -> None:
        super().__init__(limits)
        self._sums: list[Any] = []
        self.spoilt = False

    def begin(self) -> None:
        variables = v1.get_collection(v1.GraphKeys.METRIC_VARIABLES)
        if not any(isinstance(v, distribution.DistributedVariable) for v in variables):
            self._sums = [v.read_value() for v in variables
                          if v.dtype.base_dtype.is_floating and v.shape.rank is not None]

    def end(self, session: Any) -> None:
        try:
            self.spoilt = any(np.isnan(value).any() for value in session.run(self._sums))
        except tf.errors.OpError:
            pass


class Recorder(Watch):
    """Ends a session after a few steps, and notes losses, steps and variables that changed.

    Args:
      steps: how many steps to take.
      limits: the time.

    Attributes:
      losses: the losses, one a step.
      first_step: the global step at the start.
      last_step: the global step at the end.
      step_seconds: how long each step took.
      changed: names of the trainable variables that changed.
      unchanged: names of those that did not.
      spoilt: names of those that hold NaN now, and did not at the start.
    """

    def __init__(self, steps: int, limits: Limits) -> None:
        super().__init__(limits)
        self._steps = steps
        self._reads: dict[str, Any] = {}
        self._before: Optional[dict[str, Any]] = None
        self._fetches: dict[str, Any] = {}
        self._started = 0.
        self.losses: list[float] = []
        self.first_step: Optional[int] = None
        self.last_step: Optional[int] = None
        self.step_seconds: list[float] = []
        self.changed: tuple[str, ...] = ()
        self.unchanged: tuple[str, ...] = ()
        self.spoilt: tuple[str, ...] = ()

    def begin(self) -> None:
        losses = v1.get_collection(v1.GraphKeys.LOSSES)
        step = v1.train.get_global_step()
        if step is not None:
            self._fetches['step'] = step
        # Estimator adds the loss of the session last.
        if losses and isinstance(losses[-1], tf.Tensor):
            self._fetches['loss'] = losses[-1]
        variables = v1.trainable_variables()
        if any(isinstance(v, distribution.DistributedVariable) for v in variables):
            return
        sizes = [v.shape.num_elements() for v in variables]
        if None not in sizes and sum(sizes) <= _MOST_ELEMENTS:
            self._reads = {v.name.split(':')[0]: v.read_value() for v in variables}

    def after_create_session(self, session: Any, coord: Any) -> None:
        super().after_create_session(session, coord)
        self._before = self._read(session)
        try:
            self.first_step = int(session.run(self._fetches['step']))
        except (KeyError, tf.errors.OpError):
            pass

    def _read(self, session: Any) -> Optional[dict[str, Any]]:
        try:
            return session.run(self._reads)
        except tf.errors.OpError:
            return None  # variables that are not there yet are for the session itself to say

    def before_run(self, run_context: Any) -> Any:
        self._started = time.monotonic()
        return v1.train.SessionRunArgs(self._fetches)

    def after_run(self, run_context: Any, run_values: Any) -> None:
        super().after_run(run_context, run_values)
        self.step_seconds.append(time.monotonic() - self._started)
        results = run_values.results
        if 'loss' in results and np.size(results['loss']) == 1:
            self.losses.append(float(np.reshape(results['loss'], [])))
        step = results.get('step')
        moved = step is None or self.first_step is None or int(step) > self.first_step
        # The step that is fetched may be the one before the update.
        wanted = moved or self._steps == 1 or self.runs >= _MOST_STEPS
        enough = self.runs >= self._steps and wanted
        if enough:
            run_context.request_stop()

    def end(self, session: Any) -> None:
        try:
            self.last_step = int(session.run(self._fetches['step']))
        except (KeyError, tf.errors.OpError):
            pass
        after = self._read(session)
        if self._before and after:
            same = {name for name in after if np.array_equal(self._before[name], after[name])}
            self.unchanged = tuple(sorted(same))
            self.changed = tuple(sorted(set(after) - same))
            self.spoilt = tuple([name for name in self.changed if _has_nan(after[name])
                                 and not _has_nan(self._before[name])])
        self._before = None


def _has_nan(value: Any) -> bool:
    return value.dtype.kind in 'fc' and bool(np.isnan(value).any())

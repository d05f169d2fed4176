"""`StallWatchdogHook`: says where a process stands when a step does not end."""

from __future__ import annotations

import collections
import os
import statistics
import sys
import threading
import time
import traceback
import weakref
from typing import Any, Optional

from absl import logging

from estimator_spec_ext import job_role
from estimator_spec_ext.compat import session_frames, tf, v1

# Kubeflow's TFJob starts a role anew that ends with this status, under restartPolicy: ExitCode.
EXIT_STATUS = 138
_DEFAULT_LIMIT, _DEFAULT_START_LIMIT = 600.0, 1800.0
_MEDIAN_OF, _LOOKS, _LONGEST_PAUSE = 101, 20, 5.0
_MOST_THREADS, _MOST_FRAMES = 20, 30


class StallWatchdogHook(v1.train.SessionRunHook):
    """Logs which role stands in which step, and where, when a step does not end.

    A job of several workers whose peer is gone, or whose graphs differ, hangs without a word. When
    a step takes longer than the limit this hook logs once: the role, the step, how long steps took
    before, and the Python stacks of all threads. With `stop` it then ends the process, which hangs
    in C++ where no exception can reach it, so that whatever started it can start it anew.

    Time in the hooks of the session does not count: checkpoints, evaluations of
    `train_and_evaluate`, summaries. Nor does a pause of the whole process. Making the session and
    the first step, which may compile and fill buffers, have a limit of their own. A worker under
    MultiWorkerMirroredStrategy stands still while the chief writes a checkpoint, and one beside
    parameter servers while these are started anew: choose limits above that.

    It fetches nothing and adds no op; a step costs two looks at the clock.

    Args:
      limit_secs: seconds that a step may take; by default 600, or `times_median` times the median
        of the last steps if that is more.
      start_limit_secs: seconds from the beginning to the end of the first step; by default 1800,
        or `limit_secs` if that is more.
      times_median: used when `limit_secs` is not given.
      stop: whether to end the process, with status 138 and without cleaning up.
      report: what `preflight` said of the job, a `Report`; it is logged too.

    Raises:
      ValueError: when a limit is no positive number.

    Example:
      >>> hook = StallWatchdogHook(limit_secs=300, start_limit_secs=900, stop=True)
      >>> hook.limit_secs
      300
    """

    def __init__(self, limit_secs: Optional[float] = None, *,
                 start_limit_secs: Optional[float] = None, times_median: float = 100,
                 stop: bool = False, report: Any = None) -> None:
        limits = {'limit_secs': limit_secs, 'start_limit_secs': start_limit_secs,
                  'times_median': times_median}
        for name, value in limits.items():
            if value is None and name != 'times_median':
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                raise ValueError(f'{name} must be a positive number, got {value!r}')
        self.limit_secs = limit_secs
        self.start_limit_secs = start_limit_secs or max(_DEFAULT_START_LIMIT, limit_secs or 0)
        self.times_median = times_median
        self.stop = stop
        self.report = report
        self._watch: Optional[_Watch] = None
        self._global_step: Any = None
        self._started = 0.0
        # What the thread reads; whole objects are put in place, so that no lock is needed.
        self._pulse = _Pulse()

    def begin(self) -> None:
        """Starts to watch."""
        if self._watch is not None:
            self._watch.done.set()
        self._pulse = _Pulse()
        self._global_step = v1.train.get_global_step()
        self._watch = _Watch(weakref.ref(self), self._pulse, threading.get_ident())
        self._watch.start()

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Notes where the training begins."""
        if self._global_step is None or self._pulse.first_step is not None:
            return
        try:
            self._pulse.first_step = int(session.run(self._global_step))
        except (tf.errors.OpError, TypeError, ValueError):
            self._pulse.first_step = None  # the step to come will say what is wrong

    def before_run(self, run_context: Any) -> None:
        """A step begins."""
        self._pulse.busy = True
        self._started = time.monotonic()

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """A step has ended."""
        pulse = self._pulse
        if pulse.steps:
            pulse.seconds.append(time.monotonic() - self._started)
        pulse.busy = False
        pulse.steps += 1

    def end(self, session: Any) -> None:
        """Stops to watch."""
        if self._watch is not None:
            self._watch.done.set()
            self._watch = None

    def limit(self, seconds: list[float], first: bool) -> float:
        """The limit in seconds for a step after others that took so long."""
        if first:
            return self.start_limit_secs
        if self.limit_secs is not None:
            return self.limit_secs
        median = statistics.median(seconds) if seconds else 0.0
        return max(_DEFAULT_LIMIT, self.times_median * median)


class _Pulse:
    """What the training thread leaves for the watching one."""

    def __init__(self) -> None:
        self.busy = True  # until the first step has ended
        self.steps = 0
        self.seconds: collections.deque[float] = collections.deque(maxlen=_MEDIAN_OF)
        self.first_step: Optional[int] = None


class _Watch(threading.Thread):
    """Looks from time to time whether the step is still the same."""

    def __init__(self, hook: Any, pulse: _Pulse, thread: int) -> None:
        super().__init__(name='stall-watchdog', daemon=True)
        self.done = threading.Event()
        self._hook = hook
        self._pulse = pulse
        self._thread = thread
        self._told = False

    def run(self) -> None:
        waited, steps, last = 0.0, -1, time.monotonic()
        pause = 0.0
        while not self.done.wait(pause):
            hook = self._hook()
            if hook is None:
                return
            now = time.monotonic()
            # A pause of the whole process is no step that stalls.
            waited += min(now - last, 2 * pause)
            last = now
            limit = hook.limit(list(self._pulse.seconds), not self._pulse.steps)
            if not self._pulse.busy or steps != self._pulse.steps:
                waited, steps = 0.0, self._pulse.steps
            elif waited >= limit:
                waited = 0.0
                if not self._judge(hook, limit, steps):
                    return
            # The step after this one may have the shorter limit.
            pause = min(_LONGEST_PAUSE, limit / _LOOKS,
                        (hook.limit_secs or _DEFAULT_LIMIT) / _LOOKS)
            del hook  # so that it can be collected while this thread sleeps

    def _judge(self, hook: StallWatchdogHook, limit: float, steps: int) -> bool:
        """Tells of a stall, unless it is none; False when there is nothing left to watch."""
        frame = sys._current_frames().get(self._thread)
        doing = None if frame is None else session_frames.occupation(frame, hook)
        if doing != session_frames.IN_SESSION or steps != self._pulse.steps:
            return doing is not None
        if not self._told or hook.stop:
            self._told = True
            logging.error('%s', self._text(hook, limit))
        else:
            logging.error('%s', self._first_line(limit))
        if hook.stop:
            _exit(f'{_role()} ends, with status {EXIT_STATUS}: no step has ended for {limit:g} s')
        return True

    def _first_line(self, limit: float) -> str:
        pulse = self._pulse
        if not pulse.steps:
            return f'{_role()} has not ended its first step in {limit:g} s'
        at = '' if pulse.first_step is None else (
            f' (it began at global step {pulse.first_step})')
        return f'{_role()} has been in step {pulse.steps + 1}{at} for more than {limit:g} s'

    def _text(self, hook: StallWatchdogHook, limit: float) -> str:
        lines = [self._first_line(limit)]
        seconds = list(self._pulse.seconds)
        if seconds:
            lines.append(f'  the last {len(seconds)} steps took {statistics.median(seconds):.3g} s '
                         f'by the median, {max(seconds):.3g} s at most')
        role = job_role.from_environment()
        if role is not None:
            others = [name for name in role.trainers if name != role.name]
            lines.append(f'  look at the logs of the others, which it may be waiting for: '
                         f'{", ".join(others[:8])}{" ..." if len(others) > 8 else ""}')
        if hook.report is not None:
            lines += ['  what preflight said:', *_indented(str(hook.report))]
        return '\n'.join(lines + _stacks(self._thread))


def _role() -> str:
    role = job_role.from_environment()
    return f'process {os.getpid()}' if role is None else role.name


def _stacks(first: int) -> list[str]:
    """The stacks of all threads but this one, that of the training first."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    frames = sys._current_frames()
    frames.pop(threading.get_ident(), None)
    found = sorted(frames, key=lambda ident: (ident != first, names.get(ident, '')))
    lines = []
    for ident in found[:_MOST_THREADS]:
        lines.append(f'  thread {names.get(ident, ident)}:')
        lines += _indented(''.join(traceback.format_stack(frames[ident])[-_MOST_FRAMES:]))
    if len(found) > _MOST_THREADS:
        lines.append(f'  and {len(found) - _MOST_THREADS} threads more')
    return lines


def _indented(text: str) -> list[str]:
    return [f'    {line}' for line in text.rstrip().splitlines()]


def _exit(text: str) -> None:
    """Ends the process from a thread, whatever the others do."""
    os.write(2, f'{text}\n'.encode())
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001 - a closed stream must not keep the process alive
            continue
    os._exit(EXIT_STATUS)

"""Runs a function with a time limit, and lets Ctrl-C through while it runs."""

from __future__ import annotations

import threading
import time
from typing import Any, Callable

_GRACE_SECONDS = 5.


class TimeLimit(Exception):
    """A rehearsal took longer than it may."""


class Limits:
    """The time that rehearsals may take together.

    Args:
      seconds: all of it.

    Attributes:
      seconds: all of it.
      cancelled: set when nothing more shall be run.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds
        self.cancelled = threading.Event()
        self._sessions: list[Any] = []

    @property
    def left(self) -> float:
        """Seconds left, never negative."""
        return max(0., self.deadline - time.monotonic())

    def watch(self, session: Any) -> None:
        """Takes a `tf.compat.v1.Session` to close when time is up: that ends what waits in it."""
        self._sessions.append(session)
        if self.cancelled.is_set():
            self._close_sessions()

    def _close_sessions(self) -> None:
        while self._sessions:
            self._sessions.pop().close()

    def _cancel(self, done: threading.Event) -> bool:
        """Stops what runs; tells whether it has ended."""
        self.cancelled.set()
        self._close_sessions()
        return done.wait(_GRACE_SECONDS)

    def run(self, function: Callable[[], Any], seconds: float) -> Any:
        """Calls a function in a thread of its own.

        When time is up, the sessions that it runs are closed. Python code cannot be interrupted: a
        function that still does not come back is left behind, and nothing more is run after it.

        Args:
          function: takes no arguments.
          seconds: how long it may take.

        Returns:
          What it returns.

        Raises:
          TimeLimit: when it takes longer.
          Exception: what it raises.
        """
        done = threading.Event()
        box: dict[str, Any] = {}

        def work() -> None:
            try:
                box['result'] = function()
            except BaseException as error:  # noqa: BLE001 - handed on below
                box['error'] = error
            finally:
                done.set()

        thread = threading.Thread(target=work, name='ese_rehearsal', daemon=True)
        limit = min(time.monotonic() + seconds, self.deadline)
        thread.start()
        try:
            # Short waits: a longer one would keep Ctrl-C from being seen on some systems.
            while not done.wait(.2):
                if time.monotonic() > limit:
                    if self._cancel(done):
                        self.cancelled.clear()
                        if 'result' in box:
                            break
                    raise TimeLimit
        except KeyboardInterrupt:
            self._cancel(done)
            raise
        finally:
            self._sessions.clear()
        thread.join(_GRACE_SECONDS)
        if 'error' in box:
            raise box['error']
        return box['result']

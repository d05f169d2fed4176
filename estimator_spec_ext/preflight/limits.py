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
      cancelled: set when nothing more shall be run.
    """

    def __init__(self, seconds: float) -> None:
        self.deadline = time.monotonic() + seconds
        self.cancelled = threading.Event()

    @property
    def left(self) -> float:
        """Seconds left, never negative."""
        return max(0., self.deadline - time.monotonic())

    def run(self, function: Callable[[], Any], seconds: float) -> Any:
        """Calls a function in a thread of its own.

        TensorFlow cannot be interrupted while a session runs, so a function that does not come back
        is left behind; it ends at its next step, if there is one.

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
                    self.cancelled.set()
                    if not done.wait(_GRACE_SECONDS):
                        raise TimeLimit
                    break
        except KeyboardInterrupt:
            self.cancelled.set()
            done.wait(_GRACE_SECONDS)
            raise
        thread.join(_GRACE_SECONDS)
        if 'error' in box:
            raise box['error']
        return box['result']

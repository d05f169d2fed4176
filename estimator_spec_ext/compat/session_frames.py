"""What a thread inside a monitored session is doing, read from its Python frames."""

from __future__ import annotations

from typing import Any, Optional

from tensorflow.python.client import session as _session
from tensorflow.python.training import monitored_session as _monitored_session

IN_SESSION, IN_HOOK = 'session', 'hook'
_FILE = _monitored_session.__file__
# What the frames of a session call that are no hook of it.
_INSIDE = (_FILE, _session.__file__)


def occupation(frame: Any, hook: Any) -> Optional[str]:
    """What keeps the thread busy whose innermost frame this is.

    Args:
      frame: a frame, as `sys._current_frames` gives it.
      hook: one of the hooks of the session that is meant.

    Returns:
      IN_HOOK inside the method of a hook of this session, e.g. while a checkpoint is written or
      a listener evaluates; IN_SESSION while a step runs or a session is made; None when the thread
      has left the session.
    """
    callee = None
    while frame is not None:
        if frame.f_code.co_filename == _FILE and _runs(frame.f_locals.get('self'), hook):
            inside = callee is None or callee.f_code.co_filename in _INSIDE
            return IN_SESSION if inside else IN_HOOK
        callee, frame = frame, frame.f_back
    return None


def _runs(session: Any, hook: Any) -> bool:
    hooks = getattr(session, '_hooks', None)
    return isinstance(hooks, (list, tuple)) and any(item is hook for item in hooks)

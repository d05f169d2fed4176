"""Notes calls of `init_from_checkpoint`: one that loads nothing leaves no trace in the graph."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from typing import Any, Iterator, Optional

from tensorflow.python.training import checkpoint_utils as _checkpoint_utils

from estimator_spec_ext.compat import frames
from estimator_spec_ext.compat.namespace import do_not_convert as _do_not_convert

_LOCK = threading.Lock()
_NAME = '_init_from_checkpoint'
_recorders: list[list['Initialization']] = []
_stock: list[Any] = []


@dataclasses.dataclass(frozen=True)
class Initialization:
    """One call.

    Attributes:
      empty: whether it was told to load nothing.
      site: file and line of the user's call.
    """

    empty: bool
    site: tuple[Optional[str], Optional[int]]


@contextlib.contextmanager
def recorded(calls: list[Initialization]) -> Iterator[None]:
    """Notes every call that is made meanwhile in `calls`."""
    with _LOCK:
        if not _recorders:
            _stock.append(getattr(_checkpoint_utils, _NAME))
            setattr(_checkpoint_utils, _NAME, _recording(_stock[-1]))
        _recorders.append(calls)
    try:
        yield
    finally:
        with _LOCK:
            _recorders[:] = [item for item in _recorders if item is not calls]
            if not _recorders:
                setattr(_checkpoint_utils, _NAME, _stock.pop())


def _recording(stock: Any) -> Any:
    def init_from_checkpoint(ckpt_dir_or_file: Any, assignment_map: Any) -> Any:
        call = Initialization(not assignment_map, frames.call_site())
        for calls in list(_recorders):
            calls.append(call)
        return stock(ckpt_dir_or_file, assignment_map)

    return _do_not_convert(init_from_checkpoint)

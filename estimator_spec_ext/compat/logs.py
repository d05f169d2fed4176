"""What TensorFlow logs while the checks use it."""

from __future__ import annotations

import contextlib
from typing import Iterator

from tensorflow.compat.v1 import logging as _logging


@contextlib.contextmanager
def quiet_logs() -> Iterator[None]:
    """TensorFlow logs nothing but errors, for a while: what it would say is reported, or known."""
    level = _logging.get_verbosity()
    _logging.set_verbosity(max(level, _logging.ERROR))
    try:
        yield
    finally:
        _logging.set_verbosity(level)

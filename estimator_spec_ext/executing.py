"""Runs a script written for `tf.estimator` on a TensorFlow that no longer has it."""

from __future__ import annotations

import os
import runpy
import sys
from typing import Sequence

from estimator_spec_ext.installing import install_tf_estimator

_START = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'compat', 'bridge', 'start')
_PATH = 'PYTHONPATH'


def execute(path: str, arguments: Sequence[str]) -> int:
    """Runs a script for real, as `python script.py ...` would if TensorFlow had tf.estimator.

    Args:
      path: the script.
      arguments: its own arguments.

    Returns:
      0, or 1 after an exception, whose traceback is printed.

    Raises:
      SystemExit: as the script does.
    """
    install_tf_estimator()
    prepare_children()
    kept_arguments, kept_path = sys.argv, list(sys.path)
    sys.argv = [path, *arguments]
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))
    try:
        runpy.run_path(path, run_name='__main__')
    except Exception:
        sys.excepthook(*sys.exc_info())
        return 1
    finally:
        sys.argv, sys.path[:] = kept_arguments, kept_path
    return 0


def prepare_children() -> None:
    """Puts tf.estimator back in the Python processes that this one will start.

    Up to TensorFlow 2.15 there is nothing to do.
    """
    from estimator_spec_ext.compat import namespace
    if not namespace.BRIDGED:
        return
    entries = [entry for entry in os.environ.get(_PATH, '').split(os.pathsep) if entry]
    if _START not in entries:
        os.environ[_PATH] = os.pathsep.join([_START, *entries])

"""Finds the user's own line, behind the frames of TensorFlow and of this package."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from typing import Any, Optional

import tensorflow as tf
from tensorflow.python.util import tf_stack as _tf_stack

from estimator_spec_ext.compat.namespace import estimator

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# The examples of the rules live in the package and play the user's part.
_EXAMPLES = _PACKAGE + 'rules' + os.sep
_SITE = os.path.dirname(os.path.dirname(os.path.abspath(tf.__file__))) + os.sep
_LIBRARIES = tuple(_SITE + name + os.sep for name in (
    'tensorflow', 'tensorflow_estimator', 'keras', 'tf_keras', 'tensorboard', 'absl', 'six',
    'wrapt'))
_DISTRIBUTE = os.sep.join(('', 'tensorflow', 'python', 'distribute', 'input_'))
# The second is that of TensorFlow 2.12.
_NN = (os.sep + 'nn_impl_distribute.py', os.sep + 'nn_impl.py')
_OPTIMIZER = os.sep.join(('', 'training', 'optimizer.py'))
_SCHEDULES = ('learning_rate_decay.py', 'learning_rate_schedule.py')
_OVER_REPLICAS = ('compute_average_loss', 'scale_regularization_loss')
# Marks the copy of an Estimator that works in a scratch folder.
REHEARSAL = '_ese_is_rehearsal'
_CONVERTED = '__autograph_generated_file'
_STDLIB = os.path.dirname(os.path.abspath(os.__file__)) + os.sep
_ENTRY_POINTS = ('runpy.py', 'threading.py', 'contextlib.py', 'functools.py', 'unittest', 'copy.py',
                 'pickle.py', 'copyreg.py', 'queue.py', 'concurrent', 'collections')


def _is_users(filename: str) -> bool:
    if filename.startswith('<') or not filename:
        return False
    if filename.startswith(_EXAMPLES):
        return True
    if filename.startswith(_PACKAGE) or filename.startswith(_LIBRARIES):
        return False
    if filename.startswith(_STDLIB):
        rest = filename[len(_STDLIB):]
        return not rest.startswith(_ENTRY_POINTS)
    return _CONVERTED not in filename


def _innermost(frames: Any) -> tuple[Optional[str], Optional[int]]:
    for frame in reversed(list(frames)):
        if _is_users(frame.filename):
            return frame.filename, frame.lineno
    return None, None


def op_site(op: Any) -> tuple[Optional[str], Optional[int]]:
    """The file and line of the user's code that made `op`; (None, None) when it is not known."""
    return _innermost(_frames_of(op))


def error_site(error: BaseException) -> tuple[Optional[str], Optional[int]]:
    """The file and line of the user's code in which an exception arose; (None, None) if none."""
    metadata = getattr(error, 'ag_error_metadata', None)
    converted = getattr(metadata, 'translated_stack', None) or ()
    # AutoGraph keeps the places of the code that it converted apart from the traceback.
    ours = [(frame.filename, frame.lineno) for frame in reversed(list(converted))]
    frames = [(frame.filename, frame.lineno)
              for frame in reversed(traceback.extract_tb(error.__traceback__))]
    found = [place for place in frames + ours if _is_users(place[0])]
    own = [place for place in found if f'{os.sep}site-packages{os.sep}' not in place[0]]
    return (own or found or [(None, None)])[0]


def code_site(function: Any) -> tuple[Optional[str], Optional[int]]:
    """Where a function of the user's begins; (None, None) for any other.

    Of a partial it is the function, of an object that is called its method.
    """
    if isinstance(function, functools.partial):
        function = function.func
    if not hasattr(function, '__code__') and callable(function):
        function = type(function).__call__
    code = getattr(function, '__code__', None)
    if code is None or not _is_users(code.co_filename):
        return None, None
    return code.co_filename, code.co_firstlineno


def call_site() -> tuple[Optional[str], Optional[int]]:
    """The file and line of the user's code that is calling the package now."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if _is_users(name):
            return name, frame.f_lineno
        if _CONVERTED in name:  # TensorFlow knows from which line AutoGraph made it
            return _innermost(_tf_stack.extract_stack())
        frame = frame.f_back  # type: ignore[assignment]
    return None, None


def calling_config() -> Any:
    """The RunConfig that the Estimator which is calling model_fn now hands to it; None if none is.

    A rehearsal works in a folder of its own, of which the user's code need know nothing: None.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == '_call_model_fn':
            found = frame.f_locals
            config = found.get('config')
            if isinstance(config, estimator.RunConfig) and not getattr(
                    found.get('self'), REHEARSAL, False):
                return config
            return None
        frame = frame.f_back  # type: ignore[assignment]
    return None


def made_by_loss_function(op: Any) -> bool:
    """Whether `tf.nn` made this op of a loss to suit the sum over replicas."""
    return any(frame.name in _OVER_REPLICAS and frame.filename.endswith(_NN)
               for frame in _frames_of(op))


def made_by_loss_scaling(op: Any) -> bool:
    """Whether a TF1 optimizer made this op to divide the loss by the number of replicas."""
    return any(frame.name == '_scale_loss' and frame.filename.endswith(_OPTIMIZER)
               for frame in _frames_of(op))


def made_by_schedule(op: Any) -> bool:
    """Whether a learning-rate schedule of TensorFlow's or Keras's made this op."""
    return any(frame.filename.endswith(_SCHEDULES) for frame in _frames_of(op))


def made_by_tensorflow_input(op: Any) -> bool:
    """Whether Estimator or a strategy made this iterator of a data set that input_fn returned."""
    return any(frame.name == 'parse_input_fn_result' or _DISTRIBUTE in frame.filename
               for frame in _frames_of(op))


def _frames_of(op: Any) -> Any:
    try:
        return op.traceback or ()
    except Exception:  # noqa: BLE001 - an op of an imported graph may have none
        return ()

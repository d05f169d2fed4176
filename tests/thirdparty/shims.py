"""Puts back names that these packages import and that Python 3.11 or TensorFlow 2.15 moved."""

from __future__ import annotations

import collections
import inspect
import sys

import tensorflow as tf
from tensorflow.python import trackable
from tensorflow.python.framework import ops

_ArgSpec = collections.namedtuple('ArgSpec', 'args varargs keywords defaults')


def install() -> None:
    """Does so once; harmless when repeated."""
    if not hasattr(inspect, 'getargspec'):  # tensorflow-gan
        inspect.getargspec = lambda function: _ArgSpec(*inspect.getfullargspec(function)[:4])
    if not hasattr(ops, 'Tensor'):  # tf-slim
        ops.Tensor = tf.Tensor
    name = 'tensorflow.python.training.tracking'  # adanet
    if name not in sys.modules:
        from tensorflow.python.checkpoint import checkpoint, graph_view
        from tensorflow.python.trackable import base, data_structures
        trackable.graph_view = graph_view
        trackable.util = checkpoint
        sys.modules[name] = trackable
        sys.modules[f'{name}.base'] = base
        sys.modules[f'{name}.tracking'] = base
        sys.modules[f'{name}.data_structures'] = data_structures

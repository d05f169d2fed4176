"""Puts back names that these packages import and that Python 3.11 or TensorFlow 2.15 moved."""

from __future__ import annotations

import collections
import inspect
import sys
import types

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
    from tensorflow.python.keras import layers  # deepctr
    if not hasattr(layers, 'LSTM'):
        layers.LSTM = tf.keras.layers.LSTM
    if 'deepctr' not in sys.modules:  # it would ask the package index for a newer version
        sys.modules['deepctr.utils'] = _module('deepctr.utils', check_version=lambda version: None)
    if 'tensorflow.contrib' not in sys.modules:  # bert
        sys.modules['tensorflow.contrib'] = _module(
            'tensorflow.contrib', layers=types.SimpleNamespace(layer_norm=_layer_norm))


def _module(name: str, **attributes: object) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(attributes)
    return module


def _layer_norm(inputs: tf.Tensor, begin_norm_axis: int, begin_params_axis: int,
                scope: str) -> tf.Tensor:
    """What tf.contrib.layers.layer_norm became."""
    import tf_slim
    return tf_slim.layers.layer_norm(
        inputs=inputs, begin_norm_axis=begin_norm_axis, begin_params_axis=begin_params_axis,
        scope=scope)

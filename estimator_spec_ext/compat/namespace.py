"""TensorFlow and the estimator namespace that belongs to it."""

from __future__ import annotations

from typing import Any, Callable, TypeVar

import tensorflow as tf

v1 = tf.compat.v1

if not hasattr(tf, 'estimator'):
    raise ImportError(
        f'TensorFlow {tf.__version__} has no tf.estimator: it left TensorFlow with 2.16. '
        'Install tensorflow 2.15 or older (Python 3.9 to 3.11).')

estimator: Any = tf.estimator
EstimatorSpec: Any = estimator.EstimatorSpec
ModeKeys: Any = estimator.ModeKeys

# From its own module: to read the public alias logs a deprecation warning at import.
from tensorflow_estimator.python.estimator.tpu import tpu_estimator as _tpu  # noqa: E402

TPUEstimatorSpec: Any = _tpu.TPUEstimatorSpec

_Function = TypeVar('_Function', bound=Callable[..., Any])


def do_not_convert(function: _Function) -> _Function:
    """Keeps AutoGraph, which works under a strategy, from converting `function` as well."""
    return tf.autograph.experimental.do_not_convert(function)

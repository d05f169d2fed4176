"""TensorFlow and the estimator namespace that belongs to it, decided once.

Up to TensorFlow 2.15 that is `tf.estimator`; from 2.16 on it is tensorflow-estimator over what
`bridge` supplies.
"""

from __future__ import annotations

from typing import Any, Callable, TypeVar

from estimator_spec_ext.compat import bridge

bridge.prepare()

import tensorflow as _tensorflow  # noqa: E402

from estimator_spec_ext.compat.bridge import versions as _versions  # noqa: E402

# Whether Estimator runs over the bridge.
BRIDGED = _versions.minor(_tensorflow.__version__) >= _versions.FIRST

# TensorFlow itself; where that has Keras 3, a view of it with Keras 2.
tf: Any = _tensorflow
estimator: Any
if BRIDGED:
    tf, estimator = bridge.activate(_tensorflow)
else:
    tf.estimator.ModeKeys  # noqa: B018  (loads it, and puts the module in the loader's place)
    estimator = tf.estimator

v1: Any = tf.compat.v1
EstimatorSpec: Any = estimator.EstimatorSpec
ModeKeys: Any = estimator.ModeKeys

# From its own module: to read the public alias logs a deprecation warning at import.
from tensorflow_estimator.python.estimator.tpu import tpu_estimator as _tpu  # noqa: E402

TPUEstimatorSpec: Any = _tpu.TPUEstimatorSpec

_Function = TypeVar('_Function', bound=Callable[..., Any])


def do_not_convert(function: _Function) -> _Function:
    """Keeps AutoGraph, which works under a strategy, from converting `function` as well."""
    return tf.autograph.experimental.do_not_convert(function)


def estimator_v1() -> Any:
    """The namespace `tf.compat.v1.estimator`."""
    if BRIDGED:
        return bridge.namespace_v1()
    _tensorflow.compat.v1.estimator.ModeKeys  # noqa: B018  (as above)
    return _tensorflow.compat.v1.estimator

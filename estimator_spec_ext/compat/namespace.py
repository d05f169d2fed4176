"""TensorFlow and the estimator namespace that belongs to it."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

v1 = tf.compat.v1

if not hasattr(tf, 'estimator'):
    raise ImportError(
        f'TensorFlow {tf.__version__} has no tf.estimator: it left TensorFlow with 2.16. '
        'Install tensorflow 2.15 or older (Python 3.9 to 3.11).')

estimator: Any = tf.estimator
EstimatorSpec: Any = estimator.EstimatorSpec
ModeKeys: Any = estimator.ModeKeys
TPUEstimatorSpec: Any = v1.estimator.tpu.TPUEstimatorSpec

"""A small job for the tests of the factories under strategies."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

import estimator_spec_ext as ese

v1 = tf.compat.v1
legacy = tf.keras.optimizers.legacy

X = np.random.RandomState(0).randn(8, 3).astype(np.float32)
Y = X.sum(1, keepdims=True)
W = np.array([[0.1], [0.5], [-1.0]], np.float32)

OPTIMIZERS = {
    'tf1': lambda: v1.train.AdamOptimizer(0.1),
    'legacy': lambda: legacy.Adam(0.1),
    'keras': lambda: tf.keras.optimizers.Adam(0.1),
    'keras-schedule': lambda: tf.keras.optimizers.SGD(
        tf.keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), weight_decay=0.1),
}


def _model_fn(features, labels, mode, optimizer, norm, warm_start_from):
    regularizer = tf.keras.regularizers.l2(0.01)
    weight = v1.get_variable('w', initializer=W, use_resource=True, regularizer=regularizer)
    layer = tf.keras.layers.BatchNormalization(momentum=0.5) if norm else None
    hidden = layer(features, training=mode == 'train') if norm else features
    return ese.create_estimator_spec(
        mode, predictions=tf.matmul(hidden, weight), labels=labels,
        loss_fn=lambda labels, predictions: tf.reduce_mean((labels - predictions) ** 2),
        layers=layer, optimizer=optimizer, ema_decay=0.5, warm_start_from=warm_start_from,
        metrics_fn=lambda labels, predictions: {
            'mae': v1.metrics.mean_absolute_error(labels, predictions)})


def train(model_dir, optimizer, strategy=None, replicas=1, steps=4, norm=False,
          warm_start_from=None):
    """Trains and evaluates; the same data whatever the number of replicas.

    Returns:
      The estimator and the result of its evaluation.
    """
    config = tf.estimator.RunConfig(
        model_dir=str(model_dir), train_distribute=strategy, eval_distribute=strategy,
        session_config=v1.ConfigProto(device_count={'CPU': 2}))

    def model_fn(features, labels, mode):  # a closure, since Estimator copies its params
        return _model_fn(features, labels, mode, optimizer, norm, warm_start_from)

    estimator = tf.estimator.Estimator(model_fn, config=config)

    def input_fn():
        # Estimator gives each replica a batch of its own.
        data = tf.data.Dataset.from_tensor_slices((X, Y)).repeat()
        return data.batch(8 // replicas)

    estimator.train(input_fn, steps=steps)
    result = estimator.evaluate(input_fn, steps=1)
    return estimator, result


def assert_same_training(tmp_path, optimizer, make, strategy, replicas):
    """Trains without a strategy by `make` and with one by `optimizer`, and compares."""
    plain, expected = train(tmp_path / 'plain', make)
    estimator, result = train(tmp_path / 'strategy', optimizer, strategy, replicas)
    assert estimator.get_variable_value('global_step') == 4
    for variable in ('w', 'w/ExponentialMovingAverage'):
        np.testing.assert_allclose(estimator.get_variable_value(variable),
                                   plain.get_variable_value(variable), rtol=1e-4, err_msg=variable)
    assert (plain.get_variable_value('w') != W).all()
    # EVAL runs on the averages, on every replica.
    for name in ('loss', 'mae'):
        np.testing.assert_allclose(result[name], expected[name], rtol=1e-4, err_msg=name)

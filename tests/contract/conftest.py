"""Graphs, estimators and TensorFlow's own log lines for the contract tests."""

from __future__ import annotations

import logging

import pytest
import tensorflow as tf

BATCH = 4


@pytest.fixture
def graph():
    """A fresh plain graph, the default one during the test."""
    with tf.Graph().as_default() as g:
        yield g


@pytest.fixture
def foreign():
    """A function that builds something in another graph than the default one.

    Example: `loss = foreign(lambda: tf.constant(1.0))`.
    """
    other = tf.Graph()

    def build(make):
        with other.as_default():
            return make()

    return build


class _Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)

    def at(self, level):
        """The messages of exactly this level, e.g. `at('INFO')`."""
        return [r.getMessage() for r in self.records if r.levelname == level]


@pytest.fixture
def tf_log():
    """What TensorFlow logs during the test, from INFO up: `tf_log.at('WARNING')`."""
    logger, lines = tf.get_logger(), _Lines()
    level = logger.level
    logger.addHandler(lines)
    logger.setLevel(logging.INFO)
    yield lines
    logger.removeHandler(lines)
    logger.setLevel(level)


@pytest.fixture
def input_fn():
    """Two batches of features `{'x': float32[4, 1]}` and labels `float32[4, 1]`."""

    def build():
        rows = tf.range(2 * BATCH, dtype=tf.float32)[:, tf.newaxis]
        return tf.data.Dataset.from_tensor_slices(({'x': rows}, rows)).batch(
            BATCH, drop_remainder=True
        )

    return build


@pytest.fixture
def make_estimator(tmp_path):
    """A function that puts a model_fn into an Estimator with its own model_dir."""

    def make(model_fn, **config):
        config.setdefault('log_step_count_steps', None)
        config.setdefault('save_summary_steps', None)
        return tf.estimator.Estimator(
            model_fn, str(tmp_path / 'model'), tf.estimator.RunConfig(**config)
        )

    return make


@pytest.fixture
def linear():
    """A function that builds the smallest trainable model: prediction, loss and train_op."""

    def build(features, labels):
        weight = tf.compat.v1.get_variable('w', [], initializer=tf.zeros_initializer())
        prediction = features['x'] * weight
        if labels is None:
            return prediction, None, None
        loss = tf.reduce_mean(tf.square(prediction - labels))
        train_op = tf.compat.v1.train.GradientDescentOptimizer(0.01).minimize(
            loss, tf.compat.v1.train.get_global_step()
        )
        return prediction, loss, train_op

    return build

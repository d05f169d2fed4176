"""Batch norm in training mode outside of training, and the normalisations that look like it."""

from __future__ import annotations

import pytest
import tensorflow as tf

import estimator_spec_ext as ese

v1 = tf.compat.v1
layers = tf.keras.layers
SLUG = 'batch-norm-in-training-mode'


def _x(*dims):
    return v1.placeholder(tf.float32, [None, *dims])


def _default(value):
    return v1.placeholder_with_default(value, [])


def _normalised(x, mean, variance):
    return tf.nn.batch_normalization(x, mean, variance, None, None, 1e-3)


def _by_hand():
    x = _x(4)
    mean, variance = tf.nn.moments(x, [0])
    for name, value in (('mean', mean), ('variance', variance)):
        average = v1.get_variable(name, [4], trainable=False)
        v1.assign(average, average * .9 + value * .1)
    return _normalised(x, mean, variance)


def _switched_averages(training):
    """The usual recipe of TF1 with a cond."""
    x = _x(4)
    mean, variance = tf.nn.moments(x, [0])
    averages = v1.train.ExponentialMovingAverage(.9)

    def updated():
        with tf.control_dependencies([averages.apply([mean, variance])]):
            return tf.identity(mean), tf.identity(variance)

    def kept():
        return averages.average(mean), averages.average(variance)

    return _normalised(x, *tf.cond(training, updated, kept))


def _square_by_hand():
    x = _x(4)
    mean = tf.reduce_mean(x, 0)
    variance = tf.reduce_mean(tf.square(x - mean), 0)
    average = v1.get_variable('variance', [4], trainable=False)
    v1.assign_sub(average, .1 * (average - variance))
    return (x - mean) / tf.sqrt(variance + 1e-3)


def _function():
    layer = layers.BatchNormalization()
    layer.build([None, 4, 4, 3])
    return tf.function(lambda x: layer(x, training=True), autograph=False)(_x(4, 4, 3))


BAD = {
    'tf.layers, fused': lambda: v1.layers.batch_normalization(_x(4, 4, 3), training=True),
    'tf.layers, vectors': lambda: v1.layers.batch_normalization(_x(4), training=True),
    'tf.layers, default': lambda: v1.layers.batch_normalization(
        _x(4, 4, 3), training=_default(True)),
    'keras, fused': lambda: layers.BatchNormalization()(_x(4, 4, 3), training=True),
    'keras, vectors': lambda: layers.BatchNormalization()(_x(4), training=True),
    'keras, default': lambda: layers.BatchNormalization()(_x(4, 4, 3), training=_default(True)),
    'keras, vectors, default': lambda: layers.BatchNormalization()(
        _x(4), training=_default(True)),
    'keras, model': lambda: tf.keras.Sequential([
        layers.Conv2D(3, 3), layers.BatchNormalization(), layers.Flatten(), layers.Dense(2)])(
            _x(8, 8, 3), training=True),
    'function': _function,
    'by hand': _by_hand,
    'by hand, squares': _square_by_hand,
}


def _batch_renorm_free():
    """Layer normalisation by hand."""
    x = _x(4)
    mean, variance = tf.nn.moments(x, [1], keepdims=True)
    return _normalised(x, mean, variance)


def _watched():
    """An average of the loss, for the summaries, is no normalisation."""
    x = _x(4)
    loss = tf.reduce_mean(tf.math.squared_difference(x, 1.), 0)
    v1.train.ExponentialMovingAverage(.9).apply([loss])
    return x + loss


GOOD = {
    'tf.layers, not training': lambda: v1.layers.batch_normalization(_x(4, 4, 3)),
    'tf.layers, default': lambda: v1.layers.batch_normalization(_x(4), training=_default(False)),
    'keras, not told': lambda: layers.BatchNormalization()(_x(4, 4, 3)),
    'keras, vectors, not told': lambda: layers.BatchNormalization()(_x(4)),
    'keras, frozen': lambda: layers.BatchNormalization(trainable=False)(
        _x(4, 4, 3), training=True),
    'layer': lambda: layers.LayerNormalization()(_x(4, 4), training=True),
    'layer, by hand': _batch_renorm_free,
    'group': lambda: layers.GroupNormalization(1)(_x(4, 4, 3), training=True),
    'fused without averages': lambda: v1.nn.fused_batch_norm(
        _x(4, 4, 3), tf.ones([3]), tf.zeros([3]))[0],
    'cond, averages kept': lambda: _switched_averages(_default(False)),
    'average of a loss': _watched,
}


def _found(build, mode):
    with tf.Graph().as_default():
        v1.train.get_or_create_global_step()
        net = build()
        fields = {'loss': tf.reduce_mean(net)} if mode == 'eval' else {'predictions': {'p': net}}
        report = ese.validate_estimator_spec(tf.estimator.EstimatorSpec(mode, **fields))
    assert 'rule-crashed' not in {finding.slug for finding in report.findings}, report.to_text()
    return [finding for finding in report.findings if finding.slug == SLUG]


@pytest.mark.parametrize('mode', ['eval', 'infer'])
@pytest.mark.parametrize('name', BAD)
def test_statistics_of_the_batch_are_found(name, mode):
    finding, = _found(BAD[name], mode)
    assert finding.severity is ese.Severity.WARNING
    assert finding.where.field == ('loss' if mode == 'eval' else "predictions['p']")


@pytest.mark.parametrize('mode', ['eval', 'infer'])
@pytest.mark.parametrize('name', GOOD)
def test_other_normalisations_are_left_alone(name, mode):
    assert not _found(GOOD[name], mode)


def test_a_cond_that_trains_by_default():
    assert _found(lambda: _switched_averages(_default(True)), 'infer')

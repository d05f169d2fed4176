"""Dropout outside of training in all its forms, and the randomness that models want."""

from __future__ import annotations

import pytest
import tensorflow as tf

import estimator_spec_ext as ese

v1 = tf.compat.v1
layers = tf.keras.layers
cells = v1.nn.rnn_cell
SLUG = 'dropout-outside-training'


def _x(*dims):
    return v1.placeholder(tf.float32, [None, *dims])


def _default(value):
    return v1.placeholder_with_default(value, [])


def _rnn(**options):
    cell = cells.DropoutWrapper(cells.GRUCell(4), **options)
    return v1.nn.dynamic_rnn(cell, _x(5, 3), dtype=tf.float32)[0]


def _static_rnn():
    cell = cells.DropoutWrapper(cells.LSTMCell(4), output_keep_prob=.5)
    return v1.nn.static_rnn(cell, tf.unstack(_x(5, 3), axis=1), dtype=tf.float32)[0][-1]


def _cond(predicate):
    x = _x(3)
    return tf.cond(predicate, lambda: tf.nn.dropout(x, .3), lambda: x)


def _loop():
    return tf.while_loop(
        lambda i, y: i < 3, lambda i, y: (i + 1, tf.nn.dropout(y, .5)), [0, _x(3)])[1]


def _function():
    @tf.function(autograph=False)
    def layer(x):
        return tf.cond(tf.constant(True), lambda: tf.nn.dropout(x, .3), lambda: x)

    return layer(_x(3))


def _masked(make_mask):
    x = _x(3)
    return x * make_mask(tf.random.uniform(tf.shape(x)), x)


def _generator():
    x = _x(3)
    draw = tf.random.Generator.from_seed(1).uniform(tf.shape(x))
    return x * tf.cast(draw > .3, tf.float32)


def _chosen(choose):
    x = _x(3)
    return choose(tf.random.uniform(tf.shape(x)) < .5, x)


def _learning_phase():
    tf.keras.backend.set_learning_phase(1)
    try:
        return layers.Dropout(.4)(_x(3))
    finally:
        tf.keras.backend.set_learning_phase(0)


def _floor():
    x = _x(3)
    return x / .8 * tf.floor(.8 + tf.random.uniform([tf.shape(x)[0], 1]))


BAD = {
    'nn': lambda: tf.nn.dropout(_x(3), .5),
    'noise shape': lambda: tf.nn.dropout(_x(5, 3), .3, noise_shape=[1, 1, 3]),
    'half precision': lambda: tf.nn.dropout(tf.cast(_x(3), tf.float16), .4),
    'stateless': lambda: tf.nn.experimental.stateless_dropout(_x(3), .3, seed=[1, 2]),
    'generator': _generator,
    'one minus keep': lambda: v1.nn.dropout(_x(3), rate=1. - _default(.7)),
    'tf.layers': lambda: v1.layers.dropout(_x(3), .5, training=True),
    'keras': lambda: layers.Dropout(.4)(_x(3), training=True),
    'keras, default trains': lambda: layers.Dropout(.3)(_x(3), training=_default(True)),
    'keras, learning phase': _learning_phase,
    'keras, spatial': lambda: layers.SpatialDropout2D(.3)(_x(5, 5, 3), training=True),
    'keras, alpha': lambda: layers.AlphaDropout(.3)(_x(5), training=True),
    'keras, attention': lambda: layers.MultiHeadAttention(2, 4, dropout=.3)(
        _x(5, 3), _x(5, 3), training=True),
    'keras, lstm': lambda: layers.LSTM(4, dropout=.3)(_x(5, 3), training=True),
    'keras, recurrent': lambda: layers.LSTM(4, recurrent_dropout=.3)(_x(5, 3), training=True),
    'keras, deep': lambda: tf.keras.Sequential([
        layers.Conv2D(3, 3), layers.Dropout(.4), layers.Flatten(), layers.Dense(2)])(
            _x(8, 8, 3), training=True),
    'rnn': lambda: _rnn(output_keep_prob=.5),
    'rnn, input and state': lambda: _rnn(input_keep_prob=.5, state_keep_prob=.9),
    'rnn, default': lambda: _rnn(output_keep_prob=_default(.5)),
    'rnn, variational': lambda: _rnn(
        input_keep_prob=.5, variational_recurrent=True, input_size=3, dtype=tf.float32),
    'rnn, unrolled': _static_rnn,
    'cond': lambda: _cond(tf.constant(True)),
    'cond, default': lambda: _cond(_default(True)),
    'cond, negated': lambda: _cond(tf.logical_not(_default(False))),
    'loop': _loop,
    'map': lambda: tf.map_fn(lambda row: tf.nn.dropout(row, .4), _x(3)),
    'function': _function,
    'mask': lambda: _masked(lambda draw, x: tf.cast(draw < .8, tf.float32)),
    'mask, turned round': lambda: _masked(
        lambda draw, x: tf.cast(tf.greater(.7, draw), tf.float32)),
    'mask of ones': lambda: _masked(
        lambda draw, x: tf.where(draw < .5, tf.ones_like(x), tf.zeros_like(x))),
    'floor': _floor,
    'where': lambda: _chosen(lambda mask, x: tf.where(mask, 2. * x, tf.zeros_like(x))),
    'where of v1': lambda: _chosen(lambda mask, x: v1.where(mask, tf.zeros_like(x), x)),
}


def _two_ways(choose):
    a, b = _x(3), _x(3)
    return choose(a, b, tf.random.uniform(tf.shape(a)))


def _weighed(a, b, draw):
    mask = tf.cast(draw < .3, tf.float32)
    return mask * a + (1. - mask) * b


def _autoencoder():
    x = _x(3)
    return layers.Dense(3)(x + tf.random.normal(tf.shape(x)) * tf.exp(x))


GOOD = {
    'nothing is dropped': lambda: _rnn(output_keep_prob=1.),
    'nothing by default': lambda: _rnn(output_keep_prob=_default(1.)),
    'a constant that keeps all': lambda: _rnn(output_keep_prob=tf.constant(1.)),
    'keras, told so': lambda: layers.LSTM(4, dropout=.3)(_x(5, 3), training=False),
    'keras, not told': lambda: layers.LSTM(4, dropout=.3, recurrent_dropout=.2)(_x(5, 3)),
    'keras, model': lambda: tf.keras.Sequential([layers.Dense(4), layers.Dropout(.4)])(_x(3)),
    'cond, default': lambda: _cond(_default(False)),
    'cond, only a run can tell': lambda: _cond(
        v1.get_local_variable('training', initializer=True, trainable=False)),
    'gumbel': lambda: tf.nn.softmax(_x(3) - tf.math.log(-tf.math.log(tf.random.uniform([3])))),
    'gaussian noise': lambda: layers.GaussianNoise(.3)(_x(3), training=True),
    'variational decoder': _autoencoder,
    'generator': lambda: layers.Dense(3)(tf.random.uniform([tf.shape(_x(3))[0], 3], -1, 1)),
    'random crop': lambda: tf.image.random_crop(_x(8, 8, 3), [2, 4, 4, 3]),
    'random flip': lambda: tf.image.random_flip_left_right(_x(8, 8, 3)),
    'random flip of one': lambda: tf.image.random_flip_left_right(_x(8, 8, 3)[0]),
    'brightness': lambda: tf.image.random_brightness(_x(8, 8, 3), .3),
    'sampled class': lambda: tf.cast(tf.random.categorical(_x(3), 2), tf.float32),
    'sampled units': lambda: _two_ways(
        lambda a, b, draw: tf.cast(draw < tf.sigmoid(a), tf.float32) * b),
    'accepted proposals': lambda: _two_ways(lambda a, b, draw: tf.where(draw < tf.exp(a), a, b)),
    'scheduled sampling': lambda: _two_ways(lambda a, b, draw: tf.where(draw < .3, a, b)),
    'mixing': lambda: _two_ways(_weighed),
    'mixup': lambda: _two_ways(lambda a, b, draw: draw * a + (1. - draw) * b),
    'stochastic rounding': lambda: _two_ways(lambda a, b, draw: tf.floor(a + draw)),
    'jitter': lambda: _x(3) * tf.random.uniform([1, 3], .98, 1.02),
    'coins': lambda: 2. * tf.cast(
        tf.random.uniform([tf.shape(_x(3))[0], 3]) < .5, tf.float32) - 1.,
    'shuffle': lambda: tf.random.shuffle(_x(3)),
}


def _found(build, mode):
    with tf.Graph().as_default():
        v1.train.get_or_create_global_step()
        net = build()
        if mode == 'infer':
            spec = tf.estimator.EstimatorSpec(mode, {'p': net})
        else:
            loss = tf.reduce_mean(tf.cast(net, tf.float32))
            spec = tf.estimator.EstimatorSpec(mode, loss=loss)
        report = ese.validate_estimator_spec(spec)
    assert 'rule-crashed' not in {finding.slug for finding in report.findings}, report.to_text()
    return [finding for finding in report.findings if finding.slug == SLUG]


@pytest.mark.parametrize('mode', ['eval', 'infer'])
@pytest.mark.parametrize('name', BAD)
def test_dropout_is_found(name, mode):
    finding, = _found(BAD[name], mode)
    assert finding.severity is ese.Severity.WARNING
    assert finding.where.field == ('loss' if mode == 'eval' else "predictions['p']")
    assert finding.where.file == __file__


@pytest.mark.parametrize('mode', ['eval', 'infer'])
@pytest.mark.parametrize('name', GOOD)
def test_wanted_randomness_is_left_alone(name, mode):
    assert not _found(GOOD[name], mode)


def test_training_drops_out_in_peace():
    with tf.Graph().as_default():
        step = v1.train.get_or_create_global_step()
        loss = tf.reduce_mean(tf.nn.dropout(tf.square(v1.get_variable('w', [3, 3])), .5))
        train_op = v1.train.GradientDescentOptimizer(.1).minimize(loss, step)
        report = ese.validate_estimator_spec(
            tf.estimator.EstimatorSpec('train', loss=loss, train_op=train_op))
    assert SLUG not in {finding.slug for finding in report.findings}


def test_dropout_that_only_predictions_of_eval_need_does_not_run():
    """evaluate fetches the loss and the metrics, never the predictions."""
    with tf.Graph().as_default():
        x = _x(3)
        report = ese.validate_estimator_spec(tf.estimator.EstimatorSpec(
            'eval', {'p': tf.nn.dropout(x, .5)}, loss=tf.reduce_mean(x)))
    assert SLUG not in {finding.slug for finding in report.findings}


def test_many_are_one_finding():
    def build():
        net = _x(3)
        for _ in range(30):
            net = tf.nn.dropout(layers.Dense(3)(net), .1)
        return net

    finding, = _found(build, 'infer')
    assert finding.message.endswith(' and 29 more')

"""Averages of the weights: kept in TRAIN, used in EVAL, PREDICT and the export."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
import tensorflow as tf

import estimator_spec_ext as ese

v1 = tf.compat.v1

_X = np.random.RandomState(0).randn(8, 3).astype(np.float32)
_Y = _X.sum(1, keepdims=True)
_INIT = v1.glorot_uniform_initializer(seed=1)
_DECAY = 0.5


def _input_fn():
    data = tf.data.Dataset.from_tensor_slices((_X, _Y)).batch(8)
    return data.repeat(3)


def _model_fn(features, labels, mode, params):
    predictions = v1.layers.dense(features, 1, name='out', kernel_initializer=_INIT)
    options = {'loss_fn': lambda labels, predictions: tf.reduce_mean((labels - predictions) ** 2),
               'optimizer': lambda: v1.train.AdamOptimizer(0.1), 'ema_decay': _DECAY}
    options.update(params)
    return ese.create_estimator_spec(mode, predictions=predictions, labels=labels, **options)


def _estimator(model_dir, **params):
    config = tf.estimator.RunConfig(model_dir=str(model_dir), tf_random_seed=1)
    return tf.estimator.Estimator(_model_fn, config=config, params=params)


def _receiver_fn():
    x = v1.placeholder(tf.float32, [None, 3])
    return tf.estimator.export.TensorServingInputReceiver(x, {'x': x})


def _served(folder):
    with tf.Graph().as_default(), v1.Session() as session:
        meta = v1.saved_model.load(session, ['serve'], folder)
        signature = meta.signature_def['serving_default']
        return session.run(signature.outputs['output'].name,
                           {signature.inputs['x'].name: _X})


def test_every_mode_uses_the_averages(tmp_path):
    """EVAL, PREDICT and the export compute with the averages, TRAIN with the weights."""
    estimator = _estimator(tmp_path)
    estimator.train(_input_fn)
    average = {name: estimator.get_variable_value(f'out/{name}/ExponentialMovingAverage')
               for name in ('kernel', 'bias')}
    assert (average['kernel'] != estimator.get_variable_value('out/kernel')).all()
    expected = _X @ average['kernel'] + average['bias']
    result = estimator.evaluate(_input_fn)
    np.testing.assert_allclose(result['loss'], np.mean((_Y - expected) ** 2), rtol=1e-5)
    assert result['global_step'] == 3
    predicted = list(estimator.predict(lambda: tf.data.Dataset.from_tensor_slices(_X).batch(8)))
    np.testing.assert_allclose(np.reshape(predicted, [8, 1]), expected, rtol=1e-5, atol=1e-6)
    folder = estimator.export_saved_model(str(tmp_path / 'export'), _receiver_fn).decode()
    np.testing.assert_allclose(_served(folder), expected, rtol=1e-5, atol=1e-6)


def test_as_by_hand(tmp_path):
    """The averages have the names and the bits of a hand-written ExponentialMovingAverage."""

    def by_hand(features, labels, mode):
        predictions = v1.layers.dense(features, 1, name='out', kernel_initializer=_INIT)
        loss = tf.reduce_mean((labels - predictions) ** 2)
        train_op = v1.train.AdamOptimizer(0.1).minimize(loss, v1.train.get_global_step())
        averages = tf.train.ExponentialMovingAverage(_DECAY)
        with tf.control_dependencies([train_op]):
            train_op = averages.apply(v1.trainable_variables())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    expected = tf.estimator.Estimator(by_hand, config=tf.estimator.RunConfig(
        model_dir=str(tmp_path / 'hand'), tf_random_seed=1))
    actual = _estimator(tmp_path / 'ese')
    for estimator in (expected, actual):
        estimator.train(_input_fn)
    assert actual.get_variable_names() == expected.get_variable_names()
    for name in expected.get_variable_names():
        np.testing.assert_array_equal(actual.get_variable_value(name),
                                      expected.get_variable_value(name), err_msg=name)


def test_training_goes_on_from_the_weights(tmp_path):
    """A second training starts from weights and averages alike: five steps are two and three."""
    whole, parts = _estimator(tmp_path / 'whole'), _estimator(tmp_path / 'parts')
    whole.train(lambda: _input_fn().repeat(), steps=5)
    parts.train(lambda: _input_fn().repeat(), steps=2)
    parts.evaluate(_input_fn)
    parts.train(lambda: _input_fn().repeat(), steps=3)
    for name in whole.get_variable_names():
        np.testing.assert_array_equal(parts.get_variable_value(name),
                                      whole.get_variable_value(name), err_msg=name)


def test_partitioned_variables(tmp_path):
    """The slices of a partitioned variable are averaged and found again."""

    def model_fn(features, labels, mode):
        with v1.variable_scope('net', partitioner=v1.fixed_size_partitioner(3)):
            weight = v1.get_variable('w', [3, 1], initializer=v1.ones_initializer())
        predictions = tf.matmul(features, tf.convert_to_tensor(weight))
        return ese.create_estimator_spec(
            mode, predictions=predictions, labels=labels, ema_decay=_DECAY,
            loss_fn=lambda labels, predictions: tf.reduce_sum(predictions),
            optimizer=lambda: v1.train.GradientDescentOptimizer(0.1))

    estimator = tf.estimator.Estimator(model_fn, str(tmp_path))
    estimator.train(_input_fn)
    average = estimator.get_variable_value('net/w/ExponentialMovingAverage')
    assert (average != estimator.get_variable_value('net/w')).all()
    result = estimator.evaluate(_input_fn, steps=1)
    np.testing.assert_allclose(result['loss'], np.sum(_X @ average), rtol=1e-5)


@contextlib.contextmanager
def _resource_variables():
    """Keras optimizers need them; under TF1 behaviour they are not the default."""
    enabled = v1.resource_variables_enabled()
    v1.enable_resource_variables()
    try:
        yield
    finally:
        if not enabled:
            v1.disable_resource_variables()


@pytest.mark.parametrize('make', [tf.keras.optimizers.SGD, tf.keras.optimizers.legacy.SGD],
                         ids=['keras', 'legacy'])
def test_with_a_keras_optimizer_and_limited_variables(tmp_path, make):
    """Only what is trained is averaged; the averages follow after each step."""
    options = {'trainable_variables': lambda: v1.trainable_variables('out/kernel'),
               'optimizer': lambda: make(0.1)}
    estimator = _estimator(tmp_path, **options)
    with _resource_variables():
        estimator.train(_input_fn, steps=1)
        estimator.evaluate(_input_fn)
    names = estimator.get_variable_names()
    assert 'out/kernel/ExponentialMovingAverage' in names
    assert 'out/bias/ExponentialMovingAverage' not in names
    kernel = estimator.get_variable_value('out/kernel')
    average = estimator.get_variable_value('out/kernel/ExponentialMovingAverage')
    assert (average != kernel).all()


def test_the_scaffold_is_kept(tmp_path):
    """All of the caller's scaffold but its saver stays."""
    with tf.Graph().as_default():
        v1.train.get_or_create_global_step()
        v1.get_variable('w', [])
        local_init_op = tf.group(v1.tables_initializer(), name='mine')
        scaffold = v1.train.Scaffold(local_init_op=local_init_op)
        spec = ese.create_predict_estimator_spec(
            tf.ones([2]), ema_decay=_DECAY, scaffold=scaffold)
        assert spec.scaffold.local_init_op is local_init_op
        assert scaffold.saver is None
        with pytest.raises(ValueError, match='scaffold has a saver, and ema_decay needs another'):
            ese.create_predict_estimator_spec(
                tf.ones([2]), ema_decay=_DECAY, scaffold=spec.scaffold)


@pytest.mark.parametrize('decay', [1, -0.1, 1.5])
def test_impossible_decay(decay):
    """A decay of 1 would never move, and more would explode."""
    with tf.Graph().as_default():
        weight = v1.get_variable('w', [], use_resource=True)
        for call in (
                lambda: ese.create_train_estimator_spec(
                    weight * weight, optimizer=tf.keras.optimizers.legacy.SGD, ema_decay=decay),
                lambda: ese.create_predict_estimator_spec(tf.ones([2]), ema_decay=decay)):
            with pytest.raises(ValueError, match='ema_decay must be at least 0 and below 1'):
                call()


def test_inside_a_variable_scope():
    """There the averages would get names that EVAL does not look for."""
    with tf.Graph().as_default(), v1.variable_scope('net'):
        weight = v1.get_variable('w', [])
        with pytest.raises(ValueError, match=(
                "the average of 'net/w:0' is called 'net/net/w/ExponentialMovingAverage', expected "
                "'net/w/ExponentialMovingAverage'; leave the variable_scope")):
            ese.create_train_estimator_spec(
                weight * weight, optimizer=v1.train.GradientDescentOptimizer(0.1),
                ema_decay=_DECAY)

"""Keras and Estimator: `model_to_estimator`, and a Keras model called inside a model_fn."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tensorflow as tf

import estimator_spec_ext as ese

v1 = tf.compat.v1

_X = np.random.RandomState(0).randn(16, 3).astype(np.float32) + 2.0
_Y = _X.sum(1, keepdims=True)


def _input_fn():
    return tf.data.Dataset.from_tensor_slices(({'x': _X}, _Y)).batch(8)


def _receiver_fn():
    x = v1.placeholder(tf.float32, [None, 3])
    return tf.estimator.export.ServingInputReceiver({'x': x}, {'x': x})


def _compiled():
    """A Keras model with its own weights; it learns nothing, so that these can be found again."""
    inputs = tf.keras.Input([3], name='x')
    hidden = tf.keras.layers.BatchNormalization()(inputs)
    hidden = tf.keras.layers.Dropout(0.1)(hidden)
    outputs = tf.keras.layers.Dense(1, kernel_regularizer='l2')(hidden)
    model = tf.keras.Model(inputs, outputs)
    model.compile(tf.keras.optimizers.legacy.SGD(0.0), 'mse', metrics=['mae'])
    return model


def test_model_to_estimator(tmp_path):
    """Its model_fn goes through strictly in every mode, from the weights of the Keras model."""
    model = _compiled()
    kernel = model.get_weights()[-2]
    made = tf.keras.estimator.model_to_estimator(model, model_dir=str(tmp_path))
    strict, returned = ese.strict_model_fn(made.model_fn), []

    def model_fn(features, labels, mode, config):
        returned.append(strict(features, labels, mode, config))
        return returned[-1]

    estimator = tf.estimator.Estimator(
        model_fn, config=made.config, warm_start_from=os.path.join(made.model_dir, 'keras'))
    estimator.train(_input_fn, steps=1)
    stored = estimator.get_variable_value(
        'layer_with_weights-1/kernel/.ATTRIBUTES/VARIABLE_VALUE')
    np.testing.assert_array_equal(stored, kernel)
    result = estimator.evaluate(_input_fn)
    metric = 'mae' if v1.executing_eagerly_outside_functions() else 'mean_absolute_error'
    assert set(result) == {'loss', metric, 'global_step'} and result['global_step'] == 1
    assert len(list(estimator.predict(_input_fn))) == 16
    path = estimator.export_saved_model(str(tmp_path / 'export'), _receiver_fn).decode()
    with tf.Graph().as_default(), v1.Session() as session:
        assert 'serving_default' in v1.saved_model.load(session, ['serve'], path).signature_def
    assert [type(spec) for spec in returned] == [ese.StrictEstimatorSpec] * 4
    for spec in returned:
        shown = spec.loss if spec.loss is not None else next(iter(spec.predictions.values()))
        graph = shown.graph
        assert not ese.findings(graph)


@pytest.mark.parametrize('form', ['saver', 'checkpoint'])
@pytest.mark.parametrize('trained', [False, True])
def test_statistics_that_model_to_estimator_does_not_take_along(tmp_path, form, trained):
    """Estimator starts from the weights alone, which loses the statistics of a trained model."""
    model = _compiled()
    if trained:
        statistics = model.layers[1]
        statistics.set_weights([weight + .5 for weight in statistics.get_weights()])
    made = tf.keras.estimator.model_to_estimator(
        model, model_dir=str(tmp_path), checkpoint_format=form)
    report = ese.preflight(made, tf.estimator.TrainSpec(_input_fn, max_steps=20), depth='graph')
    slugs = [finding.slug for finding in report.findings]
    assert ('warm-start-skips-statistics' in slugs) == trained


def _functional():
    """A functional model with one of each kind of loss, and moving statistics."""
    inputs = tf.keras.Input([3])
    hidden = tf.keras.layers.BatchNormalization(momentum=0.5, name='norm')(inputs)
    hidden = tf.keras.layers.Dense(2, kernel_regularizer=tf.keras.regularizers.L2(0.1),
                                   activity_regularizer=tf.keras.regularizers.L1(0.01))(hidden)
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(1)(hidden))
    model.add_loss(0.5 * tf.reduce_mean(tf.abs(hidden)))
    return model


@pytest.mark.parametrize('optimizer', [
    lambda: v1.train.GradientDescentOptimizer(0.0), lambda: tf.keras.optimizers.legacy.SGD(0.0),
    lambda: tf.keras.optimizers.SGD(0.0)], ids=['tf1', 'legacy', 'keras'])
def test_a_functional_model_inside_a_model_fn(optimizer):
    """The loss holds all of the model's own losses, once, and a step runs its updates, once."""
    with tf.Graph().as_default():
        step = v1.train.get_or_create_global_step()
        model = _functional()
        predictions = model(tf.constant(_X), training=True)
        spec = ese.create_estimator_spec(
            'train', predictions=predictions, labels=tf.constant(_Y), layers=model,
            optimizer=optimizer,
            loss_fn=lambda labels, predictions: tf.reduce_mean((labels - predictions) ** 2))
        norm, dense = model.get_layer('norm'), model.layers[2]
        hidden = dense(norm(tf.constant(_X), training=True))
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            kernel, predicted, inner, loss = session.run(
                [dense.kernel, predictions, hidden, spec.loss])
            session.run(spec.train_op)
            mean, count = session.run([norm.moving_mean, step])
    expected = (np.mean((_Y - predicted) ** 2) + 0.1 * np.sum(kernel ** 2)
                + 0.01 * np.sum(np.abs(inner)) / len(_X) + 0.5 * np.mean(np.abs(inner)))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(mean, 0.5 * _X.mean(0), rtol=1e-5)
    assert count == 1


def test_what_layers_adds_is_not_silent():
    """Without `layers` the model's statistics and regularizers would be lost: that is reported."""
    with tf.Graph().as_default(), pytest.raises(ese.EstimatorSpecError) as caught:
        model = _functional()
        ese.create_estimator_spec(
            'train', predictions=model(tf.constant(_X), training=True), labels=tf.constant(_Y),
            optimizer=lambda: v1.train.GradientDescentOptimizer(0.1),
            loss_fn=lambda labels, predictions: tf.reduce_mean((labels - predictions) ** 2))
    assert {finding.slug for finding in caught.value.findings} == {
        'moving-statistics-not-updated', 'regularizer-unused'}

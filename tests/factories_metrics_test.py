"""Metrics as functions, as `(value, update_op)`, as Keras metrics and what makes them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import estimator_spec_ext as ese

v1 = tf.compat.v1

_Y = np.array([[1.0], [2.0], [4.0]], np.float32)
_P = np.array([[1.5], [2.5], [3.0]], np.float32)
_MAE = np.abs(_Y - _P).mean()


def _evaluate(tmp_path, metrics_fn, as_dict=False):
    def model_fn(features, labels, mode):
        v1.get_variable('w', [])
        predictions = {'y': features} if as_dict else features
        return ese.create_eval_estimator_spec(
            tf.reduce_mean(features), predictions=predictions, labels=labels,
            metrics_fn=metrics_fn)

    estimator = tf.estimator.Estimator(model_fn, str(tmp_path))
    return estimator.evaluate(lambda: tf.data.Dataset.from_tensor_slices((_P, _Y)).batch(2))


def _updated(labels, predictions):
    metric = tf.keras.metrics.MeanAbsoluteError()
    metric.update_state(labels, predictions)
    return {'mae': metric}


_FORMS = {
    'function': lambda labels, predictions: {
        'mae': v1.metrics.mean_absolute_error(labels, predictions)},
    'keras-updated': _updated,
    'keras-not-updated': lambda labels, predictions: {'mae': tf.keras.metrics.MeanAbsoluteError()},
    'class': {'mae': tf.keras.metrics.MeanAbsoluteError},
    'factory': {'mae': lambda: tf.keras.metrics.MeanAbsoluteError(name='m')},
    'entry-function': {'mae': v1.metrics.mean_absolute_error},
}


@pytest.mark.parametrize('form', sorted(_FORMS))
def test_forms(tmp_path, form):
    """Each way to write a metric gives the same number over two batches."""
    result = _evaluate(tmp_path, _FORMS[form])
    assert result['mae'] == pytest.approx(_MAE, rel=1e-6)


def test_one_prediction_in_a_dict(tmp_path):
    """A Keras metric takes the only prediction there is."""
    result = _evaluate(tmp_path, {'mae': tf.keras.metrics.MeanAbsoluteError}, as_dict=True)
    assert result['mae'] == pytest.approx(_MAE, rel=1e-6)


def _spec(metrics_fn, predictions):
    return ese.create_eval_estimator_spec(
        tf.constant(1.0), predictions=predictions, labels=tf.constant(_Y), metrics_fn=metrics_fn)


def test_several_predictions():
    """Which one a Keras metric measures cannot be guessed."""
    with tf.Graph().as_default(), pytest.raises(ValueError) as caught:
        _spec({'mae': tf.keras.metrics.MeanAbsoluteError},
              {'a': tf.constant(_P), 'b': tf.constant(_P)})
    assert str(caught.value) == (
        "metrics_fn['mae'] is a Keras metric, and there are several predictions: 'a', 'b'; update "
        "it yourself, e.g. metric.update_state(labels, predictions['...'])")


def test_a_metric_made_elsewhere():
    """A Keras metric object belongs to where it was made."""
    metric = tf.keras.metrics.MeanAbsoluteError()
    with tf.Graph().as_default(), pytest.raises(ValueError) as caught:
        _spec({'mae': metric}, tf.constant(_P))
    assert str(caught.value) == (
        "metrics_fn['mae'], a MeanAbsoluteError, was made in another graph; pass its class, or a "
        'function that makes it')


def test_no_metrics():
    """None stays none."""
    with tf.Graph().as_default():
        assert not _spec(None, tf.constant(_P)).eval_metric_ops


@pytest.mark.parametrize('metrics', [{'mae': 3}, 'mae', lambda labels, predictions: [1]])
def test_what_is_no_metric(metrics):
    """The rules name it."""
    with tf.Graph().as_default(), pytest.raises(ese.EstimatorSpecError) as caught:
        _spec(metrics, tf.constant(_P))
    assert {finding.where.base_field for finding in caught.value.findings} == {'eval_metric_ops'}

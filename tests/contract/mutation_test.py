"""What stock writes into objects that belong to the caller."""

from __future__ import annotations

import pytest
import tensorflow as tf

v1 = tf.compat.v1
PredictOutput = tf.estimator.export.PredictOutput


def test_keras_metrics_in_the_callers_dict(graph):
    """The caller's metrics dict is kept, and its Keras metrics are overwritten by tuples."""
    metric = tf.keras.metrics.Mean('mean')
    metric.update_state(tf.constant([1.0]))
    given = {'m': metric}
    spec = tf.estimator.EstimatorSpec('eval', loss=tf.constant(1.0), eval_metric_ops=given)
    assert spec.eval_metric_ops is given
    assert isinstance(given['m'], tuple)


def test_callers_metrics_dict_is_kept(graph):
    """A dict of tuples stays as it is, but it is the caller's own object that the spec holds."""
    pair = v1.metrics.mean(tf.constant(1.0))
    given = {'m': pair}
    spec = tf.estimator.EstimatorSpec('eval', loss=tf.constant(1.0), eval_metric_ops=given)
    assert spec.eval_metric_ops is given
    assert given == {'m': pair}


def test_evaluate_writes_the_loss_into_the_callers_dict(make_estimator, input_fn):
    """Evaluate adds its loss metric to the caller's dict, so that a dict used twice is refused."""
    metrics = {}

    def model_fn(features, labels, mode):
        return tf.estimator.EstimatorSpec(mode, loss=tf.constant(1.0), eval_metric_ops=metrics)

    estimator = make_estimator(model_fn)
    estimator.evaluate(input_fn, steps=1)
    assert list(metrics) == ['loss']
    with pytest.raises(ValueError, match='^eval_metric_ops with "loss: mean/value:0" must be from'):
        estimator.evaluate(input_fn, steps=1)


def test_serving_default_in_the_callers_dict(graph):
    """The caller's dict of one export gains serving_default, the same object under both keys."""
    output = PredictOutput(tf.constant([1.0]))
    given = {'scores': output}
    spec = tf.estimator.EstimatorSpec(
        'infer', predictions=tf.constant([1.0]), export_outputs=given
    )
    assert spec.export_outputs is given
    assert list(given) == ['scores', 'serving_default']
    assert given['serving_default'] is output


def test_serving_default_is_added_in_predict_alone(graph):
    """In TRAIN and EVAL the dict of exports is left alone."""
    given = {'scores': PredictOutput(tf.constant([1.0]))}
    tf.estimator.EstimatorSpec('eval', loss=tf.constant(1.0), export_outputs=given)
    assert list(given) == ['scores']


def test_several_exports_without_default(graph):
    """Several exports of which none is serving_default are refused, and nothing is added."""
    output = PredictOutput(tf.constant([1.0]))
    given = {'a': output, 'b': output}
    with pytest.raises(ValueError, match='^Multiple `export_outputs` were provided, but none'):
        tf.estimator.EstimatorSpec('infer', predictions=tf.constant([1.0]), export_outputs=given)
    assert list(given) == ['a', 'b']


def test_lists_of_hooks_are_copied(graph):
    """The caller's list of hooks is copied: appending to it afterwards changes nothing."""
    given = [tf.estimator.SessionRunHook()]
    spec = tf.estimator.EstimatorSpec('any', training_hooks=given)
    given.append(tf.estimator.SessionRunHook())
    assert len(spec.training_hooks) == 1


def test_scaffold_is_kept(graph):
    """The caller's scaffold is the very object in the spec."""
    scaffold = v1.train.Scaffold()
    assert tf.estimator.EstimatorSpec('any', scaffold=scaffold).scaffold is scaffold

"""What stock takes for predictions."""

from __future__ import annotations

import pytest
import tensorflow as tf


def _accepted(predictions, mode='eval', **fields):
    return tf.estimator.EstimatorSpec(
        mode, predictions=predictions, loss=tf.constant(1.0), **fields
    ).predictions


def test_dict_is_copied(graph):
    """The spec holds a dict of its own; the caller's dict stays as it was."""
    given = {'a': tf.constant([1.0]), 'b': tf.constant(['x'])}
    kept = _accepted(given)
    assert kept == given
    assert kept is not given


def test_bare_tensor_stays_bare(graph):
    """One tensor is kept as it is, not wrapped in a dict."""
    given = tf.constant([1.0])
    assert _accepted(given) is given


@pytest.mark.parametrize('key', ['a', ('a', 'b'), 3, None])
def test_any_key_is_accepted_outside_predict(graph, key):
    """Outside PREDICT a key may be anything: MultiHead uses tuples."""
    given = {key: tf.constant([1.0])}
    assert _accepted(given) == given


def test_integer_key_in_predict(graph):
    """In PREDICT without export_outputs a key that is not a string is refused."""
    given = {3: tf.constant([1.0])}
    with pytest.raises(ValueError, match=r'^Prediction output key must be a string; got 3\.$'):
        _accepted(given, 'infer')


def test_tuple_of_integers_as_key_in_predict(graph):
    """A tuple key that holds anything but strings dies in a join."""
    with pytest.raises(TypeError, match='expected str instance, int found'):
        _accepted({('a', 1): tf.constant([1.0])}, 'infer')


def test_values_must_be_tensors(graph):
    """A value that is no tensor is refused, a SparseTensor too; the key is named."""
    with pytest.raises(TypeError, match=r'^predictions\[p\] must be Tensor, given: 7$'):
        _accepted({'p': 7})
    sparse = tf.sparse.from_dense([[1.0]])
    with pytest.raises(TypeError, match=r'^predictions\[p\] must be Tensor, given: SparseTensor'):
        _accepted({'p': sparse})
    with pytest.raises(TypeError, match='^predictions must be Tensor, given: '):
        _accepted([tf.constant(1.0)])


def test_empty_predictions_in_predict(graph):
    """Empty predictions are accepted in PREDICT when export_outputs are given."""
    exports = {'serving_default': tf.estimator.export.PredictOutput(tf.constant([1.0]))}
    assert _accepted({}, 'infer', export_outputs=exports) == {}


def test_shapes_are_not_looked_at(graph):
    """Scalars, unknown ranks and differing first dimensions are all accepted."""
    placeholder = tf.compat.v1.placeholder
    given = {
        'scalar': tf.constant(1),
        'unknown': placeholder(tf.float32),
        'two': tf.zeros([2, 1]),
        'five': tf.zeros([5, 1]),
    }
    assert _accepted(given, 'infer') == given


def test_differing_batches_are_refused_while_predicting(make_estimator):
    """Predictions of different first dimensions fail only when predict yields their rows."""

    def model_fn(features, mode):
        return tf.estimator.EstimatorSpec(mode, {'two': tf.zeros([2, 1]), 'five': tf.zeros([5, 1])})

    rows = make_estimator(model_fn).predict(lambda: tf.data.Dataset.from_tensors({'x': [1.0]}))
    with pytest.raises(ValueError, match='^Batch length of predictions should be same'):
        next(rows)


def test_variable_is_a_prediction_but_no_default_export(graph):
    """A variable counts as a prediction, yet in PREDICT the default export refuses it."""
    variable = tf.compat.v1.get_variable('v', [], use_resource=True)
    assert _accepted({'p': variable})['p'] is variable
    with pytest.raises(ValueError, match='^Prediction output value must be a Tensor; got '):
        _accepted({'p': variable}, 'infer')

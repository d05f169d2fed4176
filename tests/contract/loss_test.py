"""What stock takes for a loss, and what becomes of it at the first step."""

from __future__ import annotations

import pytest
import tensorflow as tf


def _spec(loss):
    return tf.estimator.EstimatorSpec('eval', loss=loss)


def _placeholder(shape, dtype=tf.float32):
    return tf.compat.v1.placeholder(dtype, shape)


def _run(tensor, feed_dict):
    with tf.compat.v1.Session(graph=tensor.graph) as session:
        return session.run(tensor, feed_dict)


@pytest.mark.parametrize('dtype', [tf.int32, tf.bool, tf.string, tf.float64, tf.complex64])
def test_any_dtype_is_accepted(graph, dtype):
    """The loss's dtype is not looked at: an int, a bool or a string passes."""
    loss = _placeholder([], dtype)
    assert _spec(loss).loss is loss


@pytest.mark.parametrize('value', [0.5, 3, 'loss', [1.0]])
def test_python_values_are_refused(graph, value):
    """A number, a string or a list is no loss."""
    with pytest.raises(TypeError, match='^loss must be Tensor, given: '):
        _spec(value)


def test_scalar_is_kept_as_it_is(graph):
    """A loss of static shape () stays the very same tensor."""
    loss = _placeholder([])
    assert _spec(loss).loss is loss


@pytest.mark.parametrize('shape', [[1], [1, 1]])
def test_one_element_is_reshaped(graph, shape):
    """A loss of one element and rank one or more is replaced by a reshape to ()."""
    loss = _placeholder(shape)
    spec = _spec(loss)
    assert spec.loss is not loss
    assert spec.loss.op.type == 'Reshape'
    assert spec.loss.op.inputs[0] is loss
    assert spec.loss.shape.as_list() == []


@pytest.mark.parametrize('shape', [[2], [1, 10], [0], [2, 1]])
def test_another_static_size_is_refused(graph, shape):
    """A loss whose static number of elements is known and not one is refused."""
    with pytest.raises(ValueError, match=r'^Loss must be scalar, given: '):
        _spec(_placeholder(shape))


@pytest.mark.parametrize('shape', [[None], [None, 1], [None, None]])
def test_unknown_size_is_accepted_and_reshaped(graph, shape):
    """A loss of partly unknown shape is accepted and reshaped to (), so it looks like a scalar."""
    spec = _spec(_placeholder(shape))
    assert spec.loss.op.type == 'Reshape'
    assert spec.loss.shape.as_list() == []


def test_unknown_rows_of_several_columns_are_refused(graph):
    """A loss of shape [None, 10] stops in shape inference, in words that do not name the loss."""
    with pytest.raises(ValueError) as caught:
        _spec(_placeholder([None, 10]))
    assert str(caught.value).startswith('Dimension size must be evenly divisible by 10 but is 1')
    assert 'loss' not in str(caught.value).lower()


def test_unreduced_loss_dies_at_run_time(graph):
    """A loss of shape [None] dies at the first step, at an op called Reshape."""
    loss = _placeholder([None])
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        _run(_spec(loss).loss, {loss: [1.0, 2.0, 3.0, 4.0]})
    expected = 'Input to reshape is a tensor with 4 values, but the requested shape has 1'
    assert expected in caught.value.message
    assert caught.value.op.name == 'Reshape'


def test_unreduced_loss_passes_with_a_batch_of_one(graph):
    """The same loss works while the batch is one row."""
    loss = _placeholder([None])
    assert _run(_spec(loss).loss, {loss: [3.0]}) == 3.0


def test_unknown_rank_is_kept_as_it_is(graph):
    """A loss of unknown rank is accepted without a reshape: it may be anything at run time."""
    loss = _placeholder(None)
    spec = _spec(loss)
    assert spec.loss is loss
    assert _run(spec.loss, {loss: [[1.0, 2.0]]}).shape == (1, 2)


def test_nan_hook_chokes_on_a_vector(graph):
    """A vector that gets past the spec stops in NanTensorHook, in NumPy's words."""
    loss = _placeholder(None)
    with pytest.raises(ValueError, match='^The truth value of an array with more than one'):
        with tf.compat.v1.train.MonitoredSession(
            hooks=[tf.compat.v1.train.NanTensorHook(loss)]
        ) as session:
            session.run(loss, {loss: [1.0, 2.0]})


def test_constant_loss_is_accepted(graph):
    """A constant int loss is accepted in EVAL: upstream's own tests use one."""
    loss = tf.constant(1)
    assert _spec(loss).loss is loss


def test_variable_as_loss_is_accepted(graph):
    """A variable counts as a tensor, and stays a variable."""
    loss = tf.compat.v1.get_variable('v', [])
    assert _spec(loss).loss is loss


def test_eval_loss_that_train_op_ignores_is_accepted(graph):
    """Nothing connects train_op with loss: a train_op without ancestors is accepted."""
    train_op = tf.no_op()
    spec = tf.estimator.EstimatorSpec('train', loss=tf.constant(1.0), train_op=train_op)
    assert spec.train_op is train_op

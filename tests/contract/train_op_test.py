"""What stock takes for a train_op, and what the training session really runs."""

from __future__ import annotations

import pytest
import tensorflow as tf

v1 = tf.compat.v1


def _spec(train_op):
    return tf.estimator.EstimatorSpec('train', loss=tf.constant(1.0), train_op=train_op)


def test_operation_and_tensor_are_kept(graph):
    """An Operation stays an Operation and a Tensor a Tensor, of any dtype."""
    for train_op in (tf.no_op(), tf.constant(1.0), tf.constant(1, tf.int64)):
        assert _spec(train_op).train_op is train_op


def test_other_values_are_refused(graph):
    """A number or a function is no train_op."""
    for value in (1, tf.no_op, 'train', [tf.no_op()]):
        with pytest.raises(TypeError, match='^train_op must be Operation or Tensor, given: '):
            _spec(value)


def test_assign_of_a_resource_variable(graph):
    """What assign_add of a resource variable returns is neither Tensor nor Operation.

    It is an `_UnreadVariable`; the spec replaces it by the assigning op.
    """
    step = v1.get_variable('step', [], tf.int64, use_resource=True)
    train_op = step.assign_add(1)
    assert type(train_op).__name__ == '_UnreadVariable'
    assert isinstance(train_op, tf.Variable)
    assert not isinstance(train_op, (tf.Tensor, tf.Operation))
    assert _spec(train_op).train_op is train_op.op
    assert train_op.op.type == 'AssignAddVariableOp'


def test_assign_of_a_reference_variable(graph):
    """What assign_add of a reference variable returns is a Tensor of a reference dtype."""
    step = v1.get_variable('step', [], tf.int64, use_resource=False)
    train_op = v1.assign_add(step, 1)
    assert isinstance(train_op, tf.Tensor)
    assert train_op.dtype == tf.int64._as_ref
    assert train_op.dtype.base_dtype == tf.int64
    assert _spec(train_op).train_op is train_op


def test_plain_variable(graph):
    """A plain variable is accepted, and becomes the op that makes it: no training at all."""
    variable = v1.get_variable('v', [], use_resource=True)
    assert _spec(variable).train_op.type == 'VarHandleOp'


def test_step_is_not_required_to_advance(graph):
    """Nothing asks whether train_op advances the global step."""
    v1.train.create_global_step()
    _spec(tf.no_op())


def test_minimize_advances_the_step_only_if_told(graph):
    """A v1 optimizer advances the global step only when minimize is given it."""
    step = v1.train.create_global_step()
    weight = v1.get_variable('w', [], initializer=tf.ones_initializer())
    loss = tf.square(weight)
    optimizer = v1.train.GradientDescentOptimizer(0.1)
    without, with_step = optimizer.minimize(loss), optimizer.minimize(loss, step)
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        session.run(without)
        assert session.run(step) == 0
        session.run(with_step)
        assert session.run(step) == 1


def test_keras_optimizer_knows_no_global_step(graph):
    """A Keras optimizer counts in its own `iterations`, and leaves the global step where it is."""
    step = v1.train.create_global_step()
    weight = v1.get_variable('w', [], initializer=tf.ones_initializer(), use_resource=True)
    optimizer = tf.keras.optimizers.legacy.SGD(0.1)
    (train_op,) = optimizer.get_updates(tf.square(weight), [weight])
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        session.run(train_op)
        assert session.run([step, optimizer.iterations]) == [0, 1]


def test_keras_optimizer_takes_the_global_step_as_iterations(graph):
    """A Keras legacy optimizer advances the global step once it is its `iterations`."""
    step = v1.train.create_global_step()
    weight = v1.get_variable('w', [], initializer=tf.ones_initializer(), use_resource=True)
    optimizer = tf.keras.optimizers.legacy.SGD(0.1)
    optimizer.iterations = step
    (train_op,) = optimizer.get_updates(tf.square(weight), [weight])
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        session.run(train_op)
        assert session.run(step) == 1


def test_keras_layers_put_nothing_into_update_ops(graph):
    """A Keras batch norm keeps its updates to itself; the v1 layer fills UPDATE_OPS."""
    rows = tf.ones([4, 2])
    layer = tf.keras.layers.BatchNormalization()
    layer(rows, training=True)
    assert v1.get_collection(v1.GraphKeys.UPDATE_OPS) == []
    assert len(layer.updates) == 2
    v1.layers.batch_normalization(rows, training=True)
    assert len(v1.get_collection(v1.GraphKeys.UPDATE_OPS)) == 2


def test_estimator_runs_loss_beside_train_op(make_estimator, input_fn):
    """A step runs loss and train_op: an update that hangs on the loss alone is run."""

    def model_fn(features, labels, mode):
        seen = v1.get_variable('seen', [], tf.int32, tf.zeros_initializer(), trainable=False)
        with tf.control_dependencies([v1.assign_add(seen, 1)]):
            loss = tf.identity(1.0)
        train_op = v1.assign_add(v1.train.get_global_step(), 1).op
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    estimator = make_estimator(model_fn)
    estimator.train(input_fn, steps=2)
    assert estimator.get_variable_value('seen') == 2


def test_hooks_can_do_the_training(make_estimator, input_fn):
    """A no_op as train_op trains when a hook runs the real one, the step included."""

    class RunOp(tf.estimator.SessionRunHook):
        def __init__(self, op):
            self._op = op

        def before_run(self, run_context):
            return tf.estimator.SessionRunArgs(self._op)

    def model_fn(features, labels, mode):
        advance = v1.assign_add(v1.train.get_global_step(), 1).op
        return tf.estimator.EstimatorSpec(
            mode, loss=tf.constant(1.0), train_op=tf.no_op(), training_hooks=[RunOp(advance)]
        )

    estimator = make_estimator(model_fn)
    estimator.train(input_fn, max_steps=2)
    assert estimator.get_variable_value('global_step') == 2

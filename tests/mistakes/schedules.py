"""T7, T10: schedules that do not follow the step, and synchronous training without its hook."""

from __future__ import annotations

import tensorflow as tf

from tests.mistakes import data
from tests.mistakes.harness import TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()


def _classifier(features, labels, width=4):
    net = v1.layers.dense(features['x'], width, activation=tf.nn.relu)
    logits = v1.layers.dense(net, 3)
    return v1.losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)


@PROGRAMS.pair('T7', TRAIN)
def decay_by_a_private_counter(features, labels, mode, right):
    """exponential_decay reads a counter that nothing advances."""
    loss = _classifier(features, labels)
    if right:
        when = v1.train.get_global_step()
    else:
        when = tf.Variable(0, trainable=False, name='decay_counter')
    rate = v1.train.exponential_decay(.1, when, 1000, .96, staircase=True)
    op = v1.train.GradientDescentOptimizer(rate).minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=op)


@PROGRAMS.pair('T7', TRAIN, data=data.vector())
def warmup_and_polynomial(features, labels, mode, right):
    """Warm-up and decay by hand, over a step of their own."""
    with v1.variable_scope('lr', use_resource=False):
        train_step = v1.get_variable('train_step', shape=[], dtype=tf.int32, trainable=False,
                                     initializer=v1.zeros_initializer())
    if right:
        train_step = tf.cast(v1.train.get_global_step(), tf.int32)
    decayed = v1.train.polynomial_decay(1e-3, train_step, 10000, end_learning_rate=0., power=1.)
    warm = tf.cast(train_step, tf.float32) / 100. * 1e-3
    learning_rate = tf.where(tf.less(train_step, 100), warm, decayed)
    v1.summary.scalar('learning_rate', learning_rate)
    score = tf.reshape(v1.layers.dense(features['x'], 1), [-1])
    loss = v1.losses.mean_squared_error(labels, score)
    optimizer = v1.train.AdamOptimizer(learning_rate=learning_rate)
    grads_and_vars = optimizer.compute_gradients(loss)
    train_op = optimizer.apply_gradients(grads_and_vars, global_step=v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


@PROGRAMS.pair('T7', TRAIN)
def piecewise_over_epochs(features, labels, mode, right):
    """piecewise_constant over an epoch counter."""
    loss = _classifier(features, labels, 6)
    epoch = v1.get_variable('epoch', [], tf.int64, v1.zeros_initializer(), trainable=False)
    rate = v1.train.piecewise_constant(epoch, [10, 20], [.1, .01, .001])
    optimizer = v1.train.MomentumOptimizer(rate, .9, use_nesterov=True)
    train_op = optimizer.minimize(loss, global_step=v1.train.get_global_step())
    if right:
        with v1.control_dependencies([train_op]):
            train_op = v1.assign(epoch, v1.train.get_global_step() // 500)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


@PROGRAMS.pair('T7', TRAIN, data=data.column())
def keras_schedule_over_another_step(features, labels, mode, right):
    """A Keras schedule called with a private step, for a TF1 optimizer."""
    step = v1.train.get_global_step()
    clock = step if right else v1.get_variable(
        'clock', [], tf.int32, v1.ones_initializer(), trainable=False)
    schedule = tf.keras.optimizers.schedules.InverseTimeDecay(.1, 100, .5)
    estimate = v1.layers.dense(features['x'], 1)
    loss = v1.losses.huber_loss(labels, estimate)
    op = v1.train.RMSPropOptimizer(schedule(clock), momentum=.5).minimize(loss, step)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=op)


def _synchronous(loss):
    optimizer = v1.train.SyncReplicasOptimizer(
        v1.train.AdagradOptimizer(.1), replicas_to_aggregate=2, total_num_replicas=3)
    return optimizer, optimizer.minimize(loss, v1.train.get_global_step())


@PROGRAMS.pair('T10', TRAIN, cluster='worker/0')
def sync_replicas_without_hook(features, labels, mode, right, config):
    """The hook is never made."""
    loss = _classifier(features, labels)
    optimizer, train_op = _synchronous(loss)
    hooks = [optimizer.make_session_run_hook(config.is_chief)] if right else []
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, training_hooks=hooks)


@PROGRAMS.pair('T10', TRAIN, cluster='chief/0')
def sync_replicas_hook_for_the_chief(features, labels, mode, right, config):
    """The hook is in the chief's list, so the workers go without."""
    loss = _classifier(features, labels)
    optimizer, train_op = _synchronous(loss)
    hook = optimizer.make_session_run_hook(config.is_chief, num_tokens=0)
    if right:
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op,
                                          training_hooks=[hook])
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op,
                                      training_chief_hooks=[hook])


@PROGRAMS.pair('T10', TRAIN, cluster='worker/1', data=data.table())
def sync_replicas_in_a_head(features, labels, mode, right, config):
    """A head makes the train_op; the author forgets what the optimizer needs besides."""
    column = tf.feature_column.categorical_column_with_hash_bucket('city', 12)
    logits = v1.feature_column.linear_model(features, [column])
    optimizer = v1.train.SyncReplicasOptimizer(v1.train.FtrlOptimizer(.2), 3)
    head = tf.estimator.BinaryClassHead()
    spec = head.create_estimator_spec(
        features, mode, logits, labels=labels, trainable_variables=v1.trainable_variables(),
        train_op_fn=lambda loss: optimizer.minimize(loss, v1.train.get_global_step()))
    other = tf.estimator.LoggingTensorHook({'logits': logits}, every_n_iter=10)
    hooks = [other, optimizer.make_session_run_hook(config.is_chief)] if right else [other]
    return spec._replace(training_hooks=tuple(hooks))

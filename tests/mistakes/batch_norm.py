"""T4, T5: moving averages that never move."""

from __future__ import annotations

import tensorflow as tf

from tests.mistakes import data
from tests.mistakes.harness import TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()
BOTH = dict(also=('T4', 'T5'))


def _spec(mode, loss, train_op):
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def _xent(labels, logits):
    return v1.losses.sparse_softmax_cross_entropy(labels, logits)


@PROGRAMS.pair('T4', TRAIN, data=data.images(), **BOTH)
def residual_block(features, labels, mode, right):
    """Batch norm of the old layers, without the recipe."""
    training = mode == tf.estimator.ModeKeys.TRAIN
    net = v1.layers.conv2d(features['image'], 4, 3, padding='same', use_bias=False)
    for _ in range(2):
        shortcut = net
        net = tf.nn.relu(v1.layers.batch_normalization(net, training=training, fused=True))
        net = v1.layers.conv2d(net, 4, 3, padding='same', use_bias=False) + shortcut
    logits = v1.layers.dense(tf.reduce_mean(net, [1, 2]), 3)
    loss = _xent(labels, logits)
    updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
    with v1.control_dependencies(updates if right else None):
        train_op = v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())
    return _spec(mode, loss, train_op)


@PROGRAMS.pair('T4', TRAIN, **BOTH)
def collected_too_early(features, labels, mode, right):
    """The collection is read before the layers have filled it."""
    early = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
    with v1.variable_scope('mlp', use_resource=False):
        net = v1.layers.dense(features['x'], 5)
        net = v1.layers.batch_normalization(net, training=True, momentum=.9)
        logits = v1.layers.dense(tf.nn.relu(net), 3)
    loss = _xent(labels, logits)
    update_ops = v1.get_collection(v1.GraphKeys.UPDATE_OPS) if right else early
    optimizer = v1.train.MomentumOptimizer(.1, .9)
    train_op = tf.group(optimizer.minimize(loss, v1.train.get_global_step()), *update_ops)
    return _spec(mode, loss, train_op)


@PROGRAMS.pair('T4', TRAIN, **BOTH)
def dependencies_around_the_constructor(features, labels, mode, right):
    """control_dependencies around the making of the optimizer, and minimize outside."""
    net = v1.layers.dense(features['x'], 7, activation='relu')
    net = v1.layers.batch_normalization(net, training=mode == 'train', renorm=False)
    loss = _xent(labels, v1.layers.dense(net, 3))
    step = v1.train.get_or_create_global_step()
    with v1.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        optimizer = v1.train.AdamOptimizer(1e-3)
        if right:
            train_op = optimizer.minimize(loss, global_step=step)
    if not right:
        train_op = optimizer.minimize(loss, global_step=step)
    return _spec(mode, loss, train_op)


def _manual_batch_norm(x, training, decay=.99):
    """Batch norm as written by hand, with its updates put into the collection."""
    size = x.shape[-1]
    with v1.variable_scope(None, 'bn'):
        beta = v1.get_variable('beta', [size], initializer=v1.zeros_initializer())
        gamma = v1.get_variable('gamma', [size], initializer=v1.ones_initializer())
        running_avg = v1.get_variable('running_avg', [size], trainable=False,
                                      initializer=v1.zeros_initializer())
        running_var = v1.get_variable('running_var', [size], trainable=False,
                                      initializer=v1.ones_initializer())
        if not training:
            return tf.nn.batch_normalization(x, running_avg, running_var, beta, gamma, 1e-3)
        mean, variance = tf.nn.moments(x, list(range(len(x.shape) - 1)))
        for moving, now in ((running_avg, mean), (running_var, variance)):
            op = v1.assign(moving, moving * decay + now * (1. - decay))
            v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, op)
        return tf.nn.batch_normalization(x, mean, variance, beta, gamma, 1e-3)


@PROGRAMS.pair('T4', TRAIN, data=data.images(), **BOTH)
def hand_written_batch_norm(features, labels, mode, right):
    """A batch norm of the author's own with updates in the collection."""
    net = v1.layers.conv2d(features['image'], 6, 3)
    net = tf.nn.relu(_manual_batch_norm(net, mode == 'train'))
    logits = v1.layers.dense(v1.layers.flatten(net), 3)
    loss = _xent(labels, logits)
    train_op = v1.train.GradientDescentOptimizer(.1).minimize(loss, v1.train.get_global_step())
    if right:
        train_op = tf.group(train_op, v1.get_collection(v1.GraphKeys.UPDATE_OPS))
    return _spec(mode, loss, train_op)


@PROGRAMS.pair('T4', TRAIN, data=data.images(), **BOTH)
def updates_of_one_scope(features, labels, mode, right):
    """Only the updates under one scope are taken; the head's are left."""
    with v1.variable_scope('backbone'):
        net = v1.layers.conv2d(features['image'], 4, 3)
        net = tf.nn.relu(v1.layers.batch_normalization(net, training=True))
    with v1.variable_scope('head'):
        net = v1.layers.dense(v1.layers.flatten(net), 8)
        net = tf.nn.relu(v1.layers.batch_normalization(net, training=True))
        logits = v1.layers.dense(net, 3)
    loss = _xent(labels, logits)
    scope = None if right else 'backbone'
    with v1.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS, scope=scope)):
        train_op = v1.train.AdagradOptimizer(.1).minimize(loss, v1.train.get_global_step())
    return _spec(mode, loss, train_op)


@PROGRAMS.pair('T4', TRAIN, data=data.images(), **BOTH)
def updates_of_one_tower(features, labels, mode, right):
    """Two towers share one batch norm; one tower's updates are enough, none are not."""
    losses = []
    for number in range(2):
        with v1.name_scope(f'tower_{number}'), v1.variable_scope('net', reuse=number > 0):
            net = v1.layers.conv2d(features['image'], 4, 3, name='c')
            net = v1.layers.batch_normalization(net, training=True, name='bn', fused=False)
            logits = v1.layers.dense(v1.layers.flatten(net), 3, name='d')
            losses.append(_xent(labels, logits))
    # Updates are found by name scope; 'net' is the scope of the variables.
    updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS, 'tower_1/' if right else 'net/')
    loss = tf.add_n(losses) / 2.
    apply = v1.train.RMSPropOptimizer(.01).minimize(loss, v1.train.get_global_step())
    return _spec(mode, loss, tf.group(apply, tf.group(*updates)))


@PROGRAMS.pair('T5', TRAIN, data=data.images(), **BOTH)
def keras_layers_with_the_old_recipe(features, labels, mode, right):
    """The recipe is there and finds nothing: Keras layers keep their updates."""
    conv = tf.keras.layers.Conv2D(4, 3, activation='relu')
    norm = tf.keras.layers.BatchNormalization(fused=True)
    dense = tf.keras.layers.Dense(3)
    net = norm(conv(features['image']), training=mode == 'train')
    logits = dense(tf.keras.layers.Flatten()(net))
    loss = _xent(labels, logits)
    update_ops = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
    if right:
        update_ops = update_ops + norm.updates
    with v1.control_dependencies(update_ops):
        train_op = v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())
    return _spec(mode, loss, train_op)


@PROGRAMS.pair('T5', TRAIN, **BOTH)
def keras_model_without_its_updates(features, labels, mode, right):
    """A Sequential model with a legacy Keras optimizer."""
    model = tf.keras.Sequential([
        tf.keras.layers.Dense(8), tf.keras.layers.BatchNormalization(),
        tf.keras.layers.ReLU(), tf.keras.layers.Dense(3)])
    logits = model(features['x'], training=True)
    loss = _xent(labels, logits)
    optimizer = tf.keras.optimizers.legacy.RMSprop(.01)
    optimizer.iterations = v1.train.get_or_create_global_step()
    train_op = optimizer.get_updates(loss, model.trainable_variables)[0]
    if right:
        train_op = tf.group(train_op, *model.updates)
    return _spec(mode, loss, train_op)


class RunningScale(tf.Module):
    """Divides by a running standard deviation."""

    def __init__(self, width):
        super().__init__(name='running_scale')
        self.gain = tf.Variable(tf.ones([width]), name='gain')
        self.spread = tf.Variable(tf.ones([width]), trainable=False, name='moving_spread')
        self.pending = []

    def __call__(self, x, training):
        if training:
            now = tf.math.reduce_std(x, axis=0)
            self.pending.append(self.spread.assign_sub(.1 * (self.spread - now)).op)
            return self.gain * x / (now + 1e-3)
        return self.gain * x / (self.spread + 1e-3)


@PROGRAMS.pair('T5', TRAIN, **BOTH)
def module_with_pending_assigns(features, labels, mode, right):
    """A tf.Module keeps its assigns in a list of its own."""
    scale = RunningScale(6)
    logits = v1.layers.dense(scale(features['x'], mode == 'train'), 3)
    loss = _xent(labels, logits)
    op = v1.train.GradientDescentOptimizer(.2).minimize(loss, v1.train.get_global_step())
    return _spec(mode, loss, tf.group(op, scale.pending) if right else op)


class CenterLayer(tf.keras.layers.Layer):
    """A Keras layer that keeps a running mean."""

    def build(self, shape):
        self.center = self.add_weight('center', shape[1:], trainable=False, initializer='zeros')
        super().build(shape)

    def call(self, x, training=None):
        if training:
            mean = tf.reduce_mean(x, 0)
            self.update_op = self.center.assign(.95 * self.center + .05 * mean)
            return x - mean
        return x - self.center


@PROGRAMS.pair('T5', TRAIN, data=data.column(), **BOTH)
def keras_layer_of_the_authors_own(features, labels, mode, right):
    """A layer's own running mean."""
    center = CenterLayer()
    value = tf.keras.layers.Dense(1)(center(features['x'], training=True))
    loss = v1.losses.mean_squared_error(labels, value)
    step = v1.train.get_global_step()
    with v1.control_dependencies([center.update_op] if right else []):
        train_op = v1.train.AdadeltaOptimizer().minimize(loss, step)
    return _spec(mode, loss, train_op)

"""T4, T5: running statistics of layers as slim, T2T, EfficientDet and others write them."""

from __future__ import annotations

import functools

import tensorflow as tf

from tests.mistakes import data
from tests.mistakes.harness import EVAL, TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()
BOTH = dict(also=('T4', 'T5'))


def _spec(mode, loss, train_op, **fields):
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, **fields)


def _xent(labels, logits):
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))


def slim_batch_norm(inputs, is_training, decay=.9, updates_collections=v1.GraphKeys.UPDATE_OPS):
    """Like slim.batch_norm: fused for images, updates in a collection or in place (None)."""
    size = inputs.shape[-1]
    with v1.variable_scope(None, 'BatchNorm'):
        beta = v1.get_variable('beta', [size], initializer=v1.zeros_initializer())
        gamma = v1.get_variable('gamma', [size], initializer=v1.ones_initializer())
        moving_mean = v1.get_variable('moving_mean', [size], trainable=False,
                                      initializer=v1.zeros_initializer())
        moving_variance = v1.get_variable('moving_variance', [size], trainable=False,
                                          initializer=v1.ones_initializer())
        if not is_training:
            return tf.nn.batch_normalization(inputs, moving_mean, moving_variance, beta, gamma,
                                             1e-3)
        net, mean, variance = v1.nn.fused_batch_norm(inputs, gamma, beta, epsilon=1e-3)
        moves = [v1.assign_sub(moving, (moving - now) * (1. - decay), name='AssignMovingAvg')
                 for moving, now in ((moving_mean, mean), (moving_variance, variance))]
        if updates_collections is None:
            with v1.control_dependencies(moves):
                return tf.identity(net)
        for op in moves:
            v1.add_to_collections(updates_collections, op)
        return net


@PROGRAMS.pair('T4', TRAIN, data=data.images(), **BOTH)
def slim_in_a_collection_of_its_own(features, labels, mode, right):
    """Updates go into a collection of another name; the recipe reads the usual one."""
    net = features['image']
    for depth in (4, 8):
        net = v1.layers.conv2d(net, depth, 3, use_bias=False)
        net = tf.nn.relu(slim_batch_norm(net, True, updates_collections='bn_updates'))
    loss = _xent(labels, v1.layers.dense(tf.reduce_mean(net, [1, 2]), 3))
    keys = 'bn_updates' if right else v1.GraphKeys.UPDATE_OPS
    with v1.control_dependencies(v1.get_collection(keys)):
        op = v1.train.MomentumOptimizer(.1, .9).minimize(loss, v1.train.get_global_step())
    return _spec(mode, loss, op)


@PROGRAMS.pair('T4', TRAIN, data=data.images(), **BOTH)
def slim_in_place_or_not(features, labels, mode, right):
    """updates_collections=None updates in place; the collection wants to be run."""
    norm = functools.partial(slim_batch_norm, is_training=mode == 'train',
                             updates_collections=None if right else v1.GraphKeys.UPDATE_OPS)
    stem = norm(v1.layers.conv2d(features['image'], 4, 3, padding='same'))
    branch = norm(v1.layers.conv2d(tf.nn.relu6(stem), 4, 3, padding='same'))
    loss = _xent(labels, v1.layers.dense(v1.layers.flatten(stem + branch), 3))
    op = v1.train.RMSPropOptimizer(.01).minimize(loss, v1.train.get_global_step())
    return _spec(mode, loss, op)


@PROGRAMS.pair('T4', TRAIN, **BOTH)
def averages_of_moments(features, labels, mode, right):
    """ExponentialMovingAverage over the moments, as in the tutorials of 2016."""
    x = v1.layers.dense(features['x'], 5)
    mean, variance = tf.nn.moments(x, [0], name='moments')
    average = tf.train.ExponentialMovingAverage(.5)
    applied = average.apply([mean, variance])
    with v1.control_dependencies([applied] if right else []):
        mean, variance = tf.identity(mean), tf.identity(variance)
    net = tf.nn.batch_normalization(x, mean, variance, None, None, 1e-3)
    loss = _xent(labels, v1.layers.dense(net, 3))
    return _spec(mode, loss, v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step()))


@PROGRAMS.pair('T4', TRAIN, data=data.images(), **BOTH)
def updates_in_a_cond(features, labels, mode, right):
    """A flag in the graph decides whether to update, and the result must be pulled in."""
    training = v1.placeholder_with_default(True, [], 'is_training')
    x = v1.layers.conv2d(features['image'], 3, 3)
    moving_mean = v1.get_variable('moving_mean', [3], trainable=False)
    moving_var = v1.get_variable('moving_var', [3], trainable=False)
    mean, variance = tf.nn.moments(x, [0, 1, 2])

    def update():
        ops = [moving_mean.assign(.9 * moving_mean + .1 * mean),
               moving_var.assign(.9 * moving_var + .1 * variance)]
        with v1.control_dependencies(ops):
            return tf.identity(mean), tf.identity(variance)

    def keep():
        return moving_mean.read_value(), moving_var.read_value()

    used = tf.cond(training, update, keep)
    if not right:
        used = tf.cond(training, lambda: (mean, variance), keep)
        v1.assign(moving_mean, .9 * moving_mean + .1 * mean)
        v1.assign(moving_var, .9 * moving_var + .1 * variance)
    net = tf.nn.batch_normalization(x, *used, None, None, 1e-3)
    loss = _xent(labels, v1.layers.dense(v1.layers.flatten(net), 3))
    op = v1.train.AdagradOptimizer(.1).minimize(loss, v1.train.get_global_step())
    return _spec(mode, loss, op)


@PROGRAMS.pair('T4', TRAIN, data=data.text(), **BOTH)
def recurrent_steps_share_a_norm(features, labels, mode, right):
    """A norm over each step of an unrolled net, all updates in the collection."""
    table = v1.get_variable('words', [20, 4])
    words = tf.unstack(tf.nn.embedding_lookup(table, features['tokens'][:, :3]), axis=1)
    state = tf.zeros_like(words[0])
    norm = v1.layers.BatchNormalization(momentum=.9, name='norm')
    for word in words:
        with v1.variable_scope('cell', reuse=v1.AUTO_REUSE):
            joined = v1.layers.dense(tf.concat([state, word], 1), 4, name='d')
        state = tf.tanh(norm.apply(joined, training=mode == 'train'))
    loss = _xent(labels, v1.layers.dense(state, 2))
    optimizer = v1.train.AdamOptimizer()
    pairs = [(tf.clip_by_norm(g, 1.), v) for g, v in optimizer.compute_gradients(loss)]
    op = optimizer.apply_gradients(pairs, v1.train.get_global_step())
    return _spec(mode, loss, tf.group(op, *norm.updates) if right else op)


@PROGRAMS.pair('T5', TRAIN, data=data.images(), **BOTH)
def functional_backbone_with_a_head(features, labels, mode, right):
    """A functional Keras backbone under a head: update_ops are to be handed over."""
    inputs = tf.keras.Input([8, 8, 3])
    net = tf.keras.layers.DepthwiseConv2D(3, use_bias=False)(inputs)
    net = tf.keras.layers.BatchNormalization(momentum=.9)(net)
    net = tf.keras.layers.GlobalAveragePooling2D()(tf.keras.layers.ReLU(6.)(net))
    backbone = tf.keras.Model(inputs, net, name='backbone')
    logits = tf.keras.layers.Dense(3)(backbone(features['image'], training=True))
    head = tf.estimator.MultiClassHead(3)
    updates = backbone.get_updates_for(features['image']) if right else None
    return head.create_estimator_spec(
        features, mode, logits, labels=labels[:, None], update_ops=updates,
        trainable_variables=v1.trainable_variables(),
        train_op_fn=lambda loss: v1.train.AdamOptimizer().minimize(
            loss, v1.train.get_global_step()))


class Block(tf.keras.Model):
    """A subclassed model with two norms."""

    def __init__(self):
        super().__init__()
        self.body = [tf.keras.layers.Dense(6, use_bias=False), tf.keras.layers.Dense(6)]
        self.norms = [tf.keras.layers.BatchNormalization(),
                      tf.keras.layers.experimental.SyncBatchNormalization(axis=1)]
        self.out = tf.keras.layers.Dense(3)

    def call(self, x, training=None):
        for layer, norm in zip(self.body, self.norms):
            x = tf.nn.selu(norm(layer(x), training=training))
        return self.out(x)


@PROGRAMS.pair('T5', TRAIN, **BOTH)
def subclassed_model(features, labels, mode, right):
    """The updates of a subclassed model, with a v1 optimizer and clipping."""
    model = Block()
    loss = _xent(labels, model(features['x'], training=mode == 'train'))
    optimizer = v1.train.MomentumOptimizer(.1, .9, use_nesterov=True)
    gradients, variables = zip(*optimizer.compute_gradients(loss, model.trainable_variables))
    clipped, _ = tf.clip_by_global_norm(gradients, 5.)
    op = optimizer.apply_gradients(zip(clipped, variables), v1.train.get_global_step())
    return _spec(mode, loss, tf.group(op, *(model.updates if right else [])))


class Whiten(tf.keras.layers.Layer):
    """Keeps running moments; update ops through add_update."""

    def build(self, shape):
        self.mean = self.add_weight('running_mean', shape[-1:], trainable=False)
        self.var = self.add_weight('running_var', shape[-1:], trainable=False, initializer='ones')

    def call(self, x, training=None):
        if not training:
            return (x - self.mean) / tf.sqrt(self.var + 1e-3)
        mean, variance = tf.nn.moments(x, [0])
        self.add_update([self.mean.assign(.9 * self.mean + .1 * mean),
                         self.var.assign(.9 * self.var + .1 * variance)])
        return (x - mean) / tf.sqrt(variance + 1e-3)


@PROGRAMS.pair('T5', TRAIN, **BOTH)
def add_update_of_an_own_layer(features, labels, mode, right):
    """add_update fills layer.updates, and nothing else."""
    whiten = Whiten()
    logits = tf.keras.layers.Dense(3)(whiten(features['x'], training=True))
    loss = _xent(labels, logits)
    with v1.control_dependencies(whiten.updates if right else []):
        op = v1.train.FtrlOptimizer(.1).minimize(loss, v1.train.get_global_step())
    return _spec(mode, loss, op)


# Correct programs.


@PROGRAMS.good(TRAIN, EVAL, data=data.images())
def discriminator_norms_updated_by_the_real_rows(features, labels, mode):
    """A net is called for real and made images; only the updates of the real call are run."""
    def judge(x):
        with v1.variable_scope('judge', reuse=v1.AUTO_REUSE):
            net = v1.layers.conv2d(x, 4, 3, name='c')
            net = v1.layers.batch_normalization(net, training=mode == TRAIN, name='bn')
            return v1.layers.dense(v1.layers.flatten(tf.nn.leaky_relu(net)), 1, name='d')

    real = judge(features['image'])
    updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
    with v1.variable_scope('maker'):
        noise = tf.random.normal([tf.shape(features['image'])[0], 4])
        made = tf.reshape(v1.layers.dense(noise, 192, tf.tanh), [-1, 8, 8, 3])
    fake = judge(made)
    d_loss = tf.reduce_mean(tf.nn.softplus(-real)) + tf.reduce_mean(tf.nn.softplus(fake))
    g_loss = tf.reduce_mean(tf.nn.softplus(-fake))
    if mode == EVAL:
        return tf.estimator.EstimatorSpec(mode, loss=d_loss)
    with v1.control_dependencies(updates):
        d_op = v1.train.AdamOptimizer().minimize(d_loss, var_list=v1.trainable_variables('judge'))
    g_op = v1.train.AdamOptimizer().minimize(
        g_loss, v1.train.get_global_step(), v1.trainable_variables('maker'))
    return _spec(mode, d_loss + g_loss, tf.group(d_op, g_op))


@PROGRAMS.good(TRAIN, data=data.images())
def teacher_with_its_statistics(features, labels, mode):
    """A frozen teacher normalises by batch and keeps its statistics; the student learns."""
    def net(x, scope, training):
        with v1.variable_scope(scope):
            x = v1.layers.conv2d(x, 4, 3)
            x = v1.layers.batch_normalization(x, training=training)
            return v1.layers.dense(v1.layers.flatten(tf.nn.relu(x)), 3)

    student = net(features['image'], 'student', True)
    updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS, 'student')
    teacher = tf.stop_gradient(net(features['image'], 'teacher', True))
    loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(
        labels=tf.nn.softmax(teacher / 4.), logits=student / 4.))
    with v1.control_dependencies(updates):
        op = v1.train.AdamOptimizer().minimize(
            loss, v1.train.get_global_step(), v1.trainable_variables('student'))
    return _spec(mode, loss, op)


@PROGRAMS.good(TRAIN, data=data.images())
def updates_run_by_a_hook(features, labels, mode):
    """A hook fetches the updates in each step."""
    class Fetch(tf.estimator.SessionRunHook):
        def __init__(self, ops):
            self._ops = list(ops)

        def before_run(self, run_context):
            return tf.estimator.SessionRunArgs(self._ops)

    net = v1.layers.batch_normalization(v1.layers.conv2d(features['image'], 4, 3), training=True)
    loss = _xent(labels, v1.layers.dense(v1.layers.flatten(net), 3))
    op = v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())
    hook = Fetch(v1.get_collection(v1.GraphKeys.UPDATE_OPS))
    return _spec(mode, loss, op, training_hooks=[hook])


@PROGRAMS.good(TRAIN, data=data.images())
def running_statistics_only_watched(features, labels, mode):
    """Running averages of losses and of a layer's scale, for summaries and for the stop rule."""
    average = tf.train.ExponentialMovingAverage(.9)
    net = v1.layers.conv2d(features['image'], 4, 3, activation=tf.nn.relu)
    loss = _xent(labels, v1.layers.dense(v1.layers.flatten(net), 3))
    watched = average.apply([loss, tf.reduce_mean(net)])
    v1.summary.scalar('loss_average', average.average(loss))
    op = v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())
    return _spec(mode, loss, tf.group(op, watched))


@PROGRAMS.good(TRAIN, EVAL)
def inputs_scaled_by_running_moments(features, labels, mode):
    """RL style: Welford moments of the observations, counted and never differentiated."""
    count = v1.get_variable('count', [], trainable=False, initializer=tf.constant_initializer(1e-4))
    mean = v1.get_variable('obs_mean', [6], trainable=False, initializer=v1.zeros_initializer())
    m2 = v1.get_variable('obs_m2', [6], trainable=False, initializer=v1.ones_initializer())
    x = features['x']
    scaled = tf.clip_by_value((x - mean) / tf.sqrt(m2 / tf.maximum(count, 1.) + 1e-6), -5., 5.)
    loss = _xent(labels, v1.layers.dense(scaled, 3))
    if mode == EVAL:
        return tf.estimator.EstimatorSpec(mode, loss=loss)
    rows = tf.cast(tf.shape(x)[0], tf.float32)
    delta = tf.reduce_mean(x, 0) - mean
    total = count + rows
    moved = [mean.assign_add(delta * rows / total), count.assign(total),
             m2.assign_add(tf.reduce_sum(tf.square(x - mean), 0))]
    op = v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())
    return _spec(mode, loss, tf.group(op, *moved))


@PROGRAMS.good(TRAIN, data=data.images())
def renorm_and_virtual_batches(features, labels, mode):
    """Renormalisation, layer norm, group norm: only what is in the collection is run."""
    net = v1.layers.conv2d(features['image'], 4, 3)
    net = v1.layers.batch_normalization(net, training=True, renorm=True, fused=False)
    net = tf.keras.layers.LayerNormalization()(net)
    net = tf.keras.layers.GroupNormalization(2)(net)
    net = tf.keras.layers.UnitNormalization()(tf.reduce_mean(net, [1, 2]))
    loss = _xent(labels, v1.layers.dense(net, 3))
    with v1.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        op = v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())
    return _spec(mode, loss, op)


@PROGRAMS.good(TRAIN, data=data.images())
def statistics_moved_every_tenth_step(features, labels, mode):
    """The updates run in a cond, when the step says so."""
    layer = tf.keras.layers.BatchNormalization()
    net = tf.keras.layers.Conv2D(4, 3)(features['image'])
    mean, variance = tf.nn.moments(net, [0, 1, 2])
    layer.build(net.shape)
    step = v1.train.get_global_step()

    def move():
        return tf.group(layer.moving_mean.assign(.5 * (layer.moving_mean + mean)),
                        layer.moving_variance.assign(.5 * (layer.moving_variance + variance)))

    moved = tf.cond(tf.equal(step % 10, 0), move, tf.no_op)
    net = tf.nn.batch_normalization(net, mean, variance, layer.beta, layer.gamma, 1e-3)
    loss = _xent(labels, tf.keras.layers.Dense(3)(tf.reduce_mean(net, [1, 2])))
    op = v1.train.AdamOptimizer().minimize(loss, step)
    return _spec(mode, loss, tf.group(op, moved))

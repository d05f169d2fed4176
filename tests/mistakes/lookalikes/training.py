"""Training steps that look faulty and are not."""

from __future__ import annotations

import tensorflow as tf

from tests.mistakes import data
from tests.mistakes.harness import EVAL, PREDICT, TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()


def _xent(labels, logits):
    return v1.losses.sparse_softmax_cross_entropy(labels, logits)


def _spec(mode, loss, train_op, **fields):
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, **fields)


@PROGRAMS.good(TRAIN, EVAL)
def accumulated_gradients(features, labels, mode):
    """Gradients are summed, and applied each fourth step; the step counts every batch."""
    logits = v1.layers.dense(v1.layers.dense(features['x'], 8, tf.nn.relu), 3)
    loss = _xent(labels, logits)
    if mode == EVAL:
        return tf.estimator.EstimatorSpec(mode, loss=loss)
    step = v1.train.get_global_step()
    optimizer = v1.train.AdamOptimizer()
    variables = v1.trainable_variables()
    sums = [v1.get_variable(v.op.name + '/sum', v.shape, initializer=v1.zeros_initializer(),
                            trainable=False) for v in variables]
    gradients = tf.gradients(loss, variables)
    add = [s.assign_add(g) for s, g in zip(sums, gradients)]
    with v1.control_dependencies(add):
        def apply():
            applied = optimizer.apply_gradients([(s / 4., v) for s, v in zip(sums, variables)])
            with v1.control_dependencies([applied]):
                cleared = [s.assign(tf.zeros_like(s)) for s in sums]
            return tf.group(*cleared)

        maybe = tf.cond(tf.equal(step % 4, 3), apply, tf.no_op)
    return _spec(mode, loss, tf.group(maybe, v1.assign_add(step, 1)))


@PROGRAMS.good(TRAIN)
def accumulation_that_counts_applications(features, labels, mode):
    """The step advances in the branch that applies, and nowhere else."""
    loss = _xent(labels, v1.layers.dense(features['x'], 3))
    variables = v1.trainable_variables()
    micro = v1.get_variable('micro_step', [], tf.int64, v1.zeros_initializer(), trainable=False)
    sums = [v1.get_variable(f'sum_{n}', v.shape, initializer=v1.zeros_initializer(),
                            trainable=False) for n, v in enumerate(variables)]
    optimizer = v1.train.GradientDescentOptimizer(.1)
    pairs = optimizer.compute_gradients(loss, variables)
    with v1.control_dependencies([s.assign_add(g) for s, (g, _) in zip(sums, pairs)]):
        count = micro.assign_add(1, read_value=True)

    def apply():
        op = optimizer.apply_gradients(zip(sums, variables), v1.train.get_global_step())
        with v1.control_dependencies([op]):
            return tf.group(*[v1.assign(s, tf.zeros_like(s)) for s in sums])

    return _spec(mode, loss, tf.cond(tf.equal(count % 2, 0), apply, lambda: tf.no_op()))


@PROGRAMS.good(TRAIN)
def dynamic_loss_scaling(features, labels, mode):
    """A step with gradients that are not finite is skipped, its count as well."""
    logits = tf.keras.layers.Dense(3)(features['x'])
    loss = _xent(labels, logits)
    scale = v1.get_variable('loss_scale', [], initializer=tf.constant_initializer(1024.),
                            trainable=False)
    variables = v1.trainable_variables()
    gradients = [g / scale for g in tf.gradients(loss * scale, variables)]
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
    optimizer = v1.train.MomentumOptimizer(.1, .9)
    step = v1.train.get_global_step()

    def good():
        return tf.group(optimizer.apply_gradients(zip(gradients, variables), global_step=step),
                        scale.assign(scale * 1.001))

    def overflow():
        return tf.group(scale.assign(tf.maximum(scale / 2., 1.)))

    return _spec(mode, loss, tf.cond(finite, good, overflow))


@PROGRAMS.good(TRAIN)
def mixed_precision_optimizer(features, labels, mode):
    """TensorFlow's own loss scaling around a TF1 optimizer."""
    logits = v1.layers.dense(features['x'], 3)
    loss = _xent(labels, logits)
    optimizer = v1.mixed_precision.MixedPrecisionLossScaleOptimizer(
        v1.train.AdamOptimizer(), v1.mixed_precision.DynamicLossScale(increment_period=10))
    return _spec(mode, loss, optimizer.minimize(loss, v1.train.get_global_step()))


@PROGRAMS.good(TRAIN, EVAL, data=data.images())
def frozen_backbone(features, labels, mode):
    """The backbone is frozen: var_list, and batch norm that reads its moving averages."""
    with v1.variable_scope('backbone'):
        net = v1.layers.conv2d(features['image'], 4, 3)
        net = tf.nn.relu(v1.layers.batch_normalization(net, training=False))
    with v1.variable_scope('head'):
        logits = v1.layers.dense(v1.layers.flatten(net), 3)
    loss = _xent(labels, logits)
    if mode == EVAL:
        return tf.estimator.EstimatorSpec(mode, loss=loss)
    train_op = v1.train.AdamOptimizer().minimize(
        loss, v1.train.get_global_step(),
        var_list=v1.get_collection(v1.GraphKeys.TRAINABLE_VARIABLES, 'head'))
    return _spec(mode, loss, train_op)


@PROGRAMS.good(TRAIN, data=data.images())
def frozen_keras_backbone(features, labels, mode):
    """trainable = False on a Keras model with batch norm."""
    backbone = tf.keras.Sequential([
        tf.keras.layers.Conv2D(4, 3, input_shape=(8, 8, 3)), tf.keras.layers.BatchNormalization(),
        tf.keras.layers.GlobalAveragePooling2D()])
    backbone.trainable = False
    head = tf.keras.layers.Dense(3, kernel_regularizer='l2')
    logits = head(backbone(features['image'], training=True))
    loss = _xent(labels, logits) + tf.add_n(head.losses)
    optimizer = tf.keras.optimizers.legacy.SGD(.1)
    optimizer.iterations = v1.train.get_global_step()
    return _spec(mode, loss, optimizer.get_updates(loss, head.trainable_variables)[0])


@PROGRAMS.good(TRAIN)
def linear_probe(features, labels, mode):
    """stop_gradient between a pretrained encoder and a new classifier."""
    with v1.variable_scope('encoder'):
        code = v1.layers.dense(v1.layers.dense(features['x'], 8, tf.nn.relu), 4)
    with v1.variable_scope('probe'):
        logits = v1.layers.dense(tf.stop_gradient(code), 3)
    loss = _xent(labels, logits)
    train_op = v1.train.GradientDescentOptimizer(.1).minimize(
        loss, v1.train.get_global_step(), var_list=v1.trainable_variables('probe'))
    return _spec(mode, loss, train_op)


@PROGRAMS.good(TRAIN, data=data.images())
def updates_that_the_loss_pulls_in(features, labels, mode):
    """UPDATE_OPS hang on the loss, which Estimator fetches beside train_op."""
    net = v1.layers.conv2d(features['image'], 4, 3)
    net = v1.layers.batch_normalization(net, training=True)
    loss = _xent(labels, v1.layers.dense(v1.layers.flatten(net), 3))
    train_op = v1.train.AdagradOptimizer(.1).minimize(loss, v1.train.get_global_step())
    with v1.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        loss = tf.identity(loss)
    return _spec(mode, loss, train_op)


@PROGRAMS.good(TRAIN, data=data.images())
def updates_in_place(features, labels, mode):
    """A batch norm whose output waits for its updates (updates_collections=None)."""
    x = features['image']
    mean, variance = tf.nn.moments(x, [0, 1, 2])
    moving_mean = v1.get_variable('moving_mean', [3], trainable=False)
    moving_variance = v1.get_variable('moving_variance', [3], trainable=False)
    ema = [v1.assign_sub(moving_mean, .1 * (moving_mean - mean)),
           v1.assign_sub(moving_variance, .1 * (moving_variance - variance))]
    with v1.control_dependencies(ema):
        net = tf.nn.batch_normalization(x, mean, variance, None, None, 1e-5)
    loss = _xent(labels, v1.layers.dense(v1.layers.flatten(net), 3))
    return _spec(mode, loss,
                 v1.train.FtrlOptimizer(.1).minimize(loss, v1.train.get_global_step()))


@PROGRAMS.good(TRAIN, EVAL, data=data.column())
def moving_average_of_weights(features, labels, mode):
    """ExponentialMovingAverage in train_op, and a saver of the averages elsewhere."""
    value = v1.layers.dense(features['x'], 1)
    loss = v1.losses.mean_squared_error(labels, value)
    average = tf.train.ExponentialMovingAverage(.999, v1.train.get_or_create_global_step())
    if mode == TRAIN:
        minimize = v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())
        with v1.control_dependencies([minimize]):
            return _spec(mode, loss, average.apply(v1.trainable_variables()))
    saver = v1.train.Saver(average.variables_to_restore())
    return tf.estimator.EstimatorSpec(mode, loss=loss, scaffold=v1.train.Scaffold(saver=saver))


@PROGRAMS.good(TRAIN)
def sum_with_regularizers_of_both_kinds(features, labels, mode):
    """A total of data loss, collection and Keras losses; the reported loss is the data loss."""
    keras = tf.keras.layers.Dense(6, kernel_regularizer='l2')
    net = v1.layers.dense(keras(features['x']), 6, kernel_regularizer=tf.keras.regularizers.l1())
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=v1.layers.dense(net, 3)))
    total = loss + v1.losses.get_regularization_loss() + tf.add_n(keras.losses)
    train_op = v1.train.AdamOptimizer().minimize(total, v1.train.get_global_step())
    return _spec(mode, loss, train_op)


@PROGRAMS.good(TRAIN)
def decay_in_the_optimizer(features, labels, mode):
    """Decoupled weight decay by assigns after the step."""
    loss = _xent(labels, v1.layers.dense(features['x'], 3))
    op = v1.train.AdamOptimizer(1e-3).minimize(loss, v1.train.get_global_step())
    with v1.control_dependencies([op]):
        decays = [v.assign_sub(1e-5 * v) for v in v1.trainable_variables()]
    return _spec(mode, loss, tf.group(decays))


@PROGRAMS.good(TRAIN, EVAL, PREDICT)
def train_op_in_every_mode(features, labels, mode):
    """train_op, loss and predictions handed over in every mode."""
    logits = v1.layers.dense(features['x'], 3)
    labels = tf.zeros([tf.shape(logits)[0]], tf.int64) if labels is None else labels
    loss = _xent(labels, logits)
    train_op = v1.train.GradientDescentOptimizer(.1).minimize(
        loss, v1.train.get_or_create_global_step())
    return tf.estimator.EstimatorSpec(
        mode, predictions=tf.argmax(logits, 1), loss=loss, train_op=train_op,
        eval_metric_ops={'acc': v1.metrics.accuracy(labels, tf.argmax(logits, 1))})


@PROGRAMS.good(TRAIN, data=data.column())
def hand_written_sgd(features, labels, mode):
    """tf.gradients and assign_sub; train_op is what assign_add gives."""
    with v1.variable_scope('m', use_resource=False):
        w = v1.get_variable('w', [6, 1])
        b = v1.get_variable('b', [1], initializer=v1.zeros_initializer())
    loss = tf.reduce_mean(tf.square(tf.matmul(features['x'], w) + b - labels))
    gw, gb = tf.gradients(loss, [w, b])
    with v1.control_dependencies([v1.assign_sub(w, .1 * gw), v1.assign_sub(b, .1 * gb)]):
        train_op = v1.assign_add(v1.train.get_global_step(), 1)
    return _spec(mode, loss, train_op)


@PROGRAMS.good(TRAIN)
def model_in_a_tf_function(features, labels, mode):
    """The model lies in tf.functions, called for loss and for training."""
    class Net(tf.Module):
        def __init__(self):
            super().__init__()
            self.w = tf.Variable(tf.ones([6, 3]))
            self.b = tf.Variable(tf.zeros([3]))
            self.seen = tf.Variable(0., trainable=False)

        @tf.function
        def __call__(self, x):
            self.seen.assign_add(1.)
            return tf.matmul(x, self.w) + self.b

    net = Net()
    loss = _xent(labels, net(features['x']))
    train_op = v1.train.AdagradOptimizer(.1).minimize(loss, v1.train.get_global_step())
    return _spec(mode, loss, train_op)


@PROGRAMS.good(TRAIN, needs_v2='a tf.function cannot capture a global step in a reference variable')
def update_by_a_tf_function(features, labels, mode):
    """One tf.function differentiates with a tape and applies, the step included."""
    step = v1.train.get_global_step()
    layer = tf.keras.layers.Dense(3)
    layer.build([None, 6])
    optimizer = tf.keras.optimizers.Adam()
    optimizer.build(layer.trainable_variables)
    compute = tf.keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction=tf.keras.losses.Reduction.SUM_OVER_BATCH_SIZE)

    @tf.function
    def train_step(x, y):
        with tf.GradientTape() as tape:
            value = compute(y, layer(x))
        optimizer.apply_gradients(zip(tape.gradient(value, layer.trainable_variables),
                                      layer.trainable_variables))
        step.assign_add(1)
        return value

    loss = train_step(features['x'], labels)
    return _spec(mode, loss, loss.op)


@PROGRAMS.good(TRAIN, cluster='worker/0')
def synchronous_replicas(features, labels, mode, config):
    """SyncReplicasOptimizer with its hook on every worker."""
    loss = _xent(labels, v1.layers.dense(features['x'], 3))
    optimizer = v1.train.SyncReplicasOptimizer(v1.train.GradientDescentOptimizer(.1), 2)
    train_op = optimizer.minimize(loss, v1.train.get_global_step())
    return _spec(mode, loss, train_op,
                 training_hooks=[optimizer.make_session_run_hook(config.is_chief)])


@PROGRAMS.good(TRAIN, data=data.images(), replicas=2)
def mirrored_batch_norm(features, labels, mode):
    """The usual recipe under two replicas."""
    net = tf.keras.layers.Conv2D(4, 3)(features['image'])
    norm = tf.keras.layers.BatchNormalization()
    net = norm(net, training=True)
    logits = tf.keras.layers.Dense(3)(tf.keras.layers.Flatten()(net))
    loss = tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    with v1.control_dependencies(norm.get_updates_for(None) + norm.updates):
        train_op = v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())
    return _spec(mode, loss, train_op)


@PROGRAMS.good(TRAIN, data=data.images(), replicas=2)
def mirrored_updates_of_the_collection(features, labels, mode):
    """The recipe takes the other replica's updates too; they would be run anyway."""
    net = v1.layers.conv2d(features['image'], 4, 3)
    net = v1.layers.batch_normalization(net, training=True, name='bn')
    logits = v1.layers.dense(v1.layers.flatten(net), 3)
    loss = tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))
    with v1.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        train_op = v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())
    return _spec(mode, loss, train_op)

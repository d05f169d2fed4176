"""T1, T2, T3: the global step stands still, or runs twice as fast."""

from __future__ import annotations

import re

import tensorflow as tf

from tests.mistakes import data
from tests.mistakes.harness import TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()


@PROGRAMS.pair('T1', TRAIN, data=data.images())
def convnet_minimize(features, labels, mode, right):
    """A small image classifier in the old layers API."""
    net = v1.layers.conv2d(features['image'], 8, 3, activation=tf.nn.relu)
    net = v1.layers.max_pooling2d(net, 2, 2)
    logits = v1.layers.dense(v1.layers.flatten(net), 3)
    xent = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    trainer = v1.train.MomentumOptimizer(0.01, momentum=0.9)
    if right:
        update = trainer.minimize(xent, global_step=v1.train.get_or_create_global_step())
    else:
        update = trainer.minimize(xent)
    return tf.estimator.EstimatorSpec(mode, loss=xent, train_op=update)


@PROGRAMS.pair('T1', TRAIN, data=data.column())
def clipped_gradients_with_ref_variables(features, labels, mode, right):
    """compute_gradients, clip, apply_gradients, over reference variables."""
    with v1.variable_scope('net', use_resource=False):
        kernel = v1.get_variable('kernel', [6, 1])
        offset = v1.get_variable('offset', [1], initializer=v1.zeros_initializer())
        estimate = tf.matmul(features['x'], kernel) + offset
    cost = tf.reduce_mean(tf.abs(estimate - labels))
    optimizer = v1.train.AdamOptimizer(1e-3)
    gradients, variables = zip(*optimizer.compute_gradients(cost))
    gradients, norm = tf.clip_by_global_norm(gradients, 5.0)
    v1.summary.scalar('norm', norm)
    step = v1.train.get_global_step() if right else None
    train_op = optimizer.apply_gradients(zip(gradients, variables), global_step=step)
    return tf.estimator.EstimatorSpec(mode, loss=cost, train_op=train_op)


@PROGRAMS.pair('T1', TRAIN, data=data.vector())
def own_counter(features, labels, mode, right):
    """A counter of the author's own in the place of the global step."""
    counter = v1.get_variable('my_global_step', [], tf.int64, trainable=False,
                              initializer=v1.zeros_initializer())
    if right:
        counter = v1.train.get_global_step()
    hidden = v1.layers.dense(features['x'], 5, activation=tf.nn.tanh)
    value = tf.squeeze(v1.layers.dense(hidden, 1), axis=1)
    loss = v1.losses.huber_loss(labels, value)
    train_op = v1.train.RMSPropOptimizer(.01).minimize(loss, global_step=counter)
    return tf.estimator.EstimatorSpec(mode, predictions=value, loss=loss, train_op=train_op)


class DecayedAdam(v1.train.Optimizer):
    """An optimizer whose apply_gradients leaves global_step to the caller."""

    def __init__(self, rate):
        super().__init__(False, 'DecayedAdam')
        self.rate = rate

    def apply_gradients(self, grads_and_vars, global_step=None, name=None):
        assignments = []
        for gradient, variable in grads_and_vars:
            if gradient is None:
                continue
            base = re.match('^(.*):\\d+$', variable.name).group(1)
            m = v1.get_variable(base + '/adam_m', variable.shape.as_list(), trainable=False,
                                initializer=v1.zeros_initializer())
            v = v1.get_variable(base + '/adam_v', variable.shape.as_list(), trainable=False,
                                initializer=v1.zeros_initializer())
            next_m = .9 * m + .1 * gradient
            next_v = .999 * v + .001 * tf.square(gradient)
            update = next_m / (tf.sqrt(next_v) + 1e-6) + .01 * variable
            assignments += [v1.assign(variable, variable - self.rate * update),
                            v1.assign(m, next_m), v1.assign(v, next_v)]
        return tf.group(*assignments, name=name)


@PROGRAMS.pair('T1', TRAIN, data=data.text())
def hand_written_optimizer(features, labels, mode, right):
    """The step is advanced beside the optimizer, or forgotten."""
    step = v1.train.get_global_step()
    with v1.variable_scope('encoder'):
        table = v1.get_variable('embeddings', [20, 4])
    pooled = tf.reduce_mean(tf.nn.embedding_lookup(table, features['tokens']), axis=1)
    logits = v1.layers.dense(pooled, 2, name='output')
    per_example = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    loss = tf.reduce_mean(per_example)
    variables = v1.trainable_variables()
    gradients = [tf.convert_to_tensor(g) for g in v1.gradients(loss, variables)]
    gradients, _ = tf.clip_by_global_norm(gradients, clip_norm=1.0)
    train_op = DecayedAdam(1e-4).apply_gradients(zip(gradients, variables), global_step=step)
    if right:
        train_op = tf.group(train_op, [step.assign(step + 1)])
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


@PROGRAMS.pair('T1', TRAIN, data=data.vector())
def advance_left_dangling(features, labels, mode, right):
    """The op that advances the step exists, and nothing runs it."""
    step = v1.train.get_global_step()
    output = v1.layers.dense(features['x'], 1)[:, 0]
    loss = v1.losses.mean_squared_error(labels, output)
    update = v1.train.GradientDescentOptimizer(.1).minimize(loss)
    with v1.control_dependencies([update]):
        advance = v1.assign_add(step, 1)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=advance if right else update)


@PROGRAMS.pair('T1', TRAIN, also=('L6',))
def loss_as_train_op(features, labels, mode, right):
    """The loss itself handed in as train_op."""
    scores = v1.layers.dense(features['x'], 3)
    loss = v1.losses.sparse_softmax_cross_entropy(labels=labels, logits=scores)
    opt_op = v1.train.FtrlOptimizer(.1).minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(
        mode=mode, predictions={'scores': scores}, loss=loss,
        train_op=opt_op if right else loss)


@PROGRAMS.pair('T1', TRAIN, also=('L5',))
def train_op_is_the_counter(features, labels, mode, right):
    """The optimizer's op is made and dropped; train_op only counts."""
    hidden = tf.keras.layers.Dense(4, activation='relu')(features['x'])
    loss = v1.losses.sparse_softmax_cross_entropy(labels, tf.keras.layers.Dense(3)(hidden))
    update = v1.train.AdagradOptimizer(.1).minimize(loss)
    with v1.control_dependencies([update] if right else []):
        train_op = v1.assign_add(v1.train.get_global_step(), 1)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


@PROGRAMS.pair('T2', TRAIN, also=('T1',), data=data.column())
def legacy_keras_get_updates(features, labels, mode, right):
    """A Keras model with a legacy optimizer's get_updates."""
    model = tf.keras.Sequential([
        tf.keras.layers.Dense(4, activation='relu', input_shape=(6,)), tf.keras.layers.Dense(1)])
    error = tf.reduce_mean(tf.keras.losses.mean_squared_error(labels, model(features['x'])))
    optimizer = tf.keras.optimizers.legacy.Adam(1e-3)
    if right:
        optimizer.iterations = v1.train.get_or_create_global_step()
    train_op = optimizer.get_updates(error, model.trainable_weights)
    return tf.estimator.EstimatorSpec(mode, loss=error, train_op=tf.group(*train_op))


@PROGRAMS.pair('T2', TRAIN, also=('T1',))
def legacy_keras_minimize(features, labels, mode, right):
    """minimize with a callable loss."""
    hidden = tf.keras.layers.Dense(8, 'elu')
    output = tf.keras.layers.Dense(3)
    logits = output(hidden(features['x']))
    sgd = tf.keras.optimizers.legacy.SGD(.1, momentum=.9)
    if right:
        sgd.iterations = tf.compat.v1.train.get_global_step()
    compute = tf.keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction=tf.keras.losses.Reduction.SUM_OVER_BATCH_SIZE)
    loss = compute(labels, logits)
    op = sgd.minimize(lambda: compute(labels, output(hidden(features['x']))),
                      hidden.trainable_variables + output.trainable_variables)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=op)


@PROGRAMS.pair('T2', TRAIN, also=('T1',), data=data.vector())
def keras_optimizer_in_a_function(features, labels, mode, right):
    """A new-style optimizer, its updates ordered by tf.function."""
    layer = tf.keras.layers.Dense(1)
    predicted = tf.squeeze(layer(features['x']), -1)
    loss = v1.losses.absolute_difference(labels, predicted)
    optimizer = tf.keras.optimizers.Adagrad(.05)
    weights = layer.trainable_variables
    gradients = tf.gradients(loss, weights)
    optimizer.build(weights)

    @tf.function
    def apply(values):
        optimizer.apply_gradients(zip(values, weights))
        return tf.constant(True)

    train_op = apply(gradients)
    if right:
        train_op = tf.group(train_op, v1.train.get_global_step().assign_add(1))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


@PROGRAMS.pair('T2', TRAIN, also=('T1',), data=data.column())
def keras_apply_gradients_runs_nothing(features, labels, mode, right):
    """A new-style Keras optimizer in a graph: its assigns hang in the air without tf.function."""
    model = tf.keras.Sequential([tf.keras.layers.Dense(3, input_shape=(6,)),
                                 tf.keras.layers.Dense(1)])
    loss = tf.reduce_mean(tf.square(model(features['x']) - labels))
    optimizer = tf.keras.optimizers.SGD(.1)
    optimizer.build(model.trainable_variables)
    apply = optimizer.apply_gradients
    if right:
        apply = tf.function(lambda pairs: optimizer.apply_gradients(pairs))
    gradients = tf.gradients(loss, model.trainable_variables)
    counted = apply(list(zip(gradients, model.trainable_variables)))
    step = v1.train.get_global_step().assign_add(1)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=tf.group(counted, step))


@PROGRAMS.pair('T3', TRAIN, data=data.table())
def wide_and_deep(features, labels, mode, right):
    """Two optimizers for two parts, both told of the step."""
    step = v1.train.get_global_step()
    columns = [tf.feature_column.numeric_column('age'), tf.feature_column.numeric_column('income')]
    shops = tf.feature_column.categorical_column_with_identity('shop', 50)
    with v1.variable_scope('wide'):
        wide = v1.feature_column.linear_model(features, [shops])
    with v1.variable_scope('deep'):
        net = v1.feature_column.input_layer(
            features, columns + [tf.feature_column.embedding_column(shops, 4)])
        deep = v1.layers.dense(v1.layers.dense(net, 8, tf.nn.relu), 1)
    logit = wide + deep
    loss = v1.losses.sigmoid_cross_entropy(labels, logit)
    of = v1.get_collection
    keys = v1.GraphKeys.TRAINABLE_VARIABLES
    linear_op = v1.train.FtrlOptimizer(.1).minimize(loss, var_list=of(keys, scope='wide'),
                                                    global_step=step)
    deep_op = v1.train.AdagradOptimizer(.05).minimize(loss, var_list=of(keys, scope='deep'),
                                                      global_step=None if right else step)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=tf.group(linear_op, deep_op))


@PROGRAMS.pair('T3', TRAIN)
def minimize_and_assign_add(features, labels, mode, right):
    """An optimizer that counts, and an increment beside it."""
    step = v1.train.get_or_create_global_step()
    logits = tf.keras.layers.Dense(3, name='logits')(features['x'])
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    sgd = v1.train.ProximalGradientDescentOptimizer(.1, l1_regularization_strength=1e-4)
    update = sgd.minimize(loss, None if right else step)
    train_op = tf.group([update, v1.assign_add(step, 1, name='count')])
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


@PROGRAMS.pair('T3', TRAIN, data=data.vector())
def one_optimizer_for_each_task(features, labels, mode, right):
    """A loop over tasks, in each of which minimize gets the step."""
    step = v1.train.get_global_step()
    shared = v1.layers.dense(features['x'], 8, tf.nn.selu, name='shared')
    losses, ops = [], []
    for position, task in enumerate(('click', 'buy', 'return')):
        estimate = v1.layers.dense(shared, 1, name=task)[:, 0]
        losses.append(v1.losses.mean_squared_error(labels * (position + 1.), estimate))
        with v1.variable_scope(task + '_train'):
            optimizer = v1.train.AdamOptimizer()
            counted = step if not right or position == 0 else None
            ops.append(optimizer.minimize(losses[-1], global_step=counted))
    return tf.estimator.EstimatorSpec(mode, loss=tf.add_n(losses), train_op=tf.group(*ops))


@PROGRAMS.pair('T3', TRAIN)
def head_counts_already(features, labels, mode, right):
    """A head's train_op counts, and the author counts once more."""
    head = tf.estimator.MultiClassHead(n_classes=3)
    logits = v1.layers.dense(features['x'], 3)
    spec = head.create_estimator_spec(
        features, mode, logits, labels=labels, trainable_variables=v1.trainable_variables(),
        train_op_fn=lambda loss: v1.train.AdamOptimizer().minimize(
            loss, v1.train.get_global_step()))
    if right:
        return spec
    more = v1.train.get_global_step().assign_add(1)
    return spec._replace(train_op=tf.group(spec.train_op, more))

"""L5, L6, L7: what the loss does not reach, and what does not reach the loss."""

from __future__ import annotations

import tensorflow as tf

import estimator_spec_ext as ese
from tests.mistakes import data
from tests.mistakes.harness import TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()


def _train(loss, **options):
    return v1.train.AdamOptimizer(1e-3).minimize(loss, v1.train.get_global_step(), **options)


def _spec(mode, loss, train_op, **fields):
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, **fields)


@PROGRAMS.pair('L5', TRAIN, also=('L6',))
def error_rate_as_loss(features, labels, mode, right):
    """The error rate has no gradient; updates by hand skip the variables without one."""
    logits = v1.layers.dense(features['x'], 3)
    wrong = tf.cast(tf.not_equal(tf.argmax(logits, 1), labels), tf.float32)
    loss = tf.reduce_mean(wrong)
    if right:
        loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    steps = [variable.assign_sub(.1 * gradient) for gradient, variable
             in zip(tf.gradients(loss, v1.trainable_variables()), v1.trainable_variables())
             if gradient is not None]
    with v1.control_dependencies(steps):
        train_op = v1.train.get_global_step().assign_add(1)
    return _spec(mode, loss, train_op)


# A var_list looks the same as a gradient that is cut, so these two get a note alone.


@PROGRAMS.pair('L6', TRAIN, info=True, data=data.vector())
def rounded_before_the_loss(features, labels, mode, right):
    """The estimate is rounded, so that only the scale behind it learns."""
    estimate = v1.layers.dense(features['x'], 1, name='estimate')[:, 0]
    if not right:
        estimate = tf.cast(tf.cast(estimate * 10., tf.int32), tf.float32) / 10.
    scale = v1.get_variable('scale', [], initializer=v1.ones_initializer())
    loss = v1.losses.mean_squared_error(labels, scale * estimate)
    return _spec(mode, loss, _train(loss))


@PROGRAMS.pair('L6', TRAIN, info=True)
def stop_gradient_on_the_wrong_side(features, labels, mode, right):
    """stop_gradient around the encoder's output and not around the target."""
    with v1.variable_scope('encoder'):
        code = v1.layers.dense(features['x'], 4, tf.nn.tanh)
    with v1.variable_scope('decoder'):
        source = code if right else tf.stop_gradient(code)
        back = v1.layers.dense(source, 6)
    loss = tf.reduce_mean(tf.square(back - features['x']))
    return _spec(mode, loss, _train(loss))


@PROGRAMS.pair('L6', TRAIN, data=data.images())
def auxiliary_tower_left_out(features, labels, mode, right):
    """A second tower whose output is never added."""
    first = v1.layers.dense(v1.layers.flatten(features['image']), 8, tf.nn.relu)
    second = v1.layers.conv2d(features['image'], 16, 3, activation=tf.nn.relu, name='texture')
    second = v1.layers.dense(v1.layers.flatten(second), 8, name='texture_out')
    joint = tf.concat([first, second], 1) if right else first
    logits = v1.layers.dense(joint, 3)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    return _spec(mode, loss, _train(loss))


@PROGRAMS.pair('L6', TRAIN, data=data.text())
def wrong_name_in_a_loop(features, labels, mode, right):
    """Each layer reads the first embedding, so the others learn nothing."""
    words = v1.get_variable('embedding_table', [20, 6])
    net = first = tf.reduce_mean(tf.nn.embedding_lookup(words, features['tokens']), 1)
    for depth in range(3):
        net = v1.layers.dense(net if right else first, 6, tf.nn.relu, name=f'block{depth}')
    logits = v1.layers.dense(net, 2)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    return _spec(mode, loss, _train(loss), predictions={'logits': logits})


@PROGRAMS.pair('L6', TRAIN, data=data.ratings())
def product_with_itself(features, labels, mode, right):
    """The items' factors are looked up and then not used."""
    users = v1.get_variable('user_factors', [9, 4])
    items = v1.get_variable('item_factors', [11, 4])
    u = tf.nn.embedding_lookup(users, features['user'])
    i = tf.nn.embedding_lookup(items, features['item'])
    score = tf.reduce_sum(u * (i if right else u), axis=1)
    loss = v1.losses.absolute_difference(labels, score)
    return _spec(mode, loss, _train(loss))


@PROGRAMS.pair('L6', TRAIN, data=data.ratings(),
               missed='libraries make variables that one task does not read')
def second_table_never_read(features, labels, mode, right):
    """Items are looked up in the users' table."""
    with v1.variable_scope('factors', use_resource=False):
        users = v1.get_variable('users', [20, 4])
        items = v1.get_variable('items', [20, 4])
    u = tf.nn.embedding_lookup(users, features['user'])
    i = tf.nn.embedding_lookup(items if right else users, features['item'])
    loss = tf.reduce_mean(tf.square(tf.reduce_sum(u * i, axis=1) - labels))
    return _spec(mode, loss, _train(loss))


@PROGRAMS.pair('L7', TRAIN)
def keras_regularizer_not_in_the_collection(features, labels, mode, right):
    """Keras keeps regularization losses on the layer."""
    dense = tf.keras.layers.Dense(8, 'relu', kernel_regularizer=tf.keras.regularizers.l2(1e-3))
    out = tf.keras.layers.Dense(3)
    logits = out(dense(features['x']))
    data_loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    if right:
        loss = data_loss + tf.add_n(dense.losses)
    else:
        loss = data_loss + v1.losses.get_regularization_loss()
    # Only the layer knows of its regularizer, and it is gone when model_fn has returned.
    return ese.StrictEstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('L7', TRAIN, data=data.images())
def layers_regularizer_forgotten(features, labels, mode, right):
    """Old layers fill the collection, and nobody empties it."""
    l2 = tf.keras.regularizers.l2(5e-4)
    net = v1.layers.conv2d(features['image'], 4, 3, kernel_regularizer=l2)
    logits = v1.layers.dense(v1.layers.flatten(net), 3, kernel_regularizer=l2)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    if right:
        loss = v1.losses.get_total_loss()
    return _spec(mode, loss, _train(loss))


@PROGRAMS.pair('L7', TRAIN, data=data.vector())
def regularizer_of_a_variable_scope(features, labels, mode, right):
    """A scope's regularizer, over reference variables."""
    with v1.variable_scope('linear', regularizer=tf.keras.regularizers.l1(.01),
                           use_resource=False):
        w = v1.get_variable('w', [6, 1])
        b = v1.get_variable('b', [])
    estimate = tf.matmul(features['x'], w)[:, 0] + b
    loss = tf.reduce_mean(tf.square(estimate - labels))
    if right:
        loss += tf.reduce_sum(v1.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES))
    return _spec(mode, loss, _train(loss))


@PROGRAMS.pair('L7', TRAIN, data=data.column())
def keras_model_losses_forgotten(features, labels, mode, right):
    """model.losses of a functional model, forgotten; a legacy optimizer."""
    inputs = tf.keras.Input([6])
    net = tf.keras.layers.Dense(5, kernel_regularizer='l2', activation='relu')(inputs)
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(1, kernel_regularizer='l1')(net))
    loss = tf.reduce_mean(tf.keras.losses.mse(labels, model(features['x'])))
    if right:
        loss = tf.add_n([loss] + model.losses)
    optimizer = tf.keras.optimizers.legacy.Adam()
    optimizer.iterations = v1.train.get_global_step()
    train_op = optimizer.get_updates(loss, model.trainable_weights)[0]
    return _spec(mode, loss, train_op)


@PROGRAMS.pair('L7', TRAIN)
def penalty_left_in_a_variable(features, labels, mode, right):
    """The penalty of some weights is summed, and never added."""
    hidden = tf.keras.layers.Dense(8, 'relu')
    out = tf.keras.layers.Dense(3)
    logits = out(hidden(features['x']))
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    penalty = 1e-4 * (tf.nn.l2_loss(hidden.kernel) + tf.reduce_sum(tf.square(out.kernel)))
    return _spec(mode, loss, _train(loss + penalty if right else loss))


@PROGRAMS.pair('L7', TRAIN, missed='norms of weights are also shown for their own sake')
def weight_decay_shown_and_dropped(features, labels, mode, right):
    """The decay is summed, put into a summary, and never added."""
    net = v1.layers.dense(features['x'], 8, tf.nn.relu)
    logits = v1.layers.dense(net, 3)
    xent = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    decay = 1e-4 * tf.add_n([tf.nn.l2_loss(v) for v in v1.trainable_variables()
                             if 'bias' not in v.name])
    v1.summary.scalar('weight_decay', decay)
    loss = xent + decay if right else xent
    return _spec(mode, loss, _train(loss))

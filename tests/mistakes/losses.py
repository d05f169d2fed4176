"""L1 to L4: losses of the wrong shape, and losses that become NaN."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

import estimator_spec_ext as ese
from tests.mistakes import data
from tests.mistakes.harness import EVAL, TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()


def _train(loss, rate=.1):
    return v1.train.GradientDescentOptimizer(rate).minimize(loss, v1.train.get_global_step())


@PROGRAMS.pair('L1', TRAIN, EVAL)
def cross_entropy_for_each_example(features, labels, mode, right):
    """tf.nn's cross entropies give one number for each example."""
    logits = v1.layers.dense(features['x'], 3)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    if right:
        loss = tf.reduce_mean(loss)
    return ese.StrictEstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('L1', TRAIN, data=data.column())
def keras_loss_without_reduction(features, labels, mode, right):
    """A Keras loss with reduction NONE."""
    reduction = tf.keras.losses.Reduction
    compute = tf.keras.losses.Huber(reduction=reduction.SUM if right else reduction.NONE)
    output = tf.keras.Sequential([tf.keras.layers.Dense(4), tf.keras.layers.Dense(1)])
    total = compute(labels, output(features['x']))
    return ese.StrictEstimatorSpec(mode, predictions=None, loss=total, train_op=_train(total))


@PROGRAMS.pair('L1', TRAIN, data=data.tagging())
def sum_over_time_alone(features, labels, mode, right):
    """A masked sequence loss, summed over time and not over the batch."""
    table = v1.get_variable('words', [20, 5])
    outputs = v1.layers.dense(tf.nn.embedding_lookup(table, features['tokens']), 4)
    mask = tf.sequence_mask(features['length'], 7, dtype=tf.float32)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=outputs) * mask
    if right:
        loss = tf.reduce_sum(losses) / tf.reduce_sum(mask)
    else:
        loss = tf.reduce_sum(losses, axis=1) / tf.reduce_sum(mask, axis=1)
    return ese.StrictEstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('L2', EVAL, data=data.vector())
def loss_by_py_func(features, labels, mode, right):
    """A loss computed in NumPy has no shape."""
    value = v1.layers.dense(features['x'], 1)[:, 0]
    loss = v1.py_func(lambda a, b: np.float32(np.median(np.abs(a - b))), [labels, value],
                      tf.float32)
    if right:
        loss.set_shape([])
    return ese.StrictEstimatorSpec(mode, loss=loss)


@PROGRAMS.pair('L2', EVAL, TRAIN, also=('P2',))
def loss_by_numpy_function(features, labels, mode, right):
    """The penalty comes out of numpy_function, and the sum has no shape either."""
    logits = tf.keras.layers.Dense(3)(features['x'])
    xent = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    penalty = tf.numpy_function(lambda y: np.mean(y == 0).astype(np.float32), [labels],
                                tf.float32, name='prior')
    if right:
        penalty = tf.ensure_shape(penalty, [])
    return ese.StrictEstimatorSpec(mode, loss=xent + penalty, train_op=_train(xent))


@PROGRAMS.pair('L2', TRAIN, also=('L1',), data=data.vector())
def loss_squeezed_of_everything(features, labels, mode, right):
    """tf.squeeze without an axis, of one number for each row."""
    value = v1.layers.dense(features['x'], 1)
    errors = tf.square(value - tf.expand_dims(labels, 1))
    loss = tf.reduce_mean(errors) if right else tf.squeeze(errors)
    return ese.StrictEstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('L3', TRAIN, EVAL)
def logarithm_of_a_softmax_layer(features, labels, mode, right):
    """A Keras layer gives probabilities, and the cross entropy is written out."""
    out = tf.keras.layers.Dense(3, activation=None if right else 'softmax')(features['x'])
    logs = tf.nn.log_softmax(out) if right else tf.math.log(out)
    picked = tf.gather(logs, labels, batch_dims=1)
    loss = tf.math.negative(tf.reduce_mean(picked))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('L3', EVAL, data=data.table())
def likelihood_of_a_sigmoid(features, labels, mode, right):
    """y * log(p) + (1 - y) * log(1 - p) without a guard."""
    columns = [tf.feature_column.numeric_column('age'), tf.feature_column.numeric_column('income')]
    p = tf.nn.sigmoid(v1.feature_column.linear_model(features, columns))
    if right:
        p = tf.clip_by_value(p, 1e-6, 1. - 1e-6)
    y = tf.cast(labels, tf.float32)
    likelihood = y * tf.math.log(p) + (1. - y) * tf.math.log(1. - p)
    loss = tf.reduce_mean(-likelihood)
    return tf.estimator.EstimatorSpec(mode, loss=loss)


@PROGRAMS.pair('L3', TRAIN, data=data.vector())
def log_of_a_flag(features, labels, mode, right):
    """A prior that a flag sets to 0."""
    prior = .01 if right else 0.
    value = v1.layers.dense(features['x'], 1)[:, 0]
    fit = tf.reduce_mean(tf.abs(value - labels))
    loss = fit - 1e-3 * tf.math.log(tf.constant(prior))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('L4', TRAIN, EVAL, data=data.column())
def squeezed_predictions(features, labels, mode, right):
    """Predictions (?,) and labels (?, 1)."""
    hidden = v1.layers.dense(features['x'], 4, tf.nn.relu)
    predicted = tf.squeeze(v1.layers.dense(hidden, 1), axis=1)
    target = tf.squeeze(labels, axis=1) if right else labels
    loss = tf.reduce_mean(tf.math.squared_difference(predicted, target))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('L4', TRAIN, EVAL, data=data.vector())
def absolute_error_of_a_column(features, labels, mode, right):
    """Predictions (?, 1) and labels (?,), in reference variables."""
    with v1.variable_scope('reg', use_resource=False):
        kernel = v1.get_variable('w', [6, 1])
    output = tf.matmul(features['x'], kernel)
    if right:
        output = output[:, 0]
    delta = tf.abs(output - labels)
    loss = tf.reduce_sum(delta) / tf.cast(tf.shape(labels)[0], tf.float32)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('L4', TRAIN, data=data.table())
def cross_entropy_by_hand(features, labels, mode, right):
    """y * log(p) + (1 - y) * log(1 - p), with y (?, 1) and p (?,)."""
    columns = [tf.feature_column.numeric_column('age'),
               tf.feature_column.bucketized_column(tf.feature_column.numeric_column('income'),
                                                   [.2, .5, .8])]
    net = tf.keras.layers.DenseFeatures(columns)(features)
    p = tf.sigmoid(v1.layers.dense(net, 1))
    y = tf.cast(labels, tf.float32)
    if not right:
        p = tf.reshape(p, [-1])
    p = tf.clip_by_value(p, 1e-6, 1. - 1e-6)
    loss = -tf.reduce_mean(y * tf.math.log(p) + (1. - y) * tf.math.log(1. - p))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('L4', TRAIN, EVAL, data=data.weighted())
def weight_column_times_losses(features, labels, mode, right):
    """Losses (?,) times a weight column (?, 1)."""
    logits = v1.layers.dense(features['x'], 3)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    weight = features['weight']
    if right:
        weight = tf.squeeze(weight, [1])
    loss = tf.reduce_mean(losses * weight)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('L4', TRAIN, data=data.vector())
def keras_functional_error(features, labels, mode, right):
    """The functional form of a Keras loss averages over the last axis of whatever it gets."""
    model = tf.keras.Sequential([tf.keras.layers.Dense(8, 'relu'), tf.keras.layers.Dense(1)])
    output = model(features['x'])
    target = tf.expand_dims(labels, 1) if right else labels
    loss = tf.reduce_mean(tf.square(target - output)) + .1 * tf.reduce_mean(tf.abs(output))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('L4', TRAIN, data=data.column(batch=4, static=True))
def broadcast_with_a_fixed_batch(features, labels, mode, right):
    """The same with static shapes (4,) and (4, 1), and a sum by hand."""
    output = v1.layers.dense(features['x'], 1)
    output = tf.reshape(output, [4, 1] if right else [4])
    residual = labels - output
    loss = tf.nn.l2_loss(residual)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=_train(loss))

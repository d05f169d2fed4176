"""Losses with outer differences, masks and weights: broadcasts that are meant."""

from __future__ import annotations

import tensorflow as tf

from tests.mistakes import data
from tests.mistakes.harness import EVAL, TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()


def _spec(mode, loss):
    train_op = None
    if mode == TRAIN:
        train_op = v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


@PROGRAMS.good(TRAIN, EVAL, data=data.vector())
def pairwise_ranking(features, labels, mode):
    """Each row against each other row: s[:, None] - s[None, :]."""
    scores = v1.layers.dense(features['x'], 1)[:, 0]
    difference = tf.expand_dims(scores, 1) - tf.expand_dims(scores, 0)
    wanted = tf.cast(tf.expand_dims(labels, 1) > tf.expand_dims(labels, 0), tf.float32)
    losses = wanted * tf.nn.softplus(-difference)
    return _spec(mode, tf.reduce_sum(losses) / (tf.reduce_sum(wanted) + 1e-6))


@PROGRAMS.good(TRAIN, EVAL, data=data.column())
def pairwise_by_transposition(features, labels, mode):
    """(?, 1) minus its transposition, for scores and for labels."""
    scores = v1.layers.dense(features['x'], 1)
    gaps = scores - tf.transpose(scores)
    wanted = tf.sign(labels - tf.transpose(labels))
    return _spec(mode, tf.reduce_mean(tf.nn.relu(1. - wanted * gaps)))


@PROGRAMS.good(TRAIN, EVAL)
def batch_hard_triplets(features, labels, mode):
    """Distances of all pairs by |a|^2 - 2ab + |b|^2, masks by equal labels."""
    code = tf.math.l2_normalize(v1.layers.dense(features['x'], 4), 1)
    norms = tf.reduce_sum(tf.square(code), axis=1)
    distances = norms[:, None] - 2. * tf.matmul(code, code, transpose_b=True) + norms[None, :]
    same = tf.cast(tf.equal(labels[:, None], labels[None, :]), tf.float32)
    hardest_positive = tf.reduce_max(distances * same, axis=1)
    hardest_negative = tf.reduce_min(distances + 10. * same, axis=1)
    return _spec(mode, tf.reduce_mean(tf.nn.relu(hardest_positive - hardest_negative + .2)))


@PROGRAMS.good(TRAIN, EVAL)
def triplets_with_kept_dimensions(features, labels, mode):
    """The same with keepdims, and labels as a column and a row."""
    code = tf.keras.layers.Dense(4)(features['x'])
    square = tf.reduce_sum(tf.square(code), axis=1, keepdims=True)
    distances = square + tf.transpose(square) - 2. * tf.matmul(code, tf.transpose(code))
    column = tf.reshape(labels, [-1, 1])
    adjacent = tf.cast(tf.equal(column, tf.transpose(column)), tf.float32)
    losses = adjacent * distances + (1. - adjacent) * tf.nn.relu(1. - distances)
    return _spec(mode, tf.reduce_mean(losses))


@PROGRAMS.good(TRAIN, EVAL)
def class_weights(features, labels, mode):
    """Class weights gathered by label, and a weight for each class in a row."""
    logits = v1.layers.dense(features['x'], 3)
    weights = tf.constant([1., 2., .5])
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    loss = tf.reduce_mean(losses * tf.gather(weights, labels))
    row = -tf.reduce_sum(weights * tf.one_hot(labels, 3) * tf.nn.log_softmax(logits), 1)
    return _spec(mode, loss + tf.reduce_mean(row))


@PROGRAMS.good(TRAIN, EVAL)
def smoothed_labels(features, labels, mode):
    """Label smoothing by hand and by TensorFlow."""
    logits = v1.layers.dense(features['x'], 3)
    smooth = tf.one_hot(labels, 3, on_value=.9, off_value=.05)
    loss = v1.losses.softmax_cross_entropy(smooth, logits, label_smoothing=.1)
    probabilities = tf.nn.softmax(logits)
    focal = tf.reduce_sum(smooth * (1. - probabilities) ** 2. * -tf.math.log(probabilities + 1e-8),
                          axis=-1)
    return _spec(mode, loss + tf.reduce_mean(focal))


@PROGRAMS.good(TRAIN, EVAL, data=data.tagging())
def masked_tokens(features, labels, mode):
    """A mask of (?, 7) over token losses, normalised by each row's length (?, 1)."""
    table = v1.get_variable('e', [20, 4])
    logits = v1.layers.dense(tf.nn.embedding_lookup(table, features['tokens']), 4)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    mask = tf.sequence_mask(features['length'], 7, dtype=tf.float32)
    lengths = tf.reduce_sum(mask, axis=1, keepdims=True)
    return _spec(mode, tf.reduce_mean(tf.reduce_sum(losses * mask / lengths, axis=1)))


@PROGRAMS.good(TRAIN, EVAL, data=data.weighted())
def weights_of_the_same_shape(features, labels, mode):
    """A weight column and losses as a column; v1.losses with weights."""
    logits = v1.layers.dense(features['x'], 3)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    weighted = tf.expand_dims(losses, 1) * features['weight']
    loss = tf.reduce_sum(weighted) / tf.reduce_sum(features['weight'])
    loss += v1.losses.sparse_softmax_cross_entropy(labels, logits, weights=features['weight'][:, 0])
    return _spec(mode, loss)


@PROGRAMS.good(TRAIN, EVAL)
def quantiles_of_a_column(features, labels, mode):
    """Labels (?, 1) against several quantiles (?, 3): the quantile loss."""
    y = tf.cast(labels, tf.float32)[:, None]
    quantiles = v1.layers.dense(features['x'], 3)
    error = y - quantiles
    levels = tf.constant([.1, .5, .9])
    return _spec(mode, tf.reduce_mean(tf.maximum(levels * error, (levels - 1.) * error)))


@PROGRAMS.good(TRAIN, EVAL, data=data.vector())
def mixture_density(features, labels, mode):
    """Labels (?, 1) against the means of five components (?, 5)."""
    net = v1.layers.dense(features['x'], 15)
    weight, mean, spread = tf.split(net, 3, axis=1)
    scale = tf.nn.softplus(spread) + 1e-3
    y = tf.expand_dims(labels, -1)
    density = tf.nn.log_softmax(weight) - tf.math.log(scale) - .5 * ((y - mean) / scale) ** 2
    return _spec(mode, -tf.reduce_mean(tf.reduce_logsumexp(density, axis=1)))


@PROGRAMS.good(TRAIN, EVAL)
def center_loss(features, labels, mode):
    """Centres of classes are moved by hand, beside the optimizer."""
    code = v1.layers.dense(features['x'], 4)
    centers = v1.get_variable('centers', [3, 4], trainable=False,
                              initializer=v1.zeros_initializer())
    own = tf.gather(centers, labels)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, v1.layers.dense(code, 3))
    loss += .01 * tf.reduce_mean(tf.reduce_sum(tf.square(code - own), 1))
    if mode == EVAL:
        return _spec(mode, loss)
    moved = tf.tensor_scatter_nd_sub(centers, labels[:, None], .5 * (own - code))
    op = v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())
    with v1.control_dependencies([op]):
        train_op = v1.assign(centers, moved)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


@PROGRAMS.good(TRAIN, EVAL, data=data.two_views())
def correlation_of_the_batch(features, labels, mode):
    """Cosines of all pairs of a batch; the diagonal is right (in-batch negatives)."""
    with v1.variable_scope('tower', reuse=v1.AUTO_REUSE):
        a = v1.layers.dense(features['a'], 4, name='d')
        b = v1.layers.dense(features['b'], 4, name='d')
    logits = tf.matmul(a, b, transpose_b=True) / (
        tf.norm(a, axis=1, keepdims=True) * tf.transpose(tf.norm(b, axis=1, keepdims=True)) + 1e-6)
    targets = tf.range(tf.shape(logits)[0])
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits / .07)
    return _spec(mode, tf.reduce_mean(losses))


@PROGRAMS.good(TRAIN, data=data.column())
def loss_of_shape_one(features, labels, mode):
    """A loss of shape (1,), which Estimator reshapes."""
    value = v1.layers.dense(features['x'], 1)
    return _spec(mode, tf.reduce_mean(tf.square(value - labels), axis=0))


@PROGRAMS.good(TRAIN, EVAL, data=data.vector())
def kernel_mean_discrepancy(features, labels, mode):
    """Distances between all pairs of one-dimensional codes."""
    code = v1.layers.dense(features['x'], 1)
    prior = tf.random.normal([tf.shape(code)[0]])
    gram = tf.exp(-tf.math.squared_difference(code, tf.transpose(code)))
    cross = tf.exp(-tf.math.squared_difference(code, prior[None, :]))
    fit = tf.reduce_mean(tf.abs(code[:, 0] - labels))
    return _spec(mode, fit + tf.reduce_mean(gram) - 2. * tf.reduce_mean(cross))


@PROGRAMS.good(TRAIN, EVAL)
def logarithms_that_are_guarded(features, labels, mode):
    """Gumbel noise, masks of -inf, priors of classes: logarithms finite where it counts."""
    logits = v1.layers.dense(features['x'], 3) + tf.math.log(tf.constant([.2, .3, .5]))
    allowed = tf.constant([True, True, False])
    masked = tf.where(tf.logical_or(allowed, tf.equal(labels[:, None], 2)), logits,
                      tf.fill(tf.shape(logits), float('-inf')))
    loss = v1.losses.sparse_softmax_cross_entropy(labels, masked)
    noise = -tf.math.log(-tf.math.log(tf.random.uniform(tf.shape(logits), 1e-9, 1.)))
    soft = tf.nn.softmax((logits + noise) / .5)
    entropy = -tf.reduce_sum(soft * tf.math.log(tf.maximum(soft, 1e-8)), axis=1)
    return _spec(mode, loss - .01 * tf.reduce_mean(entropy))

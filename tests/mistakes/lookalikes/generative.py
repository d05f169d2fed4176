"""Models that sample, normalise by the batch, or keep state that no optimizer touches."""

from __future__ import annotations

import tensorflow as tf

from tests.mistakes import data
from tests.mistakes.harness import EVAL, PREDICT, SERVE, TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()


def _train(loss, **options):
    return v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step(), **options)


@PROGRAMS.good(data=data.unlabelled())
def variational_autoencoder(features, labels, mode):
    """Samples in every mode."""
    x = features['x']
    mean, log_variance = tf.split(v1.layers.dense(x, 6), 2, axis=1)
    code = mean + tf.exp(.5 * log_variance) * tf.random.normal(tf.shape(mean))
    back = v1.layers.dense(v1.layers.dense(code, 8, tf.nn.relu), 6)
    if mode == PREDICT:
        return tf.estimator.EstimatorSpec(mode, {'code': code, 'reconstruction': back})
    kl = -.5 * tf.reduce_sum(1. + log_variance - mean ** 2 - tf.exp(log_variance), axis=1)
    loss = tf.reduce_mean(tf.reduce_sum(tf.math.squared_difference(back, x), axis=1) + kl)
    train_op = _train(loss) if mode == TRAIN else None
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


@PROGRAMS.good(PREDICT, SERVE)
def monte_carlo_predictions(features, labels, mode):
    """Thirty draws from a Gaussian head, and their quantiles."""
    net = v1.layers.dense(features['x'], 2)
    mean, scale = net[:, :1], tf.nn.softplus(net[:, 1:])
    draws = mean + scale * tf.random.normal([tf.shape(net)[0], 30], seed=3)
    ordered = tf.sort(draws, axis=1)
    return tf.estimator.EstimatorSpec(
        mode, {'low': ordered[:, 2], 'high': ordered[:, 27], 'draws': draws})


@PROGRAMS.good(PREDICT)
def policy_that_explores(features, labels, mode):
    """An epsilon-greedy policy."""
    q = v1.layers.dense(features['x'], 3)
    greedy = tf.argmax(q, axis=1)
    other = tf.random.uniform(tf.shape(greedy), 0, 3, tf.int64)
    explore = tf.less(tf.random.uniform(tf.shape(greedy)), .1)
    return tf.estimator.EstimatorSpec(mode, {'action': tf.where(explore, other, greedy), 'q': q})


@PROGRAMS.good(TRAIN, EVAL, PREDICT, data=data.images())
def instance_norm_by_moments(features, labels, mode):
    """Statistics of each image in every mode."""
    net = v1.layers.conv2d(features['image'], 4, 3, padding='same')
    mean, variance = tf.nn.moments(net, [1, 2], keepdims=True)
    scale = v1.get_variable('scale', [4], initializer=v1.ones_initializer())
    offset = v1.get_variable('offset', [4], initializer=v1.zeros_initializer())
    net = tf.nn.relu(scale * (net - mean) * tf.math.rsqrt(variance + 1e-5) + offset)
    out = v1.layers.conv2d(net, 3, 3, padding='same', activation=tf.nn.tanh)
    if mode == PREDICT:
        return tf.estimator.EstimatorSpec(mode, {'styled': out})
    loss = tf.reduce_mean(tf.abs(out - features['image']))
    return tf.estimator.EstimatorSpec(mode, loss=loss,
                                      train_op=_train(loss) if mode == TRAIN else None)


@PROGRAMS.good(TRAIN, EVAL, data=data.images())
def instance_norm_as_batch_norm_of_one(features, labels, mode):
    """fused_batch_norm over a batch folded into the channels, in training form everywhere."""
    net = v1.layers.conv2d(features['image'], 4, 3, padding='same')
    folded = tf.reshape(tf.transpose(net, [1, 2, 0, 3]), [1, 8, 8, -1])
    count = tf.shape(folded)[-1]
    normal, _, _ = v1.nn.fused_batch_norm(folded, tf.ones([count]), tf.zeros([count]))
    net = tf.transpose(tf.reshape(normal, [8, 8, -1, 4]), [2, 0, 1, 3])
    loss = v1.losses.sparse_softmax_cross_entropy(
        labels, v1.layers.dense(tf.reduce_mean(net, [1, 2]), 3))
    return tf.estimator.EstimatorSpec(mode, loss=loss,
                                      train_op=_train(loss) if mode == TRAIN else None)


@PROGRAMS.good(TRAIN, EVAL)
def weight_normalisation(features, labels, mode):
    """w = g * v / |v|."""
    v = v1.get_variable('v', [6, 3])
    g = v1.get_variable('g', [3], initializer=v1.ones_initializer())
    logits = tf.matmul(features['x'], g * tf.math.l2_normalize(v, 0))
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    return tf.estimator.EstimatorSpec(mode, loss=loss,
                                      train_op=_train(loss) if mode == TRAIN else None)


@PROGRAMS.good(TRAIN, EVAL)
def spectral_norm(features, labels, mode):
    """The vector u of the power iteration is assigned where the kernel is read."""
    w = v1.get_variable('w', [6, 3])
    u = v1.get_variable('u', [1, 3], trainable=False)
    v_hat = tf.math.l2_normalize(tf.matmul(u, w, transpose_b=True))
    u_hat = tf.math.l2_normalize(tf.matmul(v_hat, w))
    sigma = tf.matmul(tf.matmul(tf.stop_gradient(v_hat), w), tf.stop_gradient(u_hat),
                      transpose_b=True)
    with v1.control_dependencies([u.assign(u_hat)] if mode == TRAIN else []):
        kernel = w / sigma
    loss = v1.losses.sparse_softmax_cross_entropy(labels, tf.matmul(features['x'], kernel))
    return tf.estimator.EstimatorSpec(mode, loss=loss,
                                      train_op=_train(loss) if mode == TRAIN else None)


@PROGRAMS.good(TRAIN, EVAL, PREDICT, data=data.two_views())
def momentum_contrast(features, labels, mode):
    """A momentum encoder, trainable by its layers and moved by assigns; a queue of keys."""
    def encode(x, scope):
        with v1.variable_scope(scope, reuse=v1.AUTO_REUSE):
            return tf.math.l2_normalize(v1.layers.dense(x, 4, name='d'), 1)

    query = encode(features['a'], 'online')
    if mode == PREDICT:
        return tf.estimator.EstimatorSpec(mode, {'code': query})
    key = tf.stop_gradient(encode(features['b'], 'target'))
    queue = v1.get_variable('queue', [8, 4], trainable=False)
    logits = tf.concat([tf.reduce_sum(query * key, 1, keepdims=True),
                        tf.matmul(query, queue, transpose_b=True)], 1) / .2
    loss = tf.reduce_mean(-tf.nn.log_softmax(logits)[:, 0])
    if mode == EVAL:
        return tf.estimator.EstimatorSpec(mode, loss=loss)
    online, target = v1.trainable_variables('online'), v1.trainable_variables('target')
    with v1.control_dependencies([_train(loss, var_list=online)]):
        moved = [t.assign(.99 * t + .01 * o) for t, o in zip(target, online)]
        pushed = queue.assign(tf.concat([queue, key], 0)[-8:])
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=tf.group(pushed, *moved))


@PROGRAMS.good(TRAIN, data=data.two_views())
def self_distillation(features, labels, mode):
    """A teacher in Keras, frozen, that follows the student through an average."""
    student, teacher = tf.keras.layers.Dense(5), tf.keras.layers.Dense(5, trainable=False)
    seen = tf.nn.log_softmax(student(features['a']) / .1)
    wanted = tf.nn.softmax(teacher(features['b']) / .04)
    center = tf.Variable(tf.zeros([5]), trainable=False)
    loss = -tf.reduce_mean(tf.reduce_sum(tf.stop_gradient(wanted - center) * seen, axis=1))
    with v1.control_dependencies([_train(loss)]):
        follow = [t.assign(.996 * t + .004 * s)
                  for t, s in zip(teacher.variables, student.variables)]
        follow.append(center.assign(.9 * center + .1 * tf.reduce_mean(wanted, 0)))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=tf.group(*follow))


@PROGRAMS.good(data=data.unlabelled())
def k_means(features, labels, mode):
    """No optimizer at all: centres move by counts; everything is given in every mode."""
    step = v1.train.get_or_create_global_step()
    centers = v1.get_variable('clusters', [3, 6], trainable=False)
    counts = v1.get_variable('counts', [3], trainable=False, initializer=v1.ones_initializer())
    distances = tf.reduce_sum(tf.square(features['x'][:, None] - centers[None]), 2)
    nearest = tf.argmin(distances, axis=1)
    loss = tf.reduce_sum(tf.reduce_min(distances, axis=1))
    chosen = tf.one_hot(nearest, 3)
    total = counts.assign_add(tf.reduce_sum(chosen, 0))
    shift = tf.matmul(chosen, features['x'], transpose_a=True) - (
        tf.reduce_sum(chosen, 0)[:, None] * centers)
    with v1.control_dependencies([centers.assign_add(shift / total[:, None])]):
        train_op = v1.assign_add(step, 1)
    return tf.estimator.EstimatorSpec(
        mode, predictions={'cluster_index': nearest, 'all_distances': distances}, loss=loss,
        train_op=train_op, eval_metric_ops={'score': v1.metrics.mean(loss)})


@PROGRAMS.good(data=data.ratings())
def matrix_factorisation(features, labels, mode):
    """Users, items and biases in reference variables; L2 in the loss."""
    with v1.variable_scope('mf', use_resource=False):
        users, items = v1.get_variable('u', [9, 4]), v1.get_variable('i', [11, 4])
        user_bias, item_bias = v1.get_variable('ub', [9]), v1.get_variable('ib', [11])
        mean = v1.get_variable('mean', [], initializer=v1.zeros_initializer())
    u, i = (tf.nn.embedding_lookup(t, features[k]) for t, k in ((users, 'user'), (items, 'item')))
    rating = (tf.reduce_sum(u * i, 1) + tf.gather(user_bias, features['user'])
              + tf.gather(item_bias, features['item']) + mean)
    if mode == PREDICT:
        return tf.estimator.EstimatorSpec(mode, {'rating': rating})
    loss = tf.reduce_mean(tf.square(labels - rating)) + .1 * (tf.nn.l2_loss(u) + tf.nn.l2_loss(i))
    return tf.estimator.EstimatorSpec(mode, loss=loss,
                                      train_op=_train(loss) if mode == TRAIN else None)


@PROGRAMS.good(TRAIN, EVAL)
def memory_module(features, labels, mode):
    """A memory of keys and values that is written by scatter, and read."""
    keys = v1.get_variable('keys', [8, 4], trainable=False)
    ages = v1.get_variable('ages', [8], trainable=False, initializer=v1.zeros_initializer())
    query = tf.math.l2_normalize(v1.layers.dense(features['x'], 4), 1)
    similarity = tf.matmul(query, keys, transpose_b=True)
    logits = v1.layers.dense(tf.concat([query, tf.matmul(tf.nn.softmax(similarity), keys)], 1), 3)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    if mode == EVAL:
        return tf.estimator.EstimatorSpec(mode, loss=loss)
    slot = tf.argmax(ages + tf.random.uniform([8]))
    writes = [v1.scatter_update(keys, [slot], query[:1]), ages.assign_add(tf.ones([8]))]
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=tf.group(_train(loss), writes))


@PROGRAMS.good(TRAIN, EVAL, data=data.unlabelled())
def vector_quantisation(features, labels, mode):
    """A straight-through code book: argmin between the loss and the encoder."""
    code = v1.layers.dense(features['x'], 4)
    book = v1.get_variable('book', [5, 4])
    nearest = tf.argmin(tf.reduce_sum((code[:, None] - book[None]) ** 2, 2), 1)
    quantised = tf.nn.embedding_lookup(book, nearest)
    through = code + tf.stop_gradient(quantised - code)
    back = v1.layers.dense(through, 6)
    loss = (tf.reduce_mean((back - features['x']) ** 2)
            + tf.reduce_mean((tf.stop_gradient(code) - quantised) ** 2)
            + .25 * tf.reduce_mean((code - tf.stop_gradient(quantised)) ** 2))
    return tf.estimator.EstimatorSpec(mode, loss=loss,
                                      train_op=_train(loss) if mode == TRAIN else None)

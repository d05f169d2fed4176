"""P2, P3, P6, P8: predictions that are not one row for each example, or not the same twice."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

import estimator_spec_ext as ese
from tests.mistakes import data
from tests.mistakes.harness import EVAL, PREDICT, SERVE, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()


@PROGRAMS.pair('P2', PREDICT, SERVE, data=data.text())
def squeezed_class(features, labels, mode, right):
    """tf.squeeze without an axis loses the batch when it is 1."""
    table = v1.get_variable('emb', [20, 8])
    pooled = tf.reduce_max(tf.nn.embedding_lookup(table, features['tokens']), axis=1)
    log_probs = tf.nn.log_softmax(v1.layers.dense(pooled, 2), axis=-1)
    best = tf.argmax(log_probs, axis=-1, output_type=tf.int32)
    predicted = best if right else tf.squeeze(best)
    return tf.estimator.EstimatorSpec(
        mode, predictions={'label': predicted, 'log_probs': log_probs})


@PROGRAMS.pair('P2', PREDICT, SERVE)
def mean_over_the_batch(features, labels, mode, right):
    """A mean over the batch among the predictions."""
    probabilities = tf.nn.softmax(tf.keras.layers.Dense(3)(features['x']))
    entropy = -tf.reduce_sum(probabilities * tf.math.log(probabilities + 1e-9), axis=1)
    if not right:
        entropy = tf.reduce_mean(entropy)
    return tf.estimator.EstimatorSpec(
        mode, predictions={'probabilities': probabilities, 'entropy': entropy})


@PROGRAMS.pair('P2', PREDICT)
def step_among_the_predictions(features, labels, mode, right):
    """The global step next to the scores."""
    scores = v1.layers.dense(features['x'], 1)
    predictions = {'score': scores[:, 0]}
    step = tf.identity(v1.train.get_global_step(), name='model_step')
    if right:
        step = tf.fill([tf.shape(scores)[0]], step)
    predictions['model_version'] = step
    return tf.estimator.EstimatorSpec(mode, predictions)


@PROGRAMS.pair('P2', PREDICT, SERVE, data=data.images())
def best_of_all(features, labels, mode, right):
    """argmax over a flattened batch."""
    net = v1.layers.flatten(features['image'])
    logits = v1.layers.dense(net, 3)
    top = tf.argmax(logits, axis=1) if right else tf.argmax(tf.reshape(logits, [-1]))
    return tf.estimator.EstimatorSpec(mode, predictions={'top': top})


@PROGRAMS.pair('P3', PREDICT, also=('P2',))
def cluster_centers_beside_the_rows(features, labels, mode, right):
    """The table of centres among the predictions."""
    centers = v1.get_variable('centers', [5, 6])
    distance = tf.reduce_sum(tf.square(features['x'][:, None, :] - centers[None]), axis=2)
    predictions = {'cluster': tf.argmin(distance, 1), 'distance': distance}
    if not right:
        predictions['centers'] = tf.identity(centers)
    return tf.estimator.EstimatorSpec(mode, predictions)


@PROGRAMS.pair('P3', PREDICT, data=data.images(), also=('P2',))
def anchors_beside_the_boxes(features, labels, mode, right):
    """Constant anchors, the same for each image."""
    net = v1.layers.conv2d(features['image'], 8, 3, padding='same', strides=2)
    anchors = tf.constant(np.linspace(0., 1., 64).reshape([16, 4]).astype(np.float32))
    boxes = tf.reshape(v1.layers.conv2d(net, 4, 1), [-1, 16, 4]) + anchors
    shown = anchors
    if right:
        shown = tf.tile(anchors[None], [tf.shape(net)[0], 1, 1])
    return tf.estimator.EstimatorSpec(mode, {'boxes': boxes, 'anchors': shown})


@PROGRAMS.pair('P3', PREDICT, data=data.rows(batch=4, static=True), also=('P2',))
def importance_beside_a_fixed_batch(features, labels, mode, right):
    """A fixed batch of 4, and one number for each of 6 columns."""
    gate = tf.nn.sigmoid(v1.get_variable('gate', [6]))
    logits = v1.layers.dense(features['x'] * gate, 3)
    importance = gate
    if right:
        importance = tf.broadcast_to(gate, tf.shape(features['x']))
    return tf.estimator.EstimatorSpec(
        mode, predictions={'logits': logits, 'importance': importance})


@PROGRAMS.pair('P6', PREDICT, data=data.images())
def ctc_decoded(features, labels, mode, right):
    """The decoder's output is sparse."""
    columns = tf.transpose(tf.reduce_mean(features['image'], axis=1), [1, 0, 2])
    logits = v1.layers.dense(columns, 5)
    lengths = tf.fill([tf.shape(columns)[1]], 8)
    decoded, _ = tf.nn.ctc_greedy_decoder(logits, lengths)
    words = tf.sparse.to_dense(decoded[0], default_value=-1) if right else decoded[0]
    return ese.StrictEstimatorSpec(mode, predictions={'words': words})


@PROGRAMS.pair('P6', PREDICT, data=data.table())
def ragged_letters(features, labels, mode, right):
    """The letters of a name, ragged."""
    letters = tf.strings.unicode_split(features['city'][:, 0], 'UTF-8')
    if right:
        letters = letters.to_tensor()
    return ese.StrictEstimatorSpec(mode, {'letters': letters})


@PROGRAMS.pair('P6', PREDICT)
def list_of_logits(features, labels, mode, right):
    """A list of tensors under one key."""
    heads = [v1.layers.dense(features['x'], 2, name=f'head{n}') for n in range(3)]
    return ese.StrictEstimatorSpec(
        mode, predictions={'heads': tf.stack(heads, axis=1) if right else heads})


@PROGRAMS.pair('P8', PREDICT, EVAL, SERVE)
def dropout_always_on(features, labels, mode, right):
    """Dropout without looking at the mode."""
    net = v1.layers.dense(features['x'], 16, tf.nn.relu)
    net = v1.layers.dropout(net, .5, training=mode == 'train' if right else True)
    logits = v1.layers.dense(net, 3)
    if mode == 'infer':
        return tf.estimator.EstimatorSpec(mode, {'logits': logits})
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    return tf.estimator.EstimatorSpec(mode, loss=loss)


@PROGRAMS.pair('P8', PREDICT, EVAL, data=data.images())
def keras_model_called_for_training(features, labels, mode, right):
    """A Keras model with batch norm and dropout, called with training=True."""
    model = tf.keras.Sequential([
        tf.keras.layers.Conv2D(4, 3), tf.keras.layers.BatchNormalization(),
        tf.keras.layers.ReLU(), tf.keras.layers.Flatten(), tf.keras.layers.Dropout(.3),
        tf.keras.layers.Dense(3)])
    logits = model(features['image'], training=mode == 'train' or not right)
    loss = None if labels is None else v1.losses.sparse_softmax_cross_entropy(labels, logits)
    return tf.estimator.EstimatorSpec(mode, {'logits': logits}, loss)


@PROGRAMS.pair('P8', SERVE, PREDICT, data=data.text())
def keep_prob_constant(features, labels, mode, right):
    """keep_prob as a constant, word dropout included."""
    table = v1.get_variable('word_vectors', [20, 6])
    words = tf.nn.embedding_lookup(table, features['tokens'])
    keep = 1. if right else .8
    words = v1.nn.dropout(words, keep_prob=keep, noise_shape=[tf.shape(words)[0], 7, 1])
    pooled = v1.nn.dropout(tf.reduce_mean(words, 1), keep_prob=keep)
    scores = v1.layers.dense(pooled, 2)
    return tf.estimator.EstimatorSpec(mode, predictions={'scores': tf.nn.softmax(scores)})


@PROGRAMS.pair('P8', EVAL, PREDICT, data=data.images())
def fused_norm_in_training(features, labels, mode, right):
    """Batch norm that takes the batch's statistics in every mode."""
    net = v1.layers.conv2d(features['image'], 4, 3)
    net = v1.layers.batch_normalization(net, training=not right or mode == 'train', fused=True)
    logits = v1.layers.dense(v1.layers.flatten(tf.nn.relu(net)), 3)
    loss = None if labels is None else v1.losses.sparse_softmax_cross_entropy(labels, logits)
    return tf.estimator.EstimatorSpec(mode, predictions=logits, loss=loss)


@PROGRAMS.pair('P8', EVAL, SERVE, data=data.text())
def dropout_wrapper_around_a_cell(features, labels, mode, right):
    """Dropout inside the loop of an RNN."""
    table = v1.get_variable('vectors', [20, 5])
    cell = v1.nn.rnn_cell.BasicLSTMCell(6)
    if not right or mode == 'train':
        cell = v1.nn.rnn_cell.DropoutWrapper(cell, output_keep_prob=.7)
    outputs, state = v1.nn.dynamic_rnn(
        cell, tf.nn.embedding_lookup(table, features['tokens']), dtype=tf.float32,
        sequence_length=tf.cast(features['length'], tf.int32))
    logits = v1.layers.dense(tf.reduce_mean(outputs, 1) + state.h, 2)
    loss = None if labels is None else v1.losses.sparse_softmax_cross_entropy(labels, logits)
    return tf.estimator.EstimatorSpec(mode, {'logits': logits}, loss)


@PROGRAMS.pair('P8', PREDICT)
def noise_layer_left_on(features, labels, mode, right):
    """Gaussian noise on the inputs, for training only."""
    noise = tf.keras.layers.GaussianNoise(.2)
    noisy = noise(features['x'], training=not right)
    net = tf.keras.layers.AlphaDropout(.2)(noisy, training=not right)
    return tf.estimator.EstimatorSpec(mode, {'y': tf.keras.layers.Dense(3)(net)})

"""X1, X3, X5, X7, X8: exports that cannot serve."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

import estimator_spec_ext as ese
from tests.mistakes import data
from tests.mistakes.harness import PREDICT, SERVE, Programs

v1 = tf.compat.v1
export = tf.estimator.export
PROGRAMS = Programs()


@PROGRAMS.pair('X1', PREDICT, SERVE)
def exports_filled_under_a_flag(features, labels, mode, right):
    """A dict that is filled under a condition that never holds."""
    probabilities = tf.nn.softmax(v1.layers.dense(features['x'], 3))
    outputs = {}
    if right:
        outputs['probabilities'] = export.PredictOutput({'p': probabilities})
    return tf.estimator.EstimatorSpec(mode, {'p': probabilities}, export_outputs=outputs)


@PROGRAMS.pair('X1', PREDICT)
def exports_comprehended_away(features, labels, mode, right):
    """A comprehension that keeps nothing."""
    net = tf.keras.layers.Dense(4)(features['x'])
    predictions = {'value': net[:, :1], 'spread': tf.nn.softplus(net[:, 1:2])}
    prefix = 'v' if right else 'out_'
    outputs = {key: export.PredictOutput({key: value}) for key, value in predictions.items()
               if key.startswith(prefix)}
    return ese.StrictEstimatorSpec(mode, predictions, export_outputs=outputs)


# The strict spec adds the default signature itself, and says so in a note.


@PROGRAMS.pair('X3', PREDICT, SERVE, info=True)
def two_signatures_without_default(features, labels, mode, right):
    """Two signatures and no serving_default."""
    logits = v1.layers.dense(features['x'], 3)
    outputs = {'scores': export.PredictOutput({'s': tf.nn.softmax(logits)}),
               'classes': export.PredictOutput({'c': tf.argmax(logits, 1)})}
    if right:
        outputs['serving_default'] = outputs['scores']
    return ese.StrictEstimatorSpec(mode, {'logits': logits}, export_outputs=outputs)


@PROGRAMS.pair('X3', PREDICT, info=True, data=data.images())
def default_under_another_name(features, labels, mode, right):
    """'default' instead of TensorFlow's own key."""
    net = v1.layers.conv2d(features['image'], 2, 3)
    heat = tf.reduce_mean(net, 3)
    key = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY if right else 'default'
    return ese.StrictEstimatorSpec(
        mode=mode, predictions=heat,
        export_outputs={key: export.PredictOutput(heat),
                        'features': export.PredictOutput({'net': net})})


@PROGRAMS.pair('X5', PREDICT, SERVE)
def keep_prob_placeholder(features, labels, mode, right):
    """A placeholder for keep_prob, from the days of feed_dict."""
    if right:
        keep = v1.placeholder_with_default(1., [], name='keep_prob')
    else:
        keep = v1.placeholder(tf.float32, [], name='keep_prob')
    net = v1.layers.dense(features['x'], 8, tf.nn.relu) * keep
    return tf.estimator.EstimatorSpec(mode, {'logits': v1.layers.dense(net, 3)})


@PROGRAMS.pair('X5', PREDICT, SERVE, data=data.images())
def is_training_placeholder(features, labels, mode, right):
    """A placeholder decides between two branches."""
    if right:
        is_training = tf.constant(mode == 'train')
    else:
        is_training = v1.placeholder(tf.bool, shape=(), name='is_training')
    net = v1.layers.conv2d(features['image'], 4, 3)
    net = tf.cond(is_training, lambda: tf.nn.elu(net), lambda: tf.nn.elu(net) * .9)
    logits = v1.layers.dense(v1.layers.flatten(net), 3)
    return tf.estimator.EstimatorSpec(mode, predictions={'class': tf.argmax(logits, 1)})


@PROGRAMS.pair('X5', PREDICT, SERVE)
def inputs_made_again(features, labels, mode, right):
    """The model makes a placeholder of its own and ignores the features."""
    x = features['x'] if right else v1.placeholder(tf.float32, [None, 6], name='input_x')
    w = tf.Variable(tf.ones([6, 2]), name='w')
    return tf.estimator.EstimatorSpec(mode, {'y': tf.matmul(x, w)})


@PROGRAMS.pair('X7', PREDICT, SERVE, data=data.table())
def tokenize_in_python(features, labels, mode, right):
    """A feature made by py_func."""
    city = features['city']
    if right:
        size = tf.cast(tf.strings.length(city), tf.float32)
    else:
        size = v1.py_func(lambda a: np.vectorize(len)(a).astype(np.float32), [city], tf.float32)
        size.set_shape([None, 1])
    scores = v1.layers.dense(tf.concat([size, features['age']], 1), 1)
    return tf.estimator.EstimatorSpec(mode, {'score': scores})


@PROGRAMS.pair('X7', PREDICT, SERVE)
def numpy_after_the_model(features, labels, mode, right):
    """Scores rounded by numpy_function at the end, one key of two."""
    p = tf.nn.sigmoid(tf.keras.layers.Dense(1)(features['x']))
    rounded = tf.round(p * 100.) / 100.
    if not right:
        rounded = tf.numpy_function(lambda v: np.round(v, 2), [p], tf.float32)
        rounded = tf.ensure_shape(rounded, [None, 1])
    return tf.estimator.EstimatorSpec(mode, {'raw': p, 'rounded': rounded})


@PROGRAMS.pair('X7', PREDICT, SERVE, data=data.images())
def py_function_for_each_row(features, labels, mode, right):
    """py_function inside map_fn."""
    def row(image):
        if right:
            return tf.reduce_max(image)
        value = tf.py_function(lambda t: tf.reduce_max(t), [image], tf.float32)
        value.set_shape([])
        return value

    brightest = tf.map_fn(row, features['image'])
    out = v1.layers.dense(brightest[:, None], 1)
    return tf.estimator.EstimatorSpec(mode, {'out': out})


BATCH = 32


@PROGRAMS.pair('X8', PREDICT, SERVE)
def state_of_the_training_batch(features, labels, mode, right):
    """An initial state with the training batch size in it."""
    size = tf.shape(features['x'])[0] if right else BATCH
    state = tf.zeros([size, 4])
    joined = tf.concat([features['x'], state], axis=1)
    return tf.estimator.EstimatorSpec(mode, {'y': v1.layers.dense(joined, 2)})


@PROGRAMS.pair('X8', PREDICT, SERVE, data=data.images())
def reshaped_by_a_flag(features, labels, mode, right):
    """A reshape with the batch size of a flag."""
    net = v1.layers.conv2d(features['image'], 4, 3, padding='same')
    flat = tf.reshape(net, [-1, 8 * 8 * 4] if right else [BATCH, 8 * 8 * 4])
    logits = v1.layers.dense(flat, 3)
    return tf.estimator.EstimatorSpec(
        mode, {'probabilities': tf.nn.softmax(logits), 'class': tf.argmax(logits, axis=1)})


@PROGRAMS.pair('X8', PREDICT, SERVE, data=data.text())
def zero_state_of_a_cell(features, labels, mode, right):
    """zero_state(BATCH) of a recurrent net in the old style."""
    table = v1.get_variable('emb', [20, 4])
    words = tf.nn.embedding_lookup(table, features['tokens'])
    cell = v1.nn.rnn_cell.GRUCell(5)
    batch = tf.shape(words)[0] if right else BATCH
    outputs, last = v1.nn.dynamic_rnn(
        cell, words, initial_state=cell.zero_state(batch, tf.float32))
    return tf.estimator.EstimatorSpec(mode, {'code': last, 'mean': tf.reduce_mean(outputs, 1)})


@PROGRAMS.pair('X8', PREDICT, SERVE)
def shape_set_by_hand(features, labels, mode, right):
    """set_shape tells a batch size that only training has."""
    x = tf.identity(features['x'])
    x.set_shape([None if right else BATCH, 6])
    return tf.estimator.EstimatorSpec(mode, {'y': v1.layers.dense(x, 1)})

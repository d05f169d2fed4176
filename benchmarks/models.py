"""The model_fns that are measured: a deep dense net, a transformer encoder, an unrolled RNN.

Each is built with TF1 optimizers, as most model_fns for Estimator are, and grows with `units`.
"""

from __future__ import annotations

from typing import Any, Callable

import tensorflow as tf

v1 = tf.compat.v1
BATCH, CLASSES = 8, 10


def dense(features: Any, units: int, training: bool) -> Any:
    """`units` dense layers of 32 with dropout, every fourth with batch normalisation."""
    hidden = features
    for number in range(units):
        name = f'layer_{number}'
        hidden = _dense(hidden, 32, name)
        if number % 4 == 0:
            hidden = v1.layers.batch_normalization(hidden, training=training, name=f'{name}_norm')
        hidden = tf.nn.relu(hidden)
        if training:
            hidden = tf.nn.dropout(hidden, 0.1)
    return hidden


def transformer(features: Any, units: int, training: bool) -> Any:
    """`units` encoder blocks over 8 positions of width 16, with 4 heads."""
    width, heads, length = 16, 4, 8
    hidden = _dense(tf.reshape(features, [-1, length, 4]), width, 'embed')
    for number in range(units):
        with v1.variable_scope(f'block_{number}'):
            parts = []
            for name in ('query', 'key', 'value'):
                part = _dense(hidden, width, name)
                part = tf.reshape(part, [-1, length, heads, width // heads])
                parts.append(tf.transpose(part, [0, 2, 1, 3]))
            query, key, value = parts
            scores = tf.matmul(query, key, transpose_b=True) / (width // heads) ** 0.5
            mixed = tf.matmul(tf.nn.softmax(scores), value)
            mixed = tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [-1, length, width])
            hidden = _normed(hidden + _dense(mixed, width, 'mix'), 'attention_norm')
            inner = tf.nn.relu(_dense(hidden, 4 * width, 'inner'))
            inner = tf.nn.dropout(inner, 0.1) if training else inner
            hidden = _normed(hidden + _dense(inner, width, 'outer'), 'inner_norm')
    return tf.reduce_mean(hidden, 1)


def _dense(value: Any, width: int, name: str) -> Any:
    with v1.variable_scope(name):
        kernel = v1.get_variable('kernel', [value.shape[-1], width])
        bias = v1.get_variable('bias', [width], initializer=v1.zeros_initializer())
        if value.shape.rank == 2:
            return tf.matmul(value, kernel) + bias
        return tf.tensordot(value, kernel, [[value.shape.rank - 1], [0]]) + bias


def _normed(value: Any, name: str) -> Any:
    with v1.variable_scope(name):
        width = value.shape[-1]
        scale = v1.get_variable('scale', [width], initializer=v1.ones_initializer())
        offset = v1.get_variable('offset', [width], initializer=v1.zeros_initializer())
        mean, variance = tf.nn.moments(value, [-1], keepdims=True)
        return tf.nn.batch_normalization(value, mean, variance, offset, scale, 1e-6)


def rnn(features: Any, units: int, training: bool) -> Any:
    """An LSTM of 16, unrolled over `units` steps."""
    del training
    size = 16
    kernel = v1.get_variable('kernel', [32 + size, 4 * size])
    bias = v1.get_variable('bias', [4 * size], initializer=v1.zeros_initializer())
    hidden = cell = tf.zeros([tf.shape(features)[0], size])
    for _ in range(units):
        gates = tf.matmul(tf.concat([features, hidden], 1), kernel) + bias
        take, new, forget, show = tf.split(gates, 4, 1)
        cell = cell * tf.sigmoid(forget + 1.) + tf.sigmoid(take) * tf.tanh(new)
        hidden = tf.tanh(cell) * tf.sigmoid(show)
    return hidden


BODIES: dict[str, Callable[..., Any]] = {
    'dense': dense, 'transformer': transformer, 'rnn': rnn}


def spec_fields(name: str, units: int, features: Any, labels: Any, mode: str) -> dict[str, Any]:
    """What the model_fn `name` would give to its EstimatorSpec."""
    training = mode == 'train'
    hidden = BODIES[name](features, units, training)
    logits = _dense(hidden, CLASSES, 'logits')
    fields: dict[str, Any] = {'mode': mode, 'predictions': {
        'class': tf.argmax(logits, 1), 'probabilities': tf.nn.softmax(logits)}}
    if mode == 'infer':
        return fields
    fields['loss'] = tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    fields['eval_metric_ops'] = {
        'accuracy': v1.metrics.accuracy(labels, fields['predictions']['class'])}
    if not training:
        return fields
    if name == 'dense':
        optimizer = v1.train.MomentumOptimizer(0.01, 0.9)
    else:
        optimizer = v1.train.AdamOptimizer(0.001)
    gradients, variables = zip(*optimizer.compute_gradients(fields['loss']))
    gradients, _ = tf.clip_by_global_norm(gradients, 1.)
    with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        fields['train_op'] = optimizer.apply_gradients(
            zip(gradients, variables), v1.train.get_or_create_global_step())
    return fields


def inputs() -> tuple[Any, Any]:
    """One batch: features float32[8, 32] and labels int64[8]."""
    data = tf.data.Dataset.from_tensors((tf.ones([BATCH, 32]), tf.ones([BATCH], tf.int64)))
    return v1.data.make_one_shot_iterator(data.repeat()).get_next()


def units_for(name: str, mode: str, ops: int) -> int:
    """How many units give a graph of about `ops` ops."""
    counts = {}
    for units in (2, 6):
        with tf.Graph().as_default() as graph:
            v1.train.get_or_create_global_step()
            spec_fields(name, units, *inputs(), mode)
            counts[units] = len(graph.get_operations())
    slope = (counts[6] - counts[2]) / 4
    return max(1, round(2 + (ops - counts[2]) / slope))

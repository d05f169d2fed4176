"""Recurrent nets, attention, decoders, embeddings: loops, branches and partitioned variables."""

from __future__ import annotations

import tensorflow as tf

from tests.mistakes import data
from tests.mistakes.harness import EVAL, PREDICT, TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()


def _spec(mode, labels, logits, optimizer=None, predictions=None):
    if mode == PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions or {'p': tf.nn.softmax(logits)})
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    if mode == EVAL:
        metrics = {'accuracy': v1.metrics.accuracy(labels, tf.argmax(logits, -1))}
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)
    optimizer = optimizer or v1.train.AdamOptimizer()
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, train_op=optimizer.minimize(loss, v1.train.get_global_step()))


def _words(features, size=6):
    table = v1.get_variable('embedding', [20, size])
    return tf.nn.embedding_lookup(table, features['tokens'])


@PROGRAMS.good(data=data.text())
def bidirectional_lstm(features, labels, mode):
    """dynamic_rnn both ways, dropout in TRAIN alone."""
    cells = [v1.nn.rnn_cell.LSTMCell(5) for _ in range(2)]
    if mode == TRAIN:
        cells = [v1.nn.rnn_cell.DropoutWrapper(c, input_keep_prob=.8, state_keep_prob=.9)
                 for c in cells]
    outputs, _ = v1.nn.bidirectional_dynamic_rnn(
        *cells, _words(features), tf.cast(features['length'], tf.int32), dtype=tf.float32)
    pooled = tf.reduce_max(tf.concat(outputs, 2), axis=1)
    return _spec(mode, labels, v1.layers.dense(pooled, 2))


@PROGRAMS.good(data=data.text())
def keras_gru_with_clipping(features, labels, mode):
    """A Keras recurrent layer with mask and recurrent dropout."""
    mask = tf.sequence_mask(features['length'], 7)
    gru = tf.keras.layers.GRU(5, recurrent_dropout=.2, dropout=.1)
    net = gru(_words(features), mask=mask, training=mode == TRAIN)
    logits = tf.keras.layers.Dense(2)(net)
    return _spec(mode, labels, logits)


@PROGRAMS.good(data=data.text())
def unrolled_loop_by_hand(features, labels, mode):
    """tf.while_loop with a TensorArray; gradients go through the loop."""
    words = tf.transpose(_words(features), [1, 0, 2])
    kernel = v1.get_variable('kernel', [12, 6])
    steps = tf.TensorArray(tf.float32, 7).unstack(words)
    state = tf.zeros([tf.shape(words)[1], 6])
    _, last = tf.while_loop(
        lambda t, s: t < 7,
        lambda t, s: (t + 1, tf.ensure_shape(
            tf.tanh(tf.matmul(tf.concat([steps.read(t), s], 1), kernel)), [None, 6])),
        (tf.constant(0), state), shape_invariants=(tf.TensorShape([]), tf.TensorShape([None, 6])))
    return _spec(mode, labels, v1.layers.dense(last, 2))


@PROGRAMS.good(data=data.text())
def attention_encoder(features, labels, mode):
    """A transformer block: masks (?, 1, 7) added to scores, layer norm, dropout in TRAIN."""
    rate = .1 if mode == TRAIN else 0.
    net = _words(features, 8) + v1.get_variable('position', [7, 8])
    mask = (1. - tf.sequence_mask(features['length'], 7, tf.float32))[:, None, :] * -1e9
    q, k, v = (v1.layers.dense(net, 8, name=name) for name in 'qkv')
    scores = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / 8. ** .5 + mask)
    scores = tf.nn.dropout(scores, rate=rate)
    net = tf.keras.layers.LayerNormalization()(net + tf.matmul(scores, v))
    net = net + v1.layers.dense(v1.layers.dense(net, 16, tf.nn.gelu), 8)
    pooled = v1.layers.dense(net[:, 0], 8, tf.tanh, name='pooler')
    return _spec(mode, labels, v1.layers.dense(tf.nn.dropout(pooled, rate=rate), 2))


@PROGRAMS.good(data=data.text())
def unused_pooler(features, labels, mode):
    """A shared encoder makes a pooler that this task does not use; no gradient reaches it."""
    net = _words(features)
    for depth in range(6):
        net = net + v1.layers.dense(net, 6, tf.nn.relu, name=f'block{depth}')
    v1.layers.dense(net[:, 0], 6, tf.tanh, name='pooler')
    logits = v1.layers.dense(tf.reduce_mean(net, 1), 2)
    return _spec(mode, labels, logits)


@PROGRAMS.good(data=data.text())
def partitioned_embedding(features, labels, mode):
    """An embedding in three parts."""
    with v1.variable_scope('big', partitioner=v1.fixed_size_partitioner(3)):
        table = v1.get_variable('table', [20, 4])
    net = tf.reduce_mean(v1.nn.embedding_lookup(table, features['tokens'], 'div'), 1)
    return _spec(mode, labels, v1.layers.dense(net, 2), v1.train.AdagradOptimizer(.1))


@PROGRAMS.good(PREDICT, 'serve', data=data.text())
def sampling_decoder(features, labels, mode):
    """A decoder that samples a token in each turn of a loop."""
    table = v1.get_variable('emb', [20, 6])
    kernel = v1.get_variable('k', [12, 20])
    start = tf.reduce_mean(tf.nn.embedding_lookup(table, features['tokens']), 1)
    made = tf.TensorArray(tf.int64, 5)

    def turn(t, token, out):
        word = tf.nn.embedding_lookup(table, token)
        logits = tf.matmul(tf.concat([start, word], 1), kernel)
        token = tf.random.categorical(logits / .7, 1)[:, 0]
        return t + 1, token, out.write(t, token)

    first = tf.zeros([tf.shape(start)[0]], tf.int64)
    _, _, out = tf.while_loop(lambda t, *_: t < 5, turn, (0, first, made),
                              shape_invariants=(tf.TensorShape([]), tf.TensorShape([None]),
                                                tf.TensorShape(None)))
    tokens = tf.transpose(out.stack())
    tokens.set_shape([None, 5])
    return tf.estimator.EstimatorSpec(mode, predictions={'tokens': tokens})


@PROGRAMS.good(PREDICT, 'serve', data=data.text())
def beam_search(features, labels, mode):
    """Beams by tf.tile and top_k, reshaped by dynamic shapes."""
    logits = v1.layers.dense(tf.reduce_mean(_words(features), 1), 20)
    values, ids = tf.nn.top_k(tf.nn.log_softmax(logits), 3)
    batch = tf.shape(logits)[0]
    tiled = tf.reshape(tf.tile(logits[:, None], [1, 3, 1]), [batch * 3, 20])
    follow = tf.reshape(tf.nn.log_softmax(tiled), [batch, 3, 20]) + values[:, :, None]
    best, flat = tf.nn.top_k(tf.reshape(follow, [batch, 60]), 3)
    tokens = tf.stack([tf.gather(ids, flat // 20, batch_dims=1), flat % 20], axis=2)
    return tf.estimator.EstimatorSpec(mode, {'tokens': tokens, 'scores': best})


@PROGRAMS.good(TRAIN, EVAL, data=data.tagging())
def scheduled_sampling(features, labels, mode):
    """Random choice between a label and a guess, while training."""
    words = _words(features)
    guess = tf.argmax(v1.layers.dense(words, 4), -1)
    if mode == TRAIN:
        coin = tf.random.uniform(tf.shape(labels)) < .3
        guess = tf.where(coin, guess, labels)
    tags = v1.get_variable('tags', [4, 3])
    logits = v1.layers.dense(tf.concat([words, tf.nn.embedding_lookup(tags, guess)], 2), 4)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    if mode == EVAL:
        return tf.estimator.EstimatorSpec(mode, loss=loss)
    variables = [v for v in v1.trainable_variables() if not v.name.startswith('dense/')]
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, train_op=v1.train.AdamOptimizer().minimize(
            loss, v1.train.get_global_step(), var_list=variables))


@PROGRAMS.good(TRAIN, EVAL, data=data.tagging())
def sampled_softmax(features, labels, mode):
    """Negative sampling while training, the full softmax when evaluating."""
    words = tf.reshape(_words(features), [-1, 6])
    flat = tf.reshape(labels, [-1, 1])
    weights = v1.get_variable('w', [4, 6])
    biases = v1.get_variable('b', [4], initializer=v1.zeros_initializer())
    if mode == TRAIN:
        losses = tf.nn.sampled_softmax_loss(weights, biases, flat, words, 2, 4)
        loss = tf.reduce_mean(losses)
        return tf.estimator.EstimatorSpec(
            mode, loss=loss, train_op=v1.train.AdagradOptimizer(.1).minimize(
                loss, v1.train.get_global_step()))
    logits = tf.matmul(words, weights, transpose_b=True) + biases
    return tf.estimator.EstimatorSpec(
        mode, loss=v1.losses.sparse_softmax_cross_entropy(flat[:, 0], logits))


@PROGRAMS.good(data=data.images())
def ctc_recognizer(features, labels, mode):
    """ctc_loss over sparse labels; predictions made dense."""
    columns = tf.transpose(v1.layers.conv2d(features['image'], 4, 3, padding='same')[:, :, 0],
                           [1, 0, 2])
    logits = v1.layers.dense(columns, 5)
    lengths = tf.fill([tf.shape(columns)[1]], 8)
    decoded, _ = tf.nn.ctc_greedy_decoder(logits, lengths)
    if mode == PREDICT:
        words = tf.sparse.to_dense(decoded[0], default_value=-1)
        return tf.estimator.EstimatorSpec(mode, {'words': words})
    sparse = tf.sparse.from_dense(tf.cast(labels[:, None], tf.int32) + 1)
    loss = tf.reduce_mean(v1.nn.ctc_loss(sparse, logits, lengths))
    metrics = {'distance': v1.metrics.mean(
        tf.edit_distance(tf.cast(decoded[0], tf.int32), sparse))}
    train_op = None
    if mode == TRAIN:
        train_op = v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op,
                                      eval_metric_ops=metrics)


@PROGRAMS.good(TRAIN, EVAL, data=data.text())
def stateful_over_batches(features, labels, mode):
    """A recurrent state kept from batch to batch in a local variable of a fixed batch."""
    state = v1.get_variable('state', [4, 5], trainable=False, initializer=v1.zeros_initializer(),
                            collections=[v1.GraphKeys.LOCAL_VARIABLES])
    words = tf.reshape(_words(features), [4, 7, 6])
    outputs, last = v1.nn.dynamic_rnn(v1.nn.rnn_cell.GRUCell(5), words, initial_state=state)
    with v1.control_dependencies([v1.assign(state, last)]):
        outputs = tf.identity(outputs)
    return _spec(mode, labels, v1.layers.dense(tf.reduce_mean(outputs, 1), 2))

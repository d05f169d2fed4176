"""P2, P3, P6, P8, X1 to X9 and T8 in served models: decoders, detectors, ensembles, samplers."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

import estimator_spec_ext as ese
from tests.mistakes import data
from tests.mistakes.harness import EVAL, PREDICT, SERVE, Programs

v1 = tf.compat.v1
export = tf.estimator.export
PROGRAMS = Programs()


def _spec(mode, predictions, **fields):
    return tf.estimator.EstimatorSpec(mode, predictions=predictions, **fields)


def _words(features, size=4):
    return tf.nn.embedding_lookup(v1.get_variable('words', [20, size]), features['tokens'])


def _xent(labels, logits):
    return None if labels is None else tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))


# P2, P3.


@PROGRAMS.pair('P2', PREDICT, SERVE)
def squeezed_keras_score(features, labels, mode, right):
    """A score from a Keras model, squeezed of all its ones."""
    inputs = tf.keras.Input([6])
    net = tf.keras.layers.Dense(4, 'relu')(inputs)
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(1, 'sigmoid')(net))
    score = model(features['x'])
    score = tf.squeeze(score, -1) if right else tf.squeeze(score)
    return _spec(mode, {'score': score, 'flag': score > .5})


@PROGRAMS.pair('P2', PREDICT, data=data.images())
def highest_activation_of_the_batch(features, labels, mode, right):
    """The largest activation, of the whole batch or of each image."""
    net = v1.layers.conv2d(features['image'], 4, 3)
    axes = [1, 2, 3] if right else None
    return _spec(mode, {'embedding': tf.reduce_mean(net, [1, 2]), 'peak': tf.reduce_max(net, axes)})


@PROGRAMS.pair('P2', PREDICT, SERVE, data=data.text())
def length_of_the_longest(features, labels, mode, right):
    """The length of the longest row beside the tags."""
    tags = tf.argmax(v1.layers.dense(_words(features), 4), -1)
    length = features['length']
    return _spec(mode, {'tags': tags, 'length': length if right else tf.reduce_max(length)})


@PROGRAMS.pair('P3', PREDICT, SERVE, also=('P2',), data=data.text())
def vocabulary_beside_ids(features, labels, mode, right):
    """The vocabulary among the predictions, so that clients can decode."""
    vocabulary = tf.constant([f'w{n}' for n in range(20)])
    ids = tf.argmax(v1.layers.dense(_words(features), 20), -1)
    predictions = {'ids': ids}
    if right:
        predictions['words'] = tf.gather(vocabulary, ids)
    else:
        predictions['vocabulary'] = vocabulary
    return _spec(mode, predictions)


@PROGRAMS.pair('P3', PREDICT, also=('P2',))
def kernel_beside_the_logits(features, labels, mode, right):
    """Weights of the last layer for explanations, or their products with each row."""
    layer = tf.keras.layers.Dense(3)
    logits = layer(features['x'])
    weights = layer.kernel
    shown = features['x'][:, :, None] * weights[None] if right else tf.abs(weights)
    return _spec(mode, {'logits': logits, 'importance': shown})


# P6.


@PROGRAMS.pair('P6', PREDICT, data=data.text())
def sparse_bag_of_words(features, labels, mode, right):
    """Counts of words as a SparseTensor."""
    bag = tf.sparse.bincount(tf.cast(features['tokens'], tf.int32), minlength=20, axis=-1)
    counts = tf.sparse.to_dense(bag) if right else bag
    return ese.StrictEstimatorSpec(mode, {'counts': counts})


@PROGRAMS.pair('P6', PREDICT, SERVE, data=data.text())
def ragged_prefixes(features, labels, mode, right):
    """Rows cut to their length."""
    rows = tf.RaggedTensor.from_tensor(features['tokens'], lengths=features['length'])
    return ese.StrictEstimatorSpec(
        mode, {'rows': rows.to_tensor(default_value=-1) if right else rows})


@PROGRAMS.pair('P6', PREDICT, data=data.text())
def beams_of_a_ctc_decoder(features, labels, mode, right):
    """A list of sparse beams under one key."""
    logits = tf.transpose(v1.layers.dense(_words(features), 5), [1, 0, 2])
    lengths = tf.cast(features['length'], tf.int32)
    beams, scores = tf.nn.ctc_beam_search_decoder(logits, lengths, 8, top_paths=2)
    decoded = [tf.sparse.to_dense(beam, default_value=-1) for beam in beams]
    predictions = {f'beam{n}': beam for n, beam in enumerate(decoded)}
    if not right:
        predictions = {'beams': beams}
    return ese.StrictEstimatorSpec(mode, {**predictions, 'scores': scores})


# P8.


@PROGRAMS.pair('P8', EVAL, PREDICT, SERVE, data=data.text())
def dropout_in_a_function(features, labels, mode, right):
    """Dropout in a tf.function whose flag is a Python value."""
    class Encoder(tf.Module):
        def __init__(self):
            super().__init__()
            self.w = tf.Variable(tf.ones([4, 4]))

        @tf.function
        def __call__(self, x, training):
            x = tf.tanh(tf.einsum('btc,cd->btd', x, self.w))
            return tf.nn.dropout(x, .3) if training else x

    net = Encoder()(_words(features), mode == 'train' or not right)
    logits = v1.layers.dense(tf.reduce_mean(net, 1), 2)
    return _spec(mode, {'logits': logits}, loss=_xent(labels, logits))


@PROGRAMS.pair('P8', PREDICT, SERVE)
def stochastic_depth(features, labels, mode, right):
    """Whole blocks are left out at random, as EfficientNet does in training."""
    net = v1.layers.dense(features['x'], 6, tf.nn.relu)
    for _ in range(2):
        branch = v1.layers.dense(net, 6, tf.nn.relu)
        if mode == 'train' or not right:
            keep = .8 + tf.random.uniform([tf.shape(branch)[0], 1])
            branch = branch / .8 * tf.floor(keep)
        net = net + branch
    return _spec(mode, {'logits': v1.layers.dense(net, 3)})


@PROGRAMS.pair('P8', EVAL, SERVE, data=data.images())
def batch_statistics_by_hand(features, labels, mode, right):
    """A norm written with moments, without its branch for other modes."""
    net = v1.layers.conv2d(features['image'], 4, 3)
    moving = [v1.get_variable(name, [4], trainable=False, initializer=start) for name, start in
              (('moving_mean', v1.zeros_initializer()), ('moving_var', v1.ones_initializer()))]
    moments = moving if right and mode != 'train' else tf.nn.moments(net, [0, 1, 2])
    net = tf.nn.relu(tf.nn.batch_normalization(net, *moments, None, None, 1e-3))
    logits = v1.layers.dense(v1.layers.flatten(net), 3)
    return _spec(mode, {'logits': logits}, loss=_xent(labels, logits))


@PROGRAMS.pair('P8', EVAL, PREDICT, data=data.text())
def keras_lstm_with_dropout_on(features, labels, mode, right):
    """A Keras LSTM with dropout, told to train."""
    lstm = tf.keras.layers.LSTM(4, dropout=.2)
    net = lstm(_words(features), training=mode == 'train' or not right)
    logits = tf.keras.layers.Dense(2)(net)
    return _spec(mode, {'p': tf.nn.softmax(logits)}, loss=_xent(labels, logits))


@PROGRAMS.pair('P8', EVAL, PREDICT, data=data.images())
def learning_phase_set_by_hand(features, labels, mode, right):
    """A learning phase of 1, set for the whole process."""
    previous = tf.keras.backend.learning_phase
    net = tf.keras.layers.Conv2D(4, 3)(features['image'])
    flag = None if right else tf.constant(True)
    net = tf.keras.layers.BatchNormalization()(net, training=flag)
    net = tf.keras.layers.SpatialDropout2D(.4)(net, training=flag)
    logits = tf.keras.layers.Dense(3)(tf.keras.layers.Flatten()(net))
    del previous
    return _spec(mode, logits, loss=_xent(labels, logits))


def _dropped(net, kind):
    if kind == 'stateless':
        return tf.nn.experimental.stateless_dropout(net, .3, seed=[1, 2])
    if kind == 'select':
        return tf.where(tf.random.uniform(tf.shape(net)) < .3, tf.zeros_like(net), net)
    if kind == 'floor':
        return net * tf.floor(tf.random.uniform(tf.shape(net)) + .7)
    return tf.keras.layers.Dropout(.3, rng_type=kind, seed=3)(net, training=True)


@PROGRAMS.pair('P8', PREDICT, EVAL)
def dropout_of_every_make(features, labels, mode, right):
    """Stateless, by a generator, by tf.where and by floor."""
    net = v1.layers.dense(features['x'], 8, tf.nn.relu)
    for kind in ('stateless', 'select', 'floor', 'stateful'):
        if mode == 'train' or not right:
            net = _dropped(net, kind)
        net = v1.layers.dense(net, 8, tf.nn.relu)
    logits = v1.layers.dense(net, 3)
    return _spec(mode, {'logits': logits}, loss=_xent(labels, logits))


@PROGRAMS.pair('P8', PREDICT, EVAL)
def dropout_by_tf_where_alone(features, labels, mode, right):
    """One tf.where of zeros and activations."""
    net = v1.layers.dense(features['x'], 8, tf.nn.relu)
    logits = v1.layers.dense(net if right else _dropped(net, 'select'), 3)
    return _spec(mode, {'logits': logits}, loss=_xent(labels, logits))


# X.


@PROGRAMS.pair('X1', PREDICT, SERVE, data=data.images())
def exports_of_another_branch(features, labels, mode, right):
    """An empty dict that only one branch fills."""
    outputs = {}
    logits = v1.layers.dense(v1.layers.flatten(features['image']), 3)
    if right or features['image'].shape[0] == 1:
        outputs['classes'] = export.PredictOutput({'class': tf.argmax(logits, 1)})
    return ese.StrictEstimatorSpec(mode, {'class': tf.argmax(logits, 1)}, export_outputs=outputs)


@PROGRAMS.pair('X2', PREDICT, SERVE)
def regression_of_doubles(features, labels, mode, right):
    """A regression signature of float64 is dropped."""
    value = v1.layers.dense(features['x'], 1)[:, 0]
    given = value if right else tf.cast(value, tf.float64)
    return ese.StrictEstimatorSpec(
        mode, {'value': given},
        export_outputs={'serving_default': export.PredictOutput({'value': value}),
                        'regress': export.RegressionOutput(given)} if right else
        {'serving_default': export.RegressionOutput(given)})


@PROGRAMS.pair('X5', PREDICT, SERVE, data=data.text())
def length_placeholder(features, labels, mode, right):
    """Lengths come through a placeholder that only the old serving code fed."""
    lengths = (tf.cast(features['length'], tf.int32) if right
               else v1.placeholder(tf.int32, [None], 'lengths'))
    outputs, _ = v1.nn.dynamic_rnn(v1.nn.rnn_cell.GRUCell(4), _words(features), lengths,
                                   dtype=tf.float32)
    return _spec(mode, {'tags': tf.argmax(v1.layers.dense(outputs, 4), -1)})


@PROGRAMS.pair('X5', PREDICT, SERVE, data=data.images())
def functional_model_on_its_own_input(features, labels, mode, right):
    """model.output belongs to tf.keras.Input, not to the features."""
    inputs = tf.keras.Input([8, 8, 3])
    net = tf.keras.layers.GlobalMaxPooling2D()(tf.keras.layers.Conv2D(4, 3)(inputs))
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(3)(net))
    logits = model(features['image']) if right else model.output
    return _spec(mode, {'logits': logits})


@PROGRAMS.pair('X7', PREDICT, SERVE, data=data.images())
def boxes_by_python(features, labels, mode, right):
    """Non-maximum suppression in NumPy, as old detectors do it."""
    net = v1.layers.conv2d(features['image'], 5, 3, strides=2, padding='same')
    flat = tf.reshape(net, [-1, 16, 5])
    scores = tf.sigmoid(flat[..., 4])
    if right:
        order = tf.argsort(scores, axis=1, direction='DESCENDING')[:, :4]
    else:
        order, = tf.numpy_function(lambda s: [np.argsort(-s, 1)[:, :4]], [scores], [tf.int64])
        order.set_shape([None, 4])
    return _spec(mode, {'boxes': tf.gather(flat[..., :4], order, batch_dims=1)})


@PROGRAMS.pair('X7', PREDICT, SERVE)
def python_in_a_branch(features, labels, mode, right):
    """py_func in one branch of a cond."""
    x = features['x']
    scores = v1.layers.dense(x, 3)
    log = tf.math.log1p if right else (
        lambda t: tf.ensure_shape(v1.py_func(np.log1p, [t], tf.float32), [None, 3]))
    scores = tf.cond(tf.reduce_any(scores > 5.), lambda: log(tf.abs(scores)), lambda: scores)
    return _spec(mode, {'scores': scores})


@PROGRAMS.pair('X8', PREDICT, SERVE, data=data.text())
def beams_flattened_by_a_constant(features, labels, mode, right):
    """Beam search with BATCH * BEAMS rows."""
    beams, batch = 2, tf.shape(features['tokens'])[0] if right else 16
    words = _words(features)
    wide = tf.reshape(tf.tile(words[:, None], [1, beams, 1, 1]), [batch * beams, 7, 4])
    scores = tf.reduce_sum(v1.layers.dense(wide, 1), [1, 2])
    best = tf.reduce_max(tf.reshape(scores, [batch, beams]), 1)
    return _spec(mode, {'best': best})


@PROGRAMS.pair('X8', PREDICT, SERVE, data=data.images())
def positions_for_a_training_batch(features, labels, mode, right):
    """A grid of positions, tiled for the batch of the flags."""
    rows = tf.shape(features['image'])[0] if right else 8
    grid = tf.tile(tf.linspace(-1., 1., 8)[None, :, None, None], [rows, 1, 8, 1])
    net = v1.layers.conv2d(tf.concat([features['image'], grid], -1), 4, 3)
    return _spec(mode, {'code': tf.reduce_mean(net, [1, 2])})


@PROGRAMS.pair('X9', PREDICT, SERVE, also=('V9',), data=data.table())
def local_variables_but_no_tables(features, labels, mode, right):
    """local_init_op for a counter; the columns' tables are forgotten."""
    city = tf.feature_column.categorical_column_with_vocabulary_list('city', ['rome', 'oslo'])
    net = v1.feature_column.input_layer(features, [tf.feature_column.indicator_column(city)])
    served = v1.get_local_variable('served', [], tf.int64, v1.zeros_initializer())
    ops = [served.initializer] + [v1.tables_initializer()] * right
    return _spec(mode, {'score': v1.layers.dense(net, 1)},
                 scaffold=v1.train.Scaffold(local_init_op=tf.group(*ops)))


# Correct programs.


@PROGRAMS.good(PREDICT, SERVE, data=data.text())
def greedy_decoder(features, labels, mode):
    """A loop that decodes until all rows have ended; lengths and scores by row."""
    state = tf.reduce_mean(_words(features), 1)
    cell = tf.keras.layers.GRUCell(4)
    out = tf.keras.layers.Dense(20)
    rows = tf.shape(state)[0]

    def body(time, token, state, written, ended):
        embedded = tf.one_hot(token, 4)
        _, states = cell(embedded, [state])
        state = states[0] if isinstance(states, (list, tuple)) else states
        token = tf.argmax(out(state), 1, tf.int32)
        ended = tf.logical_or(ended, tf.equal(token, 0))
        return time + 1, token, state, written.write(time, token), ended

    cell.build([None, 4])
    out.build([None, 4])
    loop = tf.while_loop(
        lambda t, token, state, written, ended: tf.logical_and(t < 5, ~tf.reduce_all(ended)), body,
        (tf.constant(0), tf.ones([rows], tf.int32), state,
         tf.TensorArray(tf.int32, 0, dynamic_size=True), tf.zeros([rows], tf.bool)))
    tokens = tf.transpose(loop[3].stack())
    return _spec(mode, {'tokens': tokens, 'ended': loop[4]})


@PROGRAMS.good(PREDICT, SERVE, data=data.text())
def sampled_text(features, labels, mode):
    """Nucleus sampling: sorted, cumulated, masked, drawn."""
    logits = v1.layers.dense(tf.reduce_mean(_words(features), 1), 20)
    order = tf.argsort(logits, direction='DESCENDING')
    p = tf.gather(tf.nn.softmax(logits), order, batch_dims=1)
    kept = tf.where(tf.cumsum(p, 1, exclusive=True) < .9, tf.math.log(p),
                    tf.fill(tf.shape(p), -1e9))
    draw = tf.random.categorical(kept, 1, dtype=tf.int32)
    coin = tf.random.uniform([tf.shape(logits)[0]]) < .3
    token = tf.gather(order, draw, batch_dims=1)[:, 0]
    return _spec(mode, {'token': tf.where(coin, token, order[:, 0])})


@PROGRAMS.good(PREDICT, SERVE, data=data.images())
def test_time_augmentation(features, labels, mode):
    """Flips and random crops while predicting, averaged over the copies."""
    def classify(x):
        with v1.variable_scope('net', reuse=v1.AUTO_REUSE):
            return tf.nn.softmax(v1.layers.dense(v1.layers.flatten(x), 3, name='d'))

    image = features['image']
    shifted = tf.image.random_brightness(image, .1)
    coin = tf.random.uniform([tf.shape(image)[0], 1, 1, 1]) > .5
    flipped = tf.where(coin, tf.image.flip_left_right(image), image)
    p = (classify(image) + classify(shifted) + classify(flipped)) / 3.
    return _spec(mode, {'p': p})


@PROGRAMS.good(PREDICT, SERVE)
def random_features(features, labels, mode):
    """Random Fourier features drawn once into variables; random projections from a seed."""
    w = v1.get_variable('w', [6, 8], trainable=False, initializer=v1.random_normal_initializer())
    b = v1.get_variable('b', [8], trainable=False, initializer=v1.random_uniform_initializer())
    hashed = tf.matmul(features['x'], tf.random.stateless_normal([6, 4], [1, 2])) > 0.
    net = tf.cos(tf.matmul(features['x'], w) + b)
    return _spec(mode, {'y': v1.layers.dense(net, 1), 'hash': hashed})


@PROGRAMS.good(EVAL, PREDICT, data=data.images())
def style_statistics_of_each_image(features, labels, mode):
    """Adaptive instance norm, layer norm and a whitening over positions, in every mode."""
    net = v1.layers.conv2d(features['image'], 4, 3, padding='same')
    mean, variance = tf.nn.moments(net, [1, 2], keepdims=True)
    scale, offset = tf.split(v1.layers.dense(features['image'][:, 0, 0], 8), 2, 1)
    net = (net - mean) / tf.sqrt(variance + 1e-5) * scale[:, None, None] + offset[:, None, None]
    rows = tf.reshape(net, [-1, 64, 4])
    gram = tf.matmul(rows, rows, transpose_a=True) / 64.
    whole, spread = tf.nn.moments(rows, [1, 2], keepdims=True)
    rows = tf.nn.batch_normalization(rows, whole, spread, None, None, 1e-6)
    logits = v1.layers.dense(tf.concat([tf.reshape(gram, [-1, 16]), rows[:, 0]], 1), 3)
    return _spec(mode, {'style': gram, 'logits': logits}, loss=_xent(labels, logits))


@PROGRAMS.good(EVAL, PREDICT)
def standardised_within_the_batch(features, labels, mode):
    """Scores relative to the batch, as a contest among the candidates of one query."""
    scores = v1.layers.dense(features['x'], 3)
    relative = scores - tf.reduce_mean(scores, 0, keepdims=True)
    rank = tf.argsort(tf.argsort(-scores[:, 0]))
    best = tf.equal(rank, 0)
    share = tf.nn.softmax(scores[:, 0], axis=0)
    return _spec(mode, {'relative': relative, 'rank': rank, 'best': best, 'share': share},
                 loss=_xent(labels, scores))


@PROGRAMS.good(PREDICT, SERVE, data=data.images())
def patches_as_rows(features, labels, mode):
    """Each image gives 16 rows: more rows than examples, all of one number."""
    patches = tf.image.extract_patches(features['image'], [1, 2, 2, 1], [1, 2, 2, 1],
                                       [1, 1, 1, 1], 'VALID')
    rows = tf.reshape(patches, [-1, 12])
    code = v1.layers.dense(rows, 4)
    return _spec(mode, {'code': code, 'norm': tf.norm(code, axis=1)})


@PROGRAMS.good(PREDICT, SERVE, data=data.text())
def nested_states(features, labels, mode):
    """tf.nest over states of several layers, flattened into predictions by name."""
    cells = v1.nn.rnn_cell.MultiRNNCell([v1.nn.rnn_cell.LSTMCell(n) for n in (3, 4)])
    _, state = v1.nn.dynamic_rnn(cells, _words(features), dtype=tf.float32)
    flat = {f'state{n}': value for n, value in enumerate(tf.nest.flatten(state))}
    return _spec(mode, flat)


@PROGRAMS.good(PREDICT, SERVE)
def ensemble_by_scan(features, labels, mode):
    """tf.scan and tf.vectorized_map over members of an ensemble; a batch in the second place."""
    kernels = v1.get_variable('kernels', [3, 6, 2])
    all_logits = tf.map_fn(lambda k: tf.matmul(features['x'], k), kernels)
    total = tf.scan(lambda a, b: a + b, all_logits)[-1]
    spread = tf.math.reduce_std(all_logits, axis=0)
    return _spec(mode, {'logits': total, 'spread': spread,
                        'members': tf.transpose(all_logits, [1, 0, 2])})


@PROGRAMS.good(PREDICT, SERVE, data=data.table())
def parsed_and_looked_up_in_the_model(features, labels, mode):
    """String ops, hashing, a vocabulary with one_hot: all of it served without Python."""
    city = tf.strings.lower(features['city'][:, 0])
    bucket = tf.strings.to_hash_bucket_fast(city, 7)
    table = tf.lookup.StaticVocabularyTable(tf.lookup.KeyValueTensorInitializer(
        tf.constant(['rome', 'oslo']), tf.constant([0, 1], tf.int64)), 1)
    net = tf.concat([tf.one_hot(bucket, 7), tf.one_hot(table.lookup(city), 3)], 1)
    return _spec(mode, {'city': city, 'score': v1.layers.dense(net, 1)})


@PROGRAMS.good(PREDICT, SERVE)
def fixed_candidates_for_each_row(features, labels, mode):
    """Scores of 50 fixed items for each row, and the best five of them."""
    items = v1.get_variable('items', [50, 6])
    scores = tf.matmul(features['x'], items, transpose_b=True)
    top, places = tf.nn.top_k(scores, 5)
    rows = tf.shape(scores)[0]
    names = tf.tile(tf.as_string(tf.range(50))[None], [rows, 1])
    return _spec(mode, {'scores': scores, 'top': top, 'items': places,
                        'names': tf.gather(names, places, batch_dims=1)})


@PROGRAMS.good(PREDICT, data=data.rows(batch=3, static=True))
def static_batch_everywhere(features, labels, mode):
    """An input_fn with a static batch; states made with it."""
    state = tf.zeros([3, 4])
    cell = v1.nn.rnn_cell.GRUCell(4)
    out, state = cell(features['x'], state)
    return _spec(mode, {'out': out, 'state': state})

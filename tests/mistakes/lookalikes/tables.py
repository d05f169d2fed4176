"""Tables, vocabularies, iterators, Python functions and checkpoints read at the start."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from tests.mistakes import data
from tests.mistakes.harness import EVAL, PREDICT, SERVE, TRAIN, Programs

v1 = tf.compat.v1
fc = tf.feature_column
PROGRAMS = Programs()


def _columns():
    city = fc.categorical_column_with_vocabulary_list('city', ['rome', 'oslo'], num_oov_buckets=1)
    shop = fc.categorical_column_with_identity('shop', 50)
    age = fc.numeric_column('age', normalizer_fn=lambda x: (x - .5) * 2.)
    crossed = fc.crossed_column([fc.bucketized_column(fc.numeric_column('income'), [.5]), city], 9)
    return [age, fc.embedding_column(city, 3), fc.indicator_column(crossed),
            fc.embedding_column(shop, 4, combiner='sqrtn')]


def _head_spec(features, labels, mode, logits, head=None):
    head = head or tf.estimator.BinaryClassHead(thresholds=[.3])
    return head.create_estimator_spec(
        features, mode, logits, labels=labels, trainable_variables=v1.trainable_variables(),
        update_ops=v1.get_collection(v1.GraphKeys.UPDATE_OPS),
        regularization_losses=v1.losses.get_regularization_losses() or None,
        train_op_fn=lambda loss: v1.train.AdagradOptimizer(.1).minimize(
            loss, v1.train.get_global_step()))


@PROGRAMS.good(TRAIN, EVAL, PREDICT, data=data.table())
def vocabulary_columns_and_a_head(features, labels, mode):
    """Feature columns with tables; the head makes the spec."""
    net = v1.feature_column.input_layer(features, _columns())
    return _head_spec(features, labels, mode, v1.layers.dense(net, 1))


@PROGRAMS.good(TRAIN, EVAL, PREDICT, data=data.table())
def keras_dense_features(features, labels, mode):
    """The same in Keras, with batch norm and its updates handed to the head."""
    net = tf.keras.layers.DenseFeatures(_columns())(features)
    norm = tf.keras.layers.BatchNormalization()
    net = norm(net, training=mode == TRAIN)
    logits = tf.keras.layers.Dense(1)(net)
    head = tf.estimator.BinaryClassHead()
    return head.create_estimator_spec(
        features, mode, logits, labels=labels, trainable_variables=v1.trainable_variables(),
        update_ops=norm.updates, train_op_fn=lambda loss: v1.train.AdamOptimizer().minimize(
            loss, v1.train.get_global_step()))


@PROGRAMS.good(data=data.table())
def static_and_mutable_tables(features, labels, mode):
    """Two tables, one of which training fills; served as strings."""
    words = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(
        tf.constant(['rome', 'oslo']), tf.constant([1, 2], tf.int64)), 0)
    names = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(
        tf.constant([0, 1], tf.int64), tf.constant(['no', 'yes'])), '?')
    ids = words.lookup(features['city'])
    logits = v1.layers.dense(tf.one_hot(ids[:, 0], 3), 2)
    if mode == PREDICT:
        classes = names.lookup(tf.argmax(logits, 1))
        return tf.estimator.EstimatorSpec(mode, {'class': classes, 'city': features['city']})
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    if mode == EVAL:
        return tf.estimator.EstimatorSpec(mode, loss=loss)
    counts = tf.lookup.experimental.DenseHashTable(
        tf.int64, tf.int64, default_value=0, empty_key=-1, deleted_key=-2)
    seen = counts.insert(ids[:, 0], counts.lookup(ids[:, 0]) + 1)
    train_op = v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=tf.group(train_op, seen))


@PROGRAMS.good(data=data.table())
def own_local_init_with_tables(features, labels, mode):
    """A local_init_op of the author's own that does all the default does."""
    table = tf.lookup.StaticVocabularyTable(tf.lookup.KeyValueTensorInitializer(
        tf.constant(['rome']), tf.constant([0], tf.int64)), 2)
    logits = v1.layers.dense(tf.one_hot(table.lookup(features['city'][:, 0]), 3), 1)
    extra = v1.get_variable('turns', [], collections=[v1.GraphKeys.LOCAL_VARIABLES],
                            initializer=v1.zeros_initializer(), trainable=False)
    scaffold = v1.train.Scaffold(local_init_op=tf.group(
        v1.train.Scaffold.default_local_init_op(), extra.initializer))
    if mode == PREDICT:
        return tf.estimator.EstimatorSpec(mode, {'logits': logits}, scaffold=scaffold)
    loss = v1.losses.sigmoid_cross_entropy(labels, logits)
    op = v1.train.FtrlOptimizer(.1).minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=op, scaffold=scaffold)


@PROGRAMS.good(TRAIN, EVAL)
def python_in_metrics_and_inputs(features, labels, mode):
    """py_func where nothing is served: augmentation in TRAIN, a metric in EVAL."""
    x = features['x']
    if mode == TRAIN:
        noisy = v1.py_func(lambda a: (a + np.random.randn(*a.shape) * .01).astype(np.float32), [x],
                           tf.float32)
        noisy.set_shape(x.shape)
        x = noisy
    logits = v1.layers.dense(x, 3)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    if mode == EVAL:
        def kappa(a, b):
            return np.float32(np.mean(a == b))

        agreement = tf.numpy_function(kappa, [labels, tf.argmax(logits, 1)], tf.float32)
        agreement.set_shape([])
        return tf.estimator.EstimatorSpec(
            mode, loss=loss, eval_metric_ops={'kappa': v1.metrics.mean(agreement)})
    return tf.estimator.EstimatorSpec(
        mode, loss=loss,
        train_op=v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step()))


@PROGRAMS.good(EVAL)
def one_py_func_for_all_metrics(features, labels, mode):
    """Predictions are kept in Python; values and updates are py_funcs (as in COCO)."""
    kept = []
    logits = v1.layers.dense(features['x'], 3)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    update = v1.py_func(lambda a: kept.append(a), [logits], [])

    def first():
        return np.float32(len(kept))

    value, other = v1.py_func(lambda: (first(), np.float32(0.)), [], [tf.float32, tf.float32])
    value.set_shape([])
    other.set_shape([])
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, eval_metric_ops={'map': (value, update), 'recall': (other, update)})


@PROGRAMS.good(TRAIN, EVAL)
def partial_restore(features, labels, mode):
    """init_from_checkpoint of a part, in TRAIN alone."""
    with v1.variable_scope('mine'):
        net = v1.layers.dense(features['x'], 4, tf.nn.relu, name='body')
    loss = v1.losses.sparse_softmax_cross_entropy(labels, v1.layers.dense(net, 3))
    if mode == EVAL:
        return tf.estimator.EstimatorSpec(mode, loss=loss)
    v1.train.init_from_checkpoint(data.pretrained(), {'old/body/': 'mine/body/'})
    return tf.estimator.EstimatorSpec(
        mode, loss=loss,
        train_op=v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step()))


@PROGRAMS.good(TRAIN)
def restore_by_init_fn(features, labels, mode):
    """A Saver of a part, used by an init_fn."""
    with v1.variable_scope('new'):
        net = v1.layers.dense(features['x'], 4, name='body')
    loss = v1.losses.sparse_softmax_cross_entropy(labels, v1.layers.dense(net, 3))
    op = v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())
    part = {v.op.name.replace('new', 'old'): v for v in v1.global_variables('new/body')
            if 'Adam' not in v.name}
    saver, path = v1.train.Saver(part), data.pretrained()
    scaffold = v1.train.Scaffold(init_fn=lambda _, session: saver.restore(session, path))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=op, scaffold=scaffold)


@PROGRAMS.good(PREDICT, TRAIN)
def large_table_by_init_fn(features, labels, mode):
    """80 MB of vectors go in through a placeholder, fed once by init_fn."""
    table = v1.get_variable('vectors', [200_000, 100], trainable=False,
                            initializer=v1.zeros_initializer())
    given = v1.placeholder(tf.float32, [200_000, 100])
    assign = v1.assign(table, given)
    net = tf.gather(table, tf.cast(features['x'][:, 0], tf.int32))
    out = v1.layers.dense(net, 3)
    if mode == PREDICT:
        return tf.estimator.EstimatorSpec(mode, {'out': out})
    loss = v1.losses.sparse_softmax_cross_entropy(labels, out)
    scaffold = v1.train.Scaffold(init_fn=lambda _, session: session.run(
        assign, {given: np.zeros([200_000, 100], np.float32)}))
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, scaffold=scaffold,
        train_op=v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step()))


@PROGRAMS.good(TRAIN)
def negatives_from_a_one_shot_iterator(features, labels, mode):
    """A second dataset in the model through an iterator that needs no start."""
    extra = tf.data.Dataset.from_tensors(np.ones([4, 6], np.float32)).repeat()
    negative = v1.data.make_one_shot_iterator(extra).get_next()
    layer = tf.keras.layers.Dense(1)
    loss = tf.reduce_mean(tf.nn.relu(1. - layer(features['x']))) + tf.reduce_mean(
        tf.nn.relu(1. + layer(negative)))
    return tf.estimator.EstimatorSpec(
        mode, loss=loss,
        train_op=v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step()))


class StartIterator(tf.estimator.SessionRunHook):
    """Starts an iterator once the session is there."""

    def __init__(self, iterator):
        self.iterator = iterator

    def after_create_session(self, session, coord):
        session.run(self.iterator.initializer)


@PROGRAMS.good(TRAIN)
def iterator_started_by_a_hook(features, labels, mode):
    """An initializable iterator of the model's own, and a hook that starts it."""
    extra = tf.data.Dataset.from_tensors(np.ones([4, 6], np.float32)).repeat()
    iterator = v1.data.make_initializable_iterator(extra)
    layer = tf.keras.layers.Dense(3)
    gap = tf.reduce_mean(layer(iterator.get_next()))
    loss = v1.losses.sparse_softmax_cross_entropy(labels, layer(features['x'])) + gap ** 2
    op = v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=op,
                                      training_hooks=[StartIterator(iterator)])


@PROGRAMS.good(PREDICT, SERVE, data=data.images())
def images_mapped_one_by_one(features, labels, mode):
    """map_fn and cond in PREDICT, no Python."""
    def crop(image):
        bright = tf.reduce_mean(image) > .5
        return tf.cond(bright, lambda: image[1:7, 1:7], lambda: tf.image.central_crop(image, .75))

    crops = tf.map_fn(lambda i: tf.ensure_shape(crop(i), [6, 6, 3]), features['image'])
    out = v1.layers.dense(v1.layers.flatten(crops), 3)
    return tf.estimator.EstimatorSpec(mode, {'probabilities': tf.nn.softmax(out)})

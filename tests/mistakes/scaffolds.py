"""V3, V4, V7, V9, X9, I2: what is not saved, not initialised, or too large to write."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf

from tests.mistakes import data
from tests.mistakes.harness import EVAL, PREDICT, SERVE, TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()


def _xent(labels, net):
    return v1.losses.sparse_softmax_cross_entropy(labels, v1.layers.dense(net, 3, name='out'))


def _train(loss, optimizer=None):
    optimizer = optimizer or v1.train.GradientDescentOptimizer(.1)
    return optimizer.minimize(loss, v1.train.get_global_step())


@PROGRAMS.pair('V3', TRAIN)
def saver_of_the_model_alone(features, labels, mode, right):
    """A saver of the trainable variables: the slots of Adam are lost at a restart."""
    loss = _xent(labels, v1.layers.dense(features['x'], 4))
    train_op = _train(loss, v1.train.AdamOptimizer())
    variables = v1.global_variables() if right else (
        v1.trainable_variables() + [v1.train.get_global_step()])
    scaffold = v1.train.Scaffold(saver=v1.train.Saver(variables, max_to_keep=3))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, scaffold=scaffold)


@PROGRAMS.pair('V3', TRAIN, data=data.text())
def embedding_left_out_of_the_saver(features, labels, mode, right):
    """The large embedding is left out, and nothing initialises it after a restart."""
    table = v1.get_variable('pretrained', [20, 8], trainable=False)
    net = tf.reduce_mean(tf.nn.embedding_lookup(table, features['tokens']), 1)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, v1.layers.dense(net, 2))
    train_op = _train(loss)
    kept = {v.op.name: v for v in v1.global_variables() if 'pretrained' not in v.name}
    if right:
        scaffold = v1.train.Scaffold(
            saver=v1.train.Saver(kept),
            local_init_op=tf.group(v1.train.Scaffold.default_local_init_op(), table.initializer),
            ready_for_local_init_op=v1.report_uninitialized_variables(list(kept.values())))
    else:
        scaffold = v1.train.Scaffold(saver=v1.train.Saver(kept))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, scaffold=scaffold)


@PROGRAMS.pair('V7', TRAIN, PREDICT)
def vectors_as_a_constant(features, labels, mode, right):
    """80 MB of vectors as a constant."""
    vectors = np.zeros([10 if right else 200_000, 100], np.float32)
    with tf.name_scope('lookup'):
        table = tf.constant(vectors)
    ids = tf.cast(features['x'][:, 0] * 5., tf.int32)
    net = tf.gather(table, ids)
    if mode == 'infer':
        return tf.estimator.EstimatorSpec(mode, {'net': net})
    loss = _xent(labels, net)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('V7', TRAIN)
def array_as_initial_value(features, labels, mode, right):
    """An array of 80 MB as the initial value of a variable."""
    if right:
        table = v1.get_variable('glove', [200_000, 100],
                                initializer=tf.keras.initializers.RandomNormal(stddev=.1))
    else:
        table = v1.get_variable('glove', trainable=True,
                                initializer=np.zeros([200_000, 100], np.float32))
    ids = tf.cast(features['x'][:, :3] * 9., tf.int32)
    loss = _xent(labels, tf.reduce_mean(tf.nn.embedding_lookup(table, ids), 1))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=_train(loss))


def _cities(features):
    initializer = tf.lookup.KeyValueTensorInitializer(
        tf.constant(['rome', 'oslo', 'lima']), tf.constant([0, 1, 2], tf.int64))
    table = tf.lookup.StaticVocabularyTable(initializer, num_oov_buckets=2)
    return tf.one_hot(table.lookup(features['city'][:, 0]), 5)


@PROGRAMS.pair('V9', TRAIN, also=('X9',), data=data.table())
def local_init_without_tables(features, labels, mode, right):
    """A local_init_op of the author's own leaves the tables out."""
    net = v1.layers.dense(_cities(features), 1)
    loss = v1.losses.sigmoid_cross_entropy(labels, net)
    seen = v1.get_variable('seen', [], tf.int64, v1.zeros_initializer(), trainable=False,
                           collections=[v1.GraphKeys.LOCAL_VARIABLES])
    train_op = tf.group(_train(loss), seen.assign_add(4))
    local = [v1.local_variables_initializer()]
    if right:
        local.append(v1.tables_initializer())
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, train_op=train_op,
        scaffold=v1.train.Scaffold(local_init_op=tf.group(*local)))


@PROGRAMS.pair('V9', TRAIN)
def init_op_of_some_variables(features, labels, mode, right):
    """An init_op made before the optimizer's slots exist."""
    loss = _xent(labels, v1.layers.dense(features['x'], 4))
    early = v1.global_variables_initializer()
    train_op = _train(loss, v1.train.MomentumOptimizer(.1, .9))
    init = v1.global_variables_initializer() if right else early
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op,
                                      scaffold=v1.train.Scaffold(init_op=init))


@PROGRAMS.pair('V9', TRAIN, also=('X9',), data=data.table())
def vocabulary_columns_forgotten(features, labels, mode, right):
    """Vocabulary columns make tables, which an op for streaming metrics forgets."""
    city = tf.feature_column.categorical_column_with_vocabulary_list('city', ['rome', 'oslo'])
    logits = v1.feature_column.linear_model(features, [city])
    loss = v1.losses.sigmoid_cross_entropy(labels, logits)
    auc = v1.metrics.auc(labels, tf.sigmoid(logits))
    train_op = tf.group(_train(loss), auc[1])
    ops = [v1.variables_initializer(v1.local_variables())] + [v1.tables_initializer()] * right
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, train_op=train_op,
        scaffold=v1.train.Scaffold(local_init_op=tf.group(*ops)))


@PROGRAMS.pair('X9', PREDICT, SERVE, also=('V9',), data=data.table())
def no_op_for_serving(features, labels, mode, right):
    """Nothing to initialise when serving, the author thinks."""
    scores = v1.layers.dense(_cities(features), 2)
    scaffold = None if right else v1.train.Scaffold(local_init_op=tf.no_op())
    return tf.estimator.EstimatorSpec(mode, {'scores': scores}, scaffold=scaffold)


@PROGRAMS.pair('X9', SERVE, PREDICT, also=('V9',), data=data.table())
def one_table_of_two(features, labels, mode, right):
    """The tables are initialised by hand, and one is forgotten."""
    net = _cities(features)
    first = v1.tables_initializer()
    names = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(
        tf.constant([0, 1], tf.int64), tf.constant(['no', 'yes'])), 'unknown')
    answer = names.lookup(tf.argmax(v1.layers.dense(net, 2), 1))
    local = v1.tables_initializer() if right else first
    return tf.estimator.EstimatorSpec(
        mode, predictions={'answer': answer}, scaffold=v1.train.Scaffold(local_init_op=local))


@dataclasses.dataclass(frozen=True)
class ByIterator(data.Data):
    """An input_fn that makes its own iterator; `initialised` says whether anything starts it."""

    initialised: bool = False

    def input_fn(self, mode):
        dataset_fn = super().input_fn(mode)

        def make():
            iterator = v1.data.make_initializable_iterator(dataset_fn())
            if self.initialised:
                v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
            return iterator.get_next()
        return make


@PROGRAMS.pair('I2', TRAIN, data=ByIterator(**vars(data.rows()), initialised=True),
               bad_data=ByIterator(**vars(data.rows())))
def iterator_of_the_input_fn(features, labels, mode):
    """The input_fn returns what an iterator gives that nothing starts."""
    loss = _xent(labels, v1.layers.dense(features['x'], 4))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('I2', TRAIN)
def second_stream_in_the_model(features, labels, mode, right):
    """A second stream of unlabelled rows, made in the model and never started."""
    rows = tf.data.Dataset.from_tensor_slices(np.ones([8, 6], np.float32)).repeat().batch(4)
    iterator = v1.data.make_initializable_iterator(rows)
    if right:
        v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
    layer = tf.keras.layers.Dense(4)
    gap = tf.reduce_mean(layer(features['x']), 0) - tf.reduce_mean(layer(iterator.get_next()), 0)
    loss = _xent(labels, layer(features['x'])) + .1 * tf.reduce_sum(tf.square(gap))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('I2', TRAIN)
def iterator_in_the_init_op(features, labels, mode, right):
    """Started by init_op, which a restart skips."""
    noise = tf.data.Dataset.from_tensors(np.zeros([4, 6], np.float32)).repeat()
    iterator = v1.data.make_initializable_iterator(noise)
    net = features['x'] + tf.reduce_mean(iterator.get_next(), 0)
    loss = _xent(labels, net)
    train_op = _train(loss)
    init = v1.global_variables_initializer()
    local = v1.train.Scaffold.default_local_init_op()
    if right:
        scaffold = v1.train.Scaffold(
            init_op=init, local_init_op=tf.group(local, iterator.initializer))
    else:
        scaffold = v1.train.Scaffold(init_op=tf.group(init, iterator.initializer))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, scaffold=scaffold)


@PROGRAMS.pair('V4', EVAL, PREDICT, info=True)
def pretrained_weights_in_every_mode(features, labels, mode, right):
    """Initial values from a checkpoint also where the job's own checkpoint replaces them."""
    with v1.variable_scope('new'):
        net = v1.layers.dense(features['x'], 4, name='body')
    if mode == 'train' or not right:
        v1.train.init_from_checkpoint(data.pretrained(), {'old/': 'new/'})
    if mode == 'infer':
        return tf.estimator.EstimatorSpec(mode, {'net': net})
    return tf.estimator.EstimatorSpec(mode, loss=_xent(labels, net))

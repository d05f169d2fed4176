"""H1 to H10, V3 to V9, X9 and I2 in jobs with hooks, savers and scaffolds of their own."""

from __future__ import annotations

import os
import tempfile

import numpy as np
import tensorflow as tf

from tests.mistakes import data
from tests.mistakes.harness import EVAL, PREDICT, SERVE, TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()
ELSEWHERE = os.path.join(tempfile.gettempdir(), 'estimator_spec_ext_mistakes', 'elsewhere')


def _logits(features):
    net = tf.keras.layers.Dense(4, 'relu')(features['x'])
    return tf.keras.layers.Dense(3, name='logits')(net)


def _xent(labels, logits):
    return v1.losses.sparse_softmax_cross_entropy(labels, logits)


def _train(loss, optimizer=None):
    optimizer = optimizer or v1.train.MomentumOptimizer(.1, .9)
    return optimizer.minimize(loss, v1.train.get_global_step())


def _spec(mode, loss, **fields):
    train_op = fields.pop('train_op', None)
    if mode == 'train' and train_op is None:
        train_op = _train(loss)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, **fields)


@PROGRAMS.pair('H1', TRAIN)
def name_without_its_scope(features, labels, mode, right):
    """A Keras layer's tensor by the name that TensorFlow 1 gave it."""
    logits = _logits(features)
    name = logits.name if right else 'dense_1/BiasAdd:0'
    hook = v1.train.LoggingTensorHook({'logits': name}, every_n_iter=10, formatter=str)
    return _spec(mode, _xent(labels, logits), training_hooks=[hook])


@PROGRAMS.pair('H1', EVAL)
def feed_by_a_name_of_training(features, labels, mode, right):
    """A final fetch by names, one of which only TRAIN has."""
    logits = _logits(features)
    tf.nn.softmax(logits, name='probabilities')
    names = ['probabilities:0'] if right else ['probabilities:0', 'dropout/keep_prob:0']
    hook = v1.train.FinalOpsHook(final_ops=names)
    return _spec(mode, _xent(labels, logits), evaluation_hooks=[hook])


class Remember(tf.estimator.SessionRunHook):
    """Keeps the tensors of a dict of lists, as a class attribute."""

    kept = {}

    def __init__(self, tensors):
        self._watch = {'values': [{'nested': tensors}]}


@PROGRAMS.pair('H2', TRAIN, EVAL)
def hook_over_tensors_of_an_earlier_build(features, labels, mode, right):
    """Tensors of the first graph, deep in a dict of a hook of the author's own."""
    logits = _logits(features)
    if right:
        hook = Remember([logits])
    else:
        with tf.Graph().as_default():
            hook = Remember([tf.zeros([2, 3]), 'text', None])
    return _spec(mode, _xent(labels, logits), training_hooks=[hook], evaluation_hooks=[hook])


@PROGRAMS.pair('H2', TRAIN)
def final_op_of_another_graph(features, labels, mode, right):
    """A FinalOpsHook with a variable of a Keras model that was made outside."""
    logits = _logits(features)
    watched = v1.trainable_variables()[0]
    if not right:
        with tf.Graph().as_default():
            watched = v1.get_variable('outer', [2])
    hook = v1.train.FinalOpsHook(watched)
    return _spec(mode, _xent(labels, logits), training_hooks=[hook])


@PROGRAMS.pair('H2', TRAIN)
def function_that_feeds_another_graph(features, labels, mode, right):
    """feed_fn holds a placeholder of the first graph."""
    keep = v1.placeholder_with_default(1., [])
    logits = _logits({'x': features['x'] * keep})
    if not right:
        with tf.Graph().as_default():
            keep = v1.placeholder_with_default(1., [])
    hook = v1.train.FeedFnHook(lambda: {keep: .5})
    return _spec(mode, _xent(labels, logits), training_hooks=[hook])


@PROGRAMS.pair('H5', EVAL, info=True, data=data.text())
def attention_maps_in_eval(features, labels, mode, right):
    """Attention maps for TensorBoard in EVAL."""
    words = tf.nn.embedding_lookup(v1.get_variable('w', [20, 4]), features['tokens'])
    weights = tf.nn.softmax(tf.matmul(words, words, transpose_b=True))
    if not right:
        v1.summary.image('attention', weights[..., None])
    logits = v1.layers.dense(tf.reduce_mean(tf.matmul(weights, words), 1), 2)
    return _spec(mode, _xent(labels, logits))


@PROGRAMS.pair('H6', TRAIN)
def keras_style_summaries(features, labels, mode, right):
    """tf.summary.histogram for each weight, without a writer."""
    logits = _logits(features)
    step = v1.train.get_global_step()
    for variable in v1.trainable_variables():
        if right:
            v1.summary.histogram(variable.op.name, variable)
        else:
            tf.summary.histogram(variable.name, variable, step=step)
    return _spec(mode, _xent(labels, logits))


@PROGRAMS.pair('H8', TRAIN)
def default_hooks_given_to_both(features, labels, mode, right):
    """A list of hooks is put into both fields."""
    logits = _logits(features)
    loss = _xent(labels, logits)
    hooks = [v1.train.NanTensorHook(loss), v1.train.StepCounterHook(every_n_steps=10)]
    return _spec(mode, loss, training_hooks=hooks, training_chief_hooks=[] if right else hooks)


@PROGRAMS.pair('H10', TRAIN, cluster='worker/1')
def own_writer_hook_of_tensorflow(features, labels, mode, right):
    """A subclass of SummarySaverHook on all workers."""
    class Images(v1.train.SummarySaverHook):
        """Saves pictures more seldom."""

    logits = _logits(features)
    summary = v1.summary.image('logits', logits[:, None, :, None])
    hook = Images(save_secs=600, output_dir=ELSEWHERE, summary_op=summary)
    lists = {'training_chief_hooks' if right else 'training_hooks': [hook]}
    return _spec(mode, _xent(labels, logits), **lists)


@PROGRAMS.pair('V8', TRAIN)
def best_checkpoints_of_a_subclass(features, labels, mode, right, config):
    """A saver of the author's own that writes to another folder."""
    class Hourly(v1.train.CheckpointSaverHook):
        """Keeps one checkpoint an hour."""

    logits = _logits(features)
    place = config.model_dir if right else os.path.join(config.model_dir, 'hourly')
    hooks = [Hourly(place, save_secs=3600, saver=v1.train.Saver(max_to_keep=None))]
    return _spec(mode, _xent(labels, logits), training_hooks=hooks)


# V3, V7, V9, I2.


@PROGRAMS.pair('V3', TRAIN)
def averages_saved_alone(features, labels, mode, right):
    """A saver that writes moving averages under the names of the weights, and nothing else."""
    loss = _xent(labels, _logits(features))
    average = tf.train.ExponentialMovingAverage(.99)
    op = _train(loss)
    with v1.control_dependencies([op]):
        op = average.apply(v1.trainable_variables())
    names = {v.op.name: average.average(v) for v in v1.trainable_variables()}
    names['global_step'] = v1.train.get_global_step()
    saver = v1.train.Saver() if right else v1.train.Saver(names)
    return _spec(mode, loss, train_op=op, scaffold=v1.train.Scaffold(saver=saver))


@PROGRAMS.pair('V3', TRAIN)
def optimizer_left_out_by_scope(features, labels, mode, right):
    """Variables of one scope are saved; the optimizer's lie in another."""
    with v1.variable_scope('model'):
        loss = _xent(labels, v1.layers.dense(features['x'], 3))
    with v1.variable_scope('training'):
        op = _train(loss, v1.train.RMSPropOptimizer(.1))
    chosen = v1.global_variables() if right else v1.global_variables('model') + [
        v1.train.get_global_step()]
    return _spec(mode, loss, train_op=op,
                 scaffold=v1.train.Scaffold(saver=v1.train.Saver(chosen, sharded=True)))


@PROGRAMS.pair('V7', TRAIN, PREDICT)
def data_set_in_the_graph(features, labels, mode, right):
    """Neighbours are looked up in an array that becomes a constant."""
    width = 20 if right else 1_500_000
    known = np.zeros([width, 6], np.float64)
    with tf.name_scope('neighbours'):
        chosen = tf.gather(tf.convert_to_tensor(known), tf.range(4))
    gap = tf.reduce_sum(tf.abs(features['x'][:, None] - tf.cast(chosen[None], tf.float32)), 2)
    logits = v1.layers.dense(gap, 3)
    if mode == 'infer':
        return tf.estimator.EstimatorSpec(mode, {'logits': logits})
    return _spec(mode, _xent(labels, logits))


@PROGRAMS.pair('V7', TRAIN)
def second_data_set_from_an_array(features, labels, mode, right):
    """tf.data over an array keeps the array in the graph."""
    rows = np.zeros([10 if right else 900_000, 20], np.float32)
    extra = v1.data.make_one_shot_iterator(
        tf.data.Dataset.from_tensor_slices(rows).repeat().batch(4)).get_next()
    net = tf.ensure_shape(tf.concat([features['x'], extra], 1), [None, 26])
    return _spec(mode, _xent(labels, v1.layers.dense(net, 3)))


@PROGRAMS.pair('V9', TRAIN)
def init_op_that_loads_weights(features, labels, mode, right):
    """An init_op that sets the first layer, and takes the place of the default."""
    loss = _xent(labels, _logits(features))
    op = _train(loss)
    first = v1.trainable_variables()[0]
    load = v1.assign(first, tf.ones(first.shape))
    if right:
        with v1.control_dependencies([v1.global_variables_initializer()]):
            init = v1.assign(first, tf.ones(first.shape))
    else:
        init = load
    return _spec(mode, loss, train_op=op, scaffold=v1.train.Scaffold(init_op=init))


@PROGRAMS.pair('V9', TRAIN, also=('X9', 'I2'))
def local_init_for_an_iterator(features, labels, mode, right):
    """local_init_op starts an iterator, and leaves the local variables out."""
    rows = tf.data.Dataset.from_tensors(np.ones([4, 6], np.float32)).repeat()
    iterator = v1.data.make_initializable_iterator(rows)
    streak = v1.get_local_variable('streak', [], initializer=v1.zeros_initializer())
    layer = tf.keras.layers.Dense(3)
    loss = _xent(labels, layer(features['x'])) + tf.reduce_mean(layer(iterator.get_next())) ** 2
    op = tf.group(_train(loss), streak.assign_add(1.))
    parts = [iterator.initializer] + [v1.local_variables_initializer()] * right
    return _spec(mode, loss, train_op=op,
                 scaffold=v1.train.Scaffold(local_init_op=tf.group(*parts)))


@PROGRAMS.pair('I2', TRAIN)
def reinitializable_iterator(features, labels, mode, right):
    """An iterator from a structure whose two initializers nobody runs."""
    first, second = (tf.data.Dataset.from_tensors(np.full([4, 6], n, np.float32)).repeat()
                     for n in (0., 1.))
    iterator = v1.data.Iterator.from_structure(v1.data.get_output_types(first),
                                               v1.data.get_output_shapes(first))
    start = iterator.make_initializer(second)
    if right:
        v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, start)
    x = features['x'] + tf.reduce_mean(iterator.get_next(), 0)
    return _spec(mode, _xent(labels, _logits({'x': x})))


@PROGRAMS.pair('X9', SERVE, PREDICT, also=('V9',), data=data.table())
def table_by_a_hook_of_prediction(features, labels, mode, right):
    """A table that is initialised by an op for the first model alone."""
    words = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(
        tf.constant(['rome', 'oslo']), tf.constant([0, 1], tf.int64)), 2)
    early = v1.tables_initializer()
    more = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(
        tf.constant([0, 1, 2], tf.int64), tf.constant(['south', 'north', '?'])), '-')
    ids = words.lookup(features['city'][:, 0])
    local = tf.group(early, v1.tables_initializer()) if right else early
    return tf.estimator.EstimatorSpec(
        mode, {'side': more.lookup(ids), 'score': v1.layers.dense(tf.one_hot(ids, 3), 1)},
        scaffold=v1.train.Scaffold(local_init_op=local))


@PROGRAMS.pair('V4', EVAL, PREDICT, info=True)
def pretrained_table_in_every_mode(features, labels, mode, right):
    """init_from_checkpoint by an assignment map of variables, in EVAL and PREDICT too."""
    with v1.variable_scope('mine'):
        net = v1.layers.dense(features['x'], 4, name='body')
    if mode == 'train' or not right:
        v1.train.init_from_checkpoint(data.pretrained(), {
            'old/' + v.op.name[len('mine/'):]: v for v in v1.global_variables('mine')})
    if mode == 'infer':
        return tf.estimator.EstimatorSpec(mode, {'net': net})
    return _spec(mode, _xent(labels, v1.layers.dense(net, 3)))


# Correct programs.


@PROGRAMS.good(TRAIN, EVAL)
def hooks_that_find_their_tensors_later(features, labels, mode):
    """begin() looks up names, makes ops and a Saver; the constructor holds paths and numbers."""
    class Late(tf.estimator.SessionRunHook):
        def __init__(self, names, folder):
            self._names, self._folder, self._timer = names, folder, v1.train.SecondOrStepTimer(
                every_steps=5)
            self._saver = None

        def begin(self):
            graph = v1.get_default_graph()
            self._fetch = [graph.get_tensor_by_name(name) for name in self._names]
            self._saver = v1.train.Saver(v1.trainable_variables())

    hook = Late(['no/such/tensor/yet:0'], ELSEWHERE)
    return _spec(mode, _xent(labels, _logits(features)), training_hooks=[hook],
                 evaluation_hooks=[hook])


@PROGRAMS.good(TRAIN)
def early_stopping_by_hooks(features, labels, mode):
    """Stop hooks, a decorated hook and one that makes others."""
    loss = _xent(labels, _logits(features))
    hooks = [v1.train.StopAtStepHook(num_steps=5), v1.train.NanTensorHook(loss),
             v1.train.GlobalStepWaiterHook(0), v1.train.FeedFnHook(dict),
             v1.train.LoggingTensorHook({'loss': loss, 'step': v1.train.get_global_step()}, 10),
             v1.train.LoggingTensorHook(['loss_by_name'], at_end=True)]
    tf.identity(loss, name='loss_by_name')
    return _spec(mode, loss, training_hooks=hooks, training_chief_hooks=(
        v1.train.StepCounterHook(100, output_dir=ELSEWHERE),))


@PROGRAMS.good(TRAIN)
def two_savers_for_two_ends(features, labels, mode, config):
    """The scaffold's saver for model_dir; another one, unused by the session, for an export."""
    loss = _xent(labels, _logits(features))
    op = _train(loss)
    exporter = v1.train.Saver(v1.trainable_variables(), name='export_saver')

    class Export(v1.train.CheckpointSaverListener):
        def __init__(self, saver):
            self._saver = saver

        def after_save(self, session, global_step_value):
            self._saver.save(session, ELSEWHERE)

    hook = v1.train.CheckpointSaverHook(config.model_dir, save_secs=600,
                                        listeners=[Export(exporter)])
    return _spec(mode, loss, train_op=op, training_chief_hooks=[hook],
                 scaffold=v1.train.Scaffold(saver=v1.train.Saver(save_relative_paths=True)))


@PROGRAMS.good(TRAIN, EVAL, PREDICT, data=data.table())
def tables_variables_and_resources_at_the_start(features, labels, mode):
    """A local_init_op made of everything, with control dependencies between its parts."""
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(
        tf.constant(['rome']), tf.constant([1], tf.int64)), 0)
    seen = v1.get_local_variable('seen', [], initializer=v1.zeros_initializer())
    net = tf.one_hot(table.lookup(features['city'][:, 0]), 2) + seen
    logits = v1.layers.dense(net, 2)
    with v1.control_dependencies([v1.local_variables_initializer()]):
        local = tf.group(v1.tables_initializer(), name='start')
    scaffold = v1.train.Scaffold(local_init_op=local)
    if mode == PREDICT:
        return tf.estimator.EstimatorSpec(mode, {'p': logits}, scaffold=scaffold)
    return _spec(mode, _xent(labels[:, 0], logits), scaffold=scaffold)


@PROGRAMS.good(TRAIN)
def fine_tuning_by_scaffold(features, labels, mode):
    """An init_fn that restores, an init_op of all variables, a ready_op that asks for fewer."""
    loss = _xent(labels, _logits(features))
    op = _train(loss, v1.train.AdamOptimizer())
    old = v1.train.Saver(v1.trainable_variables(), name='old')
    scaffold = v1.train.Scaffold(
        init_op=v1.global_variables_initializer(),
        ready_op=v1.report_uninitialized_variables(v1.trainable_variables()),
        init_fn=lambda _, session: old.save(session, ELSEWHERE, write_meta_graph=False))
    return _spec(mode, loss, train_op=op, scaffold=scaffold)


@PROGRAMS.good(TRAIN)
def saver_without_what_starts_afresh(features, labels, mode):
    """Metric and cursor variables are local; the saver has every global one, by hand."""
    loss = _xent(labels, _logits(features))
    cursor = v1.get_local_variable('cursor', [], tf.int64, v1.zeros_initializer())
    op = tf.group(_train(loss), cursor.assign_add(4))
    saver = v1.train.Saver({v.op.name: v for v in v1.global_variables()},
                           keep_checkpoint_every_n_hours=1)
    return _spec(mode, loss, train_op=op, scaffold=v1.train.Scaffold(saver=saver))


@PROGRAMS.good(EVAL, PREDICT)
def some_variables_from_averages(features, labels, mode):
    """EVAL reads averages for weights and the rest by their own names."""
    logits = _logits(features)
    average = tf.train.ExponentialMovingAverage(.99)
    v1.get_variable('calls', [], trainable=False)
    saver = v1.train.Saver(average.variables_to_restore())
    scaffold = v1.train.Scaffold(saver=saver)
    if mode == PREDICT:
        return tf.estimator.EstimatorSpec(mode, {'logits': logits}, scaffold=scaffold)
    return _spec(mode, _xent(labels, logits), scaffold=scaffold)


@PROGRAMS.good(TRAIN, cluster='worker/0')
def writers_made_for_the_chief(features, labels, mode, config):
    """A hook list that depends on is_chief: on this worker it holds no writer."""
    loss = _xent(labels, _logits(features))
    hooks = [v1.train.LoggingTensorHook({'loss': loss}, 100)]
    if config.is_chief:
        hooks.append(v1.train.ProfilerHook(save_secs=60, output_dir=ELSEWHERE))
    return _spec(mode, loss, training_hooks=hooks)


@PROGRAMS.good(TRAIN)
def v2_summaries_written_by_a_hook(features, labels, mode):
    """A writer of TensorFlow 2, started and flushed by a hook that runs all v2 summaries."""
    class Write(tf.estimator.SessionRunHook):
        def __init__(self, writer, ops):
            self._writer, self._ops = writer.init(), ops

        def after_create_session(self, session, coord):
            session.run(self._writer)

        def before_run(self, run_context):
            return tf.estimator.SessionRunArgs(self._ops)

    loss = _xent(labels, _logits(features))
    writer = tf.summary.create_file_writer(ELSEWHERE)
    with writer.as_default():
        tf.summary.scalar('loss', loss, step=v1.train.get_global_step())
    return _spec(mode, loss, training_hooks=[Write(writer, v1.summary.all_v2_summary_ops())])


@PROGRAMS.good(TRAIN, PREDICT, data=data.text())
def constants_of_moderate_size(features, labels, mode):
    """A sinusoid table and a mask of a few megabytes as constants."""
    table = v1.get_variable('w', [20, 8])
    positions = tf.constant(np.sin(np.arange(2000 * 8).reshape(2000, 8)), tf.float32)
    mask = tf.constant(np.tri(1000, dtype=np.float32))
    words = tf.nn.embedding_lookup(table, features['tokens']) + positions[:7]
    net = tf.einsum('ts,bsd->btd', mask[:7, :7], words)
    logits = v1.layers.dense(tf.reduce_mean(net, 1), 2)
    if mode == PREDICT:
        return tf.estimator.EstimatorSpec(mode, {'p': logits})
    return _spec(mode, _xent(labels, logits))

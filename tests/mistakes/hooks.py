"""H1, H2, H4 to H6, H8, H10, V8: hooks that fail, and hooks that do nothing."""

from __future__ import annotations

import os
import tempfile

import tensorflow as tf

from tests.mistakes import data
from tests.mistakes.harness import EVAL, PREDICT, TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()
ELSEWHERE = os.path.join(tempfile.gettempdir(), 'estimator_spec_ext_mistakes', 'elsewhere')


def _model(features, labels, scope='net'):
    with v1.variable_scope(scope):
        logits = v1.layers.dense(v1.layers.dense(features['x'], 4, tf.nn.relu), 3, name='logits')
    probabilities = tf.nn.softmax(logits, name='softmax_tensor')
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits, scope='xent')
    return probabilities, loss


def _train(loss):
    return v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())


def _spec(mode, loss, **fields):
    train_op = _train(loss) if mode == 'train' else None
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, **fields)


@PROGRAMS.pair('H1', TRAIN)
def logging_by_an_old_name(features, labels, mode, right):
    """A name that another version of the code used."""
    _, loss = _model(features, labels)
    name = 'softmax_tensor' if right else 'head/probabilities:0'
    hook = v1.train.LoggingTensorHook(tensors={'probabilities': name}, every_n_iter=100)
    return _spec(mode, loss, training_hooks=[hook])


@PROGRAMS.pair('H1', EVAL)
def name_of_the_other_mode(features, labels, mode, right):
    """In EVAL there is no learning rate."""
    _, loss = _model(features, labels)
    if mode == 'train' or right:
        tf.constant(.1, name='learning_rate')
    hook = v1.train.LoggingTensorHook(['learning_rate:0', 'softmax_tensor:0'], at_end=True)
    return _spec(mode, loss, evaluation_hooks=[hook])


@PROGRAMS.pair('H1', TRAIN)
def final_ops_by_name(features, labels, mode, right):
    """FinalOpsHook and NanTensorHook with names, one with a scope too few."""
    _, loss = _model(features, labels, 'tower')
    kernel = 'tower/logits/kernel' if right else 'logits/kernel'
    hooks = [v1.train.FinalOpsHook(kernel + ':0'), v1.train.NanTensorHook(loss)]
    return _spec(mode, loss, training_hooks=hooks)


_CACHE = {}


@PROGRAMS.pair('H2', TRAIN)
def hook_kept_from_an_earlier_call(features, labels, mode, right):
    """A hook made in the first call is kept for all others."""
    probabilities, loss = _model(features, labels)
    if right:
        hook = v1.train.LoggingTensorHook({'p': probabilities}, every_n_iter=10)
    else:
        if 'hook' not in _CACHE:
            with tf.Graph().as_default():
                first = tf.reduce_mean(tf.ones([3]), name='probabilities')
                _CACHE['hook'] = v1.train.LoggingTensorHook({'p': first}, every_n_iter=10)
        hook = _CACHE['hook']
    return _spec(mode, loss, training_hooks=[hook])


class FetchHook(tf.estimator.SessionRunHook):
    """Fetches what it is given."""

    def __init__(self, fetches):
        self._what = {'fetches': fetches}

    def before_run(self, run_context):
        return tf.estimator.SessionRunArgs(self._what['fetches'])


@PROGRAMS.pair('H2', EVAL, PREDICT)
def own_hook_over_another_graph(features, labels, mode, right):
    """A hook of the author's own with a tensor of another graph."""
    logits = v1.layers.dense(features['x'], 3)
    watched = logits
    if not right:
        with tf.Graph().as_default():
            watched = tf.zeros([3, 3])
    hook = FetchHook([watched])
    loss = None if labels is None else v1.losses.sparse_softmax_cross_entropy(labels, logits)
    return tf.estimator.EstimatorSpec(mode, {'logits': logits}, loss, evaluation_hooks=[hook],
                                      prediction_hooks=[hook])


@PROGRAMS.pair('H2', TRAIN, also=('V8',))
def saver_of_another_graph(features, labels, mode, right):
    """A summary op and a step counter of the EVAL graph in TRAIN."""
    _, loss = _model(features, labels)
    summary = v1.summary.scalar('xent', loss)
    if not right:
        with tf.Graph().as_default():
            summary = v1.summary.scalar('xent', tf.constant(1.))
    hook = v1.train.SummarySaverHook(save_steps=7, output_dir=ELSEWHERE, summary_op=summary)
    return _spec(mode, loss, training_chief_hooks=[hook])


@PROGRAMS.pair('H5', EVAL, info=True)
def image_summaries_in_eval(features, labels, mode, right):
    """Summaries of EVAL that nobody saves."""
    probabilities, loss = _model(features, labels)
    v1.summary.histogram('probabilities', probabilities)
    v1.summary.scalar('top', tf.reduce_max(probabilities))
    hooks = []
    if right:
        hooks = [v1.train.SummarySaverHook(save_steps=1, output_dir=ELSEWHERE,
                                           summary_op=v1.summary.merge_all())]
    return _spec(mode, loss, evaluation_hooks=hooks)


@PROGRAMS.pair('H5', EVAL, info=True, data=data.images())
def pictures_with_hooks_for_training(features, labels, mode, right):
    """The hook that saves them is among the training hooks."""
    picture = v1.layers.conv2d(features['image'], 3, 3, padding='same')
    loss = tf.reduce_mean(tf.square(picture - features['image']))
    op = v1.summary.image('reconstruction', picture, max_outputs=2)
    hook = v1.train.SummarySaverHook(save_secs=60, output_dir=ELSEWHERE, summary_op=op)
    field = 'evaluation_hooks' if right else 'training_hooks'
    return tf.estimator.EstimatorSpec(mode, loss=loss, **{field: [hook]})


@PROGRAMS.pair('H6', TRAIN)
def new_summaries_without_a_writer(features, labels, mode, right):
    """tf.summary of TensorFlow 2 with no writer in force."""
    probabilities, loss = _model(features, labels)
    if right:
        v1.summary.scalar('mean', tf.reduce_mean(probabilities))
    else:
        tf.summary.scalar('mean', tf.reduce_mean(probabilities),
                          step=v1.train.get_global_step())
    return _spec(mode, loss)


@PROGRAMS.pair('H6', TRAIN)
def new_summaries_that_nothing_runs(features, labels, mode, right):
    """A writer is there, but no op of the step writes."""
    _, loss = _model(features, labels)
    writer = tf.summary.create_file_writer(ELSEWHERE)
    with writer.as_default():
        tf.summary.scalar('loss', loss, step=v1.train.get_global_step())
    train_op = _train(loss)
    if not right:
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)
    written = v1.summary.all_v2_summary_ops()
    scaffold = v1.train.Scaffold(local_init_op=tf.group(
        v1.train.Scaffold.default_local_init_op(), writer.init()))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=tf.group(train_op, written),
                                      scaffold=scaffold)


class Counting(tf.estimator.SessionRunHook):
    """Counts its calls."""

    def __init__(self):
        self.calls = 0

    def after_run(self, run_context, run_values):
        self.calls += 1


@PROGRAMS.pair('H8', TRAIN)
def one_hook_in_two_lists(features, labels, mode, right):
    """The same object for the chief and for all."""
    _, loss = _model(features, labels)
    hook = Counting()
    return _spec(mode, loss, training_hooks=[hook],
                 training_chief_hooks=[Counting() if right else hook])


@PROGRAMS.pair('H8', EVAL)
def hooks_added_twice(features, labels, mode, right):
    """A list extended with itself."""
    probabilities, loss = _model(features, labels)
    hooks = [v1.train.LoggingTensorHook({'p': probabilities}, every_n_iter=1), Counting()]
    if not right:
        hooks = hooks + hooks[1:]
    return _spec(mode, loss, evaluation_hooks=hooks)


@PROGRAMS.pair('H10', TRAIN, cluster='worker/0')
def profiler_on_every_worker(features, labels, mode, right):
    """A profiler writes to one directory from all workers."""
    _, loss = _model(features, labels)
    hook = v1.train.ProfilerHook(save_steps=500, output_dir=ELSEWHERE)
    if right:
        return _spec(mode, loss, training_chief_hooks=[hook])
    return _spec(mode, loss, training_hooks=[hook])


@PROGRAMS.pair('H10', TRAIN, cluster='chief/0')
def summaries_on_every_worker(features, labels, mode, right):
    """A summary hook and a step counter in the list for all."""
    _, loss = _model(features, labels)
    hooks = [v1.train.SummarySaverHook(100, output_dir=ELSEWHERE,
                                       summary_op=v1.summary.scalar('l', loss)),
             v1.train.StepCounterHook(every_n_steps=10, output_dir=ELSEWHERE)]
    field = 'training_chief_hooks' if right else 'training_hooks'
    return _spec(mode, loss, **{field: hooks})


@PROGRAMS.pair('V8', TRAIN)
def checkpoints_somewhere_else(features, labels, mode, right, config):
    """A hook that saves elsewhere switches the default one off."""
    _, loss = _model(features, labels)
    place = config.model_dir if right else os.path.join(ELSEWHERE, 'copies')
    saver = v1.train.CheckpointSaverHook(place, save_steps=50)
    return _spec(mode, loss, training_chief_hooks=[saver])


@PROGRAMS.pair('V8', TRAIN)
def two_savers(features, labels, mode, right, config):
    """Two hooks save into one directory."""
    _, loss = _model(features, labels)
    hooks = [v1.train.CheckpointSaverHook(config.model_dir, save_secs=600)]
    if not right:
        hooks.append(v1.train.CheckpointSaverHook(config.model_dir, save_steps=1000,
                                                  checkpoint_basename='best.ckpt'))
    return _spec(mode, loss, training_chief_hooks=hooks)


@PROGRAMS.pair('V8', TRAIN, cluster='worker/1', also=('H10',))
def saver_on_every_worker(features, labels, mode, right, config):
    """The workers save too."""
    _, loss = _model(features, labels)
    hook = v1.train.CheckpointSaverHook(config.model_dir, save_steps=100)
    field = 'training_chief_hooks' if right else 'training_hooks'
    return _spec(mode, loss, **{field: [hook]})


@PROGRAMS.pair('H4', EVAL)
def scaffold_of_its_own(features, labels, mode, right):
    """merge_all gave None, so the hook gets a scaffold instead: one that nothing completes."""
    probabilities, loss = _model(features, labels)
    if right:
        v1.summary.histogram('probabilities', probabilities)
    merged = v1.summary.merge_all()
    if merged is None:
        hook = v1.train.SummarySaverHook(10, output_dir=ELSEWHERE, scaffold=v1.train.Scaffold())
    else:
        hook = v1.train.SummarySaverHook(10, output_dir=ELSEWHERE, summary_op=merged)
    return _spec(mode, loss, evaluation_hooks=[hook])


@PROGRAMS.pair('H4', TRAIN)
def scaffold_left_out_of_the_spec(features, labels, mode, right):
    """The hook waits for the summaries of a scaffold that the spec does not have."""
    _, loss = _model(features, labels)
    v1.summary.scalar('xent', loss)
    scaffold = v1.train.Scaffold()
    hook = v1.train.SummarySaverHook(save_secs=30, output_dir=ELSEWHERE, scaffold=scaffold)
    return _spec(mode, loss, training_chief_hooks=[hook], scaffold=scaffold if right else None)

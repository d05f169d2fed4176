"""M1 to M7 in evaluations of detectors, rankers and language models; Keras metrics inside."""

from __future__ import annotations

import tensorflow as tf

import estimator_spec_ext as ese
from tests.mistakes import data
from tests.mistakes.harness import EVAL, TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()


def _model(features, labels, classes=3):
    net = tf.keras.layers.Dense(5, 'relu')(features['x'])
    logits = tf.keras.layers.Dense(classes)(net)
    return logits, tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))


def _train(loss):
    return v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())


def _spec(mode, loss, metrics=None, **fields):
    train_op = _train(loss) if mode == 'train' else None
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, eval_metric_ops=metrics,
                                      **fields)


@PROGRAMS.pair('M1', EVAL)
def metric_class_itself(features, labels, mode, right):
    """A Keras metric's class instead of an object."""
    logits, loss = _model(features, labels)
    metric = tf.keras.metrics.SparseCategoricalAccuracy()
    metric.update_state(labels, logits)
    return ese.StrictEstimatorSpec(mode, loss=loss, eval_metric_ops={
        'accuracy': metric if right else tf.keras.metrics.SparseCategoricalAccuracy})


@PROGRAMS.pair('M1', EVAL)
def three_in_a_tuple(features, labels, mode, right):
    """Name, value and update."""
    logits, loss = _model(features, labels)
    value, update = v1.metrics.recall_at_k(labels, logits, 2)
    metric = (value, update) if right else ('recall', value, update)
    return ese.StrictEstimatorSpec(mode, loss=loss, eval_metric_ops={'recall_at_2': metric})


@PROGRAMS.pair('M1', EVAL)
def nested_by_task(features, labels, mode, right):
    """A dict of dicts, one for each task."""
    logits, loss = _model(features, labels)
    found = {'top1': v1.metrics.accuracy(labels, tf.argmax(logits, 1)),
             'mean': v1.metrics.mean(loss)}
    metrics = {f'task/{key}': value for key, value in found.items()} if right else {'task': found}
    return ese.StrictEstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)


@PROGRAMS.pair('M3', EVAL)
def pair_from_a_keras_metric(features, labels, mode, right):
    """(result(), update) of a Keras metric: nobody initialises its variables."""
    logits, loss = _model(features, labels)
    metric = tf.keras.metrics.MeanIoU(num_classes=3)
    update = metric.update_state(labels, tf.argmax(logits, 1))
    return _spec(mode, loss, {'iou': metric if right else (metric.result(), update)})


@PROGRAMS.pair('M3', EVAL)
def metric_for_each_class_in_a_loop(features, labels, mode, right):
    """One object is updated in a loop over the classes."""
    logits, loss = _model(features, labels)
    chosen = tf.argmax(logits, 1)
    metrics = {}
    shared = tf.keras.metrics.Precision(name='shared')
    for number in range(3):
        metric = tf.keras.metrics.Precision() if right else shared
        metric.update_state(tf.equal(labels, number), tf.equal(chosen, number))
        metrics[f'precision/{number}'] = metric
    return _spec(mode, loss, metrics)


@PROGRAMS.pair('M3', EVAL)
def f1_without_one_update(features, labels, mode, right):
    """F1 of precision and recall with the update of one of them."""
    logits, loss = _model(features, labels)
    wanted, chosen = tf.equal(labels, 1), tf.equal(tf.argmax(logits, 1), 1)
    precision, first = v1.metrics.precision(wanted, chosen)
    recall, second = v1.metrics.recall(wanted, chosen)
    f1 = 2. * precision * recall / (precision + recall + 1e-9)
    return _spec(mode, loss, {'f1': (f1, tf.group(first, second) if right else first)})


@PROGRAMS.pair('M4', EVAL)
def metrics_from_a_shared_helper(features, labels, mode, right):
    """A helper names a metric by the op, and one op is called loss."""
    logits, loss = _model(features, labels)
    named = {'logit': tf.reduce_mean(logits), 'loss': loss}
    prefix = 'mean_' if right else ''
    return _spec(mode, loss, {prefix + key: v1.metrics.mean(value)
                              for key, value in named.items()})


@PROGRAMS.pair('M5', EVAL)
def keras_function_as_metric(features, labels, mode, right):
    """A functional metric of Keras, with itself as its update."""
    logits, loss = _model(features, labels)
    hits = tf.reduce_mean(tf.keras.metrics.sparse_top_k_categorical_accuracy(labels, logits, k=2))
    return _spec(mode, loss, {'top2': v1.metrics.mean(hits) if right else (hits, tf.no_op())})


@PROGRAMS.pair('M5', EVAL, data=data.text())
def value_that_mixes_stream_and_batch(features, labels, mode, right):
    """A streaming mean, relative to this batch."""
    table = v1.get_variable('emb', [20, 4])
    pooled = tf.reduce_mean(tf.nn.embedding_lookup(table, features['tokens']), 1)
    logits = v1.layers.dense(pooled, 2)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    mean, update = v1.metrics.mean(loss)
    length, more = v1.metrics.mean(features['length'])
    value = mean / length if right else mean / tf.reduce_mean(
        tf.cast(features['length'], tf.float32))
    return _spec(mode, loss, {'by_token': (value, tf.group(update, more))})


@PROGRAMS.pair('M6', TRAIN)
def metric_value_in_a_named_identity(features, labels, mode, right):
    """The value under a name, which a hook logs."""
    logits, loss = _model(features, labels)
    accuracy = v1.metrics.accuracy(labels, tf.argmax(logits, 1))
    tf.identity(accuracy[1 if right else 0], name='train_accuracy')
    hook = v1.train.LoggingTensorHook(['train_accuracy'], every_n_iter=100)
    return _spec(mode, loss, {'accuracy': accuracy}, training_hooks=[hook])


@PROGRAMS.pair('M6', TRAIN)
def auc_in_a_summary_hook(features, labels, mode, right):
    """A merged summary of values, saved by a hook of the model's own."""
    logits, loss = _model(features, labels)
    auc = v1.metrics.auc(tf.equal(labels, 1), tf.nn.softmax(logits)[:, 1])
    mean = v1.metrics.mean(loss)
    merged = v1.summary.merge([v1.summary.scalar('auc', auc[0], collections=[]),
                               v1.summary.scalar('mean', mean[0], collections=[])])
    hook = v1.train.SummarySaverHook(10, output_dir='nowhere', summary_op=merged)
    train_op = _train(loss)
    if right:
        train_op = tf.group(train_op, auc[1], mean[1])
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op,
                                      training_chief_hooks=[hook])


@PROGRAMS.pair('M7', EVAL, info=True)
def recall_by_threshold(features, labels, mode, right):
    """One recall for each threshold, as one vector."""
    logits, loss = _model(features, labels)
    values, update = v1.metrics.recall_at_thresholds(
        tf.equal(labels, 1), tf.nn.softmax(logits)[:, 1], [.2, .5, .8])
    return _spec(mode, loss, {'recall': (values[1] if right else values, update)})


@PROGRAMS.pair('M7', EVAL, info=True)
def keras_metric_of_a_vector(features, labels, mode, right):
    """A Keras MeanTensor over the classes."""
    logits, loss = _model(features, labels)
    metric = tf.keras.metrics.Mean() if right else tf.keras.metrics.MeanTensor(shape=[3])
    metric.update_state(tf.reduce_mean(tf.nn.softmax(logits), 0))
    return _spec(mode, loss, {'share': metric})


# Correct programs.


@PROGRAMS.good(TRAIN, EVAL)
def own_streaming_metrics(features, labels, mode):
    """Variables in METRIC_VARIABLES and LOCAL_VARIABLES, made by the author; rates of counts."""
    logits, loss = _model(features, labels)
    keys = [v1.GraphKeys.LOCAL_VARIABLES, v1.GraphKeys.METRIC_VARIABLES]
    with v1.variable_scope('bleu'):
        hits = v1.get_variable('hits', [], initializer=v1.zeros_initializer(), trainable=False,
                               collections=keys)
        total = v1.get_variable('total', [], initializer=v1.zeros_initializer(), trainable=False,
                                collections=keys)
    right = tf.reduce_sum(tf.cast(tf.equal(labels, tf.argmax(logits, 1)), tf.float32))
    first = v1.assign_add(hits, right)
    second = v1.assign_add(total, tf.cast(tf.size(labels), tf.float32))
    with v1.control_dependencies([first, second]):
        update = tf.math.divide_no_nan(hits.read_value(), total.read_value())
    return _spec(mode, loss, {'bleu': (tf.math.divide_no_nan(hits, total), update),
                              'count': (tf.identity(total), tf.no_op())})


@PROGRAMS.good(EVAL)
def metrics_conditional_on_the_batch(features, labels, mode):
    """An update in a cond; a map metric with masks of weights; a streaming histogram."""
    logits, loss = _model(features, labels)
    chosen = tf.argmax(logits, 1)
    seen = v1.get_local_variable('seen', [3], initializer=v1.zeros_initializer())
    update = tf.cond(tf.size(labels) > 2,
                     lambda: seen.assign_add(tf.reduce_sum(tf.one_hot(chosen, 3), 0),
                                             read_value=False) if False else tf.group(
                         v1.assign_add(seen, tf.reduce_sum(tf.one_hot(chosen, 3), 0))), tf.no_op)
    weights = tf.cast(labels > 0, tf.float32)
    return _spec(mode, loss, {
        'entropy': (-tf.reduce_sum(seen * tf.math.log(seen + 1.)), update),
        'weighted': v1.metrics.accuracy(labels, chosen, weights=weights),
        'map': v1.metrics.average_precision_at_k(labels[:, None], logits, 2)})


@PROGRAMS.good(EVAL)
def keras_metrics_shared_between_keys(features, labels, mode):
    """One Keras metric under two keys; one as part of another; a subclass that wraps a Mean."""
    class Perplexity(tf.keras.metrics.Mean):
        def result(self):
            return tf.exp(super().result())

    logits, loss = _model(features, labels)
    mean, perplexity = tf.keras.metrics.Mean(), Perplexity('perplexity')
    mean.update_state(loss)
    perplexity.update_state(loss)
    return _spec(mode, loss, {'xent': mean, 'mean': mean, 'perplexity': perplexity})


@PROGRAMS.good(TRAIN)
def metrics_of_training_kept_by_the_step(features, labels, mode):
    """Values in summaries whose updates hang on the train_op through control dependencies."""
    logits, loss = _model(features, labels)
    value, update = v1.metrics.mean(loss)
    accuracy, hits = v1.metrics.accuracy(labels, tf.argmax(logits, 1))
    v1.summary.scalar('mean_loss', value)
    with v1.control_dependencies([update, hits]):
        shown = tf.identity(accuracy)
        loss = tf.identity(loss)
    v1.summary.scalar('accuracy', shown)
    return _spec(mode, loss)


@PROGRAMS.good(TRAIN)
def metrics_reset_by_a_hook(features, labels, mode):
    """A hook resets the metric every hundred steps and runs its update itself."""
    class Windowed(tf.estimator.SessionRunHook):
        def __init__(self, metric, reset):
            self._metric, self._reset = metric, reset

        def before_run(self, run_context):
            return tf.estimator.SessionRunArgs({'update': self._metric[1]})

    logits, loss = _model(features, labels)
    metric = v1.metrics.accuracy(labels, tf.argmax(logits, 1), name='window')
    reset = v1.variables_initializer(v1.get_collection(v1.GraphKeys.METRIC_VARIABLES, 'window'))
    v1.summary.scalar('window', metric[0])
    return _spec(mode, loss, training_hooks=[Windowed(metric, reset)])


@PROGRAMS.good(EVAL)
def best_value_so_far(features, labels, mode):
    """Minimum and maximum over batches, assigned; a value that counts the evaluations."""
    logits, loss = _model(features, labels)
    low = v1.get_local_variable('low', [], initializer=tf.constant_initializer(1e9))
    high = v1.get_local_variable('high', [], initializer=tf.constant_initializer(-1e9))
    ops = [v1.assign(low, tf.minimum(low, tf.reduce_min(logits))),
           v1.assign(high, tf.maximum(high, tf.reduce_max(logits)))]
    return _spec(mode, loss, {'range': (high - low, tf.group(*ops)),
                              'step': (tf.cast(v1.train.get_global_step(), tf.float32),
                                       tf.no_op())})


@PROGRAMS.good(EVAL)
def weights_and_constants_as_metrics(features, labels, mode):
    """Norms of weights, a threshold and a rate: numbers of the model, not of the data."""
    _, loss = _model(features, labels)
    norm = tf.linalg.global_norm(v1.trainable_variables())
    threshold = v1.get_variable('threshold', [], trainable=False)
    return _spec(mode, loss, {'norm': (norm, tf.no_op()), 'threshold': (threshold, tf.no_op()),
                              'loss/last': v1.metrics.mean(loss)})

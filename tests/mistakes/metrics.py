"""M1, M3 to M7: metrics that fail, lie or stay zero."""

from __future__ import annotations

import tensorflow as tf

import estimator_spec_ext as ese
from tests.mistakes import data
from tests.mistakes.harness import EVAL, TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()


def _model(features, labels):
    logits = v1.layers.dense(v1.layers.dense(features['x'], 5, tf.nn.relu), 3)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    return logits, tf.argmax(logits, 1), loss


def _train(loss):
    return v1.train.AdagradOptimizer(.1).minimize(loss, v1.train.get_global_step())


@PROGRAMS.pair('M1', EVAL)
def batch_mean_as_metric(features, labels, mode, right):
    """The mean of one batch."""
    _, predicted, loss = _model(features, labels)
    hits = tf.cast(tf.equal(predicted, labels), tf.float32)
    metric = v1.metrics.mean(hits) if right else tf.reduce_mean(hits)
    return ese.StrictEstimatorSpec(mode, loss=loss, eval_metric_ops={'accuracy': metric})


@PROGRAMS.pair('M1', EVAL)
def update_op_alone(features, labels, mode, right):
    """Only the update, as fetched in a loop of the author's own."""
    _, predicted, loss = _model(features, labels)
    made = v1.metrics.precision(tf.equal(labels, 1), tf.equal(predicted, 1))
    return ese.StrictEstimatorSpec(
        mode, loss=loss, eval_metric_ops={'p': made if right else made[1], 'r': v1.metrics.recall(
            tf.equal(labels, 1), tf.equal(predicted, 1))})


@PROGRAMS.pair('M1', EVAL)
def metric_fn_and_tensors(features, labels, mode, right):
    """The pair that TPUEstimatorSpec takes."""
    _, predicted, loss = _model(features, labels)

    def metric_fn(labels, predicted):
        return {'eval_accuracy': v1.metrics.accuracy(labels, predicted)}

    metrics = metric_fn(labels, predicted) if right else (metric_fn, [labels, predicted])
    return ese.StrictEstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)


@PROGRAMS.pair('M1', EVAL)
def list_from_zip(features, labels, mode, right):
    """Lists instead of tuples."""
    _, predicted, loss = _model(features, labels)
    made = {'acc': v1.metrics.accuracy(labels, predicted), 'mean': v1.metrics.mean(predicted)}
    if not right:
        made = {key: list(value) for key, value in made.items()}
    return ese.StrictEstimatorSpec(mode, loss=loss, eval_metric_ops=made)


@PROGRAMS.pair('M3', EVAL, also=('M1',))
def what_update_state_returns(features, labels, mode, right):
    """What update_state returns, instead of the metric."""
    logits, _, loss = _model(features, labels)
    metric = tf.keras.metrics.SparseCategoricalAccuracy()
    update = metric.update_state(labels, logits)
    return ese.StrictEstimatorSpec(
        mode, loss=loss, eval_metric_ops={'accuracy': metric if right else update})


@PROGRAMS.pair('M3', EVAL)
def keras_metric_never_updated(features, labels, mode, right):
    """A Keras metric without a call of update_state."""
    logits, _, loss = _model(features, labels)
    auc = tf.keras.metrics.AUC(name='auc')
    if right:
        auc.update_state(tf.equal(labels, 0), tf.nn.softmax(logits)[:, 0])
    return ese.StrictEstimatorSpec(mode, loss=loss, eval_metric_ops={'auc': auc})


@PROGRAMS.pair('M3', EVAL)
def keras_metric_updated_by_task(features, labels, mode, right):
    """One metric updated once for each of two tasks: only the first update runs."""
    logits, _, loss = _model(features, labels)
    error = tf.keras.metrics.Mean('error')
    parts = [tf.cast(labels, tf.float32) - logits[:, n] for n in range(2)]
    if right:
        error.update_state(tf.concat(parts, 0))
    else:
        for part in parts:
            error.update_state(part)
    return ese.StrictEstimatorSpec(mode, loss=loss, eval_metric_ops={'error': error})


@PROGRAMS.pair('M4', EVAL)
def mean_loss_called_loss(features, labels, mode, right):
    """A metric under the name that Estimator uses itself."""
    _, predicted, loss = _model(features, labels)
    metrics = {'accuracy': v1.metrics.accuracy(labels, predicted)}
    metrics['eval_loss' if right else 'loss'] = v1.metrics.mean(loss)
    return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)


@PROGRAMS.pair('M4', EVAL)
def step_as_a_metric(features, labels, mode, right):
    """The step of the checkpoint as a metric."""
    _, _, loss = _model(features, labels)
    step = tf.cast(v1.train.get_global_step(), tf.float32)
    name = 'trained_steps' if right else v1.GraphKeys.GLOBAL_STEP
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, eval_metric_ops={name: v1.metrics.mean(step)})


@PROGRAMS.pair('M5', EVAL)
def value_of_the_last_batch(features, labels, mode, right):
    """(x, x) to get past the check for tuples."""
    _, predicted, loss = _model(features, labels)
    share = tf.reduce_mean(tf.cast(tf.equal(predicted, labels), tf.float32))
    metric = v1.metrics.mean(share) if right else (share, share)
    return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops={'share': metric})


@PROGRAMS.pair('M5', EVAL, data=data.text())
def perplexity_of_a_batch(features, labels, mode, right):
    """exp of this batch's loss beside the update of the mean."""
    table = v1.get_variable('emb', [20, 4])
    pooled = tf.reduce_mean(tf.nn.embedding_lookup(table, features['tokens']), 1)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, v1.layers.dense(pooled, 2))
    mean, update = v1.metrics.mean(loss)
    value = tf.exp(mean if right else loss)
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, eval_metric_ops={'perplexity': (value, update)})


@PROGRAMS.pair('M5', EVAL)
def ratio_with_no_op(features, labels, mode, right):
    """A ratio of this batch with a no_op for its update."""
    logits, predicted, loss = _model(features, labels)
    if right:
        top, top_op = v1.metrics.mean(tf.reduce_max(logits, 1))
        low, low_op = v1.metrics.mean(tf.reduce_min(logits, 1))
        metric = (top / low, tf.group(top_op, low_op))
    else:
        metric = (tf.reduce_mean(tf.reduce_max(logits, 1))
                  / tf.reduce_mean(tf.reduce_min(logits, 1)), tf.no_op())
    return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops={'ratio': metric})


@PROGRAMS.pair('M6', TRAIN)
def summary_of_the_value(features, labels, mode, right):
    """A summary of a metric's value; nothing updates the metric in TRAIN."""
    _, predicted, loss = _model(features, labels)
    accuracy = v1.metrics.accuracy(labels, predicted, name='acc_op')
    v1.summary.scalar('train_accuracy', accuracy[1] if right else accuracy[0])
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('M6', TRAIN)
def logged_value(features, labels, mode, right):
    """A LoggingTensorHook over a metric's value."""
    _, predicted, loss = _model(features, labels)
    value, update = v1.metrics.mean_per_class_accuracy(labels, predicted, 3)
    train_op = _train(loss)
    if right:
        train_op = tf.group(train_op, update)
    hook = v1.train.LoggingTensorHook({'accuracy': value, 'loss': loss}, every_n_iter=50)
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, train_op=train_op, training_hooks=[hook])


@PROGRAMS.pair('M6', TRAIN)
def keras_result_in_a_summary(features, labels, mode, right):
    """result() of a Keras metric in a summary, its update left hanging."""
    logits, _, loss = _model(features, labels)
    metric = tf.keras.metrics.SparseTopKCategoricalAccuracy(k=2)
    update = metric.update_state(labels, logits)
    v1.summary.scalar('top2', metric.result())
    with v1.control_dependencies([update] if right else []):
        train_op = _train(loss)
    # Estimator initialises the variables of a Keras metric only when it is in the spec.
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op,
                                      eval_metric_ops={'top2': metric})


@PROGRAMS.pair('M7', EVAL, info=True)
def confusion_matrix_metric(features, labels, mode, right):
    """A confusion matrix, summed over batches."""
    _, predicted, loss = _model(features, labels)
    matrix = v1.get_variable('confusion', [3, 3], tf.int32, v1.zeros_initializer(),
                             trainable=False, collections=['local_variables'])
    update = matrix.assign_add(tf.math.confusion_matrix(labels, predicted, 3))
    value = tf.identity(matrix)
    if right:
        value = tf.linalg.trace(value) / tf.reduce_sum(value)
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, eval_metric_ops={'confusion': (value, update)})


@PROGRAMS.pair('M7', EVAL, info=True)
def accuracy_for_each_class(features, labels, mode, right):
    """One number for each class under one name."""
    logits, _, loss = _model(features, labels)
    errors, update = v1.metrics.mean_tensor(
        tf.reduce_mean(tf.abs(tf.nn.softmax(logits) - tf.one_hot(labels, 3)), 0))
    if right:
        metrics = {f'error/{n}': (errors[n], update) for n in range(3)}
    else:
        metrics = {'error': (errors, update)}
    return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)

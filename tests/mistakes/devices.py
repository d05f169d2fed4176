"""D9, D10 under two replicas, U1 to U3 in TPU specs."""

from __future__ import annotations

import tensorflow as tf

import estimator_spec_ext as ese
from tests.mistakes import data
from tests.mistakes.harness import EVAL, PREDICT, TRAIN, Programs

v1 = tf.compat.v1
tpu = v1.estimator.tpu
PROGRAMS = Programs()


def _train(loss):
    return v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())


def _losses(features, labels):
    logits = tf.keras.layers.Dense(3)(features['x'])
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return losses, logits


@PROGRAMS.pair('D9', TRAIN, replicas=2)
def weights_from_numpy(features, labels, mode, right):
    """init_fn loads an array into the first replica's weights; init_from_checkpoint into all."""
    with v1.variable_scope('new'):
        net = v1.layers.dense(features['x'], 4, name='body')
    if right:
        v1.train.init_from_checkpoint(data.pretrained(), {'old/body/': 'new/body/'})
    losses, _ = _losses({'x': net}, labels)
    loss = tf.reduce_mean(losses)
    op = _train(loss)
    if right:
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=op)
    given = v1.placeholder(tf.float32, [6, 4])
    assign = v1.assign(v1.trainable_variables()[0], given)
    scaffold = v1.train.Scaffold(
        init_fn=lambda _, session: session.run(assign, {given: [[0.] * 4] * 6}))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=op, scaffold=scaffold)


@PROGRAMS.pair('D10', TRAIN, replicas=2, data=data.images())
def losses_of_two_heads_and_replicas(features, labels, mode, right):
    """get_losses() of all replicas; or those under this replica's scope."""
    net = tf.keras.layers.Conv2D(4, 3)(features['image'])
    pooled = tf.reduce_mean(net, [1, 2])
    for name in ('main', 'side'):
        logits = tf.keras.layers.Dense(3, name=name)(pooled)
        v1.losses.sparse_softmax_cross_entropy(labels, logits)
    scope = v1.get_default_graph().get_name_scope() if right else None
    losses = v1.losses.get_losses(scope=scope)
    if right:  # the first replica has no scope of its own
        losses = losses[-2:]
    loss = tf.add_n(losses)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=_train(loss))


# TPU.


def _metric_fn(labels, logits):
    return {'accuracy': v1.metrics.accuracy(labels, tf.argmax(logits, 1))}


@PROGRAMS.pair('U1', EVAL)
def scalar_for_the_metrics(features, labels, mode, right):
    """The mean loss as a tensor for metric_fn."""
    losses, logits = _losses(features, labels)
    loss = tf.reduce_mean(losses)

    def metric_fn(values, labels, logits):
        return {'loss_mean': v1.metrics.mean(values), **_metric_fn(labels, logits)}

    given = losses if right else loss
    return tpu.TPUEstimatorSpec(mode, loss=loss, eval_metrics=(metric_fn, [given, labels, logits]))


@PROGRAMS.pair('U1', EVAL, also=('U2',))
def learning_rate_in_a_dict(features, labels, mode, right):
    """Tensors by name, one of them a constant rate."""
    losses, logits = _losses(features, labels)
    rate = tf.constant([.1]) if right else tf.constant(.1)

    def metric_fn(labels, logits, rate):
        return {**_metric_fn(labels, logits), 'rate': v1.metrics.mean(rate)}

    return ese.StrictTPUEstimatorSpec(
        mode, loss=tf.reduce_mean(losses),
        eval_metrics=(metric_fn, {'labels': labels, 'logits': logits, 'rate': rate}))


@PROGRAMS.pair('U2', EVAL)
def keys_that_are_no_arguments(features, labels, mode, right):
    """metric_fn takes other names than the dict has."""
    losses, logits = _losses(features, labels)
    name = 'logits' if right else 'predictions'
    return ese.StrictTPUEstimatorSpec(
        mode, loss=tf.reduce_mean(losses),
        eval_metrics=(_metric_fn, {'labels': labels, name: logits}))


@PROGRAMS.pair('U2', EVAL)
def metrics_already_made(features, labels, mode, right):
    """The dict of metrics where the pair should be."""
    losses, logits = _losses(features, labels)
    metrics = (_metric_fn, [labels, logits]) if right else _metric_fn(labels, logits)
    return ese.StrictTPUEstimatorSpec(mode, loss=tf.reduce_mean(losses), eval_metrics=metrics)


@PROGRAMS.pair('U2', EVAL)
def python_number_among_the_tensors(features, labels, mode, right):
    """The number of classes is no tensor."""
    losses, logits = _losses(features, labels)

    def metric_fn(labels, logits, classes=3):
        return {'mean': v1.metrics.mean_per_class_accuracy(labels, tf.argmax(logits, 1), classes)}

    tensors = {'labels': labels, 'logits': logits, 'classes': 3}
    if right:
        del tensors['classes']
    return ese.StrictTPUEstimatorSpec(
        mode, loss=tf.reduce_mean(losses), eval_metrics=(metric_fn, tensors))


@PROGRAMS.pair('U3', TRAIN)
def step_and_loss_for_the_host(features, labels, mode, right):
    """host_call with numbers, not vectors of one."""
    losses, _ = _losses(features, labels)
    loss = tf.reduce_mean(losses)
    step = v1.train.get_global_step()
    op = _train(loss)

    def host_call_fn(step, loss):
        return [tf.reduce_sum(step), tf.reduce_mean(loss)]

    tensors = [tf.reshape(step, [1]), tf.reshape(loss, [1])] if right else [
        tf.identity(step), loss]
    return ese.StrictTPUEstimatorSpec(mode, loss=loss, train_op=op,
                                      host_call=(host_call_fn, tensors))


@PROGRAMS.pair('U3', TRAIN)
def host_call_returns_none(features, labels, mode, right):
    """host_call_fn writes summaries, and returns nothing."""
    losses, _ = _losses(features, labels)
    loss = tf.reduce_mean(losses)

    def host_call_fn(loss):
        kept = tf.reduce_mean(loss)
        return [kept] if right else None

    spec = ese.StrictTPUEstimatorSpec(mode, loss=loss, train_op=_train(loss),
                                      host_call=(host_call_fn, {'loss': loss[None]}))
    return spec.as_estimator_spec()  # what TPUEstimator(use_tpu=False) does


# Correct programs.


@PROGRAMS.good(TRAIN, EVAL, PREDICT, data=data.text())
def bert_like_classifier(features, labels, mode):
    """A TPU spec in every mode, scaffold_fn, metrics by list, CrossShardOptimizer off."""
    table = v1.get_variable('words', [20, 4])
    net = tf.nn.embedding_lookup(table, features['tokens'])
    pooled = v1.layers.dense(net[:, 0], 4, tf.tanh, name='pooler')
    logits = v1.layers.dense(pooled, 2)
    if mode == PREDICT:
        return tpu.TPUEstimatorSpec(mode, predictions={'probabilities': tf.nn.softmax(logits)},
                                    scaffold_fn=None)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    loss = tf.reduce_mean(losses)

    def metric_fn(losses, labels, logits):
        return {'eval_accuracy': v1.metrics.accuracy(labels, tf.argmax(logits, -1)),
                'eval_loss': v1.metrics.mean(values=losses)}

    if mode == EVAL:
        return tpu.TPUEstimatorSpec(mode=mode, loss=loss,
                                    eval_metrics=(metric_fn, [losses, labels, logits]),
                                    scaffold_fn=v1.train.Scaffold)
    return tpu.TPUEstimatorSpec(mode=mode, loss=loss, train_op=_train(loss),
                                scaffold_fn=lambda: v1.train.Scaffold())


@PROGRAMS.good(TRAIN, EVAL)
def metrics_with_defaults_and_partials(features, labels, mode):
    """functools.partial, default arguments and **kwargs for the functions of a TPU spec."""
    import functools
    losses, logits = _losses(features, labels)

    def metric_fn(labels, logits, weights=None, *, k=2):
        return {'top': v1.metrics.mean(tf.cast(tf.nn.in_top_k(labels, logits, k), tf.float32))}

    def host_call_fn(**tensors):
        return [tf.reduce_mean(value) for value in tensors.values()]

    loss = tf.reduce_mean(losses)
    metrics = (functools.partial(metric_fn, k=1), {'labels': labels, 'logits': logits})
    return ese.StrictTPUEstimatorSpec(
        mode, loss=loss, train_op=_train(loss) if mode == TRAIN else None,
        eval_metrics=metrics if mode == EVAL else None,
        host_call=(host_call_fn, {'loss': tf.expand_dims(loss, 0)}))


@PROGRAMS.good(TRAIN, replicas=2)
def mirrored_with_reductions(features, labels, mode):
    """Sums over all replicas, a shared counter, and a loss scaled by the number of replicas."""
    losses, logits = _losses(features, labels)
    count = tf.distribute.get_strategy().num_replicas_in_sync
    loss = tf.reduce_sum(losses) / tf.cast(tf.size(losses) * count, tf.float32)
    v1.summary.scalar('top', tf.reduce_max(logits))
    step = v1.train.get_global_step()
    rate = tf.keras.optimizers.schedules.CosineDecay(.1, 100)(step)
    op = v1.train.MomentumOptimizer(rate, .9).minimize(loss, step)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=op)


@PROGRAMS.good(TRAIN, replicas=2, data=data.images())
def mirrored_with_averages_and_norms(features, labels, mode):
    """Batch norm and Keras regularizers under two replicas; losses by hand."""
    norm = tf.keras.layers.BatchNormalization(momentum=.9)
    net = norm(tf.keras.layers.Conv2D(4, 3)(features['image']), training=True)
    layer = tf.keras.layers.Dense(3, kernel_regularizer='l2')
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=layer(tf.reduce_mean(net, [1, 2])))
    loss = tf.reduce_mean(losses) + tf.add_n(layer.losses) / 2.
    with v1.control_dependencies(norm.updates):
        op = _train(loss)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=op)

"""Heads, canned pieces and several optimizers."""

from __future__ import annotations

import tensorflow as tf

from tests.mistakes import data
from tests.mistakes.harness import EVAL, PREDICT, TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()


@PROGRAMS.good(TRAIN, EVAL, PREDICT)
def multi_head(features, labels, mode):
    """Two heads in one, with keys that are tuples."""
    first = tf.estimator.MultiClassHead(3, name='kind')
    second = tf.estimator.RegressionHead(name='size')
    head = tf.estimator.MultiHead([first, second], head_weights=[1., .2])
    net = v1.layers.dense(features['x'], 6, tf.nn.relu)
    logits = {'kind': v1.layers.dense(net, 3), 'size': v1.layers.dense(net, 1)}
    given = None if labels is None else {
        'kind': labels[:, None], 'size': tf.cast(labels, tf.float32)[:, None]}
    return head.create_estimator_spec(
        features, mode, logits, labels=given, trainable_variables=v1.trainable_variables(),
        train_op_fn=lambda loss: v1.train.AdamOptimizer().minimize(
            loss, v1.train.get_global_step()))


@PROGRAMS.good(TRAIN, EVAL, PREDICT, data=data.table())
def linear_and_deep_with_one_step(features, labels, mode):
    """Two optimizers without a step, and one increment, as canned estimators do it."""
    shop = tf.feature_column.categorical_column_with_identity('shop', 50)
    with v1.variable_scope('linear'):
        linear = v1.feature_column.linear_model(features, [shop], sparse_combiner='sqrtn')
    with v1.variable_scope('dnn'):
        net = v1.feature_column.input_layer(
            features, [tf.feature_column.embedding_column(shop, 4),
                       tf.feature_column.numeric_column('age')])
        deep = v1.layers.dense(net, 1)
    head = tf.estimator.BinaryClassHead()

    def train_op_fn(loss):
        ops = [v1.train.FtrlOptimizer(.2).minimize(loss, var_list=v1.trainable_variables('linear')),
               v1.train.AdagradOptimizer(.05).minimize(
                   loss, var_list=v1.trainable_variables('dnn'))]
        with v1.control_dependencies([tf.group(*ops)]):
            return v1.assign_add(v1.train.get_global_step(), 1).op

    return head.create_estimator_spec(
        features, mode, linear + deep, labels=labels,
        trainable_variables=v1.trainable_variables(), train_op_fn=train_op_fn)


@PROGRAMS.good(TRAIN, EVAL)
def weighted_head_with_regularizers(features, labels, mode):
    """Regularization losses of old layers and of Keras, given to a head."""
    l2 = tf.keras.regularizers.l2(.01)
    with v1.variable_scope('old', use_resource=True):  # Keras optimizers take no others
        old = v1.layers.dense(features['x'], 4, tf.nn.relu, kernel_regularizer=l2)
    layer = tf.keras.layers.Dense(3, kernel_regularizer=l2)
    logits = layer(old)
    head = tf.estimator.MultiClassHead(3, loss_reduction=tf.keras.losses.Reduction.SUM)
    return head.create_estimator_spec(
        features, mode, logits, labels=labels[:, None], optimizer=_legacy(),
        trainable_variables=v1.trainable_variables(),
        regularization_losses=v1.losses.get_regularization_losses() + layer.losses)


def _legacy():
    optimizer = tf.keras.optimizers.legacy.Adagrad(.1)
    optimizer.iterations = v1.train.get_or_create_global_step()
    return optimizer


@PROGRAMS.good(TRAIN, EVAL, PREDICT, data=data.column())
def several_optimizers_by_layer(features, labels, mode):
    """A slower rate for the first layer; gradients taken once."""
    first = tf.keras.layers.Dense(5, 'relu')
    last = tf.keras.layers.Dense(1)
    value = last(first(features['x']))
    if mode == PREDICT:
        return tf.estimator.EstimatorSpec(mode, {'value': value})
    loss = v1.losses.huber_loss(labels, value)
    if mode == EVAL:
        return tf.estimator.EstimatorSpec(
            mode, loss=loss, eval_metric_ops={'mae': v1.metrics.mean_absolute_error(labels, value)})
    slow, fast = v1.train.GradientDescentOptimizer(.001), v1.train.MomentumOptimizer(.1, .9)
    gradients = tf.gradients(loss, first.variables + last.variables)
    gradients, _ = tf.clip_by_global_norm(gradients, 1.)
    train_op = tf.group(
        slow.apply_gradients(zip(gradients[:2], first.variables)),
        fast.apply_gradients(zip(gradients[2:], last.variables), v1.train.get_global_step()))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


@PROGRAMS.good(TRAIN, EVAL, PREDICT, data=data.images())
def keras_application_style(features, labels, mode):
    """A functional Keras model with batch norm and dropout, over the features themselves."""
    inputs = tf.keras.Input(tensor=features['image'])  # a placeholder of its own nobody would feed
    net = tf.keras.layers.SeparableConv2D(4, 3)(inputs)
    net = tf.keras.layers.BatchNormalization()(net, training=mode == TRAIN)
    net = tf.keras.layers.GlobalMaxPooling2D()(tf.keras.layers.ReLU()(net))
    net = tf.keras.layers.Dropout(.2)(net, training=mode == TRAIN)
    model = tf.keras.Model(inputs, tf.keras.layers.Dense(3)(net))
    logits = model.output
    if mode == PREDICT:
        return tf.estimator.EstimatorSpec(mode, {'logits': logits})
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    accuracy = tf.keras.metrics.SparseCategoricalAccuracy()
    accuracy.update_state(labels, logits)
    train_op = None
    if mode == TRAIN:
        optimizer = tf.keras.optimizers.legacy.Adam()
        optimizer.iterations = v1.train.get_or_create_global_step()
        update = optimizer.get_updates(loss, model.trainable_variables)
        train_op = tf.group(update, *model.updates)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op,
                                      eval_metric_ops={'accuracy': accuracy})

"""The training step: the global step, updates, gradients, the loss."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from tests.jobs import base
from tests.jobs.base import EVAL, TRAIN, pair, v1


@pair('T1')
def step_not_passed(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        loss = v1.losses.mean_squared_error(labels, price) if labels is not None else None
        train_op = None
        if mode == TRAIN:
            optimizer = v1.train.RMSPropOptimizer(.01)
            pairs = optimizer.compute_gradients(loss)
            train_op = optimizer.apply_gradients(
                pairs, global_step=v1.train.get_global_step() if right else None)
        return base.spec(mode, price, labels, loss=loss, train_op=train_op)

    return base.whole(model_fn, folder)


@pair('T2')
def keras_optimizer(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        net = tf.keras.Sequential([tf.keras.layers.Dense(4, 'tanh'), tf.keras.layers.Dense(1)])
        price = net(features['rooms'])
        train_op = loss = None
        if mode == TRAIN:
            loss = tf.reduce_mean(tf.abs(price - labels))
            optimizer = tf.keras.optimizers.legacy.SGD(.01)
            if right:
                optimizer.iterations = v1.train.get_or_create_global_step()
            train_op = tf.group(*optimizer.get_updates(loss, net.trainable_variables))
        return base.spec(mode, price, labels, loss=loss, train_op=train_op)

    return base.whole(model_fn, folder)


@pair('T3')
def two_optimizers(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        with v1.variable_scope('wide'):
            wide = v1.layers.dense(features['rooms'], 1)
        with v1.variable_scope('deep'):
            deep = base.outputs(features)
        price = wide + deep
        train_op = loss = None
        if mode == TRAIN:
            loss = tf.reduce_mean(tf.square(price - labels))
            step = v1.train.get_global_step()
            train_op = tf.group(
                v1.train.FtrlOptimizer(.1).minimize(
                    loss, step, var_list=v1.trainable_variables('wide')),
                v1.train.AdagradOptimizer(.1).minimize(
                    loss, None if right else step, var_list=v1.trainable_variables('deep')))
        return base.spec(mode, price, labels, loss=loss, train_op=train_op)

    return base.whole(model_fn, folder)


@pair('T4')
def updates_left_out(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        net = v1.layers.batch_normalization(base.hidden(features), training=mode == TRAIN)
        price = v1.layers.dense(net, 1)
        train_op = loss = None
        if mode == TRAIN:
            loss = tf.reduce_mean(tf.square(price - labels))
            train_op = base.minimize(loss)
            if right:
                updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
                train_op = tf.group(train_op, *updates)
        return base.spec(mode, price, labels, loss=loss, train_op=train_op)

    return base.whole(model_fn, folder)


@pair('T5')
def keras_updates_left_out(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        norm = tf.keras.layers.BatchNormalization()
        price = v1.layers.dense(norm(base.hidden(features), training=mode == TRAIN), 1)
        train_op = loss = None
        if mode == TRAIN:
            loss = tf.reduce_mean(tf.square(price - labels))
            updates = norm.updates if right else v1.get_collection(v1.GraphKeys.UPDATE_OPS)
            with tf.control_dependencies(updates):
                train_op = base.minimize(loss)
        return base.spec(mode, price, labels, loss=loss, train_op=train_op)

    return base.whole(model_fn, folder)


@pair('T6')
def optimizer_outlives_its_graph(right: bool, folder: str) -> Any:
    kept = tf.keras.optimizers.legacy.Adam(.01)

    def model_fn(features, labels, mode):
        with v1.variable_scope(v1.get_variable_scope(), use_resource=True):
            price = base.outputs(features)
        train_op = loss = None
        if mode == TRAIN:
            optimizer = tf.keras.optimizers.legacy.Adam(.01) if right else kept
            loss = tf.reduce_mean(tf.square(price - labels))
            step = v1.train.get_or_create_global_step()
            train_op = tf.group(
                *optimizer.get_updates(loss, v1.trainable_variables()), step.assign_add(1))
        return base.spec(mode, price, labels, loss=loss, train_op=train_op)

    return base.whole(model_fn, folder)


@pair('T7')
def schedule_of_another_counter(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        train_op = loss = None
        if mode == TRAIN:
            loss = tf.reduce_mean(tf.square(price - labels))
            counter = v1.get_variable('epoch', [], tf.int64, v1.zeros_initializer(),
                                      trainable=False)
            step = v1.train.get_global_step()
            rate = v1.train.polynomial_decay(.1, step if right else counter, 1000)
            train_op = v1.train.GradientDescentOptimizer(rate).minimize(loss, global_step=step)
        return base.spec(mode, price, labels, loss=loss, train_op=train_op)

    return base.whole(model_fn, folder)


@pair('T8')
def spec_kept_for_the_next_call(right: bool, folder: str) -> Any:
    built: dict[str, Any] = {}

    def model_fn(features, labels, mode):
        if right or mode not in built:
            built[mode] = base.model_fn(features, labels, mode)
        return built[mode]

    return base.whole(model_fn, folder)


@pair('L1')
def loss_of_each_example(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        loss = None
        if labels is not None:
            loss = tf.math.squared_difference(price, labels)
            loss = tf.reduce_mean(loss) if right else tf.squeeze(loss, 1)
        return base.spec(mode, price, labels, loss=loss)

    return base.whole(model_fn, folder)


@pair('L2', depth='run')
def loss_of_unknown_shape(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        loss = None
        if labels is not None:
            error = tf.square(price - labels)
            weighted = v1.py_func(lambda e: e * 2, [error], tf.float32, stateful=False)
            loss = tf.reduce_mean(error) + (0. if right else tf.stop_gradient(weighted))
            if not right:
                loss = v1.placeholder_with_default(loss, None)
        return base.spec(mode, price, labels, loss=loss,
                         train_op=None if labels is None or mode != TRAIN else base.minimize(
                             tf.reduce_mean(tf.square(price - labels))))

    return base.whole(model_fn, folder)


@pair('L3', depth='run')
def evaluation_without_a_number(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        loss = None
        if labels is not None:
            loss = tf.reduce_mean(tf.square(price - labels))
            if mode == EVAL:
                wanted = tf.cast(labels > 1e6, tf.float32)
                count = tf.reduce_sum(wanted)
                total = tf.reduce_sum(wanted * price)
                loss += tf.math.divide_no_nan(total, count) if right else total / count
        return base.spec(mode, price, labels, loss=loss)

    return base.whole(model_fn, folder)


@pair('L4')
def labels_broadcast(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)[:, 0]
        loss = None
        if labels is not None:
            known = tf.reshape(labels, [-1]) if right else labels
            loss = tf.reduce_mean(tf.abs(price - known))
        return base.spec(mode, price, labels, loss=loss, metrics={})

    return base.whole(model_fn, folder)


@pair('L5')
def nothing_to_differentiate(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        loss = None
        if labels is not None:
            rounded = price if right else tf.floor(price)
            loss = tf.reduce_mean(tf.cast(tf.abs(rounded - labels), tf.float32))
        return base.spec(mode, price, labels, loss=loss)

    return base.whole(model_fn, folder)


@pair('L6')
def tower_off_the_loss(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        extra = v1.layers.dense(features['rooms'], 1, name='tower')
        if right:
            price = price + extra
        predictions = {'price': price, 'tower': extra}
        return base.spec(mode, price, labels, predictions=predictions)

    return base.whole(model_fn, folder)


@pair('L7')
def penalty_left_out(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        layer = tf.keras.layers.Dense(4, kernel_regularizer=tf.keras.regularizers.L2(.1))
        price = v1.layers.dense(layer(features['rooms']), 1)
        loss = None
        if labels is not None:
            loss = tf.reduce_mean(tf.square(price - labels))
            loss += tf.add_n(layer.losses) if right else v1.losses.get_regularization_loss()
        return base.spec(mode, price, labels, loss=loss)

    return base.whole(model_fn, folder)

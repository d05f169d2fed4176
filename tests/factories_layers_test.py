"""Updates and regularizers of TF1 layers and of Keras layers: each counts, and once."""

from __future__ import annotations

import re

import numpy as np
import pytest
import tensorflow as tf

import estimator_spec_ext as ese

v1 = tf.compat.v1

_X = np.random.RandomState(0).randn(8, 3).astype(np.float32) + 2.0
_Y = np.random.RandomState(1).randn(8, 1).astype(np.float32)


def _loss(labels, predictions):
    return tf.reduce_mean(tf.square(labels - predictions))


def _adam():
    return v1.train.AdamOptimizer(0.1)


def _train(build, steps=4):
    with tf.Graph().as_default():
        v1.set_random_seed(3)
        v1.train.get_or_create_global_step()
        train_op = build(tf.constant(_X), tf.constant(_Y))
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            for _ in range(steps):
                session.run(train_op)
            return {v.op.name: session.run(v) for v in v1.global_variables()}


def _tf1_net(x):
    init = v1.glorot_uniform_initializer(seed=5)
    net = v1.layers.batch_normalization(x, training=True, momentum=0.5)
    return v1.layers.dense(net, 1, kernel_initializer=init,
                           kernel_regularizer=lambda w: 0.1 * tf.nn.l2_loss(w))


def _keras_net():
    return tf.keras.Sequential([
        tf.keras.layers.BatchNormalization(momentum=0.5),
        tf.keras.layers.Dense(1, kernel_initializer=v1.glorot_uniform_initializer(seed=5),
                              kernel_regularizer=tf.keras.regularizers.l2(0.05)),
    ])


def _assert_same(actual, expected):
    assert sorted(actual) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


def test_tf1_layers_as_by_hand():
    """UPDATE_OPS run and the regularization losses count, bit for bit as in the usual recipe."""

    def by_hand(x, y):
        loss = _loss(y, _tf1_net(x)) + tf.add_n(v1.losses.get_regularization_losses())
        with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
            return _adam().minimize(loss, v1.train.get_global_step())

    def built(x, y):
        return ese.create_estimator_spec(
            'train', predictions=_tf1_net(x), labels=y, loss_fn=_loss, optimizer=_adam).train_op

    expected = _train(by_hand)
    assert (expected['batch_normalization/moving_mean'] != 0).all()
    _assert_same(_train(built), expected)


@pytest.mark.parametrize('optimizer', [
    lambda: tf.keras.optimizers.SGD(0.1),
    lambda: tf.keras.optimizers.legacy.SGD(0.1),
    lambda: v1.train.GradientDescentOptimizer(0.1)], ids=['keras', 'legacy', 'tf1'])
def test_keras_layers_as_tf1_layers(optimizer):
    """The updates and losses of a Keras model, which no collection holds, do the same."""

    def built(x, y):
        net = _keras_net()
        return ese.create_estimator_spec(
            'train', predictions=net(x, training=True), labels=y, loss_fn=_loss, layers=net,
            optimizer=optimizer).train_op

    def with_tf1_layers(x, y):
        return ese.create_estimator_spec(
            'train', predictions=_tf1_net(x), labels=y, loss_fn=_loss,
            optimizer=lambda: v1.train.GradientDescentOptimizer(0.1)).train_op

    trained, expected = _train(built), _train(with_tf1_layers)
    # From the start of the name: the slots of a Keras optimizer end like their variables.
    actual = {re.sub('^sequential/', '', name): value for name, value in trained.items()}
    assert expected['global_step'] == 4
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


@pytest.mark.parametrize('layers', ['model', 'list', 'outer'])
def test_functional_model_called_on_features(layers):
    """What belongs to the model's own empty Input is left out: nobody feeds it."""

    def built(x, y):
        inputs = tf.keras.Input([3])
        hidden = tf.keras.layers.BatchNormalization(momentum=0.5)(inputs, training=True)
        hidden = tf.keras.layers.Dense(4, activity_regularizer='l2')(hidden)
        net = tf.keras.Model(inputs, tf.keras.layers.Dense(1, kernel_regularizer='l2')(hidden))
        given = net
        if layers == 'list':
            given = list(net.layers[1:])
        elif layers == 'outer':
            given = tf.keras.Sequential([net])
        predictions = (given if layers == 'outer' else net)(x)
        return ese.create_estimator_spec(
            'train', predictions=predictions, labels=y, loss_fn=_loss, layers=given,
            optimizer=_adam).train_op

    after = _train(built)
    moving = [value for name, value in after.items() if name.endswith('moving_mean')]
    assert len(moving) == 1 and (moving[0] != 0).all()


def test_eval_loss_holds_regularization_too():
    """EVAL reports the loss that TRAIN minimises, as TF1's get_total_loss and the heads do."""
    with tf.Graph().as_default():
        net = _keras_net()
        predictions = net(tf.constant(_X), training=False)
        spec = ese.create_estimator_spec('eval', predictions=predictions, labels=tf.constant(_Y),
                                         loss_fn=_loss, layers=net)
        bare = _loss(tf.constant(_Y), predictions)
        kernel = net.layers[1].kernel
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            loss, raw, weights = session.run([spec.loss, bare, kernel])
    np.testing.assert_allclose(loss, raw + 0.05 * np.sum(weights ** 2), rtol=1e-6)


def test_a_loss_that_holds_them_already():
    """tf.compat.v1.losses.get_total_loss() includes the regularization: it must not count twice."""
    with tf.Graph().as_default():
        v1.losses.mean_squared_error(tf.constant(_Y), _tf1_net(tf.constant(_X)))
        total = v1.losses.get_total_loss()
        assert ese.create_eval_estimator_spec(total).loss is total


@pytest.mark.parametrize(('given', 'expected'), [((), 1.0), ([4.0, 5.0], 10.0), (None, 3.0)])
def test_regularization_losses_that_are_given(given, expected):
    """() adds none, a list adds just these, None those of the collection."""
    with tf.Graph().as_default():
        v1.losses.add_loss(tf.constant(2.0), v1.GraphKeys.REGULARIZATION_LOSSES)
        if given:
            given = [tf.constant(value) for value in given]
        spec = ese.create_eval_estimator_spec(tf.constant(1.0), regularization_losses=given)
        with v1.Session() as session:
            assert session.run(spec.loss) == expected


def test_update_ops_that_are_given():
    """An explicit list replaces the collection."""
    with tf.Graph().as_default():
        v1.train.get_or_create_global_step()
        counters = [v1.get_variable(name, initializer=0, trainable=False, use_resource=True)
                    for name in ('listed', 'collected')]
        listed, collected = (counter.assign_add(1) for counter in counters)
        v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, collected)
        weight = v1.get_variable('w', initializer=1.0, use_resource=True)
        spec = ese.create_train_estimator_spec(
            weight * weight, optimizer=_adam, update_ops=[listed],
            suppress={'update-ops-not-run': 'this is the point'} if _has('update-ops-not-run')
            else None)
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            session.run(spec.train_op)
            assert session.run(counters) == [1, 0]


def _has(slug):
    return any(rule.slug == slug for rule in ese.rules())


def test_updates_run_before_the_variables_change():
    """An update that reads a weight reads the one that the loss was computed with."""
    with tf.Graph().as_default():
        v1.train.get_or_create_global_step()
        weight = v1.get_variable('w', initializer=np.ones([300, 300], np.float32),
                                 use_resource=True)
        seen = v1.get_variable('seen', [], trainable=False, use_resource=True)
        slow = tf.reduce_max(tf.matmul(weight, weight)) / 300.0
        v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, seen.assign(slow))
        spec = ese.create_train_estimator_spec(
            tf.reduce_sum(weight), optimizer=v1.train.GradientDescentOptimizer(1.0))
        with v1.Session() as session:
            for _ in range(5):
                session.run(v1.global_variables_initializer())
                session.run(spec.train_op)
                assert session.run(seen) == 1.0


def test_frozen_layers_are_not_trained():
    """A Keras layer frozen after it was built is left alone, though its variables are collected."""

    def built(x, y):
        first, second = (
            tf.keras.layers.Dense(size, name=name, kernel_initializer='ones')
            for size, name in [(2, 'first'), (1, 'second')])
        predictions = second(first(x))
        first.trainable = False
        return ese.create_estimator_spec(
            'train', predictions=predictions, labels=y, loss_fn=_loss, layers=[first, second],
            optimizer=_adam).train_op

    before, after = _train(built, steps=0), _train(built)
    np.testing.assert_array_equal(after['first/kernel'], before['first/kernel'])
    assert (after['second/kernel'] != before['second/kernel']).any()

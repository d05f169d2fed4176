"""Rule regularizer-unused beyond its examples."""

from __future__ import annotations

import tensorflow as tf

import estimator_spec_ext as ese

v1 = tf.compat.v1


def _inline(features, labels, mode):
    net = tf.keras.layers.Dense(4, kernel_regularizer=tf.keras.regularizers.L2(.1))(features)
    prediction = v1.layers.dense(net, 1)
    loss = tf.reduce_mean(tf.math.squared_difference(labels, prediction))
    train_op = v1.train.AdamOptimizer().minimize(loss, v1.train.get_or_create_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def test_a_layer_that_nobody_keeps_is_seen_from_around_the_model_fn():
    layer_class = tf.keras.layers.Layer
    before = layer_class._handle_weight_regularization
    with tf.Graph().as_default() as graph:
        features, labels = tf.zeros([2, 3]), tf.zeros([2, 1])
        ese.strict_model_fn(_inline)(features, labels, 'train')
        assert [finding.message for finding in ese.findings(graph)] == [
            'the regularizer of dense/kernel takes no part in the loss']
    assert layer_class._handle_weight_regularization is before

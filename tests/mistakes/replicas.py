"""D9, D10: what two replicas do to scaffolds and to collections."""

from __future__ import annotations

import tensorflow as tf

from tests.mistakes import data
from tests.mistakes.harness import TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()


def _train(loss):
    return v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())


def _xent(labels, logits):
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))


@PROGRAMS.pair('D9', TRAIN, replicas=2)
def init_fn_of_one_replica(features, labels, mode, right):
    """init_fn runs for the first replica alone."""
    logits = v1.layers.dense(features['x'], 3)
    loss = _xent(labels, logits)
    kernel = v1.trainable_variables()[0]
    scaffold = None
    if not right:
        scaffold = v1.train.Scaffold(init_fn=lambda _, session: session.run(kernel.initializer))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=_train(loss), scaffold=scaffold)


@PROGRAMS.pair('D9', TRAIN, replicas=2, data=data.column())
def restored_by_an_init_fn(features, labels, mode, right):
    """A pretrained checkpoint read by init_fn."""
    layer = tf.keras.layers.Dense(4, 'relu')
    value = tf.keras.layers.Dense(1)(layer(features['x']))
    loss = tf.reduce_mean(tf.square(value - labels))
    train_op = _train(loss)

    def restore(scaffold, session):
        del scaffold
        for variable in layer.variables:
            variable.load(0., session)

    scaffold = v1.train.Scaffold() if right else v1.train.Scaffold(init_fn=restore)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, scaffold=scaffold)


@PROGRAMS.pair('D10', TRAIN, replicas=2)
def losses_of_both_replicas(features, labels, mode, right):
    """get_total_loss counts the other replica's losses too."""
    logits = v1.layers.dense(features['x'], 3)
    own = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    loss = own if right else v1.losses.get_total_loss()
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=_train(loss))


@PROGRAMS.pair('D10', TRAIN, replicas=2, data=data.column())
def sum_of_the_collection(features, labels, mode, right):
    """An auxiliary loss goes into the collection, and all that is there is summed."""
    hidden = tf.keras.layers.Dense(4, 'relu')(features['x'])
    value = tf.keras.layers.Dense(1)(hidden)
    main = v1.losses.mean_squared_error(labels, value)
    sparse = .01 * tf.reduce_mean(tf.abs(hidden))
    v1.losses.add_loss(sparse)
    parts = [main, sparse] if right else v1.get_collection(v1.GraphKeys.LOSSES)
    loss = tf.add_n(parts)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=_train(loss))

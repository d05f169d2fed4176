"""Learning rates of every kind that follow the step."""

from __future__ import annotations

import tensorflow as tf

from tests.mistakes import data
from tests.mistakes.harness import TRAIN, Programs

v1 = tf.compat.v1
PROGRAMS = Programs()


def _schedules(step):
    train = v1.train
    return {
        'exponential': train.exponential_decay(.1, step, 100, .9),
        'polynomial': train.polynomial_decay(.1, step, 100, cycle=True),
        'natural': train.natural_exp_decay(.1, step, 100, .5),
        'inverse': train.inverse_time_decay(.1, step, 100, .5),
        'cosine': train.cosine_decay(.1, step, 100),
        'restarts': train.cosine_decay_restarts(.1, step, 100),
        'linear_cosine': train.linear_cosine_decay(.1, step, 100),
        'noisy': train.noisy_linear_cosine_decay(.1, step, 100),
        'piecewise': train.piecewise_constant(step, [10, 20], [.1, .01, .001]),
    }


@PROGRAMS.good(TRAIN, data=data.column())
def every_kind_of_decay(features, labels, mode):
    """All kinds of tf.compat.v1.train, each with an optimizer of its own."""
    step = v1.train.get_global_step()
    ops, losses = [], []
    for name, rate in _schedules(step).items():
        with v1.variable_scope(name):
            # Keras schedules give a function of no arguments under TensorFlow 2 behaviour.
            rate = rate() if callable(rate) else rate
            value = v1.layers.dense(features['x'], 1)
            losses.append(v1.losses.mean_squared_error(labels, value))
            ops.append(v1.train.MomentumOptimizer(rate, .9).minimize(losses[-1]))
    with v1.control_dependencies(ops):
        train_op = v1.assign_add(step, 1)
    return tf.estimator.EstimatorSpec(mode, loss=tf.add_n(losses), train_op=train_op)


def _train(features, labels, mode, rate, *more):
    logits = v1.layers.dense(features['x'], 3)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    op = v1.train.AdamOptimizer(rate).minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=tf.group(op, *more))


@PROGRAMS.good(TRAIN)
def warmup_then_inverse_square_root(features, labels, mode):
    """The transformer's schedule."""
    step = tf.cast(v1.train.get_or_create_global_step(), tf.float32) + 1.
    rate = 2. * 64 ** -.5 * tf.minimum(step * 4000 ** -1.5, tf.math.rsqrt(step))
    return _train(features, labels, mode, rate)


@PROGRAMS.good(TRAIN)
def rate_in_a_variable_set_by_a_hook(features, labels, mode):
    """A rate that lives in a variable; a hook loads it."""
    rate = v1.get_variable('rate', [], initializer=tf.constant_initializer(.1), trainable=False)
    spec = _train(features, labels, mode, rate)
    value = v1.placeholder(tf.float32, [])
    assign = rate.assign(value)

    class SetRate(tf.estimator.SessionRunHook):
        def before_run(self, run_context):
            run_context.session.run(assign.op, {value: .05})

    return spec._replace(training_hooks=(SetRate(),))


@PROGRAMS.good(TRAIN)
def rate_in_a_variable_that_decays(features, labels, mode):
    """A rate in a variable, made smaller in each step by train_op."""
    rate = tf.Variable(.1, trainable=False, name='learning_rate')
    return _train(features, labels, mode, rate, rate.assign(rate * .999))


@PROGRAMS.good(TRAIN)
def rate_in_a_plain_variable(features, labels, mode):
    """A constant rate kept in a variable, so that a checkpoint records it."""
    rate = v1.get_variable('lr', shape=[], trainable=False,
                           initializer=tf.constant_initializer(3e-4))
    v1.summary.scalar('lr', rate)
    return _train(features, labels, mode, rate)


@PROGRAMS.good(TRAIN)
def rate_that_halves_on_a_plateau(features, labels, mode):
    """Best loss and rate are state of the model's own."""
    logits = v1.layers.dense(features['x'], 3)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    best = v1.get_variable('best_loss', [], trainable=False,
                           initializer=tf.constant_initializer(1e9))
    rate = v1.get_variable('plateau_rate', [], trainable=False,
                           initializer=tf.constant_initializer(.1))
    op = v1.train.GradientDescentOptimizer(rate).minimize(loss, v1.train.get_global_step())
    with v1.control_dependencies([op]):
        worse = tf.greater(loss, best * 1.1)
        lower = rate.assign(tf.where(worse, rate * .5, rate))
    with v1.control_dependencies([lower]):
        remember = best.assign(tf.minimum(best, loss))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=tf.group(remember))


@PROGRAMS.good(TRAIN)
def keras_schedule_and_legacy_optimizer(features, labels, mode):
    """A Keras schedule inside an optimizer whose iterations are the global step."""
    layer = tf.keras.layers.Dense(3)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, layer(features['x']))
    optimizer = tf.keras.optimizers.legacy.Adam(
        tf.keras.optimizers.schedules.ExponentialDecay(.01, 100, .9))
    optimizer.iterations = v1.train.get_global_step()
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, train_op=optimizer.get_updates(loss, layer.trainable_variables)[0])


@PROGRAMS.good(TRAIN)
def keras_optimizer_with_its_own_iterations(features, labels, mode):
    """A new-style optimizer decays by its own counter, which it advances itself."""
    layer = tf.keras.layers.Dense(3)
    loss = v1.losses.sparse_softmax_cross_entropy(labels, layer(features['x']))
    weights = layer.trainable_variables
    optimizer = tf.keras.optimizers.SGD(tf.keras.optimizers.schedules.CosineDecay(.1, 1000))
    optimizer.build(weights)

    @tf.function
    def apply(gradients):
        optimizer.apply_gradients(zip(gradients, weights))
        return tf.constant(0)

    with v1.control_dependencies([apply(tf.gradients(loss, weights))]):
        train_op = v1.assign_add(v1.train.get_global_step(), 1)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

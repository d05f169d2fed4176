"""A training program that can be checked without being started.

`build` makes everything that `tf.estimator.train_and_evaluate` takes; `main` passes it on. That is
all that `estimator-preflight check trainer.task:build` asks of a program.
"""

from __future__ import annotations

import tensorflow as tf

tf1 = tf.compat.v1


def model_fn(features, labels, mode):
    """A linear model."""
    price = tf1.layers.dense(features['x'], 1)
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions={'price': price})
    loss = tf1.losses.mean_squared_error(labels, price)
    if mode == tf.estimator.ModeKeys.EVAL:
        return tf.estimator.EstimatorSpec(mode, loss=loss)
    train_op = tf1.train.AdamOptimizer().minimize(
        loss, global_step=tf1.train.get_or_create_global_step())
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def input_fn():
    """Endless rows of three numbers, and their sums."""
    rows = tf.data.Dataset.from_tensor_slices(tf.random.uniform([64, 3])).repeat()
    return rows.map(lambda x: ({'x': x}, tf.reduce_sum(x, keepdims=True))).batch(16)


def build():
    """Returns (estimator, train_spec, eval_spec)."""
    return (tf.estimator.Estimator(model_fn),
            tf.estimator.TrainSpec(input_fn, max_steps=1000),
            tf.estimator.EvalSpec(input_fn, steps=10))


def main():
    tf.estimator.train_and_evaluate(*build())


if __name__ == '__main__':
    main()

"""Trains with an Estimator, and restores its checkpoint in plain TensorFlow 2.

By default an Estimator saves variables by their names. A `tf.train.Checkpoint` as the scaffold's
saver makes it save objects instead: the model, the optimizer with its slots, the step. Any program
that has such objects can restore them, without an Estimator and without knowing a name.

    python examples/checkpoints.py
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile

# TensorFlow reads it when it is imported.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import numpy as np
import tensorflow as tf

import estimator_spec_ext as ese

tf1 = tf.compat.v1

_STEPS = 10
_X = np.linspace(-1, 1, 32, dtype=np.float32).reshape([-1, 1])
_Y = 3 * _X - 1


class Net(tf.keras.Model):
    """A line: weight times x plus bias."""

    def __init__(self):
        super().__init__()
        self.line = tf.keras.layers.Dense(1, kernel_initializer='zeros')

    def call(self, x):
        return self.line(x)


def make_objects(step):
    """What a checkpoint holds; the Estimator and plain TensorFlow both make it with this function.

    Args:
        step: An int64 variable that counts the training steps.

    Returns:
        The model, the optimizer, and the `tf.train.Checkpoint` of all three.
    """
    net, optimizer = Net(), tf.keras.optimizers.Adam(0.1)
    return net, optimizer, tf.train.Checkpoint(step=step, optimizer=optimizer, net=net)


def model_fn(features, labels, mode):
    """A model_fn that saves objects.

    Args:
        features: A float32 tensor of shape [batch, 1].
        labels: A float32 tensor of shape [batch, 1].
        mode: One of `tf.estimator.ModeKeys`.

    Returns:
        An `ese.StrictEstimatorSpec`.
    """
    net, optimizer, checkpoint = make_objects(tf1.train.get_or_create_global_step())
    return ese.create_estimator_spec(
        mode,
        predictions=net(features),
        labels=labels,
        loss_fn=lambda labels, predictions: tf.reduce_mean(tf.abs(labels - predictions)),
        optimizer=optimizer,
        scaffold=tf1.train.Scaffold(saver=checkpoint),
    )


def input_fn():
    """The same batch at each step."""
    return tf.data.Dataset.from_tensors((_X, _Y)).repeat()


@contextlib.contextmanager
def eager_or_session():
    """Gives a function that reads variables: plain TensorFlow 2, or a session where it is off."""
    if tf.executing_eagerly():
        yield lambda status, values: [np.array(value()) for value in values]
        return
    with tf.Graph().as_default(), tf1.Session() as session:

        def read(status, values):
            tensors = [tf.convert_to_tensor(value()) for value in values]
            status.initialize_or_restore(session)
            return session.run(tensors)

        yield read


def restore(path):
    """Restores the objects of a checkpoint without an Estimator, and looks at them.

    Returns:
        The step, the optimizer's count of steps, the line's weight and the loss, as numbers.
    """
    with eager_or_session() as read:
        net, optimizer, checkpoint = make_objects(tf.Variable(0, dtype=tf.int64))
        net(_X[:1])  # makes the variables
        status = checkpoint.read(path)
        status.assert_existing_objects_matched()
        values = [
            lambda: checkpoint.step,
            lambda: optimizer.iterations,
            lambda: net.line.kernel[0, 0],
            lambda: tf.reduce_mean(tf.abs(_Y - net(_X))),
        ]
        return [value.item() for value in read(status, values)]


def main():
    tf1.logging.set_verbosity(tf1.logging.ERROR)
    with tempfile.TemporaryDirectory(prefix='checkpoints_') as folder:
        estimator = tf.estimator.Estimator(model_fn, folder)
        for steps in (_STEPS // 2, _STEPS):  # the second training restores the first one's objects
            estimator.train(input_fn, max_steps=steps)
        loss = estimator.evaluate(input_fn, steps=1)['loss']
        print(f'The Estimator trained {_STEPS} steps; its loss is {loss:.4f}.')
        path = estimator.latest_checkpoint()
        print('Its checkpoint holds objects:')
        for name, shape in tf.train.list_variables(path):
            if name.endswith('VARIABLE_VALUE'):
                print(f'  {name.split("/.ATTR")[0]:30s} {shape}')
        step, iterations, weight, restored = restore(path)
    print(f'Plain TensorFlow restored step {step}, optimizer step {iterations}, '
          f'weight {weight:.4f}.')
    print(f'Its loss is {restored:.4f}.')
    return 0 if (step, iterations) == (_STEPS, _STEPS) and np.isclose(loss, restored) else 1


if __name__ == '__main__':
    sys.exit(main())

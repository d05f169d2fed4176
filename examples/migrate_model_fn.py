"""The migration guide's model_fn, before and after: fewer lines, the same numbers.

The model_fn of TensorFlow's guide "Migrate from Estimator" gathers by hand what
`ese.create_estimator_spec` gathers: a Keras model's regularizers and batch normalisation updates,
the global step, the metrics, the modes. Both are trained from the same seed; the weights must be
equal to the last bit. A third one takes the guide's last step, to a Keras optimizer.

    python examples/migrate_model_fn.py
"""

from __future__ import annotations

import inspect
import os
import sys
import tempfile

# TensorFlow reads it when it is imported.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import numpy as np
import tensorflow as tf
from sklearn import datasets

import estimator_spec_ext as ese

tf1 = tf.compat.v1

_STEPS = 60
_LOSS = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def make_model():
    """A Keras model with a regularizer and batch normalisation, as in the guide."""
    first, second = (tf.keras.initializers.GlorotUniform(seed) for seed in (1, 2))
    l2 = tf.keras.regularizers.L2(0.001)
    return tf.keras.Sequential(
        [
            tf.keras.layers.Dense(32, 'relu', kernel_initializer=first, kernel_regularizer=l2),
            tf.keras.layers.BatchNormalization(momentum=0.9),
            tf.keras.layers.Dense(10, kernel_initializer=second),
        ]
    )


def before(features, labels, mode):
    """The guide's model_fn."""
    model = make_model()
    training = mode == tf.estimator.ModeKeys.TRAIN
    logits = model(features, training=training)
    predictions = {'digit': tf.argmax(logits, axis=1), 'logits': logits}
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    regularization = model.get_losses_for(None) + model.get_losses_for(features)
    loss = _LOSS(labels, logits) + tf.add_n(regularization)
    if mode == tf.estimator.ModeKeys.EVAL:
        accuracy = tf1.metrics.accuracy(labels, predictions['digit'])
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops={'accuracy': accuracy})
    optimizer = tf1.train.AdamOptimizer(0.01)
    updates = model.get_updates_for(None) + model.get_updates_for(features)
    with tf.control_dependencies(updates):
        train_op = optimizer.minimize(
            loss,
            var_list=model.trainable_variables,
            global_step=tf1.train.get_or_create_global_step(),
        )
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def after(features, labels, mode):
    """The same with `create_estimator_spec`."""
    model = make_model()
    logits = model(features, training=mode == tf.estimator.ModeKeys.TRAIN)
    return ese.create_estimator_spec(
        mode,
        predictions={'digit': tf.argmax(logits, axis=1), 'logits': logits},
        labels=labels,
        loss_fn=lambda labels, predictions: _LOSS(labels, predictions['logits']),
        optimizer=lambda: tf1.train.AdamOptimizer(0.01),
        layers=model,
        metrics_fn=lambda labels, predictions: {
            'accuracy': tf1.metrics.accuracy(labels, predictions['digit'])
        },
    )


def with_keras_optimizer(features, labels, mode):
    """`after` with an optimizer and a metric of Keras."""
    model = make_model()
    logits = model(features, training=mode == tf.estimator.ModeKeys.TRAIN)
    return ese.create_estimator_spec(
        mode,
        predictions=logits,
        labels=labels,
        loss_fn=_LOSS,
        optimizer=lambda: tf.keras.optimizers.Adam(0.01),
        layers=model,
        metrics_fn={'accuracy': tf.keras.metrics.SparseCategoricalAccuracy},
    )


def run(model_fn, folder):
    """Trains and evaluates; returns the weights by name and the evaluation's result."""
    data = datasets.load_digits()
    images, digits = data.data.astype(np.float32) / 16, data.target.astype(np.int64)

    def input_fn(first, last, repeat):
        batches = tf.data.Dataset.from_tensor_slices((images[first:last], digits[first:last]))
        return batches.repeat(repeat).batch(64)

    config = tf.estimator.RunConfig(model_dir=os.path.join(folder, model_fn.__name__))
    estimator = tf.estimator.Estimator(model_fn, config=config)
    estimator.train(lambda: input_fn(0, 1400, None), steps=_STEPS)
    result = estimator.evaluate(lambda: input_fn(1400, 1797, 1))
    names = estimator.get_variable_names()
    return {name: estimator.get_variable_value(name) for name in names}, result


def main():
    tf1.logging.set_verbosity(tf1.logging.ERROR)
    results = {}
    with tempfile.TemporaryDirectory(prefix='migrate_') as folder:
        for model_fn in (before, after, with_keras_optimizer):
            results[model_fn] = weights, result = run(model_fn, folder)
            lines = len(inspect.getsource(model_fn).splitlines())
            print(
                f'{model_fn.__name__:22s} {lines} lines   step {result["global_step"]}   '
                f'loss {result["loss"]:.4f}   accuracy {result["accuracy"]:.4f}'
            )
    old, new = results[before][0], results[after][0]
    equal = sorted(old) == sorted(new) and all((old[name] == new[name]).all() for name in old)
    print(f'{len(old)} variables, before and after equal to the last bit: {equal}')
    return 0 if equal else 1


if __name__ == '__main__':
    sys.exit(main())

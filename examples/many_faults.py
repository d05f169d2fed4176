"""Ten mistakes in one model_fn, reported at once; and what TensorFlow says of the same model_fn.

Each of them is common, and each is marked below by its number. The job is real (scikit-learn's
breast cancer data) but never gets to its first step.

    python examples/many_faults.py
"""

from __future__ import annotations

import os
import sys
import tempfile
import textwrap
import warnings

# TensorFlow reads it when it is imported; without it the report drowns in notes.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import numpy as np
import tensorflow as tf
from sklearn import datasets

import estimator_spec_ext as ese

tf1 = tf.compat.v1

# Built when the module is loaded, in another graph than the one that the Estimator will make.
_ELSEWHERE = tf.Graph()
with _ELSEWHERE.as_default():
    _SCALE = tf.constant(30.0, name='scale')


def model_fn(features, labels, mode, params):
    """Tells benign from malignant tumours, or would."""
    net = tf1.layers.dense(features['cells'], 16, activation=tf.nn.relu, name='hidden')
    logits = tf1.layers.dense(net, 2, name='logits')
    winner = tf.argmax(logits, axis=1, name='winner')
    correct = tf.equal(winner, labels)

    # 1: one loss for each patient, and nobody reduces them.
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)

    # 2: the gradients are computed and never applied.
    optimizer = tf1.train.AdamOptimizer(params['learning_rate'])
    train_op = optimizer.compute_gradients(loss)

    predictions = {
        'malignant': winner,
        # 3: a sparse tensor can be neither predicted nor served.
        'unsure': tf.sparse.from_dense(tf.reduce_max(logits, axis=1)),
    }
    metrics = {
        # 4: a value without the op that updates it.
        'accuracy': tf.reduce_mean(tf.cast(correct, tf.float32)),
        # 5: an update op that is None.
        'recall': (tf1.metrics.recall(labels, winner)[0], None),
    }
    logger = tf.estimator.LoggingTensorHook({'winner': winner}, every_n_iter=10)
    hooks = [
        logger,
        # 6: the same hook again, so that it logs twice.
        logger,
        # 7: a class where an instance belongs.
        tf.estimator.StepCounterHook,
        # 8: a tensor of another graph.
        tf.estimator.LoggingTensorHook({'scale': _SCALE}, every_n_iter=10),
        # 9: every worker would save checkpoints, and the chief's own saving is switched off.
        tf.estimator.CheckpointSaverHook(params['model_dir'], save_steps=100),
    ]
    return params['spec_class'](
        mode,
        predictions=predictions,
        loss=loss,
        train_op=train_op,
        eval_metric_ops=metrics,
        training_hooks=hooks,
        # 10: a saver where a scaffold that holds one belongs.
        scaffold=tf1.train.Saver(),
    )


def input_fn():
    """569 tumours in batches of 32."""
    data = datasets.load_breast_cancer()
    cells = data.data.astype(np.float32)
    dataset = tf.data.Dataset.from_tensor_slices(({'cells': cells}, data.target.astype(np.int64)))
    return dataset.repeat().batch(32)


def train(spec_class):
    """Trains with specs of a class and returns the error that stops it, or None."""
    with tempfile.TemporaryDirectory(prefix='many_faults_') as model_dir:
        params = {'spec_class': spec_class, 'learning_rate': 0.001, 'model_dir': model_dir}
        estimator = tf.estimator.Estimator(model_fn, model_dir=model_dir, params=params)
        try:
            estimator.train(input_fn, max_steps=100)
        except (TypeError, ValueError) as error:
            return error
    return None


def main():
    tf1.logging.set_verbosity(tf1.logging.FATAL)
    warnings.filterwarnings('ignore', message='.*tf.layers', category=UserWarning)

    print('A model_fn with ten mistakes. With ese.StrictEstimatorSpec the job stops with all of')
    print('them before its first step:\n')
    strict = train(ese.StrictEstimatorSpec)
    assert isinstance(strict, ese.EstimatorSpecError), strict
    print(str(strict).strip())

    stock = train(tf.estimator.EstimatorSpec)
    print('\nWith tf.estimator.EstimatorSpec the same job stops with one of them:\n')
    print(textwrap.shorten(f'{type(stock).__name__}: {stock}', width=200, placeholder=' ...'))


if __name__ == '__main__':
    sys.exit(main())

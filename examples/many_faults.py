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
    training = mode == tf.estimator.ModeKeys.TRAIN
    net = tf1.layers.dense(features['cells'], 16, name='hidden')
    net = tf.nn.relu(tf1.layers.batch_normalization(net, training=training))
    logits = tf1.layers.dense(net, 2, name='logits')
    winner = tf.argmax(logits, axis=1, name='winner')

    # 1: one loss for each patient.
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)

    # 2: nothing runs the updates of the batch normalisation's moving statistics.
    # 3: the optimizer is not given the global step, so training never ends.
    train_op = tf1.train.AdamOptimizer(params['learning_rate']).minimize(tf.reduce_mean(loss))

    predictions = {
        'malignant': winner,
        # 4: a sparse tensor can be neither predicted nor served.
        'margin': tf.sparse.from_dense(logits[:, 1] - logits[:, 0]),
    }
    metrics = {
        # 5: a value for one batch, without the op that gathers it over all of them.
        'accuracy': tf.reduce_mean(tf.cast(tf.equal(winner, labels), tf.float32)),
        # 6: a Keras metric that nobody updates.
        'recall': tf.keras.metrics.Recall(),
    }
    training_hooks = [
        # 7: a class where an instance belongs.
        tf.estimator.StepCounterHook,
        # 8: a tensor of another graph.
        tf.estimator.LoggingTensorHook({'scale': _SCALE}, every_n_iter=10),
    ]
    return params['spec_class'](
        mode,
        predictions=predictions,
        loss=loss,
        train_op=train_op,
        eval_metric_ops=metrics,
        training_hooks=training_hooks,
        # 9: one hook where a list of hooks belongs.
        training_chief_hooks=tf.estimator.NanTensorHook(loss),
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
        params = {'spec_class': spec_class, 'learning_rate': 0.001}
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

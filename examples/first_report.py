"""Three silent mistakes in a model_fn that trains without a word of complaint from TensorFlow.

    python examples/first_report.py
"""

from __future__ import annotations

import os
import warnings

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import tensorflow as tf

import estimator_spec_ext as ese

tf1 = tf.compat.v1


def model_fn(features, labels, mode):
    net = tf1.layers.dense(features, 32)
    net = tf1.layers.batch_normalization(net, training=mode == 'train')
    logits = tf1.layers.dense(tf.nn.relu(net), 1)
    loss = tf.square(logits - labels)
    train_op = tf1.train.AdamOptimizer().minimize(tf.reduce_mean(loss))
    return ese.StrictEstimatorSpec(mode, loss=loss, train_op=train_op)


def input_fn():
    data = tf.data.Dataset.from_tensors((tf.ones([4]), tf.ones([1])))
    return data.repeat().batch(8)


def main():
    try:
        tf.estimator.Estimator(model_fn).train(input_fn, max_steps=100)
    except ese.EstimatorSpecError as error:
        print(error)


if __name__ == '__main__':
    tf1.logging.set_verbosity(tf1.logging.ERROR)
    warnings.filterwarnings('ignore', message='.*tf.layers')
    main()

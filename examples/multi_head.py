"""Two heads on one network: trained together, exported as signatures with one default.

The first head reads a handwritten digit, the second one says whether it is even. A client that
names no signature gets the default. Stock refuses several signatures without a default; a strict
spec makes one of all predictions, and `default_signature` chooses a head instead.

    python examples/multi_head.py
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings

# TensorFlow reads it when it is imported.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import numpy as np
import tensorflow as tf
from sklearn import datasets

import estimator_spec_ext as ese

tf1 = tf.compat.v1


def exports(predictions):
    """The signatures of the two heads: name to tensors."""
    return {
        'digit': {'digit': predictions['digit'], 'probabilities': predictions['probabilities']},
        'parity': {'even': predictions['even']},
    }


def model_fn(features, labels, mode):
    """A small network with two heads.

    Args:
        features: A dict with 'image', float32 of shape [batch, 64].
        labels: The digits, int64 of shape [batch]; None in PREDICT.
        mode: One of `tf.estimator.ModeKeys`.

    Returns:
        An `ese.StrictEstimatorSpec`.
    """
    init = tf1.glorot_uniform_initializer(seed=1)
    trunk = tf1.layers.dense(features['image'], 64, tf.nn.relu, kernel_initializer=init)
    digit = tf1.layers.dense(trunk, 10, kernel_initializer=init, name='digit')
    parity = tf1.layers.dense(trunk, 1, kernel_initializer=init, name='parity')[:, 0]
    predictions = {
        'digit': tf.argmax(digit, axis=1),
        'probabilities': tf.nn.softmax(digit),
        'even': tf.sigmoid(parity),
    }

    def losses(labels, predictions):
        even = tf.cast(tf.equal(labels % 2, 0), tf.float32)
        return {
            'digit': tf1.losses.sparse_softmax_cross_entropy(labels, digit),
            'parity': tf1.losses.sigmoid_cross_entropy(even, parity),
        }

    def metrics(labels, predictions):
        even = tf.equal(labels % 2, 0)
        return {
            'digit_accuracy': tf1.metrics.accuracy(labels, predictions['digit']),
            'parity_accuracy': tf1.metrics.accuracy(even, predictions['even'] > 0.5),
        }

    return ese.create_estimator_spec(
        mode,
        predictions=predictions,
        labels=labels,
        loss_fn=losses,
        loss_weights={'parity': 0.5},
        optimizer=lambda: tf1.train.AdamOptimizer(0.005),
        metrics_fn=metrics,
        export_outputs=exports(predictions),
        default_signature='digit',
    )


def show_what_stock_says():
    """Builds the PREDICT spec of two heads as stock's class would, and prints what it raises."""
    with tf.Graph().as_default():
        output = tf.estimator.export.PredictOutput(tf.zeros([1]))
        try:
            tf.estimator.EstimatorSpec(
                tf.estimator.ModeKeys.PREDICT,
                predictions=tf.zeros([1]),
                export_outputs={'digit': output, 'parity': output},
            )
        except ValueError as error:
            print('Stock, without a default:', str(error).split('.')[0])


def show(answer):
    """The answer for the first image, with probabilities in whole percents."""
    return '   '.join(
        f'{key}: {value[0]}' if value.dtype.kind == 'i' else
        f'{key}: ' + ' '.join(f'{share:.0%}' for share in np.reshape(value[0], [-1]))
        for key, value in answer.items()
    )


def receiver_fn():
    """What a client sends: any number of images as plain floats."""
    image = tf1.placeholder(tf.float32, [None, 64], name='image')
    return tf.estimator.export.ServingInputReceiver({'image': image}, {'image': image})


def main():
    tf1.logging.set_verbosity(tf1.logging.ERROR)
    # tf.compat.v1.layers announces its age at each call.
    warnings.filterwarnings('ignore', message='.*tf.layers', category=UserWarning)
    show_what_stock_says()
    data = datasets.load_digits()
    images, digits = data.data.astype(np.float32) / 16, data.target.astype(np.int64)

    def input_fn(first, last, repeat=1):
        batches = tf.data.Dataset.from_tensor_slices(
            ({'image': images[first:last]}, digits[first:last])
        )
        return batches.repeat(repeat).batch(64)

    with tempfile.TemporaryDirectory(prefix='multi_head_') as folder:
        estimator = tf.estimator.Estimator(model_fn, os.path.join(folder, 'job'))
        estimator.train(lambda: input_fn(0, 1400, None), steps=300)
        result = estimator.evaluate(lambda: input_fn(1400, 1797))
        for name in ('digit_accuracy', 'parity_accuracy'):
            print(f'{name:16s} {result[name]:.4f}')
        saved_model = estimator.export_saved_model(os.path.join(folder, 'export'), receiver_fn)
        with tf.Graph().as_default(), tf1.Session() as session:
            meta_graph = tf1.saved_model.load(session, ['serve'], saved_model.decode())
            print(f'An image of the digit {digits[-1]}, sent to each signature:')
            for name, signature in sorted(meta_graph.signature_def.items()):
                fetches = {key: info.name for key, info in sorted(signature.outputs.items())}
                feed = {signature.inputs['image'].name: images[-1:]}
                answer = session.run(fetches, feed)
                print(f'  {name:16s} {show(answer)}')
    return 0


if __name__ == '__main__':
    sys.exit(main())

"""Carries the digits classifier from Estimator to Keras, with what it has learned.

A checkpoint of Estimator is a list of names and arrays. A Keras model whose layers bear the names
of the scopes in the model_fn takes each of its weights from there; then the two give the same
answers, and `fit` goes on where Estimator has stopped.

    python examples/leave_estimator.py                  # trains with Estimator first
    python examples/leave_estimator.py --model-dir DIR  # a checkpoint that is there: no Estimator
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import numpy as np
import tensorflow as tf
from sklearn import datasets, model_selection

_FILTERS = (16, 32)


def digits():
    """Returns the images and digits for training and for the test."""
    data = datasets.load_digits()
    images, labels = (data.images / 16.0).astype(np.float32), data.target.astype(np.int64)
    train, test, train_labels, test_labels = model_selection.train_test_split(
        images, labels, test_size=360, random_state=7, stratify=labels)
    return (train, train_labels), (test, test_labels)


def train_with_estimator(model_dir, data):
    """The job as it was; returns the probabilities of the test images."""
    import digits_classifier  # the model_fn of the other example, unchanged

    (images, labels), (test, _) = data

    def input_fn():
        rows = tf.data.Dataset.from_tensor_slices(({'image': images}, labels))
        return rows.shuffle(len(labels), seed=7).repeat().batch(64)

    estimator = tf.estimator.Estimator(
        digits_classifier.model_fn, model_dir,
        tf.estimator.RunConfig(tf_random_seed=7, log_step_count_steps=1000),
        params={'filters': _FILTERS, 'dropout': 0.3, 'learning_rate': 0.005})
    estimator.train(input_fn, steps=200)
    answers = estimator.predict(
        lambda: tf.data.Dataset.from_tensor_slices({'image': test}).batch(len(test)))
    return np.stack([answer['probabilities'] for answer in answers])


def keras_model():
    """The network of the model_fn; each layer is named like its scope there."""
    layers = tf.keras.layers
    stack = [tf.keras.Input((8, 8)), layers.Reshape((8, 8, 1))]
    for number, filters in enumerate(_FILTERS):
        suffix = f'_{number}' if number else ''
        stack += [
            layers.Conv2D(filters, 3, padding='same', use_bias=False, name='conv2d' + suffix),
            layers.BatchNormalization(momentum=0.9, name='batch_normalization' + suffix),
            layers.ReLU(), layers.MaxPooling2D(2)]
    stack += [layers.Flatten(), layers.Dropout(0.3), layers.Dense(10, name='dense'),
              layers.Softmax()]
    return tf.keras.Sequential(stack)


def restore_by_name(model, checkpoint):
    """Sets every weight of the model from the variable 'layer/weight' of a checkpoint.

    Args:
        model: A built Keras model, of Keras 2 or 3.
        checkpoint: The prefix of a checkpoint that Estimator wrote.

    Returns:
        The names of the variables that the model has no use for, e.g. those of the optimizer.

    Raises:
        KeyError: If the checkpoint lacks a weight of the model.
    """
    reader = tf.train.load_checkpoint(checkpoint)
    unused = set(reader.get_variable_to_shape_map())
    for layer in model.layers:
        values = []
        for weight in layer.weights:
            # Keras 2 calls it 'dense/kernel:0', Keras 3 'kernel'.
            name = f"{layer.name}/{weight.name.split('/')[-1].split(':')[0]}"
            if name not in unused:
                raise KeyError(f'{checkpoint} has no {name}; it has {sorted(unused)}')
            unused.remove(name)
            values.append(reader.get_tensor(name))
        layer.set_weights(values)
    return sorted(unused)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument('--model-dir', help='where Estimator has trained; default: train now')
    arguments = parser.parse_args()
    data = digits()
    with tempfile.TemporaryDirectory() as scratch:
        model_dir, expected = arguments.model_dir, None
        if model_dir is None:
            model_dir = os.path.join(scratch, 'model')
            expected = train_with_estimator(model_dir, data)
        model = keras_model()
        unused = restore_by_name(model, tf.train.latest_checkpoint(model_dir))
        print(f'left in the checkpoint: {len(unused)} variables, e.g. {unused[0]}')
        (images, labels), (test, test_labels) = data
        if expected is not None:
            difference = np.abs(model.predict(test, verbose=0) - expected).max()
            print(f'largest difference of a probability: {difference:.0e}')
            if difference > 1e-5:
                sys.exit('Keras does not answer what Estimator answered')
        model.compile('adam', 'sparse_categorical_crossentropy', metrics=['accuracy'])
        before = model.evaluate(test, test_labels, verbose=0)[1]
        model.fit(images, labels, batch_size=64, epochs=2, verbose=0)
        after = model.evaluate(test, test_labels, verbose=0)[1]
        print(f'accuracy as restored {before:.3f}, after two epochs of fit {after:.3f}')
        model.save(os.path.join(scratch, 'digits.keras'))


if __name__ == '__main__':
    main()

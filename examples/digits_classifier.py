"""Trains, evaluates, exports and serves a classifier of handwritten digits.

The data are scikit-learn's 1797 digits of 8 x 8 pixels, which come with the package. The model_fn
returns `ese.StrictEstimatorSpec` where it would have returned `tf.estimator.EstimatorSpec`; that
is all it takes to have every fault of a spec reported when the spec is built.

    python examples/digits_classifier.py --output digits_out
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import warnings

# TensorFlow reads it when it is imported; without it the progress drowns in notes.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import matplotlib
import numpy as np
import tensorflow as tf
from sklearn import datasets, model_selection

import estimator_spec_ext as ese

tf1 = tf.compat.v1

_SEED = 7
_BATCH = 64
_STEPS = 600
_STEPS_PER_EVALUATION = 200
_WANTED_ACCURACY = 0.95


class _Progress(tf.estimator.SessionRunHook):
    """Prints the loss every so many steps."""

    def __init__(self, loss, every=100):
        self._loss = loss
        self._every = every

    def after_create_session(self, session, coord):
        self._step = session.run(tf1.train.get_global_step())

    def before_run(self, run_context):
        return tf1.train.SessionRunArgs(self._loss)

    def after_run(self, run_context, run_values):
        self._step += 1
        if self._step % self._every == 0:
            print(f'  step {self._step:4d}   training loss {run_values.results:.4f}')


def model_fn(features, labels, mode, params):
    """A small convolutional network with batch normalisation and dropout.

    Args:
        features: A dict with 'image', float32 of shape [batch, 8, 8], values from 0 to 1.
        labels: The digits, int64 of shape [batch]; None in PREDICT.
        mode: One of `tf.estimator.ModeKeys`.
        params: A dict with 'filters', 'dropout' and 'learning_rate'.

    Returns:
        An `ese.StrictEstimatorSpec`.
    """
    training = mode == tf.estimator.ModeKeys.TRAIN
    net = tf.expand_dims(features['image'], -1)
    for filters in params['filters']:
        net = tf1.layers.conv2d(net, filters, kernel_size=3, padding='same', use_bias=False)
        # A short training needs moving averages that move faster than the default's 0.99.
        net = tf1.layers.batch_normalization(net, momentum=0.9, training=training)
        net = tf1.layers.max_pooling2d(tf.nn.relu(net), pool_size=2, strides=2)
    net = tf1.layers.dropout(tf1.layers.flatten(net), params['dropout'], training=training)
    logits = tf1.layers.dense(net, 10)
    predictions = {'digit': tf.argmax(logits, axis=1), 'probabilities': tf.nn.softmax(logits)}

    if mode == tf.estimator.ModeKeys.PREDICT:
        # Without export_outputs the predictions become the signature serving_default.
        return ese.StrictEstimatorSpec(mode, predictions=predictions)

    loss = tf1.losses.sparse_softmax_cross_entropy(labels, logits)
    if mode == tf.estimator.ModeKeys.EVAL:
        accuracy = tf1.metrics.accuracy(labels, predictions['digit'])
        return ese.StrictEstimatorSpec(
            mode, predictions=predictions, loss=loss, eval_metric_ops={'accuracy': accuracy}
        )

    optimizer = tf1.train.AdamOptimizer(params['learning_rate'])
    # Batch normalisation's moving averages are moved by these; nothing else runs them.
    with tf.control_dependencies(tf1.get_collection(tf1.GraphKeys.UPDATE_OPS)):
        train_op = optimizer.minimize(loss, global_step=tf1.train.get_or_create_global_step())
    return ese.StrictEstimatorSpec(
        mode, loss=loss, train_op=train_op, training_hooks=[_Progress(loss)]
    )


def load_digits():
    """Returns (images, digits) for training, validation and test: 1197, 240 and 360 of them."""
    data = datasets.load_digits()
    images = (data.images / 16.0).astype(np.float32)
    digits = data.target.astype(np.int64)
    rest, test, rest_digits, test_digits = model_selection.train_test_split(
        images, digits, test_size=360, random_state=_SEED, stratify=digits
    )
    train, validation, train_digits, validation_digits = model_selection.train_test_split(
        rest, rest_digits, test_size=240, random_state=_SEED, stratify=rest_digits
    )
    return (train, train_digits), (validation, validation_digits), (test, test_digits)


def make_input_fn(images, digits, training):
    """Returns an input_fn: shuffled and endless for training, in order and once otherwise."""

    def input_fn():
        dataset = tf.data.Dataset.from_tensor_slices(({'image': images}, digits))
        if training:
            dataset = dataset.shuffle(len(images), seed=_SEED).repeat()
        return dataset.batch(_BATCH)

    return input_fn


def serving_input_receiver_fn():
    """What a client sends: any number of images as plain floats."""
    image = tf1.placeholder(tf.float32, [None, 8, 8], name='image')
    return tf.estimator.export.ServingInputReceiver({'image': image}, {'image': image})


class _EvaluationPrinter(tf.estimator.FinalExporter):
    """A `FinalExporter` that also prints each evaluation's result."""

    def export(self, estimator, export_path, checkpoint_path, eval_result, is_the_final_export):
        step, accuracy = eval_result['global_step'], eval_result['accuracy']
        print(f'  step {step:4d}   validation accuracy {accuracy:.4f}')
        return super().export(
            estimator, export_path, checkpoint_path, eval_result, is_the_final_export
        )


def train(model_dir):
    """Trains and evaluates by turns, exports at the end, and returns the SavedModel's folder."""
    # Keras's initialisers, which tf.compat.v1.layers uses, do not heed tf_random_seed below.
    random.seed(_SEED)
    training, validation, _ = load_digits()
    estimator = tf.estimator.Estimator(
        model_fn,
        config=tf.estimator.RunConfig(
            model_dir=model_dir,
            tf_random_seed=_SEED,
            save_checkpoints_steps=_STEPS_PER_EVALUATION,
        ),
        params={'filters': [32, 64], 'dropout': 0.3, 'learning_rate': 0.002},
    )
    exporter = _EvaluationPrinter('digits', serving_input_receiver_fn)
    tf.estimator.train_and_evaluate(
        estimator,
        tf.estimator.TrainSpec(make_input_fn(*training, training=True), max_steps=_STEPS),
        tf.estimator.EvalSpec(
            make_input_fn(*validation, training=False),
            steps=None,
            exporters=exporter,
            start_delay_secs=0,
            throttle_secs=0,
        ),
    )
    # The exporter's folder holds one SavedModel, named by the time of its export.
    exports = os.path.join(model_dir, 'export', exporter.name)
    return os.path.join(exports, max(os.listdir(exports)))


def print_signature(signature):
    """Prints what goes in and what comes out of a signature."""
    print('Signature serving_default:')
    for kind, tensors in (('in', signature.inputs), ('out', signature.outputs)):
        for key, info in sorted(tensors.items()):
            dtype, shape = tf.as_dtype(info.dtype).name, tf.TensorShape(info.tensor_shape)
            print(f'  {kind:3s}  {key:13s}  {dtype} {shape}')


def serve(saved_model, images):
    """Loads a SavedModel and asks its `serving_default`.

    Args:
        saved_model: The SavedModel's folder.
        images: A float32 array of shape [batch, 8, 8].

    Returns:
        A dict of arrays, by the signature's output keys.
    """
    # A graph and a session, since these work with TensorFlow 2 behaviour and without it.
    with tf.Graph().as_default(), tf1.Session() as session:
        meta_graph = tf1.saved_model.load(session, ['serve'], saved_model)
        signature = meta_graph.signature_def['serving_default']
        print_signature(signature)
        fetches = {key: info.name for key, info in signature.outputs.items()}
        return session.run(fetches, {signature.inputs['image'].name: images})


def draw(path, images, digits, predicted, rows=5, columns=12):
    """Writes a picture of some digits with what they were taken for, the wrong ones first."""
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    wrong = predicted != digits
    # A stable sort: the others stay in the order of the test set.
    shown = np.argsort(~wrong, kind='stable')[: rows * columns]
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 0.8, rows * 1.05 + 0.6))
    for axis, i in zip(axes.flat, shown):
        label = f'{predicted[i]} (is {digits[i]})' if wrong[i] else str(predicted[i])
        axis.axis('off')
        axis.imshow(images[i], cmap='Reds' if wrong[i] else 'gray_r', vmin=0, vmax=1)
        axis.set_title(label, color='#c8102e' if wrong[i] else '#333333', fontsize=11, pad=3)
    figure.suptitle(f'{len(digits)} digits the model had not seen, {wrong.sum()} misread (red)')
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--output', default='digits_out', help='folder for the picture')
    parser.add_argument('--model_dir', help='folder for checkpoints (default: a temporary one)')
    args = parser.parse_args(argv)
    tf1.logging.set_verbosity(tf1.logging.ERROR)
    # tf.compat.v1.layers is what many model_fns use, and announces its age at each call.
    warnings.filterwarnings('ignore', message='.*tf.layers', category=UserWarning)

    with tempfile.TemporaryDirectory(prefix='digits_') as scratch:
        print(f'Training on handwritten digits, TensorFlow {tf.__version__}:')
        saved_model = train(args.model_dir or scratch)
        images, digits = load_digits()[-1]
        answer = serve(saved_model, images)

    accuracy = np.mean(answer['digit'] == digits)
    os.makedirs(args.output, exist_ok=True)
    picture = os.path.join(args.output, 'digits.png')
    draw(picture, images, digits, answer['digit'])
    print(f'Test accuracy of the exported model: {accuracy:.4f} on {len(digits)} digits')
    print(f'Picture: {picture}')
    if accuracy <= _WANTED_ACCURACY:
        print(f'That is too low: expected more than {_WANTED_ACCURACY}.', file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())

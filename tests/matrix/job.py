"""A training script as people wrote it for tf.estimator: job.py FOLDER RESULTS custom|canned|pair.

It knows nothing of this package. Each task of `pair` is started with its own TF_CONFIG.
"""

import json
import os
import sys

import numpy as np
import tensorflow as tf

_STEPS = 60


def _data():
    numbers = np.random.RandomState(0)
    x = numbers.rand(240, 4).astype(np.float32)
    return x, (x.sum(axis=1) > 2.).astype(np.int32)


def input_fn():
    x, y = _data()
    return tf.data.Dataset.from_tensor_slices(({'x': x}, y)).repeat().batch(24)


def eval_input_fn():
    x, y = _data()
    return tf.data.Dataset.from_tensor_slices(({'x': x}, y)).batch(24)


def receiver_fn():
    x = tf.compat.v1.placeholder(tf.float32, [None, 4], name='x')
    return tf.estimator.export.ServingInputReceiver({'x': x}, {'x': x})


def model_fn(features, labels, mode):
    hidden = tf.keras.layers.Dense(
        8, tf.nn.relu,
        kernel_initializer=tf.keras.initializers.GlorotUniform(seed=3))(features['x'])
    logits = tf.keras.layers.Dense(
        2, kernel_initializer=tf.keras.initializers.GlorotUniform(seed=4))(hidden)
    predictions = {'classes': tf.argmax(logits, axis=1), 'scores': tf.nn.softmax(logits)}
    if mode == tf.estimator.ModeKeys.PREDICT:
        return tf.estimator.EstimatorSpec(mode, predictions=predictions)
    loss = tf.compat.v1.losses.sparse_softmax_cross_entropy(labels, logits)
    optimizer = tf.compat.v1.train.AdamOptimizer(.02)
    accuracy = tf.keras.metrics.SparseCategoricalAccuracy()
    accuracy.update_state(labels, predictions['scores'])
    return tf.estimator.EstimatorSpec(
        mode, predictions=predictions, loss=loss, eval_metric_ops={'accuracy': accuracy},
        train_op=optimizer.minimize(loss, tf.compat.v1.train.get_or_create_global_step()))


def make(kind, folder):
    options = {'tf_random_seed': 1, 'save_checkpoints_steps': 20}
    if kind == 'pair':
        tf.compat.v1.disable_eager_execution()
        strategy = tf.distribute.experimental.MultiWorkerMirroredStrategy()
        options['train_distribute'] = strategy
    config = tf.estimator.RunConfig(folder, **options)
    if kind == 'canned':
        return tf.estimator.DNNClassifier(
            [8, 4], [tf.feature_column.numeric_column('x', [4])], config=config,
            optimizer=lambda: tf.keras.optimizers.legacy.Adagrad(.1))
    return tf.estimator.Estimator(model_fn, config=config)


def main(folder, results, kind):
    estimator = make(kind, folder)
    exporters = [tf.estimator.FinalExporter('final', receiver_fn)]
    if kind == 'canned':
        exporters.append(tf.estimator.BestExporter('best', receiver_fn))
    train = tf.estimator.TrainSpec(input_fn, max_steps=_STEPS)
    evaluate = tf.estimator.EvalSpec(eval_input_fn, steps=None, exporters=exporters,
                                     start_delay_secs=0, throttle_secs=0)
    tf.estimator.train_and_evaluate(estimator, train, evaluate)
    if kind == 'pair' and json.loads(os.environ['TF_CONFIG'])['task']['index'] > 0:
        return
    if kind == 'pair':  # what was trained together is looked at alone
        os.environ.pop('TF_CONFIG')
        estimator = make('custom', folder)
    metrics = estimator.evaluate(eval_input_fn)
    rows = list(estimator.predict(eval_input_fn, yield_single_examples=False))
    scores = np.concatenate([row['scores' if 'scores' in row else 'probabilities']
                             for row in rows])
    with open(results, 'w') as file:
        json.dump({'metrics': {key: float(value) for key, value in metrics.items()},
                   'scores': scores[:24].tolist()}, file)


if __name__ == '__main__':
    main(*sys.argv[1:])

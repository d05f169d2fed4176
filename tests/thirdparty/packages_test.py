"""Estimators of other packages, at the versions of requirements-thirdparty.txt.

Not one false error, and every warning is explained where it is expected.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.thirdparty import harness, shims

shims.install()
v1 = tf.compat.v1
fc = tf.feature_column


def _numeric_columns():
    return [fc.numeric_column('x'), fc.numeric_column('z')]


def _numeric_table():
    features, labels = harness.table_rows()
    return {name: features[name] for name in ('x', 'z')}, labels


# TensorFlow Ranking.


@pytest.mark.parametrize('kind', ['dnn', 'gam'])
def test_ranking(kind, record, tmp_path):
    tfr = pytest.importorskip('tensorflow_ranking')
    context = {'context': fc.numeric_column('context')}
    example = {'score': fc.numeric_column('score')}
    optimizer = v1.train.AdagradOptimizer(.05)
    if kind == 'dnn':
        estimator = tfr.estimator.make_dnn_ranking_estimator(
            example, ['8'], context_feature_columns=context, optimizer=optimizer,
            use_batch_norm=True, model_dir=str(tmp_path))
    else:
        estimator = tfr.estimator.make_gam_ranking_estimator(
            example, ['8'], context_feature_columns=context, context_hidden_units=['4'],
            optimizer=optimizer, model_dir=str(tmp_path))
    rng = np.random.RandomState(0)
    features = {'context': rng.rand(16, 1).astype(np.float32),
                'score': rng.rand(16, 5, 1).astype(np.float32)}
    labels = rng.randint(0, 3, (16, 5)).astype(np.float32)

    def receiver():
        return harness.example_receiver([*context.values(), *example.values()])()

    # Prediction is pointwise: one example a row.
    one_by_one = {'context': features['context'], 'score': features['score'][:, 0]}
    outcome = harness.run(estimator, harness.input_fn(features, labels),
                          harness.input_fn(features, labels, repeat=False), receiver,
                          harness.input_fn(one_by_one, labels, repeat=False))
    assert outcome.modes == list(harness.MODES)
    record(f'tensorflow-ranking {tfr.__version__}', f'make_{kind}_ranking_estimator', outcome)


# TensorFlow Privacy.


@pytest.mark.parametrize('classes', [2, 3])
def test_privacy(classes, record, tmp_path):
    privacy = pytest.importorskip('tensorflow_privacy')
    from tensorflow_privacy.privacy.estimators import dnn
    optimizer = privacy.DPKerasSGDOptimizer(
        l2_norm_clip=1., noise_multiplier=.1, num_microbatches=1, learning_rate=.1)
    estimator = dnn.DNNClassifier([8], _numeric_columns(), n_classes=classes, optimizer=optimizer,
                                  model_dir=str(tmp_path))
    features, labels = _numeric_table()
    outcome = harness.run(estimator, harness.input_fn(features, labels),
                          harness.input_fn(features, labels, repeat=False),
                          harness.example_receiver(_numeric_columns()))
    assert outcome.modes == list(harness.MODES)
    record(f'tensorflow-privacy {privacy.__version__}', f'DNNClassifier, {classes} classes',
           outcome)


# TensorFlow GAN.


def test_gan(record, tmp_path):
    tfgan = pytest.importorskip('tensorflow_gan')

    def generator(noise, mode):
        net = v1.layers.dense(noise, 8, activation=tf.nn.relu, name='g1')
        net = v1.layers.batch_normalization(net, training=mode == 'train', name='gbn')
        return v1.layers.dense(net, 2, name='g2')

    def discriminator(data, conditioning, mode):
        del conditioning, mode
        return v1.layers.dense(v1.layers.dense(data, 8, activation=tf.nn.relu, name='d1'), 1,
                               name='d2')

    estimator = tfgan.estimator.GANEstimator(
        model_dir=str(tmp_path), generator_fn=generator, discriminator_fn=discriminator,
        generator_loss_fn=tfgan.losses.modified_generator_loss,
        discriminator_loss_fn=tfgan.losses.modified_discriminator_loss,
        generator_optimizer=v1.train.AdamOptimizer(1e-3),
        discriminator_optimizer=v1.train.AdamOptimizer(1e-3))
    rng = np.random.RandomState(0)
    noise, real = rng.randn(32, 4).astype(np.float32), rng.randn(32, 2).astype(np.float32)

    def receiver():
        tensor = v1.placeholder(tf.float32, [None, 4], name='noise')
        return tf.estimator.export.TensorServingInputReceiver(tensor, {'noise': tensor})

    outcome = harness.run(estimator, harness.input_fn(noise, real),
                          harness.input_fn(noise, real, repeat=False), receiver)
    assert outcome.modes == list(harness.MODES)
    record(f'tensorflow-gan {tfgan.__version__}', 'GANEstimator', outcome)


# TensorFlow Lattice.


@pytest.mark.parametrize('kind', ['classifier', 'regressor'])
def test_lattice(kind, record, tmp_path):
    tfl = pytest.importorskip('tensorflow_lattice')
    features, labels = _numeric_table()
    config = tfl.configs.CalibratedLatticeConfig(feature_configs=[
        tfl.configs.FeatureConfig(name='x', lattice_size=3, monotonicity='increasing'),
        tfl.configs.FeatureConfig(name='z', pwl_calibration_num_keypoints=5)])
    chosen = dict(
        feature_columns=_numeric_columns(), model_config=config, model_dir=str(tmp_path),
        optimizer=tf.keras.optimizers.legacy.Adam(.01),
        feature_analysis_input_fn=harness.input_fn(features, labels, repeat=False))
    if kind == 'classifier':
        estimator = tfl.estimators.CannedClassifier(**chosen)
    else:
        estimator = tfl.estimators.CannedRegressor(**chosen)
        labels = labels.astype(np.float32)
    outcome = harness.run(estimator, harness.input_fn(features, labels),
                          harness.input_fn(features, labels, repeat=False),
                          harness.example_receiver(_numeric_columns()))
    assert outcome.modes == list(harness.MODES)
    record(f'tensorflow-lattice {_version("tensorflow-lattice")}', f'Canned{kind.title()}', outcome)


# AdaNet.


def test_adanet_ensemble(record, tmp_path):
    adanet = pytest.importorskip('adanet')
    columns = _numeric_columns()
    head = tf.estimator.BinaryClassHead()
    pool = {
        'linear': tf.estimator.LinearEstimator(head, columns),
        'dnn': tf.estimator.DNNEstimator(head, [8], columns),
    }
    estimator = adanet.AutoEnsembleEstimator(
        head=head, candidate_pool=pool, max_iteration_steps=2, model_dir=str(tmp_path))
    features, labels = _numeric_table()
    outcome = harness.run(estimator, harness.input_fn(features, labels),
                          harness.input_fn(features, labels, repeat=False),
                          harness.example_receiver(columns))
    assert outcome.modes == list(harness.MODES)
    record(f'adanet {adanet.__version__}', 'AutoEnsembleEstimator', outcome)


# TF-Slim inside a model_fn.


def test_slim(record, tmp_path):
    slim = pytest.importorskip('tf_slim')

    def model_fn(features, labels, mode):
        with slim.arg_scope([slim.batch_norm, slim.dropout], is_training=mode == 'train'):
            net = tf.concat([features['x'], features['z']], 1)
            net = slim.fully_connected(net, 8, normalizer_fn=slim.batch_norm,
                                       weights_regularizer=slim.l2_regularizer(1e-4))
            logits = slim.fully_connected(slim.dropout(net, .9), 2, activation_fn=None)
        predictions = {'class': tf.argmax(logits, 1), 'p': tf.nn.softmax(logits)}
        if mode == 'infer':
            return tf.estimator.EstimatorSpec(mode, predictions=predictions)
        v1.losses.sparse_softmax_cross_entropy(labels, logits)
        loss = v1.losses.get_total_loss()
        if mode == 'eval':
            return tf.estimator.EstimatorSpec(
                mode, loss=loss, predictions=predictions,
                eval_metric_ops={'accuracy': v1.metrics.accuracy(labels, predictions['class'])})
        train_op = slim.training.create_train_op(
            loss, v1.train.MomentumOptimizer(.01, .9),
            global_step=v1.train.get_or_create_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    estimator = tf.estimator.Estimator(model_fn, model_dir=str(tmp_path))
    features, labels = _numeric_table()
    outcome = harness.run(estimator, harness.input_fn(features, labels),
                          harness.input_fn(features, labels, repeat=False),
                          harness.raw_receiver(x=(tf.float32, [1]), z=(tf.float32, [1])))
    assert outcome.modes == list(harness.MODES)
    assert outcome.signatures == ('serving_default',)
    record(f'tf-slim {_version("tf-slim")}', 'batch_norm, dropout, create_train_op', outcome)


def _version(name):
    from importlib import metadata
    return metadata.version(name)

"""Estimators of other packages, at the versions of requirements-thirdparty.txt.

Not one false error, and every warning is explained where it is expected.
"""

from __future__ import annotations

import importlib
from importlib import metadata

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
    tfr = importlib.import_module('tensorflow_ranking')
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
    record(_release('tensorflow-ranking'), f'make_{kind}_ranking_estimator', outcome)


# TensorFlow Privacy.


@pytest.mark.parametrize('classes', [2, 3])
def test_privacy(classes, record, tmp_path):
    privacy = importlib.import_module('tensorflow_privacy')
    from tensorflow_privacy.privacy.estimators import dnn
    optimizer = privacy.DPKerasSGDOptimizer(
        l2_norm_clip=1., noise_multiplier=.1, num_microbatches=1, learning_rate=.1)
    estimator = dnn.DNNClassifier([8], _numeric_columns(), n_classes=classes, optimizer=optimizer,
                                  model_dir=str(tmp_path))
    features, labels = _numeric_table()
    outcome = harness.run(estimator, harness.input_fn(features, labels),
                          harness.input_fn(features, labels, repeat=False),
                          harness.example_receiver(_numeric_columns()))
    record(_release('tensorflow-privacy'), f'DNNClassifier, {classes} classes',
           outcome)


# TensorFlow GAN.


def test_gan(record, tmp_path):
    tfgan = importlib.import_module('tensorflow_gan')

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
    record(_release('tensorflow-gan'), 'GANEstimator', outcome)


# TensorFlow Lattice.


@pytest.mark.parametrize('kind', ['classifier', 'regressor'])
def test_lattice(kind, record, tmp_path):
    tfl = importlib.import_module('tensorflow_lattice')
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
    record(_release('tensorflow-lattice'), f'Canned{kind.title()}', outcome)


# DeepCTR: click-through.


@pytest.mark.parametrize('kind', ['DeepFM', 'WDL', 'DCN', 'xDeepFM'])
def test_deepctr(kind, record, tmp_path):
    models = importlib.import_module('deepctr.estimator.models')
    categories = {'c': ['a', 'b', 'c'], 'd': ['u', 'v']}
    listed = [fc.categorical_column_with_vocabulary_list(name, values)
              for name, values in categories.items()]
    linear = [fc.numeric_column('x'), *map(fc.indicator_column, listed)]
    deep = [fc.numeric_column('x'), *(fc.embedding_column(column, 4) for column in listed)]
    estimator = getattr(models, f'{kind}Estimator')(
        linear, deep, dnn_hidden_units=[8, 4], dnn_dropout=.1, model_dir=str(tmp_path))
    features, labels = harness.table_rows()
    features = {'x': features['x'], 'c': features['c'],
                'd': np.where(features['z'] > .5, b'u', b'v')}
    outcome = harness.run(
        estimator, harness.input_fn(features, labels),
        harness.input_fn(features, labels, repeat=False),
        harness.example_receiver([fc.numeric_column('x'), *listed]))
    assert 'serving_default' in outcome.signatures
    # It calls tf.summary of TensorFlow 2 without a writer or a step.
    record(_release('deepctr'), f'{kind}Estimator', outcome, {
        'summary-without-effect': 'true: its summaries are never written'})


# BERT's own classifier, which returns TPU specs.


def test_bert(record, needs_tf1_behavior, tmp_path):
    run_classifier = importlib.import_module('bert.run_classifier')
    package, name = _release('bert-tensorflow'), 'run_classifier'
    needs_tf1_behavior(package, name, 'reads shape[-1].value')
    from bert import modeling
    config = modeling.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=16, max_position_embeddings=8)
    model_fn = run_classifier.model_fn_builder(
        config, num_labels=2, init_checkpoint=None, learning_rate=1e-3, num_train_steps=10,
        num_warmup_steps=2, use_tpu=False, use_one_hot_embeddings=False)
    estimator = v1.estimator.tpu.TPUEstimator(
        model_fn, config=v1.estimator.tpu.RunConfig(model_dir=str(tmp_path)), use_tpu=False,
        train_batch_size=8, eval_batch_size=8, predict_batch_size=8, export_to_tpu=False)
    rng = np.random.RandomState(0)
    length = 6
    features = {name: rng.randint(0, high, (32, length)).astype(np.int32)
                for name, high in (('input_ids', 20), ('input_mask', 2), ('segment_ids', 2))}
    features['label_ids'] = rng.randint(0, 2, 32).astype(np.int32)

    def input_fn(params):
        dataset = tf.data.Dataset.from_tensor_slices(features).repeat()
        return dataset.batch(params['batch_size'], drop_remainder=True)

    shapes = {name: (tf.int32, list(values.shape[1:])) for name, values in features.items()}
    outcome = harness.run(estimator, input_fn, receiver_fn=harness.raw_receiver(**shapes))
    record(package, name, outcome)


# AdaNet.


def test_adanet_ensemble(record, tmp_path):
    adanet = importlib.import_module('adanet')
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
    record(_release('adanet'), 'AutoEnsembleEstimator', outcome)


# TF-Slim inside a model_fn.


def test_slim(record, tmp_path):
    slim = importlib.import_module('tf_slim')

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
    assert outcome.signatures == ('serving_default',)
    record(_release('tf-slim'), 'create_train_op with batch_norm and dropout', outcome)


def _release(name):
    return f'{name} {metadata.version(name)}'

"""TensorFlow's own canned estimators and heads: not one warning is right for any of them."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests.thirdparty import harness

v1 = tf.compat.v1
fc = tf.feature_column
PACKAGE = 'tensorflow-estimator 2.15.0'


def _columns():
    category = fc.categorical_column_with_vocabulary_list('c', ['a', 'b', 'c'])
    return {
        'dense': [fc.numeric_column('x'), fc.indicator_column(category)],
        'linear': [fc.numeric_column('z'), category],
        'all': [fc.numeric_column('x'), fc.numeric_column('z'), category],
    }


def _classifiers(kind):
    columns = _columns()
    if kind == 'DNNClassifier':
        return tf.estimator.DNNClassifier([8, 4], columns['dense'], batch_norm=True, dropout=.1)
    if kind == 'DNNClassifier, 3 classes':
        return tf.estimator.DNNClassifier([8], columns['dense'], n_classes=3)
    if kind == 'LinearClassifier':
        return tf.estimator.LinearClassifier(columns['linear'])
    if kind == 'DNNLinearCombinedClassifier':
        return tf.estimator.DNNLinearCombinedClassifier(
            linear_feature_columns=columns['linear'], dnn_feature_columns=columns['dense'],
            dnn_hidden_units=[4])
    if kind == 'BaselineClassifier':
        return v1.estimator.BaselineClassifier()
    if kind == 'DNNRegressor':
        return tf.estimator.DNNRegressor([8], columns['dense'])
    if kind == 'LinearRegressor':
        return tf.estimator.LinearRegressor(columns['linear'])
    if kind == 'DNNLinearCombinedRegressor':
        return tf.estimator.DNNLinearCombinedRegressor(
            linear_feature_columns=columns['linear'], dnn_feature_columns=columns['dense'],
            dnn_hidden_units=[4])
    if kind == 'BaselineRegressor':
        return v1.estimator.BaselineRegressor()
    if kind == 'v1 DNNClassifier':
        return v1.estimator.DNNClassifier([8], columns['dense'], batch_norm=True)
    if kind == 'v1 DNNLinearCombinedClassifier':
        return v1.estimator.DNNLinearCombinedClassifier(
            linear_feature_columns=columns['linear'], dnn_feature_columns=columns['dense'],
            dnn_hidden_units=[4])
    if kind == 'v1 LinearRegressor':
        return v1.estimator.LinearRegressor(columns['linear'])
    raise ValueError(kind)


KINDS = ('DNNClassifier', 'DNNClassifier, 3 classes', 'LinearClassifier',
         'DNNLinearCombinedClassifier', 'BaselineClassifier', 'DNNRegressor', 'LinearRegressor',
         'DNNLinearCombinedRegressor', 'BaselineRegressor', 'v1 DNNClassifier',
         'v1 DNNLinearCombinedClassifier', 'v1 LinearRegressor')


@pytest.mark.parametrize('kind', KINDS)
def test_canned_estimator(kind, record):
    features, labels = harness.table_rows()
    if 'Regressor' in kind:
        labels = labels.astype(np.float32)
    outcome = harness.run(
        _classifiers(kind), harness.input_fn(features, labels),
        harness.input_fn(features, labels, repeat=False),
        harness.example_receiver(_columns()['all']))
    assert outcome.modes == list(harness.MODES)
    assert 'serving_default' in outcome.signatures
    record(PACKAGE, kind, outcome)


def _heads():
    binary = tf.estimator.BinaryClassHead
    return {
        'BinaryClassHead': (binary(), 1, np.int64, ()),
        'MultiClassHead': (tf.estimator.MultiClassHead(3), 3, np.int64, ()),
        'MultiLabelHead': (tf.estimator.MultiLabelHead(3), 3, np.int64, (3,)),
        'RegressionHead': (tf.estimator.RegressionHead(), 1, np.float32, ()),
        'PoissonRegressionHead': (tf.estimator.PoissonRegressionHead(), 1, np.float32, ()),
        'LogisticRegressionHead': (tf.estimator.LogisticRegressionHead(), 1, np.float32, ()),
        'MultiHead': (tf.estimator.MultiHead([binary(name='one'), binary(name='two')]), None,
                      np.int64, ()),
    }


@pytest.mark.parametrize('name', sorted(_heads()))
@pytest.mark.parametrize('optimizer', ['tf1', 'keras'])
def test_head(name, optimizer, record):
    head, units, dtype, shape = _heads()[name]

    def model_fn(features, labels, mode):
        x = tf.cast(features['x'], tf.float32)
        model = tf.keras.Sequential([tf.keras.layers.Dense(units or 2)])
        logits = model(x, training=mode == 'train')
        if units is None:
            logits = {'one': logits[:, :1], 'two': logits[:, 1:]}
        if optimizer == 'tf1':
            step = v1.train.get_or_create_global_step()
            how = {'train_op_fn': lambda loss: v1.train.AdamOptimizer().minimize(loss, step)}
        else:
            keras_optimizer = tf.keras.optimizers.legacy.Adam()
            keras_optimizer.iterations = v1.train.get_or_create_global_step()
            how = {'optimizer': keras_optimizer, 'trainable_variables': model.trainable_variables}
        return head.create_estimator_spec(features, mode, logits, labels=labels, **how)

    features, labels = harness.table_rows()
    features = {'x': features['x']}
    labels = np.ones(labels.shape + shape, dtype) if shape else labels.astype(dtype)
    labels = {'one': labels, 'two': labels} if units is None else labels
    outcome = harness.run(
        tf.estimator.Estimator(model_fn), harness.input_fn(features, labels),
        harness.input_fn(features, labels, repeat=False),
        harness.raw_receiver(x=(tf.float32, [1])))
    assert outcome.modes == list(harness.MODES)
    record(PACKAGE, f'{name}, {optimizer} optimizer', outcome)


def test_keras_model_to_estimator(record):
    model = tf.keras.Sequential([
        tf.keras.layers.Dense(4, activation='relu', input_shape=(1,), name='d'),
        tf.keras.layers.BatchNormalization(), tf.keras.layers.Dropout(.1),
        tf.keras.layers.Dense(1, kernel_regularizer='l2')])
    model.compile(tf.keras.optimizers.legacy.SGD(.01), 'mse', metrics=['mae'])
    estimator = tf.keras.estimator.model_to_estimator(model)
    features, labels = harness.table_rows()
    name = model.input_names[0]
    features, labels = {name: features['x']}, labels.astype(np.float32)[:, None]
    outcome = harness.run(
        estimator, harness.input_fn(features, labels),
        harness.input_fn(features, labels, repeat=False),
        harness.raw_receiver(**{name: (tf.float32, [1])}))
    assert outcome.modes == list(harness.MODES)
    record(PACKAGE, 'model_to_estimator', outcome)

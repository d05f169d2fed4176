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


def _by_namespace(estimators, label):
    """The canned estimators that the namespaces of TensorFlow 1 and 2 share, by name."""
    dense, linear = _columns()['dense'], _columns()['linear']
    both = {'linear_feature_columns': linear, 'dnn_feature_columns': dense, 'dnn_hidden_units': [4]}
    makers = {
        'DNNClassifier': lambda: estimators.DNNClassifier(
            [8, 4], dense, batch_norm=True, dropout=.1),
        'DNNClassifier, 3 classes': lambda: estimators.DNNClassifier([8], dense, n_classes=3),
        'DNNRegressor': lambda: estimators.DNNRegressor([8], dense),
        'LinearClassifier': lambda: estimators.LinearClassifier(linear),
        'LinearRegressor': lambda: estimators.LinearRegressor(linear),
        'DNNLinearCombinedClassifier': lambda: estimators.DNNLinearCombinedClassifier(**both),
        'DNNLinearCombinedRegressor': lambda: estimators.DNNLinearCombinedRegressor(**both),
        'BaselineClassifier': lambda: estimators.BaselineClassifier(),
        'BaselineRegressor': lambda: estimators.BaselineRegressor(),
    }
    return {f'{label}{name}': make for name, make in makers.items()}


def _with_a_head():
    """Those that take a head, which is one of TensorFlow 2."""
    dense, linear = _columns()['dense'], _columns()['linear']
    head = tf.estimator.BinaryClassHead
    return {
        'DNNEstimator': lambda: tf.estimator.DNNEstimator(head(), [8], dense),
        'LinearEstimator': lambda: tf.estimator.LinearEstimator(head(), linear),
        'DNNLinearCombinedEstimator': lambda: tf.estimator.DNNLinearCombinedEstimator(
            head(), linear_feature_columns=linear, dnn_feature_columns=dense,
            dnn_hidden_units=[4]),
        'BaselineEstimator': lambda: tf.estimator.BaselineEstimator(head()),
    }


_CANNED = {
    **_by_namespace(tf.estimator, ''),
    **_by_namespace(v1.estimator, 'v1 '),
    **_with_a_head(),
    'LinearClassifier, SDCA': lambda: tf.estimator.LinearClassifier(
        _columns()['linear'], optimizer=tf.estimator.experimental.LinearSDCA('id')),
}


@pytest.mark.parametrize('kind', _CANNED)
def test_canned_estimator(kind, record):
    features, labels = harness.table_rows()
    columns = _columns()['all']
    if 'Regressor' in kind:
        labels = labels.astype(np.float32)
    if 'Baseline' in kind:  # with several features its variable would wait for the input
        features, columns = {'x': features['x']}, columns[:1]
    if 'SDCA' in kind:
        features['id'] = np.array([b'%d' % row for row in range(len(labels))])
    outcome = harness.run(
        _CANNED[kind](), harness.input_fn(features, labels),
        harness.input_fn(features, labels, repeat=False), harness.example_receiver(columns))
    assert 'serving_default' in outcome.signatures
    record(PACKAGE, kind, outcome)


@pytest.mark.parametrize('kind', ['RNNClassifier', 'RNNEstimator'])
def test_recurrent(kind, record):
    columns = [fc.sequence_numeric_column('x')]
    if kind == 'RNNClassifier':
        estimator = tf.estimator.experimental.RNNClassifier(columns, units=[4])
    else:
        estimator = tf.estimator.experimental.RNNEstimator(
            tf.estimator.BinaryClassHead(), columns, units=[4])
    rng = np.random.RandomState(0)
    values, labels = rng.rand(16, 5).astype(np.float32), rng.randint(0, 2, 16)

    def make_input_fn(repeat):
        def input_fn():
            rows = tf.data.Dataset.from_tensor_slices((values, labels)).map(
                lambda x, y: ({'x': tf.sparse.from_dense(x)}, y))
            return (rows.repeat() if repeat else rows).batch(8)
        return input_fn

    outcome = harness.run(estimator, make_input_fn(True), make_input_fn(False),
                          harness.example_receiver(columns))
    record(PACKAGE, kind, outcome)


def test_kmeans(record):
    values = np.random.RandomState(0).rand(32, 2).astype(np.float32)
    estimator = v1.estimator.experimental.KMeans(3, use_mini_batch=False, seed=1)

    def make_input_fn(repeat):
        def input_fn():
            rows = tf.data.Dataset.from_tensor_slices(values)
            return (rows.repeat() if repeat else rows).batch(8)
        return input_fn

    def receiver_fn():
        points = v1.placeholder(tf.float32, [None, 2])
        return tf.estimator.export.TensorServingInputReceiver(points, {'points': points})

    outcome = harness.run(estimator, make_input_fn(True), make_input_fn(False), receiver_fn)
    record(PACKAGE, 'KMeans', outcome)


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
    record(PACKAGE, 'model_to_estimator', outcome)

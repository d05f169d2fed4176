"""Python code and stray placeholders, in graphs that Estimator itself builds."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import estimator_spec_ext as ese

v1 = tf.compat.v1
outputs_lib = tf.estimator.export


def _logits(x):
    return tf.matmul(x, v1.get_variable('w', [3, 2], initializer=v1.ones_initializer()))


def _placeholder(dtype=tf.float32, shape=(), name=None):
    return v1.placeholder(dtype, None if shape is None else list(shape), name=name)


def _estimator(predict, model_dir, seen):
    """An estimator whose PREDICT is `predict(features)`: predictions, or a spec."""

    def model_fn(features, labels, mode):
        if mode == 'infer':
            made = predict(features)
            spec = made if isinstance(made, tuple) else tf.estimator.EstimatorSpec(mode, made)
            strict = ese.StrictEstimatorSpec(**spec._asdict())
            seen.append([(f.slug, f.severity.value, f.where.field) for f in ese.findings()
                         if f.severity is not ese.Severity.INFO])
            return strict
        loss = tf.reduce_mean(tf.square(_logits(features['x']) - labels))
        train_op = v1.train.GradientDescentOptimizer(.01).minimize(
            loss, v1.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return tf.estimator.Estimator(model_fn, model_dir)


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """The model_dir of a model that was trained for one step."""
    model_dir = str(tmp_path_factory.mktemp('model'))
    _estimator(None, model_dir, []).train(_input_fn, steps=1)
    return model_dir


def _input_fn():
    return tf.data.Dataset.from_tensors(({'x': tf.ones([4, 3])}, tf.ones([4, 2]))).repeat(2)


def _raw_receiver():
    x = v1.placeholder(tf.float32, [None, 3], name='x')
    return outputs_lib.ServingInputReceiver({'x': x}, {'x': x})


def _example_receiver():
    return outputs_lib.build_parsing_serving_input_receiver_fn(
        {'x': tf.io.FixedLenFeature([3], tf.float32)})()


def _scalar_receiver():
    x = v1.placeholder(tf.float32, [None, 3], name='x')
    switch = v1.placeholder(tf.bool, [], name='switch')
    features = {'x': tf.where(switch, x, -x)}
    return outputs_lib.ServingInputReceiver(features, {'x': x, 'switch': switch})


def _exported(predict, trained, tmp_path, receiver_fn=_raw_receiver):
    """What strict found while exporting, and the signatures that are left."""
    seen = []
    path = _estimator(predict, trained, seen).export_saved_model(
        str(tmp_path / 'export'), receiver_fn)
    with tf.Graph().as_default(), v1.Session() as session:
        meta_graph = v1.saved_model.load(session, ['serve'], path.decode())
    (found,) = seen
    return found, sorted(meta_graph.signature_def)


STRAYS = {
    'keep probability': lambda f: {'p': _logits(f['x']) * _placeholder()},
    'without a shape': lambda f: {'p': v1.nn.dropout(_logits(f['x']), rate=1. - _placeholder(
        shape=None))},
    'switch': lambda f: {'p': _switched(_logits(f['x']))},
    'size of the batch': lambda f: {'p': tf.reshape(_logits(f['x']), tf.stack(
        [_placeholder(tf.int32), 2]))},
    'features made again': lambda f: {'p': _logits(_placeholder(shape=[None, 3]))},
}


def _switched(p):
    return tf.cond(_placeholder(tf.bool), lambda: p, lambda: 2. * p)


def _after(condition, value):
    with tf.control_dependencies([tf.debugging.Assert(condition, ['stop'])]):
        return tf.identity(value)


@pytest.mark.parametrize('receiver_fn', [_raw_receiver, _example_receiver])
@pytest.mark.parametrize('name', STRAYS)
def test_a_stray_placeholder_is_told_before_the_export_drops_the_signature(
        name, receiver_fn, trained, tmp_path):
    found, signatures = _exported(STRAYS[name], trained, tmp_path, receiver_fn)
    assert found == [('stray-placeholder', 'warning', "predictions['p']")]
    assert signatures == []


def test_a_placeholder_behind_a_control_input_is_seen_by_us_alone(trained, tmp_path):
    """TensorFlow keeps the signature, and every request fails."""
    found, signatures = _exported(
        lambda f: {'p': _after(_placeholder(tf.bool), _logits(f['x']))}, trained, tmp_path)
    assert found == [('stray-placeholder', 'warning', "predictions['p']")]
    assert signatures == ['serving_default']


@pytest.mark.parametrize('receiver_fn', [_raw_receiver, _example_receiver, _scalar_receiver])
def test_placeholders_of_the_receiver_are_no_strays(receiver_fn, trained, tmp_path):
    found, signatures = _exported(lambda f: {'p': _logits(f['x'])}, trained, tmp_path,
                                  receiver_fn)
    assert found == []
    assert signatures == ['serving_default']


def test_a_default_is_no_stray(trained, tmp_path):
    found, signatures = _exported(
        lambda f: {'p': _logits(f['x']) * v1.placeholder_with_default(1., [])}, trained,
        tmp_path)
    assert (found, signatures) == ([], ['serving_default'])


def test_a_stray_that_no_signature_needs(trained, tmp_path):
    """The default has what clients want; the other output is for `predict` and its feeding."""

    def predict(features):
        p = _logits(features['x'])
        return tf.estimator.EstimatorSpec(
            'infer', {'p': p, 'scaled': p * _placeholder()},
            export_outputs={'serving_default': outputs_lib.PredictOutput({'p': p})})

    found, signatures = _exported(predict, trained, tmp_path)
    assert (found, signatures) == ([], ['serving_default'])


def test_a_stray_placeholder_while_predicting(trained):
    seen = []
    rows = _estimator(STRAYS['keep probability'], trained, seen).predict(_input_fn)
    with pytest.raises(tf.errors.InvalidArgumentError, match='You must feed a value'):
        next(rows)
    assert seen == [[('stray-placeholder', 'warning', "predictions['p']")]]


def _numpy(function):
    def apply(x):
        result = tf.numpy_function(function, [x], tf.float32)
        result.set_shape(x.shape)
        return result
    return apply


def _loop(x):
    body = _numpy(lambda value: np.float32(value + 1))
    return tf.while_loop(lambda i, y: i < 2, lambda i, y: (i + 1, body(y)), [0, x])[1]


def _function(x):
    return tf.function(_numpy(np.negative), autograph=False)(x)


def _eager(x):
    result = tf.py_function(lambda value: value * 2., [x], tf.float32)
    result.set_shape(x.shape)
    return result


PYTHON = {
    'py_func': lambda x: tf.ensure_shape(v1.py_func(np.negative, [x], tf.float32), [None, 2]),
    'stateless': lambda x: tf.ensure_shape(
        v1.py_func(np.negative, [x], tf.float32, stateful=False), [None, 2]),
    'numpy_function': _numpy(np.negative),
    'py_function': _eager,
    'in a cond': lambda x: tf.cond(tf.size(x) > 3, lambda: _numpy(np.negative)(x), lambda: x),
    'in a loop': _loop,
    'in a function': _function,
    'in a map': lambda x: tf.map_fn(_numpy(np.negative), x),
    'in an assertion': lambda x: _after(
        v1.py_func(lambda value: bool(np.all(np.isfinite(value))), [x], tf.bool), x),
}


@pytest.mark.parametrize('name', PYTHON)
def test_python_code_on_the_way_to_an_output(name):
    with tf.Graph().as_default():
        x = v1.placeholder(tf.float32, [None, 3])
        p = tf.nn.softmax(PYTHON[name](_logits(x)))
        ese.StrictEstimatorSpec('infer', {'p': p})
        assert [(f.slug, f.severity.value, f.where.field) for f in ese.findings()] == [
            ('py-func-served', 'warning', "predictions['p']")]


def test_python_code_in_other_modes_and_other_places():
    with tf.Graph().as_default():
        x = v1.placeholder(tf.float32, [None, 3])
        p = _logits(x)
        _eager(p)  # nobody reads it
        ese.StrictEstimatorSpec('infer', {'p': p})
        assert not ese.findings()
        loss = tf.reduce_mean(_eager(p))
        ese.StrictEstimatorSpec('eval', {'p': p}, loss=loss)
        assert not ese.findings()


def test_python_code_in_the_dataset_is_not_exported(trained):
    seen = []

    def input_fn():
        double = _numpy(lambda value: np.float32(value * 2))
        return tf.data.Dataset.from_tensors({'x': tf.ones([4, 3])}).map(
            lambda features: {'x': double(features['x'])})

    rows = list(_estimator(lambda f: {'p': _logits(f['x'])}, trained, seen).predict(input_fn))
    assert len(rows) == 4
    assert seen == [[]]


def test_what_the_wrapped_model_fn_makes_is_no_feature():
    """Without an Estimator the frame of `strict_model_fn` tells; the features are a constant."""
    @ese.strict_model_fn
    def model_fn(features, labels, mode):
        return tf.estimator.EstimatorSpec(mode, {'p': _logits(features) * _placeholder()})

    with tf.Graph().as_default() as graph:
        model_fn(tf.ones([2, 3]), None, 'infer')
        finding, = ese.findings(graph)
    assert (finding.slug, finding.where.field) == ('stray-placeholder', "predictions['p']")

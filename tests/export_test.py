"""The default signatures: what a strict spec adds, and what it leaves as it was given."""

from __future__ import annotations

import collections
import copy

import pytest
import tensorflow as tf

import estimator_spec_ext as ese
from estimator_spec_ext import export

v1 = tf.compat.v1
outputs_lib = tf.estimator.export
DEFAULT = 'serving_default'


@pytest.fixture(autouse=True)
def graph():
    """A fresh graph, the default one during the test."""
    with tf.Graph().as_default() as g:
        yield g


def _x(dtype=tf.float32, name=None):
    return v1.placeholder(dtype, [None, 3], name=name)


def _strict(predictions, export_outputs=None, **kwargs):
    return ese.StrictEstimatorSpec('infer', predictions, export_outputs=export_outputs, **kwargs)


def _stock(predictions, export_outputs=None):
    return tf.estimator.EstimatorSpec(
        'infer', predictions, export_outputs=copy.copy(export_outputs))


def _kinds(spec):
    return {name: type(output).__name__ for name, output in spec.export_outputs.items()}


# Without export_outputs.


def test_none_becomes_serving_default_with_all_predictions():
    predictions = {'a': _x(), 'b': _x(tf.string)}
    spec = _strict(predictions)
    assert _kinds(spec) == {DEFAULT: 'PredictOutput'}
    assert spec.export_outputs[DEFAULT].outputs == predictions


def test_a_bare_tensor_is_called_output():
    x = _x()
    assert _strict(x).export_outputs[DEFAULT].outputs == {'output': x}


def test_tuple_keys_are_joined():
    x = _x()
    assert list(_strict({('a', 'b'): x}).export_outputs[DEFAULT].outputs) == ['a/b']


@pytest.mark.parametrize('make', [
    lambda: _x(),
    lambda: {'a': _x(), 'b': _x(tf.uint8)},
    lambda: {('h', 'p'): _x()},
    lambda: collections.OrderedDict(z=_x(), a=_x(tf.int64)),
], ids=['bare', 'dict', 'tuple keys', 'OrderedDict'])
def test_the_same_as_stock_where_stock_accepts(make):
    predictions = make()
    strict, stock = _strict(predictions), _stock(predictions)
    assert strict.export_outputs.keys() == stock.export_outputs.keys()
    ours, theirs = strict.export_outputs[DEFAULT], stock.export_outputs[DEFAULT]
    assert list(ours.outputs) == list(theirs.outputs)
    assert all(ours.outputs[key] is theirs.outputs[key] for key in theirs.outputs)


@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_nothing_is_added_outside_of_predict(mode):
    loss = tf.square(v1.get_variable('w', []))
    step = v1.train.get_or_create_global_step()
    train_op = v1.train.GradientDescentOptimizer(.1).minimize(loss, step)
    exports = {'a': outputs_lib.PredictOutput(_x()), 'b': outputs_lib.PredictOutput(_x())}
    spec = ese.StrictEstimatorSpec(mode, {'p': _x()}, loss, train_op, export_outputs=exports)
    assert spec.export_outputs == exports
    assert ese.StrictEstimatorSpec(mode, {'p': _x()}, loss, train_op).export_outputs is None


# With export_outputs.


def test_one_output_of_any_name_becomes_the_default():
    x = _x()
    given = {'mine': outputs_lib.PredictOutput({'p': x})}
    spec = _strict({'p': x}, given)
    assert spec.export_outputs == {'mine': given['mine'], DEFAULT: given['mine']}


def test_several_heads_without_a_default_get_one():
    a, b = _x(), _x()
    given = {'sales': outputs_lib.PredictOutput({'a': a}),
             'clicks': outputs_lib.PredictOutput({'b': b})}
    with pytest.raises(ValueError, match='none of them are specified as the default'):
        _stock({'a': a, 'b': b}, given)
    spec = _strict({'a': a, 'b': b}, given)
    assert list(spec.export_outputs) == ['sales', 'clicks', DEFAULT]
    assert spec.export_outputs[DEFAULT].outputs == {'a': a, 'b': b}
    finding, = [f for f in ese.findings() if f.slug == 'no-default-signature']
    assert finding.severity is ese.Severity.INFO


def test_several_heads_that_cannot_get_a_default_are_refused():
    given = {name: outputs_lib.PredictOutput({name: _x()}) for name in ('sales', 'clicks')}
    with pytest.raises(ese.EstimatorSpecError) as caught:
        _strict({}, given)
    assert [(f.slug, f.where.field) for f in caught.value.findings] == [
        ('no-default-signature', 'export_outputs')]


@pytest.mark.parametrize('make', [
    lambda x: outputs_lib.ClassificationOutput(scores=x),
    lambda x: outputs_lib.RegressionOutput(x),
], ids=['classification', 'regression'])
@pytest.mark.parametrize('name', [DEFAULT, 'head'])
def test_predict_is_added_beside_what_a_raw_receiver_drops(make, name):
    x = _x()
    output = make(x)
    spec = _strict({'scores': x}, {name: output})
    assert spec.export_outputs[name] is output
    assert spec.export_outputs[DEFAULT] is output
    assert spec.export_outputs['predict'].outputs == {'scores': x}


def test_nothing_is_added_where_an_output_can_be_served():
    x = _x()
    given = {DEFAULT: outputs_lib.ClassificationOutput(scores=x),
             'scores': outputs_lib.PredictOutput({'scores': x})}
    assert _strict({'scores': x}, given).export_outputs == given


def test_nothing_is_added_beside_an_output_of_the_authors_own_kind():
    class Own(outputs_lib.ExportOutput):
        """Makes its signature itself."""

    x = _x()
    given = {DEFAULT: Own()}
    assert _strict({'p': x}, given).export_outputs == given


def test_a_taken_name_is_left_to_its_owner():
    x = _x()
    given = {'predict': outputs_lib.ClassificationOutput(scores=x)}
    spec = _strict({'p': x}, given)
    assert spec.export_outputs['predict'] is given['predict']


@pytest.mark.parametrize('predictions', [
    lambda x: {}, lambda x: {3: x}, lambda x: {('a', 'b'): x, 'a/b': tf.identity(x)},
], ids=['empty', 'integer key', 'colliding keys'])
def test_nothing_is_made_of_predictions_that_no_signature_can_hold(predictions):
    x = _x()
    given = {DEFAULT: outputs_lib.RegressionOutput(x)}
    completed = export.complete_export_outputs(given, predictions(x))
    assert completed == given
    assert completed is not given


def test_a_variable_among_the_predictions_is_no_crash():
    x, variable = _x(), v1.get_variable('v', [3])
    given = {DEFAULT: outputs_lib.RegressionOutput(x)}
    assert list(export.complete_export_outputs(given, {'v': variable})) == [DEFAULT]


# What the caller handed in.


@pytest.mark.parametrize('kind', [dict, collections.OrderedDict])
def test_the_callers_dicts_are_never_changed(kind):
    a, b = _x(), _x()
    predictions = kind(a=a, b=b)
    cases = [
        kind(mine=outputs_lib.PredictOutput(a)),
        kind(mine=outputs_lib.RegressionOutput(a)),
        kind(sales=outputs_lib.PredictOutput(a), clicks=outputs_lib.PredictOutput(b)),
    ]
    for given in cases:
        before = list(given.items())
        spec = _strict(predictions, given)
        assert list(given.items()) == before
        assert list(predictions.items()) == [('a', a), ('b', b)]
        assert spec.export_outputs is not given
        assert type(spec.export_outputs) is kind


def test_a_dict_that_refuses_to_be_copied():
    class Stubborn(dict):
        def __copy__(self):
            raise RuntimeError('no')

        def __init__(self):
            super().__init__()

    x, given = _x(), Stubborn()
    given['mine'] = outputs_lib.RegressionOutput(x)
    completed = export.complete_export_outputs(given, {'p': x})
    assert list(completed) == ['mine', DEFAULT, 'predict']
    assert list(given) == ['mine']


# The export itself.


def _receiver(**tensors):
    return tensors


@pytest.mark.parametrize('make', [
    lambda x: outputs_lib.ClassificationOutput(scores=x),
    lambda x: outputs_lib.RegressionOutput(x),
])
def test_a_raw_receiver_keeps_a_signature_that_can_be_served(make, tmp_path):
    """Stock writes a SavedModel without any signature for the same model_fn."""

    def model_fn(features, labels, mode):
        w = v1.get_variable('w', [], initializer=v1.zeros_initializer())
        prediction = features['x'] * w
        if mode == 'infer':
            return tf.estimator.EstimatorSpec(
                mode, {'p': prediction}, export_outputs={DEFAULT: make(prediction)})
        loss = tf.reduce_mean(tf.square(prediction - labels))
        return tf.estimator.EstimatorSpec(
            mode, loss=loss, train_op=v1.train.GradientDescentOptimizer(.1).minimize(
                loss, v1.train.get_global_step()))

    def receiver_fn():
        x = v1.placeholder(tf.float32, [None, 1])
        return outputs_lib.ServingInputReceiver({'x': x}, {'x': x})

    def input_fn():
        return tf.data.Dataset.from_tensors(({'x': [[1.]]}, [[1.]]))

    signatures = {}
    for kind, function in (('stock', model_fn), ('strict', ese.strict_model_fn(model_fn))):
        estimator = tf.estimator.Estimator(function, str(tmp_path / kind / 'model'))
        estimator.train(input_fn, steps=1)
        path = estimator.export_saved_model(str(tmp_path / kind / 'export'), receiver_fn)
        with tf.Graph().as_default(), v1.Session() as session:
            meta_graph = v1.saved_model.load(session, ['serve'], path.decode())
        signatures[kind] = sorted(meta_graph.signature_def)
    assert signatures == {'stock': [], 'strict': ['predict']}


# The public function.


def test_default_export_outputs():
    x = _x()
    outputs = ese.default_export_outputs({('a', 'b'): x})
    assert list(outputs) == [DEFAULT]
    assert outputs[DEFAULT].outputs == {'a/b': x}
    assert list(ese.default_export_outputs(x)[DEFAULT].outputs) == ['output']


def test_default_export_outputs_names_every_fault_at_once():
    x = _x()
    with tf.Graph().as_default():
        old = _x()
    with pytest.raises(ese.EstimatorSpecError) as caught:
        ese.default_export_outputs({
            'sparse': tf.sparse.from_dense([[1.]]), 3: x, ('a', 'b'): x, 'a/b': tf.identity(x),
            'old': old, 'variable': v1.get_variable('v', [3])})
    assert sorted((f.slug, f.where.field) for f in caught.value.findings) == [
        ('foreign-graph', "predictions['old']"),
        ('output-names-collide', "predictions['a/b']"),
        ('prediction-key-not-string', 'predictions[3]'),
        ('prediction-not-servable', "predictions['variable']"),
        ('prediction-not-tensor', "predictions['sparse']"),
    ]


@pytest.mark.parametrize('junk', [None, 3, 'p', [], (), object(), float, lambda: None])
def test_default_export_outputs_of_junk(junk):
    with pytest.raises(ValueError):
        ese.default_export_outputs(junk)

"""The fields of a PREDICT spec: every fault with field and key; odd but right ones pass."""

from __future__ import annotations

import collections

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

import estimator_spec_ext as ese

v1 = tf.compat.v1
outputs_lib = tf.estimator.export
DEFAULT = 'serving_default'


@pytest.fixture(autouse=True)
def graph():
    """A fresh graph, the default one during the test."""
    with tf.Graph().as_default() as g:
        yield g


def _x(dtype=tf.float32):
    return v1.placeholder(dtype, [None, 3])


def _found(mode='infer', **fields):
    """(slug, severity, field) of all that is found, notes aside."""
    try:
        ese.StrictEstimatorSpec(mode, **fields)
        found = ese.findings()
    except ese.EstimatorSpecError as error:
        found = error.findings
    return sorted((f.slug, f.severity.value, f.where.field) for f in found
                  if f.severity is not ese.Severity.INFO)


class _Mapping(collections.abc.Mapping):
    """Looks like a dict and is none."""

    def __init__(self, items):
        self._items = items

    def __getitem__(self, key):
        return self._items[key]

    def __iter__(self):
        return iter(self._items)

    def __len__(self):
        return len(self._items)


@pytest.mark.parametrize('make', [
    lambda: tf.sparse.from_dense([[1.]]),
    lambda: tf.ragged.constant([[1], [2, 3]]),
    lambda: tf.IndexedSlices(tf.constant([1.]), tf.constant([0])),
    lambda: tf.TensorArray(tf.float32, 3),
    lambda: tf.data.Dataset.range(3),
    lambda: tf.no_op(),
    lambda: np.ones(3),
    lambda: [tf.constant([1.])],
    lambda: {'nested': tf.constant([1.])},
    lambda: None, lambda: 1.5, lambda: 'text', lambda: tf.nn.softmax,
], ids=['sparse', 'ragged', 'slices', 'array', 'dataset', 'operation', 'numpy', 'list', 'dict',
        'none', 'number', 'string', 'function'])
@pytest.mark.parametrize('mode', ['eval', 'infer'])
def test_a_value_that_is_no_tensor(make, mode):
    loss = {'loss': tf.constant(1.)} if mode == 'eval' else {}
    assert _found(mode, predictions={'good': _x(), 'words': make()}, **loss) == [
        ('prediction-not-tensor', 'error', "predictions['words']")]


@pytest.mark.parametrize('make', [lambda: [_x()], lambda: (_x(),), lambda: _Mapping({'p': _x()})])
def test_predictions_that_are_no_dict(make):
    assert _found(predictions=make()) == [('prediction-not-tensor', 'error', 'predictions')]


def test_a_composite_value_raises_what_stock_raises():
    with pytest.raises(TypeError):
        ese.StrictEstimatorSpec('infer', {'p': tf.sparse.from_dense([[1.]])})
    with pytest.raises(ese.EstimatorSpecTypeError):
        ese.StrictEstimatorSpec('infer', {'p': tf.sparse.from_dense([[1.]])})


def test_missing_predictions():
    assert _found() == [('stock-refuses', 'error', 'predictions')]


@pytest.mark.parametrize('key', [0, None, b'p', 1.5, ('a', 1), frozenset('ab')])
def test_keys_that_no_signature_can_have(key):
    slugs = {slug for slug, _, _ in _found(predictions={key: _x()})}
    assert slugs == {'prediction-key-not-string'}
    own = {DEFAULT: outputs_lib.PredictOutput({'p': _x()})}
    assert _found(predictions={key: _x()}, export_outputs=own) == []
    assert _found('eval', loss=tf.constant(1.), predictions={key: _x()}) == []


def test_all_faults_at_once():
    with tf.Graph().as_default():
        old = _x()
    x = _x()
    assert _found(
        predictions={'sparse': tf.sparse.from_dense([[1.]]), 'old': old,
                     ('a', 'b'): x, 'a/b': tf.nn.relu(x)},
        export_outputs={'a': outputs_lib.PredictOutput({'x': old}), 'b': x},
    ) == [
        ('foreign-graph', 'error', "export_outputs['a']"),
        ('foreign-graph', 'error', "predictions['old']"),
        ('no-default-signature', 'error', 'export_outputs'),
        ('not-export-output', 'error', "export_outputs['b']"),
        ('prediction-not-tensor', 'error', "predictions['sparse']"),
    ]


@pytest.mark.parametrize('make', [
    lambda: [outputs_lib.PredictOutput(_x())],
    lambda: outputs_lib.PredictOutput(_x()),
    lambda: _Mapping({DEFAULT: outputs_lib.PredictOutput(_x())}),
    lambda: 'serving_default', lambda: 3,
])
def test_export_outputs_that_are_no_dict(make):
    given = make()
    assert _found(predictions=_x(), export_outputs=given) == [
        ('not-export-output', 'error', 'export_outputs')]
    assert _found('eval', loss=tf.constant(1.), export_outputs=given) == []


@pytest.mark.parametrize('value', [None, 3, 'p', outputs_lib.PredictOutput, {}, []])
def test_values_that_are_no_export_output(value):
    assert _found(predictions=_x(), export_outputs={DEFAULT: value}) == [
        ('not-export-output', 'error', f"export_outputs['{DEFAULT}']")]


@pytest.mark.parametrize('dtype', [tf.float64, tf.float16, tf.bfloat16])
def test_a_dtype_that_every_export_drops(dtype):
    x = _x(dtype)
    bad = [('signature-always-dropped', 'error', f"export_outputs['{DEFAULT}']")]
    assert _found(predictions=x, export_outputs={DEFAULT: outputs_lib.RegressionOutput(x)}) == bad
    # Stock makes the only output the default.
    assert _found(predictions=x, export_outputs={
        'classes': outputs_lib.ClassificationOutput(scores=x)}) == bad
    beside = {DEFAULT: outputs_lib.PredictOutput(x), 'r': outputs_lib.RegressionOutput(x)}
    assert _found(predictions=x, export_outputs=beside) == [
        ('signature-always-dropped', 'warning', "export_outputs['r']")]


def test_integer_classes_are_refused_by_the_constructor_itself():
    """The error comes before any spec is there to be judged."""
    with pytest.raises(ValueError, match='Classification classes must be a string Tensor'):
        outputs_lib.ClassificationOutput(classes=tf.argmax(_x(), 1))


@pytest.mark.parametrize('name', [7, None, b'scores', ('a', 'b')])
def test_names_of_signatures_that_are_no_strings(name):
    output = outputs_lib.PredictOutput(_x())
    (found,) = _found(predictions=_x(), export_outputs={DEFAULT: output, name: output})
    assert found[:2] == ('signature-name-not-string', 'warning')


def test_an_empty_dict_exports_nothing():
    assert _found(predictions=_x(), export_outputs={}) == [
        ('no-signatures', 'warning', 'export_outputs')]
    assert _found('eval', loss=tf.constant(1.), export_outputs={}) == []


def test_values_of_another_graph_in_every_field():
    with tf.Graph().as_default():
        old = tf.constant(1.)
        metric = v1.metrics.mean(old)
        train_op = tf.no_op()
    assert _found('train', loss=old, train_op=train_op, predictions={'p': old},
                  eval_metric_ops={'m': metric},
                  export_outputs={DEFAULT: outputs_lib.PredictOutput(old)}) == [
        ('foreign-graph', 'error', "eval_metric_ops['m']"),
        ('foreign-graph', 'error', 'loss'),
        ('foreign-graph', 'error', "predictions['p']"),
        ('foreign-graph', 'error', 'train_op'),
    ]


def test_an_eager_tensor():
    with context.eager_mode():
        eager = tf.constant(1.)
    found = _found('eval', loss=eager, predictions={'p': eager})
    assert found == [('foreign-graph', 'error', 'loss'),
                     ('foreign-graph', 'error', "predictions['p']")]


def test_inside_a_function_the_outer_graph_is_not_foreign():
    """TPUEstimator exports from inside a function's graph."""
    outer = _x()
    with tf.__internal__.FuncGraph('inner').as_default():
        # Stock itself takes nothing but the graph of the function.
        assert [slug for slug, _, _ in _found(predictions={'p': outer})] == ['stock-refuses']


@pytest.mark.parametrize('predictions', [
    lambda x: {'again': x, 'same': x},
    lambda x: {('head', 'p'): x, ('other', 'p'): tf.nn.relu(x)},
    lambda x: collections.OrderedDict(text=tf.as_string(x), small=tf.cast(x, tf.uint8)),
    lambda x: {'unknown': v1.placeholder(tf.float32)},
    lambda x: tf.cast(x, tf.complex64),
], ids=['twice', 'tuples', 'dtypes', 'unknown rank', 'bare'])
def test_odd_predictions_of_correct_programs(predictions):
    assert _found(predictions=predictions(_x())) == []


def test_odd_exports_of_correct_programs():
    x = _x()
    one = outputs_lib.PredictOutput({'other_name': x})
    for given in ({'any': one}, {DEFAULT: one, 'predict': one}, {'': one},
                  {DEFAULT: outputs_lib.RegressionOutput(x), 'regression': one}):
        assert _found(predictions={'p': x}, export_outputs=given) == []
    assert _found(predictions={}, export_outputs={DEFAULT: one}) == []

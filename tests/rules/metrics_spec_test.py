"""Metrics as they are handed in: what is no metric, by key, and what must pass."""

from __future__ import annotations

import collections

import pytest
import tensorflow as tf

import estimator_spec_ext as ese
from estimator_spec_ext import engine
from estimator_spec_ext.diagnostics import Severity
from estimator_spec_ext.facts import SpecFacts

v1 = tf.compat.v1


@pytest.fixture(autouse=True)
def _graph():
    with tf.Graph().as_default():
        v1.train.get_or_create_global_step()
        yield


def _report(metrics, mode='eval'):
    one = tf.constant([1.0])
    fields = {'loss': tf.reduce_sum(one), 'eval_metric_ops': metrics, 'predictions': one}
    return engine.check(SpecFacts(mode, fields))


def _found(metrics, mode='eval'):
    """(slug, field, actual) of the findings about metrics."""
    return [
        (f.slug, f.where.field, f.actual)
        for f in _report(metrics, mode).findings
        if f.where.base_field == 'eval_metric_ops'
    ]


def _x():
    return v1.placeholder(tf.float32, [None])


@pytest.mark.parametrize(
    'make, actual, hint',
    [
        (lambda: v1.metrics.mean(_x()), 'a tuple of 2', 'name each metric'),
        (list, 'a list of 0', 'name each metric'),
        (lambda: 7, '7', 'name each metric'),
        (lambda: (lambda labels: {}, [_x()]), 'a tuple of 2', 'call the metric function and pass'),
        (lambda: dict, 'the class dict', 'call the function and pass the dict'),
        (lambda: tf.keras.metrics.Mean(), 'a Mean', 'name each metric'),
    ],
)
def test_not_a_dict(make, actual, hint):
    (finding,) = _report(make()).errors
    assert (finding.slug, finding.where.field) == ('metrics-not-dict', 'eval_metric_ops')
    assert finding.actual == actual
    assert finding.hint.startswith(hint)


@pytest.mark.parametrize(
    'make, actual, hint',
    [
        (lambda: list(v1.metrics.mean(_x())), 'a list of 2', 'use a tuple: (value, update_op)'),
        (lambda: [_x()], 'a list of 1', 'use a tuple of two: (value, update_op)'),
        (lambda: (_x(),), 'a tuple of 1', "pass {'m': (value, update_op)}"),
        (lambda: v1.metrics.mean(_x()) + (1,), 'a tuple of 3', "pass {'m': (value, update_op)}"),
        (lambda: tf.reduce_max(_x()), 'a tensor, float32()', 'average it over all batches'),
        (
            lambda: v1.get_local_variable('a', [], initializer=tf.zeros_initializer()),
            'a tensor, float32()',
            'average it over all batches',
        ),
        (lambda: tf.sparse.from_dense([1.0]), 'a SparseTensor', 'average it'),
        (lambda: None, 'None', "leave 'm' out"),
        (lambda: 0.5, '0.5', "pass {'m': (value, update_op)}"),
        (lambda: tf.keras.metrics.Mean, 'the class Mean', 'make one of it'),
        (lambda: v1.metrics.accuracy, 'the function accuracy', 'call it'),
        (lambda: (_x(), None), '(value, None)', 'pass the update op'),
        (lambda: (None, tf.no_op()), 'a tuple with None as value', 'pass a tensor as value'),
        (lambda: (0.5, tf.no_op()), 'a tuple with 0.5 as value', 'pass a tensor as value'),
        (lambda: (_x(), 'm/update'), "a tuple with 'm/update' as update_op", 'pass a tensor'),
        (
            lambda: (tf.keras.metrics.Mean(), tf.no_op()),
            'a tuple with a Keras metric as value',
            "pass the metric itself: {'m': metric}",
        ),
        (
            lambda: ({'a': _x(), 'b': None}, tf.no_op()),
            'a tuple with None as value',
            'pass a tensor as value',
        ),
    ],
)
@pytest.mark.parametrize('mode', ['train', 'eval', 'infer'])
def test_not_a_pair(make, actual, hint, mode):
    good = v1.metrics.mean(_x())
    errors = _report({'m': make(), 'good': good}, mode).errors
    (finding,) = [f for f in errors if f.where.base_field == 'eval_metric_ops']
    assert (finding.slug, finding.where.field) == ('metric-not-pair', "eval_metric_ops['m']")
    assert finding.actual == actual
    assert finding.hint.startswith(hint)


@pytest.mark.skipif(tf.__version__.startswith('2.12.'),
                    reason='update_state of Keras 2.12 returns a tensor, like any other metric')
def test_result_of_update_state():
    metric = tf.keras.metrics.Accuracy()
    (finding,) = _report({'m': metric.update_state(_x(), _x())}).errors
    assert finding.message.startswith("eval_metric_ops['m'] is an Operation; expected")
    assert finding.hint.startswith('pass the Keras metric itself')


def test_every_fault_is_named_at_once():
    metrics = {
        'raw': tf.reduce_sum(_x()),
        'pairs': [_x(), _x()],
        'keras': tf.keras.metrics.AUC(),
        'loss': v1.metrics.mean(_x()),
        ('a', 1): v1.metrics.mean(_x()),
        'fine': v1.metrics.mean(_x()),
    }
    before = dict(metrics)
    found = [(slug, field) for slug, field, _ in _found(metrics)]
    assert found == [
        ('metric-not-pair', "eval_metric_ops['pairs']"),
        ('metric-not-pair', "eval_metric_ops['raw']"),
        ('keras-metric-not-updated', "eval_metric_ops['keras']"),
        ('metric-key-not-string', 'eval_metric_ops[<tuple>]'),
        ('metric-reserved-name', "eval_metric_ops['loss']"),
    ]
    assert metrics == before
    with pytest.raises(ese.EstimatorSpecError) as caught:
        ese.StrictEstimatorSpec('eval', loss=tf.constant(1.0), eval_metric_ops=metrics)
    assert [f.slug for f in caught.value.findings] == [slug for slug, _ in found]


@pytest.mark.parametrize('name', ['loss', 'global_step'])
def test_reserved_names_count_in_eval_alone(name):
    metrics = {name: v1.metrics.mean(_x())}
    assert [slug for slug, _, _ in _found(metrics)] == ['metric-reserved-name']
    assert _found(metrics, 'train') == []
    assert _found(metrics, 'infer') == []


@pytest.mark.parametrize('key', [1, ('a', 'b'), b'a', None, True])
def test_keys_that_are_no_strings_count_in_eval_alone(key):
    metrics = {key: v1.metrics.mean(_x())}
    assert [slug for slug, _, _ in _found(metrics)] == ['metric-key-not-string']
    assert _found(metrics, 'train') == []


class _Name(str):
    pass


def test_correct_look_alikes():
    """What correct programs hand in: nested values, shared updates, subclasses, slashes."""
    value, update = v1.metrics.mean(_x())
    pair = collections.namedtuple('Pair', 'value update_op')
    keras = tf.keras.metrics.MeanSquaredError()
    keras.update_state(_x(), _x())
    shared = tf.no_op()
    metrics = collections.OrderedDict(
        [
            ('head/mean', (value, update)),
            (_Name('named'), pair(value, update)),
            ('nested', ({'a': value}, [update, shared])),
            ('keras', keras),
            ('Loss', (tf.constant(1.0), shared)),
            ('average_loss', (tf.constant(2), shared)),
            ('text', (tf.constant('words'), shared)),
            ('', v1.metrics.mean(_x())),
        ]
    )
    assert _found(metrics) == []
    assert _found({}) == [] and _found(None) == []


def test_numbers_that_tensorboard_does_not_show_are_information():
    metrics = {
        'matrix': v1.metrics.mean_tensor(v1.placeholder(tf.float32, [2, 2])),
        'flag': (tf.constant(True), tf.no_op()),
        'half': (tf.constant(1.0, tf.float16), tf.no_op()),
        'unknown': (v1.placeholder_with_default(tf.constant(1.0), None), tf.no_op()),
        'one': (tf.constant([1.0]), tf.no_op()),
    }
    report = _report(metrics)
    found = [(f.slug, f.where.field, f.actual) for f in report.findings]
    assert found == [
        ('metric-not-scalar', "eval_metric_ops['flag']", 'bool()'),
        ('metric-not-scalar', "eval_metric_ops['half']", 'float16()'),
        ('metric-not-scalar', "eval_metric_ops['matrix']", 'float32(2, 2)'),
        ('metric-not-scalar', "eval_metric_ops['one']", 'float32(1,)'),
    ]
    assert {f.severity for f in report.findings} == {Severity.INFO}


def test_an_operation_as_value_warns():
    value, update = v1.metrics.mean(_x())
    (finding,) = _report({'m': (tf.group(update), value)}).warnings
    assert finding.slug == 'metric-value-is-operation'
    assert finding.hint == 'swap the two: (value, update_op)'
    (finding,) = _report({'m': (tf.no_op(), tf.no_op())}).warnings
    assert finding.hint.startswith('pass a tensor as value')


class _Hostile:
    def __getattr__(self, name):
        raise RuntimeError(name)

    def __repr__(self):
        raise RuntimeError('repr')

    def __len__(self):
        raise RuntimeError('len')


@pytest.mark.parametrize('make', [
    lambda: _Hostile(), lambda: {'m': _Hostile()}, lambda: {'m': (_Hostile(), _Hostile())},
    lambda: {'m': (_x(), {'b': 1, 2: _Hostile()})}])
def test_junk_never_crashes_a_rule(make):
    report = _report(make())
    assert not report.ok
    assert 'rule-crashed' not in {f.slug for f in report.findings}

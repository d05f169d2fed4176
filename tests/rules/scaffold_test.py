"""Scaffolds that fail, beside what stock says of them in real jobs, and their look-alikes."""

from __future__ import annotations

import json

import pytest
import tensorflow as tf

from estimator_spec_ext import engine
from estimator_spec_ext.diagnostics import Severity
from estimator_spec_ext.facts import JobContext, SpecFacts

v1 = tf.compat.v1
train = v1.train
Scaffold = train.Scaffold
ERROR, WARNING = Severity.ERROR, Severity.WARNING
SKIPS, OUT, FOREIGN = (
    'scaffold-skips-initializers', 'saver-leaves-variables-out', 'scaffold-foreign-graph')


@pytest.fixture(autouse=True)
def _alone(monkeypatch):
    monkeypatch.delenv('TF_CONFIG', raising=False)


def _found(mode, fields, **context):
    report = engine.check(
        SpecFacts(mode, fields, context=JobContext(**context)), family='ESX70')
    assert 'rule-crashed' not in {f.slug for f in report.findings}, report.to_text()
    return [(f.slug, f.severity) for f in report.findings]


def _job(tmp_path, wanted, make, calls):
    """What each call of stock ends with, and what the rules say of the wanted mode's spec."""
    found = []

    def model_fn(features, labels, mode):
        x = features['x']
        weight = v1.get_variable('weight', [], initializer=v1.zeros_initializer())
        v1.get_variable('table', [3], initializer=v1.zeros_initializer(), trainable=False)
        seen = v1.get_local_variable('seen', [], initializer=v1.zeros_initializer())
        words = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([1], [2]), 0)
        looked_up = tf.cast(words.lookup(tf.cast(x, tf.int32)), tf.float32)
        prediction = x * weight + looked_up
        fields = {'predictions': prediction}
        if mode != 'infer':
            fields['loss'] = tf.reduce_mean(tf.square(prediction - labels))
        if mode == 'train':
            fields['train_op'] = tf.group(seen.assign_add(1.0), train.MomentumOptimizer(
                0.01, 0.9).minimize(fields['loss'], train.get_global_step()))
        if mode == 'eval':
            fields['eval_metric_ops'] = {'m': v1.metrics.mean(x)}
        if mode == wanted:
            fields.update(make())
            found[:] = _found(mode, fields)
        return tf.estimator.EstimatorSpec(mode, **fields)

    def input_fn():
        return tf.data.Dataset.from_tensors(({'x': [1.0, 2.0]}, [1.0, 2.0]))

    def receiver():
        x = v1.placeholder(tf.float32, [None])
        return tf.estimator.export.ServingInputReceiver({'x': x}, {'x': x})

    estimator = tf.estimator.Estimator(model_fn, str(tmp_path / 'job'))
    run = {
        'train': lambda: estimator.train(input_fn),
        'eval': lambda: estimator.evaluate(input_fn),
        'predict': lambda: list(estimator.predict(input_fn)),
        'export': lambda: estimator.export_saved_model(str(tmp_path / 'export'), receiver),
    }
    ends = []
    for call in calls:
        try:
            run[call]()
            ends.append('ok')
        except (RuntimeError, tf.errors.FailedPreconditionError, TypeError, ValueError) as error:
            ends.append(type(error).__name__)
    return ends, found


def _without(*words):
    return [v for v in v1.global_variables() if not any(word in v.name for word in words)]


def _with(word):
    return [v for v in v1.global_variables() if word in v.name]


# What is restored.


def _subset():
    return {'scaffold': Scaffold(saver=train.Saver(_without('table')))}


def _by_name():
    return {'scaffold': Scaffold(saver=train.Saver({v.op.name: v for v in _without('Momentum')}))}


def _collected():
    v1.add_to_collection(v1.GraphKeys.SAVERS, train.Saver(_without('Momentum')))
    return {}


def _rest_by_local_init(**more):
    return {'scaffold': Scaffold(
        saver=train.Saver(_without('table')), local_init_op=tf.group(
            Scaffold.default_local_init_op(), v1.variables_initializer(_with('table'))), **more)}


def _rest_and_ready():
    return _rest_by_local_init(
        ready_for_local_init_op=v1.report_uninitialized_variables(_without('table')))


def _all():
    return {'scaffold': Scaffold(saver=train.Saver(sharded=True, max_to_keep=1))}


def _deferred():
    return {'scaffold': Scaffold(saver=train.Saver(defer_build=True))}


def _averages():
    names = tf.train.ExponentialMovingAverage(0.9).variables_to_restore([])
    return {'scaffold': Scaffold(saver=train.Saver(names))}


@pytest.mark.parametrize('make, second, found', [
    (_subset, 'RuntimeError', [(OUT, WARNING)]),
    (_by_name, 'RuntimeError', [(OUT, WARNING)]),
    (_collected, 'RuntimeError', [(OUT, WARNING)]),
    (_rest_by_local_init, 'RuntimeError', [(OUT, WARNING)]),
    (_rest_and_ready, 'ok', []),
    (_all, 'ok', []),
    (_deferred, 'ok', []),
])
def test_a_restart_of_training(tmp_path, make, second, found):
    assert _job(tmp_path, 'train', make, ['train', 'train']) == (['ok', second], found)


@pytest.mark.parametrize('make, evaluation, found', [
    (_subset, 'RuntimeError', [(OUT, ERROR)]),
    (_rest_by_local_init, 'RuntimeError', [(OUT, ERROR)]),
    (_rest_and_ready, 'ok', []),
    (_averages, 'ok', []),
    (_all, 'ok', []),
])
def test_an_evaluation(tmp_path, make, evaluation, found):
    assert _job(tmp_path, 'eval', make, ['train', 'eval']) == (['ok', evaluation], found)


def test_an_export_does_without_what_it_does_not_read(tmp_path):
    made = _job(tmp_path, 'infer', _subset, ['train', 'predict', 'export'])
    assert made == (['ok', 'RuntimeError', 'ok'], [(OUT, WARNING)])


def test_a_prediction_that_reads_what_is_missing():
    with tf.Graph().as_default():
        weight = v1.get_variable('weight', [])
        v1.get_variable('other', [])
        fields = {'predictions': tf.identity(weight),
                  'scaffold': Scaffold(saver=train.Saver(_without('weight')))}
        assert _found('infer', fields) == [(OUT, ERROR)]
        # Without a checkpoint the function may load it.
        fields['scaffold'] = Scaffold(saver=train.Saver(_without('weight')), init_fn=print)
        assert _found('infer', fields) == [(OUT, WARNING)]


# What is initialised.


def _local(*parts):
    return {'scaffold': Scaffold(local_init_op=tf.group(*parts))}


def _no_tables():
    return _local(v1.local_variables_initializer())


def _no_variables():
    return _local(v1.tables_initializer())


def _nothing():
    return _local(tf.no_op())


def _both():
    return _local(v1.local_variables_initializer(), v1.tables_initializer())


def _in_a_collection():
    v1.add_to_collection(v1.GraphKeys.LOCAL_INIT_OP, tf.no_op())
    return {}


@pytest.mark.parametrize('make, first, found', [
    (_no_tables, 'FailedPreconditionError', [(SKIPS, ERROR)]),
    (_no_variables, 'RuntimeError', [(SKIPS, ERROR)]),
    (_nothing, 'RuntimeError', [(SKIPS, ERROR)]),
    (_in_a_collection, 'RuntimeError', [(SKIPS, ERROR)]),
    (_both, 'ok', []),
])
def test_local_init_op_of_training(tmp_path, make, first, found):
    assert _job(tmp_path, 'train', make, ['train']) == ([first], found)


@pytest.mark.parametrize('make', [_no_tables, _no_variables, _nothing, _both])
def test_estimator_completes_the_local_init_op_of_eval(tmp_path, make):
    assert _job(tmp_path, 'eval', make, ['train', 'eval']) == (['ok', 'ok'], [])


def test_local_init_op_of_a_prediction(tmp_path):
    """No prediction reads the local variable, so an export works."""
    made = _job(tmp_path, 'infer', _no_variables, ['train', 'predict', 'export'])
    assert made == (['ok', 'RuntimeError', 'ok'], [(SKIPS, WARNING)])


def _tables_by_init_op():
    return {'scaffold': Scaffold(
        init_op=tf.group(v1.global_variables_initializer(), v1.tables_initializer()),
        local_init_op=v1.local_variables_initializer())}


def _some_variables():
    return {'scaffold': Scaffold(init_op=v1.variables_initializer(_without('Momentum')))}


def _some_variables_and_a_function():
    rest = v1.variables_initializer(_with('Momentum'))
    return {'scaffold': Scaffold(init_op=v1.variables_initializer(_without('Momentum')),
                                 init_fn=lambda _, session: session.run(rest))}


def _all_variables():
    return {'scaffold': Scaffold(init_op=v1.global_variables_initializer())}


@pytest.mark.parametrize('make, ends, found', [
    (_tables_by_init_op, ['ok', 'FailedPreconditionError'], [(SKIPS, WARNING)]),
    (_some_variables, ['RuntimeError', 'RuntimeError'], [(SKIPS, ERROR)]),
    (_some_variables_and_a_function, ['ok', 'ok'], []),
    (_all_variables, ['ok', 'ok'], []),
])
def test_init_op(tmp_path, make, ends, found):
    assert _job(tmp_path, 'train', make, ['train', 'train']) == (ends, found)


def test_init_op_of_another_worker_may_do_nothing(monkeypatch):
    with tf.Graph().as_default():
        v1.get_variable('w', [])
        fields = {'loss': tf.constant(1.0), 'train_op': tf.no_op(),
                  'scaffold': Scaffold(init_op=tf.no_op())}
        assert _found('train', fields) == [(SKIPS, ERROR)]
        assert _found('train', fields, num_workers=2) == [(SKIPS, WARNING)]
        cluster = {'chief': ['a:1'], 'worker': ['b:1']}
        monkeypatch.setenv('TF_CONFIG', json.dumps({'cluster': cluster}))
        assert _found('train', fields) == [(SKIPS, WARNING)]


def test_readiness_of_ones_own():
    """With a ready_op that asks for nothing, only what the step reads matters."""
    with tf.Graph().as_default():
        train.get_or_create_global_step()
        unused = v1.get_local_variable('unused', [], initializer=v1.zeros_initializer())
        scaffold = Scaffold(local_init_op=tf.no_op(), ready_op=tf.constant([], tf.string))
        fields = {'loss': tf.constant(1.0), 'train_op': tf.no_op(), 'scaffold': scaffold}
        assert _found('train', fields) == []
        assert _found('train', {**fields, 'loss': tf.identity(unused)}) == [(SKIPS, WARNING)]


def test_wrapped_values_and_lists():
    """tf_should_use wraps the value of report_uninitialized_variables."""
    with tf.Graph().as_default():
        v1.get_variable('w', [])
        v1.get_local_variable('l', [], initializer=v1.zeros_initializer())
        scaffold = Scaffold(
            init_op=[v1.global_variables_initializer()],
            local_init_op=[v1.local_variables_initializer(), v1.tables_initializer()],
            ready_op=v1.report_uninitialized_variables(),
            ready_for_local_init_op=v1.report_uninitialized_variables(v1.global_variables()),
            summary_op=v1.summary.scalar('s', 1.0), saver=train.Saver())
        for mode in ('train', 'eval', 'infer'):
            fields = {'loss': tf.constant(1.0), 'train_op': tf.no_op(), 'scaffold': scaffold,
                      'predictions': tf.constant([1.0])}
            assert _found(mode, fields) == []


# Another graph.


def _kept(make, kept):
    def kept_from_the_first_call():
        if not kept:
            kept.append(make())
        return kept[0]

    return kept_from_the_first_call


@pytest.mark.parametrize('make', [
    lambda: {'scaffold': Scaffold()},
    lambda: {'scaffold': Scaffold(saver=train.Saver())},
    lambda: {'scaffold': Scaffold(summary_op=v1.summary.scalar('s', 1.0))},
])
def test_a_scaffold_that_is_kept(tmp_path, make):
    kept = []
    assert _job(tmp_path, 'train', _kept(make, kept), ['train']) == (['ok'], [])
    ends, found = _job(tmp_path, 'train', _kept(make, kept), ['train'])
    assert ends[0] in ('TypeError', 'ValueError', 'RuntimeError')
    assert found == [(FOREIGN, ERROR)]


def test_parts_that_a_mode_does_not_run():
    with tf.Graph().as_default():
        op, summary = tf.no_op(), v1.summary.scalar('s', 1.0)
    with tf.Graph().as_default():
        def found(mode, scaffold):
            return _found(mode, {'loss': tf.constant(1.0), 'predictions': tf.constant([1.0]),
                                 'train_op': tf.no_op(), 'scaffold': scaffold})

        assert found('train', Scaffold(init_op=op)) == [(FOREIGN, ERROR)]
        assert found('eval', Scaffold(init_op=op)) == [(FOREIGN, WARNING)]
        assert found('train', Scaffold(summary_op=summary)) == [(FOREIGN, ERROR)]
        assert found('eval', Scaffold(summary_op=summary)) == []
        assert found('infer', Scaffold(ready_op=summary)) == [(FOREIGN, ERROR)]
        assert found('train', Scaffold(
            init_op=tf.no_op(), init_feed_dict={summary: b''})) == [(FOREIGN, ERROR)]


@pytest.mark.parametrize('value, slugs', [
    (lambda: train.Saver(defer_build=True), ['not-a-scaffold']),
    (lambda: Scaffold, ['not-a-scaffold']),
    (lambda: Scaffold(), []),
    (lambda: None, []),
])
def test_the_type(value, slugs):
    with tf.Graph().as_default():
        assert [slug for slug, _ in _found('eval', {'scaffold': value()})] == slugs


def test_junk_inside_a_scaffold():
    with tf.Graph().as_default():
        scaffold = Scaffold(init_op=5, local_init_op={1: 2, 'a': 3}, ready_op='name',
                            init_feed_dict=[], saver=object(), summary_op=object())
        for mode in ('train', 'eval', 'infer'):
            _found(mode, {'scaffold': scaffold, 'loss': tf.constant(1.0)})

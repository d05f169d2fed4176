"""Depth 'graph' of preflight: every mode is built as the Estimator builds it, and checked."""

from __future__ import annotations

import functools
import os
import random
import sys

import numpy as np
import pytest
import tensorflow as tf

import estimator_spec_ext as ese
from estimator_spec_ext.diagnostics import Severity
from estimator_spec_ext.rules import jobs

v1 = tf.compat.v1
ModeKeys = tf.estimator.ModeKeys


def run(job, **options):
    options.setdefault('depth', 'graph')
    options.setdefault('serving_input_receiver_fn', job.serving_input_receiver_fn)
    return ese.preflight(job.estimator, job.train_spec, job.eval_spec, **options)


def slugs(report):
    return sorted(finding.slug for finding in report.findings)


def loud(report):
    return [finding for finding in report.findings if finding.severity is not Severity.INFO]


# What is built, and how.


def test_one_hook_in_both_places_of_eval():
    hook = tf.estimator.SessionRunHook()

    def model_fn(features, labels, mode):
        return jobs.spec(mode, jobs.linear(features), labels, evaluation_hooks=[hook])

    assert slugs(run(jobs.job(model_fn))) == []
    assert slugs(run(jobs.job(model_fn, eval_options={'hooks': [hook]}))) == ['hook-twice']


def test_modes_get_what_estimator_gives_them():
    seen = {}

    def model_fn(features, labels, mode, params, config):
        graph = v1.get_default_graph()
        seen[mode] = (graph.seed, labels is None, params, config.model_dir,
                      v1.train.get_global_step().name, features['x'].shape.as_list(),
                      v1.get_variable('w', [3, 1]).device)
        return jobs.spec(
            mode, tf.matmul(features['x'], v1.get_variable('v', [3, 1])), labels)

    job = jobs.job(model_fn, params={'depth': 3}, config={
        'tf_random_seed': 11, 'device_fn': lambda op: '/device:CPU:0'})
    report = run(job)
    assert not report.findings, report.to_text()
    model_dir = job.estimator.model_dir
    common = (11, {'depth': 3}, model_dir, 'global_step:0', [None, 3])
    for mode in ('train', 'eval', 'infer'):
        seed, no_labels, params, folder, step, shape, device = seen[mode]
        assert (seed, params, folder, step, shape) == common
        assert no_labels == (mode == 'infer')
    assert seen['train'][-1] == '/device:CPU:0' and seen['eval'][-1] == ''
    assert not os.path.exists(model_dir)


def test_input_functions_get_the_arguments_that_they_ask_for():
    seen = []

    def input_fn(mode, params, config):
        seen.append((mode, params, config.model_dir))
        return jobs.endless_input_fn()

    job = jobs.job(train=input_fn, evaluate=input_fn, receiver=None, params={'a': 1},
                   function=lambda features, labels, mode, params: jobs.model_fn(
                       features, labels, mode), eval_options={'steps': 3})
    report = run(job)
    assert not loud(report), report.to_text()
    model_dir = job.estimator.model_dir
    # PREDICT has no input of its own: the features of EVAL serve.
    assert seen == [('train', {'a': 1}, model_dir), ('eval', {'a': 1}, model_dir),
                    ('eval', {'a': 1}, model_dir)]


def test_each_receiver_of_the_exporters_is_built():
    calls = []

    def receiver(name):
        def receiver_fn():
            calls.append(name)
            return jobs.receiver_fn()
        return receiver_fn

    final = tf.estimator.FinalExporter('final', receiver('final'))
    latest = tf.estimator.LatestExporter('latest', receiver('latest'))
    job = jobs.job(receiver=None, eval_options={'exporters': [final, latest]})
    report = run(job)
    assert not loud(report), report.to_text()
    assert calls == ['final', 'latest']
    assert [mode['mode'] for mode in report.facts['modes']] == ['train', 'eval', 'infer', 'infer']


def test_a_job_may_lack_parts():
    job = jobs.job()
    assert not run(jobs.job(evaluate=None, receiver=None)).findings
    report = ese.preflight(job.estimator, serving_input_receiver_fn=jobs.receiver_fn, depth='graph')
    assert [mode['mode'] for mode in report.facts['modes']] == ['infer']
    with pytest.raises(ValueError, match='nothing to build'):
        ese.preflight(job.estimator)


@pytest.mark.parametrize('arguments, text', [
    (('no estimator',), 'estimator must be a tf.estimator.Estimator, got str'),
    ((jobs.job().estimator, 3), 'train_spec must be a tf.estimator.TrainSpec, got int'),
    ((jobs.job().estimator, None, 3), 'eval_spec must be a tf.estimator.EvalSpec, got int'),
])
def test_wrong_arguments(arguments, text):
    with pytest.raises(TypeError) as raised:
        ese.preflight(*arguments)
    assert str(raised.value) == text


def test_unknown_depth():
    with pytest.raises(ValueError, match="depth must be one of 'graph', 'run', 'serve', got 'x'"):
        run(jobs.job(), depth='x')


# Crashes.


def _crashing(*modes, error=ValueError):
    def model_fn(features, labels, mode):
        if mode in modes:
            raise error(f'no {mode}')  # the line
        return jobs.model_fn(features, labels, mode)
    return model_fn


def test_a_crash_names_the_users_line_and_the_other_modes_go_on():
    report = run(jobs.job(_crashing('train', 'eval')))
    assert slugs(report) == ['mode-crashes', 'mode-crashes']
    train, evaluate = report.findings
    assert (train.where.mode, evaluate.where.mode) == ('train', 'eval')
    assert train.message == 'TRAIN cannot be built: ValueError: no train in model_fn'
    assert train.where.file == __file__
    with open(__file__, encoding='utf-8') as source:
        assert source.read().splitlines()[train.where.line - 1].endswith('# the line')
    assert [mode['built'] for mode in report.facts['modes']] == [False, False, True]


@pytest.mark.parametrize('error', [SystemExit, RecursionError, tf.errors.NotFoundError])
def test_any_exception_is_a_finding(error):
    made = (lambda text: error(None, None, text)) if issubclass(error, tf.errors.OpError) else error
    report = run(jobs.job(_crashing('eval', error=made)))
    assert slugs(report) == ['mode-crashes']


def test_an_interrupt_is_not_a_finding():
    with pytest.raises(KeyboardInterrupt):
        run(jobs.job(_crashing('eval', error=KeyboardInterrupt)))


def test_predict_without_an_export_is_in_doubt():
    report = run(jobs.job(_crashing('infer'), receiver=None))
    assert [f.severity for f in report.findings] == [Severity.WARNING]
    report = run(jobs.job(_crashing('infer', error=NotImplementedError), receiver=None))
    assert [f.severity for f in report.findings] == [Severity.INFO]
    report = run(jobs.job(_crashing('infer', error=NotImplementedError)))
    assert [f.severity for f in report.findings] == [Severity.ERROR]


def test_a_spec_that_stock_refuses_shows_all_its_faults():
    def model_fn(features, labels, mode):
        prediction = jobs.linear(features)
        if mode != 'eval':
            return jobs.spec(mode, prediction, labels)
        return tf.estimator.EstimatorSpec(
            mode, loss=tf.reshape(prediction, [-1]),
            eval_metric_ops={'a': tf.reduce_mean(prediction), 'b': v1.metrics.mean(prediction)})

    report = run(jobs.job(model_fn))
    assert slugs(report) == ['loss-not-scalar', 'metric-not-pair']
    assert {finding.where.mode for finding in report.findings} == {'eval'}
    assert all(finding.where.file == __file__ for finding in report.findings)


def test_a_strict_spec_that_refuses_is_told_once():
    @ese.strict_model_fn
    def model_fn(features, labels, mode):
        prediction = jobs.linear(features)
        if mode != 'eval':
            return jobs.spec(mode, prediction, labels)
        return tf.estimator.EstimatorSpec(mode, loss=tf.square(prediction - labels))

    report = run(jobs.job(model_fn))
    assert slugs(report) == ['loss-not-scalar']


def test_reserved_metric_is_told_by_its_rule_alone():
    def model_fn(features, labels, mode):
        made = jobs.model_fn(features, labels, mode)
        if mode == 'eval':
            made.eval_metric_ops['loss'] = v1.metrics.mean(made.loss)
        return made

    report = run(jobs.job(model_fn))
    assert slugs(report) == ['metric-reserved-name']


def test_labels_are_blamed_only_when_they_are_to_blame():
    def model_fn(features, labels, mode):
        prediction = jobs.linear(features)
        if mode == 'infer':
            tf.reshape(None, [-1])
        return jobs.spec(mode, prediction, labels)

    assert slugs(run(jobs.job(model_fn))) == ['mode-crashes']


def test_foreign_keras_model():
    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])

    def model_fn(features, labels, mode):
        return jobs.spec(mode, model(features['x']), labels)

    assert 'kept-from-call-to-call' in slugs(run(jobs.job(model_fn)))


def test_cached_spec_shows_in_the_second_build():
    cache = {}

    def model_fn(features, labels, mode):
        if mode not in cache:
            cache[mode] = jobs.model_fn(features, labels, mode)
        return cache[mode]

    report = run(jobs.job(model_fn))
    found = [finding for finding in report.findings if finding.slug == 'kept-from-call-to-call']
    assert {finding.where.mode for finding in found} == {'train', 'eval', 'infer'}
    assert found[0].severity is Severity.WARNING and found[-1].severity is Severity.ERROR


def test_a_harmless_cache_is_silent():
    seen = []

    def model_fn(features, labels, mode):
        seen.append(features['x'])
        return jobs.model_fn(features, labels, mode)

    assert not run(jobs.job(model_fn)).findings
    # Something held the graphs, so each mode was built twice.
    assert len(seen) == 6


def test_a_mode_is_built_once_when_nothing_holds_its_graph():
    calls = []

    def model_fn(features, labels, mode):
        calls.append(mode)
        return jobs.model_fn(features, labels, mode)

    run(jobs.job(model_fn))
    assert calls == ['train', 'eval', 'infer']


# Suppressions.


def _classifies(features, labels, mode):
    prediction = jobs.linear(features)
    outputs = None
    if mode == 'infer':
        outputs = {'serving_default': tf.estimator.export.ClassificationOutput(scores=prediction)}
    return jobs.spec(mode, prediction, labels, export_outputs=outputs)


def test_suppressions_are_judged_over_all_modes_together():
    job = jobs.job(_classifies)
    reasons = {'serving-default-dropped': 'clients name the signature',
               'variable-not-in-train': 'once needed'}
    report = run(job, suppress=reasons)
    assert slugs(report) == ['unused-suppression']
    assert report.findings[0].message == 'suppression of variable-not-in-train matched no finding'
    assert [(item.finding.slug, item.reason) for item in report.suppressed] == [
        ('serving-default-dropped', 'clients name the signature')]


def test_suppressions_in_the_code_of_model_fn_hold():
    def build(reason):
        @ese.strict_model_fn(suppress=reason)
        def model_fn(features, labels, mode):
            made = jobs.model_fn(features, labels, mode)
            if mode == 'eval':
                loss = v1.placeholder_with_default(made.loss, None)
                return tf.estimator.EstimatorSpec(mode, loss=loss)
            return made
        return run(jobs.job(model_fn))

    assert slugs(build(None)) == ['loss-unknown-shape']
    report = build({'loss-unknown-shape': 'it is one number'})
    assert not report.findings, report.to_text()


def test_unknown_suppression_is_one_error():
    report = run(jobs.job(), suppress={'loss-not-scaler': 'typo'})
    assert slugs(report) == ['invalid-suppression']


# Correct jobs.


def test_correct_job_is_silent_and_leaves_nothing():
    random.seed(3)
    np.random.seed(3)
    expected = (random.Random(3).random(), np.random.RandomState(3).rand())
    said = []
    job = jobs.job(train=_drawing_input_fn)
    report = run(job, progress=said.append)
    assert not report.findings and report.ok and report.depth == 'graph'
    assert said == ['building TRAIN', 'building EVAL', 'building PREDICT',
                    'looking for what outlives a graph']
    assert (random.random(), np.random.rand()) == expected
    assert not os.path.exists(job.estimator.model_dir)


def _drawing_input_fn():
    random.random()
    np.random.rand()
    return jobs.endless_input_fn()


@pytest.mark.parametrize('name', ['DNNClassifier', 'LinearRegressor', 'BaselineClassifier',
                                  'DNNLinearCombinedRegressor'])
def test_canned_estimators(name):
    columns = [tf.feature_column.numeric_column('x', 3)]
    arguments = {
        'DNNClassifier': dict(feature_columns=columns, hidden_units=[4], n_classes=3),
        'LinearRegressor': dict(feature_columns=columns),
        'BaselineClassifier': {},
        'DNNLinearCombinedRegressor': dict(
            linear_feature_columns=columns, dnn_feature_columns=columns, dnn_hidden_units=[4]),
    }[name]
    estimator = getattr(tf.estimator, name)(**arguments)

    def input_fn():
        dataset = jobs.input_fn()
        if 'Classifier' in name:
            dataset = dataset.map(lambda x, y: (x, tf.zeros_like(y, tf.int32)))
        return dataset

    receiver_fn = tf.estimator.export.build_parsing_serving_input_receiver_fn(
        {'x': tf.io.FixedLenFeature([3], tf.float32)})
    report = ese.preflight(
        estimator, tf.estimator.TrainSpec(input_fn, max_steps=2),
        tf.estimator.EvalSpec(input_fn, steps=None),
        serving_input_receiver_fn=receiver_fn, depth='graph')
    assert not loud(report), report.to_text()


def test_heads_over_raw_features_lose_their_default():
    columns = [tf.feature_column.numeric_column('x', 3)]
    estimator = tf.estimator.LinearClassifier(columns)
    report = ese.preflight(estimator, serving_input_receiver_fn=jobs.receiver_fn, depth='graph')
    assert 'serving-default-dropped' in slugs(report)


def _two_replicas():
    # In a graph it asks for no devices: those are looked for when a session starts.
    with tf.Graph().as_default():
        return tf.distribute.MirroredStrategy(['/cpu:0', '/cpu:1'])


def test_under_mirrored_strategy():
    strategy = _two_replicas()
    # One CPU for both replicas would hang.
    session = v1.ConfigProto(allow_soft_placement=True, device_count={'CPU': 2})
    job = jobs.job(config={'train_distribute': strategy, 'session_config': session})
    report = run(job)
    assert not loud(report), report.to_text()
    assert report.facts['modes'][0]['built']


def test_a_fault_in_a_replica_is_found():
    def model_fn(features, labels, mode):
        prediction = jobs.linear(features)
        if mode != 'train':
            return jobs.spec(mode, prediction, labels)
        loss = tf.reduce_mean(tf.square(prediction - labels))
        optimizer = v1.train.GradientDescentOptimizer(.1)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=optimizer.minimize(loss))

    # Without its own, TensorFlow 2.12 copies the strategy eagerly, where there is one CPU.
    session = v1.ConfigProto(allow_soft_placement=True, device_count={'CPU': 2})
    report = run(jobs.job(model_fn, config={'train_distribute': _two_replicas(),
                                            'session_config': session}))
    assert 'global-step-not-advanced' in slugs(report)


def test_tpu_estimator_on_cpu():
    def model_fn(features, labels, mode, params):
        made = jobs.model_fn(features, labels, mode)
        return v1.estimator.tpu.TPUEstimatorSpec(
            mode, predictions=made.predictions, loss=made.loss, train_op=made.train_op)

    estimator = v1.estimator.tpu.TPUEstimator(
        model_fn, config=v1.estimator.tpu.RunConfig(), use_tpu=False, train_batch_size=4,
        eval_batch_size=4, predict_batch_size=4)

    def input_fn(params):
        assert params['batch_size'] == 4
        return jobs.endless_input_fn()

    report = ese.preflight(
        estimator, tf.estimator.TrainSpec(input_fn, max_steps=2),
        tf.estimator.EvalSpec(input_fn, steps=2), serving_input_receiver_fn=jobs.receiver_fn,
        depth='graph')
    assert not loud(report), report.to_text()


# train_and_evaluate.


class _NoSpec:
    """A model_fn that is an object, and gives no spec."""

    def __call__(self, features, labels, mode):
        return None


def _no_spec(scale, features, labels, mode):
    return None


@pytest.mark.parametrize('model_fn, line', [
    (_NoSpec(), _NoSpec.__call__.__code__.co_firstlineno),
    (functools.partial(_no_spec, 2.), _no_spec.__code__.co_firstlineno)])
def test_the_place_of_a_model_fn_that_is_no_plain_function(model_fn, line):
    found = loud(run(jobs.job(model_fn)))
    assert {(finding.slug, finding.where.file, finding.where.line) for finding in found} == {
        ('mode-returns-no-spec', __file__, line)}


def test_train_and_evaluate_refuses_on_errors(tmp_path):
    job = jobs.job(_crashing('eval'))
    with pytest.raises(ese.EstimatorSpecError) as raised:
        ese.train_and_evaluate(job.estimator, job.train_spec, job.eval_spec, depth='graph')
    assert [finding.slug for finding in raised.value.findings] == ['mode-crashes']
    assert not os.path.exists(job.estimator.model_dir)


def test_train_and_evaluate_does_so_without_errors():
    job = jobs.job(max_steps=2)
    metrics, _ = ese.train_and_evaluate(
        job.estimator, job.train_spec, job.eval_spec, depth='graph')
    assert metrics['global_step'] == 2


def test_stock_is_as_before():
    new = tf.estimator.EstimatorSpec.__new__
    run(jobs.job(_crashing('train')))
    assert tf.estimator.EstimatorSpec.__new__ is new


@pytest.mark.once
def test_importing_the_package_does_not_load_preflight():
    code = ('import sys, estimator_spec_ext as ese; ese.StrictEstimatorSpec; '
            'print(sorted(m for m in sys.modules if ".preflight." in m)); '
            'import estimator_spec_ext.preflight.api; print(callable(ese.preflight))')
    import subprocess
    done = subprocess.run([sys.executable, '-c', code], check=True, capture_output=True, text=True,
                          cwd=os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    assert done.stdout.splitlines() == ['[]', 'True']

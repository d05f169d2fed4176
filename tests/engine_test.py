"""The engine: rules that crash, suppressions, the stages, what is remembered and logged."""

from __future__ import annotations

import gc
import re

import pytest
import tensorflow as tf
from absl import logging

import estimator_spec_ext as ese
from estimator_spec_ext import engine, facts, registry
from estimator_spec_ext.rule import HOOKS, Rule

v1 = tf.compat.v1


@pytest.fixture
def graph():
    """A fresh graph with a global step, the default one during the test."""
    with tf.Graph().as_default() as fresh:
        v1.train.get_or_create_global_step()
        yield fresh


@pytest.fixture
def with_rules(monkeypatch):
    """A function that adds rules to the registry for the length of the test."""
    def add(*rules):
        monkeypatch.setattr(registry, 'RULES', (*registry.RULES, *rules))
        _forget()

    yield add
    monkeypatch.undo()
    _forget()


def _forget():
    for value in vars(registry).values():
        if hasattr(value, 'cache_clear'):
            value.cache_clear()


class _Crashing(Rule):
    """A rule of the tests."""

    code = 'ESX198'
    slug = 'always-crashes'
    severity = ese.Severity.ERROR
    stage = 'spec'

    def check(self, facts):
        yield self.finding(facts, 'found before the crash', hint='none')
        raise ZeroDivisionError('division of the indivisible')


class _CrashingInTheGraph(_Crashing):
    code, slug, stage = 'ESX199', 'crashes-in-the-graph', 'graph'

    def check(self, facts):
        return facts.no_such_fact


class _Unspeakable(_Crashing):
    code, slug = 'ESX197', 'crashes-without-words'

    def check(self, facts):
        class NoWords(Exception):
            def __str__(self):
                raise RuntimeError('no words')

        raise NoWords


class _Always(Rule):
    """A rule of the tests."""

    code = 'ESX196'
    slug = 'always-there'
    severity = ese.Severity.WARNING
    stage = 'graph'
    needs = ('loss',)

    def check(self, facts):
        yield self.finding(facts, 'there it is', hint='none', field='loss')


def _eval_fields():
    return {'mode': 'eval', 'loss': tf.constant(1., name='loss')}


# Crashes.

@pytest.mark.parametrize('rule, text', [
    (_Crashing(), 'rule always-crashes raised ZeroDivisionError: division of the indivisible'),
    (_CrashingInTheGraph(), 'rule crashes-in-the-graph raised AttributeError: no_such_fact'),
    (_Unspeakable(), 'rule crashes-without-words raised NoWords: NoWords')])
def test_a_rule_that_crashes_is_one_warning(graph, with_rules, rule, text):
    with_rules(rule)
    spec = ese.StrictEstimatorSpec(**_eval_fields())
    assert type(spec) is ese.StrictEstimatorSpec
    finding, = ese.findings()
    assert (finding.slug, finding.severity, finding.message) == (
        'rule-crashed', ese.Severity.WARNING, text)


def test_a_crash_hides_no_other_finding(graph, with_rules):
    with_rules(_Crashing(), _CrashingInTheGraph())
    with pytest.raises(ese.EstimatorSpecError) as error_info:
        ese.StrictEstimatorSpec('eval', loss=tf.constant([1., 2.]))
    assert [finding.slug for finding in error_info.value.findings] == [
        'loss-not-scalar', 'rule-crashed', 'rule-crashed']


def test_training_goes_on_when_a_rule_crashes(tmp_path, with_rules):
    with_rules(_Crashing(), _CrashingInTheGraph())

    def model_fn(features, labels, mode):
        weight = v1.get_variable('w', [])
        loss = tf.reduce_mean(tf.square(features * weight - labels))
        train_op = v1.train.GradientDescentOptimizer(.1).minimize(
            loss, v1.train.get_global_step())
        return ese.StrictEstimatorSpec(mode, loss=loss, train_op=train_op)

    estimator = tf.estimator.Estimator(model_fn, str(tmp_path))
    estimator.train(lambda: tf.data.Dataset.from_tensors((tf.ones([4]), tf.ones([4]))).repeat(),
                    steps=2)
    assert estimator.get_variable_value('global_step') == 2


# Suppressions.

def test_a_rule_is_suppressed_by_slug_and_by_code(graph, with_rules):
    with_rules(_Always())
    for name in ('always-there', 'ESX196'):
        report = engine.check(facts.SpecFacts('eval', _eval_fields()), suppress={name: 'known'})
        assert report.findings == ()
        suppressed, = report.suppressed
        assert (suppressed.finding.slug, suppressed.reason) == ('always-there', 'known')
        assert report.to_text() == (
            'estimator_spec_ext: no findings (1 suppressed)\n\n'
            'suppressed: eval ESX196 always-there: known\n')


def test_what_was_suppressed_is_remembered_with_its_graph(graph, with_rules):
    with_rules(_Always())
    assert engine.reasons(graph) == {}
    ese.StrictEstimatorSpec(**_eval_fields(), suppress={'always-there': 'known',
                                                        'loss-not-scalar': 'unused'})
    assert engine.reasons(graph) == {'always-there': ('known', True),
                                     'loss-not-scalar': ('unused', False)}
    assert engine.reasons(None) == {}


def test_a_crash_cannot_be_suppressed(graph, with_rules):
    with_rules(_Crashing())
    report = engine.check(facts.SpecFacts('eval', _eval_fields()),
                          suppress={'rule-crashed': 'quiet'})
    assert [finding.slug for finding in report.findings] == ['rule-crashed']


# Stages.

def test_rules_of_another_mode_are_skipped_and_listed(graph):
    report = engine.check(facts.SpecFacts('eval', _eval_fields()))
    skipped = {item.slug: item.reason for item in report.rules_skipped}
    assert skipped['global-step-not-advanced'] == 'not for this mode'
    assert 'loss-not-scalar' in report.rules_run
    assert not set(skipped) & set(report.rules_run)


def test_a_rule_whose_field_is_broken_is_skipped_and_listed(graph, with_rules):
    with_rules(_Always())
    report = engine.check(facts.SpecFacts('eval', {'loss': 'high'}))
    skipped = {item.slug: item.reason for item in report.rules_skipped}
    assert skipped['always-there'] == 'needs loss'
    tail = report.to_text().split('\n\n')[-1]
    assert tail.startswith('not checked until the errors above are mended: ')
    assert 'always-there' in tail


class _AboutHooks(_Always):
    """A rule of the tests that may not be called without hooks."""

    code, slug, about = 'ESX195', 'about-hooks', HOOKS


@pytest.mark.parametrize('given', [
    {'fields': {'evaluation_hooks': []}},
    {'context': facts.JobContext(extra_hooks=(v1.train.StopAtStepHook(last_step=1),))}])
def test_a_rule_is_called_where_what_it_is_about_is_given(graph, with_rules, given):
    with_rules(_AboutHooks())
    fields = {**_eval_fields(), **given.get('fields', {})}
    report = engine.check(facts.SpecFacts(
        'eval', fields, context=given.get('context', facts.NO_CONTEXT)))
    assert 'about-hooks' in {finding.slug for finding in report.findings}


def test_a_rule_with_nothing_to_look_at_counts_as_run(graph, with_rules):
    with_rules(_AboutHooks())
    report = engine.check(facts.SpecFacts('eval', _eval_fields()))
    assert 'about-hooks' in report.rules_run
    assert 'about-hooks' not in {item.slug for item in report.rules_skipped}
    assert report.findings == ()


def test_without_a_graph_the_rules_of_the_graph_are_skipped(with_rules):
    with_rules(_Always())
    if not tf.executing_eagerly():
        return
    report = engine.check(facts.SpecFacts('eval', {'loss': tf.constant(1.)}))
    skipped = {item.slug: item.reason for item in report.rules_skipped}
    assert skipped['always-there'] == 'no graph: the spec is built eagerly'


def test_a_private_mode_skips_the_rules_of_the_graph(graph, with_rules):
    with_rules(_Always())
    report = engine.check(facts.SpecFacts('_inference_on_tpu', {}))
    assert report.findings == ()
    assert 'always-there' in {item.slug for item in report.rules_skipped}


# What is remembered, and logged.

def test_the_garbage_collector_is_as_it_was(graph):
    for enabled in (True, False):
        (gc.enable if enabled else gc.disable)()
        try:
            engine.check(facts.SpecFacts('eval', _eval_fields()))
            assert gc.isenabled() is enabled
        finally:
            gc.enable()


def test_findings_are_kept_by_replica(graph):
    first, second = (ese.Finding('ESX1', f'slug-{number}', ese.Severity.WARNING, 'text')
                     for number in range(2))
    engine.remember(graph, 0, (first,))
    engine.remember(graph, 1, (second,))
    assert ese.findings(graph) == (first, second)
    engine.remember(graph, 0, (second,))  # the next model_fn in this graph
    assert ese.findings(graph) == (second,)


def test_a_warning_is_logged_once(graph, with_rules, caplog):
    with_rules(_Always())
    with caplog.at_level('WARNING', logger='absl'):
        for _ in range(3):
            ese.StrictEstimatorSpec(**_eval_fields())
    lines = [record.getMessage() for record in caplog.records
             if 'always-there' in record.getMessage()]
    assert len(lines) == 1
    assert lines[0].startswith('eval  WARNING  ESX196 always-there  there it is\n')


def test_the_same_input_gives_the_same_report(graph):
    texts = set()
    for _ in range(3):
        with tf.Graph().as_default():
            v1.train.get_or_create_global_step()
            report = engine.check(facts.SpecFacts('train', {
                'loss': tf.constant([1., 2.]), 'eval_metric_ops': {'b': 1, 'a': 2},
                'training_hooks': [3, 'hook']}))
            texts.add((report.to_text(), report.to_json()))
    assert len(texts) == 1


def test_a_right_spec_is_built_without_a_word_unless_asked(graph, capfd, caplog):
    def build():
        return ese.StrictEstimatorSpec(
            'infer', predictions={'p': v1.placeholder(tf.float32, [None, 1])})

    build()  # TensorFlow says once that its PredictOutput is old
    capfd.readouterr()
    caplog.clear()
    before = logging.get_verbosity()
    try:
        build()
        assert capfd.readouterr() == ('', '')
        assert not caplog.records
        logging.set_verbosity(1)
        build()
    finally:
        logging.set_verbosity(before)
    record, = caplog.records
    assert re.fullmatch(r'estimator_spec_ext: infer: \d+ rules, no findings', record.getMessage())

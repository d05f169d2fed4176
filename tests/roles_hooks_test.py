"""What hooks add to the graph of a task, found before any task is started."""

from __future__ import annotations

import pytest
import tensorflow as tf

import estimator_spec_ext as ese
from estimator_spec_ext.diagnostics import Severity
from estimator_spec_ext.rules import jobs, role_jobs

v1 = tf.compat.v1
COLLECTIVE = role_jobs.COLLECTIVE
CLASSIC, MIRRORED = role_jobs.cluster(ps=1), role_jobs.cluster()

pytestmark = pytest.mark.filterwarnings('ignore:To make it possible to preserve tf.data options')


def slugs(report):
    return sorted({finding.slug for finding in report.findings
                   if finding.severity is not Severity.INFO})


class Counts(v1.train.SessionRunHook):
    """Counts steps in a variable of its own."""

    calls: list = []

    def __init__(self, collection=v1.GraphKeys.GLOBAL_VARIABLES):
        self.collection = collection
        self.count = None

    def begin(self):
        assert self.count is None
        self.calls.append(v1.get_default_graph())
        self.count = self._make()

    def _make(self):
        return v1.get_variable('seen', [], trainable=False, collections=[self.collection],
                               initializer=v1.zeros_initializer())


class Sums(v1.train.SessionRunHook):
    """Sums up over the tasks."""

    def begin(self):
        with tf.distribute.get_strategy().scope():
            self.total = v1.get_variable('total', [2], trainable=False)


class WritesToo(Counts):
    """Makes a file beside the variable."""

    def begin(self):
        super().begin()
        with open('/nonexistent/file', 'w'):
            pass


class Raises(Counts):
    """Wants what only a real session has."""

    def begin(self):
        self._make()
        raise RuntimeError('no session')


def _worker_alone(make):
    return role_jobs.builder(hooks=lambda: [make()] if role_jobs.task_index() else [])


def test_a_variable_of_a_hook_on_the_worker_alone():
    Counts.calls.clear()
    report = ese.preflight_roles(_worker_alone(Counts), CLASSIC)
    assert slugs(report) == ['variables-differ-by-role'], report.to_text()
    assert report.errors[0].message == (
        'worker/0 has variables that chief/0 has not: seen float32()')
    assert Counts.calls and all(v1.get_default_graph() is not graph for graph in Counts.calls)


@pytest.mark.parametrize('build', [
    role_jobs.builder(hooks=lambda: [Counts()]),
    _worker_alone(lambda: Counts(v1.GraphKeys.LOCAL_VARIABLES)),
    # With one ps a worker does not look for what the chief has more.
    role_jobs.builder(hooks=lambda: [] if role_jobs.task_index() else [Counts()]),
], ids=['everywhere', 'local', 'chief alone'])
def test_variables_of_hooks_that_are_no_fault(build):
    report = ese.preflight_roles(build, CLASSIC)
    assert not slugs(report), report.to_text()


def test_under_a_collective_strategy_the_chief_must_not_have_more():
    def model_fn(features, labels, mode, config):
        field = 'training_chief_hooks' if mode == 'train' else 'evaluation_hooks'
        hooks = [Sums()] if mode == 'train' else []
        return jobs.spec(mode, jobs.linear(features), labels, **{field: hooks})

    def everywhere(features, labels, mode):
        return jobs.spec(mode, jobs.linear(features), labels,
                         training_hooks=[Sums()] if mode == 'train' else [])

    bad = ese.preflight_roles(role_jobs.builder(model_fn, strategy=COLLECTIVE), MIRRORED)
    assert slugs(bad) == ['variables-differ-by-role'], bad.to_text()
    good = ese.preflight_roles(role_jobs.builder(everywhere, strategy=COLLECTIVE), MIRRORED)
    assert not slugs(good), good.to_text()


@pytest.mark.parametrize('kind, options, why', [
    (Counts, {'skip_hooks': [Counts]}, 'it is named in skip_hooks'),
    (WritesToo, {}, 'it may act outside of it'),
    (Raises, {}, 'it raised RuntimeError'),
])
def test_a_hook_that_is_left_alone_is_named(kind, options, why):
    report = ese.preflight_roles(role_jobs.builder(hooks=lambda: [kind()]), CLASSIC, **options)
    assert not slugs(report), report.to_text()
    assert (f'what {kind.__name__}.begin adds to the graph was not compared: {why}'
            in report.notes)


def test_early_stopping_of_the_worker_alone_waits_for_its_variable():
    def build():
        estimator, train_spec, eval_spec = role_jobs.builder()()
        hooks = [tf.estimator.experimental.make_early_stopping_hook(
            estimator, lambda: False, run_every_secs=None, run_every_steps=10)]
        train_spec = tf.estimator.TrainSpec(
            train_spec.input_fn, max_steps=100, hooks=hooks if role_jobs.task_index() else [])
        return estimator, train_spec, eval_spec

    report = ese.preflight_roles(build, CLASSIC)
    assert 'variables-differ-by-role' in slugs(report), report.to_text()

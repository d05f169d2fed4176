"""`preflight_roles` and `validate_tf_config`: all tasks of a cluster, before any is started."""

from __future__ import annotations

import json
import os
import random
import socket
import time

import pytest
import tensorflow as tf

import estimator_spec_ext as ese
from estimator_spec_ext import registry
from estimator_spec_ext.diagnostics import Severity
from estimator_spec_ext.preflight import role_clock, role_work, tf_config
from estimator_spec_ext.rules import jobs, role_jobs, roles_graphs, roles_variables

v1 = tf.compat.v1
COLLECTIVE, PARAMETER_SERVER = role_jobs.COLLECTIVE, role_jobs.PARAMETER_SERVER

pytestmark = pytest.mark.filterwarnings('ignore:To make it possible to preserve tf.data options')


def slugs(report):
    return sorted({finding.slug for finding in report.findings
                   if finding.severity is not Severity.INFO})




# Correct jobs.

@pytest.mark.parametrize('strategy, counts', [
    (None, {'workers': 2, 'ps': 2}), (COLLECTIVE, {'workers': 2}),
    (PARAMETER_SERVER, {'workers': 1, 'ps': 1})], ids=['classic', 'collective', 'ps strategy'])
def test_a_correct_job_is_silent_and_starts_nothing(strategy, counts, tmp_path, monkeypatch):
    def no_server(*args, **kwargs):
        raise AssertionError('a server was started')

    monkeypatch.setattr(tf.distribute.Server, '__init__', no_server)
    folder = tmp_path / 'model'
    build = role_jobs.builder(strategy=strategy, model_dir=lambda: str(folder))
    environ, state = dict(os.environ), random.getstate()
    report = ese.preflight_roles(build, role_jobs.cluster(**counts))
    assert not slugs(report), report.to_text()
    assert not folder.exists()
    assert dict(os.environ) == environ and random.getstate() == state
    built = [item['role'] for item in report.facts['roles']]
    assert built[:2] == ['chief/0', 'worker/0']
    assert ('evaluator/0' in built) == (strategy != COLLECTIVE)
    kinds = {item['role'].split('/')[0]: item['builds'] for item in report.facts['roles']}
    assert kinds.get('ps', 'server') == 'server'
    assert kinds['chief'] == 'train' and kinds.get('evaluator', 'eval') == 'eval'


def test_a_job_without_a_cluster_is_one_task():
    report = ese.preflight_roles(role_jobs.builder(), {})
    assert not slugs(report), report.to_text()
    assert [item['role'] for item in report.facts['roles']] == ['local']


def test_node_counts_hooks_and_summaries_of_the_chief_may_differ():
    def model_fn(features, labels, mode, config):
        prediction = jobs.linear(features)
        fields = {}
        if role_jobs.task_index() == 0:
            v1.summary.histogram('prediction', prediction)
            fields['training_hooks'] = [v1.train.LoggingTensorHook([prediction.name], 10)]
        return jobs.spec(mode, prediction, labels, **fields)

    report = ese.preflight_roles(
        role_jobs.builder(model_fn, strategy=COLLECTIVE), role_jobs.cluster())
    assert not slugs(report), report.to_text()
    chief, worker = report.facts['roles']
    assert chief['operations'] != worker['operations']
    assert chief['variables'] == worker['variables']
    assert 'LoggingTensorHook' in chief['hooks']


def test_five_hundred_workers_are_as_many_graphs_as_five():
    calls = []

    def counting(build):
        def made():
            calls.append(os.environ.get('TF_CONFIG'))
            return build()
        return made

    counts = []
    for workers in (5, 500):
        calls.clear()
        report = ese.preflight_roles(counting(role_jobs.builder()),
                                     role_jobs.cluster(workers=workers, ps=1))
        assert not slugs(report), report.to_text()
        counts.append(len(calls))
    assert counts[0] == counts[1]
    assert ('496 of 500 tasks of worker were not built: what they would build is the same '
            'function of their index') in report.notes
    asked = {json.loads(call)['task']['index'] for call in calls
             if json.loads(call)['task']['type'] == 'worker'}
    assert asked == {0, 1, 250, 499}


# Every class of mistake of distributed jobs, with its correct twin.

def _named(names):
    def function(features, labels, mode):
        with v1.variable_scope(names()):
            return jobs.spec(mode, jobs.linear(features), labels)
    return function


def _synchronous(chief_alone):
    def model_fn(features, labels, mode, config):
        prediction = jobs.linear(features)
        if mode != 'train':
            return jobs.spec(mode, prediction, labels)
        loss = tf.reduce_mean(tf.square(prediction - labels))
        optimizer = v1.train.SyncReplicasOptimizer(
            v1.train.AdagradOptimizer(.1), replicas_to_aggregate=2, total_num_replicas=2)
        train_op = optimizer.minimize(loss, v1.train.get_global_step())
        hooks = [optimizer.make_session_run_hook(config.is_chief)]
        where = 'training_chief_hooks' if chief_alone else 'training_hooks'
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, **{where: hooks})
    return model_fn


def _early(stops):
    def build():
        estimator, train_spec, eval_spec = role_jobs.builder()()
        if stops:
            train_spec = tf.estimator.TrainSpec(train_spec.input_fn, max_steps=100, hooks=[
                tf.estimator.experimental.stop_if_no_decrease_hook(estimator, 'loss', 100)])
        return estimator, train_spec, eval_spec
    return build


def _finite():
    return jobs.input_fn().shuffle(8)


CLASSIC, MIRRORED = role_jobs.cluster(ps=1), role_jobs.cluster()
LONELY = {'cluster': {'worker': ['w.invalid:1'], 'ps': ['p.invalid:1']},
          'task': {'type': 'worker', 'index': 0}}
JOBS = [
    ('D1', MIRRORED, role_jobs.builder(strategy=COLLECTIVE, config={
        'save_checkpoints_steps': None, 'save_checkpoints_secs': 60}),
     role_jobs.builder(strategy=COLLECTIVE)),
    ('D2', MIRRORED, role_jobs.builder(
        strategy=COLLECTIVE, max_steps=lambda: 50 + role_jobs.task_index()),
     role_jobs.builder(strategy=COLLECTIVE)),
    ('D3', CLASSIC, LONELY, role_jobs.builder()),
    ('D4', CLASSIC, role_jobs.builder(roles_variables._extra(1)),
     role_jobs.builder(roles_variables._extra(0))),
    ('D5', CLASSIC, role_jobs.builder(_named(lambda: f'run_{role_jobs.task_index()}')),
     role_jobs.builder(_named(lambda: 'run'))),
    ('D6', MIRRORED, role_jobs.builder(roles_graphs._reduced(0), strategy=COLLECTIVE,
                                       evaluate=jobs.input_fn),
     role_jobs.builder(roles_graphs._reduced(-1), strategy=COLLECTIVE)),
    ('D7', CLASSIC, _early(True), _early(False)),
    ('D8', CLASSIC, role_jobs.builder(train=_finite, max_steps=None),
     role_jobs.builder(train=role_jobs.shuffled_input_fn)),
    ('T10', CLASSIC, role_jobs.builder(_synchronous(True)),
     role_jobs.builder(_synchronous(False))),
]


@pytest.mark.parametrize('mistake, cluster, bad, good', JOBS, ids=[job[0] for job in JOBS])
def test_the_mistake_is_found_and_its_twin_is_silent(mistake, cluster, bad, good):
    if isinstance(bad, dict):
        report = ese.preflight_roles(good, bad)
    else:
        report = ese.preflight_roles(bad, cluster)
    named = [finding for finding in report.findings if finding.severity is not Severity.INFO
             and mistake in registry.find(finding.slug).mistakes]
    assert named, report.to_text()
    others = {finding.slug for finding in report.errors
              if mistake not in registry.find(finding.slug).mistakes}
    assert not others, report.to_text()
    if mistake != 'D6':  # its second number is no summary of PREDICT
        assert not slugs(ese.preflight_roles(good, cluster))


def test_what_each_task_finds_is_told_once():
    def model_fn(features, labels, mode):
        prediction = jobs.linear(features)
        if mode != 'train':
            return jobs.spec(mode, prediction, labels)
        loss = tf.reduce_mean(tf.square(prediction - labels))
        optimizer = v1.train.GradientDescentOptimizer(.1)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=optimizer.minimize(loss))

    report = ese.preflight_roles(role_jobs.builder(model_fn), CLASSIC)
    found = [finding for finding in report.findings
             if finding.slug == 'global-step-not-advanced']
    assert [finding.where.role for finding in found] == [None]


def test_a_fault_of_one_task_names_it():
    def model_fn(features, labels, mode):
        hooks = []
        if mode == 'train' and role_jobs.task_index() == 1:
            hooks = [v1.train.LoggingTensorHook(['no_such_tensor'], 10)]
        return jobs.spec(mode, jobs.linear(features), labels, training_hooks=hooks)

    report = ese.preflight_roles(role_jobs.builder(model_fn), CLASSIC)
    assert slugs(report) == ['hook-unknown-name'], report.to_text()
    assert {finding.where.role for finding in report.errors} == {'worker/0'}


def test_an_export_that_fails_in_the_evaluator_is_found():
    def receiver_fn():
        if json.loads(os.environ['TF_CONFIG'])['task']['type'] == 'evaluator':
            raise ValueError('no vocabulary here')
        return jobs.receiver_fn()

    exporter = tf.estimator.LatestExporter('latest', receiver_fn)
    report = ese.preflight_roles(role_jobs.builder(exporters=[exporter]), CLASSIC)
    assert slugs(report) == ['serving-receiver-crashes'], report.to_text()
    assert report.errors[0].where.role == 'evaluator/0'


def test_the_export_is_rehearsed_at_depth_serve():
    exporter = tf.estimator.LatestExporter('latest', jobs.receiver_fn)
    said = []
    report = ese.preflight_roles(role_jobs.builder(exporters=[exporter]), CLASSIC, depth='run',
                                 progress=said.append)
    assert not slugs(report), report.to_text()
    assert report.depth == 'run'
    assert 'rehearsing the job as one process' in said


# Builders that keep state.

def test_a_builder_with_state_is_not_compared():
    calls = []

    def model_fn(features, labels, mode):
        calls.append(mode)
        with v1.variable_scope(f'call_{len(calls)}'):
            return jobs.spec(mode, jobs.linear(features), labels)

    report = ese.preflight_roles(role_jobs.builder(model_fn), CLASSIC)
    assert 'graph-changes-by-itself' in slugs(report)
    assert not {'variable-renamed-by-role', 'variables-differ-by-role'} & set(slugs(report))
    finding, = (one for one in report.findings if one.slug == 'graph-changes-by-itself')
    assert finding.severity is Severity.WARNING
    assert finding.hint.endswith('or give the builder by name, with child_processes=True')


def test_the_clock_is_ahead_and_comes_back():
    import datetime
    before = time.time()
    with role_clock.ahead(role_clock.AHEAD):
        assert time.time() - before > role_clock.AHEAD - 1
        assert time.strftime('%d') != time.strftime('%d', time.localtime(before))
        assert isinstance(datetime.datetime.now(), datetime.datetime)
        assert (datetime.datetime.now() - datetime.datetime.fromtimestamp(before)).days == 1
    assert abs(time.time() - before) < 60
    assert datetime.datetime.now().timestamp() - before < 60


# Lists of TF_CONFIGs, ports, wrong arguments.

def test_a_list_of_all_tasks():
    listed = [tf_config.of_task(CLASSIC, job, index) for job, index in tf_config.tasks(CLASSIC)]
    assert not slugs(ese.preflight_roles(role_jobs.builder(), listed))
    report = ese.preflight_roles(role_jobs.builder(), [listed[0], {}, listed[2]])
    assert slugs(report) == ['tf-configs-disagree']
    assert report.errors[0].message == (
        '1 of 3 tasks have no cluster in TF_CONFIG: they would train alone')


def test_ports_in_use_are_named():
    with socket.create_server(('127.0.0.1', 0)) as server:
        taken = f'127.0.0.1:{server.getsockname()[1]}'
        cluster = {'cluster': {'chief': [taken], 'ps': ['p.invalid:1']}}
        report = ese.preflight_roles(role_jobs.builder(), cluster)
    assert slugs(report) == ['port-in-use']
    assert report.warnings[0].message == (
        f'something listens at {taken} already, the address of chief/0')


def test_a_wrong_tf_config_is_one_finding_and_nothing_is_built():
    calls = []
    report = ese.preflight_roles(lambda: calls.append(1), {
        'cluster': {'chief': ['chief'], 'worker': ['worker']},
        'task': {'type': 'wroker', 'index': '7'}})
    assert not calls
    assert slugs(report) == ['tf-config-address', 'tf-config-invalid']
    assert len(report.findings) == 2


@pytest.mark.parametrize('builder, cluster, options, error', [
    (3, {}, {}, 'builder must be a function or its name, got int'),
    ('trainer.task', {}, {},
     "builder must be a name like 'package.module:function', got 'trainer.task'"),
    (role_jobs.builder(), 3, {}, 'cluster must be a TF_CONFIG dict or a list of them, got int'),
    (role_jobs.builder(), [], {},
     'cluster must be a TF_CONFIG dict or a list of them, got an empty list'),
    (role_jobs.builder(), {}, {'depth': 'deep'},
     "depth must be one of 'graph', 'run', 'serve', got 'deep'"),
    (role_jobs.builder(), {}, {'child_processes': True},
     'child processes find a builder by its name: give a function of a module, or '
     "'package.module:function'"),
])
def test_arguments_that_make_no_sense(builder, cluster, options, error):
    with pytest.raises((TypeError, ValueError)) as raised:
        ese.preflight_roles(builder, cluster, **options)
    assert str(raised.value) == error


def test_a_builder_that_cannot_be_imported_is_a_finding():
    report = ese.preflight_roles('no_such_package.task:build', CLASSIC)
    assert 'role-crashes' in slugs(report)
    assert "ModuleNotFoundError: No module named 'no_such_package'" in report.errors[0].message


def test_suppressions_and_the_environment(monkeypatch):
    monkeypatch.setenv('TF_CONFIG', json.dumps(CLASSIC))
    build = role_jobs.builder(max_steps=lambda: 50 + role_jobs.task_index())
    report = ese.preflight_roles(build)
    assert slugs(report) == ['roles-stop-apart']
    report = ese.preflight_roles(build, suppress={'roles-stop-apart': 'the chief waits',
                                                  'no-such-rule': 'x'})
    assert slugs(report) == ['invalid-suppression']
    assert [item.finding.slug for item in report.suppressed] == ['roles-stop-apart']


# validate_tf_config.

def test_validate_reads_the_environment(monkeypatch):
    monkeypatch.setenv('TF_CONFIG', '{"cluster": ')
    report = ese.validate_tf_config()
    assert slugs(report) == ['tf-config-invalid']
    assert report.errors[0].message == (
        "TF_CONFIG is no JSON: expecting value at '{\"cluster\": '")
    monkeypatch.delenv('TF_CONFIG')
    assert not ese.validate_tf_config().findings


def test_validate_knows_both_sets_of_rules():
    evaluator = tf_config.of_task(role_jobs.cluster(), 'evaluator', 0)
    with tf.Graph().as_default():
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    assert slugs(ese.validate_tf_config(evaluator, train_distribute=strategy)) == [
        'tf-config-evaluator']
    assert slugs(ese.validate_tf_config(evaluator, train_distribute=False)) == [
        'no-parameter-server']
    assert not slugs(ese.validate_tf_config(evaluator))
    workers = {'cluster': {'worker': ['a:1', 'b:1']}, 'task': {'type': 'worker', 'index': 0}}
    assert not slugs(ese.validate_tf_config(workers, train_distribute=strategy))
    assert slugs(ese.validate_tf_config(workers, train_distribute=False)) == ['tf-config-invalid']
    with pytest.raises(TypeError, match='tf_config must be the text of the variable or a dict'):
        ese.validate_tf_config(3)


@pytest.mark.once
def test_names_of_builders():
    assert role_work.name_of('a.b:c') == 'a.b:c'
    assert role_work.name_of(jobs.job) == 'estimator_spec_ext.rules.jobs:job'
    assert role_work.name_of(role_jobs.builder()) is None
    assert role_work.name_of(lambda: None) is None

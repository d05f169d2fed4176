"""Hooks that save checkpoints and write files, alone and in jobs with several workers."""

from __future__ import annotations

import json
import pathlib

import pytest
import tensorflow as tf

from estimator_spec_ext import engine
from estimator_spec_ext.diagnostics import Severity
from estimator_spec_ext.facts import JobContext, SpecFacts

v1 = tf.compat.v1
train = v1.train


@pytest.fixture(autouse=True)
def _graph(monkeypatch):
    monkeypatch.delenv('TF_CONFIG', raising=False)
    with tf.Graph().as_default():
        yield


def _saver(directory='job', kind=train.CheckpointSaverHook):
    return kind(directory, save_steps=1, scaffold=train.Scaffold())


def _found(mode='train', extra=(), workers=None, model_dir=None, **hooks):
    context = JobContext(extra_hooks=extra, num_workers=workers, model_dir=model_dir)
    report = engine.check(SpecFacts(mode, hooks, context=context), family='ESX6')
    assert {f.severity for f in report.findings} <= {Severity.WARNING}
    return [(f.slug, f.where.field) for f in report.findings]


@pytest.mark.parametrize('line, on_the_chief', [
    ('hooks = [saver] if config.is_chief else []', Severity.INFO),
    ("if json.loads(os.environ['TF_CONFIG'])['task']['index'] == 0:", Severity.INFO),
    ('hooks = [saver]', Severity.WARNING),
])
def test_on_the_chief_it_is_a_note_where_the_code_asks_for_its_role(
        line, on_the_chief, monkeypatch, tmp_path):
    file = tmp_path / 'model.py'
    file.write_text(line + '\n', encoding='utf-8')
    cluster = {'chief': ['a:1'], 'worker': ['b:1']}
    hooks = [_saver(), train.StepCounterHook(output_dir='logs')]
    for task, severity in (('chief', on_the_chief), ('worker', Severity.WARNING)):
        monkeypatch.setenv('TF_CONFIG', json.dumps(
            {'cluster': cluster, 'task': {'type': task, 'index': 0}}))
        report = engine.check(SpecFacts('train', {'training_hooks': hooks},
                                        site=(str(file), 1)), family='ESX6')
        assert [(f.code, f.severity) for f in report.findings] == [
            ('ESX606', severity), ('ESX609', severity)]


class Subclass(train.CheckpointSaverHook):
    """A saver of the user's own."""


@pytest.mark.parametrize('kind', [train.CheckpointSaverHook, Subclass])
def test_a_saver_of_every_worker(kind):
    found = [('saver-on-every-worker', 'training_hooks[0]')]
    assert _found(training_hooks=[_saver(kind=kind)], workers=2) == found
    assert _found(training_hooks=[_saver(kind=kind)], workers=1) == []
    assert _found(training_hooks=[_saver(kind=kind)]) == []
    assert _found(training_chief_hooks=[_saver(kind=kind)], workers=2) == []


def test_a_saver_in_the_train_spec():
    assert _found(extra=(_saver(),), workers=2) == [('saver-on-every-worker', 'hooks[0]')]


def test_a_saver_in_another_mode_is_no_matter():
    hooks = {field: [_saver(), _saver()] for field in ('evaluation_hooks', 'prediction_hooks')}
    assert _found(workers=3, model_dir='elsewhere', **hooks) == []
    assert _found('eval', workers=3, model_dir='elsewhere', **hooks) == []
    assert _found('eval', workers=3, training_hooks=[_saver(), _saver()]) == []


@pytest.mark.parametrize(
    'cluster, several',
    [
        ({'chief': ['a:1'], 'worker': ['b:1'], 'ps': ['c:1']}, True),
        ({'master': ['a:1'], 'worker': ['b:1']}, True),
        ({'worker': ['a:1', 'b:1']}, True),
        ({'chief': ['a:1'], 'ps': ['c:1', 'd:1'], 'evaluator': ['e:1']}, False),
        ({'worker': ['a:1']}, False),
        ({}, False),
        (None, False),
    ],
)
def test_the_cluster_of_tf_config(monkeypatch, cluster, several):
    task = {'type': 'worker', 'index': 1}
    monkeypatch.setenv('TF_CONFIG', json.dumps({'cluster': cluster, 'task': task}))
    found = _found(training_hooks=[_saver()])
    assert found == ([('saver-on-every-worker', 'training_hooks[0]')] if several else [])
    # What is known of the job goes before the environment.
    assert _found(training_hooks=[_saver()], workers=1) == []


@pytest.mark.parametrize('text', ['', '[]', '{', '{"cluster": 5}', '{"cluster": {"worker": 5}}'])
def test_a_broken_tf_config_is_another_matter(monkeypatch, text):
    monkeypatch.setenv('TF_CONFIG', text)
    assert _found(training_hooks=[_saver()]) == []


def test_two_savers():
    found = [('saver-twice', 'training_hooks[0]')]
    assert _found(training_chief_hooks=[_saver()], training_hooks=[_saver()]) == found
    assert _found(training_chief_hooks=[_saver('./job')],
                  training_hooks=[_saver(pathlib.Path('x/../job'))]) == found
    assert _found(training_chief_hooks=[_saver('gs://b/job')],
                  training_hooks=[_saver('gs://b/job/')]) == found
    assert _found(training_hooks=[_saver(), _saver(), _saver()]) == [
        ('saver-twice', 'training_hooks[1]'), ('saver-twice', 'training_hooks[2]')]
    assert _found(training_hooks=[_saver()], extra=(_saver(),)) == [('saver-twice', 'hooks[0]')]


def test_one_saver_object_twice_is_one_finding():
    hook = _saver()
    assert _found(training_hooks=[hook, hook]) == [('hook-twice', 'training_hooks[1]')]


def test_savers_of_two_directories():
    pair = [_saver('job'), _saver('backup')]
    assert _found(training_hooks=pair) == []
    assert _found(training_hooks=pair, model_dir='job') == []
    assert _found(training_hooks=pair, model_dir='other') == [
        ('saver-elsewhere', 'training_hooks[0]')]


def test_a_saver_elsewhere(tmp_path):
    other = str(tmp_path / 'other')
    assert _found(training_hooks=[_saver(other)], model_dir=str(tmp_path)) == [
        ('saver-elsewhere', 'training_hooks[0]')]
    assert _found(extra=(_saver(other),), model_dir=str(tmp_path)) == [
        ('saver-elsewhere', 'hooks[0]')]
    assert _found(training_hooks=[_saver(str(tmp_path) + '/')], model_dir=str(tmp_path)) == []
    assert _found(training_hooks=[_saver(tmp_path)], model_dir=str(tmp_path)) == []
    assert _found(training_hooks=[train.StopAtStepHook(1)], model_dir=str(tmp_path)) == []
    link = tmp_path / 'link'
    link.symlink_to(tmp_path)
    assert _found(training_hooks=[_saver(str(link))], model_dir=str(tmp_path)) == []


def _summary():
    return v1.summary.scalar('s', 1.0)


def test_writers_of_all_workers_together(tmp_path):
    writers = [
        train.SummarySaverHook(1, output_dir='job', summary_op=_summary()),
        train.ProfilerHook(save_steps=1, output_dir=str(tmp_path / 'profiles')),
        train.StepCounterHook(output_dir='job'),
    ]
    assert _found(training_hooks=writers, workers=2) == [
        ('writer-on-every-worker', f'training_hooks[{position}]') for position in range(3)]
    assert _found(training_hooks=writers) == []
    assert _found(training_chief_hooks=writers, workers=2) == []
    assert _found(extra=tuple(writers[:1]), workers=2) == [('writer-on-every-worker', 'hooks[0]')]


def test_writers_that_write_apart():
    quiet = [
        train.StepCounterHook(every_n_steps=1),
        train.LoggingTensorHook({'s': tf.constant(1.0)}, every_n_iter=1),
        train.SummarySaverHook(1, output_dir='job/worker_1', summary_op=_summary()),
        train.SummarySaverHook(1, output_dir='logs/task-0/x', summary_op=_summary()),
        _saver('job/worker1'),
    ]
    assert _found(training_hooks=quiet, workers=2) == []


def test_an_unused_saver_leaves_no_file(tmp_path, monkeypatch):
    """Looking at savers creates nothing."""
    monkeypatch.chdir(tmp_path)
    _found(training_hooks=[_saver(), _saver('backup')], workers=2, model_dir='other')
    assert list(tmp_path.iterdir()) == []


# What stock does.


def _train(directory, hooks):
    def model_fn(features, labels, mode):
        step = train.get_global_step()
        return tf.estimator.EstimatorSpec(
            mode, loss=tf.reduce_mean(features['x']), train_op=step.assign_add(1),
            training_hooks=hooks)

    def input_fn():
        return tf.data.Dataset.from_tensors(({'x': [1.0]}, [1.0]))

    tf.estimator.Estimator(model_fn, str(directory)).train(input_fn)


def test_stock_leaves_model_dir_without_a_checkpoint(tmp_path):
    job, backup = tmp_path / 'job', tmp_path / 'backup'
    _train(job, [train.CheckpointSaverHook(str(backup), save_steps=1, saver=None)])
    assert tf.train.latest_checkpoint(str(job)) is None
    assert tf.train.latest_checkpoint(str(backup))

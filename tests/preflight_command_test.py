"""`estimator-preflight check` and `run`, as people call them."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
import textwrap
import types

import pytest
import tensorflow as tf
from tensorflow_estimator.python.estimator import estimator_lib

import estimator_spec_ext as ese
from estimator_spec_ext import cli

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

pytestmark = pytest.mark.once

JOB = '''
    import tensorflow as tf
    from estimator_spec_ext.rules import jobs

    def model_fn(features, labels, mode):
        prediction = jobs.linear(features)
        if mode == 'eval' and WRONG:
            return tf.estimator.EstimatorSpec(mode, loss=tf.square(prediction - labels))
        return jobs.spec(mode, prediction, labels)

    def parts():
        estimator = tf.estimator.Estimator(model_fn, model_dir='model')
        return (estimator, tf.estimator.TrainSpec(jobs.endless_input_fn, max_steps=10),
                tf.estimator.EvalSpec(jobs.input_fn, steps=None, throttle_secs=0))
'''


def write(folder, name, *texts, wrong=False):
    path = folder / name
    text = '\n'.join(map(textwrap.dedent, texts)).replace('WRONG', str(wrong))
    path.write_text(text, encoding='utf-8')
    return path


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Runs the command in the test's folder, and gives its status and what it wrote."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', list(sys.path))

    def run(*arguments):
        for name in ('task', 'train', 'predict'):
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
        status = cli.main(list(arguments))
        wrote = capsys.readouterr()
        return types.SimpleNamespace(returncode=status, stdout=wrote.out, stderr=wrote.err)

    return run


def start(folder, *arguments):
    """The same in a process of its own."""
    environment = {**os.environ, 'PYTHONPATH': ROOT, 'TF_CPP_MIN_LOG_LEVEL': '3'}
    return subprocess.run([sys.executable, '-m', 'estimator_spec_ext', *arguments], cwd=folder,
                          env=environment, capture_output=True, text=True, timeout=300,
                          check=False)


BUILDER = '''
    def build():
        print('the job talks')
        return (*parts(), jobs.receiver_fn)
'''


def test_check_a_builder(tmp_path):
    write(tmp_path, 'task.py', JOB, BUILDER)
    done = start(tmp_path, 'check', 'task:build')
    assert (done.returncode, done.stdout) == (0, 'estimator_spec_ext: no findings\n'), done.stderr
    assert 'the job talks' in done.stderr
    for step in ('building TRAIN', 'rehearsing EVAL', 'exporting', 'asking the export'):
        assert f'estimator-preflight: {step}' in done.stderr
    assert set(os.listdir(tmp_path)) - {'__pycache__'} == {'task.py'}


def test_check_finds_and_writes_every_format(tmp_path, call):
    write(tmp_path, 'task.py', JOB, BUILDER, wrong=True)
    done = call('check', 'task:build', '--depth', 'graph', '--format', 'json')
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert [finding['slug'] for finding in document['findings']] == ['loss-not-scalar']
    assert document['findings'][0]['where']['file'] == str(tmp_path / 'task.py')
    done = call('check', 'task:build', '--depth', 'graph', '--format', 'sarif',
                '--output', 'report.sarif', '--fail-level', 'never')
    assert (done.returncode, done.stdout) == (0, '')
    result, = json.loads((tmp_path / 'report.sarif').read_text())['runs'][0]['results']
    artifact = result['locations'][0]['physicalLocation']['artifactLocation']
    assert artifact == {'uri': 'task.py', 'uriBaseId': 'SRCROOT'}
    done = call('check', 'task:build', '--depth', 'graph', '--format', 'html')
    assert 'loss-not-scalar' in done.stdout and 'tf.square(prediction - labels)' in done.stdout


def test_suppress_on_the_command_line(tmp_path, call):
    write(tmp_path, 'task.py', JOB, BUILDER, wrong=True)
    done = call('check', 'task:build', '--depth', 'graph', '--suppress',
                'loss-not-scalar=one example a batch')
    assert done.returncode == 0, done.stdout
    assert 'suppressed: eval ESX201 loss-not-scalar: one example a batch' in done.stdout


def test_a_builder_that_raises_is_a_finding(tmp_path, call):
    write(tmp_path, 'task.py', '''
        import tensorflow as tf
        def build():
            return tf.estimator.Estimator(lambda x, labels: None)
    ''')
    done = call('check', 'task:build')
    assert done.returncode == 1
    assert 'ESX142 job-not-built' in done.stdout
    assert re.search(r'at task\.py:4', done.stdout)


@pytest.mark.parametrize('arguments, text', [
    (['check', 'task'], 'task: write module:name, e.g. trainer.task:build'),
    (['check', 'nothing_here:build'], "nothing_here:build: No module named 'nothing_here'"),
    (['check', 'task:absent'], 'task:absent: module task has no absent'),
    (['check', 'task:number'], 'task:number is not callable'),
    (['check', 'task:gives'], 'task:gives returned a int; expected (estimator, train_spec, '
                              'eval_spec)'),
    (['check', 'task:gives', '--suppress', 'x'],
     '--suppress x: write --suppress slug-of-the-rule=the reason'),
    (['run', 'absent.py'], 'there is no file absent.py'),
])
def test_arguments_that_make_no_sense(tmp_path, call, arguments, text):
    write(tmp_path, 'task.py', 'number = 3\ndef gives(): return 3\n')
    done = call(*arguments)
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr.splitlines()[-1] == f'estimator-preflight: error: {text}'


def test_check_all_roles(tmp_path, call, monkeypatch):
    monkeypatch.setenv('TF_CONFIG', json.dumps({
        'cluster': {'chief': ['a.invalid:1'], 'worker': ['b.invalid:1'], 'ps': ['c.invalid:1']},
        'task': {'type': 'worker', 'index': 0}}))
    write(tmp_path, 'task.py', JOB, '''
        import json
        import os

        def build():
            index = json.loads(os.environ['TF_CONFIG'])['task']['type']
            estimator, _, eval_spec = parts()
            steps = 10 if index == 'chief' else 20
            return estimator, tf.estimator.TrainSpec(
                lambda: jobs.input_fn().shuffle(8).repeat(), max_steps=steps), eval_spec
    ''')
    done = call('check', 'task:build', '--roles', 'all', '--depth', 'graph', '--fail-level',
                'warning')
    assert done.returncode == 1, done.stderr
    assert 'worker/0 stops at step 20, chief/0 at step 10' in done.stdout
    assert 'building evaluator/0' in done.stderr
    done = call('check', 'task:build', '--child-processes')
    assert done.returncode == 2
    assert '--child-processes goes with --roles all' in done.stderr


def test_run_a_script_as_it_is(tmp_path, call):
    write(tmp_path, 'train.py', JOB, '''
        import sys
        if __name__ == '__main__':
            assert sys.argv[1:] == ['--steps', '10'], sys.argv
            metrics, _ = tf.estimator.train_and_evaluate(*parts())
            print('accuracy', metrics['accuracy'])
    ''', wrong=True)
    done = call('run', '--depth', 'graph', 'train.py', '--steps', '10')
    assert done.returncode == 1, done.stderr
    assert 'ESX201 loss-not-scalar' in done.stdout and 'accuracy nan' in done.stderr
    assert not (tmp_path / 'model').exists()


def test_run_catches_a_function_that_was_imported_by_name(tmp_path, call):
    write(tmp_path, 'train.py', JOB, '''
        from absl import app
        import estimator_spec_ext as ese
        from tensorflow.compat.v1.estimator import train_and_evaluate
        from tensorflow_estimator.python.estimator import estimator_lib

        def main(arguments):
            train_and_evaluate(*parts())
            estimator_lib.train_and_evaluate(*parts())
            ese.train_and_evaluate(*parts(), depth='serve')
            assert not ese.preflight(*parts(), depth='run').findings

        app.run(main)
    ''')
    stock, strict = estimator_lib.train_and_evaluate, ese.train_and_evaluate
    done = call('run', '--depth', 'graph', 'train.py')
    assert (done.returncode, done.stdout) == (0, 'estimator_spec_ext: no findings\n'), done.stderr
    assert done.stderr.count('building TRAIN') == 3
    assert not (tmp_path / 'model').exists()
    assert tf.estimator.train_and_evaluate is stock is estimator_lib.train_and_evaluate
    assert ese.train_and_evaluate is strict is not stock


@pytest.mark.skipif(os.name == 'nt', reason='signals')
def test_ctrl_c_leaves_the_report_so_far(tmp_path):
    write(tmp_path, 'train.py', JOB, '''
        import os, signal, time

        # A shell lets what it starts in the background ignore the signal.
        signal.signal(signal.SIGINT, signal.default_int_handler)

        class Interrupts(tf.estimator.SessionRunHook):
            def after_run(self, run_context, run_values):
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)

        estimator, train_spec, eval_spec = parts()
        tf.estimator.train_and_evaluate(estimator, train_spec, eval_spec)
        train_spec = tf.estimator.TrainSpec(train_spec.input_fn, hooks=[Interrupts()], max_steps=9)
        tf.estimator.train_and_evaluate(estimator, train_spec, eval_spec)
        print('not reached')
    ''', wrong=True)
    done = start(tmp_path, 'run', '--depth', 'run', 'train.py')
    assert done.returncode == 2
    assert 'ESX201 loss-not-scalar' in done.stdout
    assert 'note: interrupted while rehearsing TRAIN; what follows was not reached' in done.stdout
    assert 'not reached' not in done.stderr
    assert set(os.listdir(tmp_path)) - {'__pycache__'} == {'train.py'}


def test_run_gathers_single_calls(tmp_path, call):
    write(tmp_path, 'train.py', JOB, '''
        estimator, train_spec, eval_spec = parts()
        for epoch in range(3):
            estimator.train(train_spec.input_fn, steps=5)
            print(estimator.evaluate(eval_spec.input_fn)['loss'])
        for row in estimator.predict(eval_spec.input_fn):
            print(row)
        estimator.export_saved_model('exported', jobs.receiver_fn)
    ''')
    done = call('run', '--depth', 'graph', '--format', 'json', 'train.py')
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert [finding['slug'] for finding in document['findings']] == ['train-evaluate-loop']
    # PREDICT for the export, and on what predict() is given.
    assert [mode['mode'] for mode in document['facts']['modes']] == [
        'train', 'eval', 'infer', 'infer']
    assert not (tmp_path / 'exported').exists()


def test_run_tells_of_random_weights(tmp_path, call):
    write(tmp_path, 'predict.py', JOB, '''
        estimator, _, eval_spec = parts()
        list(estimator.predict(eval_spec.input_fn))
    ''')
    done = call('run', '--depth', 'graph', '--fail-level', 'warning', 'predict.py')
    assert done.returncode == 1
    assert 'ESX720 no-checkpoint' in done.stdout


def test_run_knows_what_the_script_trained_before(tmp_path, call):
    write(tmp_path, 'train.py', JOB, '''
        estimator, train_spec, eval_spec = parts()
        tf.estimator.train_and_evaluate(estimator, train_spec, eval_spec)
        estimator.evaluate(eval_spec.input_fn, name='test')
        again = tf.estimator.Estimator(estimator.model_fn, estimator.model_dir)
        list(again.predict(eval_spec.input_fn))
        other = tf.estimator.Estimator(estimator.model_fn)
        other.evaluate(eval_spec.input_fn, checkpoint_path='of/another/job')
    ''')
    done = call('run', '--depth', 'graph', '--fail-level', 'warning', 'train.py')
    assert 'ESX720' not in done.stdout
    write(tmp_path, 'predict.py', JOB, '''
        estimator, train_spec, eval_spec = parts()
        other = tf.estimator.Estimator(estimator.model_fn, 'elsewhere')
        list(other.predict(eval_spec.input_fn))
        estimator.train(train_spec.input_fn, steps=5)
    ''')
    done = call('run', '--depth', 'graph', '--fail-level', 'warning', 'predict.py')
    assert 'ESX720 no-checkpoint' in done.stdout


@pytest.mark.parametrize('hooks, told', [
    ('[]', True), ('[stop]', False), ('[Around(stop)]', False)])
def test_run_sees_early_stopping_that_nobody_uses(tmp_path, call, hooks, told):
    write(tmp_path, 'train.py', JOB, f'''
        class Around(tf.estimator.SessionRunHook):
            def __init__(self, hook):
                self.hook = hook

        estimator, train_spec, eval_spec = parts()
        stop = tf.estimator.experimental.stop_if_no_decrease_hook(estimator, 'loss', 5)
        train_spec = train_spec._replace(hooks={hooks})
        tf.estimator.train_and_evaluate(estimator, train_spec, eval_spec)
    ''')
    done = call('run', '--depth', 'graph', 'train.py')
    assert ('ESX867 early-stopping-unused' in done.stdout) == told, done.stdout


def test_run_a_script_that_fails_first(tmp_path, call):
    write(tmp_path, 'train.py', '''
        import tensorflow as tf
        raise AttributeError("module 'tensorflow' has no attribute 'estimator'")
    ''')
    done = call('run', 'train.py')
    assert done.returncode == 1
    assert 'ESX822 estimator-removed' in done.stdout


def test_run_without_a_job(tmp_path, call):
    write(tmp_path, 'hello.py', 'print("hello")')
    done = call('run', 'hello.py')
    assert done.returncode == 0
    assert done.stdout.endswith('note: the script started no tf.estimator job\n')

"""`StallWatchdogHook` in real sessions: it tells of a step that stalls, and of nothing else."""

from __future__ import annotations

import gc
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

import estimator_spec_ext as ese
from estimator_spec_ext.compat import session_frames

v1 = tf.compat.v1
ROOT = pathlib.Path(__file__).resolve().parent.parent


def _sleeper(seconds):
    """A tensor that takes so long to compute, by turns through a list."""
    turns = iter(seconds)

    def sleep():
        time.sleep(next(turns, 0))
        return np.float32(1)

    return v1.py_func(sleep, [], tf.float32, stateful=True)


def _run(hooks, seconds):
    with tf.Graph().as_default():
        v1.train.create_global_step()
        tensor = _sleeper(seconds)
        with v1.train.MonitoredSession(hooks=hooks) as session:
            for _ in seconds:
                session.run(tensor)


def _watching():
    return [thread for thread in threading.enumerate() if thread.name == 'stall-watchdog']


def _assert_nobody_watches():
    for thread in _watching():
        thread.join(6)
    assert not _watching()


def test_a_step_that_stalls(caplog, monkeypatch):
    monkeypatch.setenv('TF_CONFIG', '{"cluster": {"chief": ["a:1"], "worker": ["b:1", "c:1"]}, '
                       '"task": {"type": "worker", "index": 1}}')
    report = ese.Report(notes=('what preflight said',))
    _run([ese.StallWatchdogHook(.4, report=report)], [0, 0, 1.1, 0, .9])
    full, short = [record.getMessage() for record in caplog.records
                   if record.name == 'absl' and 'worker/1' in record.getMessage()][:2]
    lines = full.splitlines()
    assert lines[0] == ('worker/1 has been in step 3 (it began at global step 0) for more than '
                        '0.4 s')
    assert lines[1].startswith('  the last 1 steps took ')
    assert lines[2:6] == [
        '  look at the logs of the others, which it may be waiting for: chief/0, worker/0',
        '  what preflight said:',
        '    estimator_spec_ext: no findings',
        '    ']
    assert '    note: what preflight said' in lines
    assert lines[lines.index('    note: what preflight said') + 1] == '  thread MainThread:'
    assert 'session.run(tensor)' in full
    # All of it once, then a line.
    assert short.startswith('worker/1 has been in step ') and '\n' not in short
    _assert_nobody_watches()


def test_the_first_step_has_a_limit_of_its_own(caplog):
    _run([ese.StallWatchdogHook(.7, start_limit_secs=5)], [.8, 0])
    assert 'step' not in caplog.text
    _run([ese.StallWatchdogHook(5, start_limit_secs=.3)], [.8, 0])
    assert 'has not ended its first step in 0.3 s' in caplog.text


class _Slow(tf.estimator.SessionRunHook):
    """A hook that takes its time, once in each of its methods."""

    def __init__(self):
        self._done = set()

    def _rest(self, method):
        if method not in self._done:
            self._done.add(method)
            time.sleep(1.2)

    def begin(self):
        self._rest('begin')

    def after_create_session(self, session, coord):
        self._rest('after_create_session')

    def before_run(self, run_context):
        self._rest('before_run')

    def after_run(self, run_context, run_values):
        self._rest('after_run')


@pytest.mark.parametrize('first', [True, False])
def test_time_in_other_hooks_does_not_count(caplog, first):
    # Shorter than the hooks together take, longer than a step on a busy machine.
    watchdog = ese.StallWatchdogHook(1., start_limit_secs=3.)
    _run([watchdog, _Slow()] if first else [_Slow(), watchdog], [0, 0])
    assert not [record for record in caplog.records if record.name == 'absl']


def test_evaluations_and_checkpoints_do_not_count(tmp_path, caplog):
    """train_and_evaluate evaluates inside a hook of the training's session."""

    def model_fn(features, labels, mode):
        weight = v1.get_variable('w', [], initializer=tf.zeros_initializer(), use_resource=True)
        loss = tf.reduce_mean(tf.square(features * weight - 1.))
        if mode == 'eval':
            with tf.control_dependencies([_sleeper([1.2])]):
                loss = tf.identity(loss)
            return ese.StrictEstimatorSpec(mode, loss=loss)
        step = v1.train.get_global_step()
        return ese.StrictEstimatorSpec(
            mode, loss=loss, train_op=v1.train.GradientDescentOptimizer(.1).minimize(loss, step))

    def input_fn():
        return tf.data.Dataset.from_tensors(tf.ones([4])).repeat()

    estimator = tf.estimator.Estimator(model_fn, config=tf.estimator.RunConfig(
        str(tmp_path), save_checkpoints_steps=2))
    hook = ese.StallWatchdogHook(.8, start_limit_secs=30)
    result, _ = tf.estimator.train_and_evaluate(
        estimator, tf.estimator.TrainSpec(input_fn, max_steps=4, hooks=[hook]),
        tf.estimator.EvalSpec(input_fn, steps=2, throttle_secs=0, start_delay_secs=0))
    assert result['global_step'] == 4
    assert 'has been in step' not in caplog.text


def test_an_error_ends_the_watch(caplog):
    """`end` is not called then; a program that goes on is no step that stalls."""
    hook = ese.StallWatchdogHook(2., start_limit_secs=2.)
    with pytest.raises(ZeroDivisionError):
        with tf.Graph().as_default():
            one = tf.constant(1.)
            with v1.train.MonitoredSession(hooks=[hook]) as session:
                session.run(one)
                session.run_step_fn(lambda step_context: 1 / 0)
    del session
    hook._pulse.busy = True  # as it is when session.run itself raises
    _assert_nobody_watches()
    assert not [record for record in caplog.records if record.name == 'absl']


def test_a_hook_that_is_gone_is_not_watched():
    hook = ese.StallWatchdogHook(.2)
    with tf.Graph().as_default():
        hook.begin()
    assert len(_watching()) == 1
    del hook
    gc.collect()
    _assert_nobody_watches()


def test_limits():
    hook = ese.StallWatchdogHook()
    assert hook.limit([], first=True) == 1800
    assert hook.limit([1.] * 5, first=False) == 600
    assert hook.limit([1., 10., 10.], first=False) == 1000
    assert ese.StallWatchdogHook(5000).limit([], first=True) == 5000
    assert ese.StallWatchdogHook(3).limit([100.], first=False) == 3
    for name in ('limit_secs', 'start_limit_secs', 'times_median'):
        for value in (0, -1, 'x', True):
            with pytest.raises(ValueError, match=f'^{name} must be a positive number, got '):
                ese.StallWatchdogHook(**{name: value})


def test_occupation_outside_of_sessions():
    hook = ese.StallWatchdogHook()
    assert session_frames.occupation(sys._getframe(), hook) is None


_STOPS = """
import sys, time
import numpy as np
import tensorflow as tf
import estimator_spec_ext as ese
v1 = tf.compat.v1
with tf.Graph().as_default():
    v1.train.create_global_step()
    turns = iter([0, 0, 60])
    tensor = v1.py_func(lambda: time.sleep(next(turns)) or np.float32(1), [], tf.float32)
    with v1.train.MonitoredSession(hooks=[ese.StallWatchdogHook(.5, stop=True)]) as session:
        for _ in range(3):
            session.run(tensor)
            print('a step', end=' ')
"""


@pytest.mark.once
def test_it_ends_the_process():
    done = subprocess.run([sys.executable, '-c', _STOPS], cwd=ROOT, capture_output=True, text=True,
                          timeout=100)
    assert done.returncode == 138
    assert done.stdout == 'a step a step '
    assert 'has been in step 3 (it began at global step 0) for more than 0.5 s' in done.stderr
    assert done.stderr.rstrip().endswith(
        'ends, with status 138: no step has ended for 0.5 s')

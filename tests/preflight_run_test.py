"""Depth 'run' of preflight: real sessions in a scratch folder, and nothing left of them."""

from __future__ import annotations

import dataclasses
import glob
import os
import subprocess
import sys
import tempfile
import textwrap
import time

import numpy as np
import pytest
import tensorflow as tf

import estimator_spec_ext as ese
from estimator_spec_ext.diagnostics import Severity
from estimator_spec_ext.preflight import cardinality, sessions
from estimator_spec_ext.rules import jobs

v1 = tf.compat.v1
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def run(job, **options):
    options.setdefault('depth', 'run')
    options.setdefault('serving_input_receiver_fn', job.serving_input_receiver_fn)
    return ese.preflight(job.estimator, job.train_spec, job.eval_spec, **options)


def slugs(report):
    return sorted(finding.slug for finding in report.findings)


def loud(report):
    return [finding for finding in report.findings if finding.severity is not Severity.INFO]


@pytest.fixture(autouse=True)
def temporary_folder(tmp_path, monkeypatch):
    """Other tests may rehearse at the same time."""
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))


def scratch_folders():
    return glob.glob(os.path.join(tempfile.gettempdir(), 'ese_preflight_*'))


class Logging(tf.estimator.SessionRunHook):
    """Notes what it is asked to do."""

    def __init__(self):
        self.log = []
        self.every_n = 50

    def begin(self):
        self.log.append('begin')

    def after_create_session(self, session, coord):
        self.log.append('created')

    def after_run(self, run_context, run_values):
        self.log.append(f'run every {self.every_n}')

    def end(self, session):
        self.log.append('end')
        LOG.append(list(self.log))


class ActsAtOnce(tf.estimator.SessionRunHook):
    """Makes an op in each step, or in the thousandth."""

    def __init__(self, first):
        self._first, self._seen = first, 0

    def after_run(self, run_context, run_values):
        self._seen += 1
        if self._seen >= self._first:
            run_context.session.run(tf.constant(1))


class Counts(tf.estimator.SessionRunHook):
    """Makes the op that counts in begin, and runs it after each step."""

    def __init__(self, counts=True):
        self._counts, self._op = counts, None

    def begin(self):
        self._op = v1.assign_add(v1.train.get_global_step(), 1).op if self._counts else tf.no_op()

    def after_run(self, run_context, run_values):
        run_context.session.run(self._op)


@pytest.mark.parametrize('counts', [True, False])
def test_what_a_rehearsal_disproves_is_not_told(counts):
    def model_fn(features, labels, mode):
        prediction = jobs.linear(features)
        loss = None if labels is None else tf.reduce_mean(tf.square(prediction - labels))
        if mode != 'train':
            return tf.estimator.EstimatorSpec(mode, predictions=prediction, loss=loss)
        return tf.estimator.EstimatorSpec(
            mode, loss=loss, train_op=v1.train.GradientDescentOptimizer(.01).minimize(loss),
            training_hooks=[Counts(counts)])

    found = 'global-step-not-advanced'
    assert found in slugs(run(jobs.job(model_fn, evaluate=None), depth='graph'))
    assert (found in slugs(run(jobs.job(model_fn, evaluate=None)))) is not counts


LOG = []


def test_hooks_live_their_whole_life_and_come_back_as_they_were():
    LOG.clear()
    hook = Logging()
    job = jobs.job(train_hooks=[hook], evaluate=None, receiver=None)
    assert not loud(run(job))
    steps = ['begin', 'created', 'run every 1', 'run every 1', 'end']
    resumed = ['begin', 'created', 'run every 1', 'end']
    assert LOG == [steps, resumed]
    assert (hook.log, hook.every_n) == ([], 50)


def test_a_hook_that_model_fn_knows_is_the_same_object():
    class Knows(tf.estimator.SessionRunHook):
        def before_run(self, run_context):
            return v1.train.SessionRunArgs(self.loss)

    hook = Knows()

    def model_fn(features, labels, mode):
        made = jobs.model_fn(features, labels, mode)
        if mode == 'train':
            hook.loss = made.loss
        return made

    job = jobs.job(model_fn, train_hooks=[hook], evaluate=None, receiver=None)
    report = run(job)
    assert not report.errors, report.to_text()


def test_model_dir_and_its_checkpoint_are_left_alone():
    job = jobs.job()
    job.estimator.train(job.train_spec.input_fn, steps=1)
    model_dir = job.estimator.model_dir
    before = {name: os.stat(os.path.join(model_dir, name)).st_mtime_ns
              for name in os.listdir(model_dir)}
    folders = scratch_folders()
    hooks = [v1.train.CheckpointSaverHook(model_dir, save_steps=1),
             v1.train.StepCounterHook(1, output_dir=model_dir),
             v1.train.SummarySaverHook(1, output_dir=model_dir, scaffold=v1.train.Scaffold())]
    job = jobs.job(folder=job.folder, train_hooks=hooks)
    report = run(job)
    assert not report.errors, report.to_text()
    after = {name: os.stat(os.path.join(model_dir, name)).st_mtime_ns
             for name in os.listdir(model_dir)}
    assert after == before
    assert hooks[0]._checkpoint_dir == model_dir
    assert scratch_folders() == folders


def test_savers_and_writers_of_the_job_write_nothing_outside(tmp_path):
    class Backup(tf.estimator.SessionRunHook):
        def begin(self):
            self.saver = v1.train.Saver()

        def end(self, session):
            self.saver.save(session, str(tmp_path / 'backup' / 'model.ckpt'))
            self.saver.restore(session, str(tmp_path / 'backup' / 'model.ckpt'))

    def model_fn(features, labels, mode):
        v1.summary.FileWriter(str(tmp_path / 'logs')).close()
        hooks = [Backup()] if mode == 'train' else None
        return jobs.spec(mode, jobs.linear(features), labels, training_hooks=hooks)

    job = jobs.job(model_fn, evaluate=None, receiver=None)
    report = run(job)
    assert not loud(report), report.to_text()
    backup = str(tmp_path / 'backup')
    assert report.notes == (
        f'checkpoints that the job itself saves to {backup!r} went to the scratch folder',)
    assert not {'backup', 'logs'} & set(os.listdir(tmp_path))
    # Afterwards TensorFlow writes again where it is told to.
    with tf.Graph().as_default(), v1.Session() as session:
        session.run(v1.get_variable('v', []).initializer)
        v1.train.Saver().save(session, str(tmp_path / 'model.ckpt'))
        v1.summary.FileWriter(str(tmp_path / 'logs')).close()
    assert {'checkpoint', 'logs'} <= set(os.listdir(tmp_path))


def test_writers_of_tensorflow_2_write_nothing_outside(tmp_path):
    def model_fn(features, labels, mode):
        prediction = jobs.linear(features)
        if mode != 'train':
            return jobs.spec(mode, prediction, labels)
        writer = tf.summary.create_file_writer(str(tmp_path / 'logs'))
        with writer.as_default(step=v1.train.get_global_step()):
            wrote = tf.summary.scalar('mean', tf.reduce_mean(prediction))
        with tf.control_dependencies([wrote]):
            prediction = tf.identity(prediction)
        scaffold = v1.train.Scaffold(local_init_op=tf.group(
            v1.train.Scaffold.default_local_init_op(), writer.init()))
        return jobs.spec(mode, prediction, labels, scaffold=scaffold)

    report = run(jobs.job(model_fn, receiver=None))
    assert not loud(report), report.to_text()
    assert not os.listdir(tmp_path)


def test_a_hook_of_both_modes_is_rehearsed_with_evaluation_inside_training():
    class Counts(tf.estimator.SessionRunHook):
        def __init__(self):
            self.begun = []

        def begin(self):
            self.begun.append(v1.get_default_graph())
            self.calls = 0

        def after_run(self, run_context, run_values):
            self.calls += 1

    hook = Counts()
    report = run(jobs.job(train_hooks=[hook], eval_options={'hooks': [hook]}, receiver=None))
    assert not loud(report), report.to_text()
    assert hook.begun == [] and not hasattr(hook, 'calls')


def test_what_model_fn_saves_in_a_session_of_its_own_is_read_from_there(tmp_path):
    path = str(tmp_path / 'source.ckpt')

    def model_fn(features, labels, mode):
        with tf.Graph().as_default(), v1.Session() as session:
            weight = v1.get_variable('w', [jobs.FEATURES, 1], use_resource=True)
            session.run(weight.initializer)
            v1.train.Saver().save(session, path)
        made = jobs.spec(mode, jobs.linear(features), labels)
        if mode != 'train':
            return made
        saver = v1.train.Saver(v1.trainable_variables())
        return made._replace(scaffold=v1.train.Scaffold(
            init_fn=lambda scaffold, session: saver.restore(session, path)))

    report = run(jobs.job(model_fn, receiver=None))
    assert not loud(report) and not report.notes, report.to_text()


def test_errors_of_a_predict_that_nobody_asks_for_are_warnings():
    def model_fn(features, labels, mode):
        prediction = jobs.linear(features)
        if mode == 'infer':
            return tf.estimator.EstimatorSpec(mode)
        return jobs.spec(mode, prediction, labels)

    found = run(jobs.job(model_fn, receiver=None), depth='graph').findings
    assert {(f.where.mode, f.severity) for f in found} == {('infer', Severity.WARNING)}
    assert not run(jobs.job(model_fn), depth='graph').ok


def test_listeners_take_part_and_can_be_left_out():
    class Copies(v1.train.CheckpointSaverListener):
        saved = 0

        def after_save(self, session, global_step_value):
            type(self).saved += 1
            self.last = global_step_value

    listener = Copies()
    job = jobs.job(evaluate=None, receiver=None)
    job.train_spec = tf.estimator.TrainSpec(jobs.endless_input_fn, max_steps=9,
                                            saving_listeners=[listener])
    assert not run(job).findings
    assert Copies.saved > 0 and not vars(listener)
    Copies.saved = 0
    assert slugs(run(job, skip_hooks=[Copies])) == ['hook-left-out']
    assert Copies.saved == 0


def test_nan_for_a_single_row_is_no_fault_of_data_that_have_more():
    def model_fn(features, labels, mode):
        prediction = jobs.linear(features)
        if mode == 'eval':
            rows = tf.cast(tf.shape(prediction)[0], tf.float32)
            prediction *= tf.math.log(rows - 1.) / tf.math.log(rows - 1.)
        return jobs.spec(mode, prediction, labels)

    assert not loud(run(jobs.job(model_fn, receiver=None)))


def test_in_memory_evaluator_writes_nowhere_else():
    job = jobs.job(evaluate=None, receiver=None)
    hook = tf.estimator.experimental.InMemoryEvaluatorHook(
        job.estimator, jobs.input_fn, every_n_iter=1)
    job = jobs.job(folder=job.folder, train_hooks=[hook], evaluate=None, receiver=None)
    hook._estimator = job.estimator
    report = run(job)
    assert not report.errors, report.to_text()
    assert not os.path.exists(job.estimator.model_dir)
    assert hook._estimator is job.estimator


def test_skip_hooks_by_object_and_by_class():
    class Fails(tf.estimator.SessionRunHook):
        def begin(self):
            raise ValueError('not here')

    hook = Fails()
    job = jobs.job(train_hooks=[hook], evaluate=None, receiver=None)
    assert 'rehearsal-fails' in slugs(run(job))
    for skipped in (hook, Fails):
        report = run(job, skip_hooks=[skipped])
        assert slugs(report) == ['hook-left-out'], report.to_text()


def test_modes_with_errors_are_not_rehearsed():
    def model_fn(features, labels, mode):
        prediction = jobs.linear(features)
        if mode == 'eval':
            return tf.estimator.EstimatorSpec(mode, loss=tf.square(prediction - labels))
        return jobs.spec(mode, prediction, labels)

    report = run(jobs.job(model_fn))
    assert slugs(report) == ['loss-not-scalar']
    assert report.notes == ('EVAL not rehearsed: it has errors',)


def test_a_cluster_is_not_rehearsed():
    from estimator_spec_ext.rules import preflight_endings
    job = preflight_endings._in_cluster(jobs.job)
    report = run(job)
    assert report.notes == (
        'not rehearsed: the job belongs to a cluster, and needs its other tasks',)


def test_a_trained_model_is_evaluated_from_its_own_checkpoint():
    job = jobs.job()
    job.estimator.train(job.train_spec.input_fn, steps=1)
    later = jobs.job(train=None, folder=job.folder)
    said = []
    report = run(later, progress=said.append)
    assert not loud(report), report.to_text()
    assert said[-2:] == ['rehearsing EVAL', 'rehearsing PREDICT']


def test_predict_need_not_take_the_features_of_eval():
    def model_fn(features, labels, mode):
        if mode == 'infer':
            features = {'x': tf.io.decode_raw(features['bytes'], tf.float32)}
            features['x'].set_shape([None, 3])
        return jobs.spec(mode, jobs.linear(features), labels)

    def receiver_fn():
        text = v1.placeholder(tf.string, [None])
        return tf.estimator.export.ServingInputReceiver({'bytes': text}, text)

    report = run(jobs.job(model_fn, receiver=receiver_fn))
    assert not loud(report), report.to_text()
    assert report.notes == ('PREDICT not rehearsed: building it once more gives KeyError',)


def test_static_batches_are_not_cut():
    def input_fn():
        return jobs.input_fn().map(lambda x, y: (
            {'x': tf.ensure_shape(x['x'], [4, 3])}, tf.ensure_shape(y, [4, 1]))).repeat()

    def model_fn(features, labels, mode):
        prediction = jobs.linear(features)
        if mode != 'infer':
            prediction += tf.zeros([4, 1])
        return jobs.spec(mode, prediction, labels)

    job = jobs.job(model_fn, train=input_fn, evaluate=input_fn, eval_options={'steps': 2})
    assert not loud(run(job))


def test_warm_start_takes_part():
    source = jobs.job()
    source.estimator.train(source.train_spec.input_fn, steps=1)
    job = jobs.job(warm_start_from=source.estimator.model_dir)
    assert not loud(run(job))


def test_steps_are_timed_for_the_rule_about_throttling():
    job = jobs.job(config={'save_checkpoints_steps': 600}, max_steps=6000,
                   eval_options={'throttle_secs': 600})
    # A second a step would do; these take milliseconds.
    assert 'evaluations-throttled' not in slugs(run(job, depth='graph'))
    assert 'evaluations-throttled' in slugs(run(job))


def test_the_time_limit_leaves_a_report():
    def input_fn():
        def wait(x):
            time.sleep(60)
            return x
        rows = tf.data.Dataset.from_tensors([1., 2., 3.]).repeat()
        rows = rows.map(lambda x: tf.ensure_shape(tf.numpy_function(wait, [x], tf.float32), [3]))
        return rows.batch(4).map(lambda x: ({'x': x}, x[:, :1]))

    folders = scratch_folders()
    started = time.monotonic()
    report = run(jobs.job(train=input_fn, evaluate=None), time_limit=2.)
    assert time.monotonic() - started < 30
    assert slugs(report) == ['rehearsal-hangs']
    assert report.notes == ('PREDICT not rehearsed: no time left',)
    assert scratch_folders() == folders


@pytest.mark.once
@pytest.mark.skipif(not os.path.exists('/proc/self/task'), reason='looks at processes in /proc')
def test_ctrl_c_leaves_nothing_and_tells_what_was_found(tmp_path):
    program = textwrap.dedent('''
        import os, signal, sys, threading
        # A shell lets what it starts in the background ignore the signal.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        import estimator_spec_ext as ese
        from estimator_spec_ext.preflight.api import PreflightInterrupted
        from estimator_spec_ext.rules import jobs, preflight_outside
        job = jobs.job(train=preflight_outside._waits, evaluate=None,
                       config={'save_checkpoints_steps': 10})

        def children():
            folder = f'/proc/{os.getpid()}/task'
            texts = [open(f'{folder}/{task}/children').read() for task in os.listdir(folder)]
            return ''.join(texts).split()

        at_work = []
        def interrupt(text):
            if text == 'rehearsing TRAIN':
                at_work.extend(children())
                threading.Timer(2, os.kill, [os.getpid(), signal.SIGINT]).start()
        try:
            ese.preflight(job.estimator, job.train_spec, progress=interrupt,
                          serving_input_receiver_fn=jobs.receiver_fn)
        except PreflightInterrupted as stopped:
            print(len(at_work), len(children()), stopped.report.notes)
            sys.exit(5)
    ''')
    environment = {**os.environ, 'TMPDIR': str(tmp_path), 'PYTHONPATH': ROOT}
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True,
                          env=environment, timeout=120, check=False)
    assert done.returncode == 5, done.stderr
    assert done.stdout.strip() == (
        "1 0 ('interrupted while rehearsing TRAIN; what follows was not reached',)")
    assert not [name for name in os.listdir(tmp_path) if name.startswith('ese_preflight_')]


def test_mirrored_strategy_of_one_device():
    strategy = tf.distribute.MirroredStrategy(['/cpu:0'])
    job = jobs.job(config={'train_distribute': strategy, 'eval_distribute': strategy})
    report = run(job, time_limit=60.)
    assert not loud(report), report.to_text()


# How many batches an input function gives.


def _from_arrays(epochs):
    return v1.estimator.inputs.numpy_input_fn(
        {'x': np.zeros([10, 2])}, batch_size=3, num_epochs=epochs, shuffle=False)()


def _from_names(epochs):
    names = v1.train.string_input_producer(['a', 'b'], num_epochs=epochs)
    return v1.train.batch([v1.TextLineReader().read(names)[1]], 3)


@pytest.mark.parametrize('make, expected', [
    (lambda d: d, 10),
    (lambda d: d.batch(3), 4),
    (lambda d: d.batch(3, drop_remainder=True), 3),
    (lambda d: d.repeat(2).batch(3), 7),
    (lambda d: d.repeat(), 'infinite'),
    (lambda d: d.repeat().take(5), 5),
    (lambda d: d.shuffle(3).repeat().prefetch(1).map(lambda x: x + 1), 'infinite'),
    (lambda d: d.filter(lambda x: x > 3), 'finite'),
    (lambda d: d.repeat().filter(lambda x: x > 3), 'infinite'),
    (lambda d: d.shard(3, 1), 3),
    (lambda d: d.shard(3, 0).batch(2), 2),
    (lambda d: d.shard(3, 0).repeat(), 'infinite'),
    (lambda d: d.filter(lambda x: x > 3).batch(2).repeat(3), 'finite'),
    (lambda d: d.skip(4), 6),
    (lambda d: d.concatenate(d), 20),
    (lambda d: tf.data.Dataset.zip((d, d.repeat())), 10),
    (lambda d: d.padded_batch(4), 3),
    (lambda d: d.flat_map(tf.data.Dataset.from_tensors), 'finite'),
    (lambda d: d.interleave(lambda x: d.repeat()), 'infinite'),
    (lambda d: d.repeat().interleave(tf.data.Dataset.from_tensors), 'infinite'),
    (lambda d: d.interleave(lambda x: tf.data.TextLineDataset('a').map(lambda y: y)), 'finite'),
    (lambda d: d.batch(2).unbatch(), 'finite'),
    (lambda d: tf.data.TFRecordDataset(['a', 'b']).shuffle(3).batch(2), 'finite'),
    (lambda d: tf.data.TFRecordDataset(['a']).repeat(), 'infinite'),
    (lambda d: tf.data.Dataset.list_files('*').interleave(tf.data.TextLineDataset), 'finite'),
    (lambda d: tf.data.Dataset.from_generator(lambda: iter([1]), tf.int32).take(3), 'finite'),
    (lambda d: tf.data.experimental.sample_from_datasets([d, d]), 'finite'),
    (lambda d: tf.data.Dataset.from_generator(lambda: iter([1]), tf.int32), 'unknown'),
    (lambda d: tf.data.Dataset.from_generator(lambda: iter([1]), tf.int32).repeat(), 'infinite'),
    (lambda d: tf.data.Dataset.from_tensor_slices([1, 2]), 2),
    (lambda d: tf.zeros([3]), 'infinite'),
    (lambda d: v1.data.make_one_shot_iterator(d.batch(3)).get_next(), 4),
    (lambda d: v1.data.make_initializable_iterator(d.repeat()).get_next() + 1, 'infinite'),
    (lambda d: v1.data.Iterator.from_structure(tf.int64, []).get_next(), 'unknown'),
    (lambda d: v1.train.string_input_producer(['a']).dequeue(), 'infinite'),
    (lambda d: v1.data.make_one_shot_iterator(d.repeat()).get_next(), 'infinite'),
    (lambda d: {'x': v1.data.make_initializable_iterator(d.repeat(2)).get_next() * 2}, 20),
    (lambda d: (v1.data.make_one_shot_iterator(d.repeat()).get_next(),
                v1.data.make_one_shot_iterator(d).get_next()), 10),
    (lambda d: d.repeat().filter(lambda x: x > 3).batch(2), 'infinite'),
    (lambda d: d.repeat().interleave(tf.data.Dataset.from_tensors, num_parallel_calls=2),
     'infinite'),
    (lambda d: d.flat_map(lambda x: tf.data.Dataset.from_tensors(x).repeat()), 'infinite'),
    (lambda d: d.repeat().take_while(lambda x: x < 3), 'unknown'),
    (lambda d: tf.data.Dataset.sample_from_datasets([d.repeat(), d]), 'infinite'),
    (lambda d: tf.data.Dataset.sample_from_datasets(
        [d.repeat(), d], stop_on_empty_dataset=True), 'finite'),
    (lambda d: tf.data.Dataset.choose_from_datasets([d.repeat(), d.repeat()], d.repeat()),
     'infinite'),
    (lambda d: _from_arrays(None), 'infinite'),
    (lambda d: _from_arrays(2), 7),
    (lambda d: _from_names(None), 'infinite'),
    (lambda d: _from_names(1), 'unknown'),
])
def test_cardinality(make, expected):
    with tf.Graph().as_default():
        assert cardinality.of_input(make(tf.data.Dataset.range(10))) == expected


@pytest.mark.parametrize('make, expected', [
    (lambda d: d.shard(3, 1), True),
    (lambda d: d.shuffle(2).shard(3, 2).batch(2), False),
    (lambda d: d.shard(3, 1).batch(3), True),
    (lambda d: d.shard(5, 1), False),
    (lambda d: d.shard(3, 1).repeat(), False),
    (lambda d: d.filter(lambda x: x > 3).shard(3, 1), False),
    (lambda d: v1.data.make_one_shot_iterator(d.shard(3, 1)).get_next(), True),
    (lambda d: d, False),
])
def test_shards_of_other_sizes(make, expected):
    with tf.Graph().as_default():
        assert cardinality.shards_differ(make(tf.data.Dataset.range(10))) is expected


@pytest.mark.parametrize('make, expected', [
    (lambda d: d.batch(5), None),
    (lambda d: d.batch(4), (2, 3)),
    (lambda d: d.batch(4).repeat(), (2, 3)),
    (lambda d: d.batch(4).repeat().take(100), (2, 3)),
    (lambda d: d.batch(4).repeat().take(2), None),
    (lambda d: d.batch(4).shuffle(9).take(2), (2, 1)),
    (lambda d: d.batch(4, drop_remainder=True), None),
    (lambda d: d.batch(5).map(lambda x: x + 1).prefetch(1).repeat(2), None),
    (lambda d: d.repeat(2).shuffle(3).batch(4), None),
    (lambda d: d.repeat().batch(4), None),
    (lambda d: d.batch(40).repeat(), None),
    (lambda d: d.filter(lambda x: x > 3).batch(1), (None, 1)),
    (lambda d: d.batch(5).filter(lambda x: x[0] > 3), (None, 1)),
    (lambda d: d.repeat().batch(5).filter(lambda x: x[0] > 3), None),
    (lambda d: d, (None, 1)),
    (lambda d: tf.zeros([3]), None),
])
def test_a_smaller_batch(make, expected):
    with tf.Graph().as_default():
        found = cardinality.smaller_batch(make(tf.data.Dataset.range(10)))
        assert (found and dataclasses.astuple(found)) == expected


def test_what_is_learned_of_smaller_batches_is_forgotten():
    """EVAL restores what two steps and one more have given."""
    seen = []

    class Steps(tf.estimator.SessionRunHook):
        def after_create_session(self, session, coord):
            seen.append(session.run(v1.train.get_global_step()))

    def input_fn():
        return tf.data.Dataset.from_tensor_slices(
            ({'x': tf.ones([14, jobs.FEATURES])}, tf.ones([14, 1]))).batch(4).repeat()

    said = []
    report = run(jobs.job(train=input_fn, receiver=None, eval_options={'hooks': [Steps()]}),
                 progress=said.append)
    assert not report.findings, report.to_text()
    assert 'rehearsing TRAIN on smaller batches' in said
    assert set(seen) == {3}


def test_the_line_that_tells_what_went_wrong():
    """TensorFlow 2.12 begins with the frames of a stack."""
    message = ('Graph execution error:\n\n'
               "Detected at node 'a/Assert' defined at (most recent call last):\n"
               '    File "threading.py", line 937, in _bootstrap\n      self._bootstrap_inner()\n'
               "Node: 'a/Assert'\n"
               'assertion failed: [Condition x < y did not hold element-wise:] [x = ] [6]\n'
               '\t [[{{node a/Assert}}]]\n')
    assert sessions.session_line('InvalidArgumentError', message) == (
        'InvalidArgumentError: assertion failed: Condition x < y did not hold element-wise')


@pytest.mark.parametrize('first, expected', [
    (1, [('ERROR', 'hook-changes-finalized-graph')]), (1000, [('WARNING', 'hook-makes-ops-late')])])
def test_an_op_made_too_late_is_told_once(first, expected):
    report = run(jobs.job(train_hooks=[ActsAtOnce(first)], evaluate=None))
    assert [(finding.severity.name, finding.slug) for finding in loud(report)] == expected

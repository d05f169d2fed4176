"""Depth 'serve' of preflight: exports, read back and asked in a fresh process."""

from __future__ import annotations

import glob
import os
import tempfile

import numpy as np
import pytest
import tensorflow as tf

import estimator_spec_ext as ese
from estimator_spec_ext.diagnostics import Severity
from estimator_spec_ext.preflight import reader, receivers
from estimator_spec_ext.rules import jobs

v1 = tf.compat.v1


@pytest.fixture(scope='module', autouse=True)
def _one_process_for_all_exports():
    with reader.one_for_all():
        yield


def run(job, **options):
    options.setdefault('serving_input_receiver_fn', job.serving_input_receiver_fn)
    return ese.preflight(job.estimator, job.train_spec, job.eval_spec, **options)


def loud(report):
    return [finding for finding in report.findings if finding.severity is not Severity.INFO]


def test_all_is_asked_and_nothing_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path))
    exporters = [tf.estimator.FinalExporter('final', jobs.receiver_fn),
                 tf.estimator.BestExporter('best', jobs.receiver_fn)]
    job = jobs.job(receiver=None, config={'save_checkpoints_steps': 50},
                   eval_options={'exporters': exporters, 'throttle_secs': 0})
    said = []
    report = run(job, progress=said.append)
    assert not report.findings and not report.notes, report.to_text()
    assert report.depth == 'serve'
    assert said[-5:] == ['rehearsing PREDICT', "exporting with 'final'",
                         'asking the export in a fresh process', "exporting with 'best'",
                         'asking the export in a fresh process']
    assert not glob.glob(os.path.join(tmp_path, 'ese_preflight_*'))
    assert not os.path.exists(job.estimator.model_dir)
    assert exporters[1]._has_exported is False


def test_an_exporter_of_unknown_kind_is_not_run():
    class Uploads(tf.estimator.Exporter):
        name = 'uploads'
        _serving_input_receiver_fn = staticmethod(jobs.receiver_fn)

        def export(self, *unused):
            raise AssertionError('it acts outside')

    job = jobs.job(receiver=None, eval_options={'exporters': [Uploads()]})
    report = run(job)
    assert not loud(report), report.to_text()
    assert ("exporter 'uploads' not run: what it does is not known; run_exporters names those that "
            'may run') in report.notes


@pytest.mark.parametrize('named', [lambda exporter: 'own', lambda exporter: exporter, type])
def test_an_exporter_of_unknown_kind_is_run_when_it_is_named(named):
    class Own(tf.estimator.Exporter):
        name = 'own'
        seen = []

        def export(self, estimator, export_path, checkpoint_path, eval_result, is_final):
            self.seen.append((os.path.basename(export_path), sorted(eval_result), is_final))
            estimator.export_saved_model(export_path, jobs.receiver_fn,
                                         checkpoint_path=checkpoint_path)

    exporter = Own()
    job = jobs.job(eval_options={'exporters': [exporter]})
    said = []
    report = run(job, run_exporters=[named(exporter)], progress=said.append)
    assert not report.findings and not report.notes, report.to_text()
    assert said[-2:] == ["exporting with 'own'", 'asking the export in a fresh process']
    assert Own.seen == [('own', ['global_step', 'loss', 'mean'], True)]
    assert not os.path.exists(job.estimator.model_dir)


def test_an_exporter_without_a_receiver_of_its_own_is_left_out_too():
    class Own(tf.estimator.Exporter):
        name = 'own'

        def export(self, *unused):
            raise AssertionError('nobody named it')

    report = run(jobs.job(eval_options={'exporters': [Own()]}))
    assert not report.findings, report.to_text()
    assert report.notes == ("exporter 'own' not run: what it does is not known; run_exporters "
                            'names those that may run',)


def test_an_exporter_that_is_named_and_fails():
    class Own(tf.estimator.Exporter):
        name = 'own'

        def export(self, *unused):
            raise KeyError('no such metric')

    report = run(jobs.job(eval_options={'exporters': [Own()]}), run_exporters=['own'])
    assert [finding.slug for finding in report.findings] == ['export-fails']


def test_what_an_exporter_does_beside_exporting_is_left_out():
    class Prints(tf.estimator.FinalExporter):
        def export(self, *arguments):
            raise AssertionError('of the real job alone')

    job = jobs.job(receiver=None, eval_options={
        'exporters': [Prints('final', jobs.receiver_fn)]})
    assert not loud(run(job))


def test_a_trained_model_is_exported_from_its_own_checkpoint():
    job = jobs.job()
    job.estimator.train(job.train_spec.input_fn, steps=1)
    later = jobs.job(train=None, folder=job.folder)
    report = run(later)
    assert not loud(report) and not report.notes, report.to_text()


def test_a_receiver_that_takes_something_else_is_not_asked():
    def receiver_fn():
        text = v1.placeholder(tf.string, [None])
        rows = tf.io.decode_raw(text, tf.float32)
        rows.set_shape([None, 3])
        return tf.estimator.export.ServingInputReceiver({'x': rows}, {'bytes': text})

    report = run(jobs.job(receiver=receiver_fn))
    assert not loud(report), report.to_text()
    assert report.notes == (
        "signatures not asked: no request can be made from the job's own input",)


@pytest.mark.parametrize('parts', [4, 1])
def test_clients_send_other_sizes_than_the_input_has(parts):
    """Batches of the job's input are always of four; a receiver takes any."""
    def model_fn(features, labels, mode):
        rows = tf.concat([part * 2. for part in tf.split(features['x'], parts)], 0)
        return jobs.spec(mode, jobs.linear({'x': rows}), labels)

    def input_fn():
        return jobs.endless_input_fn().unbatch().batch(4, drop_remainder=True)

    report = run(jobs.job(model_fn, train=input_fn, evaluate=input_fn,
                          eval_options={'steps': 2}))
    assert [finding.slug for finding in loud(report)] == ['signature-fails'] * (parts == 4)
    assert not report.notes


def test_random_answers_are_not_compared():
    def model_fn(features, labels, mode):
        prediction = jobs.linear(features)
        if mode == 'infer':
            prediction += tf.random.normal(tf.shape(prediction))
        return jobs.spec(mode, prediction, labels)

    slugs = {finding.slug for finding in run(jobs.job(model_fn)).findings}
    assert 'served-answers-differ' not in slugs


# How requests are made.


def _known(receiver):
    return receivers.of_tap(receiver, receiver.features)


def test_raw_features_under_other_names():
    with tf.Graph().as_default():
        x = v1.placeholder(tf.float32, [None, 2])
        known = _known(tf.estimator.export.ServingInputReceiver({'x': x}, {'y': x}))
    request = known.request({'x': np.ones([3, 2]), 'z': np.ones([3])})
    assert list(request) == ['y'] and request['y'].shape == (3, 2)
    assert known.request({'z': np.ones([3])}) is None


def test_a_bare_tensor():
    with tf.Graph().as_default():
        x = v1.placeholder(tf.float32, [None])
        known = _known(tf.estimator.export.TensorServingInputReceiver(x, x))
    assert known.request(np.ones([3]))['input'].shape == (3,)


def test_serialized_examples_hold_the_features():
    with tf.Graph().as_default():
        receiver = tf.estimator.export.build_parsing_serving_input_receiver_fn({
            'x': tf.io.FixedLenFeature([2], tf.float32), 'n': tf.io.FixedLenFeature([], tf.int64),
            's': tf.io.FixedLenFeature([], tf.string)})()
        known = _known(receiver)
    assert known.examples == {'x': 'x', 'n': 'n', 's': 's'}
    texts = known.request({'x': np.array([[1., 2.]]), 'n': np.array([3]),
                           's': np.array([b'word'])})['examples']
    feature = tf.train.Example.FromString(texts[0]).features.feature
    assert list(feature['x'].float_list.value) == [1., 2.]
    assert list(feature['n'].int64_list.value) == [3]
    assert list(feature['s'].bytes_list.value) == [b'word']


@pytest.mark.parametrize('shape', [[2, 3], []])
def test_a_fixed_batch_is_not_asked(shape):
    with tf.Graph().as_default():
        x = v1.placeholder(tf.float32, shape)
        known = _known(tf.estimator.export.ServingInputReceiver({'x': x}, {'x': x}))
    assert not known.known

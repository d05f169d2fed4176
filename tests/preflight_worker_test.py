"""Preflight of a job as its second worker sees it."""

from __future__ import annotations

import json

import pytest
import tensorflow as tf

import estimator_spec_ext as ese

v1 = tf.compat.v1


@pytest.mark.filterwarnings('ignore:To make it possible to preserve tf.data options')
def test_there_is_no_first_replica_on_the_second_worker(tmp_path, monkeypatch):
    """The ids of replicas go through all workers; the spec is seen all the same."""
    monkeypatch.setenv('TF_CONFIG', json.dumps({
        'cluster': {'chief': ['127.0.0.1:1'], 'worker': ['127.0.0.1:2']},
        'task': {'type': 'worker', 'index': 0}}))

    def model_fn(features, labels, mode):
        weight = v1.get_variable('w', [], initializer=tf.zeros_initializer(), use_resource=True)
        loss = tf.reduce_mean(tf.square(features * weight - 1.))
        step = v1.train.get_global_step()
        return ese.StrictEstimatorSpec(
            mode, loss=loss, train_op=v1.train.GradientDescentOptimizer(.1).minimize(loss, step))

    # Within a graph the strategy starts no server.
    with tf.Graph().as_default():
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        report = _preflight(model_fn, tmp_path, strategy)
    assert [f for f in report.findings if f.where.mode == 'train'] == []
    assert 'global-step-not-advanced' in report.rules_run


def _preflight(model_fn, model_dir, strategy):
    estimator = tf.estimator.Estimator(model_fn, config=tf.estimator.RunConfig(
        str(model_dir), train_distribute=strategy))
    train_spec = tf.estimator.TrainSpec(
        lambda: tf.data.Dataset.from_tensors(tf.ones([4])).repeat(), max_steps=5)
    return ese.preflight(estimator, train_spec, depth='graph')

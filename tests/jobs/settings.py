"""Configuration, clusters, replicas."""

from __future__ import annotations

import json
import os
from typing import Any

import tensorflow as tf

from tests.jobs import base
from tests.jobs.base import TRAIN, pair, v1

_CLUSTER = {'chief': ['a.invalid:1'], 'worker': ['b.invalid:1'], 'ps': ['c.invalid:1']}
_WORKER = {'TF_CONFIG': json.dumps(
    {'cluster': _CLUSTER, 'task': {'type': 'worker', 'index': 0}})}


@pair('D1')
def evaluations_throttled(right: bool, folder: str) -> Any:
    return base.whole(base.model_fn, folder, max_steps=100,
                      eval_options={'throttle_secs': 0 if right else 600})


@pair('D2')
def steps_counted_from_the_start(right: bool, folder: str) -> Any:
    base.checkpoint_of(base.model_fn, folder, steps=5)
    return base.whole(base.model_fn, folder, max_steps=20 if right else 5)


@pair('D3')
def task_of_an_unknown_type(right: bool, folder: str) -> Any:
    wrong = {'cluster': _CLUSTER, 'task': {'type': 'wroker', 'index': 0}}
    os.environ['TF_CONFIG'] = json.dumps({} if right else wrong)
    try:
        return base.whole(base.model_fn, folder)
    finally:
        del os.environ['TF_CONFIG']


@pair('D7', cluster=True, environ=_WORKER)
def stopping_in_a_cluster(right: bool, folder: str) -> Any:
    job = base.whole(base.model_fn, folder)
    hooks = []
    if not right:
        hooks = [tf.estimator.experimental.stop_if_no_decrease_hook(job.estimator, 'loss', 100)]
    job.train_spec = tf.estimator.TrainSpec(
        base.houses(endless=True), max_steps=20, hooks=hooks)
    return job


@pair('D8', cluster=True, environ=_WORKER)
def data_ends_on_one_role(right: bool, folder: str) -> Any:
    return base.whole(base.model_fn, folder, train=base.houses(endless=right),
                      max_steps=20 if right else None, exporters=[])


@pair('D9')
def init_fn_of_one_replica(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        fields = {}
        if mode == TRAIN:
            kernel = v1.trainable_variables()[0]
            if not right:
                fields['scaffold'] = v1.train.Scaffold(
                    init_fn=lambda scaffold, session: kernel.load(
                        [[1.] * 8] * base.WIDTH, session))
        return base.spec(mode, price, labels, **fields)

    return base.whole(model_fn, folder, config=base.two_replicas(of=['train_distribute']))


@pair('D10')
def losses_of_all_replicas(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        loss = None
        if labels is not None:
            own = v1.losses.mean_squared_error(labels, price)
            loss = own if right else v1.losses.get_total_loss()
        return base.spec(mode, price, labels, loss=loss)

    return base.whole(model_fn, folder, config=base.two_replicas(of=['train_distribute']))


@pair('D11', depth='run')
def loss_divided_twice(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        loss = None
        if labels is not None:
            loss = tf.reduce_mean(tf.square(price - labels))
            if mode == TRAIN and not right:
                loss /= tf.distribute.get_strategy().num_replicas_in_sync
        return base.spec(mode, price, labels, loss=loss)

    return base.whole(model_fn, folder, config=base.two_replicas(of=['train_distribute']))


@pair('D13')
def loop_of_train_and_evaluate(right: bool, folder: str) -> Any:
    job = base.whole(base.model_fn, folder)
    job.calls = ({'train_and_evaluate': 1} if right
                 else {'train': 10, 'evaluate': 10, 'train_and_evaluate': 0})
    return job


@pair('T10', cluster=True, environ=_WORKER)
def synchronised_by_the_chief_alone(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode, config):
        price = base.outputs(features)
        loss = train_op = None
        fields = {}
        if mode == TRAIN:
            loss = tf.reduce_mean(tf.square(price - labels))
            optimizer = v1.train.SyncReplicasOptimizer(
                v1.train.AdagradOptimizer(.1), replicas_to_aggregate=2, total_num_replicas=2)
            train_op = optimizer.minimize(loss, global_step=v1.train.get_global_step())
            hook = optimizer.make_session_run_hook(config.is_chief)
            fields['training_hooks' if right else 'training_chief_hooks'] = [hook]
        return base.spec(mode, price, labels, loss=loss, train_op=train_op, **fields)

    return base.whole(model_fn, folder)


@pair('H10', cluster=True, environ=_WORKER)
def files_of_every_worker(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode, config):
        price = base.outputs(features)
        fields = {}
        if mode == TRAIN:
            shown = v1.summary.histogram('price', price)
            hook = tf.estimator.SummarySaverHook(
                10, output_dir=config.model_dir, summary_op=shown)
            fields['training_chief_hooks' if right else 'training_hooks'] = [hook]
        return base.spec(mode, price, labels, **fields)

    return base.whole(model_fn, folder)

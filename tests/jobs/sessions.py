"""Hooks, scaffolds, checkpoints, warm starts, input."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import tensorflow as tf

from tests.jobs import base
from tests.jobs.base import EVAL, PREDICT, TRAIN, pair, v1


@pair('H1')
def name_of_another_mode(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        fields = {}
        if mode == EVAL:
            name = price.name if right else 'probabilities'
            fields['evaluation_hooks'] = [tf.estimator.LoggingTensorHook([name], at_end=True)]
        return base.spec(mode, price, labels, **fields)

    return base.whole(model_fn, folder)


@pair('H2')
def hook_of_the_first_graph(right: bool, folder: str) -> Any:
    kept: list[Any] = []

    def model_fn(features, labels, mode):
        price = base.outputs(features)
        hook = tf.estimator.LoggingTensorHook({'price': tf.reduce_mean(price)}, every_n_iter=5)
        if not right:
            kept.append(hook)
            hook = kept[0]
        fields = {'training_hooks': [hook]} if mode == TRAIN else {'evaluation_hooks': [hook]}
        return base.spec(mode, price, labels, **(fields if mode != PREDICT else {}))

    return base.whole(model_fn, folder)


class _Last(tf.estimator.SessionRunHook):
    """Prints a number when training is over."""

    def __init__(self, early: bool) -> None:
        self._early = early

    def begin(self) -> None:
        if self._early:
            self._count = tf.size(v1.trainable_variables()[0].read_value())

    def end(self, session: Any) -> None:
        if not self._early:
            self._count = tf.size(v1.trainable_variables()[0])
        session.run(self._count)


@pair('H3', depth='run')
def op_made_at_the_end(right: bool, folder: str) -> Any:
    return base.whole(base.model_fn, folder, train_hooks=[_Last(right)])


@pair('H4')
def no_summary_to_merge(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        fields = {}
        if mode == EVAL:
            if right:
                v1.summary.histogram('price', price)
            fields['evaluation_hooks'] = [tf.estimator.SummarySaverHook(
                1, output_dir=os.path.join(folder, 'eval'), summary_op=v1.summary.merge_all())]
        return base.spec(mode, price, labels, **fields)

    return base.whole(model_fn, folder)


@pair('H5')
def summary_of_evaluation(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        fields = {}
        if mode == EVAL:
            v1.summary.histogram('price', price)
            if right:
                fields['evaluation_hooks'] = [tf.estimator.SummarySaverHook(
                    1, output_dir=os.path.join(folder, 'eval'), summary_op=v1.summary.merge_all())]
        return base.spec(mode, price, labels, **fields)

    return base.whole(model_fn, folder)


@pair('H6')
def summary_of_the_new_kind(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        if mode == TRAIN:
            if right:
                v1.summary.scalar('price', tf.reduce_mean(price))
            else:
                tf.summary.scalar('price', tf.reduce_mean(price),
                                  step=v1.train.get_global_step())
        return base.spec(mode, price, labels)

    return base.whole(model_fn, folder)


@pair('H7')
def stopping_that_never_looks(right: bool, folder: str) -> Any:
    job = base.whole(base.model_fn, folder, eval_options={'name': 'held_out'})
    eval_dir = job.estimator.eval_dir('held_out' if right else None)
    hook = tf.estimator.experimental.stop_if_no_decrease_hook(
        job.estimator, 'loss', 100, eval_dir=eval_dir)
    job.train_spec = tf.estimator.TrainSpec(
        base.houses(endless=True), max_steps=20, hooks=[hook])
    return job


class _Counter(tf.estimator.SessionRunHook):
    """Counts steps."""

    def __init__(self) -> None:
        self.steps = 0

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self.steps += 1


@pair('H8')
def hook_listed_twice(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        fields = {}
        if mode == TRAIN:
            counter = _Counter()
            fields['training_hooks'] = [counter, _Counter() if right else counter]
        return base.spec(mode, base.outputs(features), labels, **fields)

    return base.whole(model_fn, folder)


@pair('V1')
def variable_that_training_lacks(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        scope = 'model' if right else f'model_{mode}'
        with v1.variable_scope(scope):
            price = base.outputs(features)
        return base.spec(mode, price, labels)

    return base.whole(model_fn, folder)


@pair('V2')
def checkpoint_of_an_older_model(right: bool, folder: str) -> Any:
    def older(features, labels, mode):
        price = v1.layers.dense(base.hidden(features, 8 if right else 5), 1, name='outputs')
        return base.spec(mode, price, labels)

    base.checkpoint_of(older, folder)
    return base.whole(base.model_fn, folder)


@pair('V3')
def saver_of_some(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        fields = {}
        loss = train_op = None
        if mode == TRAIN:
            loss = tf.reduce_mean(tf.square(price - labels))
            train_op = base.minimize(loss)
            saved = [variable for variable in v1.global_variables()
                     if right or 'hidden' not in variable.name]
            fields['scaffold'] = v1.train.Scaffold(saver=v1.train.Saver(saved))
        return base.spec(mode, price, labels, loss=loss, train_op=train_op, **fields)

    job = base.whole(model_fn, folder, exporters=[], receiver_fn=None)
    job.eval_spec, job.predicts = None, False
    return job


@pair('V4')
def pretrained_in_every_mode(right: bool, folder: str) -> Any:
    source = base.checkpoint_of(base.model_fn, folder, name='pretrained')

    def model_fn(features, labels, mode):
        price = base.outputs(features)
        if mode == TRAIN or not right:
            v1.train.init_from_checkpoint(source, {'hidden/': 'hidden/'})
        return base.spec(mode, price, labels)

    return base.whole(model_fn, folder)


@pair('V5')
def averages_not_used(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        average = tf.train.ExponentialMovingAverage(.9)
        loss = train_op = None
        fields = {}
        if mode == TRAIN:
            loss = tf.reduce_mean(tf.square(price - labels))
            with tf.control_dependencies([base.minimize(loss)]):
                train_op = average.apply(v1.trainable_variables())
        elif right:
            fields['scaffold'] = v1.train.Scaffold(
                saver=v1.train.Saver(average.variables_to_restore()))
        return base.spec(mode, price, labels, loss=loss, train_op=train_op, **fields)

    return base.whole(model_fn, folder)


@pair('V6')
def warm_start_of_nothing(right: bool, folder: str) -> Any:
    def encoder(features, labels, mode):
        with v1.variable_scope('encoder'):
            return base.model_fn(features, labels, mode)

    source = base.checkpoint_of(encoder, folder, name='pretrained')
    settings = tf.estimator.WarmStartSettings(
        source, vars_to_warm_start='encoder/.*' if right else 'bert/.*')
    return base.whole(encoder, folder, warm_start_from=settings)


@pair('V7')
def table_in_the_graph(right: bool, folder: str) -> Any:
    rows = np.zeros([20000 if not right else 20, 1000], np.float32)

    def model_fn(features, labels, mode):
        embedding = v1.get_variable('embedding', initializer=rows, trainable=False,
                                    use_resource=True)
        price = base.outputs(features) + tf.reduce_sum(
            tf.gather(embedding, tf.zeros([1], tf.int64)), 1, keepdims=True)
        return base.spec(mode, price, labels)

    return base.whole(model_fn, folder)


@pair('V8')
def saver_of_another_folder(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode, config):
        fields = {}
        if mode == TRAIN:
            target = config.model_dir if right else os.path.join(folder, 'backup')
            fields['training_chief_hooks'] = [
                tf.estimator.CheckpointSaverHook(target, save_steps=10)]
        return base.spec(mode, base.outputs(features), labels, **fields)

    return base.whole(model_fn, folder)


@pair('V9')
def default_init_replaced(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        seen = v1.get_local_variable('seen', initializer=0., use_resource=True)
        fields = {}
        if mode == TRAIN:
            mine = tf.no_op('mine')
            default = v1.train.Scaffold.default_local_init_op()
            fields['scaffold'] = v1.train.Scaffold(
                local_init_op=tf.group(default, mine) if right else mine)
        return base.spec(mode, price + 0. * seen, labels, **fields)

    return base.whole(model_fn, folder)


@pair('V10')
def nothing_was_trained(right: bool, folder: str) -> Any:
    if right:
        base.checkpoint_of(base.model_fn, folder)
    job = base.whole(base.model_fn, folder, exporters=[], receiver_fn=None)
    job.train_spec = None
    return job


@pair('I1')
def dataset_of_another_graph(right: bool, folder: str) -> Any:
    with tf.Graph().as_default():
        made = base.houses(endless=True)()
    return base.whole(base.model_fn, folder,
                      train=base.houses(endless=True) if right else lambda: made)


@pair('I2')
def iterator_nobody_starts(right: bool, folder: str) -> Any:
    def input_fn():
        iterator = v1.data.make_initializable_iterator(base.houses(endless=True)())
        if right:
            v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
        return iterator.get_next()

    return base.whole(base.model_fn, folder, train=input_fn)

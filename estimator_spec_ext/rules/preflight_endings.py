"""In a cluster: an evaluator that never ends, and a chief that leaves first."""

from __future__ import annotations

import os
from typing import Any, Iterator

from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs, preflight_stopping

CLUSTER = ('{"cluster": {"chief": ["a.invalid:1"], "worker": ["b.invalid:1"], '
           '"ps": ["c.invalid:1"]}, "task": {"type": "chief", "index": 0}}')

COLLECTIVE = ('{"cluster": {"chief": ["a.invalid:1"], "worker": ["b.invalid:1"]}, '
              '"task": {"type": "chief", "index": 0}}')
WITH_EVALUATOR = COLLECTIVE.replace('}, "task"', ', "evaluator": ["c.invalid:1"]}, "task"')


def _in_cluster(job_of: Any, config: str = CLUSTER) -> Any:
    before = os.environ.get('TF_CONFIG')
    os.environ['TF_CONFIG'] = config
    try:
        job = job_of()
    finally:
        os.environ.pop('TF_CONFIG')
        if before is not None:
            os.environ['TF_CONFIG'] = before
    job.environ = {'TF_CONFIG': config}
    return job


def good_local() -> Any:
    """One process trains and evaluates, and both end."""
    return preflight_stopping.stopping_job()


def good_no_evaluator() -> Any:
    """With a strategy an evaluator stands in the cluster, or there is none."""
    return _in_cluster(lambda: jobs.job(
        train_hooks=[v1.train.StopAtStepHook(last_step=5)], config={
            'train_distribute': v1.distribute.experimental.ParameterServerStrategy()}))


def good_same_step() -> Any:
    """A hook that stops at max_steps."""
    return _in_cluster(lambda: jobs.job(
        max_steps=10, train_hooks=[v1.train.StopAtStepHook(last_step=10)]))


def bad_stop_at_step() -> Any:
    """A hook that stops before max_steps."""
    return _in_cluster(lambda: jobs.job(
        max_steps=100, train_hooks=[v1.train.StopAtStepHook(last_step=10)]))


def bad_data_ends() -> Any:
    """The same few batches for all tasks of a collective strategy."""
    return _in_cluster(lambda: jobs.job(
        train=lambda: jobs.input_fn().repeat(3), config=_collective()), WITH_EVALUATOR)


def bad_as_evaluator() -> Any:
    """The evaluator sees no cluster in its RunConfig."""
    return _in_cluster(preflight_stopping.stopping_job,
                       CLUSTER.replace('{"type": "chief"', '{"type": "evaluator"'))


def bad_in_training_hooks() -> Any:
    """The hook is in training_hooks of the spec."""
    def model_fn(features: Any, labels: Any, mode: str, config: Any) -> Any:
        estimator = tf_estimator.Estimator(jobs.model_fn, config=config)
        hook = tf_estimator.experimental.stop_if_lower_hook(estimator, 'loss', .1)
        return jobs.spec(mode, jobs.linear(features), labels,
                         training_hooks=[hook] if mode == 'train' else [])
    return _in_cluster(lambda: jobs.job(model_fn))


class EvaluatorNeverEnds(Rule):
    """Training in a cluster ends before max_steps: the evaluator waits for that step for ever.

    What it finds: in a job whose TF_CONFIG has a cluster with an evaluator, an early-stopping hook,
    a StopAtStepHook for an earlier step than max_steps, or data of TRAIN that end before it.

    Why it matters: that ends the training tasks. The evaluator, a task of its own, ends when it
    has evaluated a checkpoint at max_steps, which never comes. TensorFlow's documentation of the
    hooks says so.

    Bad:
        TrainSpec(input_fn, max_steps=100000, hooks=[stop_if_no_decrease_hook(...)])

    Good:
        TrainSpec(input_fn, max_steps=20000)

    When to suppress: when the evaluator is stopped from outside.
    """

    code = 'ESX816'
    slug = 'evaluator-never-ends'
    severity = Severity.WARNING
    stage = 'config'
    mistakes = ('D7',)
    more_bad = (bad_stop_at_step, bad_data_ends, bad_as_evaluator, bad_in_training_hooks)
    more_good = (good_local, good_no_evaluator, good_same_step)

    def check(self, facts: Any) -> Iterator[Finding]:
        if not facts.has_evaluator or facts.job.train_spec is None:
            return
        last = facts.job.train_spec.max_steps
        for stop in facts.stops:
            step = stop.step(facts.start_step)
            if step is None:
                yield self.finding(
                    facts, 'early stopping in a cluster: the evaluator waits for max_steps for '
                           'ever', hint='stop the evaluator from outside, or train for a number '
                                        'of steps', field=stop.field,
                    expected='an end that all tasks see')
            elif last is None or step < last:
                yield self.finding(
                    facts, f'training ends at step {step}; the evaluator waits for max_steps, '
                           f'which is {last}', hint=f'write max_steps={step}', field=stop.field,
                    expected=str(step), actual=str(last))
        if _data_end_first(facts) and not _may_leave(facts):
            yield self.finding(
                facts, 'training ends with its data; the evaluator waits for max_steps, which is '
                       f'{last}', hint='repeat the dataset, and set max_steps',
                field='max_steps', expected='data that last', actual=str(last))

    @staticmethod
    def bad() -> Any:
        """A chief that stops early."""
        return _in_cluster(preflight_stopping.stopping_job)

    @staticmethod
    def good() -> Any:
        """A chief that trains to max_steps."""
        return _in_cluster(jobs.job)


def _may_leave(facts: Any) -> bool:
    """Whether one task may come to the end of its data before the others do."""
    return facts.trainers > 1 and _data_end_first(facts) and (
        not facts.collective or facts.train.cardinality == 'finite' or facts.train.shards_differ)


def _data_end_first(facts: Any) -> bool:
    """Whether the data of TRAIN end for certain before max_steps, or where there is none."""
    spec, train = facts.job.train_spec, facts.train
    if spec is None or train is None or train.cardinality in (None, 'unknown', 'infinite'):
        return False
    if spec.max_steps is None or train.cardinality == 'finite':
        return spec.max_steps is None
    # In collectives all tasks take one step together. One batch for shards of another size.
    steps = (train.cardinality if facts.collective
             else (train.cardinality + 1) * facts.trainers)
    return bool(facts.start_step + steps < spec.max_steps)


def good_repeated() -> Any:
    """Endless data and a last step."""
    return _in_cluster(jobs.job)


def good_even_shards() -> Any:
    """All tasks of a collective strategy come to the end at the same step."""
    return _in_cluster(lambda: jobs.job(
        train=lambda: jobs.input_fn().repeat(6).shard(2, 0), max_steps=None, config=_collective()),
        COLLECTIVE)


def bad_files() -> Any:
    """Nobody knows how many lines a file has."""
    return _in_cluster(lambda: jobs.job(train=_lines, max_steps=None))


def bad_short() -> Any:
    """The data end before max_steps."""
    return _in_cluster(lambda: jobs.job(train=lambda: jobs.input_fn().repeat(3), max_steps=1000))


def bad_uneven_shards() -> Any:
    """Two batches and three."""
    return _in_cluster(lambda: jobs.job(
        train=lambda: jobs.input_fn().repeat(3).skip(1).shard(2, 0), max_steps=None,
        config=_collective()), COLLECTIVE)


def _lines() -> Any:
    def row(line: Any) -> Any:
        number = tf.strings.to_number(line)
        return {'x': tf.fill([2, jobs.FEATURES], number)}, tf.fill([2, 1], number)

    return tf.data.TextLineDataset([os.path.join(os.sep, 'nonexistent', 'lines')]).map(row)


def _collective() -> Any:
    with tf.Graph().as_default():  # eagerly its server would be started
        return {'train_distribute': tf.distribute.MultiWorkerMirroredStrategy(),
                'save_checkpoints_steps': 50}


class ChiefExitsFirst(Rule):
    """In a cluster, training ends with the data of each worker.

    What it finds: a cluster, and data of TRAIN that end before max_steps, or without it. Under
    MultiWorkerMirroredStrategy, data whose shards have other numbers of batches, or may have.

    Why it matters: each worker goes through its data by itself. A chief that comes to the end first
    leaves, and nobody saves what the others go on to train. Under MultiWorkerMirroredStrategy the
    first task that ends leaves the others waiting for it for ever. An evaluator waits for
    max_steps.

    Bad:
        TrainSpec(lambda: dataset.batch(32), max_steps=None)

    Good:
        TrainSpec(lambda: dataset.repeat().batch(32), max_steps=100000)

    When to suppress: when all shards are of one size and the loss of the last steps does not count.
    """

    code = 'ESX817'
    slug = 'chief-exits-first'
    severity = Severity.WARNING
    stage = 'config'
    mistakes = ('D8', 'D7')
    more_bad = (bad_files, bad_short, bad_uneven_shards)
    more_good = (good_repeated, good_even_shards)

    def check(self, facts: Any) -> Iterator[Finding]:
        if not _may_leave(facts):
            return
        what = ('one may wait for the others for ever' if facts.collective
                else 'the chief may leave first')
        yield self.finding(
            facts, f'a cluster of {facts.trainers} workers trains until its data ends: {what}',
            hint='repeat the dataset and set max_steps', field='max_steps',
            expected='a max_steps that comes first', actual=str(facts.job.train_spec.max_steps))

    @staticmethod
    def bad() -> Any:
        """No last step in a cluster."""
        return _in_cluster(lambda: jobs.job(train=jobs.input_fn, max_steps=None))

    @staticmethod
    def good() -> Any:
        """No last step in one process."""
        return jobs.job(train=jobs.input_fn, max_steps=None)

"""Early stopping that has no effect, and evaluators that never end."""

from __future__ import annotations

import os
from typing import Any, Iterator, Optional

from estimator_spec_ext.compat import early_stopping, tf, v1
from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs

CLUSTER = ('{"cluster": {"chief": ["a.invalid:1"], "worker": ["b.invalid:1"], '
           '"ps": ["c.invalid:1"]}, "task": {"type": "chief", "index": 0}}')

COLLECTIVE = ('{"cluster": {"chief": ["a.invalid:1"], "worker": ["b.invalid:1"]}, '
              '"task": {"type": "chief", "index": 0}}')
WITH_EVALUATOR = COLLECTIVE.replace('}, "task"', ', "evaluator": ["c.invalid:1"]}, "task"')


def _watching(facts: Any) -> Iterator[tuple[str, Any]]:
    """Place and object of early stopping in TRAIN: of the TrainSpec, and of the spec."""
    spec = facts.job.train_spec
    for position, hook in enumerate((spec.hooks or ()) if spec is not None else ()):
        watched = early_stopping.watched(hook)
        if watched is not None:
            yield f'hooks[{position}]', watched
    for build in facts.of('train'):
        yield from build.stopping


def _stopping(metric: str = 'loss', eval_options: Any = None, evaluate: Any = jobs.input_fn,
              folder: Optional[str] = None, steps: int = 50) -> Any:
    first = jobs.job()
    eval_dir = None if folder is None else os.path.join(first.estimator.model_dir, folder)
    hook = tf_estimator.experimental.stop_if_no_decrease_hook(
        first.estimator, metric, steps, eval_dir=eval_dir)
    return jobs.job(folder=first.folder, train_hooks=[hook], eval_options=eval_options,
                    evaluate=evaluate)


def bad_metric() -> Any:
    """A metric that EVAL does not have."""
    return _stopping('accuracy')


def bad_no_evaluation() -> Any:
    """Nothing to watch."""
    return _stopping(evaluate=None)


def bad_in_eval() -> Any:
    """It would have to end TRAIN."""
    first = jobs.job()
    hook = tf_estimator.experimental.stop_if_no_decrease_hook(first.estimator, 'loss', 50)
    return jobs.job(folder=first.folder, eval_options={'hooks': [hook]})


def bad_in_spec() -> Any:
    """model_fn makes the hook."""
    first = jobs.job()

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        hooks = [tf_estimator.experimental.stop_if_no_decrease_hook(
            first.estimator, 'accuracy', 50)] if mode == 'train' else None
        return jobs.spec(mode, jobs.linear(features), labels, training_hooks=hooks)

    return jobs.job(model_fn, folder=first.folder)


def bad_too_patient() -> Any:
    """Training ends before it may stop."""
    return _stopping(steps=1000)


def good_named() -> Any:
    """The hook is told the folder of the named evaluation."""
    return _stopping(eval_options={'name': 'valid'}, folder='eval_valid')


class EarlyStoppingBlind(Rule):
    """An early-stopping hook that will never see the metric it waits for.

    What it finds: a hook of `tf.estimator.experimental` that reads another folder than the
    evaluations write, or a metric that EVAL does not have, or is among the hooks of EVAL; or a job
    without EVAL. That max_steps comes before the hook may stop is a note.

    Why it matters: the hook reads event files. Where there are none it never stops, without a word;
    a metric that is missing ends training with a KeyError after the first evaluation.

    Bad:
        EvalSpec(input_fn, name='valid'), stop_if_no_decrease_hook(estimator, 'loss', 1000)

    Good:
        stop_if_no_decrease_hook(estimator, 'loss', 1000, eval_dir=estimator.eval_dir('valid'))

    When to suppress: when another process writes the folder that the hook reads.
    """

    code = 'ESX815'
    slug = 'early-stopping-blind'
    severity = Severity.ERROR
    stage = 'config'
    mistakes = ('H7',)
    more_bad = (bad_metric, bad_no_evaluation, bad_in_eval, bad_in_spec, bad_too_patient)
    more_good = (good_named,)

    def check(self, facts: Any) -> Iterator[Finding]:
        yield from self._of_eval(facts)
        for field, watched in _watching(facts):
            if watched.folder is None:
                continue
            spec, last = facts.job.eval_spec, facts.job.train_spec.max_steps
            if last is not None and watched.first_step >= last:
                yield self.finding(
                    facts, f'an early-stopping hook waits {watched.first_step} steps; training '
                           f'ends at {last}', field=field,
                    hint='give it fewer steps, or leave it out', expected=f'less than {last}',
                    actual=str(watched.first_step), severity=Severity.INFO)
            if spec is None:
                yield self.finding(
                    facts, 'an early-stopping hook waits for evaluations, and the job has none',
                    hint='use tf.estimator.train_and_evaluate with an EvalSpec', field=field,
                    expected='an EvalSpec', actual='None', severity=Severity.WARNING)
                continue
            writes = facts.job.estimator.eval_dir(spec.name)
            if os.path.normpath(watched.folder) != os.path.normpath(writes):
                given = 'None' if spec.name is None else repr(spec.name)
                yield self.finding(
                    facts, f'an early-stopping hook reads {os.path.basename(watched.folder)!r} '
                           f'of its estimator; EVAL writes {os.path.basename(writes)!r} of this',
                    hint=f'make the hook with eval_dir=estimator.eval_dir({given})', field=field,
                    expected=os.path.basename(writes), actual=os.path.basename(watched.folder),
                    severity=Severity.WARNING)
                continue
            for build in facts.of('eval'):
                if build.complete and build.metrics and watched.metric not in build.metrics:
                    names = ', '.join(build.metrics)
                    yield self.finding(
                        facts, f'an early-stopping hook reads metric {watched.metric!r}; EVAL has '
                               f'{names}', hint='name a metric of eval_metric_ops, or "loss"',
                        field=field, expected=names, actual=watched.metric)

    def _of_eval(self, facts: Any) -> Iterator[Finding]:
        spec = facts.job.eval_spec
        found = [(f'hooks[{position}]', early_stopping.watched(hook)) for position, hook
                 in enumerate((spec.hooks or ()) if spec is not None else ())]
        found += [item for build in facts.of('eval') for item in build.stopping]
        for field, watched in found:
            if watched is not None:
                yield self.finding(
                    facts, f'an early-stopping hook is in {field} of EVAL; it stops nothing there',
                    hint='put it into the hooks of the TrainSpec', field=field,
                    expected='a hook of TRAIN', actual='a hook of EVAL')

    @staticmethod
    def bad() -> Any:
        """A named evaluation writes to another folder."""
        return _stopping(eval_options={'name': 'valid'})

    @staticmethod
    def good() -> Any:
        """The folder of EVAL, a metric of EVAL."""
        return _stopping()


def _made_and_unused(number: int) -> Any:
    from estimator_spec_ext.preflight import api, facts
    return api.judge_calls(None, {facts.UNUSED_STOPPING: number}, None)


class EarlyStoppingUnused(Rule):
    """A script makes an early-stopping hook and gives it to no call.

    What it finds: a hook of `tf.estimator.experimental` that a script makes outside of model_fn,
    and that is among the hooks of no TrainSpec and of no call of train.

    Why it matters: training goes on to max_steps, without a word.

    Bad:
        stop = tf.estimator.experimental.stop_if_no_decrease_hook(estimator, 'loss', 1000)
        TrainSpec(input_fn, max_steps=100000)

    Good:
        TrainSpec(input_fn, max_steps=100000, hooks=[stop])

    When to suppress: when another program is given the hook.
    """

    code = 'ESX867'
    slug = 'early-stopping-unused'
    severity = Severity.WARNING
    stage = 'config'
    mistakes = ('H7',)

    def check(self, facts: Any) -> Iterator[Finding]:
        number = facts.calls.get('unused early stopping')
        if number:
            what = 'an early-stopping hook' if number == 1 else f'{number} early-stopping hooks'
            yield self.finding(
                facts, f'the script makes {what} that no training is given',
                hint='pass it on: tf.estimator.TrainSpec(..., hooks=[stop])', field='hooks',
                expected='a hook that is used', actual=str(number))

    @staticmethod
    def bad() -> Any:
        """One hook for nothing."""
        return _made_and_unused(1)

    @staticmethod
    def good() -> Any:
        """None."""
        return _made_and_unused(0)


def good_stop_hook() -> Any:
    """A hook ends it."""
    return jobs.job(max_steps=None, train_hooks=[v1.train.StopAtStepHook(last_step=100)])


def good_finite() -> Any:
    """The data ends it."""
    return jobs.job(train=jobs.input_fn, max_steps=None)


class TrainingNeverEnds(Rule):
    """Nothing ends the training.

    What it finds: data of TRAIN without an end, max_steps=None, and no hook that could stop it, in
    train_and_evaluate without exporters.

    Why it matters: it trains until somebody ends the process; what comes after it in the script,
    such as the export, never runs. Some jobs want just that, so it is a note.

    Bad:
        TrainSpec(lambda: dataset.repeat().batch(32), max_steps=None)

    Good:
        TrainSpec(lambda: dataset.repeat().batch(32), max_steps=100000)

    When to suppress: when the job is stopped from outside.
    """

    code = 'ESX868'
    slug = 'training-never-ends'
    severity = Severity.INFO
    stage = 'config'
    mistakes = ('D2',)
    more_good = (good_stop_hook, good_finite)

    def check(self, facts: Any) -> Iterator[Finding]:
        spec, train = facts.job.train_spec, facts.train
        if (spec is None or spec.max_steps is not None or train is None or not facts.job.nested
                or train.cardinality != 'infinite' or facts.stops or train.opaque_hooks
                or facts.job.exporters):  # of a final one another rule tells
            return
        yield self.finding(
            facts, 'nothing ends the training: endless data, and max_steps is None',
            hint='set max_steps in the TrainSpec', field='max_steps', expected='a max_steps',
            actual='None')

    @staticmethod
    def bad() -> Any:
        """Repeated data."""
        return jobs.job(max_steps=None)

    @staticmethod
    def good() -> Any:
        """A last step."""
        return jobs.job()


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
    return _stopping()


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
    return _in_cluster(_stopping, CLUSTER.replace('{"type": "chief"', '{"type": "evaluator"'))


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
        return _in_cluster(_stopping)

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

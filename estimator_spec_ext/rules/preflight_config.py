"""When training stops, when evaluations and exports happen: read from the arguments alone."""

from __future__ import annotations

import os
import tempfile
from typing import Any, Iterator, Optional

from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs
from estimator_spec_ext.rules.preflight_warm_start import all_of_linear, write_checkpoint

# At depth 'graph' nobody knows how long a step takes; this is long for a small job.
_SECONDS_PER_STEP = 1.


def _is_local(facts: Any) -> bool:
    return not facts.config.cluster_spec.jobs


def batches_left(facts: Any) -> Optional[int]:
    """How many batches TRAIN has, when that is fewer than the steps it is asked for."""
    spec, train = facts.job.train_spec, facts.train
    if (spec is None or train is None or spec.max_steps is None or not _is_local(facts)
            or not isinstance(train.cardinality, int)):
        return None
    return train.cardinality if facts.start_step + train.cardinality < spec.max_steps else None


def final_exporters(facts: Any) -> list[str]:
    """Names of the exporters that export at the end alone."""
    return [exporter.name for exporter in facts.job.exporters_of(tf_estimator.FinalExporter)]


def _often_saved(throttle: int) -> Any:
    return jobs.job(config={'save_checkpoints_steps': 10},
                    eval_options={'throttle_secs': throttle})


def bad_once() -> Any:
    """A short job, checkpoints by the clock, and an exporter that compares."""
    return jobs.job(receiver=None, depth='run', eval_options={
        'exporters': tf_estimator.BestExporter('best', jobs.receiver_fn)})


def good_default_config() -> Any:
    """Checkpoints by time, as often as evaluations may come."""
    return jobs.job(eval_options={'throttle_secs': 600})


def good_few_checkpoints() -> Any:
    """One checkpoint on the way; the last one is always evaluated."""
    return jobs.job(config={'save_checkpoints_steps': 50}, eval_options={'throttle_secs': 600})


class EvaluationsThrottled(Rule):
    """Most checkpoints will not be evaluated: throttle_secs is longer than training between them.

    What it finds: checkpoints every few steps, with at least three of them to come, and an
    EvalSpec.throttle_secs that no such number of steps will last. That a BestExporter sees one
    evaluation, because the whole job takes less time than the first checkpoint, is a note.

    Why it matters: train_and_evaluate evaluates at a checkpoint, but not within throttle_secs (600
    by default) of the last evaluation: a short job is evaluated at its first checkpoint and at its
    end. Early stopping and BestExporter then see next to nothing.

    Bad:
        RunConfig(save_checkpoints_steps=100), EvalSpec(input_fn)

    Good:
        RunConfig(save_checkpoints_steps=100), EvalSpec(input_fn, throttle_secs=0)

    When to suppress: when a step takes seconds, or rare evaluations are wanted.
    """

    code = 'ESX810'
    slug = 'evaluations-throttled'
    severity = Severity.WARNING
    stage = 'config'
    mistakes = ('D1',)
    more_bad = (bad_once,)
    more_good = (good_default_config, good_few_checkpoints)

    def check(self, facts: Any) -> Iterator[Finding]:
        train_spec, eval_spec = facts.job.train_spec, facts.job.eval_spec
        every = facts.config.save_checkpoints_steps
        if (train_spec is None or eval_spec is None or not _is_local(facts)
                or train_spec.max_steps is None):
            return
        left = train_spec.max_steps - facts.start_step
        if not every:
            yield from self._once(facts, left)
            return
        pause = eval_spec.throttle_secs
        seconds = facts.seconds_per_step or _SECONDS_PER_STEP
        if left // every < 3 or pause < 2 * every * seconds:
            return
        yield self.finding(
            facts, f'EvalSpec.throttle_secs is {pause}, with a checkpoint every {every} steps: '
                   f'most of {left // every} checkpoints are not evaluated',
            hint='pass throttle_secs=0 to tf.estimator.EvalSpec', field='throttle_secs',
            expected='less than the time between two checkpoints', actual=str(pause))

    def _once(self, facts: Any, left: int) -> Iterator[Finding]:
        """Checkpoints come by the clock, and the job is over before the first."""
        seconds, pause = facts.seconds_per_step, facts.config.save_checkpoints_secs
        best = [exporter.name for exporter in facts.job.exporters_of(tf_estimator.BestExporter)]
        if best and seconds and pause and left * seconds < pause:
            yield self.finding(
                facts, f'BestExporter {best[0]!r} will see one evaluation, at the end: a '
                       f'checkpoint comes every {pause} s, and {left} steps take less',
                hint='set save_checkpoints_steps in the RunConfig', field='save_checkpoints_secs',
                expected='several checkpoints', actual='one', severity=Severity.INFO)

    @staticmethod
    def bad() -> Any:
        """A checkpoint every ten steps, an evaluation every ten minutes."""
        return _often_saved(600)

    @staticmethod
    def good() -> Any:
        """An evaluation at every checkpoint."""
        return _often_saved(0)


def _finished_job(max_steps: int) -> Any:
    folder = tempfile.TemporaryDirectory(prefix='ese_example_')
    write_checkpoint(os.path.join(folder.name, 'model'), all_of_linear, step=100)
    return jobs.job(folder=folder, max_steps=max_steps)


class TrainingAlreadyDone(Rule):
    """model_dir has reached max_steps already: nothing will be trained.

    What it finds: a newest checkpoint whose global step is not below TrainSpec.max_steps.

    Why it matters: max_steps counts from step 0 of model_dir, not from the start of this run. With
    a line of level INFO, train_and_evaluate trains nothing, evaluates nothing, exports nothing and
    returns (None, None).

    Bad:
        TrainSpec(input_fn, max_steps=1000)      # model_dir is at step 1000

    Good:
        TrainSpec(input_fn, max_steps=2000)

    When to suppress: when the job may be started again after it is done.
    """

    code = 'ESX811'
    slug = 'training-already-done'
    severity = Severity.WARNING
    stage = 'config'
    mistakes = ('D2', 'X10')

    def check(self, facts: Any) -> Iterator[Finding]:
        spec = facts.job.train_spec
        if spec is None or spec.max_steps is None or facts.start_step < spec.max_steps:
            return
        yield self.finding(
            facts, f'max_steps is {spec.max_steps}, and model_dir is at step {facts.start_step}: '
                   'nothing will be trained',
            hint='raise max_steps, which counts from step 0, or use another model_dir',
            field='max_steps', expected=f'more than {facts.start_step}',
            actual=str(spec.max_steps))

    @staticmethod
    def bad() -> Any:
        """The same number again."""
        return _finished_job(100)

    @staticmethod
    def good() -> Any:
        """A hundred steps more."""
        return _finished_job(200)


class DataEndsFirst(Rule):
    """The training data ends before max_steps.

    What it finds: a dataset of TRAIN whose number of batches is known and too small.

    Why it matters: training ends with the data, without a word, at a step below max_steps. That is
    fine where max_steps is only a limit; what waits for max_steps (a FinalExporter, an evaluator)
    never comes.

    Bad:
        TrainSpec(lambda: dataset.batch(32), max_steps=10000)          # 100 batches

    Good:
        TrainSpec(lambda: dataset.repeat().batch(32), max_steps=10000)

    When to suppress: when the data is meant to end the training.
    """

    code = 'ESX812'
    slug = 'data-ends-before-max-steps'
    severity = Severity.INFO
    stage = 'config'
    mistakes = ('D2',)

    def check(self, facts: Any) -> Iterator[Finding]:
        batches = batches_left(facts)
        if batches is None or final_exporters(facts):
            return
        yield self.finding(
            facts, f'the training data has {batches} batches; max_steps is '
                   f'{facts.job.train_spec.max_steps}',
            hint='repeat the dataset, or set max_steps to what it holds', field='max_steps',
            expected=f'at least {facts.job.train_spec.max_steps - facts.start_step} batches',
            actual=str(batches))

    @staticmethod
    def bad() -> Any:
        """Two batches for a hundred steps."""
        return jobs.job(train=jobs.input_fn)

    @staticmethod
    def good() -> Any:
        """The data is repeated."""
        return jobs.job()


def good_own_saver() -> Any:
    """A hook saves instead."""
    job = _without_saver()
    hook = v1.train.CheckpointSaverHook(job.estimator.model_dir, save_steps=10)
    return _without_saver(folder=job.folder, train_hooks=[hook])


def bad_without_eval() -> Any:
    """Training alone works, and leaves nothing behind."""
    return _without_saver(evaluate=None)


def _without_saver(**options: Any) -> Any:
    return jobs.job(config={'save_checkpoints_steps': None, 'save_checkpoints_secs': None},
                    **options)


class NobodySaves(Rule):
    """Checkpoints are switched off, and no hook saves any.

    What it finds: a RunConfig with neither save_checkpoints_steps nor save_checkpoints_secs, in a
    job that trains without a CheckpointSaverHook. Without an EvalSpec this is a note.

    Why it matters: train_and_evaluate raises "There should be a CheckpointSaverHook" when training
    starts; train alone ends well and leaves an empty model_dir.

    Bad:
        RunConfig(save_checkpoints_steps=None, save_checkpoints_secs=None)

    Good:
        RunConfig(save_checkpoints_steps=1000)

    When to suppress: when the model is not wanted, as in a benchmark.
    """

    code = 'ESX866'
    slug = 'nobody-saves-checkpoints'
    severity = Severity.ERROR
    stage = 'config'
    mistakes = ('V8',)
    more_bad = (bad_without_eval,)
    more_good = (good_own_saver,)

    def check(self, facts: Any) -> Iterator[Finding]:
        config, train = facts.config, facts.train
        if (train is None or not train.complete or train.own_saver or not _is_local(facts)
                or config.train_distribute is not None
                or config.save_checkpoints_steps or config.save_checkpoints_secs):
            return
        fails = facts.job.eval_spec is not None and facts.job.nested
        yield self.finding(
            facts, 'save_checkpoints_steps and save_checkpoints_secs are None: nobody saves '
                   'checkpoints', field='save_checkpoints_steps',
            hint='set one of the two in the RunConfig', expected='one of the two',
            actual='None', severity=None if fails else Severity.INFO)

    @staticmethod
    def bad() -> Any:
        """Evaluations have nothing to evaluate."""
        return _without_saver()

    @staticmethod
    def good() -> Any:
        """Every ten minutes, the default."""
        return jobs.job()


def _bare_tensors() -> Any:
    return {'x': tf.zeros([4, jobs.FEATURES])}, tf.zeros([4, 1])


def bad_tensors() -> Any:
    """Tensors give the same batch for ever."""
    return jobs.job(evaluate=_bare_tensors)


def bad_iterator() -> Any:
    """Tensors of an iterator over data that is repeated and filtered."""
    return jobs.job(evaluate=lambda: v1.data.make_one_shot_iterator(
        jobs.endless_input_fn().filter(lambda features, labels: True)).get_next())


def good_iterator() -> Any:
    """Tensors of an iterator over data that ends."""
    return jobs.job(evaluate=lambda: v1.data.make_one_shot_iterator(jobs.input_fn()).get_next())


def good_steps() -> Any:
    """Endless data, and a number of steps."""
    return jobs.job(evaluate=jobs.endless_input_fn, eval_options={'steps': 10})


class EvaluationNeverEnds(Rule):
    """The data of EVAL never ends, and EvalSpec.steps is None.

    What it finds: in EVAL without steps, a dataset that is repeated without end, an iterator over
    one, a queue that is filled for ever (numpy_input_fn with num_epochs=None), or plain tensors.

    Why it matters: the first evaluation never returns. Nothing is said.

    Bad:
        EvalSpec(lambda: dataset.repeat().batch(32), steps=None)

    Good:
        EvalSpec(lambda: dataset.batch(32), steps=None)

    When to suppress: when a hook stops the evaluation.
    """

    code = 'ESX814'
    slug = 'evaluation-never-ends'
    severity = Severity.ERROR
    stage = 'config'
    mistakes = ('P5',)
    more_bad = (bad_tensors, bad_iterator)
    more_good = (good_steps, good_iterator)

    def check(self, facts: Any) -> Iterator[Finding]:
        spec = facts.job.eval_spec
        if spec is None or spec.steps is not None:
            return
        for build in facts.of('eval'):
            if build.cardinality == 'infinite':
                yield self.finding(
                    build, 'the data of EVAL never ends, and EvalSpec.steps is None',
                    hint='leave repeat() out of its input function, or pass steps=...',
                    field='steps', expected='data that ends, or a number of steps',
                    actual='None', severity=Severity.WARNING if build.opaque_hooks else None)

    @staticmethod
    def bad() -> Any:
        """A dataset that is repeated."""
        return jobs.job(evaluate=jobs.endless_input_fn)

    @staticmethod
    def good() -> Any:
        """A dataset that ends."""
        return jobs.job()

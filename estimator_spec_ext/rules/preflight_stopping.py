"""Early stopping that has no effect, and a training that nothing ends."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Iterator, Optional

from estimator_spec_ext.compat import early_stopping, v1
from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs


def _watching(facts: Any) -> Iterator[tuple[str, Any]]:
    """Place and object of early stopping in TRAIN: of the TrainSpec, and of the spec."""
    spec = facts.job.train_spec
    for position, hook in enumerate((spec.hooks or ()) if spec is not None else ()):
        watched = early_stopping.watched(hook)
        if watched is not None:
            yield f'hooks[{position}]', watched
    for build in facts.of('train'):
        yield from build.stopping


def stopping_job(metric: str = 'loss', eval_options: Any = None, evaluate: Any = jobs.input_fn,
                 folder: Optional[str] = None, steps: int = 50) -> Any:
    """A job with early stopping."""
    first = jobs.job()
    eval_dir = None if folder is None else os.path.join(first.estimator.model_dir, folder)
    hook = tf_estimator.experimental.stop_if_no_decrease_hook(
        first.estimator, metric, steps, eval_dir=eval_dir)
    return jobs.job(folder=first.folder, train_hooks=[hook], eval_options=eval_options,
                    evaluate=evaluate)


def bad_metric() -> Any:
    """A metric that EVAL does not have."""
    return stopping_job('accuracy')


def bad_no_evaluation() -> Any:
    """Nothing to watch."""
    return stopping_job(evaluate=None)


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
    return stopping_job(steps=1000)


def bad_afterwards() -> Any:
    """evaluate() is called when train() is over."""
    return dataclasses.replace(stopping_job(), script={'nested': False})


def good_in_turns() -> Any:
    """train() and evaluate() are called again and again."""
    return dataclasses.replace(stopping_job(), script={'nested': False, 'rounds': 3})


def good_in_memory() -> Any:
    """Another hook evaluates."""
    first = jobs.job()
    os.makedirs(first.estimator.eval_dir())
    hooks = [tf_estimator.experimental.InMemoryEvaluatorHook(first.estimator, jobs.input_fn, 1),
             tf_estimator.experimental.stop_if_no_decrease_hook(first.estimator, 'loss', 50)]
    return jobs.job(folder=first.folder, train_hooks=hooks, evaluate=None)


def good_before() -> Any:
    """A script goes on, e.g. with an export, after its train_and_evaluate."""
    return dataclasses.replace(stopping_job(evaluate=None), script={'trained_before': True})


def good_named() -> Any:
    """The hook is told the folder of the named evaluation."""
    return stopping_job(eval_options={'name': 'valid'}, folder='eval_valid')


class EarlyStoppingBlind(Rule):
    """An early-stopping hook that will never see the metric it waits for.

    What it finds: a hook of `tf.estimator.experimental` that reads another folder than the
    evaluations write, or a metric that EVAL does not have, or is among the hooks of EVAL; or a job
    without EVAL, or whose EVAL comes when training is over. That max_steps comes before the hook
    may stop is a note.

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
    more_bad = (bad_metric, bad_no_evaluation, bad_in_eval, bad_in_spec, bad_too_patient,
                bad_afterwards)
    more_good = (good_named, good_in_turns, good_in_memory, good_before)

    def check(self, facts: Any) -> Iterator[Finding]:
        yield from self._of_eval(facts)
        for field, watched in () if facts.job.trained_before else _watching(facts):
            if watched.folder is None:
                continue
            spec, last = facts.job.eval_spec, facts.job.train_spec.max_steps
            if last is not None and watched.first_step >= last:
                yield self.finding(
                    facts, f'an early-stopping hook waits {watched.first_step} steps; training '
                           f'ends at {last}', field=field,
                    hint='give it fewer steps, or leave it out', expected=f'less than {last}',
                    actual=str(watched.first_step), severity=Severity.INFO)
            if any(isinstance(hook, tf_estimator.experimental.InMemoryEvaluatorHook)
                   for hook in facts.job.train_spec.hooks or ()):
                continue  # it evaluates in the midst of TRAIN
            if spec is not None and not facts.job.nested and facts.job.rounds < 2:
                yield self.finding(
                    facts, 'an early-stopping hook waits for evaluations, which come when training '
                           'is over', hint='use tf.estimator.train_and_evaluate with an EvalSpec',
                    field=field, expected='evaluations during TRAIN',
                    actual='evaluate() after train()', severity=Severity.WARNING)
                continue
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
        return stopping_job(eval_options={'name': 'valid'})

    @staticmethod
    def good() -> Any:
        """The folder of EVAL, a metric of EVAL."""
        return stopping_job()


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

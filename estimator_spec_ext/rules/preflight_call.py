"""What goes wrong before a job starts, and how it is called."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs


def _failed(error: BaseException) -> Any:
    from estimator_spec_ext.preflight import api
    return api.failed_before_job(error)


def _raised_by(function: Any) -> Any:
    try:
        function()
    except Exception as error:  # noqa: BLE001 - the example is the exception
        return _failed(error)
    raise RuntimeError('the example raises nothing')


def _wrong_argument() -> Any:
    return tf_estimator.Estimator(lambda x, labels, mode: None)


class JobNotBuilt(Rule):
    """The code that builds the job raises before there is a job.

    What it finds: an exception of a builder function, or of a script, before train_and_evaluate or
    a method of an Estimator was called: constructors of Estimator, RunConfig, hooks and specs.

    Why it matters: nothing else could be checked. The place is the user's own line.

    Bad:
        def model_fn(x, labels, mode): ...       # must include features argument

    Good:
        def model_fn(features, labels, mode): ...

    When to suppress: never; there is no job.
    """

    code = 'ESX142'
    slug = 'job-not-built'
    severity = Severity.ERROR
    stage = 'modes'
    mistakes = ('P9', 'D3', 'H7')

    def check(self, facts: Any) -> Iterator[Finding]:
        if facts.early_error is not None and not removed(facts.early_error.text):
            yield self.finding(
                facts, f'there is no job to check: {facts.early_error.text}',
                hint='mend this line first', op=facts.early_error.place,
                actual=facts.early_error.text)

    @staticmethod
    def bad() -> Any:
        """Estimator looks at the names of the arguments."""
        return _raised_by(_wrong_argument)

    @staticmethod
    def good() -> Any:
        """A job."""
        return jobs.job()


def removed(text: str) -> bool:
    """Whether an exception says that this TensorFlow has no Estimator."""
    return ("has no attribute 'estimator'" in text or 'has no tf.estimator' in text
            or "No module named 'tensorflow_estimator'" in text
            or "No module named 'tensorflow.estimator'" in text
            or "cannot import name 'estimator' from 'tensorflow'" in text)


class EstimatorRemoved(Rule):
    """This TensorFlow has no tf.estimator.

    What it finds: a script or a builder that fails on `tf.estimator`, which left TensorFlow with
    2.16.

    Why it matters: the message says that a module lacks an attribute, and not what to do.

    Bad:
        pip install tensorflow

    Good:
        pip install 'tensorflow<2.16'

    When to suppress: never.
    """

    code = 'ESX822'
    slug = 'estimator-removed'
    severity = Severity.ERROR
    stage = 'modes'
    mistakes = ('E1',)

    def check(self, facts: Any) -> Iterator[Finding]:
        if facts.early_error is not None and removed(facts.early_error.text):
            yield self.finding(
                facts, 'this TensorFlow has no tf.estimator: it left TensorFlow with 2.16',
                hint='put it back first: estimator_spec_ext.install_tf_estimator()',
                op=facts.early_error.place,
                expected='tensorflow 2.15 or older', actual=facts.early_error.text)

    @staticmethod
    def bad() -> Any:
        """What TensorFlow 2.16 says."""
        return _failed(AttributeError("module 'tensorflow' has no attribute 'estimator'"))

    @staticmethod
    def good() -> Any:
        """A job."""
        return jobs.job()


def _called(**calls: int) -> Any:
    from estimator_spec_ext.preflight import api
    return api.judge_calls(jobs.job().estimator, calls, None)


def good_many_evaluations() -> Any:
    """One training, evaluated on several data sets."""
    return _called(train=1, evaluate=5)


class TrainEvaluateLoop(Rule):
    """A script calls train and evaluate by turns.

    What it finds: a script that calls train and evaluate of one estimator three times or more.

    Why it matters: each call builds its graph anew, reads the checkpoint and throws all away again:
    slow starts, data that starts over, and memory that grows with each round.

    Bad:
        for epoch in range(100):
            estimator.train(input_fn, steps=1000)
            estimator.evaluate(eval_input_fn)

    Good:
        tf.estimator.train_and_evaluate(estimator, train_spec, eval_spec)

    When to suppress: when rounds are few and long.
    """

    code = 'ESX821'
    slug = 'train-evaluate-loop'
    severity = Severity.WARNING
    stage = 'config'
    mistakes = ('D13',)
    more_good = (good_many_evaluations,)

    def check(self, facts: Any) -> Iterator[Finding]:
        trained, evaluated = facts.calls.get('train', 0), facts.calls.get('evaluate', 0)
        if min(trained, evaluated) >= 3:
            yield self.finding(
                facts, f'the script calls train {trained} times and evaluate {evaluated} times',
                hint='call tf.estimator.train_and_evaluate once', expected='one call',
                actual=f'{trained} and {evaluated}')

    @staticmethod
    def bad() -> Any:
        """Three rounds."""
        return _called(train=3, evaluate=3)

    @staticmethod
    def good() -> Any:
        """One round."""
        return _called(train=1, evaluate=1)


def _again(idle: int, train: Any = jobs.endless_input_fn) -> Any:
    return jobs.job(train=train, receiver=None,
                    script={'nested': False, 'rounds': 2, 'idle_trainings': idle})


def good_one_pass() -> Any:
    """Each call trains for one pass of the data, which is far from max_steps."""
    return _again(1, jobs.input_fn)


class IdleTraining(Rule):
    """A train() trains nothing: an earlier call has reached its max_steps.

    What it finds: a script that calls train() of one estimator again with a max_steps that is not
    beyond that of an earlier call, and data that do not end before.

    Why it matters: max_steps counts from the first step of all trainings in model_dir. The call
    logs one line and returns; the evaluations that follow are all of one checkpoint.

    Bad:
        for epoch in range(10):
            estimator.train(input_fn, max_steps=1000)

    Good:
        for epoch in range(10):
            estimator.train(input_fn, max_steps=1000 * (epoch + 1))

    When to suppress: when a hook ends the earlier calls before max_steps.
    """

    code = 'ESX869'
    slug = 'training-idle'
    severity = Severity.WARNING
    stage = 'config'
    mistakes = ('D2',)
    more_good = (good_one_pass,)

    def check(self, facts: Any) -> Iterator[Finding]:
        job = getattr(facts, 'job', None)
        if job is None or not job.idle_trainings or facts.train is None or facts.stops:
            return
        batches, last = facts.train.cardinality, job.train_spec.max_steps
        if batches == 'infinite' or isinstance(batches, int) and batches >= last:
            yield self.finding(
                facts, f'{job.idle_trainings} {"call" if job.idle_trainings == 1 else "calls"} of '
                       f'{"train_and_evaluate" if job.nested else "train()"} will train nothing: '
                       'an earlier one reaches max_steps',
                field='max_steps',
                hint='call it once, or give steps, which counts from where the last call ended',
                expected='a max_steps beyond the last one', actual='one that was reached')

    @staticmethod
    def bad() -> Any:
        """The second of two rounds."""
        return _again(1)

    @staticmethod
    def good() -> Any:
        """Each call goes further."""
        return _again(0)

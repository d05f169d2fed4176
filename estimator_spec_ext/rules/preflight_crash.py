"""Modes that cannot be built: the exception, and what it means."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import TPUEstimatorSpec, tf
from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs

_WHEN = {'train': 'at the start', 'eval': 'at the first checkpoint',
         'infer': 'at the export or the first predict'}
_WHAT = {'setup': 'before model_fn', 'receiver': 'in the serving receiver',
         'input_fn': 'in the input function', 'input': 'on what the input function returned',
         'model_fn': 'in model_fn', 'after': 'on the finished spec'}
MODE_NAMES = {'train': 'TRAIN', 'eval': 'EVAL', 'infer': 'PREDICT'}


class CrashRule(Rule):
    """A rule about exceptions of certain kinds; see `preflight/crashes.py`."""

    kinds: tuple[str, ...] = ()
    severity = Severity.ERROR
    stage = 'modes'

    def check(self, facts: Any) -> Iterator[Finding]:
        for build in facts.builds:
            if build.crash is not None and build.crash.kind in self.kinds:
                yield from self.of_crash(build, build.crash)

    def of_crash(self, build: Any, crash: Any) -> Iterator[Finding]:
        """The finding of one crash; `build` is the mode."""
        raise TypeError(f'{type(self).__name__} must implement of_crash')

    @staticmethod
    def doubted(build: Any) -> Any:
        """The severity of a crash in PREDICT when nothing says that the job ever predicts."""
        in_predict = build.mode == 'infer' and not build.used
        return Severity.WARNING if in_predict else None


def _crash_in_eval(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode == 'eval':
        prediction = tf.reshape(prediction, [5, 7, 'rows'])
    return jobs.spec(mode, prediction, labels)


def _exits_on_input(features: Any, labels: Any, mode: str) -> Any:
    return jobs.spec(mode, jobs.linear(features), labels)


class ModeCrashes(CrashRule):
    """A mode cannot be built: model_fn raises.

    What it finds: an exception of model_fn, or of Estimator on its result, in TRAIN, EVAL or
    PREDICT, that no other rule explains. The place is the innermost line of the user's own code.

    Why it matters: stock builds EVAL at the first checkpoint and PREDICT at the export, so a run
    of hours dies on its last line.

    Bad:
        if mode == tf.estimator.ModeKeys.EVAL:
            logits = tf.reshape(logits, [5, 7, 'rows'])

    Good:
        if mode == tf.estimator.ModeKeys.EVAL:
            logits = tf.reshape(logits, [-1, 7])

    When to suppress: when this mode is never used. PREDICT is a warning while no serving receiver
    says that the job exports.
    """

    code = 'ESX130'
    slug = 'mode-crashes'
    mistakes = ('X11', 'D12', 'M9', 'U2', 'U3')
    kinds = ('other', 'not implemented')

    def check(self, facts: Any) -> Iterator[Finding]:
        for build in facts.builds:
            crash = build.crash
            if crash is None:
                continue
            # A refused spec is told by the rules of its fields; only if all are silent it is here.
            silent = crash.kind in ('refused', 'strict') and build.report.ok
            if crash.kind == 'other' and crash.stage == 'after' and not build.report.ok:
                continue
            if crash.kind in self.kinds or silent:
                yield from self.of_crash(build, crash)

    def of_crash(self, build: Any, crash: Any) -> Iterator[Finding]:
        severity = self.doubted(build)
        if crash.kind == 'not implemented' and severity is not None:
            severity = Severity.INFO
        yield self.finding(
            build, f'{MODE_NAMES[build.mode]} cannot be built: {crash.text} '
                   f'{_WHAT.get(crash.stage, "")}'.rstrip(),
            hint=f'mend this line; TensorFlow would raise {_WHEN[build.mode]}', op=crash.place,
            actual=crash.text, severity=severity)

    @staticmethod
    def bad() -> Any:
        """EVAL dies, TRAIN does not."""
        return jobs.job(_crash_in_eval)

    @staticmethod
    def good() -> Any:
        """All modes can be built."""
        return jobs.job()


def _returns_nothing(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode != 'eval':
        return jobs.spec(mode, prediction, labels)
    return None


def _returns_tpu_spec(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode == 'infer':
        return TPUEstimatorSpec(mode, predictions={'p': prediction})
    return jobs.spec(mode, prediction, labels)


def _converts_tpu_spec(features: Any, labels: Any, mode: str) -> Any:
    returned = _returns_tpu_spec(features, labels, mode)
    return returned.as_estimator_spec() if mode == 'infer' else returned


def bad_tpu_spec() -> Any:
    """A TPU spec handed to a plain Estimator."""
    return jobs.job(_returns_tpu_spec)


def good_tpu_spec() -> Any:
    """The TPU spec turned into a plain one."""
    return jobs.job(_converts_tpu_spec)


class ReturnsNoSpec(CrashRule):
    """A mode returns something that is no EstimatorSpec.

    What it finds: a model_fn that returns None because a branch falls through, a tuple, or a
    TPUEstimatorSpec to a plain Estimator, in some mode.

    Why it matters: Estimator says "model_fn should return an EstimatorSpec" when it first uses the
    mode, which for EVAL and PREDICT is after training.

    Bad:
        if mode == tf.estimator.ModeKeys.TRAIN:
            return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    Good:
        if mode == tf.estimator.ModeKeys.TRAIN:
            return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics)

    When to suppress: when this mode is never used.
    """

    code = 'ESX131'
    slug = 'mode-returns-no-spec'
    mistakes = ('P4',)
    kinds = ('return',)
    more_bad = (bad_tpu_spec,)
    more_good = (good_tpu_spec,)

    def of_crash(self, build: Any, crash: Any) -> Iterator[Finding]:
        returned = crash.details.get('returned')
        actual = describe.value(returned) if 'returned' in crash.details else 'something else'
        hint = (f'return a tf.estimator.EstimatorSpec when mode is {describe.mode_key(build.mode)}')
        if isinstance(returned, TPUEstimatorSpec):
            hint = 'return spec.as_estimator_spec(), or use a TPUEstimator with use_tpu=False'
        name = MODE_NAMES[build.mode]
        yield self.finding(
            build, f'model_fn returns {actual} in {name}; expected an EstimatorSpec',
            hint=hint, op=crash.place, expected='a tf.estimator.EstimatorSpec', actual=actual,
            severity=self.doubted(build))

    @staticmethod
    def bad() -> Any:
        """EVAL falls through."""
        return jobs.job(_returns_nothing)

    @staticmethod
    def good() -> Any:
        """Every branch returns a spec."""
        return jobs.job()


def _uses_labels_first(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    loss = tf.reduce_mean(tf.square(prediction - tf.reshape(labels, [-1, 1])))
    if mode == 'infer':
        return tf_estimator.EstimatorSpec(mode, predictions={'p': prediction, 'l': loss})
    return jobs.spec(mode, prediction, labels)


def _allows_none(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if labels is not None:
        labels = tf.reshape(labels, [-1, 1])
    return jobs.spec(mode, prediction, labels)


def good_labels_checked() -> Any:
    """Labels are touched only when there are some."""
    return jobs.job(_allows_none)


class LabelsInPredict(CrashRule):
    """PREDICT cannot be built, because it uses the labels.

    What it finds: a model_fn that dies in PREDICT and works there as soon as it is given labels.

    Why it matters: in PREDICT and at the export labels are None. TRAIN and EVAL work, so this shows
    at the export, on the last line of the run, as "None values not supported" or the like.

    Bad:
        loss = loss_fn(labels, logits)
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions=predictions)

    Good:
        if mode == tf.estimator.ModeKeys.PREDICT:
            return tf.estimator.EstimatorSpec(mode, predictions=predictions)
        loss = loss_fn(labels, logits)

    When to suppress: when this estimator never predicts and never exports.
    """

    code = 'ESX132'
    slug = 'labels-used-in-predict'
    mistakes = ('P1',)
    kinds = ('labels',)
    more_good = (good_labels_checked,)

    def of_crash(self, build: Any, crash: Any) -> Iterator[Finding]:
        yield self.finding(
            build, f'PREDICT uses the labels, which are None there: {crash.text}',
            hint='return the PREDICT spec before the first line that uses labels', op=crash.place,
            field='predictions', expected='no use of labels', actual=crash.text,
            severity=self.doubted(build))

    @staticmethod
    def bad() -> Any:
        """The loss comes before the early return."""
        return jobs.job(_uses_labels_first)

    @staticmethod
    def good() -> Any:
        """The loss comes after it."""
        return jobs.job()


def _without_labels(features: Any, mode: str) -> Any:
    return jobs.spec(mode, jobs.linear(features), 0.)


def _unlabelled_input_fn() -> Any:
    return jobs.input_fn().map(lambda x, y: x).repeat()


def good_unsupervised() -> Any:
    """No labels in the input, none in model_fn."""
    return jobs.job(_without_labels, train=_unlabelled_input_fn, evaluate=None)


class _Model:
    def model_fn(self, features: Any, labels: Any, mode: str) -> Any:
        """A method is a model_fn when it is bound to its object."""
        return jobs.model_fn(features, labels, mode)


def bad_unbound() -> Any:
    """The class's function: nobody gives it `self`."""
    return jobs.job(_Model.model_fn, evaluate=None, receiver=None)


def bad_tf_function() -> Any:
    """Variables and a spec that a tf.function cannot hand out."""
    return jobs.job(tf.function(jobs.model_fn), evaluate=None, receiver=None)


def good_method() -> Any:
    """The method of an object."""
    return jobs.job(_Model().model_fn, evaluate=None, receiver=None)


class ModelFnSignature(CrashRule):
    """The arguments of model_fn do not fit the input.

    What it finds: an input function that gives labels to a model_fn without an argument `labels`; a
    call that fails before model_fn runs, as for a method of a class without its object; a
    tf.function.

    Why it matters: Estimator looks at the names of the arguments. This one shows at the first
    train; others already in the constructor, which refuses unknown names and a missing `features`.

    Bad:
        def model_fn(features, mode): ...

    Good:
        def model_fn(features, labels, mode): ...

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX133'
    slug = 'model-fn-signature'
    mistakes = ('P9',)
    kinds = ('signature',)
    more_bad = (bad_unbound, bad_tf_function)
    more_good = (good_unsupervised, good_method)

    def of_crash(self, build: Any, crash: Any) -> Iterator[Finding]:
        if 'fault' in crash.details:
            yield self.finding(
                build, f'model_fn {crash.details["fault"]}', op=crash.place,
                hint='pass a plain function or a bound method: '
                     'def model_fn(features, labels, mode, params)',
                expected='a function (features, labels, mode, params, config)', actual=crash.text)
            return
        yield self.finding(
            build, 'model_fn has no argument labels, but the input function gives labels',
            hint='write def model_fn(features, labels, mode, ...)', op=crash.place,
            expected='an argument labels', actual=crash.text)

    @staticmethod
    def bad() -> Any:
        """Labels come, and nobody takes them."""
        return jobs.job(_without_labels, evaluate=None, receiver=None)

    @staticmethod
    def good() -> Any:
        """Labels are taken."""
        return jobs.job()

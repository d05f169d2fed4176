"""Numbers that a rehearsal of TRAIN or EVAL shows to be no numbers."""

from __future__ import annotations

from typing import Any, Iterator

import numpy as np

from estimator_spec_ext import describe
from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs
from estimator_spec_ext.rules.preflight_run import crashed, run_job


def _root_of_minus_one(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode != 'train':
        return jobs.spec(mode, prediction, labels)
    loss = tf.reduce_mean(tf.square(prediction - labels)) + tf.sqrt(tf.reduce_min(labels) - 1.)
    train_op = v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())
    return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def _nan_in_eval(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode == 'eval':
        prediction += tf.sqrt(tf.reduce_min(labels) - 1.)
    return jobs.spec(mode, prediction, labels)


def bad_in_eval() -> Any:
    """NaN in EVAL alone."""
    return run_job(_nan_in_eval)


def _hidden_by_where(features: Any, labels: Any, mode: str) -> Any:
    shifted = features['x'] - tf.reduce_min(features['x'])
    weight = v1.get_variable('v', [jobs.FEATURES, 1], use_resource=True)
    hidden = tf.matmul(shifted / tf.square(shifted), weight)
    hidden = tf.where(tf.math.is_finite(hidden), hidden, tf.zeros_like(hidden))
    return jobs.spec(mode, jobs.linear(features) + hidden, labels)


def bad_weights() -> Any:
    """NaN is hidden from the loss, and not from the gradient."""
    return run_job(_hidden_by_where, evaluate=None)


def _metric_of_quotients(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode != 'eval':
        return jobs.spec(mode, prediction, labels)
    error = tf.abs(prediction - labels)
    percents = v1.metrics.mean(tf.reduce_mean((error - error[0]) / (labels - labels[0])))
    return tf_estimator.EstimatorSpec(
        mode, loss=tf.reduce_mean(error), eval_metric_ops={'percents': percents})


def bad_metric() -> Any:
    """A metric adds up quotients, of which one is 0 / 0."""
    return run_job(_metric_of_quotients)


def _metric_of_no_rows(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode != 'eval':
        return jobs.spec(mode, prediction, labels)
    zero, update = v1.metrics.mean(0.)
    return tf_estimator.EstimatorSpec(
        mode, loss=tf.reduce_mean(tf.square(prediction - labels)),
        eval_metric_ops={'rare': (zero / zero, update)})


def good_metric() -> Any:
    """A metric of rows that the first batches do not have."""
    return run_job(_metric_of_no_rows)


class LossNotFinite(Rule):
    """The loss, a weight or a metric is NaN, or the loss infinite, within the first steps.

    What it finds: a loss of TRAIN or EVAL that is not finite in a rehearsal of two steps on the
    job's own data, a weight that these steps made NaN, and a metric of EVAL whose sums they did.

    Why it matters: TRAIN stops with "NaN loss during training" at the step where it comes, and goes
    on with ruined weights where relu or where hides it; EVAL reports nan, and nobody notices.

    Bad:
        loss = tf.reduce_mean(tf.math.log(probabilities))

    Good:
        loss = tf.reduce_mean(tf.math.log(tf.maximum(probabilities, 1e-7)))

    When to suppress: when the first steps are known to overflow, e.g. under loss scaling.
    """

    code = 'ESX721'
    slug = 'loss-not-finite-when-run'
    severity = Severity.ERROR
    stage = 'run'
    mistakes = ('L3',)
    more_bad = (bad_in_eval, bad_weights, bad_metric)
    more_good = (good_metric,)

    def check(self, facts: Any) -> Iterator[Finding]:
        hint = 'look for logarithms and divisions of what may be 0, or a learning rate too high'
        for rehearsed, _ in crashed(facts, 'nan'):
            yield self.finding(
                rehearsed, 'the loss of TRAIN is NaN within the first two steps', hint=hint,
                field='loss', expected='a finite number', actual='nan')
        for rehearsed in facts.get('train'):
            losses = rehearsed.recorder.losses if rehearsed.crash is None else []
            if any(loss in (float('inf'), float('-inf')) for loss in losses):
                yield self.finding(
                    rehearsed, 'the loss of TRAIN is infinite within the first two steps',
                    hint=hint, field='loss', expected='a finite number', actual='inf',
                    severity=Severity.WARNING)
            if rehearsed.crash is None and rehearsed.recorder.spoilt:
                spoilt = describe.names(rehearsed.recorder.spoilt, limit=1)
                yield self.finding(
                    rehearsed, f'training makes NaN of {spoilt} within the first two steps',
                    hint='replace what is NaN in the data or is divided by 0 before it is used: '
                         'relu and tf.where hide it from the loss alone', field='train_op',
                    expected='finite numbers', actual='nan')
        for rehearsed in facts.get('eval'):
            loss = rehearsed.metrics.get('loss')
            if loss is not None and loss != loss:
                yield self.finding(
                    rehearsed, 'the loss of EVAL is NaN on its first two batches', hint=hint,
                    field='loss', expected='a finite number', actual='nan',
                    severity=Severity.WARNING)
                continue
            names = [name for name, value in rehearsed.metrics.items() if rehearsed.spoilt
                     and isinstance(value, (float, np.floating)) and value != value]
            if names:
                yield self.finding(
                    rehearsed,
                    f'metric {describe.names(names, limit=1)} of EVAL is NaN on its first '
                    'two batches', hint=hint, field='eval_metric_ops',
                    expected='a finite number', actual='nan', severity=Severity.WARNING)

    @staticmethod
    def bad() -> Any:
        """The root of a negative number."""
        return run_job(_root_of_minus_one, evaluate=None)

    @staticmethod
    def good() -> Any:
        """Squared errors."""
        return run_job()

"""Things that outlive a graph: optimizers, models, hooks and specs kept from call to call."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import estimator, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rules import jobs
from estimator_spec_ext.rules.preflight_crash import MODE_NAMES, CrashRule

# Findings of other rules that show the same when a mode is built again.
_FOREIGN_MISTAKES = frozenset({'T8', 'H2'})


def _keeps_weight() -> Any:
    kept: dict[str, Any] = {}

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        if 'w' not in kept:
            kept['w'] = v1.get_variable('w', [jobs.FEATURES, 1])
        return jobs.spec(mode, tf.matmul(features['x'], kept['w']), labels)

    return model_fn


def _keeps_optimizer() -> Any:
    optimizer = tf.keras.optimizers.legacy.Adam()

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        prediction = jobs.linear(features)
        if mode != 'train':
            return jobs.spec(mode, prediction, labels)
        loss = tf.reduce_mean(tf.square(prediction - labels))
        optimizer.iterations = v1.train.get_or_create_global_step()
        train_op = tf.group(optimizer.get_updates(loss, v1.trainable_variables()))
        return estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn


def _shares_v1_optimizer() -> Any:
    optimizer = v1.train.AdamOptimizer(.01)

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        prediction = jobs.linear(features)
        if mode != 'train':
            return jobs.spec(mode, prediction, labels)
        loss = tf.reduce_mean(tf.square(prediction - labels))
        train_op = optimizer.minimize(loss, v1.train.get_global_step())
        return estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    return model_fn


def bad_optimizer() -> Any:
    """A Keras optimizer that is made once and used by each call."""
    return jobs.job(_keeps_optimizer())


def good_v1_optimizer() -> Any:
    """TF1 optimizers keep their slots apart by graph."""
    return jobs.job(_shares_v1_optimizer())


class KeptFromCallToCall(CrashRule):
    """model_fn keeps an optimizer, a model, a tensor or a spec from one call to the next.

    What it finds: a mode that dies on things of another graph, or that is built well once and dies
    or changes when it is built a second time.

    Why it matters: Estimator calls model_fn in a new graph for each train, evaluate, predict and
    export. What is made outside of it, or cached, belongs to the first graph. The message is about
    graphs, and comes with the second call. A second TRAIN in one process is a warning:
    train_and_evaluate trains once.

    Bad:
        optimizer = tf.keras.optimizers.legacy.Adam()
        def model_fn(features, labels, mode): ...  # uses optimizer

    Good:
        def model_fn(features, labels, mode):
            optimizer = tf.keras.optimizers.legacy.Adam()

    When to suppress: when this mode is used once in a process.
    """

    code = 'ESX140'
    slug = 'kept-from-call-to-call'
    mistakes = ('T6', 'T7', 'T8', 'H2')
    kinds = ('graph',)
    more_bad = (bad_optimizer,)
    more_good = (good_v1_optimizer,)

    def check(self, facts: Any) -> Iterator[Finding]:
        yield from super().check(facts)
        for second in facts.second:
            yield from self._second(second)

    def of_crash(self, build: Any, crash: Any) -> Iterator[Finding]:
        yield self.finding(
            build, f'{MODE_NAMES[build.mode]} uses things that were made in another graph',
            hint='make variables, layers, optimizers and hooks inside model_fn, at each call',
            op=crash.place, expected='things of the graph of this call', actual=crash.text,
            severity=self.doubted(build))

    def _second(self, second: Any) -> Iterator[Finding]:
        build = second.facts
        name = MODE_NAMES[build.mode]
        severity = Severity.WARNING if build.mode == 'train' or build.source == 'input' and (
            build.mode == 'infer') else None
        hint = 'make variables, layers, optimizers and hooks inside model_fn, at each call'
        if build.crash is not None:
            told = build.report.errors
            reason = told[0].message if told else build.crash.text.split(':', 1)[0]
            yield self.finding(
                build, f'{name} is built once, and fails the second time: {reason}', hint=hint,
                op=build.crash.place, expected='the same graph at each call', actual=reason,
                severity=severity)
            return
        foreign = [finding for finding in build.report.errors
                   if _FOREIGN_MISTAKES.intersection(second.mistakes(finding.slug))]
        if foreign:
            first = foreign[0]
            yield self.finding(
                build, f'the second {name} holds things of the first graph: {first.message}',
                hint=hint, field=first.where.field, expected='things of the graph of this call',
                severity=severity)
            return
        if second.keys is None or build.restored is None:
            return
        lost = sorted(set(second.keys) - set(build.restored.by_key))
        new = sorted(set(build.restored.by_key) - set(second.keys))
        if lost or new:
            yield self.finding(
                build, f'{name} has other variables the second time: {describe.names(new, 2)} '
                       f'for {describe.names(lost, 2)}', hint=hint,
                expected=describe.names(lost), actual=describe.names(new), severity=severity)

    @staticmethod
    def bad() -> Any:
        """The variable of the first call serves all others."""
        return jobs.job(_keeps_weight())

    @staticmethod
    def good() -> Any:
        """Each call makes its own."""
        return jobs.job()

"""Hooks whose code makes ops when the graph cannot be changed any more."""

from __future__ import annotations

import dataclasses
from typing import Any, Iterator

from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.hooks import class_name, is_stock
from estimator_spec_ext.late_ops import late_ops
from estimator_spec_ext.rule import HOOKS, Rule
from estimator_spec_ext.rules.hooks_listed import running_hooks


def _eval(hook: Any) -> dict[str, Any]:
    return {'mode': 'eval', 'loss': tf.constant(1., name='loss'), 'evaluation_hooks': [hook]}


class _EveryThousand(v1.train.SessionRunHook):
    """What an author may write: the branch is taken after a thousand steps."""

    _seen = 0

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self._seen += 1
        if self._seen % 1000 == 0:
            self._report(run_context.session)

    def _report(self, session: Any) -> None:
        session.run(tf.reduce_mean(tf.constant([1., 2.])))


class _Decay(v1.train.SessionRunHook):
    """Changes the learning rate at a certain step."""

    def __init__(self, rate: Any) -> None:
        self._rate = rate
        self._seen = 0

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self._seen += 1
        if self._seen == 5000:
            run_context.session.run(self._rate.assign(.01))


class _Smaller(v1.train.SessionRunHook):
    """Reckons with a tensor, when all is over."""

    def __init__(self, loss: Any) -> None:
        self._loss = loss

    def end(self, session: Any) -> None:
        session.run(self._loss / 2.)


class _Kept(v1.train.SessionRunHook):
    """Keeps the number in the place of the tensor."""

    def __init__(self, loss: Any) -> None:
        self._loss = loss

    def before_run(self, run_context: Any) -> Any:
        return v1.train.SessionRunArgs(v1.train.get_global_step())

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self._loss = float(run_values.results)
        v1.logging.info('twice the step is %s' % (self._loss * 2.))


class _InTime(v1.train.SessionRunHook):
    """Makes all in begin(), and reckons with numbers later."""

    def __init__(self, rate: Any) -> None:
        self._rate = rate
        self._seen = 0

    def begin(self) -> None:
        self._mean = self._mean_of(tf.constant([1., 2.]))
        self._decay = self._rate.assign(.01)

    def _mean_of(self, values: Any) -> Any:
        return tf.reduce_mean(values)

    def before_run(self, run_context: Any) -> Any:
        return v1.train.SessionRunArgs(v1.train.get_global_step())

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self._seen = self._seen + 1
        if self._seen == 5000:
            run_context.session.run([self._mean, self._decay])
            v1.logging.info('step %s', run_values.results)


class _Beside(v1.train.SessionRunHook):
    """Has a graph of its own for what it reckons at the end."""

    def end(self, session: Any) -> None:
        with tf.Graph().as_default(), v1.Session() as own:
            own.run(tf.constant(1))
        if tf.executing_eagerly():
            self._eager()

    def _eager(self) -> None:
        tf.constant(1)


def _bad_decay() -> Any:
    """A variable is assigned at step 5000."""
    return _eval(_Decay(v1.get_variable('rate', [])))


def _bad_end() -> Any:
    """Arithmetic with a tensor in end()."""
    return _eval(_Smaller(tf.constant(1., name='value')))


def _good_beside() -> Any:
    """A graph of its own."""
    return _eval(_Beside())


def _good_kept() -> Any:
    """An attribute that is a tensor until the session begins."""
    return _eval(_Kept(tf.constant(1., name='value')))


class HookMakesOpsLate(Rule):
    """A hook's code makes an op in a method that is called after the graph was finalized.

    What it finds: in before_run, after_run, after_create_session and end of a hook of one's own,
    and in what these call: functions of TensorFlow that make an op each time, and arithmetic with
    tensors and assignments to variables that the hook holds. The code is read, not run. What lies
    under another graph's `as_default()` or in a `try` that catches does not count.

    Why it matters: "Graph is finalized and cannot be modified" kills the job when the hook acts:
    at step 5000, or in end() after all of the training.

    Bad:
        def after_run(self, run_context, run_values):
            if self._step % 1000 == 0:
                run_context.session.run(self._rate.assign(0.01))

    Good:
        def begin(self):
            self._decay = self._rate.assign(0.01)

    When to suppress: when the line cannot be reached in this job.
    """

    code = 'ESX612'
    slug = 'hook-makes-ops-late'
    severity = Severity.WARNING
    stage = 'spec'
    mistakes = ('H3',)
    more_bad = (_bad_decay, _bad_end)
    more_good = (_good_beside, _good_kept)
    about = HOOKS

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if facts.graph is None or graphs.is_function_graph(facts.graph):
            return
        for place, hook in running_hooks(facts):
            found = [] if is_stock(hook) else late_ops(hook)
            if not found:
                continue
            first = found[0]
            finding = self.finding(
                facts, f'{first.method} of {place} ({class_name(hook)}) makes an op in the '
                       f'finalized graph: {first.text}', field=place,
                hint='make the op in begin(), and only run it later',
                expected='ops made in begin()', actual=first.text)
            yield dataclasses.replace(finding, where=dataclasses.replace(
                finding.where, file=first.file, line=first.line))

    @staticmethod
    def bad() -> Any:
        """A helper of after_run makes ops every thousand steps."""
        return _eval(_EveryThousand())

    @staticmethod
    def good() -> Any:
        """They are made in begin()."""
        return _eval(_InTime(v1.get_variable('rate', [])))

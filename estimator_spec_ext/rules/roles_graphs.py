"""Graphs that differ between tasks, from one build to the next, or from the evaluator's."""

from __future__ import annotations

import time
from typing import Any, Iterator, Optional

from estimator_spec_ext import describe
from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs, role_jobs


def _reduced(index: int, dtype: Any = tf.float32) -> Any:
    """A model_fn in which one task sums up one number more over all replicas."""
    def function(features: Any, labels: Any, mode: str) -> Any:
        prediction = jobs.linear(features)
        loss = tf.reduce_mean(tf.square(prediction - labels))
        if mode == 'train' and index in (-1, role_jobs.task_index()):
            context = tf.distribute.get_replica_context()
            total = context.all_reduce('SUM', tf.cast(loss, dtype))
            loss += 0. * tf.cast(total, tf.float32)
        train_op = v1.train.AdamOptimizer(.01).minimize(loss, v1.train.get_global_step())
        return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)
    return function


def _reduced_dtype(features: Any, labels: Any, mode: str) -> Any:
    dtype = tf.float64 if role_jobs.task_index() else tf.float32
    return _reduced(-1, dtype)(features, labels, mode)


def bad_dtype() -> Any:
    """Both tasks sum up, in different dtypes."""
    return role_jobs.collective(_reduced_dtype)


def _logged(field: str, summary: bool = False) -> Any:
    """A model_fn whose sum over all replicas only hooks, or a summary, look at."""
    def function(features: Any, labels: Any, mode: str) -> Any:
        prediction = jobs.linear(features)
        fields = {}
        if mode == 'train':
            context = tf.distribute.get_replica_context()
            total = context.all_reduce('SUM', tf.reduce_mean(prediction))
            if summary:
                v1.summary.scalar('total', total)
            else:
                fields[field] = [v1.train.LoggingTensorHook({'total': total}, 10)]
        return jobs.spec(mode, prediction, labels, **fields)
    return function


def bad_hook_of_chief() -> Any:
    """All tasks make the sum, and only the chief looks at it."""
    return role_jobs.collective(_logged('training_chief_hooks'))


def bad_summary_of_chief() -> Any:
    """Summaries are the chief's."""
    return role_jobs.collective(_logged('', summary=True))


class _Logs(v1.train.SessionRunHook):
    """A hook of another class."""

    def __init__(self, total: Any) -> None:
        self.total = total


def bad_own_hook_of_chief() -> Any:
    """Nobody knows when the hook looks at it: a warning."""
    def function(features: Any, labels: Any, mode: str) -> Any:
        prediction = jobs.linear(features)
        if mode != 'train':
            return jobs.spec(mode, prediction, labels)
        total = tf.distribute.get_replica_context().all_reduce('SUM', tf.reduce_mean(prediction))
        return jobs.spec(mode, prediction, labels, training_chief_hooks=[_Logs(total)])
    return role_jobs.collective(function)


def good_hook() -> Any:
    """All tasks look at it."""
    return role_jobs.collective(_logged('training_hooks'))


def _summary_of_chief(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if role_jobs.task_index() == 0:
        v1.summary.histogram('prediction', prediction)
    return jobs.spec(mode, prediction, labels)


def good_summary() -> Any:
    """A summary of the chief's own."""
    return role_jobs.collective(_summary_of_chief)


class CollectivesDiffer(Rule):
    """The tasks of a cluster do not exchange the same values.

    What it finds: collective ops (all-reduce, broadcast, gather) of training tasks that differ in
    number, order, keys, dtype or shape, where the variables do not; and such that one task runs,
    for a summary or a hook of the chief's, and another does not.

    Why it matters: each one waits for its twins on the other tasks. All tasks hang at the first
    step, without a message; where only shapes differ one of them fails and the others hang.

    Bad:
        if config.is_chief:
            total = context.all_reduce('SUM', loss)

    Good:
        total = context.all_reduce('SUM', loss)
        hooks = [tf.estimator.LoggingTensorHook({'total': total}, every_n_iter=100)]

    When to suppress: never.
    """

    code = 'ESX844'
    slug = 'collectives-differ'
    severity = Severity.ERROR
    stage = 'roles'
    mistakes = ('D6',)
    more_bad = (bad_dtype, bad_hook_of_chief, bad_summary_of_chief, bad_own_hook_of_chief)
    more_good = (good_summary, good_hook)

    def check(self, facts: Any) -> Iterator[Finding]:
        for there, here, found in facts.pairs():
            if found and not found.renamed:
                continue
            pair = next((pair for pair in zip(there.exchanges, here.exchanges)
                         if pair[0].identity != pair[1].identity), None)
            many, few = sorted((there, here), key=lambda graph: -len(graph.exchanges))
            extra = len(many.exchanges) - len(few.exchanges)
            if extra:
                known = {one.place.op_name for one in few.exchanges}
                odd = [one for one in many.exchanges if one.place.op_name not in known]
                odd = [one for one in odd if one.kind != 'bcast'] or list(many.exchanges[-1:])
                yield self.finding(
                    facts.at(many, odd[0].place),
                    f'{many.role} has {len(many.exchanges)} collective ops, {few.role} has '
                    f'{len(few.exchanges)}: both will hang',
                    hint='make the same exchanges in every task', op=odd[0].place,
                    expected=str(len(few.exchanges)), actual=str(len(many.exchanges)))
            elif pair is not None:
                one, other = pair
                yield self.finding(
                    facts.at(here, other.place),
                    f'{here.role} has a {other} where {there.role} has a {one}',
                    hint='make the same exchanges in every task', op=other.place,
                    expected=str(one), actual=str(other))
            else:
                yield from self._run(facts, there, here)

    def _run(self, facts: Any, there: Any, here: Any) -> Iterator[Finding]:
        """Of the same exchanges, those that one task runs and the other does not."""
        for one, other in zip(there.exchanges, here.exchanges):
            if one.may_run != other.may_run:
                runs, rests = (there, here) if one.may_run else (here, there)
                place = one.place if one.may_run else other.place
                yield self.finding(
                    facts.at(runs, place), f'{runs.role} runs a {one} that {rests.role} does not '
                    'run: it will wait for ever',
                    hint='compute it in each step of every task, or not over all tasks', op=place,
                    expected='every task', actual=runs.role,
                    severity=None if one.runs or other.runs else Severity.WARNING)
                return

    @staticmethod
    def bad() -> Any:
        """The chief sums up one number more."""
        return role_jobs.collective(_reduced(0))

    @staticmethod
    def good() -> Any:
        """Both do."""
        return role_jobs.collective(_reduced(-1))


def _told(found: Any) -> Optional[tuple[Any, str]]:
    """A variable to point at, and what is different about it."""
    if found.renamed:
        one, other = found.renamed[0]
        return other, f'{one.name!r} becomes {other.name!r}'
    if found.extra:
        return found.extra[0], f'{found.extra[0].name!r} is new'
    if found.missing:
        return found.missing[0], f'{found.missing[0].name!r} is gone'
    if found.changed:
        one, other = found.changed[0]
        return other, f'{one} becomes {other}'
    return None


_STARTED = time.time()


def _by_time(features: Any, labels: Any, mode: str) -> Any:
    hours = int(time.time() - _STARTED) // 3600
    with v1.variable_scope(f'after_{hours}_hours'):
        return jobs.spec(mode, jobs.linear(features), labels)


class GraphChangesByItself(Rule):
    """The same task builds another graph when it is built again.

    What it finds: variables whose names, shapes, number or order differ when a task is built with
    the clock a day ahead, and, in child processes, with another hash seed, which changes the order
    of sets.

    Why it matters: each task of a cluster is built at its own moment, in its own process: their
    variables will differ, and they hang, or mix values where only the order differs. Even alone, a
    job that is started again does not find its variables in the checkpoint.

    Bad:
        with tf.compat.v1.variable_scope(time.strftime('run_%H%M')):

    Good:
        with tf.compat.v1.variable_scope('model'):

    When to suppress: when the builder keeps state between calls, and each task calls it once.
    """

    code = 'ESX845'
    slug = 'graph-changes-by-itself'
    severity = Severity.ERROR
    stage = 'roles'
    mistakes = ('D5',)

    def check(self, facts: Any) -> Iterator[Finding]:
        how = ('a day later, with another hash seed' if facts.separate else 'a day later')
        for graph, again, found in facts.changes():
            told = _told(found)
            if told is None and found.moved is not None and (
                    graph.collective or found.elsewhere):
                one, other = found.moved
                told = other, f'{other.name!r} is created before {one.name!r}'
            if told is None:
                continue
            variable, what = told
            soft = not facts.comparable
            yield self.finding(
                facts.at(again, variable.place), f'{graph.role} builds another graph {how}: {what}',
                hint='take nothing from the clock, from random numbers or from the order of a set'
                     + ('; or give the builder by name, with child_processes=True' if soft else ''),
                op=variable.place, expected='the same variables', actual=what,
                severity=Severity.WARNING if soft else None)
            return

    @staticmethod
    def bad() -> Any:
        """A scope named after the hour."""
        return role_jobs.compared(role_jobs.builder(_by_time), _chief_alone(), later=True)

    @staticmethod
    def good() -> Any:
        """A scope with a name."""
        return role_jobs.compared(role_jobs.builder(), _chief_alone(), later=True)


def _chief_alone() -> Any:
    return {'cluster': {'chief': ['chief.invalid:1'], 'ps': ['ps.invalid:1']},
            'task': {'type': 'chief', 'index': 0}}


def _scope_of_evaluator(features: Any, labels: Any, mode: str, config: Any) -> Any:
    with v1.variable_scope('evaluator' if config.task_type == 'evaluator' else 'model'):
        return jobs.spec(mode, jobs.linear(features), labels)


def _with_evaluator(function: Any) -> Any:
    return role_jobs.compared(role_jobs.builder(function), role_jobs.cluster(ps=1, evaluator=True))


class EvaluatorRestoresDifferently(Rule):
    """The evaluator looks for variables that the chief does not save.

    What it finds: variables of EVAL, as the evaluator task builds it, that are not in the
    checkpoints of the training tasks, or have another shape there.

    Why it matters: "Key ... not found in checkpoint" in the evaluator at the first checkpoint. The
    evaluator dies, the other tasks train on and end well, and nobody notices that nothing was
    evaluated or exported.

    Bad:
        with tf.compat.v1.variable_scope(config.task_type):

    Good:
        with tf.compat.v1.variable_scope('model'):

    When to suppress: when the scaffold of EVAL restores from elsewhere.
    """

    code = 'ESX847'
    slug = 'evaluator-restores-differently'
    severity = Severity.ERROR
    stage = 'roles'
    mistakes = ('V1', 'D5')

    def check(self, facts: Any) -> Iterator[Finding]:
        first = facts.first
        if first is None or first.restored is None or 'eval' in facts.explained:
            return
        saved = {key: (shape, dtype) for key, shape, dtype in first.restored}
        for graph in facts.graphs:
            if not graph.evaluates or graph.restored is None or graph.fills_itself:
                continue
            missing = [key for key, _, _ in graph.restored if key not in saved]
            other = [(key, shape) for key, shape, dtype in graph.restored
                     if key in saved and shape and saved[key][0] and saved[key][0] != shape]
            places = {variable.name: variable.place for variable in graph.variables}
            if missing:
                yield self.finding(
                    facts.at(graph), f'{graph.role} restores {describe.names(missing, 2)}; '
                    f'{first.role} saves no such variable',
                    hint='give it the same name and scope in every task',
                    op=places.get(missing[0]), expected=describe.names(sorted(saved)),
                    actual=describe.names(missing))
            elif other:
                key, shape = other[0]
                yield self.finding(
                    facts.at(graph), f'{graph.role} restores {key} with shape {shape}; '
                    f'{first.role} saves {saved[key][0]}',
                    hint='give it the same shape in every task', op=places.get(key),
                    expected=saved[key][0], actual=shape)

    @staticmethod
    def bad() -> Any:
        """A scope of the evaluator's own."""
        return _with_evaluator(_scope_of_evaluator)

    @staticmethod
    def good() -> Any:
        """One scope."""
        return _with_evaluator(jobs.model_fn)

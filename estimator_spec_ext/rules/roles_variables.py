"""Variables that differ between the tasks of a cluster."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs, role_jobs

_MANY = 3


def _listed(variables: Any) -> str:
    return describe.names((str(variable) for variable in variables), _MANY)


def two_variables(index_of_other_order: int = -1) -> Any:
    """A model_fn with two variables of one shape; one task may create them the other way round."""
    def function(features: Any, labels: Any, mode: str) -> Any:
        names = ['a', 'b']
        if index_of_other_order >= 0 and role_jobs.task_index() == index_of_other_order:
            names.reverse()
        made = {name: v1.get_variable(name, [jobs.FEATURES, 1], use_resource=True)
                for name in names}
        return jobs.spec(mode, tf.matmul(features['x'], made['a']) + tf.matmul(
            features['x'], made['b']), labels)
    return function


def _extra(index: int, trainable: bool = False) -> Any:
    def function(features: Any, labels: Any, mode: str) -> Any:
        prediction = jobs.linear(features)
        if mode == 'train' and role_jobs.task_index() == index:
            v1.get_variable('extra', [2], trainable=trainable, use_resource=True)
        return jobs.spec(mode, prediction, labels)
    return function


def _wider(features: Any, labels: Any, mode: str) -> Any:
    units = 4 + role_jobs.task_index()
    hidden = v1.layers.dense(features['x'], units, name='hidden')
    return jobs.spec(mode, tf.reduce_sum(hidden, axis=1, keepdims=True), labels)


def _with_counter(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if role_jobs.task_index() == 0:
        v1.get_variable('seen', [], collections=[v1.GraphKeys.LOCAL_VARIABLES], trainable=False)
    return jobs.spec(mode, prediction, labels)


def bad_classic_worker() -> Any:
    """With parameter servers the worker waits for a variable that nobody initialises."""
    return role_jobs.classic(_extra(1))


def bad_shape() -> Any:
    """A layer as wide as the index of the task is high."""
    return role_jobs.collective(_wider)


def bad_optimizer() -> Any:
    """Another optimizer, with slots of its own."""
    return role_jobs.collective(_other_optimizer)


def _other_optimizer(features: Any, labels: Any, mode: str) -> Any:
    loss = tf.reduce_mean(tf.square(jobs.linear(features) - labels))
    optimizer = (v1.train.MomentumOptimizer(.1, .9) if role_jobs.task_index()
                 else v1.train.AdagradOptimizer(.1))
    return tf_estimator.EstimatorSpec(
        mode, loss=loss, train_op=optimizer.minimize(loss, v1.train.get_global_step()))


def good_classic_chief() -> Any:
    """With parameter servers the chief may have a variable of its own."""
    return role_jobs.classic(_extra(0))


def good_local() -> Any:
    """With parameter servers local variables belong to one task."""
    return role_jobs.classic(_with_counter)


class VariablesDifferByRole(Rule):
    """The tasks of a cluster do not have the same variables.

    What it finds: global variables that one training task has and another has not, or that differ
    in shape, dtype or in being trainable; the slots of optimizers are among them.

    Why it matters: under MultiWorkerMirroredStrategy each task waits for the others to broadcast
    the first value of each variable: all hang before the first step, without a message. With
    parameter servers a worker waits two hours for a variable that the chief does not have.

    Bad:
        if config.is_chief:
            ema = tf.compat.v1.get_variable('ema', shape)

    Good:
        ema = tf.compat.v1.get_variable('ema', shape)

    When to suppress: when the chief alone restores and keeps the variable, without a strategy.
    """

    code = 'ESX840'
    slug = 'variables-differ-by-role'
    severity = Severity.ERROR
    stage = 'roles'
    mistakes = ('D4', 'D5', 'D6')
    more_bad = (bad_classic_worker, bad_shape, bad_optimizer)
    more_good = (good_classic_chief, good_local)

    def check(self, facts: Any) -> Iterator[Finding]:
        for there, here, found in facts.pairs():
            if found.renamed:
                continue
            if found.extra:
                yield self.finding(
                    facts.at(here, found.extra[0].place),
                    f'{here.role} has variables that {there.role} has not: '
                    f'{_listed(found.extra)}', hint='create them in every task',
                    op=found.extra[0].place, expected=f'the variables of {there.role}',
                    actual=_listed(found.extra))
            if found.missing:
                soft = not facts.collective
                yield self.finding(
                    facts.at(there, found.missing[0].place),
                    f'{there.role} has variables that {here.role} has not: '
                    f'{_listed(found.missing)}', hint='create them in every task',
                    op=found.missing[0].place, expected=f'the variables of {here.role}',
                    actual=_listed(found.missing), severity=Severity.INFO if soft else None)
            for one, other in found.changed[:1]:
                yield self.finding(
                    facts.at(here, other.place),
                    f'{here.role} has {other}, {there.role} has {one}'
                    + ('' if one.trainable == other.trainable else
                       '; one of them is trainable'), hint='make them alike in every task',
                    op=other.place, expected=str(one), actual=str(other))

    @staticmethod
    def bad() -> Any:
        """A variable of the chief's own, where all tasks wait for each other."""
        return role_jobs.collective(_extra(0))

    @staticmethod
    def good() -> Any:
        """The same variables everywhere."""
        return role_jobs.collective()


def good_classic_order() -> Any:
    """A parameter server knows variables by name."""
    return role_jobs.classic(two_variables(1))


class VariableOrderDiffers(Rule):
    """The tasks of a cluster create the same variables in another order.

    What it finds: under MultiWorkerMirroredStrategy, two training tasks with the same variables at
    different positions.

    Why it matters: collective ops are matched by the order of their creation, not by name. Where
    shapes agree the tasks exchange the values and the gradients of different variables: training
    ends well with a wrong model. Where they do not, it hangs or fails.

    Bad:
        for name in set(feature_names): tf.compat.v1.get_variable(name, shape)

    Good:
        for name in sorted(feature_names): tf.compat.v1.get_variable(name, shape)

    When to suppress: never.
    """

    code = 'ESX841'
    slug = 'variable-order-differs'
    severity = Severity.ERROR
    stage = 'roles'
    mistakes = ('D5', 'D6')
    more_good = (good_classic_order,)

    def check(self, facts: Any) -> Iterator[Finding]:
        if not facts.collective:
            return
        for there, here, found in facts.pairs():
            if found.moved is None or found.missing or found.extra:
                continue
            one, other = found.moved
            yield self.finding(
                facts.at(here, other.place),
                f'{here.role} creates {other} where {there.role} creates {one}: their values will '
                'mix', hint='create them in one order, e.g. over sorted(names)', op=other.place,
                expected=one.name, actual=other.name)

    @staticmethod
    def bad() -> Any:
        """The worker begins with the other one."""
        return role_jobs.collective(two_variables(1))

    @staticmethod
    def good() -> Any:
        """One order."""
        return role_jobs.collective(two_variables())


def _renamed(features: Any, labels: Any, mode: str) -> Any:
    with v1.variable_scope(f'task_{role_jobs.task_index()}'):
        return jobs.spec(mode, jobs.linear(features), labels)


def bad_collective() -> Any:
    """Collective ops do not care, but the name in the checkpoint is that of the chief."""
    return role_jobs.collective(_renamed)


class VariableRenamedByRole(Rule):
    """The names of variables depend on the task.

    What it finds: training tasks whose variables are alike in all but their names.

    Why it matters: with parameter servers a variable is its name: the worker waits for variables
    that the chief never initialises. Under MultiWorkerMirroredStrategy the job works, and the
    checkpoint has the names of the chief: a job with another chief does not find them.

    Bad:
        with tf.compat.v1.variable_scope('worker_%d' % config.task_id):

    Good:
        with tf.compat.v1.variable_scope('model'):

    When to suppress: under a strategy, when the names are not used again.
    """

    code = 'ESX842'
    slug = 'variable-renamed-by-role'
    severity = Severity.ERROR
    stage = 'roles'
    mistakes = ('D4', 'D5')
    more_bad = (bad_collective,)

    def check(self, facts: Any) -> Iterator[Finding]:
        for there, here, found in facts.pairs():
            if not found.renamed:
                continue
            one, other = found.renamed[0]
            more = len(found.renamed) - 1
            yield self.finding(
                facts.at(here, other.place),
                f'{here.role} calls {other.name!r} what {there.role} calls {one.name!r}'
                + (f', and {more} more' if more else ''), hint='use the same names in every task',
                op=other.place, expected=one.name, actual=other.name,
                severity=Severity.WARNING if facts.collective else None)

    @staticmethod
    def bad() -> Any:
        """A scope for each task, with a parameter server."""
        return role_jobs.classic(_renamed)

    @staticmethod
    def good() -> Any:
        """One scope."""
        return role_jobs.classic()


class VariablePlacedDifferently(Rule):
    """The tasks look for a variable on different parameter servers.

    What it finds: variables of one name that two training tasks place on different ps tasks.

    Why it matters: parameter servers are chosen in turn, in the order in which variables are made.
    A variable more, or another order, moves all that follow: the worker waits for variables on a
    server where the chief did not put them, for two hours and without an error.

    Bad:
        if config.is_chief: tf.compat.v1.get_variable('seen', [])     # with two ps

    Good:
        tf.compat.v1.get_variable('seen', [])

    When to suppress: never.
    """

    code = 'ESX843'
    slug = 'variable-placed-differently'
    severity = Severity.ERROR
    stage = 'roles'
    mistakes = ('D4', 'D5')

    def check(self, facts: Any) -> Iterator[Finding]:
        for there, here, found in facts.pairs():
            if not found.elsewhere or found.renamed:
                continue
            one, other = found.elsewhere[0]
            more = len(found.elsewhere) - 1
            yield self.finding(
                facts.at(here, other.place),
                f'{here.role} looks for {other.name!r} on {other.ps or "itself"}, {there.role} '
                f'puts it on {one.ps or "itself"}' + (f'; {more} more' if more else ''),
                hint='create the same variables in the same order in every task', op=other.place,
                expected=one.ps, actual=other.ps)

    @staticmethod
    def bad() -> Any:
        """Another order on the worker, with two parameter servers."""
        return role_jobs.classic(two_variables(1), ps=2)

    @staticmethod
    def good() -> Any:
        """One order."""
        return role_jobs.classic(two_variables(), ps=2)

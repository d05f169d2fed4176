"""The train_op: something that can be run, and that does something."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import distribution, graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.rule import TRAIN, Rule
from estimator_spec_ext.rules import training


class TrainOpNotRunnable(Rule):
    """The train_op is neither an Operation nor a Tensor.

    What it finds: a list of ops, as Keras optimizers' get_updates returns it, an optimizer, a
    function, a name, a number.

    Why it matters: Estimator fetches train_op in each step and refuses anything else.

    Bad:
        train_op = [optimizer.minimize(loss, step), update]

    Good:
        train_op = tf.group(optimizer.minimize(loss, step), update)

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX305'
    slug = 'train-op-not-runnable'
    severity = Severity.ERROR
    stage = 'spec'
    modes = (TRAIN,)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        value = facts.train_op
        if (value is None or graphs.as_op(value) is not None or graphs.is_tensor(value)
                or graphs.is_composite(value) or graphs.is_variable(value)
                or distribution.is_per_replica(value)):
            return
        actual = describe.value(value)
        yield self.finding(
            facts, f'train_op is {actual}; expected an Operation or a Tensor', field='train_op',
            hint=_hint(value), expected='an Operation or a Tensor', actual=actual)

    @staticmethod
    def bad() -> Any:
        """A list of ops."""
        _, loss = training.regression()
        return training.train_fields(loss, [training.minimize(loss)])

    @staticmethod
    def good() -> Any:
        """Grouped."""
        _, loss = training.regression()
        return training.train_fields(loss, tf.group(training.minimize(loss)))


def _hint(value: Any) -> str:
    if isinstance(value, (list, tuple, set)):
        return 'make one op of them: tf.group(*train_op)'
    if isinstance(value, dict):
        return 'make one op of them: tf.group(*train_op.values())'
    if hasattr(value, 'minimize'):
        return 'pass what optimizer.minimize(loss, global_step) returns'
    if isinstance(value, str):
        return 'pass the op itself, not its name'
    if callable(value):
        return 'pass what the function returns: train_op=train_op_fn(loss)'
    return 'pass what optimizer.minimize(loss, global_step) returns'


class TrainOpUpdatesNothing(Rule):
    """A training step updates no variable at all.

    What it finds: a train_op that is just the loss, a variable, a gradient or a no-op, while
    nothing else that a step runs (loss, hooks, queue runners) writes a variable. A warning where
    there is nothing to train, or where a hook of a class that is not TensorFlow's might do it.

    Why it matters: stock accepts it. Nothing is learned, the global step stays where it is, and
    training does not end.

    Bad:
        tf.estimator.EstimatorSpec(mode, loss=loss, train_op=loss)

    Good:
        tf.estimator.EstimatorSpec(mode, loss=loss, train_op=optimizer.minimize(loss, step))

    When to suppress: when a hook that is passed to Estimator.train does all the work.
    """

    code = 'ESX303'
    slug = 'train-op-updates-nothing'
    severity = Severity.ERROR
    modes = (TRAIN,)
    needs = ('train_op', 'loss')
    mistakes = ('T1', 'L5')

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        # Without a global step the graph is not one that an Estimator made.
        if facts.global_step is None or not facts.shows_training:
            return
        if any(training.is_state(info) for info in facts.updated):
            return
        to_train = facts.trainable
        if facts.opaque_hooks and not to_train:
            return
        what = _description(facts)
        yield self.finding(
            facts, f'{what}: a training step updates no variable', field='train_op',
            op=graphs.as_op(facts.train_op),
            hint='pass optimizer.minimize(loss, tf.compat.v1.train.get_or_create_global_step()) '
                 'as train_op',
            expected='an op that trains and advances global_step', actual='no variable is updated',
            severity=None if to_train and not facts.opaque_hooks else Severity.WARNING)

    @staticmethod
    def bad() -> Any:
        """The loss in place of the op that minimises it."""
        _, loss = training.regression()
        training.minimize(loss)
        return training.train_fields(loss, loss)

    @staticmethod
    def good() -> Any:
        """The op that minimises it."""
        _, loss = training.regression()
        return training.train_fields(loss, training.minimize(loss))


def _description(facts: SpecFacts) -> str:
    op = graphs.as_op(facts.train_op)
    if op is graphs.as_op(facts.loss):
        return 'train_op is the loss itself'
    if op.type == 'NoOp' and not op.control_inputs:
        return 'train_op is a no-op'
    if op.type in ('VarHandleOp', 'VariableV2', 'Variable', 'ReadVariableOp'):
        return 'train_op is a variable, not an update of one'
    return 'train_op writes nothing'


# Examples.

def _bad_no_op() -> Any:
    _, loss = training.regression()
    return training.train_fields(loss, tf.no_op(name='train'))


def _bad_gradient_alone() -> Any:
    """The gradients are computed and never applied."""
    _, loss = training.regression()
    gradients = tf.gradients(loss, v1.trainable_variables())
    return training.train_fields(loss, tf.group(*gradients, name='train'))


def _bad_beside_a_logger() -> Any:
    return {**TrainOpUpdatesNothing.bad(), 'training_hooks': [training.UnknownHook()]}


def _bad_nothing_to_train() -> Any:
    return training.train_fields(tf.constant(1., name='loss'), tf.no_op(name='train'))


def _bad_optimizer_object() -> Any:
    _, loss = training.regression()
    return training.train_fields(loss, v1.train.GradientDescentOptimizer(.1))


def _good_through_the_loss() -> Any:
    """The whole update hangs on the loss, which Estimator runs beside train_op."""
    _, loss = training.regression()
    with tf.control_dependencies([training.minimize(loss)]):
        reported = tf.identity(loss)
    return training.train_fields(reported, tf.no_op())


def _good_hooks_train() -> Any:
    """All the training, the step included, is in the hooks."""
    _, loss = training.regression()
    hook = training.UnknownHook({'op': training.minimize(loss)})
    return training.train_fields(loss, tf.no_op(), training_hooks=[hook])


def _good_unread_variable() -> Any:
    """What assign_add of a resource variable returns is neither Tensor nor Operation."""
    step = v1.train.get_global_step()
    return training.train_fields(tf.constant(0.), step.assign_add(1))


def _good_float_tensor() -> Any:
    """A Tensor that depends on the updates."""
    _, loss = training.regression()
    with tf.control_dependencies([training.minimize(loss)]):
        return training.train_fields(loss, loss + 0.)


TrainOpNotRunnable.more_bad = (_bad_optimizer_object,)
TrainOpNotRunnable.more_good = (_good_unread_variable, _good_float_tensor)
TrainOpUpdatesNothing.more_bad = (
    _bad_no_op, _bad_gradient_alone, _bad_beside_a_logger, _bad_nothing_to_train)
TrainOpUpdatesNothing.more_good = (_good_through_the_loss, _good_hooks_train,
                                   _good_unread_variable)

"""The hook fields as lists: what they are, what is in them, and what is in them twice."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import distribution, graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.hooks import HOOK_FIELDS, class_name, is_hook
from estimator_spec_ext.rule import HOOKS, Rule

_LISTS = (list, tuple, set, frozenset)


def running_hooks(facts: SpecFacts) -> list[tuple[str, Any]]:
    """The hooks that run in this mode, each with its place; 'hooks[0]' is outside of the spec."""
    found = [(use.field, use.hook) for use in facts.active_hook_uses]
    return found + [(f'hooks[{position}]', hook)
                    for position, hook in enumerate(facts.context.extra_hooks)]


def _eval(hooks: Any) -> dict[str, Any]:
    return {'mode': 'eval', 'loss': tf.constant(1., name='loss'), 'evaluation_hooks': hooks}


class HooksNotList(Rule):
    """A hook field is not a list or tuple.

    What it finds: a single hook that is not in a list, a dict of hooks, a string.

    Why it matters: stock raises "object is not iterable" or names a letter of the string, when the
    spec of that mode is built: for evaluation_hooks often after training has begun.

    Bad:
        evaluation_hooks=hook

    Good:
        evaluation_hooks=[hook]

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX601'
    slug = 'hooks-not-list'
    severity = Severity.ERROR
    stage = 'spec'
    about = HOOKS

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        for field in HOOK_FIELDS:
            value = facts.fields[field]
            if (value is None or isinstance(value, _LISTS) or distribution.is_per_replica(value)
                    or field not in facts.stock_refusals):
                continue
            actual = describe.value(value)
            hint = f'pass a list: {field}=[...]'
            if is_hook(value):
                hint = f'put it into a list: {field}=[hook]'
            elif isinstance(value, dict):
                hint = f'pass its values: {field}=list(hooks.values())'
            yield self.finding(
                facts, f'{field} is {actual}; expected a list of hooks', field=field, hint=hint,
                expected='a list or tuple of SessionRunHook', actual=actual)

    @staticmethod
    def bad() -> Any:
        """One hook alone."""
        return _eval(v1.train.StopAtStepHook(num_steps=1))

    @staticmethod
    def good() -> Any:
        """In a list."""
        return _eval([v1.train.StopAtStepHook(num_steps=1)])


class NotHook(Rule):
    """An entry of a hook field is not a hook.

    What it finds: a class instead of an instance, a nested list, None, a function, a Keras
    callback, a CheckpointSaverListener, a tensor.

    Why it matters: stock raises when the spec of that mode is built, for evaluation_hooks often
    after training has begun, and shows the object without its place.

    Bad:
        training_hooks=[LogHook]

    Good:
        training_hooks=[LogHook()]

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX602'
    slug = 'not-a-hook'
    severity = Severity.ERROR
    stage = 'spec'
    about = HOOKS

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        for field in HOOK_FIELDS:
            for position, entry in enumerate(facts.hooks_in(field)):
                if is_hook(entry) or distribution.is_per_replica(entry):
                    continue
                actual = describe.value(entry)
                place = f'{field}[{position}]'
                yield self.finding(
                    facts, f'{place} is {actual}; expected a SessionRunHook', field=place,
                    op=entry if graphs.as_op(entry) is not None else None, hint=_hint(entry),
                    expected='a tf.compat.v1.train.SessionRunHook', actual=actual)

    @staticmethod
    def bad() -> Any:
        """The class instead of an instance."""
        return _eval([v1.train.StepCounterHook])

    @staticmethod
    def good() -> Any:
        """An instance."""
        return _eval([v1.train.StepCounterHook(output_dir='logs')])


def _hint(entry: Any) -> str:
    if entry is None:
        return 'leave the entry out where there is no hook'
    if isinstance(entry, type):
        return f'make one: {entry.__name__}(...)'
    if isinstance(entry, _LISTS):
        return 'join the lists: [*hooks, *more_hooks]'
    if isinstance(entry, v1.train.CheckpointSaverListener):
        return 'pass it to the saver: CheckpointSaverHook(..., listeners=[listener])'
    if isinstance(entry, tf.keras.callbacks.Callback):
        return 'Estimator runs no Keras callbacks; write a tf.compat.v1.train.SessionRunHook'
    if callable(entry):
        return 'call it, and pass the hook that it returns'
    return 'derive its class from tf.compat.v1.train.SessionRunHook'


class HookTwice(Rule):
    """One hook object runs twice in each step.

    What it finds: the same object twice among the hooks that run together in this mode: twice in
    one field, in training_hooks and training_chief_hooks, or in the spec and in the TrainSpec
    (its hooks are named 'hooks[0]').
    One object in the fields of several modes is fine, and so are two objects of one class.

    Why it matters: Estimator calls each of its methods twice for every step, without a word:
    counters run at double speed, decayed values decay twice, files are written twice.

    Bad:
        training_hooks=[hook], training_chief_hooks=[hook]

    Good:
        training_hooks=[hook]

    When to suppress: when a second call in the same step does nothing.
    """

    code = 'ESX603'
    slug = 'hook-twice'
    severity = Severity.WARNING
    stage = 'spec'
    mistakes = ('H8',)
    about = HOOKS

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        first: dict[int, str] = {}
        for place, hook in running_hooks(facts):
            before = first.setdefault(id(hook), place)
            if before == place:
                continue
            yield self.finding(
                facts, f'{place} is the same {class_name(hook)} object as {before}; '
                       'it runs twice a step', field=place,
                hint='leave it out of one of the two', expected='one place',
                actual=f'{before} and {place}')

    @staticmethod
    def bad() -> Any:
        """For the chief, and for every worker, the chief included."""
        hook = v1.train.StepCounterHook(every_n_steps=10, output_dir='logs')
        return {**_train(), 'training_chief_hooks': [hook], 'training_hooks': [hook]}

    @staticmethod
    def good() -> Any:
        """One object for three modes, and two objects of one class."""
        hook = v1.train.StepCounterHook(every_n_steps=10, output_dir='logs')
        other = v1.train.StepCounterHook(every_n_steps=10, output_dir='logs')
        return {**_train(), 'training_hooks': [hook, other], 'evaluation_hooks': [hook],
                'prediction_hooks': [hook]}


def _train() -> dict[str, Any]:
    weight = v1.get_variable('w', [])
    loss = tf.square(weight, name='loss')
    train_op = v1.train.GradientDescentOptimizer(.1).minimize(
        loss, v1.train.get_or_create_global_step())
    return {'mode': 'train', 'loss': loss, 'train_op': train_op}

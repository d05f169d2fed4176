"""What stands in the hook fields: no list, no hook, or one hook twice."""

from __future__ import annotations

import pytest
import tensorflow as tf

import estimator_spec_ext as ese
from estimator_spec_ext import engine
from estimator_spec_ext.facts import JobContext, SpecFacts
from estimator_spec_ext.validate import validate_hooks

v1 = tf.compat.v1
train = v1.train
FIELDS = ('training_chief_hooks', 'training_hooks', 'evaluation_hooks', 'prediction_hooks')


@pytest.fixture(autouse=True)
def _graph():
    with tf.Graph().as_default():
        yield


def _fields():
    weight = v1.get_variable(v1.get_default_graph().unique_name('w'), [])
    loss = tf.square(weight)
    train_op = train.GradientDescentOptimizer(0.1).minimize(
        loss, train.get_or_create_global_step())
    prediction = v1.placeholder(tf.float32, [None])
    return {'loss': loss, 'train_op': train_op, 'predictions': {'p': prediction}}


def _report(mode='train', context=None, **hooks):
    fields = {**_fields(), **hooks}
    return engine.check(SpecFacts(mode, fields, context=context or JobContext()))


def _about_hooks(report):
    return [f for f in report.findings if f.code.startswith('ESX6') or f.slug == 'stock-refuses']


def _hook():
    return train.StopAtStepHook(last_step=1)


@pytest.mark.parametrize('field', FIELDS)
@pytest.mark.parametrize('mode', ['train', 'eval', 'infer'])
def test_a_hook_without_a_list(field, mode):
    (finding,) = _about_hooks(_report(mode, **{field: _hook()}))
    assert finding.message == f'{field} is a StopAtStepHook; expected a list of hooks'
    assert finding.hint == f'put it into a list: {field}=[hook]'


@pytest.mark.parametrize(
    'make, actual',
    [
        (lambda: 'hook', "'hook'"),
        (lambda: 5, '5'),
        (lambda: {'log': _hook()}, 'a dict'),
        (lambda: _hook, 'the function _hook'),
        (lambda: tf.constant([1.0, 2.0]), 'float32(2,)'),
    ],
)
def test_other_things_that_are_no_list(make, actual):
    (finding,) = _about_hooks(_report(training_hooks=make()))
    assert (finding.slug, finding.actual) == ('hooks-not-list', actual)


class Callback(tf.keras.callbacks.Callback):
    """A Keras callback."""


@pytest.mark.parametrize(
    'make, actual, hint',
    [
        (lambda: train.StepCounterHook, 'the class StepCounterHook', 'make one: StepCounterHook('),
        (lambda: [_hook()], 'a list of 1', 'join the lists'),
        (lambda: None, 'None', 'leave the entry out'),
        (lambda: _hook, 'the function _hook', 'call it'),
        (lambda: Callback(), 'a Callback', 'Estimator runs no Keras callbacks'),
        (
            lambda: train.CheckpointSaverListener(),
            'a CheckpointSaverListener',
            'pass it to the saver',
        ),
        (lambda: tf.no_op(), 'an Operation', 'derive its class'),
        (lambda: object(), 'an object', 'derive its class'),
    ],
)
@pytest.mark.parametrize('field', FIELDS)
def test_an_entry_that_is_no_hook(make, actual, hint, field):
    (finding,) = _about_hooks(_report('eval', **{field: [_hook(), make()]}))
    assert (finding.slug, finding.where.field) == ('not-a-hook', f'{field}[1]')
    assert finding.actual == actual
    assert finding.hint.startswith(hint)


def test_what_stock_takes_passes():
    for hooks in (None, [], (), [_hook()], (_hook(), _hook()), {_hook()}, frozenset([_hook()])):
        assert _about_hooks(_report('eval', evaluation_hooks=hooks)) == []


def test_junk_is_refused_with_all_its_places():
    class Junk:
        def __getattr__(self, name):
            raise RuntimeError

        def __repr__(self):
            raise RuntimeError

        __class__ = property(__repr__)

    report = _report('eval', evaluation_hooks=[Junk], training_hooks=[1, 2], prediction_hooks='a')
    assert [f.where.field for f in _about_hooks(report)] == [
        'prediction_hooks', 'evaluation_hooks[0]', 'training_hooks[0]', 'training_hooks[1]']


def test_a_spec_with_an_iterator_of_hooks():
    fields = _fields()
    spec = ese.StrictEstimatorSpec('train', training_hooks=iter([_hook()]), **fields)
    assert len(spec.training_hooks) == 1


# One object twice.


def _twice(mode='train', context=None, **hooks):
    return [(f.where.field, f.actual) for f in _about_hooks(_report(mode, context, **hooks))
            if f.slug == 'hook-twice']


def test_twice_in_a_list():
    hook = _hook()
    assert _twice(training_hooks=[hook, _hook(), hook]) == [
        ('training_hooks[2]', 'training_hooks[0] and training_hooks[2]')]
    assert _twice('eval', evaluation_hooks=(hook, hook)) == [
        ('evaluation_hooks[1]', 'evaluation_hooks[0] and evaluation_hooks[1]')]
    assert _twice('infer', prediction_hooks=[hook] * 3) == [
        ('prediction_hooks[1]', 'prediction_hooks[0] and prediction_hooks[1]'),
        ('prediction_hooks[2]', 'prediction_hooks[0] and prediction_hooks[2]')]


def test_for_the_chief_and_for_all():
    hook = _hook()
    assert _twice(training_chief_hooks=[hook], training_hooks=[hook]) == [
        ('training_hooks[0]', 'training_chief_hooks[0] and training_hooks[0]')]


def test_in_the_spec_and_in_the_train_spec():
    hook = _hook()
    context = JobContext(extra_hooks=(_hook(), hook))
    assert _twice('train', context, training_hooks=[hook]) == [
        ('hooks[1]', 'training_hooks[0] and hooks[1]')]
    assert _twice('eval', context, training_hooks=[hook]) == []


class Decorator(train.SessionRunHook):
    """Passes on to another hook."""

    def __init__(self, inner):
        self._inner = inner

    def after_run(self, run_context, run_values):
        self._inner.after_run(run_context, run_values)


class Equal(train.StopAtStepHook):
    """Equal to all others of its class."""

    def __eq__(self, other):
        return True

    __hash__ = None


def test_correct_look_alikes():
    hook = _hook()
    every_mode = {field: [hook] for field in FIELDS[1:]}
    for mode in ('train', 'eval', 'infer'):
        assert _twice(mode, **every_mode) == []
    assert _twice(training_hooks=[Decorator(hook), Decorator(hook)]) == []
    assert _twice(training_hooks=[Equal(last_step=1), Equal(last_step=1)]) == []


def test_validate_hooks():
    hook = _hook()
    report = validate_hooks([hook, 1, hook], mode='eval')
    assert [(f.slug, f.where.field) for f in report.findings] == [
        ('not-a-hook', 'evaluation_hooks[1]'), ('hook-twice', 'evaluation_hooks[2]')]
    assert validate_hooks([], mode='infer').findings == ()
    assert [f.slug for f in validate_hooks(hook, mode='train').findings] == ['hooks-not-list']
    assert [f.slug for f in validate_hooks(iter([hook, hook]), mode='train').findings] == [
        'hook-twice']
    with pytest.raises(ValueError, match="^mode must be 'train', 'eval' or 'infer', got 'test'$"):
        validate_hooks([hook], mode='test')

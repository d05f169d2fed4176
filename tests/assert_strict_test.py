"""`assert_strict`, as a function and as pytest's fixture, and `assert_rule`."""

from __future__ import annotations

import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf

import estimator_spec_ext as ese
from estimator_spec_ext import pytest_plugin, registry, testing

pytest_plugins = ['pytester']
v1 = tf.compat.v1

X = {'x': np.ones([4, 3], np.float32)}
Y = np.ones([4, 1], np.float32)


def model_fn(features, labels, mode, params):
    made = tf.keras.layers.Dense(1)(features['x'])
    if mode == 'infer' and not params.get('labels_in_predict'):
        return tf.estimator.EstimatorSpec(mode, predictions={'p': made})
    errors = tf.square(made - labels)
    loss = errors if params.get('loss_per_row') else tf.reduce_mean(errors)
    step = v1.train.get_or_create_global_step()
    train_op = v1.train.AdamOptimizer().minimize(tf.reduce_mean(errors), global_step=step)
    if params.get('counts_twice'):
        train_op = tf.group(train_op, v1.assign_add(step, 1))
    return tf.estimator.EstimatorSpec(mode, predictions={'p': made}, loss=loss, train_op=train_op)


def test_a_right_model_fn_passes_in_all_modes():
    report = testing.assert_strict(model_fn, X, Y, params={})
    assert report.findings == ()
    assert [part['mode'] for part in report.facts['modes']] == ['train', 'eval', 'infer']


def test_a_wrong_one_fails_with_the_report():
    with pytest.raises(AssertionError) as raised:
        testing.assert_strict(model_fn, X, Y, params={'loss_per_row': True})
    line = next(number for number, text in enumerate(
        pathlib.Path(__file__).read_text().splitlines(), 1) if 'errors = tf.square' in text)
    place = os.path.relpath(__file__)
    assert str(raised.value) == f'''\
estimator_spec_ext: 2 errors

train  ERROR  ESX201 loss-not-scalar  loss has shape (?, 1); expected () or (1,)
       at {place}:{line}   field loss   op 'Square'
       fix: reduce it to one number, e.g. tf.reduce_mean(loss)
       more: estimator-preflight explain loss-not-scalar

eval  ERROR  ESX201 loss-not-scalar  loss has shape (?, 1); expected () or (1,)
       at {place}:{line}   field loss   op 'Square'
       fix: reduce it to one number, e.g. tf.reduce_mean(loss)
       more: estimator-preflight explain loss-not-scalar
'''


def test_a_mode_that_cannot_be_built_fails_unless_it_is_left_out():
    params = {'labels_in_predict': True}
    with pytest.raises(AssertionError, match='labels-used-in-predict'):
        testing.assert_strict(model_fn, X, Y, params=params)
    report = testing.assert_strict(model_fn, X, Y, params=params, modes=['train', 'eval'])
    assert report.findings == ()


def test_a_warning_fails_when_asked_and_is_suppressed_with_a_reason():
    params = {'counts_twice': True}
    report = testing.assert_strict(model_fn, X, Y, params=params)
    assert [finding.slug for finding in report.findings] == ['global-step-advanced-twice']
    with pytest.raises(AssertionError, match='global-step-advanced-twice'):
        testing.assert_strict(model_fn, X, Y, params=params, fail_level='warning')
    reasons = {'global-step-advanced-twice': 'both count'}
    report = testing.assert_strict(model_fn, X, Y, params=params, fail_level='warning',
                                   suppress=reasons)
    assert [item.reason for item in report.suppressed] == ['both count']


def test_features_may_be_an_input_fn_or_tensors():
    def input_fn():
        return tf.data.Dataset.from_tensor_slices((X, Y)).repeat().batch(2)

    assert testing.assert_strict(model_fn, input_fn, params={}).ok
    if tf.executing_eagerly():
        tensors = {'x': tf.constant(X['x'])}
        assert testing.assert_strict(model_fn, tensors, tf.constant(Y), params={}).ok


@pytest.mark.once
@pytest.mark.parametrize('options, text', [
    ({'modes': ['predict']}, "modes must be of 'train', 'eval' and 'infer', got 'predict'"),
    ({'fail_level': 'info'}, "fail_level must be 'error' or 'warning', got 'info'"),
])
def test_wrong_options_get_one_clear_error(options, text):
    with pytest.raises(ValueError) as raised:
        testing.assert_strict(model_fn, X, Y, params={}, **options)
    assert str(raised.value) == text


@pytest.mark.once
def test_an_input_fn_gives_the_labels_itself():
    with pytest.raises(ValueError) as raised:
        testing.assert_strict(model_fn, lambda: None, Y)
    assert str(raised.value) == 'an input_fn gives the labels itself: leave out labels'


_USER_TESTS = '''
import numpy as np
import tensorflow as tf

def model_fn(features, labels, mode):
    p = tf.keras.layers.Dense(1)(features['x'])
    if mode == 'infer':
        return tf.estimator.EstimatorSpec(mode, predictions={'p': p})
    loss = tf.square(p - labels)
    step = tf.compat.v1.train.get_or_create_global_step()
    train_op = tf.compat.v1.train.AdamOptimizer().minimize(loss, global_step=step)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

def test_model_fn(assert_strict):
    assert_strict(model_fn, {'x': np.ones([4, 3], np.float32)}, np.ones([4, 1], np.float32))
'''


@pytest.mark.once
def test_the_fixture_in_a_users_own_tests(pytester):
    pytester.makepyfile(_USER_TESTS)
    result = pytester.runpytest_inprocess('-p', pytest_plugin.__name__)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([
        '>   *assert_strict(model_fn, *',
        'E   *AssertionError: estimator_spec_ext: 2 errors',
        "E   *train  ERROR  ESX201 loss-not-scalar  loss has shape (?, 1); expected () or (1,)",
        'E   *at test_the_fixture_in_a_users_own_tests.py:8   field loss   op *',
    ])
    # The report and the user's line, and nothing of what lies between.
    result.stdout.no_fnmatch_line('*estimator_spec_ext/testing.py*')


class _UnnamedLoss(ese.Rule):
    """A loss of EVAL that is not called 'loss'.

    What it finds: a loss whose op has another name.
    """

    code = 'ACME101'
    slug = 'loss-has-no-name'
    severity = ese.Severity.WARNING
    stage = 'graph'
    modes = ('eval',)

    def check(self, facts):
        if facts.loss is not None and facts.loss.op.name != 'loss':
            yield self.finding(facts, f'the loss is called {facts.loss.op.name}; expected loss',
                               hint="name it: tf.identity(loss, 'loss')", field='loss',
                               op=facts.loss)

    @staticmethod
    def bad():
        """A loss without a name."""
        return {'mode': 'eval', 'loss': tf.reduce_mean(v1.placeholder(tf.float32, [None]))}

    @staticmethod
    def good():
        """A loss with its name."""
        return {'mode': 'eval',
                'loss': tf.reduce_mean(v1.placeholder(tf.float32, [None]), name='loss')}


class _Swapped(_UnnamedLoss):
    """Its examples are the wrong way round."""

    bad, good = staticmethod(_UnnamedLoss.good), staticmethod(_UnnamedLoss.bad)


def test_a_rule_of_ones_own_is_run_without_being_registered():
    testing.assert_rule(_UnnamedLoss())
    assert registry.find('loss-has-no-name') is None


@pytest.mark.once
def test_examples_that_differ_are_shown():
    with pytest.raises(AssertionError) as raised:
        testing.assert_rule(_Swapped())
    assert str(raised.value) == ('good must give loss-has-no-name and nothing else, and gives\n'
                                 'estimator_spec_ext: no findings\n')


def test_nothing_else_is_shown(assert_strict, caplog, recwarn):
    """Neither that Estimator will be removed, which TensorFlow logs, nor that tf.layers will."""
    def model_fn(features, labels, mode):
        tf.get_logger().warning('Estimator will be removed')
        prediction = tf.compat.v1.layers.dense(features, 1)
        return tf.estimator.EstimatorSpec(mode, prediction, tf.reduce_mean(prediction - labels))

    with pytest.raises(AssertionError):
        assert_strict(model_fn, np.zeros([4, 2], np.float32), np.zeros([4, 1], np.float32))
    assert not caplog.records
    assert not [str(warning.message) for warning in recwarn
                if 'will be removed' in str(warning.message)]

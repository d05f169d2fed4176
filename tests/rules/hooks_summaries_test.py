"""Summary hooks with nothing to save, and what they then write in a real job."""

from __future__ import annotations

import pytest
import tensorflow as tf

from estimator_spec_ext import engine
from estimator_spec_ext.diagnostics import Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.validate import validate_hooks

v1 = tf.compat.v1
train = v1.train
FIELD = {'train': 'training_hooks', 'eval': 'evaluation_hooks', 'infer': 'prediction_hooks'}


def _findings(mode, fields):
    fields = {'loss': tf.constant(1.0), 'predictions': tf.constant([1.0]), **fields}
    return [f for f in engine.check(SpecFacts(mode, fields), family='ESX6').findings
            if 'summar' in f.slug]


def _hook(directory='d', **given):
    return train.SummarySaverHook(1, output_dir=str(directory), **given)


def _another(directory):
    return {}, _hook(directory, scaffold=train.Scaffold())


def _the_specs(directory):
    scaffold = train.Scaffold()
    return {'scaffold': scaffold}, _hook(directory, scaffold=scaffold)


def _with_local_init(directory):
    scaffold = train.Scaffold(local_init_op=train.Scaffold.default_local_init_op())
    return {'scaffold': scaffold}, _hook(directory, scaffold=scaffold)


def _merged(directory):
    return {}, _hook(directory, summary_op=v1.summary.merge_all())


def _another_with_summaries(directory):
    return {}, _hook(directory, scaffold=train.Scaffold(summary_op=v1.summary.merge_all()))


@pytest.mark.parametrize('make', [_another, _the_specs, _with_local_init, _merged,
                                  _another_with_summaries])
@pytest.mark.parametrize('mode', ['train', 'eval', 'infer'])
def test_the_rule_says_so_just_when_nothing_is_written(mode, make, tmp_path):
    found = []

    def model_fn(features, labels, mode):
        v1.summary.scalar('mine', tf.reduce_mean(features['x']))
        step = train.get_or_create_global_step()
        fields = {'loss': tf.reduce_mean(features['x']), 'train_op': step.assign_add(1),
                  'predictions': features['x']}
        if mode == wanted:
            more, hook = make(tmp_path / 'written')
            fields.update(more, **{FIELD[mode]: [hook]})
            found.extend(f.slug for f in _findings(mode, fields))
        return tf.estimator.EstimatorSpec(mode, **fields)

    def input_fn():
        return tf.data.Dataset.from_tensors(({'x': [1.0]}, [1.0]))

    wanted = mode
    estimator = tf.estimator.Estimator(model_fn, str(tmp_path / 'job'))
    estimator.train(input_fn)
    if mode == 'eval':
        estimator.evaluate(input_fn)
    if mode == 'infer':
        list(estimator.predict(input_fn))
    tags = {value.tag for path in (tmp_path / 'written').glob('events*')
            for event in train.summary_iterator(str(path)) for value in event.summary.value}
    assert found == ([] if 'mine' in tags else ['summary-hook-without-summary'])


def test_a_mode_without_summaries():
    with tf.Graph().as_default():
        scaffold = train.Scaffold()
        for mode in ('eval', 'infer'):
            (finding,) = _findings(
                mode, {'scaffold': scaffold, FIELD[mode]: [_hook(scaffold=scaffold)]})
            assert finding.message.endswith('has no summary to save: this graph has none')
        # In TRAIN Estimator adds one of the loss.
        assert _findings(
            'train', {'scaffold': scaffold, 'training_hooks': [_hook(scaffold=scaffold)]}) == []


def test_hooks_alone_know_no_scaffold():
    with tf.Graph().as_default():
        assert validate_hooks([_hook(scaffold=train.Scaffold())], mode='eval').findings == ()


class Patient(train.SummarySaverHook):
    """Looks for its summaries itself."""

    def _get_summary_op(self):
        return v1.get_collection(v1.GraphKeys.SUMMARIES)


def test_a_hook_of_ones_own_may_find_its_summaries():
    with tf.Graph().as_default():
        v1.summary.scalar('s', 1.0)
        hook = Patient(1, output_dir='d', scaffold=train.Scaffold())
        assert _findings('eval', {'evaluation_hooks': [hook]}) == []


def test_summaries_of_eval_are_information():
    with tf.Graph().as_default():
        v1.summary.image('masks', tf.zeros([1, 2, 2, 1]))
        v1.summary.scalar('s', 1.0)
        (finding,) = _findings('eval', {})
        assert finding.severity is Severity.INFO
        assert finding.message == 'no hook saves the 2 summaries of EVAL'
        assert finding.where.op == 'masks'
        assert _findings('train', {}) == _findings('infer', {}) == []
        merged = v1.summary.merge_all()
        assert _findings('eval', {'evaluation_hooks': [_hook(summary_op=merged)]}) == []
        assert _findings('eval', {'evaluation_hooks': [train.FinalOpsHook(merged)]}) == []
        assert len(_findings('eval', {'training_hooks': [_hook(summary_op=merged)]})) == 1


def test_no_summaries_no_word():
    with tf.Graph().as_default():
        assert _findings('eval', {}) == []

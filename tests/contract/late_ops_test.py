"""Ops that a training graph gets only after model_fn has returned its spec."""

from __future__ import annotations

import pytest
import tensorflow as tf

v1 = tf.compat.v1


class _Names(tf.estimator.SessionRunHook):
    """Notes the names of all ops at begin and once the session exists."""

    def begin(self):
        self.at_begin = _names()

    def after_create_session(self, session, coord):
        self.in_session = _names()
        self.finalized = session.graph.finalized


def _names():
    return {op.name for op in v1.get_default_graph().get_operations()}


@pytest.fixture
def stages(make_estimator, linear, input_fn):
    """The op names when the spec is built, at begin(), and in the session, and the hook."""
    hook, built = _Names(), []

    def model_fn(features, labels, mode):
        _, loss, train_op = linear(features, labels)
        spec = tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, training_hooks=[hook])
        built.append(_names())
        return spec

    make_estimator(model_fn).train(input_fn, steps=1)
    return built[0], hook.at_begin, hook.in_session, hook


def test_loss_summary_is_there_at_begin(stages):
    """The summary `loss` is made after the spec, in time for a hook's begin."""
    built, at_begin, _, _ = stages
    assert 'loss' not in built
    assert 'loss' in at_begin


@pytest.mark.parametrize(
    'name',
    [
        'save/restore_all',
        'report_uninitialized_variables/boolean_mask/GatherV2',
        'init',
        'Merge/MergeSummary',
    ],
)
def test_session_ops_are_not_even_there_at_begin(stages, name):
    """The Saver's ops, the readiness check, the init op and the merged summary come after begin."""
    built, at_begin, in_session, _ = stages
    assert name not in built
    assert name not in at_begin
    assert name in in_session


def test_graph_is_final_in_the_session(stages):
    """Once the session exists the graph takes no more ops."""
    assert stages[-1].finalized


def test_names_are_resolved_at_begin(make_estimator, linear, input_fn):
    """A hook may name the loss summary; a name that comes later, or never, raises KeyError."""

    def model_fn(features, labels, mode, params):
        _, loss, train_op = linear(features, labels)
        hook = v1.train.LoggingTensorHook([params['name']], every_n_iter=1)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, training_hooks=[hook])

    def train(name):
        config = make_estimator(model_fn).config
        tf.estimator.Estimator(model_fn, config=config, params={'name': name}).train(
            input_fn, steps=1
        )

    train('loss:0')
    with pytest.raises(KeyError, match="The name 'Merge/MergeSummary:0' refers to a Tensor which"):
        train('Merge/MergeSummary:0')


def test_the_summary_of_an_author_is_not_doubled(make_estimator, linear, input_fn):
    """No loss summary is added when one called `loss` exists already."""

    hook = _Names()

    def model_fn(features, labels, mode):
        _, loss, train_op = linear(features, labels)
        v1.summary.scalar('loss', loss)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, training_hooks=[hook])

    make_estimator(model_fn).train(input_fn, steps=1)
    assert 'loss_1' not in hook.in_session

"""Tensors of another graph: where stock notices, and where it does not."""

from __future__ import annotations

import pytest
import tensorflow as tf

v1 = tf.compat.v1


def _text(field, name):
    return (
        f'{field} with "{name}" must be from the default graph. '
        'Possible causes of this error include: \n\n'
        f'1) {field} was created outside the context of the default graph.\n\n'
        '2) The object passed through to EstimatorSpec was not created '
        'in the most recent call to "model_fn".'
    )


@pytest.fixture
def stranger(graph, foreign):
    """A tensor `stranger:0` of another graph."""
    return foreign(lambda: tf.constant(1.0, name='stranger'))


@pytest.mark.parametrize(
    ('fields', 'named', 'where'),
    [
        (lambda t, ok: {'loss': t, 'train_op': ok.op}, 'loss', 'stranger:0'),
        (lambda t, ok: {'loss': ok, 'train_op': t.op}, 'train_op', 'stranger'),
        (lambda t, ok: {'predictions': t}, 'prediction values', 'stranger:0'),
        (lambda t, ok: {'predictions': {'p': t}}, 'prediction values', 'p: stranger:0'),
        (lambda t, ok: {'eval_metric_ops': {'m': (ok, t)}}, 'eval_metric_ops', 'm: stranger:0'),
    ],
)
def test_noticed_at_construction(stranger, fields, named, where):
    """Loss, train_op, predictions and metrics of another graph are refused at once."""
    ok = tf.constant(1.0)
    with pytest.raises(ValueError) as caught:
        tf.estimator.EstimatorSpec('any', **fields(stranger, ok))
    assert str(caught.value) == _text(named, where)


@pytest.mark.parametrize(
    'make',
    [
        lambda t: v1.train.LoggingTensorHook({'t': t}, every_n_iter=1),
        lambda t: v1.train.NanTensorHook(t),
        lambda t: v1.train.FinalOpsHook(t),
        lambda t: v1.train.FeedFnHook(lambda: {t: 1.0}),
        lambda t: v1.train.SummarySaverHook(save_steps=1, summary_op=t),
    ],
)
@pytest.mark.parametrize(
    'field', ['training_hooks', 'training_chief_hooks', 'evaluation_hooks', 'prediction_hooks']
)
def test_hooks_are_not_looked_into(stranger, make, field):
    """A hook that holds a tensor of another graph is accepted in every hook field."""
    hook = make(stranger)
    spec = tf.estimator.EstimatorSpec('any', **{field: [hook]})
    assert getattr(spec, field) == (hook,)


@pytest.mark.parametrize('part', ['init_op', 'local_init_op', 'ready_op', 'summary_op'])
def test_scaffolds_are_not_looked_into(stranger, part):
    """A scaffold that holds an op of another graph is accepted."""
    scaffold = v1.train.Scaffold(**{part: stranger})
    spec = tf.estimator.EstimatorSpec('any', scaffold=scaffold)
    assert getattr(spec.scaffold, part) is stranger


def test_saver_of_another_graph_is_accepted(graph, foreign):
    """A scaffold whose Saver was built in another graph is accepted."""

    def make():
        v1.get_variable('v', [])
        return v1.train.Saver()

    scaffold = v1.train.Scaffold(saver=foreign(make))
    assert tf.estimator.EstimatorSpec('any', scaffold=scaffold).scaffold is scaffold


def test_export_outputs_are_not_looked_into(stranger):
    """An ExportOutput of another graph's tensor is accepted in PREDICT."""
    exports = {'serving_default': tf.estimator.export.PredictOutput(stranger)}
    spec = tf.estimator.EstimatorSpec(
        'infer', predictions=tf.constant([1.0]), export_outputs=exports
    )
    assert spec.export_outputs['serving_default'].outputs == {'output': stranger}


@pytest.mark.parametrize(
    'make',
    [
        lambda t: v1.train.NanTensorHook(t),
        lambda t: v1.train.FinalOpsHook(t),
        lambda t: v1.train.FeedFnHook(lambda: {t: 1.0}),
    ],
)
def test_begin_that_does_not_notice(graph, stranger, make):
    """The begin() of NanTensorHook, FinalOpsHook and FeedFnHook does nothing at all.

    So a foreign tensor shows only when a session runs.
    """
    hook = make(stranger)
    assert type(hook).begin is tf.estimator.SessionRunHook.begin
    hook.begin()
    assert graph.get_operations() == []
    step = tf.constant(1)
    with pytest.raises((ValueError, TypeError), match='is not an element of this graph'):
        with v1.train.MonitoredSession(hooks=[hook]) as session:
            session.run(step)


def test_summary_saver_hook_does_not_notice_in_begin(graph, stranger):
    """The begin() of SummarySaverHook does not look at its summary_op either."""
    v1.train.create_global_step()
    v1.train.SummarySaverHook(save_steps=1, summary_op=stranger).begin()


def test_logging_hook_notices_in_begin(graph, stranger):
    """The begin() of LoggingTensorHook refuses another graph's tensor, and an unknown name."""
    hook = v1.train.LoggingTensorHook({'t': stranger}, every_n_iter=1)
    with pytest.raises(ValueError, match='should have graph attribute that is equal to current'):
        hook.begin()
    with pytest.raises(KeyError, match='refers to a Tensor which does not exist'):
        v1.train.LoggingTensorHook(['missing'], every_n_iter=1).begin()


def test_begin_adds_ops(graph):
    """A standard hook's begin() reads the global step: it adds ops to the graph it is called in."""
    v1.train.create_global_step()
    before = len(graph.get_operations())
    v1.train.StopAtStepHook(num_steps=1).begin()
    assert len(graph.get_operations()) > before

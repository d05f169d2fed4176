"""Where the standard hooks and the scaffold keep what they were given."""

from __future__ import annotations

import pytest
import tensorflow as tf
from tensorflow.python.training import evaluation
from tensorflow_estimator.python.estimator import early_stopping
from tensorflow_estimator.python.estimator import util as estimator_util

v1 = tf.compat.v1
train = v1.train


def _held(hook, **expected):
    """Asserts that the hook's __dict__ holds these objects, from its constructor on."""
    for name, value in expected.items():
        held = hook.__dict__[name]
        assert held is value or held == value, name


@pytest.fixture
def t(graph):
    return tf.constant(1.0, name='t')


def test_estimator_hooks_are_the_v1_hooks():
    """The hooks under tf.estimator are the very classes of tf.compat.v1.train."""
    for name in (
        'CheckpointSaverHook CheckpointSaverListener FeedFnHook FinalOpsHook GlobalStepWaiterHook '
        'LoggingTensorHook NanTensorHook ProfilerHook SecondOrStepTimer SessionRunHook '
        'StepCounterHook StopAtStepHook SummarySaverHook'
    ).split():
        assert getattr(tf.estimator, name) is getattr(train, name)


def test_logging_tensor_hook(t):
    """LoggingTensorHook keeps a dict of tag to tensor or name in `_tensors`."""
    _held(train.LoggingTensorHook({'a': t, 'b': 't:0'}, 1), _tensors={'a': t, 'b': 't:0'})
    named = train.LoggingTensorHook(['t:0'], every_n_iter=1)
    _held(named, _tensors={'t:0': 't:0'}, _tag_order=['t:0'])


def test_logging_tensor_hook_resolves_names_in_begin(t):
    """LoggingTensorHook looks its names up in begin, into `_current_tensors`."""
    hook = train.LoggingTensorHook(['t:0', 't'], every_n_iter=1)
    assert not hasattr(hook, '_current_tensors')
    hook.begin()
    assert hook._current_tensors['t:0'] is t
    assert hook._current_tensors['t'] is t


def test_nan_tensor_hook(t):
    """NanTensorHook keeps `_loss_tensor` and `_fail_on_nan_loss`."""
    _held(train.NanTensorHook(t, False), _loss_tensor=t, _fail_on_nan_loss=False)


def test_final_ops_hook(t):
    """FinalOpsHook keeps `_final_ops` and `_final_ops_feed_dict`."""
    ops, feed = {'t': t}, {t: 2.0}
    _held(train.FinalOpsHook(ops, feed), _final_ops=ops, _final_ops_feed_dict=feed)


def test_feed_fn_hook(t):
    """FeedFnHook keeps its function in the public attribute `feed_fn`."""

    def feed_fn():
        return {t: 2.0}

    _held(train.FeedFnHook(feed_fn), feed_fn=feed_fn)


def test_summary_saver_hook(t):
    """SummarySaverHook keeps `_summary_op`, `_scaffold`, `_output_dir` and `_summary_writer`."""
    scaffold = train.Scaffold()
    _held(
        train.SummarySaverHook(1, output_dir='somewhere', summary_op=t),
        _summary_op=t,
        _scaffold=None,
        _output_dir='somewhere',
        _summary_writer=None,
    )
    _held(train.SummarySaverHook(1, scaffold=scaffold), _summary_op=None, _scaffold=scaffold)


def test_summary_saver_hook_wants_exactly_one():
    """SummarySaverHook refuses neither or both of scaffold and summary_op."""
    expected = '^Exactly one of scaffold or summary_op must be provided'
    with pytest.raises(ValueError, match=expected):
        train.SummarySaverHook(save_steps=1, summary_op=None)
    with pytest.raises(ValueError, match=expected):
        train.SummarySaverHook(save_steps=1, summary_op='s:0', scaffold=train.Scaffold())


def test_checkpoint_saver_hook(graph):
    """CheckpointSaverHook keeps its directory, saver or scaffold, timer and listeners."""
    v1.get_variable('v', [])
    saver, scaffold = train.Saver(), train.Scaffold()
    listeners = [train.CheckpointSaverListener()]
    _held(
        train.CheckpointSaverHook('ckpts', save_steps=1, saver=saver, listeners=listeners),
        _checkpoint_dir='ckpts',
        _save_path='ckpts/model.ckpt',
        _saver=saver,
        _scaffold=None,
        _listeners=listeners,
    )
    _held(train.CheckpointSaverHook('c', 1, scaffold=scaffold), _saver=None, _scaffold=scaffold)


def test_step_hooks():
    """The hooks that count steps keep plain numbers, and no tensor before begin."""
    _held(train.StopAtStepHook(num_steps=3), _num_steps=3, _last_step=None)
    _held(train.StopAtStepHook(last_step=3), _num_steps=None, _last_step=3)
    _held(train.GlobalStepWaiterHook(3), _wait_until_step=3)
    _held(train.StepCounterHook(output_dir='o'), _output_dir='o', _summary_writer=None)
    for hook in (train.StopAtStepHook(1), train.GlobalStepWaiterHook(1), train.StepCounterHook()):
        assert not hasattr(hook, '_global_step_tensor')


@pytest.mark.parametrize(
    'make',
    [
        lambda: train.StopAtStepHook(1),
        lambda: train.StepCounterHook(),
        lambda: train.GlobalStepWaiterHook(1),
    ],
)
def test_step_hooks_read_the_step_in_begin(graph, make):
    """In begin these hooks take a read of the global step into `_global_step_tensor`."""
    step = train.create_global_step()
    hook = make()
    hook.begin()
    assert hook._global_step_tensor.graph is graph
    assert hook._global_step_tensor.dtype.base_dtype == step.dtype.base_dtype


def test_timer():
    """A hook's `_timer` keeps `_every_secs` and `_every_steps`."""
    timer = train.LoggingTensorHook(['t'], every_n_iter=7)._timer
    assert type(timer) is train.SecondOrStepTimer
    _held(timer, _every_secs=None, _every_steps=7)
    _held(train.CheckpointSaverHook('c', save_secs=9)._timer, _every_secs=9, _every_steps=None)


def test_evaluation_stops_by_a_private_hook():
    """evaluate(steps=3) stops by evaluation._StopAfterNEvalsHook, which keeps `_num_evals`."""
    _held(evaluation._StopAfterNEvalsHook(3), _num_evals=3, _evals_completed=None)


def test_iterator_hook(graph, input_fn):
    """The hook of a dataset keeps `_iterator`, and from begin on `_initializer`."""
    _, _, hooks = estimator_util.parse_input_fn_result(input_fn())
    (hook,) = hooks
    assert type(hook) is estimator_util._DatasetInitializerHook
    assert hook._iterator.initializer.graph is graph
    hook.begin()
    assert hook._initializer is hook._iterator.initializer


def test_early_stopping_hook(make_estimator):
    """The early stopping hook of a chief keeps `_should_stop_fn`; its variable is made in begin."""
    estimator = make_estimator(lambda features: None)

    def should_stop():
        return False

    hook = tf.estimator.experimental.make_early_stopping_hook(estimator, should_stop)
    assert type(hook) is early_stopping._StopOnPredicateHook
    _held(hook, _should_stop_fn=should_stop, _stop_var=None, _global_step_tensor=None)


def test_sync_replicas_hook(graph):
    """The hook of SyncReplicasOptimizer keeps the optimizer in `_sync_optimizer`."""
    optimizer = train.SyncReplicasOptimizer(
        train.GradientDescentOptimizer(0.1), replicas_to_aggregate=1
    )
    hook = optimizer.make_session_run_hook(is_chief=True)
    _held(hook, _sync_optimizer=optimizer, _is_chief=True)
    with pytest.raises(ValueError, match='^SyncReplicasOptimizer.apply_gradient should be called'):
        hook.begin()


def test_in_memory_evaluator_hook(make_estimator, input_fn):
    """InMemoryEvaluatorHook keeps the estimator, and builds its own graph in begin."""
    estimator = make_estimator(
        lambda features, labels, mode: tf.estimator.EstimatorSpec(mode, loss=tf.constant(1.0))
    )
    hook = tf.estimator.experimental.InMemoryEvaluatorHook(estimator, input_fn)
    _held(hook, _estimator=estimator, _input_fn=input_fn, _graph=None)
    with tf.Graph().as_default() as outer:
        hook.begin()
        assert outer.get_operations() == []
    assert hook._graph is not outer
    assert hook._scaffold is not None
    assert any(isinstance(h, train.SessionRunHook) for h in hook._all_hooks)


def test_scaffold_attributes(t):
    """A scaffold keeps each part in an attribute of one underscore, readable by a property."""
    feed = {t: 1.0}
    parts = {
        'init_op': t.op,
        'init_feed_dict': feed,
        'ready_op': t,
        'ready_for_local_init_op': t,
        'local_init_op': t.op,
        'local_init_feed_dict': feed,
        'summary_op': t,
    }
    scaffold = train.Scaffold(**parts)
    for name, part in parts.items():
        assert getattr(scaffold, '_' + name) is part
        assert getattr(scaffold, name) is part


def test_scaffold_init_fn():
    """A scaffold wraps its init_fn; what the author gave is `_user_init_fn`."""

    def init_fn(scaffold, session):
        return (scaffold, session)

    scaffold = train.Scaffold(init_fn=init_fn)
    assert scaffold._user_init_fn is init_fn
    assert scaffold.init_fn('session') == (scaffold, 'session')
    assert train.Scaffold().init_fn is None


def test_scaffold_finds_the_collected_saver_late(graph):
    """A scaffold without a saver stays without until finalize, which asks the SAVERS collection."""
    v1.get_variable('v', [])
    saver = train.Saver()
    v1.add_to_collection(v1.GraphKeys.SAVERS, saver)
    scaffold = train.Scaffold()
    assert scaffold.saver is None
    scaffold.finalize()
    assert scaffold.saver is saver

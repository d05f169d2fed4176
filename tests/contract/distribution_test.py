"""What distribution strategies do to the specs that the replicas return."""

from __future__ import annotations

import contextvars
import json
import threading

import pytest
import tensorflow as tf
from tensorflow.python.distribute import distribute_utils, ps_values
from tensorflow.python.distribute import values as values_lib
from tensorflow_estimator.python.estimator import estimator as estimator_lib

v1 = tf.compat.v1
pytestmark = pytest.mark.filterwarnings('ignore:To make it possible to preserve tf.data options')
calls = []
setting = contextvars.ContextVar('setting', default='unset')


class Recording(tf.estimator.EstimatorSpec):
    """A subclass that counts the calls of its `__new__` and adds an attribute."""

    def __new__(cls, *args, **kwargs):
        calls.append(cls)
        self = super().__new__(cls, *args, **kwargs)
        self.note = 'mine'
        return self


@pytest.fixture
def replicas(graph):
    """The specs of two replicas; the calls of `__new__` made since then are in `calls`."""
    step = tf.no_op()
    hook = tf.estimator.SessionRunHook
    specs = [
        Recording(
            'train', {'p': tf.constant([x])}, tf.constant(x), step, training_hooks=[hook()]
        )
        for x in (1.0, 2.0)
    ]
    calls.clear()
    return specs


def test_regroup_uses_make(replicas):
    """Regrouping keeps the subclass, skips `__new__` and loses attributes: it calls `_make`."""
    grouped = distribute_utils.regroup(tuple(replicas))
    assert type(grouped) is Recording
    assert calls == []
    assert grouped.__dict__ == {}


def test_regroup_asks_for_make(replicas, monkeypatch):
    """It is the class's own `_make` that is called, with one list of fields."""
    seen = []
    stock = Recording._make

    def make(values):
        seen.append(len(values))
        return stock(values)

    monkeypatch.setattr(Recording, '_make', staticmethod(make))
    distribute_utils.regroup(tuple(replicas))
    assert seen == [11]


def test_regrouped_fields(replicas):
    """After regrouping a field is PerReplica, a tuple or dict of PerReplica, or the one value."""
    one, two = replicas
    grouped = distribute_utils.regroup((one, two))
    assert grouped.mode == 'train'
    assert type(grouped.loss) is values_lib.PerReplica
    assert grouped.loss.values == (one.loss, two.loss)
    assert grouped.predictions['p'].values == (one.predictions['p'], two.predictions['p'])
    assert grouped.train_op is one.train_op
    (hook,) = grouped.training_hooks
    assert hook.values == (one.training_hooks[0], two.training_hooks[0])
    assert type(grouped.scaffold) is values_lib.PerReplica


def test_regroup_of_one_replica(replicas):
    """One replica alone goes through `_make` too: equal fields, no attributes."""
    grouped = distribute_utils.regroup((replicas[0],))
    assert grouped == replicas[0]
    assert grouped.__dict__ == {}
    assert calls == []


def test_replicas_must_look_alike(graph):
    """Another number of hooks, or another key, in one replica is a bare AssertionError."""
    hook = tf.estimator.SessionRunHook()
    t = tf.constant(1.0)
    none, one = Recording('any'), Recording('any', training_hooks=[hook])
    with pytest.raises(AssertionError, match='^Values to regroup had different lengths'):
        distribute_utils.regroup((none, one))
    with pytest.raises(AssertionError, match=r'^v\[0\].keys: '):
        distribute_utils.regroup((Recording('any', {'a': t}), Recording('any', {'b': t})))


def _strategies():
    return {
        'mirrored': lambda: tf.distribute.MirroredStrategy(['/cpu:0']),
        'one device': lambda: tf.distribute.OneDeviceStrategy('/cpu:0'),
        'central storage': lambda: tf.distribute.experimental.CentralStorageStrategy(['/cpu:0']),
    }


@pytest.fixture
def train_under(make_estimator, linear, input_fn, monkeypatch):
    """A function that trains one step under a strategy.

    It returns what model_fn saw, the spec that model_fn made and the one finally trained.
    """
    trained = []
    stock = estimator_lib.Estimator._train_with_estimator_spec

    def train_with(self, spec, *args, **kwargs):
        trained.append(spec)
        return stock(self, spec, *args, **kwargs)

    def train(strategy):
        saw, made = {}, []

        def look():
            saw.update(
                graph=type(v1.get_default_graph()),
                eager=tf.executing_eagerly(),
                thread=threading.current_thread() is threading.main_thread(),
                setting=setting.get(),
                step=v1.train.get_global_step(),
            )

        look = tf.autograph.experimental.do_not_convert(look)

        def model_fn(features, labels, mode):
            prediction, loss, train_op = linear(features, labels)
            look()
            saw['train_op'] = train_op
            spec = Recording(mode, prediction, loss, train_op)
            made.append(spec)
            return spec

        estimator = make_estimator(model_fn, train_distribute=strategy)
        monkeypatch.setattr(estimator_lib.Estimator, '_train_with_estimator_spec', train_with)
        token = setting.set('set')
        estimator.train(input_fn, steps=1)
        setting.reset(token)
        return saw, made, trained[0]

    return train


@pytest.mark.parametrize('name', [None, *_strategies()])
def test_what_is_finally_trained(train_under, name):
    """Without a strategy the author's own spec is trained; under any a stock one of six fields."""
    saw, made, trained = train_under(_strategies()[name]() if name else None)
    assert saw['graph'] is tf.Graph
    assert saw['eager'] is False
    (spec,) = made
    if name is None:
        assert trained is spec
        return
    assert type(trained) is tf.estimator.EstimatorSpec
    assert trained.__dict__ == {}
    assert spec.predictions is not None
    assert (trained.predictions, trained.eval_metric_ops) == ({}, {})
    assert (trained.mode, trained.export_outputs) == ('train', None)


def test_mirrored_replicas_run_in_threads_of_their_own(train_under):
    """MirroredStrategy calls model_fn in another thread, where a ContextVar is unset."""
    saw, _, _ = train_under(_strategies()['mirrored']())
    assert saw['thread'] is False
    assert saw['setting'] == 'unset'


def test_one_device_stays_in_the_callers_thread(train_under):
    """OneDeviceStrategy, like no strategy, calls model_fn in the caller's thread."""
    saw, _, _ = train_under(_strategies()['one device']())
    assert saw['thread'] is True
    assert saw['setting'] == 'set'


def test_train_op_of_minimize_differs_by_strategy(train_under):
    """Under OneDeviceStrategy minimize gives an _UnreadVariable, which is no Tensor."""
    saw, made, _ = train_under(_strategies()['one device']())
    assert type(saw['train_op']).__name__ == '_UnreadVariable'
    assert not isinstance(saw['train_op'], (tf.Tensor, tf.Operation))
    assert isinstance(made[0].train_op, tf.Operation)


def test_global_step_under_mirrored(train_under):
    """Under MirroredStrategy the global step is a MirroredVariable: its parts are in `_values`."""
    step = train_under(_strategies()['mirrored']())[0]['step']
    assert isinstance(step, values_lib.MirroredVariable)
    (component,) = step._values
    assert component.name == 'global_step:0'


def test_handle_of_a_mirrored_variable(graph):
    """A mirrored variable's `handle` raises in the scope of its strategy, outside the replicas."""
    strategy = _strategies()['mirrored']()
    with strategy.scope():
        v = v1.get_variable('v', [], use_resource=True)
        with pytest.raises(ValueError, match='^DistributedVariable.handle is not available'):
            _ = v.handle
        seen = []
        strategy.extended.call_for_each_replica(lambda: seen.append(v.handle))
    assert seen == [v._values[0].handle]


def test_aggregating_variable(graph):
    """The AggregatingVariable of the parameter server strategies wraps one variable in `_v`."""
    v = v1.get_variable('v', [], use_resource=True)
    strategy = tf.distribute.OneDeviceStrategy('/cpu:0')
    wrapped = ps_values.AggregatingVariable(strategy, v, tf.VariableAggregation.SUM)
    assert wrapped._v is v


def test_run_config_does_not_tell_the_role_under_a_strategy(monkeypatch):
    """With a strategy, RunConfig says worker 0 and chief in every process of a cluster."""
    cluster = {'chief': ['localhost:1'], 'worker': ['localhost:2'], 'ps': ['localhost:3']}
    task = {'type': 'worker', 'index': 0}
    monkeypatch.setenv('TF_CONFIG', json.dumps({'cluster': cluster, 'task': task}))
    config = tf.estimator.RunConfig()
    assert (config.task_type, config.task_id, config.is_chief) == ('worker', 0, False)
    assert config.num_worker_replicas == 2
    strategy = v1.distribute.experimental.ParameterServerStrategy()
    for task['type'] in ('chief', 'worker', 'ps', 'evaluator'):
        monkeypatch.setenv('TF_CONFIG', json.dumps({'cluster': cluster, 'task': task}))
        config = tf.estimator.RunConfig(train_distribute=strategy)
        assert (config.task_type, config.task_id, config.is_chief) == ('worker', 0, True)
        assert (config.num_worker_replicas, config.master) == (1, '')

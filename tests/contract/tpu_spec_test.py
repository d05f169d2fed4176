"""TPUEstimatorSpec, which many model_fns return while they run on a CPU."""

from __future__ import annotations

import pytest
import tensorflow as tf
from tensorflow_estimator.python.estimator import model_fn as model_fn_lib
from tensorflow_estimator.python.estimator.tpu import tpu_estimator

v1 = tf.compat.v1
TPUEstimatorSpec = tf.compat.v1.estimator.tpu.TPUEstimatorSpec


def test_fields():
    """A TPU spec has eleven fields too, and they are others."""
    assert TPUEstimatorSpec._fields == (
        'mode',
        'predictions',
        'loss',
        'train_op',
        'eval_metrics',
        'export_outputs',
        'scaffold_fn',
        'host_call',
        'training_hooks',
        'evaluation_hooks',
        'prediction_hooks',
    )


def test_is_no_estimator_spec():
    """A TPU spec is a tuple of its own kind, not an EstimatorSpec."""
    assert not issubclass(TPUEstimatorSpec, tf.estimator.EstimatorSpec)
    assert issubclass(TPUEstimatorSpec, model_fn_lib._TPUEstimatorSpec)


def test_as_estimator_spec(graph):
    """as_estimator_spec calls metric_fn and scaffold_fn, and gives a stock EstimatorSpec."""
    loss, logits = tf.constant(1.0), tf.constant([1.0])
    scaffold = v1.train.Scaffold()
    spec = TPUEstimatorSpec(
        'eval',
        loss=loss,
        eval_metrics=(lambda logits: {'m': v1.metrics.mean(logits)}, {'logits': logits}),
        scaffold_fn=lambda: scaffold,
    ).as_estimator_spec()
    assert type(spec) is tf.estimator.EstimatorSpec
    assert spec.loss is loss
    assert list(spec.eval_metric_ops) == ['m']
    assert spec.scaffold is scaffold


def test_hooks_must_stay_tuples(graph):
    """as_estimator_spec adds tuples to the hook fields: a list in their place would break it."""
    hook = tf.estimator.SessionRunHook()
    spec = TPUEstimatorSpec(
        'eval',
        loss=tf.constant(1.0),
        training_hooks=[hook],
        host_call=(lambda x: x, [tf.constant([1.0])]),
    )
    assert spec.training_hooks == (hook,)
    plain = spec.as_estimator_spec()
    assert plain.training_hooks[0] is hook
    assert len(plain.training_hooks) == 2
    assert len(plain.evaluation_hooks) == len(plain.prediction_hooks) == 1
    listed = spec._make([*spec[:8], [hook], *spec[9:]])
    with pytest.raises(TypeError, match='can only concatenate list'):
        listed.as_estimator_spec()


def test_metrics_belong_to_the_class(graph):
    """eval_metrics are also kept on the class, where the next spec of that class replaces them."""

    def metrics(name):
        return (lambda x: {name: v1.metrics.mean(x)}, [tf.constant([1.0])])

    first = TPUEstimatorSpec('eval', loss=tf.constant(1.0), eval_metrics=metrics('first'))
    TPUEstimatorSpec('eval', loss=tf.constant(1.0), eval_metrics=metrics('second'))
    assert list(first.as_estimator_spec().eval_metric_ops) == ['second']


def test_a_subclass_has_metrics_of_its_own(graph):
    """A subclass keeps them on itself: specs of the stock class do not disturb it."""

    class Subclass(TPUEstimatorSpec):
        pass

    def metrics(name):
        return (lambda x: {name: v1.metrics.mean(x)}, [tf.constant([1.0])])

    first = Subclass('eval', loss=tf.constant(1.0), eval_metrics=metrics('first'))
    TPUEstimatorSpec('eval', loss=tf.constant(1.0), eval_metrics=metrics('second'))
    assert list(first.as_estimator_spec().eval_metric_ops) == ['first']


def test_tpu_estimator_on_cpu(input_fn, linear, tmp_path):
    """TPUEstimator with use_tpu=False trains and evaluates a model_fn that returns a TPU spec."""

    def model_fn(features, labels, mode, params):
        prediction, loss, train_op = linear(features, labels)
        return TPUEstimatorSpec(mode, prediction, loss, train_op)

    tpu = tf.compat.v1.estimator.tpu
    estimator = tpu.TPUEstimator(
        model_fn,
        config=tpu.RunConfig(model_dir=str(tmp_path / 'tpu')),
        use_tpu=False,
        train_batch_size=4,
        eval_batch_size=4,
    )
    estimator.train(lambda params: input_fn(), steps=1)
    assert estimator.evaluate(lambda params: input_fn(), steps=1)['global_step'] == 1


@pytest.mark.parametrize(('api_version', 'graph_class'), [(1, '_FuncGraph'), (2, 'Graph')])
def test_exporting_for_tpu(input_fn, linear, tmp_path, monkeypatch, api_version, graph_class):
    """To export, TPUEstimator builds the model a second time, in the mode '_inference_on_tpu'.

    model_fn itself is told 'infer' again. By default it is called inside a TF1 _FuncGraph, whose
    outer_graph is the graph of the export.
    """
    modes, seen = [], []
    stock = tpu_estimator.TPUEstimator._call_model_fn

    def call_model_fn(self, features, labels, mode, config):
        modes.append(mode)
        return stock(self, features, labels, mode, config)

    def model_fn(features, labels, mode, params):
        graph = v1.get_default_graph()
        outer = getattr(graph, 'outer_graph', None)
        seen.append((mode, type(graph).__name__, type(outer).__name__))
        prediction, loss, train_op = linear(features, labels)
        return TPUEstimatorSpec(mode, {'p': prediction}, loss, train_op)

    def receiver_fn():
        x = v1.placeholder(tf.float32, [None, 1])
        return tf.estimator.export.ServingInputReceiver({'x': x}, {'x': x})

    tpu = tf.compat.v1.estimator.tpu
    estimator = tpu.TPUEstimator(
        model_fn,
        config=tpu.RunConfig(model_dir=str(tmp_path / 'tpu')),
        use_tpu=False,
        train_batch_size=4,
        export_to_tpu=True,
        export_saved_model_api_version=api_version,
    )
    estimator.train(lambda params: input_fn(), steps=1)
    seen.clear()
    monkeypatch.setattr(tpu_estimator.TPUEstimator, '_call_model_fn', call_model_fn)
    estimator.export_saved_model(str(tmp_path / 'export'), receiver_fn)
    assert modes == ['infer', tpu_estimator._INFERENCE_ON_TPU_MODE]
    outer_class = {'_FuncGraph': 'Graph', 'Graph': 'NoneType'}[graph_class]
    assert seen == [('infer', 'Graph', 'NoneType'), ('infer', graph_class, outer_class)]


def test_tpu_estimator_replaces_fields_of_the_spec(input_fn, linear, tmp_path, monkeypatch):
    """TPUEstimator calls `_replace` on the spec that it made of model_fn's result."""
    replaced = []
    stock = tf.estimator.EstimatorSpec._replace

    def replace(self, **changes):
        replaced.append(sorted(changes))
        return stock(self, **changes)

    def model_fn(features, labels, mode, params):
        prediction, loss, train_op = linear(features, labels)
        return TPUEstimatorSpec(mode, prediction, loss, train_op)

    monkeypatch.setattr(tf.estimator.EstimatorSpec, '_replace', replace)
    tpu = tf.compat.v1.estimator.tpu
    config = tpu.RunConfig(model_dir=str(tmp_path / 'tpu'))
    estimator = tpu.TPUEstimator(model_fn, config=config, use_tpu=False, train_batch_size=4)
    estimator.train(lambda params: input_fn(), steps=1)
    assert replaced == [['training_hooks']]

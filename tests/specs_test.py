"""`StrictEstimatorSpec`: stock's class in every respect, and every fault at once."""

from __future__ import annotations

import copy
import gc
import inspect
import pickle
import weakref

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.distribute import distribute_utils
from tensorflow.python.distribute import values as values_lib
from tensorflow.python.framework import func_graph
from tensorflow.python.ops import control_flow_ops

import estimator_spec_ext as ese
from estimator_spec_ext import specs
from estimator_spec_ext.compat import frames
from estimator_spec_ext.reports import text as text_report

v1 = tf.compat.v1
Stock, Strict = tf.estimator.EstimatorSpec, ese.StrictEstimatorSpec
FIELDS = Stock._fields


@pytest.fixture
def graph():
    """A fresh graph with a global step, the default one during the test."""
    with tf.Graph().as_default() as fresh:
        v1.train.get_or_create_global_step()
        yield fresh


def _fields(mode):
    """Fields that every mode is content with, in the default graph."""
    x = v1.placeholder_with_default([[1., 2.]], [None, 2], name='x')
    weight = v1.get_variable('w', [2], initializer=tf.ones_initializer())
    prediction = tf.reduce_sum(x * weight, 1, name='prediction')
    fields = {'mode': mode, 'predictions': {'p': prediction}}
    if mode != 'infer':
        fields['loss'] = tf.reduce_mean(tf.square(prediction), name='loss')
    if mode == 'eval':
        fields['eval_metric_ops'] = {'mean': v1.metrics.mean(prediction)}
    if mode == 'train':
        fields['train_op'] = v1.train.GradientDescentOptimizer(.1).minimize(
            fields['loss'], v1.train.get_global_step())
    return fields


def _snapshot(graph):
    return (graph.version, {key: list(graph.get_collection(key)) for key in graph.collections})


def _text(error):
    """The report of an error with the line numbers of this file as #."""
    lines = []
    for line in str(error).splitlines():
        head, mark, rest = line.partition('specs_test.py:')
        lines.append(head + mark + '#' + rest.lstrip('0123456789') if mark else line)
    return '\n'.join(lines)


# The same class.

def test_the_signature_is_stocks_and_suppress_by_name_alone():
    stock = list(inspect.signature(Stock.__new__).parameters.values())
    strict = list(inspect.signature(Strict.__new__).parameters.values())
    assert [(p.name, p.default) for p in strict[:-1]] == [(p.name, p.default) for p in stock]
    assert strict[-1].name == 'suppress'
    assert strict[-1].kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize('alias', [
    lambda: tf.estimator.EstimatorSpec, lambda: v1.estimator.EstimatorSpec])
def test_it_is_a_subclass_under_both_names(alias):
    assert issubclass(Strict, alias())
    assert Strict._fields == FIELDS


@pytest.mark.parametrize('mode', ['train', 'eval', 'infer'])
def test_the_fields_are_stocks(graph, mode):
    fields = _fields(mode)
    stock, strict = Stock(**fields), Strict(**fields)
    assert isinstance(strict, Stock)
    assert type(strict) is Strict
    for name in FIELDS:
        if name not in ('export_outputs', 'scaffold'):  # stock makes new objects each time
            assert getattr(strict, name) == getattr(stock, name), name
    assert type(strict.scaffold) is type(stock.scaffold)
    assert list(strict.export_outputs or ()) == list(stock.export_outputs or ())


def test_positional_arguments(graph):
    fields = _fields('train')
    spec = Strict('train', fields['predictions'], fields['loss'], fields['train_op'])
    assert (spec.mode, spec.predictions, spec.loss, spec.train_op) == tuple(fields.values())


def test_a_subclass_of_the_users(graph):
    class Mine(Strict):
        """A spec with a note."""

    spec = Mine(**_fields('eval'))
    assert type(spec) is Mine
    assert type(spec._replace(predictions={})) is Mine


def test_the_loss_of_shape_1_becomes_a_scalar_as_in_stock(graph):
    fields = _fields('eval')
    fields['loss'] = tf.reshape(fields['loss'], [1])
    assert Strict(**fields).loss.shape.as_list() == []


def test_private_modes_of_tensorflow_pass(graph):
    spec = Strict('_inference_on_tpu', predictions={'p': tf.constant([1.])})
    assert spec.mode == '_inference_on_tpu'
    assert ese.findings() == ()


@pytest.mark.parametrize('mode', ['train', 'eval', 'infer'])
def test_a_spec_of_a_function_graph(mode):
    """As TPUEstimator exports: model_fn runs inside of a function's graph."""
    seen = []

    def build():
        v1.train.get_or_create_global_step()
        fields = _fields(mode)
        seen.append(Strict(**fields))
        return tf.constant(0)

    with tf.Graph().as_default():
        func_graph.func_graph_from_py_func('body', build, (), {})
    assert [type(spec) for spec in seen] == [Strict]


# Copies.

def test_replace_keeps_the_class_and_the_other_fields(graph):
    spec = Strict(**_fields('train'))
    hook = v1.train.StopAtStepHook(last_step=3)
    for new in (spec._replace(training_hooks=[hook]), ese.replace(spec, training_hooks=[hook])):
        assert type(new) is Strict
        assert new.training_hooks == (hook,)
        assert [getattr(new, name) for name in FIELDS if name != 'training_hooks'] == [
            getattr(spec, name) for name in FIELDS if name != 'training_hooks']


def test_replace_checks_again(graph):
    spec = Strict(**_fields('eval'))
    with pytest.raises(ese.EstimatorSpecError, match='loss is missing'):
        spec._replace(loss=None)


def test_replace_refuses_what_is_no_field(graph):
    spec = Strict(**_fields('eval'))
    with pytest.raises(ValueError) as error_info:
        ese.replace(spec, losss=1., hook=2)
    assert str(error_info.value) == (
        "StrictEstimatorSpec has no field 'hook', 'losss'; its fields are " + ', '.join(FIELDS))
    with pytest.raises(ValueError, match='^StrictEstimatorSpec has no field'):
        spec._replace(losss=1.)


def test_replace_refuses_another_mode(graph):
    spec = Strict(**_fields('eval'))
    with pytest.raises(ValueError, match=r'^mode of EstimatorSpec cannot be changed\.$'):
        ese.replace(spec, mode='train')
    assert ese.replace(spec, mode='eval').mode == 'eval'


def test_replace_of_stock_specs(graph):
    spec = ese.replace(Stock(**_fields('eval')), predictions={})
    assert type(spec) is Stock
    assert spec.predictions == {}
    tpu = v1.estimator.tpu.TPUEstimatorSpec('eval', loss=tf.constant(1.))
    new = ese.replace(tpu, predictions={'p': tf.constant(1.)})
    assert type(new) is type(tpu)
    assert list(new.predictions) == ['p']


def test_make_skips_the_checks(graph):
    spec = Strict._make(range(11))
    assert type(spec) is Strict
    assert tuple(spec) == tuple(range(11))


@pytest.mark.parametrize('mode', ['train', 'eval', 'infer'])
def test_asdict_and_unpacking_give_the_spec_again(graph, mode):
    spec = Strict(**_fields(mode))
    assert list(spec._asdict()) == list(FIELDS)
    assert Strict(**spec._asdict()) == spec
    assert Strict(*spec) == spec


@pytest.mark.parametrize('mode', ['train', 'eval', 'infer'])
def test_copy_keeps_fields_and_attributes(graph, mode):
    spec = Strict(**_fields(mode))
    spec.cache = {'mine': 1}
    copied = copy.copy(spec)
    assert type(copied) is Strict
    assert copied == spec
    assert copied.cache == {'mine': 1}


@pytest.mark.parametrize('kind', [Stock, Strict])
def test_a_spec_without_tensors_is_pickled_and_copied_deeply(kind):
    spec = kind('_inference_on_tpu')
    for again in (pickle.loads(pickle.dumps(spec)), copy.deepcopy(spec)):
        assert type(again) is kind
        assert (again.mode, again.predictions) == ('_inference_on_tpu', {})


@pytest.mark.parametrize('kind', [Stock, Strict])
def test_tensors_can_be_pickled_with_neither_class(graph, kind):
    spec = kind(**_fields('infer'))
    with pytest.raises(TypeError, match='cannot pickle'):
        pickle.dumps(spec)
    with pytest.raises(TypeError, match='cannot pickle'):
        copy.deepcopy(spec)


@pytest.mark.parametrize('mode', ['train', 'eval', 'infer'])
def test_nest_maps_a_spec_to_a_spec(graph, mode):
    spec = Strict(**_fields(mode))
    mapped = tf.nest.map_structure(lambda leaf: leaf, spec)
    assert type(mapped) is Strict
    assert mapped == spec
    tf.nest.assert_same_structure(spec, mapped)
    assert tf.nest.flatten(spec) == tf.nest.flatten(tuple(spec))


def test_users_attributes_stay(graph):
    spec = Strict(**_fields('eval'))
    spec.cache = [1]
    assert spec.cache == [1]
    assert Strict.__dict__.get('__slots__') is None


def test_regrouping_keeps_the_class_and_checks_nothing(graph):
    first = Strict('eval', {'p': tf.constant([1.])}, tf.constant(1.))
    second = Strict('eval', {'p': tf.constant([2.])}, tf.constant(2.))
    version = graph.version
    grouped = distribute_utils.regroup((first, second))
    assert type(grouped) is Strict
    assert type(grouped.loss) is values_lib.PerReplica
    assert grouped.loss.values == (first.loss, second.loss)
    assert graph.version == version


def test_the_graph_is_not_kept_alive():
    with tf.Graph().as_default() as built:
        v1.train.get_or_create_global_step()
        Strict(**_fields('train'))
        assert ese.findings() == ()
    kept = weakref.ref(built)
    del built
    gc.collect()
    assert kept() is None


# Nothing of the caller's is changed.

@pytest.mark.parametrize('mode', ['train', 'eval', 'infer'])
def test_an_accepted_spec_leaves_the_graph_alone(graph, mode):
    fields = _fields(mode)
    before = _snapshot(graph)
    Strict(**fields)
    assert _snapshot(graph) == before


@pytest.mark.parametrize('mode', ['train', 'eval', 'infer'])
def test_a_refused_spec_leaves_the_graph_alone(graph, mode):
    fields = {**_fields(mode), 'eval_metric_ops': {'m': 3}, 'training_hooks': 'none',
              'loss': v1.placeholder_with_default(1., None)}
    before = _snapshot(graph)
    with pytest.raises(ese.EstimatorSpecError):
        Strict(**fields)
    assert _snapshot(graph) == before


def test_containers_of_the_callers_stay_as_they_were(graph):
    fields = _fields('infer')
    outputs = {'one': tf.estimator.export.PredictOutput(fields['predictions']),
               'two': tf.estimator.export.PredictOutput(fields['predictions'])}
    metric = tf.keras.metrics.Mean()
    metric.update_state(fields['predictions']['p'])
    metrics, hooks = {'mean': metric}, [v1.train.StopAtStepHook(last_step=3)]
    given = (dict(fields['predictions']), dict(outputs), dict(metrics), list(hooks))
    spec = Strict(**fields, export_outputs=outputs, eval_metric_ops=metrics,
                  prediction_hooks=hooks)
    assert (fields['predictions'], outputs, metrics, hooks) == given
    assert metrics['mean'] is metric
    assert spec.predictions == fields['predictions']
    assert 'serving_default' in spec.export_outputs


def test_hooks_from_a_generator_are_read_once(graph):
    hooks = [v1.train.StopAtStepHook(last_step=3), v1.train.StopAtStepHook(last_step=4)]
    spec = Strict(**_fields('eval'), evaluation_hooks=(hook for hook in hooks))
    assert spec.evaluation_hooks == tuple(hooks)


# The one assertion.

def test_a_loss_of_unknown_shape_is_guarded(graph):
    fields = _fields('eval')
    fields['loss'] = v1.placeholder_with_default(1., None, name='head/cost')
    before = {op.name for op in graph.get_operations()}
    spec = Strict(**fields)
    added = {op.name for op in graph.get_operations()} - before
    assert added
    assert all(name.startswith('strict_loss/') for name in added)
    assert spec.loss.shape.as_list() == []
    with v1.Session(graph=graph) as session:
        assert session.run(spec.loss) == 1.
        assert session.run(spec.loss, {fields['loss']: [7.]}) == 7.
        with pytest.raises(tf.errors.InvalidArgumentError) as error_info:
            session.run(spec.loss, {fields['loss']: [[1., 2., 3.]]})
    line = next(line for line in str(error_info.value).splitlines() if 'must be' in line)
    assert line == ('assertion failed: [loss head/cost:0 must be one number, of shape () or (1,); '
                    'its shape is now] [1 3]')


def test_the_guard_does_not_break_the_gradient(graph):
    weight = v1.get_variable('w', [], initializer=tf.ones_initializer())
    loss = v1.placeholder_with_default(tf.square(weight), None)
    guarded = specs.guarded_loss(loss, 'train')
    assert tf.gradients(guarded, [weight])[0] is not None


def test_a_second_spec_of_a_guarded_loss_adds_nothing(graph):
    fields = _fields('eval')
    fields['loss'] = v1.placeholder_with_default(1., None)
    spec = Strict(**fields)
    version = graph.version
    assert ese.replace(spec, predictions={}).loss is spec.loss
    assert graph.version == version


def test_no_guard_in_predict(graph):
    fields = {**_fields('infer'), 'loss': v1.placeholder_with_default(1., None)}
    version = graph.version
    assert Strict(**fields).loss is fields['loss']
    assert graph.version == version


def test_no_guard_under_an_xla_rewrite(graph):
    context = control_flow_ops.XLAControlFlowContext()
    context.Enter()
    try:
        fields = _fields('eval')
        fields['loss'] = v1.placeholder_with_default(1., None)
        version = graph.version
        assert Strict(**fields).loss is fields['loss']
        assert graph.version == version
    finally:
        context.Exit()


# Errors.

def test_every_fault_is_told_at_once(graph):
    p = tf.constant([1.], name='scores')
    with pytest.raises(ese.EstimatorSpecError) as error_info:
        Strict('train', predictions={'p': p}, loss=tf.constant([1., 2.], name='loss'),
               eval_metric_ops={'accuracy': 3}, training_hooks='logging', scaffold='mine')
    slugs = [finding.slug for finding in error_info.value.findings]
    assert {'loss-not-scalar', 'metric-not-pair', 'hooks-not-list'} <= set(slugs)
    fields = {finding.where.base_field for finding in error_info.value.findings}
    assert fields == {'loss', 'train_op', 'eval_metric_ops', 'training_hooks', 'scaffold'}


def test_the_whole_text_of_two_faults(graph):
    x = v1.placeholder(tf.float32, [None, 10], name='x')
    with pytest.raises(ese.EstimatorSpecError) as error_info:
        Strict('train', loss=tf.square(x, name='head/loss'))
    here = text_report.short_path(frames.call_site()[0])
    whole, tail = _text(error_info.value).split('\n\nnot checked until the errors above are ')
    assert whole == f'''
estimator_spec_ext: 2 errors

train  ERROR  ESX102 stock-refuses  train_op is missing; train needs it
       at {here}:#   field train_op
       fix: pass train_op=... when mode is tf.estimator.ModeKeys.TRAIN
       more: estimator-preflight explain stock-refuses

train  ERROR  ESX201 loss-not-scalar  loss has shape (?, 10); expected () or (1,)
       at {here}:#   field loss   op 'head/loss'
       fix: reduce it to one number, e.g. tf.reduce_mean(loss)
       more: estimator-preflight explain loss-not-scalar'''
    assert tail.startswith('mended: global-step-advanced-twice, global-step-not-advanced,')


@pytest.mark.parametrize('fields', [
    {'loss': 'high'}, {'train_op': 'train'}, {'eval_metric_ops': [1]}, {'training_hooks': [3]},
    {'scaffold': 3}, {'export_outputs': [1]}])
def test_where_stock_raises_a_type_error_ours_is_one_too(graph, fields):
    mode = 'infer' if 'export_outputs' in fields else 'train'
    given = {**_fields(mode), **fields}
    with pytest.raises((TypeError, ValueError)) as stock:
        Stock(**given)
    with pytest.raises(ese.EstimatorSpecError) as strict:
        Strict(**given)
    assert isinstance(strict.value, stock.type)
    assert isinstance(strict.value, ese.EstimatorSpecTypeError) == (stock.type is TypeError)


def test_where_stock_raises_a_value_error_ours_is_no_type_error(graph):
    with pytest.raises(ese.EstimatorSpecError) as error_info:
        Strict('eval')
    assert not isinstance(error_info.value, TypeError)
    assert isinstance(error_info.value, ValueError)


def test_the_error_is_pickled_with_its_findings(graph):
    with pytest.raises(ese.EstimatorSpecError) as error_info:
        Strict('train', loss=tf.constant([1., 2.]), train_op=3)
    error = error_info.value
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert again.findings == error.findings
    assert str(again) == str(error)
    assert copy.copy(error).findings == error.findings


def test_validating_never_raises(graph):
    spec = Strict._make(['train', 3, 'loss', object(), [1], {'a': 1}, 5, 'hook', 7, b'', None])
    report = ese.validate_estimator_spec(spec)
    assert not report.ok
    stock = Stock(**_fields('train'))
    assert ese.validate_estimator_spec(stock).ok


# Other kinds of program.

def test_without_a_graph():
    """Eagerly, where the behaviour is TensorFlow 2's; stock accepts such specs too."""
    if not tf.executing_eagerly():
        assert Strict('eval', loss=tf.constant(1.)).mode == 'eval'
        return
    spec = Strict('eval', predictions={'p': tf.constant([1.])}, loss=tf.constant(1.))
    assert float(spec.loss) == 1.
    with pytest.raises(ese.EstimatorSpecError, match='loss-not-scalar'):
        Strict('eval', loss=tf.constant([1., 2.]))


def test_keras_metrics(graph):
    fields = _fields('eval')
    built = []
    for kind in (Stock, Strict):
        metric = tf.keras.metrics.MeanSquaredError()
        metric.update_state([1.], fields['predictions']['p'])
        version = graph.version
        spec = kind(**{**fields, 'eval_metric_ops': {'mse': metric}})
        value, update = spec.eval_metric_ops['mse']
        assert isinstance(value, tf.Tensor)
        assert update is metric.updates[0]
        built.append(graph.version - version)
    assert built[0] == built[1] > 0  # the ops of metric.result(), as in stock
    with pytest.raises(ese.EstimatorSpecError, match='keras-metric-not-updated'):
        Strict(**{**fields, 'eval_metric_ops': {'mse': tf.keras.metrics.MeanSquaredError()}})


def test_numpy_values_in_the_fields(graph):
    with pytest.raises(ese.EstimatorSpecError) as error_info:
        Strict('infer', predictions={'p': np.zeros(3)})
    assert 'predictions' in {finding.where.base_field for finding in error_info.value.findings}


# Suppression.

def test_a_suppressed_finding_does_not_raise(graph):
    fields = _fields('eval')
    fields['loss'] = v1.placeholder(tf.float32, [None], name='losses')
    with pytest.raises(ese.EstimatorSpecError, match='loss-not-scalar'):
        Strict(**fields)
    assert [finding.slug for finding in ese.findings()] == ['loss-not-scalar']
    for name in ('loss-not-scalar', 'ESX201'):
        spec = Strict(**fields, suppress={name: 'every batch holds one example'})
        assert spec.loss.shape.as_list() == []
        assert ese.findings() == ()


@pytest.mark.parametrize('suppress, fault', [
    ({'loss-not-scaler': 'why'}, 'suppression loss-not-scaler names no rule; the nearest is '
                                 'loss-not-scalar'),
    ({'loss-not-scalar': ''}, 'suppression loss-not-scalar gives no reason'),
    ({'loss-not-scalar': '  '}, 'suppression loss-not-scalar gives no reason'),
    ({'loss-not-scalar': True}, 'suppression loss-not-scalar gives no reason'),
    ({'*': 'all'}, 'suppression * names no rule'),
    ({3: 'three'}, 'suppression a int names no rule'),
    (['loss-not-scalar'], 'suppression suppress is a list, not a mapping from the name of a rule '
                          'to the reason'),
    ('loss-not-scalar', 'suppression suppress is a str, not a mapping from the name of a rule to '
                        'the reason')])
def test_a_suppression_without_name_or_reason_is_an_error(graph, suppress, fault):
    with pytest.raises(ese.EstimatorSpecError) as error_info:
        Strict(**_fields('eval'), suppress=suppress)
    finding, = error_info.value.findings
    assert (finding.slug, finding.message) == ('invalid-suppression', fault)


def test_what_stock_refuses_cannot_be_suppressed(graph):
    fields = {**_fields('eval'), 'loss': tf.constant([1., 2.])}
    with pytest.raises(ese.EstimatorSpecError) as error_info:
        Strict(**fields, suppress={'loss-not-scalar': 'no', 'stock-refuses': 'no'})
    assert 'stock-refuses' in {finding.slug for finding in error_info.value.findings}


def test_an_unused_suppression_is_told_when_validating(graph):
    spec = Strict(**_fields('eval'), suppress={'loss-not-scalar': 'batches of one'})
    report = ese.validate_estimator_spec(spec, suppress={'loss-not-scalar': 'batches of one'})
    assert [(finding.slug, finding.severity) for finding in report.findings] == [
        ('unused-suppression', ese.Severity.WARNING)]


# Findings of a graph.

def test_the_findings_of_the_last_spec_of_a_graph(graph):
    assert ese.findings() == ()
    fields = _fields('eval')
    Strict(**{**fields, 'loss': tf.cast(fields['loss'], tf.int32)})
    assert [finding.slug for finding in ese.findings()] == ['loss-not-floating']
    assert ese.findings(graph) == ese.findings()
    with tf.Graph().as_default():
        assert ese.findings() == ()
    Strict(**fields)
    assert ese.findings(graph) == ()

"""`StrictTPUEstimatorSpec`: a TPU spec, strict, and what it becomes on a CPU."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
import tensorflow as tf

import estimator_spec_ext as ese

v1 = tf.compat.v1
tpu = v1.estimator.tpu

_X = np.random.RandomState(0).randn(16, 3).astype(np.float32)
_Y = _X.sum(1, keepdims=True) + 1


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        v1.train.get_or_create_global_step()
        yield graph


def _metric_fn(labels, predictions):
    return {'mae': v1.metrics.mean_absolute_error(labels, predictions)}


def _spec(cls, features, labels, mode, model_dir=None, **changes):
    """A whole TPU spec of class `cls`, with everything that it can have."""
    weight = v1.get_variable('w', [3, 1], initializer=v1.ones_initializer())
    predictions = tf.matmul(features, weight)
    fields = {'predictions': {'y': predictions}}
    if mode != 'infer':
        losses = tf.square(labels - predictions)
        fields['loss'] = tf.reduce_mean(losses)
        fields['eval_metrics'] = (_metric_fn, {'labels': labels, 'predictions': predictions})
    if mode == 'train':
        step = v1.train.get_or_create_global_step()
        fields['train_op'] = v1.train.GradientDescentOptimizer(0.1).minimize(fields['loss'], step)
        fields['scaffold_fn'] = v1.train.Scaffold
        if model_dir:
            def host_call_fn(step, loss):
                writer = tf.compat.v2.summary.create_file_writer(model_dir)
                with writer.as_default(), tf.compat.v2.summary.record_if(True):
                    tf.compat.v2.summary.scalar('from_host', loss[0], step=step[0])
                    return v1.summary.all_v2_summary_ops()

            fields['host_call'] = (
                host_call_fn, [tf.reshape(step, [1]), tf.reshape(fields['loss'], [1])])
    return cls(mode, **{**fields, **changes})


def _estimator(tmp_path, cls, **changes):
    model_dir = str(tmp_path)

    def model_fn(features, labels, mode, params):
        return _spec(cls, features['x'], labels, mode, model_dir, **changes)

    config = tpu.RunConfig(model_dir=model_dir, save_summary_steps=1)
    return tpu.TPUEstimator(model_fn, config=config, use_tpu=False, train_batch_size=8,
                            eval_batch_size=8, predict_batch_size=8, export_to_tpu=False)


def _input_fn(params):
    data = tf.data.Dataset.from_tensor_slices(({'x': _X}, _Y))
    return data.repeat().batch(params['batch_size'], drop_remainder=True)


def _receiver_fn():
    x = v1.placeholder(tf.float32, [None, 3])
    return tf.estimator.export.ServingInputReceiver({'x': x}, {'x': x})


def test_a_whole_job_on_a_cpu(tmp_path):
    """TPUEstimator(use_tpu=False) does all that it does with stock's class."""
    results = []
    for name, cls in (('stock', tpu.TPUEstimatorSpec), ('strict', ese.StrictTPUEstimatorSpec)):
        estimator = _estimator(tmp_path / name, cls)
        estimator.train(_input_fn, steps=4)
        result = estimator.evaluate(_input_fn, steps=2)
        predicted = next(estimator.predict(_input_fn))
        folder = estimator.export_saved_model(str(tmp_path / name / 'export'), _receiver_fn)
        with tf.Graph().as_default(), v1.Session() as session:
            meta = v1.saved_model.load(session, ['serve'], folder.decode())
            signature = meta.signature_def['serving_default']
            served = session.run(signature.outputs['y'].name, {signature.inputs['x'].name: _X[:3]})
        summaries = [value.tag for path in (tmp_path / name).glob('events*')
                     for event in v1.train.summary_iterator(str(path))
                     for value in event.summary.value]
        results.append((result, predicted, served, sorted(summaries)))
    (stock, strict) = results
    assert strict[0] == stock[0] and set(strict[0]) == {'loss', 'mae', 'global_step'}
    np.testing.assert_array_equal(strict[1]['y'], stock[1]['y'])
    np.testing.assert_array_equal(strict[2], stock[2])
    assert strict[3] == stock[3] and strict[3].count('from_host') == 4


def _preflight(tmp_path, cls=tpu.TPUEstimatorSpec, depth='graph', **changes):
    spec = tf.estimator.EvalSpec(_input_fn, steps=2)
    return ese.preflight(_estimator(tmp_path, cls, **changes),
                         tf.estimator.TrainSpec(_input_fn, max_steps=4), spec, depth=depth,
                         serving_input_receiver_fn=_receiver_fn)


@pytest.mark.parametrize('cls', [tpu.TPUEstimatorSpec, ese.StrictTPUEstimatorSpec])
def test_preflight_of_a_right_job(tmp_path, cls):
    """Also the summary of the loss, which is Estimator's own, is nobody's mistake."""
    assert not _preflight(tmp_path, cls, depth='run').findings


@pytest.mark.parametrize('cls', [tpu.TPUEstimatorSpec, ese.StrictTPUEstimatorSpec])
@pytest.mark.parametrize('tensors, function, slug', [
    ([tf.reduce_mean], lambda value: {'mean': v1.metrics.mean(value)}, 'tpu-tensor-without-batch'),
    ([lambda y: tf.tile(tf.reduce_mean(y, 0), [3])],
     lambda value: {'mean': v1.metrics.mean(value)}, 'tpu-tensor-without-batch'),
    ([lambda y: 3], lambda value: {'mean': v1.metrics.mean(value)}, 'tpu-value-not-tensor'),
    ([tf.abs], lambda value: None, 'metrics-not-dict'),
])
def test_preflight_reads_the_tpu_spec(tmp_path, cls, tensors, function, slug):
    """An Estimator sees a TPU spec only after it was made one for a CPU."""
    def model_fn(features, labels, mode, params):
        given = [] if labels is None else [make(labels) for make in tensors]
        return _spec(cls, features['x'], labels, mode,
                     **{'eval_metrics': (function, given)} if labels is not None else {})

    estimator = tpu.TPUEstimator(model_fn, config=tpu.RunConfig(model_dir=str(tmp_path)),
                                 use_tpu=False, train_batch_size=8, eval_batch_size=8)
    report = ese.preflight(estimator, tf.estimator.TrainSpec(_input_fn, max_steps=4),
                           tf.estimator.EvalSpec(_input_fn, steps=2), depth='graph')
    assert [finding.slug for finding in report.findings] == [slug]


@pytest.mark.parametrize('cls', [tpu.TPUEstimatorSpec, ese.StrictTPUEstimatorSpec])
def test_preflight_of_summaries(tmp_path, cls):
    """On a CPU they are written: information, and nothing more."""
    def model_fn(features, labels, mode, params):
        spec = _spec(cls, features['x'], labels, mode)
        if mode == 'train':
            v1.summary.scalar('error', spec.loss)
        return spec

    estimator = tpu.TPUEstimator(model_fn, config=tpu.RunConfig(model_dir=str(tmp_path)),
                                 use_tpu=False, train_batch_size=8)
    report = ese.preflight(estimator, tf.estimator.TrainSpec(_input_fn, max_steps=4), depth='graph')
    assert [(finding.slug, finding.severity.name) for finding in report.findings] == [
        ('tpu-summaries', 'INFO')]


def test_preflight_tells_the_size_of_a_batch(tmp_path):
    """A model_fn reads it from params, as TPUEstimator promises."""
    seen = []

    def model_fn(features, labels, mode, params):
        seen.append((mode, params.get('batch_size'), params['use_tpu']))
        return _spec(tpu.TPUEstimatorSpec, features['x'], labels, mode)

    estimator = tpu.TPUEstimator(model_fn, config=tpu.RunConfig(model_dir=str(tmp_path)),
                                 use_tpu=False, train_batch_size=8, eval_batch_size=4)
    assert not ese.preflight(
        estimator, tf.estimator.TrainSpec(_input_fn, max_steps=4),
        tf.estimator.EvalSpec(_input_fn, steps=2), depth='run').findings
    assert {('train', 8, False), ('eval', 4, False)} <= set(seen)


def test_same_fields(graph):
    """Field by field what stock's class has; the class is a subclass of it."""
    x, y = tf.constant(_X), tf.constant(_Y)
    strict = _spec(ese.StrictTPUEstimatorSpec, x, y, 'eval')
    stock = tpu.TPUEstimatorSpec(**strict._asdict())
    assert isinstance(strict, tpu.TPUEstimatorSpec) and strict._fields == stock._fields
    assert tuple(strict) == tuple(stock)
    plain = strict.as_estimator_spec()
    assert type(plain) is ese.StrictEstimatorSpec
    assert list(plain.eval_metric_ops) == ['mae']


def test_replace(graph):
    """replace and _replace keep the class, and check again."""
    spec = _spec(ese.StrictTPUEstimatorSpec, tf.constant(_X), tf.constant(_Y), 'eval')
    hook = v1.train.StopAtStepHook(3)
    for new in (ese.replace(spec, evaluation_hooks=[hook]), spec._replace(evaluation_hooks=[hook])):
        assert type(new) is ese.StrictTPUEstimatorSpec
        assert new.evaluation_hooks == (hook,) and new.loss is spec.loss
        assert new.as_estimator_spec().evaluation_hooks == (hook,)
    with pytest.raises(ValueError, match="has no field 'scaffold'"):
        ese.replace(spec, scaffold=None)
    with pytest.raises(ese.EstimatorSpecError, match='loss-not-scalar'):
        ese.replace(spec, loss=tf.zeros([3]))


def test_copies(graph):
    """Copies become an EstimatorSpec as the original does; _make checks nothing."""
    spec = _spec(ese.StrictTPUEstimatorSpec, tf.constant(_X), tf.constant(_Y), 'eval')
    for other in (copy.copy(spec), spec._make(spec)):
        assert type(other) is ese.StrictTPUEstimatorSpec and tuple(other) == tuple(spec)
        assert list(other.as_estimator_spec().eval_metric_ops) == ['mae']
    assert pickle.loads(pickle.dumps(ese.StrictTPUEstimatorSpec)) is ese.StrictTPUEstimatorSpec


def test_each_spec_keeps_its_own_metrics(graph):
    """Stock keeps metrics on the class, where the next spec replaces them; here they stay."""

    def metrics(name):
        return (lambda x: {name: v1.metrics.mean(x)}, [tf.constant([1.0])])

    first = ese.StrictTPUEstimatorSpec(
        'eval', loss=tf.constant(1.0), eval_metrics=metrics('first'))
    ese.StrictTPUEstimatorSpec('eval', loss=tf.constant(1.0), eval_metrics=metrics('second'))
    assert list(first.as_estimator_spec().eval_metric_ops) == ['first']


def test_all_findings_at_once(graph):
    """Faults of every field are in one error."""
    with pytest.raises(ese.EstimatorSpecTypeError) as caught:
        ese.StrictTPUEstimatorSpec(
            'eval', predictions=3, loss=tf.zeros([4]), eval_metrics=(_metric_fn, [tf.zeros([4])]),
            scaffold_fn=v1.train.Scaffold(), host_call='call', training_hooks=['hook'])
    found = {(f.slug, f.where.field) for f in caught.value.findings if f.severity.value == 'error'}
    assert {
        ('loss-not-scalar', 'loss'),
        ('tpu-call-arguments', 'eval_metrics[1]'),
        ('tpu-call-malformed', 'host_call'),
        ('scaffold-fn-not-function', 'scaffold_fn'),
    } <= found
    assert {'predictions', 'training_hooks'} <= {field.split('[')[0] for _, field in found}


def test_a_failing_function_is_one_finding_among_others(graph):
    """as_estimator_spec tells what a function raised together with the other faults."""

    def metric_fn(values):
        raise KeyError('logits')

    spec = ese.StrictTPUEstimatorSpec(
        'eval', loss=tf.constant(1.0), eval_metrics=(metric_fn, [tf.zeros([4])]),
        host_call=(lambda values: None, [tf.zeros([4])]))
    with pytest.raises(ese.EstimatorSpecError) as caught:
        spec.as_estimator_spec()
    assert [f.slug for f in caught.value.findings] == [
        'tpu-function-fails', 'host-call-returns-nothing']
    assert isinstance(caught.value.__cause__, KeyError)


def test_metrics_that_are_none(graph):
    """What metric_fn returns is judged as eval_metric_ops."""
    spec = ese.StrictTPUEstimatorSpec('eval', loss=tf.constant(1.0), eval_metrics=(
        lambda values: {'mean': tf.reduce_mean(values)}, [tf.zeros([4])]))
    with pytest.raises(ese.EstimatorSpecError, match='metric-not-pair'):
        spec.as_estimator_spec()


def test_suppress(graph):
    """A reason given to the constructor holds for as_estimator_spec too."""
    spec = ese.StrictTPUEstimatorSpec(
        'eval', loss=tf.constant(1), suppress={'loss-not-floating': 'only a count'})
    assert spec.as_estimator_spec().loss is spec.loss


def test_the_loss_is_guarded_once(graph):
    """The assertion on a loss of unknown shape comes with the EstimatorSpec, not before."""
    loss = v1.placeholder_with_default(1.0, None)
    before = graph.version
    spec = ese.StrictTPUEstimatorSpec('eval', loss=loss, suppress={'loss-unknown-shape': 'known'})
    assert spec.loss is loss and graph.version == before
    assert spec.as_estimator_spec().loss.op.name == 'strict_loss/checked'


def test_default_exports(graph):
    """PREDICT gets the same signatures as in a StrictEstimatorSpec."""
    scores = tf.ones([2, 3])
    exports = {'scores': tf.estimator.export.ClassificationOutput(scores=scores)}
    spec = ese.StrictTPUEstimatorSpec('infer', predictions={'s': scores}, export_outputs=exports)
    assert sorted(spec.export_outputs) == ['predict', 'scores', 'serving_default']
    assert list(exports) == ['scores']
    assert sorted(spec.as_estimator_spec().export_outputs) == sorted(spec.export_outputs)


def test_strict_model_fn_makes_tpu_specs_strict(graph):
    """A model_fn that returns stock's TPU spec."""

    @ese.strict_model_fn
    def model_fn(features, labels, mode, params):
        return _spec(tpu.TPUEstimatorSpec, features, labels, mode)

    spec = model_fn(tf.constant(_X), tf.constant(_Y), 'eval', {})
    assert type(spec) is ese.StrictTPUEstimatorSpec
    assert type(spec.as_estimator_spec()) is ese.StrictEstimatorSpec


def test_validate_estimator_spec(graph):
    """It reports without raising, also what the functions do."""
    spec = tpu.TPUEstimatorSpec('eval', loss=tf.constant(1.0), eval_metrics=(
        lambda loss: {'mean': loss}, [tf.constant(1.0)]))
    report = ese.validate_estimator_spec(spec)
    assert [f.slug for f in report.findings] == ['metric-not-pair', 'tpu-tensor-without-batch']


@pytest.mark.parametrize('junk', [
    3, 'x', object(), [], (), (1,), (1, 2, 3), (None, None), (_metric_fn, None), (_metric_fn, 'ab'),
    ('f', []), (_metric_fn, {1: 2}), (_metric_fn, {}), {}, {'a': 1}, (len, [1]), (dict, {'a': 1}),
    (lambda a, /: {}, {'a': 1})], ids=str)
@pytest.mark.parametrize('field', ['eval_metrics', 'host_call'])
def test_junk(graph, field, junk):
    """Whatever stock refuses is refused, with no other exception than ours."""
    stock_refuses = False
    try:
        tpu.TPUEstimatorSpec('eval', loss=tf.constant(1.0), **{field: junk})
    except Exception:  # noqa: BLE001
        stock_refuses = True
    try:
        ese.StrictTPUEstimatorSpec('eval', loss=tf.constant(1.0), **{field: junk})
    except ese.EstimatorSpecError:
        return
    assert not stock_refuses

"""`strict_model_fn` around model_fns of every form, in real Estimators."""

from __future__ import annotations

import inspect
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest
import tensorflow as tf

import estimator_spec_ext as ese
from estimator_spec_ext import facts

v1 = tf.compat.v1
ROOT = pathlib.Path(__file__).resolve().parent.parent


def _linear(features, labels, mode):
    """A stock spec of a linear model."""
    weight = v1.get_variable('w', [], initializer=tf.zeros_initializer())
    prediction = features['x'] * weight
    if mode == 'infer':
        return tf.estimator.EstimatorSpec(mode, predictions={'p': prediction})
    loss = tf.reduce_mean(tf.square(prediction - labels))
    train_op = v1.train.GradientDescentOptimizer(.01).minimize(loss, v1.train.get_global_step())
    return tf.estimator.EstimatorSpec(
        mode, {'p': prediction}, loss, train_op,
        eval_metric_ops={'mean': v1.metrics.mean(prediction)})


def _input_fn():
    rows = tf.range(8, dtype=tf.float32)[:, tf.newaxis]
    return tf.data.Dataset.from_tensor_slices(({'x': rows}, 2. * rows)).batch(4)


def _estimator(model_fn, model_dir, **kwargs):
    config = tf.estimator.RunConfig(str(model_dir), log_step_count_steps=None,
                                    save_summary_steps=None)
    return tf.estimator.Estimator(model_fn, config=config, **kwargs)


def test_it_trains_evaluates_predicts_and_exports(tmp_path):
    returned = []

    def watched(features, labels, mode):
        spec = wrapped(features, labels, mode)
        returned.append(type(spec))
        return spec

    wrapped = ese.strict_model_fn(_linear)
    estimator = _estimator(watched, tmp_path / 'model')
    estimator.train(_input_fn, steps=2)
    assert estimator.evaluate(_input_fn)['global_step'] == 2
    assert len(list(estimator.predict(_input_fn))) == 8
    assert estimator.export_saved_model(str(tmp_path / 'export'), _receiver)
    assert returned == [ese.StrictEstimatorSpec] * 4


def _receiver():
    x = v1.placeholder(tf.float32, [None, 1], name='x')
    return tf.estimator.export.ServingInputReceiver({'x': x}, {'x': x})


# Estimator passes what the names ask for.

class _Holder:
    """A model_fn that is a method."""

    def model_fn(self, features, labels, mode, params, config):
        assert params == {'rate': 3}
        assert isinstance(config, tf.estimator.RunConfig)
        return _linear(features, labels, mode)


class _Callable:
    """A model_fn that is an object."""

    def __call__(self, features, labels, mode, params=None):
        assert params == {'rate': 3}
        return _linear(features, labels, mode)


def _without_labels(features, mode):
    return _linear(features, None, mode)


def _in_another_order(mode, labels, features, params):
    assert params == {'rate': 3}
    return _linear(features, labels, mode)


@pytest.mark.parametrize('model_fn', [
    _Holder().model_fn, _Callable(), _in_another_order], ids=['method', 'object', 'order'])
def test_the_arguments_arrive_as_without_the_wrapper(tmp_path, model_fn):
    estimator = _estimator(ese.strict_model_fn(model_fn), tmp_path, params={'rate': 3})
    estimator.train(_input_fn, steps=1)
    assert estimator.evaluate(_input_fn, steps=1)['global_step'] == 1


def test_a_model_fn_without_labels(tmp_path):
    estimator = _estimator(ese.strict_model_fn(_without_labels), tmp_path / 'predict')
    _estimator(_linear, tmp_path / 'predict').train(_input_fn, steps=1)
    assert len(list(estimator.predict(lambda: _input_fn().map(lambda x, _: x)))) == 8


def test_the_signature_name_and_docstring_are_kept():
    wrapped = ese.strict_model_fn(_linear)
    assert inspect.signature(wrapped) == inspect.signature(_linear)
    assert inspect.getfullargspec(wrapped).args == ['features', 'labels', 'mode']
    assert (wrapped.__name__, wrapped.__doc__) == (_linear.__name__, _linear.__doc__)


# Its result.

def _predict(model_fn):
    with tf.Graph().as_default():
        v1.train.get_or_create_global_step()
        return model_fn({'x': v1.placeholder(tf.float32, [None, 1], name='x')}, None, 'infer')


def test_as_a_decorator_with_suppressions():
    @ese.strict_model_fn(suppress={'loss-not-scalar': 'every batch holds one example'})
    def model_fn(features, labels, mode):
        return tf.estimator.EstimatorSpec('eval', loss=v1.placeholder(tf.float32, [None]))

    assert type(_predict(model_fn)) is ese.StrictEstimatorSpec


def test_the_faults_of_a_stock_spec_raise():
    @ese.strict_model_fn
    def model_fn(features, labels, mode):
        return tf.estimator.EstimatorSpec('eval', loss=v1.placeholder(tf.float32, [None]))

    with pytest.raises(ese.EstimatorSpecError, match='loss-not-scalar'):
        _predict(model_fn)


def test_a_stock_spec_gets_export_outputs():
    def model_fn(features, labels, mode):
        outputs = {'a': tf.estimator.export.PredictOutput(features['x']),
                   'b': tf.estimator.export.PredictOutput(features['x'])}
        return tf.estimator.EstimatorSpec(mode, {'p': features['x']}, export_outputs={
            **outputs, 'serving_default': outputs['a']})

    spec = _predict(ese.strict_model_fn(model_fn))
    assert sorted(spec.export_outputs) == ['a', 'b', 'serving_default']


def test_a_subclass_of_the_strict_spec_stays_what_it_is():
    class Mine(ese.StrictEstimatorSpec):
        """A spec with a note."""

    model_fn = ese.strict_model_fn(lambda features, labels, mode: Mine(mode, features))
    assert type(_predict(model_fn)) is Mine


def test_what_the_constructor_was_told_to_suppress_stays_suppressed():
    @ese.strict_model_fn
    def model_fn(features, labels, mode):
        return ese.StrictEstimatorSpec('eval', loss=v1.placeholder(tf.float32, [None]), suppress={
            'loss-not-scalar': 'every batch holds one example'})

    assert _predict(model_fn).loss.shape.as_list() == []


@pytest.mark.parametrize('returned', [None, {'p': 1}, ('infer',), 3])
def test_what_is_no_spec_is_left_to_estimator(returned):
    assert _predict(ese.strict_model_fn(lambda features, labels, mode: returned)) is returned


def test_an_exception_of_the_model_fn_is_handed_on():
    def model_fn(features, labels, mode):
        raise KeyError('age')

    with pytest.raises(KeyError, match='age'):
        _predict(ese.strict_model_fn(model_fn))


@pytest.mark.parametrize('model_fn', [3, 'model', [], {}])
def test_what_cannot_be_called_is_refused(model_fn):
    with pytest.raises(TypeError) as error_info:
        ese.strict_model_fn(model_fn)
    assert str(error_info.value) == (
        f'model_fn must be callable, got {type(model_fn).__name__}')


def test_the_config_tells_of_the_job(tmp_path):
    config = tf.estimator.RunConfig(str(tmp_path))
    context = facts.context_of(config)
    assert (context.model_dir, context.num_workers) == (str(tmp_path), 1)
    assert facts.context_of(None).model_dir is None
    assert facts.context_of('config').num_workers is None


class _Checked(Exception):
    """Ends a job once its spec has been checked."""


@pytest.mark.parametrize('strict_by_itself', [True, False])
def test_the_estimator_that_calls_tells_of_the_job(tmp_path, strict_by_itself):
    """A model_fn without `config`: the directory comes from the Estimator that is calling it."""
    def model_fn(features, labels, mode):
        hook = v1.train.CheckpointSaverHook('elsewhere', save_steps=9)
        spec = _linear(features, labels, mode)._replace(training_chief_hooks=(hook,))
        return ese.StrictEstimatorSpec(*spec) if strict_by_itself else spec

    def checked(features, labels, mode):
        make = model_fn if strict_by_itself else ese.strict_model_fn(model_fn)
        make(features, labels, mode)
        raise _Checked([finding.message for finding in ese.findings(v1.get_default_graph())
                        if finding.slug == 'saver-elsewhere'])

    with pytest.raises(_Checked) as error_info:
        _estimator(checked, tmp_path / 'job').train(_input_fn, steps=1)
    message, = error_info.value.args[0]
    assert message == ("training_chief_hooks[0] (CheckpointSaverHook) saves to 'elsewhere'; "
                       'nothing saves to model_dir')


def test_a_canned_estimator_by_public_names(tmp_path):
    """The recipe of the README."""
    canned = tf.estimator.LinearRegressor(
        [tf.feature_column.numeric_column('x')], model_dir=str(tmp_path))
    returned = []
    strict = ese.strict_model_fn(canned.model_fn)

    def model_fn(features, labels, mode, config):
        returned.append(strict(features, labels, mode, config))
        return returned[-1]

    estimator = tf.estimator.Estimator(model_fn, config=canned.config)
    estimator.train(_input_fn, steps=1)
    assert estimator.model_dir == canned.model_dir
    assert estimator.evaluate(_input_fn)['global_step'] == 1
    assert [type(spec) for spec in returned] == [ese.StrictEstimatorSpec] * 2


# Under a strategy.

_MIRRORED = '''
    import sys
    import tensorflow as tf
    import estimator_spec_ext as ese
    if sys.argv[1] == '1':
        tf.compat.v1.disable_v2_behavior()

    @ese.strict_model_fn
    def model_fn(features, labels, mode):
        weight = tf.compat.v1.get_variable('w', [], initializer=tf.zeros_initializer())
        features = tf.compat.v1.placeholder_with_default(features, [None])
        labels = tf.compat.v1.placeholder_with_default(labels, [None])
        errors = tf.square(features * weight - labels)
        loss = errors if sys.argv[2] == 'bad' else tf.reduce_mean(errors)
        train_op = tf.compat.v1.train.GradientDescentOptimizer(.01).minimize(
            tf.reduce_mean(errors), tf.compat.v1.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, {'p': errors}, loss, train_op)

    def input_fn():
        return tf.data.Dataset.from_tensors((tf.ones([4]), tf.ones([4]))).repeat()

    strategy = tf.distribute.MirroredStrategy(['/cpu:0'])
    config = tf.estimator.RunConfig(sys.argv[3], train_distribute=strategy)
    estimator = tf.estimator.Estimator(model_fn, config=config)
    try:
        estimator.train(input_fn, steps=2)
        print('step', estimator.get_variable_value('global_step'))
    except ValueError as error:
        print(type(error).__name__, [finding.slug for finding in error.findings])
'''


@pytest.mark.parametrize('kind, expected', [
    ('good', 'step 2'), ('bad', "EstimatorSpecError ['loss-not-scalar']")])
def test_under_mirrored_strategy_errors_arrive_as_ours(tmp_path, kind, expected):
    script = tmp_path / 'job.py'
    script.write_text(textwrap.dedent(_MIRRORED))
    tf1 = '0' if tf.executing_eagerly() else '1'
    done = subprocess.run(  # a process of its own: strategies are known to hang
        [sys.executable, str(script), tf1, kind, str(tmp_path / 'model')], timeout=120,
        capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': os.pathsep.join(
            [str(ROOT), os.environ.get('PYTHONPATH', '')]).rstrip(os.pathsep)})
    assert done.stdout.strip().splitlines()[-1:] == [expected], done.stderr[-3000:]

"""`create_estimator_spec` and its fixed forms: what each mode asks for, and what it refuses."""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
import tensorflow as tf

import estimator_spec_ext as ese

v1 = tf.compat.v1


def _sgd():
    return v1.train.GradientDescentOptimizer(0.1)


@pytest.fixture
def graph():
    with tf.Graph().as_default() as graph:
        v1.train.get_or_create_global_step()
        yield graph


def _never(name):
    def function(*args):
        raise AssertionError(f'{name} was called')

    return function


def _predictions():
    weight = v1.get_variable('w', [3, 1], use_resource=True)
    x = v1.placeholder(tf.float32, [None, 3], name='x')
    return {'y': tf.matmul(x, weight)}


@pytest.mark.parametrize(('mode', 'unused'), [
    ('train', ['metrics_fn']),
    ('eval', ['optimizer', 'train_op_fn', 'trainable_variables', 'gradient_transform',
              'warm_start_from']),
    ('infer', ['loss_fn', 'metrics_fn', 'optimizer', 'trainable_variables', 'gradient_transform',
               'warm_start_from']),
])
def test_only_the_callables_of_the_mode_are_called(graph, mode, unused):
    """Whatever the mode does not need is not evaluated."""
    options = {
        'loss_fn': lambda labels, predictions: tf.reduce_mean(predictions['y']),
        'optimizer': _sgd,
        'metrics_fn': lambda labels, predictions: {},
    }
    options.update({name: _never(name) for name in unused})
    if mode != 'train':
        options.pop('optimizer' if 'train_op_fn' in unused else 'train_op_fn', None)
    spec = ese.create_estimator_spec(mode, predictions=_predictions(), **options)
    assert spec.mode == mode
    assert type(spec) is ese.StrictEstimatorSpec


@pytest.mark.parametrize(('mode', 'given'), [
    ('train', {'training_hooks', 'training_chief_hooks'}),
    ('eval', {'evaluation_hooks'}),
    ('infer', {'prediction_hooks'}),
])
def test_hooks_and_scaffold_of_the_mode(graph, mode, given):
    """Each mode gets its own hooks, and the scaffold."""
    hooks = {name: [v1.train.StopAtStepHook(3)] for name in (
        'training_hooks', 'training_chief_hooks', 'evaluation_hooks', 'prediction_hooks')}
    scaffold = v1.train.Scaffold()
    spec = ese.create_estimator_spec(
        mode, predictions=_predictions(), optimizer=_sgd, scaffold=scaffold,
        loss_fn=lambda labels, predictions: tf.reduce_mean(predictions['y']), **hooks)
    assert {name for name in hooks if getattr(spec, name)} == given
    for name in given:
        assert getattr(spec, name)[0] is hooks[name][0]
    assert spec.scaffold is scaffold


def test_the_fixed_forms_have_just_what_their_mode_uses():
    """A misplaced argument is Python's own TypeError."""
    train, evaluate, predict = (set(inspect.signature(form).parameters) for form in (
        ese.create_train_estimator_spec, ese.create_eval_estimator_spec,
        ese.create_predict_estimator_spec))
    general = set(inspect.signature(ese.create_estimator_spec).parameters)
    assert (train | evaluate | predict) - general == {'loss'}
    assert general - (train | evaluate | predict) == {'mode', 'loss_fn'}
    assert not train & {'metrics_fn', 'labels', 'export_outputs', 'evaluation_hooks'}
    assert not evaluate & {'optimizer', 'train_op_fn', 'export_outputs', 'training_hooks'}
    assert not predict & {'loss', 'optimizer', 'metrics_fn', 'labels', 'training_hooks'}
    with pytest.raises(TypeError, match="unexpected keyword argument 'optimizer'"):
        ese.create_eval_estimator_spec(None, optimizer=None)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'loss'"):
        ese.create_train_estimator_spec(optimizer=None)


def test_each_option_is_shown_in_an_example():
    """The examples of the docstring run; here, that none is missing."""
    examples = ese.create_estimator_spec.__doc__.split('Example:')[1]
    missing = [name for name in inspect.signature(ese.create_estimator_spec).parameters
               if name != 'mode' and not re.search(rf"\b{name}=|'{name}':", examples)]
    assert not missing


def test_no_loss_fn(graph):
    """TRAIN and EVAL need a loss_fn; PREDICT does not."""
    for mode in ('train', 'eval'):
        with pytest.raises(TypeError, match='needs loss_fn in TRAIN and EVAL'):
            ese.create_estimator_spec(mode, predictions={'y': tf.zeros([2])}, optimizer=_sgd)


def test_both_ways_to_train_are_refused_in_each_mode(graph):
    """That both are given shows before the first training."""
    for mode in ('train', 'eval', 'infer'):
        with pytest.raises(TypeError, match='exactly one of optimizer and train_op_fn, got both'):
            ese.create_estimator_spec(mode, predictions={'y': tf.zeros([2])}, optimizer=_sgd,
                                      train_op_fn=tf.no_op)


def test_unknown_mode(graph):
    """The spec's own finding names the modes."""
    with pytest.raises(ese.EstimatorSpecError, match='ESX101 mode-unknown'):
        ese.create_estimator_spec('predict', predictions=_predictions())


@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_a_loss_for_each_example(graph, mode):
    """An unreduced loss is refused by the rule, at the line that made it, and nothing else is."""
    with pytest.raises(ese.EstimatorSpecError) as caught:
        ese.create_estimator_spec(
            mode, predictions=_predictions(), optimizer=_sgd,
            loss_fn=lambda labels, predictions: tf.square(predictions['y'], name='squared'))
    (finding,) = caught.value.findings
    assert finding.slug == 'loss-not-scalar'
    assert finding.message == 'loss has shape (?, 1); expected () or (1,)'
    assert (finding.where.op, finding.where.field) == ('squared', 'loss')
    assert finding.where.file.endswith('factories_modes_test.py')
    assert not graph.get_collection(v1.GraphKeys.TRAIN_OP)


@pytest.mark.parametrize('loss', [None, 3.0, 'loss', np.float32(1)])
def test_no_tensor_as_loss(graph, loss):
    """What is no tensor is refused before an optimizer stumbles over it."""
    with pytest.raises(ese.EstimatorSpecError) as caught:
        ese.create_train_estimator_spec(loss, optimizer=_sgd)
    assert {finding.where.field for finding in caught.value.findings} == {'loss'}


def test_faults_beside_the_loss_are_told_too(graph):
    """All that can be known without a loss is reported in the same error."""
    with pytest.raises(ese.EstimatorSpecError) as caught:
        ese.create_train_estimator_spec(tf.zeros([3]), optimizer=_sgd, training_hooks=['hook'])
    assert {finding.where.base_field for finding in caught.value.findings} == {
        'loss', 'training_hooks'}


def test_several_losses(graph):
    """The loss is their weighted sum."""
    losses = {'a': tf.constant(2.0), 'b': tf.constant(3.0), 'c': tf.constant(5.0)}
    spec = ese.create_eval_estimator_spec(losses, loss_weights={'b': 0.5, 'c': tf.constant(2.0)})
    with v1.Session() as session:
        assert session.run(spec.loss) == 13.5


def test_a_fault_in_one_of_several_losses(graph):
    """It is named by its key."""
    losses = {'a': tf.constant(2.0), 'b': tf.zeros([4, 2], name='wide')}
    with pytest.raises(ese.EstimatorSpecError) as caught:
        ese.create_eval_estimator_spec(losses)
    (finding,) = caught.value.findings
    assert finding.message == "loss['b'] has shape (4, 2); expected () or (1,)"
    assert (finding.where.field, finding.where.op) == ("loss['b']", 'wide')


@pytest.mark.parametrize(('loss', 'weights', 'message'), [
    ({}, None, 'the dict of losses is empty; expected at least one'),
    ({'a': 1.0}, {'b': 2.0}, "loss_weights has no loss for 'b'; the losses are 'a'"),
    (1.0, {'b': 2.0}, 'loss_weights needs several losses: a dict by name; got one loss'),
])
def test_losses_and_weights_that_do_not_fit(graph, loss, weights, message):
    """A misspelt weight must not be lost."""
    loss = tf.nest.map_structure(tf.constant, loss)
    with pytest.raises(ValueError) as caught:
        ese.create_eval_estimator_spec(loss, loss_weights=weights)
    assert str(caught.value) == message


def test_default_signature(graph):
    """One of several heads becomes the default; plain tensors stand for a PredictOutput."""
    head = tf.estimator.export.ClassificationOutput(scores=tf.ones([2, 3]))
    exports = {'classes': head, 'values': {'v': tf.ones([2])}, 'bare': tf.ones([2, 1])}
    spec = ese.create_predict_estimator_spec(
        {'v': tf.ones([2])}, export_outputs=exports, default_signature='values')
    outputs = spec.export_outputs
    assert outputs['serving_default'] is outputs['values']
    assert outputs['classes'] is head
    assert isinstance(outputs['bare'], tf.estimator.export.PredictOutput)
    assert list(exports) == ['classes', 'values', 'bare']
    assert isinstance(exports['values'], dict)


@pytest.mark.parametrize(('exports', 'message'), [
    (None, "default_signature is 'a', and there are no export_outputs to choose from"),
    ({'b': 1, 'c': 2}, "default_signature is 'a'; expected one of 'b', 'c'"),
    ({'a': 1, 'serving_default': 2},
     "default_signature is 'a', and export_outputs has another 'serving_default'"),
])
def test_default_signature_that_is_none(graph, exports, message):
    """A name that chooses nothing is refused."""
    if exports:
        exports = {name: {'v': tf.ones([2])} for name in exports}
    with pytest.raises(ValueError) as caught:
        ese.create_predict_estimator_spec(
            {'v': tf.ones([2])}, export_outputs=exports, default_signature='a')
    assert str(caught.value) == message


def test_suppressions_reach_the_spec(graph):
    """A finding can be accepted with a reason."""
    loss = v1.placeholder_with_default(tf.constant(1), [], name='counted')
    spec = ese.create_eval_estimator_spec(loss, suppress={'loss-not-floating': 'only a count'})
    assert spec.loss is loss


def test_train_op_fn(graph):
    """The caller's own op gets the whole loss, and the update ops run with it."""
    moving = v1.get_variable('moving', initializer=0.0, trainable=False, use_resource=True)
    v1.add_to_collection(v1.GraphKeys.UPDATE_OPS, moving.assign_add(1.0))
    weight = v1.get_variable('w', initializer=2.0, use_resource=True)
    ready = _sgd().minimize(weight * weight, v1.train.get_global_step())
    seen = []

    def train_op_fn(loss):
        seen.append(loss)
        return ready  # made before: no control dependency can reach it

    loss = weight * weight
    spec = ese.create_train_estimator_spec(loss, train_op_fn=train_op_fn)
    assert seen == [loss]
    with v1.Session() as session:
        session.run(v1.global_variables_initializer())
        session.run(spec.train_op)
        assert session.run([moving, v1.train.get_global_step()]) == [1.0, 1]


def test_train_op_fn_that_forgets_the_step(graph):
    """The rules judge the caller's own op."""
    weight = v1.get_variable('w', initializer=2.0, use_resource=True)
    with pytest.raises(ese.EstimatorSpecError, match='global-step-not-advanced'):
        ese.create_train_estimator_spec(
            weight * weight, train_op_fn=lambda loss: _sgd().minimize(loss))


def test_autograph_leaves_it_alone(graph):
    """Inside a converted model_fn the functions and their errors stay what they are."""

    def model_fn(features, mode):
        if mode == 'train':
            return ese.create_train_estimator_spec(features, optimizer=_sgd)
        return ese.create_predict_estimator_spec({'y': features})

    converted = tf.autograph.to_graph(model_fn)
    assert converted(tf.zeros([2, 1]), 'infer').mode == 'infer'
    with pytest.raises(ese.EstimatorSpecError, match='loss-not-scalar'):
        converted(tf.zeros([2, 1]), 'train')

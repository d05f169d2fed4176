"""`create_estimator_spec` with every family of optimizers: the same numbers as written by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import estimator_spec_ext as ese

v1 = tf.compat.v1
legacy = tf.keras.optimizers.legacy

_DATA = np.random.RandomState(0)
_X = _DATA.randn(16, 3).astype(np.float32)
_Y = _X @ np.array([[1.0], [-2.0], [0.5]], np.float32) + 0.1
_W = np.array([[0.1], [0.5], [-1.0]], np.float32)


def _variables():
    return [
        v1.get_variable('w', initializer=_W, use_resource=True),
        v1.get_variable('b', initializer=np.zeros([1], np.float32), use_resource=True),
    ]


def _loss(labels, predictions):
    return tf.reduce_mean(tf.square(labels - predictions))


def _forward():
    weight, bias = _variables()
    return tf.matmul(tf.constant(_X), weight) + bias


def _run(make_train_op, steps=6):
    """Every global variable by name after some steps in a fresh graph."""
    with tf.Graph().as_default():
        v1.set_random_seed(1)
        v1.train.get_or_create_global_step()
        train_op = make_train_op(_forward())
        with v1.Session() as session:
            session.run(v1.global_variables_initializer())
            for _ in range(steps):
                session.run(train_op)
            return {v.op.name: session.run(v) for v in v1.global_variables()}


def _built(**options):
    def make_train_op(predictions):
        return ese.create_estimator_spec(
            'train', predictions=predictions, labels=tf.constant(_Y), loss_fn=_loss, **options
        ).train_op

    return _run(make_train_op)


def _same(actual, expected):
    assert sorted(actual) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, err_msg=name)


_TF1 = {
    'sgd': lambda: v1.train.GradientDescentOptimizer(0.1),
    'momentum': lambda: v1.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True),
    'adam': lambda: v1.train.AdamOptimizer(0.1),
    'adagrad': lambda: v1.train.AdagradOptimizer(0.1),
    'rmsprop': lambda: v1.train.RMSPropOptimizer(0.1),
    'ftrl': lambda: v1.train.FtrlOptimizer(0.1),
    'decayed': lambda: v1.train.GradientDescentOptimizer(
        v1.train.exponential_decay(0.1, v1.train.get_global_step(), 2, 0.5)
    ),
}


@pytest.mark.parametrize('name', sorted(_TF1))
def test_tf1_optimizers_as_by_hand(name):
    """Same variables under the same names, and the same values to the last bit."""

    def by_hand(predictions):
        loss = _loss(tf.constant(_Y), predictions)
        return _TF1[name]().minimize(loss, v1.train.get_global_step())

    expected = _run(by_hand)
    assert expected['global_step'] == 6
    _same(_built(optimizer=_TF1[name]), expected)


_CLIPPED = {
    'global_clip_norm': lambda gradients: tf.clip_by_global_norm(gradients, 0.3)[0],
    'clip_norm': lambda gradients: [tf.clip_by_norm(g, 0.3) for g in gradients],
    'clip_value': lambda gradients: [tf.clip_by_value(g, -0.3, 0.3) for g in gradients],
}


@pytest.mark.parametrize('option', sorted(_CLIPPED))
def test_clipping_as_by_hand(option):
    """Each way of clipping gives the bits of compute_gradients, clip, apply_gradients."""

    def by_hand(predictions):
        optimizer = v1.train.AdamOptimizer(0.1)
        pairs = optimizer.compute_gradients(_loss(tf.constant(_Y), predictions))
        gradients = _CLIPPED[option]([g for g, _ in pairs])
        return optimizer.apply_gradients(
            zip(gradients, [v for _, v in pairs]), v1.train.get_global_step()
        )

    expected = _run(by_hand)
    _same(_built(optimizer=_TF1['adam'], **{option: 0.3}), expected)
    assert any((value != expected[name]).any()
               for name, value in _built(optimizer=_TF1['adam']).items())


def test_gradient_transform_comes_before_clipping():
    """The transform sees raw (gradient, variable) pairs, clipping its result."""
    seen = []

    def transform(pairs):
        seen.append([variable.op.name for _, variable in pairs])
        return [(gradient * 1000.0, variable) for gradient, variable in pairs]

    after = _built(optimizer=_TF1['sgd'], gradient_transform=transform, clip_value=0.5)
    assert seen == [['w', 'b']]
    np.testing.assert_allclose(np.abs(after['w'] - _W), 0.1 * 0.5 * 6, rtol=1e-5)


_LEGACY = {
    'adam': lambda: legacy.Adam(0.1),
    'sgd': lambda: legacy.SGD(0.1, momentum=0.9),
    'adadelta': lambda: legacy.Adadelta(1.0),
    'adagrad': lambda: legacy.Adagrad(0.1),
    'adamax': lambda: legacy.Adamax(0.1),
    'ftrl': lambda: legacy.Ftrl(0.1),
    'nadam': lambda: legacy.Nadam(0.1),
    'rmsprop': lambda: legacy.RMSprop(0.1, centered=True),
    'decay': lambda: legacy.SGD(
        tf.keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), global_clipnorm=0.5
    ),
}


@pytest.mark.parametrize('name', sorted(_LEGACY))
def test_legacy_keras_optimizers_as_by_hand(name):
    """The recipe of the migration guide: iterations is the global step, then get_updates."""

    def by_hand(predictions):
        optimizer = _LEGACY[name]()
        optimizer.iterations = v1.train.get_global_step()
        loss = _loss(tf.constant(_Y), predictions)
        return optimizer.get_updates(loss, v1.trainable_variables())[0]

    expected = _run(by_hand)
    assert expected['global_step'] == 6
    _same(_built(optimizer=_LEGACY[name]), expected)


_KERAS = {
    'adam': lambda: tf.keras.optimizers.Adam(0.1),
    'amsgrad': lambda: tf.keras.optimizers.Adam(0.1, amsgrad=True),
    'adamw': lambda: tf.keras.optimizers.AdamW(0.1),
    'sgd': lambda: tf.keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True, clipnorm=0.5),
    'rmsprop': lambda: tf.keras.optimizers.RMSprop(0.1, centered=True),
    'adadelta': lambda: tf.keras.optimizers.Adadelta(1.0),
    'adafactor': lambda: tf.keras.optimizers.Adafactor(0.1),
    'adagrad': lambda: tf.keras.optimizers.Adagrad(0.1),
    'adamax': lambda: tf.keras.optimizers.Adamax(0.1),
    'ftrl': lambda: tf.keras.optimizers.Ftrl(0.1),
    'decay': lambda: tf.keras.optimizers.Adam(
        tf.keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)
    ),
}


if hasattr(tf.keras.optimizers, 'Lion'):  # not in Keras 2.12
    _KERAS['lion'] = lambda: tf.keras.optimizers.Lion(0.1)


@pytest.mark.parametrize('name', sorted(_KERAS))
def test_keras_optimizers_as_in_a_function(name):
    """A Keras optimizer gives what it gives in its own world, a tf.function, to the last bit."""
    with tf.Graph().as_default():  # also under TF1 behaviour, where nothing is eager
        weight, bias = _variables()
        optimizer = _KERAS[name]()
        optimizer.build([weight, bias])

        @tf.function
        def step():
            loss = _loss(tf.constant(_Y), tf.matmul(tf.constant(_X), weight) + bias)
            optimizer.apply_gradients(zip(tf.gradients(loss, [weight, bias]), [weight, bias]))
            return tf.constant(0)

        run = step()
        with v1.Session() as session:
            session.run(v1.variables_initializer([optimizer.iterations]))
            session.run(v1.global_variables_initializer())
            for _ in range(6):
                session.run(run)
            expected = session.run([weight, bias])
    actual = _built(optimizer=_KERAS[name])
    assert actual['global_step'] == 6
    np.testing.assert_array_equal(actual['w'], expected[0])
    np.testing.assert_array_equal(actual['b'], expected[1])


def test_keras_slots_have_the_names_of_apply_gradients():
    """Slots are called as after a plain apply_gradients, so that checkpoints fit."""
    assert sorted(_built(optimizer=_KERAS['adam'])) == [
        'Adam/m/b', 'Adam/m/w', 'Adam/v/b', 'Adam/v/w', 'b', 'global_step', 'iteration',
        'learning_rate', 'w']


@pytest.mark.parametrize('make', [
    lambda: v1.train.AdamOptimizer(0.1),
    lambda: legacy.Adam(0.1),
    lambda: legacy.SGD(tf.keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)),
    lambda: tf.keras.optimizers.Adam(0.1),
    lambda: tf.keras.optimizers.SGD(tf.keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)),
], ids=['tf1', 'legacy', 'legacy-schedule', 'keras', 'keras-schedule'])
def test_one_optimizer_object_in_several_graphs(make):
    """An object made outside of model_fn trains in each graph as a fresh one would."""
    optimizer = make()
    first, second = _built(optimizer=optimizer), _built(optimizer=optimizer)
    _same(second, first)
    fresh = _built(optimizer=make)
    for name in ('w', 'b', 'global_step'):
        np.testing.assert_array_equal(first[name], fresh[name])


@pytest.mark.parametrize('make', [
    lambda: legacy.Adam(0.1), lambda: tf.keras.optimizers.Adam(0.1)], ids=['legacy', 'keras'])
def test_an_optimizer_used_up_elsewhere(make):
    """An object whose slots are another graph's is refused, with the way out."""
    with tf.Graph().as_default():
        optimizer, variables = make(), _variables()
        optimizer.apply_gradients([(tf.ones_like(variable), variable) for variable in variables])
    with pytest.raises(ValueError, match=(
            'the optimizer, Adam, already belongs to another graph; pass a function that makes '
            r'one, e\.g\. optimizer=lambda: Adam\(\.\.\.\)')):
        _built(optimizer=optimizer)


def test_iterations_that_are_taken():
    """An optimizer that counts for itself keeps its counter beside the global step."""

    def optimizer():
        made = legacy.Adam(0.1)
        made.iterations = v1.get_variable(
            'own', initializer=np.int64(0), trainable=False, use_resource=True)
        return made

    after = _built(optimizer=optimizer)
    assert (after['own'], after['global_step']) == (6, 6)
    np.testing.assert_array_equal(after['w'], _built(optimizer=_LEGACY['adam'])['w'])


def test_iterations_that_are_the_global_step_already():
    """The migration guide's own line in the model_fn does no harm."""

    def optimizer():
        made = legacy.Adam(0.1)
        made.iterations = v1.train.get_or_create_global_step()
        return made

    _same(_built(optimizer=optimizer), _built(optimizer=_LEGACY['adam']))


@pytest.mark.parametrize('make', [legacy.Adam, tf.keras.optimizers.Adam], ids=['legacy', 'keras'])
def test_reference_variables(make):
    """Keras optimizers would skip a reference variable in silence, or fail without naming it."""
    with tf.Graph().as_default():
        weight = v1.get_variable('ref', initializer=_W, use_resource=False)
        with pytest.raises(ValueError, match="Adam cannot update the reference variable 'ref'; "
                                             'create it with use_resource=True'):
            ese.create_train_estimator_spec(tf.reduce_sum(weight), optimizer=make)
        spec = ese.create_train_estimator_spec(
            tf.reduce_sum(weight), optimizer=v1.train.GradientDescentOptimizer(0.1))
        assert spec.train_op is not None


def test_averages_that_keras_keeps():
    """Nothing reads Keras's own averages in an Estimator, and overwriting is lost in a graph."""
    with pytest.raises(ValueError, match=r'the averages of SGD\(use_ema=True\) would never'):
        _built(optimizer=lambda: tf.keras.optimizers.SGD(0.1, use_ema=True))


def test_nadam_of_keras():
    """It keeps a part of its state in Python, where no graph can change it."""
    with pytest.raises(ValueError, match=(
            r'tf\.keras\.optimizers\.Nadam cannot be used in a graph: it counts in Python; '
            r'use tf\.keras\.optimizers\.legacy\.Nadam')):
        _built(optimizer=tf.keras.optimizers.Nadam)


def test_a_schedule_initialises_in_order():
    """Keras reads the counter for the first rate; in a graph that can come before the counter."""
    with tf.Graph().as_default():
        v1.train.get_or_create_global_step()
        weight = v1.get_variable('w', [], use_resource=True)
        ese.create_train_estimator_spec(weight * weight, optimizer=_KERAS['decay'])
        initialize = v1.variables_initializer(
            [v for v in v1.global_variables() if 'learning_rate' in v.op.name])
        with v1.Session() as session:
            session.run(initialize)


@pytest.mark.parametrize('make', [
    lambda: tf.keras.mixed_precision.LossScaleOptimizer(legacy.SGD(0.1)),
    lambda: tf.keras.mixed_precision.LossScaleOptimizer(tf.keras.optimizers.SGD(0.1)),
], ids=['legacy', 'keras'])
def test_loss_scaling(make):
    """A LossScaleOptimizer scales the loss and unscales the gradients."""
    if not v1.control_flow_v2_enabled() and not isinstance(make(), legacy.Optimizer):
        with pytest.raises(ValueError, match='needs the control flow of TensorFlow 2'):
            _built(optimizer=make)
        return
    after = _built(optimizer=make)
    assert after['global_step'] == 6
    np.testing.assert_allclose(after['w'], _built(optimizer=_TF1['sgd'])['w'], rtol=1e-5)


def test_limited_variables():
    """Only the variables given change; a list and a function serve alike."""
    only_bias = _built(optimizer=_TF1['sgd'],
                       trainable_variables=lambda: v1.trainable_variables('b'))
    np.testing.assert_array_equal(only_bias['w'], _W)
    assert only_bias['b'] != 0


@pytest.mark.parametrize(('options', 'error', 'message'), [
    ({}, TypeError, 'TRAIN needs exactly one of optimizer and train_op_fn, got none'),
    ({'optimizer': _TF1['sgd'], 'train_op_fn': tf.no_op}, TypeError,
     'expected exactly one of optimizer and train_op_fn, got both'),
    ({'optimizer': 'adam'}, TypeError,
     "optimizer is 'adam'; expected an optimizer of tf.compat.v1.train or tf.keras.optimizers, or "
     'a function that makes one'),
    ({'optimizer': lambda: 3}, TypeError,
     'the function given as optimizer returned 3; expected an optimizer of tf.compat.v1.train or '
     'tf.keras.optimizers, or a function that makes one'),
    ({'optimizer': _TF1['sgd'], 'clip_norm': 1.0, 'clip_value': 1.0}, TypeError,
     'expected at most one way of clipping, got clip_norm and clip_value'),
    ({'optimizer': _TF1['sgd'], 'clip_norm': 0.0}, ValueError,
     'clip_norm must be positive, got 0.0'),
    ({'optimizer': _TF1['sgd'], 'gradient_transform': 1}, TypeError,
     'gradient_transform must be a function from (gradient, variable) pairs to such pairs; '
     'got 1'),
    ({'optimizer': _TF1['sgd'], 'trainable_variables': []}, ValueError,
     'there is no variable to train; create the model before the spec, or pass '
     'trainable_variables=...'),
    ({'optimizer': _TF1['sgd'], 'trainable_variables': 'w'}, TypeError,
     "trainable_variables must be a list of variables or a function that returns one; got 'w'"),
    ({'optimizer': _TF1['sgd'], 'trainable_variables': ['w']}, TypeError,
     "trainable_variables must hold variables; got 'w'"),
    ({'optimizer': _TF1['sgd'], 'layers': 'net'}, TypeError,
     "layers must be a tf.keras layer or model, or a list of them; got 'net'"),
])
def test_wrong_arguments(options, error, message):
    """What cannot work is refused by name."""
    with pytest.raises(error) as caught:
        _built(**options)
    assert str(caught.value) == message


def test_a_loss_that_reaches_no_variable():
    """A loss without gradient is refused for every family."""
    for make in (_TF1['sgd'], _LEGACY['sgd'], _KERAS['sgd']):
        with tf.Graph().as_default():
            _variables()
            with pytest.raises(ValueError, match="loss 'cut:0' depends on none of the 2 trainable"):
                ese.create_train_estimator_spec(tf.constant(1.0, name='cut'), optimizer=make)

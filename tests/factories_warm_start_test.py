"""`warm_start_from` of the factories: checked, with statistics, and for the averages too."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
import tensorflow as tf

import estimator_spec_ext as ese

v1 = tf.compat.v1

_X = np.random.RandomState(0).randn(8, 3).astype(np.float32)


def _net(x, training=True, units=1, name='out'):
    net = v1.layers.batch_normalization(x, training=training, name='bn')
    return v1.layers.dense(net, units, name=name, kernel_initializer=v1.ones_initializer())


def _save(folder, build):
    """Writes a checkpoint of random variables; returns them by name, and its path."""
    with tf.Graph().as_default(), v1.Session() as session:
        build(tf.constant(_X))
        rng = np.random.RandomState(1)
        values = {v.op.name: rng.rand(*v.shape.as_list()).astype(np.float32)
                  for v in v1.global_variables()}
        for variable in v1.global_variables():
            variable.load(values[variable.op.name], session)
        return values, v1.train.Saver().save(session, str(folder / 'source'))


@pytest.fixture(scope='module')
def source(tmp_path_factory):
    return _save(tmp_path_factory.mktemp('source'), _net)


def _spec(warm_start_from, **options):
    net = options.pop('net', _net)
    return ese.create_estimator_spec(
        'train', predictions=net(tf.constant(_X)),
        loss_fn=lambda labels, predictions: tf.reduce_mean(tf.square(predictions)),
        **{'optimizer': lambda: v1.train.AdamOptimizer(0.1), 'warm_start_from': warm_start_from,
           **options})


def _first_values(warm_start_from, **options):
    with tf.Graph().as_default(), v1.Session() as session:
        v1.train.get_or_create_global_step()
        _spec(warm_start_from, **options)
        session.run(v1.global_variables_initializer())
        return {v.op.name: session.run(v) for v in v1.global_variables()}


def test_a_path_takes_weights_and_statistics(source):
    """All of the model, also what '.*' would leave out; neither step nor slots."""
    values, path = source
    assert {'bn/moving_mean', 'bn/moving_variance', 'out/kernel'} <= set(values)
    for given in (path, pathlib.Path(path), str(pathlib.Path(path).parent), lambda: path):
        first = _first_values(given)
        for name, value in values.items():
            np.testing.assert_array_equal(first[name], value, err_msg=name)
        assert first['global_step'] == 0 and not first['out/kernel/Adam'].any()


def test_the_averages_start_from_the_same_values(source):
    """With Estimator's own argument they start from the values before warm starting."""
    values, path = source
    first = _first_values(path, ema_decay=0.9)
    for name in ('out/kernel', 'bn/gamma'):
        np.testing.assert_array_equal(first[f'{name}/ExponentialMovingAverage'], values[name])


def test_settings_choose_and_rename(source):
    """`WarmStartSettings` mean what they mean for Estimator."""
    values, path = source
    settings = tf.estimator.WarmStartSettings(
        path, ['renamed/kernel'], var_name_to_prev_var_name={'renamed/kernel': 'out/kernel'})
    first = _first_values(settings, net=lambda x: _net(x, name='renamed'))
    np.testing.assert_array_equal(first['renamed/kernel'], values['out/kernel'])
    assert (first['bn/gamma'] == 1).all()


def test_object_based_checkpoints(tmp_path):
    """The checkpoint of a Keras model knows its variables by other names."""
    with tf.Graph().as_default(), v1.Session() as session:
        net = tf.keras.Sequential([tf.keras.layers.BatchNormalization(), tf.keras.layers.Dense(1)])
        net(tf.constant(_X))
        for variable in net.variables:
            variable.load(np.full(variable.shape, 7, np.float32), session)
        path = tf.train.Checkpoint(net=net).write(str(tmp_path / 'objects'), )

    def keras_net(x):
        net = tf.keras.Sequential([tf.keras.layers.BatchNormalization(), tf.keras.layers.Dense(1)])
        return net(x, training=False)

    first = _first_values(path, net=keras_net)
    for name in ('batch_normalization/moving_mean', 'dense/kernel'):
        assert (first[f'sequential/{name}'] == 7).all(), name


@pytest.mark.parametrize('mode', ['eval', 'infer'])
def test_other_modes_do_not_look(mode):
    """The weights are read once, in TRAIN."""

    def never():
        raise AssertionError('called')

    with tf.Graph().as_default():
        spec = ese.create_estimator_spec(
            mode, predictions={'y': v1.placeholder(tf.float32, [None])}, warm_start_from=never,
            loss_fn=lambda labels, predictions: tf.reduce_mean(predictions['y']))
    assert spec.mode == mode


def test_none_from_a_function():
    """A function may decide that there is nothing to start from."""
    assert (_first_values(lambda: None)['out/kernel'] == 1).all()


def _found(source, **options):
    with tf.Graph().as_default(), pytest.raises(ese.EstimatorSpecError) as caught:
        _spec(source, **options)
    (finding,) = caught.value.findings
    assert finding.where.file.endswith('factories_warm_start_test.py')
    return finding.slug, finding.message


def test_what_the_source_does_not_hold(source, tmp_path):
    """Everything that is missing is named before training starts."""
    path = source[1]
    assert _found(path, net=lambda x: _net(x, name='head')) == (
        'warm-start-fails', "warm start asks for 'head/bias', 'head/kernel'; the source lacks them")
    assert _found(path, net=lambda x: _net(x, units=2)) == (
        'warm-start-fails', "warm start: 'out/bias' is (1,) in the source and (2,) here")
    assert _found(str(tmp_path)) == (
        'warm-start-fails', 'warm start finds no checkpoint at its source')
    assert _found(tf.estimator.WarmStartSettings(path, 'bert/.*')) == (
        'warm-start-matches-nothing',
        "warm start matches no variable: vars_to_warm_start is 'bert/.*'")


def test_settings_that_skip_statistics(source, caplog):
    """That is a warning, which can be accepted."""
    settings = tf.estimator.WarmStartSettings(source[1])
    reason = {'warm-start-skips-statistics': 'the new data have other ones'}
    assert (_first_values(settings, suppress=reason)['bn/moving_mean'] == 0).all()
    assert not caplog.messages
    _first_values(settings)
    (message,) = caplog.messages
    assert "warm start leaves out 'bn/moving_mean',\n         'bn/moving_variance'" in message


@pytest.mark.parametrize('given', [3, ['path'], {'a': 'b'}])
def test_no_source(given):
    """Anything else is refused by name."""
    with tf.Graph().as_default(), pytest.raises(TypeError, match=(
            'warm_start_from must be the path of a checkpoint or a tf.estimator.WarmStartSettings; '
            'got ')):
        _spec(given)

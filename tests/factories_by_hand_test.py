"""A whole job of `create_estimator_spec` beside the TF1 code that it replaces: the same bits.

Both are trained by an Estimator from the same seed, with what a real model_fn has: dropout, batch
normalisation, regularization, two losses, clipped gradients, a decaying learning rate and averages.
"""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

import estimator_spec_ext as ese

v1 = tf.compat.v1

_RNG = np.random.RandomState(0)
_X = _RNG.randn(32, 4).astype(np.float32)
_Y = (_X.sum(1) > 0).astype(np.int64)
_DECAY = 0.9
_STEPS = 5


def _network(features, training):
    init = v1.glorot_uniform_initializer(seed=2)
    options = {'kernel_initializer': init,
               'kernel_regularizer': lambda w: 0.01 * tf.nn.l2_loss(w)}
    net = v1.layers.dense(features, 8, tf.nn.relu, name='hidden', **options)
    net = v1.layers.batch_normalization(net, training=training, momentum=0.9, name='norm')
    net = v1.layers.dropout(net, 0.3, training=training)
    return v1.layers.dense(net, 2, name='logits', **options)


def _optimizer():
    rate = v1.train.exponential_decay(0.1, v1.train.get_global_step(), 2, 0.5)
    return v1.train.MomentumOptimizer(rate, 0.9)


def _errors(labels, logits):
    return (v1.losses.sparse_softmax_cross_entropy(labels, logits, loss_collection=None),
            tf.reduce_mean(tf.square(logits)))


def _halve_the_first(pairs):
    return [(gradient * 0.5 if variable.op.name == 'hidden/kernel' else gradient, variable)
            for gradient, variable in pairs]


def _by_hand(features, labels, mode):
    """TF1 code as people write it."""
    logits = _network(features, mode == 'train')
    predictions = {'logits': logits, 'class': tf.argmax(logits, 1)}
    averages = tf.train.ExponentialMovingAverage(_DECAY)
    trained = [v for v in v1.trainable_variables() if not v.op.name.startswith('norm')]
    scaffold = None
    if mode != 'train':
        names = {v.op.name: v for v in v1.global_variables() if v not in trained}
        names.update({averages.average_name(v): v for v in trained})
        scaffold = v1.train.Scaffold(saver=v1.train.Saver(names))
    if mode == 'infer':
        outputs = {key: tf.estimator.export.PredictOutput({key: value})
                   for key, value in predictions.items()}
        outputs['serving_default'] = outputs['class']
        return tf.estimator.EstimatorSpec(
            mode, predictions=predictions, export_outputs=outputs, scaffold=scaffold)
    entropy, size = _errors(labels, logits)
    loss = entropy + size * 0.01
    loss = loss + tf.add_n(v1.losses.get_regularization_losses())
    if mode == 'eval':
        return tf.estimator.EstimatorSpec(
            mode, loss=loss, scaffold=scaffold,
            eval_metric_ops={'accuracy': v1.metrics.accuracy(labels, predictions['class'])})
    optimizer, step = _optimizer(), v1.train.get_global_step()
    pairs = _halve_the_first(optimizer.compute_gradients(loss, trained))
    gradients, _ = tf.clip_by_global_norm([gradient for gradient, _ in pairs], 0.5)
    with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        train_op = optimizer.apply_gradients(
            zip(gradients, [variable for _, variable in pairs]), global_step=step)
    with tf.control_dependencies([train_op]):
        train_op = averages.apply(trained)
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def _by_factory(features, labels, mode):
    """The same in one call."""
    logits = _network(features, mode == 'train')
    predictions = {'logits': logits, 'class': tf.argmax(logits, 1)}
    return ese.create_estimator_spec(
        mode, predictions=predictions, labels=labels,
        loss_fn=lambda labels, predictions: dict(
            zip(('entropy', 'size'), _errors(labels, predictions['logits']))),
        loss_weights={'size': 0.01},
        optimizer=_optimizer,
        trainable_variables=lambda: [
            v for v in v1.trainable_variables() if not v.op.name.startswith('norm')],
        gradient_transform=_halve_the_first, global_clip_norm=0.5, ema_decay=_DECAY,
        metrics_fn=lambda labels, predictions: {
            'accuracy': v1.metrics.accuracy(labels, predictions['class'])},
        export_outputs={key: {key: value} for key, value in predictions.items()},
        default_signature='class')


def _input_fn():
    return tf.data.Dataset.from_tensor_slices((_X, _Y)).repeat().batch(8)


def _receiver_fn():
    x = v1.placeholder(tf.float32, [None, 4])
    return tf.estimator.export.TensorServingInputReceiver(x, {'x': x})


@pytest.fixture(scope='module')
def jobs(tmp_path_factory):
    """Both jobs, trained, by name."""
    made = {}
    for name, model_fn in (('hand', _by_hand), ('factory', _by_factory)):
        config = tf.estimator.RunConfig(
            model_dir=str(tmp_path_factory.mktemp(name)), tf_random_seed=3)
        made[name] = tf.estimator.Estimator(model_fn, config=config)
        made[name].train(_input_fn, steps=_STEPS)
    return made


def test_the_same_weights(jobs):
    """Same variables in the checkpoint, and the same bits in each, the step and slots included."""
    hand, factory = jobs['hand'], jobs['factory']
    names = hand.get_variable_names()
    assert factory.get_variable_names() == names
    assert {'hidden/kernel/Momentum', 'hidden/kernel/ExponentialMovingAverage',
            'norm/moving_mean'} <= set(names)
    assert 'norm/gamma/Momentum' not in names
    assert hand.get_variable_value('global_step') == _STEPS
    for name in names:
        np.testing.assert_array_equal(factory.get_variable_value(name),
                                      hand.get_variable_value(name), err_msg=name)


def test_the_same_evaluation_and_predictions(jobs):
    """EVAL and PREDICT read the averages, as the hand-written saver maps them."""
    results = [jobs[name].evaluate(_input_fn, steps=4) for name in ('hand', 'factory')]
    assert results[0] == results[1] and set(results[0]) == {'loss', 'accuracy', 'global_step'}
    rows = [next(jobs[name].predict(_input_fn)) for name in ('hand', 'factory')]
    np.testing.assert_array_equal(rows[0]['logits'], rows[1]['logits'])


def test_the_same_export(jobs, tmp_path):
    """The same signatures, with the same default head."""
    served = []
    for name in ('hand', 'factory'):
        path = jobs[name].export_saved_model(str(tmp_path / name), _receiver_fn)
        with tf.Graph().as_default(), v1.Session() as session:
            meta = v1.saved_model.load(session, ['serve'], path.decode())
            served.append({
                key: {output: session.run(info.name, {signature.inputs['x'].name: _X})
                      for output, info in signature.outputs.items()}
                for key, signature in meta.signature_def.items()})
    assert sorted(served[0]) == ['class', 'logits', 'serving_default']
    np.testing.assert_equal(served[1], served[0])

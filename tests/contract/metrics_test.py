"""What stock takes for eval_metric_ops, and what evaluate makes of them."""

from __future__ import annotations

import pytest
import tensorflow as tf

v1 = tf.compat.v1


def _spec(metrics, mode='eval'):
    return tf.estimator.EstimatorSpec(mode, loss=tf.constant(1.0), eval_metric_ops=metrics)


def _updated_mean(name='mean'):
    metric = tf.keras.metrics.Mean(name)
    metric.update_state(tf.constant([1.0, 3.0]))
    return metric


def test_must_be_a_dict(graph):
    """Anything but a dict is refused."""
    pair = (tf.constant(1.0), tf.no_op())
    with pytest.raises(TypeError, match='^eval_metric_ops must be a dict, given: '):
        _spec([pair])


@pytest.mark.parametrize('size', [0, 1, 3])
def test_tuples_must_be_pairs(graph, size):
    """A tuple of another length than two is refused, and the key is named."""
    with pytest.raises(TypeError) as caught:
        _spec({'acc': (tf.constant(1.0),) * size})
    assert str(caught.value).startswith(
        'Values of eval_metric_ops must be (metric_value, update_op) tuples, given: '
    )
    assert str(caught.value).endswith(' for key: acc')


def test_bare_tensor_and_list_are_refused(graph):
    """A tensor or a list of two is no pair."""
    t = tf.constant(1.0)
    for value in (t, [t, t]):
        with pytest.raises(TypeError, match='tuples, given: .* for key: acc$'):
            _spec({'acc': value})


def test_none_as_update_op(graph):
    """A metric (t, None) gives a bare AttributeError that names neither the key nor the field."""
    with pytest.raises(AttributeError) as caught:
        _spec({'acc': (tf.constant(1.0), None)})
    assert str(caught.value) == "'NoneType' object has no attribute 'graph'"


def test_number_as_value(graph):
    """A Python number in a pair gives the same bare AttributeError."""
    with pytest.raises(AttributeError, match="^'float' object has no attribute 'graph'$"):
        _spec({'acc': (0.5, tf.no_op())})


def test_keras_metric_without_update(graph):
    """A Keras metric that was never updated is refused."""
    with pytest.raises(ValueError) as caught:
        _spec({'acc': tf.keras.metrics.Mean('my_mean')})
    assert str(caught.value) == 'Please call update_state(...) on the "my_mean" metric'


@pytest.mark.parametrize('mode', ['train', 'eval', 'infer', 'any'])
def test_checked_in_every_mode(graph, mode):
    """Metrics are checked in every mode, also where they are never used."""
    t = tf.constant(1.0)
    with pytest.raises(TypeError, match='^eval_metric_ops must be a dict'):
        tf.estimator.EstimatorSpec(mode, t, t, t.op, eval_metric_ops=7)


def test_unusual_metrics_that_work(make_estimator, input_fn):
    """Slashes, strings, vectors, a shared update op and a value that is its own update work."""

    def model_fn(features, labels, mode):
        shared = tf.no_op()
        vector, vector_update = v1.metrics.mean_tensor(tf.constant([1.0, 2.0]))
        metrics = {
            'head/acc': v1.metrics.mean(labels),
            'text': (tf.constant('words'), shared),
            'vector': (vector, vector_update),
            'own': (tf.constant(2.0),) * 2,
            'average_loss': (tf.constant(3.0), shared),
        }
        return tf.estimator.EstimatorSpec(mode, loss=tf.constant(1.0), eval_metric_ops=metrics)

    result = make_estimator(model_fn).evaluate(input_fn)
    assert result['head/acc'] == 3.5
    assert result['text'] == b'words'
    assert result['vector'].tolist() == [1.0, 2.0]
    assert (result['own'], result['average_loss'], result['loss']) == (2.0, 3.0, 1.0)
    assert result['global_step'] == 0


@pytest.mark.parametrize('name', ['loss', 'global_step'])
def test_reserved_names(graph, make_estimator, input_fn, name):
    """Metrics named loss or global_step pass in construction and are refused inside evaluate."""

    def model_fn(features, labels, mode):
        return _spec({name: v1.metrics.mean(labels)}, mode)

    _spec({name: v1.metrics.mean(tf.constant(1.0))})
    expected = f'^Metric with name [`"]{name}[`"] is not allowed, because Estimator already defines'
    with pytest.raises(ValueError, match=expected):
        make_estimator(model_fn).evaluate(input_fn)


def test_keras_metrics_become_pairs(graph):
    """A Keras metric is replaced by (result tensor, first update op)."""
    metric = _updated_mean()
    spec = _spec({'m': metric})
    value, update = spec.eval_metric_ops['m']
    assert isinstance(value, tf.Tensor)
    assert update is metric.updates[0]
    with v1.Session() as session:
        session.run(v1.local_variables_initializer())
        session.run(update)
        assert session.run(value) == 2.0


def test_keras_metric_variables_are_collected(graph):
    """Building the spec adds a Keras metric's variables to two collections."""
    metric = _updated_mean()
    _spec({'m': metric})
    for key in (v1.GraphKeys.LOCAL_VARIABLES, v1.GraphKeys.METRIC_VARIABLES):
        assert {id(v) for v in metric.variables} == {id(v) for v in v1.get_collection(key)}

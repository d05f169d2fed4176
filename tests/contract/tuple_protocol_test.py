"""How a spec, and a subclass of it, is copied, rebuilt, replaced, pickled and mapped."""

from __future__ import annotations

import copy
import pickle

import pytest
import tensorflow as tf
from tensorflow_estimator.python.estimator import model_fn as model_fn_lib

FIELDS = tf.estimator.EstimatorSpec._fields
calls = []


class Recording(tf.estimator.EstimatorSpec):
    """A subclass that notes every call of its `__new__` and adds an attribute of its own."""

    def __new__(cls, *args, **kwargs):
        calls.append((args, kwargs))
        self = super().__new__(cls, *args, **kwargs)
        self.note = 'mine'
        return self


@pytest.fixture
def spec():
    """A spec of the recording subclass; the calls made since then are in `calls`."""
    built = Recording('any')
    calls.clear()
    return built


def test_make_skips_new(spec):
    """`_make` keeps the class and skips `__new__`: nothing is validated, attributes are lost."""
    made = Recording._make(range(11))
    assert type(made) is Recording
    assert tuple(made) == tuple(range(11))
    assert made.__dict__ == {}
    assert calls == []


def test_make_wants_eleven_values():
    """`_make` refuses another number of values."""
    with pytest.raises(TypeError, match='^Expected 11 arguments, got 10$'):
        Recording._make(range(10))


def test_replace_gives_the_base_class(spec):
    """`_replace` on a subclass gives a stock spec, not the subclass; attributes are lost."""
    replaced = spec._replace(predictions={})
    assert type(replaced) is tf.estimator.EstimatorSpec
    assert replaced == spec
    assert replaced.__dict__ == {}
    assert calls == []


@pytest.mark.parametrize('spec_class', [tf.estimator.EstimatorSpec, Recording])
def test_replace_ignores_unknown_names(spec_class):
    """`_replace` ignores a name that is no field, so a typing error changes nothing."""
    spec = spec_class('any')
    assert spec._replace(losss=1.0, nonsense=2) == spec


def test_replace_refuses_another_mode(spec):
    """`_replace` refuses to change the mode, and takes the same one."""
    with pytest.raises(ValueError, match=r'^mode of EstimatorSpec cannot be changed\.$'):
        spec._replace(mode='other')
    assert spec._replace(mode='any').mode == 'any'


def test_replace_validates(graph):
    """`_replace` goes through the stock constructor, which validates again."""
    spec = tf.estimator.EstimatorSpec('eval', loss=tf.constant(1.0))
    with pytest.raises(ValueError, match=r'^Missing loss\.$'):
        spec._replace(loss=None)


def test_nest_calls_new_with_all_fields(spec):
    """tf.nest.map_structure rebuilds a spec by calling its class with all eleven fields."""
    mapped = tf.nest.map_structure(lambda leaf: leaf, spec)
    assert type(mapped) is Recording
    assert mapped == spec
    ((args, kwargs),) = calls
    assert (args, kwargs) == (tuple(spec), {})


def test_nest_validates_again(graph):
    """Mapping a spec validates what the function returned."""
    spec = tf.estimator.EstimatorSpec('eval', loss=tf.constant(1.0))
    with pytest.raises(TypeError, match='^train_op must be Operation or Tensor, given: eval$'):
        tf.nest.map_structure(lambda leaf: 'eval', spec)


def test_nest_flattens_into_fields(graph):
    """tf.nest sees into the dicts and tuples of a spec; a scaffold and None are leaves."""
    loss = tf.constant(1.0)
    hook = tf.estimator.SessionRunHook()
    spec = tf.estimator.EstimatorSpec('eval', {'p': loss}, loss, evaluation_hooks=[hook])
    assert tf.nest.flatten(spec) == ['eval', loss, loss, None, None, spec.scaffold, hook]


def test_nest_tells_subclass_from_base(spec):
    """tf.nest does not take a subclass and the stock class for the same structure.

    To say so it maps both specs to dots, so what is raised is the complaint about a dot.
    """
    tf.nest.assert_same_structure(spec, Recording('any'))
    calls.clear()
    with pytest.raises(TypeError, match=r'^train_op must be Operation or Tensor, given: \.$'):
        tf.nest.assert_same_structure(spec, tf.estimator.EstimatorSpec('any'))
    assert ' '.join(str(value) for value in calls[0][0]) == '. {} . . {} . () () . () ()'


def test_copy_calls_new_with_eleven_positionals(spec):
    """copy.copy calls `__new__` with eleven positional arguments and keeps the attributes."""
    spec.note = 'changed'
    copied = copy.copy(spec)
    assert type(copied) is Recording
    assert copied == spec
    assert copied.note == 'changed'
    ((args, kwargs),) = calls
    assert (args, kwargs) == (tuple(spec), {})


def test_copy_validates_in_the_graph_of_the_moment(graph):
    """copy.copy validates again, so it fails where another graph is the default one."""
    spec = tf.estimator.EstimatorSpec('eval', loss=tf.constant(1.0))
    assert copy.copy(spec) == spec
    with tf.Graph().as_default():
        with pytest.raises(ValueError, match='^loss with "Const:0" must be from the default graph'):
            copy.copy(spec)


def test_pickle_of_plain_fields(spec):
    """A spec without tensors is pickled and built again through `__new__`."""
    text = pickle.dumps(spec)
    calls.clear()
    again = pickle.loads(text)
    assert type(again) is Recording
    assert (again.mode, again.predictions, again.note) == ('any', {}, 'mine')
    assert len(calls) == 1
    assert len(calls[0][0]) == 11


def test_tensors_cannot_be_pickled(graph):
    """A spec that holds a graph tensor can be neither pickled nor copied deeply."""
    spec = tf.estimator.EstimatorSpec('eval', loss=tf.constant(1.0))
    with pytest.raises(TypeError, match='^cannot pickle '):
        pickle.dumps(spec)
    with pytest.raises(TypeError, match='^cannot pickle '):
        copy.deepcopy(spec)


def test_asdict_gives_the_fields(spec):
    """`_asdict` gives the eleven fields in order."""
    assert list(spec._asdict()) == list(FIELDS)


@pytest.mark.parametrize(
    ('returned', 'accepted'),
    [('subclass', True), ('tuple', False), ('dict', False), ('tpu spec', False)],
)
def test_what_a_model_fn_may_return(make_estimator, input_fn, returned, accepted):
    """Estimator takes any instance of EstimatorSpec, subclasses included, and nothing else."""

    def model_fn(features, labels, mode):
        spec = Recording(mode, loss=tf.constant(1.0))
        if returned == 'tuple':
            return tuple(spec)
        if returned == 'dict':
            return spec._asdict()
        if returned == 'tpu spec':
            return tf.compat.v1.estimator.tpu.TPUEstimatorSpec(mode, loss=tf.constant(1.0))
        return spec

    estimator = make_estimator(model_fn)
    if accepted:
        assert estimator.evaluate(input_fn, steps=1)['loss'] == 1.0
    else:
        with pytest.raises(ValueError, match=r'^model_fn should return an EstimatorSpec\.$'):
            estimator.evaluate(input_fn, steps=1)


def test_super_new_reaches_stock_validation(graph):
    """A subclass that calls super().__new__ gets stock's faults in stock's words."""
    with pytest.raises(ValueError, match=r'^Missing loss\.$'):
        Recording('eval')
    assert issubclass(Recording, model_fn_lib.EstimatorSpec)

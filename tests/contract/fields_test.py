"""The class itself: its names, its fields, and what a freshly built spec holds."""

from __future__ import annotations

import inspect
import weakref

import pytest
import tensorflow as tf
from tensorflow_estimator.python.estimator import model_fn as model_fn_lib

FIELDS = (
    'mode',
    'predictions',
    'loss',
    'train_op',
    'eval_metric_ops',
    'export_outputs',
    'training_chief_hooks',
    'training_hooks',
    'scaffold',
    'evaluation_hooks',
    'prediction_hooks',
)
HOOK_FIELDS = ('training_chief_hooks', 'training_hooks', 'evaluation_hooks', 'prediction_hooks')


def test_eleven_fields_in_this_order():
    """A spec has exactly these eleven fields, in this order."""
    assert tf.estimator.EstimatorSpec._fields == FIELDS


def test_constructor_takes_the_fields_in_field_order():
    """The constructor's parameters are the fields in field order; all but mode default to None."""
    parameters = list(inspect.signature(tf.estimator.EstimatorSpec.__new__).parameters.values())
    assert tuple(p.name for p in parameters[1:]) == FIELDS
    assert parameters[1].default is inspect.Parameter.empty
    assert [p.default for p in parameters[2:]] == [None] * 10
    assert {p.kind for p in parameters} == {inspect.Parameter.POSITIONAL_OR_KEYWORD}


def test_all_public_names_are_one_class():
    """The v1, the v2 and the private name are one class: an isinstance check covers all three."""
    spec_class = tf.estimator.EstimatorSpec
    assert tf.compat.v1.estimator.EstimatorSpec is spec_class
    assert tf.compat.v2.estimator.EstimatorSpec is spec_class
    assert model_fn_lib.EstimatorSpec is spec_class


def test_spec_is_a_tuple_of_eleven():
    """A spec is a tuple: it unpacks and compares by its fields."""
    spec = tf.estimator.EstimatorSpec('eval-like')
    assert isinstance(spec, tuple)
    assert tuple(spec) == tuple(getattr(spec, name) for name in FIELDS)


def test_missing_fields_are_filled_in(graph):
    """Absent predictions and metrics become {}, absent hooks (), an absent scaffold a default."""
    spec = tf.estimator.EstimatorSpec('some-mode')
    assert spec.predictions == {}
    assert spec.eval_metric_ops == {}
    assert [getattr(spec, name) for name in HOOK_FIELDS] == [()] * 4
    assert type(spec.scaffold) is tf.compat.v1.train.Scaffold
    assert (spec.loss, spec.train_op, spec.export_outputs) == (None, None, None)


def test_a_bare_spec_adds_no_ops(graph):
    """Building a spec adds no op to the graph as long as the loss has a static scalar shape."""
    loss = tf.constant(1.0)
    before = len(graph.get_operations())
    tf.estimator.EstimatorSpec('train', loss=loss, train_op=loss.op)
    assert len(graph.get_operations()) == before


@pytest.mark.parametrize('field', HOOK_FIELDS)
@pytest.mark.parametrize('container', [list, tuple, set, iter])
def test_hooks_become_tuples(field, container):
    """Any iterable of hooks is accepted and stored as a tuple."""
    hook = tf.compat.v1.train.SessionRunHook()
    spec = tf.estimator.EstimatorSpec('some-mode', **{field: container([hook])})
    assert getattr(spec, field) == (hook,)


def test_anything_else_among_hooks_is_refused():
    """A hook that is not a SessionRunHook is the one fault that stock reports about hooks."""
    with pytest.raises(TypeError, match=r'^All hooks must be SessionRunHook instances, given: 7$'):
        tf.estimator.EstimatorSpec('some-mode', training_hooks=[7])


def test_anything_else_as_scaffold_is_refused():
    """A scaffold that is not a tf.train.Scaffold is refused."""
    with pytest.raises(TypeError, match=r'^scaffold must be tf\.train\.Scaffold\. Given: 7$'):
        tf.estimator.EstimatorSpec('some-mode', scaffold=7)


def test_attributes_can_be_set():
    """A spec has a __dict__: authors hang attributes of their own on it."""
    spec = tf.estimator.EstimatorSpec('some-mode')
    spec.cache = 'mine'
    assert spec.cache == 'mine'
    assert spec.__dict__ == {'cache': 'mine'}


def test_attributes_do_not_count_for_equality():
    """Two specs of equal fields are equal, whatever attributes hang on them."""
    scaffold = tf.compat.v1.train.Scaffold()
    one = tf.estimator.EstimatorSpec('some-mode', scaffold=scaffold)
    two = tf.estimator.EstimatorSpec('some-mode', scaffold=scaffold)
    one.cache = 'mine'
    assert one == two


def test_specs_cannot_be_weakly_referenced():
    """No spec can be weakly referenced: Python gives no subclass of tuple a place for it."""

    class Subclass(tf.estimator.EstimatorSpec):
        """Without __slots__, so a class that is not a tuple would get one."""

    for spec in (tf.estimator.EstimatorSpec('some-mode'), Subclass('some-mode')):
        with pytest.raises(TypeError, match='cannot create weak reference'):
            weakref.ref(spec)
    with pytest.raises(TypeError, match='nonempty __slots__ not supported'):
        type('Slotted', (tf.estimator.EstimatorSpec,), {'__slots__': ('__weakref__',)})


def test_specs_with_dicts_are_not_hashable():
    """A spec is no key for a table: a tuple's hash asks its fields, and they hold dicts."""
    with pytest.raises(TypeError, match='unhashable'):
        hash(tf.estimator.EstimatorSpec('some-mode'))

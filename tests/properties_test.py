"""Properties: whatever is handed in, strict agrees with stock and raises nothing but its own error.

Each example is a recipe for the eleven fields: a good value here, junk there, junk inside of good
containers. It is built twice, in two equal graphs, for stock and for strict.
"""

from __future__ import annotations

import collections
import itertools
import pickle
import types

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tensorflow.python.distribute import values as values_lib

import estimator_spec_ext as ese

v1 = tf.compat.v1
Stock, Strict = tf.estimator.EstimatorSpec, ese.StrictEstimatorSpec
FIELDS = Stock._fields
MODES = ('train', 'eval', 'infer')
HOOKS = ('training_chief_hooks', 'training_hooks', 'evaluation_hooks', 'prediction_hooks')


# Objects that answer nothing, or lie.

def _raise(*_, **__):
    raise RuntimeError('hostile')


class NoText:
    """Cannot be shown."""

    __repr__ = __str__ = __format__ = _raise


class NoEquality:
    """Cannot be compared, hashed or asked for truth."""

    __eq__ = __ne__ = __hash__ = __bool__ = __lt__ = __gt__ = _raise


class NoAttributes:
    """Raises for every attribute that it lacks, and not an AttributeError."""

    __getattr__ = _raise


class NoAttributesAtAll:
    """Raises for every attribute, its class included."""

    __getattribute__ = _raise


class NoClass:
    """Its class cannot be read."""

    __class__ = property(_raise)


class Liar:
    """Says that its class is another one."""

    def __init__(self, kind):
        self.kind = kind

    __class__ = property(lambda self: self.kind)


_liar = Liar


class NoItems(dict):
    """A dict that cannot be read."""

    __iter__ = items = keys = values = __len__ = __getitem__ = get = copy = __contains__ = _raise


class NoElements(list):
    """A list that cannot be read."""

    __iter__ = __len__ = __getitem__ = copy = _raise


class NoUse(str):
    """A string that cannot be used."""

    __eq__ = __hash__ = lower = split = startswith = __len__ = __str__ = __repr__ = _raise


class NoIteration:
    """Something that can be iterated, it says."""

    __iter__ = __next__ = __len__ = __getitem__ = _raise


class HostileHook(tf.estimator.SessionRunHook):
    """A real hook that wants to be left alone."""

    __getattr__ = __repr__ = __eq__ = __hash__ = _raise


class HostileHookAtAll(tf.estimator.SessionRunHook):
    """A real hook that cannot even be asked for its attributes."""

    __getattribute__ = _raise


class HostileScaffold(v1.train.Scaffold):
    """A real scaffold without attributes."""

    def __init__(self):
        pass

    __getattr__ = _raise


class Attributes(types.SimpleNamespace):
    """Looks like a tensor."""


def _broken_generator():
    yield v1.train.StopAtStepHook(last_step=1)
    raise RuntimeError('hostile')


def _foreign(env):
    with tf.Graph().as_default():
        return tf.constant([1.], name='foreign')


# Recipes: functions of the values that the graph holds.

_GOOD = {
    'predictions': [lambda env: env['p'], lambda env: {'p': env['p']}, lambda env: {},
                    lambda env: {'p': env['p'], ('a', 'b'): env['q']}],
    'loss': [lambda env: env['loss'], lambda env: tf.reshape(env['loss'], [1]),
             lambda env: tf.cast(env['loss'], tf.float64), lambda env: tf.constant(3),
             lambda env: v1.placeholder_with_default(env['loss'], None),
             lambda env: v1.placeholder_with_default([1.], [None]), lambda env: env['p']],
    'train_op': [lambda env: env['train_op'], lambda env: env['train_op'].name and env['step'],
                 lambda env: tf.no_op(), lambda env: env['loss']],
    'eval_metric_ops': [lambda env: {'m': env['mean']}, lambda env: {},
                        lambda env: {'m': (env['p'], tf.no_op())},
                        lambda env: {'m': env['metric']()}],
    'export_outputs': [
        lambda env: {'serving_default': tf.estimator.export.PredictOutput(env['p'])},
        lambda env: {'a': tf.estimator.export.RegressionOutput(env['p'])},
        lambda env: {'a': tf.estimator.export.PredictOutput(env['p']),
                     'b': tf.estimator.export.PredictOutput(env['q'])}, lambda env: {}],
    'scaffold': [lambda env: v1.train.Scaffold()],
    **{name: [lambda env: [v1.train.StopAtStepHook(last_step=1)], lambda env: (), lambda env: [],
              lambda env: (hook for hook in [v1.train.StopAtStepHook(last_step=1)])]
       for name in HOOKS},
}

_JUNK = [
    lambda env: 0, lambda env: 1.5, lambda env: True, lambda env: '', lambda env: 'text',
    lambda env: b'bytes', lambda env: object(), lambda env: object, lambda env: len,
    lambda env: np, lambda env: lambda: 1, lambda env: np.zeros([2, 3]), lambda env: np.float32(1),
    lambda env: np.array(['a', None], dtype=object), lambda env: np.array([]),
    lambda env: float('nan'), lambda env: 10 ** 400, lambda env: 'x' * 10_000, lambda env: '\ud800',
    lambda env: (number for number in range(3)), lambda env: _broken_generator(),
    lambda env: itertools.repeat(1, 2), lambda env: range(3), lambda env: {1, 2},
    lambda env: frozenset('ab'), lambda env: collections.OrderedDict(a=1),
    lambda env: types.MappingProxyType({'a': 1}), lambda env: collections.defaultdict(list),
    lambda env: collections.Counter('ab'), lambda env: NoText(), lambda env: NoEquality(),
    lambda env: NoAttributes(), lambda env: NoAttributesAtAll(), lambda env: NoClass(),
    lambda env: NoItems(a=1), lambda env: NoElements([1]), lambda env: NoUse('train'),
    lambda env: NoIteration(), lambda env: _liar(dict), lambda env: _liar(tf.Tensor),
    lambda env: _liar(tf.estimator.SessionRunHook), lambda env: _liar(str), lambda env: _liar(list),
    lambda env: _liar(v1.train.Scaffold), lambda env: _liar(tf.Operation),
    lambda env: _liar(tf.Variable), lambda env: _liar(tf.keras.metrics.Metric),
    lambda env: _liar(tf.estimator.export.ExportOutput),
    lambda env: Attributes(shape=None, dtype=None, graph=None, name=None, op=None),
    lambda env: HostileHook(), lambda env: HostileHookAtAll(), lambda env: HostileScaffold(),
    lambda env: NoText, lambda env: tf.estimator.SessionRunHook, lambda env: tf.keras.metrics.Mean,
    lambda env: tf.keras.metrics.Mean(), lambda env: _foreign(env), lambda env: _foreign(env).op,
    lambda env: env['w'], lambda env: tf.SparseTensor([[0]], [1.], [1]),
    lambda env: tf.RaggedTensor.from_row_splits([1.], [0, 1]), lambda env: env['p'].op,
    lambda env: tf.TensorShape([1]), lambda env: tf.float32, lambda env: tf.Graph(),
    lambda env: tf.data.Dataset.range(3), lambda env: values_lib.PerReplica((env['p'],)),
    lambda env: values_lib.PerReplica((1, 2)), lambda env: Stock('any'),
    lambda env: tf.constant('string'), lambda env: v1.placeholder(tf.resource, []),
    lambda env: v1.placeholder(tf.float32, [0]), lambda env: Exception('x'), lambda env: Ellipsis,
    lambda env: NotImplemented, lambda env: tf.estimator.export.PredictOutput({'p': env['p']}),
]

_leaves = st.sampled_from(_JUNK + [recipe for recipes in _GOOD.values() for recipe in recipes]
                          + [lambda env: None])
_keys = st.sampled_from([lambda env: 'p', lambda env: '', lambda env: ('a', 'b'), lambda env: 'a/b',
                         lambda env: 3, lambda env: None, lambda env: b'p', lambda env: ('a', 3),
                         lambda env: object(), lambda env: NoText(), lambda env: 'serving_default'])


def _nested(children):
    def as_dict(pairs):
        return lambda env: {key(env): value(env) for key, value in pairs}

    def as_list(items):
        return lambda env: [item(env) for item in items]

    def as_tuple(items):
        return lambda env: tuple(item(env) for item in items)

    return st.one_of(st.lists(st.tuples(_keys, children), max_size=3).map(as_dict),
                     st.lists(children, max_size=3).map(as_list),
                     st.lists(children, max_size=3).map(as_tuple))


_anything = st.recursive(_leaves, _nested, max_leaves=4)
_junk_modes = st.sampled_from(_JUNK) | st.just(lambda env: None)
_modes = st.sampled_from([*MODES * 4, '_inference_on_tpu', 'predict']).map(
    lambda mode: lambda env: mode)


def _recipes(junk):
    """Recipes by field: mostly good ones, some of `junk`."""
    def field(name):
        good = st.sampled_from([*_GOOD[name], lambda env: None])
        return st.one_of(good, good, good, junk)

    return st.fixed_dictionaries({name: field(name) for name in FIELDS if name != 'mode'})


class Setting:
    """A graph with the values that the recipes use, in which both specs are built."""

    def __init__(self):
        self.graph = tf.Graph()
        with self.graph.as_default():
            step = v1.train.get_or_create_global_step()
            x = v1.placeholder_with_default([[1., 2.]], [None, 2], name='x')
            w = v1.get_variable('w', [2], initializer=tf.ones_initializer())
            p = tf.reduce_sum(x * w, 1, name='p')

            def metric():
                made = tf.keras.metrics.Mean()
                made.update_state(p)
                return made

            self.values = {
                'p': p, 'q': p * 2., 'w': w, 'loss': tf.reduce_mean(p, name='loss'), 'step': step,
                'mean': v1.metrics.mean(p), 'metric': metric,
                'train_op': tf.group(w.assign_sub([.1, .1]), step.assign_add(1))}

    def build(self, kind, mode, recipes):
        """A spec of this kind, or the exception instead, and the number of ops that it added."""
        with self.graph.as_default():
            fields = {name: recipe(self.values) for name, recipe in recipes.items()}
            mode = mode(self.values)
            version = self.graph.version
            try:
                made = kind(mode, **fields)
            except Exception as error:  # noqa: BLE001 - which one it is, is what is tested
                made = error
            return made, self.graph.version - version


def _same(left, right):
    """Whether two fields, made of one recipe, are the same."""
    if left is right:
        return True
    if type(left) is not type(right):
        return False
    if issubclass(type(left), tf.Tensor):  # made by the recipe
        return left.op.type == right.op.type
    if type(left) in (dict, collections.OrderedDict):
        return list(map(type, left)) == list(map(type, right)) and all(
            map(_same, left.values(), right.values()))
    if type(left) in (list, tuple):
        return len(left) == len(right) and all(map(_same, left, right))
    return True


def _check(setting, mode, recipes):
    stock, stock_added = setting.build(Stock, mode, recipes)
    strict, added = setting.build(Strict, mode, recipes)
    if isinstance(strict, Exception):
        assert isinstance(strict, ese.EstimatorSpecError), repr(strict)
        assert any(finding.severity is ese.Severity.ERROR for finding in strict.findings)
        assert ' object at 0x' not in str(strict)
        assert pickle.loads(pickle.dumps(strict)).findings == strict.findings
        assert added == 0, 'a refused spec changed the graph'
        return
    assert not isinstance(stock, Exception), f'stock refuses, strict accepts: {stock!r}'
    assert type(strict) is Strict
    for name in FIELDS:
        expected, got = getattr(stock, name), getattr(strict, name)
        if name == 'loss' and 'strict_loss' in getattr(got, 'name', ''):
            assert expected.shape.rank is None
            assert got.shape.rank == 0
        elif name == 'export_outputs' and type(got) is dict:
            extra = set(got) - set(expected or ())
            assert extra <= {'serving_default', 'predict'}
            assert _same({key: got[key] for key in expected or ()}, expected or {})
        else:
            assert _same(got, expected), name
    assert added == stock_added or 'strict_loss' in getattr(strict.loss, 'name', '')


# Without shrinking: an example names its junk already, and each builds two graphs.
_settings = settings(deadline=None, derandomize=True, suppress_health_check=list(HealthCheck),
                     phases=[Phase.explicit, Phase.generate])


@settings(_settings, max_examples=150)
@given(_modes, _recipes(_leaves))
def test_strict_agrees_with_stock(mode, recipes):
    _check(Setting(), mode, recipes)


@settings(_settings, max_examples=150)
@given(_modes, _recipes(_anything))
def test_strict_agrees_with_stock_on_nested_junk(mode, recipes):
    _check(Setting(), mode, recipes)


@settings(_settings, max_examples=50)
@given(_junk_modes, _recipes(_leaves))
def test_strict_agrees_with_stock_on_junk_for_a_mode(mode, recipes):
    _check(Setting(), mode, recipes)


_ALL_GOOD = {field: recipes[0] for field, recipes in _GOOD.items()}
# A mode in which stock looks at the field, and we do more than stock.
_MODE_OF = {'predictions': 'infer', 'export_outputs': 'infer', 'prediction_hooks': 'infer',
            'eval_metric_ops': 'eval', 'evaluation_hooks': 'eval'}


@pytest.mark.parametrize('name', list(_ALL_GOOD))
def test_each_junk_in_each_field(name):
    setting = Setting()
    for junk in _JUNK:
        _check(setting, lambda env: _MODE_OF.get(name, 'train'), {**_ALL_GOOD, name: junk})


@pytest.mark.parametrize('name', ['predictions', 'export_outputs', 'eval_metric_ops',
                                  'training_hooks'])
def test_each_junk_inside_of_each_container(name):
    setting = Setting()
    for junk in _JUNK:
        def inside(env, junk=junk):
            return [junk(env)] if name == 'training_hooks' else {'key': junk(env)}

        _check(setting, lambda env: _MODE_OF.get(name, 'train'), {**_ALL_GOOD, name: inside})


def test_each_junk_as_the_mode():
    setting = Setting()
    for junk in _JUNK:
        _check(setting, junk, _ALL_GOOD)


def test_junk_for_suppress():
    for junk in _JUNK:
        with tf.Graph().as_default():
            x = v1.placeholder(tf.float32, [None])
            suppress = junk({'p': x, 'w': x})
            if suppress is not None and type(suppress) is not collections.defaultdict:
                with pytest.raises(ese.EstimatorSpecError) as error_info:
                    Strict('infer', {'p': x}, suppress=suppress)
                found = {finding.slug for finding in error_info.value.findings}
                assert found == {'invalid-suppression'}


def _unchecked(mode, **fields):
    return Stock._make([mode, *(fields[name] for name in FIELDS[1:])])


@settings(_settings, max_examples=40)
@given(_modes, _recipes(_anything))
def test_validating_never_raises(mode, recipes):
    setting = Setting()
    spec, _ = setting.build(_unchecked, mode, recipes)
    version = setting.graph.version
    assert ese.validate_estimator_spec(spec).to_text()
    assert setting.graph.version == version

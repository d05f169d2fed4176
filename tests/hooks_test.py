"""The hook walk: what standard and user hooks hold, and that no code of theirs is run."""

from __future__ import annotations

import collections
import functools
import threading
import weakref

import pytest
import tensorflow as tf

import estimator_spec_ext as ese
from estimator_spec_ext import hook_methods, hooks

v1 = tf.compat.v1
train = v1.train


@pytest.fixture
def graph():
    with tf.Graph().as_default() as g:
        yield g


@pytest.fixture
def t(graph):
    return tf.constant(1.0, name='t')


def _held(hook):
    return [(e.path, e.kind, e.known) for e in ese.hook_graph_elements(hook)]


class Plain(train.SessionRunHook):
    """A user's hook that stores what it is given."""

    def __init__(self, **attributes):
        for name, value in attributes.items():
            setattr(self, name, value)


# The standard hooks.


def test_logging_tensor_hook(t):
    hook = train.LoggingTensorHook({'a': t, 'b': 'other:0'}, every_n_iter=1)
    assert _held(hook) == [("_tensors['a']", 'tensor', True), ("_tensors['b']", 'name', True)]


def test_nan_tensor_hook(t):
    assert _held(train.NanTensorHook(t)) == [('_loss_tensor', 'tensor', True)]
    assert _held(train.NanTensorHook('loss:0')) == [('_loss_tensor', 'name', True)]


def test_final_ops_hook_with_nested_ops_and_a_feed(t):
    hook = train.FinalOpsHook({'a': [t.op]}, {t: 2.0})
    assert _held(hook) == [
        ("_final_ops['a'][0]", 'op', True),
        ('_final_ops_feed_dict[<%s>]' % type(t).__name__, 'tensor', True),
    ]


def test_summary_saver_hook(t):
    assert _held(train.SummarySaverHook(1, summary_op=t)) == [('_summary_op', 'tensor', True)]
    scaffold = train.Scaffold(summary_op=t, ready_op=tf.constant('ready'))
    assert _held(train.SummarySaverHook(1, scaffold=scaffold)) == [
        ('_scaffold._summary_op', 'tensor', True)
    ]


def test_checkpoint_saver_hook(graph):
    v1.get_variable('w', [])
    hook = train.CheckpointSaverHook('d', save_steps=1, saver=train.Saver())
    assert _held(hook) == [('_saver._var_list[0]', 'variable', False)]


def test_feed_fn_hook_through_its_closure(t):
    hook = train.FeedFnHook(lambda: {t: 1.0})
    assert _held(hook) == [('feed_fn.<t>', 'tensor', False)]


def test_hooks_without_elements(graph):
    for hook in (train.StopAtStepHook(1), train.StepCounterHook(), train.GlobalStepWaiterHook(1)):
        assert _held(hook) == []


def test_a_subclass_that_fetches_otherwise_is_not_known(t):
    class Formatted(train.LoggingTensorHook):
        def after_run(self, run_context, run_values):
            pass

    class Own(train.LoggingTensorHook):
        def begin(self):
            pass

    assert _held(Formatted({'a': t}, 1)) == [("_tensors['a']", 'tensor', True)]
    assert _held(Own({'a': t}, 1)) == [("_tensors['a']", 'tensor', False)]


# The walk.


def test_containers_partials_methods_and_slots(t):
    class Slotted:
        __slots__ = ('tensor', 'unset')

        def __init__(self):
            self.tensor = tf.constant(2.0)

    class Helper:
        def __init__(self):
            self.op = tf.no_op()

        def fetch(self):
            return self.op

    three, four = tf.constant(3.0), tf.constant(4.0)

    def function(a, b=three, *, c=four):
        return a, b, c

    hook = Plain(
        queue=collections.deque([t]),
        group={frozenset([tf.constant(5.0)])},
        partial=functools.partial(function, [tf.constant(6.0)], key=tf.constant(7.0)),
        method=Helper().fetch,
        slotted=Slotted(),
        pair=collections.namedtuple('Pair', 'x y')(tf.constant(8.0), 'y'),
        ordered=collections.OrderedDict(k=v1.placeholder(tf.float32)),
        counts=collections.defaultdict(list, k=[tf.constant(9.0)]),
    )
    assert [path for path, _, _ in _held(hook)] == [
        'queue[0]',
        'group{}{}',
        'partial.func.__defaults__',
        'partial.func.c',
        'partial.args[0][0]',
        "partial.keywords['key']",
        'method.__self__.op',
        'slotted.tensor',
        'pair[0]',
        "ordered['k']",
        "counts['k'][0]",
    ]


def test_each_thing_once_and_cycles_end(t):
    hook = Plain(first=t, second=[t, t])
    hook.itself = [hook, {'hook': hook}]
    assert _held(hook) == [('first', 'tensor', False)]


def test_variables_of_every_kind(graph):
    reference = v1.get_variable('a', [], use_resource=False)
    resource = v1.get_variable('b', [], use_resource=True)
    assert [(path, kind) for path, kind, _ in _held(Plain(a=reference, b=resource))] == [
        ('a', 'variable'),
        ('b', 'variable'),
    ]


def test_graphs_are_met_also_behind_sessions_and_weak_keys(graph):
    other, third = tf.Graph(), tf.Graph()
    cache = weakref.WeakKeyDictionary({third: 1})
    hook = Plain(graph=graph, session=v1.Session(graph=other), cache=cache)
    held = [(e.kind, e.value) for e in ese.hook_graph_elements(hook)]
    assert held == [('graph', graph), ('graph', other), ('graph', third)]
    hook.session.close()


def test_a_hook_inside_a_hook(t):
    inner = train.LoggingTensorHook({'a': t, 'b': 'name:0'}, every_n_iter=1)
    outer = Plain(inner=inner)
    (element,) = ese.hook_graph_elements(outer)
    # The names inside are left alone: they may belong to a graph of the outer hook's own.
    assert (element.path, element.known) == ("inner._tensors['a']", False)
    assert element.holders == (outer, inner)


def test_closures_of_methods_and_attributes_of_classes(t):
    class Local(train.SessionRunHook):
        shared = [tf.constant(2.0)]

        def before_run(self, run_context):
            return train.SessionRunArgs(t)

    assert [path for path, _, _ in _held(Local())] == ['shared[0]', 'before_run.<t>']


def test_optimizers_estimators_and_models_are_not_entered(graph):
    optimizer = train.AdamOptimizer()
    weight = v1.get_variable('w', [])
    optimizer.minimize(tf.square(weight))
    layer = tf.keras.layers.Dense(1)
    layer(tf.ones([1, 1]))
    estimator = tf.estimator.Estimator(lambda features: None)
    assert _held(Plain(o=optimizer, l=layer, e=estimator, c=estimator.config)) == []


def test_large_things_are_bounded(t):
    deep = t
    for _ in range(50):
        deep = [deep]
    words = [str(number) for number in range(200_000)]
    chain = {}
    for _ in range(100_000):
        chain = {'next': chain}
    assert _held(Plain(words=words, deep=deep, chain=chain, t=t)) == [('t', 'tensor', False)]


# Hostile objects.


class Alarm(BaseException):
    """Raised by code that must not run; no except Exception can hide it."""


def _alarm(*args, **kwargs):
    raise Alarm


class Meta(type):
    __hash__ = __eq__ = __subclasscheck__ = __instancecheck__ = __call__ = _alarm
    __mro__ = property(_alarm)
    __dict__ = property(_alarm)
    __bool__ = __repr__ = __len__ = __iter__ = _alarm

    def __getattribute__(cls, name):
        raise Alarm(name)


def _hostile_class():
    special = (
        '__getattribute__ __getattr__ __hash__ __eq__ __repr__ __str__ __bool__ __len__ __iter__ '
        '__next__ __contains__ __getitem__ __call__ __index__ __fspath__ __array__ __enter__ '
        '__dir__ __format__ __sizeof__ __reduce__ __reduce_ex__ __copy__ __deepcopy__'
    ).split()
    body = dict.fromkeys(special, _alarm)
    body.update(__class__=property(_alarm), __dict__=property(_alarm), tensor=property(_alarm))
    return Meta.__new__(Meta, 'Hostile', (), body)


def test_no_code_of_the_users_is_run(t):
    class Mapping(dict):
        items = keys = values = __iter__ = __getitem__ = __len__ = _alarm

    class Sequence(list):
        __iter__ = __getitem__ = __len__ = _alarm

    class Many(set):
        __iter__ = __len__ = __contains__ = _alarm

    class Partial(functools.partial):
        func = args = keywords = property(_alarm)

    class Lazy:
        def __init__(self):
            object.__setattr__(self, 'tensor', tf.constant(2.0))

        __getattr__ = __getattribute__ = _alarm

    class Spoof:
        __class__ = property(_alarm)
        __dict__ = property(_alarm)

    class Slots:
        __slots__ = ('tensor', '__weakref__')
        __getattribute__ = _alarm

    class Iterator:
        __iter__ = __next__ = __len__ = __length_hint__ = _alarm

    class Local(threading.local):
        created = 0

        def __init__(self):
            if threading.current_thread() is not threading.main_thread():
                raise Alarm

    def generator():
        _alarm()
        yield

    slots = object.__new__(Slots)
    Slots.__dict__['tensor'].__set__(slots, tf.constant(3.0))
    hostile = object.__new__(_hostile_class())
    local = Local()
    hook = Plain(
        mapping=Mapping(a=t),
        sequence=Sequence([tf.constant(4.0)]),
        many=Many([tf.no_op()]),
        partial=Partial(print, tf.constant(5.0)),
        lazy=Lazy(),
        spoof=object.__new__(Spoof),
        slots=slots,
        iterator=Iterator(),
        generator=generator(),
        hostile=hostile,
        kind=type(hostile),
        local=local,
        pairs=[(hostile, 1)],
    )
    expected = [
        "mapping['a']",
        'sequence[0]',
        'many{}',
        'partial.args[0]',
        'lazy.tensor',
        'slots.tensor',
    ]
    assert [path for path, _, _ in _held(hook)] == expected
    found = []
    thread = threading.Thread(target=lambda: found.extend(_held(hook)))
    thread.start()
    thread.join()
    assert [path for path, _, _ in found] == expected


def test_a_hostile_hook(t):
    class Hook(train.SessionRunHook):
        def __init__(self):
            object.__setattr__(self, 'tensor', t)

        begin = before_run = after_run = end = after_create_session = _alarm
        __getattr__ = __getattribute__ = __repr__ = __hash__ = __eq__ = _alarm
        __class__ = property(_alarm)

    hook = Hook()
    (element,) = ese.hook_graph_elements(hook)
    assert (element.path, element.value) == ('tensor', t)
    assert not hooks.is_stock(hook)
    assert hook_methods.is_refreshed(element) is False


def test_mocks_are_walked_as_what_they_are(t):
    from unittest import mock

    hook = mock.Mock(spec=train.SessionRunHook)
    assert hooks.is_hook(hook)
    assert [e for e in ese.hook_graph_elements(hook) if e.kind != 'graph'] == []


# What a class assigns again.


class Refreshing(train.SessionRunHook):
    def __init__(self, tensor):
        self.kept = tensor
        self.renewed = tensor
        self.by_helper = tensor
        self.mapping = {'a': tensor}
        self.listed = [tensor]
        self._store(tensor)

    def _store(self, tensor):
        self.stored = tensor

    def begin(self):
        self.renewed = None
        self._renew()
        self.mapping['a'] = None

    def _renew(self):
        self.by_helper = None

    def before_run(self, run_context):
        return train.SessionRunArgs([self.kept, self.listed, self.stored])

    def end(self, session):
        self.kept = None


def test_attributes_that_begin_assigns_again(t):
    hook = Refreshing(t)
    hook.renewed = tf.constant(2.0)
    hook.by_helper = tf.constant(3.0)
    hook.mapping['a'] = tf.constant(4.0)
    hook.listed[0] = tf.constant(5.0)
    hook.stored = tf.constant(6.0)
    found = {e.path: hook_methods.is_refreshed(e) for e in ese.hook_graph_elements(hook)}
    assert found == {
        'kept': False,
        'renewed': True,
        'by_helper': True,
        "mapping['a']": True,
        'listed[0]': False,
        'stored': False,
    }


@pytest.mark.parametrize(
    'make',
    [
        lambda: train.LoggingTensorHook(['t:0'], every_n_iter=1),
        lambda: train.StopAtStepHook(1),
        lambda: train.StepCounterHook(),
        lambda: train.GlobalStepWaiterHook(1),
    ],
)
def test_what_standard_hooks_keep_of_the_last_session_is_refreshed(graph, make):
    tf.constant(1.0, name='t')
    train.create_global_step()
    hook = make()
    hook.begin()
    held = [e for e in ese.hook_graph_elements(hook) if e.kind != 'name']
    assert held and all(hook_methods.is_refreshed(e) for e in held)


def test_a_decorated_begin_and_a_dynamic_one(t):
    def decorated(method):
        @functools.wraps(method)
        def wrapper(self):
            return method(self)

        return wrapper

    class Decorated(train.SessionRunHook):
        def __init__(self):
            self.tensor = t

        @decorated
        def begin(self):
            self.tensor = None

    class Dynamic(train.SessionRunHook):
        def __init__(self):
            self.tensor = t

        def begin(self):
            setattr(self, 'ten' + 'sor', None)

    for kind in (Decorated, Dynamic):
        (element,) = ese.hook_graph_elements(kind())
        assert hook_methods.is_refreshed(element)

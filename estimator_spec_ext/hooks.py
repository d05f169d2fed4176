"""What a hook holds of a graph: tensors, ops, variables, and names of them.

What the standard hooks fetch is known by adapter; all else is met by a bounded walk over what
objects store, which never runs the user's code: no property, no `__getattr__`, no iterator.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import threading
import types
import weakref
from typing import Any, Iterable, Iterator

from estimator_spec_ext.compat import do_not_convert, estimator, graphs, stock, tf, v1

MAX_DEPTH = 6
MAX_VISITS = 5000
MAX_ITEMS = 1000  # of one container


@dataclasses.dataclass(frozen=True, eq=False)
class HookElement:
    """One thing of a graph that a hook holds.

    Attributes:
      path: where in the hook, e.g. "_tensors['loss']".
      value: the tensor, op or variable; for kind 'name' the string, for 'graph' the `tf.Graph`.
      kind: 'tensor', 'op', 'variable', 'graph' or 'name'.
      known: True when the hook's class is known to use it; False when the walk met it.
      attributes: names of the attributes on the way, e.g. ('_tensors',).
      holders: the hooks on the way: the hook itself first, then hooks inside it.
      in_container: whether the way leads through a list, dict or set, which may have changed.
    """

    path: str
    value: Any
    kind: str
    known: bool
    attributes: tuple[str, ...] = ()
    holders: tuple[Any, ...] = ()
    in_container: bool = False


# What a standard hook fetches or feeds: the attributes that lead there, and whether strings there
# are names; and the methods which, overridden, may make it do something else.
_ADAPTERS: tuple[tuple[Any, tuple[tuple[tuple[str, ...], bool], ...], tuple[str, ...]], ...] = (
    (v1.train.LoggingTensorHook, ((('_tensors',), True),), ('begin', 'before_run', 'end')),
    (v1.train.NanTensorHook, ((('_loss_tensor',), True),), ('before_run',)),
    (v1.train.FinalOpsHook, ((('_final_ops',), True), (('_final_ops_feed_dict',), False)),
     ('end',)),
    (v1.train.SummarySaverHook, ((('_summary_op',), True), (('_scaffold', '_summary_op'), False)),
     ('before_run', '_get_summary_op')),
)

# Where this package's own hooks live; the examples of the rules play the user's part.
_OWN_HOOKS = ('estimator_spec_ext.agreement.hook', 'estimator_spec_ext.watchdog')

_ATOMS = (str, bytes, int, float, complex, type(None), type(Ellipsis), types.ModuleType,
          types.BuiltinFunctionType, type)
# Objects with lives of their own; what they hold is not what the hook fetches.
_CLOSED = (estimator.Estimator, estimator.RunConfig, tf.Module, v1.train.Optimizer,
           tf.keras.optimizers.Optimizer, tf.keras.optimizers.legacy.Optimizer,
           tf.distribute.Strategy, v1.distribute.Strategy, tf.types.experimental.GenericFunction,
           tf.DType, tf.TensorShape, threading.local)
_SESSIONS = (v1.Session, v1.InteractiveSession)
# Of a scaffold a hook uses these; the rest is the session's.
_SCAFFOLD_PARTS = ('_saver', '_summary_op')

# Read through the descriptors of `type` itself, so that no metaclass can step in.
_MRO = type.__dict__['__mro__']
_CLASS_NAME = type.__dict__['__name__']
_CLASS_DICT = type.__dict__['__dict__']


@do_not_convert
def hook_graph_elements(hook: Any) -> tuple[HookElement, ...]:
    """Everything of a graph that a hook holds.

    Args:
      hook: a `tf.compat.v1.train.SessionRunHook`; none of its methods is called.

    Returns:
      `HookElement`s: first those that the hook's class is known to use, then those met on a walk,
      in the order of the hook's attributes. Each tensor, op, variable and graph occurs once.

    Example:
      >>> with tf.Graph().as_default():
      ...     hook = v1.train.NanTensorHook(tf.constant(1., name='loss'))
      >>> [(element.path, element.kind) for element in hook_graph_elements(hook)]
      [('_loss_tensor', 'tensor')]
    """
    return tuple(_Walk().hook(hook, _Way()))


def resolve(graph: tf.Graph, name: str) -> Any:
    """The op or tensor that a hook's name means in a graph; None when there is none."""
    for text in (name, f'{name}:0'):
        try:
            return graph.as_graph_element(text)
        except (KeyError, ValueError, TypeError):
            continue
    return None


def is_stock(hook: Any) -> bool:
    """Whether the hook's class is TensorFlow's or this package's, so that all it does is known."""
    module = module_of(type(hook))
    return is_own(hook) or module.split('.')[0] in ('tensorflow', 'tensorflow_estimator')


def is_own(hook: Any) -> bool:
    """Whether the hook is one of this package's."""
    return module_of(type(hook)) in _OWN_HOOKS


def class_name(hook: Any) -> str:
    """The name of an object's class, for messages."""
    return _CLASS_NAME.__get__(type(hook))


def is_hook(value: Any) -> bool:
    """Whether stock takes `value` for a hook."""
    return isinstance(value, v1.train.SessionRunHook)


HOOK_FIELDS = stock.HOOK_FIELDS
FIELDS_OF_MODE = {
    'train': ('training_chief_hooks', 'training_hooks'),
    'eval': ('evaluation_hooks',),
    'infer': ('prediction_hooks',),
}


@dataclasses.dataclass(frozen=True)
class _Way:
    """How the walk has come to a value."""

    path: str = ''
    attributes: tuple[str, ...] = ()
    holders: tuple[Any, ...] = ()
    in_container: bool = False
    known: bool = False
    names: bool = False
    depth: int = 0

    def attribute(self, name: str) -> '_Way':
        path = f'{self.path}.{name}' if self.path else name
        return dataclasses.replace(self, path=path, attributes=(*self.attributes, name),
                                   depth=self.depth + 1)

    def item(self, text: str) -> '_Way':
        return dataclasses.replace(self, path=self.path + text, in_container=True,
                                   depth=self.depth + 1)

    def element(self, value: Any, kind: str) -> HookElement:
        return HookElement(self.path, value, kind, self.known, self.attributes, self.holders,
                           self.in_container)


class _Walk:
    """A bounded walk over plain Python objects."""

    def __init__(self) -> None:
        self._seen: set[int] = set()
        self._keep: list[Any] = []  # keeps temporaries alive, so that ids stay unique
        self._visits = 0

    def hook(self, hook: Any, way: _Way) -> Iterator[HookElement]:
        """What a hook holds; by adapter only for the hook that the walk began with."""
        inside = bool(way.holders)
        way = dataclasses.replace(way, holders=(*way.holders, hook), known=False, names=False)
        self._mark(hook)
        attributes = dict(stored_attributes(hook))
        if not inside:
            yield from self._adapted(hook, attributes, way)
        for name, value in attributes.items():
            yield from self.value(value, way.attribute(name))
        for name, value in _class_values(type(hook)):
            if name not in attributes:
                yield from self.value(value, way.attribute(name))

    def _adapted(self, hook: Any, attributes: dict[str, Any], way: _Way) -> Iterator[HookElement]:
        for kind, wanted, methods in _ADAPTERS:
            if not _is(type(hook), kind):
                continue
            known = all(_defined(type(hook), name) is _defined(kind, name) for name in methods)
            for path, names in wanted:
                value, inner = attributes.get(path[0]), way
                for name in path[1:]:
                    inner = inner.attribute(path[0])
                    value = dict(stored_attributes(value)).get(name)
                inner = inner.attribute(path[-1])
                yield from self.value(
                    value, dataclasses.replace(inner, known=known, names=names))

    def value(self, value: Any, way: _Way) -> Iterator[HookElement]:
        """What is found at `value` and behind it."""
        kind = type(value)
        self._visits += 1
        if self._visits > MAX_VISITS or way.depth > MAX_DEPTH:
            return
        if issubclass(kind, _ATOMS):
            if way.names and kind is str:
                yield way.element(value, 'name')
            return
        if id(value) in self._seen:
            return
        self._mark(value)
        what = _kind(kind)
        if what:
            yield way.element(value, what)
        elif _is(kind, v1.train.SessionRunHook):
            yield from self.hook(value, way)
        else:
            for item, inner in _children(value, kind, way):
                yield from self.value(item, inner)

    def _mark(self, value: Any) -> None:
        self._seen.add(id(value))
        self._keep.append(value)


def _is(kind: type, base: Any) -> bool:
    """`issubclass` that asks no metaclass."""
    return type.__subclasscheck__(base, kind)


def _kind(kind: type) -> str:
    if _is(kind, tf.Variable):
        return 'variable'
    if graphs.is_tensor_type(kind):
        return 'tensor'
    if _is(kind, tf.Operation):
        return 'op'
    if _is(kind, tf.Graph):
        return 'graph'
    return ''


def _children(value: Any, kind: type, way: _Way) -> Iterable[tuple[Any, _Way]]:
    if any(_is(kind, closed) for closed in _CLOSED):
        return ()
    if any(_is(kind, session) for session in _SESSIONS):
        return [(item, way.attribute(name)) for name, item in stored_attributes(value)
                if _is(type(item), tf.Graph)]
    if _is(kind, v1.train.Scaffold):
        return [(item, way.attribute(name)) for name, item in stored_attributes(value)
                if name in _SCAFFOLD_PARTS]
    if _is(kind, dict):
        return _dict_children(value, way)
    for base in (tuple, list, collections.deque):
        if _is(kind, base):
            items = list(itertools.islice(base.__iter__(value), MAX_ITEMS))
            found = [(item, way.item(f'[{position}]')) for position, item in enumerate(items)]
            return found + _stored(value, way) if kind is not base else found
    for unordered in (set, frozenset):
        if _is(kind, unordered):
            return [(item, way.item('{}')) for item in
                    list(itertools.islice(unordered.__iter__(value), MAX_ITEMS))]
    if _is(kind, functools.partial):
        return [(functools.partial.__dict__[name].__get__(value), way.attribute(name))
                for name in ('func', 'args', 'keywords')]
    if kind is types.FunctionType:
        return _function_children(value, way)
    if kind is types.MethodType:
        return [(value.__self__, way.attribute('__self__')),
                (value.__func__, way.attribute('__func__'))]
    if kind is weakref.ref:
        # Only graphs: a cache by graph holds its keys weakly; other things are not held.
        target = value()
        return [(target, way.item('()'))] if _is(type(target), tf.Graph) else ()
    return _stored(value, way)


def _stored(value: Any, way: _Way) -> list[tuple[Any, _Way]]:
    return [(item, way.attribute(name)) for name, item in stored_attributes(value)]


def _dict_children(value: Any, way: _Way) -> list[tuple[Any, _Way]]:
    found = []
    for key, item in list(itertools.islice(dict.items(value), MAX_ITEMS)):
        step = way.item(f'[{_key(key)}]')
        if _kind(type(key)) or type(key) is weakref.ref or type(key) is tuple:
            found.append((key, step))  # a feed, or a cache by graph
        found.append((item, step))
    return found + (_stored(value, way) if type(value) is not dict else [])


def _key(key: Any) -> str:
    if type(key) is str:
        return repr(key if len(key) <= 40 else key[:39] + '…')
    return repr(key) if type(key) in (int, bool, float) else f'<{type(key).__name__}>'


def _function_children(function: Any, way: _Way) -> list[tuple[Any, _Way]]:
    found = [(value, way.attribute(f'<{name}>')) for name, value in enclosed(function).items()]
    for default in function.__defaults__ or ():
        found.append((default, way.attribute('__defaults__')))
    for name, default in (function.__kwdefaults__ or {}).items():
        found.append((default, way.attribute(name)))
    return found


def mro(kind: type) -> tuple[type, ...]:
    """The classes of which `kind` inherits, itself first."""
    return _MRO.__get__(kind)


def class_dict(kind: type) -> Any:
    """What a class itself defines, by name."""
    return _CLASS_DICT.__get__(kind)


def module_of(kind: type) -> str:
    """The module that says it defines the class."""
    module = class_dict(kind).get('__module__')
    return module if type(module) is str else ''


def _defined(kind: type, name: str) -> Any:
    """What a class defines or inherits under a name, as it is stored."""
    for base in mro(kind):
        if name in class_dict(base):
            return class_dict(base)[name]
    return None


def _class_values(kind: type) -> list[tuple[str, Any]]:
    """What the user's classes store, and what their methods hold from around them."""
    found = []
    for base in mro(kind):
        if module_of(base).split('.')[0] in ('tensorflow', 'tensorflow_estimator', 'builtins'):
            continue
        for name, member in list(class_dict(base).items()):
            if type(name) is str and not issubclass(type(member), _ATOMS):
                found.append((name, member))
    return found


def enclosed(function: types.FunctionType) -> dict[str, Any]:
    """What a function holds of the functions around it, by name; without cells that are empty."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found


def stored_attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """The attributes that an object stores, read without any code of its own.

    Args:
      value: any object.

    Yields:
      Name and value of what its `__dict__` and its slots hold.
    """
    for base in mro(type(value)):
        own = class_dict(base)
        stored = own.get('__dict__')
        if type(stored) is types.GetSetDescriptorType and base is not type:
            try:
                plain = stored.__get__(value)
            except Exception:  # noqa: BLE001 - a proxy of another library may have none
                plain = None
            if type(plain) is dict:
                yield from [(name, item) for name, item in
                            list(itertools.islice(dict.items(plain), MAX_ITEMS))
                            if type(name) is str]
            break
    for base in mro(type(value)):
        own = class_dict(base)
        if '__slots__' not in own:
            continue
        for name, member in list(own.items()):
            if type(member) is types.MemberDescriptorType:
                try:
                    yield name, member.__get__(value)
                except AttributeError:  # a slot that was never set
                    continue

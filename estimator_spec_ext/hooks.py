"""What a hook holds of a graph: tensors, ops, variables, and names of them.

Known hooks are read by adapter; others by a bounded walk of their attributes that never runs the
user's code: no property, no `__getattr__`, no iterator of a class of the user's is called.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from typing import Any, Iterable, Iterator

from estimator_spec_ext.compat import do_not_convert, graphs, stock, tf, v1

MAX_DEPTH = 6
MAX_OBJECTS = 3000


@dataclasses.dataclass(frozen=True, eq=False)
class HookElement:
    """One thing of a graph that a hook holds.

    Attributes:
      path: where in the hook, e.g. "_tensors['loss']".
      value: the tensor, op or variable; for kind 'name' the string, for 'graph' the `tf.Graph`.
      kind: 'tensor', 'op', 'variable', 'graph' or 'name'.
      known: True when an adapter knows that the hook will use it; False when the walk met it.
    """

    path: str
    value: Any
    kind: str
    known: bool


# Attributes in which a standard hook keeps what it fetches, and whether strings there are names.
_ADAPTERS: tuple[tuple[Any, tuple[tuple[str, bool], ...]], ...] = (
    (v1.train.LoggingTensorHook, (('_tensors', True),)),
    (v1.train.NanTensorHook, (('_loss_tensor', True),)),
    (v1.train.FinalOpsHook, (('_final_ops', True), ('_final_ops_feed_dict', False))),
    (v1.train.SummarySaverHook, (('_summary_op', True), ('_scaffold', False))),
    (v1.train.CheckpointSaverHook, (('_saver', False), ('_scaffold', False))),
)

_ATOMS = (str, bytes, int, float, complex, bool, type(None), type(Ellipsis), types.ModuleType, type,
          tf.DType, tf.TensorShape)
# Objects with graphs and lives of their own; what they hold is not the hook's.
_CLOSED = (v1.Session, tf.Graph, tf.estimator.Estimator, tf.estimator.RunConfig, tf.Module)


@do_not_convert
def hook_graph_elements(hook: Any) -> tuple[HookElement, ...]:
    """Everything of a graph that a hook holds.

    Args:
      hook: a `tf.compat.v1.train.SessionRunHook`; its `begin` is not called.

    Returns:
      `HookElement`s in the order of the hook's attributes.

    Example:
      >>> with tf.Graph().as_default():
      ...     hook = v1.train.NanTensorHook(tf.constant(1., name='loss'))
      >>> [(element.path, element.kind) for element in hook_graph_elements(hook)]
      [('_loss_tensor', 'tensor')]
    """
    walk = _Walk()
    found: list[HookElement] = []
    adapted: set[str] = set()
    attributes = dict(_attributes(hook))
    for kind, names in _ADAPTERS:
        if issubclass(type(hook), kind):
            for name, strings in names:
                if name in attributes:
                    adapted.add(name)
                    found.extend(walk.elements(attributes[name], name, known=True, names=strings))
    walk.seen.add(id(hook))
    for name, value in attributes.items():
        if name not in adapted:
            found.extend(walk.elements(value, name, known=False, names=False))
    return tuple(found)


def is_stock(hook: Any) -> bool:
    """Whether the hook's class is TensorFlow's own, so that all it does is known."""
    return type(hook).__module__.split('.')[0] in ('tensorflow', 'tensorflow_estimator')


def is_hook(value: Any) -> bool:
    """Whether stock takes `value` for a hook."""
    return isinstance(value, v1.train.SessionRunHook)


HOOK_FIELDS = stock.HOOK_FIELDS
FIELDS_OF_MODE = {
    'train': ('training_chief_hooks', 'training_hooks'),
    'eval': ('evaluation_hooks',),
    'infer': ('prediction_hooks',),
}


class _Walk:
    """A bounded walk over plain Python objects."""

    def __init__(self) -> None:
        self.seen: set[int] = set()
        self.keep: list[Any] = []  # keeps temporaries alive, so that ids stay unique

    def elements(self, value: Any, path: str, *, known: bool, names: bool,
                 depth: int = 0) -> Iterator[HookElement]:
        kind = _kind(value)
        if kind:
            yield HookElement(path, value, kind, known)
            return
        if names and type(value) is str:
            yield HookElement(path, value, 'name', known)
            return
        if (issubclass(type(value), _ATOMS) or id(value) in self.seen or depth >= MAX_DEPTH
                or len(self.seen) >= MAX_OBJECTS):
            return
        self.seen.add(id(value))
        self.keep.append(value)
        for step, item in _children(value):
            yield from self.elements(item, path + step, known=known, names=names, depth=depth + 1)


def _kind(value: Any) -> str:
    if issubclass(type(value), tf.Variable):
        return 'variable'
    if graphs.is_tensor_type(type(value)):
        return 'tensor'
    if issubclass(type(value), tf.Operation):
        return 'op'
    if issubclass(type(value), tf.Graph):
        return 'graph'
    return ''


def _children(value: Any) -> Iterable[tuple[str, Any]]:
    kind = type(value)
    if issubclass(kind, _CLOSED):
        return ()
    if issubclass(kind, dict):
        return [(f'[{_key(key)}]', item) for key, item in dict.items(value)]
    if issubclass(kind, tuple):
        return [(f'[{position}]', item) for position, item in enumerate(tuple.__iter__(value))]
    if issubclass(kind, list):
        return [(f'[{position}]', item) for position, item in enumerate(list.__iter__(value))]
    if issubclass(kind, (set, frozenset)):
        base: Any = set if issubclass(kind, set) else frozenset
        return [('{}', item) for item in base.__iter__(value)]
    if issubclass(kind, functools.partial):
        return [('.func', value.func), ('.args', value.args), ('.keywords', value.keywords)]
    if kind is types.FunctionType:
        return list(_closure(value))
    if kind is types.MethodType:
        return [('.__self__', value.__self__), ('.__func__', value.__func__)]
    return [(f'.{name}', item) for name, item in _attributes(value)]


def _key(key: Any) -> str:
    return repr(key) if type(key) in (str, int, bool, float) else f'<{type(key).__name__}>'


def _closure(function: Any) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or ()):
        try:
            yield f'.<{name}>', cell.cell_contents
        except ValueError:  # an empty cell
            continue


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """The attributes that an object stores, read without its own `__getattr__`."""
    try:
        stored = object.__getattribute__(value, '__dict__')
    except AttributeError:
        stored = None
    if type(stored) is dict:
        yield from [(name, item) for name, item in dict.items(stored) if type(name) is str]
    for base in type(value).__mro__:
        slots = base.__dict__.get('__slots__', ())
        for name in (slots,) if isinstance(slots, str) else tuple(slots):
            member = base.__dict__.get(name)
            if type(member) is types.MemberDescriptorType:
                try:
                    yield name, member.__get__(value, type(value))
                except AttributeError:  # a slot that was never set
                    continue

"""Tells whether two tasks read the same rows in the same order, from their datasets alone."""

from __future__ import annotations

import hashlib
from typing import Any, Optional

from estimator_spec_ext.compat import estimator_internals, graphs, tf

# What these give is not in the graph.
_UNSEEN = ('PyFunc', 'EagerPyFunc', 'GeneratorDataset', 'Placeholder', 'IteratorGetNext',
           'ReadVariableOp', 'VarHandleOp')
_RANDOM = ('Random', 'Shuffle', 'Stateful', 'Multinomial', 'Truncated', 'ListFiles')
_SEEDS = ('seed', 'seed2')
_MAX_OPS = 5000


def of_input(result: Any) -> Optional[str]:
    """A print of the rows that an input function gives, and of their order.

    Args:
      result: what it returned.

    Returns:
      The same text for two graphs that read the same; None when it cannot be told, e.g. for
      Python generators, random numbers without a seed, or tensors.
    """
    if not isinstance(result, tf.data.Dataset):
        return None
    try:
        return _Print(tf.compat.v1.get_default_graph()).of(
            estimator_internals.dataset_variant(result).op)
    except _Unknown:
        return None


class _Unknown(Exception):
    """The order of the rows is not in the graph."""


class _Print:
    """One walk over a dataset."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self._hash = hashlib.sha256()
        self._functions: set[str] = set()

    def of(self, root: Any) -> str:
        """The print of the dataset that an op makes."""
        places: dict[Any, int] = {}
        stack = [root]
        while stack:
            op = stack.pop()
            if op in places:
                self._add('again', places[op])
                continue
            if len(places) > _MAX_OPS:
                raise _Unknown
            places[op] = len(places)
            self._op(op)
            stack.extend(tensor.op for tensor in op.inputs)
        return self._hash.hexdigest()

    def _add(self, *parts: Any) -> None:
        self._hash.update(repr(parts).encode())

    def _op(self, op: Any) -> None:
        if op.type.startswith(_UNSEEN):
            raise _Unknown
        if any(word in op.type for word in _RANDOM) and not _is_seeded(op):
            raise _Unknown
        self._node(op.type, op.node_def)

    def _node(self, op_type: str, definition: Any) -> None:
        self._add(op_type, len(definition.input))
        for name in sorted(definition.attr):
            value = definition.attr[name]
            if name.startswith('_') or name in ('metadata', 'container', 'shared_name'):
                continue
            if value.HasField('func'):
                self._function(value.func.name)
            elif value.list.func:
                for one in value.list.func:
                    self._function(one.name)
            else:
                self._hash.update(name.encode() + value.SerializeToString(deterministic=True))

    def _function(self, name: str) -> None:
        if name in self._functions:
            return
        self._functions.add(name)
        definition = graphs.function_definition(self._graph, name)
        if definition is None:
            raise _Unknown
        for node in definition.node_def:
            if node.op.startswith(_UNSEEN):
                raise _Unknown
            self._node(node.op, node)


def _is_seeded(op: Any) -> bool:
    """Whether the op draws the same numbers in each process."""
    names = [argument.name for argument in op.op_def.input_arg]
    for name in _SEEDS:
        value = graphs.attribute(op, name)
        if value is None and name in names:
            static = tf.get_static_value(op.inputs[names.index(name)])
            value = None if static is None else int(static)
        if value:
            return True
    return False

"""What the bodies of functions do to their arguments.

Cond and while of TensorFlow 2, `tf.function` and TF1's Defun are ops that call functions. A rule
sees such a call as one op; this module says what happens inside.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Iterator, Optional

import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.python.framework import function_def_to_graph as _function_def_to_graph

from estimator_spec_ext.compat import graphs

_CONDITIONALS = frozenset({'If', 'StatelessIf', 'Case', 'StatelessCase'})
_CALLS = _CONDITIONALS | frozenset({
    'While', 'StatelessWhile', 'PartitionedCall', 'StatefulPartitionedCall', 'RemoteCall',
    'SymbolicGradient', 'MapDefun', 'For', 'XlaLaunch'})
_WRITE_PREFIXES = (
    'Assign', 'Apply', 'SparseApply', 'Scatter', 'ResourceApply', 'ResourceSparseApply',
    'ResourceScatter', 'ResourceStridedSliceAssign', 'StridedSliceAssign', 'ResourceCountUpTo',
    'CountUpTo', 'ResourceConditionalAccumulator')
_MAX_DEPTH = 20
_MAX_NODES = 200_000


@dataclasses.dataclass(frozen=True)
class Summary:
    """What one call does.

    Attributes:
      nodes: (name, type) of every node in the functions called, nested calls included.
      writes: positions of the inputs (of the calling op) whose variables are written.
    """

    nodes: tuple[tuple[str, str], ...] = ()
    writes: frozenset[int] = frozenset()


def may_call(op_type: str) -> bool:
    """Whether ops of this type call functions that run as part of them."""
    return op_type in _CALLS


@functools.cache
def is_write_type(op_type: str) -> bool:
    """Whether an op of this type writes the variables that are among its inputs."""
    return op_type.startswith(_WRITE_PREFIXES)


def summary_of_call(graph: tf.Graph, op: tf.Operation, bodies: dict[str, Summary]) -> Summary:
    """The `Summary` of the functions that `op` calls; `bodies` keeps what was worked out."""
    offset = 1 if op.type in _CONDITIONALS else 0
    nodes: list[tuple[str, str]] = []
    writes: set[int] = set()
    names = list(_called_names(op.node_def.attr)) if may_call(op.type) else [op.type]
    for name in names:
        body = _body(graph, name, 0, bodies)
        nodes.extend(body.nodes)
        writes.update(position + offset for position in body.writes)
    return Summary(tuple(nodes), frozenset(writes))


def outputs_of_attribute(op: tf.Operation, name: str) -> tuple[tf.Tensor, ...]:
    """The results of the function that an attribute of an op names, in a graph of their own.

    Args:
      op: the op.
      name: of the attribute.

    Returns:
      The tensors; () when the function cannot be read.
    """
    function = graphs.attribute(op, name)
    definition = graphs.function_definition(op.graph, getattr(function, 'name', ''))
    if definition is None:
        return ()
    try:
        with op.graph.as_default():  # where functions are looked for that this one calls
            made = _function_def_to_graph.function_def_to_graph(definition)
    except (ValueError, KeyError, tf.errors.OpError):
        return ()
    return tuple(made.outputs)


def body_of_call(op: tf.Operation) -> Optional[tf.Graph]:
    """The graph of the tf.function that an op calls, as it was traced.

    Args:
      op: the op that calls one function.

    Returns:
      A graph with `inputs` and `outputs` that belong to those of the op in turn; None when the
      function was not traced in this process.
    """
    names = list(_called_names(op.node_def.attr))
    body = graphs.function_graph(op.graph, names[0]) if len(names) == 1 else None
    if body is None or (len(body.inputs), len(body.outputs)) != (len(op.inputs), len(op.outputs)):
        return None
    return body


def _called_names(attributes: Any) -> Iterator[str]:
    for key in sorted(attributes):
        value = attributes[key]
        kind = value.WhichOneof('value')
        if kind == 'func':
            yield value.func.name
        elif kind == 'list':
            for item in value.list.func:
                yield item.name


def _body(graph: tf.Graph, name: str, depth: int, bodies: dict[str, Summary]) -> Summary:
    if name in bodies:
        return bodies[name]
    definition = graphs.function_definition(graph, name)
    if definition is None or depth > _MAX_DEPTH:
        return Summary()
    # Only a resource or a reference can be written.
    origin = {argument.name: position
              for position, argument in enumerate(definition.signature.input_arg)
              if argument.type == types_pb2.DT_RESOURCE or argument.is_ref}
    nodes: list[tuple[str, str]] = []
    writes: set[int] = set()
    for node in definition.node_def:
        if len(nodes) > _MAX_NODES:
            break
        nodes.append((node.name, node.op))
        data = [text.split(':')[0] for text in node.input if not text.startswith('^')]
        if node.op in ('Identity', 'RefIdentity') and data and data[0] in origin:
            origin[node.name] = origin[data[0]]
        if is_write_type(node.op):
            writes.update(origin[text] for text in data if text in origin)
        called = (list(_called_names(node.attr)) if may_call(node.op)
                  else [node.op] if graphs.is_function_name(graph, node.op) else [])
        offset = 1 if node.op in _CONDITIONALS else 0
        for inner_name in called:
            inner = _body(graph, inner_name, depth + 1, bodies)
            nodes.extend((f'{node.name}/{leaf}', op_type) for leaf, op_type in inner.nodes)
            writes.update(origin[data[position + offset]] for position in inner.writes
                          if position + offset < len(data)
                          and data[position + offset] in origin)
    bodies[name] = Summary(tuple(nodes), frozenset(writes))
    return bodies[name]

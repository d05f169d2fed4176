"""What `tf.Graph` and its relatives do not tell through public names."""

from __future__ import annotations

import operator
from typing import Any, Callable, Iterator, Optional, Sequence

import tensorflow as tf
from tensorflow.python.framework import function as _function
from tensorflow.python.ops import control_flow_util as _control_flow_util

# Classes are compared by type(value): isinstance also asks value.__class__, which may be anything.
_CORE_TENSOR = tf.__internal__.types.Tensor
_REF_DTYPE_OFFSET = 100
_SHORT = 1 << 12  # bytes of an op that may be kept for a while


def is_tensor(value: Any) -> bool:
    """True for what stock calls a tensor: `tf.Tensor` and variables, not sparse or ragged ones."""
    return issubclass(type(value), (tf.Tensor, _CORE_TENSOR))


def is_tensor_type(kind: type) -> bool:
    """Like `is_tensor`, for a class."""
    return issubclass(kind, (tf.Tensor, _CORE_TENSOR))


def is_composite(value: Any) -> bool:
    """True for SparseTensor, RaggedTensor and their like."""
    return (issubclass(type(value), tf.__internal__.CompositeTensor)
            and not issubclass(type(value), tf.Variable))


def is_variable(value: Any) -> bool:
    """True for reference, resource and distributed variables."""
    return issubclass(type(value), tf.Variable)


def as_op(value: Any) -> Any:
    """The `tf.Operation` behind a tensor, an op or a variable; None when there is none."""
    if issubclass(type(value), tf.Operation):
        return value
    try:
        op = value.op
    except Exception:  # noqa: BLE001 - eager tensors and distributed variables raise here
        return None
    return op if issubclass(type(op), tf.Operation) else None


def graph_of(value: Any) -> Optional[tf.Graph]:
    """The graph of a tensor, op or variable; None when it has none."""
    try:
        graph = value.graph
    except Exception:  # noqa: BLE001 - eager tensors raise here
        return None
    return graph if issubclass(type(graph), tf.Graph) else None


_PASSING = frozenset({'Identity', 'Cast', 'Reshape'})


def first_value(variable: Any) -> Optional[tf.Operation]:
    """The op that computes the first value of a variable, behind ops that hand it on."""
    op = as_op(getattr(variable, 'initializer', None))
    if op is None or len(op.inputs) < 2:
        return None
    source = op.inputs[1].op
    for _ in range(5):
        if source.type not in _PASSING or not source.inputs:
            break
        source = source.inputs[0].op
    return source


def is_ref_dtype(dtype: tf.DType) -> bool:
    """True for the dtype of a TF1 reference variable."""
    return dtype.as_datatype_enum > _REF_DTYPE_OFFSET


def node_size(op: Any) -> int:
    """The bytes that an op takes in a serialized graph, those of its constant included."""
    return len(_serialized(op))


def sift(ops: Sequence[Any], least: int, part: str) -> tuple[dict[Any, int], list[Any]]:
    """Finds the large ones among many ops, and those of a certain name, reading each once.

    Args:
      ops: the ops.
      least: how many bytes in a serialized graph make an op large.
      part: what the names of the others hold.

    Returns:
      The large ones with their bytes, those of a constant included; and the small ones that may
      hold `part` in their name.
    """
    large: dict[Any, int] = {}
    named, short, short_nodes = [], [], []
    mark = part.encode()
    for op in reversed(ops):  # the last made first: these are still in the processor's cache
        node = _serialized(op)
        if len(node) < _SHORT:
            short.append(op)
            short_nodes.append(node)
        elif len(node) >= least:
            large[op] = len(node)
        elif mark in node:
            named.append(op)
    if mark in b''.join(short_nodes):  # faster than asking each
        named += [op for op, node in zip(short, short_nodes) if mark in node]
    return dict(reversed(large.items())), named[::-1]


def _parsed_and_serialized(op: Any) -> bytes:
    return op.node_def.SerializeToString()


# Up to TensorFlow 2.12 an op has no serialized form of its own.
_serialized: Callable[[Any], bytes] = (
    operator.attrgetter('_node_def') if hasattr(tf.Operation, '_node_def')
    else _parsed_and_serialized)


def graph_chain(graph: tf.Graph) -> Iterator[tf.Graph]:
    """`graph` and the graphs around it, innermost first (functions are graphs inside graphs)."""
    seen: set[int] = set()
    current: Any = graph
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = getattr(current, 'outer_graph', None) or getattr(current, '_outer_graph', None)


def is_function_graph(graph: tf.Graph) -> bool:
    """True inside a `tf.function` or a TF1 Defun body."""
    return isinstance(graph, (tf.__internal__.FuncGraph, _function._FuncGraph))


def in_xla_rewrite(graph: tf.Graph) -> bool:
    """True while a TPU rewrite or another XLA context is building `graph`."""
    return bool(_control_flow_util.GraphOrParentsInXlaContext(graph))


def function_definition(graph: tf.Graph, name: str) -> Any:
    """The FunctionDef of the function `name` that `graph` knows; None when it is unknown."""
    for found in _functions_named(graph, name):
        for attribute in ('cached_definition', 'definition'):
            definition = getattr(found, attribute, None)
            if definition is not None:
                return definition
    return None


def function_graph(graph: tf.Graph, name: str) -> Any:
    """The FuncGraph from which the function `name` was made; None where that is gone."""
    for found in _functions_named(graph, name):
        body = getattr(found, 'graph', None)
        if isinstance(body, tf.__internal__.FuncGraph):
            return body
    return None


def _functions_named(graph: tf.Graph, name: str) -> Iterator[Any]:
    """The functions of this name that `graph` and the graphs around it know."""
    for candidate in graph_chain(graph):
        found = candidate._get_function(name)
        if found is not None:
            yield found


def large_function_constants(graph: tf.Graph, least: int) -> list[int]:
    """The bytes of the constants in the body of each function in which they are `least` or more.

    Functions of a tf.data pipeline are among them: all are written with the graph.
    """
    found = []
    for name in function_names(graph):
        definition = function_definition(graph, name)
        if definition is not None and definition.ByteSize() >= least:
            size = sum(node.ByteSize() for node in definition.node_def if node.op == 'Const')
            if size >= least:
                found.append(size)
    return found


def is_function_name(graph: tf.Graph, op_type: str) -> bool:
    """Whether `op_type` is the name of a function: TF1 Defuns are called by their names."""
    return any(candidate._is_function(op_type) for candidate in graph_chain(graph))


def function_names(graph: tf.Graph) -> frozenset[str]:
    """The names of all functions that `graph` knows."""
    return frozenset().union(*(candidate._functions for candidate in graph_chain(graph)))


def attribute(op: tf.Operation, name: str, default: Any = None) -> Any:
    """The attribute `name` of `op`, or `default` when it has none."""
    try:
        return op.get_attr(name)
    except ValueError:
        return default


def control_outputs(op: tf.Operation) -> list[tf.Operation]:
    """The ops that wait for `op` without reading it."""
    return op._control_outputs


def is_conditional(op: tf.Operation) -> bool:
    """Whether `op` lies in a branch or loop of v1 control flow, so that a step may omit it."""
    context = op._get_control_flow_context()
    while context is not None:
        if context.IsCondContext() or context.IsWhileContext():
            return True
        context = context.outer_context
    return False


def differentiated_op(op: tf.Operation) -> Optional[tf.Operation]:
    """The op whose gradient `op` helps to compute, as `tf.gradients` notes it; None otherwise."""
    original = getattr(op, '_original_op', None)
    return original if isinstance(original, tf.Operation) else None

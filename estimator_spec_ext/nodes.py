"""Ops of a graph and nodes of function bodies, read in one way.

A rule that looks for a pattern of several ops finds it in a graph, in a branch of a cond, in the
body of a loop or in a `tf.function` alike. Towards the inputs the border of a function is not seen:
an argument is what the caller handed in.
"""

from __future__ import annotations

import dataclasses
from typing import AbstractSet, Any, Callable, Iterable, Iterator, Optional

import numpy as np

from estimator_spec_ext.compat import functions, graphs, scopes, tf
from estimator_spec_ext.graph import GraphIndex

_CONDITIONALS = frozenset({'If', 'StatelessIf', 'Case', 'StatelessCase'})
_MAX_DEPTH = 12
_PASSING = frozenset({
    'Identity', 'StopGradient', 'Enter', 'Cast', 'Reshape', 'Squeeze', 'ExpandDims',
    'PlaceholderWithDefault', 'Snapshot', 'PreventGradient'})
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    'Add': np.add, 'AddV2': np.add, 'Sub': np.subtract, 'Mul': np.multiply,
    'RealDiv': np.divide, 'Div': np.divide, 'Neg': np.negative, 'Maximum': np.maximum,
    'Minimum': np.minimum, 'LogicalNot': np.logical_not, 'LogicalAnd': np.logical_and,
    'LogicalOr': np.logical_or, 'Equal': np.equal, 'NotEqual': np.not_equal,
    'Greater': np.greater, 'GreaterEqual': np.greater_equal, 'Less': np.less,
    'LessEqual': np.less_equal}


@dataclasses.dataclass(frozen=True)
class Output:
    """One output of a node.

    Attributes:
      node: the `Node`.
      index: the position among its outputs; None for one inside a function that has a name.
      name: inside a function the name of the output, e.g. 'batch_mean'.
    """

    node: 'Node'
    index: Optional[int] = None
    name: str = ''


class Node:
    """An op of a graph, or a node of a function body that an op of the graph calls.

    Attributes:
      op: the op in the graph itself; for a node of a body, the op that calls it.
      name: the name in its graph or body.
      type: the type of op.
      body: the body; None for an op of the graph.
    """

    def __init__(self, op: Any, body: Optional['Body'] = None, definition: Any = None) -> None:
        self.op = op
        self.body = body
        self._definition = definition
        self.name: str = definition.name if definition is not None else op.name
        self.type: str = definition.op if definition is not None else op.type

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, Node) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[Any, ...]:
        if self.body is None:
            return (self.op,)
        return (self.op, self.body.identity, self.name)

    def attribute(self, name: str) -> Any:
        """The value of a number, bool or type attribute; None when there is none."""
        if self._definition is None:
            return graphs.attribute(self.op, name)
        value = self._definition.attr.get(name) if name in self._definition.attr else None
        kind = value.WhichOneof('value') if value is not None else None
        return None if kind is None else getattr(value, kind)

    def inputs(self) -> list[Optional[Output]]:
        """The data inputs; None for an argument of a function of which nothing is known."""
        if self.body is None:
            return [Output(Node(tensor.op), tensor.value_index) for tensor in self.op.inputs]
        return [self.body.output(text) for text in self._definition.input
                if not text.startswith('^')]

    def consumers(self) -> list[tuple['Node', int, Output]]:
        """Who reads an output: the reader, the position among its inputs, and the output.

        The readers of an argument inside a function, and of what it returns, are among them.
        """
        if self.body is not None:
            found = self.body.consumers(self)
        else:
            found = [(Node(reader), position, Output(self, tensor.value_index))
                     for tensor in self.op.outputs for reader in tensor.consumers()
                     for position, read in enumerate(reader.inputs) if read is tensor]
        inside = []
        for reader, position, output in found:
            if _calls(self.op.graph, reader):
                for body in bodies_of(self.op.graph, reader):
                    inside += [(inner, place, output)
                               for inner, place in body.readers_of_argument(position)]
                    inside += body.handed_through(position, output)
        return found + inside

    def scalar(self) -> bool:
        """Whether the first output is one number for certain, as far as the graph itself says."""
        return self._definition is None and bool(self.op.outputs) and (
            self.op.outputs[0].shape.rank == 0)

    def floating(self) -> bool:
        """Whether the first output has a floating dtype, as far as one can see."""
        if self._definition is None:
            return bool(self.op.outputs) and self.op.outputs[0].dtype.base_dtype.is_floating
        dtype = self.attribute('T') or self.attribute('dtype') or self.attribute('DstT')
        return dtype is None or tf.as_dtype(dtype).is_floating

    def _tensor_proto(self) -> Any:
        if self._definition is None:
            # A large constant is not read for nothing.
            shape = self.op.outputs[0].shape
            if shape.rank != 0 and shape.num_elements() != 1:
                return None
            return self.op.get_attr('value')
        return self._definition.attr['value'].tensor

    def constant(self) -> Any:
        """The value of a Const of one element; None for any other node."""
        if self.type != 'Const':
            return None
        proto = self._tensor_proto()
        if proto is None or any(dim.size != 1 for dim in proto.tensor_shape.dim):
            return None
        return tf.make_ndarray(proto).reshape(())[()]

    def runs(self) -> Optional[bool]:
        """Whether its branch is taken: True, False, or None when only a run can tell."""
        result: Optional[bool] = True
        for predicate, wanted in self._conditions():
            value = None if predicate is None else evaluate(predicate)
            if value is None:
                result = None
            elif value != wanted:
                return False
        return result

    def _conditions(self) -> Iterator[tuple[Optional[Output], Any]]:
        if self.body is not None:
            if self.body.branch is not None:
                yield self.body.caller.inputs()[0], self.body.branch
            yield from self.body.caller._conditions()
            return
        for predicate, branch in scopes.conditions(self.op):
            op = graphs.as_op(predicate)
            yield (None if op is None else Output(Node(op), predicate.value_index)), branch


class Body:
    """The body of a function in one call.

    Attributes:
      caller: the node that calls.
      branch: the value of the caller's first input for which this body runs; None for always.
      identity: tells one body from another.
    """

    def __init__(self, caller: Node, definition: Any, branch: Any) -> None:
        self.caller = caller
        self.branch = branch
        self.identity = (caller._identity(), definition.signature.name)
        self._offset = 1 if caller.type in _CONDITIONALS else 0
        self._arguments = {argument.name: position for position, argument
                           in enumerate(definition.signature.input_arg)}
        self._results = [definition.ret[result.name]
                         for result in definition.signature.output_arg]
        self._nodes = {node.name: node for node in definition.node_def}
        self._readers: Optional[dict[str, list[tuple[Any, int, str]]]] = None

    def nodes(self) -> Iterator[Node]:
        """The nodes of the body."""
        return (Node(self.caller.op, self, node) for node in self._nodes.values())

    def output(self, text: str) -> Optional[Output]:
        """The output that 'node:name:index', or the name of an argument, stands for."""
        name, _, rest = text.partition(':')
        if name in self._arguments and name not in self._nodes:
            inputs = self.caller.inputs()
            position = self._arguments[name] + self._offset
            return inputs[position] if position < len(inputs) else None
        node = self._nodes.get(name)
        if node is None:
            return None
        label, _, number = rest.partition(':')
        index = int(number) if label == 'output' and number.isdigit() else None
        return Output(Node(self.caller.op, self, node), index, label)

    def _readers_of(self, name: str) -> list[tuple[Any, int, str]]:
        if self._readers is None:
            self._readers = {}
            for reader in self._nodes.values():
                data = [text for text in reader.input if not text.startswith('^')]
                for position, text in enumerate(data):
                    self._readers.setdefault(text.split(':')[0], []).append(
                        (reader, position, text))
        return self._readers.get(name, [])

    def readers_of_argument(self, position: int) -> list[tuple[Node, int]]:
        """Who reads what the caller hands in at `position`."""
        names = [name for name, place in self._arguments.items()
                 if place + self._offset == position and name not in self._nodes]
        return [(Node(self.caller.op, self, reader), place) for name in names
                for reader, place, _ in self._readers_of(name)]

    def handed_through(self, position: int, output: Output) -> list[tuple[Node, int, Output]]:
        """Who reads what the body, where it is sure to run, returns of its own argument."""
        names = {name for name, place in self._arguments.items()
                 if place + self._offset == position and name not in self._nodes}
        returned = {index for index, text in enumerate(self._results) if text in names}
        if not returned or (self.branch is not None
                            and evaluate(self.caller.inputs()[0]) != self.branch):
            return []
        return [(reader, place, output) for reader, place, result in self.caller.consumers()
                if result.index in returned]

    def consumers(self, node: Node) -> list[tuple[Node, int, Output]]:
        """See `Node.consumers`."""
        found = []
        for reader, position, text in self._readers_of(node.name):
            output = self.output(text)
            if output is not None:
                found.append((Node(self.caller.op, self, reader), position, output))
        for index, text in enumerate(self._results):
            if text.split(':')[0] == node.name:
                label = text.split(':')[1] if ':' in text else ''
                found.extend((reader, position, Output(node, None, label))
                             for reader, position, output in self.caller.consumers()
                             if output.index == index)
        return found


def bodies_of(graph: tf.Graph, node: Node) -> list[Body]:
    """The bodies that a node calls, each with the condition under which it runs."""
    definition = node._definition if node.body is not None else node.op.node_def
    attributes = definition.attr
    calls: list[tuple[str, Any]] = []
    for key in sorted(attributes):
        value = attributes[key]
        kind = value.WhichOneof('value')
        if kind == 'func':
            branch = {'then_branch': True, 'else_branch': False}.get(key)
            calls.append((value.func.name, branch))
        elif kind == 'list':
            calls.extend((item.name, number) for number, item in enumerate(value.list.func))
    if not calls and graphs.is_function_name(graph, node.type):
        calls.append((node.type, None))
    found = []
    for name, branch in calls:
        function = graphs.function_definition(graph, name)
        if function is not None:
            found.append(Body(node, function, branch))
    return found


def find(index: GraphIndex, types: Iterable[str], within: AbstractSet[Any]) -> Iterator[Node]:
    """Like `GraphIndex.find`, but what it yields can be looked at from all sides.

    Args:
      index: the index.
      types: op types.
      within: only these ops, and the functions that they call.

    Yields:
      `Node`s in a stable order.
    """
    wanted = frozenset(types)
    for op in index.of_types(wanted):
        if op in within:
            yield Node(op)
    for op, summary in index.calls.items():
        if op in within and any(op_type in wanted for _, op_type in summary.nodes):
            yield from _inside(index.graph, Node(op), wanted, 0)


def _inside(graph: tf.Graph, caller: Node, wanted: frozenset[str], depth: int) -> Iterator[Node]:
    if depth > _MAX_DEPTH:
        return
    for body in bodies_of(graph, caller):
        for node in body.nodes():
            if node.type in wanted:
                yield node
            elif _calls(graph, node):
                yield from _inside(graph, node, wanted, depth + 1)


def _calls(graph: tf.Graph, node: Node) -> bool:
    return functions.may_call(node.type) or graphs.is_function_name(graph, node.type)


def evaluate(output: Optional[Output], depth: int = 0) -> Any:
    """The value of one number, bool or string that is fixed in the graph; None if it is not.

    A `placeholder_with_default` has its default, since Estimator feeds nothing.
    """
    if output is None or depth > _MAX_DEPTH:
        return None
    node = output.node
    if node.type == 'Const':
        return node.constant()
    if node.type in ('Switch', 'RefSwitch') or node.type in _PASSING:
        inputs = node.inputs()
        value = evaluate(inputs[0], depth + 1) if inputs else None
        if node.type == 'Cast' and value is not None:
            dtype = node.attribute('DstT')
            return tf.as_dtype(dtype).as_numpy_dtype(value) if dtype is not None else value
        return value
    function = _FUNCTIONS.get(node.type)
    if function is None:
        return None
    values = [evaluate(item, depth + 1) for item in node.inputs()]
    decisive = {'LogicalAnd': False, 'LogicalOr': True}.get(node.type)
    if decisive is not None and any(value == decisive for value in values if value is not None):
        return decisive
    if any(value is None for value in values):
        return None
    try:
        return function(*values)
    except (TypeError, ValueError):
        return None

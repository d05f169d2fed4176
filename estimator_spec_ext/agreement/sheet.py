"""The fingerprint of a role's graph: what must be the same in every role."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any, Iterable

from estimator_spec_ext.compat import distribution, tf, v1

# A broadcast is sent by one role and received by the others.
_TWINS = {'CollectiveBcastSend': 'CollectiveBcast', 'CollectiveBcastRecv': 'CollectiveBcast',
          'CollectiveBcastSendV2': 'CollectiveBcast', 'CollectiveBcastRecvV2': 'CollectiveBcast'}
_RECEIVES = frozenset({'CollectiveBcastRecv', 'CollectiveBcastRecvV2'})
# These name a group and move no data.
_SETUP = 'CollectiveInitializeCommunicator'


@dataclasses.dataclass(frozen=True)
class VariableEntry:
    """One global variable.

    Attributes:
      name: without ':0'.
      dtype: e.g. 'float32'.
      shape: e.g. '(3, 1)'.
      trainable: whether it is in TRAINABLE_VARIABLES.
      server: the parameter server that holds it, e.g. 'ps/0'; '' without one.
    """

    name: str
    dtype: str
    shape: str
    trainable: bool
    server: str = ''

    @property
    def kind(self) -> str:
        """Dtype and shape, for messages."""
        return f'{self.dtype} {self.shape}'

    def __str__(self) -> str:
        return f'{self.name!r} {self.kind}'


@dataclasses.dataclass(frozen=True)
class CollectiveEntry:
    """One collective: an all-reduce, a broadcast, a gather.

    Attributes:
      kind: the type of op; send and receive of a broadcast are one.
      name: the name of the op.
      dtype: of what it moves.
      shape: of what it moves.
      keys: the size of its group, the group's key, and its own key in it; -1 when unknown.
    """

    kind: str
    name: str
    dtype: str
    shape: str
    keys: tuple[int, int, int]

    @property
    def meets(self) -> tuple[Any, ...]:
        """What has to be the same at the other end."""
        return self.kind, self.dtype, self.shape, self.keys

    def __str__(self) -> str:
        return f'{self.kind} {self.name!r} {self.dtype} {self.shape}, key {self.keys[2]}'


@dataclasses.dataclass(frozen=True)
class Sheet:
    """What must be the same in every role.

    Attributes:
      variables: the global variables, in order of creation.
      collectives: in the order of their keys, which is that of their creation.
    """

    variables: tuple[VariableEntry, ...]
    collectives: tuple[CollectiveEntry, ...]

    def to_json(self) -> str:
        """The sheet as text; the same graph gives the same text."""
        return json.dumps({
            'variables': [list(dataclasses.astuple(entry)) for entry in self.variables],
            'collectives': [list(dataclasses.astuple(entry)) for entry in self.collectives]})

    @classmethod
    def from_json(cls, text: str) -> 'Sheet':
        """A sheet of the text of another one.

        Raises:
          ValueError, TypeError, KeyError: when it is not the text of a sheet.
        """
        found = json.loads(text)
        return cls(tuple(VariableEntry(*row) for row in found['variables']),
                   tuple(CollectiveEntry(kind, name, dtype, shape, tuple(keys))
                         for kind, name, dtype, shape, keys in found['collectives']))

    @property
    def digest(self) -> str:
        """A short text that is the same exactly for graphs between which nothing differs."""
        core = [dataclasses.astuple(entry) for entry in self.variables]
        text = json.dumps([core, [entry.meets for entry in self.collectives]])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def of_graph(graph: tf.Graph, *, collectives: bool = True) -> Sheet:
    """The sheet of a graph.

    Args:
      graph: the graph of TRAIN; nothing is added to it.
      collectives: False leaves them out, and with them the look at every op.

    Returns:
      A `Sheet`.
    """
    trainable = {id(part) for part in variables_in(graph, v1.GraphKeys.TRAINABLE_VARIABLES)}
    variables = tuple(
        VariableEntry(part.name.split(':')[0], part.dtype.base_dtype.name,
                      shape_text(part.shape), id(part) in trainable, _server(part.device))
        for part in variables_in(graph))
    found = []
    if collectives:
        found = [collective(op) for op in collective_ops(graph)]
        found.sort(key=lambda entry: entry.keys[1:])
    return Sheet(variables, tuple(found))


def shape_text(shape: Any) -> str:
    """A static shape as the reports write it: '(?, 3)'."""
    if shape.rank is None:
        return '(unknown)'
    sizes = ['?' if size is None else str(size) for size in shape.as_list()]
    return f'({", ".join(sizes)}{"," if len(sizes) == 1 else ""})'


def variables_in(graph: tf.Graph, key: str = v1.GraphKeys.GLOBAL_VARIABLES) -> Iterable[Any]:
    """The plain variables in one of a graph's collections, in order of creation."""
    for variable in graph.get_collection(key):
        yield from distribution.components(variable)


def _server(device: str) -> str:
    if '/job:ps' not in (device or ''):
        return ''
    found = tf.DeviceSpec.from_string(device)
    return f'ps/{found.task}' if found.job == 'ps' else ''


def collective_ops(graph: tf.Graph) -> list[Any]:
    """The collective ops of a graph that move data, in order of creation."""
    return [op for op in graph.get_operations()
            if op.type.startswith('Collective') and not op.type.startswith(_SETUP)]


def collective(op: Any) -> CollectiveEntry:
    """What must be the same at the other end of a collective op."""
    moved = op.outputs[0] if op.type in _RECEIVES or not op.inputs else op.inputs[0]
    # A receiver has no data among its inputs, so that the keys begin earlier.
    first = 0 if op.type in _RECEIVES else 1
    keys = tuple(_key(op, name, first + position)
                 for position, name in enumerate(('group_size', 'group_key', 'instance_key')))
    return CollectiveEntry(_TWINS.get(op.type, op.type), op.name, moved.dtype.base_dtype.name,
                           shape_text(moved.shape), keys)  # type: ignore[arg-type]


def _key(op: Any, name: str, position: int) -> int:
    try:
        return int(op.get_attr(name))
    except ValueError:  # the second version of these ops has it as an input
        pass
    if position >= len(op.inputs):
        return -1
    value = tf.get_static_value(op.inputs[position])
    return -1 if value is None else int(value)

"""What a serving receiver takes, and how a request is made from rows of the job's own input."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, Optional

import numpy as np

from estimator_spec_ext.compat import export_internals, graphs, tf

_PARSERS = ('ParseExample', 'ParseExampleV2')


@dataclasses.dataclass(frozen=True)
class Receiver:
    """How the features of a receiver come from its tensors.

    Attributes:
      inputs: names of the receiver's tensors.
      raw: name of the tensor by feature, where each feature is one of the tensors as it is.
      examples: key in a tf.train.Example by feature, where one tensor holds serialized examples.
      bare: whether the features are one tensor and no dict.
      dynamic: whether the first dimension of every tensor is open.
    """

    inputs: tuple[str, ...]
    raw: Optional[Mapping[str, str]] = None
    examples: Optional[Mapping[str, str]] = None
    bare: bool = False
    dynamic: bool = True

    @property
    def known(self) -> bool:
        """Whether a request can be made from features."""
        return self.dynamic and (self.raw is not None or self.examples is not None)

    def request(self, features: Any) -> Optional[dict[str, np.ndarray]]:
        """Arrays by input for a batch of features; None when the features do not fit."""
        values = {'': features} if self.bare else features
        if not isinstance(values, dict):
            return None
        keys = self.raw if self.raw is not None else self.examples
        if not self.known or keys is None or set(keys) - set(values):
            return None
        if self.raw is not None:
            made = {name: np.asarray(values[key]) for key, name in self.raw.items()}
            return made if set(made) == set(self.inputs) else None
        return {self.inputs[0]: _serialized({name: np.asarray(values[key])
                                             for key, name in keys.items()})}


def of_tap(receiver: Any, features: Any) -> Receiver:
    """How `features` come from `receiver`, read from the graph.

    Args:
      receiver: what the serving_input_receiver_fn returned.
      features: what model_fn got.
    """
    tensors = export_internals.receiver_map(receiver.receiver_tensors)
    names = tuple(sorted(map(str, tensors)))
    plain = all(isinstance(tensor, tf.Tensor) for tensor in tensors.values())
    bare = not isinstance(features, dict)
    given = {'': features} if bare else features
    if not plain or not all(isinstance(value, tf.Tensor) for value in given.values()):
        return Receiver(names, bare=bare)
    dynamic = all(map(_has_open_batch, tensors.values()))
    sources = {_source(tensor): name for name, tensor in tensors.items()}
    if all(_source(value) in sources for value in given.values()):
        raw = {key: sources[_source(value)] for key, value in given.items()}
        return Receiver(names, raw=raw, bare=bare, dynamic=dynamic)
    examples = _parsed(tensors, given)
    return Receiver(names, examples=examples, bare=bare, dynamic=dynamic)


def _has_open_batch(tensor: Any) -> bool:
    rank = tensor.shape.rank
    return rank is None or rank > 0 and tensor.shape.as_list()[0] is None


def _source(tensor: Any) -> Any:
    while tensor.op.type == 'Identity' and tensor.op.inputs:
        tensor = tensor.op.inputs[0]
    return tensor.op, tensor.value_index


def _parsed(tensors: Mapping[str, Any], given: Mapping[str, Any]) -> Optional[dict[str, str]]:
    """The key in an Example of each feature, where all are dense outputs of one parser."""
    if len(tensors) != 1:
        return None
    only, = tensors.values()
    found = {}
    for key, value in given.items():
        op, index = _source(value)
        if op.type not in _PARSERS or _source(op.inputs[0]) != _source(only):
            return None
        name = _dense_key(op, index)
        if name is None:
            return None
        found[key] = name
    return found


def _dense_key(op: Any, index: int) -> Optional[str]:
    if op.type == 'ParseExampleV2':
        sparse = graphs.attribute(op, 'num_sparse', 0)
        keys = tf.get_static_value(op.inputs[3])
    else:
        sparse = graphs.attribute(op, 'Nsparse', 0)
        dense = graphs.attribute(op, 'Ndense', 0)
        first = 2 + sparse
        keys = [tf.get_static_value(tensor) for tensor in op.inputs[first:first + dense]]
        keys = None if any(key is None for key in keys) else [key.item() for key in keys]
    position = index - 3 * sparse
    if keys is None or not 0 <= position < len(keys):
        return None
    return tf.compat.as_str_any(keys[position])


def _serialized(values: Mapping[str, np.ndarray]) -> np.ndarray:
    rows = len(next(iter(values.values())))
    texts = []
    for row in range(rows):
        features = {key: _feature(np.ravel(value[row])) for key, value in values.items()}
        texts.append(tf.train.Example(
            features=tf.train.Features(feature=features)).SerializeToString())
    return np.array(texts, object)


def _feature(values: np.ndarray) -> Any:
    if values.dtype.kind == 'f':
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    if values.dtype.kind in 'iub':
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values.astype(np.int64)))
    return tf.train.Feature(bytes_list=tf.train.BytesList(
        value=[tf.compat.as_bytes(value) for value in values]))

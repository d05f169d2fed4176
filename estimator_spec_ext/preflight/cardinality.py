"""How many batches an input function gives, read from its graph without running it."""

from __future__ import annotations

import math
from typing import Any, Union

from estimator_spec_ext.compat import estimator_internals, tf, v1

INFINITE, UNKNOWN = 'infinite', 'unknown'
Cardinality = Union[int, str]

# Datasets that give as many elements as they get.
_SAME = frozenset({
    'MapDataset', 'ParallelMapDataset', 'ParallelMapDatasetV2', 'PrefetchDataset', 'OptionsDataset',
    'ShuffleDataset', 'ShuffleDatasetV2', 'ShuffleDatasetV3', 'CacheDataset', 'CacheDatasetV2',
    'ModelDataset', 'OptimizeDataset', 'OptimizeDatasetV2', 'MaxIntraOpParallelismDataset',
    'PrivateThreadPoolDataset', 'ScanDataset', 'AssertNextDataset', 'LatencyStatsDataset',
    'SetStatsAggregatorDataset', 'AssertCardinalityDataset', 'NonSerializableDataset',
    'ParseExampleDataset', 'ParseExampleDatasetV2', 'BytesProducedStatsDataset',
    'MapAndBatchDataset', 'ExperimentalMapAndBatchDataset'})
_BATCHES = frozenset({'BatchDataset', 'BatchDatasetV2', 'PaddedBatchDataset',
                      'PaddedBatchDatasetV2', 'ParallelBatchDataset', 'MapAndBatchDataset',
                      'ExperimentalMapAndBatchDataset'})
_MAX_DEPTH = 200


def of_input(result: Any) -> Cardinality:
    """How many batches Estimator gets from what an input function returned.

    Args:
      result: a dataset or tensors of the current graph.

    Returns:
      A number, 'infinite' or 'unknown'. Tensors that come from no dataset and no queue never end.

    Example:
      >>> with tf.Graph().as_default():
      ...     of_input(tf.data.Dataset.range(10).repeat(2).batch(3))
      7
    """
    if isinstance(result, tf.data.Dataset):
        return _of_variant(estimator_internals.dataset_variant(result), 0)
    tensors = [item for item in tf.nest.flatten(result, expand_composites=True)
               if isinstance(item, tf.Tensor)]
    graph = v1.get_default_graph()
    if not tensors or graph.get_collection(v1.GraphKeys.QUEUE_RUNNERS):
        return UNKNOWN
    seen: set[Any] = set()
    stack = [tensor.op for tensor in tensors]
    while stack:
        op = stack.pop()
        if op in seen:
            continue
        seen.add(op)
        if (op.type.startswith(('Iterator', 'OneShotIterator', 'Queue', 'Reader', 'PyFunc',
                                'EagerPyFunc', 'MultiDeviceIterator', 'Placeholder'))
                or op.type in ('DatasetToSingleElement', 'StatefulPartitionedCall')):
            return UNKNOWN
        stack.extend(tensor.op for tensor in op.inputs)
    return INFINITE


def _of_variant(tensor: Any, depth: int) -> Cardinality:
    op = tensor.op
    if depth > _MAX_DEPTH:
        return UNKNOWN
    inputs = [item for item in op.inputs if item.dtype == tf.variant]
    kind = op.type
    if kind == 'TensorDataset':
        return 1
    if kind == 'TensorSliceDataset':
        return _slices(op)
    if kind == 'RangeDataset':
        return _range(op)
    if kind == 'ZipDataset':
        return _smallest([_of_variant(item, depth + 1) for item in inputs])
    if kind == 'ConcatenateDataset':
        return _sum([_of_variant(item, depth + 1) for item in inputs])
    if len(inputs) != 1:
        return UNKNOWN
    inner = _of_variant(inputs[0], depth + 1)
    if kind in ('RepeatDataset', 'ShuffleAndRepeatDataset', 'ShuffleAndRepeatDatasetV2'):
        return _repeated(inner, _constant(op.inputs[1 if kind == 'RepeatDataset' else 4]))
    if kind == 'TakeDataset':
        return _taken(inner, _constant(op.inputs[1]))
    if kind == 'SkipDataset':
        count = _constant(op.inputs[1])
        return _shifted(inner, count)
    if kind in _BATCHES:
        return _batched(op, inner)
    if kind in _SAME:
        return inner
    return UNKNOWN


def _constant(tensor: Any) -> Any:
    value = tf.get_static_value(tensor)
    return None if value is None else value.item() if hasattr(value, 'item') else value


def _slices(op: Any) -> Cardinality:
    for tensor in op.inputs:
        rows = tf.compat.dimension_value(tensor.shape[0]) if tensor.shape.rank else None
        if rows is not None and tensor.dtype != tf.variant:
            return int(rows)
    return UNKNOWN


def _range(op: Any) -> Cardinality:
    start, stop, step = (_constant(tensor) for tensor in op.inputs[:3])
    if None in (start, stop, step) or step == 0:
        return UNKNOWN
    return max(0, math.ceil((stop - start) / step))


def _smallest(parts: list[Cardinality]) -> Cardinality:
    if all(part == INFINITE for part in parts):
        return INFINITE
    if UNKNOWN in parts:
        return UNKNOWN
    return min(part for part in parts if isinstance(part, int))


def _sum(parts: list[Cardinality]) -> Cardinality:
    if INFINITE in parts:
        return INFINITE
    if UNKNOWN in parts:
        return UNKNOWN
    return sum(part for part in parts if isinstance(part, int))


def _repeated(inner: Cardinality, count: Any) -> Cardinality:
    if inner == 0 or count == 0:
        return 0
    if count is None:
        return INFINITE if inner == INFINITE else UNKNOWN
    if count < 0 or inner == INFINITE:
        return INFINITE
    return inner * count if isinstance(inner, int) else UNKNOWN


def _taken(inner: Cardinality, count: Any) -> Cardinality:
    if count is None:
        return UNKNOWN
    if count < 0:
        return inner
    if inner == INFINITE:
        return int(count)
    return min(inner, int(count)) if isinstance(inner, int) else UNKNOWN


def _shifted(inner: Cardinality, count: Any) -> Cardinality:
    if inner == INFINITE and count is not None and count >= 0:
        return INFINITE
    if count is None or not isinstance(inner, int):
        return UNKNOWN
    return 0 if count < 0 else max(0, inner - int(count))


def _batched(op: Any, inner: Cardinality) -> Cardinality:
    if not isinstance(inner, int):
        return inner
    size, drop = _batch_arguments(op)
    if not size or drop is None:
        return UNKNOWN
    return inner // size if drop else -(-inner // size)


def _batch_arguments(op: Any) -> tuple[Any, Any]:
    """Batch size and drop_remainder; None for what is not known."""
    names = [argument.name for argument in op.op_def.input_arg]
    if 'batch_size' not in names:
        return None, None
    # Only other_arguments, a list, may stand before it.
    size = _constant(op.inputs[names.index('batch_size') + len(op.inputs) - len(names)]
                     if names.index('batch_size') > 1 else op.inputs[names.index('batch_size')])
    if 'drop_remainder' not in names:
        return size, False
    return size, _constant(op.inputs[len(op.inputs) - len(names) + names.index('drop_remainder')])


def ends_evenly(result: Any) -> bool:
    """Whether all batches of a dataset are known to be of one size, the last one too.

    Args:
      result: a dataset of the current graph, or anything else.

    Returns:
      False when it is not known.

    Example:
      >>> with tf.Graph().as_default():
      ...     ends_evenly(tf.data.Dataset.range(9).batch(3).prefetch(1))
      True
    """
    if not isinstance(result, tf.data.Dataset):
        return False
    op = estimator_internals.dataset_variant(result).op
    while op.type not in _BATCHES:
        inputs = [item for item in op.inputs if item.dtype == tf.variant]
        if len(inputs) != 1 or op.type not in _SAME | {'RepeatDataset', 'TakeDataset'}:
            return False
        op = inputs[0].op
    size, drop = _batch_arguments(op)
    rows = _of_variant(next(item for item in op.inputs if item.dtype == tf.variant), 0)
    return bool(drop) or bool(size) and isinstance(rows, int) and rows % size == 0

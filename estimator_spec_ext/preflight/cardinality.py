"""How many batches an input function gives, read from its graph without running it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Optional, Union

from estimator_spec_ext.compat import estimator_internals, functions, graphs, tf
from estimator_spec_ext.graph import DEQUEUE_TYPES
from estimator_spec_ext.preflight import queues

# FINITE: it ends, and only the data know when.
INFINITE, FINITE, UNKNOWN = queues.INFINITE, queues.FINITE, queues.UNKNOWN
Cardinality = Union[int, str]

# Datasets that give as many elements as they get.
_SAME = frozenset({
    'MapDataset', 'ParallelMapDataset', 'ParallelMapDatasetV2', 'PrefetchDataset', 'OptionsDataset',
    'ShuffleDataset', 'ShuffleDatasetV2', 'ShuffleDatasetV3', 'CacheDataset', 'CacheDatasetV2',
    'ModelDataset', 'OptimizeDataset', 'OptimizeDatasetV2', 'MaxIntraOpParallelismDataset',
    'PrivateThreadPoolDataset', 'ScanDataset', 'AssertNextDataset', 'LatencyStatsDataset',
    'SetStatsAggregatorDataset', 'AssertCardinalityDataset', 'NonSerializableDataset',
    'ParseExampleDataset', 'ParseExampleDatasetV2', 'RewriteDataset',
    'BytesProducedStatsDataset', 'MapAndBatchDataset', 'ExperimentalMapAndBatchDataset'})
# Datasets that have another number of elements than they get, and an end where those have one.
_AS_LONG = frozenset({
    'FilterDataset', 'ParallelFilterDataset', 'FilterByLastComponentDataset', 'UnbatchDataset',
    'ExperimentalUnbatchDataset', 'WindowDataset', 'GroupByWindowDataset', 'RebatchDataset',
    'RebatchDatasetV2', 'DenseToSparseBatchDataset', 'SlidingWindowDataset',
    'ExperimentalSlidingWindowDataset', 'IgnoreErrorsDataset', 'ExperimentalIgnoreErrorsDataset'})
# Datasets that end when what they read ends, or before.
_ENDS_WITH_INPUT = _AS_LONG | {
    'TakeWhileDataset', 'ExperimentalTakeWhileDataset', 'GroupByReducerDataset', 'UniqueDataset',
    'SamplingDataset'}
_FILES = frozenset({
    'TextLineDataset', 'TFRecordDataset', 'TFRecordDatasetV2', 'FixedLengthRecordDataset',
    'FixedLengthRecordDatasetV2', 'CSVDataset', 'CSVDatasetV2', 'ExperimentalCSVDataset',
    'MatchingFilesDataset', 'ExperimentalMatchingFilesDataset', 'SqlDataset',
    'ExperimentalSqlDataset', 'SparseTensorSliceDataset', 'LMDBDataset', 'ExperimentalLMDBDataset'})
# Datasets of datasets: their function makes one for each element.
_FLATTEN = frozenset({
    'FlatMapDataset', 'InterleaveDataset', 'ParallelInterleaveDataset',
    'ParallelInterleaveDatasetV2', 'ParallelInterleaveDatasetV3', 'ParallelInterleaveDatasetV4',
    'LegacyParallelInterleaveDatasetV2', 'ExperimentalParallelInterleaveDataset'})
_BATCHES = frozenset({'BatchDataset', 'BatchDatasetV2', 'PaddedBatchDataset',
                      'PaddedBatchDatasetV2', 'ParallelBatchDataset', 'MapAndBatchDataset',
                      'ExperimentalMapAndBatchDataset'})
_GETS_NEXT = ('IteratorGetNext', 'IteratorGetNextSync')
_MAX_DEPTH = 200


@dataclasses.dataclass(frozen=True)
class SmallerBatch:
    """A batch that has fewer rows than the others.

    Attributes:
      rows: how many; None where only the data know whether there is such a batch at all.
      number: which batch it is at the earliest, counted from 1.
    """

    rows: Optional[int] = None
    number: int = 1

    def comes_within(self, batches: Optional[int]) -> bool:
        """Whether it may be among the first so many batches; None for all."""
        return batches is None or self.number <= batches


def of_input(result: Any, shard: Optional[int] = None) -> Cardinality:
    """How many batches Estimator gets from what an input function returned.

    Args:
      result: a dataset or tensors of the current graph.
      shard: which shard to count, -1 for the last; None for the one that the graph takes.

    Returns:
      A number, 'infinite', 'finite' for data that end at a place that is not known, or 'unknown'.
      Tensors that come from no dataset and no queue never end.

    Example:
      >>> with tf.Graph().as_default():
      ...     of_input(tf.data.Dataset.range(10).repeat(2).batch(3))
      7
    """
    if isinstance(result, tf.data.Dataset):
        return _Count(shard).of_variant(estimator_internals.dataset_variant(result), 0)
    tensors = [item for item in tf.nest.flatten(result, expand_composites=True)
               if isinstance(item, tf.Tensor)]
    if not tensors:
        return UNKNOWN
    seen: set[Any] = set()
    found: list[Cardinality] = []
    stack = [tensor.op for tensor in tensors]
    while stack:
        op = stack.pop()
        if op in seen:
            continue
        seen.add(op)
        if op.type in _GETS_NEXT:
            found.append(_Count(shard).of_iterator(op.inputs[0].op))
        elif op.type in DEQUEUE_TYPES:
            found.append(queues.of_dequeue(op))
        elif (op.type.startswith(('Iterator', 'OneShotIterator', 'Queue', 'Reader', 'PyFunc',
                                  'EagerPyFunc', 'MultiDeviceIterator', 'Placeholder'))
                or op.type in ('DatasetToSingleElement', 'StatefulPartitionedCall')):
            return UNKNOWN
        else:
            stack.extend(tensor.op for tensor in op.inputs)
    return _smallest(found)


def shards_differ(result: Any) -> bool:
    """Whether the shards of a dataset are known to have other numbers of batches.

    Args:
      result: a dataset or tensors of the current graph.

    Example:
      >>> with tf.Graph().as_default():
      ...     shards_differ(tf.data.Dataset.range(10).shard(3, 1).batch(2))
      False
      >>> with tf.Graph().as_default():
      ...     shards_differ(tf.data.Dataset.range(10).shard(3, 1))
      True
    """
    sizes = of_input(result, 0), of_input(result, -1)
    return all(isinstance(size, int) for size in sizes) and sizes[0] != sizes[1]


class _Count:
    """Counts the elements of datasets; of each shard, the one that is asked for."""

    def __init__(self, shard: Optional[int]) -> None:
        self._shard = shard

    def of_iterator(self, op: Any) -> Cardinality:
        """What an iterator goes through, when that is one dataset for certain."""
        if op.type == 'OneShotIterator':
            return self._of_body(op, 'dataset_factory', 0)
        made = [user for tensor in op.outputs for user in tensor.consumers()
                if user.type == 'MakeIterator']
        return self.of_variant(made[0].inputs[0], 0) if len(made) == 1 else UNKNOWN

    def of_variant(self, tensor: Any, depth: int) -> Cardinality:
        """The elements of the dataset behind a tensor."""
        op = tensor.op
        if depth > _MAX_DEPTH:
            return UNKNOWN
        kind = op.type
        if kind == 'TensorDataset':
            return 1
        if kind == 'TensorSliceDataset':
            return _slices(op)
        if kind == 'RangeDataset':
            return _range(op)
        if kind in _FILES:
            return FINITE
        if kind in ('RandomDataset', 'RandomDatasetV2'):
            return INFINITE
        inputs = [self.of_variant(item, depth + 1) for item in op.inputs
                  if item.dtype == tf.variant]
        if kind == 'ZipDataset':
            return _smallest(inputs)
        if kind == 'ConcatenateDataset':
            return _sum(inputs)
        if kind == 'DirectedInterleaveDataset':
            return _mixed(op, inputs)
        if kind in _FLATTEN and inputs:
            return self._flattened(op, inputs[0], depth)
        return self._of_one(op, inputs[0]) if len(inputs) == 1 else UNKNOWN

    def _of_one(self, op: Any, inner: Cardinality) -> Cardinality:
        """A dataset that reads one other."""
        kind = op.type
        if kind in ('RepeatDataset', 'ShuffleAndRepeatDataset', 'ShuffleAndRepeatDatasetV2'):
            return _repeated(inner, _constant(op.inputs[1 if kind == 'RepeatDataset' else 4]))
        if kind == 'TakeDataset':
            return _taken(inner, _constant(op.inputs[1]))
        if kind == 'SkipDataset':
            return _shifted(inner, _constant(op.inputs[1]))
        if kind == 'ShardDataset':
            return self._sharded(inner, _constant(op.inputs[1]), _constant(op.inputs[2]))
        if kind in _BATCHES:
            return _batched(op, inner)
        if kind in _ENDS_WITH_INPUT:
            if inner == INFINITE and kind in _AS_LONG:
                return INFINITE
            return FINITE if _ends(inner) else UNKNOWN
        return inner if kind in _SAME else UNKNOWN

    def _sharded(self, inner: Cardinality, count: Any, index: Any) -> Cardinality:
        if self._shard is not None and count:
            index = self._shard % count
        if not isinstance(inner, int):
            return inner
        if not count or index is None:
            return FINITE
        return max(0, -(-(inner - int(index)) // int(count)))

    def _flattened(self, op: Any, outer: Cardinality, depth: int) -> Cardinality:
        """One dataset after the other, or several by turns."""
        if outer == 0 or outer == INFINITE:
            return outer
        inner = self._of_body(op, 'f', depth)
        if inner == INFINITE and isinstance(outer, int):
            return INFINITE
        return FINITE if _ends(outer) and _ends(inner) else UNKNOWN

    def _of_body(self, op: Any, name: str, depth: int) -> Cardinality:
        """The dataset that a function gives."""
        outputs = functions.outputs_of_attribute(op, name)
        if len(outputs) != 1 or outputs[0].dtype != tf.variant:
            return UNKNOWN
        tensor = outputs[0]
        while tensor.op.type == 'Identity':
            tensor = tensor.op.inputs[0]
        return self.of_variant(tensor, depth + 1)


def _ends(size: Cardinality) -> bool:
    return isinstance(size, int) or size == FINITE


def _constant(tensor: Any) -> Any:
    value = tf.get_static_value(tensor)
    return None if value is None else value.item() if hasattr(value, 'item') else value


def _slices(op: Any) -> Cardinality:
    for tensor in op.inputs:
        rows = tf.compat.dimension_value(tensor.shape[0]) if tensor.shape.rank else None
        if rows is not None and tensor.dtype != tf.variant:
            return int(rows)
    return FINITE


def _range(op: Any) -> Cardinality:
    start, stop, step = (_constant(tensor) for tensor in op.inputs[:3])
    if None in (start, stop, step) or step == 0:
        return FINITE
    return max(0, math.ceil((stop - start) / step))


def _smallest(parts: list[Cardinality]) -> Cardinality:
    if all(part == INFINITE for part in parts):  # also of none
        return INFINITE
    if FINITE in parts or UNKNOWN in parts:
        return FINITE if any(map(_ends, parts)) else UNKNOWN
    return min(part for part in parts if isinstance(part, int))


def _mixed(op: Any, parts: list[Cardinality]) -> Cardinality:
    """Elements of several datasets, chosen by the first."""
    choice, *mixed = parts
    stops = graphs.attribute(op, 'stop_on_empty_dataset', False)
    if choice == INFINITE and (all if stops else any)(part == INFINITE for part in mixed):
        return INFINITE
    return FINITE if _ends(choice) or (any if stops else all)(map(_ends, mixed)) else UNKNOWN


def _sum(parts: list[Cardinality]) -> Cardinality:
    for kind in (INFINITE, UNKNOWN, FINITE):
        if kind in parts:
            return kind
    return sum(part for part in parts if isinstance(part, int))


def _repeated(inner: Cardinality, count: Any) -> Cardinality:
    if inner == 0 or count == 0:
        return 0
    if count is None:
        return INFINITE if inner == INFINITE else UNKNOWN
    if count < 0 or inner == INFINITE:
        return INFINITE
    return inner * count if isinstance(inner, int) else inner


def _taken(inner: Cardinality, count: Any) -> Cardinality:
    if count is None:
        return UNKNOWN
    if count < 0:
        return inner
    if inner == INFINITE:
        return int(count)
    return min(inner, int(count)) if isinstance(inner, int) else FINITE


def _shifted(inner: Cardinality, count: Any) -> Cardinality:
    if inner == INFINITE and count is not None and count >= 0:
        return INFINITE
    if count is None or not isinstance(inner, int):
        return FINITE if _ends(inner) else UNKNOWN
    return 0 if count < 0 else max(0, inner - int(count))


def _batched(op: Any, inner: Cardinality) -> Cardinality:
    if not isinstance(inner, int):
        return inner
    size, drop = _batch_arguments(op)
    if not size or drop is None:
        return FINITE
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


def smaller_batch(result: Any) -> Optional[SmallerBatch]:
    """The batch of a dataset that may have fewer rows than the others.

    Args:
      result: a dataset of the current graph, or anything else.

    Returns:
      None when all batches are known to be of one size.

    Example:
      >>> with tf.Graph().as_default():
      ...     smaller_batch(tf.data.Dataset.range(10).batch(3).repeat())
      SmallerBatch(rows=1, number=4)
    """
    found = _batching(result) if isinstance(result, tf.data.Dataset) else None
    if found is None:
        return None if of_input(result) == INFINITE else SmallerBatch()
    op, most, mixed = found
    size, drop = _batch_arguments(op)
    rows = _Count(None).of_variant(next(item for item in op.inputs if item.dtype == tf.variant), 0)
    if drop or rows == INFINITE:
        return None
    if drop is None or not size or not isinstance(rows, int):
        return SmallerBatch()
    full, left = divmod(rows, size)
    if not left or not full or full >= most and not mixed:
        return None
    return SmallerBatch(left, 1 if mixed else full + 1)


def _batching(dataset: Any) -> Optional[tuple[Any, float, bool]]:
    """The op that makes the batches, how many are taken, and whether they are shuffled."""
    op = estimator_internals.dataset_variant(dataset).op
    most, mixed = math.inf, False
    while op.type not in _BATCHES:
        inputs = [item for item in op.inputs if item.dtype == tf.variant]
        if len(inputs) != 1 or op.type not in _SAME | {'RepeatDataset', 'TakeDataset'}:
            return None
        if op.type == 'TakeDataset':
            taken = _constant(op.inputs[1])
            most = min(most, math.inf if taken is None or taken < 0 else taken)
        mixed = mixed or 'Shuffle' in op.type
        op = inputs[0].op
    return op, most, mixed

"""How many batches a queue gives, read from its runner without running it."""

from __future__ import annotations

from typing import Any, Union

from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.graph import DEQUEUE_TYPES

INFINITE, FINITE, UNKNOWN = 'infinite', 'finite', 'unknown'
# A queue that is filled by these ends when they do.
_ENDS = ('Iterator', 'OneShotIterator', 'PyFunc', 'EagerPyFunc', 'CountUpTo', 'ResourceCountUpTo',
         'Placeholder', 'Barrier', 'Stage', 'Unstage', 'MultiDeviceIterator',
         'DatasetToSingleElement', 'StatefulPartitionedCall', 'PartitionedCall')
_MAX_DEPTH = 20


def of_dequeue(op: Any, depth: int = 0) -> Union[int, str]:
    """How many batches an op that takes from a queue gives.

    Args:
      op: a dequeue op, or the read of a reader, which takes names of files from a queue.
      depth: how many queues were followed before.

    Returns:
      A number, 'infinite', 'finite' for an end at a place that is not known, or 'unknown'.
    """
    queue = op.inputs[1 if op.type.startswith('ReaderRead') else 0].op
    runners = [runner for runner in op.graph.get_collection(v1.GraphKeys.QUEUE_RUNNERS)
               if getattr(getattr(runner, 'queue', None), 'queue_ref', None) is not None
               and runner.queue.queue_ref.op is queue]
    if len(runners) != 1 or depth > _MAX_DEPTH:
        return UNKNOWN
    runner = runners[0]
    feeds = [feed for feed in getattr(runner, '_feed_fns', ()) if feed is not None]
    if feeds:
        return _of_feeds(op, feeds)
    enqueues = list(runner.enqueue_ops)
    return INFINITE if enqueues and all(_endless(enqueue, depth) for enqueue in enqueues) else (
        UNKNOWN)


def _of_feeds(op: Any, feeds: list[Any]) -> Union[int, str]:
    """What the functions of numpy_input_fn and pandas_input_fn give, one for each thread."""
    epochs: list[Any] = [getattr(feed, '_num_epochs', UNKNOWN) for feed in feeds]
    if all(count is None for count in epochs):
        return INFINITE
    rows: list[Any] = [getattr(feed, '_max', None) for feed in feeds]
    size = tf.get_static_value(op.inputs[1]) if len(op.inputs) > 1 else None
    if not all(isinstance(count, int) for count in epochs):
        return UNKNOWN
    if not all(isinstance(number, int) for number in rows) or not size:
        return FINITE
    total = sum(count * number for count, number in zip(epochs, rows))
    return int(total // size if 'Many' in op.type else -(-total // size))


def _endless(enqueue: Any, depth: int) -> bool:
    """Whether nothing that an enqueue op waits for can come to an end."""
    seen: set[Any] = set()
    stack = [enqueue]
    while stack:
        op = stack.pop()
        if op in seen:
            continue
        seen.add(op)
        if op.type in DEQUEUE_TYPES:
            if of_dequeue(op, depth + 1) != INFINITE:
                return False
        elif op.type.startswith(_ENDS):
            return False
        else:
            stack.extend([*(tensor.op for tensor in op.inputs), *op.control_inputs])
    return True

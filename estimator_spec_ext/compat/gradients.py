"""Which op stops the gradients on the way from a loss."""

from __future__ import annotations

from typing import Any, Optional

import tensorflow as tf
from tensorflow.python.framework import ops as _ops

_MAX_OPS = 20_000


def what_stops(loss: Any) -> Optional[tf.Operation]:
    """The op nearest to the loss through which no gradient passes, with a variable behind it.

    Args:
      loss: a tensor of a graph.

    Returns:
      The op; None when none is found, e.g. for a loss without any variable behind it.
    """
    seen = {loss.op}
    queue = [loss.op]
    while queue and len(seen) < _MAX_OPS:
        following = []
        for op in queue:
            if _stops(op):
                if _reads_variable(op):
                    return op
                continue
            for tensor in op.inputs:
                if tensor.op not in seen:
                    seen.add(tensor.op)
                    following.append(tensor.op)
        queue = following
    return None


def _stops(op: tf.Operation) -> bool:
    if op.type in ('VarHandleOp', 'VariableV2', 'ReadVariableOp', 'Const', 'Placeholder'):
        return False
    if any(tensor.dtype.base_dtype.is_floating or tensor.dtype == tf.resource
           for tensor in op.outputs):
        try:
            return _ops.get_gradient_function(op) is None
        except LookupError:
            return True
    return bool(op.inputs)  # integers, bools and strings carry no gradient


def _reads_variable(op: tf.Operation) -> bool:
    seen, stack = {op}, [op]
    while stack and len(seen) < _MAX_OPS:
        for tensor in stack.pop().inputs:
            if tensor.op.type in ('VarHandleOp', 'VariableV2'):
                return True
            if tensor.op not in seen:
                seen.add(tensor.op)
                stack.append(tensor.op)
    return False

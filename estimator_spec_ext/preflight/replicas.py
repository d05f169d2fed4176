"""Losses that are divided by the number of replicas although the optimizer does that already."""

from __future__ import annotations

import io
import linecache
import math
import tokenize
from typing import Any

from estimator_spec_ext.code_names import names_of
from estimator_spec_ext.compat import distribution, frames, tf
from estimator_spec_ext.compat import estimator_internals as internals

_NAME = 'num_replicas_in_sync'
_STEPS_BACK = 6
_SUMS = ('Add', 'AddV2', 'AddN')


def divided_loss(tap: internals.Tap) -> Any:
    """The op that divides the loss of a replica by the number of replicas; None without one.

    A division by 2 may mean anything: it counts only when model_fn, or a function that it calls,
    asks a strategy for the number, and the number is not written in that line.

    Args:
      tap: the build, in a replica of TRAIN.

    Returns:
      The op, where a TF1 optimizer divides the loss once more.
    """
    replicas = distribution.replica()[1]
    loss = tap.fields.get('loss')
    if (replicas < 2 or not isinstance(loss, tf.Tensor)
            or not internals.loss_is_scaled(tap.graph)):
        return None
    asks = _NAME in names_of(tap.model_fn)
    todo = [(loss.op, True, 0)]
    while todo:
        op, alone, depth = todo.pop()
        if frames.made_by_loss_function(op) and op.type in ('RealDiv', 'DivNoNan'):
            return op
        if asks and alone and math.isclose(_divisor(op), replicas, rel_tol=1e-6) and (
                not _is_written(op, replicas)):
            return op
        rest = [tensor.op for tensor in op.inputs if tf.get_static_value(tensor) is None]
        if depth < _STEPS_BACK and (op.type in _SUMS or len(rest) == 1 and op.type in (
                'Identity', 'Reshape', 'RealDiv', 'Mul', 'Squeeze', 'Sum')):
            todo += [(each, alone and op.type not in (*_SUMS, 'Sum'), depth + 1) for each in rest]
    return None


def _divisor(op: Any) -> float:
    """The constant by which an op divides; 0 when it does not."""
    if op.type not in ('RealDiv', 'DivNoNan', 'Mul') or len(op.inputs) != 2:
        return 0.
    for tensor in op.inputs if op.type == 'Mul' else op.inputs[1:]:
        value = tf.get_static_value(tensor)
        if value is not None and value.shape == () and float(value) > 0:
            return 1 / float(value) if op.type == 'Mul' else float(value)
    return 0.


def _is_written(op: Any, replicas: int) -> bool:
    """Whether the user's line that made an op has the number itself in it."""
    file, line = frames.op_site(op)
    text = linecache.getline(file, line).strip() if file and line else ''
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):  # a part of a statement
        return False
    for token in tokens:
        if token.type == tokenize.NUMBER and token.string.replace('.', '', 1).isdigit():
            number = float(token.string)
            if number in (replicas, 1 / replicas):
                return True
    return False

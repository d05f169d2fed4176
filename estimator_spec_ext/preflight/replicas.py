"""Losses that are divided by the number of replicas although the optimizer does that already."""

from __future__ import annotations

import math
import types
from typing import Any, Iterator

from estimator_spec_ext.compat import distribution, tf
from estimator_spec_ext.compat import estimator_internals as internals

_NAME = 'num_replicas_in_sync'
_AVERAGES = 'compute_average_loss'
_STEPS_BACK = 6


def divided_loss(tap: internals.Tap) -> Any:
    """The op that divides the loss of a replica by the number of replicas; None without one.

    A division by 2 may mean anything: it counts only when model_fn, or a function that it calls,
    asks a strategy for the number.

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
    names = set(_names(tap.model_fn, 0, set()))
    op = loss.op
    for _ in range(_STEPS_BACK):
        factor = _factor(op)
        if factor is not None and _NAME in names and math.isclose(
                max(factor, 1 / factor), replicas, rel_tol=1e-6):
            return op
        if op.type in ('RealDiv', 'DivNoNan') and factor is None and _AVERAGES in names:
            return op
        rest = [tensor.op for tensor in op.inputs if tf.get_static_value(tensor) is None]
        if op.type not in ('Identity', 'Reshape', 'RealDiv', 'Mul', 'Squeeze') or len(rest) != 1:
            return None
        op = rest[0]
    return None


def _factor(op: Any) -> Any:
    """The constant by which an op multiplies or divides; None when it does neither."""
    if op.type not in ('RealDiv', 'DivNoNan', 'Mul') or len(op.inputs) != 2:
        return None
    for tensor in op.inputs:
        value = tf.get_static_value(tensor)
        if value is not None and value.shape == () and float(value) > 0:
            return float(value)
    return None


def _names(function: Any, depth: int, seen: set[int]) -> Iterator[str]:
    """Names that a function uses, and those of the plain functions that it calls."""
    if isinstance(function, types.MethodType):
        function = function.__func__
    if not isinstance(function, types.FunctionType) or id(function) in seen or depth > 3:
        return
    seen.add(id(function))
    for code in _codes(function.__code__):
        yield from code.co_names
        for name in code.co_names:
            yield from _names(function.__globals__.get(name), depth + 1, seen)
    for cell in function.__closure__ or ():
        try:
            yield from _names(cell.cell_contents, depth + 1, seen)
        except ValueError:  # an empty cell
            continue


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)

"""Losses and gradients divided by the number of replicas, as the optimizer does already."""

from __future__ import annotations

import io
import linecache
import math
import tokenize
from typing import Any, Iterable

from estimator_spec_ext.code_names import names_of
from estimator_spec_ext.compat import distribution, frames, graphs, tf
from estimator_spec_ext.compat import estimator_internals as internals

_NAME = 'num_replicas_in_sync'
_STEPS_BACK = 6
_SUMS = ('Add', 'AddV2', 'AddN')


def divided_loss(tap: internals.Tap) -> Any:
    """The op that divides the loss or the gradients of a replica by the number of replicas.

    A division by 2 may mean anything: it counts only when model_fn, or a function that it calls,
    asks a strategy for the number, and the number is not written in that line.

    Args:
      tap: the build, in a replica of TRAIN.

    Returns:
      The op, where a TF1 optimizer divides the loss once more; None without one.
    """
    replicas = distribution.replica()[1]
    loss = tap.fields.get('loss')
    if (replicas < 2 or not isinstance(loss, tf.Tensor)
            or not internals.loss_is_scaled(tap.graph)):
        return None
    asks = _NAME in names_of(tap.model_fn)
    # What the optimizer was given need not be the loss that is reported.
    given = [op.inputs[0].op for op in tap.graph.get_operations()
             if op.type == 'Mul' and _divisor(op) and frames.made_by_loss_scaling(op)]
    found = _division(dict.fromkeys([loss.op, *given]), replicas, asks)
    return found if found is not None or not asks else _divided_gradient(tap.graph, replicas)


def _division(losses: Iterable[Any], replicas: int, asks: bool) -> Any:
    """The op that divides one of the losses."""
    todo = [(op, True, 0) for op in reversed(list(losses))]
    while todo:
        op, alone, depth = todo.pop()
        if frames.made_by_loss_function(op) and op.type in ('RealDiv', 'DivNoNan'):
            return op
        if asks and (alone and _divides(op, replicas) or _averages_over_all(op, replicas)):
            return op
        rest = [tensor.op for tensor in op.inputs if tf.get_static_value(tensor) is None]
        if depth < _STEPS_BACK and (op.type in _SUMS or len(rest) == 1 and op.type in (
                'Identity', 'Reshape', 'RealDiv', 'Mul', 'Squeeze', 'Sum')):
            todo += [(each, alone and op.type not in (*_SUMS, 'Sum'), depth + 1) for each in rest]
    return None


def _divides(op: Any, replicas: int) -> bool:
    return math.isclose(_divisor(op), replicas, rel_tol=1e-6) and not _is_written(op, replicas)


def _averages_over_all(op: Any, replicas: int) -> bool:
    """Whether a sum over the rows of a replica is divided by the number of rows of all."""
    divisor = _divisor(op)
    if op.inputs and op.inputs[0].op.type == 'Sum' and divisor:
        elements = op.inputs[0].op.inputs[0].shape.num_elements()
        return elements is not None and math.isclose(divisor, elements * replicas, rel_tol=1e-6)
    return False


def _divided_gradient(graph: tf.Graph, replicas: int) -> Any:
    """An op that divides a gradient by the number of replicas."""
    for op in graph.get_operations():
        # tf.gradients divides too, to differentiate a division, and so does clipping.
        if (op.type in ('RealDiv', 'Mul') and 'clip' not in op.name and not _is_of_gradients(op)
                and _divides(op, replicas)):
            if any(_is_of_gradients(tensor.op) for tensor in op.inputs):
                return op
    return None


def _is_of_gradients(op: Any) -> bool:
    return graphs.differentiated_op(op) is not None


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

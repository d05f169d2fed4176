"""Where an op was made: in whose call, and in which branch of v1 control flow."""

from __future__ import annotations

import os
from typing import Any, Iterable, Optional

from estimator_spec_ext.compat import frames

_ESTIMATOR = os.path.join('tensorflow_estimator', 'python', 'estimator', '')
# The function of `strict_model_fn` that calls a model_fn.
_WRAPPER = (frames._PACKAGE + 'strict_fn.py', 'wrapped')

# A frame as (file, line, function).
Frame = tuple[str, int, str]


def stack_of(op: Any) -> tuple[Frame, ...]:
    """The calls in which `op` was made, the outermost first; () when they are not known."""
    try:
        found = op.traceback
    except Exception:  # noqa: BLE001 - an op of an imported graph may have none
        return ()
    return tuple((frame.filename, frame.lineno, frame.name) for frame in found or ())


def nesting(stack: tuple[Frame, ...], reference: tuple[Frame, ...]) -> int:
    """How deep in the calls that made `reference` the op of `stack` was made.

    Two ops that one function makes, itself or in what it calls, share all frames around that
    function, and one more of the same function: what is made inside of model_fn nests deeper in it
    than what was made before model_fn was called.
    """
    depth = 0
    for ours, theirs in zip(stack, reference):
        if ours == theirs:
            depth += 1
            continue
        return depth + 1 if (ours[0], ours[2]) == (theirs[0], theirs[2]) else depth
    return depth


def is_beside(stack: tuple[Frame, ...], reference: tuple[Frame, ...]) -> bool:
    """Whether the function that made `reference` itself also made the op of `stack`.

    Either directly or in what it called.
    """
    last: Optional[int] = None
    for position, frame in enumerate(reference):
        if frames._is_users(frame[0]):
            last = position
    if last is None or len(stack) <= last:
        return False
    return (stack[:last] == reference[:last]
            and (stack[last][0], stack[last][2]) == (reference[last][0], reference[last][2]))


def made_by_model_fn(stack: tuple[Frame, ...]) -> Optional[bool]:
    """Whether Estimator or `strict_model_fn` was calling a model_fn.

    None when the op was made under neither.
    """
    if any((file, name) == _WRAPPER for file, _, name in stack):
        return True
    own = {name for file, _, name in stack if _ESTIMATOR in file}
    if not own:
        return None
    return '_call_model_fn' in own


def made_by_estimator(stack: Iterable[Frame]) -> bool:
    """Whether Estimator itself made the iterator over the Dataset that an input_fn returned."""
    return any(name == 'parse_input_fn_result' and _ESTIMATOR in file for file, _, name in stack)


def conditions(op: Any) -> list[tuple[Any, bool]]:
    """The v1 conds around `op`: each predicate, and the value of it for which `op` runs."""
    found = []
    context = op._get_control_flow_context()
    while context is not None:
        if context.IsCondContext():
            found.append((context.pred, bool(context.branch)))
        context = context.outer_context
    return found

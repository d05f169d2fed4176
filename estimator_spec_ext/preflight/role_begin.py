"""What hooks add to the graph of a task in `begin`, which a session would call.

Only `begin` of a hook whose code is seen to make variables or collective ops is called, on a copy
of the hook, in the graph of a role that nobody runs; never that of a hook which acts outside.
"""

from __future__ import annotations

import copy
from typing import Any, Optional, Sequence

from estimator_spec_ext.code_names import names_of
from estimator_spec_ext.compat import early_stopping, v1
from estimator_spec_ext.hooks import class_dict, class_name, is_stock, mro

_MAKES = frozenset({
    'get_variable', 'Variable', 'VariableV1', 'variable', 'model_variable', 'global_variable',
    'add_weight', 'add_variable', 'create_global_step', 'ExponentialMovingAverage', 'minimize',
    'apply_gradients', 'all_reduce', 'all_gather', 'batch_reduce', 'dense', 'Dense',
    'batch_normalization', 'zero_debias'})
_OUTSIDE = frozenset({
    'open', 'FileWriter', 'FileWriterCache', 'SummaryWriterCache', 'create_file_writer', 'gfile',
    'makedirs', 'mkdir', 'remove', 'rmtree', 'rename', 'system', 'popen', 'Popen', 'subprocess',
    'check_call', 'check_output', 'fork', 'kill', 'Thread', 'Process', 'Pool', 'Timer', 'socket',
    'connect', 'urlopen', 'requests', 'Server', 'Session', 'InteractiveSession', 'signal', 'exit',
    'putenv', 'sleep', 'input', 'restore', 'save'})


def begin(hooks: Sequence[Any], skipped: Sequence[str]) -> list[str]:
    """Lets hooks add to the default graph what they would add when a session starts.

    Args:
      hooks: in the order in which a session begins them.
      skipped: names of classes of hooks that are left alone.

    Returns:
      What could not be done, as sentences.
    """
    notes = []
    for hook in hooks:
        wanted = _wanted(hook)
        if wanted is None:
            continue
        name = class_name(hook)
        if not wanted or not {f'{kind.__module__}:{kind.__qualname__}' for kind in
                              mro(type(hook))}.isdisjoint(skipped):
            notes.append(f'what {name}.begin adds to the graph was not compared: it '
                         + ('is named in skip_hooks' if wanted else 'may act outside of it'))
            continue
        try:
            copy.copy(hook).begin()
        except Exception as error:  # noqa: BLE001 - a rehearsal, which has a session, says more
            notes.append(f'what {name}.begin adds to the graph was not compared: it raised '
                         f'{type(error).__name__}')
    return notes


def _wanted(hook: Any) -> Optional[bool]:
    """Whether `begin` can be called; None where it need not be."""
    if early_stopping.watched(hook) is not None:
        return True  # makes the variable by which the tasks tell each other
    found = next((class_dict(kind)['begin'] for kind in mro(type(hook))
                  if 'begin' in class_dict(kind)), None)
    if is_stock(hook) or found is None or found is v1.train.SessionRunHook.begin:
        return None
    names = names_of(found, type(hook))
    if not names & _MAKES:
        return None
    # A method of TensorFlow's own hooks, which `super` calls, may write files.
    return not names & _OUTSIDE and not any(
        is_stock_kind(kind) and 'begin' in class_dict(kind) for kind in mro(type(hook)))


def is_stock_kind(kind: type) -> bool:
    """Whether a class is one of TensorFlow's hooks that do something in `begin`."""
    return kind is not v1.train.SessionRunHook and kind.__module__.split('.')[0] in (
        'tensorflow', 'tensorflow_estimator')

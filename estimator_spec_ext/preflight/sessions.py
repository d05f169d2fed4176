"""Says what an exception of a session means, in one line and without values of tensors."""

from __future__ import annotations

import contextlib
import re
from typing import Any

from estimator_spec_ext import describe
from estimator_spec_ext.compat import estimator, frames, rehearsal_internals, tf
from estimator_spec_ext.graph import GraphIndex
from estimator_spec_ext.preflight.facts import Crash, Place

# Kinds of crashes in a session.
FINALIZED, NAN, RESTORE, UNINITIALIZED, HANG, FAILED = (
    'finalized', 'nan', 'restore', 'uninitialized', 'hang', 'failed')
# What a hook asks for, and the graph does not have; nothing else fetches or feeds by name.
NAME, FOREIGN, NONE = 'unknown name', 'foreign', 'none'
_WANTED = (
    (NAME, re.compile(r"The name '[^']*' (?:refers to (?:a Tensor which does not exist|"
                      r'an Operation not in the graph)|looks like a tensor name)')),
    (FOREIGN, re.compile(r'is not an element of this graph|must be from the same graph|should have '
                         r'graph attribute that is equal to current graph')),
    (NONE, re.compile(r'`fetch` = None has invalid type')))


def crash_of(error: BaseException, graph: Any) -> Crash:
    """What ended a session.

    Args:
      error: the exception.
      graph: the graph that ran; None when it is not known.

    Returns:
      A `Crash` of one of the kinds above.
    """
    text = str(error)
    hook, method = rehearsal_internals.hook_frame(error)
    details: dict[str, Any] = {}
    kind = FAILED
    if isinstance(error, estimator.NanLossDuringTrainingError):
        kind = NAN
    elif 'Graph is finalized' in text:
        kind = FINALIZED
    elif 'not found in checkpoint' in text or 'Restoring from checkpoint failed' in text:
        kind = RESTORE
    elif ('ninitialized' in text or 'not initialized' in text
          or 'did not make model ready' in text):
        kind = UNINITIALIZED
    else:
        kind = next((found for found, told in _WANTED if told.search(text)), FAILED)
    place = _place(error, graph)
    if kind in (NAME, FOREIGN, NONE):
        refused = rehearsal_internals.refused_hook(error)
        if refused is not None:
            hook, method = refused, 'before_run'
            site = frames.code_site(type(hook).before_run)
            place = Place(*site) if site[0] is not None else place
    if hook is not None:
        details = {'hook': type(hook).__name__, 'method': method}
    return Crash(kind, 'session', Exception(), session_text(error), place, details)


_NOISE = ('Graph execution error', 'Detected at node', 'File ', 'Node:', '[[', '0 successful',
          'Original stack trace', 'Errors may have originated', 'Input Source')

# Numbers that Python functions get one after the other; they say nothing.
_SERIAL = re.compile(r'\b(pyfunc|__iterator)_\d+')


def session_text(error: BaseException) -> str:
    """What an exception of a session says, without stack traces and without values of tensors."""
    name = type(error).__name__
    if not isinstance(error, tf.errors.OpError) or not error.message:
        return f'{name}: {describe.error_text(error)}'
    return session_line(name, str(error.message))


def session_line(name: str, message: str) -> str:
    """One line of an exception of this name with this message."""
    # TensorFlow 2.12 puts the frames of a stack first; they are indented further than all else.
    lines = [line.strip() for line in message.splitlines() if not line.startswith('    ')]
    told = [line for line in lines if line and 'root error' not in line
            and not line.startswith(_NOISE)]
    roots = [line for line in lines if line.startswith('(0)')]
    text = roots[0].split(':', 1)[-1] if roots else told[0] if told else ''
    text = _SERIAL.sub(r'\1', text)
    # Assertions print the tensors that they compared.
    text = text.split('] [', 1)[0].split('[[', 1)[0].replace('[', '').replace(']', '')
    missing = re.search(r'Key \S+ not found in checkpoint', message)
    text = missing.group() if missing else text.strip().rstrip(':.')
    return f'{name}: {text[:140]}' if text else name


def _place(error: BaseException, graph: Any) -> Place:
    op = getattr(error, 'op', None)
    if not isinstance(op, tf.Operation) and graph is not None:
        named = re.search(r'\{\{node ([^}\s]+)\}\}', str(error))
        op = _op_named(graph, named.group(1)) if named else None
    if isinstance(op, tf.Operation):
        file, line = frames.op_site(op)
        if file is not None:
            return Place(file, line)
    return Place(*frames.error_site(error))


def _op_named(graph: Any, name: str) -> Any:
    """The op of this name, or the one op that calls a function with a node of this name."""
    with contextlib.suppress(KeyError, ValueError):
        return graph.get_operation_by_name(name)
    callers = [op for op, called in GraphIndex(graph).calls.items()
               if any(node == name or node.endswith('/' + name) for node, _ in called.nodes)]
    return callers[0] if len(callers) == 1 else None

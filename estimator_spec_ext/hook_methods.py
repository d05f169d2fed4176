"""What the methods of a hook's class do to its attributes, read from their code and never run."""

from __future__ import annotations

import dataclasses
import dis
import types
from typing import Any, Iterator

from estimator_spec_ext.hooks import HookElement, class_dict, enclosed, mro, stored_attributes

# A session calls these in this order; what they assign replaces what a constructor stored.
_LIFECYCLE = ('begin', 'after_create_session', 'before_run', 'after_run')
_DYNAMIC = frozenset({'setattr', '__setattr__', '__dict__'})

_FILLING = frozenset({'append', 'appendleft', 'add', 'clear', 'extend', 'insert', 'pop', 'popleft',
                      'remove', 'setdefault', 'update'})


@dataclasses.dataclass(frozen=True)
class Assigned:
    """What a hook's class assigns while a session runs.

    Attributes:
      names: attributes that are assigned in the methods that a session calls, or in what these
        call.
      filled: attributes that `begin`, or what it calls, mentions where it fills a container.
      everything: True when the code does not tell, e.g. because it calls `setattr`.
    """

    names: frozenset[str]
    filled: frozenset[str]
    everything: bool


def is_refreshed(element: HookElement) -> bool:
    """Whether a hook assigns what it holds anew before it uses it, e.g. in `begin`.

    Standard hooks keep such things of the last session, like `_global_step_tensor`, and may be
    used again in the next graph all the same.

    Args:
      element: one of `hook_graph_elements`.

    Returns:
      True when the element may be a left-over, False when only a constructor can have stored it.
    """
    for holder in element.holders:
        assigned = assigned_by(type(holder))
        if assigned.everything or assigned.names.intersection(element.attributes):
            return True
        if element.in_container and assigned.filled.intersection(element.attributes):
            return True
    return False


def assigned_by(kind: type) -> Assigned:
    """What the class of a hook assigns while a session runs."""
    methods: dict[str, list[types.CodeType]] = {}
    unknown: set[str] = set()
    for base in mro(kind):
        for name, member in list(class_dict(base).items()):
            codes = list(_codes(member))
            if codes:
                methods.setdefault(name, []).extend(codes)
            elif name in _LIFECYCLE:
                unknown.add(name)
    codes = _reach(methods, _LIFECYCLE)
    mentioned = {name for code in codes for name in code.co_names}
    assigned = {instruction.argval for code in codes for instruction in dis.get_instructions(code)
                if instruction.opname == 'STORE_ATTR'}
    filled = {name for code in _reach(methods, _LIFECYCLE[:1]) if _fills(code)
              for name in code.co_names}
    return Assigned(frozenset(assigned), frozenset(filled), bool(unknown or mentioned & _DYNAMIC))


def begin_mentions(hook: Any, text: str) -> bool:
    """Whether `begin` of a hook, or what it calls, may make an op of this name.

    True too when an attribute of the hook is this text.
    """
    methods: dict[str, list[types.CodeType]] = {}
    for base in mro(type(hook)):
        for name, member in list(class_dict(base).items()):
            methods.setdefault(name, []).extend(_codes(member))
    strings = [value for code in _reach(methods, _LIFECYCLE[:1]) for value in code.co_consts]
    strings += dict(stored_attributes(hook)).values()
    return any(type(value) is str and value.rsplit('/', 1)[-1] == text for value in strings)


def _fills(code: types.CodeType) -> bool:
    """Whether code changes a list, dict or set."""
    return bool(_FILLING.intersection(code.co_names)) or any(
        instruction.opname in ('STORE_SUBSCR', 'DELETE_SUBSCR')
        for instruction in dis.get_instructions(code))


def _reach(methods: dict[str, list[types.CodeType]],
           roots: tuple[str, ...]) -> list[types.CodeType]:
    """The code of some methods and of those that they mention."""
    found: list[types.CodeType] = []
    todo, done = list(roots), set[str]()
    while todo:
        name = todo.pop()
        if name in done or name == '__init__':
            continue
        done.add(name)
        for code in methods.get(name, ()):
            found.append(code)
            todo.extend(called for called in code.co_names if called in methods)
    return found


def _codes(member: Any, depth: int = 0) -> Iterator[types.CodeType]:
    """The code of a method, of what is defined inside it, and of what a decorator wraps."""
    if depth > 3:
        return
    if type(member) in (staticmethod, classmethod):
        yield from _codes(member.__func__, depth + 1)
    elif type(member) is property:
        for accessor in (member.fget, member.fset):
            yield from _codes(accessor, depth + 1)
    elif type(member) is types.FunctionType:
        yield from _nested(member.__code__)
        for value in enclosed(member).values():
            yield from _codes(value, depth + 1)


def _nested(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if type(constant) is types.CodeType:
            yield from _nested(constant)

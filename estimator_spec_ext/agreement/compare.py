"""How the graphs of two roles differ, and whether that does harm."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Iterable, Iterator, Optional

from estimator_spec_ext.agreement.sheet import Sheet, VariableEntry

_SHOWN = 4


@dataclasses.dataclass(frozen=True)
class Difference:
    """What differs between the leader's graph and another role's.

    Attributes:
      harmful: False for what is worth a warning only.
      lines: the differences, in words.
      why: what would have happened.
      variables: names of the variables that differ, to look up where they are made.
    """

    harmful: bool
    lines: tuple[str, ...]
    why: str
    variables: tuple[str, ...] = ()


def difference(leader: str, ours: Sheet, other: str, theirs: Sheet) -> Optional[Difference]:
    """Compares the graph of a role with that of the leader.

    With collectives in either graph the roles are matched by the order in which things are made;
    without, variables on parameter servers are matched by their names.

    Args:
      leader: the leader's name, e.g. 'chief/0'.
      ours: the leader's sheet.
      other: the other role's name.
      theirs: the other role's sheet.

    Returns:
      A `Difference`, or None when there is none that matters.
    """
    if ours.collectives or theirs.collectives:
        return _in_order(leader, ours, other, theirs)
    return _by_name(leader, ours, other, theirs)


def _in_order(leader: str, ours: Sheet, other: str, theirs: Sheet) -> Optional[Difference]:
    first, second = ours.variables, theirs.variables
    pairs = list(itertools.zip_longest(first, second))
    known = {entry.name for entry in first} & {entry.name for entry in second}
    lines, names, swapped, renamed = [], [], False, []
    for position, (a, b) in enumerate(pairs):
        if a is not None and b is not None and (a.name, a.kind) == (b.name, b.kind):
            continue  # whether both train it, the collectives tell
        if a is None or b is None:
            lines.append(f'variable {position}: {_on(a, leader)}, {_on(b, other)}')
        elif a.name == b.name:
            lines.append(f'variable {position}: {a.name!r} is {_full(a)} on {leader}, '
                         f'{_full(b)} on {other}')
        elif a.kind == b.kind and not known & {a.name, b.name}:
            renamed.append(f'variable {position}: {_on(a, leader)}, {_on(b, other)}')
            continue
        else:
            swapped = swapped or a.kind == b.kind
            lines.append(f'variable {position}: {_on(a, leader)}, {_on(b, other)}')
        names += [entry.name for entry in (a, b) if entry is not None]
    if lines:
        why = ('values would be mixed without a word: variables are matched by the order in '
               'which they are made' if swapped and len(first) == len(second) else
               'the job would hang, or fail in a collective')
        return Difference(True, _limited(lines), why, _unique(names))
    lines = list(_collectives(leader, ours, other, theirs))
    if lines:
        return Difference(True, _limited(lines), 'the job would hang: a collective waits until '
                          'every role has reached it')
    if renamed:
        return Difference(False, _limited(renamed), 'values are matched by order; a checkpoint has '
                          f'the names of {leader}')
    return None


def _collectives(leader: str, ours: Sheet, other: str, theirs: Sheet) -> Iterator[str]:
    count, others = len(ours.collectives), len(theirs.collectives)
    if count != others:
        yield f'{count} collectives on {leader}, {others} on {other}'
    # By key, since after one that is missing all positions are shifted.
    first = {entry.keys: entry for entry in ours.collectives}
    second = {entry.keys: entry for entry in theirs.collectives}
    for keys in sorted({*first, *second}):
        a, b = first.get(keys), second.get(keys)
        if a is None or b is None or a.meets != b.meets:
            yield f'collective: {_on(a, leader)}, {_on(b, other)}'


def _by_name(leader: str, ours: Sheet, other: str, theirs: Sheet) -> Optional[Difference]:
    first = {entry.name: entry for entry in ours.variables}
    lines, names, why = [], [], ''
    for entry in theirs.variables:
        twin = first.get(entry.name)
        if twin is None:
            lines.append(f'variable {entry} is on {other} alone')
            why = f'nobody initialises it: {other} would wait, and {leader} go on without it'
        elif (twin.kind, twin.server) != (entry.kind, entry.server):
            lines.append(f'variable {entry.name!r}: {_full(twin)} on {leader}, '
                         f'{_full(entry)} on {other}')
            why = why or (f'{other} would wait for a variable that is elsewhere'
                          if twin.kind == entry.kind else f'{other} would fail at its first step')
        else:
            continue
        names.append(entry.name)
    return Difference(True, _limited(lines), why, _unique(names)) if lines else None


def _on(entry: object, role: str) -> str:
    return f'{entry} on {role}' if entry is not None else f'none on {role}'


def _full(entry: VariableEntry) -> str:
    extra = '' if entry.trainable else ' not trainable'
    return f'{entry.kind}{extra}' + (f' in {entry.server}' if entry.server else '')


def _limited(lines: list[str]) -> tuple[str, ...]:
    if len(lines) <= _SHOWN:
        return tuple(lines)
    return (*lines[:_SHOWN], f'and {len(lines) - _SHOWN} more')


def _unique(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))

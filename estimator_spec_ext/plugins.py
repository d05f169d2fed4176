"""Rules of other packages, found by the entry point group `estimator_spec_ext.rules`."""

from __future__ import annotations

import dataclasses
import functools
import re
from importlib import metadata
from typing import Any, Iterable, Optional

from absl import logging

from estimator_spec_ext import describe
from estimator_spec_ext.diagnostics import Severity
from estimator_spec_ext.rule import ALL_MODES, Rule

GROUP = 'estimator_spec_ext.rules'

_CODE = re.compile(r'[A-Z]{2,8}[0-9]{3,4}')
_OWN_CODES = 'ESX'
_SLUG = re.compile(r'[a-z0-9]+(-[a-z0-9]+)*')
_STAGES = ('spec', 'graph', 'modes', 'config', 'run', 'serve', 'roles')


@dataclasses.dataclass(frozen=True)
class PluginFault:
    """An entry point whose rules are left out, and why."""

    name: str
    text: str


@dataclasses.dataclass(frozen=True)
class Plugins:
    """The rules of other packages, and the entry points that are broken."""

    rules: tuple[Rule, ...] = ()
    faults: tuple[PluginFault, ...] = ()


@functools.cache
def load(own: tuple[Rule, ...]) -> Plugins:
    """Loads every entry point of the group, once in the life of the process.

    Args:
      own: the rules of this package, whose codes and slugs are taken.

    Returns:
      The `Plugins`. An entry point that does not load, or one of whose rules is refused by
      `fault_of`, gives a fault and no rule; nothing is raised.
    """
    rules: list[Rule] = []
    faults: list[PluginFault] = []
    for point in _entry_points():
        name = f'{point.name} = {point.value}'
        try:
            found = _rules_of(point.load())
            text = _first_fault(found, (*own, *rules))
        except (Exception, SystemExit) as error:  # whatever it is, training goes on
            text = f'{type(error).__name__}: {describe.error_text(error)}'
        if text is None:
            rules.extend(found)
            logging.vlog(1, 'estimator_spec_ext: %d rules of %s', len(found), name)
        else:
            faults.append(PluginFault(name, text))
    return Plugins(tuple(rules), tuple(faults))


def _entry_points() -> list[Any]:
    everything = metadata.entry_points()
    if hasattr(everything, 'select'):
        found: Iterable[Any] = everything.select(group=GROUP)
    else:  # Python 3.9
        found = everything.get(GROUP, ())
    # A folder that is on the path twice names its entry points twice.
    unique = {(point.name, point.value): point for point in found}
    return [unique[key] for key in sorted(unique)]


def _rules_of(value: Any) -> list[Any]:
    items = [value] if isinstance(value, (type, Rule)) else list(value)
    return [item() if isinstance(item, type) and issubclass(item, Rule) else item
            for item in items]


def _first_fault(found: list[Any], taken: Iterable[Rule]) -> Optional[str]:
    known = list(taken)
    for rule in found:
        text = fault_of(rule, known)
        if text is not None:
            return text
        known.append(rule)
    return None if found else 'it holds no rule'


def fault_of(rule: Any, taken: Iterable[Rule]) -> Optional[str]:
    """Why a rule of another package cannot be run.

    Args:
      rule: what an entry point gave.
      taken: the rules that are there already.

    Returns:
      One sentence; None when nothing is wrong.

    Example:
      >>> fault_of('a string', ())
      'a str is no estimator_spec_ext.Rule'
    """
    if not isinstance(rule, Rule):
        return f'a {type(rule).__name__} is no estimator_spec_ext.Rule'
    kind = type(rule).__name__
    code, slug = getattr(rule, 'code', None), getattr(rule, 'slug', None)
    if not isinstance(code, str) or not _CODE.fullmatch(code) or code.startswith(_OWN_CODES):
        return (f'{kind}.code must be capital letters, not {_OWN_CODES}, and three or four digits, '
                "e.g. 'ACME101'")
    if not isinstance(slug, str) or not _SLUG.fullmatch(slug):
        return f"{kind}.slug must be small letters and hyphens, e.g. 'loss-too-large'"
    for other in taken:
        if other.code == code or other.slug == slug:
            both = code if other.code == code else slug
            return f'{kind}: {both} is taken by {type(other).__module__}.{type(other).__name__}'
    if not isinstance(getattr(rule, 'severity', None), Severity):
        return f'{kind}.severity must be an estimator_spec_ext.Severity'
    if rule.stage not in _STAGES:
        return f'{kind}.stage must be one of {", ".join(_STAGES)}'
    if not set(rule.modes) <= set(ALL_MODES):
        return f"{kind}.modes must be of 'train', 'eval' and 'infer'"
    if type(rule).check is Rule.check:
        return f'{kind} must implement check'
    if not rule.summary:
        return f'{kind} has no docstring'
    return None

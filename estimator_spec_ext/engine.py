"""Runs the rules over the facts of a spec: facts -> rules -> findings -> report."""

from __future__ import annotations

import contextlib
import functools
import gc
import threading
import traceback
import weakref
from typing import Any, Iterator, Mapping, Optional, Sequence, Union

from absl import logging

from estimator_spec_ext import describe, registry
from estimator_spec_ext.compat import do_not_convert, tf
from estimator_spec_ext.diagnostics import (
    Finding,
    Report,
    Severity,
    Skipped,
    Suppressed,
    sorted_findings,
)
from estimator_spec_ext.facts import Crash, SpecFacts
from estimator_spec_ext.reports.text import count_text
from estimator_spec_ext.rule import Rule

SPEC_STAGES = ('spec', 'stock', 'graph', 'tool')

# The findings of the last specs of each graph, by replica; a spec itself can carry no state.
_FINDINGS: 'weakref.WeakKeyDictionary[Any, dict[int, tuple[Finding, ...]]]' = (
    weakref.WeakKeyDictionary())
# Suppressions written in the code of a model_fn, for those who check its specs again.
_REASONS: 'weakref.WeakKeyDictionary[Any, dict[str, tuple[str, bool]]]' = (
    weakref.WeakKeyDictionary())
_LOGGED: set[tuple[Any, ...]] = set()
_LOCK = threading.Lock()
_MAX_LOGGED = 10_000


def check(facts: Any, *, suppress: Any = None, stages: tuple[str, ...] = SPEC_STAGES,
          strict_unused: bool = False, family: Union[str, tuple[str, ...]] = '') -> Report:
    """Runs all rules of `stages` over `facts`.

    Args:
      facts: `SpecFacts`, or the facts of `preflight`; its `broken` and its tool state are filled.
      suppress: reason by slug or code, or None.
      stages: which stages, in this order.
      strict_unused: report suppressions that matched nothing as warnings, not as notes.
      family: how the codes begin of the rules that run, beside those about the tool itself, e.g.
        'ESX6'; the findings of a part of the rules are not kept for `findings`.

    Returns:
      A `Report`. A rule that crashes becomes a finding; this function does not raise.
    """
    run = _Run(facts, suppress, family)
    with paused_gc():
        for stage in stages:
            if stage == 'tool':
                facts.plugin_faults = [*facts.plugin_faults, *registry.plugin_faults()]
                if strict_unused:
                    facts.unused_suppressions = run.unused()
            for rule in run.chosen(stage):
                run.rule(rule)
    report = run.report('graph' if 'graph' in stages else 'spec')
    if logging.vlog_is_on(1):
        logging.vlog(1, 'estimator_spec_ext: %s: %d rules, %s', facts.mode_text or 'job',
                     len(report.rules_run), count_text(report))
    if facts.graph is not None and not family:
        remember(facts.graph, facts.replica[0], report.findings)
        _remember_reasons(facts.graph, suppress, report)
    return report


class _Run:
    """One pass of the rules over one set of facts."""

    def __init__(self, facts: SpecFacts, suppress: Any,
                 family: Union[str, tuple[str, ...]]) -> None:
        self._facts = facts
        self._family = family
        # Without a graph, rules are skipped for want of it, one by one.
        self._given = None if family or facts.graph is None else getattr(facts, 'given', None)
        self._reasons, facts.suppression_faults = read_suppressions(suppress)
        self._used: set[str] = set()
        self._findings: list[Finding] = []
        self._suppressed: list[Suppressed] = []
        self._ran: list[str] = []
        self._skipped: list[Skipped] = []

    def chosen(self, stage: str) -> Sequence[Rule]:
        """The rules of a stage that have anything to look at; notes which have not."""
        choice = registry.rules_for(stage, self._facts.mode_text, self._given)
        self._skipped += choice.skipped
        self._ran += choice.idle
        if self._family and stage != 'tool':
            return [rule for rule in choice.rules if rule.code.startswith(self._family)]
        return choice.rules

    def rule(self, rule: Rule) -> None:
        """Runs one rule, or notes why not."""
        facts = self._facts
        if rule.stage == 'graph':
            reason = self._reason_to_skip(rule)
            if reason:
                self._skipped.append(_skipped(rule.slug, reason, facts.mode_text))
                return
        self._ran.append(rule.slug)
        try:
            found = list(rule.check(facts))
        except Exception as error:  # a fault of ours must not stop the user's training
            if rule.stage == 'tool':
                raise
            facts.crashes.append(_crash(rule, error))
            return
        for finding in found:
            self._take(rule, finding)

    def _reason_to_skip(self, rule: Rule) -> str:
        facts = self._facts
        if facts.graph is None:
            return 'no graph: the spec is built eagerly'
        broken = facts.broken and facts.broken.intersection(rule.needs)
        return f'needs {", ".join(sorted(broken))}' if broken else ''

    def _take(self, rule: Rule, finding: Finding) -> None:
        name = rule.slug if rule.slug in self._reasons else rule.code
        if name in self._reasons and rule.stage not in ('stock', 'tool'):
            self._used.add(name)
            self._suppressed.append(Suppressed(finding, self._reasons[name]))
            return
        self._findings.append(finding)
        if finding.severity is Severity.ERROR and rule.stage == 'spec':
            field = finding.where.base_field or ''
            self._facts.named.add(field)
            if rule.breaks:
                self._facts.broken.add(field)

    def unused(self) -> list[str]:
        """Suppressions of rules that ran and matched nothing."""
        ran = set(self._ran)
        return sorted(name for name in self._reasons
                      if name not in self._used
                      and getattr(registry.find(name), 'slug', None) in ran)

    def report(self, depth: str) -> Report:
        """What was found."""
        return Report(
            findings=sorted_findings(self._findings), suppressed=tuple(self._suppressed),
            rules_run=tuple(sorted(set(self._ran))), rules_skipped=tuple(self._skipped),
            depth=depth)


@functools.lru_cache(maxsize=4096)
def _skipped(slug: str, reason: str, mode: Optional[str]) -> Skipped:
    return Skipped(slug, reason, mode)


def read_suppressions(suppress: Any) -> tuple[dict[str, str], list[tuple[str, str]]]:
    """Splits suppressions into good ones and faults.

    Args:
      suppress: a mapping from slug or code to the reason, or None.

    Returns:
      The reasons by name, and (name, what is wrong) for the others.
    """
    if suppress is None:
        return {}, []
    if not isinstance(suppress, Mapping):
        return {}, [('suppress', f'is a {type(suppress).__name__}, not a mapping '
                                 'from the name of a rule to the reason')]
    reasons: dict[str, str] = {}
    faults: list[tuple[str, str]] = []
    try:
        items = list(suppress.items())
    except Exception as error:  # noqa: BLE001 - a mapping of the user's
        return {}, [('suppress', f'cannot be read: {describe.error_text(error)}')]
    for name, reason in items:
        if not isinstance(name, str) or registry.find(name) is None:
            near = registry.nearest(name) if isinstance(name, str) else ()
            shown = name if isinstance(name, str) else f'a {type(name).__name__}'
            guess = f'; the nearest is {near[0]}' if near else ''
            faults.append((shown, f'names no rule{guess}'))
        elif not isinstance(reason, str) or not reason.strip():
            faults.append((name, 'gives no reason'))
        else:
            reasons[name] = reason
    return reasons, faults


def _crash(rule: Rule, error: Exception) -> Crash:
    frames = traceback.extract_tb(error.__traceback__)
    last = frames[-1] if frames else None
    return Crash(rule.slug, f'{type(error).__name__}: {describe.error_text(error, 200)}',
                 last.filename if last else None, last.lineno if last else None)


@contextlib.contextmanager
def paused_gc() -> Iterator[None]:
    """Keeps the garbage collector from looking through what is made meanwhile.

    Reading a large graph makes many small objects; collecting in between costs more than reading.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def remember(graph: tf.Graph, replica_id: int, found: tuple[Finding, ...]) -> None:
    """Keeps the findings of the last spec of a replica in `graph`."""
    with _LOCK:
        if replica_id == 0:
            _FINDINGS[graph] = {}
        _FINDINGS.setdefault(graph, {})[replica_id] = found


@do_not_convert
def findings(graph: Any = None) -> tuple[Finding, ...]:
    """The findings of the last specs that were built in a graph.

    Args:
      graph: a `tf.Graph`; None for the default graph.

    Returns:
      `Finding`s in the stable order; () when no strict spec was built there. Under a strategy,
      those of every replica.

    Example:
      >>> findings(tf.Graph())
      ()
    """
    graph = tf.compat.v1.get_default_graph() if graph is None else graph
    with _LOCK:
        parts = _FINDINGS.get(graph, {})
        return sorted_findings(finding for found in parts.values() for finding in found)


def _remember_reasons(graph: tf.Graph, suppress: Any, report: Report) -> None:
    if suppress is not None:
        good, _ = read_suppressions(suppress)
        matched = {name for item in report.suppressed
                   for name in (item.finding.slug, item.finding.code)}
        with _LOCK:
            kept = _REASONS.setdefault(graph, {})
            for name, reason in good.items():
                kept[name] = (reason, name in matched or kept.get(name, ('', False))[1])


def reasons(graph: Optional[tf.Graph]) -> dict[str, tuple[str, bool]]:
    """The suppressions with which specs were built in a graph.

    Args:
      graph: the graph, or None.

    Returns:
      By slug or code the reason, and whether a finding matched it.
    """
    with _LOCK:
        return dict(_REASONS.get(graph, {})) if graph is not None else {}


def log_warnings(report: Report) -> None:
    """Logs each warning of a report once in the life of the process."""
    for finding in report.warnings:
        where = finding.where
        key = (finding.code, where.mode, where.field, where.file, where.line, finding.message)
        with _LOCK:
            fresh = key not in _LOGGED and len(_LOGGED) < _MAX_LOGGED
            _LOGGED.add(key) if fresh else None
        if fresh:
            logging.warning('%s', finding.to_text())

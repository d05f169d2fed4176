"""The report as SARIF 2.1.0, the form that code-scanning tools read."""

from __future__ import annotations

import json
import os
from typing import Any

from estimator_spec_ext import registry
from estimator_spec_ext.diagnostics import Finding, Report, Severity
from estimator_spec_ext.version import __version__

_SCHEMA = 'https://json.schemastore.org/sarif-2.1.0.json'
_LEVELS = {Severity.ERROR: 'error', Severity.WARNING: 'warning', Severity.INFO: 'note'}


def render(report: Report) -> str:
    """The report as a SARIF log with one run; the same report gives the same bytes."""
    codes = sorted({finding.code for finding in report.findings}
                   | {item.finding.code for item in report.suppressed})
    rules = [rule for rule in registry.rules() if rule.code in codes]
    positions = {rule.code: position for position, rule in enumerate(rules)}
    results = [_result(finding, positions) for finding in report.findings]
    for item in report.suppressed:
        result = _result(item.finding, positions)
        result['suppressions'] = [{'kind': 'inSource', 'justification': item.reason}]
        results.append(result)
    log = {
        '$schema': _SCHEMA,
        'version': '2.1.0',
        'runs': [{
            'tool': {'driver': {
                'name': 'estimator_spec_ext',
                'version': __version__,
                'rules': [_rule(rule) for rule in rules],
            }},
            'columnKind': 'unicodeCodePoints',
            'results': results,
        }],
    }
    return json.dumps(log, indent=2, sort_keys=True) + '\n'


def _rule(rule: Any) -> dict[str, Any]:
    return {
        'id': rule.code,
        'name': ''.join(part.title() for part in rule.slug.split('-')),
        'shortDescription': {'text': rule.summary},
        'fullDescription': {'text': rule.documentation},
        'defaultConfiguration': {'level': _LEVELS[rule.severity]},
        'properties': {'slug': rule.slug, 'mistakes': list(rule.mistakes)},
    }


def _result(finding: Finding, positions: dict[str, int]) -> dict[str, Any]:
    where = finding.where
    text = finding.message + (f'. Fix: {finding.hint}' if finding.hint else '')
    result: dict[str, Any] = {
        'ruleId': finding.code,
        'level': _LEVELS[finding.severity],
        'message': {'text': text},
        'properties': {'slug': finding.slug, 'mode': where.mode_label, 'role': where.role},
    }
    if finding.code in positions:
        result['ruleIndex'] = positions[finding.code]
    location: dict[str, Any] = {}
    if where.file:
        location['physicalLocation'] = {
            'artifactLocation': _artifact(where.file),
            'region': {'startLine': max(where.line or 1, 1)},
        }
    names = [name for name in (where.field, where.op) if name]
    if names:
        location['logicalLocations'] = [{'fullyQualifiedName': name} for name in names]
    if location:
        result['locations'] = [location]
    return result


def _artifact(path: str) -> dict[str, str]:
    """Relative to the working directory where it lies below it, as code scanning wants."""
    here = os.getcwd()
    if path.startswith(here + os.sep):
        return {'uri': path[len(here) + 1:].replace(os.sep, '/'), 'uriBaseId': '%SRCROOT%'}
    return {'uri': 'file://' + path.replace(os.sep, '/')}

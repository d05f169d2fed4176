"""The report as SARIF 2.1.0, the form that code-scanning tools read."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from typing import Any, Optional

from estimator_spec_ext.diagnostics import Finding, Report, Severity
from estimator_spec_ext.reports import text
from estimator_spec_ext.version import __version__

SCHEMA = 'https://json.schemastore.org/sarif-2.1.0.json'
_LEVELS = {Severity.ERROR: 'error', Severity.WARNING: 'warning', Severity.INFO: 'note'}
_ROOT = 'SRCROOT'


def render(report: Report) -> str:
    """The report as one SARIF log with one run; the same report gives the same bytes."""
    findings = [*report.findings, *(item.finding for item in report.suppressed)]
    names = sorted({(finding.code, finding.slug) for finding in findings})
    numbers = {code: number for number, (code, _) in enumerate(names)}
    results = [_result(finding, numbers) for finding in report.findings]
    for item in report.suppressed:
        result = _result(item.finding, numbers)
        result['suppressions'] = [{'kind': 'inSource', 'justification': item.reason}]
        results.append(result)
    run: dict[str, Any] = {
        'tool': {'driver': {
            'name': 'estimator_spec_ext',
            'version': __version__,
            'semanticVersion': __version__,
            'rules': [_rule(code, slug) for code, slug in names],
        }},
        'originalUriBaseIds': {_ROOT: {'uri': pathlib.Path(os.getcwd()).as_uri() + '/'}},
        'columnKind': 'unicodeCodePoints',
        'results': results,
    }
    if report.notes:
        run['invocations'] = [{
            'executionSuccessful': True,
            'toolExecutionNotifications': [
                {'level': 'note', 'message': {'text': note}} for note in report.notes]}]
    log = {'$schema': SCHEMA, 'version': '2.1.0', 'runs': [run]}
    return json.dumps(log, indent=2, sort_keys=True) + '\n'


def _rule(code: str, slug: str) -> dict[str, Any]:
    # The rules themselves need TensorFlow; a report can be written without it.
    described: dict[str, Any] = {'id': code, 'name': slug}
    try:
        from estimator_spec_ext import registry
        rule = registry.find(code)
    except ImportError:
        rule = None
    if rule is not None:
        described['shortDescription'] = {'text': rule.summary + '.'}
        described['fullDescription'] = {'text': rule.documentation}
        described['help'] = {'text': rule.documentation}
        described['defaultConfiguration'] = {'level': _LEVELS[rule.severity]}
        described['properties'] = {'tags': ['tensorflow', 'estimator', rule.stage]}
    return described


def _result(finding: Finding, numbers: dict[str, int]) -> dict[str, Any]:
    where = finding.where
    parts = [finding.message + '.']
    if finding.hint:
        parts.append(f'Fix: {finding.hint}')
    logical = [{'name': name, 'kind': kind} for name, kind in (
        (where.mode_label, 'module'), (where.field, 'member'), (where.op, 'object'),
        (where.role, 'namespace')) if name]
    location: dict[str, Any] = {}
    physical = _physical(where.file, where.line)
    if physical is not None:
        location['physicalLocation'] = physical
    if logical:
        location['logicalLocations'] = logical
    result: dict[str, Any] = {
        'ruleId': finding.code,
        'ruleIndex': numbers[finding.code],
        'level': _LEVELS[finding.severity],
        'message': {'text': ' '.join(parts)},
        # Lines move; what was found, and where in the job, does not.
        'partialFingerprints': {'findingHash/v1': _fingerprint(finding)},
    }
    if location:
        result['locations'] = [location]
    if finding.path:
        result['codeFlows'] = [{'threadFlows': [{'locations': [
            {'location': {'logicalLocations': [{'name': name, 'kind': 'object'}]}}
            for name in finding.path]}]}]
    properties = {name: value for name, value in (
        ('expected', finding.expected), ('actual', finding.actual), ('mode', where.mode),
        ('role', where.role)) if value is not None}
    if properties:
        result['properties'] = properties
    return result


def _physical(file: Optional[str], line: Optional[int]) -> Optional[dict[str, Any]]:
    if not file:
        return None
    short = text.short_path(file)
    artifact: dict[str, Any] = {'uri': pathlib.PurePath(short).as_posix()}
    if os.path.isabs(short):
        artifact['uri'] = pathlib.Path(short).as_uri()
    else:
        artifact['uriBaseId'] = _ROOT
    physical: dict[str, Any] = {'artifactLocation': artifact}
    if line:
        physical['region'] = {'startLine': line}
    return physical


def _fingerprint(finding: Finding) -> str:
    where = finding.where
    parts = (finding.code, where.mode or '', where.role or '', where.field or '', where.op or '',
             os.path.basename(where.file or ''), finding.message)
    return hashlib.sha256('\0'.join(parts).encode()).hexdigest()[:32]

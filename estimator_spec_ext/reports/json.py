"""The report as JSON. The form is described by `schema.json` beside this file."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from estimator_spec_ext.diagnostics import Finding, Report

VERSION = 1


def render(report: Report) -> str:
    """The report as a JSON document with sorted keys; the same report gives the same bytes."""
    return json.dumps(as_dict(report), indent=2, sort_keys=True) + '\n'


def as_dict(report: Report) -> dict[str, Any]:
    """The report as plain values."""
    return {
        'version': VERSION,
        'ok': report.ok,
        'depth': report.depth,
        'findings': [finding_dict(finding) for finding in report.findings],
        'suppressed': [{'finding': finding_dict(item.finding), 'reason': item.reason}
                       for item in report.suppressed],
        'rules_run': list(report.rules_run),
        'rules_skipped': [dataclasses.asdict(skipped) for skipped in report.rules_skipped],
        'notes': list(report.notes),
        'facts': dict(report.facts),
    }


def finding_dict(finding: Finding) -> dict[str, Any]:
    """One finding as plain values."""
    values = dataclasses.asdict(finding)
    values['severity'] = finding.severity.value
    values['path'] = list(finding.path)
    return values

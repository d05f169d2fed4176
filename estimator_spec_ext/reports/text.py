"""The report as text: the form that people read in logs and exceptions."""

from __future__ import annotations

import os
import textwrap

from estimator_spec_ext.diagnostics import Finding, Report, Severity, Where

_WIDTH = 100
_INDENT = ' ' * 7


def render(report: Report) -> str:
    """The whole report: a line that counts, then each finding, then what was left aside."""
    blocks = [_headline(report)]
    blocks += [finding_text(finding) for finding in report.findings]
    tail = _tail(report)
    if tail:
        blocks.append(tail)
    return '\n\n'.join(blocks) + '\n'


def finding_text(finding: Finding) -> str:
    """One finding; the first line has actual and expected and at most 100 characters."""
    where = finding.where
    label = where.mode_label or 'job'
    if where.role:
        label = f'{where.role} {label}'
    head = (f'{label}  {finding.severity.name}  {finding.code} {finding.slug}  {finding.message}')
    lines = _wrap(head)
    lines += _place(where)
    if finding.hint:
        lines += _wrap(f'{_INDENT}fix: {finding.hint}')
    lines.append(f'{_INDENT}more: estimator-preflight explain {finding.slug}')
    return '\n'.join(lines)


def _wrap(line: str) -> list[str]:
    """Breaks a long line between words; long names stay whole unless they cannot fit."""
    if len(line) <= _WIDTH:
        return [line]
    start = line[:len(line) - len(line.lstrip())]
    return textwrap.wrap(line.strip(), _WIDTH, initial_indent=start,
                         subsequent_indent=_INDENT + '  ', break_on_hyphens=False)


def _place(where: Where) -> list[str]:
    """File, field and op; a path is never broken, so that it can be copied."""
    parts = []
    if where.file:
        parts.append(f'at {short_path(where.file)}:{where.line}')
    if where.field:
        parts.append(f'field {where.field}')
    if where.op:
        parts.append(f"op '{where.op}'")
    line = '   '.join(parts)
    return [_INDENT + part for part in ([line] if len(_INDENT + line) <= _WIDTH else parts) if part]


def short_path(path: str) -> str:
    """The path relative to the working directory when it lies below it."""
    here = os.getcwd()
    if path.startswith(here + os.sep):
        return path[len(here) + 1:]
    return path


def count_text(report: Report) -> str:
    """E.g. '2 errors, 1 warning'."""
    names = ((Severity.ERROR, 'error'), (Severity.WARNING, 'warning'), (Severity.INFO, 'note'))
    parts = []
    for severity, name in names:
        count = len(report.at(severity))
        if count:
            parts.append(f'{count} {name}{"s" if count != 1 else ""}')
    return ', '.join(parts) or 'no findings'


def _headline(report: Report) -> str:
    line = f'estimator_spec_ext: {count_text(report)}'
    if report.suppressed:
        line += f' ({len(report.suppressed)} suppressed)'
    return line


def _tail(report: Report) -> str:
    lines = []
    for item in report.suppressed:
        finding = item.finding
        label = finding.where.mode_label or 'job'
        lines += _wrap(f'suppressed: {label} {finding.code} {finding.slug}: {item.reason}')
    broken = [skipped for skipped in report.rules_skipped if skipped.reason.startswith('needs ')]
    if broken:
        names = ', '.join(sorted({skipped.slug for skipped in broken}))
        lines += _wrap(f'not checked until the errors above are mended: {names}')
    lines += [line for note in report.notes for line in _wrap(f'note: {note}')]
    return '\n'.join(lines)

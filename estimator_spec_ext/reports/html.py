"""The report as one HTML page that needs nothing else: no script, no font, no network."""

from __future__ import annotations

import html
import linecache
from typing import Any, Iterable, Optional

from estimator_spec_ext.diagnostics import MODE_LABELS, Finding, Report, Severity
from estimator_spec_ext.reports import html_path, html_style, text
from estimator_spec_ext.version import __version__

_MODES = ('train', 'eval', 'infer')
_WORDS = {Severity.ERROR: 'error', Severity.WARNING: 'warning', Severity.INFO: 'note'}
_CONTEXT_LINES = 2


def render(report: Report) -> str:
    """A whole page; the same report gives the same bytes, as long as the sources stay."""
    return ('<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f'<title>{_e(_verdict(report))}</title>\n<style>\n{html_style.PAGE}</style>\n</head>\n'
            f'<body>\n{fragment(report)}</body>\n</html>\n')


def fragment(report: Report) -> str:
    """The report for a page that is there: the modes side by side, findings with their lines."""
    job = [finding for finding in report.findings if finding.where.mode not in _MODES]
    parts = [
        f'<div class="ese"><style>\n{html_style.REPORT}</style>',
        f'<header><h1>{_verdict(report)}</h1><p>{_e(text.count_text(report))}'
        f'{_suppressed_count(report)} · depth {_e(report.depth)} · '
        f'{len(report.rules_run)} rules · estimator_spec_ext {_e(__version__)}</p></header>',
        _overview(report),
        _section('The job as a whole', job) if job else '',
        '<div class="modes">',
        *[_mode(report, mode) for mode in _MODES],
        '</div>',
        _suppressed(report),
        _notes(report),
        '</div>',
    ]
    return '\n'.join(part for part in parts if part) + '\n'


def _e(value: Any) -> str:
    return html.escape(str(value), quote=True)


def _verdict(report: Report) -> str:
    if report.errors:
        return 'This job would fail'
    return 'Look at the warnings' if report.warnings else 'Nothing stands in the way'


def _suppressed_count(report: Report) -> str:
    return f' ({len(report.suppressed)} suppressed)' if report.suppressed else ''


def _overview(report: Report) -> str:
    """A table of the modes side by side: what was built, and what was found."""
    built = {mode: [item for item in report.facts.get('modes', ()) if item['mode'] == mode]
             for mode in _MODES}
    rows = [('built', [_built_text(built[mode]) for mode in _MODES]),
            ('ops in the graph', [', '.join(f'{item["operations"]:,}' for item in built[mode])
                                  or '–' for mode in _MODES])]
    for severity in Severity:
        counts = [sum(1 for finding in report.at(severity) if finding.where.mode == mode)
                  for mode in _MODES]
        rows.append((f'{_WORDS[severity]}s', [str(count) if count else '–' for count in counts]))
    head = ''.join(f'<th scope="col">{MODE_LABELS[mode].upper()}</th>' for mode in _MODES)
    lines = ''.join(
        f'<tr><th scope="row">{_e(name)}</th>' + ''.join(f'<td>{_e(cell)}</td>' for cell in cells)
        + '</tr>' for name, cells in rows)
    return (f'<table class="overview"><thead><tr><td></td>{head}</tr></thead>'
            f'<tbody>{lines}</tbody></table>')


def _built_text(items: list[Any]) -> str:
    if not items:
        return 'not built'
    sources = {'receiver': 'on the serving receiver', 'input': 'on its input'}
    return ', '.join(('yes, ' if item['built'] else 'no, ') + sources.get(item['source'], '')
                     for item in items)


def _mode(report: Report, mode: str) -> str:
    found = [finding for finding in report.findings if finding.where.mode == mode]
    return _section(MODE_LABELS[mode].upper(), found)


def _section(title: str, findings: Iterable[Finding]) -> str:
    cards = ''.join(map(_card, findings)) or '<p class="none">no findings</p>'
    return f'<section><h2>{_e(title)}</h2>{cards}</section>'


def _card(finding: Finding) -> str:
    word = _WORDS[finding.severity]
    where = finding.where
    facts = [('role', where.role), ('field', where.field), ('op', where.op),
             ('expected', finding.expected), ('actual', finding.actual)]
    listed = ''.join(f'<dt>{name}</dt><dd><code>{_e(value)}</code></dd>'
                     for name, value in facts if value)
    return (f'<article class="{word}"><p class="head"><span class="level">{word}</span> '
            f'<code>{_e(finding.code)}</code> <b>{_e(finding.slug)}</b></p>'
            f'<p class="message">{_e(finding.message)}</p>'
            + (f'<p class="fix"><b>Fix</b> {_e(finding.hint)}</p>' if finding.hint else '')
            + _source(where.file, where.line)
            + html_path.picture(finding.path)
            + (f'<dl>{listed}</dl>' if listed else '')
            + _explanation(finding) + '</article>')


def _source(file: Optional[str], line: Optional[int]) -> str:
    """The line of the user's code with a few around it."""
    if not file or not line:
        return ''
    rows = []
    for number in range(max(1, line - _CONTEXT_LINES), line + _CONTEXT_LINES + 1):
        content = linecache.getline(file, number)
        if content:
            shown = f'{number:4d}  {_e(content.rstrip())}'
            rows.append(f'<b>{shown}</b>' if number == line else shown)
    place = f'{_e(text.short_path(file))}:{line}'
    code = f'<pre>{chr(10).join(rows)}</pre>' if rows else ''
    return f'<figure><figcaption>{place}</figcaption>{code}</figure>'


def _explanation(finding: Finding) -> str:
    """What `explain` says, folded up; left out where the rules cannot be loaded."""
    try:
        from estimator_spec_ext import registry
        rule = registry.find(finding.code)
    except ImportError:
        return ''
    if rule is None:
        return ''
    return (f'<details><summary>{_e(rule.summary)}</summary>'
            f'<pre class="prose">{_e(rule.documentation)}</pre></details>')


def _suppressed(report: Report) -> str:
    rows = ''.join(
        f'<li><code>{_e(item.finding.code)}</code> {_e(item.finding.slug)} '
        f'({_e(item.finding.where.mode_label or "job")}): {_e(item.reason)}</li>'
        for item in report.suppressed)
    return f'<section><h2>Suppressed</h2><ul>{rows}</ul></section>' if rows else ''


def _notes(report: Report) -> str:
    rows = ''.join(f'<li>{_e(note)}</li>' for note in report.notes)
    return f'<section><h2>Notes</h2><ul>{rows}</ul></section>' if rows else ''

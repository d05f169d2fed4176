"""The report as one HTML page that needs nothing beside it."""

from __future__ import annotations

import html
import linecache
from typing import Any

from estimator_spec_ext.diagnostics import MODE_LABELS, Finding, Report
from estimator_spec_ext.reports import text as text_report

_CONTEXT_LINES = 2
# Every rule is about what lies inside .ese, so that a notebook around it keeps its own looks.
_STYLE = '''
.ese { --line: #8884; --error: #c62828; --warning: #b26a00; --info: #1565c0; --code: #8881;
       font: 15px/1.5 system-ui, sans-serif; text-align: left; }
.ese h1 { font-size: 1.4rem; margin: 0 0 .2rem; }
.ese .sum { opacity: .75; margin: 0 0 1.5rem; }
.ese .modes { display: grid; gap: 1rem; align-items: start;
              grid-template-columns: repeat(auto-fit, minmax(330px, 1fr)); }
.ese section { border: 1px solid var(--line); border-radius: 10px; padding: .6rem 1rem 1rem;
               min-width: 0; }
.ese h2 { font-size: 1.05rem; margin: .2rem 0 .6rem; }
.ese article { border-left: 4px solid var(--line); margin: .8rem 0; padding: .1rem 0 .1rem .8rem; }
.ese article.error { border-color: var(--error); }
.ese article.warning { border-color: var(--warning); }
.ese article.info { border-color: var(--info); }
.ese .tag { font-size: .75rem; font-weight: 700; letter-spacing: .04em;
            text-transform: uppercase; }
.ese .error .tag { color: var(--error); } .ese .warning .tag { color: var(--warning); }
.ese .info .tag { color: var(--info); }
.ese .slug { font-family: ui-monospace, monospace; font-size: .8rem; opacity: .75; }
.ese p { margin: .25rem 0; overflow-wrap: anywhere; }
.ese pre { background: var(--code); border-radius: 6px; font-size: .8rem; margin: .4rem 0;
           overflow-x: auto; padding: .5rem .7rem; }
.ese pre b { background: #f9a82544; display: inline-block; min-width: 100%; }
.ese .fix::before { content: 'fix: '; font-weight: 700; }
.ese .path { font-size: .78rem; list-style: none; margin: .3rem 0; padding: 0; }
.ese .path li { display: inline-block; border: 1px solid var(--line); border-radius: 6px;
                margin: .15rem 0; padding: 0 .4rem; overflow-wrap: anywhere; }
.ese .path li + li::before { content: '\\2190\\00a0'; opacity: .6; }
.ese .none { opacity: .6; }
'''
_PAGE_STYLE = '''
:root { color-scheme: light dark; }
body { margin: 2rem auto; max-width: 1200px; padding: 0 1rem; }
'''


def render(report: Report) -> str:
    """A whole page with the report on it."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<title>estimator_spec_ext</title>'
        f'<style>{_PAGE_STYLE}</style></head><body>\n{fragment(report)}</body></html>\n')


def fragment(report: Report) -> str:
    """The report for a page that is there: the modes side by side, findings with their lines."""
    modes: list[Any] = list(MODE_LABELS)
    others = [f for f in report.findings if f.where.mode not in MODE_LABELS]
    sections = [_section(MODE_LABELS[mode],
                         [f for f in report.findings if f.where.mode == mode]) for mode in modes]
    if others:
        sections.insert(0, _section('job', others))
    tail = [f'<p>suppressed: <span class="slug">{html.escape(item.finding.slug)}</span> '
            f'{html.escape(item.reason)}</p>' for item in report.suppressed]
    tail += [f'<p>note: {html.escape(note)}</p>' for note in report.notes]
    return (
        f'<div class="ese"><style>{_STYLE}</style>\n<h1>estimator_spec_ext</h1>'
        f'<p class="sum">{html.escape(text_report.count_text(report))}; depth '
        f'{html.escape(report.depth)}; {len(report.rules_run)} rules</p>\n'
        f'<div class="modes">{"".join(sections)}</div>\n{"".join(tail)}</div>\n')


def _section(title: str, found: list[Finding]) -> str:
    body = ''.join(_article(finding) for finding in found) or '<p class="none">no findings</p>'
    return f'<section><h2>{html.escape(title)}</h2>{body}</section>'


def _article(finding: Finding) -> str:
    where = finding.where
    parts = [f'<p><span class="tag">{finding.severity.value}</span> <span class="slug">'
             f'{html.escape(finding.code)} {html.escape(finding.slug)}</span></p>',
             f'<p>{html.escape(finding.message)}</p>']
    place = []
    if where.file:
        place.append(f'{html.escape(text_report.short_path(where.file))}:{where.line}')
    place += [html.escape(name) for name in (where.field, where.op and f"op '{where.op}'") if name]
    if place:
        parts.append(f'<p class="slug">{" &middot; ".join(place)}</p>')
    parts.append(_source(finding))
    if finding.hint:
        parts.append(f'<p class="fix">{html.escape(finding.hint)}</p>')
    if finding.path:
        steps = ''.join(f'<li>{html.escape(name)}</li>' for name in _shortened(finding.path))
        parts.append(f'<ol class="path" title="the way in the graph">{steps}</ol>')
    return f'<article class="{finding.severity.value}">{"".join(parts)}</article>'


def _source(finding: Finding) -> str:
    where = finding.where
    if not where.file or not where.line:
        return ''
    lines = []
    for number in range(max(where.line - _CONTEXT_LINES, 1), where.line + _CONTEXT_LINES + 1):
        line = linecache.getline(where.file, number).rstrip('\n')
        shown = f'{number:4d}  {html.escape(line)}'
        if line or number == where.line:
            lines.append(f'<b>{shown}</b>' if number == where.line else shown)
    return f'<pre>{chr(10).join(lines)}</pre>' if any(lines) else ''


def _shortened(path: tuple[str, ...], limit: int = 8) -> list[str]:
    if len(path) <= limit:
        return list(path)
    half = limit // 2
    return [*path[:half], f'… {len(path) - 2 * half} more …', *path[-half:]]

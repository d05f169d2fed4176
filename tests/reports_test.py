"""The formats of a report: text is tested with the rules, JSON, SARIF and HTML here."""

from __future__ import annotations

import html.parser
import json
import re
from importlib import resources

import pytest

from estimator_spec_ext.diagnostics import Finding, Report, Severity, Suppressed, Where

pytestmark = pytest.mark.once

FINDING = Finding(
    code='ESX201', slug='loss-not-scalar', severity=Severity.ERROR,
    message='loss has shape (?, 1); expected () or (1,)', hint='reduce it: tf.reduce_mean(a < b)',
    where=Where(mode='train', field='loss', op='Square', file=__file__, line=3),
    expected='() or (1,)', actual='(?, 1)', path=tuple(f'op{i}' for i in range(12)))
WARNING = Finding(
    code='ESX302', slug='global-step-advanced-twice', severity=Severity.WARNING,
    message='twice', where=Where(mode=None))
REPORT = Report(findings=(FINDING, WARNING), suppressed=(Suppressed(WARNING, 'both count'),),
                rules_run=('loss-not-scalar',), depth='graph', notes=('EVAL was not reached',))


def test_json_holds_all_and_is_stable():
    document = json.loads(REPORT.to_json())
    assert document['ok'] is False
    assert document['depth'] == 'graph'
    first = document['findings'][0]
    assert (first['slug'], first['severity'], first['where']['line']) == (
        'loss-not-scalar', 'error', 3)
    assert document['suppressed'][0]['reason'] == 'both count'
    assert REPORT.to_json() == REPORT.to_json()


def _faults(value, schema, root, path='$'):
    """Where a value breaks a schema, as far as ours goes."""
    known = {'$schema', '$id', '$defs', 'title', 'description', '$ref', 'type', 'const', 'enum',
             'required', 'properties', 'additionalProperties', 'items', 'uniqueItems', 'minLength',
             'minimum', 'pattern'}
    assert set(schema) <= known, f'teach this test {set(schema) - known}'
    if '$ref' in schema:
        target = root
        for name in schema['$ref'].split('/')[1:]:
            target = target[name]
        yield from _faults(value, target, root, path)
    kinds = {'object': dict, 'array': list, 'string': str, 'boolean': bool, 'integer': int,
             'null': type(None)}
    wanted = schema.get('type', [])
    types = tuple(kinds[name] for name in ([wanted] if isinstance(wanted, str) else wanted))
    if (types and not isinstance(value, types)
            or 'const' in schema and value != schema['const']
            or 'enum' in schema and value not in schema['enum']
            or isinstance(value, str) and (len(value) < schema.get('minLength', 0)
                                           or not re.search(schema.get('pattern', ''), value))
            or isinstance(value, int) and value < schema.get('minimum', value)
            or schema.get('uniqueItems') and len(set(value)) < len(value)):
        yield path
    if isinstance(value, list):
        for number, item in enumerate(value):
            yield from _faults(item, schema.get('items', {}), root, f'{path}[{number}]')
    if isinstance(value, dict):
        members = schema.get('properties', {})
        yield from (f'{path}.{name}' for name in set(schema.get('required', ())) - set(value))
        for name, item in value.items():
            if name in members:
                yield from _faults(item, members[name], root, f'{path}.{name}')
            elif schema.get('additionalProperties') is False:
                yield f'{path}.{name}'


def test_json_keeps_its_schema():
    text = resources.files('estimator_spec_ext.reports').joinpath('schema.json').read_text()
    schema = json.loads(text)
    for report in (REPORT, Report()):
        assert not list(_faults(json.loads(report.to_json()), schema, schema))
    document = json.loads(REPORT.to_json())
    document['findings'][0]['where']['line'] = '3'
    document['findings'][1]['severity'] = 'fatal'
    del document['notes']
    document['more'] = 1
    assert sorted(_faults(document, schema, schema)) == [
        '$.findings[0].where.line', '$.findings[1].severity', '$.more', '$.notes']


def test_sarif_points_to_the_rule_and_the_line():
    log = json.loads(REPORT.to_sarif())
    assert log['version'] == '2.1.0'
    run = log['runs'][0]
    rules = run['tool']['driver']['rules']
    result = run['results'][0]
    assert rules[result['ruleIndex']]['id'] == result['ruleId'] == 'ESX201'
    assert result['level'] == 'error'
    assert result['locations'][0]['physicalLocation']['region'] == {'startLine': 3}
    assert result['message']['text'].endswith('Fix: reduce it: tf.reduce_mean(a < b)')
    assert run['results'][-1]['suppressions'] == [
        {'kind': 'inSource', 'justification': 'both count'}]


class _Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag != 'meta':
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_html_is_one_well_formed_page_that_escapes_what_it_shows():
    page = REPORT.to_html()
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert {'script', 'link', 'img'}.isdisjoint(tags.seen)
    assert 'tf.reduce_mean(a &lt; b)' in page
    assert '<b>   3  from __future__ import annotations</b>' in page
    assert '4 more' in page and 'EVAL was not reached' in page


def test_a_notebook_shows_the_same_without_the_page_around_it():
    shown = REPORT._repr_html_()
    tags = _Tags()
    tags.feed(shown)
    assert tags.open == []
    assert {'html', 'head', 'body', 'script', 'link'}.isdisjoint(tags.seen)
    assert shown in REPORT.to_html()
    style = shown.partition('<style>')[2].partition('</style>')[0]
    rules = re.findall(r'([^{}]+)\{', style)
    assert rules and all(rule.strip().startswith('.ese') for rule in rules)


def test_tensorboard_shows_the_text(tmp_path):
    import tensorflow as tf
    REPORT.write_summary(str(tmp_path / 'logs'), step=7)
    path, = (tmp_path / 'logs').iterdir()
    events = tf.compat.v1.train.summary_iterator(str(path))
    event, = [event for event in events if event.summary.value]
    value, = event.summary.value
    assert (event.step, value.tag, value.metadata.plugin_data.plugin_name) == (
        7, 'estimator_spec_ext', 'text')
    assert value.tensor.string_val[0].decode() == f'```text\n{REPORT.to_text()}```\n'


def test_an_empty_report_reads_well():
    assert Report().to_text() == 'estimator_spec_ext: no findings\n'
    assert json.loads(Report().to_sarif())['runs'][0]['results'] == []
    assert 'no findings' in Report().to_html()

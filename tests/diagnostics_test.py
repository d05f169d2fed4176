"""Findings, places and reports: plain values that need no TensorFlow."""

from __future__ import annotations

import dataclasses
import pickle

import pytest

from estimator_spec_ext import diagnostics, errors
from estimator_spec_ext.diagnostics import Finding, Report, Severity, Skipped, Suppressed, Where

pytestmark = pytest.mark.once


def _finding(code='ESX201', severity=Severity.ERROR, message='loss is wrong', **where):
    return Finding(code, f'slug-of-{code.lower()}', severity, message, hint='mend it',
                   where=Where(**where))


def test_severities_are_ranked():
    assert sorted(Severity, key=lambda severity: severity.rank) == [
        Severity.ERROR, Severity.WARNING, Severity.INFO]


@pytest.mark.parametrize('field, base', [
    (None, None), ('loss', 'loss'), ("eval_metric_ops['a.b']", 'eval_metric_ops'),
    ('training_hooks[0]', 'training_hooks'), ('scaffold.saver', 'scaffold')])
def test_the_base_of_a_field(field, base):
    assert Where(field=field).base_field == base


@pytest.mark.parametrize('mode, label', [
    (None, None), ('train', 'train'), ('eval', 'eval'), ('infer', 'predict'),
    ('_inference_on_tpu', '_inference_on_tpu')])
def test_modes_as_people_write_them(mode, label):
    assert Where(mode=mode).mode_label == label


def test_a_finding_as_text():
    finding = _finding(mode='infer', field="predictions['p']", op='head/p', file='/else/model.py',
                       line=41)
    assert finding.to_text() == (
        'predict  ERROR  ESX201 slug-of-esx201  loss is wrong\n'
        "       at /else/model.py:41   field predictions['p']   op 'head/p'\n"
        '       fix: mend it\n'
        '       more: estimator-preflight explain slug-of-esx201')


def test_a_finding_of_a_role_and_without_a_place():
    finding = dataclasses.replace(_finding(role='worker/1', mode='train'), hint='')
    assert finding.to_text() == (
        'worker/1 train  ERROR  ESX201 slug-of-esx201  loss is wrong\n'
        '       more: estimator-preflight explain slug-of-esx201')
    assert _finding().to_text().startswith('job  ERROR  ESX201')


def test_long_lines_are_broken_between_words():
    text = _finding(message='wrong ' * 40, mode='train').to_text()
    lines = text.split('\n')
    assert all(len(line) <= 100 for line in lines)
    assert ' '.join(text.split()).count('wrong') == 40
    name = 'x' * 150
    assert name in _finding(message=name, mode='train').to_text().replace('\n', '').replace(' ', '')


def test_files_below_the_working_directory_are_shown_from_there(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    inside = _finding(file=str(tmp_path / 'model.py'), line=1).to_text()
    assert '       at model.py:1\n' in inside
    outside = _finding(file=str(tmp_path) + '2/model.py', line=1).to_text()
    assert f'       at {tmp_path}2/model.py:1\n' in outside


def test_a_long_path_is_not_broken():
    path = '/' + 'a_long_name/' * 10 + 'model.py'
    text = _finding(field='loss', op='scope/' * 5 + 'loss', file=path, line=12).to_text()
    assert text.splitlines()[1:4] == [
        f'       at {path}:12', '       field loss', f"       op '{'scope/' * 5}loss'"]


def test_findings_are_sorted_by_role_mode_severity_code_and_place():
    ordered = [
        _finding('ESX301', mode='train'), _finding('ESX101', Severity.WARNING, mode='train'),
        _finding('ESX101', Severity.INFO, mode='train'), _finding(mode='eval', field='a'),
        _finding(mode='eval', field='b'), _finding(mode='infer'), _finding(mode='private'),
        _finding(mode='train', role='worker/0')]
    assert list(diagnostics.sorted_findings(reversed(ordered))) == ordered
    assert list(diagnostics.sorted_findings(ordered * 2)) == ordered


def test_a_report_tells_errors_from_warnings():
    error, warning, note = (_finding(severity=severity) for severity in Severity)
    report = Report(findings=(error, warning, note))
    assert (report.errors, report.warnings, report.at(Severity.INFO)) == (
        (error,), (warning,), (note,))
    assert not report.ok
    assert Report(findings=(warning, note)).ok
    Report(findings=(warning,)).raise_for_errors()
    with pytest.raises(errors.EstimatorSpecError) as error_info:
        report.raise_for_errors()
    assert error_info.value.report is report
    assert error_info.value.findings == report.findings


@pytest.mark.parametrize('severities, headline', [
    ([], 'no findings'), ([Severity.ERROR], '1 error'), ([Severity.ERROR] * 2, '2 errors'),
    ([Severity.WARNING, Severity.INFO, Severity.INFO], '1 warning, 2 notes')])
def test_the_first_line_of_a_report_counts(severities, headline):
    report = Report(findings=tuple(_finding(f'ESX{number}', severity)
                                   for number, severity in enumerate(severities)))
    assert str(report).split('\n')[0] == f'estimator_spec_ext: {headline}'


def test_the_tail_of_a_report():
    report = Report(
        suppressed=(Suppressed(_finding(mode='eval'), 'batches of one'),),
        rules_skipped=(Skipped('b', 'needs loss'), Skipped('a', 'needs loss'),
                       Skipped('c', 'not for this mode')),
        notes=('interrupted in EVAL',))
    assert report.to_text() == (
        'estimator_spec_ext: no findings (1 suppressed)\n\n'
        'suppressed: eval ESX201 slug-of-esx201: batches of one\n'
        'not checked until the errors above are mended: a, b\n'
        'note: interrupted in EVAL\n')


def test_reports_are_merged_without_repeats():
    one = Report(findings=(_finding('ESX301', mode='eval'),), rules_run=('b',),
                 rules_skipped=(Skipped('x', 'r'),), notes=('n',), facts={'a': 1})
    two = Report(findings=(_finding(mode='train'), _finding('ESX301', mode='eval')),
                 rules_run=('a', 'b'), rules_skipped=(Skipped('x', 'r'),), notes=('n', 'm'),
                 suppressed=(Suppressed(_finding(), 'r'),) * 2, facts={'b': 2})
    merged = diagnostics.merge_reports([one, two], depth='run')
    assert merged == Report(
        findings=(_finding(mode='train'), _finding('ESX301', mode='eval')),
        suppressed=(Suppressed(_finding(), 'r'),), rules_run=('a', 'b'),
        rules_skipped=(Skipped('x', 'r'),), depth='run', notes=('n', 'm'), facts={'a': 1, 'b': 2})
    assert diagnostics.merge_reports([], depth='spec') == Report()


def test_what_two_reports_tell_has_the_graver_severity():
    told = [Severity.WARNING, Severity.ERROR, Severity.INFO]
    reports = [Report(findings=(_finding('ESX132', severity),)) for severity in told]
    for some in (reports, reports[::-1]):
        merged = diagnostics.merge_reports(some, depth='run')
        assert merged.findings == (_finding('ESX132', Severity.ERROR),)


@pytest.mark.parametrize('kind', [errors.EstimatorSpecError, errors.EstimatorSpecTypeError])
def test_errors_are_pickled(kind):
    error = kind(Report(findings=(_finding(mode='train', file='m.py', line=3),)))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert again.report == error.report
    assert str(again) == str(error)
    assert isinstance(again, ValueError)
    assert isinstance(again, TypeError) == (kind is errors.EstimatorSpecTypeError)


def test_the_kind_of_error_follows_stock():
    report = Report(findings=(_finding(),))
    assert type(report.to_error()) is errors.EstimatorSpecError
    assert type(report.to_error(type_error=True)) is errors.EstimatorSpecTypeError


def test_findings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        _finding().message = 'other'

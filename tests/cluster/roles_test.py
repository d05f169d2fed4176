"""`preflight_roles` with a process for each task: state, hash seeds, hangs and crashes."""

from __future__ import annotations

import time

import estimator_spec_ext as ese
from estimator_spec_ext.diagnostics import Severity
from estimator_spec_ext.rules import role_jobs

BUILDERS = 'tests.cluster.role_builders:'
ALONE = {'cluster': {'chief': ['c.invalid:1'], 'worker': ['w.invalid:1'], 'ps': ['p.invalid:1']}}


def _loud(report):
    return sorted({finding.slug for finding in report.findings
                   if finding.severity is not Severity.INFO})


def test_a_correct_job_is_silent():
    report = ese.preflight_roles(BUILDERS + 'right', ALONE, child_processes=True)
    assert not _loud(report), report.to_text()


def test_what_the_parent_has_put_back_is_there_in_the_children():
    report = ese.preflight_roles(BUILDERS + 'by_the_old_name', ALONE, child_processes=True)
    assert not _loud(report), report.to_text()


def test_a_builder_with_state_gets_processes_by_itself():
    said = []
    report = ese.preflight_roles(BUILDERS + 'counting', ALONE, progress=said.append)
    assert not _loud(report), report.to_text()
    assert 'the builder keeps state: each task gets a process of its own' in said


def test_the_order_of_sets():
    report = ese.preflight_roles(BUILDERS + 'over_a_set', role_jobs.cluster(),
                                 child_processes=True)
    assert 'graph-changes-by-itself' in _loud(report), report.to_text()
    finding = report.errors[0]
    assert finding.message.startswith(
        'chief/0 builds another graph a day later, with another hash seed: ')
    assert finding.where.file.endswith('role_builders.py')


def test_a_task_that_hangs_is_a_finding():
    start = time.monotonic()
    report = ese.preflight_roles(BUILDERS + 'waiting', ALONE, child_processes=True, time_limit=120)
    assert time.monotonic() - start < 200
    found = {finding.where.role or finding.message: finding for finding in report.errors
             if finding.slug == 'role-process-failed'}
    assert any('worker/0 took longer than 40 s' in message for message in found), report.to_text()
    assert all(finding.hint == 'its last lines: waiting for the chief'
               for finding in found.values() if 'worker/0' in finding.message)


def test_a_task_that_crashes_is_a_finding():
    report = ese.preflight_roles(BUILDERS + 'dying', ALONE, child_processes=True)
    assert {finding.message for finding in report.errors} == {
        f'the process that builds {role} was ended by SIGABRT'
        for role in ('worker/0', 'ps/0', 'evaluator/0')}
    assert {finding.hint.split(' | ')[0] for finding in report.errors} == {
        'its last lines: no device'}

"""These tests need packages that `make test-thirdparty` installs; no other run collects them."""

from __future__ import annotations

import json
import os
import pathlib

import pytest

if os.environ.get('ESE_THIRDPARTY') != '1':
    collect_ignore_glob = ['*_test.py']

_TF1_BEHAVIOR = os.environ.get('ESE_TF1_BEHAVIOR') == '1'
_BEHAVIOR = 'TF1' if _TF1_BEHAVIOR else 'TF2'
_RESULTS = pathlib.Path(__file__).with_name('results.json')
_ROWS = []


def pytest_addoption(parser):
    parser.addoption('--write-results', action='store_true',
                     help='write results.json, from which the table in README.md is made')


@pytest.fixture
def record():
    """Keeps an outcome for the result table: record(package, name, outcome, explained)."""

    def keep(package, name, outcome, explained=None):
        explained = explained or {}
        unexplained = {slug for _, slug in outcome.warnings} - set(explained)
        assert not unexplained, '\n\n'.join(outcome.texts)
        unseen = set(explained) - {slug for _, slug in outcome.warnings}
        assert not unseen, f'explained but never given: {unseen}'
        assert not outcome.errors
        _ROWS.append({
            'package': package, 'estimator': name, 'behavior': _BEHAVIOR, 'modes': outcome.modes,
            'specs': outcome.specs, 'errors': outcome.errors, 'warnings': explained})

    return keep


@pytest.fixture
def needs_tf1_behavior():
    """Skips a test for a reason that the table shows: needs_tf1_behavior(package, name, why)."""

    def skip(package, name, why):
        if not _TF1_BEHAVIOR:
            _ROWS.append({'package': package, 'estimator': name, 'behavior': _BEHAVIOR,
                          'skipped': why})
            pytest.skip(why)

    return skip


def _key(row):
    return row['package'].partition(' ')[0], row['estimator'], row['behavior']


def pytest_sessionfinish(session, exitstatus):
    if exitstatus != 0 or not session.config.getoption('--write-results', default=False):
        return
    options = session.config.option
    whole = not options.keyword and not options.lf
    fresh = {_key(row) for row in _ROWS}
    kept = [row for row in json.loads(_RESULTS.read_text()) if _key(row) not in fresh
            and not (whole and row['behavior'] == _BEHAVIOR)] if _RESULTS.exists() else []
    rows = sorted([*kept, *_ROWS], key=_key)
    _RESULTS.write_text('[\n' + ',\n'.join(map(json.dumps, rows)) + '\n]\n')

"""These tests need packages that `make test-thirdparty` installs; no other run collects them."""

from __future__ import annotations

import collections
import json
import os
import pathlib

import pytest

if os.environ.get('ESE_THIRDPARTY') != '1':
    collect_ignore_glob = ['*_test.py']

_OUTCOMES = collections.OrderedDict()
_RESULTS = pathlib.Path(__file__).with_name('results.json')


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
        _OUTCOMES[f'{package} {name}'] = {
            'package': package, 'estimator': name, 'modes': outcome.modes, 'errors': 0,
            'specs': outcome.specs, 'warnings': sorted(explained),
            'why': [explained[slug] for slug in sorted(explained)],
        }

    return keep


def pytest_sessionfinish(session, exitstatus):
    if session.config.getoption('--write-results', default=False) and exitstatus == 0:
        _RESULTS.write_text(json.dumps(list(_OUTCOMES.values()), indent=1) + '\n')

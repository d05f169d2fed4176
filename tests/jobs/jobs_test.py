"""For every class of mistakes: preflight names it in the bad job, and is silent on its twin."""

from __future__ import annotations

import pytest

from estimator_spec_ext.diagnostics import Severity
from tests.jobs import check


@pytest.mark.parametrize('mistake', list(check.PAIRS))
def test_the_mistake_is_named(mistake):
    report = check.report(check.PAIRS[mistake], right=False)
    assert check.of_class(report, mistake), report.to_text()


@pytest.mark.parametrize('mistake', list(check.PAIRS))
def test_the_twin_is_silent(mistake):
    report = check.report(check.PAIRS[mistake], right=True)
    assert not [finding for finding in report.findings
                if finding.severity is not Severity.INFO], report.to_text()

"""What preflight says of a twin."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Any, Iterator

import estimator_spec_ext as ese
from estimator_spec_ext.diagnostics import Report, merge_reports
from estimator_spec_ext.preflight import api
from tests.jobs import base, outputs, sessions, settings, training  # noqa: F401  (they register)

PAIRS = dict(sorted(base.PAIRS.items(), key=lambda item: (item[0][0], int(item[0][1:]))))


@contextlib.contextmanager
def environment(values: Any) -> Iterator[None]:
    """Sets environment variables for a while."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def report(pair: base.Pair, right: bool) -> Report:
    """The report on one twin, a failure to make it included."""
    with tempfile.TemporaryDirectory() as folder, environment(pair.environ):
        try:
            job = pair.make(right, folder)
        except (TypeError, ValueError, RuntimeError, KeyError) as error:
            return api.failed_before_job(error)
        made = ese.preflight(job.estimator, job.train_spec, job.eval_spec, depth=pair.depth,
                             serving_input_receiver_fn=job.receiver_fn)
        if job.calls:
            made = merge_reports([made, api.judge_calls(job.estimator, job.calls, None)],
                                 depth=pair.depth)
        return made


def of_class(found: Report, mistake: str) -> list[ese.Finding]:
    """The findings, not mere information, of rules that list the class."""
    listed = {rule.slug for rule in ese.rules() if mistake in rule.mistakes}
    return [finding for finding in found.findings if finding.slug in listed]

"""Runs the examples of the rules, and helps to test rules of your own."""

from __future__ import annotations

import os
from typing import Any, Callable

from estimator_spec_ext import engine, facts
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Report
from estimator_spec_ext.rules import jobs


def run_example(builder: Callable[[], Any]) -> Report:
    """Builds an example of a rule in a fresh graph with a global step, and checks it.

    Args:
      builder: `bad` or `good` of a rule. It builds in the default graph and returns the fields of
        a spec as a dict (with 'mode', and 'suppress' or 'context' if need be), or `SpecFacts`, or
        a finished `Report`, or a whole `rules.jobs.Job`.

    Returns:
      The `Report`.
    """
    with tf.Graph().as_default():
        v1.train.get_or_create_global_step()
        made = builder()
        if isinstance(made, Report):
            return made
        if isinstance(made, jobs.Job):
            return _run_job(made)
        if isinstance(made, facts.SpecFacts):
            return engine.check(made)
        fields = dict(made)
        suppress = fields.pop('suppress', None)
        context = fields.pop('context', facts.JobContext())
        return engine.check(facts.SpecFacts(fields.pop('mode'), fields, context=context),
                            suppress=suppress)


def _run_job(job: jobs.Job) -> Report:
    from estimator_spec_ext.preflight import api
    before = {name: os.environ.get(name) for name in job.environ}
    os.environ.update(job.environ)
    try:
        return api.preflight(
            job.estimator, job.train_spec, job.eval_spec, depth=job.depth, suppress=job.suppress,
            serving_input_receiver_fn=job.serving_input_receiver_fn)
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if job.folder is not None:
            job.folder.cleanup()

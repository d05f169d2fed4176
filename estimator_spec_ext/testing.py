"""Runs the examples of the rules, and helps to test rules of your own."""

from __future__ import annotations

from typing import Any, Callable

from estimator_spec_ext import engine, facts
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Report


def run_example(builder: Callable[[], Any]) -> Report:
    """Builds an example of a rule in a fresh graph with a global step, and checks it.

    Args:
      builder: `bad` or `good` of a rule of stage 'spec', 'stock', 'graph' or 'tool'. It builds in
        the default graph and returns the fields of a spec as a dict (with 'mode', and 'suppress'
        or 'context' if need be), or `SpecFacts`, or a finished `Report`.

    Returns:
      The `Report`.
    """
    with tf.Graph().as_default():
        v1.train.get_or_create_global_step()
        made = builder()
        if isinstance(made, Report):
            return made
        if isinstance(made, facts.SpecFacts):
            return engine.check(made)
        fields = dict(made)
        suppress = fields.pop('suppress', None)
        context = fields.pop('context', facts.JobContext())
        return engine.check(facts.SpecFacts(fields.pop('mode'), fields, context=context),
                            suppress=suppress)

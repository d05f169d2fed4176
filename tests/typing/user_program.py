"""A program of a user who has types checked strictly; mypy and pyright read it, nobody runs it.

A line that stops being right, or a `type: ignore` that stops being needed, fails the check.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Iterator, Mapping, Optional

import estimator_spec_ext as ese
from estimator_spec_ext import testing

REASONS: Mapping[str, str] = {'global-step-advanced-twice': 'the GAN counts both updates'}


def model_fn(features: Any, labels: Any, mode: str) -> ese.StrictEstimatorSpec:
    """Returns a spec from the class and from the factories."""
    if mode == 'infer':
        return ese.create_predict_estimator_spec({'p': features})
    if mode == 'eval':
        return ese.create_eval_estimator_spec(labels, predictions={'p': features})
    spec = ese.StrictEstimatorSpec(mode, loss=labels, train_op=features, suppress=REASONS)
    return ese.replace(spec, training_hooks=[])


wrapped: Callable[..., Any] = ese.strict_model_fn(model_fn)


@ese.strict_model_fn(suppress=REASONS)
def decorated(features: Any, labels: Any, mode: str) -> Any:
    """A model_fn that is made strict by a decorator."""
    return model_fn(features, labels, mode)


def look(spec: Any) -> tuple[bool, list[str]]:
    """Reads a report with the types that it has."""
    report: ese.Report = ese.validate_estimator_spec(spec, suppress=REASONS)
    codes: list[str] = [finding.code for finding in report.findings]
    first: Optional[ese.Finding] = report.findings[0] if report.findings else None
    if first is not None and first.severity is ese.Severity.ERROR:
        line: Optional[int] = first.where.line
        print(line, first.to_text())
    json.loads(report.to_json())
    reasons: list[str] = [item.reason for item in report.suppressed]
    report.write_summary('logs', step=1)
    return report.ok, codes + reasons


def earlier(graph: Any) -> list[str]:
    """Reads back what was found when the specs of a graph were built."""
    return [finding.slug for finding in ese.findings(graph)]


def job(estimator: Any, train_spec: Any, eval_spec: Any) -> ese.Report:
    """Checks a whole job."""
    return ese.preflight(estimator, train_spec, eval_spec, depth='graph', progress=print)


class LossIsHuge(ese.Rule):
    """A rule of the user's own."""

    code = 'ACME101'
    slug = 'loss-is-huge'
    severity = ese.Severity.WARNING

    def check(self, facts: Any) -> Iterator[ese.Finding]:
        """Finds nothing."""
        if facts.loss is None:
            yield self.finding(facts, 'no loss', hint='add one', field='loss')


def names() -> tuple[str, ...]:
    """The rules, and the elements of a hook."""
    elements: tuple[ese.HookElement, ...] = ese.hook_graph_elements(object())
    print(len(elements), ese.explain('loss-not-scalar').upper())
    return tuple(rule.slug for rule in ese.rules())


def test_model_fn() -> None:
    """As a unit test."""
    report: ese.Report = testing.assert_strict(model_fn, [[1.]], [[1.]], fail_level='warning')
    assert report.ok


# What is wrong must be seen to be wrong: these need their comments.
ese.create_predict_estimator_spec(loss=1)  # type: ignore[call-arg]
print(ese.validate_estimator_spec(object()).okay)  # type: ignore[attr-defined]
ese.preflight(object(), depth=3)  # type: ignore[arg-type]
ese.rules(1)  # type: ignore[call-arg]

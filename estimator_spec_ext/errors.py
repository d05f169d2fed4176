"""The exceptions of the package."""

from __future__ import annotations

from typing import Any

from estimator_spec_ext.diagnostics import Finding, Report


class EstimatorSpecError(ValueError):
    """A spec has errors; all of them are in `findings`.

    Attributes:
      report: the whole `Report`.
      findings: `report.findings`, errors and warnings alike.

    Example:
      >>> try:
      ...     raise EstimatorSpecError(Report())
      ... except ValueError as error:
      ...     error.findings
      ()
    """

    # AutoGraph rebuilds exceptions that lack this mark and loses the findings.
    ag_pass_through = True

    def __init__(self, report: Report) -> None:
        self.report = report
        super().__init__(report)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """All findings of the report, in its order."""
        return self.report.findings

    def __str__(self) -> str:
        return '\n' + self.report.to_text()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.report,)


class EstimatorSpecTypeError(EstimatorSpecError, TypeError):
    """An `EstimatorSpecError` where stock TensorFlow would raise a TypeError."""


class SuppressionError(ValueError):
    """A suppression names no rule, or gives no reason."""

    ag_pass_through = True


class GraphAgreementError(RuntimeError):
    """The roles of a distributed job have built graphs that differ, or a role did not come."""

    ag_pass_through = True

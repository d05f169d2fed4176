"""Results of the checks: severities, places, findings and reports.

This module imports no TensorFlow, so a report can be read, stored and printed anywhere.
"""

from __future__ import annotations

import dataclasses
import enum
from typing import TYPE_CHECKING, Any, Iterable, Mapping, Optional

if TYPE_CHECKING:
    from estimator_spec_ext.errors import EstimatorSpecError

# How modes are shown to people; Estimator's own value for PREDICT is 'infer'.
MODE_LABELS = {'train': 'train', 'eval': 'eval', 'infer': 'predict'}
_MODE_ORDER = {'train': 0, 'eval': 1, 'infer': 2}


class Severity(enum.Enum):
    """How sure a finding is.

    `ERROR`: TensorFlow will fail, hang or produce something wrong. `WARNING`: probably wrong, but
    correct programs can look like this. `INFO`: worth knowing, never a fault.
    """

    ERROR = 'error'
    WARNING = 'warning'
    INFO = 'info'

    @property
    def rank(self) -> int:
        """0 for `ERROR`, 1 for `WARNING`, 2 for `INFO`."""
        return _SEVERITY_RANK[self]


_SEVERITY_RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


@dataclasses.dataclass(frozen=True)
class Where:
    """The place of a finding; every part may be None when it is not known.

    Attributes:
      mode: a `tf.estimator.ModeKeys` value: 'train', 'eval' or 'infer'.
      field: the field of the spec with its key, e.g. "eval_metric_ops['accuracy']".
      op: the name of the op in the graph.
      file: the user's own source file.
      line: the line in `file`, from 1.
      role: the role in a cluster, e.g. 'worker/1'.
    """

    mode: Optional[str] = None
    field: Optional[str] = None
    op: Optional[str] = None
    file: Optional[str] = None
    line: Optional[int] = None
    role: Optional[str] = None

    @property
    def base_field(self) -> Optional[str]:
        """The field without its key or index: 'eval_metric_ops'."""
        if self.field is None:
            return None
        return self.field.split('[', 1)[0].split('.', 1)[0]

    @property
    def mode_label(self) -> Optional[str]:
        """The mode as people write it: 'train', 'eval' or 'predict'."""
        return None if self.mode is None else MODE_LABELS.get(self.mode, self.mode)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fault, with its place and its fix.

    Attributes:
      code: e.g. 'ESX201'; never reused.
      slug: the name of the bad pattern, e.g. 'loss-not-scalar'.
      severity: a `Severity`.
      message: what is, and what was expected, in one sentence.
      hint: what to type.
      where: a `Where`.
      expected: the expected value as text, or None.
      actual: the actual value as text, or None.
      path: names of the ops on the way that the finding speaks of; empty for most.
    """

    code: str
    slug: str
    severity: Severity
    message: str
    hint: str = ''
    where: Where = Where()
    expected: Optional[str] = None
    actual: Optional[str] = None
    path: tuple[str, ...] = ()

    def sort_key(self) -> tuple[Any, ...]:
        """Orders findings by role, mode, severity, code and place: same input, same order."""
        where = self.where
        return (where.role or '', _MODE_ORDER.get(where.mode or '', 3), self.severity.rank,
                self.code, where.field or '', where.op or '', self.message)

    def to_text(self) -> str:
        """The finding in the message form that `estimator-preflight` prints."""
        from estimator_spec_ext.reports import text
        return text.finding_text(self)


@dataclasses.dataclass(frozen=True)
class Suppressed:
    """A finding that the author has accepted, with the reason given."""

    finding: Finding
    reason: str


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A rule that did not run, and why."""

    slug: str
    reason: str
    mode: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class Report:
    """All that one check found.

    Attributes:
      findings: the `Finding`s, in a stable order.
      suppressed: `Suppressed` findings with their reasons.
      rules_run: slugs of the rules that ran.
      rules_skipped: `Skipped` rules.
      depth: how deep the check went: 'spec', 'graph', 'run' or 'serve'.
      notes: remarks of the tool itself, e.g. what was not reached when it was interrupted.
      facts: extra figures for the formats (plain JSON values).

    Example:
      >>> report = Report(findings=())
      >>> report.ok
      True
    """

    findings: tuple[Finding, ...] = ()
    suppressed: tuple[Suppressed, ...] = ()
    rules_run: tuple[str, ...] = ()
    rules_skipped: tuple[Skipped, ...] = ()
    depth: str = 'spec'
    notes: tuple[str, ...] = ()
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True when no finding is an `ERROR`."""
        return not self.errors

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that are errors."""
        return self.at(Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The findings that are warnings."""
        return self.at(Severity.WARNING)

    def at(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(f for f in self.findings if f.severity is severity)

    def raise_for_errors(self) -> None:
        """Raises when there are errors, does nothing otherwise.

        Raises:
          EstimatorSpecError: with all findings.
        """
        if not self.ok:
            raise self.to_error()

    def to_error(self, *, type_error: bool = False) -> 'EstimatorSpecError':
        """The exception that carries this report."""
        from estimator_spec_ext import errors
        kind = errors.EstimatorSpecTypeError if type_error else errors.EstimatorSpecError
        return kind(self)

    def to_text(self) -> str:
        """The report as text for a terminal, without colours."""
        from estimator_spec_ext.reports import text
        return text.render(self)

    def to_json(self) -> str:
        """The report as a JSON document; the schema is `reports/schema.json`."""
        from estimator_spec_ext.reports import json as json_report
        return json_report.render(self)

    def to_sarif(self) -> str:
        """The report as SARIF 2.1.0, for code-scanning tools."""
        from estimator_spec_ext.reports import sarif
        return sarif.render(self)

    def to_html(self) -> str:
        """The report as one self-contained HTML page."""
        from estimator_spec_ext.reports import html
        return html.render(self)

    def write_summary(self, logdir: str, *, step: int = 0,
                      name: str = 'estimator_spec_ext') -> None:
        """Writes the report as text into a folder of logs, for TensorBoard's Text page.

        Args:
          logdir: the folder, e.g. the `model_dir` of an estimator; made when it is missing.
          step: the global step to which the report belongs.
          name: the name of the text in TensorBoard.

        Raises:
          tf.errors.OpError: when the folder cannot be written.

        Example:
          >>> import tempfile
          >>> with tempfile.TemporaryDirectory() as logdir:
          ...     Report().write_summary(logdir)
        """
        from estimator_spec_ext.reports import summary
        summary.write(self, logdir, step=step, name=name)

    def __str__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        """What notebooks show."""
        from estimator_spec_ext.reports import html
        return html.fragment(self)


def sorted_findings(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings in the one stable order, exact duplicates removed."""
    return tuple(sorted(dict.fromkeys(findings), key=Finding.sort_key))


def merge_reports(reports: Iterable[Report], *, depth: str) -> Report:
    """One report of several, e.g. of the three modes.

    Args:
      reports: the parts.
      depth: the depth of the whole.

    Returns:
      A `Report` with findings in the stable order and every list joined without repeats. What two
      parts tell with different severities has the graver one.
    """
    parts = tuple(reports)
    gravest: dict[Finding, Finding] = {}
    for finding in (f for part in parts for f in part.findings):
        same = dataclasses.replace(finding, severity=Severity.ERROR)
        gravest[same] = min(finding, gravest.get(same, finding), key=lambda f: f.severity.rank)
    facts: dict[str, Any] = {}
    for part in parts:
        facts.update(part.facts)
    return Report(
        findings=sorted_findings(gravest.values()),
        suppressed=tuple(sorted(dict.fromkeys(s for part in parts for s in part.suppressed),
                                key=lambda s: s.finding.sort_key())),
        rules_run=tuple(sorted({slug for part in parts for slug in part.rules_run})),
        rules_skipped=tuple(sorted({s for part in parts for s in part.rules_skipped},
                                   key=lambda s: (s.slug, s.mode or '', s.reason))),
        depth=depth,
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
        facts=facts)

"""What a rule is. The rules themselves live in `rules/`, their list in `registry.py`."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Callable, Iterator, Optional

from estimator_spec_ext.diagnostics import Finding, Severity, Where

if TYPE_CHECKING:
    from estimator_spec_ext.facts import SpecFacts

TRAIN, EVAL, PREDICT = 'train', 'eval', 'infer'
ALL_MODES = (TRAIN, EVAL, PREDICT)
# For `Rule.about`: hooks of any field, or from outside of the spec.
HOOKS = ('training_chief_hooks', 'training_hooks', 'evaluation_hooks', 'prediction_hooks',
         'extra_hooks')

SECTIONS = ('What it finds', 'Why it matters', 'Bad', 'Good', 'When to suppress')


class Rule:
    """One kind of mistake: how to find it, and how to explain it.

    A subclass sets the class attributes, writes the docstring with the headings of `SECTIONS`, and
    implements `check`, `bad` and `good`. A rule reads facts and yields findings; it never raises,
    prints, adds an op or looks at another rule.

    Attributes:
      code: 'ESX' and three digits; never reused.
      slug: the name of the bad pattern.
      severity: a `Severity`; a single finding may be softer, never harder.
      stage: 'spec', 'graph', 'run', 'serve', 'roles' or 'config'.
      modes: the `tf.estimator.ModeKeys` values it applies to.
      mistakes: ids of the classes of mistakes that it covers.
      needs: fields that must be readable for the rule to make sense.
      about: what it looks at alone, of `SpecFacts.given`: where none of these is given, there is
        nothing to find, and the rule is not called. () for a rule that is always called.
      breaks: whether an error of this rule (of stage 'spec') leaves its field unreadable, so that
        rules that need the field are skipped. A loss that is no scalar can still be followed.
      more_bad: further bad builders.
      more_good: builders of correct look-alikes that must stay silent.
    """

    code: str
    slug: str
    severity: Severity
    stage: str = 'graph'
    modes: tuple[str, ...] = ALL_MODES
    mistakes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    about: tuple[str, ...] = ()
    breaks: bool = True
    more_bad: tuple[Callable[[], Any], ...] = ()
    more_good: tuple[Callable[[], Any], ...] = ()

    def check(self, facts: Any) -> Iterator[Finding]:
        """Yields the findings in `facts`."""
        raise TypeError(f'{type(self).__name__} must implement check')

    def disproved(self, seen: Any) -> bool:
        """Whether a rehearsal of the mode shows that a warning of this rule is wrong.

        Args:
          seen: the `preflight.recorder.Recorder` of the training steps.
        """
        return False

    @staticmethod
    def bad() -> Any:
        """Builds the mistake in the current default graph; returns the fields of a spec."""
        raise TypeError('a rule must implement bad')

    @staticmethod
    def good() -> Any:
        """Builds the corrected program in the current default graph."""
        raise TypeError('a rule must implement good')

    @property
    def summary(self) -> str:
        """The first line of the docstring, without its full stop."""
        return inspect.cleandoc(type(self).__doc__ or '').split('\n', 1)[0].rstrip('.')

    @property
    def documentation(self) -> str:
        """The whole docstring, as `explain` prints it."""
        return inspect.cleandoc(type(self).__doc__ or '')

    def finding(self, facts: 'SpecFacts', message: str, *, hint: str, field: Optional[str] = None,
                op: Any = None, expected: Optional[str] = None, actual: Optional[str] = None,
                severity: Optional[Severity] = None, path: tuple[str, ...] = ()) -> Finding:
        """A finding of this rule.

        Args:
          facts: what the rule read; gives mode, role and the place of the spec.
          message: actual and expected, one sentence without a full stop.
          hint: what to type.
          field: the guilty field with its key, e.g. "predictions['p']".
          op: the guilty `tf.Operation`, `tf.Tensor` or variable; its traceback gives the place.
            Without one the place is the line that builds the spec.
          expected: the expected value as short text.
          actual: the actual value as short text.
          severity: a softer severity than the rule's own, where this case is less certain.
          path: names of ops on the way from one to the other.

        Returns:
          A `Finding`.
        """
        op_name, file, line = facts.place(op)
        return Finding(
            code=self.code, slug=self.slug, severity=severity or self.severity, message=message,
            hint=hint, expected=expected, actual=actual, path=path,
            where=Where(mode=facts.mode_text, field=field, op=op_name, file=file, line=line,
                        role=facts.role))

    def __repr__(self) -> str:
        return f'<Rule {self.code} {self.slug}>'

"""The tool itself: crashed rules, broken plugins, suppressions that are wrong or do nothing."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import Crash, SpecFacts
from estimator_spec_ext.plugins import PluginFault
from estimator_spec_ext.rule import Rule


def _predict_fields() -> dict[str, Any]:
    return {'mode': 'infer', 'predictions': {'p': v1.placeholder(tf.float32, [None], name='x')}}


class RuleCrashed(Rule):
    """A rule of this package raised an exception.

    What it finds: a fault of estimator_spec_ext itself. Your spec was not judged by that rule.

    Why it matters: a tool that guards training must never break it, so the exception is shown here
    and training goes on.

    Bad:
        a rule that raises

    Good:
        a rule that yields findings

    When to suppress: never needed; please report it.
    """

    code = 'ESX901'
    slug = 'rule-crashed'
    severity = Severity.WARNING
    stage = 'tool'

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        for crash in facts.crashes:
            yield self.finding(
                facts, f'rule {crash.slug} raised {crash.text}',
                hint='training goes on without this check; please report it with this line',
                actual=crash.text)

    @staticmethod
    def bad() -> Any:
        """Facts as a crashed rule leaves them."""
        facts = SpecFacts('infer', _predict_fields())
        facts.crashes.append(Crash('loss-not-scalar', 'KeyError: 0', None, None))
        return facts

    @staticmethod
    def good() -> Any:
        """No rule crashed."""
        return _predict_fields()


class UnusedSuppression(Rule):
    """A suppression matched no finding.

    What it finds: a name in `suppress` whose rule ran and found nothing. Reported by
    `validate_estimator_spec` and `preflight`, not at construction, where one mapping may serve
    all three modes.

    Why it matters: what it once excused is gone; left in place, it hides the next mistake.

    Bad:
        ese.validate_estimator_spec(spec, suppress={'loss-not-scalar': 'batch of one'})  # is scalar

    Good:
        ese.validate_estimator_spec(spec)

    When to suppress: remove the entry instead.
    """

    code = 'ESX902'
    slug = 'unused-suppression'
    severity = Severity.WARNING
    stage = 'tool'

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        for name in facts.unused_suppressions:
            yield self.finding(facts, f'suppression of {name} matched no finding',
                               hint='remove it', field='suppress', actual=name)

    @staticmethod
    def bad() -> Any:
        """A reason for a finding that is no longer there."""
        facts = SpecFacts('infer', _predict_fields())
        facts.unused_suppressions = ['mode-unknown']
        return facts

    @staticmethod
    def good() -> Any:
        """Nothing suppressed."""
        return _predict_fields()


class InvalidSuppression(Rule):
    """A suppression names no rule, or gives no reason.

    What it finds: a name that is neither slug nor code of a rule, an empty reason, or a `suppress`
    that is no mapping.

    Why it matters: a typo would silence nothing, or be taken to silence everything.

    Bad:
        StrictEstimatorSpec(..., suppress={'loss-not-scaler': 'one example a batch'})

    Good:
        StrictEstimatorSpec(..., suppress={'loss-not-scalar': 'one example a batch'})

    When to suppress: never; correct the name.
    """

    code = 'ESX903'
    slug = 'invalid-suppression'
    severity = Severity.ERROR
    stage = 'tool'

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        for name, fault in facts.suppression_faults:
            yield self.finding(
                facts, f'suppression {name} {fault}', field='suppress', actual=name,
                hint="write suppress={'slug-of-the-rule': 'the reason'}; "
                     'estimator-preflight rules lists them')

    @staticmethod
    def bad() -> Any:
        """A name with a typo."""
        return {**_predict_fields(), 'suppress': {'loss-not-scaler': 'one example a batch'}}

    @staticmethod
    def good() -> Any:
        """No suppression."""
        return _predict_fields()


class PluginBroken(Rule):
    """Rules of another package could not be loaded.

    What it finds: an entry point of the group `estimator_spec_ext.rules` that cannot be imported,
    that holds something else than rules, or whose code or slug another rule has already. None of
    its rules ran.

    Why it matters: whoever installed the package believes that its rules guard the model; they do
    not. One broken package must stop neither the training nor the other rules.

    Bad:
        [project.entry-points."estimator_spec_ext.rules"]
        acme = "acme_rulez:RULES"        # the module is called acme_rules

    Good:
        [project.entry-points."estimator_spec_ext.rules"]
        acme = "acme_rules:RULES"

    When to suppress: never; mend the package, or uninstall it.
    """

    code = 'ESX904'
    slug = 'plugin-broken'
    severity = Severity.WARNING
    stage = 'tool'

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        for fault in facts.plugin_faults:
            yield self.finding(
                facts, f'the rules of {fault.name} are left out: {fault.text}',
                hint='mend the package that has this entry point of estimator_spec_ext.rules, or '
                     'uninstall it', actual=fault.text)

    @staticmethod
    def bad() -> Any:
        """An entry point that names a module which is not there."""
        facts = SpecFacts('infer', _predict_fields())
        facts.plugin_faults.append(PluginFault(
            'acme = acme_rulez:RULES', "ModuleNotFoundError: No module named 'acme_rulez'"))
        return facts

    @staticmethod
    def good() -> Any:
        """Every plugin is in order."""
        return _predict_fields()

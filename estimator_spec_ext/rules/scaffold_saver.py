"""A scaffold whose saver leaves variables without a value after a restart."""

from __future__ import annotations

from typing import Any, Iterator, Optional

from estimator_spec_ext import describe
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import VariableInfo
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import scaffold_init


class SaverLeavesOut(Rule):
    """The scaffold's saver does not restore all variables, and nothing else initialises the rest.

    What it finds: a Scaffold(saver=...) of some of the global variables, while neither
    local_init_op nor ready_for_local_init_op gives the others a value. Savers that map the weights
    to their moving averages restore them all.

    Why it matters: init_op and init_fn run only when there is no checkpoint. The first training
    works; after a restart, at the first evaluation and at the export the session stops with
    "Variables not initialized". In TRAIN it is a warning: a job that never restarts works.

    Bad:
        saver = tf.compat.v1.train.Saver([v for v in tf.compat.v1.global_variables()
                                          if 'embedding' not in v.name])

    Good:
        saver = tf.compat.v1.train.Saver()  # after all variables have been made

    When to suppress: when a hook or a ready_op of your own fills the other variables.
    """

    code = 'ESX703'
    slug = 'saver-leaves-variables-out'
    severity = Severity.ERROR
    mistakes = ('V3',)
    needs = ('scaffold',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        scaffold = facts.scaffold
        saver = getattr(scaffold, '_saver', None)
        restore = self._restore_op(facts, saver)
        if restore is None:
            return
        index = facts.index
        filled = index.ancestors((
            restore, scaffold_init.given(scaffold, 'local_init_op'),
            scaffold_init.given(scaffold, 'ready_for_local_init_op')))
        missing = [info for info in index.variables
                   if info.is_global and not self._is_filled(facts, info, filled)]
        if not missing:
            return
        unsure = (facts.is_train or facts.opaque_hooks
                  or scaffold_init.given(scaffold, 'ready_op') is not None)
        names = describe.names([info.name for info in missing])
        yield self.finding(
            facts, f"the scaffold's saver leaves out {names}: a restart finds them uninitialised",
            field='scaffold.saver', op=missing[0].op,
            hint='save all variables, tf.compat.v1.train.Saver() made after the optimizer, or give '
                 'the others a value in Scaffold(local_init_op=...)',
            expected='every global variable', actual=f'{len(missing)} left out',
            severity=Severity.WARNING if unsure else None)

    @staticmethod
    def _restore_op(facts: SpecFacts, saver: Any) -> Optional[Any]:
        """The op that restores; None for a saver that is not built yet or is of another graph."""
        definition = getattr(saver, 'saver_def', None)
        name = getattr(definition, 'restore_op_name', '')
        if not name or not isinstance(saver, v1.train.Saver):
            return None
        try:
            return facts.graph.get_operation_by_name(name.split(':')[0])
        except (KeyError, ValueError):
            return None

    @staticmethod
    def _is_filled(facts: SpecFacts, info: VariableInfo, filled: set[Any]) -> bool:
        return any(op in filled for handle in info.handles
                   for op in facts.index.writes.get(handle, ()))

    @staticmethod
    def bad() -> Any:
        """EVAL restores the weights without the embedding."""
        fields = _evaluated()
        fields['scaffold'] = v1.train.Scaffold(saver=v1.train.Saver(
            [v for v in v1.global_variables() if 'embedding' not in v.name]))
        return fields

    @staticmethod
    def good() -> Any:
        """It restores all."""
        fields = _evaluated()
        fields['scaffold'] = v1.train.Scaffold(saver=v1.train.Saver())
        return fields


def _evaluated() -> dict[str, Any]:
    table = v1.get_variable('embedding', [4, 2])
    weight = v1.get_variable('w', [2, 1])
    loss = tf.reduce_mean(tf.square(tf.matmul(table, weight)), name='loss')
    return {'mode': 'eval', 'loss': loss}


def _saver_before_the_optimizer() -> Any:
    step = v1.train.get_or_create_global_step()
    weight = v1.get_variable('w', [])
    saver = v1.train.Saver()
    loss = tf.square(weight)
    train_op = v1.train.MomentumOptimizer(.1, .9).minimize(loss, step)
    return {'mode': 'train', 'loss': loss, 'train_op': train_op,
            'scaffold': v1.train.Scaffold(saver=saver)}


def _moving_averages() -> Any:
    fields = _evaluated()
    names = tf.train.ExponentialMovingAverage(.9).variables_to_restore()
    fields['scaffold'] = v1.train.Scaffold(saver=v1.train.Saver(names))
    return fields


def _the_rest_is_local_init() -> Any:
    fields = _evaluated()
    table = next(v for v in v1.global_variables() if 'embedding' in v.name)
    saver = v1.train.Saver([v for v in v1.global_variables() if v is not table])
    fields['scaffold'] = v1.train.Scaffold(saver=saver, local_init_op=tf.group(
        v1.train.Scaffold.default_local_init_op(), table.initializer))
    return fields


SaverLeavesOut.more_bad = (_saver_before_the_optimizer,)
SaverLeavesOut.more_good = (_moving_averages, _the_rest_is_local_init)

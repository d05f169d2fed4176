"""A scaffold whose saver leaves variables without a value after a restart."""

from __future__ import annotations

from typing import Any, Iterator, Optional

from estimator_spec_ext import describe
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import VariableInfo
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules.scaffold_init import given, writes_in


class SaverLeavesOut(Rule):
    """The saver does not restore all variables, and nothing else initialises the rest.

    What it finds: a Scaffold(saver=...), or a saver in the collection SAVERS, that leaves global
    variables out, e.g. because it was made before the optimizer; unless local_init_op initialises
    them and a ready_for_local_init_op does not wait for them, as the default does. Savers that map
    the weights to their moving averages restore them all.

    Why it matters: init_op and init_fn run only when there is no checkpoint. The first training
    works; after a restart, at the evaluation and at the prediction the session stops with
    "Variables not initialized". In TRAIN it is a warning, since a job that never restarts works; in
    PREDICT too, when only an export could want the graph, which does without those variables.

    Bad:
        saver = tf.compat.v1.train.Saver([v for v in tf.compat.v1.global_variables()
                                          if 'embedding' not in v.name])

    Good:
        saver = tf.compat.v1.train.Saver()  # after all variables have been made

    When to suppress: when a ready_op of your own knows of the others, or no checkpoint is read.
    """

    code = 'ESX703'
    slug = 'saver-leaves-variables-out'
    severity = Severity.ERROR
    mistakes = ('V3',)
    needs = ('scaffold',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        restore = self._restore_op(facts, self._saver(facts))
        if restore is None:
            return
        index = facts.index
        filled = index.ancestors([restore])
        missing = [info for info in index.variables
                   if info.is_global and not writes_in(index, info, filled)]
        waits = not given(facts, 'ready_for_local_init_op')
        if not waits:
            local = index.ancestors(given(facts, 'local_init_op'))
            missing = [info for info in missing if not writes_in(index, info, local)]
            if given(facts, 'ready_op'):  # nothing waits for a variable that no step reads
                missing = [info for info in missing if self._is_used(facts, info)]
        if not missing:
            return
        names = describe.names([info.name for info in missing])
        yield self.finding(
            facts, f'the saver leaves out {names}: uninitialised '
                   f'{"after a restart" if facts.is_train else "with a checkpoint"}',
            field='scaffold.saver', op=missing[0].op, hint=self._hint(facts, missing, waits),
            expected='every global variable', actual=f'{len(missing)} left out',
            severity=Severity.WARNING if self._unsure(facts, missing) else None)

    def _unsure(self, facts: SpecFacts, missing: list[VariableInfo]) -> bool:
        if facts.is_train or given(facts, 'ready_op'):
            return True
        if getattr(facts.scaffold, '_init_fn', None) is not None:
            return True  # without a checkpoint it may restore them
        return facts.is_predict and not any(self._is_used(facts, info) for info in missing)

    @staticmethod
    def _hint(facts: SpecFacts, missing: list[VariableInfo], waits: bool) -> str:
        local = facts.index.ancestors(given(facts, 'local_init_op'))
        if waits and all(writes_in(facts.index, info, local) for info in missing):
            return ('local_init_op waits for them itself; pass ready_for_local_init_op='
                    'tf.compat.v1.report_uninitialized_variables(saved) too')
        return ('save all variables, tf.compat.v1.train.Saver() made after the optimizer; or '
                'initialise the others in local_init_op, and pass ready_for_local_init_op='
                'tf.compat.v1.report_uninitialized_variables(saved)')

    @staticmethod
    def _is_used(facts: SpecFacts, info: VariableInfo) -> bool:
        return any(op in facts.step_ops for op in info.handles)

    @staticmethod
    def _saver(facts: SpecFacts) -> Any:
        saver = getattr(facts.scaffold, '_saver', None)
        if saver is None and facts.graph is not None:
            collected = facts.graph.get_collection(v1.GraphKeys.SAVERS)
            saver = collected[0] if len(collected) == 1 else None
        return saver

    @staticmethod
    def _restore_op(facts: SpecFacts, saver: Any) -> Optional[Any]:
        """The op that restores; None for a saver that is not built yet or is of another graph."""
        definition = getattr(saver, 'saver_def', None)
        name = getattr(definition, 'restore_op_name', '')
        if not name or not isinstance(saver, v1.train.Saver) or facts.graph is None:
            return None
        try:
            return facts.graph.get_operation_by_name(name.split(':')[0])
        except (KeyError, ValueError):
            return None

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


def _saver_in_the_collection() -> Any:
    """Estimator makes none of its own then."""
    fields = _saver_before_the_optimizer()
    v1.add_to_collection(v1.GraphKeys.SAVERS, fields.pop('scaffold').saver)
    return fields


def _export_without_the_step() -> Any:
    """An export does without the global step; predict does not."""
    weight = v1.get_variable('w', [])
    saver = v1.train.Saver(v1.trainable_variables())
    return {'mode': 'infer', 'predictions': {'p': v1.placeholder(tf.float32, [None]) * weight},
            'scaffold': v1.train.Scaffold(saver=saver)}


def _saver_and_rest() -> tuple[dict[str, Any], Any, list[Any]]:
    fields = _evaluated()
    table = next(v for v in v1.global_variables() if 'embedding' in v.name)
    saved = [v for v in v1.global_variables() if v is not table]
    return fields, tf.group(
        v1.train.Scaffold.default_local_init_op(), table.initializer), saved


def _local_init_op_that_waits() -> Any:
    """The default ready_for_local_init_op waits for every global variable."""
    fields, local, saved = _saver_and_rest()
    return {**fields, 'scaffold': v1.train.Scaffold(
        saver=v1.train.Saver(saved), local_init_op=local)}


def _the_rest_is_local_init() -> Any:
    """local_init_op runs as soon as the saved variables are there."""
    fields, local, saved = _saver_and_rest()
    return {**fields, 'scaffold': v1.train.Scaffold(
        saver=v1.train.Saver(saved), local_init_op=local,
        ready_for_local_init_op=v1.report_uninitialized_variables(saved))}


def _moving_averages() -> Any:
    fields = _evaluated()
    names = tf.train.ExponentialMovingAverage(.9).variables_to_restore()
    fields['scaffold'] = v1.train.Scaffold(saver=v1.train.Saver(names))
    return fields


def _built_later() -> Any:
    """A saver that is built with the scaffold takes all variables."""
    fields = _saver_before_the_optimizer()
    return {**fields, 'scaffold': v1.train.Scaffold(
        saver=v1.train.Saver(sharded=True, defer_build=True))}


SaverLeavesOut.more_bad = (_saver_before_the_optimizer, _saver_in_the_collection,
                           _export_without_the_step, _local_init_op_that_waits)
SaverLeavesOut.more_good = (_the_rest_is_local_init, _moving_averages, _built_later)

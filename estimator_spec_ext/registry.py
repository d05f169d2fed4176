"""The explicit list of all rules. Add a rule by adding its file and one line in `RULES`."""

from __future__ import annotations

import contextlib
import difflib
import functools
from typing import Iterator, NamedTuple, Optional

from estimator_spec_ext import plugins
from estimator_spec_ext.diagnostics import Skipped
from estimator_spec_ext.rule import ALL_MODES, Rule
from estimator_spec_ext.rules import (
    batch_major,
    batch_norm,
    batch_statistics,
    broadcast,
    constants,
    dropout,
    export_outputs,
    first_values,
    fixed_batch,
    foreign,
    global_step,
    gradients,
    hooks_held,
    hooks_late,
    hooks_listed,
    hooks_savers,
    hooks_summaries,
    iterators,
    keras_weights,
    learning_rate,
    loss,
    metric_entries,
    metric_graph,
    metric_shown,
    metric_updates,
    metrics,
    mode,
    nan,
    nothing_trained,
    passthrough,
    predictions,
    preflight_table,
    regularizer,
    replica_collections,
    roles_table,
    scaffold_graph,
    scaffold_init,
    scaffold_saver,
    serving_graph,
    signatures,
    summaries_v2,
    sync_replicas,
    tool,
    tpu,
    tpu_batch,
    tpu_functions,
    train_op,
)

RULES: tuple[Rule, ...] = (
    mode.UnknownMode(),
    mode.StockRefuses(),
    loss.LossNotScalar(),
    loss.LossNotFloating(),
    loss.LossUnknownShape(),
    metrics.MetricsNotDict(),
    metrics.MetricNotPair(),
    metrics.KerasMetricNotUpdated(),
    metric_entries.MetricKeyNotString(),
    metric_entries.MetricReservedName(),
    metric_entries.MetricValueIsOperation(),
    metric_entries.MetricNotScalar(),
    global_step.StepNotAdvanced(),
    global_step.StepAdvancedTwice(),
    train_op.TrainOpUpdatesNothing(),
    train_op.TrainOpNotRunnable(),
    foreign.ForeignGraph(),
    tpu.CallMalformed(),
    tpu.ArgumentsDiffer(),
    tpu_batch.TensorWithoutBatch(),
    tpu.NotATensor(),
    tpu_functions.FunctionFails(),
    tpu_functions.SummariesUnderTPU(),
    tpu_functions.ScaffoldFnNotFunction(),
    tpu_functions.FunctionCaptures(),
    tpu_functions.HostCallReturnsNothing(),
    predictions.PredictionNotTensor(),
    predictions.PredictionKeyNotString(),
    predictions.OutputNamesCollide(),
    predictions.PredictionNotServable(),
    export_outputs.NoSignatures(),
    export_outputs.NotExportOutput(),
    export_outputs.SignatureNameNotString(),
    signatures.NoDefaultSignature(),
    signatures.SignatureAlwaysDropped(),
    signatures.SignatureNeedsExamples(),
    *preflight_table.RULES,
    batch_norm.MovingStatisticsNotUpdated(),
    nothing_trained.NothingTrained(),
    gradients.DeadVariables(),
    hooks_listed.HooksNotList(),
    hooks_listed.NotHook(),
    hooks_listed.HookTwice(),
    hooks_held.HookForeignGraph(),
    hooks_held.HookUnknownName(),
    broadcast.LossBroadcasts(),
    regularizer.RegularizerUnused(),
    metric_graph.MetricValueReadsInput(),
    metric_shown.TrainMetricNeverUpdated(),
    metric_updates.MetricNeverUpdated(),
    metric_updates.MetricUpdatedTwice(),
    metric_updates.MetricNotInitialized(),
    fixed_batch.OutputBatchSizeFixed(),
    scaffold_graph.NotScaffold(),
    scaffold_graph.ScaffoldForeignGraph(),
    scaffold_init.ScaffoldSkipsInitializers(),
    scaffold_init.InitFnUnderReplicas(),
    scaffold_saver.SaverLeavesOut(),
    constants.LargeConstants(),
    iterators.IteratorNotInitialized(),
    serving_graph.PyFuncServed(),
    serving_graph.StrayPlaceholder(),
    serving_graph.ReceiverNotReached(),
    dropout.DropoutOutsideTraining(),
    learning_rate.ScheduleStandsStill(),
    hooks_savers.SaverOnEveryWorker(),
    hooks_savers.SaverTwice(),
    hooks_savers.SaverElsewhere(),
    hooks_savers.WriterOnEveryWorker(),
    hooks_summaries.SummaryHookWithoutSummary(),
    hooks_summaries.EvalSummariesNotSaved(),
    hooks_late.HookMakesOpsLate(),
    keras_weights.KerasWeightsLost(),
    sync_replicas.SyncReplicasHookMissing(),
    replica_collections.LossOfOtherReplicas(),
    batch_statistics.BatchNormInTrainingMode(),
    nan.LossNotFinite(),
    batch_major.PredictionWithoutBatch(),
    batch_major.PredictionLengthsDiffer(),
    summaries_v2.SummaryWithoutEffect(),
    first_values.FirstValuesInEveryMode(),
    passthrough.KeyNotExported(),
    *roles_table.RULES,
    tool.RuleCrashed(),
    tool.UnusedSuppression(),
    tool.InvalidSuppression(),
    tool.PluginBroken(),
)


def rules() -> tuple[Rule, ...]:
    """All rules, those of other packages included, in the order of their codes.

    Returns:
      A tuple of `Rule`s with `code`, `slug`, `severity`, `stage`, `modes`, `mistakes`, `summary`.

    Example:
      >>> rules()[0].code
      'ESX101'
    """
    return _sorted_rules()


@functools.cache
def _sorted_rules() -> tuple[Rule, ...]:
    everything = (*RULES, *plugins.load(RULES).rules, *_added)
    return tuple(sorted(everything, key=lambda rule: rule.code))


# Rules that are being tested by their authors; see `added`.
_added: tuple[Rule, ...] = ()


@contextlib.contextmanager
def added(*extra: Rule) -> Iterator[None]:
    """Runs further rules inside a `with` block, as if a plugin had registered them.

    Args:
      *extra: the rules.

    Yields:
      Nothing.

    Raises:
      ValueError: when a plugin with such a rule would be left out.
    """
    known = list(rules())
    for rule in extra:
        fault = plugins.fault_of(rule, known)
        if fault is not None:
            raise ValueError(fault)
        known.append(rule)
    before = _added
    _set_added((*before, *extra))
    try:
        yield
    finally:
        _set_added(before)


def _set_added(extra: tuple[Rule, ...]) -> None:
    global _added
    _added = extra
    _forget()


def reload() -> None:
    """Looks for plugins again, e.g. in a notebook that has just installed one.

    Example:
      >>> reload()
    """
    plugins.load.cache_clear()
    _forget()


def _forget() -> None:
    for cached in (_sorted_rules, _by_name, rules_for, rules_of_stage, plugin_faults):
        cached.cache_clear()


# Keyed by short names, never by the rules: to hash them all costs more than a rule takes.

@functools.cache
def rules_of_stage(stage: str) -> tuple[Rule, ...]:
    """The rules of one stage, in the order of their codes."""
    return tuple(rule for rule in rules() if rule.stage == stage)


class Choice(NamedTuple):
    """The rules of one stage, in the order of their codes.

    Attributes:
      rules: those that run.
      idle: the slugs of those that have nothing to look at.
      skipped: a note on each of those that are not for the mode.
    """

    rules: tuple[Rule, ...]
    idle: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()


@functools.lru_cache(maxsize=512)
def rules_for(stage: str, mode: Optional[str], given: Optional[frozenset[str]] = None) -> Choice:
    """The rules of one stage that run for a spec of some mode.

    Args:
      stage: the stage.
      mode: a `tf.estimator.ModeKeys` value; with any other, and with None, nothing is known of the
        graph, and all rules run that do not read it.
      given: `SpecFacts.given`; None when that is not known.

    Returns:
      Which rules run, and which do not.
    """
    everything = rules_of_stage(stage)
    in_any_mode = stage in ('stock', 'tool') or (mode not in ALL_MODES and stage != 'graph')
    chosen = [rule for rule in everything if in_any_mode or mode in rule.modes]
    idle = [rule for rule in chosen
            if given is not None and rule.about and given.isdisjoint(rule.about)]
    return Choice(tuple(rule for rule in chosen if rule not in idle),
                  tuple(rule.slug for rule in idle),
                  tuple(Skipped(rule.slug, 'not for this mode', mode)
                        for rule in everything if rule not in chosen))


@functools.cache
def plugin_faults() -> tuple[plugins.PluginFault, ...]:
    """What is wrong with the rules of other packages that were left out."""
    return plugins.load(RULES).faults


@functools.cache
def _by_name() -> dict[str, Rule]:
    return {name: rule for rule in rules() for name in (rule.code, rule.slug)}


def find(name: str) -> Optional[Rule]:
    """The rule with this code or slug; None when there is none."""
    return _by_name().get(name)


def nearest(name: str) -> tuple[str, ...]:
    """Up to three names of rules that look like `name`, the nearest first."""
    return tuple(difflib.get_close_matches(name, list(_by_name()), n=3, cutoff=0.5))


def explain(name: str) -> str:
    """The documentation of a rule as text.

    Args:
      name: a code ('ESX201') or a slug ('loss-not-scalar').

    Returns:
      What `estimator-preflight explain` prints.

    Raises:
      KeyError: when no rule has this name; the message gives the nearest names.

    Example:
      >>> explain('loss-not-scalar').splitlines()[0]
      'ESX201 loss-not-scalar (error)'
    """
    rule = find(name)
    if rule is None:
        near = nearest(name)
        raise KeyError(f'no rule is called {name!r}'
                       + (f'; did you mean {", ".join(near)}?' if near else ''))
    labels = {'train': 'train', 'eval': 'eval', 'infer': 'predict'}
    modes = ', '.join(labels[mode] for mode in rule.modes)
    lines = [f'{rule.code} {rule.slug} ({rule.severity.value})',
             f'stage: {rule.stage}   modes: {modes}'
             + (f'   mistakes: {", ".join(rule.mistakes)}' if rule.mistakes else ''),
             '', rule.documentation, '']
    return '\n'.join(lines)

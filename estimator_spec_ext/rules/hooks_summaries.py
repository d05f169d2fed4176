"""Summaries: hooks that have none to save, and summaries that no hook saves."""

from __future__ import annotations

import re
from typing import Any, Iterator, Optional

from estimator_spec_ext.code_names import names_of
from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import JobContext, SpecFacts
from estimator_spec_ext.hooks import class_name, is_stock, stored_attributes
from estimator_spec_ext.rule import EVAL, HOOKS, Rule
from estimator_spec_ext.rules.hooks_listed import running_hooks

_SUMMARY_TYPES = frozenset({
    'ScalarSummary', 'HistogramSummary', 'ImageSummary', 'AudioSummary', 'TensorSummary',
    'TensorSummaryV2', 'MergeSummary'})
# What TensorFlow says of the queue of an input function; its name has the size in it.
_OF_A_QUEUE = re.compile(r'fraction_(of|over)_\d+')


def summary_name(summary: Any) -> str:
    """What a summary is called, without its scopes and the number that makes it unique."""
    op = graphs.as_op(summary)
    return '' if op is None else re.sub(r'_\d+$', '', op.name.rsplit('/', 1)[-1])


def _eval() -> dict[str, Any]:
    v1.summary.scalar('accuracy', tf.constant(1., name='accuracy'))
    return {'mode': 'eval', 'loss': tf.constant(1., name='loss')}


class SummaryHookWithoutSummary(Rule):
    """A SummarySaverHook has no summary to save.

    What it finds: a SummarySaverHook with a scaffold that no session will complete: another one
    than the spec's, or, in EVAL, one with a local_init_op of its own, of which Estimator makes a
    copy; and in EVAL and PREDICT one in a graph without any summary.

    Why it matters: the hook asks the scaffold for a summary_op in each step, gets None, and writes
    nothing, without a word.

    Bad:
        evaluation_hooks=[SummarySaverHook(1, output_dir=d, scaffold=tf.compat.v1.train.Scaffold())]

    Good:
        merged = tf.compat.v1.summary.merge_all()
        evaluation_hooks=[SummarySaverHook(1, output_dir=d, summary_op=merged)]

    When to suppress: when a hook of your own completes the scaffold.
    """

    code = 'ESX610'
    slug = 'summary-hook-without-summary'
    severity = Severity.WARNING
    stage = 'spec'
    mistakes = ('H4',)
    about = HOOKS

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if facts.graph is None or facts.loss is None and facts.predictions is None:
            return  # hooks alone: nothing is known of the scaffold
        for place, hook in running_hooks(facts):
            fault = self._fault(facts, hook)
            if fault:
                text, hint = fault
                yield self.finding(
                    facts, f'{place} ({class_name(hook)}) has no summary to save: {text}',
                    field=place, hint=hint, expected='a summary_op', actual='None')

    @staticmethod
    def _fault(facts: SpecFacts, hook: Any) -> Optional[tuple[str, str]]:
        if not isinstance(hook, v1.train.SummarySaverHook) or not is_stock(hook):
            return None
        stored = dict(stored_attributes(hook))
        scaffold = stored.get('_scaffold')
        parts = dict(stored_attributes(scaffold))
        if (stored.get('_summary_op') is not None or parts.get('_summary_op') is not None
                or not isinstance(scaffold, v1.train.Scaffold)):
            return None
        given = 'pass summary_op=tf.compat.v1.summary.merge_all() in place of the scaffold'
        if scaffold is not facts.scaffold:
            return "its scaffold is not the spec's", given + ', or the scaffold of the spec'
        if facts.is_eval and parts.get('_local_init_op') is not None:
            return 'in EVAL a scaffold with a local_init_op is copied', given
        if not facts.is_train and not _has_summaries(facts.graph):
            return ('this graph has none',
                    'add summaries with tf.compat.v1.summary, or leave the hook out')
        return None

    @staticmethod
    def bad() -> Any:
        """A scaffold that nobody but the hook knows."""
        hook = v1.train.SummarySaverHook(1, output_dir='job', scaffold=v1.train.Scaffold())
        return {**_eval(), 'evaluation_hooks': [hook]}

    @staticmethod
    def good() -> Any:
        """The merged summaries."""
        fields = _eval()
        hook = v1.train.SummarySaverHook(
            1, output_dir='job', summary_op=v1.summary.merge_all())
        return {**fields, 'evaluation_hooks': [hook]}


def _has_summaries(graph: tf.Graph) -> bool:
    return any(graph.get_collection(key)
               for key in (v1.GraphKeys.SUMMARIES, v1.GraphKeys.SUMMARY_OP))


def _copied_scaffold() -> Any:
    """In EVAL Estimator adds the initialisers of its metrics to a copy."""
    scaffold = v1.train.Scaffold(local_init_op=tf.no_op(name='start'))
    hook = v1.train.SummarySaverHook(1, output_dir='job', scaffold=scaffold)
    return {**_eval(), 'scaffold': scaffold, 'evaluation_hooks': [hook]}


def _no_summary_at_all() -> Any:
    """A mode without summaries."""
    scaffold = v1.train.Scaffold()
    hook = v1.train.SummarySaverHook(1, output_dir='job', scaffold=scaffold)
    return {'mode': 'infer', 'predictions': {'p': v1.placeholder(tf.float32, [None])},
            'scaffold': scaffold, 'prediction_hooks': [hook]}


def _scaffold_of_the_spec() -> Any:
    """The session completes it."""
    scaffold = v1.train.Scaffold()
    hook = v1.train.SummarySaverHook(1, output_dir='job', scaffold=scaffold)
    return {**_eval(), 'scaffold': scaffold, 'evaluation_hooks': [hook]}


def _another_scaffold_with_summaries() -> Any:
    """It has a summary_op from the beginning."""
    fields = _eval()
    scaffold = v1.train.Scaffold(summary_op=v1.summary.merge_all())
    hook = v1.train.SummarySaverHook(1, output_dir='job', scaffold=scaffold)
    return {**fields, 'evaluation_hooks': [hook]}


SummaryHookWithoutSummary.more_bad = (_copied_scaffold, _no_summary_at_all)
SummaryHookWithoutSummary.more_good = (_scaffold_of_the_spec, _another_scaffold_with_summaries)


class EvalSummariesNotSaved(Rule):
    """The summaries of EVAL are not saved.

    What it finds: summaries in the graph of EVAL that no evaluation hook holds. Model code that
    makes the same summaries in every mode is the usual reason, so this is information, unless TRAIN
    is known not to have them.

    Why it matters: Estimator saves summaries in TRAIN alone. An image or a histogram that was made
    for EVAL never reaches TensorBoard, without a word.

    Bad:
        tf.compat.v1.summary.image('masks', masks)   # in EVAL

    Good:
        tf.compat.v1.summary.image('masks', masks)
        merged = tf.compat.v1.summary.merge_all()
        evaluation_hooks=[SummarySaverHook(1, output_dir=d, summary_op=merged)]

    When to suppress: when the summaries of EVAL are not wanted.
    """

    code = 'ESX611'
    slug = 'eval-summaries-not-saved'
    severity = Severity.WARNING
    stage = 'spec'
    modes = (EVAL,)
    mistakes = ('H5',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if facts.graph is None or facts.loss is None:
            return
        summaries = facts.graph.get_collection(v1.GraphKeys.SUMMARIES)
        if not summaries or any(isinstance(hook, v1.train.SummarySaverHook)
                                for _, hook in running_hooks(facts)):
            return
        held = (graphs.as_op(value) for value in facts.hook_ops)
        if any(op is not None and op.type in _SUMMARY_TYPES for op in held):
            return
        if any(map(_speaks_of_summaries, facts.opaque_hooks)):
            return  # it may merge them in begin()
        trained = facts.context.train_summaries
        alone = [] if trained is None else [
            summary for summary in summaries if (name := summary_name(summary)) not in trained
            and not _OF_A_QUEUE.search(name)]
        shown = alone or summaries
        first, count = shown[0], len(shown)
        yield self.finding(
            facts, f'no hook saves the {count} {"summary" if count == 1 else "summaries"} of EVAL'
                   + (' that TRAIN does not have' if alone else ''), op=first,
            hint='where they are wanted, add evaluation_hooks=[tf.compat.v1.train.SummarySaverHook'
                 '(save_steps=1, output_dir=..., summary_op=tf.compat.v1.summary.merge_all())]',
            field='evaluation_hooks', expected='a SummarySaverHook', actual='none',
            severity=None if alone else Severity.INFO)

    @staticmethod
    def bad() -> Any:
        """A summary and no hook."""
        return _eval()

    @staticmethod
    def good() -> Any:
        """A hook that saves it."""
        fields = _eval()
        hook = v1.train.SummarySaverHook(
            1, output_dir='job', summary_op=v1.summary.merge_all())
        return {**fields, 'evaluation_hooks': [hook]}


def _speaks_of_summaries(hook: Any) -> bool:
    """Whether the code of a hook's class mentions summaries."""
    return any('summar' in name.lower() for name in names_of(type(hook)))


class _SavesItself(v1.train.SessionRunHook):
    """An author's own hook."""

    def __init__(self, summary: Any) -> None:
        self._summary = summary


def _hook_of_ones_own() -> Any:
    """It holds the merged summaries."""
    fields = _eval()
    return {**fields, 'evaluation_hooks': [_SavesItself(v1.summary.merge_all())]}


class _MergesInBegin(v1.train.SessionRunHook):
    """An author's own hook, which finds in the graph what it writes."""

    def begin(self) -> None:
        """Merges."""
        self._merged = v1.summary.merge_all()


def _merged_in_begin() -> Any:
    """It holds nothing yet."""
    return {**_alone(), 'evaluation_hooks': [_MergesInBegin()]}


class _Counting(v1.train.SessionRunHook):
    """An author's own hook, which has another purpose."""


def _another_hook() -> Any:
    """A hook is there, and does nothing about summaries."""
    return {**_alone(), 'evaluation_hooks': [_Counting()]}


def _alone() -> Any:
    """TRAIN has another summary."""
    return {**_eval(), 'context': JobContext(train_summaries=frozenset({'loss'}))}


def _queue() -> Any:
    """The summary of a queue, which every mode has, with other numbers."""
    v1.summary.scalar('fraction_over_0_of_1000_full', tf.constant(1.))
    return {'mode': 'eval', 'loss': tf.constant(1., name='loss'),
            'context': JobContext(train_summaries=frozenset({'fraction_over_250_of_1000_full'}))}


EvalSummariesNotSaved.more_bad = (_alone, _another_hook)
EvalSummariesNotSaved.more_good = (_hook_of_ones_own, _merged_in_begin, _queue)

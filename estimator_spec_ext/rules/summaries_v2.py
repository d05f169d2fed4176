"""Summaries of TensorFlow 2, which Estimator does not know."""

from __future__ import annotations

import re
from typing import Any, Iterator

from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.rule import EVAL, TRAIN, Rule

_WRITES = frozenset({
    'WriteSummary', 'WriteScalarSummary', 'WriteHistogramSummary', 'WriteImageSummary',
    'WriteAudioSummary', 'WriteRawProtoSummary'})
# What tf.summary leaves in a graph when there is no writer: a constant False in a scope of its own.
_NO_WRITER = re.compile(r'(?:^|(?P<scope>.*)/)write_summary(?:_\d+)?/Const(?:_\d+)?$')


class SummaryWithoutEffect(Rule):
    """A tf.summary of TensorFlow 2 writes nothing.

    What it finds: tf.summary.scalar and its like, of TensorFlow 2, called without a default writer,
    which adds nothing but a constant to the graph; or with a writer, but run by nobody.

    Why it matters: Estimator saves the summaries of tf.compat.v1.summary. TensorBoard shows no
    curve, and nothing says why.

    Bad:
        tf.summary.scalar('accuracy', accuracy, step=step)

    Good:
        tf.compat.v1.summary.scalar('accuracy', accuracy)

    When to suppress: when shared code calls tf.summary and the curves are not wanted here.
    """

    code = 'ESX690'
    slug = 'summary-without-effect'
    severity = Severity.WARNING
    modes = (TRAIN, EVAL)
    mistakes = ('H6',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        index = facts.index
        writes = index.of_types(_WRITES)
        softer = Severity.INFO if facts.is_eval else None
        if writes and not facts.opaque_hooks:
            idle = [op for op in writes if op not in facts.run_ops]
            if idle:
                yield self._finding(facts, idle, 'is run by nobody', softer)
        silent = [op for op in index.unwritten_summaries
                  if _NO_WRITER.match(op.name) and op.outputs[0].dtype == tf.bool
                  and not any(parent.type in _WRITES for parent in op.control_inputs)]
        if silent:
            yield self._finding(facts, silent, 'has no writer and writes nothing', softer)

    def _finding(self, facts: SpecFacts, ops: list[Any], what: str, severity: Any) -> Finding:
        match = _NO_WRITER.match(ops[0].name)
        name = (match.group('scope') if match else None) or ops[0].name
        more = f' and {len(ops) - 1} more' if len(ops) > 1 else ''
        return self.finding(
            facts, f'tf.summary {name!r}{more} {what}', op=ops[0], severity=severity,
            hint="use tf.compat.v1.summary, e.g. tf.compat.v1.summary.scalar('name', tensor)",
            expected='tf.compat.v1.summary', actual='tf.summary of TensorFlow 2')

    @staticmethod
    def bad() -> Any:
        """A scalar and a histogram without a writer."""
        fields = _train()
        tf.compat.v2.summary.scalar('cost', fields['loss'], step=0)
        tf.compat.v2.summary.histogram('costs', fields['loss'], step=0)
        return fields

    @staticmethod
    def good() -> Any:
        """The summary that Estimator saves."""
        fields = _train()
        v1.summary.scalar('cost', fields['loss'])
        return fields


def _train() -> dict[str, Any]:
    step = v1.train.get_or_create_global_step()
    loss = tf.square(v1.get_variable('w', []), name='loss')
    train_op = v1.train.GradientDescentOptimizer(.1).minimize(loss, step)
    return {'mode': 'train', 'loss': loss, 'train_op': train_op}


def _with_idle_writer() -> Any:
    """With a writer, and nobody runs it."""
    fields = _train()
    with tf.compat.v2.summary.create_file_writer('unused').as_default():
        tf.compat.v2.summary.scalar('cost', fields['loss'], step=0)
    return fields


def _run_beside_training() -> Any:
    """With a writer, run with the training step."""
    fields = _train()
    with tf.compat.v2.summary.create_file_writer('unused').as_default():
        tf.compat.v2.summary.scalar('cost', fields['loss'], step=0)
    fields['train_op'] = tf.group(fields['train_op'], v1.summary.all_v2_summary_ops())
    return fields


SummaryWithoutEffect.more_bad = (_with_idle_writer,)
SummaryWithoutEffect.more_good = (_run_beside_training,)

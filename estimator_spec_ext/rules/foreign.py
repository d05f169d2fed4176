"""Values of another graph than the one that this spec runs."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe, export
from estimator_spec_ext.compat import distribution, estimator, graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.rule import Rule


def _values(facts: SpecFacts) -> Iterator[tuple[str, Any]]:
    """The tensors and ops of the fields, each with its place; what else is there is left out."""
    yield 'loss', facts.loss
    yield 'train_op', facts.train_op
    predictions = facts.predictions
    if isinstance(predictions, dict):
        yield from ((describe.entry('predictions', key), value)
                    for key, value in predictions.items())
    else:
        yield 'predictions', predictions
    for field, parts in (('eval_metric_ops', _metric_parts), ('export_outputs', _output_parts)):
        entries = facts.fields[field]
        if isinstance(entries, dict):
            for key, entry in entries.items():
                place = describe.entry(field, key)
                yield from ((place, value) for value in parts(entry))


def _metric_parts(metric: Any) -> list[Any]:
    if isinstance(metric, tf.keras.metrics.Metric):
        return list(metric.updates)
    try:
        return tf.nest.flatten(metric)
    except (TypeError, ValueError):  # a dict whose keys cannot be sorted
        return []


def _output_parts(output: Any) -> list[Any]:
    return [tensor for _, tensor in export.tensors_of(output)]


class ForeignGraph(Rule):
    """A field holds a tensor or an op of another graph.

    What it finds: a loss, train_op, prediction, metric or export output that was made in another
    graph than the spec, or eagerly, outside of any graph.

    Why it matters: a tensor that was kept from an earlier call of model_fn, in an attribute or a
    global, belongs to a graph that is gone. Stock names one such value and stops; in export_outputs
    it sees none, and the export serves whatever tensor has the same name in its own graph.

    Bad:
        self.scores = self.scores or build(features)   # made in the first call, used in the second

    Good:
        scores = build(features)

    When to suppress: never; a session runs one graph.
    """

    code = 'ESX104'
    slug = 'foreign-graph'
    severity = Severity.ERROR
    stage = 'spec'
    mistakes = ('T8',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if facts.graph is None:
            return
        told: set[str] = set()
        for place, value in _values(facts):
            if value is None or place in told or distribution.is_per_replica(value):
                continue
            if _is_eager(value):
                text, hint = 'was made eagerly', 'build it inside model_fn'
            elif facts.is_foreign(value):
                text = 'belongs to another graph'
                hint = 'build it in this call of model_fn; keep no tensors between the calls'
            else:
                continue
            told.add(place)
            ignored = place.startswith('export_outputs') and not facts.is_predict
            yield self.finding(
                facts, f"{place} {text}; expected the graph of this spec", field=place,
                op=value, hint=hint, expected='the default graph',
                actual='no graph' if _is_eager(value) else 'another graph',
                severity=Severity.INFO if ignored else None)

    @staticmethod
    def bad() -> Any:
        """The prediction of an earlier call."""
        return {'mode': 'infer', 'predictions': {'p': _of_another_graph()}}

    @staticmethod
    def good() -> Any:
        """A prediction of this call."""
        return {'mode': 'infer', 'predictions': {'p': _prediction()}}


def _is_eager(value: Any) -> bool:
    """Whether a tensor is a value rather than a part of a graph."""
    return (isinstance(value, tf.Tensor) and not isinstance(value, tf.Variable)
            and graphs.graph_of(value) is None)


def _prediction() -> Any:
    return tf.identity(v1.placeholder(tf.float32, [None], name='x'), name='kept')


def _of_another_graph() -> Any:
    with tf.Graph().as_default():
        return _prediction()


def _everywhere() -> Any:
    """Loss, metric and an output that EVAL ignores."""
    with tf.Graph().as_default():
        loss = tf.constant(1., name='old_loss')
        metric = v1.metrics.mean(loss)
    return {'mode': 'eval', 'loss': loss, 'eval_metric_ops': {'error': metric},
            'export_outputs': {'p': estimator.export.PredictOutput(loss)}}


def _train_op_of_another_graph() -> Any:
    """An optimizer's op that was kept."""
    with tf.Graph().as_default():
        train_op = tf.no_op(name='old_train_op')
    return {'mode': 'train', 'loss': tf.constant(1.), 'train_op': train_op}


def _export_of_another_graph() -> Any:
    """Stock sees nothing of this one."""
    return {'mode': 'infer', 'predictions': {'p': _prediction()},
            'export_outputs': {'serving_default': estimator.export.PredictOutput(
                {'p': _of_another_graph()})}}


ForeignGraph.more_bad = (_everywhere, _train_op_of_another_graph, _export_of_another_graph)

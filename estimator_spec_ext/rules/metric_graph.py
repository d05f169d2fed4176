"""Metrics as the graph sees them: what the value reads, and whether the update is ever run."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import DEQUEUE_TYPES, ITERATOR_TYPES, GraphIndex
from estimator_spec_ext.rule import EVAL, TRAIN, Rule
from estimator_spec_ext.rules import metrics

_FRESH_DATA = ITERATOR_TYPES | DEQUEUE_TYPES | {'Placeholder', 'PlaceholderV2'}


def _features() -> Any:
    return v1.data.make_one_shot_iterator(
        tf.data.Dataset.from_tensors(tf.ones([4], name='row')).repeat()).get_next()


def _eval_fields(**entries: Any) -> dict[str, Any]:
    return {'mode': 'eval', 'loss': tf.constant(1., name='loss'), 'eval_metric_ops': entries}


class MetricValueReadsInput(Rule):
    """The value of a metric reads the input instead of what its update has gathered.

    What it finds: in EVAL, a value that depends on the input pipeline. When the value updates the
    metric's own variables as well (the update op given twice), it is a note: such programs work, at
    the price of one batch more.

    Why it matters: Estimator runs the update op for each batch, and the value once, after the last.
    A value that reads the input then asks for one more batch: at the end of the data the evaluation
    dies with OutOfRange, inside train_and_evaluate without a word; on endless data the number is
    that of a single batch.

    Bad:
        ratio = tf.reduce_mean(hits)
        eval_metric_ops = {'ratio': (ratio, ratio)}

    Good:
        eval_metric_ops = {'ratio': tf.compat.v1.metrics.mean(hits)}

    When to suppress: when the number of a single batch is what you want, and the data are endless.
    """

    code = 'ESX510'
    slug = 'metric-value-reads-input'
    severity = Severity.WARNING
    modes = (EVAL,)
    mistakes = ('M5',)
    needs = ('eval_metric_ops',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        index = facts.index
        sources = set(index.of_types(_FRESH_DATA))
        for key, value in metrics.entries(facts) if sources else ():
            tensors, _ = metrics.pair(value)
            found = index.ancestors(tensors)
            source = next((op for op in index.of_types(_FRESH_DATA) if op in found), None)
            if source is None:
                continue
            field = describe.entry(metrics.FIELD, key)
            writes = any(op in found for ops in index.writes.values() for op in ops)
            yield self.finding(
                facts, f'the value of {field} reads the input: it needs one batch more at the end',
                field=field, op=tensors[0],
                hint='gather it over the batches, e.g. tf.compat.v1.metrics.mean(...)',
                expected='a value of variables', actual=f"a value of op '{source.name}'",
                severity=Severity.INFO if writes else None,
                path=index.path(tensors[0], source))

    @staticmethod
    def bad() -> Any:
        """The mean of one batch, twice."""
        mean = tf.reduce_mean(_features(), name='batch_mean')
        return _eval_fields(average=(mean, mean))

    @staticmethod
    def good() -> Any:
        """A mean over all batches."""
        return _eval_fields(average=v1.metrics.mean(_features()))


def _update_given_twice() -> Any:
    _, update = v1.metrics.mean(_features())
    return _eval_fields(average=(update, update))


def _constant_value() -> Any:
    rate = tf.constant(.1, name='rate')
    return _eval_fields(rate=(rate, tf.no_op()))


MetricValueReadsInput.more_good = (_update_given_twice, _constant_value)


class TrainMetricNeverUpdated(Rule):
    """A metric that is shown during training is never updated.

    What it finds: in TRAIN, a summary or a hook that shows the value of a streaming metric, while
    neither the training step nor the summary runs the metric's update op.

    Why it matters: the value stays what its initial variables give, most often 0. Nothing says so.

    Bad:
        accuracy, _ = tf.compat.v1.metrics.accuracy(labels, classes)
        tf.compat.v1.summary.scalar('accuracy', accuracy)

    Good:
        _, accuracy = tf.compat.v1.metrics.accuracy(labels, classes)
        tf.compat.v1.summary.scalar('accuracy', accuracy)

    When to suppress: when a hook of your own runs the update.
    """

    code = 'ESX511'
    slug = 'train-metric-never-updated'
    severity = Severity.WARNING
    modes = (TRAIN,)
    mistakes = ('M6',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        index = facts.index
        streaming = [info for info in index.variables
                     if v1.GraphKeys.METRIC_VARIABLES in info.collections and index.updates(info)]
        if not streaming:
            return
        summaries = [op for op in facts.graph.get_collection(v1.GraphKeys.SUMMARIES)
                     if graphs.as_op(op) is not None]
        shown = index.ancestors((*summaries, *facts.hook_ops))
        run = facts.run_ops
        stale = [info for info in streaming if any(op in shown for op in info.handles)
                 and not any(op in run or op in shown for op in index.updates(info))]
        if not stale or facts.opaque_hooks:
            return
        for root in (*summaries, *facts.hook_ops):
            read = [info for info in stale
                    if any(op in index.ancestors([root]) for op in info.handles)]
            if read:
                yield self._stale(facts, index, root, read[0])

    def _stale(self, facts: SpecFacts, index: GraphIndex, root: Any, info: Any) -> Finding:
        return self.finding(
            facts, f"a metric is shown in training and never updated: nothing runs the update of "
                   f"'{info.name}'", op=root,
            hint='show the update op, the second result of tf.compat.v1.metrics.*, instead of the '
                 'first', expected='an update op that the step runs', actual='none',
            path=index.path(root, info.op))

    @staticmethod
    def bad() -> Any:
        """The value of the metric goes into a summary."""
        fields, accuracy, _ = _training_with_metric()
        v1.summary.scalar('hits', accuracy)
        return fields

    @staticmethod
    def good() -> Any:
        """Its update op does."""
        fields, _, update = _training_with_metric()
        v1.summary.scalar('hits', update)
        return fields


def _training_with_metric() -> tuple[dict[str, Any], Any, Any]:
    row = tf.reshape(_features(), [-1, 1])
    weight = v1.get_variable('w', [1, 1])
    guess = tf.matmul(row, weight)
    loss = tf.reduce_mean(tf.square(guess - 1.))
    accuracy, update = v1.metrics.accuracy(tf.ones_like(guess), tf.round(guess))
    train_op = v1.train.GradientDescentOptimizer(.1).minimize(
        loss, v1.train.get_or_create_global_step())
    return {'mode': 'train', 'loss': loss, 'train_op': train_op}, accuracy, update


def _value_beside_its_update() -> Any:
    fields, accuracy, update = _training_with_metric()
    v1.summary.scalar('hits', accuracy)
    fields['train_op'] = tf.group(fields['train_op'], update)
    return fields


def _update_in_a_hook() -> Any:
    fields, accuracy, update = _training_with_metric()
    v1.summary.scalar('hits', accuracy)
    fields['training_hooks'] = [tf.estimator.LoggingTensorHook({'hits': update}, every_n_iter=1)]
    return fields


TrainMetricNeverUpdated.more_good = (_value_beside_its_update, _update_in_a_hook)

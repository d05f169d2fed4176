"""Metrics that training shows and never updates."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import GraphIndex
from estimator_spec_ext.rule import TRAIN, Rule
from estimator_spec_ext.rules.metric_graph import adding, gathering


class TrainMetricNeverUpdated(Rule):
    """A metric that is shown during training is never updated.

    What it finds: in TRAIN, a summary or a hook that shows the value of a streaming metric, while
    neither the training step, nor a hook, nor the summaries run the metric's update op.

    Why it matters: the value stays what its initial variables give, most often 0. Nothing says so.
    The variables of a Keras metric are not even initialised in TRAIN: the summary fails.

    Bad:
        accuracy, _ = tf.compat.v1.metrics.accuracy(labels, classes)
        tf.compat.v1.summary.scalar('accuracy', accuracy)

    Good:
        _, accuracy = tf.compat.v1.metrics.accuracy(labels, classes)
        tf.compat.v1.summary.scalar('accuracy', accuracy)

    When to suppress: when a hook of your own finds the update in begin() and runs it.
    """

    code = 'ESX511'
    slug = 'train-metric-never-updated'
    severity = Severity.WARNING
    modes = (TRAIN,)
    mistakes = ('M6',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        index = facts.index
        summaries = [value for value in index.graph.get_collection(v1.GraphKeys.SUMMARIES)
                     if graphs.as_op(value) is not None]
        roots = [*summaries, *facts.hook_ops]
        shown = index.ancestors(roots)
        stale = [info for info in gathering(index, roots)
                 if not any(op in facts.run_ops or op in shown for op in adding(index, info))]
        if not stale:
            return
        told: set[Any] = set()
        for root in roots:
            read = index.ancestors([root])
            info = next((info for info in stale if any(op in read for op in info.handles)), None)
            if info is not None and graphs.as_op(root) not in told:
                told.add(graphs.as_op(root))
                yield self._stale(facts, index, root, info)

    def _stale(self, facts: SpecFacts, index: GraphIndex, root: Any, info: Any) -> Finding:
        return self.finding(
            facts, f"nothing updates a metric that training shows: no step adds to '{info.name}'",
            op=root, hint='show the update op, the second result of tf.compat.v1.metrics.*, in '
                          'place of the first; or run it with train_op',
            expected='an update op that the step runs', actual='none',
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
    row = v1.placeholder(tf.float32, [None, 1], name='row')
    weight = v1.get_variable('w', [1, 1])
    guess = tf.matmul(row, weight)
    loss = tf.reduce_mean(tf.square(guess - 1.))
    accuracy, update = v1.metrics.accuracy(tf.ones_like(guess), tf.round(guess))
    train_op = v1.train.GradientDescentOptimizer(.1).minimize(
        loss, v1.train.get_or_create_global_step())
    return {'mode': 'train', 'loss': loss, 'train_op': train_op}, accuracy, update


class _Shows(v1.train.SessionRunHook):
    """An author's own hook that prints a value."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def before_run(self, run_context: Any) -> Any:
        """Asks for it."""
        return v1.train.SessionRunArgs(self._value)


def _value_in_a_hook() -> Any:
    """Logged, and never updated."""
    fields, accuracy, _ = _training_with_metric()
    return {**fields, 'training_hooks': [_Shows({'hits': accuracy})]}


def _value_by_name() -> Any:
    """The hook goes by a name."""
    fields, accuracy, _ = _training_with_metric()
    tf.identity(accuracy, name='shown')
    return {**fields, 'training_hooks': [v1.train.LoggingTensorHook(['shown'], 10)]}


def _keras_metric() -> Any:
    """Its update belongs to no step."""
    fields, _, _ = _training_with_metric()
    mean = tf.keras.metrics.Mean()
    mean.update_state(fields['loss'])
    v1.summary.scalar('mean_loss', mean.result())
    return fields


def _value_beside_its_update() -> Any:
    """train_op runs the update."""
    fields, accuracy, update = _training_with_metric()
    v1.summary.scalar('hits', accuracy)
    fields['train_op'] = tf.group(fields['train_op'], update)
    return fields


def _update_in_a_hook() -> Any:
    """The hook runs it."""
    fields, accuracy, update = _training_with_metric()
    v1.summary.scalar('hits', accuracy)
    return {**fields, 'training_hooks': [_Shows(update)]}


def _update_by_name() -> Any:
    """A hook that goes by a name runs it."""
    fields, accuracy, update = _training_with_metric()
    v1.summary.scalar('hits', accuracy)
    tf.identity(update, name='running')
    return {**fields, 'training_hooks': [v1.train.LoggingTensorHook(['running'], 10)]}


def _metrics_that_nobody_shows() -> Any:
    """Made in every mode, used in EVAL."""
    fields, accuracy, update = _training_with_metric()
    return {**fields, 'eval_metric_ops': {'accuracy': (accuracy, update)}}


TrainMetricNeverUpdated.more_bad = (_value_in_a_hook, _value_by_name, _keras_metric)
TrainMetricNeverUpdated.more_good = (
    _value_beside_its_update, _update_in_a_hook, _update_by_name, _metrics_that_nobody_shows)

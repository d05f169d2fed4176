"""The metrics: a dict from names to `(value, update_op)` or Keras metrics."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import distribution, graphs, stock, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.tpu_facts import TPUFacts

FIELD = 'eval_metric_ops'


def entries(facts: SpecFacts) -> list[tuple[Any, Any]]:
    """Name and value of each metric of one replica; () when the field holds no dict."""
    metrics = facts.eval_metric_ops
    return list(metrics.items()) if isinstance(metrics, dict) else []


def parts(value: Any) -> list[Any]:
    """The leaves of a metric, e.g. its value and its update op."""
    try:
        return tf.nest.flatten(value)
    except (TypeError, ValueError):  # a dict whose keys cannot be sorted
        return [value]


def pair(value: Any) -> tuple[list[Any], list[Any]]:
    """The leaves of the value and of the update of a pair; two empty lists for anything else."""
    if isinstance(value, tuple) and len(value) == 2:
        return parts(value[0]), parts(value[1])
    return [], []


def _eval(metrics: Any) -> dict[str, Any]:
    return {'mode': 'eval', 'loss': tf.constant(1., name='loss'), 'eval_metric_ops': metrics}


def _labels() -> tuple[Any, Any]:
    labels = v1.placeholder(tf.int64, [None], name='labels')
    return labels, v1.placeholder(tf.int64, [None], name='classes')


class MetricsNotDict(Rule):
    """eval_metric_ops is not a dict.

    What it finds: a list of metrics, one bare pair, a `(metric_fn, tensors)` tuple as TPUEstimator
    takes it, or any other object that is no dict.

    Why it matters: stock raises when the EVAL spec is built, which is at the first checkpoint, and
    also in TRAIN and PREDICT when the metrics are handed in there.

    Bad:
        eval_metric_ops=[tf.compat.v1.metrics.accuracy(labels, classes)]

    Good:
        eval_metric_ops={'accuracy': tf.compat.v1.metrics.accuracy(labels, classes)}

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX501'
    slug = 'metrics-not-dict'
    severity = Severity.ERROR
    stage = 'spec'
    mistakes = ('M1', 'U2')

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        metrics = facts.eval_metric_ops
        if metrics is None or (type(metrics) is dict and not metrics):
            yield from self._nothing_returned(facts)
        if metrics is None or isinstance(metrics, dict) or distribution.is_per_replica(metrics):
            return
        actual = describe.value(metrics)
        hint = "name each metric: {'accuracy': tf.compat.v1.metrics.accuracy(labels, classes)}"
        if isinstance(metrics, tuple) and metrics and callable(metrics[0]):
            hint = ('call the metric function and pass the dict that it returns; only '
                    'TPUEstimatorSpec(eval_metrics=...) takes (metric_fn, tensors)')
        elif callable(metrics) and not isinstance(metrics, tf.keras.metrics.Metric):
            hint = 'call the function and pass the dict that it returns'
        yield self.finding(
            facts, f'eval_metric_ops is {actual}; expected a dict', field=FIELD, hint=hint,
            expected='a dict', actual=actual)

    def _nothing_returned(self, facts: SpecFacts) -> Iterator[Finding]:
        """A CPU does without the metrics of such a function; a TPU does not."""
        called = facts.results.get('eval_metrics') if isinstance(facts, TPUFacts) else None
        if called is not None and called.error is None and called.value is None and facts.is_eval:
            yield self.finding(
                facts, 'eval_metrics[0] returns None; expected a dict of metrics',
                field='eval_metrics', hint='return the dict: {name: (value, update_op)}',
                expected='a dict', actual='None', severity=Severity.WARNING)

    @staticmethod
    def bad() -> Any:
        """A list of pairs, without names."""
        return _eval([v1.metrics.accuracy(*_labels())])

    @staticmethod
    def good() -> Any:
        """The pair under a name."""
        return _eval({'accuracy': v1.metrics.accuracy(*_labels())})


class MetricNotPair(Rule):
    """A metric is neither a (value, update_op) tuple nor a Keras metric.

    What it finds: a raw tensor, a list of two, a tuple of another length, None or a number in a
    pair, a function or a class that was not called, or what `update_state` returns.

    Why it matters: stock raises when the EVAL spec is built, after training has begun; for a None
    in a pair it says no more than "'NoneType' object has no attribute 'graph'".

    Bad:
        eval_metric_ops={'error': tf.reduce_mean(error)}

    Good:
        eval_metric_ops={'error': tf.compat.v1.metrics.mean(error)}

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX502'
    slug = 'metric-not-pair'
    severity = Severity.ERROR
    stage = 'spec'
    mistakes = ('M1', 'M3', 'U2')
    about = (FIELD,)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if FIELD not in facts.stock_refusals:
            return
        for key, value in entries(facts):
            if isinstance(value, tf.keras.metrics.Metric) or not stock.refuses_metric(key, value):
                continue
            leaves = parts(value)
            if any(_is_outside(facts, leaf) for leaf in leaves):
                continue  # another rule's matter
            place = describe.entry(FIELD, key)
            actual, hint = _fault(key, value)
            yield self.finding(
                facts, f'{place} is {actual}; expected (value, update_op) or a Keras metric',
                field=place, op=next((leaf for leaf in leaves if graphs.as_op(leaf)), None),
                hint=hint, expected='a tuple (value, update_op) or a tf.keras.metrics.Metric',
                actual=actual)

    @staticmethod
    def bad() -> Any:
        """The mean of one batch."""
        labels, classes = _labels()
        return _eval({'hits': tf.reduce_mean(tf.cast(tf.equal(labels, classes), tf.float32))})

    @staticmethod
    def good() -> Any:
        """A mean over all batches."""
        labels, classes = _labels()
        return _eval({'hits': v1.metrics.mean(tf.cast(tf.equal(labels, classes), tf.float32))})


def _is_outside(facts: SpecFacts, leaf: Any) -> bool:
    """Whether a leaf is of another graph, of no graph since it is eager, or of several replicas."""
    return (distribution.is_per_replica(leaf) or facts.is_foreign(leaf)
            or graphs.is_tensor(leaf) and graphs.graph_of(leaf) is None)


def _fault(key: Any, value: Any) -> tuple[str, str]:
    """What a refused metric is, and what to type instead."""
    name = describe.key(key)
    if isinstance(value, tuple) and len(value) == 2:
        return _faulty_pair(name, value)
    if isinstance(value, tuple):
        return (f'a tuple of {len(value)}',
                f'pass {{{name}: (value, update_op)}}, e.g. what tf.compat.v1.metrics.mean returns')
    if isinstance(value, list):
        hint = ('use a tuple: (value, update_op)' if len(value) == 2
                else 'use a tuple of two: (value, update_op)')
        return describe.value(value), hint
    if value is None:
        return 'None', f'leave {name} out where there is no such metric'
    if isinstance(value, tf.Operation):
        return ('an Operation', 'pass the Keras metric itself, after its update_state(...); or '
                                '(value, update_op)')
    if graphs.is_tensor(value) or graphs.is_composite(value):
        actual = describe.value(value)
        return (f'a tensor, {actual}' if graphs.is_tensor(value) else actual,
                f'average it over all batches: {{{name}: tf.compat.v1.metrics.mean(tensor)}}')
    if isinstance(value, type) and issubclass(value, tf.keras.metrics.Metric):
        return (describe.value(value), 'make one of it, call its update_state(...) in model_fn and '
                                       f'pass that: {{{name}: metric}}')
    if callable(value):
        return describe.value(value), 'call it, and pass what it returns'
    return describe.value(value), f'pass {{{name}: (value, update_op)}}'


def _faulty_pair(name: str, value: tuple[Any, Any]) -> tuple[str, str]:
    for role, part in zip(('value', 'update_op'), value):
        for leaf in parts(part):
            if graphs.graph_of(leaf) is not None:
                continue
            if isinstance(leaf, tf.keras.metrics.Metric):
                return (f'a tuple with a Keras metric as {role}',
                        f'pass the metric itself: {{{name}: metric}}')
            if leaf is None and role == 'update_op':
                return ('(value, None)', 'pass the update op; tf.no_op() where nothing is to be '
                                         'updated')
            return (f'a tuple with {describe.value(leaf)} as {role}',
                    f'pass a tensor as {role}, e.g. tf.constant(...)')
    return 'a tuple that TensorFlow refuses', f'pass {{{name}: (value, update_op)}}'


class KerasMetricNotUpdated(Rule):
    """A Keras metric was never updated.

    What it finds: a `tf.keras.metrics.Metric` in eval_metric_ops whose `update_state` was not
    called in this graph.

    Why it matters: stock raises, and only when the EVAL spec is built.

    Bad:
        eval_metric_ops={'accuracy': tf.keras.metrics.Accuracy()}

    Good:
        accuracy = tf.keras.metrics.Accuracy()
        accuracy.update_state(labels, classes)
        eval_metric_ops={'accuracy': accuracy}

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX503'
    slug = 'keras-metric-not-updated'
    severity = Severity.ERROR
    stage = 'spec'
    mistakes = ('M3',)
    about = (FIELD,)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        for key, value in entries(facts):
            if not isinstance(value, tf.keras.metrics.Metric) or value.updates:
                continue
            place = describe.entry(FIELD, key)
            yield self.finding(
                facts, f'{place} is {describe.value(value)} that was never updated',
                field=place, hint='call its update_state(...) in model_fn before you pass it',
                expected='one call of update_state', actual='none')

    @staticmethod
    def bad() -> Any:
        """A metric as it comes from its constructor."""
        return _eval({'accuracy': tf.keras.metrics.Accuracy()})

    @staticmethod
    def good() -> Any:
        """Updated once with the tensors of a batch."""
        accuracy = tf.keras.metrics.Accuracy()
        accuracy.update_state(*_labels())
        return _eval({'accuracy': accuracy})

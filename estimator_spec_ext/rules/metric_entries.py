"""The entries of eval_metric_ops: their names, and what their values can be shown as."""

from __future__ import annotations

from typing import Any, Iterator, Optional

from estimator_spec_ext import describe
from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.rule import EVAL, Rule
from estimator_spec_ext.rules.metrics import FIELD, entries, pair

# What Estimator itself adds to the metrics of an evaluation.
_RESERVED = {'loss': 'the mean of the loss', 'global_step': 'the global step'}
# A scalar of another numeric dtype is left out of the summaries that evaluate writes.
_SHOWN_DTYPES = (tf.float32, tf.float64, tf.int32, tf.int64, tf.string)


def _eval(metrics: Any) -> dict[str, Any]:
    return {'mode': 'eval', 'loss': tf.constant(1., name='loss'), 'eval_metric_ops': metrics}


def _labels() -> tuple[Any, Any]:
    labels = v1.placeholder(tf.int64, [None], name='labels')
    return labels, v1.placeholder(tf.int64, [None], name='classes')


class MetricKeyNotString(Rule):
    """The name of a metric is not a string.

    What it finds: an int, a tuple, bytes or None as key of eval_metric_ops in EVAL.

    Why it matters: Estimator sorts the metrics together with its own 'loss', so evaluate fails
    with "'<' not supported between instances of 'str' and 'int'", after training.

    Bad:
        eval_metric_ops={k: precision_at(k) for k in (1, 5)}

    Good:
        eval_metric_ops={'precision_at_%d' % k: precision_at(k) for k in (1, 5)}

    When to suppress: when your own code, not Estimator, reads the metrics.
    """

    code = 'ESX504'
    slug = 'metric-key-not-string'
    severity = Severity.ERROR
    stage = 'spec'
    modes = (EVAL,)
    about = (FIELD,)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        for key, _ in entries(facts):
            if isinstance(key, str):
                continue
            actual = describe.value(key)
            yield self.finding(
                facts, f'eval_metric_ops has the key {actual}; expected a string',
                field=describe.entry(FIELD, key) if key is not None else f'{FIELD}[None]',
                hint='name the metric by a string', expected='str', actual=actual)

    @staticmethod
    def bad() -> Any:
        """Numbered metrics."""
        return _eval({1: v1.metrics.accuracy(*_labels())})

    @staticmethod
    def good() -> Any:
        """A number inside the name, and a slash."""
        return _eval({'top/1': v1.metrics.accuracy(*_labels())})


class MetricReservedName(Rule):
    """A metric has a name that Estimator uses itself.

    What it finds: the keys 'loss' and 'global_step' in eval_metric_ops in EVAL.

    Why it matters: the spec is accepted, and evaluate then refuses the name: at the first
    checkpoint, when training has begun.

    Bad:
        eval_metric_ops={'loss': tf.compat.v1.metrics.mean(loss)}

    Good:
        eval_metric_ops={'average_loss': tf.compat.v1.metrics.mean(loss)}

    When to suppress: when your own code renames the metrics before Estimator sees them.
    """

    code = 'ESX505'
    slug = 'metric-reserved-name'
    severity = Severity.ERROR
    stage = 'spec'
    modes = (EVAL,)
    mistakes = ('M4',)
    about = (FIELD,)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        for key, value in entries(facts):
            if not isinstance(key, str) or key not in _RESERVED:
                continue
            place = describe.entry(FIELD, key)
            better = "'average_loss'" if key == 'loss' else "'step'"
            yield self.finding(
                facts, f'{place} has a name that Estimator gives to {_RESERVED[key]}',
                field=place, op=_first_value(value), actual=describe.key(key),
                hint=f'leave it out, since evaluate reports it anyway, or name it {better}',
                expected='another name')

    @staticmethod
    def bad() -> Any:
        """The loss once more, under the name that it has already."""
        return _eval({'loss': v1.metrics.mean(v1.placeholder(tf.float32, [None]))})

    @staticmethod
    def good() -> Any:
        """Another name."""
        return _eval({'average_loss': v1.metrics.mean(v1.placeholder(tf.float32, [None])),
                      'loss/sum': v1.metrics.mean(v1.placeholder(tf.float32, [None]))})


def _first_value(value: Any) -> Optional[Any]:
    """The tensor that a metric reports, for the place of a finding."""
    return next((leaf for leaf in pair(value)[0] if graphs.as_op(leaf) is not None), None)


class MetricValueIsOperation(Rule):
    """The value of a metric is an operation, which has no value.

    What it finds: a pair whose first part is a `tf.Operation`: most often (update_op, value) in
    the wrong order, or the result of a Keras metric's `update_state`.

    Why it matters: evaluate reports None for it, without a word, and runs the operation once more
    after the last batch.

    Bad:
        eval_metric_ops={'mean': (metric.update_state(x), metric.result())}

    Good:
        metric.update_state(x)
        eval_metric_ops={'mean': metric}

    When to suppress: when the entry is only there to run the operation and nobody reads it.
    """

    code = 'ESX506'
    slug = 'metric-value-is-operation'
    severity = Severity.WARNING
    stage = 'spec'
    modes = (EVAL,)
    mistakes = ('M3',)
    about = (FIELD,)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        for key, value in entries(facts):
            values, updates = pair(value)
            if not any(isinstance(leaf, tf.Operation) for leaf in values):
                continue
            place = describe.entry(FIELD, key)
            swapped = any(graphs.is_tensor(leaf) for leaf in updates)
            yield self.finding(
                facts, f'{place} has an Operation as value; evaluate reports None for it',
                field=place, op=_first_value(value),
                hint='swap the two: (value, update_op)' if swapped
                else 'pass a tensor as value, e.g. (value, update_op) with tf.no_op() as update_op',
                expected='a tensor', actual='an Operation')

    @staticmethod
    def bad() -> Any:
        """Update and value in the wrong order."""
        value, update = v1.metrics.mean(v1.placeholder(tf.float32, [None]))
        return _eval({'mean': (tf.group(update), value)})

    @staticmethod
    def good() -> Any:
        """Value first; the update may be an Operation."""
        value, update = v1.metrics.mean(v1.placeholder(tf.float32, [None]))
        return _eval({'mean': (value, tf.group(update)), 'one': (tf.constant(1.), tf.no_op())})


class MetricNotScalar(Rule):
    """A metric is no single number, so TensorBoard shows no curve of it.

    What it finds: a value of static rank 1 or more, such as a confusion matrix or a metric per
    class, and scalars of a dtype that evaluate does not write, such as bool and float16.

    Why it matters: evaluate returns it, but its summary is a raw tensor or is left out, and a
    compare function of BestExporter that expects a number fails.

    Bad:
        eval_metric_ops={'by_class': tf.compat.v1.metrics.mean_tensor(hits)}

    Good:
        eval_metric_ops={'mean': tf.compat.v1.metrics.mean(hits)}

    When to suppress: it is information only.
    """

    code = 'ESX507'
    slug = 'metric-not-scalar'
    severity = Severity.INFO
    stage = 'spec'
    modes = (EVAL,)
    mistakes = ('M7',)
    about = (FIELD,)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        for key, value in entries(facts):
            values, _ = pair(value)
            if len(values) != 1 or not graphs.is_tensor(values[0]):
                continue
            tensor = values[0]
            shaped = bool(tensor.shape.rank)
            if not shaped and (tensor.shape.rank is None
                               or tensor.dtype.base_dtype in _SHOWN_DTYPES):
                continue
            place = describe.entry(FIELD, key)
            actual = describe.value(tensor)
            yield self.finding(
                facts, f'{place} is {actual}; TensorBoard shows scalars of float32 or int64 alone',
                field=place, op=tensor, expected='a float32 scalar', actual=actual,
                hint='report one number for each curve, e.g. a metric per class' if shaped
                else 'cast the value: tf.cast(value, tf.float32)')

    @staticmethod
    def bad() -> Any:
        """One value for each class."""
        return _eval({'by_class': v1.metrics.mean_tensor(v1.placeholder(tf.float32, [3]))})

    @staticmethod
    def good() -> Any:
        """A scalar, and a summary that the author has made."""
        mean = v1.metrics.mean(v1.placeholder(tf.float32, [None]))
        return _eval({'mean': mean, 'text': (tf.constant(b''), tf.no_op())})

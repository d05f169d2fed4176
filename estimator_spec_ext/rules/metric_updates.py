"""Metrics of an evaluation whose updates are not run, or whose variables nothing initialises."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.rule import EVAL, Rule
from estimator_spec_ext.rules import metrics
from estimator_spec_ext.rules.metric_graph import adding, gathering, next_rows


def _eval(**entries: Any) -> dict[str, Any]:
    return {'mode': 'eval', 'loss': tf.constant(1., name='loss'), 'eval_metric_ops': entries}


class MetricNeverUpdated(Rule):
    """The update of a metric is never run, so its value stays what it was at the start.

    What it finds: in EVAL, a value that reads variables which some op of the graph adds to, while
    no update op of eval_metric_ops, nor the loss, nor a hook runs such an op: the value given as
    update op too, a no_op, or an update that was left out.

    Why it matters: the metric is 0, or what its variables begin with, in every evaluation. Nothing
    says so, and a best exporter compares these numbers.

    Bad:
        accuracy, _ = tf.compat.v1.metrics.accuracy(labels, classes)
        eval_metric_ops = {'accuracy': (accuracy, accuracy)}

    Good:
        eval_metric_ops = {'accuracy': tf.compat.v1.metrics.accuracy(labels, classes)}

    When to suppress: when a hook finds the update in begin() and runs it.
    """

    code = 'ESX508'
    slug = 'metric-never-updated'
    severity = Severity.WARNING
    modes = (EVAL,)
    mistakes = ('M3',)
    needs = ('eval_metric_ops',)
    about = (metrics.FIELD,)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        index = facts.index
        for key, value in metrics.entries(facts):
            tensors = [part for part in metrics.pair(value)[0] if graphs.is_tensor(part)]
            stale = [info for info in gathering(index, tensors)
                     if not any(op in facts.run_ops for op in adding(index, info))]
            if not stale:
                continue
            field = describe.entry(metrics.FIELD, key)
            yield self.finding(
                facts, f"nothing updates {field}: its value reads '{stale[0].name}', which no step "
                       'adds to', field=field, op=tensors[0],
                hint='pass what tf.compat.v1.metrics.* returns, (value, update_op); of several '
                     'metrics, tf.group of their update ops',
                expected='an update op that the evaluation runs', actual='none')

    @staticmethod
    def bad() -> Any:
        """The value twice."""
        value, _ = v1.metrics.mean(next_rows())
        return _eval(average=(value, value))

    @staticmethod
    def good() -> Any:
        """Value and update."""
        return _eval(average=v1.metrics.mean(next_rows()))


def _no_op_as_update() -> Any:
    """Taken for something that Estimator updates."""
    value, _ = v1.metrics.mean(next_rows())
    return _eval(average=(value, tf.no_op()))


def _half_of_the_updates() -> Any:
    """A ratio of two metrics, with the update of one."""
    rows = next_rows()
    first, update = v1.metrics.mean(rows)
    second, _ = v1.metrics.mean(tf.square(rows))
    return _eval(ratio=(first / (1. + second), update))


def _update_under_another_key() -> Any:
    """One group of updates serves two metrics."""
    rows = next_rows()
    first, one = v1.metrics.mean(rows)
    second, two = v1.metrics.mean(tf.square(rows))
    return _eval(first=(first, tf.group(one, two)), second=(second, tf.no_op()),
                        both=(first + second, tf.no_op()))


def _update_in_a_hook() -> Any:
    """A hook runs it."""
    value, update = v1.metrics.mean(next_rows())
    hook = v1.train.LoggingTensorHook({'mean': update}, every_n_iter=1)
    return {**_eval(average=(value, tf.no_op())), 'evaluation_hooks': [hook]}


def _global_variable_as_metric() -> Any:
    """A number that TRAIN keeps and EVAL reports."""
    best = v1.get_variable('best', [], trainable=False)
    best.assign_add(1.)
    return _eval(best=(best, tf.no_op()), step=(
        v1.train.get_or_create_global_step(), tf.no_op()))


MetricNeverUpdated.more_bad = (_no_op_as_update, _half_of_the_updates)
MetricNeverUpdated.more_good = (
    _update_under_another_key, _update_in_a_hook, _global_variable_as_metric)


class MetricUpdatedTwice(Rule):
    """A metric has a second update, which no evaluation runs.

    What it finds: in EVAL, a metric whose variables are added to by several ops, some of which run
    and some of which do not: most often a Keras metric whose `update_state` was called twice.

    Why it matters: Estimator runs the first update of a Keras metric and no other, without a word:
    what the second call adds is missing in the number.

    Bad:
        accuracy.update_state(labels_a, classes_a)
        accuracy.update_state(labels_b, classes_b)

    Good:
        accuracy.update_state(tf.concat([labels_a, labels_b], 0),
                              tf.concat([classes_a, classes_b], 0))

    When to suppress: when the second call gets the same tensors as the first.
    """

    code = 'ESX509'
    slug = 'metric-updated-twice'
    severity = Severity.WARNING
    modes = (EVAL,)
    mistakes = ('M3',)
    needs = ('eval_metric_ops',)
    about = (metrics.FIELD,)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if facts.replica[1] > 1:
            return  # each replica runs an update of its own
        index = facts.index
        for key, value in metrics.entries(facts):
            values, _ = metrics.pair(value)
            if isinstance(value, tf.keras.metrics.Metric):
                values = list(value.variables)
            for info in gathering(index, [part for part in values if graphs.is_tensor(part)]):
                ops = adding(index, info)
                idle = [op for op in ops if op not in facts.run_ops]
                if not idle or len(idle) == len(ops):
                    continue
                field = describe.entry(metrics.FIELD, key)
                yield self.finding(
                    facts, f'{field} has {len(ops)} updates, of which the evaluation runs '
                           f'{len(ops) - len(idle)}', field=field, op=idle[0],
                    hint='call update_state once, with all its tensors; or use a metric for each',
                    expected='one update', actual=f'{len(ops)} updates')
                break

    @staticmethod
    def bad() -> Any:
        """One metric for two inputs."""
        mean = tf.keras.metrics.Mean()
        mean.update_state(v1.placeholder(tf.float32, [None]))
        mean.update_state(v1.placeholder(tf.float32, [None]))
        return _eval(mean=mean)

    @staticmethod
    def good() -> Any:
        """A metric for each."""
        first, second = tf.keras.metrics.Mean(), tf.keras.metrics.Mean()
        first.update_state(v1.placeholder(tf.float32, [None]))
        second.update_state(v1.placeholder(tf.float32, [None]))
        return _eval(first=first, second=second)


def _twice_updated() -> Any:
    mean = tf.keras.metrics.Mean()
    mean.update_state(v1.placeholder(tf.float32, [None]))
    mean.update_state(v1.placeholder(tf.float32, [None]))
    for variable in mean.variables:  # as stock does for a Keras metric
        v1.add_to_collection(v1.GraphKeys.LOCAL_VARIABLES, variable)
    return mean


def _as_stock_converts_it() -> Any:
    """What Estimator's own spec makes of a Keras metric."""
    mean = _twice_updated()
    return _eval(mean=(mean.result(), mean.updates[0]))


def _both_updates_grouped() -> Any:
    """A pair may run as many updates as it likes."""
    mean = _twice_updated()
    return _eval(mean=(mean.result(), tf.group(*mean.updates)))


class _Ratio(tf.keras.metrics.Metric):
    """A metric of metrics."""

    def __init__(self) -> None:
        super().__init__()
        self._above, self._below = tf.keras.metrics.Mean(), tf.keras.metrics.Mean()

    def update_state(self, above: Any, below: Any, sample_weight: Any = None) -> None:
        """Updates both."""
        self._above.update_state(above)
        self._below.update_state(below)

    def result(self) -> Any:
        """The ratio of the means."""
        return self._above.result() / self._below.result()


def _metric_of_metrics() -> Any:
    """One update_state that calls two."""
    ratio = _Ratio()
    ratio.update_state(v1.placeholder(tf.float32, [None]), v1.placeholder(tf.float32, [None]))
    return _eval(ratio=ratio)


MetricUpdatedTwice.more_bad = (_as_stock_converts_it,)
MetricUpdatedTwice.more_good = (_both_updates_grouped, _metric_of_metrics)


class MetricNotInitialized(Rule):
    """A metric reads or updates variables that nothing initialises.

    What it finds: in EVAL, a pair that uses variables of no collection, most often those of a Keras
    metric that was taken apart: `(metric.result(), metric.update_state(x))`. For a Keras metric
    that is passed as a whole, Estimator puts them among the local variables.

    Why it matters: the first batch of the evaluation fails with "Resource does not exist" or
    "uninitialized value", after training has begun.

    Bad:
        eval_metric_ops = {'mean': (metric.result(), metric.update_state(x))}

    Good:
        metric.update_state(x)
        eval_metric_ops = {'mean': metric}

    When to suppress: when a hook finds the variables in begin() and initialises them.
    """

    code = 'ESX512'
    slug = 'metric-not-initialized'
    severity = Severity.ERROR
    modes = (EVAL,)
    mistakes = ('M3',)
    needs = ('eval_metric_ops',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        index = facts.index
        loose = [info for info in index.variables if not info.collections]
        if not loose or facts.replica[1] > 1:
            return
        passed = {index.variable(variable) for _, value in metrics.entries(facts)
                  if isinstance(value, tf.keras.metrics.Metric) for variable in value.variables}
        started = index.ancestors(_start_roots(facts))
        for key, value in metrics.entries(facts):
            parts = [part for leaves in metrics.pair(value) for part in leaves
                     if graphs.as_op(part) is not None]
            used = index.ancestors(parts)
            for info in loose:
                if info in passed or not any(op in used for op in info.handles) or any(
                        op in started for handle in info.handles
                        for op in index.writes.get(handle, ())):
                    continue
                field = describe.entry(metrics.FIELD, key)
                yield self.finding(
                    facts, f"nothing initialises '{info.name}' of {field}: it is in no collection",
                    field=field, op=info.op,
                    hint=f'pass the Keras metric itself, {{{describe.key(key)}: metric}}, after '
                         'its update_state; or add its variables to tf.compat.v1.GraphKeys.'
                         'LOCAL_VARIABLES',
                    expected='a local variable', actual='a variable of no collection',
                    severity=Severity.WARNING if facts.opaque_hooks else None)
                break

    @staticmethod
    def bad() -> Any:
        """A Keras metric taken apart."""
        mean = tf.keras.metrics.Mean()
        update = mean.update_state(next_rows())
        return _eval(mean=(mean.result(), update))

    @staticmethod
    def good() -> Any:
        """As a whole, also beside a pair that reads it; and apart, with its variables listed."""
        mean, listed = tf.keras.metrics.Mean(), tf.keras.metrics.Mean()
        mean.update_state(next_rows())
        update = listed.update_state(next_rows())
        for variable in listed.variables:
            v1.add_to_collection(v1.GraphKeys.LOCAL_VARIABLES, variable)
        return _eval(mean=mean, percent=(100. * mean.result(), tf.no_op()),
                     listed=(listed.result(), update))


def _start_roots(facts: SpecFacts) -> list[Any]:
    """What may initialise variables before the first step."""
    scaffold = facts.scaffold
    return [*facts.hook_ops, getattr(scaffold, '_local_init_op', None),
            *facts.index.graph.get_collection(v1.GraphKeys.TABLE_INITIALIZERS)]


def _initialised_by_the_scaffold() -> Any:
    """The local_init_op does it."""
    mean = tf.keras.metrics.Mean()
    update = mean.update_state(next_rows())
    scaffold = v1.train.Scaffold(local_init_op=tf.group(
        v1.variables_initializer(mean.variables), v1.train.Scaffold.default_local_init_op()))
    return {**_eval(mean=(mean.result(), update)), 'scaffold': scaffold}


MetricNotInitialized.more_good = (_initialised_by_the_scaffold,)

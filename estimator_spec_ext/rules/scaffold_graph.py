"""A scaffold that is none, or belongs to another graph."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.rule import Rule

_PARTS = ('init_op', 'local_init_op', 'ready_op', 'ready_for_local_init_op', 'summary_op')


def _fields(scaffold: Any) -> dict[str, Any]:
    return {'mode': 'infer', 'scaffold': scaffold,
            'predictions': {'p': v1.placeholder(tf.float32, [None], name='x')}}


class NotScaffold(Rule):
    """The scaffold is no tf.compat.v1.train.Scaffold.

    What it finds: a Saver, an op, a function or anything else in the field scaffold.

    Why it matters: Estimator refuses it when the spec is built. A function that makes the scaffold
    is what TPUEstimatorSpec takes, as scaffold_fn.

    Bad:
        EstimatorSpec(..., scaffold=tf.compat.v1.train.Saver())

    Good:
        EstimatorSpec(..., scaffold=tf.compat.v1.train.Scaffold(saver=tf.compat.v1.train.Saver()))

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX700'
    slug = 'not-a-scaffold'
    severity = Severity.ERROR
    stage = 'spec'

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        value = facts.scaffold
        if value is None or isinstance(value, v1.train.Scaffold):
            return
        # Stock takes an empty list or 0 for no scaffold.
        if type(value) in (list, tuple, dict, int, bool, str) and not value:
            return
        hint = 'wrap it: tf.compat.v1.train.Scaffold(saver=...)'
        if callable(value):
            hint = 'call it; only TPUEstimatorSpec takes a function, as scaffold_fn'
        elif not isinstance(value, v1.train.Saver):
            hint = 'pass a tf.compat.v1.train.Scaffold'
        actual = describe.value(value)
        yield self.finding(facts, f'scaffold is {actual}; expected a Scaffold', field='scaffold',
                           hint=hint, expected='a tf.compat.v1.train.Scaffold', actual=actual)

    @staticmethod
    def bad() -> Any:
        """A saver where the scaffold that holds it belongs."""
        v1.get_variable('w', [])
        return _fields(v1.train.Saver())

    @staticmethod
    def good() -> Any:
        """The scaffold."""
        v1.get_variable('w', [])
        return _fields(v1.train.Scaffold(saver=v1.train.Saver()))


class ScaffoldForeignGraph(Rule):
    """The scaffold holds ops of another graph.

    What it finds: an init_op, local_init_op, ready_op, ready_for_local_init_op, summary_op or a
    saver's variable that belongs to another graph than the spec.

    Why it matters: stock accepts it. The session fails at its start with "is not an element of this
    graph", most often at the second call of train, evaluate or predict, when a scaffold was kept
    from the first.

    Bad:
        SCAFFOLD = tf.compat.v1.train.Scaffold(local_init_op=load)  # made once, for all modes

    Good:
        def model_fn(features, labels, mode):
            scaffold = tf.compat.v1.train.Scaffold(local_init_op=load())

    When to suppress: never needed in a program that runs.
    """

    code = 'ESX701'
    slug = 'scaffold-foreign-graph'
    severity = Severity.ERROR
    stage = 'spec'
    mistakes = ('T8',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        scaffold = facts.scaffold
        if not isinstance(scaffold, v1.train.Scaffold):
            return
        held = [(name, getattr(scaffold, f'_{name}', None)) for name in _PARTS]
        variables = getattr(getattr(scaffold, '_saver', None), '_var_list', None) or ()
        first = next(iter(variables.values() if isinstance(variables, dict) else variables), None)
        held.append(('saver', first))
        for name, value in held:
            if graphs.as_op(value) is not None and facts.is_foreign(value):
                yield self.finding(
                    facts, f"scaffold has a {name} of another graph; expected the spec's own",
                    field=f'scaffold.{name}', op=value,
                    hint='make the scaffold and its ops inside model_fn, anew at each call',
                    expected="the spec's graph", actual='another graph')

    @staticmethod
    def bad() -> Any:
        """An op from outside."""
        with tf.Graph().as_default():
            load = tf.no_op(name='load')
        return _fields(v1.train.Scaffold(local_init_op=load))

    @staticmethod
    def good() -> Any:
        """An op of the same graph."""
        return _fields(v1.train.Scaffold(local_init_op=tf.no_op(name='load')))


def _ops_in_this_graph() -> Any:
    v1.get_variable('w', [])
    summary = tf.identity(v1.summary.merge([v1.summary.scalar('one', 1.)]))
    return _fields(v1.train.Scaffold(summary_op=summary, saver=v1.train.Saver()))


ScaffoldForeignGraph.more_good = (_ops_in_this_graph,)

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
    about = ('scaffold',)

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

    What it finds: an init_op, local_init_op, ready_op, ready_for_local_init_op, summary_op, a key
    of a feed or a saver that belongs to another graph than the spec. What this mode does not run
    with a checkpoint, init_op in EVAL and PREDICT, is a warning; summary_op counts in TRAIN alone.

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
    mistakes = ('T8', 'H2')
    about = ('scaffold',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        scaffold = facts.scaffold
        if not isinstance(scaffold, v1.train.Scaffold) or facts.graph is None:
            return
        foreign = [(name, value) for name, value in self._held(scaffold)
                   if facts.is_foreign(value)]
        if self._has_foreign_saver(facts.graph, scaffold):
            foreign.append(('saver', None))
        if not facts.is_train:
            foreign = [entry for entry in foreign if entry[0] != 'summary_op']
        if not foreign:
            return
        names = list(dict.fromkeys(name for name, _ in foreign))
        skipped = not facts.is_train and set(names) <= {'init_op', 'init_feed_dict'}
        yield self.finding(
            facts, f"scaffold has {describe.names(names)} of another graph; expected the spec's "
                   'own', field=f'scaffold.{names[0]}' if len(names) == 1 else 'scaffold',
            op=foreign[0][1], expected="the spec's graph", actual='another graph',
            hint='make the scaffold and its ops inside model_fn, anew at each call',
            severity=Severity.WARNING if skipped else None)

    @staticmethod
    def _held(scaffold: Any) -> Iterator[tuple[str, Any]]:
        for name in _PARTS:
            try:
                parts = tf.nest.flatten(getattr(scaffold, f'_{name}', None))
            except (TypeError, ValueError):
                continue
            yield from ((name, part) for part in parts if graphs.as_op(part) is not None)
        for name in ('init_feed_dict', 'local_init_feed_dict'):
            feed = getattr(scaffold, f'_{name}', None)
            for key in feed if isinstance(feed, dict) else ():
                if graphs.as_op(key) is not None:
                    yield name, key

    @staticmethod
    def _has_foreign_saver(graph: tf.Graph, scaffold: Any) -> bool:
        """Whether a saver was built in another graph; it goes by the names of its ops."""
        saver = getattr(scaffold, '_saver', None)
        name = getattr(getattr(saver, 'saver_def', None), 'filename_tensor_name', '')
        if not name or not isinstance(saver, v1.train.Saver):
            return False
        try:
            graph.as_graph_element(name)
        except (KeyError, ValueError):
            return not graphs.is_function_graph(graph)
        return False

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


def _scaffold_of_the_call_before() -> Any:
    """A session completed it there."""
    scaffold = v1.train.Scaffold()
    with tf.Graph().as_default():
        v1.get_variable('w', [])
        scaffold.finalize()
    return _fields(scaffold)


def _saver_of_the_call_before() -> Any:
    with tf.Graph().as_default():
        v1.get_variable('w', [])
        saver = v1.train.Saver()
    v1.get_variable('w', [])
    return _fields(v1.train.Scaffold(saver=saver))


def _init_op_that_is_skipped() -> Any:
    """PREDICT reads a checkpoint, and then runs no init_op."""
    with tf.Graph().as_default():
        init = tf.no_op(name='init')
    return _fields(v1.train.Scaffold(init_op=init))


def _ops_in_this_graph() -> Any:
    v1.get_variable('w', [])
    summary = tf.identity(v1.summary.merge([v1.summary.scalar('one', 1.)]))
    name = v1.placeholder(tf.string, [], name='path')
    return _fields(v1.train.Scaffold(
        summary_op=summary, saver=v1.train.Saver(), local_init_feed_dict={name: 'words.txt'}))


def _deferred_saver() -> Any:
    """A saver that a later session builds belongs to no graph."""
    return _fields(v1.train.Scaffold(saver=v1.train.Saver(defer_build=True)))


ScaffoldForeignGraph.more_bad = (
    _scaffold_of_the_call_before, _saver_of_the_call_before, _init_op_that_is_skipped)
ScaffoldForeignGraph.more_good = (_ops_in_this_graph, _deferred_saver)

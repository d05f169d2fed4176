"""A scaffold whose own ops leave something uninitialised."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import TABLE_INIT_TYPES, VariableInfo
from estimator_spec_ext.rule import TRAIN, Rule


def given(scaffold: Any, name: str) -> Any:
    """What the author gave a `tf.compat.v1.train.Scaffold` as `name`; None for the default.

    Args:
      scaffold: a Scaffold, not finalized.
      name: e.g. 'local_init_op'.

    Returns:
      The op; None when the default will be made, or there is no scaffold.
    """
    value = getattr(scaffold, f'_{name}', None)
    return value if graphs.as_op(value) is not None else None


def _judged(facts: SpecFacts) -> bool:
    scaffold = facts.scaffold
    return isinstance(scaffold, v1.train.Scaffold) and not facts.is_foreign(
        given(scaffold, 'local_init_op')) and not facts.is_foreign(given(scaffold, 'init_op'))


class ScaffoldSkipsInitializers(Rule):
    """The scaffold's own init ops leave out variables or tables.

    What it finds: a Scaffold(local_init_op=...) that runs the initializers neither of the local
    variables nor of the lookup tables that the step uses; in TRAIN also a Scaffold(init_op=...)
    without the initializers of the global variables. What other ops assign to a variable counts.

    Why it matters: an op that is given replaces TensorFlow's default, it is not added to it. The
    session refuses to start ("Variables not initialized"), the first step fails with "Table not
    initialized".

    Bad:
        scaffold = tf.compat.v1.train.Scaffold(local_init_op=load_vocabulary)

    Good:
        scaffold = tf.compat.v1.train.Scaffold(local_init_op=tf.group(
            tf.compat.v1.train.Scaffold.default_local_init_op(), load_vocabulary))

    When to suppress: when a hook or a ready_op of your own takes care of the rest.
    """

    code = 'ESX702'
    slug = 'scaffold-skips-initializers'
    severity = Severity.ERROR
    mistakes = ('V9',)
    needs = ('scaffold',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if not _judged(facts):
            return
        scaffold, index = facts.scaffold, facts.index
        local, start = given(scaffold, 'local_init_op'), given(scaffold, 'init_op')
        run = index.ancestors((local, start) if facts.is_train else (local,))
        unsure = Severity.WARNING if (facts.opaque_hooks or given(scaffold, 'ready_op') is not None
                                      or getattr(scaffold, '_init_fn', None)) else None
        if local is not None:
            names = [info.name for info in self._uninitialized(facts, run, local=True)]
            if not facts.is_predict:  # there another rule speaks of tables
                names += self._tables(facts, index.ancestors([local]))
            if names:
                yield self._left_out(facts, 'local_init_op', local, names, unsure)
        if start is not None and facts.is_train:
            names = [info.name for info in self._uninitialized(facts, run, local=False)]
            if names:
                yield self._left_out(facts, 'init_op', start, names, unsure)

    def _left_out(self, facts: SpecFacts, name: str, op: Any, names: list[str],
                  severity: Any) -> Finding:
        default = {'local_init_op': 'tf.compat.v1.train.Scaffold.default_local_init_op()',
                   'init_op': 'tf.compat.v1.global_variables_initializer()'}[name]
        return self.finding(
            facts, f"the scaffold's {name} leaves out {describe.names(names)}",
            field=f'scaffold.{name}', op=op, hint=f'add the default: tf.group({default}, ...)',
            expected='the default initializers as well', actual=f'{len(names)} left out',
            severity=severity)

    @staticmethod
    def _uninitialized(facts: SpecFacts, run: set[Any], *, local: bool) -> list[VariableInfo]:
        name = v1.GraphKeys.LOCAL_VARIABLES if local else v1.GraphKeys.GLOBAL_VARIABLES
        writes = facts.index.writes
        return [info for info in facts.index.variables if name in info.collections
                and not any(op in run for handle in info.handles
                            for op in writes.get(handle, ()))]

    @staticmethod
    def _tables(facts: SpecFacts, run: set[Any]) -> list[str]:
        index = facts.index
        found = []
        for op in index.of_types(TABLE_INIT_TYPES):
            table = index.handle(op.inputs[0])
            if op not in run and table in facts.step_ops and table.name not in found:
                if not any(other in run for other in index.consumers(table)
                           if other.type in TABLE_INIT_TYPES):
                    found.append(table.name)
        return found

    @staticmethod
    def bad() -> Any:
        """A local_init_op of the author's alone."""
        return _evaluated(v1.train.Scaffold(local_init_op=tf.no_op(name='mine')))

    @staticmethod
    def good() -> Any:
        """The default beside it."""
        fields = _evaluated(None)
        default = v1.train.Scaffold.default_local_init_op()
        fields['scaffold'] = v1.train.Scaffold(local_init_op=tf.group(default, tf.no_op()))
        return fields


def _evaluated(scaffold: Any) -> dict[str, Any]:
    words = v1.placeholder(tf.string, [None], name='words')
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(['a', 'b'], [1, 2]), -1, name='vocabulary')
    loss = tf.reduce_mean(tf.cast(table.lookup(words), tf.float32), name='loss')
    return {'mode': 'eval', 'loss': loss, 'scaffold': scaffold}


def _trained(make_scaffold: Any) -> dict[str, Any]:
    step = v1.train.get_or_create_global_step()
    weight = v1.get_variable('w', [], initializer=v1.ones_initializer())
    loss = tf.square(weight)
    train_op = v1.train.GradientDescentOptimizer(.1).minimize(loss, step)
    return {'mode': 'train', 'loss': loss, 'train_op': train_op,
            'scaffold': make_scaffold(weight)}


def _init_op_for_some() -> Any:
    return _trained(lambda weight: v1.train.Scaffold(init_op=weight.initializer))


def _init_op_for_all() -> Any:
    return _trained(lambda weight: v1.train.Scaffold(
        init_op=tf.group(v1.global_variables_initializer(), tf.no_op())))


def _init_op_that_assigns() -> Any:
    def make(weight: Any) -> Any:
        step = v1.train.get_global_step()
        return v1.train.Scaffold(init_op=tf.group(
            v1.assign(weight, 3.), v1.assign(step, 0)))
    return _trained(make)


ScaffoldSkipsInitializers.more_bad = (_init_op_for_some,)
ScaffoldSkipsInitializers.more_good = (_init_op_for_all, _init_op_that_assigns)


class InitFnUnderReplicas(Rule):
    """A Scaffold(init_fn=...) under a strategy of several replicas.

    What it finds: in TRAIN, inside a replica of several, a scaffold with an init_fn.

    Why it matters: Estimator keeps the init_fn of the first replica, which initialises the
    variables of the first replica alone. The replicas start from different values, in silence.

    Bad:
        tf.estimator.RunConfig(train_distribute=tf.distribute.MirroredStrategy())
        scaffold = tf.compat.v1.train.Scaffold(init_fn=load_weights)

    Good:
        tf.compat.v1.train.init_from_checkpoint(path, {'encoder/': 'encoder/'})

    When to suppress: when init_fn assigns to every component of the mirrored variables.
    """

    code = 'ESX704'
    slug = 'init-fn-under-replicas'
    severity = Severity.WARNING
    modes = (TRAIN,)
    mistakes = ('D9',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        replica, count = facts.replica
        if replica != 0 or count < 2 or not isinstance(facts.scaffold, v1.train.Scaffold):
            return
        if getattr(facts.scaffold, '_init_fn', None) is not None:
            yield self.finding(
                facts, f'scaffold has an init_fn, which would initialise 1 of {count} replicas',
                field='scaffold.init_fn', actual='init_fn', expected='no init_fn',
                hint='start from a checkpoint: tf.compat.v1.train.init_from_checkpoint, or '
                     'Estimator(warm_start_from=...)')

    @staticmethod
    def bad() -> Any:
        """Weights loaded by a function, in two replicas."""
        return _in_two_replicas(v1.train.Scaffold(init_fn=_load))

    @staticmethod
    def good() -> Any:
        """No function."""
        return _in_two_replicas(v1.train.Scaffold())


def _load(scaffold: Any, session: Any) -> None:
    del scaffold, session


def _in_two_replicas(scaffold: Any) -> Any:
    from estimator_spec_ext import engine
    facts = SpecFacts('train', _trained(lambda weight: scaffold))
    facts.replica = (0, 2)
    return engine.check(facts)

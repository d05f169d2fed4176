"""A scaffold whose own ops leave something uninitialised."""

from __future__ import annotations

from typing import AbstractSet, Any, Iterator, Optional

from estimator_spec_ext import describe
from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import TABLE_INIT_TYPES, GraphIndex, VariableInfo
from estimator_spec_ext.rule import PREDICT, TRAIN, Rule
from estimator_spec_ext.rules.hooks_savers import workers

_COLLECTIONS = {
    'init_op': v1.GraphKeys.INIT_OP, 'local_init_op': v1.GraphKeys.LOCAL_INIT_OP,
    'ready_op': v1.GraphKeys.READY_OP,
    'ready_for_local_init_op': v1.GraphKeys.READY_FOR_LOCAL_INIT_OP}
_DEFAULTS = {'local_init_op': 'tf.compat.v1.train.Scaffold.default_local_init_op()',
             'init_op': 'tf.compat.v1.global_variables_initializer()'}


def given(facts: SpecFacts, name: str) -> list[Any]:
    """The ops that take the place of one of a scaffold's defaults.

    Args:
      facts: the facts.
      name: 'init_op', 'local_init_op', 'ready_op' or 'ready_for_local_init_op'.

    Returns:
      The ops and tensors that the author gave to the scaffold, or else put into the collection in
      which it looks first; [] when the default will be made.
    """
    value = getattr(facts.scaffold, f'_{name}', None)
    if value is None and facts.graph is not None:
        collected = facts.graph.get_collection(_COLLECTIONS[name])
        value = collected[0] if len(collected) == 1 else None
    if value is None:
        return []
    try:
        parts = tf.nest.flatten(value)
    except (TypeError, ValueError):
        return []
    return [part for part in parts if graphs.as_op(part) is not None]


def writes_in(index: GraphIndex, info: VariableInfo, ops: AbstractSet[Any]) -> bool:
    """Whether running `ops` gives the variable a value."""
    return any(op in ops for handle in info.handles for op in index.writes.get(handle, ()))


class ScaffoldSkipsInitializers(Rule):
    """The scaffold's own init ops leave out variables or tables.

    What it finds: in TRAIN and PREDICT, a Scaffold(local_init_op=...) that does not initialise
    every local variable and every lookup table that the step uses; in TRAIN also a
    Scaffold(init_op=...) without init_fn that does not initialise every global variable. What other
    ops assign to a variable counts. An op in the collection 'init_op' or 'local_init_op' is judged
    alike. In EVAL Estimator itself adds the default local initializers.

    Why it matters: an op that is given replaces TensorFlow's default, it is not added to it. The
    session refuses to start ("Variables not initialized"), the first step fails with "Table not
    initialized", or the first request to the exported model does. What init_op alone initialises is
    missing after a restart, which skips it. In a cluster the other workers wait for ever for what
    the chief does not initialise.

    Bad:
        scaffold = tf.compat.v1.train.Scaffold(local_init_op=load_vocabulary)

    Good:
        scaffold = tf.compat.v1.train.Scaffold(local_init_op=tf.group(
            tf.compat.v1.train.Scaffold.default_local_init_op(), load_vocabulary))

    When to suppress: when a hook or a ready_op of your own takes care of the rest, or when training
    always goes on from a checkpoint.
    """

    code = 'ESX702'
    slug = 'scaffold-skips-initializers'
    severity = Severity.ERROR
    modes = (TRAIN, PREDICT)
    mistakes = ('V9', 'X9', 'D4')
    needs = ('scaffold',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if facts.replica[1] > 1:
            return  # each replica gives a part
        local = given(facts, 'local_init_op')
        start = given(facts, 'init_op') if facts.is_train else []
        if not local and not start or any(map(facts.is_foreign, local + start)):
            return
        at_start = facts.index.ancestors(local + start)
        if local:
            yield from self._local(facts, local, facts.index.ancestors(local), at_start)
        if start:
            yield from self._start(facts, start, at_start)

    def _local(self, facts: SpecFacts, local: list[Any], run: AbstractSet[Any],
               at_start: AbstractSet[Any]) -> Iterator[Finding]:
        index = facts.index
        left = [info for info in self._variables(facts, v1.GraphKeys.LOCAL_VARIABLES)
                if not writes_in(index, info, run)]
        later = {info.name for info in left if writes_in(index, info, at_start)}
        tables = self._tables(facts, run, at_start)
        names = [info.name for info in left] + list(tables)
        if not names:
            return
        later.update(name for name, is_later in tables.items() if is_later)
        unsure = (given(facts, 'ready_op') != [] or len(later) == len(names)
                  or not left and (facts.opaque_hooks or _init_fn(facts))
                  or facts.is_predict and not tables
                  and not any(_is_used(facts, info) for info in left))
        yield self._left_out(facts, 'local_init_op', local, names, unsure,
                             restart=len(later) == len(names))

    def _start(self, facts: SpecFacts, start: list[Any],
               at_start: AbstractSet[Any]) -> Iterator[Finding]:
        if _init_fn(facts):
            return  # it may restore them
        run = at_start if given(facts, 'ready_for_local_init_op') else facts.index.ancestors(start)
        names = [info.name for info in self._variables(facts, v1.GraphKeys.GLOBAL_VARIABLES)
                 if not writes_in(facts.index, info, run)]
        if names:
            # In a cluster the other workers may be given an init_op that does nothing.
            unsure = given(facts, 'ready_for_local_init_op') != [] or workers(facts) > 1
            yield self._left_out(facts, 'init_op', start, names, unsure)

    def _left_out(self, facts: SpecFacts, name: str, ops: list[Any], names: list[str],
                  unsure: Any, restart: bool = False) -> Finding:
        owner = ("the scaffold's" if getattr(facts.scaffold, f'_{name}', None) is not None
                 else "the collection's")
        end = ', which init_op does, but not after a restart' if restart else ''
        return self.finding(
            facts, f'{owner} {name} leaves out {describe.names(names)}{end}',
            field=f'scaffold.{name}', op=ops[0],
            hint=f'add the default: tf.group({_DEFAULTS[name]}, ...)',
            expected='the default initializers as well', actual=f'{len(names)} left out',
            severity=Severity.WARNING if unsure else None)

    @staticmethod
    def _variables(facts: SpecFacts, collection: str) -> list[VariableInfo]:
        """The variables of a collection that must get a value before the first step."""
        found = [info for info in facts.index.variables if collection in info.collections]
        if given(facts, 'ready_op'):  # nothing waits for the others
            found = [info for info in found if _is_used(facts, info)]
        return found

    @staticmethod
    def _tables(facts: SpecFacts, run: AbstractSet[Any],
                at_start: AbstractSet[Any]) -> dict[str, bool]:
        """Tables of the step that nothing initialises, and whether init_op does."""
        index = facts.index
        by_hooks = index.ancestors(facts.hook_ops)
        found: dict[str, bool] = {}
        for op in index.of_types(TABLE_INIT_TYPES):
            table = index.handle(op.inputs[0])
            starters = [other for other in index.consumers(table)
                        if other.type in TABLE_INIT_TYPES]
            if (table in facts.step_ops and table.name not in found
                    and not any(other in run or other in by_hooks for other in starters)):
                found[table.name] = any(other in at_start for other in starters)
        return found

    @staticmethod
    def bad() -> Any:
        """A local_init_op of the author's alone."""
        return _with_table(lambda: tf.no_op(name='mine'))

    @staticmethod
    def good() -> Any:
        """The default beside it."""
        return _with_table(lambda: tf.group(
            v1.train.Scaffold.default_local_init_op(), tf.no_op()))


def _init_fn(facts: SpecFacts) -> Optional[Any]:
    return getattr(facts.scaffold, '_init_fn', None)


def _is_used(facts: SpecFacts, info: VariableInfo) -> bool:
    return any(op in facts.step_ops for op in info.handles)


def _trained(make_scaffold: Any, addend: Any = 0.) -> dict[str, Any]:
    step = v1.train.get_or_create_global_step()
    weight = v1.get_variable('w', [], initializer=v1.ones_initializer())
    loss = tf.square(weight + addend)
    train_op = v1.train.GradientDescentOptimizer(.1).minimize(loss, step)
    return {'mode': 'train', 'loss': loss, 'train_op': train_op,
            'scaffold': make_scaffold(weight)}


def _with_table(make_op: Any) -> dict[str, Any]:
    words = v1.placeholder(tf.string, [], name='word')
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(['a', 'b'], [1, 2]), -1, name='vocabulary')
    return _trained(lambda weight: v1.train.Scaffold(local_init_op=make_op()),
                    tf.cast(table.lookup(words), tf.float32))


def _init_op_for_some() -> Any:
    """The global step is left out."""
    return _trained(lambda weight: v1.train.Scaffold(init_op=weight.initializer))


def _init_op_before_the_slots() -> Any:
    """Made before the optimizer's variables."""
    weight = v1.get_variable('w', [])
    init = v1.global_variables_initializer()
    loss = tf.square(weight)
    train_op = v1.train.MomentumOptimizer(.1, .9).minimize(
        loss, v1.train.get_or_create_global_step())
    return {'mode': 'train', 'loss': loss, 'train_op': train_op,
            'scaffold': v1.train.Scaffold(init_op=init)}


def _local_variable_left_out() -> Any:
    """The tables are there, a local variable is not."""
    v1.get_local_variable('seen', [], initializer=v1.zeros_initializer())
    return _with_table(v1.tables_initializer)


def _op_in_the_collection() -> Any:
    """A scaffold takes what the collection holds."""
    fields = _trained(lambda weight: None)
    v1.get_local_variable('seen', [], initializer=v1.zeros_initializer())
    v1.add_to_collection(v1.GraphKeys.LOCAL_INIT_OP, tf.no_op(name='mine'))
    return fields


def _table_by_init_op() -> Any:
    """It works until the first restart."""
    fields = _with_table(v1.local_variables_initializer)
    return {**fields, 'scaffold': v1.train.Scaffold(
        init_op=tf.group(v1.global_variables_initializer(), v1.tables_initializer()),
        local_init_op=v1.local_variables_initializer())}


def _table_when_served() -> Any:
    """An export takes local_init_op for what a server runs at the start."""
    words = v1.placeholder(tf.string, [None], name='words')
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(['a', 'b'], [1, 2]), -1, name='vocabulary')
    return {'mode': 'infer', 'predictions': {'id': table.lookup(words)},
            'scaffold': v1.train.Scaffold(local_init_op=tf.no_op(name='mine'))}


def _init_op_for_all() -> Any:
    return _trained(lambda weight: v1.train.Scaffold(
        init_op=tf.group(v1.global_variables_initializer(), tf.no_op())))


def _init_op_that_assigns() -> Any:
    def make(weight: Any) -> Any:
        step = v1.train.get_global_step()
        return v1.train.Scaffold(init_op=tf.group(
            v1.assign(weight, 3.), v1.assign(step, 0)))
    return _trained(make)


def _init_fn_for_the_rest() -> Any:
    """It restores what init_op leaves out."""
    return _trained(lambda weight: v1.train.Scaffold(
        init_op=tf.no_op(), init_fn=lambda scaffold, session: None))


def _local_init_op_of_eval() -> Any:
    """Estimator adds the default to it."""
    value = v1.metrics.mean(v1.placeholder(tf.float32, [None]))
    return {'mode': 'eval', 'loss': tf.constant(1., name='loss'),
            'eval_metric_ops': {'mean': value},
            'scaffold': v1.train.Scaffold(local_init_op=tf.no_op(name='mine'))}


def _local_init_op_by_hand() -> Any:
    """Each default initializer by its own name."""
    v1.get_local_variable('seen', [], initializer=v1.zeros_initializer())
    return _with_table(lambda: [v1.local_variables_initializer(), v1.tables_initializer()])


class _Initializes(v1.train.SessionRunHook):
    """An author's own hook."""

    def __init__(self, op: Any) -> None:
        self._op = op

    def after_create_session(self, session: Any, coord: Any) -> None:
        """Runs the op before the first step."""
        session.run(self._op)


def _table_by_a_hook() -> Any:
    """A hook initialises the tables."""
    fields = _with_table(v1.local_variables_initializer)
    return {**fields, 'training_hooks': [_Initializes(v1.tables_initializer())]}


ScaffoldSkipsInitializers.more_bad = (
    _init_op_for_some, _init_op_before_the_slots, _local_variable_left_out, _op_in_the_collection,
    _table_by_init_op, _table_when_served)
ScaffoldSkipsInitializers.more_good = (
    _init_op_for_all, _init_op_that_assigns, _init_fn_for_the_rest, _local_init_op_of_eval,
    _local_init_op_by_hand, _table_by_a_hook)


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
    about = ('scaffold',)

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

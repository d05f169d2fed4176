"""A learning-rate schedule that stands still."""

from __future__ import annotations

import re
from typing import Any, Iterator, Optional

from estimator_spec_ext.compat import frames, graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import PLACEHOLDER_TYPES, VariableInfo
from estimator_spec_ext.rule import TRAIN, Rule
from estimator_spec_ext.rules import training

_COUNTING_NAME = re.compile(r'(step|iter|epoch|count)')
_OTHER_NAME = re.compile(r'(decay|warm|total|max|num|per_|size|batch|class)')
_APPLYING = ('Apply', 'ResourceApply', 'SparseApply', 'ResourceSparseApply')
_MAX_WALK = 400
_MAX_CANDIDATES = 20


class ScheduleStandsStill(Rule):
    """The learning rate follows a counter that nothing advances.

    What it finds: a learning rate that is computed from a counter (one integer, or one number
    called step, epoch or the like, that starts at 0 or 1), where no training step writes this
    counter, nor any other variable from which the rate is computed; or a schedule of TensorFlow's
    whose step is a Python number; or a rate that is a variable, with an op that changes it, which
    no step runs. Silent beside hooks of classes that are not TensorFlow's, which may set it.

    Why it matters: the rate keeps its first value, through warm-up 0, and nothing says so.

    Bad:
        step = tf.Variable(0, trainable=False)
        rate = tf.compat.v1.train.exponential_decay(.1, step, 1000, .9)

    Good:
        step = tf.compat.v1.train.get_or_create_global_step()
        rate = tf.compat.v1.train.exponential_decay(.1, step, 1000, .9)

    When to suppress: when the counter is set from outside, e.g. by the checkpoint that is loaded.
    """

    code = 'ESX308'
    slug = 'schedule-stands-still'
    severity = Severity.WARNING
    modes = (TRAIN,)
    needs = ('train_op', 'loss')
    mistakes = ('T7',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if facts.opaque_hooks or not facts.shows_training:
            return
        fixed = _fixed_schedule(facts)
        if fixed is not None:
            yield self.finding(
                facts, 'the learning rate is a schedule of a step that is a number, and never '
                       'changes', field='train_op', op=fixed,
                hint='hand tf.compat.v1.train.get_or_create_global_step() to the schedule',
                expected='a counter that training advances', actual='a constant')
        for info, changes in _idle_rates(facts):
            if _is_rate(facts, info) or _rate(facts, info) is not None:
                yield self.finding(
                    facts, f"no training step runs the op that changes the learning rate "
                    f"'{info.name}'", field='train_op', op=changes,
                    hint='train_op = tf.group(train_op, change) with this op',
                    expected='an op that train_op runs', actual=f"'{changes.name}' is not run")
        for info in _idle_counters(facts):
            rate = _rate(facts, info)
            if rate is None or _moves(facts, rate):
                continue
            yield self.finding(
                facts, f"the learning rate follows '{info.name}', which no training step writes",
                field='train_op', op=info.variable if info.variable is not None else info.op,
                hint='let the schedule read tf.compat.v1.train.get_or_create_global_step()',
                expected='a counter that training advances', actual=f"'{info.name}'")

    @staticmethod
    def bad() -> Any:
        """A counter of its own."""
        steps = v1.get_variable('steps', [], tf.int32, tf.zeros_initializer(), trainable=False)
        return _with_rate(v1.train.exponential_decay(.1, steps, 10, .9))

    @staticmethod
    def good() -> Any:
        """The global step."""
        return _with_rate(v1.train.exponential_decay(.1, v1.train.get_global_step(), 10, .9))


def _fixed_schedule(facts: SpecFacts) -> Optional[Any]:
    """An op of a schedule that is computed from constants alone."""
    for op in next((facts.updated[info] for info in facts.trained), ()):
        if not op.type.startswith(_APPLYING):
            continue
        for tensor in op.inputs:
            if tensor.op.type != 'Const' and tensor.dtype.is_floating and tensor.shape.rank == 0:
                if any(map(frames.made_by_schedule, _constants_before(tensor.op))):
                    return tensor.op
    return None


def _constants_before(op: Any) -> list[Any]:
    """All ops that a number is computed from; [] where one of them is more than a constant."""
    seen, stack = {op}, [op]
    while stack:
        current = stack.pop()
        if not current.inputs and current.type != 'Const' or len(seen) > _MAX_WALK:
            return []
        for tensor in current.inputs:
            if tensor.op not in seen:
                seen.add(tensor.op)
                stack.append(tensor.op)
    return [each for each in seen if each.type != 'Const']


def _idle_counters(facts: SpecFacts) -> list[VariableInfo]:
    """The counters that a step reads and nothing writes."""
    step = None if facts.global_step is None else facts.index.variable(facts.global_step)
    step_ops, found = facts.step_ops, []
    for info in facts.index.variables:
        if info in facts.updated or info is step or not any(op in step_ops for op in info.handles):
            continue
        if info.shape.rank == 0 and _counts(info):
            found.append(info)
            if len(found) == _MAX_CANDIDATES:
                break
    return found


def _idle_rates(facts: SpecFacts) -> list[tuple[VariableInfo, Any]]:
    """The numbers that a step reads, with the op that would change them and is not run."""
    run_ops, found = facts.run_ops, []
    for info in facts.index.variables:
        if (info in facts.updated or info.shape.rank != 0 or not info.dtype.is_floating
                or not any(op in run_ops for op in info.handles)):
            continue
        changes = facts.index.updates(info)
        # One that is fed, or kept in a collection, is for a hook that the spec does not know.
        if len(changes) == 1 and not _is_kept(facts, changes[0]) and not any(
                op in facts.index.data_ancestors(changes)
                for op in facts.index.of_types(PLACEHOLDER_TYPES)):
            found.append((info, changes[0]))
    return found[:_MAX_CANDIDATES]


def _is_kept(facts: SpecFacts, op: Any) -> bool:
    """Whether a collection holds an op or what it gives."""
    return any(graphs.as_op(item) is op for key in facts.graph.collections
               for item in facts.graph.get_collection(key))


def _counts(info: VariableInfo) -> bool:
    """Whether a variable that holds one number is made for counting."""
    name = info.name.rpartition('/')[2].lower()
    named = bool(_COUNTING_NAME.search(name)) and not _OTHER_NAME.search(name)
    start = _start(info)
    if start is not None and start not in (0, 1):
        return False
    if info.dtype.is_integer:
        return named or start is not None
    return info.dtype.is_floating and named


def _start(info: VariableInfo) -> Optional[float]:
    """The number that the variable begins with; None when it is not known."""
    initial = getattr(info.variable, 'initial_value', None)
    value = None if initial is None else tf.get_static_value(initial)
    return None if value is None else value.item()


def _rate(facts: SpecFacts, info: VariableInfo) -> Optional[Any]:
    """The learning rate, one number in an update of a trained variable, that reads the counter."""
    run_ops = facts.run_ops
    writes = {op for trained in facts.trained for op in facts.updated[trained]}
    seen = set(training.readers(info))
    stack = [op for op in seen if op in run_ops]
    while stack and len(seen) < _MAX_WALK:
        op = stack.pop()
        for tensor in op.outputs:
            if tensor.shape.rank not in (0, None):
                continue
            for consumer in tensor.consumers():
                if consumer not in run_ops or consumer in seen:
                    continue
                if tensor.dtype.is_floating and _applies(consumer, writes):
                    return tensor
                seen.add(consumer)
                stack.append(consumer)
    return None


def _is_rate(facts: SpecFacts, info: VariableInfo) -> bool:
    """Whether an optimizer reads the variable itself as a number of its own."""
    writes = {op for trained in facts.trained for op in facts.updated[trained]}
    return any(op in writes and op.type.startswith(_APPLYING) for op in training.readers(info))


def _applies(op: Any, writes: set[Any]) -> bool:
    """Whether an op updates a variable with a gradient, or scales one that is then subtracted."""
    if op in writes:
        return op.type.startswith(_APPLYING)
    if op.type != 'Mul' or op.outputs[0].shape.rank == 0:
        return False
    near = set(op.outputs[0].consumers())
    near |= {further for consumer in near if consumer.type in ('Sub', 'Neg', 'Identity')
             for tensor in consumer.outputs for further in tensor.consumers()}
    return bool(near & writes)


def _moves(facts: SpecFacts, rate: Any) -> bool:
    """Whether a training step writes anything from which the rate is computed."""
    before = facts.index.data_ancestors([rate])
    return any(handle in before for info in facts.updated for handle in info.handles)


# Examples.

def _with_rate(rate: Any) -> Any:
    _, loss = training.regression()
    optimizer = v1.train.GradientDescentOptimizer(rate)
    return training.train_fields(loss, optimizer.minimize(loss, v1.train.get_global_step()))


def _counter(name: str, start: float = 0, dtype: Any = tf.int64) -> Any:
    return v1.get_variable(name, [], dtype, tf.constant_initializer(start), trainable=False)


def _bad_pieces() -> Any:
    """A schedule in pieces; the op that counts is there and is not run."""
    epoch = _counter('epoch')
    v1.assign_add(epoch, 1)
    return _with_rate(v1.train.piecewise_constant(epoch, [10, 20], [.1, .01, .001]))


def _bad_by_hand() -> Any:
    """Warm-up and plain ops; the updates are made by hand."""
    _, loss = training.regression()
    done = _counter('steps_done', dtype=tf.float32)
    rate = .1 * tf.minimum(1., (done + 1.) / 100.)
    weights = v1.trainable_variables()
    updates = [v1.assign_sub(weight, rate * gradient)
               for gradient, weight in zip(tf.gradients(loss, weights), weights)]
    count = v1.assign_add(v1.train.get_global_step(), 1)
    return training.train_fields(loss, tf.group(*updates, count))


def _bad_keras_schedule() -> Any:
    """A Keras optimizer whose schedule is read with another optimizer's counter."""
    schedule = tf.keras.optimizers.schedules.CosineDecay(.1, 100)
    return _with_rate(schedule(_counter('iterations')))


def _bad_local() -> Any:
    """A local counter, which starts again with each session; nothing advances it either."""
    done = v1.get_local_variable('steps_seen', [], tf.float32, tf.zeros_initializer())
    return _with_rate(tf.cond(done < 100., lambda: .1 * done / 100., lambda: 10. / done))


def _good_counted() -> Any:
    """A counter of its own that a step advances."""
    steps = _counter('steps')
    _, loss = training.regression()
    rate = v1.train.polynomial_decay(.1, steps, 100)
    train_op = v1.train.MomentumOptimizer(rate, .9).minimize(loss, v1.train.get_global_step())
    return training.train_fields(loss, tf.group(train_op, v1.assign_add(steps, 1)))


def _good_constants() -> Any:
    """Numbers of the schedule may be variables that never change."""
    step = v1.train.get_global_step()
    length = _counter('decay_steps', 1000)
    first = _counter('first_step', 0)
    return _with_rate(v1.train.exponential_decay(
        .1, step - first, tf.cast(length, tf.int32), .9))


def _decayed(*, run: bool, fed: bool = False) -> Any:
    _, loss = training.regression()
    rate = _counter('rate', .1, tf.float32)
    factor = v1.placeholder(tf.float32, []) if fed else .99
    lowered = v1.assign(rate, rate * factor, name='lower').op
    train_op = v1.train.GradientDescentOptimizer(rate).minimize(
        loss, v1.train.get_global_step())
    return training.train_fields(loss, tf.group(train_op, lowered) if run else train_op)


def _bad_not_lowered() -> Any:
    """The op that lowers the rate is made and not run."""
    return _decayed(run=False)


def _good_lowered() -> Any:
    """It is run."""
    return _decayed(run=True)


def _good_collected() -> Any:
    """It is kept for a hook that finds it there."""
    fields = _decayed(run=False)
    v1.add_to_collection('decay', v1.get_default_graph().get_operation_by_name('lower'))
    return fields


def _good_fed() -> Any:
    """It waits for somebody who feeds it."""
    return _decayed(run=False, fed=True)


def _good_rate_variable() -> Any:
    """A rate that something else sets."""
    return _with_rate(_counter('learning_rate', .1, tf.float32))


def _good_hook() -> Any:
    """A hook sets the epoch."""
    epoch = _counter('epoch')
    fields = _with_rate(v1.train.exponential_decay(.1, epoch, 10, .9))
    return {**fields, 'training_hooks': [training.UnknownHook('sets the epoch')]}


def _good_no_rate() -> Any:
    """A number that is read for something else."""
    features, labels = training.rows()
    scale = tf.cast(_counter('count'), tf.float32)
    _, loss = training.regression((features * (1. + scale), labels))
    return training.train_fields(loss, training.minimize(loss))


def _bad_number() -> Any:
    """The step of the schedule is 0 for ever."""
    return _with_rate(v1.train.cosine_decay(.1, 0, 20))


ScheduleStandsStill.more_bad = (_bad_pieces, _bad_by_hand, _bad_keras_schedule, _bad_local,
                               _bad_not_lowered, _bad_number)
ScheduleStandsStill.more_good = (_good_counted, _good_constants, _good_rate_variable, _good_hook,
                                 _good_no_rate, _good_lowered, _good_fed,
                                 _good_collected)

"""The global step: a training step must advance it, and once."""

from __future__ import annotations

from typing import AbstractSet, Any, Iterator, Optional

from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import VariableInfo
from estimator_spec_ext.rule import TRAIN, Rule
from estimator_spec_ext.rules import training

_KERAS_COUNTERS = ('iter', 'iteration', 'iterations')


class StepNotAdvanced(Rule):
    """A training step never advances the global step.

    What it finds: a train_op that updates variables, while nothing that a step runs (train_op,
    loss, hooks, queue runners) writes the global step, not even under a condition. The usual
    causes: minimize() or apply_gradients() without the global step, a Keras optimizer, which counts
    in a variable of its own, or a private variable passed as global_step. A warning when a hook of
    a class that is not TensorFlow's runs beside it and might do it; a note in a graph without a
    global step, which no Estimator made.

    Why it matters: steps and max_steps are never reached, so training does not end; no checkpoint
    is written by step, learning-rate schedules stand still. Stock logs a warning now and then.

    Bad:
        train_op = optimizer.minimize(loss)

    Good:
        train_op = optimizer.minimize(loss, global_step=tf.compat.v1.train.get_global_step())

    When to suppress: when something outside of the spec advances the step, e.g. a hook that is
    passed to Estimator.train, or when the input's end is all that ends training.
    """

    code = 'ESX301'
    slug = 'global-step-not-advanced'
    severity = Severity.ERROR
    modes = (TRAIN,)
    needs = ('train_op', 'loss')
    mistakes = ('T1', 'T2')

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if not facts.shows_training:
            return
        if facts.global_step is None:
            yield from self._no_step(facts)
            return
        step = facts.index.variable(facts.global_step)
        if step is None or step in facts.updated:
            return
        if not any(training.is_state(info) for info in facts.updated):
            return  # Nothing at all is updated: a fault of its own.
        if facts.opaque_hooks and not training.step_trains(facts):
            return  # Hooks do the training; such a hook also counts.
        counter = _other_counter(facts)
        message = 'no op that a training step runs writes global_step'
        if counter is not None:
            message += f"; it counts in '{counter.name}'"
        yield self.finding(
            facts, message, field='train_op', op=graphs.as_op(facts.train_op),
            hint=_hint(counter), expected='one write of global_step a step', actual='none',
            severity=Severity.WARNING if facts.opaque_hooks else None)

    def disproved(self, seen: Any) -> bool:
        """Whether the step moved, e.g. because a hook runs an op that it made in begin."""
        return None not in (seen.first_step, seen.last_step) and seen.last_step > seen.first_step

    def _no_step(self, facts: SpecFacts) -> Iterator[Finding]:
        """A note: under an Estimator there is a global step before model_fn is called."""
        if not training.step_trains(facts):
            return
        yield self.finding(
            facts, 'a training step trains, and the graph has no global_step', field='train_op',
            op=graphs.as_op(facts.train_op),
            hint='outside of an Estimator, make one before the model: '
                 'tf.compat.v1.train.get_or_create_global_step()',
            expected='one write of global_step a step', actual='no global_step',
            severity=Severity.INFO)

    @staticmethod
    def bad() -> Any:
        """An optimizer that is not told of the global step."""
        _, loss = training.regression()
        return training.train_fields(
            loss, v1.train.AdamOptimizer(name='Adam').minimize(loss))

    @staticmethod
    def good() -> Any:
        """Told of it."""
        _, loss = training.regression()
        step = v1.train.get_global_step()
        return training.train_fields(loss, v1.train.AdamOptimizer().minimize(loss, step))


class StepAdvancedTwice(Rule):
    """One training step advances the global step more than once.

    What it finds: two or more ops that write the global step and that every step runs, e.g. two
    optimizers that both get it, or an optimizer and an assign_add beside it. Ops in branches of a
    condition are not counted, nor are those that hooks run.

    Why it matters: with max_steps=1000 the model is trained 500 times, learning rates decay twice
    as fast, and nothing says so.

    Bad:
        train_op = tf.group(a.minimize(loss_a, global_step), b.minimize(loss_b, global_step))

    Good:
        train_op = tf.group(a.minimize(loss_a, global_step), b.minimize(loss_b))

    When to suppress: when each update is meant to count, as in some GANs.
    """

    code = 'ESX302'
    slug = 'global-step-advanced-twice'
    severity = Severity.WARNING
    modes = (TRAIN,)
    needs = ('train_op', 'loss')
    mistakes = ('T3',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if facts.global_step is None or not facts.shows_training:
            return
        step = facts.index.variable(facts.global_step)
        if step is None or len(facts.updated.get(step, ())) < 2:
            return
        certain = (facts.index.ancestors((*facts.step_roots, *facts.queue_ops))
                   if facts.queue_ops else facts.step_ops)
        # A distributed variable is written once in each of its parts.
        writes = max((_certain_writes(facts, handle, certain) for handle in step.handles), key=len)
        if len(writes) < 2:
            return
        names = ', '.join(f"'{op.name}'" for op in writes[:2])
        yield self.finding(
            facts, f'a training step advances global_step {len(writes)} times; expected once',
            field='train_op', op=writes[-1],
            hint=f'pass the global step to one optimizer alone (now written by {names})',
            expected='1', actual=str(len(writes)))

    @staticmethod
    def bad() -> Any:
        """Two optimizers for two parts of a model, both told of the step."""
        return _two_optimizers(both_count=True)

    @staticmethod
    def good() -> Any:
        """One of them counts."""
        return _two_optimizers(both_count=False)


def _other_counter(facts: SpecFacts) -> Optional[VariableInfo]:
    """A counter that is advanced in place of the global step."""
    counters = [info for info in facts.updated
                if training.is_counter(info) and training.is_state(info)]
    counters.sort(key=lambda info: not _is_keras_counter(info))
    return counters[0] if counters else None


def _is_keras_counter(info: VariableInfo) -> bool:
    return info.name.rsplit('/', 1)[-1].rsplit('_', 1)[0] in _KERAS_COUNTERS or (
        info.name.rsplit('/', 1)[-1] in _KERAS_COUNTERS)


def _hint(counter: Optional[VariableInfo]) -> str:
    if counter is not None and _is_keras_counter(counter):
        return ('let the Keras optimizer count in it: '
                'optimizer.iterations = tf.compat.v1.train.get_or_create_global_step()')
    if counter is not None:
        return ('pass tf.compat.v1.train.get_or_create_global_step() as global_step instead of '
                f"'{counter.name}'")
    return ('pass it on: optimizer.minimize(loss, global_step='
            'tf.compat.v1.train.get_or_create_global_step())')


def _certain_writes(facts: SpecFacts, handle: Any, certain: AbstractSet[Any]) -> list[Any]:
    """The ops that write `handle` in every step, those that assign the same value but once."""
    writes: dict[Any, Any] = {}
    info = facts.index.variable(handle)
    updates = facts.updated.get(info, ()) if info is not None else ()
    for op in facts.index.writes.get(handle, ()):
        # Cond and while of TensorFlow 2 are calls; what they do is no certain write.
        if op not in certain or op not in updates:
            continue
        if op.type in ('If', 'StatelessIf', 'Case', 'StatelessCase', 'While', 'StatelessWhile'):
            continue
        if graphs.is_conditional(op):
            continue
        same = op.inputs[1].ref() if op.type in ('Assign', 'AssignVariableOp') else op
        writes.setdefault(same, op)
    return list(writes.values())


# Examples.

def _two_optimizers(*, both_count: bool) -> Any:
    features, labels = training.rows()
    wide = training.dense(features, 1, 'wide')
    deep = training.dense(training.dense(features, 4, 'hidden'), 1, 'deep')
    loss = tf.reduce_mean(tf.math.squared_difference(labels, wide + deep))
    step = v1.train.get_global_step()
    first = v1.train.FtrlOptimizer(.1, name='Ftrl').minimize(
        loss, step, var_list=v1.trainable_variables('wide'))
    second = v1.train.AdagradOptimizer(.1, name='Adagrad').minimize(
        loss, step if both_count else None,
        var_list=v1.trainable_variables('deep') + v1.trainable_variables('hidden'))
    return training.train_fields(loss, tf.group(first, second))


def _bad_keras_optimizer() -> Any:
    features, labels = training.rows()
    layer = tf.keras.layers.Dense(1, name='head')
    loss = tf.reduce_mean(tf.math.squared_difference(labels, layer(features)))
    optimizer = tf.keras.optimizers.legacy.SGD(.1, name='SGD')
    updates = optimizer.get_updates(loss, layer.trainable_variables)
    return training.train_fields(loss, tf.group(*updates, name='train'))


def _bad_private_step() -> Any:
    _, loss = training.regression()
    steps = v1.get_variable('steps', [], tf.int64, tf.zeros_initializer(), trainable=False)
    optimizer = v1.train.GradientDescentOptimizer(.1, name='SGD')
    return training.train_fields(loss, tf.group(optimizer.minimize(loss, steps), name='train'))


def _bad_beside_an_unknown_hook() -> Any:
    return {**StepNotAdvanced.bad(), 'training_hooks': [training.UnknownHook()]}


def _good_keras_optimizer() -> Any:
    features, labels = training.rows()
    layer = tf.keras.layers.Dense(1)
    loss = tf.reduce_mean(tf.math.squared_difference(labels, layer(features)))
    optimizer = tf.keras.optimizers.legacy.Adam(.1)
    optimizer.iterations = v1.train.get_global_step()
    updates = optimizer.get_updates(loss, layer.trainable_variables)
    return training.train_fields(loss, tf.group(*updates))


def _good_step_only() -> Any:
    """What tests of Estimator itself look like: nothing to train."""
    step = v1.train.get_global_step()
    return training.train_fields(tf.constant(1.), v1.assign_add(step, 1))


def _good_accumulated_gradients() -> Any:
    """The step counts the updates, and a step that only accumulates makes none."""
    _, loss = training.regression()
    optimizer = v1.train.GradientDescentOptimizer(.1)
    pairs = optimizer.compute_gradients(loss)
    sums = [v1.get_variable(f'sum_{position}', variable.shape, trainable=False,
                            initializer=tf.zeros_initializer())
            for position, (_, variable) in enumerate(pairs)]
    seen = v1.get_variable('seen', [], tf.int32, tf.zeros_initializer(), trainable=False)
    accumulate = [v1.assign_add(total, gradient) for total, (gradient, _) in zip(sums, pairs)]
    with tf.control_dependencies([*accumulate, v1.assign_add(seen, 1)]):
        full = tf.equal(tf.math.floormod(v1.assign_add(seen, 0), 4), 0)

    def apply() -> Any:
        update = optimizer.apply_gradients(
            [(total + 0., variable) for total, (_, variable) in zip(sums, pairs)],
            v1.train.get_global_step())
        with tf.control_dependencies([update]):
            return tf.group(*[v1.assign(total, tf.zeros_like(total)) for total in sums])

    return training.train_fields(loss, tf.cond(full, apply, tf.no_op))


def _good_hooks_train() -> Any:
    """As in a GAN: train_op only counts, and hooks hold the ops that train."""
    _, loss = training.regression()
    inner = v1.train.GradientDescentOptimizer(.1).minimize(loss)
    step = v1.train.get_global_step()
    return training.train_fields(loss, v1.assign_add(step, 1),
                                 training_hooks=[training.UnknownHook(inner)])


def _good_hooks_do_everything() -> Any:
    """A no_op as train_op; a hook makes the op that counts when it begins."""
    _, loss = training.regression()
    inner = v1.train.GradientDescentOptimizer(.1).minimize(loss)
    return training.train_fields(loss, tf.no_op(),
                                 training_hooks=[training.UnknownHook([inner])])


def _good_skipped_step() -> Any:
    """Loss scaling skips the whole step, counting included, when a gradient is not finite."""
    _, loss = training.regression()
    optimizer = v1.train.GradientDescentOptimizer(.1)
    pairs = optimizer.compute_gradients(loss * 128.)
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient, _ in pairs])

    def apply() -> Any:
        scaled = [(gradient / 128., variable) for gradient, variable in pairs]
        return tf.group(optimizer.apply_gradients(scaled, v1.train.get_global_step()))

    return training.train_fields(loss, tf.cond(finite, apply, tf.no_op))


def _good_step_in_either_branch() -> Any:
    """Each branch counts; a step takes one of them."""
    _, loss = training.regression()
    fast = v1.train.GradientDescentOptimizer(1.)
    slow = v1.train.GradientDescentOptimizer(.1)
    step = v1.train.get_global_step()
    pairs = slow.compute_gradients(loss)
    train_op = tf.cond(loss > 1., lambda: tf.group(fast.apply_gradients(pairs, step)),
                       lambda: tf.group(slow.apply_gradients(pairs, step)))
    return training.train_fields(loss, train_op)


def _good_step_assigned() -> Any:
    """The optimizer knows no step; the step is assigned beside it."""
    _, loss = training.regression()
    step = v1.train.get_global_step()
    update = v1.train.GradientDescentOptimizer(.1).minimize(loss)
    return training.train_fields(loss, tf.group(update, v1.assign(step, step + 1)))


StepNotAdvanced.more_bad = (_bad_keras_optimizer, _bad_private_step, _bad_beside_an_unknown_hook)
StepNotAdvanced.more_good = (
    _good_keras_optimizer, _good_step_only, _good_accumulated_gradients, _good_hooks_train,
    _good_hooks_do_everything, _good_skipped_step, _good_step_assigned)
StepAdvancedTwice.more_good = (_good_step_in_either_branch, _good_step_assigned)

"""Training that updates no variable at all."""

from __future__ import annotations

import collections
import re
from typing import Any, Iterator, Optional

from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.rule import TRAIN, Rule
from estimator_spec_ext.rules import gradients, training

_MAX_WALK = 3000


class NothingTrained(Rule):
    """A training step updates no trainable variable.

    What it finds: a graph with trainable variables, of which neither train_op nor the loss, a hook
    or a queue runner updates one, while something else, e.g. the global step, is updated. An error
    when an optimizer has made the updates and nothing runs them: they were left out of train_op, or
    the optimizer is one of Keras 2.11 and later, whose apply_gradients hands back only the op that
    counts. A warning when there are no updates at all, e.g. because the loss has no gradient.

    Why it matters: steps go by, checkpoints are written, and the weights stay as they were.

    Bad:
        optimizer = tf.keras.optimizers.Adam()
        optimizer.iterations = tf.compat.v1.train.get_or_create_global_step()
        train_op = optimizer.apply_gradients(zip(tf.gradients(loss, weights), weights))

    Good:
        optimizer = tf.keras.optimizers.legacy.Adam()
        optimizer.iterations = tf.compat.v1.train.get_or_create_global_step()
        train_op = tf.group(*optimizer.get_updates(loss, weights))

    When to suppress: when nothing is to be trained, e.g. in a job that only writes a checkpoint.
    """

    code = 'ESX304'
    slug = 'no-variable-trained'
    severity = Severity.ERROR
    modes = (TRAIN,)
    needs = ('train_op', 'loss')
    mistakes = ('L5', 'T1', 'T2')

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if facts.global_step is None or not facts.shows_training:
            return
        to_train = facts.trainable
        if not to_train or facts.trained:
            return
        if not any(training.is_state(info) for info in facts.updated):
            return  # Nothing at all is updated: a fault of its own.
        made = gradients.updates_made(facts, to_train)
        if facts.opaque_hooks and not made:
            return
        count = f'{len(to_train)} trainable variable{"s" if len(to_train) > 1 else ""}'
        message = f'a training step updates none of the {count}'
        cut = None if made else _cutting_op(facts)
        if made:
            message += ', and the updates exist'
        elif cut is not None:
            message += f'; {cut.type} has no gradient and parts the loss from them'
        place = cut if cut is not None else graphs.as_op(facts.train_op)
        yield self.finding(
            facts, message, field='train_op', op=place,
            hint=_hint(facts, made, cut), expected='at least one', actual='0',
            severity=None if made and not facts.opaque_hooks else Severity.WARNING)

    def disproved(self, seen: Any) -> bool:
        """Whether a variable changed."""
        return bool(seen.changed)

    @staticmethod
    def bad() -> Any:
        """The optimizer's op is dropped, and the step is counted."""
        _, loss = training.regression()
        v1.train.AdamOptimizer().minimize(loss)
        return training.train_fields(loss, gradients.count())

    @staticmethod
    def good() -> Any:
        """Both are run."""
        _, loss = training.regression()
        update = v1.train.AdamOptimizer().minimize(loss)
        return training.train_fields(loss, tf.group(update, gradients.count()))


def _hint(facts: SpecFacts, made: bool, cut: Any) -> str:
    # Newer Keras optimizers make this variable also when they count in another one.
    if made and any(re.search(r'(^|/)iteration(_\d+)?$', info.name)
                    for info in facts.index.variables):
        return ('take tf.keras.optimizers.legacy or tf.compat.v1.train: apply_gradients of other '
                'Keras optimizers returns only the op that counts')
    if made:
        return 'train_op = tf.group(train_op, update) with what the optimizer returned'
    if cut is not None:
        return f"compute the loss without '{cut.name}', from the logits for example"
    return 'minimise a loss that is computed from them'


def _cutting_op(facts: SpecFacts) -> Optional[Any]:
    """The op without gradient nearest to the loss, when each way to a variable crosses one."""
    handles = {handle for info in facts.trainable for handle in info.handles}
    start = graphs.as_op(facts.loss)
    seen, queue, cuts = {start}, collections.deque([start]), []
    while queue:
        op = queue.popleft()
        if op in handles:
            return None
        if op.type in gradients.CUTTING:
            cuts.append(op)
            continue
        for tensor in op.inputs:
            if tensor.op in seen:
                continue
            seen.add(tensor.op)
            dtype = tensor.dtype.base_dtype
            if dtype.is_floating or dtype.is_complex or dtype == tf.resource:
                queue.append(tensor.op)
            else:
                cuts.append(tensor.op)
    return next((op for op in cuts if handles & facts.index.ancestors([op])), None)


# Examples.

def _bad_keras_optimizer() -> Any:
    """Its apply_gradients returns the op that counts and none that trains."""
    features, labels = training.rows()
    layer = tf.keras.layers.Dense(1, name='head')
    loss = tf.reduce_mean(tf.math.squared_difference(labels, layer(features)))
    optimizer = tf.keras.optimizers.SGD(.1)
    optimizer.iterations = v1.train.get_global_step()
    weights = layer.trainable_variables
    update = optimizer.apply_gradients(zip(tf.gradients(loss, weights), weights))
    return training.train_fields(loss, tf.group(update, name='train'))


def _bad_no_gradient() -> Any:
    """The share of wrong answers cannot be minimised: a warning."""
    features, labels = training.rows()
    logits = training.dense(features, 3, 'logits')
    wrong = tf.not_equal(tf.argmax(logits, 1, name='answer'), tf.cast(labels[:, 0], tf.int64))
    loss = tf.reduce_mean(tf.cast(wrong, tf.float32))
    weights = v1.trainable_variables()
    pairs = [(gradient, weight) for gradient, weight in zip(tf.gradients(loss, weights), weights)
             if gradient is not None]
    return training.train_fields(
        loss, tf.group(*[v1.assign_sub(weight, .1 * gradient) for gradient, weight in pairs],
                       gradients.count(), name='train'))


def _good_nothing_to_train() -> Any:
    """As in tests of Estimator itself."""
    return training.train_fields(tf.constant(1.), gradients.count())


NothingTrained.more_bad = (_bad_keras_optimizer, _bad_no_gradient)
NothingTrained.more_good = (_good_nothing_to_train, gradients.good_hooks_train,
                            gradients.good_var_list)

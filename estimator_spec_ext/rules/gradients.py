"""What training does not reach: a part of the model."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import INPUT_TYPES, VariableInfo
from estimator_spec_ext.rule import TRAIN, Rule
from estimator_spec_ext.rules import training

# A dead part that nothing uses is left alone below this share of the weights: libraries build
# layers that a task does not need, e.g. the pooler of a language model.
_MIN_SHARE = 0.2
_MAX_WALK = 3000
_APPLYING = ('Apply', 'ResourceApply', 'SparseApply', 'ResourceSparseApply')
_UPDATING = (*_APPLYING, 'AssignSub', 'AssignAdd', 'Scatter', 'ResourceScatter')
# Ops of floating output that have no gradient.
CUTTING = frozenset({'StopGradient', 'Floor', 'Ceil', 'Round', 'Rint', 'Sign', 'OneHot', 'PyFunc',
                     'PyFuncStateless', 'ZerosLike', 'OnesLike', 'FloorDiv'})


class DeadVariables(Rule):
    """Part of the model is on no path to the loss, so it never trains.

    What it finds: trainable variables that no training step reads or updates, although others are
    trained, and which matter: predictions or metrics are computed from them, or a loss of their own
    that nobody minimises, or they hold a good part of the weights. Also variables whose optimizer
    has made the updates, and nothing runs these. Other variables that are used and left as they are
    (var_list) are only told as a note.

    Why it matters: that part keeps its initial values, and the job reports nothing.

    Bad:
        aux_loss = aux_loss_fn(labels, aux_logits)
        train_op = optimizer.minimize(main_loss, global_step)

    Good:
        train_op = optimizer.minimize(main_loss + aux_loss, global_step)

    When to suppress: when this part is trained in another phase, or is loaded and kept.
    """

    code = 'ESX306'
    slug = 'variables-never-trained'
    severity = Severity.WARNING
    modes = (TRAIN,)
    needs = ('train_op', 'loss')
    mistakes = ('L6',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if facts.global_step is None or not facts.shows_training:
            return
        to_train = facts.trainable
        left = [info for info in to_train if info not in facts.updated]
        if not left or len(left) == len(to_train):
            return
        step_ops = facts.step_ops
        unread = [info for info in left if not any(op in step_ops for op in info.handles)
                  and not training.is_restored(facts, info)]
        dead = _that_matter(facts, to_train, unread)
        if dead:
            yield self._dead(facts, to_train, dead)
            return
        forgotten = _with_unrun_updates(facts, to_train, left)
        if forgotten:
            yield self._forgotten(facts, to_train, forgotten)
        elif len(unread) < len(left):
            yield self._frozen(facts, to_train, left)

    def _dead(self, facts: SpecFacts, to_train: Any, dead: list[VariableInfo]) -> Finding:
        names = describe.names([info.name for info in dead], limit=1)
        first = dead[0]
        return self.finding(
            facts, f'{len(dead)} of {len(to_train)} trainable variables, {_percent(dead, to_train)}'
            f' of the weights, do not take part in the loss: {names}',
            field='loss', op=first.variable if first.variable is not None else first.op,
            hint='add the loss of this part to the loss that is minimised, or make the variables '
                 'with trainable=False',
            expected='0', actual=str(len(dead)))

    def _forgotten(self, facts: SpecFacts, to_train: Any, left: list[VariableInfo]) -> Finding:
        first, update = left[0], _unrun_updates(facts, left[0])[0]
        return self.finding(
            facts, f'{len(left)} of {len(to_train)} trainable variables, '
            f'{_percent(left, to_train)} of the weights, are not trained: nothing runs their '
            'updates', field='train_op',
            op=first.variable if first.variable is not None else first.op,
            hint='train_op = tf.group(train_op, update) with what their optimizer returned',
            expected='updates that train_op runs', actual=f"'{update.name}' is not run")

    def _frozen(self, facts: SpecFacts, to_train: Any, left: list[VariableInfo]) -> Finding:
        rest = [info for info in to_train if info not in left]
        return self.finding(
            facts, f'{len(rest)} of {len(to_train)} trainable variables are trained, '
            f'{_percent(rest, to_train)} of the weights', field='train_op', op=facts.train_op,
            hint='nothing to do when the others are to stay as they are', severity=Severity.INFO)

    @staticmethod
    def bad() -> Any:
        """The loss of a second head is left out."""
        return _two_heads(add=False)

    @staticmethod
    def good() -> Any:
        """Both losses count."""
        return _two_heads(add=True)


def count() -> Any:
    return tf.group(v1.assign_add(v1.train.get_global_step(), 1), name='count')


def updates_made(facts: SpecFacts, to_train: tuple[VariableInfo, ...]) -> bool:
    """Whether an optimizer has made updates of the variables, which nothing runs."""
    return any(op.type.startswith(_UPDATING) for info in to_train
               for op in facts.index.updates(info))


def _with_unrun_updates(facts: SpecFacts, to_train: tuple[VariableInfo, ...],
                        left: list[VariableInfo]) -> list[VariableInfo]:
    """The variables for which an optimizer was made, and its op forgotten."""
    if facts.opaque_hooks:
        return []
    found = [info for info in left if _unrun_updates(facts, info)]
    # Training in phases: ops for all variables and for some were made, and one is chosen.
    if found and any(_unrun_updates(facts, info) for info in to_train if info not in left):
        return []
    return found


def _unrun_updates(facts: SpecFacts, info: VariableInfo) -> list[Any]:
    run_ops = facts.run_ops
    return [op for op in facts.index.updates(info)
            if op.type.startswith(_APPLYING) and op not in run_ops]


def _that_matter(facts: SpecFacts, to_train: tuple[VariableInfo, ...],
                 unread: list[VariableInfo]) -> list[VariableInfo]:
    """Of the variables that no step reads, those whose loss is no accident of a library."""
    if not unread:
        return []
    metrics = [part for value in (facts.eval_metric_ops or {}).values()
               if isinstance(value, tuple) for part in value] if isinstance(
                   facts.eval_metric_ops, dict) else []
    used = facts.index.ancestors([*facts.prediction_tensors.values(), *metrics])
    chosen = [info for info in unread
              if any(op in used for op in info.handles) or _has_own_loss(facts, info)]
    if chosen:
        return chosen
    live = any(_meets_live_data(facts, op) for info in unread for op in training.readers(info))
    return unread if live and _share(unread, to_train) >= _MIN_SHARE else []


def _meets_live_data(facts: SpecFacts, op: Any) -> bool:
    """Whether an op combines a dead variable with values that a training step computes."""
    step_ops = facts.step_ops
    seen = {op}
    stack = [op]
    while stack and len(seen) < 50:
        for tensor in stack.pop().inputs:
            parent = tensor.op
            if parent in step_ops and (parent.inputs or parent.type in INPUT_TYPES):
                return True
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return False


def _has_own_loss(facts: SpecFacts, info: VariableInfo) -> bool:
    """Whether the variable leads to one differentiable number that depends on the input."""
    seen = set(training.readers(info))
    stack = list(seen)
    while stack and len(seen) < _MAX_WALK:
        op = stack.pop()
        if op.type in CUTTING:
            continue
        for tensor in op.outputs:
            if not tensor.dtype.is_floating:
                continue
            if tensor.shape.rank == 0 and any(
                    behind.type in INPUT_TYPES for behind in facts.index.ancestors([op])):
                return True
            for consumer in tensor.consumers():
                if consumer not in seen:
                    seen.add(consumer)
                    stack.append(consumer)
    return False


def _size(infos: Any) -> int:
    return sum(info.shape.num_elements() or 0 for info in infos)


def _share(part: Any, whole: Any) -> float:
    return _size(part) / (_size(whole) or 1)


def _percent(part: Any, whole: Any) -> str:
    share = 100 * _share(part, whole)
    return f'{share:.0f}%' if share >= 1 else f'{share:.1g}%'


# Examples.

def _two_heads(*, add: bool) -> Any:
    features, labels = training.rows()
    hidden = tf.nn.relu(training.dense(features, 4, 'hidden'))
    loss = tf.reduce_mean(tf.math.squared_difference(labels, training.dense(hidden, 1, 'main')))
    other = tf.reduce_mean(tf.abs(labels - training.dense(hidden, 1, 'other')), name='other_loss')
    loss = loss + other if add else loss
    return training.train_fields(loss, training.minimize(loss))


def good_hooks_train() -> Any:
    """As in a GAN: train_op only counts, and hooks hold the ops that train."""
    _, loss = training.regression()
    update = v1.train.AdamOptimizer().minimize(loss)
    return training.train_fields(loss, count(), training_hooks=[training.UnknownHook(update)])


def _bad_predicted() -> Any:
    """Predictions are made by a head that no loss knows."""
    features, labels = training.rows()
    _, loss = training.regression((features, labels))
    return training.train_fields(loss, training.minimize(loss), predictions={
        'score': training.dense(features, 1, 'score')})


def _bad_tower() -> Any:
    """A tower is built and forgotten."""
    features, labels = training.rows()
    _, loss = training.regression((features, labels))
    training.dense(tf.nn.relu(training.dense(features, 4, 'deep_1')), 1, 'deep_2')
    return training.train_fields(loss, training.minimize(loss))


def _adversarial(*, critic: bool) -> Any:
    features, _ = training.rows()
    made = training.dense(features, 3, 'generator')
    with v1.variable_scope('critic', reuse=v1.AUTO_REUSE):
        scores = [training.dense(rows, 1, 'score') for rows in (features, made)]
    loss = tf.reduce_mean(tf.nn.softplus(-scores[1]))
    critic_loss = loss + tf.reduce_mean(tf.nn.softplus(scores[1]) - scores[0])
    update = v1.train.GradientDescentOptimizer(.1).minimize(
        critic_loss, var_list=v1.trainable_variables('critic'), name='teach_critic')
    train_op = training.minimize(loss, var_list=v1.trainable_variables('generator'))
    return training.train_fields(loss, tf.group(train_op, update) if critic else train_op)


def _bad_critic() -> Any:
    """The second optimizer of a GAN is made and not run."""
    return _adversarial(critic=False)


def _good_critic() -> Any:
    """Both are run."""
    return _adversarial(critic=True)


def _good_phases() -> Any:
    """An op for all variables and one for the head were made; this is the phase of the head."""
    features, labels = training.rows()
    hidden = tf.nn.relu(training.dense(features, 4, 'hidden'))
    _, loss = training.regression((hidden, labels))
    training.minimize(loss)
    return training.train_fields(
        loss, training.minimize(loss, var_list=v1.trainable_variables('head')))


def good_var_list() -> Any:
    """Only the head is trained, on purpose."""
    features, labels = training.rows()
    hidden = tf.nn.relu(training.dense(features, 4, 'hidden'))
    _, loss = training.regression((hidden, labels))
    return training.train_fields(
        loss, training.minimize(loss, var_list=v1.trainable_variables('head')))


def _good_pooler() -> Any:
    """A library's model ends in a layer that this task does not need."""
    features, labels = training.rows()
    hidden = features
    for position in range(6):
        hidden = tf.nn.relu(training.dense(hidden, 8, f'layer_{position}'))
    tf.tanh(training.dense(hidden, 8, 'pooler'))
    _, loss = training.regression((hidden, labels))
    return training.train_fields(loss, training.minimize(loss))


def _good_other_mode() -> Any:
    """Variables that this mode makes and does not use."""
    v1.get_variable('unused', [100])
    _, loss = training.regression()
    return training.train_fields(loss, training.minimize(loss))


DeadVariables.more_bad = (_bad_predicted, _bad_tower, _bad_critic)
DeadVariables.more_good = (good_var_list, _good_pooler, _good_other_mode, good_hooks_train,
                           _good_critic, _good_phases)

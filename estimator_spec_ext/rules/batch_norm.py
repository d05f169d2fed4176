"""Moving statistics: what a training step must update and nothing runs."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, Iterator, Optional

from estimator_spec_ext import describe
from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import VariableInfo
from estimator_spec_ext.rule import TRAIN, Rule
from estimator_spec_ext.rules import training

_BRANCHING = frozenset({'If', 'StatelessIf', 'Case', 'StatelessCase', 'Merge'})
_PASSING = ('Identity', 'Squeeze', 'Reshape', 'Cast')
# How far an update may lie from the statistic that it averages.
_MAX_WALK = 80


class MovingStatisticsNotUpdated(Rule):
    """No training step updates the moving statistics of batch normalization.

    What it finds: layers that normalise with the statistics of the batch, whose updates of the
    moving mean and variance exist in the graph, while neither train_op nor the loss, a hook or a
    queue runner runs them: UPDATE_OPS that nobody depends on, Keras layers, whose updates are in no
    collection, batch normalization made by hand. Also other members of UPDATE_OPS that are left
    out. Layers of a part of the model that is not trained are passed over. An error when no moving
    statistic at all is updated; a warning when only some are not, when the layers are of an unusual
    kind, or when an unknown hook might run the updates.

    Why it matters: training looks right, and EVAL and PREDICT normalise with the initial mean 0 and
    variance 1. Nothing says so.

    Bad:
        x = tf.compat.v1.layers.batch_normalization(x, training=True)
        train_op = optimizer.minimize(loss, global_step)

    Good:
        updates = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.UPDATE_OPS)
        train_op = tf.group(optimizer.minimize(loss, global_step), *updates)  # or *model.updates

    When to suppress: when the model normalises by batch in every mode, or the moving statistics
    come from elsewhere and are meant to stay.
    """

    code = 'ESX307'
    slug = 'moving-statistics-not-updated'
    severity = Severity.ERROR
    modes = (TRAIN,)
    needs = ('train_op', 'loss')
    mistakes = ('T4', 'T5')

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if not facts.shows_training:
            return
        stale = _stale(facts)
        statistics = [item for item in stale if item.sources]
        if statistics and _is_frozen(facts, statistics):
            stale = [item for item in stale if not item.sources]
            statistics = []
        if not stale or not facts.trained:
            return
        certain = (len(statistics) == len(stale) and all(item.certain for item in statistics)
                   and not facts.opaque_hooks and not _some_are_updated(facts, stale))
        first = stale[0].info
        names = describe.names([item.info.name for item in stale], limit=1)
        what = 'moving statistics' if statistics else 'variables of UPDATE_OPS'
        yield self.finding(
            facts, f'{what} are never updated: no training step writes {names}',
            field='train_op', op=first.variable if first.variable is not None else first.op,
            hint=_hint(stale), expected='run by train_op', actual='not run',
            severity=None if certain else Severity.WARNING)

    @staticmethod
    def bad() -> Any:
        """The usual recipe left out."""
        _, loss = training.regression(_normalized())
        return training.train_fields(loss, training.minimize(loss))

    @staticmethod
    def good() -> Any:
        """The usual recipe."""
        _, loss = training.regression(_normalized())
        with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
            return training.train_fields(loss, training.minimize(loss))


@dataclasses.dataclass(frozen=True)
class _Stale:
    """A variable whose updates are in the graph and are not run.

    Attributes:
      info: the variable.
      official: whether an update is in UPDATE_OPS.
      sources: the statistics of the batch that the update averages and that the step computes.
      certain: whether this is batch normalization beyond doubt.
    """

    info: VariableInfo
    official: bool
    sources: tuple[Any, ...]
    certain: bool


def _stale(facts: SpecFacts) -> list[_Stale]:
    found = []
    official = _unrun_update_ops(facts)
    index, updated = facts.index, facts.updated
    for info in index.variables:
        if info.trainable or info in updated or not training.is_state(info):
            continue
        ops = index.updates(info)
        sources = tuple(tensor for op in ops for tensor in _statistics(facts, info, op))
        in_collection = any(op in official for op in ops)
        if sources:
            branching = any(training.source(tensor, _PASSING).op.type in _BRANCHING
                            for tensor in sources)
            if branching and _has_learning_phase(facts):
                continue  # By default the batch's statistics are not used at all.
            fused = any(tensor.op.type.startswith('FusedBatchNorm') for tensor in sources)
            usual = in_collection or fused or bool(training.MOVING_NAME.search(info.name.lower()))
            found.append(_Stale(info, in_collection, sources, usual and not branching))
        elif in_collection and any(handle in facts.step_ops for handle in info.handles):
            found.append(_Stale(info, True, (), False))
    return found


def _unrun_update_ops(facts: SpecFacts) -> set[Any]:
    """The members of UPDATE_OPS that no step runs, with the ops behind them alone."""
    run_ops = facts.run_ops
    members = map(graphs.as_op, facts.graph.get_collection(v1.GraphKeys.UPDATE_OPS))
    stack = [op for op in members
             if op is not None and op.graph is facts.graph and op not in run_ops]
    seen = set(stack)
    limit = 1000 + 20 * len(stack)
    while stack and len(seen) < limit:
        op = stack.pop()
        for parent in [tensor.op for tensor in op.inputs] + list(op.control_inputs):
            if parent not in seen and parent not in run_ops:
                seen.add(parent)
                stack.append(parent)
    return seen


def _statistics(facts: SpecFacts, info: VariableInfo, update: Any) -> list[Any]:
    """The tensors of one number a channel, computed in each step, that `update` averages."""
    shape = info.shape
    if shape.rank is None or not shape.is_fully_defined():
        return []
    if sum(size > 1 for size in shape.as_list()) > 1 or shape.rank == 0:
        return []  # One number a channel, maybe among dimensions of size 1.
    step_ops = facts.step_ops
    found: list[Any] = []
    stack = [tensor for tensor in update.inputs if tensor.dtype.base_dtype.is_floating]
    seen: set[Any] = set()
    while stack and len(seen) < _MAX_WALK:
        tensor = stack.pop()
        op = tensor.op
        if tensor.ref() in seen or not op.inputs or training.read_variable(facts, tensor):
            continue
        seen.add(tensor.ref())
        if op in step_ops:
            if _is_statistic(tensor, shape):
                found.append(tensor)
        else:
            stack.extend(op.inputs)
    return found


def _is_statistic(tensor: Any, shape: tf.TensorShape) -> bool:
    """Whether a tensor that the step computes has one number for each of the variable's."""
    static = tensor.shape
    return bool(tensor.dtype.is_floating and static.rank
                and static.num_elements() == shape.num_elements())


def _has_learning_phase(facts: SpecFacts) -> bool:
    return any('keras_learning_phase' in op.name
               for op in facts.index.of_types(('PlaceholderWithDefault',)))


def _is_frozen(facts: SpecFacts, statistics: list[_Stale]) -> bool:
    """Whether all these layers belong to a part of the model that is not trained."""
    before = facts.index.ancestors([tensor for item in statistics for tensor in item.sources])
    scopes = {_scope(item.info) for item in statistics}
    own = [info for info in facts.trainable
           if _scope(info) in scopes or any(handle in before for handle in info.handles)]
    return bool(own) and not any(info in facts.updated for info in own)


def _scope(info: VariableInfo) -> str:
    return info.name.rpartition('/')[0]


def _some_are_updated(facts: SpecFacts, stale: list[_Stale]) -> bool:
    """Whether other moving statistics are updated, so that these may be left out on purpose."""
    kinds = {_kind(item.info) for item in stale}
    members = set(map(graphs.as_op, facts.graph.get_collection(v1.GraphKeys.UPDATE_OPS)))
    return any(not info.trainable and (_kind(info) in kinds or members.intersection(ops))
               for info, ops in facts.updated.items())


def _kind(info: VariableInfo) -> str:
    return re.sub(r'_\d+$', '', info.name.rpartition('/')[2])


def _hint(stale: list[_Stale]) -> str:
    if all(item.official for item in stale):
        return ('train_op = tf.group(train_op, *tf.compat.v1.get_collection('
                'tf.compat.v1.GraphKeys.UPDATE_OPS))')
    if any(_kind(item.info).startswith('moving_') for item in stale):
        return ('train_op = tf.group(train_op, *layer.updates) for each Keras layer, or '
                '*model.updates: Keras puts nothing into UPDATE_OPS')
    return 'train_op = tf.group(train_op, *updates) with the ops that assign the moving statistics'


# Examples.

def _normalized(**options: Any) -> tuple[Any, Any]:
    """Rows whose hidden layer is normalized by batch, and their labels."""
    features, labels = training.rows()
    hidden = training.dense(features, 4, 'hidden')
    options = {'training': True, 'name': 'norm', **options}
    return tf.nn.relu(v1.layers.batch_normalization(hidden, **options)), labels


def _keras_normalized(layer: Any, training_flag: Optional[bool] = True) -> tuple[Any, Any]:
    features, labels = training.rows()
    return layer(training.dense(features, 4, 'hidden'), training=training_flag), labels


def _by_hand(run: bool) -> Any:
    """Batch normalization from plain ops, as in many tutorials."""
    features, labels = training.rows()
    hidden = training.dense(features, 4, 'hidden')
    mean, variance = tf.nn.moments(hidden, [0])
    options = {'trainable': False, 'initializer': tf.zeros_initializer()}
    pop_mean = v1.get_variable('pop_mean', [4], **options)
    pop_var = v1.get_variable('pop_var', [4], **options)
    updates = [v1.assign(pop_mean, pop_mean * .9 + mean * .1),
               v1.assign(pop_var, pop_var * .9 + variance * .1)]
    hidden = tf.nn.batch_normalization(hidden, mean, variance, None, None, 1e-3)
    _, loss = training.regression((hidden, labels))
    train_op = training.minimize(loss)
    return training.train_fields(loss, tf.group(train_op, *updates) if run else train_op)


def _bad_keras() -> Any:
    """The usual recipe, which finds an empty collection."""
    _, loss = training.regression(
        _keras_normalized(tf.keras.layers.BatchNormalization(name='norm')))
    with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        return training.train_fields(loss, training.minimize(loss))


def _bad_keras_fused() -> Any:
    """A convolution and a fused batch normalization."""
    features, labels = training.rows()
    image = tf.reshape(features, [-1, 1, 1, 3])
    model = tf.keras.Sequential([
        tf.keras.layers.Conv2D(2, 1, name='conv'),
        tf.keras.layers.BatchNormalization(name='norm'), tf.keras.layers.Flatten()])
    _, loss = training.regression((model(image, training=True), labels))
    return training.train_fields(loss, training.minimize(loss))


def _bad_by_hand() -> Any:
    return _by_hand(run=False)


def _bad_collected_too_early() -> Any:
    """The collection is read before the layers are built."""
    updates = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
    _, loss = training.regression(_normalized())
    return training.train_fields(loss, tf.group(training.minimize(loss), *updates))


def _bad_half() -> Any:
    """One of two layers is forgotten: a warning."""
    hidden, labels = _normalized()
    first = v1.get_collection(v1.GraphKeys.UPDATE_OPS)
    hidden = v1.layers.batch_normalization(
        training.dense(hidden, 4, 'second'), training=True, name='late')
    _, loss = training.regression((hidden, labels))
    return training.train_fields(loss, tf.group(training.minimize(loss), *first))


def _good_keras() -> Any:
    layer = tf.keras.layers.BatchNormalization()
    _, loss = training.regression(_keras_normalized(layer))
    return training.train_fields(loss, tf.group(training.minimize(loss), *layer.updates))


def _good_by_hand() -> Any:
    return _by_hand(run=True)


def _good_through_the_loss() -> Any:
    """Estimator runs the loss beside train_op, and the updates hang on the loss."""
    _, loss = training.regression(_normalized())
    train_op = training.minimize(loss)
    with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        return training.train_fields(tf.identity(loss), train_op)


def _good_frozen() -> Any:
    """Nothing is normalised by batch."""
    _, loss = training.regression(_normalized(training=False))
    return training.train_fields(loss, training.minimize(loss))


def _good_keras_frozen() -> Any:
    layer = tf.keras.layers.BatchNormalization()
    layer.trainable = False
    _, loss = training.regression(_keras_normalized(layer))
    return training.train_fields(loss, training.minimize(loss))


def _good_only_the_head_is_trained() -> Any:
    """The normalised part keeps its weights, and its statistics with them."""
    _, loss = training.regression(_normalized())
    return training.train_fields(
        loss, training.minimize(loss, var_list=v1.trainable_variables('head')))


def _good_in_place() -> Any:
    """The next layer waits for the updates."""
    hidden, labels = _normalized()
    with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        hidden = tf.identity(hidden)
    _, loss = training.regression((hidden, labels))
    return training.train_fields(loss, training.minimize(loss))


def _good_called_twice() -> Any:
    """A layer that sees real and made rows is updated by the real ones alone."""
    layer = tf.keras.layers.BatchNormalization()
    hidden, labels = _keras_normalized(layer)
    updates = list(layer.updates)
    other = layer(hidden + 1., training=True)
    _, loss = training.regression((tf.concat([hidden, other], 1), labels))
    return training.train_fields(loss, tf.group(training.minimize(loss), *updates))


def _bad_tensor_flag() -> Any:
    """Whether the batch's statistics are used is known when the step runs: a warning."""
    flag = v1.placeholder_with_default(True, [], name='is_training')
    _, loss = training.regression(_normalized(training=flag))
    return training.train_fields(loss, training.minimize(loss))


def _good_learning_phase() -> Any:
    """Without `training=` Keras does not normalise by batch here."""
    _, loss = training.regression(
        _keras_normalized(tf.keras.layers.BatchNormalization(), None))
    return training.train_fields(loss, training.minimize(loss))


def _good_metric() -> Any:
    """The update of a metric is no concern of training."""
    predictions, loss = training.regression(_normalized(training=False))
    value, _ = v1.metrics.mean_tensor(tf.reduce_mean(predictions, 0))
    return training.train_fields(loss, training.minimize(loss), predictions={'mean': value})


MovingStatisticsNotUpdated.more_bad = (
    _bad_keras, _bad_keras_fused, _bad_by_hand, _bad_collected_too_early, _bad_half,
    _bad_tensor_flag)
MovingStatisticsNotUpdated.more_good = (
    _good_keras, _good_by_hand, _good_through_the_loss, _good_frozen, _good_keras_frozen,
    _good_only_the_head_is_trained, _good_in_place, _good_called_twice, _good_learning_phase,
    _good_metric)

"""Batch normalisation by the statistics of the batch where nothing is trained."""

from __future__ import annotations

from typing import AbstractSet, Any, Container, Iterable, Iterator

from estimator_spec_ext import nodes
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.nodes import Node, Output
from estimator_spec_ext.rule import EVAL, PREDICT, Rule
from estimator_spec_ext.rules import exported, training

_FUSED = frozenset({'FusedBatchNorm', 'FusedBatchNormV2', 'FusedBatchNormV3'})
_SQUARES = frozenset({'SquaredDifference', 'Square'})
# A metric adds up; a moving average is set, or moved by a difference.
_AVERAGES = frozenset({'AssignSub', 'AssignSubVariableOp', 'Assign', 'AssignVariableOp'})
_ROOTS = frozenset({'Rsqrt', 'Sqrt'})
_PASSING = frozenset({
    'Identity', 'IdentityN', 'StopGradient', 'Cast', 'Squeeze', 'Reshape', 'Sub', 'Mul', 'Add',
    'AddV2', 'RealDiv', 'Switch', 'Merge', 'Select', 'SelectV2', 'Enter', 'Exit'})
_MAX_VISITS = 80


def uses_batch_statistics(node: Node, idle: Container[Any] = ()) -> bool:
    """Whether a node normalises by the batch while a moving average of the same is kept.

    Args:
      node: a FusedBatchNorm, or the squared difference of which a variance is the mean.
      idle: the numbers of channels for which there are moving averages that nothing reads.

    Returns:
      False for layer, group and instance normalisation, which keep no average, and for a branch
      that is not taken.
    """
    if node.type in _FUSED:
        if not node.attribute('is_training') or not node.runs():
            return False
        return _channels(node, 1) in idle or bool(_reached(_statistics(node)) & _AVERAGES)
    if not node.runs():
        return False
    for reader, position, _ in node.consumers():
        if reader.type != 'Mean' or position != 0 or reader.scalar():
            continue
        reached = _reached(reader.consumers())
        if reached & _ROOTS and (reached & _AVERAGES or _channels(reader) in idle):
            return True
    return False


def _channels(node: Node, position: int = 0) -> Any:
    """How many numbers an output has; None when it is not known."""
    return node.op.outputs[position].shape.num_elements() if node.body is None else None


def _idle_averages(facts: SpecFacts, running: AbstractSet[Any]) -> set[Any]:
    """The numbers of channels of moving averages that are in the graph and that nothing reads."""
    return {info.shape.num_elements() for info in facts.index.variables
            if not info.trainable and training.MOVING_NAME.search(info.name.lower())
            and not any(op in running for op in info.handles)} - {None, 1}


def _statistics(fused: Node) -> list[tuple[Node, int, Output]]:
    """The readers of mean and variance of the batch."""
    return [(reader, position, output) for reader, position, output in fused.consumers()
            if output.index in (1, 2) or output.name in ('batch_mean', 'batch_variance')]


def _reached(start: Iterable[tuple[Node, int, Output]]) -> set[str]:
    """The types of op that a value gets to, through arithmetic and branches that are taken."""
    found: set[str] = set()
    seen: set[Node] = set()
    stack = list(start)
    while stack and len(seen) < _MAX_VISITS:
        reader, _, _ = stack.pop()
        if reader in seen:
            continue
        seen.add(reader)
        if reader.type not in _PASSING:
            found.add(reader.type)
            continue
        if not reader.runs():
            continue
        taken = _branch_taken(reader)
        stack.extend(item for item in reader.consumers()
                     if taken is None or item[2].index == taken)
    return found


def _branch_taken(node: Node) -> Any:
    """For a Switch the output that has the value, -1 if only a run can tell; else None."""
    if node.type != 'Switch':
        return None
    value = nodes.evaluate(node.inputs()[1])
    return -1 if value is None else int(bool(value))


def _images() -> Any:
    return v1.placeholder(tf.float32, [None, 8, 8, 3], name='images')


def _predict(layer: Any, x: Any = None) -> dict[str, Any]:
    net = layer(_images() if x is None else x)
    return {'mode': 'infer', 'predictions': {'p': tf.nn.relu(net)}}


class BatchNormInTrainingMode(Rule):
    """Batch normalisation is in training mode in EVAL or PREDICT.

    What it finds: a batch normalisation upstream of the loss or a metric in EVAL, or of an output
    in PREDICT, that uses mean and variance of the batch at hand although it keeps moving averages;
    fused or not, also where a placeholder_with_default or Keras' learning phase says so. Layer,
    group and instance normalisation are not meant.

    Why it matters: the answer for an example depends on the other examples of its batch, and for a
    batch of one it is nonsense. Nothing fails.

    Bad:
        net = tf.compat.v1.layers.batch_normalization(net, training=True)

    Good:
        net = tf.compat.v1.layers.batch_normalization(net, training=mode == ModeKeys.TRAIN)

    When to suppress: for a generator, or an adaptation to the batch, that is made this way.
    """

    code = 'ESX424'
    slug = 'batch-norm-in-training-mode'
    severity = Severity.WARNING
    modes = (EVAL, PREDICT)
    mistakes = ('P8',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        index = facts.index
        kinds = _FUSED | _SQUARES
        if not kinds.intersection(index.types) and not index.calls:
            return
        outputs = exported.handed_out(facts) if facts.is_predict else []
        running = (index.ancestors([output.tensor for output in outputs]) if facts.is_predict
                   else facts.step_ops)
        idle = _idle_averages(facts, running)
        if (not idle and not index.calls
                and index.initializers.issuperset(index.of_types(_AVERAGES))):
            return  # nothing sets or moves an average
        found = [node for node in nodes.find(index, kinds, running)
                 if uses_batch_statistics(node, idle)]
        if not found:
            return
        first = found[0]
        output = exported.needing(facts, outputs, first.op)
        place = output.field if output is not None else 'loss' if facts.is_eval else None
        more = f' and {len(found) - 1} more' if len(found) > 1 else ''
        yield self.finding(
            facts, f'batch norm normalises by the batch in {"EVAL" if facts.is_eval else "PREDICT"}'
                   f': op {first.op.name!r}{more}',
            field=place, op=first.op,
            hint='let it use its moving averages, e.g. '
                 'training=(mode == tf.estimator.ModeKeys.TRAIN)',
            expected='moving averages', actual='mean and variance of the batch',
            path=tuple(node.op.name for node in found[:20]))

    @staticmethod
    def bad() -> Any:
        """Training mode in every mode."""
        return _predict(lambda x: v1.layers.batch_normalization(x, training=True, name='norm'))

    @staticmethod
    def good() -> Any:
        """The mode decides."""
        return _predict(lambda x: v1.layers.batch_normalization(x, training=False, name='norm'))


def _not_fused() -> Any:
    """On vectors, where the op is made of many."""
    x = v1.placeholder(tf.float32, [None, 4], name='x')
    return _predict(
        lambda x: v1.layers.batch_normalization(x, training=True, fused=False, name='norm'), x)


def _by_hand_in_eval() -> Any:
    """Moments, and an ExponentialMovingAverage that nobody reads."""
    x = v1.placeholder(tf.float32, [None, 4], name='x')
    mean, variance = tf.nn.moments(x, [0])
    v1.train.ExponentialMovingAverage(.9).apply([mean, variance])
    net = tf.nn.batch_normalization(x, mean, variance, None, None, 1e-3)
    return {'mode': 'eval', 'loss': tf.reduce_mean(tf.square(net))}


def _averages_without_a_reader() -> Any:
    """Made for this mode, and forgotten: the updates are in TRAIN alone."""
    x = v1.placeholder(tf.float32, [None, 4], name='x')
    for name in ('moving_mean', 'moving_variance'):
        v1.get_variable(name, [4], trainable=False)
    mean, variance = tf.nn.moments(x, [0])
    return _predict(lambda x: tf.nn.batch_normalization(x, mean, variance, None, None, 1e-3), x)


def _default_that_trains() -> Any:
    """Nobody feeds the placeholder, and its default is to train."""
    flag = v1.placeholder_with_default(True, [], name='training')
    layer = tf.keras.layers.BatchNormalization(name='norm')
    return _predict(lambda x: layer(x, training=flag),
                    v1.placeholder(tf.float32, [None, 4], name='x'))


def _layer_norm() -> Any:
    """Keras' layer normalisation is made of the same fused op."""
    return _predict(tf.keras.layers.LayerNormalization())


def _instance_norm() -> Any:
    """Each image by its own statistics."""

    def layer(x: Any) -> Any:
        mean, variance = tf.nn.moments(x, [1, 2], keepdims=True)
        return tf.nn.batch_normalization(x, mean, variance, None, None, 1e-3)

    return _predict(layer)


def _learning_phase() -> Any:
    """Keras decides by its learning phase, whose default is not to train."""
    x = v1.placeholder(tf.float32, [None, 4], name='x')
    return _predict(tf.keras.layers.BatchNormalization(), x)


def _error_by_column() -> Any:
    """A metric adds up squared differences by column; its root is reported too."""
    x = v1.placeholder(tf.float32, [None, 4], name='x')
    labels = v1.placeholder(tf.float32, [None, 4], name='labels')
    errors = tf.reduce_mean(tf.math.squared_difference(x, labels), 0)
    mean, update = v1.metrics.mean_tensor(errors)
    return {'mode': 'eval', 'loss': tf.reduce_mean(errors),
            'eval_metric_ops': {'error': (tf.reduce_mean(tf.sqrt(mean)), update)}}


BatchNormInTrainingMode.more_bad = (
    _not_fused, _by_hand_in_eval, _averages_without_a_reader, _default_that_trains)
BatchNormInTrainingMode.more_good = (
    _layer_norm, _instance_norm, _learning_phase, _error_by_column)

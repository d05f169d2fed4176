"""Dropout that runs where nothing is trained."""

from __future__ import annotations

import dataclasses
from typing import Any, Iterator, Optional

from estimator_spec_ext import nodes
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.nodes import Node, Output
from estimator_spec_ext.rule import EVAL, PREDICT, Rule
from estimator_spec_ext.rules import exported

_UNIFORM = frozenset({
    'RandomUniform', 'StatelessRandomUniform', 'StatelessRandomUniformV2', 'StatefulUniform'})
_COMPARE = frozenset({'GreaterEqual', 'Greater', 'Less', 'LessEqual'})
_KEEPING = frozenset({'Identity', 'Cast', 'Reshape', 'ExpandDims', 'StopGradient', 'Enter'})
# Between a loss for each token and the loss.
_SUMS = frozenset({'Sum', 'Mean'})
_WEIGHING = _KEEPING | frozenset({'Mul', 'RealDiv', 'DivNoNan', 'Neg', 'Squeeze', 'BroadcastTo'})
_ABOUT_THE_SHAPE = frozenset({'Shape', 'ShapeN', 'Size', 'Rank', 'OnesLike', 'ZerosLike'})
_MAX_VISITS = 60


@dataclasses.dataclass(frozen=True)
class _Step:
    """How far a uniform draw has got on its way to a mask.

    Attributes:
      output: what carries it now.
      kind: 'uniform', 'shifted' (draw + keep probability) or 'mask'.
    """

    output: Output
    kind: str


def is_dropout(draw: Node) -> bool:
    """Whether a uniform draw becomes a mask, of fixed probability, that zeroes activations.

    Sampling looks different: it compares the draw with something that the model computed, or
    chooses between two things that the model computed.
    """
    if _draws_one_number(draw):
        return False
    steps = [_Step(Output(draw), 'uniform')]
    seen: set[tuple[Node, str]] = set()
    zeroing: list[Node] = []
    counted = chosen = False
    while steps and len(seen) < _MAX_VISITS:
        step = steps.pop()
        if (step.output.node, step.kind) in seen:
            continue
        seen.add((step.output.node, step.kind))
        for reader, position, _ in step.output.node.consumers():
            if step.kind == 'mask' and _zeroes(reader, position, step.output.node):
                zeroing.append(reader)
            counted = counted or step.kind == 'mask' and reader.type in _SUMS
            chosen = chosen or step.kind == 'mask' and _chooses_ids(reader, position)
            kind = _next_kind(reader, position, step.kind)
            if kind:
                steps.append(_Step(Output(reader), kind))
    # A mask that is counted chooses rows or tokens, of whose losses or hits it makes a mean; one
    # that replaces tokens is what a masked language model is asked about.
    return not chosen and any(not (counted and _is_summed_up(reader)) for reader in zeroing)


def _draws_one_number(draw: Node) -> bool:
    """One draw for all: an augmentation that is done or not, no mask."""
    if draw.scalar():
        return True
    shape = draw.inputs()[:1]
    proto = shape[0].node.attribute('value') if shape and shape[0] is not None and (
        shape[0].node.type == 'Const') else None
    tensor = getattr(proto, 'tensor', proto)
    dims = getattr(getattr(tensor, 'tensor_shape', None), 'dim', None)
    return dims is not None and len(dims) == 1 and dims[0].size == 0


def _others(reader: Node, position: int) -> list[Optional[Output]]:
    return [item for place, item in enumerate(reader.inputs()) if place != position]


def _next_kind(reader: Node, position: int, kind: str) -> str:
    """What `reader` makes of the draw; '' for nothing that leads to dropout."""
    if reader.type in _KEEPING and position == 0:
        return kind
    others = _others(reader, position)
    number = nodes.evaluate(others[0]) if len(others) == 1 else None
    if kind == 'uniform':
        return _from_uniform(reader, number)
    if kind == 'shifted':
        return 'mask' if reader.type == 'Floor' else ''
    if reader.type == 'LogicalNot':
        return 'mask'
    if reader.type in ('Mul', 'RealDiv') and number is not None:
        return 'mask'  # the mask, scaled
    if reader.type in ('Select', 'SelectV2') and position == 0 and all(
            nodes.evaluate(item) is not None or _is_constant_like(item) for item in others):
        return 'mask'  # ones and zeros, chosen by the mask
    return ''


def _from_uniform(reader: Node, number: Any) -> str:
    if number is None or isinstance(number, (str, bytes)):
        return ''
    if reader.type in _COMPARE:
        return 'mask' if 0 < number < 1 else ''
    if reader.type in ('Add', 'AddV2'):
        return 'uniform' if number == 0 else 'shifted' if 0 < number < 1 else ''
    if reader.type == 'Mul':
        return 'uniform' if number == 1 else ''
    return ''


def _is_constant_like(item: Optional[Output]) -> bool:
    return item is not None and item.node.type in ('OnesLike', 'ZerosLike', 'Fill', 'Const')


def _zeroes(reader: Node, position: int, mask: Node) -> bool:
    """Whether `reader` puts zeros into activations by the mask."""
    others = _others(reader, position)
    if reader.type in ('Select', 'SelectV2'):
        if position != 0 or len(others) != 2 or not reader.floating():
            return False
        zero = [_is_zero(item) for item in others]
        activations = [item for item, is_zero in zip(others, zero) if not is_zero]
        return any(zero) and len(activations) == 1 and not _is_fixed(activations[0])
    if reader.type != 'Mul' or len(others) != 1 or not reader.floating():
        return False
    return not _is_fixed(others[0]) and not _mixes(mask)


def _chooses_ids(reader: Node, position: int) -> bool:
    """Whether `reader` takes by the mask one of two integers, of tokens or classes."""
    return reader.type in ('Select', 'SelectV2') and position == 0 and not reader.floating()


def _is_summed_up(masked: Node) -> bool:
    """Whether what is masked is added up and no more: losses or hits of the chosen, no activations.
    """
    seen: set[Node] = {masked}
    stack, numbers = [masked], 0
    while stack:
        node = stack.pop()
        for reader, _, _ in node.consumers():
            if reader in seen or reader.type in _ABOUT_THE_SHAPE:
                continue
            if reader.type in _SUMS and reader.scalar():
                numbers += 1
                continue
            if reader.type not in _SUMS and reader.type not in _WEIGHING or (
                    len(seen) > _MAX_VISITS):
                return False
            seen.add(reader)
            stack.append(reader)
    return numbers > 0


def _is_zero(item: Optional[Output]) -> bool:
    if item is None:
        return False
    if item.node.type == 'ZerosLike':
        return True
    if item.node.type == 'Fill':
        return _is_zero(item.node.inputs()[1])
    return bool(nodes.evaluate(item) == 0) if nodes.evaluate(item) is not None else False


def _is_fixed(item: Optional[Output]) -> bool:
    """Whether a value is the same in each step: no activation."""
    return nodes.evaluate(item) is not None or _is_constant_like(item)


def _mixes(mask: Node) -> bool:
    """Whether 1 - mask weighs an alternative that the model computed, as mixing two images does."""
    for reader, position, _ in mask.consumers():
        if reader.type != 'Sub' or position != 1 or nodes.evaluate(reader.inputs()[0]) != 1:
            continue
        for second, place, _ in reader.consumers():
            if second.type == 'Mul' and not _is_fixed(_others(second, place)[0]):
                return True
    return False


def _dense(x: Any) -> Any:
    weight = v1.get_variable(v1.get_default_graph().unique_name('w'), [3, 3])
    return tf.nn.relu(tf.matmul(x, weight))


def _predict(layer: Any) -> dict[str, Any]:
    x = v1.placeholder(tf.float32, [None, 3], name='x')
    return {'mode': 'infer', 'predictions': {'p': tf.nn.softmax(_dense(layer(_dense(x))))}}


def _evaluate(layer: Any) -> dict[str, Any]:
    x = v1.placeholder(tf.float32, [None, 3], name='x')
    loss = tf.reduce_mean(tf.square(_dense(layer(_dense(x)))))
    return {'mode': 'eval', 'loss': loss, 'eval_metric_ops': {'mean': v1.metrics.mean(loss)}}


class DropoutOutsideTraining(Rule):
    """Dropout runs in EVAL or PREDICT.

    What it finds: a random mask of fixed probability that zeroes activations, upstream of the loss
    or a metric in EVAL, or of an output in PREDICT: tf.nn.dropout, Keras and tf.layers dropout,
    drop-connect, or one written by hand; also inside a cond whose branch is taken, a loop or a
    tf.function. Sampling, noise as input and random crops are not meant.

    Why it matters: metrics are worse than the model, and two requests with the same features get
    two answers. Nothing fails.

    Bad:
        net = tf.nn.dropout(net, rate=0.5)

    Good:
        net = tf.compat.v1.layers.dropout(net, 0.5, training=mode == ModeKeys.TRAIN)

    When to suppress: for Monte Carlo dropout, or a generator that takes its noise from dropout.
    """

    code = 'ESX423'
    slug = 'dropout-outside-training'
    severity = Severity.WARNING
    modes = (EVAL, PREDICT)
    mistakes = ('P8',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        index = facts.index
        if not _UNIFORM.intersection(index.types) and not index.calls:
            return
        outputs = exported.handed_out(facts) if facts.is_predict else []
        running = (index.ancestors([output.tensor for output in outputs]) if facts.is_predict
                   else facts.step_ops)
        found = [draw for draw in nodes.find(index, _UNIFORM, running)
                 if draw.runs() and is_dropout(draw)]
        if not found:
            return
        first = found[0]
        output = exported.needing(facts, outputs, first.op)
        place = output.field if output is not None else 'loss' if facts.is_eval else None
        more = f' and {len(found) - 1} more' if len(found) > 1 else ''
        label = 'EVAL' if facts.is_eval else 'PREDICT'
        yield self.finding(
            facts, f'dropout runs in {label}: op {_name(first)!r}{more}', field=place, op=first.op,
            hint='switch it off unless mode is TRAIN, e.g. '
                 'training=(mode == tf.estimator.ModeKeys.TRAIN)',
            expected='no dropout', actual=f'{len(found)} dropout masks',
            path=tuple(_name(draw) for draw in found[:20]))

    @staticmethod
    def bad() -> Any:
        """Dropout without a look at the mode."""
        return _predict(lambda x: tf.nn.dropout(x, rate=.5))

    @staticmethod
    def good() -> Any:
        """The mode decides."""
        return _predict(lambda x: v1.layers.dropout(x, .5, training=False))


def _name(draw: Node) -> str:
    return draw.op.name if draw.body is None else f'{draw.op.name}/{draw.name}'


def _in_eval() -> Any:
    """Keras dropout that was told to train."""
    return _evaluate(lambda x: tf.keras.layers.Dropout(.3, name='drop')(x, training=True))


def _by_hand() -> Any:
    """A mask of ones and zeros, drawn and multiplied by hand."""

    def layer(x: Any) -> Any:
        draw = tf.random.uniform(tf.shape(x), name='draw')
        return x * tf.cast(draw < .8, tf.float32) / .8

    return _predict(layer)


def _drop_connect() -> Any:
    """A whole example at a time, with floor(keep + draw)."""

    def layer(x: Any) -> Any:
        draw = tf.random.uniform([tf.shape(x)[0], 1], name='draw')
        return tf.math.divide(x, .8) * tf.floor(.8 + draw)

    return _predict(layer)


def _default_that_trains() -> Any:
    """Nobody feeds the placeholder, and its default is to train."""
    return _predict(lambda x: v1.nn.dropout(
        x, keep_prob=v1.placeholder_with_default(.5, [], name='keep_prob')))


def _in_function() -> Any:
    """Inside a tf.function."""
    function = tf.function(lambda x: tf.nn.dropout(x, rate=.5), autograph=False)
    return _predict(lambda x: tf.ensure_shape(function(x), [None, 3]))


def _keep_all() -> Any:
    """The ops are there, and keep everything."""
    return _predict(lambda x: v1.nn.dropout(
        x, keep_prob=v1.placeholder_with_default(1., [], name='keep_prob')))


def _learning_phase() -> Any:
    """Keras decides by its learning phase, whose default is not to train."""
    return _predict(lambda x: tf.keras.layers.Dropout(.3)(x))


def _sampling() -> Any:
    """A sample of the classes, and Gumbel noise."""
    x = v1.placeholder(tf.float32, [None, 3], name='x')
    logits = _dense(x)
    gumbel = -tf.math.log(-tf.math.log(tf.random.uniform(tf.shape(logits), 1e-6, 1.)))
    return {'mode': 'infer', 'predictions': {
        'sample': tf.random.categorical(logits, 1), 'gumbel': tf.argmax(logits + gumbel, 1)}}


def _bernoulli_units() -> Any:
    """A restricted Boltzmann machine: the model itself says how likely each unit is."""

    def layer(x: Any) -> Any:
        likely = tf.sigmoid(x)
        hidden = tf.cast(tf.random.uniform(tf.shape(likely)) < likely, tf.float32)
        return hidden * x

    return _predict(layer)


def _noise_as_input() -> Any:
    """A variational decoder and a generator start from noise."""
    return _predict(lambda x: x + tf.random.normal(tf.shape(x)) * tf.random.uniform(tf.shape(x)))


def _epsilon_greedy() -> Any:
    """A policy that explores: the draw chooses between two actions."""
    x = v1.placeholder(tf.float32, [None, 3], name='x')
    count = tf.shape(x)[0]
    explore = tf.random.uniform([count]) < .1
    anything = tf.random.uniform([count], maxval=3, dtype=tf.int64)
    return {'mode': 'infer', 'predictions': {
        'action': tf.where(explore, anything, tf.argmax(_dense(x), 1))}}


def _masked_tokens() -> Any:
    """A language model is asked for tokens that are drawn, in EVAL as well."""
    x = v1.placeholder(tf.float32, [None, 3], name='x')
    chosen = tf.cast(tf.random.uniform(tf.shape(x)) < .15, tf.float32)
    losses = tf.square(_dense(x * 2.))
    loss = tf.reduce_sum(losses * chosen) / (tf.reduce_sum(chosen) + 1e-5)
    hits = v1.metrics.mean(tf.round(losses), weights=chosen)
    return {'mode': 'eval', 'loss': loss, 'eval_metric_ops': {'hits': hits}}


def _replaced_tokens() -> Any:
    """The tokens that are asked for are replaced in what the model reads."""
    ids = v1.placeholder(tf.int32, [None, 5], name='ids')
    chosen = tf.random.uniform(tf.shape(ids)) < .15
    seen = tf.where(chosen, tf.fill(tf.shape(ids), 9), ids)
    table = v1.get_variable('table', [10, 3])
    asked = tf.expand_dims(tf.cast(chosen, tf.float32), -1)
    logits = v1.layers.dense(tf.nn.embedding_lookup(table, seen), 10) * asked
    return {'mode': 'eval', 'loss': tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=ids, logits=logits))}


def _flips() -> Any:
    """Augmentation while testing: half of the rows are reversed."""

    def layer(x: Any) -> Any:
        flip = tf.cast(tf.random.uniform([tf.shape(x)[0], 1]) < .5, tf.float32)
        return flip * tf.reverse(x, [1]) + (1. - flip) * x

    return _predict(layer)


DropoutOutsideTraining.more_bad = (
    _in_eval, _by_hand, _drop_connect, _default_that_trains, _in_function)
DropoutOutsideTraining.more_good = (
    _keep_all, _learning_phase, _sampling, _bernoulli_units, _noise_as_input, _epsilon_greedy,
    _masked_tokens, _replaced_tokens, _flips)

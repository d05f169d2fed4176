"""Predictions that are not one row for each example."""

from __future__ import annotations

from typing import Any, Iterator, Optional

from estimator_spec_ext import describe, export
from estimator_spec_ext.compat import estimator, graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import DEQUEUE_TYPES, ITERATOR_TYPES, PLACEHOLDER_TYPES
from estimator_spec_ext.rule import PREDICT, Rule
from estimator_spec_ext.rules import exported

_SOURCES = ITERATOR_TYPES | DEQUEUE_TYPES | PLACEHOLDER_TYPES
# Ops whose output has the shape of one input, and which input that is.
_SHAPE_KEEPING = {
    **dict.fromkeys((
        'Identity', 'Cast', 'StopGradient', 'Sigmoid', 'Tanh', 'Relu', 'Softmax', 'Exp', 'Log',
        'Neg', 'Abs', 'Round', 'Floor', 'Sqrt', 'Square', 'AsString', 'LogicalNot', 'Snapshot',
        'PreventGradient', 'Softplus', 'Elu', 'LogSoftmax', 'CheckNumerics'), 0),
    **dict.fromkeys((
        'LookupTableFind', 'LookupTableFindV2', 'GatherV2', 'Gather', 'ResourceGather'), 1)}
_WITH_NUMBER = frozenset({
    'Add', 'AddV2', 'Sub', 'Mul', 'RealDiv', 'Greater', 'GreaterEqual', 'Less', 'LessEqual',
    'Equal', 'NotEqual', 'Maximum', 'Minimum', 'Pow'})
_REDUCTIONS = frozenset({
    'Mean', 'Sum', 'Max', 'Min', 'Prod', 'All', 'Any', 'ArgMax', 'ArgMin'})
_MAX_STEPS = 30


def _outputs(facts: SpecFacts) -> list[exported.Output]:
    """The predictions that a session can fetch; handles and the like are another mistake."""
    return [output for output in exported.predicted(facts)
            if export.is_servable(output.tensor) or graphs.is_variable(output.tensor)]


def _first(tensor: Any) -> Optional[int]:
    """The static first dimension; None when it is not known or there is none."""
    return tensor.shape.as_list()[0] if tensor.shape.rank else None


def _follows_any_batch(tensor: Any) -> bool:
    """Whether a tensor has a first dimension that only a run can tell."""
    return bool(tensor.shape.rank) and _first(tensor) is None


def _is_one_image(op: Any) -> bool:
    """Whether an input of unknown first dimension is one image, whose height is not known."""
    shape = op.outputs[0].shape
    return shape.rank == 3 and shape.as_list()[:2] == [None, None] and (
        shape.as_list()[2] in (1, 3, 4))


def _batch_sources(facts: SpecFacts) -> list[Any]:
    """The inputs of the graph that hold a batch of any size."""
    return [op for op in facts.index.of_types(_SOURCES)
            if any(_follows_any_batch(tensor) for tensor in op.outputs) and not _is_one_image(op)]


def origin(tensor: Any) -> Any:
    """The tensor behind ops that keep the shape."""
    for _ in range(_MAX_STEPS):
        op = tensor.op
        position = _SHAPE_KEEPING.get(op.type)
        if op.type in _WITH_NUMBER:
            shaped = [place for place, value in enumerate(op.inputs) if value.shape.rank != 0]
            position = shaped[0] if len(shaped) == 1 else None
        if position is None or position >= len(op.inputs):
            break
        if op.type in ('GatherV2', 'Gather', 'ResourceGather') and (
                graphs.attribute(op, 'batch_dims', 0)):
            break
        tensor = op.inputs[position]
    return tensor


def _reduces_the_batch(op: Any) -> bool:
    """Whether a reduction is over the first dimension of a batch of any size."""
    return bool(op.inputs) and _follows_any_batch(op.inputs[0]) and reduces_rows(op)


def reduces_rows(op: Any) -> bool:
    """Whether an op reduces over the first dimension of what it reads."""
    if op.type not in _REDUCTIONS or len(op.inputs) < 2:
        return False
    before, axes = op.inputs[0], tf.get_static_value(op.inputs[1])
    if axes is None or not before.shape.rank:
        return False
    return any(int(axis) in (0, -before.shape.rank) for axis in axes.reshape(-1))


def leaves_the_batch(op: Any) -> str:
    """How an op puts something else before a batch of any size; '' when it does not."""
    if not op.inputs or not _follows_any_batch(op.inputs[0]):
        return ''
    if op.type == 'Transpose':
        order = tf.get_static_value(op.inputs[1])
        return '' if order is None or not order.size or order[0] == 0 else 'is transposed'
    if op.type == 'Pack':
        return '' if graphs.attribute(op, 'axis', 0) else 'is stacked before the batch'
    if op.type == 'StridedSlice' and graphs.attribute(op, 'shrink_axis_mask', 0) & 1:
        return 'is one row of the batch, taken'
    return ''


def _x(*dims: Optional[int]) -> Any:
    return v1.placeholder(tf.float32, [None, *dims], name='x')


def _logits(x: Any) -> Any:
    return tf.matmul(x, v1.get_variable('w', [3, 2]), name='logits')


def _predict(**predictions: Any) -> dict[str, Any]:
    return {'mode': 'infer', 'predictions': predictions}


class PredictionWithoutBatch(Rule):
    """A prediction has no row for each example.

    What it finds: in PREDICT, a prediction that is a scalar, one reduced over the batch, one row of
    the batch, one with another dimension before the batch (tf.transpose, tf.stack), or one that
    went through tf.squeeze without an axis, which drops the batch when it holds one example.

    Why it matters: `predict` indexes every prediction by example and fails, for tf.squeeze only at
    the last batch or the first single request. tf.argmax without an axis gives rows of the wrong
    thing in silence. A server that batches requests refuses the output.

    Bad:
        predictions={'label': tf.squeeze(tf.argmax(logits, 1))}

    Good:
        predictions={'label': tf.argmax(logits, 1)}

    When to suppress: with predict(..., yield_single_examples=False), or when clients want it so.
    """

    code = 'ESX425'
    slug = 'prediction-without-batch'
    severity = Severity.WARNING
    modes = (PREDICT,)
    mistakes = ('P2',)
    needs = ('predictions',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        sources: Optional[set[Any]] = None
        for output in _outputs(facts):
            tensor = output.tensor
            if tensor.shape.rank == 0:
                yield self._finding(facts, output, 'has shape ()',
                                    'give one row for each example, or leave it out')
                continue
            if _follows_any_batch(tensor):
                continue
            behind = origin(tensor)
            op = behind.op
            if op.type == 'Squeeze' and not graphs.attribute(op, 'squeeze_dims'):
                if _follows_any_batch(op.inputs[0]):
                    yield self._finding(
                        facts, output, f'is squeezed by {op.name!r} without an axis, which drops '
                                       'a batch of one', 'name the axis: tf.squeeze(x, axis=1)', op)
            elif _reduces_the_batch(op) or leaves_the_batch(op):
                sources = set(_batch_sources(facts)) if sources is None else sources
                left = leaves_the_batch(op)
                if left and sources & facts.index.data_ancestors([behind]):
                    yield self._finding(facts, output, f'{left} by {op.name!r}',
                                        'keep the examples in the first dimension', op)
                elif sources & facts.index.data_ancestors([behind]):
                    yield self._finding(
                        facts, output, f'is reduced over the batch by {op.name!r} ({op.type})',
                        'reduce along an axis of the example: axis=1, or axis=-1', op)

    def _finding(self, facts: SpecFacts, output: exported.Output, what: str, hint: str,
                 op: Any = None) -> Finding:
        return self.finding(
            facts, f'{output.field} {what}; expected one row for each example',
            field=output.field, op=output.tensor if op is None else op, hint=hint,
            expected='one row for each example', actual=describe.value(output.tensor))

    @staticmethod
    def bad() -> Any:
        """A label that is a scalar when one row is asked for."""
        classes = tf.argmax(_logits(_x(3)), 1, name='classes')
        return _predict(label=tf.squeeze(classes, name='label'))

    @staticmethod
    def good() -> Any:
        """The axis is named."""
        scores = v1.get_variable('w', [3, 1])
        return _predict(score=tf.squeeze(tf.matmul(_x(3), scores), axis=1))


def _moved() -> Any:
    """Another dimension comes first, or one example stands for all."""
    logits = _logits(_x(3))
    return _predict(columns=tf.transpose(logits, name='columns'), first=logits[0],
                    pairs=tf.stack([logits, logits], name='pairs'))


def _moved_back() -> Any:
    """The batch comes first again."""
    logits = _logits(_x(3))
    return _predict(columns=tf.transpose(tf.transpose(logits)), first=logits[:, 0],
                    pairs=tf.stack([logits, logits], axis=1),
                    swapped=tf.transpose(tf.reshape(logits, [-1, 1, 2]), [0, 2, 1]))


def _scalars() -> Any:
    """A threshold and a mean beside the outputs."""
    logits = _logits(_x(3))
    return _predict(logits=logits, threshold=tf.constant(.5, name='threshold'),
                    mean=tf.reduce_mean(logits, name='mean'))


def _argmax_without_axis() -> Any:
    """tf.argmax reduces over the batch when no axis is given."""
    return _predict(classes=tf.argmax(_logits(_x(3)), name='classes'))


def _squeezed_probability() -> Any:
    """Squeezed before the last steps."""
    logit = tf.matmul(_x(3), v1.get_variable('w', [3, 1]))
    probability = tf.sigmoid(tf.squeeze(logit, name='squeezed'))
    return _predict(probability=probability, positive=tf.cast(probability > .5, tf.int32))


def _one_image() -> Any:
    """One image a request: its height is no batch, and the squeezed dimension is known."""
    image = v1.placeholder(tf.float32, [None, None, 3], name='image')
    pixels = tf.nn.avg_pool2d(tf.expand_dims(image, 0), 2, 2, 'SAME')
    return _predict(mean=tf.reduce_mean(image, [0, 1]), pixels=tf.squeeze(pixels))


def _squeezed_and_shaped() -> Any:
    """What is squeezed gets its batch back."""
    logit = tf.matmul(_x(3), v1.get_variable('w', [3, 1]))
    return _predict(score=tf.reshape(tf.squeeze(logit), [-1]))


def _scalars_that_are_only_exported() -> Any:
    """A signature may hold anything; `predict` yields the predictions alone."""
    logits = _logits(_x(3))
    output = estimator.export.PredictOutput({'logits': logits, 'mean': tf.reduce_mean(logits)})
    return {**_predict(logits=logits), 'export_outputs': {'serving_default': output}}


def _scalar_in_eval() -> Any:
    """evaluate does not fetch the predictions."""
    loss = tf.reduce_mean(_logits(_x(3)))
    return {'mode': 'eval', 'loss': loss, 'predictions': {'loss': loss}}


PredictionWithoutBatch.more_bad = (_moved, _scalars, _argmax_without_axis, _squeezed_probability)
PredictionWithoutBatch.more_good = (
    _moved_back, _one_image, _squeezed_and_shaped, _scalars_that_are_only_exported, _scalar_in_eval)


class PredictionLengthsDiffer(Rule):
    """The predictions have different numbers of rows.

    What it finds: in PREDICT, a prediction with a fixed number of rows that does not depend on the
    features (weights, a vocabulary, constants) beside one with a row for each example; or
    predictions whose static first dimensions differ.

    Why it matters: `predict` takes the n-th row of every prediction as the answer for example n,
    and raises "Batch length of predictions should be same".

    Bad:
        predictions={'logits': logits, 'centers': centers}

    Good:
        predictions={'logits': logits}

    When to suppress: with predict(..., yield_single_examples=False), or if it is only exported.
    """

    code = 'ESX426'
    slug = 'prediction-lengths-differ'
    severity = Severity.WARNING
    modes = (PREDICT,)
    mistakes = ('P3',)
    needs = ('predictions',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        outputs = [output for output in _outputs(facts) if output.tensor.shape.rank]
        fixed = [output for output in outputs if _first(output.tensor) is not None]
        if len(outputs) < 2 or not fixed:
            return
        sources = set(_batch_sources(facts))
        index = facts.index
        # What follows inputs of any batch size and has a fixed length is another mistake.
        fixed = [output for output in fixed
                 if not sources & index.data_ancestors([output.tensor])]
        batch: Any = next((output for output in outputs if _follows_any_batch(output.tensor)
                           and sources & index.data_ancestors([output.tensor])), None)
        if batch is not None:
            wrong = fixed
        elif fixed:
            batch = _reference(facts, fixed)
            wrong = [output for output in fixed if _first(output.tensor) != _first(batch.tensor)]
        else:
            wrong = []
        for output in wrong:
            there = 'one for each example' if _first(batch.tensor) is None else _rows(batch)
            yield self.finding(
                facts, f'{output.field} has {_rows(output)}, {batch.field} {there}',
                field=output.field, op=output.tensor,
                hint='leave it out, or repeat it for each example: tf.tile(x[None], [batch, ...])',
                expected=describe.shape(batch.tensor), actual=describe.shape(output.tensor))

    @staticmethod
    def bad() -> Any:
        """Weights beside the outputs."""
        centers = v1.get_variable('centers', [5, 3])
        return _predict(logits=_logits(_x(3)), centers=tf.identity(centers, name='shown'))

    @staticmethod
    def good() -> Any:
        """They are repeated for each example."""
        x = _x(3)
        centers = v1.get_variable('centers', [5, 3])
        return _predict(logits=_logits(x),
                        centers=tf.tile(centers[tf.newaxis], [tf.shape(x)[0], 1, 1]))


def _rows(output: exported.Output) -> str:
    count = _first(output.tensor)
    return f'{count} row' + ('' if count == 1 else 's')


def _reference(facts: SpecFacts, outputs: list[exported.Output]) -> exported.Output:
    """The output that has as many rows as an input, else the first."""
    lengths = {_first(tensor) for op in facts.index.of_types(_SOURCES) for tensor in op.outputs}
    return next((output for output in outputs if _first(output.tensor) in lengths), outputs[0])


def _static_batch() -> Any:
    """A static batch of four, and the names of the classes."""
    x = v1.placeholder(tf.float32, [4, 3], name='x')
    return _predict(classes=tf.constant(['cat', 'dog'], name='classes'), logits=_logits(x))


def _only_one() -> Any:
    """A single prediction may have any length."""
    return _predict(centers=tf.identity(v1.get_variable('centers', [5, 3])))


def _same_static_batch() -> Any:
    """All have the batch of the input."""
    x = v1.placeholder(tf.float32, [4, 3], name='x')
    return _predict(logits=_logits(x), norm=tf.norm(x, axis=1), unknown=v1.placeholder(tf.string))


PredictionLengthsDiffer.more_bad = (_static_batch,)
PredictionLengthsDiffer.more_good = (_only_one, _same_static_batch)

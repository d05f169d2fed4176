"""A batch size that is built into the served graph."""

from __future__ import annotations

from typing import Any, Iterator, Optional

from estimator_spec_ext import describe
from estimator_spec_ext.compat import estimator, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import DEQUEUE_TYPES, ITERATOR_TYPES, PLACEHOLDER_TYPES
from estimator_spec_ext.rule import PREDICT, Rule
from estimator_spec_ext.rules import exported
from estimator_spec_ext.rules.batch_major import leaves_the_batch, origin

_SOURCES = ITERATOR_TYPES | DEQUEUE_TYPES | PLACEHOLDER_TYPES
# Ops that make one number, or one row, of a whole batch: no batch is left that could be built in.
_OF_THE_BATCH = frozenset({
    'Sum', 'Mean', 'Max', 'Min', 'Prod', 'Any', 'All', 'ArgMax', 'ArgMin', 'Shape', 'Size',
    'Unique', 'UniqueV2', 'Bincount', 'DenseBincount', 'TopKV2', 'NonMaxSuppressionV3',
    'NonMaxSuppressionV4', 'NonMaxSuppressionV5', 'CombinedNonMaxSuppression'})


class OutputBatchSizeFixed(Rule):
    """An output works for one batch size only.

    What it finds: in PREDICT, an output that follows inputs of any batch size, while its own first
    dimension is a fixed number above 1: a Reshape, a state or a constant that was made with the
    batch size of the training.

    Why it matters: the export succeeds. The first request of another size fails, or gets the rows
    of a batch that is not there.

    Bad:
        state = tf.zeros([BATCH_SIZE, units])

    Good:
        state = tf.zeros([tf.shape(inputs)[0], units])

    When to suppress: when the server always sends batches of exactly this size.
    """

    code = 'ESX430'
    slug = 'output-batch-size-fixed'
    severity = Severity.WARNING
    modes = (PREDICT,)
    mistakes = ('X8',)
    needs = ('predictions', 'export_outputs')

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        sources = [op for op in facts.index.of_types(_SOURCES) if _any_batch(op)]
        for output in exported.handed_out(facts) if sources else ():
            size = _first_dimension(output.tensor)
            if size is None or size < 2 or leaves_the_batch(origin(output.tensor).op):
                continue
            source = self._source(facts, output, sources)
            if source is None:
                continue
            actual = describe.shape(output.tensor)
            expected = describe.shape_text([None, *output.tensor.shape.as_list()[1:]])
            yield self.finding(
                facts, f'{output.field} has shape {actual} for inputs of any batch size; expected '
                       f'{expected}', field=output.field, op=output.tensor,
                hint=f'take the batch size from the input, tf.shape(x)[0] or -1 in tf.reshape, '
                     f'instead of {size}',
                expected=expected, actual=actual,
                path=facts.index.path(output.tensor, source))

    @staticmethod
    def _source(facts: SpecFacts, output: exported.Output, sources: list[Any]) -> Optional[Any]:
        """An input whose batch the output follows, not looking behind ops that use it up."""
        index = facts.index
        if not any(op in index.ancestors([output.tensor]) for op in sources):
            return None
        walls = [op for op in index.of_types(_OF_THE_BATCH) if _uses_up_the_batch(op)]
        reached = index.data_ancestors([output.tensor], stop=walls)
        return next((op for op in sources if op in reached), None)

    @staticmethod
    def bad() -> Any:
        """A state for 32 rows."""
        x = v1.placeholder(tf.float32, [None, 4], name='x')
        state = tf.zeros([32, 4], name='state')
        return {'mode': 'infer', 'predictions': {'next': tf.tanh(x + state, name='next')}}

    @staticmethod
    def good() -> Any:
        """A state for as many rows as there are."""
        x = v1.placeholder(tf.float32, [None, 4], name='x')
        state = tf.zeros([tf.shape(x)[0], 4], name='state')
        return {'mode': 'infer', 'predictions': {'next': tf.tanh(x + state, name='next')}}


def _first_dimension(tensor: Any) -> Optional[int]:
    shape = tensor.shape
    return shape.as_list()[0] if shape.rank else None


def _any_batch(op: Any) -> bool:
    return any(tensor.shape.rank and tensor.shape.as_list()[0] is None for tensor in op.outputs)


def _uses_up_the_batch(op: Any) -> bool:
    """Whether the first dimension that goes in is not the first that comes out."""
    before, after = op.inputs[0].shape, op.outputs[0].shape
    if before.rank is None or after.rank is None or not after.rank:
        return True
    return before.rank == 0 or before.as_list()[0] != after.as_list()[0]


def _reshaped() -> Any:
    serialized = v1.placeholder(tf.string, [None], name='examples')
    parsed = tf.io.parse_example(serialized, {'x': tf.io.FixedLenFeature([6], tf.float32)})
    grid = tf.reshape(parsed['x'], [16, 2, 3])
    return {'mode': 'infer', 'predictions': {'grid': grid * 2.}}


def _weights_beside_outputs() -> Any:
    x = v1.placeholder(tf.float32, [None, 4], name='x')
    weight = v1.get_variable('w', [4, 3])
    export = estimator.export.PredictOutput({'p': tf.matmul(x, weight)})
    return {'mode': 'infer', 'predictions': {'p': tf.matmul(x, weight)},
            'export_outputs': {'serving_default': export}}


def _one_image() -> Any:
    image = v1.placeholder(tf.float32, [None, None, 3], name='image')
    mask = tf.sigmoid(tf.reduce_sum(image, axis=-1, keepdims=True))
    return {'mode': 'infer', 'predictions': {'mask': tf.expand_dims(mask, 0)}}


OutputBatchSizeFixed.more_bad = (_reshaped,)
OutputBatchSizeFixed.more_good = (_weights_beside_outputs, _one_image)

"""Tensors for the host of a TPU that have no row for each example."""

from __future__ import annotations

from typing import Any, Iterator, Optional

from estimator_spec_ext import describe
from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import DEQUEUE_TYPES, ITERATOR_TYPES, PLACEHOLDER_TYPES
from estimator_spec_ext.rule import EVAL, TRAIN, Rule
from estimator_spec_ext.rules.batch_major import origin, reduces_rows
from estimator_spec_ext.rules.tpu import mean_of_losses, model_tensors, tpu_spec, used_calls

_SOURCES = ITERATOR_TYPES | DEQUEUE_TYPES | PLACEHOLDER_TYPES
# What these make of a batch may have any number of rows, and all of the batch.
_REGROUPS = frozenset({'Reshape', 'ConcatV2', 'Transpose', 'SpaceToBatchND', 'BatchToSpaceND'})


class TensorWithoutBatch(Rule):
    """A tensor without a row for each example is handed to the host of a TPU.

    What it finds: a tensor of rank 0 among the tensors of eval_metrics (in EVAL) or host_call; and
    in eval_metrics one of a fixed length that has nothing to do with the batch, where the size of
    the batch is known: weights, a mean over the batch.

    Why it matters: a TPU sends one tensor from each core and joins them along the first dimension.
    A scalar has none: "All tensors outfed from TPU should preserve batch size dimension", at the
    first step on the TPU. What has a fixed length comes once from each core, and no longer fits the
    labels. With use_tpu=False it works.

    Bad:
        host_call=(host_call_fn, [tf.compat.v1.train.get_global_step(), loss])

    Good:
        host_call=(host_call_fn, [tf.reshape(global_step, [1]), tf.reshape(loss, [1])])

    When to suppress: when the model never runs on a TPU, or its input is broadcast to all cores.
    """

    code = 'ESX122'
    slug = 'tpu-tensor-without-batch'
    severity = Severity.WARNING
    stage = 'spec'
    modes = (TRAIN, EVAL)
    mistakes = ('U1', 'U3')
    about = ('tpu',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        for call in used_calls(facts):
            for key, tensor in call.items:
                if graphs.is_tensor(tensor) and tensor.shape.rank == 0:
                    field = describe.entry(f'{call.field}[1]', key)
                    yield self.finding(
                        facts, f'{field} has shape (); a TPU joins its cores along dimension 0',
                        field=field, op=tensor, expected='rank 1 or more', actual='()',
                        hint='give it a first dimension: tf.reshape(tensor, [1])')
                elif call.field == 'eval_metrics' and graphs.is_tensor(tensor):
                    yield from self._of_fixed_length(facts, key, tensor)

    def _of_fixed_length(self, facts: SpecFacts, key: Any, tensor: Any) -> Iterator[Finding]:
        length: Optional[int] = tensor.shape.as_list()[0] if tensor.shape.rank else None
        if length is None or length < 2:
            return
        size = _batch_size(facts)
        if size is None or size < 2 or length % size == 0 or not _has_no_rows(facts, tensor, size):
            return
        field = describe.entry('eval_metrics[1]', key)
        rest = tensor.shape.as_list()[1:]
        yield self.finding(
            facts, f'{field} has {length} rows, the batch {size}; a TPU joins its cores by rows',
            field=field, op=tensor, expected=describe.shape_text([size, *rest]),
            actual=describe.shape(tensor),
            hint='hand over one row for each example, or one row in all: tensor[tf.newaxis]')

    @staticmethod
    def bad() -> Any:
        """The loss itself as a metric."""
        losses, _ = model_tensors()
        loss = tf.reduce_mean(losses, name='mean')
        return tpu_spec(losses=losses, eval_metrics=(mean_of_losses, [loss]))

    @staticmethod
    def good() -> Any:
        """One number for each example, or one for each core."""
        losses, _ = model_tensors()
        loss = tf.reshape(tf.reduce_mean(losses), [1])
        return tpu_spec(losses=losses, eval_metrics=(mean_of_losses, [losses]),
                      host_call=(lambda loss: [], [loss]))


def _bad_host_call() -> Any:
    """The step, for a summary."""
    losses, _ = model_tensors()
    return tpu_spec('train', losses=losses, host_call=(
        lambda step: [], {'step': v1.train.get_global_step()}))


def _good_scalar_in_train() -> Any:
    """A TPU does not evaluate metrics while it trains."""
    losses, _ = model_tensors()
    return tpu_spec('train', losses=losses, eval_metrics=(mean_of_losses, [tf.reduce_mean(losses)]))


def _static() -> tuple[Any, Any, Any]:
    """Losses, and predictions, of a batch of eight; and the weights."""
    x = v1.placeholder(tf.float32, [8, 3], name='x')
    weight = v1.get_variable('w', [3, 2])
    predictions = tf.matmul(x, weight, name='predictions')
    return tf.square(predictions[:, 0], name='losses'), predictions, weight


def _bad_mean_over_the_batch() -> Any:
    """One number for each class, which depends on the batch, and has no row for an example."""
    losses, predictions, _ = _static()
    return tpu_spec(losses=losses, eval_metrics=(
        mean_of_losses, [tf.reduce_mean(predictions, 0, name='mean')]))


def _bad_weights() -> Any:
    """The weights themselves."""
    losses, _, weight = _static()
    return tpu_spec(losses=losses, eval_metrics=(
        mean_of_losses, {'losses': tf.identity(weight, name='shown')}))


def _good_rows() -> Any:
    """Rows of examples, of their parts, of groups of them, and one row in all."""
    losses, predictions, weight = _static()
    tensors = [losses, tf.reshape(predictions, [-1]), tf.reduce_sum(tf.reshape(losses, [4, 2]), 1),
               tf.concat([losses, losses[:3]], 0), tf.fill([8], 2.), weight[tf.newaxis]]
    return tpu_spec(losses=losses, eval_metrics=(
        lambda *tensors: {'mean': v1.metrics.mean(tensors[0])}, tensors))


def _good_any_batch() -> Any:
    """Where the size of the batch is not known, nobody can tell."""
    losses, predictions = model_tensors()
    return tpu_spec(losses=losses, eval_metrics=(
        mean_of_losses, [tf.reduce_mean(tf.tile(predictions, [1, 3]), 0)]))


TensorWithoutBatch.more_bad = (_bad_host_call, _bad_mean_over_the_batch, _bad_weights)
TensorWithoutBatch.more_good = (_good_scalar_in_train, _good_rows, _good_any_batch)


def _batch_size(facts: SpecFacts) -> Optional[int]:
    """The rows of a batch: of every input, or what the job tells."""
    sizes = {tensor.shape.as_list()[0] for op in facts.index.of_types(_SOURCES)
             for tensor in op.outputs if tensor.shape.rank}
    return sizes.pop() if len(sizes) == 1 and None not in sizes else facts.context.batch_size


def _has_no_rows(facts: SpecFacts, tensor: Any, size: int) -> bool:
    """Whether the first dimension of a tensor is surely not made of examples."""
    if not set(facts.index.of_types(_SOURCES)) & facts.index.data_ancestors([tensor]):
        return True
    behind = origin(tensor).op
    if reduces_rows(behind):
        return True
    return behind.type not in _REGROUPS and bool(size % tensor.shape.as_list()[0])

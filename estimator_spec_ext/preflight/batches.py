"""Batches of other sizes, cut from the input that the job itself gives."""

from __future__ import annotations

from typing import Any, Callable, Optional

from estimator_spec_ext.compat import estimator_internals as internals
from estimator_spec_ext.compat import tf

SIZES = (1, 3)


def features_fn(estimator: Any, input_fn: Any, mode: str) -> Callable[[], Any]:
    """An input function of no arguments that gives what `input_fn` gives in `mode`."""
    return lambda: internals.call_input_fn(estimator, input_fn, mode)


def of_sizes(result: Any) -> Optional[Any]:
    """A dataset of features alone with one batch of each size of `SIZES`, the largest first.

    Args:
      result: what an input function returned, in the current graph.

    Returns:
      The dataset; None where rows cannot be told apart, or batches are always of one size.
    """
    if not isinstance(result, tf.data.Dataset):
        return None
    dataset = result
    if isinstance(dataset.element_spec, tuple):
        if len(dataset.element_spec) != 2:
            return None
        dataset = dataset.map(lambda features, labels: features)
    for spec in tf.nest.flatten(dataset.element_spec):
        shape = getattr(spec, 'shape', None)
        if (not isinstance(spec, (tf.TensorSpec, tf.SparseTensorSpec)) or shape is None
                or shape.rank in (None, 0)):
            return None
        if shape[0] is not None:
            return None  # the job never sees another size
    rows = dataset.unbatch()
    largest, *others = sorted(SIZES, reverse=True)
    batches = rows.take(largest).batch(largest)
    for size in others:
        batches = batches.concatenate(rows.take(size).batch(size))
    return batches

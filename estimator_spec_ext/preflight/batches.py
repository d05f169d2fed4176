"""Batches of other sizes, cut from the input that the job itself gives."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any, Callable, Iterator, Optional

from estimator_spec_ext.compat import estimator_internals as internals
from estimator_spec_ext.compat import tf, v1

SIZES = (3, 1)


@dataclasses.dataclass(frozen=True)
class Cut:
    """Rows of the job's own input, in batches of other sizes.

    Attributes:
      batches: (size, arrays), in the order asked for; arrays are the features, or with labels a
        pair.
      element_spec: what a dataset of them is.
      labelled: whether labels are there.
    """

    batches: tuple[tuple[int, Any], ...]
    element_spec: Any
    labelled: bool = False

    @property
    def features(self) -> 'Cut':
        """The same without labels."""
        if not self.labelled:
            return self
        return Cut(tuple((size, values[0]) for size, values in self.batches), self.element_spec[0])

    def dataset(self, params: Any = None) -> Any:
        """A dataset of these batches in the current graph; an input function as it is."""
        def batches() -> Iterator[Any]:
            for _, values in self.batches:
                yield values
        return tf.data.Dataset.from_generator(batches, output_signature=self.element_spec)


def own(estimator: Any, input_fn: Any, mode: str) -> Callable[[], Any]:
    """An input function that needs no arguments and gives what `input_fn` gives in `mode`."""
    def function(params: Any = None) -> Any:  # which a TPUEstimator asks for
        return internals.call_input_fn(estimator, input_fn, mode)

    return function


def followed(input_fn: Callable[[], Any], count: int, rows: Cut) -> Callable[..., Any]:
    """An input function: the first batches of `input_fn`, and then those that were cut."""
    return lambda params=None: input_fn().take(count).concatenate(rows.dataset())


def cut(input_fn: Callable[[], Any], config: Any = None, *, labelled: bool = False,
        fixed: bool = False, sizes: tuple[int, ...] = SIZES,
        watch: Callable[[Any], None] = lambda session: None) -> Optional[Cut]:
    """Takes a few rows of what an input function gives.

    Args:
      input_fn: a function of no arguments.
      config: the `ConfigProto` of the session.
      labelled: whether to keep the labels.
      fixed: whether to cut batches that always have one size, too.
      sizes: how many rows to cut for each batch.
      watch: gets the session, and may close it to end this.

    Returns:
      A `Cut`; None where rows cannot be told apart, or batches always have one size.

    Raises:
      Exception: what the input pipeline raises.
    """
    with tf.Graph().as_default():
        dataset = _rows_of(input_fn(), labelled, fixed)
        if dataset is None:
            return None
        rows = dataset.unbatch()
        batches = rows.take(sizes[0]).batch(sizes[0])
        for size in sizes[1:]:
            batches = batches.concatenate(rows.take(size).batch(size))
        iterator = v1.data.make_initializable_iterator(batches)
        following = iterator.get_next()
        found = []
        with v1.Session(config=config) as session:
            watch(session)
            session.run([v1.global_variables_initializer(), v1.local_variables_initializer(),
                         v1.tables_initializer()])
            session.run(iterator.initializer)
            with contextlib.suppress(tf.errors.OutOfRangeError):
                for size in sizes:
                    values = session.run(following)
                    if any(len(value) != size for value in tf.nest.flatten(values)):
                        return None
                    found.append((size, values))
        if len(found) < len(sizes):
            return None
        return Cut(tuple(found), batches.element_spec, labelled)


def _rows_of(result: Any, labelled: bool, fixed: bool) -> Any:
    """The dataset, without labels if they are not wanted; None when it is not made of rows."""
    if not isinstance(result, tf.data.Dataset):
        return None
    dataset = result
    pairs = isinstance(dataset.element_spec, tuple)
    if pairs and len(dataset.element_spec) != 2 or labelled and not pairs:
        return None
    if pairs and not labelled:
        dataset = dataset.map(lambda features, labels: features)
    for spec in tf.nest.flatten(dataset.element_spec):
        if not isinstance(spec, tf.TensorSpec) or spec.shape.rank in (None, 0):
            return None
        if spec.shape.as_list()[0] is not None and not fixed:
            return None  # the job never sees another size
    return dataset

"""Which name in a checkpoint belongs to which variable, for a Saver that renames some of them."""

from __future__ import annotations

from typing import Any, Callable

import tensorflow as tf
from tensorflow.python.distribute import values as _values
from tensorflow.python.trackable import base as _trackable


def saver_names(variables: list[Any], rename: Callable[[Any, str], str]) -> dict[str, Any]:
    """What `tf.compat.v1.train.Saver` takes: variables by their names in the checkpoint.

    A Saver that is given plain names does not fill every replica of a distributed variable, and
    does not find the slices of a partitioned one.

    Args:
      variables: the variables to restore.
      rename: gets a variable and its usual name in a checkpoint, and returns the name to use.

    Returns:
      A dict from name to a variable, a list of slices, or a SaveableObject.
    """
    names: dict[str, Any] = {}
    for variable in variables:
        slice_info = getattr(variable, '_save_slice_info', None)
        if slice_info is not None:
            names.setdefault(rename(variable, slice_info.full_name), []).append(variable)
            continue
        name = rename(variable, variable.name.split(':')[0])
        names[name] = variable
        if isinstance(variable, _values.DistributedVariable):
            factory = variable._gather_saveables_for_checkpoint()[_trackable.VARIABLE_VALUE_KEY]
            names[name] = factory(name)
    return names


def saver(variables: list[Any], rename: Callable[[Any, str], str]) -> Any:
    """A Saver that restores `variables` from the names that `rename` gives."""
    def build(strategy: Any = None) -> Any:
        del strategy
        return tf.compat.v1.train.Saver(saver_names(variables, rename))

    # Variables that are summed over the replicas can be saved only from outside of them.
    context = tf.distribute.get_replica_context()
    return build() if context is None else context.merge_call(build)

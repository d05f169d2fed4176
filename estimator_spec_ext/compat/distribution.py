"""What can be seen of a distribution strategy from inside a model_fn."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.python.distribute import values as _values
from tensorflow.python.ops import resource_variable_ops as _resource
from tensorflow.python.training import sync_replicas_optimizer as _sync

try:
    from tensorflow.python.ops import ref_variable as _reference
except ImportError:  # up to TensorFlow 2.12
    from tensorflow.python.ops import variables as _reference

DistributedVariable = _values.DistributedVariable
# What nearly all variables are; asking these for their parts would take longer than knowing.
_PLAIN = (_resource.ResourceVariable, _reference.RefVariable)
SyncReplicasHook = _sync._SyncReplicasOptimizerHook


def is_per_replica(value: Any) -> bool:
    """True for a value that differs by replica; a regrouped spec holds such values."""
    return isinstance(value, _values.DistributedValues) and not isinstance(value, tf.Variable)


def components(variable: Any) -> tuple[Any, ...]:
    """The plain variables of a distributed one; the variable itself otherwise."""
    if type(variable) in _PLAIN:
        return (variable,)
    if isinstance(variable, DistributedVariable):
        return tuple(variable._values)
    inner = getattr(variable, '_v', None)
    if inner is not None and isinstance(inner, tf.Variable):
        return (inner,)
    return (variable,)


def replica() -> tuple[int, int]:
    """The id of the replica that is being built, and how many there are: (0, 1) without one."""
    context = tf.distribute.get_replica_context()
    if context is None:
        return 0, tf.distribute.get_strategy().num_replicas_in_sync
    # The public property would add an op to the graph, and give a tensor instead of a number.
    replica_id = getattr(context, '_replica_id_in_sync_group', 0)
    return (replica_id if isinstance(replica_id, int) else 0), context.num_replicas_in_sync


def is_first_replica_here() -> bool:
    """Whether the first replica of this process is being built; True without replicas.

    The ids of `replica` go through all workers: on the second worker there is no replica 0.
    """
    context = tf.distribute.get_replica_context()
    if context is None:
        return True
    return getattr(context, '_local_replica_id', replica()[0]) == 0


def has_strategy() -> bool:
    """True inside the scope of a strategy of the user's."""
    return tf.distribute.has_strategy()


def strategy_name() -> str:
    """The class name of the strategy in force."""
    return type(tf.distribute.get_strategy()).__name__


def in_default_graph(variable: Any) -> bool:
    """Whether a variable lives in the default graph, and not in another one or in eager mode."""
    graph = tf.compat.v1.get_default_graph()
    return all(getattr(getattr(part, 'handle', part), 'graph', None) is graph
               for part in components(variable))


def is_sync_queue(op: tf.Operation) -> bool:
    """Whether an op is the queue of tokens of a SyncReplicasOptimizer."""
    return op.type.startswith('FIFOQueue') and op.get_attr('shared_name') == b'sync_token_q'


def sync_queue(holder: Any) -> Any:
    """The queue of tokens of a SyncReplicasOptimizer or its hook, as an op; None before it is made.
    """
    queue = getattr(getattr(holder, '_sync_optimizer', holder), '_sync_token_queue', None)
    return getattr(getattr(queue, 'queue_ref', None), 'op', None)


def is_chief_hook(hook: Any) -> bool:
    """Whether a SyncReplicasHook was made for the chief."""
    return bool(getattr(hook, '_is_chief', False))

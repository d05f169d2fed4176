"""The three families of optimizers, and what each needs to work inside a model_fn.

- TF1 (`tf.compat.v1.train.Optimizer`): made for graphs; `apply_gradients` takes the global step.
- Legacy Keras (`tf.keras.optimizers.legacy`): counts in `iterations`, which may be the global step.
- Keras (`tf.keras.optimizers`, since TensorFlow 2.11): made for `tf.function`. In a plain graph its
  updates hang loose and unordered, and its variables belong to wherever it was constructed, its
  counter among them.
"""

from __future__ import annotations

import copy
import threading
import weakref
from typing import Any, Optional

from tensorflow.python.framework import auto_control_deps as _acd

from estimator_spec_ext.compat import distribution, graphs
from estimator_spec_ext.compat.namespace import tf

v1 = tf.compat.v1

TF1, LEGACY, KERAS = 'tf1', 'legacy', 'keras'

_LEGACY_CLASS = tf.keras.optimizers.legacy.Optimizer
_KERAS_CLASS = tf.keras.optimizers.experimental.Optimizer
_LOSS_SCALE_CLASS = tf.keras.mixed_precision.LossScaleOptimizer

# What a legacy optimizer was before its first use; its variables bind it to one graph.
_PRISTINE: 'weakref.WeakKeyDictionary[Any, dict[str, Any]]' = weakref.WeakKeyDictionary()
_LOCK = threading.Lock()


def kind(optimizer: Any) -> Optional[str]:
    """The family of an optimizer: TF1, LEGACY or KERAS; None for anything else."""
    if isinstance(optimizer, v1.train.Optimizer):
        return TF1
    if isinstance(optimizer, _LEGACY_CLASS):
        return LEGACY
    if isinstance(optimizer, (_KERAS_CLASS, _LOSS_SCALE_CLASS)):
        return KERAS
    return None


def bound(optimizer: Any) -> Any:
    """The optimizer, or a copy of it where its own variables belong to another graph.

    Args:
      optimizer: an optimizer of any family.

    Returns:
      An optimizer that works in the default graph.

    Raises:
      ValueError: when it is bound to another graph and cannot be copied.
    """
    family = kind(optimizer)
    if family == TF1:  # keeps its slots by graph
        return optimizer
    if family == LEGACY:
        return _bound_legacy(optimizer)
    return _bound_keras(optimizer)


def _bound_legacy(optimizer: Any) -> Any:
    if isinstance(optimizer, _LOSS_SCALE_CLASS):
        _refuse_foreign(optimizer, optimizer.inner_optimizer._weights)
        return optimizer
    with _LOCK:
        if not optimizer._weights and not optimizer._hypers_created:
            _PRISTINE[optimizer] = _one_level_copy(vars(optimizer))
            return optimizer
        if all(distribution.in_default_graph(variable) for variable in optimizer._weights):
            return optimizer
        if optimizer not in _PRISTINE:
            raise ValueError(_foreign_text(optimizer))
        return _with_attributes(optimizer, _PRISTINE[optimizer])


def _bound_keras(optimizer: Any) -> Any:
    inner = getattr(optimizer, 'inner_optimizer', optimizer)
    if distribution.in_default_graph(inner._iterations):
        _order_initial_rate(inner)
        return optimizer
    if inner is not optimizer or getattr(optimizer, '_built', False):
        raise ValueError(_foreign_text(optimizer))
    clone = _with_attributes(optimizer, vars(optimizer))
    rate = clone._learning_rate
    if isinstance(rate, tf.Variable):
        rate = _value_of(rate)
        if rate is None:
            raise ValueError(_foreign_text(optimizer))
    step = v1.train.get_or_create_global_step()
    clone._variables = []
    if _can_count_in(step):
        clone._iterations = step
    else:
        clone._create_iteration_variable()
    clone._distribution_strategy = tf.distribute.get_strategy()
    if callable(rate):  # a schedule; every step sets its present value before it is used
        clone._current_learning_rate = tf.Variable(
            rate(tf.constant(0, tf.int64)), name='current_learning_rate', trainable=False)
    else:
        clone._learning_rate = clone._build_learning_rate(rate)
    return clone


def _order_initial_rate(optimizer: Any) -> None:
    """Initialises the counter before the rate that a schedule computes from it.

    In a graph nothing else orders the two, and the initialisation fails at random.
    """
    rate = getattr(optimizer, '_current_learning_rate', None)
    if rate is None or getattr(optimizer, '_built', False):
        return
    counters = [part.initializer for part in distribution.components(optimizer._iterations)]
    handles = {initializer.inputs[0].op for initializer in counters}
    stack = [part.initializer.inputs[1].op for part in distribution.components(rate)]
    seen = set(stack)
    while stack:
        op = stack.pop()
        if op.type == 'ReadVariableOp' and op.inputs[0].op in handles:
            op._add_control_inputs(counters)
        for tensor in op.inputs:
            if tensor.op not in seen:
                seen.add(tensor.op)
                stack.append(tensor.op)


def _with_attributes(optimizer: Any, attributes: dict[str, Any]) -> Any:
    clone = object.__new__(type(optimizer))
    clone.__dict__.update(_one_level_copy(attributes))
    return clone


def _one_level_copy(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: copy.copy(value) if isinstance(value, (dict, list, set)) else value
            for name, value in attributes.items()}


def _value_of(variable: Any) -> Any:
    """The value of an eager variable, or the constant that a graph's variable starts from."""
    if graphs.graph_of(variable) is None:
        with tf.__internal__.eager_context.eager_mode():
            return variable.numpy()
    return tf.get_static_value(variable.initial_value)


def _refuse_foreign(optimizer: Any, variables: Any) -> None:
    if not all(distribution.in_default_graph(variable) for variable in variables):
        raise ValueError(_foreign_text(optimizer))


def _foreign_text(optimizer: Any) -> str:
    name = type(optimizer).__name__
    return (f'the optimizer, {name}, already belongs to another graph; pass a function that makes '
            f'one, e.g. optimizer=lambda: {name}(...)')


def compute_gradients(optimizer: Any, loss: Any, variables: list[Any]) -> list[tuple[Any, Any]]:
    """Gradients of `loss`, scaled as the optimizer's own `minimize` scales it.

    Args:
      optimizer: of any family.
      loss: a scalar tensor.
      variables: the variables to differentiate by.

    Returns:
      (gradient, variable) pairs; a gradient is None where the loss does not depend on the variable.
    """
    if kind(optimizer) == TF1:
        return list(optimizer.compute_gradients(loss, var_list=variables))
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1:  # apply_gradients sums over the replicas, and the loss is each one's mean
        loss = loss * (1. / replicas)
    if not isinstance(optimizer, _LOSS_SCALE_CLASS):
        return list(zip(tf.gradients(loss, variables), variables))
    scaled = tf.gradients(optimizer.get_scaled_loss(loss), variables)
    return list(zip(optimizer.get_unscaled_gradients(scaled), variables))


def apply_gradients(optimizer: Any, grads_and_vars: list[tuple[Any, Any]], step: Any,
                    loss: Any) -> Any:
    """Applies gradients and advances the global step by one.

    Args:
      optimizer: of any family, already `bound`.
      grads_and_vars: (gradient, variable) pairs without None.
      step: the global step.
      loss: what the gradients are of; nothing changes before it is computed.

    Returns:
      An op that does both.

    Raises:
      ValueError: when the optimizer cannot update one of the variables.
    """
    family = kind(optimizer)
    if family == TF1:
        return optimizer.apply_gradients(grads_and_vars, global_step=step)
    for _, variable in grads_and_vars:
        if graphs.is_ref_dtype(variable.dtype):
            raise ValueError(
                f'{type(optimizer).__name__} cannot update the reference variable '
                f"'{variable.op.name}'; create it with use_resource=True, or call "
                'tf.compat.v1.enable_resource_variables() first')
    counts = _count_in(optimizer, step)
    if family == LEGACY:
        train_op = optimizer.apply_gradients(grads_and_vars)
    else:
        train_op = _apply_keras(optimizer, grads_and_vars, loss)
    if counts:
        return train_op
    with tf.control_dependencies([train_op]):
        return step.assign_add(1, read_value=False)


def _count_in(optimizer: Any, step: Any) -> bool:
    """Makes the optimizer count in the global step; False when it must keep its own counter."""
    inner = getattr(optimizer, 'inner_optimizer', optimizer)
    if inner._iterations is step:
        return True
    if kind(optimizer) == LEGACY:
        if inner._iterations is None:
            inner.iterations = step
            # The setter forgets it, and an object-based checkpoint would lose the count.
            inner._track_trackable(step, 'iter', overwrite=True)
            return True
        return False
    # A Keras optimizer that was made here has its own counter in every mode, and so in checkpoints.
    return False


def _can_count_in(step: Any) -> bool:
    """Whether a Keras optimizer can: it reads its counter while others may already write it."""
    return not graphs.is_ref_dtype(step.dtype)  # only resource variables have an order of writes


def _apply_keras(optimizer: Any, grads_and_vars: list[tuple[Any, Any]], loss: Any) -> Any:
    """`apply_gradients` of a Keras optimizer, with its updates in order and gathered in one op."""
    inner = getattr(optimizer, 'inner_optimizer', optimizer)
    if getattr(inner, 'use_ema', False):
        raise ValueError(
            f'the averages of {type(inner).__name__}(use_ema=True) would never be used; leave it '
            'out and pass ema_decay=..., which evaluates and serves them')
    if isinstance(inner, tf.keras.optimizers.Nadam):
        raise ValueError('tf.keras.optimizers.Nadam cannot be used in a graph: it counts in '
                         'Python; use tf.keras.optimizers.legacy.Nadam')
    if inner is not optimizer and not v1.control_flow_v2_enabled():
        raise ValueError('LossScaleOptimizer of a Keras optimizer needs the control flow of '
                         'TensorFlow 2; call tf.compat.v1.enable_control_flow_v2() first, or wrap '
                         'an optimizer of tf.keras.optimizers.legacy')
    # Without init_scope the first values of the slots would wait for the update ops.
    with tf.name_scope(inner.name), tf.init_scope():
        inner.build([variable for _, variable in grads_and_vars])
    # Collectives that wait for each other's replica must not be put in order.
    grads_and_vars = inner.aggregate_gradients(grads_and_vars)
    known = len(v1.global_variables())
    _meet_replicas()  # what other replicas still build must not fall between our updates
    # Weight decay needs no gradient, and would change a variable that the loss still reads.
    read_first = [loss, *(gradient for gradient, _ in grads_and_vars)]
    with tf.control_dependencies(read_first), _acd.AutomaticControlDependencies() as ordered:
        optimizer.apply_gradients(grads_and_vars, skip_gradients_aggregation=True)
    if len(v1.global_variables()) != known:
        raise ValueError(
            f'{type(inner).__name__} creates variables while it applies gradients, and so would '
            'reset them at every step; create them in its build()')
    _meet_replicas()
    return tf.group(*sorted(ordered.ops_which_must_run, key=lambda op: op.name))


def _meet_replicas() -> None:
    context = tf.distribute.get_replica_context()
    if context is not None and context.num_replicas_in_sync > 1:
        context.merge_call(lambda strategy: None)

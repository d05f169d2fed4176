"""What a training step consists of: loss, gradients, updates, averages of the weights."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Mapping, Optional, Sequence

from estimator_spec_ext import describe
from estimator_spec_ext.compat import graphs, optimizers, saving, tf, v1
from estimator_spec_ext.graph import PLACEHOLDER_TYPES, GraphIndex

AVERAGE_NAME = 'ExponentialMovingAverage'

_FED_TYPES = PLACEHOLDER_TYPES - {'PlaceholderWithDefault'}


# Layers.


def as_layers(layers: Any) -> tuple[Any, ...]:
    """The Keras layers and models that the caller named, as a tuple.

    Raises:
      TypeError: for anything that is no Keras layer or model.
    """
    if layers is None:
        return ()
    found = tuple(layers) if isinstance(layers, (list, tuple)) else (layers,)
    for layer in found:
        if not isinstance(layer, tf.keras.layers.Layer):
            raise TypeError('layers must be a tf.keras layer or model, or a list of them; '
                            f'got {describe.value(layer)}')
    return found


def layer_updates(layers: Sequence[Any], roots: Iterable[Any]) -> list[Any]:
    """The update ops of Keras layers (moving averages of batch normalisation and the like).

    Args:
      layers: Keras layers and models.
      roots: what the step computes: loss and predictions.

    Returns:
      Ops and tensors that a session can run whenever it can run `roots`.
    """
    return _runnable([update for layer in layers for update in layer.updates], roots)


def layer_losses(layers: Sequence[Any], roots: Iterable[Any]) -> list[Any]:
    """The losses of Keras layers: weight and activity regularization, `add_loss`."""
    return _runnable([loss for layer in layers for loss in layer.losses], roots)


def _runnable(values: list[Any], roots: Iterable[Any]) -> list[Any]:
    """`values` without doubles and without those that hang on a placeholder nobody feeds.

    A functional model is built once on its own `tf.keras.Input` and again on each input that it is
    called with; in a graph the first of these depends on placeholders that stay empty.
    """
    unique = list({id(value): value for value in values}.values())
    if not unique:
        return []
    index = GraphIndex(v1.get_default_graph())
    needed = index.ancestors(roots)
    empty = [op for op in index.of_types(_FED_TYPES) if op not in needed]
    dead = set(empty)
    while empty:
        op = empty.pop()
        for consumer in [*index.consumers(op), *graphs.control_outputs(op)]:
            if consumer not in dead:
                dead.add(consumer)
                empty.append(consumer)
    return [value for value in unique if graphs.as_op(value) not in dead]


# The loss.


def weighted_sum(losses: Any, weights: Optional[Mapping[str, Any]]) -> Any:
    """One loss of several: their sum, from left to right, each times its weight.

    Args:
      losses: a scalar tensor, or a dict of them by name.
      weights: numbers or scalar tensors by name; a loss without a weight counts once.

    Returns:
      A scalar tensor; `losses` itself when it is no dict.

    Raises:
      ValueError: for an empty dict, or a weight whose name no loss has.
    """
    if not isinstance(losses, Mapping):
        if weights is not None:
            raise ValueError('loss_weights needs several losses: a dict by name; got one loss')
        return losses
    if not losses:
        raise ValueError('the dict of losses is empty; expected at least one')
    weights = weights or {}
    unknown = [str(name) for name in weights if name not in losses]
    if unknown:
        raise ValueError(f'loss_weights has no loss for {", ".join(map(repr, unknown))}; '
                         f'the losses are {", ".join(map(repr, losses))}')
    total = None
    for name, loss in losses.items():
        part = loss * weights[name] if name in weights else loss
        total = part if total is None else total + part
    return total


def with_regularization(loss: Any, layers: Sequence[Any], losses: Optional[Sequence[Any]],
                        roots: Sequence[Any]) -> Any:
    """The loss plus the regularization losses that it does not hold yet.

    Args:
      loss: a scalar tensor.
      layers: Keras layers whose `losses` count too.
      losses: the losses to add; None for those of the graph's REGULARIZATION_LOSSES collection
        and of `layers`.
      roots: what else the step computes, e.g. predictions.

    Returns:
      `loss`, or `loss + tf.add_n(those)`.
    """
    if losses is None:
        losses = (v1.losses.get_regularization_losses()
                  + layer_losses(layers, (loss, *roots)))
    losses = list({id(value): value for value in losses}.values())
    if losses:
        index = GraphIndex(v1.get_default_graph())
        held = index.data_ancestors([loss])
        losses = [value for value in losses if graphs.as_op(value) not in held]
    return loss + tf.add_n(losses) if losses else loss


# Variables.


def trainable(variables: Any, layers: Sequence[Any]) -> list[Any]:
    """The variables to train.

    Args:
      variables: a list or tuple of variables, or a function that returns one; None for the graph's
        trainable variables without those that frozen `layers` hold.
      layers: Keras layers and models.

    Returns:
      A list of variables.

    Raises:
      TypeError: for anything else.
      ValueError: when there are none.
    """
    if callable(variables) and not graphs.is_variable(variables):
        variables = variables()
    if variables is None:
        frozen = {id(variable) for layer in layers for variable in layer.non_trainable_weights}
        found = [variable for variable in _all_trainable() if id(variable) not in frozen]
    elif isinstance(variables, (list, tuple)):
        found = list(variables)
    else:
        raise TypeError('trainable_variables must be a list of variables or a function that '
                        f'returns one; got {describe.value(variables)}')
    for variable in found:
        if not graphs.is_variable(variable):
            raise TypeError('trainable_variables must hold variables; '
                            f'got {describe.value(variable)}')
    if not found:
        raise ValueError('there is no variable to train; create the model before the spec, or '
                         'pass trainable_variables=...')
    return found


def _all_trainable() -> list[Any]:
    # The same list in the same order as in `tf.compat.v1.train.Optimizer.minimize`.
    return (v1.trainable_variables()
            + v1.get_collection(v1.GraphKeys.TRAINABLE_RESOURCE_VARIABLES))


# Steps.


def all_updates(layers: Sequence[Any], roots: Sequence[Any]) -> list[Any]:
    """The graph's UPDATE_OPS and the updates of Keras layers, each once."""
    found = v1.get_collection(v1.GraphKeys.UPDATE_OPS) + layer_updates(layers, roots)
    return list({id(update): update for update in found}.values())


def run_with(updates: Sequence[Any], make_train_op: Callable[[], Any]) -> Any:
    """The caller's own train_op, together with `updates`.

    Args:
      updates: ops that must run in each step.
      make_train_op: makes the op, or returns one that exists already.

    Returns:
      What `make_train_op` returns, or a group of that and `updates`.
    """
    with tf.control_dependencies(updates):
        train_op = make_train_op()
    if not updates or graphs.as_op(train_op) is None:
        return train_op
    return tf.group(train_op, *updates)


def gradient_transform(transform: Optional[Callable[[list[Any]], Any]],
                       clip_norm: Optional[float], clip_value: Optional[float],
                       global_clip_norm: Optional[float]) -> Callable[[list[Any]], list[Any]]:
    """One function of (gradient, variable) pairs: `transform`, then at most one way of clipping.

    Raises:
      TypeError: when more than one way of clipping is given, or `transform` is not callable.
      ValueError: when a limit is not positive.
    """
    limits = {'clip_norm': clip_norm, 'clip_value': clip_value,
              'global_clip_norm': global_clip_norm}
    given = [name for name, limit in limits.items() if limit is not None]
    if len(given) > 1:
        raise TypeError(f'expected at most one way of clipping, got {" and ".join(given)}')
    for name in given:
        if isinstance(limits[name], (int, float)) and not limits[name] > 0:  # type: ignore
            raise ValueError(f'{name} must be positive, got {limits[name]}')
    if transform is not None and not callable(transform):
        raise TypeError('gradient_transform must be a function from (gradient, variable) pairs '
                        f'to such pairs; got {describe.value(transform)}')

    def apply(pairs: list[Any]) -> list[Any]:
        pairs = list(transform(pairs)) if transform is not None else pairs
        gradients = [gradient for gradient, _ in pairs]
        variables = [variable for _, variable in pairs]
        if clip_norm is not None:
            gradients = [tf.clip_by_norm(gradient, clip_norm) for gradient in gradients]
        elif clip_value is not None:
            gradients = [tf.clip_by_value(gradient, -clip_value, clip_value)
                         for gradient in gradients]
        elif global_clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, global_clip_norm)
        return list(zip(gradients, variables))

    return apply


def as_optimizer(optimizer: Any) -> Any:
    """The optimizer that works in the default graph; a function is called to make one.

    Raises:
      TypeError: when it is no optimizer, nor makes one.
      ValueError: when it belongs to another graph and cannot be copied.
    """
    made = optimizer
    if optimizers.kind(made) is None and callable(made):
        made = made()
    if optimizers.kind(made) is None:
        actual = (f'optimizer is {describe.value(made)}' if made is optimizer
                  else f'the function given as optimizer returned {describe.value(made)}')
        raise TypeError(f'{actual}; expected an optimizer of tf.compat.v1.train or '
                        'tf.keras.optimizers, or a function that makes one')
    return optimizers.bound(made)


def minimize(optimizer: Any, loss: Any, variables: list[Any],
             transform: Callable[[list[Any]], list[Any]], updates: Sequence[Any]) -> Any:
    """One step: `updates`, then new values for `variables`, then the global step plus one.

    Args:
      optimizer: from `as_optimizer`.
      loss: a scalar tensor.
      variables: the variables to train.
      transform: from `gradient_transform`.
      updates: ops that the step runs before the variables change.

    Returns:
      The op of the step.

    Raises:
      ValueError: when the loss depends on none of `variables`.
    """
    step = v1.train.get_or_create_global_step()
    pairs = optimizers.compute_gradients(optimizer, loss, variables)
    found = [(gradient, variable) for gradient, variable in pairs if gradient is not None]
    if not found:
        raise ValueError(f"loss '{loss.name}' depends on none of the {len(variables)} trainable "
                         'variables, so there is no gradient; is the model cut off, e.g. by '
                         'tf.stop_gradient, tf.argmax or a cast to an integer?')
    with tf.control_dependencies(updates):
        return optimizers.apply_gradients(optimizer, transform(found), step, loss)


# Averages of the weights.


def average(train_op: Any, decay: Any, variables: Sequence[Any]) -> Any:
    """The step followed by an update of the moving average of each variable.

    Raises:
      ValueError: when the averages get names under which EVAL would not look for them.
    """
    averages = tf.train.ExponentialMovingAverage(_checked_decay(decay), name=AVERAGE_NAME)
    floating = [variable for variable in variables if variable.dtype.base_dtype.is_floating]
    with tf.control_dependencies([train_op]):
        averaged = averages.apply(floating)
    for variable in floating:
        name, expected = averages.average_name(variable), _average_name(variable)
        if name != expected:
            raise ValueError(f"the average of '{variable.name}' is called '{name}', expected "
                             f"'{expected}'; leave the variable_scope before you build the spec")
    return averaged


def _average_name(variable: Any) -> str:
    return f'{variable.name.split(":")[0]}/{AVERAGE_NAME}'


def averaging_scaffold(scaffold: Any, decay: Any, variables: Sequence[Any]) -> Any:
    """A scaffold that fills the variables with their averages from the checkpoint.

    Args:
      scaffold: the caller's, or None; all but its saver is kept.
      decay: the decay, checked only.
      variables: those that `average` was given in TRAIN.

    Returns:
      A `tf.compat.v1.train.Scaffold`.

    Raises:
      ValueError: when the scaffold has a saver of its own.
    """
    _checked_decay(decay)
    if scaffold is not None and scaffold.saver is not None:
        raise ValueError('scaffold has a saver, and ema_decay needs another one in EVAL and '
                         'PREDICT; pass a scaffold without saver')
    averaged = {id(variable) for variable in variables
                if variable.dtype.base_dtype.is_floating}

    def rename(variable: Any, name: str) -> str:
        return f'{name}/{AVERAGE_NAME}' if id(variable) in averaged else name

    saver = saving.saver(v1.global_variables(), rename)
    return v1.train.Scaffold(saver=saver, copy_from_scaffold=scaffold)


def _checked_decay(decay: Any) -> Any:
    if isinstance(decay, (int, float)) and not 0 <= decay < 1:
        raise ValueError(f'ema_decay must be at least 0 and below 1, got {decay}')
    return decay

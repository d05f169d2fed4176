"""`create_estimator_spec` with the mode fixed: each signature holds just what that mode uses."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, Optional

from estimator_spec_ext import (
    describe,
    engine,
    export,
    facts,
    metrics_bridge,
    training,
    warm_start,
)
from estimator_spec_ext.compat import do_not_convert, estimator, graphs, tf
from estimator_spec_ext.diagnostics import Finding, Report
from estimator_spec_ext.specs import StrictEstimatorSpec


@do_not_convert
def create_train_estimator_spec(
        loss: Any, *, optimizer: Any = None, train_op_fn: Any = None, predictions: Any = None,
        loss_weights: Any = None, regularization_losses: Any = None,
        trainable_variables: Any = None, update_ops: Any = None, layers: Any = None,
        clip_norm: Any = None, clip_value: Any = None, global_clip_norm: Any = None,
        gradient_transform: Any = None, ema_decay: Any = None, warm_start_from: Any = None,
        training_chief_hooks: Any = None, training_hooks: Any = None, scaffold: Any = None,
        suppress: Optional[Mapping[str, str]] = None) -> StrictEstimatorSpec:
    """The spec of TRAIN: `create_estimator_spec` with what only TRAIN uses.

    Args:
      loss: a floating scalar tensor, or a dict of them by name.
      optimizer: as in `create_estimator_spec`; exactly one of it and `train_op_fn`.
      train_op_fn: as in `create_estimator_spec`.
      predictions: a tensor or a dict of tensors; TRAIN does not need them.
      loss_weights: as in `create_estimator_spec`, for a dict of losses.
      regularization_losses: as in `create_estimator_spec`.
      trainable_variables: as in `create_estimator_spec`.
      update_ops: as in `create_estimator_spec`.
      layers: as in `create_estimator_spec`.
      clip_norm: as in `create_estimator_spec`.
      clip_value: as in `create_estimator_spec`.
      global_clip_norm: as in `create_estimator_spec`.
      gradient_transform: as in `create_estimator_spec`.
      ema_decay: as in `create_estimator_spec`.
      warm_start_from: as in `create_estimator_spec`.
      training_chief_hooks: hooks for the chief alone.
      training_hooks: hooks for every worker.
      scaffold: a `tf.compat.v1.train.Scaffold`.
      suppress: reasons by slug or code of a rule.

    Returns:
      A `StrictEstimatorSpec` of mode TRAIN.

    Raises:
      TypeError: without exactly one of `optimizer` and `train_op_fn`, or for an argument of the
        wrong kind.
      ValueError: when an argument has an impossible value, e.g. nothing can be trained.
      EstimatorSpecError: (a ValueError) with all findings of the finished spec.

    Example:
      >>> with tf.Graph().as_default():
      ...     weight = tf.compat.v1.get_variable('w', [])
      ...     spec = create_train_estimator_spec(
      ...         tf.square(weight), optimizer=tf.compat.v1.train.GradientDescentOptimizer(0.1))
      >>> spec.mode
      'train'
    """
    exactly_one(optimizer, train_op_fn)
    net = training.as_layers(layers)
    transform = training.gradient_transform(
        gradient_transform, clip_norm, clip_value, global_clip_norm)
    fields = dict(predictions=predictions, training_chief_hooks=training_chief_hooks,
                  training_hooks=training_hooks, scaffold=scaffold)
    loss = _total_loss('train', loss, loss_weights, regularization_losses, net, fields, suppress)
    if warm_start_from is not None:  # before the averages, which start from the same values
        warm_start.start_from(warm_start_from, suppress)
    variables = None
    if train_op_fn is None or ema_decay is not None:
        variables = training.trainable(trainable_variables, net)
    if update_ops is None:
        update_ops = training.all_updates(net, (loss, *_tensors(predictions)))
    if train_op_fn is None:
        train_op = training.minimize(
            training.as_optimizer(optimizer), loss, variables or [], transform, update_ops)
    else:
        train_op = training.run_with(update_ops, lambda: train_op_fn(loss))
    if ema_decay is not None:
        train_op = training.average(train_op, ema_decay, variables or [])
    return StrictEstimatorSpec('train', loss=loss, train_op=train_op, suppress=suppress, **fields)


@do_not_convert
def create_eval_estimator_spec(
        loss: Any, *, predictions: Any = None, labels: Any = None, metrics_fn: Any = None,
        loss_weights: Any = None, regularization_losses: Any = None, layers: Any = None,
        ema_decay: Any = None, trainable_variables: Any = None, evaluation_hooks: Any = None,
        scaffold: Any = None, suppress: Optional[Mapping[str, str]] = None) -> StrictEstimatorSpec:
    """The spec of EVAL: `create_estimator_spec` with what only EVAL uses.

    Args:
      loss: a floating scalar tensor, or a dict of them by name.
      predictions: a tensor or a dict of tensors, for `metrics_fn`.
      labels: a tensor or a dict of tensors, for `metrics_fn`.
      metrics_fn: as in `create_estimator_spec`.
      loss_weights: as in `create_estimator_spec`, for a dict of losses.
      regularization_losses: as in `create_estimator_spec`.
      layers: as in `create_estimator_spec`.
      ema_decay: the same as in TRAIN.
      trainable_variables: with `ema_decay`, the same as in TRAIN.
      evaluation_hooks: hooks.
      scaffold: a `tf.compat.v1.train.Scaffold`; with `ema_decay` one without a saver.
      suppress: reasons by slug or code of a rule.

    Returns:
      A `StrictEstimatorSpec` of mode EVAL.

    Raises:
      TypeError: for an argument of the wrong kind.
      ValueError: when an argument has an impossible value.
      EstimatorSpecError: (a ValueError) with all findings of the finished spec.

    Example:
      >>> with tf.Graph().as_default():
      ...     y = tf.constant([1., 2.])
      ...     spec = create_eval_estimator_spec(
      ...         tf.reduce_mean(y), predictions=y, labels=y,
      ...         metrics_fn={'mae': tf.keras.metrics.MeanAbsoluteError})
      >>> list(spec.eval_metric_ops)
      ['mae']
    """
    net = training.as_layers(layers)
    fields = dict(predictions=predictions, evaluation_hooks=evaluation_hooks, scaffold=scaffold)
    loss = _total_loss('eval', loss, loss_weights, regularization_losses, net, fields, suppress)
    fields['eval_metric_ops'] = metrics_bridge.eval_metric_ops(metrics_fn, labels, predictions)
    if ema_decay is not None:
        fields['scaffold'] = training.averaging_scaffold(
            scaffold, ema_decay, training.trainable(trainable_variables, net))
    return StrictEstimatorSpec('eval', loss=loss, suppress=suppress, **fields)


@do_not_convert
def create_predict_estimator_spec(
        predictions: Any, *, export_outputs: Any = None, default_signature: Any = None,
        ema_decay: Any = None, trainable_variables: Any = None, layers: Any = None,
        prediction_hooks: Any = None, scaffold: Any = None,
        suppress: Optional[Mapping[str, str]] = None) -> StrictEstimatorSpec:
    """The spec of PREDICT: `create_estimator_spec` with what only PREDICT uses.

    Args:
      predictions: a tensor or a dict of tensors.
      export_outputs: as in `create_estimator_spec`.
      default_signature: as in `create_estimator_spec`.
      ema_decay: the same as in TRAIN.
      trainable_variables: with `ema_decay`, the same as in TRAIN.
      layers: with `ema_decay`, the same as in TRAIN.
      prediction_hooks: hooks.
      scaffold: a `tf.compat.v1.train.Scaffold`; with `ema_decay` one without a saver.
      suppress: reasons by slug or code of a rule.

    Returns:
      A `StrictEstimatorSpec` of mode PREDICT.

    Raises:
      TypeError: for an argument of the wrong kind.
      ValueError: when an argument has an impossible value, e.g. `default_signature` names nothing.
      EstimatorSpecError: (a ValueError) with all findings of the finished spec.

    Example:
      >>> with tf.Graph().as_default():
      ...     x = tf.compat.v1.placeholder(tf.float32, [None, 3])
      ...     spec = create_predict_estimator_spec({'scores': x})
      >>> list(spec.export_outputs)
      ['serving_default']
    """
    if ema_decay is not None:
        net = training.as_layers(layers)
        scaffold = training.averaging_scaffold(
            scaffold, ema_decay, training.trainable(trainable_variables, net))
    return StrictEstimatorSpec(
        'infer', predictions=predictions,
        export_outputs=as_outputs(export_outputs, default_signature),
        prediction_hooks=prediction_hooks, scaffold=scaffold, suppress=suppress)


def at_most_one(optimizer: Any, train_op_fn: Any) -> None:
    """Refuses two ways to train."""
    if optimizer is not None and train_op_fn is not None:
        raise TypeError('expected exactly one of optimizer and train_op_fn, got both')


def exactly_one(optimizer: Any, train_op_fn: Any) -> None:
    """Refuses two ways to train, and none."""
    at_most_one(optimizer, train_op_fn)
    if optimizer is None and train_op_fn is None:
        raise TypeError('TRAIN needs exactly one of optimizer and train_op_fn, got none')


def _total_loss(mode: str, loss: Any, weights: Any, regularization: Any, layers: Any,
                fields: dict[str, Any], suppress: Any) -> Any:
    """The sum of all losses; what cannot be a loss is refused before anything is built on it."""
    parts = loss if isinstance(loss, Mapping) else {None: loss}
    for name, part in parts.items():
        if not _can_be_loss(part):
            _refuse(mode, name, {**fields, 'loss': part}, suppress)
    total = training.weighted_sum(loss, weights)
    return training.with_regularization(
        total, layers, regularization, _tensors(fields.get('predictions')))


def _can_be_loss(loss: Any) -> bool:
    return (graphs.is_tensor(loss) and loss.dtype.base_dtype.is_floating
            and (loss.shape.rank is None or loss.shape.as_list() in ([], [1]))
            and graphs.graph_of(loss) is tf.compat.v1.get_default_graph())


def _refuse(mode: str, name: Any, fields: dict[str, Any], suppress: Any) -> None:
    """Raises with all that is wrong already; train_op and metrics are not there yet."""
    report = engine.check(facts.SpecFacts(mode, fields), suppress=suppress,
                          stages=('spec', 'stock'))
    found = [finding for finding in report.errors
             if finding.where.base_field not in ('train_op', 'eval_metric_ops')]
    if name is not None:
        found = [_named(finding, describe.entry('loss', name)) for finding in found]
    Report(findings=tuple(found), depth=report.depth).raise_for_errors()


def _named(finding: Finding, field: str) -> Finding:
    """The finding about one of several losses, with that one's name."""
    if finding.where.field != 'loss':
        return finding
    where = dataclasses.replace(finding.where, field=field)
    return dataclasses.replace(finding, where=where,
                               message=finding.message.replace('loss', field, 1))


def _tensors(predictions: Any) -> list[Any]:
    return [value for value in tf.nest.flatten(predictions) if graphs.is_tensor(value)]


def as_outputs(export_outputs: Any, default_signature: Any) -> Any:
    """The caller's export outputs as a dict of our own, with the default that was asked for."""
    if not isinstance(export_outputs, Mapping):
        if default_signature is not None:
            raise ValueError(f'default_signature is {default_signature!r}, and there are no '
                             'export_outputs to choose from')
        return export_outputs
    outputs = {name: _output(value) for name, value in export_outputs.items()}
    if default_signature is not None:
        if default_signature not in outputs:
            raise ValueError(f'default_signature is {default_signature!r}; expected one of '
                             f'{", ".join(map(repr, outputs))}')
        default = outputs.setdefault(export.DEFAULT_KEY, outputs[default_signature])
        if default is not outputs[default_signature]:
            raise ValueError(f'default_signature is {default_signature!r}, and export_outputs has '
                             f'another {export.DEFAULT_KEY!r}')
    return outputs


def _output(value: Any) -> Any:
    if export.can_predict(value):
        return estimator.export.PredictOutput(value)
    return value

"""From what a model author writes down as metrics to `eval_metric_ops`."""

from __future__ import annotations

import inspect
from typing import Any, Mapping

from estimator_spec_ext import describe
from estimator_spec_ext.compat import distribution, tf


def eval_metric_ops(metrics_fn: Any, labels: Any, predictions: Any) -> Any:
    """The metrics of a model, ready for an EVAL spec.

    Args:
      metrics_fn: None; or a function `(labels, predictions)` that returns a dict; or a dict. The
        values of the dict are `(value, update_op)`, a `tf.keras.metrics.Metric`, or what makes one
        of these: a Metric class, a function without arguments, a function
        `(labels, predictions)`. A Keras metric that was not updated yet is updated with labels and
        predictions.
      labels: a tensor, or a dict of them.
      predictions: a tensor, or a dict of them.

    Returns:
      A dict for `eval_metric_ops`; None for None. A value of any other kind is handed on, for the
      spec to refuse by name.

    Raises:
      ValueError: when a Keras metric belongs to another graph, or there are several labels or
        predictions to update it with.
    """
    if metrics_fn is None:
        return None
    metrics = metrics_fn
    if not isinstance(metrics_fn, Mapping) and callable(metrics_fn):
        metrics = metrics_fn(labels, predictions)
    if not isinstance(metrics, Mapping):
        return metrics
    return {name: _metric(name, value, labels, predictions) for name, value in metrics.items()}


def _metric(name: Any, value: Any, labels: Any, predictions: Any) -> Any:
    if callable(value) and not isinstance(value, tf.keras.metrics.Metric):
        value = value() if _needs_no_arguments(value) else value(labels, predictions)
    if not isinstance(value, tf.keras.metrics.Metric):
        return value
    field = describe.entry('metrics_fn', name)
    if not all(map(distribution.in_default_graph, value.variables)):
        raise ValueError(f'{field}, {describe.value(value)}, was made in another graph; pass its '
                         'class, or a function that makes it')
    if not value.updates:
        value.update_state(_only(labels, 'labels', field), _only(predictions, 'predictions', field))
    return value


def _needs_no_arguments(function: Any) -> bool:
    if isinstance(function, type):
        return True
    try:
        inspect.signature(function).bind()
    except (TypeError, ValueError):  # it needs some, or is written in C and does not tell
        return False
    return True


def _only(values: Any, what: str, field: str) -> Any:
    """The one tensor among labels or predictions."""
    if not isinstance(values, Mapping):
        return values
    if len(values) == 1:
        return next(iter(values.values()))
    raise ValueError(f'{field} is a Keras metric, and there are several {what}: '
                     f'{", ".join(map(describe.key, values))}; update it yourself, e.g. '
                     f"metric.update_state(labels, predictions['...'])")

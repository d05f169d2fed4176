"""Checks without building: for any spec, and for hooks alone."""

from __future__ import annotations

from typing import Any, Iterable, Mapping, Optional

from estimator_spec_ext import engine, facts, tpu
from estimator_spec_ext.compat import EstimatorSpec, TPUEstimatorSpec, do_not_convert, tf
from estimator_spec_ext.diagnostics import Report
from estimator_spec_ext.hooks import FIELDS_OF_MODE

_HOOK_RULES = 'ESX6'


@do_not_convert
def validate_estimator_spec(spec: Any, *, graph: Any = None,
                            suppress: Optional[Mapping[str, str]] = None) -> Report:
    """Checks any spec, stock or strict, and says what it found without raising.

    Args:
      spec: a `tf.estimator.EstimatorSpec` or a subclass, or a `TPUEstimatorSpec`, whose functions
        are then called, as they are to run it on a CPU.
      graph: its graph; None for the graph of its tensors.
      suppress: reasons by slug or code of a rule.

    Returns:
      A `Report` of depth 'graph'. A suppression that matched nothing is a warning in it.

    Raises:
      TypeError: when `spec` is no spec.

    Example:
      >>> with tf.Graph().as_default():
      ...     p = tf.compat.v1.placeholder(tf.float32, [None, 3])
      ...     spec = tf.estimator.EstimatorSpec('infer', predictions={'p': p})
      >>> validate_estimator_spec(spec).ok
      True
    """
    if isinstance(spec, TPUEstimatorSpec):
        with _graph_or_default(graph or _graph_of_values(spec)):
            return engine.check(tpu.called_facts(spec), suppress=suppress, strict_unused=True)
    if not isinstance(spec, EstimatorSpec):
        raise TypeError(f'expected a tf.estimator.EstimatorSpec, got {type(spec).__name__}')
    fields = spec._asdict()
    mode = fields.pop('mode')
    with _graph_or_default(graph or _graph_of_values(spec)):
        return engine.check(facts.SpecFacts(mode, fields), suppress=suppress, strict_unused=True)


@do_not_convert
def validate_hooks(hooks: Iterable[Any], *, mode: str,
                   graph: Any = None) -> Report:
    """Checks hooks alone, as if they were those of a spec.

    Args:
      hooks: `tf.compat.v1.train.SessionRunHook`s; their `begin` is not called.
      mode: the `tf.estimator.ModeKeys` value of the session in which they will run.
      graph: the graph of that session; None for the default graph.

    Returns:
      A `Report` with the findings about hooks.

    Raises:
      ValueError: when `mode` is no mode.

    Example:
      >>> with tf.Graph().as_default():
      ...     hook = tf.compat.v1.train.StopAtStepHook(last_step=3)
      ...     validate_hooks([hook], mode='train').ok
      True
    """
    if not isinstance(mode, str) or mode not in FIELDS_OF_MODE:
        raise ValueError(f"mode must be 'train', 'eval' or 'infer', got {mode!r}")
    field = FIELDS_OF_MODE[mode][-1]
    given = tuple(hooks) if hasattr(hooks, '__next__') else hooks
    with _graph_or_default(graph):
        return engine.check(facts.SpecFacts(mode, {field: given}), family=_HOOK_RULES)


def _graph_or_default(graph: Optional[tf.Graph]) -> Any:
    return (graph or tf.compat.v1.get_default_graph()).as_default()


def _graph_of_values(spec: Any) -> Optional[tf.Graph]:
    """The graph of the first op or tensor among the fields."""
    from estimator_spec_ext.compat import graphs
    held = spec.predictions
    values = list(held.values()) if isinstance(held, dict) else [held]
    for value in [spec.loss, spec.train_op, *values]:
        graph = graphs.graph_of(value)
        if graph is not None:
            return graph
    return None

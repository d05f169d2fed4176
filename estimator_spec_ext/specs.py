"""`StrictEstimatorSpec`: stock's class, with every fault reported at once."""

from __future__ import annotations

import copy
from typing import Any, Callable, Iterable, Mapping, Optional, TypeVar

from estimator_spec_ext import describe, engine, export, facts, registry
from estimator_spec_ext.compat import (
    EstimatorSpec,
    distribution,
    do_not_convert,
    graphs,
    stock,
    tf,
)
from estimator_spec_ext.diagnostics import Report

_Spec = TypeVar('_Spec')


class StrictEstimatorSpec(EstimatorSpec):
    """A `tf.estimator.EstimatorSpec` that tells all its faults when it is built.

    Same fields, same order, same result as stock's class, so the name can be exchanged in any
    model_fn and nothing else changes. It adds checks, and in PREDICT the export signatures that
    serving needs (see `default_export_outputs`). What the caller hands in is never changed.

    A loss of unknown static shape is returned behind a run-time assertion; the graph is not
    changed otherwise.

    Args:
      mode: a `tf.estimator.ModeKeys` value.
      predictions: a tensor or a dict of tensors; required in PREDICT.
      loss: a floating scalar, shape () or (1,); required in TRAIN and EVAL.
      train_op: an op, tensor or variable; required in TRAIN.
      eval_metric_ops: a dict from name to `(value, update_op)` or a `tf.keras.metrics.Metric`.
      export_outputs: a dict from name to `tf.estimator.export.ExportOutput`, for PREDICT.
      training_chief_hooks: hooks for the chief alone, in TRAIN.
      training_hooks: hooks for every worker, in TRAIN.
      scaffold: a `tf.compat.v1.train.Scaffold`.
      evaluation_hooks: hooks for EVAL.
      prediction_hooks: hooks for PREDICT.
      suppress: a mapping from the slug or code of a rule to the reason why it does not apply here.

    Raises:
      EstimatorSpecError: (a ValueError) with every finding, when at least one is an error.
      EstimatorSpecTypeError: (an EstimatorSpecError and a TypeError) where stock raises TypeError.

    Example:
      >>> with tf.Graph().as_default():
      ...     p = tf.compat.v1.placeholder(tf.float32, [None, 3])
      ...     spec = StrictEstimatorSpec('infer', predictions={'p': p})
      >>> list(spec.export_outputs)
      ['serving_default']
    """

    def __new__(cls, mode: Any, predictions: Any = None, loss: Any = None, train_op: Any = None,
                eval_metric_ops: Any = None, export_outputs: Any = None,
                training_chief_hooks: Any = None, training_hooks: Any = None, scaffold: Any = None,
                evaluation_hooks: Any = None, prediction_hooks: Any = None, *,
                suppress: Optional[Mapping[str, str]] = None) -> 'StrictEstimatorSpec':
        fields = dict(
            predictions=predictions, loss=loss, train_op=train_op,
            eval_metric_ops=own(eval_metric_ops), export_outputs=own(export_outputs),
            training_chief_hooks=own_hooks(training_chief_hooks),
            training_hooks=own_hooks(training_hooks), scaffold=scaffold,
            evaluation_hooks=own_hooks(evaluation_hooks),
            prediction_hooks=own_hooks(prediction_hooks))
        return build(cls, mode, fields, suppress=suppress)

    def _replace(self, **changes: Any) -> 'StrictEstimatorSpec':
        """A new spec of the same class; see `replace`."""
        return replace(self, **changes)


def build(cls: Any, mode: Any, fields: dict[str, Any], *,
          suppress: Optional[Mapping[str, str]] = None,
          context: facts.JobContext = facts.NO_CONTEXT,
          make_facts: Callable[..., facts.SpecFacts] = facts.SpecFacts) -> Any:
    """Checks the fields and builds a strict spec of class `cls` from them.

    Args:
      cls: `StrictEstimatorSpec` or a subclass of it.
      mode: the mode.
      fields: the other ten fields by name; the dict and its containers are the callee's.
      suppress: reasons by rule.
      context: what is known of the job.
      make_facts: makes the facts of mode, fields and context.

    Returns:
      The spec.

    Raises:
      EstimatorSpecError: when there are errors.
    """
    with engine.paused_gc():  # until the facts, which a spec does not keep, are gone
        return _build(cls, mode, fields, suppress, context, make_facts)


def _build(cls: Any, mode: Any, fields: dict[str, Any], suppress: Optional[Mapping[str, str]],
           context: facts.JobContext, make_facts: Callable[..., facts.SpecFacts]) -> Any:
    if facts.mode_text(mode) == 'infer':
        fields['export_outputs'] = complete_export_outputs(
            fields['export_outputs'], fields['predictions'])
    spec_facts = make_facts(mode, fields, context=facts.completed(context))

    def make() -> Any:
        # Stock writes into the dicts that it gets, and the rules read ours.
        return super(StrictEstimatorSpec, cls).__new__(cls, mode, **{
            **fields, 'eval_metric_ops': own(fields['eval_metric_ops']),
            'export_outputs': own(fields['export_outputs'])})

    if stock.adds_no_op(fields):
        spec_facts.constructor = make
    refuse_or_log(spec_facts, suppress=suppress)
    if spec_facts.made is not None:
        return spec_facts.made
    fields['loss'] = guarded_loss(fields['loss'], spec_facts.mode_text)
    return construct(spec_facts, make)


def refuse_or_log(spec_facts: facts.SpecFacts, *, suppress: Optional[Mapping[str, str]],
                  stages: tuple[str, ...] = engine.SPEC_STAGES,
                  refusals: Iterable[Any] = ()) -> None:
    """Runs the rules; raises when there are errors, and logs the warnings otherwise.

    Args:
      spec_facts: the facts of the spec that is being built.
      suppress: reasons by rule.
      stages: the stages of the rules to run.
      refusals: what stock raises beside `spec_facts.stock_refusals`.

    Raises:
      EstimatorSpecError: when there are errors.
    """
    report = engine.check(spec_facts, suppress=suppress, stages=stages)
    if not report.ok:
        refused = [*spec_facts.stock_refusals.values(), *refusals]
        type_error = any(isinstance(error, TypeError) for error in refused)
        raise report.to_error(type_error=type_error)
    engine.log_warnings(report)


def construct(spec_facts: facts.SpecFacts, make: Callable[[], Any]) -> Any:
    """Calls stock's constructor, when nothing is left that it should refuse.

    Args:
      spec_facts: the facts of the spec that is being built.
      make: calls the constructor.

    Returns:
      What `make` returns.

    Raises:
      EstimatorSpecError: when stock raises all the same.
    """
    try:
        return make()
    except Exception as error:
        # E.g. an object that answers stock's second question otherwise than its first.
        rule = registry.find('stock-refuses')
        assert rule is not None
        found = rule.finding(
            spec_facts, f'TensorFlow refuses the spec: {describe.error_text(error)}',
            hint='pass what tf.estimator.EstimatorSpec takes')
        raise Report(findings=(found,)).to_error(type_error=isinstance(error, TypeError)) from error


def complete_export_outputs(export_outputs: Any, predictions: Any) -> Any:
    """`export.complete_export_outputs`, where what cannot be read stays as it is."""
    try:
        return export.complete_export_outputs(export_outputs, predictions)
    except Exception:  # noqa: BLE001 - the rules will name what is wrong with it
        return export_outputs


def own(value: Any) -> Any:
    """A dict of our own with the caller's items: stock changes the one that it gets."""
    try:
        if not isinstance(value, dict):
            return value
        try:
            return copy.copy(value)  # keeps an OrderedDict what it is
        except Exception:  # noqa: BLE001 - a dict of the user's may take other arguments
            return dict(value)
    except Exception:  # noqa: BLE001 - what cannot be read is refused later, by name
        return value


def own_hooks(value: Any) -> Any:
    """The caller's hooks, in a list of our own; an iterator is read, since it gives them once."""
    if type(value) in (list, set):
        return value.copy()
    if not hasattr(type(value), '__next__'):
        return value
    try:
        return tuple(value)
    except Exception as error:  # noqa: BLE001 - the iterator is the user's code
        return UnreadableHooks(error)


class UnreadableHooks:
    """In the place of an iterator that raised: it raises again, so that stock refuses it."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __iter__(self) -> Any:
        raise self._error


def guarded_loss(loss: Any, mode: Any) -> Any:
    """The loss behind an assertion that it is one number, where its static shape does not say so.

    Args:
      loss: the loss; anything that is no tensor of unknown rank is returned as it is.
      mode: nothing is added outside of TRAIN and EVAL, nor under a TPU rewrite.

    Returns:
      A scalar tensor that fails with the loss's name and real shape when it is run, or `loss`.
    """
    if (mode not in ('train', 'eval') or distribution.is_per_replica(loss)
            or not graphs.is_tensor(loss) or loss.shape.rank is not None
            or tf.executing_eagerly()):
        return loss
    if graphs.in_xla_rewrite(tf.compat.v1.get_default_graph()):
        return loss
    # Without quotes, which TensorFlow would escape.
    text = f'loss {loss.name} must be one number, of shape () or (1,); its shape is now'
    with tf.name_scope('strict_loss'):
        check = tf.debugging.Assert(tf.equal(tf.size(loss), 1), [text, tf.shape(loss)])
        with tf.control_dependencies([check]):
            return tf.reshape(loss, [], name='checked')


@do_not_convert
def replace(spec: _Spec, **changes: Any) -> _Spec:
    """A new spec of the same class with some fields changed and all others kept.

    Stock's own `_replace` returns the base class and ignores names that it does not know.

    Args:
      spec: any `EstimatorSpec` or `TPUEstimatorSpec`.
      **changes: fields by name.

    Returns:
      A spec of `type(spec)`, checked again when that is a strict one.

    Raises:
      ValueError: for a name that is no field, or another mode.
      EstimatorSpecError: when the new spec has errors.

    Example:
      >>> with tf.Graph().as_default():
      ...     p = tf.compat.v1.placeholder(tf.float32, [None])
      ...     spec = StrictEstimatorSpec('infer', predictions={'p': p})
      ...     hook = tf.compat.v1.train.StepCounterHook(output_dir=None, summary_writer=object())
      ...     new = replace(spec, prediction_hooks=[hook])
      >>> type(new).__name__, len(new.prediction_hooks)
      ('StrictEstimatorSpec', 1)
    """
    old: Any = spec
    unknown = sorted(set(changes) - set(old._fields))
    if unknown:
        raise ValueError(f'{type(old).__name__} has no field {", ".join(map(repr, unknown))}; '
                         f'its fields are {", ".join(old._fields)}')
    if changes.get('mode', old.mode) != old.mode:
        raise ValueError('mode of EstimatorSpec cannot be changed.')
    return type(old)(**{**old._asdict(), **changes})

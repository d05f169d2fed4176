"""`StrictTPUEstimatorSpec`: the TPU spec, which many model_fns return while they run on a CPU."""

from __future__ import annotations

from typing import Any, Mapping, Optional

from estimator_spec_ext import engine, facts, specs
from estimator_spec_ext.compat import TPUEstimatorSpec, do_not_convert, graphs, tf, v1
from estimator_spec_ext.compat import tpu as compat_tpu
from estimator_spec_ext.tpu_facts import CALL_FIELDS, Called, TPUFacts

_HOOK_FIELDS = ('training_hooks', 'evaluation_hooks', 'prediction_hooks')
# What it shares with an EstimatorSpec.
_SHARED = ('predictions', 'loss', 'train_op', 'export_outputs', *_HOOK_FIELDS)


class StrictTPUEstimatorSpec(TPUEstimatorSpec):
    """A `tf.compat.v1.estimator.tpu.TPUEstimatorSpec` that tells all its faults when it is built.

    Same fields, same order, same result as stock's class. The functions of `eval_metrics`,
    `host_call` and `scaffold_fn` are looked at, and called in `as_estimator_spec` alone.

    Args:
      mode: a `tf.estimator.ModeKeys` value.
      predictions: a dict of tensors; required in PREDICT.
      loss: a floating scalar, shape () or (1,); required in TRAIN and EVAL.
      train_op: an op, tensor or variable; required in TRAIN.
      eval_metrics: `(metric_fn, tensors)`: a function that returns a dict of metrics, and what it
        is given, a list by position or a dict by name; tensors of shape (batch, ...).
      export_outputs: a dict from name to `tf.estimator.export.ExportOutput`, for PREDICT.
      scaffold_fn: a function without arguments that returns a `tf.compat.v1.train.Scaffold`.
      host_call: `(function, tensors)` like `eval_metrics`; the function runs with every step and
        returns a list of tensors or ops.
      training_hooks: hooks for TRAIN.
      evaluation_hooks: hooks for EVAL.
      prediction_hooks: hooks for PREDICT.
      suppress: a mapping from the slug or code of a rule to the reason why it does not apply here.

    Raises:
      EstimatorSpecError: (a ValueError) with every finding, when at least one is an error.
      EstimatorSpecTypeError: (an EstimatorSpecError and a TypeError) where stock raises TypeError.

    Example:
      >>> def metric_fn(labels, predictions):
      ...     return {'error': tf.compat.v1.metrics.mean_absolute_error(labels, predictions)}
      >>> with tf.Graph().as_default():
      ...     y = tf.compat.v1.placeholder(tf.float32, [None, 1])
      ...     spec = StrictTPUEstimatorSpec(
      ...         'eval', loss=tf.reduce_mean(y),
      ...         eval_metrics=(metric_fn, {'labels': y, 'predictions': y}))
      ...     plain = spec.as_estimator_spec()
      >>> type(plain).__name__, list(plain.eval_metric_ops)
      ('StrictEstimatorSpec', ['error'])
    """

    def __new__(cls, mode: Any, predictions: Any = None, loss: Any = None, train_op: Any = None,
                eval_metrics: Any = None, export_outputs: Any = None, scaffold_fn: Any = None,
                host_call: Any = None, training_hooks: Any = None, evaluation_hooks: Any = None,
                prediction_hooks: Any = None, *,
                suppress: Optional[Mapping[str, str]] = None) -> 'StrictTPUEstimatorSpec':
        fields = dict(
            predictions=predictions, loss=loss, train_op=train_op, eval_metrics=eval_metrics,
            export_outputs=export_outputs, scaffold_fn=scaffold_fn, host_call=host_call,
            training_hooks=training_hooks, evaluation_hooks=evaluation_hooks,
            prediction_hooks=prediction_hooks)
        return build(cls, mode, fields, suppress=suppress)

    @do_not_convert
    def as_estimator_spec(self) -> specs.StrictEstimatorSpec:
        """The equivalent spec for a CPU; its functions are called here.

        Returns:
          A `StrictEstimatorSpec`.

        Raises:
          EstimatorSpecError: with every finding, also about what the functions returned or raised.
        """
        known = vars(self)  # a copy made by `_make` has none of this
        suppress, context = known.get('_suppress'), known.get('_context', facts.NO_CONTEXT)
        summaries = compat_tpu.summaries()
        results = call_functions(self)
        fields = plain_fields(self, results)
        fields['loss'] = compat_tpu.traced_loss(self.loss, self.train_op)

        def make_facts(mode: Any, fields: Any, *, context: facts.JobContext) -> TPUFacts:
            return _facts(mode, fields, self._asdict(), context, results)

        errors = [result.error for result in results.values() if result.error is not None]
        compat_tpu.note_conversion(compat_tpu.Conversion(
            self, {field: (result.value, result.summaries) for field, result in results.items()},
            summaries))
        try:
            return specs.build(specs.StrictEstimatorSpec, self.mode, fields, suppress=suppress,
                               context=context, make_facts=make_facts)
        except ValueError as error:
            if errors:
                raise error from errors[0]
            raise

    def _replace(self, **changes: Any) -> 'StrictTPUEstimatorSpec':
        """A new spec of the same class; see `replace`."""
        return specs.replace(self, **changes)


@do_not_convert
def build(cls: Any, mode: Any, fields: dict[str, Any], *,
          suppress: Optional[Mapping[str, str]] = None,
          context: facts.JobContext = facts.NO_CONTEXT) -> Any:
    """Checks the fields and builds a strict TPU spec of class `cls` from them.

    Args:
      cls: `StrictTPUEstimatorSpec` or a subclass of it.
      mode: the mode.
      fields: the other ten fields by name.
      suppress: reasons by rule.
      context: what is known of the job.

    Returns:
      The spec.

    Raises:
      EstimatorSpecError: when there are errors.
    """
    fields = {**fields, 'export_outputs': specs.own(fields['export_outputs']),
              **{name: specs.own_hooks(fields[name]) for name in _HOOK_FIELDS}}
    if facts.mode_text(mode) == 'infer':
        fields['export_outputs'] = specs.complete_export_outputs(
            fields['export_outputs'], fields['predictions'])
    stages: tuple[str, ...] = engine.SPEC_STAGES
    if not tf.executing_eagerly() and graphs.in_xla_rewrite(v1.get_default_graph()):
        # Around the model is a loop that is still being built.
        stages = tuple(stage for stage in stages if stage != 'graph')
    tpu_facts = _facts(mode, fields, fields, facts.completed(context))
    refusals = [compat_tpu.refusal(name, call) for name, call in tpu_facts.calls.items()
                if call is not None]
    specs.refuse_or_log(tpu_facts, suppress=suppress, stages=stages, refusals=refusals)
    spec = specs.construct(tpu_facts, lambda: super(StrictTPUEstimatorSpec, cls).__new__(
        cls, mode, **fields))
    spec._suppress, spec._context = suppress, context
    return spec


def _facts(mode: Any, fields: Mapping[str, Any], given: Mapping[str, Any],
           context: facts.JobContext, results: Any = None) -> TPUFacts:
    return TPUFacts(mode, fields, calls=given, scaffold_fn=given['scaffold_fn'],
                    results=results, context=context)


@do_not_convert
def called_facts(spec: Any) -> TPUFacts:
    """The facts of any TPU spec as a CPU sees it; calls its functions, which add ops."""
    results = call_functions(spec)
    return _facts(spec.mode, plain_fields(spec, results), spec._asdict(), facts.NO_CONTEXT, results)


def call_functions(spec: Any) -> dict[str, Called]:
    """Calls the functions of a TPU spec, in the order in which stock does."""
    results = {}
    for field in CALL_FIELDS:
        call = getattr(spec, field)
        if call is not None and compat_tpu.refusal(field, call) is None:
            function, tensors = call
            if isinstance(tensors, dict):
                results[field] = _called(function, (), tensors)
            else:
                results[field] = _called(function, tensors, {})
    if spec.scaffold_fn:
        results['scaffold_fn'] = _called(spec.scaffold_fn, (), {})
    return results


def _called(function: Any, positional: Any, named: Any) -> Called:
    before = len(v1.get_collection(v1.GraphKeys.SUMMARIES))
    value, failure = None, None
    try:
        value = function(*positional, **named)
    except Exception as error:  # noqa: BLE001 - reported with everything else that is wrong
        failure = error
    made = v1.get_collection(v1.GraphKeys.SUMMARIES)[before:]
    return Called(value, failure, tuple(made))


def plain_fields(spec: Any, results: Mapping[str, Called]) -> dict[str, Any]:
    """The ten fields, beside the mode, of the `EstimatorSpec` that a CPU runs."""
    fields = {name: getattr(spec, name) for name in _SHARED}
    metrics, host_call = results.get('eval_metrics'), results.get('host_call')
    if host_call is not None and host_call.error is None:
        hook = compat_tpu.host_call_hook(host_call.value)
        for name in _HOOK_FIELDS:
            fields[name] = (*(fields[name] or ()), hook)
    scaffold = results.get('scaffold_fn')
    return {**fields, 'training_chief_hooks': None,
            'eval_metric_ops': specs.own(metrics.value) if metrics is not None else None,
            'scaffold': scaffold.value if scaffold is not None else None}

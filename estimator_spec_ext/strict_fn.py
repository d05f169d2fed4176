"""`strict_model_fn`: makes the result of any model_fn strict."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from typing import Any, Callable, Mapping, Optional

from estimator_spec_ext import engine, facts, specs, tpu
from estimator_spec_ext.agreement import hook
from estimator_spec_ext.compat import (
    EstimatorSpec,
    ModeKeys,
    TPUEstimatorSpec,
    do_not_convert,
    keras_layers,
    tf,
)


def strict_model_fn(model_fn: Optional[Callable[..., Any]] = None, *,
                    suppress: Optional[Mapping[str, str]] = None,
                    agreement: bool = False) -> Callable[..., Any]:
    """Wraps or decorates a model_fn, so that the spec it returns is checked strictly.

    The wrapped function keeps its signature, since Estimator looks at the names of the arguments.
    It may return a stock spec, a head's or a canned estimator's, or a strict one.

    Args:
      model_fn: the function; None when used as a decorator with arguments.
      suppress: reasons by slug or code of a rule.
      agreement: in a job in which several roles train, add a `GraphAgreementHook`, which stops all
        of them when they have built different graphs.

    Returns:
      A model_fn that returns a `StrictEstimatorSpec` and raises `EstimatorSpecError`.

    Raises:
      TypeError: when `model_fn` is not callable.

    Example:
      >>> @strict_model_fn
      ... def model_fn(features, labels, mode):
      ...     return tf.estimator.EstimatorSpec(mode, predictions={'p': features})
      >>> with tf.Graph().as_default():
      ...     spec = model_fn(tf.compat.v1.placeholder(tf.float32, [None]), None, 'infer')
      >>> type(spec).__name__
      'StrictEstimatorSpec'
    """
    if model_fn is None:
        return functools.partial(strict_model_fn, suppress=suppress, agreement=agreement)
    if not callable(model_fn):
        raise TypeError(f'model_fn must be callable, got {type(model_fn).__name__}')
    signature = inspect.signature(model_fn)
    shown = _with_config(signature) if agreement else signature

    @functools.wraps(model_fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        config = _argument(shown, args, kwargs, 'config')
        if shown is not signature:
            kwargs = {name: value for name, value in kwargs.items() if name != 'config'}
        with keras_layers.kept():
            spec = model_fn(*args, **kwargs)
            params = _argument(shown, args, kwargs, 'params')
            return make_strict(spec, suppress=suppress, context=_context(config, params),
                               hooks=_agreement_hooks(config) if agreement else ())

    # Estimator asks getfullargspec, which does not follow __wrapped__.
    wrapped.__signature__ = shown  # type: ignore[attr-defined]
    return wrapped


@do_not_convert
def _context(config: Any, params: Any) -> facts.JobContext:
    """What the arguments of model_fn tell of the job; TPUEstimator tells the size of a batch."""
    known = params.get('batch_size') if isinstance(params, dict) else None
    return dataclasses.replace(
        facts.context_of(config), batch_size=known if type(known) is int else None)


def _with_config(signature: inspect.Signature) -> inspect.Signature:
    """The signature with an argument `config`: Estimator passes it to those that name it."""
    parameters = list(signature.parameters.values())
    if 'config' in signature.parameters:
        return signature
    usual = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    place = sum(parameter.kind in usual for parameter in parameters)
    parameters.insert(place, inspect.Parameter(
        'config', inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None))
    return signature.replace(parameters=parameters)


@do_not_convert
def _agreement_hooks(config: Any) -> tuple[Any, ...]:
    return hook.automatic_hooks(getattr(config, 'model_dir', None))


@do_not_convert
def _argument(signature: inspect.Signature, args: Any, kwargs: Any, name: str) -> Any:
    try:
        return signature.bind_partial(*args, **kwargs).arguments.get(name)
    except TypeError:
        return None


@do_not_convert
def make_strict(spec: Any, *, suppress: Optional[Mapping[str, str]] = None,
                context: facts.JobContext = facts.NO_CONTEXT,
                hooks: tuple[Any, ...] = ()) -> Any:
    """A strict spec of any spec; what is no spec is handed on, for Estimator to refuse.

    Args:
      spec: what a model_fn returned.
      suppress: reasons by slug or code of a rule.
      context: what is known of the job.
      hooks: further training_hooks; other modes do without.

    Returns:
      A strict spec, or `spec`.
    """
    for_tpu = isinstance(spec, TPUEstimatorSpec)
    if not for_tpu and not isinstance(spec, EstimatorSpec):
        return spec
    fields = spec._asdict()
    mode = fields.pop('mode')
    if hooks and mode == ModeKeys.TRAIN:
        fields['training_hooks'] = (*(fields['training_hooks'] or ()), *hooks)
    cls: Any = tpu.StrictTPUEstimatorSpec if for_tpu else specs.StrictEstimatorSpec
    if isinstance(spec, cls):
        cls = type(spec)
        # What the constructor was told to suppress is suppressed here too.
        known = engine.reasons(tf.compat.v1.get_default_graph())
        reasons = {name: reason for name, (reason, matched) in known.items() if matched}
        suppress = {**reasons, **suppress} if isinstance(suppress, Mapping) else suppress or reasons
    build = tpu.build if for_tpu else specs.build
    return build(cls, mode, fields, suppress=suppress, context=context)

"""Export signatures: the defaults that a strict spec adds, and the dry signature build."""

from __future__ import annotations

from typing import Any, Mapping, Optional

from estimator_spec_ext.compat import estimator, graphs, tf

DEFAULT_KEY = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
PREDICT_KEY = 'predict'

_NOT_SERVABLE = (tf.resource, tf.variant)


def is_servable(value: Any) -> bool:
    """Whether a value can be an output of a signature: a dense tensor that a session can fetch."""
    return (graphs.is_tensor(value) and not graphs.is_composite(value)
            and value.dtype.base_dtype not in _NOT_SERVABLE)


def flat_key(key: Any) -> Optional[str]:
    """The name of an output in the signature: tuples are joined with '/', None if it has none."""
    if isinstance(key, tuple) and all(isinstance(part, str) for part in key):
        return '/'.join(key)
    return key if isinstance(key, str) else None


def default_export_outputs(predictions: Any) -> dict[str, Any]:
    """The export signatures that `StrictEstimatorSpec` adds by itself in PREDICT.

    Args:
      predictions: a `tf.Tensor` of any dtype and shape, or a dict of them by string key (or tuple
        of strings, joined with '/').

    Returns:
      `{'serving_default': PredictOutput(predictions)}`.

    Raises:
      EstimatorSpecError: (a ValueError) naming each key that is no string, each two keys that
        become one name, and each value that no signature can hold.

    Example:
      >>> with tf.Graph().as_default():
      ...     outputs = default_export_outputs({'p': tf.constant([1.])})
      >>> list(outputs), list(outputs['serving_default'].outputs)
      (['serving_default'], ['p'])
    """
    from estimator_spec_ext import engine, facts
    report = engine.check(facts.SpecFacts('infer', {'predictions': predictions}),
                          stages=('spec', 'stock'))
    report.raise_for_errors()
    return {DEFAULT_KEY: estimator.export.PredictOutput(predictions)}


def complete_export_outputs(export_outputs: Any, predictions: Any) -> Any:
    """The export outputs of a PREDICT spec with what they lack; a new dict, never the caller's.

    - None becomes `serving_default`, a PredictOutput of the predictions (as stock does).
    - Several outputs without a default get that one.
    - Where every output is one that TensorFlow drops for a raw receiver (classification and
      regression want one string tensor), `predict` is added: it can always be served.
    """
    if export_outputs is None:
        return None  # stock's own default is the same PredictOutput
    if not isinstance(export_outputs, Mapping):
        return export_outputs
    outputs = dict(export_outputs)
    if not outputs or not can_predict(predictions):
        return outputs
    predict_output = estimator.export.PredictOutput
    if len(outputs) > 1 and DEFAULT_KEY not in outputs:
        outputs[DEFAULT_KEY] = predict_output(predictions)
    if (PREDICT_KEY not in outputs
            and not any(isinstance(value, predict_output) for value in outputs.values())
            and all(isinstance(value, estimator.export.ExportOutput)
                    for value in outputs.values())):
        if len(outputs) == 1 and DEFAULT_KEY not in outputs:
            # Stock makes a single output the default; with a second one beside it, we must.
            outputs[DEFAULT_KEY] = next(iter(outputs.values()))
        outputs[PREDICT_KEY] = predict_output(predictions)
    return outputs


def can_predict(predictions: Any) -> bool:
    """Whether a PredictOutput of these predictions can be made and served."""
    if not isinstance(predictions, dict):
        return is_servable(predictions)
    names = [flat_key(key) for key in predictions]
    return (bool(names) and None not in names and len(set(names)) == len(names)
            and all(is_servable(value) for value in predictions.values()))

"""Export signatures: the defaults that a strict spec adds to those of the author."""

from __future__ import annotations

import copy
import weakref
from typing import Any, Iterator, Optional

from estimator_spec_ext.compat import do_not_convert, estimator, tf

DEFAULT_KEY = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
PREDICT_KEY = 'predict'

_NOT_SERVABLE = (tf.resource, tf.variant)
_EXAMPLE_OUTPUTS = (estimator.export.ClassificationOutput, estimator.export.RegressionOutput)
# What this module has added to somebody's export outputs; rules judge the author's own alone.
_ADDED: 'weakref.WeakSet[Any]' = weakref.WeakSet()


def is_servable(value: Any) -> bool:
    """Whether a value can be an output of a signature: a dense tensor that a session can fetch."""
    return isinstance(value, tf.Tensor) and value.dtype.base_dtype not in _NOT_SERVABLE


def flat_key(key: Any) -> Optional[str]:
    """The name of an output in the signature: tuples are joined with '/', None if it has none."""
    if isinstance(key, tuple) and all(isinstance(part, str) for part in key):
        return '/'.join(key)
    return key if isinstance(key, str) else None


@do_not_convert
def default_export_outputs(predictions: Any) -> dict[str, Any]:
    """The export signatures that `StrictEstimatorSpec` adds by itself in PREDICT.

    Args:
      predictions: a `tf.Tensor` of any dtype and shape, or a dict of them by string key (or tuple
        of strings, joined with '/').

    Returns:
      `{'serving_default': PredictOutput(predictions)}`; a bare tensor gets the name 'output'.

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
    """The export outputs of a PREDICT spec with what they lack; never the caller's dict.

    - None stays: stock makes of it a `serving_default` with all predictions.
    - Several outputs without a default get that one as well.
    - Where all are classifications and regressions, which TensorFlow exports for a receiver of
      one string tensor alone, `predict` is added: it can always be served.

    Args:
      export_outputs: as the author gave them.
      predictions: as the author gave them; nothing is added if no signature can hold them.

    Returns:
      A new dict of the same type; what is no dict is returned as it is, for stock to refuse.
    """
    if not isinstance(export_outputs, dict) or not export_outputs:
        return export_outputs
    outputs = _copy(export_outputs)
    if not can_predict(predictions):
        return outputs
    if len(outputs) > 1 and DEFAULT_KEY not in outputs:
        outputs[DEFAULT_KEY] = _predict_output(predictions)
    elif PREDICT_KEY not in outputs and all(isinstance(value, _EXAMPLE_OUTPUTS)
                                            for value in outputs.values()):
        if DEFAULT_KEY not in outputs:
            # Stock makes a single output the default; with a second one beside it, we must.
            outputs[DEFAULT_KEY] = next(iter(outputs.values()))
        outputs[PREDICT_KEY] = _predict_output(predictions)
    return outputs


def was_added(output: Any) -> bool:
    """Whether an `ExportOutput` was added by `complete_export_outputs`."""
    return type(output) is estimator.export.PredictOutput and output in _ADDED


def _predict_output(predictions: Any) -> Any:
    output = estimator.export.PredictOutput(predictions)
    _ADDED.add(output)
    return output


def _copy(outputs: dict[Any, Any]) -> dict[Any, Any]:
    try:
        return copy.copy(outputs)
    except Exception:  # noqa: BLE001 - a dict of the user's may refuse to be copied
        return dict(outputs)


def can_predict(predictions: Any) -> bool:
    """Whether a PredictOutput of these predictions can be made and served."""
    if not isinstance(predictions, dict):
        return is_servable(predictions)
    names = [flat_key(key) for key in predictions]
    return (bool(names) and None not in names and len(set(names)) == len(names)
            and all(is_servable(value) for value in predictions.values()))


def tensors_of(output: Any) -> Iterator[tuple[str, Any]]:
    """Name and value of each tensor that TensorFlow's own kinds of `ExportOutput` hold.

    Args:
      output: an `ExportOutput`; nothing is known of the author's own kinds.

    Yields:
      (name, tensor), e.g. ('scores', ...) for a classification, the keys of a PredictOutput.
    """
    export = estimator.export
    if isinstance(output, export.PredictOutput):
        yield from output.outputs.items()
    elif isinstance(output, export.ClassificationOutput):
        for name, tensor in (('scores', output.scores), ('classes', output.classes)):
            if tensor is not None:
                yield name, tensor
    elif isinstance(output, export.RegressionOutput):
        yield 'value', output.value

"""The signatures of an export, with TensorFlow's own reason for each that it drops."""

from __future__ import annotations

from typing import Any, Mapping

import tensorflow as tf
from tensorflow.python.saved_model import signature_def_utils as _signature_def_utils
from tensorflow.python.saved_model.model_utils import export_output as _export_output
from tensorflow.python.saved_model.model_utils import export_utils as _export_utils

from estimator_spec_ext.compat.logs import quiet_logs

_NOT_VALID = 'its inputs or outputs are not what its method takes'


def receiver_map(receiver_tensors: Any) -> dict[str, Any]:
    """The receiver's tensors by name, as the signature will name them."""
    if isinstance(receiver_tensors, Mapping):
        return dict(receiver_tensors)
    return {_export_utils.SINGLE_RECEIVER_DEFAULT_NAME: receiver_tensors}


def dry_signatures(receiver: Any, spec: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """Builds the signatures of an export as TensorFlow does, and asks why the others are dropped.

    Args:
      receiver: what the serving_input_receiver_fn returned.
      spec: the PREDICT spec.

    Returns:
      The `SignatureDef`s by name, and for each one dropped TensorFlow's own reason.

    Raises:
      Exception: whatever TensorFlow raises, other than what it swallows itself.
    """
    outputs = _export_utils.export_outputs_for_mode(
        mode=spec.mode, serving_export_outputs=spec.export_outputs, predictions=spec.predictions,
        loss=spec.loss, metrics=spec.eval_metric_ops)
    alternatives = getattr(receiver, 'receiver_tensors_alternatives', None)
    with quiet_logs():
        kept = _export_utils.build_all_signature_defs(
            receiver.receiver_tensors, outputs, alternatives, serving_only=True)
    dropped = {}
    for key, output in outputs.items():
        name = f'{key or "None"}'
        if name not in kept:
            dropped[name] = _reason(receiver_map(receiver.receiver_tensors), output)
    return kept, dropped


def _reason(receiver_tensors: dict[str, Any], output: Any) -> str:
    try:
        signature = output.as_signature_def(receiver_tensors)
        _export_utils._ensure_servable(receiver_tensors.values(), signature.outputs)
    except ValueError as error:
        return str(error)
    return '' if _signature_def_utils.is_valid_signature(signature) else _NOT_VALID


def unfed_placeholders(receiver: Any, outputs: Mapping[str, Any]) -> tuple[Any, ...]:
    """Placeholders that output tensors need and that the receiver does not feed."""
    fed = {id(tensor.op) for tensor in tf.nest.flatten(receiver.receiver_tensors,
                                                       expand_composites=True)}
    seen: set[Any] = set()
    stack = [tensor.op for tensor in tf.nest.flatten(dict(outputs), expand_composites=True)
             if isinstance(tensor, tf.Tensor)]
    found = []
    while stack:
        op = stack.pop()
        if op in seen or id(op) in fed:
            continue
        seen.add(op)
        if op.type == 'Placeholder':
            found.append(op)
        stack.extend(tensor.op for tensor in op.inputs)
        stack.extend(op.control_inputs)
    return tuple(found)


def output_tensors(output: Any) -> dict[str, Any]:
    """The tensors of an `ExportOutput` by name."""
    if isinstance(output, _export_output.PredictOutput):
        return dict(output.outputs)
    names = ('scores', 'classes', 'value')
    return {name: getattr(output, name) for name in names
            if getattr(output, name, None) is not None}


def receiver_fn_of(exporter: Any) -> Any:
    """The serving_input_receiver_fn of one of TensorFlow's exporters; None if it has none."""
    inner = getattr(exporter, '_saved_model_exporter', exporter)
    return getattr(inner, '_serving_input_receiver_fn', None)

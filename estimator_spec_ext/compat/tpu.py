"""What `TPUEstimatorSpec` does with its functions when it runs on a CPU."""

from __future__ import annotations

from typing import Any, Optional

import tensorflow as tf
from tensorflow.python.tpu import tensor_tracer as _tensor_tracer
from tensorflow.python.util import function_utils as _function_utils
from tensorflow_estimator.python.estimator.tpu import tpu_estimator as _tpu_estimator

# The public alias would log a deprecation when the package is imported.
TPUEstimatorSpec: Any = _tpu_estimator.TPUEstimatorSpec


def refusal(field: str, call: Any) -> Optional[Exception]:
    """What stock raises for this value of eval_metrics or host_call; None when it accepts it."""
    try:
        _tpu_estimator._OutfeedHostCall.validate({field: call})
    except Exception as error:  # noqa: BLE001 - junk can make stock raise anything
        return error
    return None


def argument_names(function: Any) -> tuple[str, ...]:
    """The arguments that stock counts when it compares them with a list of tensors."""
    return tuple(_function_utils.fn_args(function))


def host_call_hook(fetches: Any) -> Any:
    """The hook that runs a host_call with every step on a CPU."""
    return _tpu_estimator._OutfeedHostCallHook(fetches)


def traced_loss(loss: Any, train_op: Any) -> Any:
    """The loss, with TensorTracer's ops where its environment variable asks for them."""
    if train_op is None or not _tensor_tracer.TensorTracer.is_enabled():
        return loss
    return _tensor_tracer.TensorTracer().trace_cpu(
        tf.compat.v1.get_default_graph(), loss, train_op)

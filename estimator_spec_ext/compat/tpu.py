"""What `TPUEstimatorSpec` does with its functions when it runs on a CPU."""

from __future__ import annotations

import contextlib
import copy
import inspect
import threading
from typing import Any, Iterator, Optional

import tensorflow as tf
from tensorflow.python.tpu import tensor_tracer as _tensor_tracer
from tensorflow.python.util import function_utils as _function_utils
from tensorflow_estimator.python.estimator.tpu import tpu_estimator as _tpu_estimator

_do_not_convert = tf.autograph.experimental.do_not_convert

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


def copied(estimator: Any) -> Any:
    """A copy of an estimator.

    A TPUEstimator notes on itself that it called its input function, and its model_fn, which looks
    there, holds the estimator that made it: without a new one a copy believes that it exports.
    """
    made = copy.copy(estimator)
    function, held = _own_function(estimator)
    if function is not None:
        made._model_fn = made._augment_model_fn(function, held.get('batch_axis'))
    return made


def model_function(estimator: Any) -> Any:
    """The model_fn of the user, which a TPUEstimator hides in a function of its own."""
    function, _ = _own_function(estimator)
    return inspect.unwrap(estimator._model_fn if function is None else function,
                          stop=lambda wrapper: hasattr(wrapper, 'get_concrete_function'))


def batch_size(estimator: Any, mode: Any) -> Optional[int]:
    """The rows of a batch that a TPUEstimator gives its model_fn on a CPU; None when unknown."""
    if not isinstance(estimator, _tpu_estimator.TPUEstimator):
        return None
    name = {'train': '_train_batch_size', 'eval': '_eval_batch_size'}.get(mode, '')
    known = getattr(estimator._ctx, name, None)
    return known if type(known) is int else None


def _own_function(estimator: Any) -> tuple[Any, dict[str, Any]]:
    made = getattr(estimator, '_model_fn', None)
    if not isinstance(estimator, _tpu_estimator.TPUEstimator) or not inspect.isfunction(made):
        return None, {}
    held = {name: cell.cell_contents
            for name, cell in zip(made.__code__.co_freevars, made.__closure__ or ())}
    return held.get('model_fn'), held


class Conversion:
    """A TPU spec of which an EstimatorSpec for a CPU was made.

    Attributes:
      spec: the TPU spec.
      called: (what it returned, the summaries that it made) by field, of the functions called.
      summaries: those of the model.
    """

    def __init__(self, spec: Any, called: dict[str, tuple[Any, tuple[Any, ...]]],
                 summaries: tuple[Any, ...]) -> None:
        self.spec = spec
        self.called = called
        self.summaries = summaries


def summaries() -> tuple[Any, ...]:
    """The summaries that the graph has by now."""
    return tuple(tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.SUMMARIES))


_LOCK = threading.RLock()
_recorders: list[list[Conversion]] = []
_stock: list[Any] = []
_last = threading.local()  # what the functions of this thread's last TPU spec returned


@contextlib.contextmanager
def recorded_conversions(conversions: list[Conversion]) -> Iterator[None]:
    """Notes every TPU spec that becomes an EstimatorSpec, as a TPUEstimator does on a CPU."""
    with _LOCK:
        if not _recorders:
            _stock.extend([TPUEstimatorSpec.as_estimator_spec,
                           _tpu_estimator._OutfeedHostCall.create_cpu_hostcall])
            TPUEstimatorSpec.as_estimator_spec = _recording(_stock[0])
            _tpu_estimator._OutfeedHostCall.create_cpu_hostcall = staticmethod(_noting(_stock[1]))
        _recorders.append(conversions)
    try:
        yield
    finally:
        with _LOCK:
            _recorders[:] = [item for item in _recorders if item is not conversions]
            if not _recorders:
                TPUEstimatorSpec.as_estimator_spec, called = _stock
                _tpu_estimator._OutfeedHostCall.create_cpu_hostcall = staticmethod(called)
                _stock.clear()


def note_conversion(conversion: Conversion) -> None:
    """For a class that converts itself."""
    for conversions in list(_recorders):
        conversions.append(conversion)


def _recording(stock: Any) -> Any:
    def as_estimator_spec(self: Any) -> Any:
        before = summaries()
        made = stock(self)
        # Summaries of the metrics are nobody's mistake.
        new = summaries()[len(before):]
        note_conversion(Conversion(self, {
            field: (value, new if field == 'host_call' else ())
            for field, value in _last.returned.items()}, before))
        return made

    return _do_not_convert(as_estimator_spec)


def _noting(stock: Any) -> Any:
    def create_cpu_hostcall(host_calls: Any) -> Any:
        _last.returned = stock(host_calls)
        return _last.returned

    return _do_not_convert(create_cpu_hostcall)

"""Builds the graphs of an Estimator exactly as Estimator itself does, without running them.

A copy of the user's estimator is told to stop where a session would start; everything before that
is TensorFlow's own code with the user's own functions. The copy shares model_fn, params and
strategy with the original, which is never changed.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
from typing import Any, Callable, Iterator, Optional

import tensorflow as tf
from tensorflow.python.eager import context as _context
from tensorflow_estimator.python.estimator import estimator as _estimator
from tensorflow_estimator.python.estimator import model_fn as _model_fn

from estimator_spec_ext.compat import distribution, frames, initialization, tpu
from estimator_spec_ext.compat.namespace import ModeKeys

_do_not_convert = tf.autograph.experimental.do_not_convert
_LOCK = threading.RLock()

# Stages of a build, in order; a crash is explained by the stage in which it happened.
SETUP, RECEIVER, INPUT_FN, INPUT, MODEL_FN, AFTER = (
    'setup', 'receiver', 'input_fn', 'input', 'model_fn', 'after')


class Built(Exception):
    """Stops Estimator's own code once the graph is there; not an error."""


class Tap:
    """What is seen while one mode is built.

    Attributes:
      stage: the stage that was reached.
      graph: the graph; None before model_fn or the input function ran.
      inputs: what the input function returned.
      input_hooks: hooks that Estimator made for the input.
      receiver: what the serving receiver function returned.
      features: what model_fn got.
      labels: what model_fn got.
      batch_size: what a TPUEstimator tells model_fn of it.
      spec: what model_fn returned; under a strategy that of the first replica.
      fields: the fields of `spec` before Estimator changed them.
      site: file and line where `spec` was built.
      replica_fields: the fields of the spec of the replica that was built last.
      replica_site: where that one was built.
      scaffold: the scaffold of the session; None when the spec gave none.
      loss: the loss that the session fetches.
      session_hooks: the hooks of the session beyond those of the spec.
      edit_spec: makes the spec that Estimator gets of that of model_fn; None for the same.
      attempts: every construction of a stock spec.
      conversions: every TPU spec of which a spec for a CPU was made.
      initializations: every call of init_from_checkpoint.
      model_fn: the function of the user.
      input_fn: the input function that was called last.
      given_labels: makes labels for model_fn where Estimator gives none; None for Estimator's way.
      on_spec: called with this tap in each replica, as soon as model_fn has returned.
      on_graph: called with this tap when nothing will be added before the session starts.
    """

    def __init__(self, on_spec: Callable[['Tap'], None], on_graph: Callable[['Tap'], None]) -> None:
        self.stage = SETUP
        self.graph: Any = None
        self.inputs: Any = None
        self.input_hooks: list[Any] = []
        self.receiver: Any = None
        self.features: Any = None
        self.labels: Any = None
        self.batch_size: Optional[int] = None
        self.spec: Any = None
        self.fields: dict[str, Any] = {}
        self.site: tuple[Optional[str], Optional[int]] = (None, None)
        self.replica_fields: dict[str, Any] = {}
        self.replica_site: tuple[Optional[str], Optional[int]] = (None, None)
        self.scaffold: Any = None
        self.loss: Any = None
        self.session_hooks: list[Any] = []
        self.on_spec = on_spec
        self.on_graph = on_graph
        self.stop_after_model_fn = False
        self.given_labels: Optional[Callable[[], Any]] = None
        self.edit_spec: Optional[Callable[[Any], Any]] = None
        self.attempts: list[SpecAttempt] = []
        self.conversions: list[tpu.Conversion] = []
        self.initializations: list[initialization.Initialization] = []
        self.model_fn: Any = None
        self.input_fn: Any = None


class SpecAttempt:
    """One construction of a stock spec.

    Attributes:
      spec: the result; None when stock refused.
      mode: the mode as given.
      fields: the other fields as given.
      error: the exception of stock's; None when it accepted.
      site: file and line of the user's call.
    """

    def __init__(self, mode: Any, fields: dict[str, Any],
                 site: tuple[Optional[str], Optional[int]]) -> None:
        self.spec: Any = None
        self.mode = mode
        self.fields = fields
        self.error: Optional[Exception] = None
        self.site = site


_recorders: list[list[SpecAttempt]] = []


@contextlib.contextmanager
def recorded_specs(attempts: list[SpecAttempt]) -> Iterator[None]:
    """Notes every construction of an `EstimatorSpec`, refused ones with their arguments.

    A model_fn that dies in the constructor leaves nothing else behind to tell its other faults by.
    No lock is held inside: a rehearsal that hangs must not stop the next one.
    """
    with _LOCK:
        if not _recorders:
            _stock_new.append(_model_fn.EstimatorSpec.__new__)
            _model_fn.EstimatorSpec.__new__ = _recording(_stock_new[-1])
        _recorders.append(attempts)
    try:
        yield
    finally:
        with _LOCK:
            # By identity: two lists of attempts may be equal.
            _recorders[:] = [item for item in _recorders if item is not attempts]
            if not _recorders:
                _model_fn.EstimatorSpec.__new__ = _stock_new.pop()


_stock_new: list[Any] = []


def _recording(stock_new: Any) -> Any:
    signature = inspect.signature(stock_new)

    def recording(cls: Any, *args: Any, **kwargs: Any) -> Any:
        attempt = None
        try:
            bound = signature.bind(cls, *args, **kwargs)
            bound.apply_defaults()
            given = dict(list(bound.arguments.items())[1:])
            if type(given.get('eval_metric_ops')) is dict:
                given['eval_metric_ops'] = dict(given['eval_metric_ops'])  # Estimator adds the loss
            attempt = SpecAttempt(given.pop('mode'), given, frames.call_site())
            for attempts in list(_recorders):
                attempts.append(attempt)
        except TypeError:
            pass  # stock's own complaint about the arguments follows
        try:
            spec = stock_new(cls, *args, **kwargs)
        except Exception as error:
            if attempt is not None:
                attempt.error = error
            raise
        if attempt is not None:
            attempt.spec = spec
        return spec

    return _do_not_convert(recording)


@contextlib.contextmanager
def _recorded(tap: Tap) -> Iterator[None]:
    with recorded_specs(tap.attempts), tpu.recorded_conversions(tap.conversions), \
            initialization.recorded(tap.initializations):
        yield


def probe(estimator: Any, tap: Tap) -> Any:
    """A copy of the estimator that notes what passes through it."""
    copied = tpu.copied(estimator)
    tap.model_fn = tpu.model_function(estimator)
    call_input_fn, call_model_fn = copied._call_input_fn, copied._call_model_fn
    features_from = copied._get_features_from_input_fn

    def tapped_input_fn(input_fn: Any, mode: Any, input_context: Any = None) -> Any:
        tap.stage = INPUT_FN
        tap.input_fn = inspect.unwrap(input_fn)
        tap.graph = tf.compat.v1.get_default_graph()
        # Estimator passes two arguments where there is no context, and so do we.
        rest = () if input_context is None else (input_context,)
        result = call_input_fn(input_fn, mode, *rest)
        tap.stage = INPUT
        tap.inputs = result
        return result

    def tapped_features(input_fn: Any, mode: Any) -> Any:
        features, hooks = features_from(input_fn, mode)
        tap.input_hooks = list(hooks)
        return features, hooks

    def entering(features: Any, labels: Any, mode: Any) -> None:
        tap.batch_size = tpu.batch_size(estimator, mode)
        _enter_model_fn(tap, features, labels)

    enter = _do_not_convert(entering)
    swap = _do_not_convert(
        lambda labels: labels if tap.given_labels is None else tap.given_labels())
    leave = _do_not_convert(lambda spec: _leave_model_fn(tap, spec))

    # AutoGraph converts this function as it would convert Estimator's own.
    def tapped_model_fn(features: Any, labels: Any, mode: Any, config: Any) -> Any:
        enter(features, labels, mode)
        labels = swap(labels)
        spec = call_model_fn(features, labels, mode, config)
        return leave(spec)

    copied._call_input_fn = tapped_input_fn
    copied._get_features_from_input_fn = tapped_features
    copied._call_model_fn = tapped_model_fn
    return copied


def _enter_model_fn(tap: Tap, features: Any, labels: Any) -> None:
    tap.stage = MODEL_FN
    tap.graph = tf.compat.v1.get_default_graph()
    if distribution.is_first_replica_here():
        tap.features, tap.labels = features, labels


def _leave_model_fn(tap: Tap, spec: Any) -> Any:
    tap.replica_fields, tap.replica_site = _as_given(spec, tap.attempts)
    if distribution.is_first_replica_here():
        tap.spec, tap.fields, tap.site = spec, tap.replica_fields, tap.replica_site
    tap.on_spec(tap)
    tap.stage = AFTER
    if tap.stop_after_model_fn:
        tap.scaffold = spec.scaffold
        tap.session_hooks = list(tap.input_hooks)
        tap.on_graph(tap)
        raise Built
    return spec if tap.edit_spec is None else tap.edit_spec(spec)


def _as_given(spec: Any, attempts: list[SpecAttempt]) -> tuple[dict[str, Any], Any]:
    """The fields of a spec as its author gave them, and the line: stock reshapes a loss."""
    fields = spec._asdict()
    site: tuple[Optional[str], Optional[int]] = (None, None)
    fields.pop('mode')
    if type(fields['eval_metric_ops']) is dict:
        fields['eval_metric_ops'] = dict(fields['eval_metric_ops'])
    if attempts:
        site = attempts[-1].site
    for attempt in reversed(attempts):
        if attempt.spec is spec:
            site = attempt.site
        # A spec made from another one holds the loss that stock had reshaped for the first.
        if attempt.spec is not None and attempt.spec.loss is fields['loss']:
            fields['loss'] = attempt.fields['loss']
    return fields, site


def build_train(estimator: Any, input_fn: Any, tap: Tap, *, warm_start: Any = None) -> None:
    """Builds TRAIN up to the moment at which a session would start.

    Args:
      estimator: the `tf.estimator.Estimator`.
      input_fn: of the `TrainSpec`.
      tap: what is seen is kept here.
      warm_start: called where Estimator warm-starts, after model_fn.

    Raises:
      Exception: whatever the user's functions, or Estimator, raise.
    """
    copied = probe(estimator, tap)

    def train_with_estimator_spec(spec: Any, worker_hooks: Any, *unused: Any) -> None:
        tap.stage = AFTER
        tap.scaffold, tap.loss = spec.scaffold, spec.loss
        tap.input_hooks = list(worker_hooks)
        tap.session_hooks = list(worker_hooks)
        if warm_start is not None:
            warm_start()
        # Estimator adds these before it makes the hooks, which may name them.
        summaries = tf.compat.v1.get_collection(tf.compat.v1.GraphKeys.SUMMARIES)
        if not any(summary.op.name == 'loss' for summary in summaries):
            tf.compat.v1.summary.scalar('loss', spec.loss)
        tf.compat.v1.add_to_collection(tf.compat.v1.GraphKeys.LOSSES, spec.loss)
        tap.on_graph(tap)

    copied._train_with_estimator_spec = train_with_estimator_spec
    strategy = train_strategy(estimator)
    with _recorded(tap), _context.graph_mode():
        if strategy is None:
            copied._train_model_default(input_fn, [], [])
        else:
            if not getattr(copied._config, '_distribute_coordinator_mode', None):
                strategy.configure(copied._config.session_config)
            copied._actual_train_model_distributed(strategy, input_fn, [], [])


def build_eval(estimator: Any, input_fn: Any, tap: Tap, *, steps: Any = None, hooks: Any = (),
               has_checkpoint: bool = True) -> None:
    """Builds EVAL, the metric of the loss included, up to where a session would start.

    Args:
      estimator: the `tf.estimator.Estimator`.
      input_fn: of the `EvalSpec`.
      tap: what is seen is kept here.
      steps: of the `EvalSpec`.
      hooks: of the `EvalSpec`.
      has_checkpoint: whether there will be a checkpoint to restore; without one Estimator
        warm-starts EVAL too.

    Raises:
      Exception: whatever the user's functions, or Estimator, raise.
    """
    copied = probe(estimator, tap)

    def evaluate_run(checkpoint_path: Any, scaffold: Any, update_op: Any, eval_dict: Any,
                     all_hooks: Any, output_dir: Any) -> None:
        tap.stage = AFTER
        tap.scaffold = scaffold
        # Those of the spec come last; one of them may also be among those of the EvalSpec.
        rest = list(all_hooks)
        for own in tap.fields.get('evaluation_hooks') or ():
            for position in reversed(range(len(rest))):
                if rest[position] is own:
                    del rest[position]
                    break
        tap.session_hooks = rest
        tap.on_graph(tap)

    copied._evaluate_run = evaluate_run
    with _recorded(tap):
        copied._actual_eval(input_fn, strategy=copied._eval_distribution, steps=steps,
                           hooks=list(hooks),
                           checkpoint_path='a checkpoint of TRAIN' if has_checkpoint else None)


def build_export(estimator: Any, receiver_fn: Any, tap: Tap) -> None:
    """Builds PREDICT on a serving receiver, as `Estimator.export_saved_model` does.

    Args:
      estimator: the `tf.estimator.Estimator`.
      receiver_fn: a serving_input_receiver_fn.
      tap: what is seen is kept here.

    Raises:
      Exception: whatever the user's functions, or Estimator, raise.
    """
    copied = probe(estimator, tap)
    tap.stop_after_model_fn = True

    def tapped_receiver_fn() -> Any:
        tap.stage = RECEIVER
        tap.graph = tf.compat.v1.get_default_graph()
        tap.receiver = receiver_fn()
        return tap.receiver

    with _recorded(tap), _context.graph_mode(), contextlib.suppress(Built):
        mode = ModeKeys.PREDICT
        copied._add_meta_graph_for_mode(None, {mode: tapped_receiver_fn}, None, mode=mode)


def build_predict(estimator: Any, input_fn: Any, tap: Tap) -> None:
    """Builds PREDICT on an input function, as `Estimator.predict` does.

    Args:
      estimator: the `tf.estimator.Estimator`.
      input_fn: a function that takes no arguments.
      tap: what is seen is kept here.

    Raises:
      Exception: whatever the user's functions, or Estimator, raise.
    """
    copied = probe(estimator, tap)
    tap.stop_after_model_fn = True
    with _recorded(tap), contextlib.suppress(Built):
        next(copied.predict(input_fn), None)


def loss_is_scaled(graph: Any) -> bool:
    """Whether a TF1 optimizer has divided a loss of this graph by the number of replicas."""
    return bool(getattr(graph, '_is_loss_scaled_by_optimizer', False))


def train_strategy(estimator: Any) -> Any:
    """The strategy under which TRAIN is built; None without one."""
    return getattr(estimator, '_train_distribution', None)


def eval_strategy(estimator: Any) -> Any:
    """The strategy under which EVAL is built; None without one."""
    return getattr(estimator, '_eval_distribution', None)


def call_input_fn(estimator: Any, input_fn: Any, mode: str) -> Any:
    """Calls an input function with the arguments that it asks for, as Estimator does."""
    return estimator._call_input_fn(input_fn, mode)


def dataset_variant(dataset: Any) -> Any:
    """The tensor behind a `tf.data.Dataset` of a graph."""
    return dataset._variant_tensor


def is_estimator(value: Any) -> bool:
    """Whether `train_and_evaluate` takes this object."""
    return isinstance(value, (_estimator.Estimator, _estimator.EstimatorV2))


def takes_labels(estimator: Any) -> bool:
    """Whether model_fn has an argument `labels`."""
    try:
        return 'labels' in _estimator.function_utils.fn_args(estimator._model_fn)
    except (TypeError, ValueError):
        return False


def frame_value(error: BaseException, function: str, name: str) -> tuple[bool, Any]:
    """The local `name` of the innermost frame of `function` in a traceback: (found, value)."""
    found: tuple[bool, Any] = (False, None)
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == function and name in frame.f_locals:
            found = (True, frame.f_locals[name])
        trace = trace.tb_next
    return found

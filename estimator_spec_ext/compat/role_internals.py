"""Lets `train_and_evaluate` build the graph of any task of a cluster: no server, session or file.

Everything up to the session is TensorFlow's own code, and the coordinator of the strategies too,
under the `TF_CONFIG` of that task. What would start a server or a session stops it instead.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any, Callable, Iterator, Optional

import tensorflow as tf
from tensorflow.python.distribute import distribute_coordinator as _coordinator
from tensorflow.python.distribute import parameter_server_strategy_v2 as _ps_v2
from tensorflow.python.eager import context as _context
from tensorflow_estimator.python.estimator import estimator as _estimator
from tensorflow_estimator.python.estimator import training as _training

from estimator_spec_ext.compat import estimator_internals as internals
from estimator_spec_ext.compat import frames
from estimator_spec_ext.compat.namespace import estimator as _namespace

_do_not_convert = tf.autograph.experimental.do_not_convert
_CHECKPOINT = 'model.ckpt-0'
# The strategies whose replicas wait for each other in collective ops, over several processes.
COLLECTIVE = ('CollectiveAllReduceStrategy', 'CollectiveAllReduceStrategyV1',
              'MultiWorkerMirroredStrategy', '_CollectiveAllReduceStrategyExperimental')

TRAINS, EVALUATES, SERVES = 'train', 'eval', 'server'


class StrategyRefused(Exception):
    """A strategy was made that no Estimator can train with."""

    ag_pass_through = True


class _Reached(BaseException):
    """Ends TensorFlow's code where a session or a server would start; no error."""

    ag_pass_through = True

    def __init__(self, kind: str, arguments: dict[str, Any]) -> None:
        super().__init__(kind)
        self.kind = kind
        self.arguments = arguments


class RoleBuild:
    """What one task of a cluster builds.

    Attributes:
      kind: 'train', 'eval', 'server' for a task that only serves, None for one that ended early.
      tap: what was seen on the way.
      estimator: what the builder returned, as are the two specs; None when it was not reached.
      train_spec: a `tf.estimator.TrainSpec`.
      eval_spec: a `tf.estimator.EvalSpec`, or None.
      config: the `RunConfig` that model_fn got; the estimator's own where none was called.
      strategy: the strategy of TRAIN; None without one.
      hooks: all hooks of the session.
      chief_hooks: those that only the chief runs.
      step: what each step of TRAIN runs, hooks apart; () where it was not reached.
      is_chief: whether TensorFlow takes this task for the chief.
      error: what ended the building; None when the session was reached.
      temporary_dirs: folders that Estimator would have made, for want of a model_dir.
      caller: the line that asked for the build; ops that TensorFlow makes for all replicas at once
        have it for their own.
      eager: whether the process runs eagerly after the builder's own switches.
    """

    def __init__(self, tap: Any) -> None:
        self.kind: Optional[str] = None
        self.tap = tap
        self.estimator: Any = None
        self.train_spec: Any = None
        self.eval_spec: Any = None
        self.config: Any = None
        self.strategy: Any = None
        self.hooks: tuple[Any, ...] = ()
        self.chief_hooks: tuple[Any, ...] = ()
        self.step: tuple[Any, ...] = ()
        self.is_chief = False
        self.error: Optional[BaseException] = None
        self.temporary_dirs: list[str] = []
        self.eager = False
        self.caller = frames.call_site()


def is_collective(strategy: Any) -> bool:
    """Whether a strategy trains with collective ops over several processes."""
    return type(strategy).__name__ in COLLECTIVE


def is_mirrored(strategy: Any) -> bool:
    """Whether a strategy keeps a copy of the variables on each device of one process."""
    return type(strategy).__name__ in ('MirroredStrategy', 'MirroredStrategyV1')


def eager_by_default() -> bool:
    """Whether this process runs eagerly where no graph is the default one."""
    return bool(_context.default_execution_mode == _context.EAGER_MODE)


def devices_of(strategy: Any) -> tuple[str, ...]:
    """The devices of this process on which a strategy computes."""
    return tuple(strategy.extended.worker_devices)


def coordinates(config: Any) -> bool:
    """Whether a `RunConfig` hands the job to the coordinator of the strategies."""
    return bool(getattr(config, '_distribute_coordinator_mode', None))


@contextlib.contextmanager
def environment(tf_config: Any) -> Iterator[None]:
    """Sets TF_CONFIG for a while; None for a process without one."""
    before = os.environ.get('TF_CONFIG')
    try:
        if tf_config is None:
            os.environ.pop('TF_CONFIG', None)
        else:
            os.environ['TF_CONFIG'] = json.dumps(tf_config)
        yield
    finally:
        os.environ.pop('TF_CONFIG', None)
        if before is not None:
            os.environ['TF_CONFIG'] = before


@contextlib.contextmanager
def _replaced(values: list[tuple[Any, str, Any]]) -> Iterator[None]:
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in values]
    try:
        for owner, name, value in values:
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


class _NoServer:
    """Stands where TensorFlow would start a gRPC server."""

    def start(self) -> None:
        """Starts nothing."""

    def join(self) -> None:
        """A task that waits here for ever builds no graph."""
        raise _Reached(SERVES, {})


class _NoSleep:
    """The `time` module as `train_and_evaluate` sees it: workers wait before they start."""

    def __getattr__(self, name: str) -> Any:
        return (lambda seconds: None) if name == 'sleep' else getattr(time, name)


class _NoTemporaryDir:
    """The `tempfile` module as Estimator sees it."""

    def __init__(self, made: list[str]) -> None:
        self._made = made

    def mkdtemp(self) -> str:
        """A name for a folder that is not made."""
        self._made.append(os.path.join(os.sep, 'nonexistent', f'temporary_{len(self._made)}'))
        return self._made[-1]


def build(builder: Callable[[], Any], tf_config: Any,
          on_graph: Callable[[RoleBuild], None],
          on_replica: Optional[Callable[[Any], None]] = None,
          on_session: Callable[[RoleBuild], None] = lambda made: None) -> RoleBuild:
    """Builds what one task of a cluster would build.

    Args:
      builder: gives `(estimator, train_spec, eval_spec)`; called under this task's TF_CONFIG.
      tf_config: the TF_CONFIG of the task as a dict; None for a process without one.
      on_graph: called with the result when the graph is complete and still the default one.
      on_replica: called with the tap in each replica of a strategy, when model_fn has returned.
      on_session: called with the result where a session would be made, under the strategy and the
        devices of the job.

    Returns:
      A `RoleBuild`; its `error` holds what the user's code, or TensorFlow, has raised.
    """
    made = RoleBuild(internals.Tap(
        (lambda tap: None) if on_replica is None else on_replica, lambda tap: None))
    with internals._LOCK, environment(tf_config), _replaced(_stops(made, on_session)), \
            internals.recorded_specs(made.tap.attempts), tf.Graph().as_default():
        # In a graph: strategies start their server in the constructor only when it runs eagerly.
        try:
            made.estimator, made.train_spec, made.eval_spec = _checked(builder())
            made.config = made.estimator.config
            made.strategy = internals.train_strategy(made.estimator)
            _run(made)
        except _Reached as reached:
            made.kind = reached.kind
            if made.kind != SERVES:
                with made.tap.graph.as_default():
                    try:
                        on_graph(made)
                    except Exception as error:  # noqa: BLE001 - told by the caller
                        made.error = error
        except (Exception, SystemExit) as error:  # a user's function may even exit
            made.error = error
    made.eager = eager_by_default()
    return made


def make(builder: Callable[[], Any], tf_config: Any) -> tuple[Any, Any, Any]:
    """Calls the builder as one task would, without starting a server or making a folder.

    Args:
      builder: gives `(estimator, train_spec, eval_spec)`.
      tf_config: the TF_CONFIG of the task as a dict; None for a process without one.

    Returns:
      What the builder returned.

    Raises:
      Exception: what it raises.
    """
    made = RoleBuild(internals.Tap(lambda tap: None, lambda tap: None))
    # Only the folder and the refused strategy concern what happens before train_and_evaluate.
    stops = [stop for stop in _stops(made, lambda made: None)
             if stop[1] in ('tempfile', '__init__')]
    with internals._LOCK, environment(tf_config), _replaced(stops), tf.Graph().as_default():
        return _checked(builder())


def _checked(result: Any) -> tuple[Any, Any, Any]:
    if not isinstance(result, (tuple, list)) or len(result) != 3:
        raise TypeError('the builder must return (estimator, train_spec, eval_spec), '
                        f'got {type(result).__name__}')
    estimator, train_spec, eval_spec = result
    if not internals.is_estimator(estimator):
        raise TypeError('the builder must return a tf.estimator.Estimator first, '
                        f'got {type(estimator).__name__}')
    if not isinstance(train_spec, _namespace.TrainSpec):
        raise TypeError('the builder must return a tf.estimator.TrainSpec second, '
                        f'got {type(train_spec).__name__}')
    if eval_spec is not None and not isinstance(eval_spec, _namespace.EvalSpec):
        raise TypeError('the builder must return a tf.estimator.EvalSpec or None third, '
                        f'got {type(eval_spec).__name__}')
    return estimator, train_spec, eval_spec


def _run(made: RoleBuild) -> None:
    # A training task does not look at it, and only this function knows all roles.
    eval_spec = made.eval_spec or _namespace.EvalSpec(made.train_spec.input_fn)
    _namespace.train_and_evaluate(made.estimator, made.train_spec, eval_spec)


def _note(made: RoleBuild, reached: _Reached) -> None:
    made.kind = reached.kind
    made.tap.stage = internals.AFTER
    made.hooks = tuple(reached.arguments.get('hooks') or ())
    made.chief_hooks = tuple(reached.arguments.get('chief_only_hooks') or ())
    made.tap.scaffold = reached.arguments.get('scaffold')


def _stops(made: RoleBuild,
           on_session: Callable[[RoleBuild], None]) -> list[tuple[Any, str, Any]]:
    """What is replaced while a role is built: owner, name and stand-in."""
    tap = made.tap
    call_model_fn = _estimator.Estimator._call_model_fn
    call_input_fn = _estimator.Estimator._call_input_fn
    train = _estimator.Estimator._train_with_estimator_spec

    def reach(kind: str, arguments: dict[str, Any]) -> None:
        tap.graph = tf.compat.v1.get_default_graph()
        reached = _Reached(kind, arguments)
        _note(made, reached)
        on_session(made)
        raise reached

    def train_session(**arguments: Any) -> Any:
        context = _coordinator_context()
        made.is_chief = bool(arguments.get('is_chief', True) if context is None
                             else context.is_chief)
        reach(TRAINS, arguments)

    def evaluate_once(**arguments: Any) -> Any:
        reach(EVALUATES, arguments)

    def enter(estimator: Any, features: Any, labels: Any, config: Any) -> None:
        made.config = config
        tap.model_fn, tap.stage = estimator._model_fn, internals.MODEL_FN
        tap.graph = tf.compat.v1.get_default_graph()
        if tap.features is None:
            tap.features, tap.labels = features, labels

    # The first replica of this task; among those of all tasks it has a higher number.
    def leave(spec: Any) -> None:
        if tap.spec is None:
            tap.spec = spec
            tap.fields, tap.site = internals._as_given(spec, tap.attempts)
        tap.on_spec(tap)
        tap.stage = internals.AFTER

    def tapped_input_fn(estimator: Any, input_fn: Any, mode: Any, *rest: Any) -> Any:
        tap.stage, tap.input_fn = internals.INPUT_FN, input_fn
        tap.graph = tf.compat.v1.get_default_graph()
        tap.inputs = call_input_fn(estimator, input_fn, mode, *rest)
        tap.stage = internals.INPUT
        return tap.inputs

    # The spec of all replicas together.
    def tapped_train(estimator: Any, spec: Any, *rest: Any) -> Any:
        made.step = (spec.train_op, spec.loss)
        return train(estimator, spec, *rest)

    enter = _do_not_convert(enter)
    leave = _do_not_convert(leave)

    # AutoGraph converts this function as it would convert Estimator's own.
    def tapped_model_fn(estimator: Any, features: Any, labels: Any, mode: Any,
                        config: Any) -> Any:
        enter(estimator, features, labels, config)
        spec = call_model_fn(estimator, features, labels, mode, config)
        leave(spec)
        return spec

    def no_server(*args: Any, **kwargs: Any) -> Any:
        return _NoServer()

    def refuse(strategy: Any, *args: Any, **kwargs: Any) -> None:
        raise StrategyRefused(f'{type(strategy).__name__} does not work with Estimator')

    return [
        (_coordinator, '_run_std_server', no_server),
        (_training._TrainingExecutor, '_start_std_server', no_server),
        (_training, 'time', _NoSleep()),
        (_estimator.training, 'MonitoredTrainingSession', train_session),
        (_estimator.evaluation, '_evaluate_once', evaluate_once),
        (_estimator, '_load_global_step_from_checkpoint_dir', lambda folder: 0),
        (_estimator, 'tempfile', _NoTemporaryDir(made.temporary_dirs)),
        (_estimator.Estimator, 'latest_checkpoint',
         lambda estimator: os.path.join(estimator.model_dir, _CHECKPOINT)),
        (_estimator.Estimator, '_call_model_fn', tapped_model_fn),
        (_estimator.Estimator, '_call_input_fn', tapped_input_fn),
        (_estimator.Estimator, '_train_with_estimator_spec', tapped_train),
        (_ps_v2.ParameterServerStrategyV2, '__init__', refuse),
    ]


def _coordinator_context() -> Any:
    return _coordinator.distribute_coordinator_context.get_current_worker_context()

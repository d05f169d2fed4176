"""What Estimator calls to run a strategy in a cluster, over TensorFlow's own coordinator.

TensorFlow's coordinator starts the server of this task and calls a function with the strategy,
configured for the task; the functions given to it here run a copy of the estimator that knows its
task.
"""

from __future__ import annotations

import copy
import types
from typing import Any, Callable, Mapping

from tensorflow.python.distribute import distribute_coordinator as _coordinator
from tensorflow.python.distribute import distribute_coordinator_context as _context
from tensorflow.python.platform import tf_logging as _logging

from estimator_spec_ext.compat.bridge import coordinator_config as _configs
from estimator_spec_ext.compat.bridge import modules

_MODULE = 'tensorflow.python.distribute.estimator_training'


def supply() -> None:
    """Makes the module that Estimator imports, if TensorFlow has none."""
    modules.supply(_MODULE, _make)


def _make(name: str) -> types.ModuleType:
    module = types.ModuleType(name, __doc__)
    for function in (init_run_config, should_run_distribute_coordinator, train_and_evaluate,
                     estimator_train, estimator_evaluate):
        setattr(module, function.__name__, function)
    return module


def init_run_config(config: Any, tf_config: Mapping[str, Any]) -> None:
    """Completes a `tf.estimator.RunConfig` that was given a strategy; called by its constructor."""
    _configs.initialize(config, tf_config)


def should_run_distribute_coordinator(config: Any) -> bool:
    """Whether `tf.estimator.train_and_evaluate` leaves this RunConfig to the coordinator."""
    return _configs.mode(config) is not None


def train_and_evaluate(estimator: Any, train_spec: Any, eval_spec: Any, executor_cls: Any) -> None:
    """Runs this task of `tf.estimator.train_and_evaluate`.

    Args:
      estimator: the `tf.estimator.Estimator`, with a strategy and a cluster.
      train_spec: the `tf.estimator.TrainSpec`.
      eval_spec: the `tf.estimator.EvalSpec`.
      executor_cls: Estimator's own class that trains or evaluates as one task.
    """
    config = estimator.config
    if train_spec.saving_listeners:
        _logging.warning('TrainSpec.saving_listeners are not called under %s.',
                         type(config.train_distribute).__name__)

    def train(strategy: Any) -> None:
        task = _as_task(estimator, train=strategy)
        task.train(train_spec.input_fn, hooks=list(train_spec.hooks),
                   max_steps=train_spec.max_steps)

    def evaluate(strategy: Any) -> None:
        task = _as_task(estimator, evaluation=strategy)
        executor_cls(task, train_spec, eval_spec).run_evaluator()

    _run(config, train, config.train_distribute, evaluate, config.eval_distribute)


def estimator_train(estimator: Any, train_distributed_fn: Callable[[Any, Any, Any], Any],
                    hooks: Any) -> Any:
    """Runs `Estimator.train` on a remote cluster.

    Args:
      estimator: the `tf.estimator.Estimator`, with a strategy and a cluster.
      train_distributed_fn: gets an estimator, its strategy and hooks, and trains.
      hooks: those of the call.

    Returns:
      What that returns, where the coordinator tells.

    Raises:
      ValueError: when this task is one of the cluster, as TensorFlow 2.15 does.
    """
    _check_client(estimator.config, 'estimator.train')

    def work(strategy: Any) -> Any:
        task = _as_task(estimator, train=strategy)
        return train_distributed_fn(task, strategy, copy.deepcopy(hooks))

    return _run(estimator.config, work, estimator.config.train_distribute)


def estimator_evaluate(estimator: Any, evaluate_distributed_fn: Callable[[Any, Any, Any], Any],
                       hooks: Any) -> Any:
    """Runs `Estimator.evaluate` on a remote cluster; see `estimator_train`."""
    _check_client(estimator.config, 'Estimator.evaluate')

    def work(strategy: Any) -> Any:
        task = _as_task(estimator, evaluation=strategy)
        return evaluate_distributed_fn(task, strategy, copy.deepcopy(hooks))

    return _run(estimator.config, work, estimator.config.eval_distribute)


def _check_client(config: Any, call: str) -> None:
    if _configs.EVALUATOR in config.cluster_spec.jobs:
        raise ValueError("'evaluator' job is not supported if you don't use `train_and_evaluate`")
    if _configs.mode(config) != _configs.STANDALONE_CLIENT:
        raise ValueError(f'Only `STANDALONE_CLIENT` mode is supported when you call `{call}`')
    strategy = config.eval_distribute if call.endswith('evaluate') else config.train_distribute
    if strategy.extended.experimental_between_graph:
        raise ValueError(f'`{call}` on a remote cluster needs a strategy with one graph for all '
                         f'workers, not {type(strategy).__name__}')


def _run(config: Any, train: Any, train_strategy: Any, evaluate: Any = None,
         eval_strategy: Any = None) -> Any:
    mode = _configs.mode(config)
    # Of a cluster that it is part of, a task learns from TF_CONFIG, as the coordinator itself does.
    cluster = config.cluster_spec if mode == _configs.STANDALONE_CLIENT else None
    return _coordinator.run_distribute_coordinator(
        train, train_strategy, evaluate, eval_strategy, mode=mode, cluster_spec=cluster,
        session_config=config.session_config)


def _as_task(estimator: Any, **strategies: Any) -> Any:
    """A copy of the estimator for the task that the coordinator is running.

    Args:
      estimator: that of the user, which stays as it is.
      **strategies: `train` or `evaluation`, configured by the coordinator for this task.

    Returns:
      The copy.
    """
    task = copy.deepcopy(estimator)
    config = task._config
    if 'train' in strategies:
        config._train_distribute = task._train_distribution = strategies['train']
    if 'evaluation' in strategies:
        config._eval_distribute = task._eval_distribution = strategies['evaluation']
    _configs.describe_task(config, _context.get_current_worker_context())
    task._session_config = config.session_config
    return task

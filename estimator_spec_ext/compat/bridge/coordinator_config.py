"""What a RunConfig knows of its cluster under a distribution strategy.

With a strategy and a cluster, RunConfig itself speaks of one local worker on every task; only the
copies that the coordinator hands to the tasks know which task they are.
"""

from __future__ import annotations

from typing import Any, Mapping, Optional

import tensorflow as tf
from tensorflow.python.distribute import distribute_coordinator as _coordinator
from tensorflow.python.distribute import multi_worker_util as _multi_worker_util

STANDALONE_CLIENT = _coordinator.CoordinatorMode.STANDALONE_CLIENT
INDEPENDENT_WORKER = _coordinator.CoordinatorMode.INDEPENDENT_WORKER

CHIEF, WORKER, PS, EVALUATOR = 'chief', 'worker', 'ps', 'evaluator'
_MASTER = 'master'  # of clusters that are older than strategies


def mode(config: Any) -> Optional[str]:
    """How a RunConfig runs its cluster; None for one that no coordinator runs."""
    return getattr(config, '_distribute_coordinator_mode', None)


def initialize(config: Any, tf_config: Mapping[str, Any]) -> None:
    """Completes a RunConfig that was given a strategy.

    Args:
      config: the `tf.estimator.RunConfig`, everything else in it being set.
      tf_config: the parsed TF_CONFIG.

    Raises:
      ValueError: when a strategy, or the cluster, is given twice.
    """
    _take_strategies(config)
    asked_for = config._experimental_distribute
    remote = asked_for.remote_cluster if asked_for else None
    cluster = tf.train.ClusterSpec(tf_config.get('cluster', {}))
    trains = config._train_distribute is not None
    if trains and remote:
        if cluster.jobs:
            raise ValueError('Cannot set both "cluster_spec" of TF_CONFIG and '
                             '`experimental_distribute.remote_cluster`')
        _set_local(config, _multi_worker_util.normalize_cluster_spec(remote), STANDALONE_CLIENT)
    elif trains and cluster.jobs and _MASTER not in cluster.jobs:
        _set_local(config, cluster, INDEPENDENT_WORKER)
    else:
        config._distribute_coordinator_mode = None
        config._init_distributed_setting_from_environment_var(tf_config)
        config._maybe_overwrite_session_config_for_distributed_training()


def _take_strategies(config: Any) -> None:
    asked_for = config._experimental_distribute
    for name in ('train_distribute', 'eval_distribute'):
        strategy = getattr(asked_for, name) if asked_for else None
        if not strategy:
            continue
        if getattr(config, f'_{name}'):
            raise ValueError(f'Either `{name}` or`experimental_distribute.{name}` can be set.')
        setattr(config, f'_{name}', strategy)


def _set_local(config: Any, cluster: Any, coordinator_mode: str) -> None:
    config._distribute_coordinator_mode = coordinator_mode
    config._cluster_spec = cluster
    config._service = None
    config._task_type, config._task_id, config._global_id_in_cluster = WORKER, 0, 0
    config._master = config._evaluation_master = ''
    config._is_chief = True
    config._num_ps_replicas, config._num_worker_replicas = 0, 1


def describe_task(config: Any, context: Any) -> None:
    """Writes into a task's copy of a RunConfig which task it is.

    Args:
      config: the copy; no coordinator will run it any more.
      context: the coordinator's description of the task.
    """
    cluster, task_type = context.cluster_spec, context.task_type
    config._distribute_coordinator_mode = None
    config._service = None
    config._session_config = context.session_config
    config._is_chief = context.is_chief
    if task_type == EVALUATOR or not cluster:
        # An evaluator works alone, beside the cluster that trains.
        config._cluster_spec = tf.train.ClusterSpec({})
        config._task_type, config._task_id = task_type or WORKER, context.task_id or 0
        config._master = config._evaluation_master = (
            '' if task_type == EVALUATOR else context.master_target or '')
        config._num_ps_replicas = 0
        config._num_worker_replicas = 0 if task_type == EVALUATOR else 1
        config._global_id_in_cluster = None if task_type == EVALUATOR else 0
        return
    config._cluster_spec = cluster
    # In-graph replication has one client for all workers, which speaks for the chief.
    config._task_type = task_type or (CHIEF if CHIEF in cluster.jobs else WORKER)
    config._task_id = context.task_id or 0
    config._master = config._evaluation_master = context.master_target
    tasks = cluster.as_dict()
    config._num_ps_replicas = len(tasks.get(PS, ()))
    config._num_worker_replicas = len(tasks.get(WORKER, ())) + len(tasks.get(CHIEF, ()))
    config._global_id_in_cluster = _place(tasks, config._task_type, config._task_id)


def _place(tasks: Mapping[str, Any], task_type: str, task_id: int) -> int:
    """The number of a task among all, counted chief, workers, parameter servers."""
    place = task_id
    for earlier in (CHIEF, WORKER, PS):
        if earlier == task_type:
            break
        place += len(tasks.get(earlier, ()))
    return place

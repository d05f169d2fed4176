"""Which role of a distributed job this process plays, read from `TF_CONFIG`.

`tf.estimator.RunConfig` is no source for it: under a strategy it says worker 0 and chief in every
process, except in the copy that model_fn gets.
"""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any, Optional

# Those that build the graph of TRAIN, in the order in which one of them is the leader.
_TRAINING = ('chief', 'master', 'worker')


@dataclasses.dataclass(frozen=True)
class JobRole:
    """This process's place in its cluster.

    Attributes:
      name: e.g. 'worker/1'.
      trainers: the names of all roles that train, the leader first.
      has_ps: whether the cluster has parameter servers.

    Example:
      >>> role = JobRole('worker/0', ('chief/0', 'worker/0'), has_ps=False)
      >>> role.is_trainer, role.is_leader, role.leader
      (True, False, 'chief/0')
    """

    name: str
    trainers: tuple[str, ...]
    has_ps: bool

    @property
    def is_trainer(self) -> bool:
        """Whether this role trains, and is neither an evaluator nor a parameter server."""
        return self.name in self.trainers

    @property
    def leader(self) -> str:
        """The chief; without one, the first worker."""
        return self.trainers[0]

    @property
    def is_leader(self) -> bool:
        """Whether this is the chief."""
        return self.name == self.leader


def from_environment() -> Optional[JobRole]:
    """The role that `TF_CONFIG` gives this process; None when it names no cluster.

    A malformed `TF_CONFIG` counts as none: `RunConfig` reports it.
    """
    text = os.environ.get('TF_CONFIG')
    if not text:
        return None
    try:
        return _read(json.loads(text))
    except (ValueError, TypeError, AttributeError, KeyError):
        return None


def trains_with_others() -> bool:
    """Whether this process trains in a job in which others train too."""
    role = from_environment()
    return role is not None and role.is_trainer and len(role.trainers) > 1


def _read(config: Any) -> Optional[JobRole]:
    cluster = config.get('cluster')
    if not cluster:
        return None
    trainers = tuple(f'{kind}/{index}' for kind in _TRAINING
                     for index in range(len(cluster.get(kind, ()))))
    task = config['task']
    return JobRole(f'{task["type"]}/{int(task["index"])}', trainers, bool(cluster.get('ps')))

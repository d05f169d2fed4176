"""Which tasks of a cluster could not start on this machine, because something listens there."""

from __future__ import annotations

import socket
from typing import Any, Mapping

from estimator_spec_ext.preflight import tf_config

_LOOPBACK = ('localhost', '127.0.0.1', '[::1]')
_SECONDS = .2


def listening(config: Mapping[str, Any], own_task: bool) -> dict[str, str]:
    """Addresses of this machine's tasks at which something listens already.

    A connection is tried and closed again; nothing is sent and no port is opened.

    Args:
      config: a TF_CONFIG.
      own_task: whether its task is the one of this machine, whatever its address.

    Returns:
      Address by role.
    """
    if not config.get('cluster'):
        return {}
    found = {}
    own = tf_config.role_of(config) if own_task and config.get('task') else None
    for role, address in tf_config.addresses(config).items():
        host, _, port = address.rpartition(':')
        if host not in _LOOPBACK and role != own or role.startswith('evaluator'):
            continue
        if _answers(host.strip('[]'), int(port)):
            found[role] = address
    return found


def _answers(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), _SECONDS):
            return True
    except (OSError, OverflowError):
        return False

"""Starts the processes of a real cluster on this machine, and ends all of them.

Each role is a process of its own. They are forked from a server that has imported TensorFlow and
done nothing with it, so that a cluster of five starts in a second. Every process also carries an
alarm of its own, so that none outlives its time, whatever becomes of the tests.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pathlib
import re
import signal
import socket
import sys
import time

HANGING = 'still running'
_CONTEXT = multiprocessing.get_context('forkserver')
_CONTEXT.set_forkserver_preload(['tests.cluster.job'])


def free_ports(count):
    """So many ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for taken in sockets:
            taken.bind(('127.0.0.1', 0))
        return [taken.getsockname()[1] for taken in sockets]
    finally:
        for taken in sockets:
            taken.close()


def addresses(**counts):
    """A cluster of so many tasks of each kind, on free ports."""
    ports = iter(free_ports(sum(counts.values())))
    return {kind: [f'127.0.0.1:{next(ports)}' for _ in range(count)]
            for kind, count in counts.items()}


def _role_main(options, tf_config, log, limit):
    """What a role's process does; the log takes all that it prints."""
    signal.alarm(limit)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    sys.stdout.reconfigure(line_buffering=True)
    if tf_config is None:
        os.environ.pop('TF_CONFIG', None)
    else:
        os.environ['TF_CONFIG'] = json.dumps(tf_config)
    from tests.cluster import job
    job.main(options)


class Role:
    """One process.

    Attributes:
      name: e.g. 'worker/1'.
    """

    def __init__(self, name, options, tf_config, log, limit):
        self.name = name
        self._log = pathlib.Path(log)
        self._process = _CONTEXT.Process(
            target=_role_main, args=(options, tf_config, str(log), limit), daemon=True)
        self._process.start()

    @property
    def status(self):
        """The exit status; negative for a signal; HANGING while it runs."""
        code = self._process.exitcode
        return HANGING if code is None else code

    @property
    def log(self):
        """All that the process has printed."""
        return self._log.read_text(errors='replace') if self._log.exists() else ''

    def wait(self, seconds):
        """Waits for its end and returns `status`."""
        self._process.join(max(0, seconds))
        return self.status

    def wait_for(self, pattern, seconds):
        """Waits until the log matches a pattern; fails when the process ends or time is up."""
        end = time.monotonic() + seconds
        while not re.search(pattern, self.log, re.MULTILINE):
            assert self.status == HANGING, f'{self.name} ended: {self.status}\n{self.log[-3000:]}'
            assert time.monotonic() < end, f'{self.name} has no {pattern!r}\n{self.log[-3000:]}'
            time.sleep(0.05)

    def kill(self):
        """Ends it as a crash of its machine would."""
        self._process.kill()
        self._process.join(30)


class Cluster:
    """The processes of one job; a context manager that leaves none behind.

    Args:
      folder: where the logs go.
      limit: seconds that any of the processes may live.
      **counts: tasks by kind, e.g. chief=1, worker=2; none for a job of one process.
    """

    def __init__(self, folder, *, limit=180, **counts):
        self.addresses = addresses(**counts)
        self.roles = {}
        self._folder = pathlib.Path(folder)
        self._limit = limit
        self._all = []

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for role in self._all:
            role.kill()

    def start(self, name, *, cluster=None, **options):
        """Starts one role, e.g. 'worker/1'; 'local' has no TF_CONFIG."""
        config = None
        if name != 'local':
            kind, index = name.split('/')
            config = {'cluster': self.addresses if cluster is None else cluster,
                      'task': {'type': kind, 'index': int(index)}}
        log = self._folder / f'{name.replace("/", "-")}.{len(self._all)}.log'
        role = Role(name, options, config, log, self._limit)
        self.roles[name] = role
        self._all.append(role)
        return role

    def start_all(self, **options):
        """Starts every role; `only={'worker/0': {...}}` changes the options of some."""
        only = options.pop('only', {})
        for kind, listed in self.addresses.items():
            for index in range(len(listed)):
                name = f'{kind}/{index}'
                self.start(name, **{**options, **only.get(name, {})})
        return self

    def wait(self, *names, seconds=120):
        """Waits for some roles, or all but ps; returns their statuses by name."""
        names = names or [name for name in self.roles if not name.startswith('ps/')]
        end = time.monotonic() + seconds
        return {name: self.roles[name].wait(end - time.monotonic()) for name in names}

    def tell(self):
        """The ends of all logs, for the message of a failed test."""
        return '\n'.join(f'=== {role.name} {role.status}\n{role.log[-2500:]}' for role in self._all)

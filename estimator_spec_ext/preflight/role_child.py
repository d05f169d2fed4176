"""Builds one task of a cluster in a process of its own.

The parent starts `python -c` with this module's `main`; the request comes as JSON on standard
input, the answer goes as a pickle into the file that the request names.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import tempfile
from typing import Any, Mapping, Optional, Union

from estimator_spec_ext import installing
from estimator_spec_ext.compat import role_internals, v1
from estimator_spec_ext.preflight.role_facts import Failure

_START = 'from estimator_spec_ext.preflight import role_child; role_child.main()'
# What TensorFlow's native code logs of itself below an error, the newer ones whatever is set.
_NATIVE_LOG = re.compile(r'WARNING: All log messages before absl|[IW]\d{4} \d\d:|'
                         r'\d{4}-\d\d-\d\d [\d:.]+: [IW] ')
_LINES, _WIDTH = 5, 200


class Child:
    """A process that builds one task, or judges the whole job in that task's place.

    Args:
      builder: the name of the builder.
      config: the TF_CONFIG of the task.
      role: the task, for what is said of it.
      seed: of Python's hashes.
      ahead: seconds by which its clock is ahead.
      suppress: reasons by slug or code.
      whole_job: whether to judge the whole job.
      skip_hooks: names of classes of hooks whose `begin` is not called.
    """

    def __init__(self, builder: str, config: Mapping[str, Any], role: str, *, seed: int = 0,
                 ahead: float = 0., suppress: Any = None, whole_job: bool = False,
                 skip_hooks: tuple[str, ...] = ()) -> None:
        self.role = role
        self._folder = tempfile.TemporaryDirectory(prefix='ese_role_')
        self._answer = os.path.join(self._folder.name, 'answer')
        self._log = os.path.join(self._folder.name, 'log')
        environ = {**os.environ, 'PYTHONHASHSEED': str(seed), 'TF_CONFIG': json.dumps(config)}
        if not config:
            environ.pop('TF_CONFIG')
        request = {'builder': builder, 'config': dict(config), 'ahead': ahead, 'path': sys.path,
                   'suppress': dict(suppress) if isinstance(suppress, Mapping) else None,
                   'skip_hooks': list(skip_hooks), 'whole_job': whole_job, 'answer': self._answer,
                   'tf_estimator': installing.is_installed(),
                   'v2': bool(v1.control_flow_v2_enabled()),
                   'eager': role_internals.eager_by_default()}
        with open(self._log, 'wb') as log:
            # A session of its own, so that all that it starts can be ended with it.
            self._process = subprocess.Popen(
                [sys.executable, '-c', _START], stdin=subprocess.PIPE, stdout=log, stderr=log,
                env=environ, cwd=os.getcwd(), start_new_session=True)
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode())
            self._process.stdin.close()
        except BrokenPipeError:
            pass  # it died at once; `result` says how

    def result(self, seconds: float) -> Union[Any, Failure]:
        """Waits for the answer.

        Args:
          seconds: how long it may still take; it is ended then.

        Returns:
          The answer, or a `Failure`.
        """
        try:
            status: Optional[int] = self._process.wait(max(0., seconds))
        except subprocess.TimeoutExpired:
            status = None
        try:
            if status is None:
                return Failure(self.role, f'took longer than {seconds:.0f} s', self._last_lines())
            if status < 0:
                return Failure(self.role, f'was ended by {signal.Signals(-status).name}',
                               self._last_lines())
            if status or not os.path.exists(self._answer):
                return Failure(self.role, f'ended with status {status}', self._last_lines())
            with open(self._answer, 'rb') as file:
                return pickle.load(file)
        finally:
            self.close()

    def close(self) -> None:
        """Ends the process and all that it started."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass
        self._process.wait()
        self._folder.cleanup()

    def _last_lines(self) -> tuple[str, ...]:
        with open(self._log, 'rb') as log:
            log.seek(max(0, os.path.getsize(self._log) - 10_000))
            text = log.read().decode('utf-8', 'replace')
        lines = [line.rstrip() for line in text.splitlines()
                 if line.strip() and not _NATIVE_LOG.match(line)]
        return tuple(line[:_WIDTH] for line in lines[-_LINES:])


def main() -> None:
    """The child's side."""
    request = json.loads(sys.stdin.read())
    sys.path[:] = request['path']
    if not request['v2']:
        v1.disable_v2_behavior()
    elif not request['eager']:
        v1.disable_eager_execution()
    if request['tf_estimator']:
        installing.install_tf_estimator()
    from estimator_spec_ext.preflight import role_clock, role_work
    # Before the user's modules are imported, which may take `datetime` by name.
    role_clock.advance(request['ahead'])
    task = role_work.Task(request['config'], skip_hooks=tuple(request['skip_hooks']))
    builder = role_work.load(request['builder'])
    ask = role_work.judge_job if request['whole_job'] else role_work.work
    answer = ask(builder, task, request['suppress'])
    with open(request['answer'] + '.part', 'wb') as file:
        pickle.dump(answer, file)
    os.replace(request['answer'] + '.part', request['answer'])
    sys.stdout.flush()
    os._exit(0)  # threads that the job started must not keep the process

"""The fresh process that reads a SavedModel back; it is started early, since it starts slowly."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import subprocess
import sys
import threading
from typing import Any, Iterator, Optional, Sequence

from estimator_spec_ext.preflight.limits import Limits, TimeLimit

_SECONDS_TO_END = 2.


class ReaderFailed(Exception):
    """The fresh process could not be started, or ended by itself."""


class Reader:
    """One fresh process for all SavedModels of a job.

    Attributes:
      shared: whether other preflights use it too.
    """

    def __init__(self) -> None:
        program = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'reload.py')
        environment = {**os.environ, 'TF_CPP_MIN_LOG_LEVEL': '3', 'CUDA_VISIBLE_DEVICES': '-1'}
        environment.pop('TF_CONFIG', None)
        self._process: Optional[subprocess.Popen[str]] = None
        self._lines: queue.Queue[str] = queue.Queue()
        self._number = 0
        self.shared = False
        try:
            self._process = subprocess.Popen(
                [sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, encoding='utf-8', env=environment,
                # Ctrl-C is for the parent, which then ends this process.
                start_new_session=os.name != 'nt')
        except OSError:
            return
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        process = self._process
        if process is not None and process.stdout is not None:
            for line in process.stdout:
                self._lines.put(line)
        self._lines.put('')

    def ask(self, path: str, queries: Sequence[tuple[str, dict[str, Any]]], scratch: str,
            limits: Limits) -> tuple[dict[str, Any], list[Any]]:
        """Loads a SavedModel and asks its signatures.

        Args:
          path: the folder of the SavedModel.
          queries: name of a signature, and arrays by input.
          scratch: a folder for arrays.
          limits: the time.

        Returns:
          The answer, with 'signatures' or 'error', and for each query (name, outputs of two runs,
          error).

        Raises:
          ReaderFailed: when the process is not there.
          TimeLimit: when there is no answer in time.
        """
        process = self._process
        if process is None or process.stdin is None or process.poll() is not None:
            raise ReaderFailed
        self._number += 1
        names = {name: os.path.join(scratch, f'{name}_{self._number}.pickle')
                 for name in ('queries', 'results')}
        with open(names['queries'], 'wb') as file:
            pickle.dump(list(queries), file)
        try:
            process.stdin.write(json.dumps({'path': path, **names}) + '\n')
            process.stdin.flush()
        except OSError:
            raise ReaderFailed from None
        line = self._line(limits)
        if not line:
            raise ReaderFailed
        answer = json.loads(line)
        results = []
        if 'error' not in answer:
            with open(names['results'], 'rb') as results_file:
                results = pickle.load(results_file)
        return answer, results

    def _line(self, limits: Limits) -> str:
        while limits.left and not limits.cancelled.is_set():
            try:
                return self._lines.get(timeout=min(.2, limits.left))
            except queue.Empty:
                continue
        self.shared = False  # its answer would be taken for that of the next
        raise TimeLimit

    @property
    def alive(self) -> bool:
        """Whether the process can be asked."""
        return self._process is not None and self._process.poll() is None

    def close(self) -> None:
        """Ends the process, unless others share it."""
        process = self._process
        if process is None or self.shared:
            return
        if process.poll() is None:
            process.kill()
        try:
            process.wait(_SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            pass
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue


_kept: list[Optional[Reader]] = []


def open_reader() -> Reader:
    """A process to ask: a new one, or that of `one_for_all`."""
    if not _kept:
        return Reader()
    reader = _kept[-1]
    if reader is None or not reader.shared or not reader.alive:
        reader = _kept[-1] = Reader()
        reader.shared = True
    return reader


@contextlib.contextmanager
def one_for_all() -> Iterator[None]:
    """Lets all preflights inside ask one process, which starts slowly; it ends at the end."""
    _kept.append(None)
    try:
        yield
    finally:
        reader = _kept.pop()
        if reader is not None:
            reader.shared = False
            reader.close()

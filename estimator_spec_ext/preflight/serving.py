"""Depth 'serve': exports into the scratch folder, reads them back elsewhere, and asks them."""

from __future__ import annotations

import contextlib
import copy
import os
from typing import Any, Callable, Mapping, Optional

import numpy as np

from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import estimator_internals as internals
from estimator_spec_ext.compat import export_internals, frames, rehearsal_internals
from estimator_spec_ext.preflight.facts import PREDICT, Crash, Job, ModeFacts, Place, Placed
from estimator_spec_ext.preflight.limits import Limits, TimeLimit
from estimator_spec_ext.preflight.reader import Reader, ReaderFailed
from estimator_spec_ext.preflight.rehearsal import Rehearsal
from estimator_spec_ext.preflight.scratch import Scratch
from estimator_spec_ext.preflight.sessions import session_line, session_text

_SECONDS_AN_EXPORT = 180.
_STOCK = (tf_estimator.FinalExporter, tf_estimator.LatestExporter, tf_estimator.BestExporter)


class Served(Placed):
    """One export.

    Attributes:
      build: PREDICT on its receiver.
      exporter: the name of the exporter; None for the receiver that was given by itself.
      crash: what the export raised; None when it went well.
      load_error: what the fresh process says when it cannot load the SavedModel.
      signatures: inputs and outputs by name, as the fresh process found them.
      failures: (signature, rows, what went wrong) of queries.
      different: (signature, output, largest difference) of answers that are not those of predict.
      asked: how many queries were answered.
    """

    mode = PREDICT

    def __init__(self, build: ModeFacts, exporter: Optional[str]) -> None:
        super().__init__()
        self.site = build.site
        self.build = build
        self.exporter = exporter
        self.crash: Optional[Crash] = None
        self.load_error: Optional[str] = None
        self.signatures: Mapping[str, Any] = {}
        self.failures: list[tuple[str, int, str]] = []
        self.different: list[tuple[str, str, str]] = []
        self.asked = 0


class ServeFacts(Placed):
    """The exports of a job, for the rules of the stage 'serve'."""

    def __init__(self, job: Job, served: tuple[Served, ...]) -> None:
        super().__init__()
        self.job = job
        self.served = served


class Serving:
    """Exports a job and asks what was exported.

    Args:
      job: the job.
      builds: its modes, as they were built.
      rehearsal: what was rehearsed before.
      scratch: where to work.
      reader: the fresh process.
      limits: the time.
      say: takes a line about what is going on.
      run_exporters: names, classes and objects: exporters of the user's own that take part too.
    """

    def __init__(self, job: Job, builds: tuple[ModeFacts, ...], rehearsal: Rehearsal,
                 scratch: Scratch, reader: Reader, limits: Limits,
                 say: Callable[[str], None], run_exporters: tuple[Any, ...] = ()) -> None:
        self._job = job
        self._builds = builds
        self._rehearsal = rehearsal
        self._scratch = scratch
        self._reader = reader
        self._limits = limits
        self._say = say
        self._run_exporters = run_exporters
        self.notes: list[str] = []
        self._cut: list[Any] = []

    def run(self) -> ServeFacts:
        """Every export that makes sense."""
        served, left = [], list(self._job.exporters)
        for build in self._builds:
            if build.mode == PREDICT and build.source == 'receiver':
                mine = [exporter for exporter in left
                        if export_internals.receiver_fn_of(exporter) is build.receiver_fn
                        or self._is_named(exporter)]
                left = [exporter for exporter in left if exporter not in mine]
                served.extend(self._of_build(build, mine))
        for exporter in left:
            self._leave_out(exporter)
        return ServeFacts(self._job, tuple(served))

    def _leave_out(self, exporter: Any) -> None:
        why = ('what it does is not known; run_exporters names those that may run'
               if not self._is_named(exporter) else 'PREDICT has no serving receiver')
        self.notes.append(f'exporter {exporter.name!r} not run: {why}')

    def _is_named(self, exporter: Any) -> bool:
        """Whether the user asks for an exporter to be run as it is."""
        return any(item is exporter or item == exporter.name
                   or isinstance(item, type) and isinstance(exporter, item)
                   for item in self._run_exporters)

    def _of_build(self, build: ModeFacts, exporters: list[Any]) -> list[Served]:
        reason = ''
        if build.failed:
            reason = 'PREDICT has errors'
        elif rehearsal_internals.has_cluster(self._job.estimator):
            reason = 'the job belongs to a cluster'
        elif not self._rehearsal.has_checkpoint():
            reason = 'there is no checkpoint'
        elif not self._limits.left or self._limits.cancelled.is_set():
            reason = 'no time left'
        if reason:
            self.notes.append(f'not exported: {reason}')
            return []
        runnable = [exporter for exporter in exporters
                    if isinstance(exporter, _STOCK) or self._is_named(exporter)]
        for exporter in exporters:
            if exporter not in runnable:
                self._leave_out(exporter)
        return [self._serve(build, exporter) for exporter in runnable or [None]]

    def _serve(self, build: ModeFacts, exporter: Any) -> Served:
        served = Served(build, None if exporter is None else str(exporter.name))
        self._say('exporting' if exporter is None else f'exporting with {exporter.name!r}')
        try:
            path = self._limits.run(lambda: self._export(build, exporter), _SECONDS_AN_EXPORT)
        except TimeLimit:
            self.notes.append('an export took too long')
            return served
        except (Exception, SystemExit) as error:
            place = Place(*frames.error_site(error))
            served.crash = Crash('export', 'export', Exception(), session_text(error), place)
            return served
        if path is not None:
            self._say('asking the export in a fresh process')
            self._ask(served, os.fsdecode(path))
        return served

    def _export(self, build: ModeFacts, exporter: Any) -> Any:
        tap = internals.Tap(lambda tap: None, lambda tap: None)
        tap.edit_spec = self._scratch.edit_spec
        estimator = internals.probe(self._scratch.estimator, tap)
        folder = os.path.join(self._scratch.folder, 'export')
        checkpoint = self._rehearsal.checkpoint_path()
        if exporter is None:
            return estimator.export_saved_model(folder, build.receiver_fn,
                                                checkpoint_path=checkpoint)
        if checkpoint is None:
            checkpoint = estimator.latest_checkpoint()
        evaluated = self._rehearsal.rehearsed.get('eval')
        metrics = dict(evaluated.metrics) if evaluated is not None else {}
        # TensorFlow's own export: a subclass may do more than that, and keeps its state.
        kind: Any = next((kind for kind in _STOCK if isinstance(exporter, kind)), None)
        arguments = (estimator, os.path.join(folder, 'named', str(exporter.name)), checkpoint,
                     metrics or {'loss': 0., 'global_step': 0}, True)
        copied = copy.copy(exporter)
        if self._is_named(exporter):
            copied.export(*arguments)
            return _saved_model_in(arguments[1])
        path = kind.export(copied, *arguments)
        if kind is tf_estimator.BestExporter:
            # Only the second evaluation is compared with another.
            return kind.export(copied, *arguments) or path
        return path

    def _ask(self, served: Served, path: str) -> None:
        queries, sizes = self._queries(served.build)
        try:
            answer, results = self._reader.ask(path, queries, self._scratch.folder, self._limits)
        except (ReaderFailed, TimeLimit):
            self.notes.append('the export was not read back: no fresh process could be started, '
                              'or it took too long')
            return
        if 'error' in answer:
            served.load_error = _remote_text(answer['error'])
            return
        served.signatures = answer['signatures']
        for size, (name, outputs, error) in zip(sizes, results):
            if error is not None:
                served.failures.append((name, size, _remote_text(error)))
            else:
                served.asked += 1
                self._compare(served, name, size, outputs)

    def _requests(self) -> Any:
        if not self._cut:
            self._cut.append(self._rehearsal.requests())
        return self._cut[0]

    def _queries(self, build: ModeFacts) -> tuple[list[Any], list[int]]:
        asks = build.receiver is not None and build.receiver.known
        rows = self._requests() if asks else None
        if rows is None or build.receiver is None:
            self.notes.append('signatures not asked: no request can be made from the job\'s own '
                              'input')
            return [], []
        queries, sizes = [], []
        for name in build.signatures or ():
            if ':' in name:
                continue  # of receiver_tensors_alternatives, which take something else
            for size, features in rows.batches:
                request = None
                with contextlib.suppress(Exception):  # what does not fit is not asked
                    request = build.receiver.request(features)
                if request is None:
                    self.notes.append('signatures not asked: the receiver takes what the input '
                                      'does not give')
                    return [], []
                queries.append((name, request))
                sizes.append(size)
        return queries, sizes

    def _compare(self, served: Served, name: str, size: int, outputs: Any) -> None:
        if not served.signatures[name]['predicts']:
            return  # to classify and to regress have outputs of names of their own
        predicted = self._rehearsal.rehearsed.get(PREDICT)
        answers = dict(predicted.answers) if predicted is not None else {}
        first, second = outputs
        for key, expected in answers.get(size, {}).items():
            key = key or 'output'
            if key not in first or not _alike(first[key], second[key]):
                continue  # of another name, or drawn at random
            if not _alike(expected, first[key]):
                served.different.append((name, key, _difference(expected, first[key])))


def _saved_model_in(folder: str) -> Optional[str]:
    """The last SavedModel below a folder."""
    found = [root for root, _, names in sorted(os.walk(folder)) if 'saved_model.pb' in names]
    return found[-1] if found else None


def _alike(one: Any, other: Any) -> bool:
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape:
        return False
    if one.dtype.kind in 'fc':
        return bool(np.allclose(one, other, rtol=1e-3, atol=1e-4, equal_nan=True))
    return bool(np.array_equal(one, other))


def _difference(one: Any, other: Any) -> str:
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape:
        return f'shape {other.shape} for {one.shape}'
    if one.dtype.kind in 'fc':
        return f'by up to {float(np.nanmax(np.abs(one - other))):.3g}'
    return 'in some values'


def _remote_text(text: str) -> str:
    """An exception of the fresh process as it would be shown here."""
    name, _, message = text.partition('\n')
    return session_line(name, message)

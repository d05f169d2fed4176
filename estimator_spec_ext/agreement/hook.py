"""`GraphAgreementHook`: the roles of a job compare their graphs before the first step."""

from __future__ import annotations

import os
import re
import tempfile
import threading
import weakref
from typing import Any, Optional

from absl import logging

from estimator_spec_ext import job_role
from estimator_spec_ext.agreement import meeting, sheet
from estimator_spec_ext.agreement.letters import Box
from estimator_spec_ext.compat import frames, tf, v1
from estimator_spec_ext.errors import GraphAgreementError
from estimator_spec_ext.reports import text

_LIMIT_SECS, _LIMIT_SECS_WITH_PS = 600.0, 60.0
_PAUSE_SECS = 0.25
# What tempfile.mkdtemp makes, which Estimator calls where it was given no model_dir.
_MKDTEMP = re.compile(r'tmp[a-z0-9_]{8}')
# Graphs about which a hook has agreed already; a job may have been given two.
_MET: 'weakref.WeakSet[Any]' = weakref.WeakSet()


def automatic_hooks(model_dir: Any) -> tuple[Any, ...]:
    """The hooks of a job whose author asked for agreement, and not for a hook.

    Args:
      model_dir: of the Estimator.

    Returns:
      One `GraphAgreementHook` when several roles train; nothing otherwise, or when the folder is a
      temporary one that Estimator made for this process alone.
    """
    if not model_dir or not job_role.trains_with_others():
        return ()
    parent, name = os.path.split(os.path.abspath(str(model_dir)))
    if parent == os.path.abspath(tempfile.gettempdir()) and _MKDTEMP.fullmatch(name):
        logging.warning('model_dir is a temporary folder, %s, which no other role knows: the roles '
                        'do not compare their graphs. Give RunConfig a model_dir.', model_dir)
        return ()
    return (GraphAgreementHook(model_dir),)


class GraphAgreementHook(v1.train.SessionRunHook):
    """Stops every role of a distributed job, before its first step, when their graphs differ.

    Variables that are made in another order on one worker are mixed without a word under
    MultiWorkerMirroredStrategy; a variable, or an all-reduce, that one role alone has makes the job
    hang. With this hook among its `training_hooks`, each role writes the fingerprint of its graph
    (variables in order with shape and dtype, collectives in order) beside the checkpoints before a
    session is made. The chief compares them; all roles stop with one error that shows the
    difference, or that names the role which did not come.

    With parameter servers the chief never waits: it answers the others from a thread of its own,
    and stops at its next step. A worker that comes late, or comes back, is answered too; when it
    differs after the limit has passed it stops alone. A worker that gets no answer, e.g. since its
    model_dir is not the chief's, logs a warning and goes on.

    It does nothing in a job of one role, in an evaluator, and where another one has done it.
    It takes part in no step: the work is done in `begin`.

    Args:
      model_dir: where the checkpoints are; the same for all roles, on a file system that all of
        them see. Anything that `tf.io.gfile` opens.
      limit_secs: how long to wait for the other roles; by default 600 seconds, and 60 with
        parameter servers.

    Raises:
      TypeError: when `model_dir` is no path.
      ValueError: when it is empty, or the limit is no positive number.

    Example:
      >>> hook = GraphAgreementHook('/tmp/model', limit_secs=120)
      >>> hook.model_dir
      '/tmp/model'
    """

    def __init__(self, model_dir: Any, *, limit_secs: Optional[float] = None) -> None:
        try:
            self.model_dir = os.fspath(model_dir)
        except TypeError:
            raise TypeError(
                f'model_dir must be a path, got {type(model_dir).__name__}') from None
        if not self.model_dir:
            raise ValueError('model_dir is empty; the roles need a folder that all of them see')
        if limit_secs is not None and not (isinstance(limit_secs, (int, float)) and limit_secs > 0):
            raise ValueError(f'limit_secs must be a positive number, got {limit_secs!r}')
        self._limit_secs = limit_secs
        self._participant: Any = None
        self._watch: Optional[_Watch] = None

    def begin(self) -> None:
        """Meets the other roles.

        Raises:
          GraphAgreementError: when the graphs differ, or a role did not come.
        """
        graph = v1.get_default_graph()
        role = job_role.from_environment()
        if (role is None or not role.is_trainer or len(role.trainers) < 2 or graph in _MET):
            return
        _MET.add(graph)
        found = sheet.of_graph(graph, collectives=not role.has_ps)
        kind = meeting.Leader if role.is_leader else meeting.Member
        self._participant = kind(role, Box(self.model_dir), found)
        limit = self._limit_secs or (_LIMIT_SECS_WITH_PS if role.has_ps else _LIMIT_SECS)
        try:
            self._participant.come()
        except tf.errors.OpError as error:
            self._cannot_write(role, error)
            return
        if role.has_ps:
            self._meet_beside_servers(role, graph, limit)
        else:
            self._meet_all(role, graph, limit)

    def _cannot_write(self, role: Any, error: Exception) -> None:
        what = (f'{role.name} cannot write into {self.model_dir} ({type(error).__name__}), where '
                f'the roles compare their graphs')
        if not role.has_ps:
            raise GraphAgreementError(what) from error
        logging.warning('%s; it goes on without.', what)

    def _meet_all(self, role: Any, graph: Any, limit: float) -> None:
        try:
            if role.is_leader:
                failure = self._participant.meet(limit)
            else:
                failure = self._participant.meet(limit, all_agree=True)
        except LookupError as error:
            raise GraphAgreementError(str(error.args[0])) from None
        _raise(failure, graph)

    def _meet_beside_servers(self, role: Any, graph: Any, limit: float) -> None:
        if not role.is_leader:
            try:
                _raise(self._participant.meet(limit, all_agree=False), graph)
            except LookupError as error:
                logging.warning('%s\n  Nobody has compared the graph of %s; it goes on.',
                                error.args[0], role.name)
                return
        self._watch = _Watch(self._participant, limit, weakref.ref(self))
        self._watch.start()

    def after_run(self, run_context: Any, run_values: Any) -> None:
        """Stops a role that goes on while others have not come yet."""
        watch = self._watch
        if watch is not None and watch.failure is not None:
            failure, self._watch = watch.failure, None
            _raise(failure, run_context.session.graph)

    def end(self, session: Any) -> None:
        """Leaves: what the role has written is removed."""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        if self._participant is not None:
            self._participant.leave()
            self._participant = None


class _Watch(threading.Thread):
    """With parameter servers: answers those who come, or listens to the chief, beside the steps."""

    def __init__(self, participant: Any, limit: float, owner: Any) -> None:
        super().__init__(name='graph-agreement', daemon=True)
        self._participant = participant
        self._limit = limit
        self._owner = owner
        self._done = threading.Event()
        self.failure: Optional[meeting.Failure] = None

    def stop(self) -> None:
        """Ends the thread."""
        self._done.set()
        self.join(timeout=5)

    def run(self) -> None:
        try:
            self._listen()
        except Exception as error:  # noqa: BLE001 - a broken disk must not end the training
            logging.warning('The roles stopped comparing their graphs: %s: %s',
                            type(error).__name__, error)

    def _listen(self) -> None:
        leads = isinstance(self._participant, meeting.Leader)
        early = meeting.Pauses(self._limit)
        told: set[str] = set()
        # A training that ended by an exception has collected its hook.
        while self._owner() is not None:
            found = self._answer_all() if leads else self._hear()
            if found is not None and not early.over:
                self.failure = found
                return
            if found is not None and found.text not in told:
                told.add(found.text)
                logging.error('%s\n  It stops alone, since the others have trained already.',
                              found.text)
            if early.over and not leads:
                return
            pause = 8 * _PAUSE_SECS if early.over or not leads else _PAUSE_SECS
            # A large cluster is looked at less often, for the sake of the file system.
            pause = max(pause, len(self._participant.missing) / 50) if leads else pause
            if self._done.wait(pause):
                return

    def _answer_all(self) -> Optional[meeting.Failure]:
        self._participant.look_again()
        return self._participant.failure

    def _hear(self) -> Optional[meeting.Failure]:
        letter = self._participant.ask()
        return None if letter is None else self._participant.failure_in(letter, True)


def _raise(failure: Optional[meeting.Failure], graph: Any) -> None:
    if failure is None:
        return
    lines = []
    wanted = set(failure.variables)
    for variable in sheet.variables_in(graph):
        name = variable.name.split(':')[0]
        if name not in wanted:
            continue
        file, line = frames.op_site(getattr(variable, 'handle', variable).op)
        if file is not None:
            lines.append(f'  here {name!r} is made at {text.short_path(file)}:{line}')
    first, _, rest = failure.text.partition('\n  why:')
    why = f'\n  why:{rest}' if rest else ''
    raise GraphAgreementError('\n'.join([first, *lines[:8]]) + why)

"""What a rehearsal of TRAIN and EVAL shows: crashes, steps, losses, restarts."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs
from estimator_spec_ext.rules.preflight_crash import MODE_NAMES

DOING = {'train': 'TRAIN', 'resume': 'a second TRAIN', 'eval': 'EVAL', 'infer': 'PREDICT'}


def crashed(facts: Any, *kinds: str) -> Iterator[tuple[Any, Any]]:
    """The rehearsals that ended with an exception of these kinds."""
    for rehearsed in facts.get('train', 'resume', 'eval', 'infer'):
        if rehearsed.crash is not None and rehearsed.crash.kind in kinds:
            yield rehearsed, rehearsed.crash


def run_job(function: Any = jobs.model_fn, **options: Any) -> Any:
    """A job that is rehearsed, and not exported."""
    options.setdefault('receiver', None)
    return jobs.job(function, depth='run', **options)


def _asserts(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode == 'eval':
        with tf.control_dependencies([tf.debugging.assert_less(features['x'], 5.)]):
            prediction = tf.identity(prediction)
    return jobs.spec(mode, prediction, labels)


# A metric computed from the value of another: each replica has its own.
_PER_REPLICA = 'PerReplica'
_PER_REPLICA_HINT = ('hand on metrics as tf.compat.v1.metrics or tf.keras.metrics make them: what '
                     'is computed from their values differs by replica')


class RehearsalFails(Rule):
    """A mode cannot be run: its session raises.

    What it finds: an exception in the session of a rehearsal that no other rule explains: an op
    that fails on the job's own data, an initialiser that is missing, a hook that raises.

    Why it matters: EVAL runs for the first time at the first checkpoint, PREDICT after training.

    Bad:
        tf.debugging.assert_less(features['x'], 5.)    # the data of EVAL goes beyond

    Good:
        features['x'] = tf.minimum(features['x'], 5.)

    When to suppress: when the data or the device is only there where the job will run.
    """

    code = 'ESX141'
    slug = 'rehearsal-fails'
    severity = Severity.ERROR
    stage = 'run'
    mistakes = ('X11', 'I2', 'V9', 'L1', 'L2', 'M9', 'X9')

    def check(self, facts: Any) -> Iterator[Finding]:
        for rehearsed, crash in crashed(facts, 'failed', 'uninitialized'):
            if rehearsed.name == 'resume':
                continue
            where = ''
            if 'hook' in crash.details:
                where = f' in {crash.details["hook"]}.{crash.details["method"]}'
            yield self.finding(
                rehearsed, f'{DOING[rehearsed.name]} fails when it runs{where}: {crash.text}',
                hint=_PER_REPLICA_HINT if _PER_REPLICA in crash.text else
                'mend this line; it was run on a batch of the job\'s own data',
                op=crash.place, actual=crash.text)

    @staticmethod
    def bad() -> Any:
        """An assertion that the data of EVAL does not keep."""
        return run_job(_asserts)

    @staticmethod
    def good() -> Any:
        """No assertion."""
        return run_job()


class _EndHook(tf_estimator.SessionRunHook):
    """Makes an op when all is over."""

    def end(self, session: Any) -> None:
        session.run(tf.constant(1))


class _CountingHook(tf_estimator.SessionRunHook):
    """Makes an op every hundred steps."""

    def __init__(self) -> None:
        self._every_steps = 100
        self._seen = 0

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self._seen += 1
        if self._seen % self._every_steps == 0:
            run_context.session.run(tf.constant(1))


class _BeginHook(tf_estimator.SessionRunHook):
    """Makes its op in time."""

    def begin(self) -> None:
        self._one = tf.constant(1)

    def end(self, session: Any) -> None:
        session.run(self._one)


def _in_evaluation(features: Any, labels: Any, mode: str) -> Any:
    hooks = [_EndHook()] if mode == 'eval' else None
    return jobs.spec(mode, jobs.linear(features), labels, evaluation_hooks=hooks)


def bad_every_hundred() -> Any:
    """A hook that would raise at step 100."""
    return run_job(train_hooks=[_CountingHook()], evaluate=None)


def bad_in_evaluation() -> Any:
    """A hook of EVAL."""
    return run_job(_in_evaluation)


class HookChangesFinalizedGraph(Rule):
    """A hook makes an op after the graph was finalized.

    What it finds: "Graph is finalized and cannot be modified", raised by a hook in a rehearsal. Own
    hooks act at each step there, so that those that act rarely show it too.

    Why it matters: hooks may add to the graph in begin() alone. In after_run it kills the job at
    the step at which it acts first; in end() after the whole of the training.

    Bad:
        def end(self, session):
            session.run(tf.constant(1))

    Good:
        def begin(self):
            self._one = tf.constant(1)

    When to suppress: never; the job would fail.
    """

    code = 'ESX650'
    slug = 'hook-changes-finalized-graph'
    severity = Severity.ERROR
    stage = 'run'
    mistakes = ('H3',)
    more_bad = (bad_every_hundred, bad_in_evaluation)

    def check(self, facts: Any) -> Iterator[Finding]:
        for rehearsed, crash in crashed(facts, 'finalized'):
            hook = crash.details.get('hook', 'a hook, or Scaffold.init_fn,')
            method = crash.details.get('method')
            at = f'{hook}.{method}' if method else hook
            yield self.finding(
                rehearsed, f'{at} adds an op to the finalized graph of {DOING[rehearsed.name]}',
                hint='make every op in begin(), and only run it later', op=crash.place,
                expected='ops made in begin()', actual=crash.text)

    @staticmethod
    def bad() -> Any:
        """The last line of the run."""
        return run_job(train_hooks=[_EndHook()], evaluate=None)

    @staticmethod
    def good() -> Any:
        """The op is made in time."""
        return run_job(train_hooks=[_BeginHook()], evaluate=None)


class _FirstRunHook(tf_estimator.SessionRunHook):
    """Is meant for a run from step 0."""

    def __init__(self, needed: bool) -> None:
        self._needed = needed

    def begin(self) -> None:
        if self._needed:
            self._check = tf.debugging.assert_equal(
                v1.train.get_global_step(), tf.constant(0, tf.int64))

    def after_create_session(self, session: Any, coord: Any) -> None:
        if self._needed:
            session.run(self._check)


class ResumeFails(Rule):
    """Training starts, and cannot be started again from its own checkpoint.

    What it finds: a second train() on the checkpoint of a first one that fails in its session,
    mostly because the saver leaves out variables that nothing else initialises.

    Why it matters: a job that is preempted, or started again, dies; the first run is fine.

    Bad:
        Scaffold(saver=Saver(variables_without_embedding))

    Good:
        Scaffold()                                    # saves them all

    When to suppress: when the job is never started again.
    """

    code = 'ESX722'
    slug = 'resume-fails'
    severity = Severity.ERROR
    stage = 'run'
    mistakes = ('V3', 'I2')

    def check(self, facts: Any) -> Iterator[Finding]:
        for rehearsed, crash in crashed(facts, 'failed', 'uninitialized', 'restore'):
            if rehearsed.name == 'resume' and not rehearsed.build.told('V3'):
                yield self.finding(
                    rehearsed, f'training cannot be resumed from its own checkpoint: {crash.text}',
                    hint='let the saver hold all variables, or initialise the others in '
                         'local_init_op', field='scaffold', op=crash.place, actual=crash.text)

    @staticmethod
    def bad() -> Any:
        """A hook that bears no other start than the first."""
        return run_job(train_hooks=[_FirstRunHook(True)], evaluate=None)

    @staticmethod
    def good() -> Any:
        """One that does."""
        return run_job(train_hooks=[_FirstRunHook(False)], evaluate=None)


class RestoreFails(Rule):
    """EVAL or PREDICT cannot restore the checkpoint that TRAIN has just written.

    What it finds: "not found in checkpoint" and its like in a rehearsal, where the graphs alone did
    not show it, e.g. for variables that hooks make.

    Why it matters: it would come at the first checkpoint, or at the export.

    Bad:
        a hook of EVAL that makes a global variable in begin()

    Good:
        tf.compat.v1.get_variable(..., collections=[tf.compat.v1.GraphKeys.LOCAL_VARIABLES])

    When to suppress: never; the job would fail.
    """

    code = 'ESX723'
    slug = 'restore-fails'
    severity = Severity.ERROR
    stage = 'run'
    mistakes = ('V1',)

    def check(self, facts: Any) -> Iterator[Finding]:
        for rehearsed, crash in crashed(facts, 'restore'):
            if rehearsed.name != 'resume':
                yield self.finding(
                    rehearsed, f'{MODE_NAMES[rehearsed.mode]} cannot restore the checkpoint of '
                               f'TRAIN: {crash.text}', op=crash.place, actual=crash.text,
                    hint='make variables that TRAIN does not have local ones')

    @staticmethod
    def bad() -> Any:
        """A hook's variable."""
        return run_job(_hook_variable(v1.GraphKeys.GLOBAL_VARIABLES))

    @staticmethod
    def good() -> Any:
        """A local one."""
        return run_job(_hook_variable(v1.GraphKeys.LOCAL_VARIABLES))


def _hook_variable(collection: str) -> Any:
    class Counts(tf_estimator.SessionRunHook):
        """Counts in a variable."""

        def begin(self) -> None:
            self._count = v1.get_variable('count', [], collections=[collection], trainable=False)

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        hooks = [Counts()] if mode == 'eval' else None
        return jobs.spec(mode, jobs.linear(features), labels, evaluation_hooks=hooks)

    return model_fn

"""Rehearsals that come to no end, and hooks that act outside of the job's own folders."""

from __future__ import annotations

import os
from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs
from estimator_spec_ext.rules.preflight_run import crashed, run_job


class RehearsalHangs(Rule):
    """A rehearsal of two steps came to no end.

    What it finds: a mode whose rehearsal took longer than the time limit.

    Why it matters: an input that waits, a collective without its partners, or steps that are just
    slow on this machine.

    Bad:
        an input function that waits for a queue that nobody fills

    Good:
        an input function that ends or goes on

    When to suppress: when a step takes minutes on this machine.
    """

    code = 'ESX728'
    slug = 'rehearsal-hangs'
    severity = Severity.WARNING
    stage = 'run'
    mistakes = ('P5',)

    def check(self, facts: Any) -> Iterator[Finding]:
        for rehearsed, _ in crashed(facts, 'hang'):
            yield self.finding(
                rehearsed, 'two steps came to no end within the time limit',
                hint='look at what the input and the hooks wait for', expected='two steps',
                actual='no end in sight')

    @staticmethod
    def bad() -> Any:
        """An input that waits for ever."""
        job = run_job(train=_waits, evaluate=None)
        job.time_limit = 2.
        return job

    @staticmethod
    def good() -> Any:
        """An input that does not."""
        return run_job(evaluate=None)


def _waits() -> Any:
    x = tf.data.Dataset.from_tensors([0.] * jobs.FEATURES).repeat()
    nothing = x.filter(lambda row: row[0] > 1.)
    return nothing.batch(4).map(lambda rows: ({'x': rows}, rows[:, :1]))


class _FileHook(tf_estimator.SessionRunHook):
    """Writes a file to where a function says."""

    def __init__(self, path: str) -> None:
        self._where = lambda: path

    def end(self, session: Any) -> None:
        _write(self._where())


class _PathHook(tf_estimator.SessionRunHook):
    """Writes a file to a path that it holds."""

    def __init__(self, path: str) -> None:
        self._path = path

    def end(self, session: Any) -> None:
        _write(self._path)


def _write(path: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w', encoding='utf-8') as file:
        file.write('done')


def good_path() -> Any:
    """A path in model_dir that a hook of one's own holds is moved to the scratch folder."""
    first = jobs.job()
    path = os.path.join(first.estimator.model_dir, 'done.txt')
    return run_job(folder=first.folder, train_hooks=[_PathHook(path)], evaluate=None)


class WritesOutside(Rule):
    """A rehearsal changed files in the user's model_dir.

    What it finds: files of model_dir that were made or changed while the modes were rehearsed in a
    scratch folder: by a hook, a listener or a model_fn that knows the path by itself.

    Why it matters: model_fn should write to config.model_dir, and hooks to where they are told;
    otherwise two runs meet in one folder. Name such hooks in skip_hooks.

    Bad:
        class SaveVocabulary: writes to FLAGS.model_dir

    Good:
        class SaveVocabulary: writes to the folder that config.model_dir names

    When to suppress: when nothing else writes to that file.
    """

    code = 'ESX729'
    slug = 'writes-outside'
    severity = Severity.WARNING
    stage = 'run'
    more_good = (good_path,)

    def check(self, facts: Any) -> Iterator[Finding]:
        if facts.changed_files:
            names = describe.names(map(repr, facts.changed_files), 2)
            yield self.finding(
                facts, f'a rehearsal in a scratch folder changed {names} in model_dir',
                hint='write below config.model_dir, or name the hook in skip_hooks',
                expected='no changes', actual=names)

    @staticmethod
    def bad() -> Any:
        """A hook that knows the folder by itself."""
        first = jobs.job()
        path = os.path.join(first.estimator.model_dir, 'done.txt')
        return run_job(folder=first.folder, train_hooks=[_FileHook(path)], evaluate=None)

    @staticmethod
    def good() -> Any:
        """TensorFlow's own hooks are sent to the scratch folder."""
        first = jobs.job()
        hook = v1.train.CheckpointSaverHook(first.estimator.model_dir, save_steps=5)
        return run_job(folder=first.folder, train_hooks=[hook], evaluate=None)


class HookLeftOut(Rule):
    """A hook took no part in the rehearsal.

    What it finds: hooks named in skip_hooks, and hooks that hold a summary writer of their own on a
    folder outside of the scratch folder.

    Why it matters: a rehearsal writes nothing of the user's. What these hooks do is not checked.

    Bad:
        hook holds tf.compat.v1.summary.FileWriter('logs')

    Good:
        hook opens its writer in begin(), through tf.compat.v1.summary.FileWriterCache

    When to suppress: when the hook is known to work.
    """

    code = 'ESX651'
    slug = 'hook-left-out'
    severity = Severity.INFO
    stage = 'run'

    def check(self, facts: Any) -> Iterator[Finding]:
        for name, reason in facts.left_out:
            yield self.finding(
                facts, f'hook {name} took no part in the rehearsal: {reason}',
                hint='let it open its writer in begin(), through FileWriterCache', actual=reason)

    @staticmethod
    def bad() -> Any:
        """A writer of its own."""
        folder = jobs.job().folder
        hook = tf_estimator.SessionRunHook()
        with _graph():
            hook.writer = v1.summary.FileWriter(os.path.join(folder.name, 'logs'))
        return run_job(folder=folder, train_hooks=[hook], evaluate=None)

    @staticmethod
    def good() -> Any:
        """A writer of TensorFlow's cache, which is sent to the scratch folder."""
        folder = jobs.job().folder
        hook = v1.train.StepCounterHook(every_n_steps=1, output_dir=os.path.join(
            folder.name, 'logs'))
        return run_job(folder=folder, train_hooks=[hook], evaluate=None)


def _graph() -> Any:
    return v1.Graph().as_default()

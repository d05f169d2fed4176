"""Hooks that write files: checkpoint savers, and others that must run on the chief alone."""

from __future__ import annotations

import json
import linecache
import os
import pathlib
import re
import tempfile
from typing import Any, Iterator, Optional

from estimator_spec_ext import describe, job_role
from estimator_spec_ext.compat import distribution, rehearsal_internals, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import JobContext, SpecFacts
from estimator_spec_ext.hooks import class_name, stored_attributes
from estimator_spec_ext.rule import HOOKS, TRAIN, Rule
from estimator_spec_ext.rules.hooks_listed import running_hooks

# These let MonitoredTrainingSession make a saver of its own, whatever the hooks are.
_MULTI_WORKER = ('CollectiveAllReduceStrategy', 'CollectiveAllReduceStrategyV1',
                 'CollectiveAllReduceExtended', 'MultiWorkerMirroredStrategy')
_OF_ONE_TASK = re.compile(r'(chief|master|worker|task|rank|replica)[-_/]?\d', re.IGNORECASE)
# How code asks which task it runs in.
_ASKS_FOR_ROLE = re.compile(
    r"is_chief|task_type|task_id|task_index|\[['\"]task['\"]\]|get\(['\"]task['\"]")
_WRITERS = (v1.train.SummarySaverHook, v1.train.StepCounterHook, v1.train.ProfilerHook)


def _savers(facts: SpecFacts) -> list[tuple[str, Any]]:
    """Place and hook of each different checkpoint saver that runs."""
    found = {id(hook): (place, hook) for place, hook in reversed(running_hooks(facts))
             if isinstance(hook, v1.train.CheckpointSaverHook)}
    return list(found.values())[::-1]


def _directory(hook: Any, *names: str) -> Optional[str]:
    """The first of these attributes of a hook that is a path; None when none is."""
    stored = dict(stored_attributes(hook))
    for name in names:
        value = stored.get(name)
        if isinstance(value, pathlib.PurePath) or type(value) is str and value:
            return os.fspath(value)
    return None


def _plain(path: str) -> str:
    if '://' in path:
        return path.rstrip('/')
    return os.path.realpath(path)


def workers(facts: SpecFacts) -> int:
    """How many workers train, the chief included, as far as it is known; at least 1."""
    if facts.context.num_workers is not None:
        return facts.context.num_workers
    try:
        cluster = json.loads(os.environ.get('TF_CONFIG') or '{}').get('cluster') or {}
        return max(1, sum(len(cluster.get(job) or ()) for job in ('chief', 'master', 'worker')))
    except (ValueError, TypeError, AttributeError):
        return 1


def _severity(facts: SpecFacts) -> Optional[Severity]:
    """None for that of the rule: on the chief the code may have made the hook for it alone."""
    role = job_role.from_environment()
    if role is None or not role.is_leader:
        return None
    _, file, _ = facts.place()
    asks = file is None or any(map(_ASKS_FOR_ROLE.search, linecache.getlines(file)))
    return Severity.INFO if asks else None


def _on_every_worker(place: str) -> bool:
    return not place.startswith('training_chief_hooks')


def _train() -> dict[str, Any]:
    weight = v1.get_variable('w', [])
    loss = tf.square(weight, name='loss')
    train_op = v1.train.GradientDescentOptimizer(.1).minimize(
        loss, v1.train.get_or_create_global_step())
    return {'mode': 'train', 'loss': loss, 'train_op': train_op}


def _saver(directory: str = 'job') -> Any:
    return v1.train.CheckpointSaverHook(directory, save_steps=100, scaffold=v1.train.Scaffold())


class SaverOnEveryWorker(Rule):
    """Every worker saves checkpoints.

    What it finds: a CheckpointSaverHook in training_hooks, or among the hooks of the TrainSpec, of
    a job with several workers. On the chief this is a note where the code asks for its role: it may
    make the hook there alone, which the other roles show.

    Why it matters: all of them write the same files at once. TensorFlow says nothing; checkpoints
    are overwritten while they are written, and some cannot be restored.

    Bad:
        training_hooks=[CheckpointSaverHook(model_dir, save_steps=100)]

    Good:
        training_chief_hooks=[CheckpointSaverHook(model_dir, save_steps=100)]

    When to suppress: when only the chief's process makes the hook, or each worker saves to a
    directory of its own.
    """

    code = 'ESX606'
    slug = 'saver-on-every-worker'
    severity = Severity.WARNING
    stage = 'spec'
    modes = (TRAIN,)
    mistakes = ('V8', 'H10')
    about = HOOKS

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        for place, hook in _savers(facts):
            if not _on_every_worker(place) or workers(facts) < 2 or _is_of_one_task(hook):
                continue
            yield self.finding(
                facts, f'{place} ({class_name(hook)}) saves on each of {workers(facts)} workers; '
                       'expected the chief alone', field=place,
                hint='move it to training_chief_hooks', expected='training_chief_hooks',
                actual=place.split('[')[0], severity=_severity(facts))

    @staticmethod
    def bad() -> Any:
        """For the chief and two workers."""
        return {**_train(), 'training_hooks': [_saver()], 'context': JobContext(num_workers=3)}

    @staticmethod
    def good() -> Any:
        """For the chief of three."""
        return {**_train(), 'training_chief_hooks': [_saver()],
                'context': JobContext(num_workers=3)}


def _saver_of_a_lone_worker() -> Any:
    """With one worker both fields are the same."""
    return {**_train(), 'training_hooks': [_saver()], 'context': JobContext(num_workers=1)}


SaverOnEveryWorker.more_good = (_saver_of_a_lone_worker,)


def _written_to(hook: Any) -> Optional[str]:
    """Where a hook writes summaries or profiles: a directory of its own, or a writer's."""
    directory = _directory(hook, '_output_dir', '_output_file')
    return directory or next(filter(None, rehearsal_internals.writers_of(hook)), None)


def _is_of_one_task(hook: Any) -> bool:
    directory = _directory(hook, '_checkpoint_dir') or _written_to(hook)
    return directory is not None and bool(_OF_ONE_TASK.search(directory))


class SaverTwice(Rule):
    """Two checkpoint savers write to one directory.

    What it finds: two CheckpointSaverHooks that run in TRAIN and save to the same directory.

    Why it matters: each keeps its own list of checkpoints, and both write the one file that names
    the latest: checkpoints that are thought kept are lost, and the listeners that
    `train_and_evaluate` adds, by which it evaluates, hear of the first saver alone.

    Bad:
        training_chief_hooks=[CheckpointSaverHook(d, save_secs=600),
                              CheckpointSaverHook(d, save_steps=1000)]

    Good:
        training_chief_hooks=[CheckpointSaverHook(d, save_steps=1000)]

    When to suppress: when both are wanted and no one restores the latest checkpoint by itself.
    """

    code = 'ESX607'
    slug = 'saver-twice'
    severity = Severity.WARNING
    stage = 'spec'
    modes = (TRAIN,)
    mistakes = ('V8',)
    about = HOOKS

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        first: dict[str, str] = {}
        for place, hook in _savers(facts):
            directory = _directory(hook, '_checkpoint_dir')
            if directory is None:
                continue
            before = first.setdefault(_plain(directory), place)
            if before == place:
                continue
            yield self.finding(
                facts, f'{place} ({class_name(hook)}) saves to the directory of {before}; '
                       'expected one saver', field=place, hint='leave one of the two out',
                expected='one saver for a directory', actual=f'{before} and {place}')

    @staticmethod
    def bad() -> Any:
        """One hook a field."""
        return {**_train(), 'training_chief_hooks': [_saver()], 'training_hooks': [_saver('job/')]}

    @staticmethod
    def good() -> Any:
        """One of one's own: Estimator then adds none."""
        return {**_train(), 'training_chief_hooks': [_saver()]}


def _a_second_copy_elsewhere() -> Any:
    """A backup on another disk, beside the checkpoints of the job."""
    return {**_train(), 'training_chief_hooks': [_saver('job'), _saver('backup')],
            'context': JobContext(model_dir='job')}


SaverTwice.more_good = (_a_second_copy_elsewhere,)


class SaverElsewhere(Rule):
    """The only checkpoint savers write to another directory than the job's.

    What it finds: CheckpointSaverHooks that run in TRAIN, none of which saves to model_dir. Where
    no Estimator is calling model_fn, nor preflight looks on, model_dir is not known.

    Why it matters: any CheckpointSaverHook switches Estimator's own saver off. model_dir stays
    empty: `train` says nothing and restarts from zero, evaluate and predict find no checkpoint,
    `train_and_evaluate` raises after the first save.

    Bad:
        training_chief_hooks=[CheckpointSaverHook('/backup', save_steps=1000)]

    Good:
        training_chief_hooks=[CheckpointSaverHook('/backup', save_steps=1000),
                              CheckpointSaverHook(config.model_dir, save_steps=100)]

    When to suppress: when nobody reads checkpoints from model_dir.
    """

    code = 'ESX608'
    slug = 'saver-elsewhere'
    severity = Severity.WARNING
    stage = 'spec'
    modes = (TRAIN,)
    mistakes = ('V8',)
    about = HOOKS

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        model_dir = facts.context.model_dir
        if not model_dir or distribution.strategy_name() in _MULTI_WORKER:
            return
        savers = [(place, hook, _directory(hook, '_checkpoint_dir'))
                  for place, hook in _savers(facts)]
        if not savers or any(directory is None or _plain(directory) == _plain(model_dir)
                             for _, _, directory in savers):
            return
        place, hook, directory = savers[0]
        yield self.finding(
            facts, f'{place} ({class_name(hook)}) saves to {describe.value(directory)}; nothing '
                   'saves to model_dir', field=place,
            hint='save to config.model_dir, or leave the hook out: any CheckpointSaverHook '
                 "switches Estimator's own off",
            expected='a checkpoint in model_dir', actual=describe.value(directory))

    @staticmethod
    def bad() -> Any:
        """A backup in place of the checkpoints."""
        return {**_train(), 'training_chief_hooks': [_saver('backup')],
                'context': JobContext(model_dir='job')}

    @staticmethod
    def good() -> Any:
        """The directory of the job, however it is written."""
        return {**_train(), 'training_chief_hooks': [_saver('./job/')],
                'context': JobContext(model_dir=os.path.abspath('job'))}


class WriterOnEveryWorker(Rule):
    """Every worker writes summaries or profiles to one directory.

    What it finds: a SummarySaverHook, ProfilerHook or StepCounterHook with a directory in
    training_hooks, or among the hooks of the TrainSpec, of a job with several workers. On the chief
    this is a note where the code asks for its role: it may make the hook there alone, which the
    other roles show.

    Why it matters: all workers write there. Profiles of one step overwrite each other, and
    TensorBoard joins the curves of several workers into one that jumps. TensorFlow says nothing.

    Bad:
        training_hooks=[SummarySaverHook(100, output_dir=d, summary_op=op)]

    Good:
        training_chief_hooks=[SummarySaverHook(100, output_dir=d, summary_op=op)]

    When to suppress: when only one process makes the hook, or each task has its own directory.
    """

    code = 'ESX609'
    slug = 'writer-on-every-worker'
    severity = Severity.WARNING
    stage = 'spec'
    modes = (TRAIN,)
    mistakes = ('H10',)
    about = HOOKS

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        for place, hook in running_hooks(facts):
            if not isinstance(hook, _WRITERS) or not _on_every_worker(place):
                continue
            directory = _written_to(hook)
            if directory is None or workers(facts) < 2 or _is_of_one_task(hook):
                continue
            yield self.finding(
                facts, f'{place} ({class_name(hook)}) writes on each of {workers(facts)} workers; '
                       'expected the chief alone', field=place,
                hint='move it to training_chief_hooks', expected='training_chief_hooks',
                actual=place.split('[')[0], severity=_severity(facts))

    @staticmethod
    def bad() -> Any:
        """Summaries of each of two workers."""
        fields = _train()
        hook = v1.train.SummarySaverHook(
            100, output_dir='job', summary_op=v1.summary.scalar('loss', fields['loss']))
        return {**fields, 'training_hooks': [hook], 'context': JobContext(num_workers=2)}

    @staticmethod
    def good() -> Any:
        """Summaries of the chief; a directory for each worker; a counter that only logs."""
        fields = _train()
        summary = v1.summary.scalar('loss', fields['loss'])
        return {**fields, 'context': JobContext(num_workers=2),
                'training_chief_hooks': [
                    v1.train.SummarySaverHook(100, output_dir='job', summary_op=summary)],
                'training_hooks': [
                    v1.train.SummarySaverHook(100, output_dir='job/worker_1', summary_op=summary),
                    v1.train.StepCounterHook(every_n_steps=10)]}


def _writer_given() -> Any:
    """Summaries through a writer that the hook was given."""
    fields = WriterOnEveryWorker.bad()
    writer = v1.summary.FileWriter(tempfile.mkdtemp(prefix='ese_example_'))
    writer.close()
    hook = v1.train.SummarySaverHook(
        100, summary_writer=writer, summary_op=v1.summary.scalar('mean', fields['loss']))
    return {**fields, 'training_hooks': [hook]}


WriterOnEveryWorker.more_bad = (_writer_given,)

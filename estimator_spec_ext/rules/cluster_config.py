"""Settings of a job that mean something else in a cluster, or under a strategy."""

from __future__ import annotations

import json
import os
from typing import Any, Iterator, Mapping, Optional

from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import role_internals, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs

_DEFAULT_SECONDS = 600
_FORCED_STEPS = 1000
_TASKS = {'cluster': {'chief': ['a.invalid:1'], 'worker': ['b.invalid:1']},
          'task': {'type': 'chief', 'index': 0}}


def _collective_cluster(facts: Any) -> bool:
    """Whether tasks of a cluster train together under a MultiWorkerMirroredStrategy."""
    return bool(facts.config.cluster_spec.jobs) and role_internals.is_collective(
        facts.config.train_distribute)


def in_cluster(config: Optional[Mapping[str, Any]] = None, **options: Any) -> Any:
    """A job as the chief of a chief and a worker under MultiWorkerMirroredStrategy sees it."""
    with role_internals.environment(_TASKS):
        # The default graph of the example: there a strategy starts no server.
        job = jobs.job(config={
            'train_distribute': tf.distribute.MultiWorkerMirroredStrategy(),
            'save_checkpoints_steps': 50, **(config or {})}, **options)
    job.environ = {'TF_CONFIG': json.dumps(_TASKS)}
    return job


def good_local() -> Any:
    """In one process checkpoints have nothing to do with summaries."""
    return jobs.job(config={'save_summary_steps': 0, 'save_checkpoints_steps': 50})


class CheckpointsNeverSaved(Rule):
    """Without summaries a MultiWorkerMirroredStrategy job saves no checkpoint.

    What it finds: RunConfig(save_summary_steps=0) in a cluster under MultiWorkerMirroredStrategy.

    Why it matters: there TensorFlow makes the saver of checkpoints only where it makes the saver of
    summaries. The job trains to its end, exits with status 0, and has saved nothing.

    Bad:
        RunConfig(train_distribute=strategy, save_summary_steps=0)

    Good:
        RunConfig(train_distribute=strategy, save_summary_steps=10**9)

    When to suppress: when a CheckpointSaverHook of your own saves.
    """

    code = 'ESX860'
    slug = 'checkpoints-never-saved'
    severity = Severity.ERROR
    stage = 'config'
    mistakes = ('V8',)
    more_good = (good_local,)

    def check(self, facts: Any) -> Iterator[Finding]:
        if _collective_cluster(facts) and not facts.config.save_summary_steps:
            yield self.finding(
                facts, 'save_summary_steps=0 under MultiWorkerMirroredStrategy: no checkpoint will '
                       'be saved', hint='write save_summary_steps=10**9, for none in practice',
                field='save_summary_steps', expected='more than 0',
                actual=str(facts.config.save_summary_steps))

    @staticmethod
    def bad() -> Any:
        """No summaries."""
        return in_cluster({'save_summary_steps': 0})

    @staticmethod
    def good() -> Any:
        """A summary now and then."""
        return in_cluster({'save_summary_steps': 10})


def bad_short_job() -> Any:
    """The default, and training that ends before the first of those steps."""
    return in_cluster({'save_checkpoints_steps': None, 'save_checkpoints_secs': 600},
                      max_steps=500)


class CheckpointSecondsIgnored(Rule):
    """MultiWorkerMirroredStrategy saves every 1000 steps, whatever save_checkpoints_secs is.

    What it finds: save_checkpoints_secs in a cluster under MultiWorkerMirroredStrategy: a warning
    where it was chosen, a note where it is the default.

    Why it matters: seconds would let the tasks save at different steps, so TensorFlow writes one
    line into the log and saves every 1000 steps. With slow steps that is hours of work lost with
    the first machine; with fast ones the disk fills up.

    Bad:
        RunConfig(train_distribute=strategy, save_checkpoints_secs=60)

    Good:
        RunConfig(train_distribute=strategy, save_checkpoints_steps=100)

    When to suppress: when every 1000 steps is right.
    """

    code = 'ESX861'
    slug = 'checkpoint-seconds-ignored'
    severity = Severity.WARNING
    stage = 'config'
    mistakes = ('D1',)
    more_bad = (bad_short_job,)

    def check(self, facts: Any) -> Iterator[Finding]:
        seconds = facts.config.save_checkpoints_secs
        if not seconds or not _collective_cluster(facts):
            return
        yield self.finding(
            facts, f'save_checkpoints_secs={seconds} becomes {_FORCED_STEPS} steps under '
                   'MultiWorkerMirroredStrategy', hint='set save_checkpoints_steps',
            field='save_checkpoints_secs', expected='save_checkpoints_steps',
            actual=f'save_checkpoints_secs={seconds}',
            severity=Severity.INFO if seconds == _DEFAULT_SECONDS else None)

    @staticmethod
    def bad() -> Any:
        """A checkpoint a minute."""
        return in_cluster({'save_checkpoints_steps': None, 'save_checkpoints_secs': 60})

    @staticmethod
    def good() -> Any:
        """A checkpoint every fifty steps."""
        return in_cluster()


def _listening(job: Any) -> Any:
    spec = job.train_spec
    job.train_spec = tf_estimator.TrainSpec(
        spec.input_fn, max_steps=spec.max_steps,
        saving_listeners=[v1.train.CheckpointSaverListener()])
    return job


class SavingListenersDropped(Rule):
    """MultiWorkerMirroredStrategy calls no saving_listeners.

    What it finds: TrainSpec(saving_listeners=...) in a cluster under MultiWorkerMirroredStrategy.

    Why it matters: they are left out without a word: what they copy, count or evaluate after each
    checkpoint does not happen.

    Bad:
        TrainSpec(input_fn, max_steps=1000, saving_listeners=[CopyToBackup()])

    Good:
        TrainSpec(input_fn, max_steps=1000, hooks=[CopyToBackupHook()])

    When to suppress: when nothing depends on them.
    """

    code = 'ESX862'
    slug = 'saving-listeners-dropped'
    severity = Severity.WARNING
    stage = 'config'
    mistakes = ('V8',)

    def check(self, facts: Any) -> Iterator[Finding]:
        spec = facts.job.train_spec
        listeners = getattr(spec, 'saving_listeners', None) or ()
        if listeners and _collective_cluster(facts):
            yield self.finding(
                facts, f'{len(listeners)} of TrainSpec.saving_listeners will never be called under '
                       'MultiWorkerMirroredStrategy', hint='do it in a hook of your own',
                field='saving_listeners', expected='none', actual=str(len(listeners)))

    @staticmethod
    def bad() -> Any:
        """A listener."""
        return _listening(in_cluster())

    @staticmethod
    def good() -> Any:
        """In one process it is called."""
        return _listening(jobs.job())


def _mirrored(count: int, **config: Any) -> Any:
    # The default graph of the example: there a strategy looks for devices only in a session.
    strategy = tf.distribute.MirroredStrategy([f'/cpu:{index}' for index in range(count)])
    return jobs.job(config={'train_distribute': strategy, **config})


def good_one() -> Any:
    """One replica."""
    return _mirrored(1)


def good_strict_placement() -> Any:
    """TensorFlow says at the first step what is missing."""
    return _mirrored(2, session_config=v1.ConfigProto(allow_soft_placement=False))


class ReplicasShareDevice(Rule):
    """The session has fewer CPUs than the strategy has replicas on them.

    What it finds: MirroredStrategy on several CPU devices, with a session_config whose device_count
    does not make as many.

    Why it matters: the session puts all replicas on the one CPU that it has, and their all-reduce
    waits for itself: a hang at the first step, without a message. Devices that tf.config makes do
    not count here: a session has its own.

    Bad:
        RunConfig(train_distribute=tf.distribute.MirroredStrategy(['/cpu:0', '/cpu:1']))

    Good:
        RunConfig(train_distribute=tf.distribute.MirroredStrategy(['/cpu:0', '/cpu:1']),
                  session_config=tf.compat.v1.ConfigProto(device_count={'CPU': 2}))

    When to suppress: when the job runs with another RunConfig.
    """

    code = 'ESX863'
    slug = 'replicas-share-device'
    severity = Severity.ERROR
    stage = 'config'
    mistakes = ('D6',)
    more_good = (good_one, good_strict_placement)

    def check(self, facts: Any) -> Iterator[Finding]:
        strategy = facts.config.train_distribute
        if not role_internals.is_mirrored(strategy):
            return
        specs = [tf.DeviceSpec.from_string(name)
                 for name in role_internals.devices_of(strategy)]
        cpus = [spec for spec in specs if spec.device_type == 'CPU']
        session = facts.config.session_config
        given = session.device_count.get('CPU', 1) if session is not None else 1
        strict = session is not None and not session.allow_soft_placement
        needed = max((spec.device_index or 0 for spec in cpus), default=0) + 1
        if len(cpus) < 2 or given >= needed or strict:
            return
        yield self.finding(
            facts, f'{len(cpus)} replicas on CPUs, and the session has {given}: it will hang at '
                   'the first step', field='session_config',
            hint='pass session_config=tf.compat.v1.ConfigProto(allow_soft_placement=True, '
                 f"device_count={{'CPU': {needed}}})",
            expected=f"device_count {{'CPU': {needed}}}", actual=str(given))

    @staticmethod
    def bad() -> Any:
        """Two replicas, one CPU."""
        return _mirrored(2)

    @staticmethod
    def good() -> Any:
        """Two and two."""
        return _mirrored(2, session_config=v1.ConfigProto(
            allow_soft_placement=True, device_count={'CPU': 2}))


def _called(tf_config: Any, **calls: int) -> Any:
    from estimator_spec_ext import engine
    from estimator_spec_ext.preflight.role_facts import TfConfigFacts
    facts = TfConfigFacts(tf_config)
    facts.calls = calls
    return engine.check(facts, stages=('config',), family='ESX864')


def good_alone() -> Any:
    """Without a cluster train is right."""
    return _called({}, train=1)


class TrainInCluster(Rule):
    """A script calls train in a cluster, where only train_and_evaluate starts the servers.

    What it finds: a script that calls Estimator.train under a TF_CONFIG with a cluster.

    Why it matters: with parameter servers the chief and the workers wait for servers that nobody
    has started, for ever; under MultiWorkerMirroredStrategy TensorFlow raises ValueError.

    Bad:
        estimator.train(input_fn, max_steps=1000)

    Good:
        tf.estimator.train_and_evaluate(estimator, train_spec, eval_spec)

    When to suppress: when the script starts a tf.distribute.Server by itself.
    """

    code = 'ESX864'
    slug = 'train-in-cluster'
    severity = Severity.ERROR
    stage = 'config'
    mistakes = ('D4',)
    more_good = (good_alone,)

    def check(self, facts: Any) -> Iterator[Finding]:
        from estimator_spec_ext.preflight import tf_config as lib
        if not facts.calls.get('train'):
            return
        text = facts.tf_config if hasattr(facts, 'tf_config') else os.environ.get('TF_CONFIG')
        config, broken = lib.parse(text)
        if broken is not None or sum(map(len, (config.get('cluster') or {}).values())) < 2:
            return
        yield self.finding(
            facts, 'the script calls Estimator.train in a cluster: no server will be started',
            hint='call tf.estimator.train_and_evaluate', expected='train_and_evaluate',
            actual='train')

    @staticmethod
    def bad() -> Any:
        """A chief and a worker."""
        return _called(_TASKS, train=1)

    @staticmethod
    def good() -> Any:
        """The function that starts servers."""
        return _called(_TASKS, train_and_evaluate=1)

"""What model_dir holds before the job starts, and what the environment says."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any, Iterator, Optional

from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs
from estimator_spec_ext.rules.preflight_stopping import CLUSTER
from estimator_spec_ext.rules.preflight_warm_start import all_of_linear, write_checkpoint


def _loads_itself(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    scaffold = v1.train.Scaffold(init_fn=lambda scaffold, session: None)
    return jobs.spec(mode, prediction, labels, scaffold=scaffold)


def _no_variables(features: Any, labels: Any, mode: str) -> Any:
    return jobs.spec(mode, features['x'][:, :1], labels)


def good_own_loading() -> Any:
    """A scaffold that fills the variables by itself."""
    return jobs.job(_loads_itself, train=None, receiver=None)


def good_no_variables() -> Any:
    """Nothing to restore."""
    return jobs.job(_no_variables, train=None, receiver=None)


class NoCheckpoint(Rule):
    """A job that does not train has no checkpoint to work with.

    What it finds: EVAL or PREDICT without TRAIN, variables to restore, and a model_dir without a
    checkpoint, where nothing else fills the variables (warm start, Scaffold.init_fn).

    Why it matters: evaluate and predict log one line of level INFO, initialise the variables at
    random and give plausible numbers. export_saved_model raises.

    Bad:
        tf.estimator.Estimator(model_fn).evaluate(input_fn)

    Good:
        tf.estimator.Estimator(model_fn, model_dir='trained').evaluate(input_fn)

    When to suppress: when numbers of an untrained model are wanted.
    """

    code = 'ESX720'
    slug = 'no-checkpoint'
    severity = Severity.WARNING
    stage = 'config'
    mistakes = ('V10',)
    more_good = (good_own_loading, good_no_variables)

    def check(self, facts: Any) -> Iterator[Finding]:
        if (facts.job.train_spec is not None or facts.checkpoint is not None
                or facts.warm_starts):
            return
        for build in facts.builds:
            if build.restored is None or build.fills_itself:
                continue
            if any(key != 'global_step' for key in build.restored.by_key):
                yield self.finding(
                    build, 'model_dir holds no checkpoint: the variables will be random',
                    hint='give the model_dir of a trained model, or train first',
                    expected='a checkpoint in model_dir', actual='none')
                return

    @staticmethod
    def bad() -> Any:
        """An evaluation of nothing."""
        return jobs.job(train=None, receiver=None)

    @staticmethod
    def good() -> Any:
        """An evaluation of a trained model."""
        folder = tempfile.TemporaryDirectory(prefix='ese_example_')
        write_checkpoint(os.path.join(folder.name, 'model'), all_of_linear)
        return jobs.job(train=None, receiver=None, folder=folder)


def _best_exporter(*, exported: bool) -> Any:
    folder = tempfile.TemporaryDirectory(prefix='ese_example_')
    model_dir = os.path.join(folder.name, 'model')
    write_checkpoint(model_dir, all_of_linear)
    if exported:
        os.makedirs(os.path.join(model_dir, 'export', 'best', '1500000000'))
    exporter = tf_estimator.BestExporter('best', jobs.receiver_fn)
    return jobs.job(folder=folder, receiver=None, eval_options={'exporters': exporter})


class BestExporterForgets(Rule):
    """A BestExporter goes on after a restart: its first export may be a worse model.

    What it finds: a BestExporter whose folder in model_dir holds exports of an earlier run.

    Why it matters: a new BestExporter object exports at its first evaluation whatever the result,
    and the export is the newest then, the one that is served.

    Bad:
        a restarted job with exporters=BestExporter(...)

    Good:
        copy what is served away from model_dir, or move the old exports aside

    When to suppress: when what is served is not chosen by being the newest.
    """

    code = 'ESX818'
    slug = 'best-exporter-forgets'
    severity = Severity.WARNING
    stage = 'config'
    mistakes = ('X14',)

    def check(self, facts: Any) -> Iterator[Finding]:
        if facts.checkpoint is None or facts.job.train_spec is None:
            return
        for exporter in facts.job.exporters:
            if not isinstance(exporter, tf_estimator.BestExporter):
                continue
            folder = os.path.join(str(facts.job.estimator.model_dir), 'export', exporter.name)
            try:
                old = [name for name in os.listdir(folder) if name.isdigit()]
            except OSError:  # also a folder that the operating system does not see
                continue
            if old:
                yield self.finding(
                    facts, f'BestExporter {exporter.name!r} exports its first result after a '
                           f'restart, better or worse; {len(old)} exports are there',
                    hint='keep the best export elsewhere before the job starts again',
                    field='exporters', expected='no earlier exports', actual=str(len(old)))

    @staticmethod
    def bad() -> Any:
        """Exports of an earlier run."""
        return _best_exporter(exported=True)

    @staticmethod
    def good() -> Any:
        """None yet."""
        return _best_exporter(exported=False)


def _with_environ(text: str) -> Any:
    job = jobs.job()
    job.environ = {'TF_CONFIG': text}
    return job


def bad_json() -> Any:
    """A quote is missing."""
    return _with_environ('{"cluster: {}}')


def bad_index() -> Any:
    """Worker 3 of one."""
    return _with_environ(CLUSTER.replace('"chief", "index": 0', '"worker", "index": 3'))


def good_empty() -> Any:
    """No cluster."""
    return _with_environ('{}')


def good_evaluator() -> Any:
    """The evaluator stands outside of the cluster."""
    return _with_environ(CLUSTER.replace('"chief", "index": 0', '"evaluator", "index": 0'))


class TfConfigInvalid(Rule):
    """TF_CONFIG contradicts itself.

    What it finds: a TF_CONFIG that is no JSON object, a task that is not in the cluster, an index
    out of its range, or a cluster without a chief.

    Why it matters: RunConfig reads it when it is made: some of this stops the job with a message
    about types, the rest makes it run alone, or wait for ever.

    Bad:
        {"cluster": {"worker": ["host:2222"]}, "task": {"type": "chief", "index": 0}}

    Good:
        {"cluster": {"chief": ["host:2222"]}, "task": {"type": "chief", "index": 0}}

    When to suppress: when TF_CONFIG is for another program.
    """

    code = 'ESX819'
    slug = 'tf-config-invalid'
    severity = Severity.ERROR
    stage = 'config'
    mistakes = ('D3',)
    more_bad = (bad_json, bad_index)
    more_good = (good_empty, good_evaluator)

    def check(self, facts: Any) -> Iterator[Finding]:
        text = os.environ.get('TF_CONFIG')
        if not text:
            return
        collective = facts.config.train_distribute is not None
        fault = fault_of(text, collective=collective)
        if fault:
            yield self.finding(
                facts, f'TF_CONFIG {fault}', field='TF_CONFIG',
                hint='write {"cluster": {"chief": [...], "worker": [...]}, '
                     '"task": {"type": "worker", "index": 0}}')

    @staticmethod
    def bad() -> Any:
        """A chief that is not in its cluster."""
        return _with_environ('{"cluster": {"worker": ["a.invalid:1"]}, '
                             '"task": {"type": "chief", "index": 0}}')

    @staticmethod
    def good() -> Any:
        """A chief of its cluster."""
        return _with_environ(CLUSTER)


def fault_of(text: str, *, collective: bool) -> Optional[str]:
    """What is wrong with a TF_CONFIG; None when nothing is.

    Args:
      text: the value of the variable.
      collective: whether the job trains under a strategy, which needs no chief.

    Returns:
      A clause that follows "TF_CONFIG".
    """
    try:
        config = json.loads(text)
    except ValueError as error:
        return f'is no JSON: {str(error).split(":", 1)[0].lower()}'
    if not isinstance(config, dict):
        return f'is a {type(config).__name__}; expected an object'
    cluster, task = config.get('cluster') or {}, config.get('task') or {}
    if not isinstance(cluster, dict) or not isinstance(task, dict):
        return 'has a cluster or a task that is no object'
    if not cluster:
        return None
    kind = task.get('type')
    if not kind:
        return 'has a cluster, and no type of task'
    if kind == 'evaluator':
        return None
    if kind not in cluster:
        return f'has task {kind!r}, and no such task in its cluster ({", ".join(sorted(cluster))})'
    try:
        index = int(task.get('index', 0))
    except (TypeError, ValueError):
        return 'has an index that is no number'
    size = len(cluster[kind]) if isinstance(cluster[kind], (list, dict)) else 1
    if isinstance(cluster[kind], list) and not 0 <= index < size:
        return f'has {kind} {index}; its cluster has {size} of them'
    if not collective and not {'chief', 'master'} & set(cluster):
        return f'has no chief in its cluster ({", ".join(sorted(cluster))})'
    return None

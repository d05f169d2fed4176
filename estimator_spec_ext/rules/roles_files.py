"""What the tasks of a cluster write, and where."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import role_jobs


def _saver(folder: str) -> Any:
    return [v1.train.CheckpointSaverHook(folder, save_steps=10, scaffold=v1.train.Scaffold())]


def bad_counter() -> Any:
    """A counter that writes on every task."""
    return role_jobs.classic(hooks=lambda: [
        v1.train.StepCounterHook(output_dir=role_jobs.MODEL_DIR)])


def good_chief() -> Any:
    """Only the builder of the chief makes it."""
    return role_jobs.classic(
        hooks=lambda: _saver(role_jobs.MODEL_DIR) if role_jobs.task_index() == 0 else [])


def good_folders() -> Any:
    """A folder for each task."""
    return role_jobs.classic(hooks=lambda: [v1.train.StepCounterHook(
        output_dir=f'{role_jobs.MODEL_DIR}/{role_jobs.task_index()}')])


class RolesWriteSameFiles(Rule):
    """Several tasks write the same files.

    What it finds: CheckpointSaverHooks, and hooks that write summaries or profiles, of several
    training tasks with one folder.

    Why it matters: the tasks overwrite each other's checkpoints while they are written; some cannot
    be restored, old ones are never removed. TensorBoard joins the curves of several tasks into one
    that jumps. TensorFlow says nothing.

    Bad:
        TrainSpec(input_fn, hooks=[CheckpointSaverHook(model_dir, save_steps=100)])

    Good:
        EstimatorSpec(mode, ..., training_chief_hooks=[CheckpointSaverHook(...)])

    When to suppress: when the folder is on a disk of each machine's own.
    """

    code = 'ESX846'
    slug = 'roles-write-same-files'
    severity = Severity.WARNING
    stage = 'roles'
    mistakes = ('V8', 'H10')
    more_bad = (bad_counter,)
    more_good = (good_chief, good_folders)

    def check(self, facts: Any) -> Iterator[Finding]:
        seen: dict[Any, list[str]] = {}
        for graph in facts.graphs:
            for writer in dict.fromkeys(graph.writers) if graph.trains else ():
                seen.setdefault(writer, []).append(graph.role)
        for writer, roles in seen.items():
            if len(roles) > 1:
                what = 'saves checkpoints' if writer.saves else 'writes'
                yield self.finding(
                    facts, f'{writer.class_name} {what} to one folder in {describe.names(roles)}',
                    hint='move it to training_chief_hooks', field='hooks',
                    expected='the chief alone', actual=describe.names(roles))

    @staticmethod
    def bad() -> Any:
        """A saver in the hooks of the TrainSpec."""
        return role_jobs.classic(hooks=lambda: _saver(role_jobs.MODEL_DIR))

    @staticmethod
    def good() -> Any:
        """TensorFlow's own saver, in the chief alone."""
        return role_jobs.classic()


def bad_none() -> Any:
    """Each task makes a temporary folder."""
    return role_jobs.classic(model_dir=lambda: None)


class ModelDirDiffers(Rule):
    """The tasks of a cluster do not have the same model_dir.

    What it finds: training tasks, or an evaluator, with different paths, or without a model_dir,
    for which Estimator makes a temporary folder in each process.

    Why it matters: the evaluator never sees a checkpoint and waits for ever. When the job is
    started again, the chief restores and the other tasks do not: under MultiWorkerMirroredStrategy
    all hang. Whether one path is one folder on all machines cannot be seen before the start.

    Bad:
        tf.estimator.Estimator(model_fn)

    Good:
        tf.estimator.Estimator(model_fn, model_dir='gs://bucket/job')

    When to suppress: when the paths lead to one folder.
    """

    code = 'ESX851'
    slug = 'model-dir-differs'
    severity = Severity.ERROR
    stage = 'roles'
    mistakes = ('D3', 'D4')
    more_bad = (bad_none,)

    def check(self, facts: Any) -> Iterator[Finding]:
        graphs = [graph for graph in facts.graphs if graph.kind in ('train', 'eval')]
        if not facts.has_cluster or len(graphs) < 2:
            return
        first = graphs[0]
        if first.model_dir is None:
            yield self.finding(
                facts, 'no model_dir: each of the tasks makes a temporary folder of its own',
                hint='give one model_dir that every task reaches', field='model_dir',
                expected='one model_dir', actual='None')
            return
        for graph in graphs[1:]:
            if graph.model_dir != first.model_dir:
                yield self.finding(
                    facts.of(graph), f'{graph.role} has model_dir '
                    f'{describe.value(graph.model_dir)}, {first.role} '
                    f'{describe.value(first.model_dir)}',
                    hint='give one model_dir that every task reaches', field='model_dir',
                    expected=describe.value(first.model_dir),
                    actual=describe.value(graph.model_dir))

    @staticmethod
    def bad() -> Any:
        """A folder for each task."""
        return role_jobs.classic(
            model_dir=lambda: f'{role_jobs.MODEL_DIR}/{role_jobs.task_index()}')

    @staticmethod
    def good() -> Any:
        """One folder."""
        return role_jobs.classic()

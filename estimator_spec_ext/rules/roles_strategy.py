"""Strategies that a job of several tasks cannot have, or not in this way."""

from __future__ import annotations

import dataclasses
from typing import Any, Iterator

from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import tf
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs, role_jobs


def _with_second_version() -> Any:
    strategy = tf.distribute.experimental.ParameterServerStrategy(
        tf.distribute.cluster_resolver.TFConfigClusterResolver())
    config = tf_estimator.RunConfig(model_dir=role_jobs.MODEL_DIR, train_distribute=strategy)
    return (tf_estimator.Estimator(jobs.model_fn, config=config),
            tf_estimator.TrainSpec(role_jobs.shuffled_input_fn, max_steps=100),
            tf_estimator.EvalSpec(jobs.input_fn))


class ParameterServerStrategyRefused(Rule):
    """tf.distribute.experimental.ParameterServerStrategy does not work with Estimator.

    What it finds: a builder that makes one; it is stopped before TensorFlow begins with it.

    Why it matters: its constructor starts a server, and train_and_evaluate another one at the same
    address: most processes of the cluster crash with a segmentation fault, the rest hang. RunConfig
    would refuse the strategy with a clear error, and is never reached.

    Bad:
        tf.distribute.experimental.ParameterServerStrategy(cluster_resolver)

    Good:
        tf.compat.v1.distribute.experimental.ParameterServerStrategy()

    When to suppress: never.
    """

    code = 'ESX854'
    slug = 'parameter-server-strategy-v2'
    severity = Severity.ERROR
    stage = 'roles'
    mistakes = ('D3',)

    def check(self, facts: Any) -> Iterator[Finding]:
        for graph in facts.graphs:
            if graph.crash is not None and graph.crash.refused:
                yield self.finding(
                    facts.at(graph, graph.crash.place),
                    'tf.distribute.experimental.ParameterServerStrategy does not work with '
                    'Estimator', field='train_distribute',
                    hint='leave train_distribute out, or use '
                         'tf.compat.v1.distribute.experimental.ParameterServerStrategy',
                    op=graph.crash.place, expected='a strategy that Estimator knows',
                    actual='ParameterServerStrategyV2')
                return

    @staticmethod
    def bad() -> Any:
        """The second version."""
        return role_jobs.compared(_with_second_version, role_jobs.cluster(ps=1))

    @staticmethod
    def good() -> Any:
        """The first version."""
        return role_jobs.compared(
            role_jobs.builder(strategy=role_jobs.PARAMETER_SERVER), role_jobs.cluster(ps=1))


class EvaluatorRunsEagerly(Rule):
    """The evaluator of a MultiWorkerMirroredStrategy job would run eagerly.

    What it finds: MultiWorkerMirroredStrategy, an evaluator in the cluster, and a process that runs
    eagerly when the builder has returned.

    Why it matters: the evaluator copies the estimator with its strategy, and TensorFlow raises
    "cannot be deep copied in eager mode". The chief and the workers train and end well; nothing is
    evaluated or exported.

    Bad:
        tf.distribute.MultiWorkerMirroredStrategy()

    Good:
        tf.compat.v1.disable_eager_execution()
        tf.distribute.MultiWorkerMirroredStrategy()

    When to suppress: when the program calls disable_eager_execution, and the builder does not.
    """

    code = 'ESX855'
    slug = 'evaluator-runs-eagerly'
    severity = Severity.WARNING
    stage = 'roles'
    mistakes = ('D3',)

    def check(self, facts: Any) -> Iterator[Finding]:
        for graph in facts.graphs:
            if graph.collective and graph.evaluates and graph.eager:
                yield self.finding(
                    facts.of(graph), f'{graph.role} would run eagerly, and could not copy its '
                                     'strategy', hint='call '
                    'tf.compat.v1.disable_eager_execution() at the start of the program',
                    field='train_distribute', expected='graph mode', actual='eager mode')

    @staticmethod
    def bad() -> Any:
        """A process as TensorFlow 2 starts it."""
        return _evaluator(eager=True)

    @staticmethod
    def good() -> Any:
        """After disable_eager_execution."""
        return _evaluator(eager=False)


def _evaluator(*, eager: bool) -> Any:
    """The evaluator's graph, in a process that runs eagerly or does not."""
    from estimator_spec_ext import engine
    from estimator_spec_ext.preflight import role_work
    from estimator_spec_ext.preflight import tf_config as configs
    from estimator_spec_ext.preflight.role_facts import RolesFacts
    config = configs.of_task(role_jobs.cluster(evaluator=True), 'evaluator', 0)
    made = role_work.work(role_jobs.builder(strategy=role_jobs.COLLECTIVE),
                          role_work.Task(config)).graph
    # An example cannot switch the whole process.
    made = dataclasses.replace(made, eager=eager)
    facts = RolesFacts((made,), later={}, configs={made.role: config}, busy={})
    return engine.check(facts, stages=('roles',))

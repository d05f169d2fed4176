"""What is left undone when the tasks of a cluster have ended."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs, role_jobs


def good_no_exporters() -> Any:
    """An EvalSpec must be there, whether anybody reads it or not."""
    return role_jobs.collective()


def _exporter() -> Any:
    return tf_estimator.LatestExporter('latest', jobs.receiver_fn)


class NobodyEvaluates(Rule):
    """The job has exporters, and no task that evaluates.

    What it finds: an EvalSpec with exporters in a cluster without an evaluator or a master: under
    MultiWorkerMirroredStrategy, or in a list of all TF_CONFIGs.

    Why it matters: in a cluster the chief trains and does not evaluate. All tasks end well, and the
    export folder stays empty.

    Bad:
        {"cluster": {"chief": [...], "worker": [...]}, ...   with exporters

    Good:
        {"cluster": {"chief": [...], "worker": [...], "evaluator": [...]}, ...

    When to suppress: when another program exports from the checkpoints.
    """

    code = 'ESX856'
    slug = 'nobody-evaluates'
    severity = Severity.WARNING
    stage = 'roles'
    mistakes = ('D1', 'X10')
    more_good = (good_no_exporters,)

    def check(self, facts: Any) -> Iterator[Finding]:
        if (not facts.exporters or not facts.has_cluster or not (facts.listed or facts.collective)
                or {'evaluator', 'master'} & set(facts.jobs)):
            return
        yield self.finding(
            facts, f'the job exports {describe.names(map(repr, facts.exporters))}, and has no '
                   'task that evaluates', hint='add an evaluator', field='exporters',
            expected='an evaluator', actual=', '.join(facts.jobs))

    @staticmethod
    def bad() -> Any:
        """A chief and a worker."""
        return role_jobs.collective(exporters=[_exporter()])

    @staticmethod
    def good() -> Any:
        """An evaluator, without a strategy."""
        return role_jobs.compared(role_jobs.builder(exporters=[_exporter()]),
                                  role_jobs.cluster(ps=1, evaluator=True))


class NoEvalSpec(Rule):
    """A job of several tasks without an EvalSpec cannot be started with train_and_evaluate.

    What it finds: a builder that returns no EvalSpec, for a cluster.

    Why it matters: only train_and_evaluate starts the servers. With Estimator.train the chief and
    the workers wait for each other for ever with parameter servers, and raise ValueError under
    MultiWorkerMirroredStrategy.

    Bad:
        estimator.train(input_fn)              # under a TF_CONFIG with a cluster

    Good:
        tf.estimator.train_and_evaluate(estimator, train_spec, eval_spec)

    When to suppress: when the program starts a tf.distribute.Server by itself.
    """

    code = 'ESX857'
    slug = 'cluster-without-eval-spec'
    severity = Severity.ERROR
    stage = 'roles'
    mistakes = ('D4',)

    def check(self, facts: Any) -> Iterator[Finding]:
        if facts.has_cluster and not facts.has_eval_spec:
            yield self.finding(
                facts, 'no EvalSpec: only train_and_evaluate starts the servers of a cluster',
                hint='return a tf.estimator.EvalSpec, and call tf.estimator.train_and_evaluate',
                field='eval_spec', expected='an EvalSpec', actual='None')

    @staticmethod
    def bad() -> Any:
        """A builder for Estimator.train."""
        return role_jobs.classic(evaluate=None)

    @staticmethod
    def good() -> Any:
        """A builder for train_and_evaluate."""
        return role_jobs.classic()


class PsNeverExits(Rule):
    """Parameter servers never end by themselves.

    What it finds: a cluster with ps tasks.

    Why it matters: a ps serves until it is ended from outside, also when training is done. What
    waits for all processes of the job waits for ever.

    Bad:
        wait for every process of the job

    Good:
        wait for the chief and the evaluator, then end the rest

    When to suppress: when the orchestrator ends the job with its chief.
    """

    code = 'ESX858'
    slug = 'ps-never-exits'
    severity = Severity.INFO
    stage = 'roles'
    mistakes = ('D7',)

    def check(self, facts: Any) -> Iterator[Finding]:
        count = sum(role.startswith('ps/') for role in facts.configs)
        if count:
            yield self.finding(
                facts, f'{count} ps will serve until something ends '
                       f'{"them" if count > 1 else "it"}, also after the training',
                hint='let the orchestrator end the job when the chief and the evaluator have ended',
                expected='an end from outside', actual=f'{count} ps')

    @staticmethod
    def bad() -> Any:
        """A parameter server."""
        return role_jobs.compared(role_jobs.builder(), role_jobs.cluster(ps=1), with_ps=True)

    @staticmethod
    def good() -> Any:
        """None."""
        return role_jobs.collective()

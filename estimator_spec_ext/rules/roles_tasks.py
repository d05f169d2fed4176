"""Tasks that cannot be built or started, and those that are missing."""

from __future__ import annotations

import json
from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs, role_jobs


def _listed(*roles: str, **others: Any) -> list[Any]:
    """TF_CONFIGs of these tasks of one cluster; `others` are put in the place of some."""
    from estimator_spec_ext.preflight import tf_config as configs
    config = role_jobs.cluster(ps=1)
    made = {}
    for role in roles:
        job, index = role.split('/')
        made[role] = configs.of_task(config, job, int(index))
    made.update({name.replace('_', '/'): value for name, value in others.items()})
    return list(made.values())


def _judged(listed: list[Any]) -> Any:
    from estimator_spec_ext import engine
    from estimator_spec_ext.preflight import tf_config as configs
    from estimator_spec_ext.preflight.role_facts import RolesFacts
    by_role = {configs.role_of(one): one for one in listed
               if not configs.role_of(one).startswith('ps/')}
    return engine.check(RolesFacts((), later={}, configs=by_role, listed=True, busy={},
                                   given=tuple(listed)), stages=('roles',))


def bad_missing() -> Any:
    """A worker that is listed and never started."""
    return _judged(_listed('chief/0', 'ps/0'))


def bad_twice() -> Any:
    """Two processes are worker 0."""
    return _judged([*_listed('chief/0', 'ps/0', 'worker/0'), *_listed('worker/0')])


def bad_lost() -> Any:
    """A process without TF_CONFIG trains alone into the same model_dir."""
    return _judged([*_listed('chief/0', 'ps/0'), {}])


class TfConfigsDisagree(Rule):
    """The TF_CONFIGs of the tasks do not make one cluster.

    What it finds: in a list of TF_CONFIGs, different clusters, two with one task, tasks of the
    cluster that have none, and one without a cluster.

    Why it matters: a task that knows another address, or waits for one that is never started, waits
    for ever. Two processes of one task overwrite each other's checkpoints, as does one that has
    lost its TF_CONFIG: it trains alone, and all end well.

    Bad:
        [{"cluster": {..."worker": ["a:1", "b:1"]}, "task": worker 0}, {... "task": worker 0}]

    Good:
        [{"cluster": {..."worker": ["a:1", "b:1"]}, "task": worker 0}, {... "task": worker 1}]

    When to suppress: when the rest of the tasks is started elsewhere.
    """

    code = 'ESX834'
    slug = 'tf-configs-disagree'
    severity = Severity.ERROR
    stage = 'roles'
    mistakes = ('D3', 'D4')
    more_bad = (bad_missing, bad_twice, bad_lost)

    def check(self, facts: Any) -> Iterator[Finding]:
        if not facts.listed:
            return
        from estimator_spec_ext.preflight import tf_config as configs
        clusters = [(configs.role_of(one), one.get('cluster') or {}) for one in facts.given]
        known = next(((role, cluster) for role, cluster in clusters if cluster), None)
        if known is None:
            return
        lost = sum(not cluster for _, cluster in clusters)
        if lost:
            yield self.finding(
                facts, f'{lost} of {len(clusters)} tasks have no cluster in TF_CONFIG: they would '
                       'train alone', hint='set TF_CONFIG in every process', field='TF_CONFIG',
                expected='a cluster', actual='none')
            return
        yield from self._other_clusters(facts, clusters, known)
        roles = [role for role, _ in clusters]
        for role in sorted({role for role in roles if roles.count(role) > 1}):
            yield self.finding(
                facts, f'{roles.count(role)} processes are {role}', field='TF_CONFIG',
                hint='give each process an index of its own', expected='one',
                actual=str(roles.count(role)))
            return
        missing = [f'{job}/{index}' for job, index in configs.tasks({'cluster': known[1]})
                   if f'{job}/{index}' not in roles]
        if missing:
            yield self.finding(
                facts, f'the cluster lists {describe.names(missing)}, of which there is no '
                       'TF_CONFIG', hint='start it, or leave it out of the cluster',
                field='TF_CONFIG', expected='a process for each task',
                actual=describe.names(missing))

    def _other_clusters(self, facts: Any, clusters: Any, known: Any) -> Iterator[Finding]:
        first, cluster = known
        for role, other in clusters:
            for job in sorted({*cluster, *other}):
                one, here = cluster.get(job) or [], other.get(job) or []
                if job != 'evaluator' and one != here:
                    yield self.finding(
                        facts, f'{role} and {first} have other addresses of {job}: '
                               f'{json.dumps(here)[:40]} and {json.dumps(one)[:40]}',
                        hint='give every task the same cluster', field='TF_CONFIG',
                        expected=json.dumps(one), actual=json.dumps(here))
                    return

    @staticmethod
    def bad() -> Any:
        """The worker knows the ps under another address."""
        from estimator_spec_ext.preflight import tf_config as configs
        config = role_jobs.cluster(ps=1)
        config['cluster']['ps'] = ['elsewhere.invalid:1']
        return _judged(_listed('chief/0', 'ps/0', worker_0=configs.of_task(config, 'worker', 0)))

    @staticmethod
    def good() -> Any:
        """One cluster, one process for each task."""
        return _judged(_listed('chief/0', 'worker/0', 'ps/0'))


class PortInUse(Rule):
    """Something listens already where a task of this machine will.

    What it finds: addresses of the cluster on this machine that answer to a connection.

    Why it matters: the task dies with "Could not start gRPC server", which does not name the
    address, and the others wait for it.

    Bad:
        {"cluster": {"chief": ["localhost:22"], ...

    Good:
        {"cluster": {"chief": ["localhost:2222"], ...

    When to suppress: when what listens will have ended by then, or is the job itself.
    """

    code = 'ESX835'
    slug = 'port-in-use'
    severity = Severity.WARNING
    stage = 'roles'
    mistakes = ('D3',)

    def check(self, facts: Any) -> Iterator[Finding]:
        for role, address in facts.busy.items():
            yield self.finding(
                facts, f'something listens at {address} already, the address of {role}',
                hint='choose a free port, or end what uses this one', field='TF_CONFIG',
                expected='a free port', actual=address)

    @staticmethod
    def bad() -> Any:
        """A server of another kind."""
        import socket

        from estimator_spec_ext import engine
        from estimator_spec_ext.preflight.ports import listening
        from estimator_spec_ext.preflight.role_facts import RolesFacts
        with socket.create_server(('127.0.0.1', 0)) as server:
            taken = f'127.0.0.1:{server.getsockname()[1]}'
            busy = listening({'cluster': {'chief': [taken]}}, False)
        # The port is another one each time.
        facts = RolesFacts((), later={}, configs={}, busy=dict.fromkeys(busy, '127.0.0.1:#'))
        return engine.check(facts, stages=('roles',))

    @staticmethod
    def good() -> Any:
        """A host that is not this one."""
        return role_jobs.classic()


def _crashes_in_worker(features: Any, labels: Any, mode: str, config: Any) -> Any:
    if not config.is_chief:
        raise ValueError(f'{config.task_type} has no vocabulary')
    return jobs.model_fn(features, labels, mode)


def bad_builder() -> Any:
    """A builder that gives nothing."""
    return role_jobs.compared(lambda: None, {'cluster': {'chief': ['a.invalid:1']},
                                             'task': {'type': 'chief', 'index': 0}})


class RoleCrashes(Rule):
    """The graph of a task cannot be built.

    What it finds: an exception of the user's code, or of TensorFlow, while the graph of one task is
    built, where preflight of the job has not said so already.

    Why it matters: this task dies, and the others wait for it: for ever under
    MultiWorkerMirroredStrategy, until a time-out of two hours with parameter servers.

    Bad:
        vocabulary = load(path) if config.is_chief else None

    Good:
        vocabulary = load(path)

    When to suppress: when the task finds at its start what is missing now.
    """

    code = 'ESX852'
    slug = 'role-crashes'
    severity = Severity.ERROR
    stage = 'roles'
    mistakes = ('D5',)
    more_bad = (bad_builder,)

    def check(self, facts: Any) -> Iterator[Finding]:
        told: dict[str, list[Any]] = {}
        for graph in facts.graphs:
            if graph.crash is not None and not graph.crash.refused and graph.report.ok:
                told.setdefault(graph.crash.text, []).append(graph)
        for text, graphs in told.items():
            mode = 'eval' if graphs[0].role.startswith('evaluator') else 'train'
            trained = any(graph.trains for graph in facts.graphs)
            # Preflight tells a crash of every task, and knows more about it.
            if mode in facts.explained and not (mode == 'train' and trained):
                continue
            roles = describe.names(graph.role for graph in graphs)
            yield self.finding(
                facts.at(graphs[0], graphs[0].crash.place), f'{roles}: {text}',
                hint='see the line', op=graphs[0].crash.place, expected='a graph', actual=text)

    @staticmethod
    def bad() -> Any:
        """A worker that lacks what the chief has."""
        return role_jobs.classic(_crashes_in_worker)

    @staticmethod
    def good() -> Any:
        """A worker like the chief."""
        return role_jobs.classic()


class RoleProcessFailed(Rule):
    """A process that builds one task gave no answer.

    What it finds: a child process that crashed, was ended by a signal, or took too long.

    Why it matters: what a task does while its graph is built, it will do when the job starts.

    Bad:
        def builder(): wait_for_the_other_tasks()

    Good:
        def builder(): return estimator, train_spec, eval_spec

    When to suppress: when the builder does elsewhere what it cannot do here.
    """

    code = 'ESX853'
    slug = 'role-process-failed'
    severity = Severity.ERROR
    stage = 'roles'
    mistakes = ('D4',)

    def check(self, facts: Any) -> Iterator[Finding]:
        for failure in facts.failures:
            last = ' | '.join(line.strip()[:120] for line in failure.lines[-3:])
            yield self.finding(
                facts, f'the process that builds {failure.role} {failure.text}',
                hint=f'its last lines: {last}' if last else
                'it wrote nothing; call the builder under the TF_CONFIG of that task',
                expected='a graph', actual=failure.text)

    @staticmethod
    def bad() -> Any:
        """One that took too long."""
        from estimator_spec_ext import engine
        from estimator_spec_ext.preflight.role_facts import Failure, RolesFacts
        failure = Failure('worker/0', 'took longer than 60 s', ('connecting', 'waiting for chief'))
        return engine.check(RolesFacts((), later={}, configs={}, failures=(failure,), busy={}),
                            stages=('roles',))

    @staticmethod
    def good() -> Any:
        """Tasks that are built."""
        return role_jobs.classic()

"""`preflight_roles`: the graphs of all tasks of a cluster, built before it is started."""

from __future__ import annotations

import dataclasses
import os
import time
from typing import Any, Callable, Iterable, Mapping, Optional, Sequence, Union

from estimator_spec_ext import engine, registry
from estimator_spec_ext.diagnostics import (
    Finding,
    Report,
    Severity,
    merge_reports,
    sorted_findings,
)
from estimator_spec_ext.preflight import role_clock, role_work, tf_config
from estimator_spec_ext.preflight.api import DEPTHS
from estimator_spec_ext.preflight.ports import listening
from estimator_spec_ext.preflight.role_child import Child
from estimator_spec_ext.preflight.role_difference import difference
from estimator_spec_ext.preflight.role_facts import (
    SUPERSEDED,
    Failure,
    RolesFacts,
    TfConfigFacts,
)
from estimator_spec_ext.preflight.role_work import Result, Task
from estimator_spec_ext.preflight.validate_config import config_report

Config = Mapping[str, Any]
_AT_ONCE = 2
_REFUSED = 'Disallowed task type'


def preflight_roles(builder: Union[str, Callable[[], Any]],
                    cluster: Union[None, Config, Sequence[Config]] = None, *,
                    depth: str = 'graph', suppress: Optional[Mapping[str, str]] = None,
                    child_processes: bool = False,
                    progress: Optional[Callable[[str], None]] = None, time_limit: float = 600.,
                    skip_hooks: Sequence[Any] = ()) -> Report:
    """Says what would go wrong in a job of several tasks, before any of them runs.

    The graph of each task is built under the TF_CONFIG of that task, as `train_and_evaluate` would
    build it, and compared with the others. No server is started, no port opened, no file written.
    Of many tasks of one job the first two, the middle and the last are built.

    Args:
      builder: a function, or its name 'package.module:function', that returns `(estimator,
        train_spec, eval_spec)`; it is called once or twice for each task.
      cluster: a TF_CONFIG as a dict, of whose cluster every task is looked at; or a list of such
        dicts, one for each task that will be started; None for the one of the environment.
      depth: 'graph'; with 'run' and 'serve' the job is also rehearsed as one process, as
        `preflight` does it, its exports included.
      suppress: reasons by slug or code of a rule.
      child_processes: build each task in a process of its own, for builders that keep state; each
        kind of task is then also built with another hash seed.
      progress: called with a line of text at each step.
      time_limit: seconds for all child processes and rehearsals.
      skip_hooks: hooks, or classes of hooks, that a rehearsal must leave out. Of these `begin` is
        not called either; else it is, in a graph that nobody runs, where its code makes variables
        or collective ops, and does not act outside.

    Returns:
      A `Report`; it does not raise for findings.

    Raises:
      TypeError: for a builder or a cluster of another kind.
      ValueError: for an unknown depth, or child processes for a builder that has no name.

    Example:
      >>> def model_fn(features, labels, mode):
      ...     loss = tf.reduce_mean(tf.square(tf.compat.v1.layers.dense(features, 1) - labels))
      ...     optimizer = tf.compat.v1.train.AdamOptimizer()
      ...     train_op = optimizer.minimize(loss, tf.compat.v1.train.get_global_step())
      ...     return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)
      >>> def input_fn():
      ...     rows = tf.data.Dataset.from_tensor_slices(([[1.], [2.]], [[1.], [2.]]))
      ...     return rows.shuffle(2).repeat().batch(2)
      >>> def builder():
      ...     return (tf.estimator.Estimator(model_fn, model_dir='/tmp/job'),
      ...             tf.estimator.TrainSpec(input_fn, max_steps=100),
      ...             tf.estimator.EvalSpec(input_fn, steps=1))
      >>> report = preflight_roles(builder, {'cluster': {
      ...     'chief': ['10.0.0.1:2222'], 'worker': ['10.0.0.2:2222'], 'ps': ['10.0.0.3:2222']}})
      >>> report.ok
      True
    """
    if depth not in DEPTHS:
        raise ValueError(f'depth must be one of {", ".join(map(repr, DEPTHS))}, got {depth!r}')
    load = role_work.load(builder)
    name = role_work.name_of(builder)
    if child_processes and name is None:
        raise ValueError('child processes find a builder by its name: give a function of a module, '
                         "or 'package.module:function'")
    given = _given(cluster)
    return _Roles(load, name, given, depth, suppress, child_processes, progress, time_limit,
                  tuple(skip_hooks)).run()


@dataclasses.dataclass(frozen=True)
class _Given:
    """What the caller said of the cluster: one TF_CONFIG to derive all from, or one for each."""

    configs: tuple[Any, ...]
    listed: bool
    from_environment: bool = False


def _given(cluster: Any) -> _Given:
    if cluster is None:
        return _Given((os.environ.get('TF_CONFIG'),), False, True)
    if isinstance(cluster, (Mapping, str)):
        if isinstance(cluster, Mapping) and cluster and set(cluster) <= set(tf_config.JOBS):
            cluster = {'cluster': cluster}
        return _Given((cluster,), False)
    if isinstance(cluster, (list, tuple)) and cluster:
        for item in cluster:
            if item is not None and not isinstance(item, (Mapping, str)):
                raise TypeError('cluster must be a list of TF_CONFIG dicts, got a list with '
                                f'{type(item).__name__}')
        return _Given(tuple(cluster), True)
    raise TypeError('cluster must be a TF_CONFIG dict or a list of them, got '
                    f'{"an empty list" if cluster == [] else type(cluster).__name__}')


class _Roles:
    """One preflight of one cluster."""

    def __init__(self, builder: Callable[[], Any], name: Optional[str], given: _Given, depth: str,
                 suppress: Any, child_processes: bool, progress: Optional[Callable[[str], None]],
                 time_limit: float, skip_hooks: tuple[Any, ...]) -> None:
        self._builder = builder
        self._name = name
        self._given = given
        self._depth = depth
        self._suppress = suppress
        self._reasons, _ = engine.read_suppressions(suppress)
        self._separate = child_processes
        self._say = progress or (lambda text: None)
        self._time_limit = time_limit
        self._deadline = time.monotonic() + time_limit
        self._skip_hooks = skip_hooks
        self._reports: list[Report] = []
        self._notes: list[str] = []
        self._crashes: list[Any] = []
        self._failures: list[Failure] = []
        self._facts: dict[str, Any] = {}

    def run(self) -> Report:
        """All stages."""
        if self._judge_configs(tf_config.Use(), Severity.ERROR):
            return self._finish()
        tasks = self._tasks()
        first = self._build(tasks[:1], 0.)
        use = _use_of(first)
        if self._judge_configs(use, Severity.INFO):
            return self._finish()
        tasks = self._with_evaluator(tasks, use, first)
        built = self._sampled(tasks)
        results = {**first, **self._build(built[1:], 0.)}
        later = self._again(built, results)
        comparable = True
        if not self._separate and _depends_on_state(results, later):
            if self._name is None:
                comparable = False
                self._notes.append('the builder gives another graph each time: give it by name, '
                                   'with child_processes=True, to compare the tasks')
            else:
                self._say('the builder keeps state: each task gets a process of its own')
                self._separate = True
                results = self._build(built, 0.)
                later = self._again(built, results)
        if not self._separate:
            self._notes.append('the order of sets was not varied: child_processes=True does that')
        explained = self._judge_job(built)
        self._compare(tasks, results, later, explained, comparable)
        return self._finish()

    # The tasks.

    def _judge_configs(self, use: tf_config.Use, least: Severity) -> bool:
        """Judges each TF_CONFIG; whether there are errors. Keeps findings from `least` on."""
        reports = []
        for value in self._given.configs:
            config, broken = tf_config.parse(value)
            if (broken is None and not self._given.listed and not config.get('task')
                    and not list(tf_config.shape_faults(config)) and tf_config.tasks(config)):
                value = tf_config.of_task(config, *tf_config.tasks(config)[0])
            reports.append(config_report(value, use, self._suppress))
        whole = merge_reports(reports, depth='graph')
        kept = tuple(finding for finding in whole.findings if finding.severity.rank <= least.rank)
        if not whole.ok or least is Severity.INFO:
            self._reports.append(dataclasses.replace(whole, findings=kept))
        return not whole.ok

    def _task(self, config: Config) -> Task:
        kinds = [hook if isinstance(hook, type) else type(hook) for hook in self._skip_hooks]
        return Task(config, skip_hooks=tuple(
            f'{kind.__module__}:{kind.__qualname__}' for kind in kinds))

    def _tasks(self) -> list[Task]:
        """The tasks: those given, or all of the cluster."""
        configs = [tf_config.parse(value)[0] for value in self._given.configs]
        if self._given.listed:
            # A process that has lost its TF_CONFIG builds the graph of a job of its own.
            kept = [config for config in configs if config.get('cluster')] or configs
            tasks = [self._task(config) for config in kept]
            order = {task.role: position for position, task in enumerate(tasks)}
            return sorted(tasks, key=lambda task: (not task.role.startswith(('chief', 'master')),
                                                   order[task.role]))
        config = configs[0]
        derived = tf_config.tasks(config)
        if not derived:
            return [self._task(config)]
        return [self._task(tf_config.of_task(config, job, index)) for job, index in derived]

    def _with_evaluator(self, tasks: list[Task], use: tf_config.Use,
                        first: Mapping[str, Result]) -> list[Task]:
        """Without a strategy the evaluator stands outside of the cluster: it is added here."""
        config = tasks[0].config
        cluster = config.get('cluster') or {}
        evaluates = any(result.has_eval_spec for result in first.values())
        if (self._given.listed or not cluster or use.collective or not evaluates
                or {'evaluator', 'master'} & set(cluster)):
            return tasks
        return [*tasks, self._task(tf_config.of_task(config, 'evaluator', 0))]

    def _sampled(self, tasks: list[Task]) -> list[Task]:
        """The first two, the middle and the last of each job."""
        by_job: dict[str, list[Task]] = {}
        for task in tasks:
            by_job.setdefault(task.role.split('/')[0], []).append(task)
        built: list[Task] = []
        for job, members in by_job.items():
            picked = sorted({0, min(1, len(members) - 1), len(members) // 2, len(members) - 1})
            built += [members[position] for position in picked]
            left = len(members) - len(picked)
            if left:
                self._notes.append(f'{left} of {len(members)} tasks of {job} were not built: '
                                   'what they would build is the same function of their index')
        return built

    # Building.

    def _build(self, tasks: list[Task], ahead: float) -> dict[str, Result]:
        self._say_tasks(tasks, ahead)
        if self._separate:
            return self._build_apart(tasks, ahead)
        return {task.role: role_work.work(self._builder, dataclasses.replace(task, ahead=ahead),
                                          self._suppress) for task in tasks}

    def _again(self, tasks: list[Task], results: Mapping[str, Result]) -> dict[str, Result]:
        """One task of each job once more, a day later."""
        built = [task for task in _one_of_a_kind(tasks)
                 if task.role in results and results[task.role].graph.crash is None]
        return self._build(built, role_clock.AHEAD)

    def _say_tasks(self, tasks: Iterable[Task], ahead: float) -> None:
        for task in tasks:
            self._say(f'building {task.role}' + (', a day later' if ahead else ''))

    def _build_apart(self, tasks: list[Task], ahead: float) -> dict[str, Result]:
        results: dict[str, Result] = {}
        for start in range(0, len(tasks), _AT_ONCE):
            if not self._patience():
                left = ', '.join(task.role for task in tasks[start:])
                self._notes.append(f'the time limit was over before these were built: {left}')
                break
            children = [self._child(task, ahead) for task in tasks[start:start + _AT_ONCE]]
            for child in children:
                answer = child.result(self._patience())
                if isinstance(answer, Failure):
                    self._failures.append(answer)
                else:
                    results[child.role] = answer
        return results

    def _patience(self) -> float:
        """How long to wait for one child: a single one must not use up the time of all."""
        return max(0., min(self._deadline - time.monotonic(), self._time_limit / 3))

    def _child(self, task: Task, ahead: float, whole_job: bool = False) -> Child:
        assert self._name is not None
        return Child(self._name, task.config, task.role, seed=1 if ahead else 0, ahead=ahead,
                     suppress=self._suppress, whole_job=whole_job, skip_hooks=task.skip_hooks)

    # Judging.

    def _judge_job(self, tasks: list[Task]) -> frozenset[str]:
        """Findings of preflight about the job; gives the modes of which it has an error."""
        self._say('looking at the job as a whole')
        report = self._job_report(tasks[0])
        reports = [report]
        if self._depth != 'graph':
            self._say('rehearsing the job as one process')
            left = max(1., self._deadline - time.monotonic())
            reports.append(role_work.judge_job(
                self._builder, Task({}), self._suppress, self._depth, skip_hooks=self._skip_hooks,
                progress=self._say, time_limit=left))
        for each in reports:
            self._reports.append(_without_tool(each))
        return frozenset(finding.where.mode or '' for each in reports for finding in each.errors)

    def _job_report(self, task: Task) -> Report:
        if not self._separate:
            return role_work.judge_job(self._builder, task, self._suppress)
        answer = self._child(task, 0., whole_job=True).result(self._patience())
        if isinstance(answer, Failure):
            self._failures.append(answer)
            return Report(depth='graph')
        return answer

    def _compare(self, tasks: list[Task], results: Mapping[str, Result],
                 later: Mapping[str, Result], explained: frozenset[str],
                 comparable: bool) -> None:
        found = list(results.values())
        facts = RolesFacts(
            tuple(result.graph for result in found),
            later={role: result.graph for role, result in later.items()},
            configs={task.role: task.config for task in tasks}, listed=self._given.listed,
            given=tuple(tf_config.parse(value)[0] for value in self._given.configs),
            explained=explained, comparable=comparable, separate=self._separate,
            exporters=next((result.exporters for result in found), ()),
            has_eval_spec=all(result.has_eval_spec for result in found),
            failures=tuple(dict.fromkeys(self._failures)),
            busy=listening(tasks[0].config, self._given.from_environment))
        known = {_without_role(finding) for report in self._reports for finding in report.findings}
        self._reports += _of_tasks(found, known)
        self._reports.append(engine.check(facts, suppress=self._suppress, stages=('roles',)))
        self._crashes.extend(facts.crashes)
        self._facts['roles'] = [_summary(result.graph) for result in found]

    def _finish(self) -> Report:
        whole = merge_reports(self._reports, depth=self._depth)
        used = {name for item in whole.suppressed
                for name in (item.finding.slug, item.finding.code)}
        ran = set(whole.rules_run)
        tool = TfConfigFacts(None)
        tool.crashes = list(self._crashes)
        tool.unused_suppressions = sorted(
            name for name in self._reasons
            if name not in used and getattr(registry.find(name), 'slug', None) in ran)
        told = engine.check(tool, suppress=self._suppress, stages=('tool',))
        rest = Report(facts=self._facts, notes=tuple(self._notes))
        return merge_reports([*self._reports, told, rest], depth=self._depth)


def _use_of(results: Mapping[str, Result]) -> tf_config.Use:
    """How the job uses TF_CONFIG, once its estimator is known."""
    for result in results.values():
        if result.graph.model_dir is not None or result.graph.strategy or result.graph.kind:
            return tf_config.Use(strategy=bool(result.graph.strategy),
                                 collective=result.graph.collective)
    crashes = [result.graph.crash for result in results.values()]
    # RunConfig itself, which is the stricter without a strategy, has refused it.
    if any(crash is not None and 'TF_CONFIG' in crash.text for crash in crashes):
        return tf_config.Use(strategy=False, collective=False)
    # A strategy has refused the cluster before the estimator was there.
    if any(crash is not None and _REFUSED in crash.text for crash in crashes):
        return tf_config.Use(strategy=True)
    return tf_config.Use()


def _one_of_a_kind(tasks: list[Task]) -> list[Task]:
    """One task of each job that builds a graph."""
    found: dict[str, Task] = {}
    for task in tasks:
        found.setdefault(task.role.split('/')[0], task)
    return [task for job, task in found.items() if job != 'ps']


def _depends_on_state(results: Mapping[str, Result], later: Mapping[str, Result]) -> bool:
    """Whether building again differs: it may be the time, or what the first build left behind."""
    for role, again in later.items():
        first = results[role].graph
        if first.crash is not None:
            continue
        if again.graph.crash is not None or difference(first, again.graph):
            return True
    crashed = [result.graph.crash is not None for result in results.values()]
    return any(crashed) and not crashed[0]


def _of_tasks(results: list[Result], known: set[Finding]) -> list[Report]:
    """What the rules of specs found in the tasks, without what the whole job's report says."""
    reports = []
    training = [result.graph.report for result in results if result.graph.trains]
    shared = set.intersection(*({_without_role(finding) for finding in report.findings}
                                for report in training)) if training else set()
    for result in results:
        for report in (result.graph.report, *([result.job] if result.job is not None else [])):
            kept = [_without_role(finding) if _without_role(finding) in shared else finding
                    for finding in report.findings
                    if _without_role(finding) not in known]
            reports.append(dataclasses.replace(report, findings=sorted_findings(kept)))
    return reports


def _without_role(finding: Finding) -> Finding:
    return dataclasses.replace(finding, where=dataclasses.replace(finding.where, role=None))


def _without_tool(report: Report) -> Report:
    """Without what the tool says of itself, which is said once, and without what is superseded."""
    return dataclasses.replace(report, findings=tuple(
        finding for finding in report.findings
        if finding.slug not in SUPERSEDED and not finding.code.startswith('ESX90')))


def _summary(graph: Any) -> dict[str, Any]:
    """A task in the JSON report."""
    return {'role': graph.role, 'builds': graph.kind, 'strategy': graph.strategy,
            'variables': len(graph.variables), 'collectives': len(graph.exchanges),
            'hooks': list(graph.hooks), 'operations': graph.operations}

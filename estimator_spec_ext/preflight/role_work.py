"""The work for one task of a cluster: its graph, read, and judged by the rules of specs."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import runpy
import sys
from typing import Any, Callable, Mapping, Optional

from estimator_spec_ext import describe, engine
from estimator_spec_ext.compat import export_internals, frames, role_internals, tf
from estimator_spec_ext.diagnostics import Report, merge_reports
from estimator_spec_ext.errors import EstimatorSpecError
from estimator_spec_ext.facts import JobContext, SpecFacts
from estimator_spec_ext.hooks import HOOK_FIELDS
from estimator_spec_ext.preflight import (
    api,
    modes,
    role_begin,
    role_clock,
    role_graph,
    tf_config,
)
from estimator_spec_ext.preflight.facts import PREDICT, Job, JobFacts, Place
from estimator_spec_ext.preflight.role_facts import SUPERSEDED

_STAGES = ('spec', 'stock', 'graph')


@dataclasses.dataclass(frozen=True)
class Task:
    """What is asked for one task.

    Attributes:
      config: its TF_CONFIG; {} for a process without a cluster.
      ahead: seconds by which the clock is ahead.
      skip_hooks: names of classes of hooks whose `begin` is not called.
    """

    config: Mapping[str, Any]
    ahead: float = 0.
    skip_hooks: tuple[str, ...] = ()

    @property
    def role(self) -> str:
        """'worker/1', or 'local'."""
        return tf_config.role_of(self.config)


@dataclasses.dataclass(frozen=True)
class Result:
    """What came of one task; plain values, which another process can send.

    Attributes:
      graph: the `RoleGraph`.
      job: findings about what this task exports, for an evaluator.
      exporters: names of the exporters of the EvalSpec; () without one.
      has_eval_spec: whether the builder returned an EvalSpec.
    """

    graph: role_graph.RoleGraph
    job: Optional[Report] = None
    exporters: tuple[str, ...] = ()
    has_eval_spec: bool = True


def name_of(builder: Any) -> Optional[str]:
    """The name by which another process finds a builder; None when it cannot."""
    if isinstance(builder, str):
        return builder
    name, module = getattr(builder, '__qualname__', ''), getattr(builder, '__module__', '')
    if not name.isidentifier() or getattr(sys.modules.get(module), name, None) is not builder:
        return None
    if module != '__main__':
        return f'{module}:{name}'
    path = getattr(sys.modules['__main__'], '__file__', None)
    return None if path is None else f'{os.path.abspath(path)}:{name}'


def load(builder: Any) -> Callable[[], Any]:
    """A function that calls the builder, which is imported then and not before.

    Args:
      builder: a function, or 'package.module:function', or 'path/to/file.py:function'.

    Returns:
      A function without arguments.

    Raises:
      TypeError: for what is neither a function nor a string.
      ValueError: for a string of another form.
    """
    if callable(builder):
        return builder
    if not isinstance(builder, str):
        raise TypeError('builder must be a function or its name, got '
                        f'{type(builder).__name__}')
    module, colon, name = builder.rpartition(':')
    if not colon or not module or not name.isidentifier():
        raise ValueError(f"builder must be a name like 'package.module:function', got {builder!r}")
    return lambda: _find(module, name)()


def _find(module: str, name: str) -> Any:
    if module.endswith('.py'):
        found = runpy.run_path(module, run_name='__estimator_preflight__')
        if name not in found:
            raise ImportError(f'{module} has no function {name!r}')
        return found[name]
    imported = importlib.import_module(module)
    if not hasattr(imported, name):
        raise ImportError(f'module {module!r} has no function {name!r}')
    return getattr(imported, name)


def work(builder: Callable[[], Any], task: Task, suppress: Any = None) -> Result:
    """Builds, reads and judges one task of a cluster.

    Args:
      builder: gives `(estimator, train_spec, eval_spec)`.
      task: the task.
      suppress: reasons by slug or code.

    Returns:
      A `Result`; a crash of the user's code is in its graph.
    """
    judge = _Judge(task, suppress)
    with role_clock.ahead(task.ahead):
        made = role_internals.build(builder, dict(task.config) or None, judge.graph, judge.replica,
                                    judge.session)
    settings = {**role_graph.settings(made), **judge.read}
    if made.error is not None:
        settings['crash'] = _crash(made)
        if isinstance(made.error, EstimatorSpecError):
            judge.reports.append(made.error.report)
    found = _with_role(merge_reports(judge.reports, depth='graph'), task.role)
    found = dataclasses.replace(found, findings=tuple(
        finding for finding in found.findings if finding.slug not in SUPERSEDED))
    graph = role_graph.RoleGraph(role=task.role, report=found, **settings)
    return _judge_exports(graph, made, task, suppress)


class _Judge:
    """Runs the rules of specs where the graph is the default one."""

    def __init__(self, task: Task, suppress: Any) -> None:
        self._task = task
        self._suppress = suppress
        self.reports: list[Report] = []
        self.read: dict[str, Any] = {}

    def replica(self, tap: Any) -> None:
        """Rules read the spec of a replica in its own thread."""
        if tf.distribute.has_strategy() and not self.reports:
            self._check(tap, (), complete=False)

    def session(self, made: role_internals.RoleBuild) -> None:
        """Judges the spec when no replica has done so; then the hooks begin."""
        if not self.reports:
            own = {id(hook) for name in HOOK_FIELDS for hook in made.tap.fields.get(name) or ()}
            rest = {id(hook): hook for hook in made.hooks if id(hook) not in own}
            self._check(made.tap, tuple(rest.values()), complete=True)
        first = made.chief_hooks if made.is_chief else ()
        notes = role_begin.begin((*first, *made.hooks), self._task.skip_hooks)
        self.reports.append(Report(depth='graph', notes=tuple(notes)))

    def graph(self, made: role_internals.RoleBuild) -> None:
        """Reads the graph."""
        self.read = role_graph.read(self._task.role, made)

    def _check(self, tap: Any, hooks: tuple[Any, ...], *, complete: bool) -> None:
        context = JobContext(graph_is_complete=complete, extra_hooks=hooks, role=self._task.role,
                             num_workers=tf_config.workers(self._task.config),
                             is_chief=tf_config.is_chief(self._task.config))
        facts = SpecFacts(tap.spec.mode, tap.fields, context=context, site=tap.site)
        reasons = engine.reasons(tap.graph)
        known = {name: reasons[name][0] for name in reasons}
        given, _ = engine.read_suppressions(self._suppress)
        self.reports.append(engine.check(facts, suppress={**known, **given}, stages=_STAGES))


def _with_role(report: Report, role: str) -> Report:
    def placed(finding: Any) -> Any:
        return dataclasses.replace(finding, where=dataclasses.replace(finding.where, role=role))

    return dataclasses.replace(
        report, findings=tuple(map(placed, report.findings)),
        suppressed=tuple(dataclasses.replace(item, finding=placed(item.finding))
                         for item in report.suppressed))


def _crash(made: role_internals.RoleBuild) -> role_graph.Crash:
    error = made.error
    assert error is not None
    file, line = frames.error_site(error)
    text = describe.error_text(error)
    name = type(error).__name__
    return role_graph.Crash(
        made.tap.stage, name if text in ('', name) else f'{name}: {text}', Place(file, line),
        refused=isinstance(error, role_internals.StrategyRefused))


def _judge_exports(graph: role_graph.RoleGraph, made: role_internals.RoleBuild, task: Task,
                   suppress: Any) -> Result:
    if made.estimator is None:
        return Result(graph)
    spec = made.eval_spec
    exporters = tuple(spec.exporters or ()) if spec is not None else ()
    result = Result(graph, exporters=tuple(exporter.name for exporter in exporters),
                    has_eval_spec=spec is not None)
    if graph.evaluates:
        # A strategy of several tasks is copied with each look at the RunConfig: not eagerly.
        with role_internals.environment(dict(task.config) or None), tf.Graph().as_default():
            report = _with_role(_exports(made, suppress), task.role)
        return dataclasses.replace(result, job=report)
    return result


def _exports(made: role_internals.RoleBuild, suppress: Any) -> Report:
    """PREDICT of each exporter, as the evaluator builds it after an evaluation."""
    receivers = tuple(dict.fromkeys(
        fn for fn in map(export_internals.receiver_fn_of, made.eval_spec.exporters or ())
        if fn is not None))
    if not receivers:
        return Report(depth='graph')
    job = Job(made.estimator, None, made.eval_spec, receivers)
    reasons, _ = engine.read_suppressions(suppress)
    builder = modes.Builder(job, reasons, None)
    builds = [build() for mode, build in builder.steps() if mode == PREDICT]
    judged = engine.check(JobFacts(job, tuple(builds)), suppress=reasons, stages=('modes',))
    return merge_reports([judged, *(facts.report for facts in builds)], depth='graph')


def judge_job(builder: Callable[[], Any], task: Task, suppress: Any = None,
              depth: str = 'graph', **options: Any) -> Report:
    """What `preflight` says of the job in the place of one task.

    Args:
      builder: gives `(estimator, train_spec, eval_spec)`.
      task: the task.
      suppress: reasons by slug or code.
      depth: of `preflight`; a graph of a cluster cannot be run in one process.
      **options: further options of `preflight`.

    Returns:
      Its `Report`; an empty one when the builder fails, which the task's own build reports.
    """
    config = dict(task.config) or None
    try:
        estimator, train_spec, eval_spec = role_internals.make(builder, config)
    except (Exception, SystemExit) as error:  # a user's function may even exit
        text = describe.error_text(error)
        return Report(depth=depth, notes=(f'the job as one process was not looked at: {text}',))
    # A strategy of several tasks is copied with each look at the RunConfig, which fails eagerly.
    inside = contextlib.nullcontext() if config is None else tf.Graph().as_default()
    with role_internals.environment(config), inside:
        return api.preflight(estimator, train_spec, eval_spec, depth=depth, suppress=suppress,
                             **options)

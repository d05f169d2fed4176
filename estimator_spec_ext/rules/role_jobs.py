"""Jobs of several tasks, for the examples of the rules that compare tasks."""

from __future__ import annotations

import json
from typing import Any, Callable, Mapping, Optional, Sequence

from estimator_spec_ext import engine
from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Report, merge_reports
from estimator_spec_ext.rules import jobs

MODEL_DIR = 'gs://bucket/job'
COLLECTIVE, PARAMETER_SERVER = 'collective', 'parameter server'


def cluster(*, workers: int = 1, ps: int = 0, evaluator: bool = False) -> dict[str, Any]:
    """A TF_CONFIG of a chief and others, on hosts that do not exist."""
    made = {'chief': ['chief.invalid:1'],
            'worker': [f'worker{index}.invalid:1' for index in range(workers)]}
    if ps:
        made['ps'] = [f'ps{index}.invalid:1' for index in range(ps)]
    if evaluator:
        made['evaluator'] = ['evaluator.invalid:1']
    return {'cluster': made, 'task': {'type': 'chief', 'index': 0}}


def shuffled_input_fn() -> Any:
    """Rows in another order on each task."""
    return jobs.input_fn().shuffle(8).repeat()


def builder(function: Callable[..., Any] = jobs.model_fn, *, train: Any = shuffled_input_fn,
            evaluate: Any = jobs.input_fn, strategy: Optional[str] = None,
            config: Optional[Mapping[str, Any]] = None, max_steps: Any = 100,
            hooks: Callable[[], Sequence[Any]] = tuple, exporters: Sequence[Any] = (),
            listeners: Sequence[Any] = (),
            model_dir: Callable[[], Optional[str]] = lambda: MODEL_DIR) -> Callable[[], Any]:
    """A builder as `preflight_roles` takes it.

    Args:
      function: the model_fn.
      train: the input function of TRAIN.
      evaluate: the input function of EVAL; None for a job without.
      strategy: one of the constants above; None for classic parameter servers.
      config: further arguments of the `RunConfig`.
      max_steps: of the `TrainSpec`; a function is called in each task.
      hooks: gives the hooks of the `TrainSpec`.
      exporters: of the `EvalSpec`.
      listeners: the saving_listeners of the `TrainSpec`.
      model_dir: gives the model_dir.

    Returns:
      A function that gives `(estimator, train_spec, eval_spec)`.
    """
    def build() -> Any:
        made = _strategy(strategy)
        arguments = {'model_dir': model_dir(), 'train_distribute': made,
                     'save_checkpoints_steps': 50, **(config or {})}
        estimator = tf_estimator.Estimator(function, config=tf_estimator.RunConfig(**arguments))
        steps = max_steps() if callable(max_steps) else max_steps
        train_spec = tf_estimator.TrainSpec(train, max_steps=steps, hooks=hooks(),
                                            saving_listeners=listeners)
        if evaluate is None:
            return estimator, train_spec, None
        return estimator, train_spec, tf_estimator.EvalSpec(evaluate, steps=1, exporters=exporters)

    return build


def _strategy(kind: Optional[str]) -> Any:
    if kind == COLLECTIVE:
        return tf.distribute.MultiWorkerMirroredStrategy()
    if kind == PARAMETER_SERVER:
        return v1.distribute.experimental.ParameterServerStrategy()
    return None


def task_index() -> int:
    """0 in the chief, 1 in worker 0 and so on: how user code tells the tasks apart."""
    import os
    task = json.loads(os.environ['TF_CONFIG'])['task']
    return 0 if task['type'] == 'chief' else int(task['index']) + 1


def compared(make: Callable[[], Any], tf_config: Any = None, *, later: bool = False,
             listed: Sequence[Any] = (), failures: Sequence[Any] = (),
             busy: Optional[Mapping[str, str]] = None, with_ps: bool = False) -> Report:
    """What the rules say of the tasks of a cluster, without what `preflight` says of the job.

    Args:
      make: a builder.
      tf_config: a TF_CONFIG, whose tasks are built; that of a chief and a worker for None.
      later: whether the chief is also built a day later.
      listed: the TF_CONFIG of each task, instead of the cluster's.
      failures: child processes that gave no answer.
      busy: addresses at which something listens.
      with_ps: whether to speak of parameter servers, of which there is always something to say.

    Returns:
      A `Report`.
    """
    from estimator_spec_ext.preflight import role_clock, role_work
    from estimator_spec_ext.preflight import tf_config as configs
    from estimator_spec_ext.preflight.role_facts import RolesFacts
    whole = tf_config or cluster()
    tasks = [role_work.Task(one) for one in listed or (
        configs.of_task(whole, job, index) for job, index in configs.tasks(whole))]
    results = [role_work.work(make, task) for task in tasks]
    again = {}
    if later:
        moved = role_work.Task(tasks[0].config, role_clock.AHEAD)
        again = {tasks[0].role: role_work.work(make, moved).graph}
    facts = RolesFacts(
        tuple(result.graph for result in results), later=again,
        configs={task.role: task.config for task in tasks
                 if with_ps or not task.role.startswith('ps/')}, listed=bool(listed),
        exporters=results[0].exporters, has_eval_spec=results[0].has_eval_spec,
        failures=tuple(failures), busy=busy or {})
    reports = [result.graph.report for result in results]
    return merge_reports([*reports, engine.check(facts, stages=('roles',))], depth='graph')


def collective(function: Callable[..., Any] = jobs.model_fn, **options: Any) -> Report:
    """A chief and a worker under MultiWorkerMirroredStrategy."""
    return compared(builder(function, strategy=COLLECTIVE, **options))


def classic(function: Callable[..., Any] = jobs.model_fn, *, ps: int = 1, **options: Any) -> Report:
    """A chief, a worker and parameter servers."""
    return compared(builder(function, **options), cluster(ps=ps))

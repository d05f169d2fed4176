"""`preflight`: the whole job, rehearsed before it is paid for."""

from __future__ import annotations

import contextlib
import gc
import random
from typing import Any, Callable, Iterator, Mapping, Optional, Sequence

import numpy as np

from estimator_spec_ext import engine, registry
from estimator_spec_ext.compat import checkpoints, export_internals, tf
from estimator_spec_ext.compat import estimator_internals as internals
from estimator_spec_ext.diagnostics import Report, merge_reports
from estimator_spec_ext.preflight import modes
from estimator_spec_ext.preflight.facts import Job, JobFacts, ModeFacts

DEPTHS = ('graph', 'run', 'serve')
_NAMES = {'train': 'TRAIN', 'eval': 'EVAL', 'infer': 'PREDICT'}


def preflight(estimator: Any, train_spec: Any = None, eval_spec: Any = None, *,
              serving_input_receiver_fn: Optional[Callable[[], Any]] = None, depth: str = 'serve',
              suppress: Optional[Mapping[str, str]] = None, skip_hooks: Sequence[Any] = (),
              progress: Optional[Callable[[str], None]] = None) -> Report:
    """Says what would go wrong in a job, before it runs.

    The arguments are those of `tf.estimator.train_and_evaluate`. Nothing of the user's model_dir is
    written; the list of variables of its newest checkpoint is read.

    Args:
      estimator: a `tf.estimator.Estimator`.
      train_spec: a `tf.estimator.TrainSpec`; None for a job that does not train.
      eval_spec: a `tf.estimator.EvalSpec`; None for a job that does not evaluate.
      serving_input_receiver_fn: what the job exports with, unless an exporter of `eval_spec` has
        one. Without any PREDICT is built on the features of EVAL, or of TRAIN.
      depth: 'graph' builds every mode in a graph of its own and checks it; 'run' also rehearses
        each mode for a few steps in a scratch folder; 'serve' also exports, and queries the result
        in a fresh process.
      suppress: reasons by slug or code of a rule.
      skip_hooks: hooks, or classes of hooks, that a rehearsal must leave out.
      progress: called with a line of text at each step.

    Returns:
      A `Report`; it does not raise for findings.

    Raises:
      TypeError: when an argument is not what `train_and_evaluate` takes.
      ValueError: for an unknown depth, or a job with nothing to build.

    Example:
      >>> def model_fn(features, labels, mode):
      ...     p = tf.compat.v1.layers.dense(features['x'], 1)
      ...     return tf.estimator.EstimatorSpec(mode, predictions={'p': p})
      >>> def receiver_fn():
      ...     x = tf.compat.v1.placeholder(tf.float32, [None, 3])
      ...     return tf.estimator.export.ServingInputReceiver({'x': x}, {'x': x})
      >>> preflight(tf.estimator.Estimator(model_fn), depth='graph',
      ...           serving_input_receiver_fn=receiver_fn).errors
      ()
    """
    job = _job(estimator, train_spec, eval_spec, serving_input_receiver_fn)
    if depth not in DEPTHS:
        raise ValueError(f'depth must be one of {", ".join(map(repr, DEPTHS))}, got {depth!r}')
    with _random_states_kept(), _old_objects_set_aside():
        return _Preflight(job, depth, suppress, tuple(skip_hooks), progress).run()


def train_and_evaluate(estimator: Any, train_spec: Any, eval_spec: Any,
                       **preflight_options: Any) -> Any:
    """`tf.estimator.train_and_evaluate` after a `preflight` without errors.

    Args:
      estimator: as there.
      train_spec: as there.
      eval_spec: as there.
      **preflight_options: options of `preflight`, e.g. `depth='graph'`.

    Returns:
      What `tf.estimator.train_and_evaluate` returns.

    Raises:
      EstimatorSpecError: with all findings, when preflight finds errors; nothing was trained then.
    """
    report = preflight(estimator, train_spec, eval_spec, **preflight_options)
    report.raise_for_errors()
    engine.log_warnings(report)
    return tf.estimator.train_and_evaluate(estimator, train_spec, eval_spec)


def _job(estimator: Any, train_spec: Any, eval_spec: Any, receiver_fn: Any) -> Job:
    if not internals.is_estimator(estimator):
        raise TypeError(
            f'estimator must be a tf.estimator.Estimator, got {type(estimator).__name__}')
    if train_spec is not None and not isinstance(train_spec, tf.estimator.TrainSpec):
        raise TypeError(
            f'train_spec must be a tf.estimator.TrainSpec, got {type(train_spec).__name__}')
    if eval_spec is not None and not isinstance(eval_spec, tf.estimator.EvalSpec):
        raise TypeError(
            f'eval_spec must be a tf.estimator.EvalSpec, got {type(eval_spec).__name__}')
    if receiver_fn is not None and not callable(receiver_fn):
        raise TypeError(
            f'serving_input_receiver_fn must be a function, got {type(receiver_fn).__name__}')
    exporters = (eval_spec.exporters or ()) if eval_spec is not None else ()
    found = [receiver_fn, *map(export_internals.receiver_fn_of, exporters)]
    unique = tuple(dict.fromkeys(fn for fn in found if fn is not None))
    if train_spec is None and eval_spec is None and not unique:
        raise ValueError('nothing to build: give train_spec, eval_spec or '
                         'serving_input_receiver_fn')
    return Job(estimator, train_spec, eval_spec, unique)


class _Preflight:
    """One preflight of one job."""

    def __init__(self, job: Job, depth: str, suppress: Any, skip_hooks: tuple[Any, ...],
                 progress: Optional[Callable[[str], None]]) -> None:
        self._job = job
        self._depth = depth
        self._suppress = suppress
        self._reasons, _ = engine.read_suppressions(suppress)
        self._skip_hooks = skip_hooks
        self._say = progress or (lambda text: None)
        self._reports: list[Report] = []
        self._crashes: list[Any] = []
        self._facts: dict[str, Any] = {}

    def run(self) -> Report:
        """All stages up to the depth."""
        checkpoint = checkpoints.read_checkpoint(self._job.estimator.model_dir)
        builder = modes.Builder(self._job, self._reasons, checkpoint)
        builds = self._build(builder)
        job_facts = JobFacts(self._job, tuple(builds), checkpoint=checkpoint)
        self._check(job_facts, ('modes', 'config'))
        second = tuple(builder.again(builds))
        if second:
            self._check(JobFacts(self._job, (), second, checkpoint), ('modes',))
        self._crashes.extend(builder.rule_crashes)
        return self._finish({**builder.code_suppressions, **self._reasons},
                            builder.used_suppressions)

    def _build(self, builder: modes.Builder) -> list[ModeFacts]:
        builds = []
        for mode, build in builder.steps():
            self._say(f'building {_NAMES[mode]}')
            facts = build()
            self._reports.append(facts.report)
            builds.append(facts)
            self._facts.setdefault('modes', []).append({
                'mode': mode, 'source': facts.source, 'operations': facts.operations,
                'seconds': round(facts.seconds, 3), 'built': facts.complete})
        return builds

    def _check(self, facts: Any, stages: tuple[str, ...]) -> None:
        self._reports.append(engine.check(facts, suppress=self._reasons, stages=stages))
        self._crashes.extend(facts.crashes)

    def _finish(self, reasons: Mapping[str, str], matched: set[str]) -> Report:
        whole = merge_reports(self._reports, depth=self._depth)
        used = matched | {name for item in whole.suppressed
                          for name in (item.finding.slug, item.finding.code)}
        ran = set(whole.rules_run)
        tool = JobFacts(self._job, ())
        tool.crashes = list(self._crashes)
        tool.unused_suppressions = sorted(
            name for name in reasons
            if name not in used and getattr(registry.find(name), 'slug', None) in ran)
        told = engine.check(tool, suppress=self._suppress, stages=('tool',))
        return merge_reports([*self._reports, told, Report(facts=self._facts)], depth=self._depth)


@contextlib.contextmanager
def _random_states_kept() -> Iterator[None]:
    """Input functions draw random numbers; the job to come must not see that."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextlib.contextmanager
def _old_objects_set_aside() -> Iterator[None]:
    """Lets the collector look at new objects alone; to look at TensorFlow's own takes long."""
    frozen = gc.get_freeze_count() > 0
    if not frozen:
        gc.freeze()
    try:
        yield
    finally:
        if not frozen:
            gc.unfreeze()

"""`preflight`: the whole job, rehearsed before it is paid for."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import os
import random
from typing import Any, Callable, Iterable, Iterator, Mapping, Optional, Sequence

import numpy as np

from estimator_spec_ext import engine, registry
from estimator_spec_ext.agreement.hook import automatic_hooks
from estimator_spec_ext.compat import checkpoints, export_internals, interception
from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import estimator_internals as internals
from estimator_spec_ext.compat.logs import quiet_logs
from estimator_spec_ext.compat.rehearsal_internals import redirected_writers
from estimator_spec_ext.diagnostics import Finding, Report, Severity, merge_reports
from estimator_spec_ext.preflight import crashes, modes, warm_start
from estimator_spec_ext.preflight.facts import (
    PREDICT,
    TRAIN,
    EarlyFacts,
    Job,
    JobFacts,
    ModeFacts,
    mistakes_of,
)
from estimator_spec_ext.preflight.limits import Limits
from estimator_spec_ext.preflight.reader import Reader, open_reader
from estimator_spec_ext.preflight.rehearsal import Rehearsal
from estimator_spec_ext.preflight.scratch import Scratch
from estimator_spec_ext.preflight.serving import Serving

# The rules that need no job.
_EARLY = ('ESX142', 'ESX822')
_CALLS = ('ESX821', 'ESX864', 'ESX867')
DEPTHS = ('graph', 'run', 'serve')


class PreflightInterrupted(KeyboardInterrupt):
    """Ctrl-C during a preflight.

    Attributes:
      report: what was found until then; its notes say what was not reached.
    """

    def __init__(self, report: Report) -> None:
        super().__init__('preflight was interrupted')
        self.report = report


def preflight(estimator: Any, train_spec: Any = None, eval_spec: Any = None, *,
              serving_input_receiver_fn: Optional[Callable[[], Any]] = None, depth: str = 'serve',
              suppress: Optional[Mapping[str, str]] = None, skip_hooks: Sequence[Any] = (),
              run_exporters: Sequence[Any] = (),
              progress: Optional[Callable[[str], None]] = None,
              time_limit: float = 600.) -> Report:
    """Says what would go wrong in a job, before it runs.

    The arguments are those of `tf.estimator.train_and_evaluate`. Nothing of the user's model_dir is
    written; the list of variables of its newest checkpoint is read.

    Args:
      estimator: a `tf.estimator.Estimator`.
      train_spec: a `tf.estimator.TrainSpec`; None for a job that does not train.
      eval_spec: a `tf.estimator.EvalSpec`; None for a job that does not evaluate.
      serving_input_receiver_fn: what the job exports with, unless an exporter of `eval_spec` has
        one. Without any PREDICT is built on the features of EVAL, or of TRAIN, and its errors are
        warnings, since the job may never use it.
      depth: 'graph' builds every mode in a graph of its own and checks it; 'run' also rehearses
        each mode for a few steps in a scratch folder; 'serve' also exports, and queries the result
        in a fresh process.
      suppress: reasons by slug or code of a rule.
      skip_hooks: hooks, or classes of hooks, that a rehearsal must leave out.
      run_exporters: exporters of `eval_spec`, their names or their classes, that may run as they
        are, with a folder in the scratch folder. Of the others TensorFlow's own export alone is
        run, since what they do beside that is not known: they may publish a model.
      progress: called with a line of text at each step.
      time_limit: seconds for all rehearsals; what was not reached by then is in the report's notes.

    Returns:
      A `Report`; it does not raise for findings.

    Raises:
      TypeError: when an argument is not what `train_and_evaluate` takes.
      ValueError: for an unknown depth, or a job with nothing to build.
      PreflightInterrupted: (a KeyboardInterrupt) on Ctrl-C, with the report so far.

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
    job = job_of(estimator, train_spec, eval_spec, serving_input_receiver_fn)
    return check_job(job, depth=depth, suppress=suppress, skip_hooks=skip_hooks,
                     run_exporters=run_exporters, progress=progress, time_limit=time_limit)


def check_job(job: Job, *, depth: str = 'serve', suppress: Optional[Mapping[str, str]] = None,
              skip_hooks: Sequence[Any] = (), run_exporters: Sequence[Any] = (),
              progress: Optional[Callable[[str], None]] = None,
              time_limit: float = 600.) -> Report:
    """`preflight` of a `Job`; the arguments are the same.

    Args:
      job: what `job_of` gives.
      depth: as there.
      suppress: as there.
      skip_hooks: as there.
      run_exporters: as there.
      progress: as there.
      time_limit: as there.

    Returns:
      A `Report`.

    Raises:
      ValueError: for an unknown depth.
      PreflightInterrupted: on Ctrl-C, with the report so far.
    """
    if depth not in DEPTHS:
        raise ValueError(f'depth must be one of {", ".join(map(repr, DEPTHS))}, got {depth!r}')
    with _random_states_kept(), _old_objects_set_aside(), interception.suspended():
        return _Preflight(job, depth, suppress, tuple(skip_hooks), tuple(run_exporters), progress,
                          time_limit).run()


def build_training(job: Job) -> ModeFacts:
    """TRAIN of a job, built and not judged.

    Args:
      job: a job with a `TrainSpec`.

    Returns:
      The facts of TRAIN.
    """
    with _random_states_kept(), interception.suspended(), quiet_logs():
        return dict(modes.Builder(job, {}, None).steps())[TRAIN]()


def train_and_evaluate(estimator: Any, train_spec: Any, eval_spec: Any,
                       **preflight_options: Any) -> Any:
    """`tf.estimator.train_and_evaluate` after a `preflight` without errors.

    In a job in which several roles train, a `GraphAgreementHook` is added to the hooks of
    `train_spec`.

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
    hooks = automatic_hooks(estimator.model_dir)
    if hooks:
        train_spec = train_spec._replace(hooks=(*train_spec.hooks, *hooks))
    return tf_estimator.train_and_evaluate(estimator, train_spec, eval_spec)


def failed_before_job(error: BaseException, *, depth: str = 'graph') -> Report:
    """The report on a builder or a script that raised before there was a job.

    Args:
      error: what it raised.
      depth: how deep the check was meant to go.

    Returns:
      A `Report` with that error, and with what is wrong with TF_CONFIG.
    """
    from estimator_spec_ext.preflight import validate_config
    facts = EarlyFacts(crashes.early(error))
    reports = [engine.check(facts, stages=('modes',), family=_EARLY)]
    if os.environ.get('TF_CONFIG'):  # RunConfig may have raised because of it
        config = validate_config.validate_tf_config()
        reports += [] if config.ok else [config]
    return merge_reports(reports, depth=depth)


def judge_calls(estimator: Any, calls: Mapping[str, int],
                suppress: Optional[Mapping[str, str]]) -> Report:
    """The report on how often a script called the methods of an estimator.

    Args:
      estimator: the estimator.
      calls: numbers by name of the method.
      suppress: reasons by rule.

    Returns:
      A `Report`.
    """
    facts = EarlyFacts(None, calls)
    reasons, _ = engine.read_suppressions(suppress)
    return engine.check(facts, suppress=reasons, stages=('config',), family=_CALLS)


def job_of(estimator: Any, train_spec: Any, eval_spec: Any, receiver_fn: Any, *,
           predicts: bool = False, has_weights: bool = False, nested: bool = True) -> Job:
    """The arguments of `preflight`, looked through.

    Args:
      estimator: a `tf.estimator.Estimator`.
      train_spec: a `tf.estimator.TrainSpec`, or None.
      eval_spec: a `tf.estimator.EvalSpec`, or None.
      receiver_fn: a serving_input_receiver_fn, or None.
      predicts: whether the job calls predict().
      has_weights: whether a checkpoint will be there when it starts.
      nested: whether EVAL runs inside TRAIN.

    Returns:
      A `Job`.

    Raises:
      TypeError: when one is not what it should be.
      ValueError: for a job with nothing to build.
    """
    if not internals.is_estimator(estimator):
        raise TypeError(
            f'estimator must be a tf.estimator.Estimator, got {type(estimator).__name__}')
    if train_spec is not None and not isinstance(train_spec, tf_estimator.TrainSpec):
        raise TypeError(
            f'train_spec must be a tf.estimator.TrainSpec, got {type(train_spec).__name__}')
    if eval_spec is not None and not isinstance(eval_spec, tf_estimator.EvalSpec):
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
    return Job(estimator, train_spec, eval_spec, unique, predicts, has_weights, nested)


class _Preflight:
    """One preflight of one job."""

    def __init__(self, job: Job, depth: str, suppress: Any, skip_hooks: tuple[Any, ...],
                 run_exporters: tuple[Any, ...], progress: Optional[Callable[[str], None]],
                 time_limit: float) -> None:
        self._job = job
        self._depth = depth
        self._suppress = suppress
        self._reasons, _ = engine.read_suppressions(suppress)
        self._skip_hooks = skip_hooks
        self._run_exporters = run_exporters
        self._say = progress or (lambda text: None)
        self._reports: list[Report] = []
        self._crashes: list[Any] = []
        self._notes: list[str] = []
        self._reader: Optional[Reader] = None
        self._doing = ''
        self._time_limit = time_limit
        self._facts: dict[str, Any] = {}

    def run(self) -> Report:
        """All stages up to the depth."""
        checkpoint = checkpoints.read_checkpoint(self._job.estimator.model_dir)
        builder = modes.Builder(self._job, self._reasons, checkpoint)
        # A checkpoint in model_dir makes Estimator leave out warm starting.
        scratch = Scratch(self._job.estimator, self._skip_hooks,
                          resumes=checkpoint is not None or warm_start.is_promised(self._job))
        if self._depth == 'serve' and self._job.receiver_fns:
            self._reader = open_reader()
        try:
            with redirected_writers(scratch.inside, scratch.saved_inside, scratch.read_inside):
                self._stages(builder, checkpoint, scratch)
        except KeyboardInterrupt:
            self._notes.append(f'interrupted while {self._doing}; what follows was not reached')
            raise PreflightInterrupted(self._finish(builder)) from None
        finally:
            if self._reader is not None:
                self._reader.close()
            scratch.remove()
        return self._finish(builder)

    def _stages(self, builder: modes.Builder, checkpoint: Optional[checkpoints.Checkpoint],
                scratch: Scratch) -> None:
        builds = self._build(builder)
        left = [checkpoints.to_come(facts.saved) for facts in builds if facts.mode == TRAIN]
        self._job.leaves.extend(found for found in left if found is not None)
        job_facts = JobFacts(self._job, tuple(builds), checkpoint=checkpoint or self._job.earlier)
        wrong = {finding.where.mode for finding in self._check(job_facts, ('modes',)).errors}
        for facts in builds:
            facts.refused = facts.mode in wrong
        self._tell('looking for what outlives a graph')
        second = tuple(builder.again(builds))
        if second:
            self._check(JobFacts(self._job, (), second, checkpoint), ('modes',))
        if self._depth != 'graph':
            job_facts.seconds_per_step = self._rehearse(tuple(builds), scratch)
            self._notes.extend(scratch.notes)
        self._check(job_facts, ('config',))

    def _rehearse(self, builds: tuple[ModeFacts, ...], scratch: Scratch) -> Optional[float]:
        """Runs what can be run; gives the seconds that a training step takes, if it was timed."""
        limits = Limits(self._time_limit)
        rehearsal = Rehearsal(self._job, builds, scratch, limits, self._tell)
        try:
            facts = rehearsal.run()
        finally:
            self._notes.extend(rehearsal.notes)
        errors = self._check(facts, ('run',)).errors
        wrong = {finding.where.mode for finding in errors}
        self._reports = [_not_told_twice(report, errors) for report in self._reports]
        trained = facts.rehearsed.get(TRAIN)
        if trained is not None and trained.crash is None and trained.recorder is not None:
            self._reports = [_not_disproved(report, trained.recorder) for report in self._reports]
        if self._reader is not None:
            for build in builds:
                build.refused |= build.mode in wrong
            serving = Serving(self._job, builds, rehearsal, scratch, self._reader, limits,
                              self._tell, self._run_exporters)
            served = serving.run()
            self._notes.extend(serving.notes)
            self._check(served, ('serve',))
        train = facts.rehearsed.get('train')
        times = train.recorder.step_seconds if train and train.recorder else []
        return min(times[1:], default=None)

    def _tell(self, text: str) -> None:
        self._doing = text
        self._say(text)

    def _build(self, builder: modes.Builder) -> list[ModeFacts]:
        builds = []
        for mode, build in builder.steps():
            self._tell(f'building {crashes.MODE_NAMES[mode]}')
            facts = build()
            self._reports.append(facts.report)
            if facts.crash is not None and facts.crash.kind == crashes.PROMISED:
                self._notes.append(f'{crashes.MODE_NAMES[mode]} not checked: it reads what the '
                                   'script trains before')
            builds.append(facts)
            self._facts.setdefault('modes', []).append({
                'mode': mode, 'source': facts.source, 'operations': facts.operations,
                'built': facts.complete})
        return builds

    def _check(self, facts: Any, stages: tuple[str, ...]) -> Report:
        report = engine.check(facts, suppress=self._reasons, stages=stages)
        self._reports.append(report)
        self._crashes.extend(facts.crashes)
        return report

    def _finish(self, builder: modes.Builder) -> Report:
        reasons = {**builder.code_suppressions, **self._reasons}
        if not self._job.uses_predict:
            self._reports = [soften_predict(report, Severity.WARNING)
                             for report in self._reports]
        whole = merge_reports(self._reports, depth=self._depth)
        used = builder.used_suppressions | {name for item in whole.suppressed
                                            for name in (item.finding.slug, item.finding.code)}
        ran = set(whole.rules_run)
        tool = JobFacts(self._job, ())
        tool.crashes = [*builder.rule_crashes, *self._crashes]
        tool.unused_suppressions = sorted(
            name for name in reasons
            if name not in used and getattr(registry.find(name), 'slug', None) in ran)
        told = engine.check(tool, suppress=self._suppress, stages=('tool',))
        rest = Report(facts=self._facts, notes=tuple(self._notes))
        return merge_reports([*self._reports, told, rest], depth=self._depth)


def soften_predict(report: Report, most: Severity) -> Report:
    """The report with what it says of PREDICT at most this severe: the job may never use it."""
    return dataclasses.replace(report, findings=tuple(
        dataclasses.replace(finding, severity=most)
        if finding.where.mode == PREDICT and finding.severity.rank < most.rank else finding
        for finding in report.findings))


def _not_disproved(report: Report, seen: Any) -> Report:
    """The report without the warnings of TRAIN that its rehearsal has shown to be wrong."""
    kept = tuple(finding for finding in report.findings if not (
        finding.severity is Severity.WARNING and finding.where.mode == TRAIN
        and (rule := registry.find(finding.slug)) is not None and rule.disproved(seen)))
    return dataclasses.replace(report, findings=kept)


def _not_told_twice(report: Report, errors: Iterable[Finding]) -> Report:
    """The report without the warnings of mistakes that a rehearsal met at the same line."""
    met = {(error.where.file, error.where.line, name) for error in errors
           for name in mistakes_of(error.slug)}
    kept = tuple(finding for finding in report.findings if not (
        finding.severity is Severity.WARNING and any(
            (finding.where.file, finding.where.line, name) in met
            for name in mistakes_of(finding.slug))))
    return dataclasses.replace(report, findings=kept)


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

"""Depth 'graph': each mode built in a fresh graph as the Estimator builds it, and checked."""

from __future__ import annotations

import dataclasses
import gc
import time
import weakref
from typing import Any, Callable, Iterator, Mapping, Optional

from estimator_spec_ext import engine, registry, tpu_facts
from estimator_spec_ext.compat import (
    checkpoints,
    early_stopping,
    export_internals,
    gradients,
    graphs,
    keras_layers,
    tf,
    v1,
)
from estimator_spec_ext.compat import estimator_internals as internals
from estimator_spec_ext.diagnostics import Finding, Report, Severity, sorted_findings
from estimator_spec_ext.errors import EstimatorSpecError
from estimator_spec_ext.facts import JobContext, SpecFacts
from estimator_spec_ext.preflight import (
    cardinality,
    crashes,
    receivers,
    replicas,
    stopping,
    tf_config,
    trained,
    warm_start,
)
from estimator_spec_ext.preflight.facts import (
    EVAL,
    PREDICT,
    TRAIN,
    Job,
    ModeFacts,
    Place,
    SecondBuild,
    feature_texts,
)
from estimator_spec_ext.rules.hooks_summaries import summary_name
from estimator_spec_ext.specs import StrictEstimatorSpec

_STAGES = ('spec', 'stock', 'graph')


class Builder:
    """Builds the modes of one job and runs the rules of spec and graph over each.

    Args:
      job: the job.
      suppress: the caller's suppressions, faultless ones alone.
      checkpoint: the newest checkpoint in model_dir, or None.
    """

    def __init__(self, job: Job, suppress: Mapping[str, str],
                 checkpoint: Optional[checkpoints.Checkpoint]) -> None:
        self._job = job
        self._suppress = suppress
        self._checkpoint = checkpoint
        self.code_suppressions: dict[str, str] = {}
        self.used_suppressions: set[str] = set()
        self.rule_crashes: list[Any] = []
        self._labels: list[Any] = []
        self._usual: Optional[ModeFacts] = None
        self._train_summaries: Optional[frozenset[str]] = None
        # Under a strategy RunConfig says nothing of the cluster.
        cluster = tf_config.cluster_of_environment()
        self._workers = (tf_config.workers({'cluster': cluster}) if cluster
                         else getattr(job.config, 'num_worker_replicas', None))
        self._is_chief = getattr(job.config, 'is_chief', None) if job.config.cluster_spec else None

    def steps(self) -> list[tuple[str, Callable[[], ModeFacts]]]:
        """A name and a function for each build, in the order in which stock builds them."""
        job = self._job
        found: list[tuple[str, Callable[[], ModeFacts]]] = []
        if job.train_spec is not None:
            found.append((TRAIN, self._train))
        if job.eval_spec is not None:
            found.append((EVAL, self._eval))
        for receiver_fn in job.receiver_fns:
            found.append((PREDICT, lambda fn=receiver_fn: self._export(fn)))  # type: ignore
        if job.predict_input_fn is not None or not (
                job.further or job.receiver_fns or job.features_source is None):
            found.append((PREDICT, self._predict))
        return found

    def _train(self) -> ModeFacts:
        spec = self._job.train_spec
        facts = ModeFacts(TRAIN, 'input')

        def warm() -> None:
            job = self._job
            if not warm_start.is_promised(job):
                facts.warm_start = warm_start.look(job.estimator, self._checkpoint)
            elif job.warm_source is not None and self._checkpoint is None:
                facts.warm_start = warm_start.compare(
                    checkpoints.warm_start_settings(job.estimator), job.warm_source, run=False)

        return self._build(facts, tuple(spec.hooks or ()), lambda tap: internals.build_train(
            self._job.estimator, spec.input_fn, tap, warm_start=warm))

    def _eval(self) -> ModeFacts:
        spec = self._job.eval_spec
        has_checkpoint = self._job.train_spec is not None or self._checkpoint is not None
        return self._build(
            ModeFacts(EVAL, 'input'), (), lambda tap: internals.build_eval(
                self._job.estimator, spec.input_fn, tap, steps=spec.steps, hooks=spec.hooks or (),
                has_checkpoint=has_checkpoint))

    def _export(self, receiver_fn: Any) -> ModeFacts:
        facts = ModeFacts(PREDICT, 'receiver')
        facts.receiver_fn = receiver_fn
        return self._build(facts, (), lambda tap: internals.build_export(
            self._job.estimator, receiver_fn, tap))

    def _predict(self) -> ModeFacts:
        facts = ModeFacts(PREDICT, 'input')
        facts.used = self._job.uses_predict
        return self._build(facts, (), lambda tap: internals.build_predict(
            self._job.estimator, self._predict_input_fn(), tap))

    def _predict_input_fn(self) -> Callable[[], Any]:
        source = self._job.features_source
        assert source is not None
        function, mode = source

        def input_fn(params: Any = None) -> Any:  # which a TPUEstimator asks for
            # The function was written for its own mode and may ask for it.
            return internals.call_input_fn(self._job.estimator, function, mode)

        input_fn.written_as = function  # type: ignore[attr-defined]
        return input_fn

    def _build(self, facts: ModeFacts, hooks: tuple[Any, ...],
               build: Callable[[internals.Tap], None]) -> ModeFacts:
        started, checking = time.monotonic(), _Stopwatch()
        job = self._job
        strategy = {TRAIN: internals.train_strategy, EVAL: internals.eval_strategy}.get(
            facts.mode or '', lambda estimator: None)(job.estimator)

        def on_spec(tap: internals.Tap) -> None:
            facts.reached_spec = True
            if strategy is not None:
                with checking:
                    self._check_replica(facts, tap)

        def on_graph(tap: internals.Tap) -> None:
            with checking:
                self._look(facts, tap)
                if strategy is None:
                    outside = {id(hook): hook for hook in (*hooks, *tap.session_hooks)}
                    facts.report = self._check(facts, tap, tuple(outside.values()))

        tap = facts.tap = internals.Tap(on_spec, on_graph)
        with keras_layers.kept():
            try:
                build(tap)
            except (Exception, SystemExit) as error:  # a user's function may even exit
                self._crashed(facts, error)
        self._learn_labels(tap)
        if self._usual is None and facts.mode != PREDICT and tap.features is not None:
            self._usual = facts
        if tap.graph is not None:
            facts.operations = len(tap.graph.get_operations())
            for name, (reason, matched) in engine.reasons(tap.graph).items():
                self.code_suppressions[name] = reason
                if matched:
                    self.used_suppressions.add(name)
        facts.site = Place(*tap.site)
        facts.seconds = time.monotonic() - started - checking.seconds
        return facts

    def _context(self, tap: internals.Tap, hooks: tuple[Any, ...], complete: bool) -> JobContext:
        receiver = None
        if tap.receiver is not None:
            receiver = export_internals.receiver_map(tap.receiver.receiver_tensors)
        return JobContext(
            model_dir=self._job.estimator.model_dir, graph_is_complete=complete,
            extra_hooks=hooks, receiver_tensors=receiver,
            num_workers=self._workers, is_chief=self._is_chief,
            batch_size=tap.batch_size,
            train_summaries=self._train_summaries)

    def _check(self, facts: ModeFacts, tap: internals.Tap, hooks: tuple[Any, ...]) -> Report:
        known: dict[str, Any] = {'context': self._context(tap, hooks, True), 'site': tap.site}
        # What the TPU's rules say of a spec that this job runs on a CPU.
        spec_facts = SpecFacts(facts.mode, tap.fields, **known) if not tap.conversions else (
            tpu_facts.of_conversion(tap.conversions[-1], facts.mode, tap.fields, **known))
        earlier = engine.findings(tap.graph) if isinstance(tap.spec, StrictEstimatorSpec) else ()
        report = self._run_rules(spec_facts, tap)
        facts.opaque_hooks = bool(spec_facts.opaque_hooks)
        uses = [(use.field, use.hook) for use in spec_facts.active_hook_uses]
        facts.stopping = tuple((field, watched) for field, watched in (
            (field, early_stopping.watched(hook)) for field, hook in uses) if watched is not None)
        running = [*hooks, *(hook for _, hook in uses)]
        facts.own_saver = any(isinstance(hook, v1.train.CheckpointSaverHook) for hook in running)
        facts.untrained, facts.read = trained.look(spec_facts)
        # A strict spec mends what it warned of, so that the second look cannot see it.
        seen = set(report.findings) | {finding.slug for finding in report.findings}
        mended = [finding for finding in earlier if finding.slug not in seen
                  and finding.severity is not Severity.INFO and _judges_fields(finding)]
        return dataclasses.replace(report, findings=sorted_findings([*report.findings, *mended]))

    def _check_replica(self, facts: ModeFacts, tap: internals.Tap) -> None:
        """Rules read the spec of a replica in its own thread, before the replicas are combined."""
        # The replicas run one function; from the second on collections hold what is another's.
        if not facts.report.rules_run:
            if facts.mode == TRAIN:
                facts.divided_loss = replicas.divided_loss(tap)
            facts.report = self._check_one(facts, tap)
        elif not facts.second_replica:
            facts.second_replica = True
            known = {finding.slug for finding in facts.report.findings}
            more = [finding for finding in self._check_one(facts, tap).findings
                    if finding.slug not in known]
            facts.report = dataclasses.replace(
                facts.report, findings=sorted_findings([*facts.report.findings, *more]))

    def _check_one(self, facts: ModeFacts, tap: internals.Tap) -> Report:
        return self._run_rules(
            SpecFacts(facts.mode, tap.replica_fields, context=self._context(tap, (), False),
                      site=tap.replica_site), tap)

    def _run_rules(self, spec_facts: SpecFacts, tap: internals.Tap) -> Report:
        report = engine.check(spec_facts, suppress=self._reasons(tap.graph), stages=_STAGES)
        self.rule_crashes.extend(spec_facts.crashes)
        return report

    def _reasons(self, graph: Any) -> dict[str, str]:
        known = engine.reasons(graph)
        return {**{name: known[name][0] for name in known}, **self._suppress}

    def _look(self, facts: ModeFacts, tap: internals.Tap) -> None:
        """What the rules across modes will ask, while the graph is the default one."""
        if tap.inputs is not None:
            facts.cardinality = cardinality.of_input(tap.inputs)
            facts.smaller_batch = cardinality.smaller_batch(tap.inputs)
            facts.shards_differ = cardinality.shards_differ(tap.inputs)
        facts.features = feature_texts(tap.features)
        facts.restored = checkpoints.entries(tap.scaffold)
        facts.fills_itself = (getattr(tap.scaffold, 'init_fn', None) is not None
                              or _from_another_checkpoint())
        if facts.mode == EVAL:
            facts.metrics = tuple(sorted({*map(str, tap.fields['eval_metric_ops'] or ()), 'loss'}))
        if facts.mode == TRAIN:
            facts.initializations = tuple((call.empty, Place(*call.site))
                                          for call in tap.initializations)
            self._train_summaries = frozenset(
                map(summary_name, v1.get_collection(v1.GraphKeys.SUMMARIES)))
            facts.saved = _saved(tap, facts.restored, self._job.train_spec)
            facts.stops = tuple(stop for field in ('training_hooks', 'training_chief_hooks')
                                for stop in stopping.stops(tap.fields.get(field), field))
        if tap.receiver is not None:
            kept, facts.dropped = export_internals.dry_signatures(tap.receiver, tap.spec)
            facts.signatures = tuple(sorted(kept))
            facts.forwarded = _forwarded(tap)
            facts.receiver = receivers.of_tap(tap.receiver, tap.features)

    def _crashed(self, facts: ModeFacts, error: BaseException) -> None:
        tap = facts.tap
        facts.crash = crashes.crash_of(error, facts)
        facts.features = feature_texts(tap.features)
        if any(folder in str(error) for folder in self._job.promised):
            facts.crash = dataclasses.replace(facts.crash, kind=crashes.PROMISED)
            return
        if isinstance(error, EstimatorSpecError):
            facts.report = error.report
        elif facts.crash.kind == crashes.REFUSED:
            attempt = facts.crash.details['attempt']
            with tap.graph.as_default():
                spec_facts = SpecFacts(attempt.mode, attempt.fields, site=attempt.site,
                                       context=self._context(tap, (), False))
                facts.report = self._run_rules(spec_facts, tap)
        elif tap.stage == internals.AFTER and tap.fields and not facts.report.rules_run:
            with tap.graph.as_default():
                facts.report = self._check(facts, tap, ())
        if (facts.reached_spec or facts.crash.kind in (crashes.REFUSED, crashes.STRICT)) and (
                facts.restored is None and tap.graph is not None):
            with tap.graph.as_default():
                facts.restored = checkpoints.entries(tap.scaffold)
        if facts.mode == PREDICT and facts.crash.stage == internals.MODEL_FN:
            self._explain_predict(facts)
        elif facts.crash.kind == crashes.GRADIENTS and 'loss' in facts.crash.details:
            stops = gradients.what_stops(facts.crash.details['loss'])
            facts.crash = dataclasses.replace(facts.crash, details={'stops': stops})

    def _explain_predict(self, facts: ModeFacts) -> None:
        """Builds PREDICT again with labels: if that works, it was their absence that killed it."""
        crash = facts.crash
        difference = crashes.serving_difference(facts, self._usual)
        if crash is not None and crashes.blames_features(crash, difference):
            facts.crash = dataclasses.replace(crash, kind=crashes.SERVING, details=difference)
        elif crash is not None and self._misses_labels(facts, crash):
            facts.crash = dataclasses.replace(crash, kind=crashes.LABELS)
        elif crash is not None and crashes.lacks_a_dimension(crash):
            difference = crashes.serving_difference(facts, self._usual, loose=True)
            if crashes.blames_features(crash, difference):
                facts.crash = dataclasses.replace(crash, kind=crashes.SERVING, details=difference)

    def _misses_labels(self, facts: ModeFacts, crash: Any) -> bool:
        if (crash.kind not in (crashes.OTHER, crashes.REFUSED, crashes.STRICT)
                or not self._labels or not internals.takes_labels(self._job.estimator)):
            return False
        tap = internals.Tap(lambda tap: None, lambda tap: None)
        tap.given_labels = self._placeholders
        try:
            if facts.source == 'receiver':
                internals.build_export(self._job.estimator, facts.receiver_fn, tap)
            else:
                internals.build_predict(self._job.estimator, self._predict_input_fn(), tap)
        except (Exception, SystemExit):  # something else is wrong too, or instead
            return False
        return True

    def _placeholders(self) -> Any:
        form, specs = self._labels[0]
        return tf.nest.pack_sequence_as(
            form, [v1.placeholder(dtype, shape) for dtype, shape in specs])

    def _learn_labels(self, tap: internals.Tap) -> None:
        """Keeps the form of the labels, and no tensor: those would keep their graph alive."""
        parts = tf.nest.flatten(tap.labels)
        if self._labels or tap.labels is None or not all(map(graphs.is_tensor, parts)):
            return
        form = tf.nest.map_structure(lambda tensor: 0, tap.labels)
        self._labels.append((form, [(part.dtype, part.shape) for part in parts]))

    def again(self, builds: list[ModeFacts]) -> Iterator[SecondBuild]:
        """Builds the modes once more of which something outlives the graph.

        A graph that nobody holds disappears. One that stays is held by an optimizer, a Keras
        model, a hook or a spec that model_fn keeps from call to call; only then a second build can
        differ from the first.
        """
        steps = dict(zip(range(len(builds)), self.steps()))
        held = _still_held(builds)
        for position in held:
            first = builds[position]
            if first.crash is not None:
                continue
            second = steps[position][1]()
            keys = None if first.restored is None else tuple(first.restored.by_key)
            yield SecondBuild(second, keys)


def _judges_fields(finding: Finding) -> bool:
    rule = registry.find(finding.slug)
    return rule is not None and rule.stage == 'spec'


def _still_held(builds: list[ModeFacts]) -> list[int]:
    """Positions of the builds whose graph is still alive when we let go of it."""
    watched = [None if facts.tap is None or facts.tap.graph is None
               else weakref.ref(facts.tap.graph) for facts in builds]
    for facts in builds:
        _let_go(facts)
    gc.collect()
    return [position for position, graph in enumerate(watched)
            if graph is not None and graph() is not None]


def _let_go(facts: ModeFacts) -> None:
    facts.tap = facts.divided_loss = None
    if facts.crash is not None:
        facts.crash = dataclasses.replace(facts.crash, error=Exception(), details={})
    for name in ('saved', 'restored'):
        entries = getattr(facts, name)
        if entries is not None:
            setattr(facts, name, checkpoints.without_variables(entries))


def _from_another_checkpoint() -> bool:
    """Whether init_from_checkpoint starts every variable of the default graph."""
    sources = [graphs.first_value(variable) for variable in v1.global_variables()
               if not variable.name.startswith('global_step')]
    return bool(sources) and all(source is not None and source.type == 'RestoreV2'
                                 for source in sources)


def _source(tensor: Any) -> Any:
    """The tensor behind a tensor, past ops that hand it on, as op and position."""
    while tensor.op.type == 'Identity' and tensor.op.inputs:
        tensor = tensor.op.inputs[0]
    return tensor.op, tensor.value_index


def _forwarded(tap: internals.Tap) -> tuple[str, ...]:
    """Keys of predictions that are keys of instances, handed on, and in no export output."""
    predictions, features = tap.fields.get('predictions'), tap.features
    if not isinstance(predictions, dict) or not isinstance(features, dict):
        return ()
    given = {_source(value) for value in features.values() if isinstance(value, tf.Tensor)}
    outputs = tap.spec.export_outputs or {}
    exported = {_source(tensor) for output in outputs.values()
                for tensor in export_internals.output_tensors(output).values()
                if isinstance(tensor, tf.Tensor)}
    return tuple(sorted(
        str(key) for key, value in predictions.items()
        if isinstance(value, tf.Tensor) and _source(value) in given - exported
        and (value.dtype.is_integer or value.dtype == tf.string)
        and (value.shape.rank == 1 or value.shape.rank == 2 and value.shape.as_list()[1] == 1)))


def _saved(tap: internals.Tap, default: Optional[checkpoints.Entries],
           train_spec: Any) -> Optional[checkpoints.Entries]:
    """What checkpoints of TRAIN will hold: a CheckpointSaverHook of the user's may decide."""
    hooks = [*tap.session_hooks, *(train_spec.hooks or ()),
             *(tap.fields.get('training_hooks') or ()),
             *(tap.fields.get('training_chief_hooks') or ())]
    for hook in hooks:
        if isinstance(hook, v1.train.CheckpointSaverHook):
            return checkpoints.entries_of_hook(hook) or default
    return default


class _Stopwatch:
    """Adds up the time spent inside it."""

    def __init__(self) -> None:
        self.seconds = 0.
        self._started = 0.

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *unused: Any) -> None:
        self.seconds += time.monotonic() - self._started

"""What the rules of the stages 'modes', 'run', 'serve' and 'config' may read."""

from __future__ import annotations

import dataclasses
from typing import Any, Mapping, Optional

from estimator_spec_ext import describe, registry
from estimator_spec_ext.compat import checkpoints, frames, graphs, role_internals, tf
from estimator_spec_ext.compat import estimator_internals as internals
from estimator_spec_ext.diagnostics import Report, Severity
from estimator_spec_ext.facts import Crash as RuleCrash
from estimator_spec_ext.preflight import tf_config
from estimator_spec_ext.preflight.cardinality import SmallerBatch
from estimator_spec_ext.preflight.stopping import Stop, stops

TRAIN, EVAL, PREDICT = 'train', 'eval', 'infer'
# Beside the methods of an estimator: early-stopping hooks that were made and given to none of them.
UNUSED_STOPPING = 'unused early stopping'


@dataclasses.dataclass(frozen=True)
class Place:
    """A place in the user's code; rules hand it on as the `op` of a finding."""

    file: Optional[str] = None
    line: Optional[int] = None
    op_name: Optional[str] = None


@dataclasses.dataclass(frozen=True, eq=False)
class Crash:
    """An exception that ended the building or the rehearsal of a mode.

    Attributes:
      kind: what it was taken for; one of the names in `crashes.py`.
      stage: how far the mode had come.
      error: the exception.
      text: its first line.
      place: the user's own line.
      details: what the classification found, by name.
    """

    kind: str
    stage: str
    error: BaseException
    text: str
    place: Place
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class Placed:
    """What `Rule.finding` asks of facts; the facts of preflight all are of this kind."""

    mode: Optional[str] = None
    role: Optional[str] = None
    graph = None
    replica = (0, 1)
    site: Place = Place()
    early_error: Optional[Crash] = None
    calls: Mapping[str, int] = {}

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.named: set[str] = set()
        self.crashes: list[RuleCrash] = []
        self.unused_suppressions: list[str] = []
        self.suppression_faults: list[tuple[str, str]] = []
        self.plugin_faults: list[Any] = []

    @property
    def mode_text(self) -> Optional[str]:
        """The mode; None for the job as a whole."""
        return self.mode

    def place(self, value: Any = None) -> tuple[Optional[str], Optional[str], Optional[int]]:
        """Name of the op, file and line for a `Place`, an op, a tensor or a variable."""
        if isinstance(value, Place):
            known = value if value.file is not None else self.site
            return value.op_name, known.file, known.line
        op = None
        if value is not None:
            if graphs.is_variable(value):
                value = getattr(value, 'handle', value)
            op = graphs.as_op(value)
        if op is None:
            return None, self.site.file, self.site.line
        file, line = frames.op_site(op)
        if file is None:
            return op.name, self.site.file, self.site.line
        return op.name, file, line


class EarlyFacts(Placed):
    """What is known without a job.

    Attributes:
      early_error: the exception that kept the job from being built; None without one.
      calls: how often the methods of an estimator were called, by name.
    """

    def __init__(self, early_error: Optional[Crash],
                 calls: Optional[Mapping[str, int]] = None) -> None:
        super().__init__()
        self.early_error = early_error
        self.calls = calls or {}


class ModeFacts(Placed):
    """One mode as it was built.

    Attributes:
      mode: a `tf.estimator.ModeKeys` value.
      source: where the features came from: 'input' or 'receiver'.
      tap: what was seen on the way; None once the graph has been let go.
      report: what the rules of the spec and of the graph found.
      crash: the exception that ended the building; None when all went well.
      cardinality: batches of the input: a number, 'infinite', 'finite', 'unknown'; None without.
      smaller_batch: the batch of the input that may have fewer rows; None when none has.
      shards_differ: whether the shards of the input are known to have other numbers of batches.
      stops: the hooks of the spec that end the training.
      saved: what TRAIN writes into a checkpoint; None when it cannot be told.
      restored: what the mode restores from a checkpoint; None when it cannot be told.
      features: dtype and shape of each feature by name, as text; {} for a bare tensor.
      signatures: names of the signatures of the export; None when none were built.
      dropped: TensorFlow's reason for each signature that it would drop, by name.
      operations: how many ops the graph has.
      seconds: how long building it took, checks not counted.
      warm_start: what warm starting does; None where there is none.
      initializations: of each call of init_from_checkpoint whether it is empty, and the place.
      reached_spec: whether model_fn returned a spec.
      receiver_fn: the serving_input_receiver_fn for the source 'receiver'.
      receiver: how the features come from the receiver's tensors; None without a receiver.
      forwarded: keys of predictions that hand on a key of instances and are not exported.
      metrics: names of the results of EVAL.
      fills_itself: whether the scaffold has an init_fn, which may load variables from elsewhere, or
        all variables start from another checkpoint.
      divided_loss: the op that divides the loss by the number of replicas, beside the optimizer.
      used: whether anything says that the job uses this mode.
      refused: whether a rule across modes has an error for this mode.
      opaque_hooks: whether hooks run that are not TensorFlow's own.
      stopping: (place, what it watches) of early-stopping hooks of the spec.
      own_saver: whether a CheckpointSaverHook of the user's takes part in TRAIN.
      untrained: trainable variables, by name, that a step of TRAIN neither reads nor updates, with
        a place; None when that cannot be told.
      read: names of the variables that the predictions of PREDICT, or the loss of TRAIN, are
        computed from.
      second_replica: whether the spec of a second replica has been looked at.
    """

    def __init__(self, mode: str, source: str) -> None:
        super().__init__()
        self.mode = mode
        self.source = source
        self.tap: Any = None
        self.report = Report(depth='graph')
        self.crash: Optional[Crash] = None
        self.cardinality: Any = None
        self.smaller_batch: Optional[SmallerBatch] = None
        self.shards_differ = False
        self.stops: tuple[Stop, ...] = ()
        self.saved: Optional[checkpoints.Entries] = None
        self.restored: Optional[checkpoints.Entries] = None
        self.features: dict[str, str] = {}
        self.signatures: Optional[tuple[str, ...]] = None
        self.dropped: dict[str, str] = {}
        self.warm_start: Optional[WarmStart] = None
        self.initializations: tuple[tuple[bool, Place], ...] = ()
        self.operations = 0
        self.seconds = 0.
        self.reached_spec = False
        self.receiver_fn: Any = None
        self.opaque_hooks = False
        self.stopping: tuple[tuple[str, Any], ...] = ()
        self.own_saver = False
        self.receiver: Any = None
        self.forwarded: tuple[str, ...] = ()
        self.metrics: tuple[str, ...] = ()
        self.fills_itself = False
        self.divided_loss: Any = None
        self.used = True
        self.refused = False
        self.untrained: Optional[dict[str, Any]] = None
        self.read: frozenset[str] = frozenset()
        self.second_replica = False

    def told(self, *mistakes: str) -> bool:
        """Whether a rule of the spec or of the graph has told one of these mistakes."""
        return any(finding.severity is not Severity.INFO
                   and mistakes_of(finding.slug).intersection(mistakes)
                   for finding in self.report.findings)

    @property
    def complete(self) -> bool:
        """Whether the whole graph was built."""
        return self.crash is None

    @property
    def failed(self) -> bool:
        """Whether running this mode makes no sense."""
        return self.crash is not None or not self.report.ok or self.refused


@dataclasses.dataclass(frozen=True, eq=False)
class WarmStart:
    """What warm starting does in TRAIN.

    Attributes:
      settings: the `tf.estimator.WarmStartSettings`.
      names: the variables that it chooses.
      trainable: the trainable variables of TRAIN, by name.
      moving: moving statistics beside the chosen variables that are in the source, not chosen.
      missing: chosen variables that the source does not hold.
      differing: (variable, shape there, shape here) of chosen variables of another shape.
      error: what TensorFlow raised when it added the ops; None when it did not.
      source_found: whether the source could be read.
      skipped: True when a checkpoint in model_dir makes Estimator leave it out.
    """

    settings: Any
    names: tuple[str, ...] = ()
    moving: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    differing: tuple[tuple[str, str, str], ...] = ()
    error: Optional[BaseException] = None
    source_found: bool = True
    skipped: bool = False
    trainable: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """The arguments of `preflight`.

    Attributes:
      estimator: the `tf.estimator.Estimator`.
      train_spec: the `tf.estimator.TrainSpec`, or None.
      eval_spec: the `tf.estimator.EvalSpec`, or None.
      receiver_fns: the serving receivers: the one that was given, then those of the exporters.
      predicts: whether the job is known to call predict().
      has_weights: whether a checkpoint will be there that is not there yet: the script trains into
        this model_dir before, or names a checkpoint.
      nested: whether EVAL runs inside TRAIN, as train_and_evaluate runs it, and not after it.
      predict_input_fn: what the job hands to predict(); None when that is not known.
      train_steps: how many steps a call of train() takes, where it says so by `steps`.
      same_hooks: whether a second train() gets the hook objects of the first.
      promised: folders into which the script trains before this job begins.
      warm_source: what warm starting will find in such a folder; None when that is not known.
      replaced_exporters: names of the BestExporters in whose place another object stood in an
        earlier call for this model_dir.
      trained_before: whether this TRAIN is that of a train_and_evaluate, which has been judged.
      rounds: how often the script calls train(); 1 where that is not known.
      idle_trainings: how many of them have a max_steps that an earlier one reached, if its data
        lasted.
      further: whether this is what further calls of a script tell: of PREDICT then, only what
        they hand to predict() is looked at.
      earlier: what another estimator, checked before, leaves in this model_dir; None without one.
      leaves: gets what TRAIN leaves in model_dir, when the job is checked.
    """

    estimator: Any
    train_spec: Any = None
    eval_spec: Any = None
    receiver_fns: tuple[Any, ...] = ()
    predicts: bool = False
    has_weights: bool = False
    nested: bool = True
    predict_input_fn: Any = None
    train_steps: Optional[int] = None
    same_hooks: bool = False
    promised: frozenset[str] = frozenset()
    warm_source: Optional[checkpoints.Checkpoint] = None
    replaced_exporters: frozenset[str] = frozenset()
    trained_before: bool = False
    rounds: int = 1
    idle_trainings: int = 0
    further: bool = False
    earlier: Optional[checkpoints.Checkpoint] = None
    leaves: list[checkpoints.Checkpoint] = dataclasses.field(default_factory=list)

    @property
    def uses_predict(self) -> bool:
        """Whether anything says that PREDICT is ever built."""
        return self.predicts or bool(self.receiver_fns)

    @property
    def features_source(self) -> Optional[tuple[Any, str]]:
        """The input function that PREDICT gets its features from, and the mode it is written for.

        Where the job's own is not known, that of EVAL or TRAIN has to do.
        """
        if self.predict_input_fn is not None:
            return self.predict_input_fn, PREDICT
        for spec, mode in ((self.eval_spec, EVAL), (self.train_spec, TRAIN)):
            if spec is not None:
                return spec.input_fn, mode
        return None

    @property
    def config(self) -> Any:
        """The `tf.estimator.RunConfig`; a copy."""
        with tf.Graph().as_default():  # eagerly, TensorFlow 2.12 copies a strategy onto its devices
            return self.estimator.config

    @property
    def exporters(self) -> tuple[Any, ...]:
        """The exporters of the `EvalSpec`."""
        return tuple(self.eval_spec.exporters or ()) if self.eval_spec is not None else ()

    def exporters_of(self, kind: Any) -> list[Any]:
        """Those of the exporters that are of one class."""
        return [exporter for exporter in self.exporters if isinstance(exporter, kind)]


class JobFacts(Placed):
    """The modes of a job side by side.

    Attributes:
      job: the arguments.
      builds: the modes that were built, in order; PREDICT once for each serving receiver.
      second: modes that were built a second time, in a graph of their own.
      checkpoint: the newest `Checkpoint` in model_dir; None when there is none.
      config: a copy of the `RunConfig`; under a strategy it says nothing of the cluster.
      cluster: the addresses by job in TF_CONFIG; {} for a job of one process.
      collective: whether the tasks wait for each other in collective ops.
      seconds_per_step: measured by a rehearsal; None without one.
    """

    def __init__(self, job: Job, builds: tuple[ModeFacts, ...],
                 second: tuple['SecondBuild', ...] = (),
                 checkpoint: Optional[checkpoints.Checkpoint] = None) -> None:
        super().__init__()
        self.job = job
        self.config = job.config
        self.cluster = tf_config.cluster_of_environment()
        strategy = internals.train_strategy(job.estimator)
        self.collective = role_internals.is_collective(strategy)
        self._has_strategy = strategy is not None
        self.seconds_per_step: Optional[float] = None
        self.builds = builds
        self.second = second
        self.checkpoint = checkpoint

    def of(self, mode: str) -> tuple[ModeFacts, ...]:
        """The builds of one mode."""
        return tuple(build for build in self.builds if build.mode == mode)

    @property
    def start_step(self) -> int:
        """The global step at which training starts."""
        return (self.checkpoint.step or 0) if self.checkpoint is not None else 0

    @property
    def stops(self) -> tuple[Stop, ...]:
        """The hooks that end the training, of the `TrainSpec` and of the spec."""
        spec = self.job.train_spec
        given = () if spec is None else stops(spec.hooks, 'hooks')
        return (*given, *(self.train.stops if self.train is not None else ()))

    @property
    def trainers(self) -> int:
        """How many tasks train."""
        return tf_config.workers({'cluster': self.cluster})

    @property
    def has_evaluator(self) -> bool:
        """Whether the evaluations are made by a task of their own."""
        if self.job.eval_spec is None or not self.cluster or 'master' in self.cluster:
            return False
        return 'evaluator' in self.cluster or not self._has_strategy

    @property
    def warm_starts(self) -> bool:
        """Whether the estimator has warm-start settings."""
        return checkpoints.warm_start_settings(self.job.estimator) is not None

    @property
    def train(self) -> Optional[ModeFacts]:
        """TRAIN; None when it was not built."""
        return next(iter(self.of(TRAIN)), None)


@dataclasses.dataclass(frozen=True, eq=False)
class SecondBuild:
    """A mode that was built again because something kept its first graph alive.

    Attributes:
      facts: the second build.
      keys: keys of the checkpoint in the first build; None when they are not known.
    """

    facts: ModeFacts
    keys: Optional[tuple[str, ...]]

    @staticmethod
    def mistakes(slug: str) -> frozenset[str]:
        """The mistakes that a rule covers."""
        return mistakes_of(slug)


def mistakes_of(slug: str) -> frozenset[str]:
    """The mistakes that a rule covers."""
    rule = registry.find(slug)
    return frozenset(rule.mistakes if rule is not None else ())


def feature_texts(features: Any) -> dict[str, str]:
    """Dtype and shape of each feature by name; {} for what is no dict of tensors."""
    if not isinstance(features, dict):
        return {}
    return {str(key): describe.value(value) for key, value in features.items()}

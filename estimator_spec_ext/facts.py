"""What a rule may read: the fields of a spec, its graph, and what is known of the job around it."""

from __future__ import annotations

import dataclasses
import functools
from typing import AbstractSet, Any, Callable, Mapping, Optional

from estimator_spec_ext import hooks as hooks_lib
from estimator_spec_ext.compat import distribution, estimator, frames, graphs, stock, tf, v1
from estimator_spec_ext.graph import GraphIndex, VariableInfo

FIELDS = ('predictions', 'loss', 'train_op', 'eval_metric_ops', 'export_outputs',
          'training_chief_hooks', 'training_hooks', 'scaffold', 'evaluation_hooks',
          'prediction_hooks')


@dataclasses.dataclass(frozen=True)
class JobContext:
    """What is known of the job beyond the spec; nothing of it is known in a bare constructor.

    Attributes:
      model_dir: the job's model_dir.
      graph_is_complete: True when no op will be added before the session starts.
      extra_hooks: hooks from outside the spec, e.g. of `TrainSpec`.
      receiver_tensors: the serving receiver's tensors by name (PREDICT).
      num_workers: how many workers train, the chief included; None when it is not known.
      role: e.g. 'worker/1'.
      is_chief: whether this process is the chief of several workers; None when it is not known.
      batch_size: rows that model_fn gets in a batch; None when only its tensors tell.
      train_summaries: the last parts of the names of TRAIN's summaries; None where not known.
    """

    model_dir: Optional[str] = None
    graph_is_complete: bool = False
    extra_hooks: tuple[Any, ...] = ()
    receiver_tensors: Optional[Mapping[str, Any]] = None
    num_workers: Optional[int] = None
    role: Optional[str] = None
    is_chief: Optional[bool] = None
    batch_size: Optional[int] = None
    train_summaries: Optional[frozenset[str]] = None


NO_CONTEXT = JobContext()


def context_of(config: Any) -> JobContext:
    """What a `tf.estimator.RunConfig` tells of the job; nothing for None."""
    if not isinstance(config, estimator.RunConfig):
        return NO_CONTEXT
    return JobContext(model_dir=config.model_dir, num_workers=config.num_worker_replicas)


def completed(context: JobContext) -> JobContext:
    """`context`, with what the Estimator that is calling model_fn now tells of the job."""
    if context.model_dir is not None or context.num_workers is not None:
        return context
    config = frames.calling_config()
    if config is None:
        return context
    known = context_of(config)
    return dataclasses.replace(context, model_dir=known.model_dir, num_workers=known.num_workers)


@dataclasses.dataclass(frozen=True, eq=False)
class HookUse:
    """One hook in one place of the spec.

    Attributes:
      hook: the object.
      field: with its index, e.g. 'training_hooks[0]'.
      base_field: e.g. 'training_hooks'.
      elements: its `HookElement`s.
    """

    hook: Any
    field: str
    base_field: str
    elements: tuple[hooks_lib.HookElement, ...]


@dataclasses.dataclass(frozen=True)
class Crash:
    """A rule that raised."""

    slug: str
    text: str
    file: Optional[str]
    line: Optional[int]


def mode_text(mode: Any) -> Optional[str]:
    """The mode as a plain str, which cannot answer in its own way when it is compared, or None."""
    return str.__str__(mode) if issubclass(type(mode), str) else None


class SpecFacts:
    """The facts of one spec.

    Attributes:
      mode: as given, also when it is no string.
      fields: the ten other fields by name, as the caller gave them.
      graph: the default graph; None when the spec is built eagerly.
      context: a `JobContext`.
      broken: fields that errors of the 'spec' stage leave unreadable.
      named: fields for which an error has been named, so that stock's own is no news.
      crashes: rules that raised, filled by the engine.
      unused_suppressions: filled by the engine before the 'tool' stage.
      suppression_faults: (name, what is wrong with it), filled by the engine.
      plugin_faults: `plugins.PluginFault`s, filled by the engine before the 'tool' stage.
      constructor: makes stock's spec of the fields; None when that would change the graph, or when
        no spec is wanted.
      made: what `constructor` gave when a rule asked whether stock refuses anything, else None.
    """

    def __init__(self, mode: Any, fields: Mapping[str, Any], *, graph: Optional[tf.Graph] = None,
                 context: JobContext = NO_CONTEXT,
                 site: Optional[tuple[Optional[str], Optional[int]]] = None) -> None:
        text = mode_text(mode)
        self.mode = mode if text is None else text
        self.fields = {name: fields.get(name) for name in FIELDS}
        self.context = context
        self.role = context.role
        if graph is None and not tf.executing_eagerly():
            graph = v1.get_default_graph()
        self.graph: Any = graph
        self.broken: set[str] = set()
        self.named: set[str] = set()
        self.crashes: list[Crash] = []
        self.unused_suppressions: list[str] = []
        self.suppression_faults: list[tuple[str, str]] = []
        self.plugin_faults: list[Any] = []
        self.constructor: Optional[Callable[[], Any]] = None
        self.made: Any = None
        # The line that builds the spec, unless the caller knows a better one.
        self._call_site = frames.call_site() if site is None else site

    def __getattr__(self, name: str) -> Any:
        if name in FIELDS:
            return self.__dict__['fields'][name]
        raise AttributeError(name)

    @property
    def given(self) -> frozenset[str]:
        """The fields that are not None, and 'extra_hooks' when there are hooks from outside."""
        given = [name for name, value in self.fields.items() if value is not None]
        if self.context.extra_hooks:
            given.append('extra_hooks')
        return frozenset(given)

    # Modes.

    @property
    def mode_text(self) -> Optional[str]:
        """The mode when it is a string."""
        return self.mode if type(self.mode) is str else None

    @property
    def is_train(self) -> bool:
        """Whether the mode is TRAIN."""
        return self.mode_text == 'train'

    @property
    def is_eval(self) -> bool:
        """Whether the mode is EVAL."""
        return self.mode_text == 'eval'

    @property
    def is_predict(self) -> bool:
        """Whether the mode is PREDICT."""
        return self.mode_text == 'infer'

    # Places.

    def place(self, value: Any = None) -> tuple[Optional[str], Optional[str], Optional[int]]:
        """Name, file and line of what made `value`; the line that builds the spec for None."""
        op = None if value is None else self._op_of(value)
        if op is None:
            return (None, *self._call_site)
        file, line = frames.op_site(op)
        if file is None:
            return (op.name, *self._call_site)
        return op.name, file, line

    @staticmethod
    def _op_of(value: Any) -> Any:
        if graphs.is_variable(value):
            for part in distribution.components(value):
                op = graphs.as_op(getattr(part, 'handle', part))
                if op is not None:
                    return op
        return graphs.as_op(value)

    # The graph.

    @functools.cached_property
    def index(self) -> GraphIndex:
        """The index of `graph`; only rules of the 'graph' stage may ask for it."""
        if self.graph is None:
            raise ValueError('there is no graph')
        return GraphIndex(self.graph)

    def is_foreign(self, value: Any) -> bool:
        """Whether a tensor, op or variable belongs to a graph that this spec cannot run."""
        if self.graph is None:
            return False
        graph = graphs.graph_of(value)
        if graph is None and graphs.is_variable(value):
            owners = [graphs.graph_of(part) for part in distribution.components(value)]
            graph = owners[0] if owners else None
        if graph is None:
            return False
        return all(graph is not own for own in graphs.graph_chain(self.graph))

    @functools.cached_property
    def global_step(self) -> Any:
        """The graph's global step variable; None when there is none."""
        if self.graph is None:
            return None
        try:
            return v1.train.get_global_step(self.graph)
        except (TypeError, ValueError, RuntimeError, KeyError):
            return None

    @functools.cached_property
    def stock_refusals(self) -> dict[str, Exception]:
        """What stock's validators refuse, by field."""
        if self.constructor is not None:
            try:
                self.made = self.constructor()
                return {}
            except Exception:  # noqa: BLE001 - stock stops here at the first of what it refuses
                pass
        return stock.verdicts(self.mode, self.fields)

    # Hooks.

    @functools.cached_property
    def hook_uses(self) -> tuple[HookUse, ...]:
        """Every hook of the four hook fields; other objects in these fields are left out."""
        uses = []
        for base_field in hooks_lib.HOOK_FIELDS:
            for position, hook in enumerate(self.hooks_in(base_field)):
                if hooks_lib.is_hook(hook):
                    uses.append(HookUse(hook, f'{base_field}[{position}]', base_field,
                                        hooks_lib.hook_graph_elements(hook)))
        return tuple(uses)

    def hooks_in(self, base_field: str) -> tuple[Any, ...]:
        """The objects in one hook field; () when the field is no list or tuple."""
        value = self.fields[base_field]
        return tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else ()

    @functools.cached_property
    def active_hook_uses(self) -> tuple[HookUse, ...]:
        """The hooks of the fields that this mode runs."""
        fields = hooks_lib.FIELDS_OF_MODE.get(self.mode_text or '', ())
        return tuple(use for use in self.hook_uses if use.base_field in fields)

    @functools.cached_property
    def opaque_hooks(self) -> tuple[Any, ...]:
        """Running hooks that are not TensorFlow's own: they may do work that nobody sees."""
        outside = [hook for hook in self.context.extra_hooks if not hooks_lib.is_stock(hook)]
        return tuple([use.hook for use in self.active_hook_uses
                      if not hooks_lib.is_stock(use.hook)] + outside)

    # What a session of this mode runs.

    @functools.cached_property
    def shows_training(self) -> bool:
        """Whether the graph shows all that a training step of this spec runs.

        Inside a function, under a TPU rewrite or with a value that differs by replica it does not.
        """
        op = graphs.as_op(self.train_op)
        return (op is not None and op.graph is self.graph
                and not graphs.is_function_graph(self.graph)
                and not graphs.in_xla_rewrite(self.graph))

    @functools.cached_property
    def queue_ops(self) -> tuple[Any, ...]:
        """What queue runners run beside the step, those of SyncReplicasOptimizer included."""
        if self.graph is None:
            return ()
        runners = list(self.graph.get_collection(v1.GraphKeys.QUEUE_RUNNERS))
        for hook in [use.hook for use in self.active_hook_uses] + list(self.context.extra_hooks):
            if isinstance(hook, distribution.SyncReplicasHook):
                optimizer = getattr(hook, '_sync_optimizer', None)
                runners.append(getattr(optimizer, '_chief_queue_runner', None))
        ops = [op for runner in runners for op in getattr(runner, 'enqueue_ops', None) or ()]
        # What fills these queues applies the gradients, whoever holds the hook that runs it.
        ops += [op for op in self.index.of_types(('QueueEnqueueMany', 'QueueEnqueueManyV2'))
                if distribution.is_sync_queue(self.index.handle(op.inputs[0]))]
        return tuple(dict.fromkeys(ops))

    @functools.cached_property
    def hook_ops(self) -> tuple[Any, ...]:
        """What the running hooks hold of this graph, and so may run."""
        held = [element for use in self.active_hook_uses for element in use.elements]
        for hook in self.context.extra_hooks:
            held.extend(hooks_lib.hook_graph_elements(hook))
        named = [hooks_lib.resolve(self.graph, element.value) for element in held
                 if element.kind == 'name' and self.graph is not None]
        return tuple([element.value for element in held
                      if element.kind in ('tensor', 'op') and not self.is_foreign(element.value)]
                     + [value for value in named if value is not None])

    @functools.cached_property
    def step_roots(self) -> tuple[Any, ...]:
        """What one step fetches for certain: by mode, from the fields of the spec."""
        if self.is_train:
            roots = [self.loss, self.train_op]
        elif self.is_eval:
            roots = [self.loss] + [part for value in self._metric_parts for part in value]
        else:
            roots = list(self.prediction_tensors.values())
        return tuple(root for root in roots if graphs.as_op(root) is not None)

    @functools.cached_property
    def _metric_parts(self) -> list[tuple[Any, ...]]:
        metrics = self.eval_metric_ops
        parts: list[tuple[Any, ...]] = []
        for value in metrics.values() if isinstance(metrics, dict) else ():
            if isinstance(value, tuple):
                parts.append(tuple(tf.nest.flatten(value)))
            elif isinstance(value, tf.keras.metrics.Metric):
                parts.append(tuple(value.updates[:1]))  # Estimator runs no other
        return parts

    @functools.cached_property
    def step_ops(self) -> AbstractSet[Any]:
        """All ops that one step runs for certain."""
        return self.index.ancestors(self.step_roots)

    @functools.cached_property
    def run_ops(self) -> AbstractSet[Any]:
        """All ops that a step runs, counting what hooks and queue runners may run as well."""
        return self.index.ancestors((*self.step_roots, *self.hook_ops, *self.queue_ops))

    @functools.cached_property
    def updated(self) -> dict[VariableInfo, tuple[Any, ...]]:
        """The variables that `run_ops` update, each with the ops that do so."""
        return self.index.written(self.run_ops)

    @functools.cached_property
    def trainable(self) -> tuple[VariableInfo, ...]:
        """The trainable variables of the graph that can have a gradient."""
        return tuple([info for info in self.index.variables if info.trainable
                      and (info.dtype.is_floating or info.dtype.is_complex)])

    @functools.cached_property
    def trained(self) -> tuple[VariableInfo, ...]:
        """The trainable variables that a step updates, hooks included."""
        return tuple([info for info in self.trainable if info in self.updated])

    # Predictions.

    @functools.cached_property
    def prediction_tensors(self) -> dict[Any, Any]:
        """Predictions by key; a bare tensor has the key None; what is no tensor is left out."""
        value = self.predictions
        items = value.items() if isinstance(value, dict) else [(None, value)]
        return {key: item for key, item in items if graphs.is_tensor(item)}

    @functools.cached_property
    def replica(self) -> tuple[int, int]:
        """The id of this replica and their number; (0, 1) without a strategy."""
        return distribution.replica()

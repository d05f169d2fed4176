"""What one task of a cluster builds, as plain values that another process can send and compare."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any, Iterator, Optional

from estimator_spec_ext import describe
from estimator_spec_ext.agreement import sheet
from estimator_spec_ext.compat import (
    checkpoints,
    distribution,
    frames,
    rehearsal_internals,
    role_internals,
    tf,
    v1,
)
from estimator_spec_ext.diagnostics import Report
from estimator_spec_ext.graph import GraphIndex
from estimator_spec_ext.hooks import (
    class_name,
    hook_graph_elements,
    resolve,
    stored_attributes,
)
from estimator_spec_ext.preflight import cardinality, input_print, stopping
from estimator_spec_ext.preflight.facts import Place

_WRITERS = (v1.train.SummarySaverHook, v1.train.StepCounterHook, v1.train.ProfilerHook)
_INITIALIZER = '/Initializer'
_FOLDERS = ('_checkpoint_dir', '_output_dir', '_output_file')


@dataclasses.dataclass(frozen=True)
class Variable:
    """A global variable: the checkpoint and the other tasks know it by its name.

    Attributes:
      name: without ':0'.
      shape: as text, '(2, 1)'.
      dtype: as text.
      trainable: whether it is among the trainable variables.
      ps: '/job:ps/task:1' for one that lives there; ''.
      place: the user's line.
    """

    name: str
    shape: str
    dtype: str
    trainable: bool
    ps: str
    place: Place

    @property
    def kind(self) -> tuple[str, str, bool]:
        """What must be the same for two tasks to exchange it."""
        return self.shape, self.dtype, self.trainable

    def __str__(self) -> str:
        return f'{self.name} {self.dtype}{self.shape}'


@dataclasses.dataclass(frozen=True)
class Exchange:
    """A collective op, without the op.

    Attributes:
      kind: 'bcast', 'reduce' and so on; sending and receiving are one.
      variable: the variable whose first value is broadcast; ''.
      keys: group size, group key and instance key; -1 where not known.
      dtype: of what is exchanged.
      shape: of what is exchanged, as text.
      place: the user's line, with the name of the op.
      runs: whether this task runs it: in each step, for a summary, or for a hook of TensorFlow's.
      may_run: whether it does, or has a hook of another class that holds what comes of it.
    """

    kind: str
    variable: str
    keys: tuple[int, ...]
    dtype: str
    shape: str
    place: Place
    runs: bool = False
    may_run: bool = False

    @property
    def identity(self) -> tuple[Any, ...]:
        """What must be the same in all tasks."""
        return self.kind, self.keys, self.dtype, self.shape

    def __str__(self) -> str:
        return f'{self.kind} of {self.dtype}{self.shape}'


@dataclasses.dataclass(frozen=True)
class Writer:
    """A hook that writes files.

    Attributes:
      saves: whether it saves checkpoints.
      class_name: of the hook.
      folder: where to, an absolute path or an address.
    """

    saves: bool
    class_name: str
    folder: str


@dataclasses.dataclass(frozen=True)
class Crash:
    """What ended the building of a role.

    Attributes:
      stage: how far it had come, as `compat.estimator_internals` names it.
      text: the exception in one line.
      place: the user's line.
      refused: whether a strategy was made that no Estimator can use.
    """

    stage: str
    text: str
    place: Place
    refused: bool = False


@dataclasses.dataclass(frozen=True)
class RoleGraph:
    """What one task builds.

    Attributes:
      role: 'worker/1'; 'local' for a process without a cluster.
      kind: 'train', 'eval', 'server'; None when it ended early.
      strategy: the name of the strategy's class as users write it; '' without one.
      collective: whether the tasks wait for each other in collective ops.
      is_chief: whether TensorFlow takes this task for the chief.
      variables: the global variables in the order of their creation.
      exchanges: the collective ops by their keys.
      restored: (key, shape, dtype) of what is restored from a checkpoint; None when not known.
      fills_itself: whether the scaffold loads variables by itself.
      writers: the hooks that write files, TensorFlow's own left out.
      hooks: names of the classes of all hooks of the session.
      last_steps: the steps at which hooks end the training: (class, step).
      cardinality: how many batches the input has: a number, 'infinite', 'finite', 'unknown'.
      input_print: the same for two tasks that read the same rows in the same order; None when
        that is not known.
      model_dir: as the estimator has it; None where it makes a temporary folder.
      max_steps: of the TrainSpec.
      eager: whether the process runs eagerly.
      operations: how many ops the graph has.
      site: where the spec was built.
      crash: what ended it; None when all went well.
      report: what the rules found in it.
    """

    role: str
    kind: Optional[str] = None
    strategy: str = ''
    collective: bool = False
    is_chief: bool = False
    variables: tuple[Variable, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    restored: Optional[tuple[tuple[str, str, str], ...]] = None
    fills_itself: bool = False
    writers: tuple[Writer, ...] = ()
    hooks: tuple[str, ...] = ()
    last_steps: tuple[tuple[str, int], ...] = ()
    cardinality: Any = 'unknown'
    input_print: Optional[str] = None
    model_dir: Optional[str] = None
    max_steps: Optional[int] = None
    eager: bool = False
    operations: int = 0
    site: Place = Place()
    crash: Optional[Crash] = None
    report: Report = Report(depth='graph')

    @property
    def trains(self) -> bool:
        """Whether the graph of a training task is there."""
        return self.kind == role_internals.TRAINS and self.crash is None

    @property
    def evaluates(self) -> bool:
        """Whether the graph of an evaluator is there."""
        return self.kind == role_internals.EVALUATES and self.crash is None


def read(role: str, made: role_internals.RoleBuild) -> dict[str, Any]:
    """Reads the graph of a role, which is the default graph.

    Args:
      role: 'worker/1'.
      made: the role's build, which has reached its session.

    Returns:
      Arguments of `RoleGraph`.
    """
    trainable = {variable.name for variable in v1.trainable_variables()}
    own_hooks = [*made.hooks, *(made.chief_hooks if made.is_chief else ())]
    scaffold = made.tap.scaffold
    entries = checkpoints.entries(scaffold)
    restored = None if entries is None else tuple(
        (key, '' if entry.shape is None else describe.shape_text(entry.shape),
         '' if entry.dtype is None else entry.dtype.name)
        for key, entry in sorted(entries.by_key.items()))
    return {
        'variables': tuple(_variable(one, trainable, made.caller)
                           for one in v1.global_variables()),
        'exchanges': tuple(sorted(
            _exchanges(made), key=lambda one: (one.keys[1:], one.place.op_name))),
        'restored': restored,
        'fills_itself': getattr(scaffold, 'init_fn', None) is not None,
        'writers': tuple(found for found in map(_writer, _users_hooks(made)) if found),
        'hooks': tuple(map(class_name, own_hooks)),
        'last_steps': tuple(
            (class_name(hook), stop.step(0)) for hook in own_hooks
            for stop in stopping.stops([hook], '') if stop.step(0) is not None),
        'cardinality': _cardinality(made.tap.inputs),
        'input_print': input_print.of_input(made.tap.inputs),
        'operations': len(made.tap.graph.get_operations()),
    }


def settings(made: role_internals.RoleBuild) -> dict[str, Any]:
    """What is known of a role without its graph: arguments of `RoleGraph`."""
    found: dict[str, Any] = {'kind': made.kind, 'is_chief': made.is_chief, 'eager': made.eager}
    if made.estimator is not None:
        model_dir = str(made.estimator.model_dir)
        found['model_dir'] = None if model_dir in made.temporary_dirs else model_dir
        found['strategy'] = strategy_name(made.strategy)
        found['collective'] = role_internals.is_collective(made.strategy)
        found['max_steps'] = made.train_spec.max_steps
    if made.tap.site[0] is not None:
        found['site'] = Place(*made.tap.site)
    return found


def strategy_name(strategy: Any) -> str:
    """The name of a strategy as users write it; '' for None."""
    if strategy is None:
        return ''
    if role_internals.is_collective(strategy):
        return 'MultiWorkerMirroredStrategy'
    name = type(strategy).__name__
    return name[:-2] if name.endswith('V1') else name


def _place(op: Any, caller: Any, name: str) -> Place:
    site = frames.op_site(op) if op is not None else (None, None)
    return Place(*((None, None) if site == caller else site), name)


def _variable(variable: Any, trainable: set[str], caller: Any) -> Variable:
    parts = distribution.components(variable)
    op = getattr(getattr(parts[0], 'handle', parts[0]), 'op', None)
    device = tf.DeviceSpec.from_string(variable.device or '')
    ps = f'/job:ps/task:{device.task}' if device.job == 'ps' else ''
    name = variable.name.split(':')[0]
    return Variable(name, describe.shape_text(variable.shape), variable.dtype.base_dtype.name,
                    variable.name in trainable, ps, _place(op, caller, name))


def _exchanges(made: role_internals.RoleBuild) -> Iterator[Exchange]:
    ops = sheet.collective_ops(made.tap.graph)
    if ops:
        index = GraphIndex(made.tap.graph)
        run = index.ancestors(_fetches(made, surely=True))
        may_run = index.ancestors(_fetches(made, surely=False))
        for op in ops:
            yield dataclasses.replace(
                _exchange(op, made.caller), runs=op in run, may_run=op in may_run)


def _fetches(made: role_internals.RoleBuild, *, surely: bool) -> Iterator[Any]:
    """What this task runs while it trains: the step, what hooks look at, the chief's summaries."""
    yield from made.step
    for hook in (*made.hooks, *(made.chief_hooks if made.is_chief else ())):
        for element in hook_graph_elements(hook):
            if element.known or not surely:
                named = element.kind == 'name'
                yield resolve(made.tap.graph, element.value) if named else element.value
    if made.is_chief and getattr(made.config, 'save_summary_steps', None):
        given = getattr(made.tap.scaffold, '_summary_op', None)
        yield from ([given] if given is not None
                    else made.tap.graph.get_collection(v1.GraphKeys.SUMMARIES))


def _exchange(op: Any, caller: Any) -> Exchange:
    entry = sheet.collective(op)
    kind = entry.kind.replace('Collective', '').rstrip('V23').lower()
    variable = op.name.split(_INITIALIZER)[0] if _INITIALIZER in op.name else ''
    return Exchange(kind, variable, entry.keys, entry.dtype, entry.shape,
                    _place(op, caller, op.name))


def _users_hooks(made: role_internals.RoleBuild) -> list[Any]:
    """The hooks of the spec and of the TrainSpec that this task runs."""
    fields = made.tap.fields
    users = [*(made.train_spec.hooks or ()), *(fields.get('training_hooks') or ())]
    if made.is_chief:
        users += fields.get('training_chief_hooks') or ()
    return users


def _writer(hook: Any) -> Optional[Writer]:
    saves = isinstance(hook, v1.train.CheckpointSaverHook)
    if not saves and not isinstance(hook, _WRITERS):
        return None
    stored = dict(stored_attributes(hook))
    for name in _FOLDERS:
        value = stored.get(name)
        if isinstance(value, pathlib.PurePath) or type(value) is str and value:
            path = os.fspath(value)
            folder = path.rstrip('/') if '://' in path else os.path.abspath(path)
            return Writer(saves, class_name(hook), folder)
    folders = (path if '://' in path else os.path.abspath(path)
               for path in rehearsal_internals.writers_of(hook) if path)
    return next((Writer(saves, class_name(hook), folder) for folder in folders), None)


def _cardinality(inputs: Any) -> Any:
    return cardinality.UNKNOWN if inputs is None else cardinality.of_input(inputs)

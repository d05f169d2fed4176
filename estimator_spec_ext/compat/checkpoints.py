"""What a Saver writes and reads, and what warm starting takes, without running either."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Iterable, Mapping, Optional

import tensorflow as tf
from tensorflow.python.checkpoint import checkpoint as _checkpoint
from tensorflow.python.ops import variables as _variables
from tensorflow.python.training import saver as _saver
from tensorflow.python.training import warm_starting_util as _warm_starting_util
from tensorflow.python.training.saving import saveable_object as _saveable_object
from tensorflow_estimator.python.estimator import estimator as _estimator_lib

from estimator_spec_ext.compat import distribution, graphs

_v1 = tf.compat.v1
_OBJECT_GRAPH_KEY = '_CHECKPOINTABLE_OBJECT_GRAPH'


@dataclasses.dataclass(frozen=True, eq=False)
class Entry:
    """One tensor of a checkpoint.

    Attributes:
      key: its name in the checkpoint.
      shape: the whole shape, over all partitions; None when it is not known.
      dtype: the dtype; None when it is not known.
      variable: the Python object, for the place of a finding; None for other things that are saved.
    """

    key: str
    shape: Optional[tf.TensorShape]
    dtype: Optional[tf.DType]
    variable: Any = None


@dataclasses.dataclass(frozen=True)
class Entries:
    """What one Saver saves or restores.

    Attributes:
      by_key: the `Entry` of each key.
      complete: False when there is more than can be named without building the Saver.
      reshapes: True for `Saver(reshape=True)`, which takes other shapes of the same size.
    """

    by_key: Mapping[str, Entry]
    complete: bool = True
    reshapes: bool = False


def entries(scaffold: Any = None, saver: Any = None) -> Optional[Entries]:
    """What the saver of a session in the current default graph saves and restores.

    Args:
      scaffold: the scaffold of the session; None for a default one.
      saver: this saver instead, e.g. that of a hook.

    Returns:
      `Entries`; None when it cannot be told (object-based checkpoints, several savers).
    """
    if saver is None and scaffold is not None:
        saver = scaffold.saver
    if saver is None:
        savers = _v1.get_collection(_v1.GraphKeys.SAVERS)
        if len(savers) > 1:
            return None
        saver = savers[0] if savers else None
    if saver is None:
        return _entries_of(_variables._all_saveable_objects())
    if not isinstance(saver, _v1.train.Saver):
        return None
    items = saver._var_list
    if items is None:
        if saver._is_built and saver._builder is None:
            return None  # made from a SaverDef: its keys are in the graph alone
        items = _variables._all_saveable_objects()
    return _entries_of(items, bool(getattr(saver, '_reshape', False)))


def entries_of_hook(hook: Any) -> Optional[Entries]:
    """What a CheckpointSaverHook saves when it has a saver or scaffold of its own; else None."""
    if hook._saver is None and hook._scaffold is None:
        return None
    return entries(hook._scaffold, hook._saver)


def without_variables(known: Entries) -> Entries:
    """The same without the Python objects, which would keep a graph alive."""
    return dataclasses.replace(known, by_key={
        key: dataclasses.replace(entry, variable=None) for key, entry in known.by_key.items()})


def _entries_of(items: Any, reshapes: bool = False) -> Entries:
    found: dict[str, Entry] = {}
    complete = True
    pairs: Iterable[tuple[Optional[str], Any]]
    if isinstance(items, Mapping):
        pairs = [(key, part) for key, item in items.items() for part in _parts(item)]
    else:
        pairs = [(None, part) for part in _parts(items)]
    for key, item in pairs:
        if isinstance(item, _saveable_object.SaveableObject):
            for spec in item.specs:
                found[spec.name] = Entry(spec.name, None, tf.as_dtype(spec.dtype).base_dtype)
        elif graphs.is_variable(item):
            entry = _variable_entry(key, item)
            found[entry.key] = entry
        elif graphs.is_tensor(item):
            found[key or item.op.name] = Entry(key or item.op.name, item.shape,
                                               item.dtype.base_dtype, item)
        else:
            complete = False
    return Entries(found, complete, reshapes)


def _parts(item: Any) -> list[Any]:
    if isinstance(item, (list, tuple, set)):
        return [part for inner in item for part in _parts(inner)]
    if isinstance(item, _variables.PartitionedVariable):
        return list(item)
    return [item]


def _variable_entry(key: Optional[str], variable: Any) -> Entry:
    info = getattr(distribution.components(variable)[0], '_save_slice_info', None)
    if info is not None:
        return Entry(key or info.full_name, tf.TensorShape(info.full_shape),
                     variable.dtype.base_dtype, variable)
    return Entry(key or variable.name.split(':')[0], variable.shape, variable.dtype.base_dtype,
                 variable)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The list of variables of a checkpoint on disk.

    Attributes:
      path: its prefix.
      shapes: the shape of each key.
      dtypes: the dtype of each key.
      step: the value of `global_step`; None when there is none.
      by_object: True for an object-based one, whose keys are no variable names.
    """

    path: str
    shapes: Mapping[str, list[int]]
    dtypes: Mapping[str, tf.DType]
    step: Optional[int]
    by_object: bool


def to_come(saved: Optional[Entries]) -> Optional[Checkpoint]:
    """The checkpoint that a Saver will write; None when something of it is not known."""
    if saved is None or not saved.complete:
        return None
    shapes, dtypes = {}, {}
    for key, entry in saved.by_key.items():
        if entry.shape is None or not entry.shape.is_fully_defined() or entry.dtype is None:
            return None
        shapes[key], dtypes[key] = entry.shape.as_list(), entry.dtype
    return Checkpoint('', shapes, dtypes, None, by_object=False)


def read_checkpoint(path_or_folder: Any) -> Optional[Checkpoint]:
    """The list of variables of a checkpoint, or of the newest one in a folder.

    Args:
      path_or_folder: a prefix or a folder.

    Returns:
      A `Checkpoint`; None when there is none or it cannot be read.
    """
    try:
        path = os.fspath(path_or_folder)
        if tf.io.gfile.isdir(path):
            path = tf.train.latest_checkpoint(path)
        if not path or not _v1.train.checkpoint_exists(path):
            return None
        reader = tf.train.load_checkpoint(path)
        shapes = reader.get_variable_to_shape_map()
        dtypes = reader.get_variable_to_dtype_map()
        step = reader.get_tensor('global_step') if shapes.get('global_step') == [] else None
    except (TypeError, ValueError, RuntimeError, OSError, tf.errors.OpError):
        return None
    return Checkpoint(str(path), shapes, dtypes, None if step is None else int(step),
                      _OBJECT_GRAPH_KEY in shapes)


def variable_names(checkpoint: Checkpoint) -> frozenset[str]:
    """The names of the variables in a checkpoint, also where its keys are other ones."""
    return frozenset(_keys(checkpoint))


def _keys(checkpoint: Checkpoint) -> Mapping[str, str]:
    """The key of each variable, by the name of the variable."""
    if checkpoint.by_object:
        return _saver.object_graph_key_mapping(checkpoint.path)
    return {name: name for name in checkpoint.shapes}


# How model_to_estimator calls the checkpoint of the Keras model, trained or not.
KERAS_MODEL = 'keras_model.ckpt'


def values(checkpoint: Checkpoint, names: Iterable[str]) -> list[Any]:
    """The values of some variables in a checkpoint on disk, as arrays."""
    keys, reader = _keys(checkpoint), tf.train.load_checkpoint(checkpoint.path)
    return [reader.get_tensor(keys[name]) for name in names]


def is_object_saver(saver: Any) -> bool:
    """Whether a scaffold's saver writes object-based checkpoints."""
    return isinstance(saver, (_checkpoint.Checkpoint, tf.train.Checkpoint))


def warm_start_settings(estimator: Any) -> Any:
    """The `tf.estimator.WarmStartSettings` of an estimator; None without one."""
    return getattr(estimator, '_warm_start_settings', None)


def as_warm_start_settings(source: Any) -> Any:
    """The settings that Estimator makes of its argument `warm_start_from`.

    Raises:
      ValueError: for anything but a path or settings.
    """
    return _estimator_lib._get_default_warm_start_settings(source)


def warm_started_variables(settings: Any) -> dict[str, list[Any]]:
    """The variables of the default graph that the settings choose, by name, partitions together.

    Raises:
      ValueError: as TensorFlow does for settings that make no sense.
    """
    if settings.vars_to_warm_start is None:
        chosen = _warm_starting_util._get_grouped_variables(None)
        return {name: parts for name, parts in chosen.items()
                if name in settings.var_name_to_vocab_info}
    return _warm_starting_util._get_grouped_variables(settings.vars_to_warm_start)


def run_warm_start(settings: Any) -> None:
    """Adds the ops of warm starting to the default graph, as Estimator does.

    Raises:
      Exception: as TensorFlow does.
    """
    _v1.train.warm_start(*settings)
    for variables in warm_started_variables(settings).values():
        for variable in variables:
            _share_first_value(variable)


def _share_first_value(variable: Any) -> None:
    """Warm starting gives a mirrored variable a first value and leaves its parts the old one."""
    value = vars(variable).get('_initial_value')
    for part in distribution.components(variable):
        if part is not variable and value is not None:
            part._initial_value = value

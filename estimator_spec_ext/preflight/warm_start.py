"""What warm starting would do to TRAIN, worked out beside TensorFlow's own attempt."""

from __future__ import annotations

import os
from typing import Any, Optional

from estimator_spec_ext import describe
from estimator_spec_ext.compat import checkpoints, tf, v1
from estimator_spec_ext.compat.logs import quiet_logs
from estimator_spec_ext.preflight.facts import Job, WarmStart

# The last part of the names of statistics that batch normalisation keeps.
_MOVING = ('moving_mean', 'moving_variance', 'renorm_mean', 'renorm_stddev')


def is_promised(job: Job) -> bool:
    """Whether the source of warm starting is not there yet, because the script trains it before."""
    path = source_of(job)
    return bool(path) and checkpoints.read_checkpoint(path) is None and any(
        path == folder or os.path.dirname(path) == folder for folder in job.promised)


def source_of(job: Job) -> str:
    """Where warm starting looks, as an absolute path; '' without warm starting from a path."""
    settings = checkpoints.warm_start_settings(job.estimator)
    source = getattr(settings, 'ckpt_to_initialize_from', None)
    return os.path.abspath(source) if isinstance(source, str) else ''


def look(estimator: Any, checkpoint: Optional[checkpoints.Checkpoint]) -> Optional[WarmStart]:
    """What warm starting does in the graph of TRAIN, which is the default graph.

    Args:
      estimator: the estimator.
      checkpoint: the newest checkpoint in model_dir; with one Estimator does not warm-start.

    Returns:
      A `WarmStart`; None when the estimator has no settings for it.
    """
    settings = checkpoints.warm_start_settings(estimator)
    if settings is None:
        return None
    if checkpoint is not None:
        return WarmStart(settings, skipped=True)
    return attempt(settings)


def attempt(settings: Any) -> WarmStart:
    """Warm-starts the variables of the default graph, unless that would fail.

    Args:
      settings: the `tf.estimator.WarmStartSettings`.

    Returns:
      What came of it.
    """
    source = checkpoints.read_checkpoint(settings.ckpt_to_initialize_from)
    if source is None:
        return WarmStart(settings, source_found=False)
    return compare(settings, source, run=True)


def compare(settings: Any, source: checkpoints.Checkpoint, *, run: bool) -> WarmStart:
    """What warm starting takes from a checkpoint into the variables of the default graph.

    Args:
      settings: the `tf.estimator.WarmStartSettings`.
      source: the checkpoint, which need not be there yet.
      run: whether to do it as well, unless it would fail.

    Returns:
      What came of it.
    """
    try:
        chosen = checkpoints.warm_started_variables(settings)
    except ValueError as refused:
        return WarmStart(settings, error=refused)
    missing, differing = _against(source, chosen, settings)
    error: Optional[BaseException] = None
    if run and not missing and not differing:
        try:
            with quiet_logs():
                checkpoints.run_warm_start(settings)
        except Exception as raised:  # noqa: BLE001 - whatever TensorFlow says is the finding
            error = raised
    trainable = tuple(variable.name.partition(':')[0] for variable in v1.trainable_variables())
    return WarmStart(settings, tuple(sorted(chosen)), _moving(source, chosen), missing, differing,
                     error, trainable=trainable)


def with_statistics(settings: Any) -> Any:
    """The same settings, for all trainable variables and the moving statistics beside them.

    Args:
      settings: `tf.estimator.WarmStartSettings` of which only the source counts.

    Returns:
      Settings whose `vars_to_warm_start` is a list of variables of the default graph.
    """
    source = checkpoints.read_checkpoint(settings.ckpt_to_initialize_from)
    chosen = checkpoints.warm_started_variables(settings._replace(vars_to_warm_start='.*'))
    moving = set(_moving(source, chosen)) if source is not None else set()
    statistics = [variable for variable in v1.global_variables()
                  if variable.name.split(':')[0] in moving]
    return settings._replace(vars_to_warm_start=[*v1.trainable_variables(), *statistics])


def _against(source: checkpoints.Checkpoint, chosen: dict[str, list[Any]],
             settings: Any) -> tuple[tuple[str, ...], tuple[tuple[str, str, str], ...]]:
    if source.by_object or settings.var_name_to_vocab_info:
        return (), ()  # TensorFlow maps the names itself; what it raises is reported
    missing, differing = [], []
    for name, parts in sorted(chosen.items()):
        key = settings.var_name_to_prev_var_name.get(name) or name
        if key not in source.shapes:
            missing.append(name)
            continue
        if len(parts) == 1 and not isinstance(parts[0], list):
            shape = parts[0].shape
            there = tf.TensorShape(source.shapes[key])
            if getattr(parts[0], '_save_slice_info', None) is None and (
                    not shape.is_compatible_with(there)):
                differing.append((name, describe.shape_text(there), describe.shape_text(shape)))
    return tuple(missing), tuple(differing)


def _moving(source: checkpoints.Checkpoint, chosen: dict[str, list[Any]]) -> tuple[str, ...]:
    """Statistics that stay fresh although weights of the same layer are taken over."""
    scopes = {name.rpartition('/')[0] for name in chosen}
    held = checkpoints.variable_names(source)
    found = []
    for variable in v1.global_variables():
        name = variable.name.split(':')[0]
        scope, _, last = name.rpartition('/')
        if (last in _MOVING and scope in scopes and name not in chosen
                and name in held):
            found.append(name)
    if os.path.basename(source.path) == checkpoints.KERAS_MODEL and _are_fresh(source, found):
        return ()
    return tuple(sorted(found))


def _are_fresh(source: checkpoints.Checkpoint, names: list[str]) -> bool:
    """Whether moving statistics have the values with which they begin."""
    return all((value == (0. if name.endswith('mean') else 1.)).all() for name, value in
               zip(names, checkpoints.values(source, names)))

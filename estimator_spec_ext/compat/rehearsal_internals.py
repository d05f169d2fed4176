"""A job in a scratch folder: a copy of its estimator, and hooks that write nowhere else."""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
import os
import threading
import traceback
from typing import Any, Callable, Iterator, Optional

import tensorflow as tf
from tensorflow.python.ops import gen_summary_ops as _summary_ops
from tensorflow.python.summary.writer import event_file_writer as _events
from tensorflow.python.summary.writer import event_file_writer_v2 as _events_v2
from tensorflow.python.summary.writer import writer as _writer
from tensorflow.python.summary.writer import writer_cache as _writer_cache
from tensorflow.python.training import saver as _saver
from tensorflow.python.training.monitored_session import _HookedSession

from estimator_spec_ext.compat import frames, graphs, stock, tpu

_v1 = tf.compat.v1
_LOCK = threading.RLock()
# Attributes in which TensorFlow's hooks keep a folder or the start of a file name.
_PATHS = ('_checkpoint_dir', '_save_path', '_output_file', '_output_dir', '_summary_dir')


def scratch_estimator(estimator: Any, folder: str, *, warm_start: bool) -> Any:
    """A copy of an estimator that works in `folder`; model_fn, params and strategies are shared."""
    copied, config = tpu.copied(estimator), copy.copy(estimator._config)
    config._model_dir = folder
    copied._config = config
    copied._model_dir = folder
    setattr(copied, frames.REHEARSAL, True)
    if not warm_start:
        copied._warm_start_settings = None
    return copied


_Target = Callable[[str], Optional[str]]
_EVENTS, _SAVED, _READ = range(3)
_targets: list[tuple[_Target, ...]] = []
_kept: list[tuple[Any, str, Any]] = []


@contextlib.contextmanager
def redirected_writers(events: _Target, saved: _Target, read: _Target) -> Iterator[None]:
    """Sends summary writers that are opened, and what savers save, to other folders.

    Args:
      events: gives the new folder for the folder of a writer; None for one that may be written.
      saved: the same for the folder of a checkpoint that is being saved.
      read: the same for the folder of one that is being restored.
    """
    opened: set[str] = set()

    def counted(folder: str) -> Optional[str]:
        other = events(folder)
        opened.add(folder if other is None else other)
        return other

    targets = (counted, saved, read)
    with _LOCK:
        if not _targets:
            _install()
        _targets.append(targets)
    try:
        yield
    finally:
        with _LOCK:
            # By identity, as two callers may hand over the same functions.
            _targets[:] = [item for item in _targets if item is not targets]
            while _kept and not _targets:
                owner, name, value = _kept.pop()
                setattr(owner, name, value)
            for folder in opened:
                writer = _writer_cache.FileWriterCache._cache.pop(folder, None)
                if writer is not None:
                    writer.close()


def _elsewhere(which: int, folder: Any) -> Any:
    return _targets[-1][which](str(folder)) or folder if _targets else folder


def _install() -> None:
    """Replaces the functions of TensorFlow that open writers and save checkpoints."""
    cache = _writer_cache.FileWriterCache
    stock_get = cache.get
    stock_save, stock_restore = _saver.Saver.save, _saver.Saver.restore
    _kept.append((cache, 'get', staticmethod(stock_get)))
    cache.get = staticmethod(lambda logdir: stock_get(_elsewhere(_EVENTS, logdir)))
    for owner in (_events.EventFileWriter, _events_v2.EventFileWriterV2):
        _kept.append((owner, '__init__', owner.__init__))
        owner.__init__ = _opening(owner.__init__)
    # Where TensorFlow 2's tf.summary.create_file_writer names its folder.
    stock_create = _summary_ops.create_summary_file_writer
    _kept.append((_summary_ops, 'create_summary_file_writer', stock_create))
    _summary_ops.create_summary_file_writer = _creating(stock_create)

    @functools.wraps(stock_save)
    def save(self: Any, sess: Any, save_path: Any, *args: Any, **kwargs: Any) -> Any:
        # What model_fn saves in a session of its own, it will read again from there.
        if sess.graph.finalized:
            folder, name = os.path.split(os.fspath(save_path))
            save_path = os.path.join(_elsewhere(_SAVED, folder), name)
        return stock_save(self, sess, save_path, *args, **kwargs)

    @functools.wraps(stock_restore)
    def restore(self: Any, sess: Any, save_path: Any) -> Any:
        if sess.graph.finalized and save_path is not None:
            folder, name = os.path.split(os.fspath(save_path))
            save_path = os.path.join(_elsewhere(_READ, folder), name)
        return stock_restore(self, sess, save_path)

    for name, value in (('save', save), ('restore', restore)):
        _kept.append((_saver.Saver, name, getattr(_saver.Saver, name)))
        setattr(_saver.Saver, name, value)


def _opening(stock_init: Any) -> Any:
    @functools.wraps(stock_init)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        # The folder is the first argument of one class and the second of the other.
        bound = inspect.signature(stock_init).bind(self, *args, **kwargs)
        bound.arguments['logdir'] = _elsewhere(_EVENTS, bound.arguments['logdir'])
        stock_init(*bound.args, **bound.kwargs)

    return init


def _creating(stock: Any) -> Any:
    @functools.wraps(stock)
    def create(writer: Any, logdir: Any, *args: Any, **kwargs: Any) -> Any:
        folder = tf.get_static_value(logdir)
        folder = folder.item() if hasattr(folder, 'item') else folder
        if folder is not None:
            folder = tf.compat.as_str_any(folder)
            other = _elsewhere(_EVENTS, folder)
            logdir = logdir if other == folder else tf.constant(str(other))
        return stock(writer, logdir, *args, **kwargs)

    return create


def keep_inside(hook: Any, inside: Callable[[str], Optional[str]], estimator: Any,
                scratch: Any) -> None:
    """Changes the folders of a hook of TensorFlow's, and estimator and model_dir of any hook.

    Args:
      hook: the hook; it is changed.
      inside: gives a folder in the scratch folder for one outside; None for one inside.
      estimator: the user's estimator.
      scratch: its copy.
    """
    values = getattr(hook, '__dict__', {})
    for name, value in list(values.items()):
        if value is estimator:
            values[name] = scratch
        elif type(value) is str and _is_to_come(value, estimator.model_dir):
            values[name] = scratch.model_dir + value[len(estimator.model_dir):]
    if not type(hook).__module__.startswith(('tensorflow.', 'tensorflow_estimator.')) and not (
            isinstance(hook, _v1.train.CheckpointSaverHook)):
        return
    for name in _PATHS:
        value = values.get(name)
        if isinstance(value, str) and value:
            folder = value if name.endswith('_dir') else os.path.dirname(value)
            other = inside(folder)
            if other is not None:
                values[name] = other + value[len(folder):]


def _is_to_come(path: str, model_dir: str) -> bool:
    """Whether a path is model_dir, or something in it that is not there yet."""
    return path.startswith(model_dir) and (
        path[len(model_dir):].strip(os.sep) == ''
        or path[len(model_dir)] == os.sep and not os.path.exists(path))


def writers_of(hook: Any) -> tuple[str, ...]:
    """The folders of the summary writers that a hook holds open."""
    found = []
    for value in list(getattr(hook, '__dict__', {}).values()):
        if isinstance(value, _writer.FileWriter):
            found.append(str(value.get_logdir()))
        elif isinstance(value, tf.summary.SummaryWriter):
            found.append('')
    return tuple(found)


def without_hooks(spec: Any, leave_out: Callable[[Any], bool]) -> Any:
    """The spec with some hooks left out; nothing is validated again."""
    values = spec._asdict()
    for name in stock.HOOK_FIELDS:
        hooks = values[name]
        if isinstance(hooks, (list, tuple)) and any(leave_out(hook) for hook in hooks):
            values[name] = tuple(hook for hook in hooks if not leave_out(hook))
    return type(spec)._make(values[name] for name in spec._fields)


def hook_frame(error: BaseException) -> tuple[Any, str]:
    """The innermost hook, and its method, that an exception passed through; (None, '') if none."""
    found: tuple[Any, str] = (None, '')
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner = frame.f_locals.get('self')
        if isinstance(owner, _v1.train.SessionRunHook):
            found = (owner, frame.f_code.co_name)
    return found


def refused_hook(error: BaseException) -> Any:
    """The hook whose before_run asked for what the session of an exception cannot fetch; or None.
    """
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if isinstance(frame.f_locals.get('self'), _HookedSession):
            found = _refused(frame.f_locals.get('actual_fetches') or {}) or found
    return found


def _refused(fetches: Any) -> Any:
    """The first such hook of what is fetched for each hook, and for the 'caller'."""
    # The session itself may be closed by now, and know its graph no more.
    step = tf.nest.flatten(fetches.get('caller'))
    graph = next(filter(None, map(graphs.graph_of, step)), None)
    for hook, wanted in fetches.items() if graph is not None else ():
        if isinstance(hook, _v1.train.SessionRunHook):
            try:
                with _v1.Session(graph=graph) as session:
                    session.make_callable(wanted)
            except (TypeError, ValueError):
                return hook
    return None


def has_cluster(estimator: Any) -> bool:
    """Whether a session of this estimator needs other processes."""
    config = estimator._config
    return bool(config.cluster_spec and config.cluster_spec.jobs) or bool(config.master)

"""Catches the calls that would start a job, so that a script can be checked as it is."""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import Any, Callable, Iterator, Optional

import numpy as np
import tensorflow as tf
from tensorflow_estimator.python.estimator import estimator as _estimator
from tensorflow_estimator.python.estimator import training as _training

from estimator_spec_ext.compat import early_stopping
from estimator_spec_ext.compat.namespace import estimator, estimator_v1

METHODS = ('train', 'evaluate', 'predict', 'export_saved_model', 'export_savedmodel',
           'experimental_export_all_saved_models')
FUNCTION = 'train_and_evaluate'
_LATEST, _VALUE = 'latest_checkpoint', 'get_variable_value'


class Interception:
    """The calls that are caught, and what happens instead.

    Args:
      handlers: functions by name, one for each of `METHODS` and for 'train_and_evaluate'. They get
        the arguments of the call; those of methods get the estimator first.
      like: functions that are caught as `train_and_evaluate` is.
      promised: gives the path of the checkpoint that a caught call would have left in a folder, or
        None: what `latest_checkpoint` answers where there is none yet. Its number is the step.

    Attributes:
      stopping_hooks: the early-stopping hooks that were made while calls were caught.
    """

    def __init__(self, handlers: dict[str, Callable[..., Any]], like: tuple[Any, ...] = (),
                 promised: Callable[[str], Optional[str]] = lambda folder: None) -> None:
        self._handlers = handlers
        self._like = like
        self._promised = promised
        self._kept: list[tuple[Any, str, Any]] = []
        self.stopping_hooks: list[Any] = []

    def start(self) -> None:
        """From now on calls are caught."""
        for name in METHODS:
            self._replace(_estimator.Estimator, name, self._handlers[name])
        self._replace_latest()
        for kind, init in early_stopping.recording(self.stopping_hooks):
            self._replace(kind, '__init__', init)
        handler, stock = self._handlers[FUNCTION], _training.train_and_evaluate
        for namespace in (estimator, estimator_v1()):
            self._replace(namespace, FUNCTION, handler)
        # Modules import the function by name, TensorFlow's own among them.
        for module in list(sys.modules.values()):
            names: Any = getattr(module, '__dict__', None)
            for name, value in list(names.items() if type(names) is dict else ()):
                if value is stock or any(value is item for item in self._like):
                    self._kept.append((module, name, value))
                    names[name] = handler

    def _replace_latest(self) -> None:
        stock = tf.train.latest_checkpoint

        @functools.wraps(stock)
        def latest(checkpoint_dir: Any, latest_filename: Any = None) -> Any:
            return stock(checkpoint_dir, latest_filename) or self._promised(str(checkpoint_dir))

        for namespace in (tf.train, tf.compat.v1.train):
            self._replace(namespace, _LATEST, latest)
        self._replace(_estimator.Estimator, _LATEST, lambda made: latest(made.model_dir))
        self._replace(_estimator.Estimator, _VALUE, self._value_of(stock))

    def _value_of(self, newest: Callable[[str], Any]) -> Callable[..., Any]:
        stock = getattr(_estimator.Estimator, _VALUE)

        @functools.wraps(stock)
        def value_of(made: Any, name: str) -> Any:
            promised = None if newest(made.model_dir) else self._promised(made.model_dir)
            if promised is not None and name == 'global_step':
                return np.int64(promised.rpartition('-')[2])
            return stock(made, name)

        return value_of

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        if hasattr(owner, name):
            self._kept.append((owner, name, getattr(owner, name)))
            setattr(owner, name, value)

    def stop(self) -> None:
        """Calls work again, also from modules that were imported meanwhile."""
        handler = self._handlers[FUNCTION]
        while self._kept:
            owner, name, value = self._kept.pop()
            setattr(owner, name, value)
        for module in list(sys.modules.values()):
            names: Any = getattr(module, '__dict__', None)
            for name, value in list(names.items() if type(names) is dict else ()):
                if value is handler:
                    names[name] = _training.train_and_evaluate

    @contextlib.contextmanager
    def active(self) -> Iterator['Interception']:
        """Catches calls for a while."""
        _active.append(self)
        self.start()
        try:
            yield self
        finally:
            self.stop()
            _active.remove(self)


_active: list[Interception] = []


@contextlib.contextmanager
def suspended() -> Iterator[None]:
    """Lets calls through while preflight itself makes them."""
    taken = list(_active)
    for item in reversed(taken):
        item.stop()
    del _active[:]
    try:
        yield
    finally:
        _active[:] = taken
        for item in taken:
            item.start()

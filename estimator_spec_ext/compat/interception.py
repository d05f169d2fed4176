"""Catches the calls that would start a job, so that a script can be checked as it is."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator

from tensorflow_estimator.python.estimator import estimator as _estimator
from tensorflow_estimator.python.estimator import training as _training

from estimator_spec_ext.compat.namespace import estimator, estimator_v1

METHODS = ('train', 'evaluate', 'predict', 'export_saved_model', 'export_savedmodel',
           'experimental_export_all_saved_models')
FUNCTION = 'train_and_evaluate'


class Interception:
    """The calls that are caught, and what happens instead.

    Args:
      handlers: functions by name, one for each of `METHODS` and for 'train_and_evaluate'. They get
        the arguments of the call; those of methods get the estimator first.
    """

    def __init__(self, handlers: dict[str, Callable[..., Any]]) -> None:
        self._handlers = handlers
        self._kept: list[tuple[Any, str, Any]] = []

    def start(self) -> None:
        """From now on calls are caught."""
        for name in METHODS:
            self._replace(_estimator.Estimator, name, self._handlers[name])
        namespaces = [estimator, estimator_v1(), _training]
        for namespace in namespaces:
            self._replace(namespace, FUNCTION, self._handlers[FUNCTION])

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        if hasattr(owner, name):
            self._kept.append((owner, name, getattr(owner, name)))
            setattr(owner, name, value)

    def stop(self) -> None:
        """Calls work again."""
        while self._kept:
            owner, name, value = self._kept.pop()
            setattr(owner, name, value)

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        """Lets calls through while preflight itself makes them."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    @contextlib.contextmanager
    def active(self) -> Iterator['Interception']:
        """Catches calls for a while."""
        self.start()
        try:
            yield self
        finally:
            self.stop()

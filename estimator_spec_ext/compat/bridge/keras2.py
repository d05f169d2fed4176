"""Keras 2 for Estimator: `tf.keras` in legacy mode, or a view of TensorFlow for Estimator alone.

Estimator's heads, canned models and metrics are made of Keras 2, which lives on as tf-keras. From
2.16 on `tf.keras` is Keras 3, unless TF_USE_LEGACY_KERAS=1 was set before TensorFlow was imported.
"""

from __future__ import annotations

import builtins
import contextlib
import importlib
import importlib.machinery
import importlib.util
import os
import sys
import types
from typing import Any, Optional

LEGACY = 'TF_USE_LEGACY_KERAS'

_V1, _V2 = 'tf_keras.api._v1.keras', 'tf_keras.api._v2.keras'
# What TensorFlow takes from Keras under names of its own.
_ALIASES = ('losses', 'metrics', 'optimizers', 'initializers')


def prefer_legacy() -> None:
    """Makes `tf.keras` Keras 2, if that can still be chosen and the user has not chosen."""
    if ('tensorflow' not in sys.modules and LEGACY not in os.environ
            and importlib.util.find_spec('tf_keras') is not None):
        os.environ[LEGACY] = '1'


def is_legacy(tf: Any) -> bool:
    """Whether `tf.keras` is Keras 2."""
    return bool(tf.keras.layers.Layer.__module__.startswith('tf_keras.'))


def resolve_lazy_loaders() -> None:
    """Loads every part of Keras that TensorFlow loads on demand.

    Two threads that ask one of these loaders for the first time at once send it into endless
    recursion, and a strategy builds its replicas in threads.
    """
    from tensorflow.python.util.lazy_loader import KerasLazyLoader
    for name, module in list(sys.modules.items()):
        if name == 'tensorflow' or name.startswith('tensorflow._api.'):
            for value in list(getattr(module, '__dict__', {}).values()):
                if type(value) is KerasLazyLoader:
                    with contextlib.suppress(ImportError):  # parts that Keras 3 lacks
                        dir(value)


class _View(types.ModuleType):
    """A module as it is, but for some of its names."""

    def __init__(self, module: Any, names: dict[str, Any]) -> None:
        super().__init__(module.__name__, module.__doc__)
        self.__dict__.update(names, _viewed=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__['_viewed'], name)

    def __dir__(self) -> list[str]:
        return dir(self.__dict__['_viewed'])


def estimators_view(tf: Any) -> types.ModuleType:
    """TensorFlow with tf-keras as its `tf.keras`; nothing is changed in TensorFlow itself."""
    v1, v2 = importlib.import_module(_V1), importlib.import_module(_V2)

    def of(module: Any, keras: Any) -> _View:
        return _View(module, {'keras': keras, **{
            name: getattr(keras, name) for name in _ALIASES if keras is v2}})

    compat = _View(tf.compat, {'v1': of(tf.compat.v1, v1), 'v2': of(tf.compat.v2, v2)})
    view = of(tf, v2)
    view.__dict__['compat'] = compat
    return view


def show_to_estimator(view: types.ModuleType) -> None:
    """Lets Estimator's modules, which are not imported yet, import the view as TensorFlow."""
    sys.meta_path.insert(0, _Finder(view))


class _Finder:
    """Finds the modules of Estimator as Python would, and gives each its own `import`."""

    def __init__(self, view: types.ModuleType) -> None:
        def importing(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (),
                      level: int = 0) -> Any:
            found = builtins.__import__(name, globals, locals, fromlist, level)
            if level == 0 and found is view.__dict__['_viewed']:
                return view
            return found

        self._builtins = {**vars(builtins), '__import__': importing}

    def find_spec(self, name: str, path: Any = None,
                  target: Any = None) -> Optional[importlib.machinery.ModuleSpec]:
        if name.partition('.')[0] != 'tensorflow_estimator':
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path, self._builtins)
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    """Runs a module with these builtins; Python takes them from the module's own namespace."""

    def __init__(self, name: str, path: str, own_builtins: dict[str, Any]) -> None:
        super().__init__(name, path)
        self._builtins = own_builtins

    def exec_module(self, module: types.ModuleType) -> None:
        module.__dict__['__builtins__'] = self._builtins
        super().exec_module(module)

"""Regularizers that only Keras layers know of.

A Keras layer keeps the regularizer of a weight to itself, as a function that makes the loss when
`layer.losses` is read; neither the graph nor the variable tells of it, and Keras keeps no list of
its layers. What is left is to ask the garbage collector for these functions.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import inspect
import sys
import threading
import types
from typing import Any, Iterator

import tensorflow as tf

_MODULES = tuple(f'{package}.engine.{name}' for package in ('keras.src', 'keras', 'tf_keras.src')
                 for name in ('base_layer', 'base_layer_v1'))
_METHOD = '_handle_weight_regularization'
_FUNCTION = '_loss_for_variable'
_LOCK = threading.Lock()
_keepers: list[list[Any]] = []
_own_methods: dict[type, Any] = {}


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Keeps the layers with regularized weights that are made meanwhile alive until it ends.

    `Dense(10, kernel_regularizer='l2')(x)`, the usual form, lets go of its layer at once, and with
    it goes all that is known of the regularizer.
    """
    layers: list[Any] = []
    _load_graph_layers()
    with _LOCK:
        _keepers.append(layers)
        for layer_class in _layer_classes(_modules()):
            if layer_class not in _own_methods:
                _own_methods[layer_class] = vars(layer_class)[_METHOD]
                setattr(layer_class, _METHOD, _keeping(_own_methods[layer_class]))
    try:
        yield
    finally:
        with _LOCK:
            # By identity: two empty lists are equal.
            _keepers[:] = [keeper for keeper in _keepers if keeper is not layers]
            if not _keepers:
                for layer_class, method in _own_methods.items():
                    setattr(layer_class, _METHOD, method)
                _own_methods.clear()


def _keeping(method: Any) -> Any:
    @functools.wraps(method)
    def handle(self: Any, *args: Any, **kwargs: Any) -> Any:
        for keeper in tuple(_keepers):
            keeper.append(self)
        return method(self, *args, **kwargs)

    return handle


def _load_graph_layers() -> None:
    """Keras imports the layers of graph mode when it makes the first one."""
    for name in _MODULES:
        if name.endswith('_v1') and name[:-len('_v1')] in sys.modules and name not in sys.modules:
            importlib.import_module(name)


def _modules() -> tuple[Any, ...]:
    """The modules with base classes of layers, each None until it is loaded."""
    return tuple(map(sys.modules.get, _MODULES))


def _layer_classes(modules: tuple[Any, ...]) -> list[type]:
    """Keras's base classes of layers, of each version of it that is loaded."""
    found = (getattr(module, 'Layer', None) for module in modules)
    return list(dict.fromkeys(
        layer for layer in found
        if isinstance(layer, type) and inspect.isfunction(vars(layer).get(_METHOD))))


def has_regularized_weights() -> bool:
    """Whether any weight of a live Keras layer has a regularizer, in whatever graph.

    This is a count of references and takes no time: each such function refers to its code.
    """
    codes = _codes(_modules())
    return any(sys.getrefcount(codes[position]) > _unused() for position in range(len(codes)))


def regularized_weights(graph: tf.Graph) -> list[tf.Variable]:
    """The weights of `graph` that have a regularizer in a live Keras layer.

    This asks the garbage collector and takes some hundredths of a second.
    """
    codes = _codes(_modules())
    made = [found for found in gc.get_referrers(*codes) if isinstance(found, types.FunctionType)]
    calls = [found for found in gc.get_referrers(*made) if type(found) is functools.partial]
    weights = [argument for call in calls for argument in call.args
               if isinstance(argument, tf.Variable)]
    return [weight for weight in weights if getattr(weight, 'graph', None) is graph]


@functools.lru_cache(maxsize=1)  # one alone, as what it keeps is a reference too
def _codes(modules: tuple[Any, ...]) -> list[types.CodeType]:
    """The code of Keras's function, of each version of it that is loaded."""
    found: list[types.CodeType] = []
    for layer_class in _layer_classes(modules):
        method = inspect.unwrap(vars(layer_class)[_METHOD])
        found += [constant for constant in method.__code__.co_consts
                  if isinstance(constant, types.CodeType) and constant.co_name == _FUNCTION]
    return found


@functools.cache
def _unused() -> int:
    """The count of references to such a code when no function has been made of it."""
    codes = [constant for constant in _example.__code__.co_consts
             if isinstance(constant, types.CodeType)]
    return sys.getrefcount(codes[0])


def _example() -> Any:
    def never_made() -> None:
        """Its code is a constant of `_example`, and nothing else."""
    return never_made


def is_set_in_own_session(variable: Any) -> bool:
    """Whether Keras has set the variable by `set_weights` or `load_weights`, in a graph.

    It does so in a session of its own, which is not the one that the Estimator trains in.
    """
    return getattr(variable, '_assign_op', None) is not None

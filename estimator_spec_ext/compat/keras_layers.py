"""Regularizers that only Keras layers know of.

A Keras layer keeps the regularizer of a weight to itself, as a function that makes the loss when
`layer.losses` is read; neither the graph nor the variable tells of it, and Keras keeps no list of
its layers. What is left is to ask the garbage collector for these functions.
"""

from __future__ import annotations

import functools
import gc
import sys
import types
from typing import Any

import tensorflow as tf

_MODULES = tuple(f'{package}.engine.{name}' for package in ('keras.src', 'keras', 'tf_keras.src')
                 for name in ('base_layer', 'base_layer_v1'))
_METHOD = '_handle_weight_regularization'
_FUNCTION = '_loss_for_variable'


def has_regularized_weights() -> bool:
    """Whether any weight of a live Keras layer has a regularizer, in whatever graph.

    This is a count of references and takes no time: each such function refers to its code.
    """
    codes = _codes()
    return any(sys.getrefcount(codes[position]) > _unused() for position in range(len(codes)))


def regularized_weights(graph: tf.Graph) -> list[tf.Variable]:
    """The weights of `graph` that have a regularizer in a live Keras layer.

    This asks the garbage collector and takes some hundredths of a second.
    """
    codes = _codes()
    made = [found for found in gc.get_referrers(*codes) if isinstance(found, types.FunctionType)]
    calls = [found for found in gc.get_referrers(*made) if type(found) is functools.partial]
    weights = [argument for call in calls for argument in call.args
               if isinstance(argument, tf.Variable)]
    return [weight for weight in weights if getattr(weight, 'graph', None) is graph]


def _codes() -> list[types.CodeType]:
    """The code of Keras's function, of each version of it that is loaded."""
    found: list[types.CodeType] = []
    for name in _MODULES:
        layer: Any = getattr(sys.modules.get(name), 'Layer', None)
        method = vars(layer).get(_METHOD) if isinstance(layer, type) else None
        if isinstance(method, types.FunctionType):
            found += [constant for constant in method.__code__.co_consts
                      if isinstance(constant, types.CodeType) and constant.co_name == _FUNCTION]
    return found


def _unused() -> int:
    """The count of references to such a code when no function has been made of it."""
    codes = [constant for constant in _example.__code__.co_consts
             if isinstance(constant, types.CodeType)]
    return sys.getrefcount(codes[0])


def _example() -> Any:
    def never_made() -> None:
        """Its code is a constant of `_example`, and nothing else."""
    return never_made

"""Puts `tf.estimator` back where it was, for programs that are not to be changed."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import os
import sys
from typing import Any, Optional

# Set to 1 it lets the bridge try versions that it was not tested on.
OVERRIDE = 'ESE_UNTESTED_TENSORFLOW'

# Where TensorFlow 2.15 had it.
_V2 = ('tensorflow', 'tensorflow.compat.v2', 'tensorflow._api.v2.v2',
       'tensorflow._api.v2.compat.v2', 'tensorflow._api.v2.compat.v1.compat.v2',
       'tensorflow._api.v2.compat.v2.compat.v2')
_V1 = ('tensorflow.compat.v1', 'tensorflow._api.v2.compat.v1',
       'tensorflow._api.v2.compat.v1.compat.v1', 'tensorflow._api.v2.compat.v2.compat.v1')


def install_tf_estimator(*, untested: bool = False) -> Any:
    """Puts `tf.estimator`, `tf.compat.v1.estimator` and `tf.compat.v2.estimator` back.

    Up to TensorFlow 2.15 they are there and nothing changes. From 2.16 on they are
    tensorflow-estimator over what this package supplies; modules that are imported later see them
    too, however they import TensorFlow. Called before TensorFlow is imported it also makes
    `tf.keras` Keras 2 (tf-keras), unless TF_USE_LEGACY_KERAS says otherwise.

    Args:
      untested: tries versions of TensorFlow that the bridge was not tested on, like
        ESE_UNTESTED_TENSORFLOW=1 in the environment.

    Returns:
      The namespace, as `from estimator_spec_ext import estimator` gives it.

    Raises:
      ImportError: when these versions were not tested together, or one of them is missing.

    Example:
      >>> estimator = install_tf_estimator()
      >>> import tensorflow as tf
      >>> tf.estimator.ModeKeys.TRAIN
      'train'
    """
    if untested:
        os.environ[OVERRIDE] = '1'  # read when compat is imported, in child processes too
    from estimator_spec_ext.compat import namespace
    if namespace.BRIDGED:
        _put(_V2, namespace.estimator)
        _put(_V1, namespace.estimator_v1())
    return importlib.import_module('estimator_spec_ext.estimator')


def is_installed() -> bool:
    """Whether `tensorflow.estimator` can be imported by that name in this process."""
    return f'{_V2[0]}.estimator' in sys.modules


def install_with_tensorflow() -> None:
    """Like `install_tf_estimator`, as soon as TensorFlow is imported; until then nothing is."""
    sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds TensorFlow as Python would, once, and has tf.estimator put back after its import."""

    def find_spec(self, name: str, path: Any = None,
                  target: Any = None) -> Optional[importlib.machinery.ModuleSpec]:
        if name != 'tensorflow':
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        loader: Any = spec.loader if spec is not None else None
        if loader is not None:
            stock = loader.exec_module

            def exec_module(module: Any) -> None:
                stock(module)
                install_tf_estimator()

            loader.exec_module = exec_module
        return spec


def _put(homes: tuple[str, ...], estimator: Any) -> None:
    for home in homes:
        module: Any = sys.modules.get(home)
        if module is None:
            continue
        module.estimator = estimator
        # `from tensorflow.estimator import Estimator` looks for a module of this name.
        sys.modules[f'{home}.estimator'] = estimator

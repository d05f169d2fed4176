"""Small data sets: what the input_fn and the serving receiver of a program give."""

from __future__ import annotations

import atexit
import dataclasses
import functools
import os
import shutil
import tempfile
from typing import Any, Callable, Optional

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1
ROWS = 12


@dataclasses.dataclass(frozen=True)
class Data:
    """Features and labels as arrays.

    Attributes:
      features: an array, or a dict or tuple of arrays.
      labels: the same, or None.
      batch: the batch size.
      static: whether the batch size is part of the static shapes.
      endless: whether TRAIN repeats the rows.
    """

    features: Any
    labels: Any = None
    batch: int = 4
    static: bool = False
    endless: bool = True

    def input_fn(self, mode: str) -> Callable[[], Any]:
        """An input_fn that returns a dataset."""
        def make() -> Any:
            parts = (self.features if self.labels is None or mode == 'infer'
                     else (self.features, self.labels))
            dataset = tf.data.Dataset.from_tensor_slices(parts)
            if mode == 'train' and self.endless:
                dataset = dataset.shuffle(ROWS).repeat()
            return dataset.batch(self.batch, drop_remainder=self.static)
        return make

    def receiver_fn(self) -> Callable[[], Any]:
        """A serving receiver of placeholders."""
        def make() -> Any:
            if not isinstance(self.features, dict):
                only = v1.placeholder(self.features.dtype, [None, *self.features.shape[1:]])
                return tf.estimator.export.TensorServingInputReceiver(only, only)
            tensors = {name: v1.placeholder(tf.as_dtype(value.dtype), [None, *value.shape[1:]],
                                            name=name)
                       for name, value in self.features.items()}
            return tf.estimator.export.ServingInputReceiver(tensors, dict(tensors))
        return make


def _random(*shape: int) -> np.ndarray:
    return np.random.RandomState(7).rand(ROWS, *shape).astype(np.float32)


def _classes(count: int, *shape: int) -> np.ndarray:
    return np.random.RandomState(8).randint(count, size=(ROWS, *shape)).astype(np.int64)


def rows(width: int = 6, classes: int = 3, **options: Any) -> Data:
    """{'x': (?, width)} and class ids (?,)."""
    return Data({'x': _random(width)}, _classes(classes), **options)


def vector(width: int = 6, **options: Any) -> Data:
    """{'x': (?, width)} and float labels (?,)."""
    return Data({'x': _random(width)}, _random(), **options)


def column(width: int = 6, **options: Any) -> Data:
    """{'x': (?, width)} and float labels (?, 1)."""
    return Data({'x': _random(width)}, _random(1), **options)


def weighted(**options: Any) -> Data:
    """{'x': (?, 6), 'weight': (?, 1)} and class ids (?,)."""
    return Data({'x': _random(6), 'weight': _random(1)}, _classes(3), **options)


def bare(width: int = 6, labels: Optional[Any] = None) -> Data:
    """A tensor (?, width) without a dict, and labels if given."""
    return Data(_random(width), labels)


def images(size: int = 8, **options: Any) -> Data:
    """{'image': (?, size, size, 3)} and class ids (?,)."""
    return Data({'image': _random(size, size, 3)}, _classes(3), **options)


def text(**options: Any) -> Data:
    """{'tokens': (?, 7) of 20 ids, 'length': (?,)} and class ids (?,)."""
    return Data({'tokens': _classes(20, 7), 'length': _classes(7) + 1}, _classes(2), **options)


def tagging(**options: Any) -> Data:
    """{'tokens': (?, 7), 'length': (?,)} and a tag id for each token (?, 7)."""
    return Data({'tokens': _classes(20, 7), 'length': _classes(7) + 1}, _classes(4, 7), **options)


def table(**options: Any) -> Data:
    """A table of columns (?, 1): floats 'age', 'income', string 'city', id 'shop'; label (?, 1)."""
    city = np.array([[b'rome'], [b'oslo'], [b'lima'], [b'bonn']] * (ROWS // 4), dtype=object)
    return Data({'age': _random(1), 'income': _random(1), 'city': city, 'shop': _classes(50, 1)},
                _classes(2, 1), **options)


def ratings(**options: Any) -> Data:
    """{'user': (?,), 'item': (?,)} ids and float ratings (?,)."""
    return Data({'user': _classes(9), 'item': _classes(11)}, _random(), **options)


def two_views(**options: Any) -> Data:
    """{'a': (?, 6), 'b': (?, 6)} and no labels."""
    return Data({'a': _random(6), 'b': _random(6)[::-1].copy()}, None, **options)


def unlabelled(width: int = 6, **options: Any) -> Data:
    """{'x': (?, width)} and no labels."""
    return Data({'x': _random(width)}, None, **options)


@functools.cache
def pretrained() -> str:
    """A checkpoint with 'old/body/kernel' (6, 4), 'old/body/bias' (4,) and 'old/top' (2,)."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    with tf.Graph().as_default(), v1.Session() as session:
        with v1.variable_scope('old'):
            v1.get_variable('body/kernel', [6, 4])
            v1.get_variable('body/bias', [4])
            v1.get_variable('top', [2])
        session.run(v1.global_variables_initializer())
        return v1.train.Saver().save(session, os.path.join(folder, 'model.ckpt'))

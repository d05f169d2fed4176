"""Describes values in messages: compact, without contents, and never raising."""

from __future__ import annotations

import re
from typing import Any, Iterable

from estimator_spec_ext.compat import graphs, tf

_MAX_TEXT = 60
# Where TensorFlow's messages go over to the repr of what they were given.
_GIVEN = re.compile(r'[,.]? [gG]iven: ')
_ADDRESS = re.compile(r'<[^<>]*(?:<\w+>[^<>]*)* at 0x[0-9a-f]+>')


def value(item: Any) -> str:
    """A value in few words: tensors by dtype and shape, plain values by repr, others by type.

    Tensor contents and a user object's repr are never shown.
    """
    try:
        return _value(item)
    except Exception:  # noqa: BLE001 - describing must never raise
        return f'a {type(item).__name__}'


def _value(item: Any) -> str:
    if item is None:
        return 'None'
    if type(item) in (bool, int, float):
        return repr(item)
    if type(item) is str:
        return repr(item if len(item) <= _MAX_TEXT else item[:_MAX_TEXT - 1] + '…')
    if isinstance(item, tf.Operation):
        return 'an Operation'
    if isinstance(item, type):
        return f'the class {item.__name__}'
    if graphs.is_tensor(item):
        return f'{item.dtype.base_dtype.name}{shape(item)}'
    if type(item) in (list, tuple, set):
        return f'a {type(item).__name__} of {len(item)}'
    if callable(item) and hasattr(item, '__name__'):
        return f'the function {item.__name__}'
    name = type(item).__name__
    return f'{"an" if name[:1].lower() in "aeiou" else "a"} {name}'


def shape(item: Any) -> str:
    """The static shape as TensorFlow users write it: '(?, 10)', '()', or 'unknown shape'."""
    return shape_text(item.shape)


def shape_text(static: Any) -> str:
    """A `tf.TensorShape` as text: '(?, 10)'."""
    dims = tf.TensorShape(static)
    if dims.rank is None:
        return '<unknown>'
    sizes = ['?' if size is None else str(size) for size in dims.as_list()]
    return f'({sizes[0]},)' if len(sizes) == 1 else f'({", ".join(sizes)})'


def key(item: Any) -> str:
    """A key of a dict inside a field name: strings and tuples of strings by repr."""
    if type(item) in (str, int, bool, float):
        return repr(item)
    if type(item) is tuple and all(type(part) is str for part in item):
        return repr(item)
    return f'<{type(item).__name__}>'


def entry(field: str, item: Any) -> str:
    """A field with its key: "predictions['p']"; the bare field for the key None."""
    return field if item is None else f'{field}[{key(item)}]'


def error_text(error: BaseException, limit: int = 140) -> str:
    """The first line of TensorFlow's own message, without the repr of what it was given."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a user's exception may fail to describe itself
        return type(error).__name__
    line = _GIVEN.split(text.strip().split('\n', 1)[0], 1)[0].rstrip('.')
    line = _ADDRESS.sub('an object', line)
    line = line or type(error).__name__
    return line if len(line) <= limit else line[:limit - 1] + '…'


def names(items: Iterable[str], limit: int = 3) -> str:
    """A few names and the number of the others: 'a, b, c and 4 more'."""
    listed = list(items)
    shown = ', '.join(listed[:limit])
    rest = len(listed) - limit
    return f'{shown} and {rest} more' if rest > 0 else shown


def mode_key(mode: Any) -> str:
    """The mode as code: 'tf.estimator.ModeKeys.TRAIN'."""
    known = {'train': 'TRAIN', 'eval': 'EVAL', 'infer': 'PREDICT'}
    return f'tf.estimator.ModeKeys.{known[mode]}' if mode in known else value(mode)

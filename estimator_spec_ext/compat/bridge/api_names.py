"""Estimator's entry in TensorFlow's table of exported names, which its decorator writes to."""

from __future__ import annotations

from typing import Any

from tensorflow.python.util import tf_export as _tf_export

_NAME = 'estimator'


def supply() -> None:
    """Adds the entry, and lets TensorFlow find the names of Estimator's symbols through it."""
    if hasattr(_tf_export, 'ESTIMATOR_API_NAME'):
        return
    _tf_export.ESTIMATOR_API_NAME = _NAME
    _tf_export.SUBPACKAGE_NAMESPACES.append(_NAME)
    tables = ((_tf_export.API_ATTRS, '', 'get_v2_names', 'get_v2_constants'),
              (_tf_export.API_ATTRS_V1, '_v1', 'get_v1_names', 'get_v1_constants'))
    for table, suffix, names, constants in tables:
        # The entry of another API tells the type of an entry.
        entry = type(table[_tf_export.KERAS_API_NAME])(
            f'_{_NAME}_api_names{suffix}', f'_{_NAME}_api_constants{suffix}')
        table[_NAME] = entry
        for function, attribute in ((names, entry.names), (constants, entry.constants)):
            setattr(_tf_export, function, _with(getattr(_tf_export, function), attribute))


def _with(stock: Any, attribute: str) -> Any:
    """A lookup of exported names that also knows those that `attribute` holds."""
    def lookup(symbol: Any) -> list[Any]:
        # Of the symbol itself: a subclass has not inherited the name of its base.
        return [*stock(symbol), *getattr(symbol, '__dict__', {}).get(attribute, ())]

    lookup.__name__, lookup.__doc__ = stock.__name__, stock.__doc__
    return lookup

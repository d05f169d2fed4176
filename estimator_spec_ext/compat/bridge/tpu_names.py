"""Names that TPUEstimator imports and only uses on a TPU.

TPU embeddings and the support of lost TPU workers left TensorFlow and cannot be brought back.
`TPUEstimator(use_tpu=False)`, which trains on a CPU or GPU, needs no more than the names.
"""

from __future__ import annotations

import types
from typing import Any

from estimator_spec_ext.compat.bridge import modules

_PACKAGE = 'tensorflow.python.tpu'
_MODULES = ('tpu_embedding', 'tpu_embedding_gradient', 'session_support')


def supply() -> None:
    """Makes the modules that are missing importable."""
    for name in _MODULES:
        modules.supply(f'{_PACKAGE}.{name}', _Gone)


class _Gone(types.ModuleType):
    """A module of which every name is a class that refuses to be used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith('_'):
            raise AttributeError(f'module {self.__name__!r} has no attribute {name!r}')
        full_name = f'{self.__name__}.{name}'

        def refuse(*_: Any, **__: Any) -> Any:
            raise NotImplementedError(
                f'{full_name} left TensorFlow with 2.16: use TensorFlow 2.15 for this on a TPU, or '
                'TPUEstimator(use_tpu=False) without TPU embeddings')

        made = type(name, (), {'__new__': refuse, '__module__': self.__name__})
        setattr(self, name, made)
        return made

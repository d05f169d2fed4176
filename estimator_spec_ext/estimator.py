"""The namespace `tf.estimator`, on every TensorFlow that this package supports.

`from estimator_spec_ext import estimator` gives what `tf.estimator` is, or was up to TensorFlow
2.15, with `tf.compat.v1.estimator` as `estimator.v1`. Above `import tensorflow` it also sees to it
that `tf.keras` is Keras 2 on TensorFlow 2.16 and newer, which Estimator is made of.

Example:
  >>> from estimator_spec_ext import estimator
  >>> estimator.RunConfig(save_summary_steps=10).save_summary_steps
  10
"""

from __future__ import annotations

from typing import Any

from estimator_spec_ext.compat import namespace as _namespace


def __getattr__(name: str) -> Any:
    if name == 'v1':
        return _namespace.estimator_v1()
    if name.startswith('__') and name not in vars(_namespace.estimator):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(_namespace.estimator, name)


def __dir__() -> list[str]:
    return sorted({*dir(_namespace.estimator), 'v1'})

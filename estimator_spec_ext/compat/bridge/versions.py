"""Which versions are there, and whether they were tested together. Imports no TensorFlow."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import sys
from typing import Optional

from estimator_spec_ext.installing import OVERRIDE

# The releases of TensorFlow that the test-suite was run on with the bridge, the first and the last.
FIRST, LAST = (2, 16), (2, 21)
ESTIMATOR = '2.15'

# Estimator calls it, and it left TensorFlow together with tf.estimator.
_REMOVED = os.path.join('python', 'distribute', 'estimator_training.py')


def minor(version: str) -> tuple[int, int]:
    """(2, 16) for '2.16.2'; (0, 0) for what is no version."""
    found = re.match(r'(\d+)\.(\d+)', version)
    return (int(found.group(1)), int(found.group(2))) if found else (0, 0)


def lacks_estimator() -> bool:
    """Whether the TensorFlow that would be imported has no `tf.estimator`, told by its files."""
    loaded = sys.modules.get('tensorflow')
    if loaded is not None:
        return minor(getattr(loaded, '__version__', '')) >= FIRST
    try:
        spec = importlib.util.find_spec('tensorflow')
    except (ImportError, ValueError):
        return False
    folders = spec.submodule_search_locations if spec is not None else None
    return bool(folders) and not any(
        os.path.exists(os.path.join(folder, _REMOVED)) for folder in folders or ())


def check(tensorflow: str) -> None:
    """Refuses versions that were not tested together.

    Args:
      tensorflow: the version of TensorFlow.

    Raises:
      ImportError: says which version was expected; never when the override is set.
    """
    tried = os.environ.get(OVERRIDE, '') not in ('', '0')
    if not tried and not FIRST <= minor(tensorflow) <= LAST:
        raise ImportError(
            f'tf.estimator was brought back on TensorFlow {_span()} and not tried on {tensorflow}; '
            f'install one of these, or set {OVERRIDE}=1 to try it')
    missing = [name for name in ('tensorflow_estimator', 'tf_keras')
               if importlib.util.find_spec(name) is None]
    if missing:
        wanted = {'tensorflow_estimator': 'tensorflow-estimator==2.15.0',
                  'tf_keras': f'tf-keras~={".".join(map(str, minor(tensorflow)))}.0'}
        raise ImportError(
            f'TensorFlow {tensorflow} has no tf.estimator of its own, and what brings it back is '
            'not installed: pip install --no-deps '
            + ' '.join(f"'{wanted[name]}'" for name in missing))
    estimator = _installed('tensorflow-estimator')
    if not tried and estimator is not None and '.'.join(map(str, minor(estimator))) != ESTIMATOR:
        raise ImportError(
            f'tensorflow-estimator {estimator} does not fit TensorFlow {tensorflow}; '
            f"pip install 'tensorflow-estimator==2.15.0', or set {OVERRIDE}=1 to try it")


def _span() -> str:
    return f'{FIRST[0]}.{FIRST[1]} to {LAST[0]}.{LAST[1]}'


def _installed(name: str) -> Optional[str]:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None  # e.g. from a folder on sys.path; nothing is known against it

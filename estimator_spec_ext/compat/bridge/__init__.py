"""Puts tensorflow-estimator 2.15 on a TensorFlow that no longer has `tf.estimator`.

From 2.16 on TensorFlow lacks a few private parts that Estimator is built on. They are supplied
here, each only where it is missing, and Estimator itself is the real one.

    versions          which TensorFlow, which Estimator, and whether they were tested together
    api_names         the entry of Estimator in TensorFlow's table of exported names
    coordinator       what RunConfig, train, evaluate and train_and_evaluate call in a cluster
    coordinator_config  what they write into a RunConfig
    tpu_names         the names that TPUEstimator imports
    keras2            Keras 2, through tf-keras
    keras3            what to do with an object of Keras 3, in one sentence
"""

from __future__ import annotations

import importlib
from typing import Any

from estimator_spec_ext.compat.bridge import versions


def prepare() -> None:
    """Does what has to be done before TensorFlow is imported; does nothing afterwards."""
    from estimator_spec_ext.compat.bridge import keras2
    if versions.lacks_estimator():
        keras2.prefer_legacy()


def activate(tf: Any) -> tuple[Any, Any]:
    """Supplies what is missing and imports Estimator.

    Args:
      tf: the module `tensorflow`, 2.16 or newer.

    Returns:
      TensorFlow as Estimator sees it, where `tf.keras` is Keras 2 in any case, and Estimator's
      namespace.

    Raises:
      ImportError: when these versions were not tested together, or one of them is missing.
    """
    from estimator_spec_ext.compat.bridge import api_names, coordinator, keras2, keras3, tpu_names
    versions.check(tf.__version__)
    api_names.supply()
    coordinator.supply()
    tpu_names.supply()
    keras2.resolve_lazy_loaders()
    view = tf
    if not keras2.is_legacy(tf):
        view = keras2.estimators_view(tf)
        keras2.show_to_estimator(view)
    namespace = importlib.import_module('tensorflow_estimator.python.estimator.api._v2.estimator')
    if view is not tf:
        keras3.explain_refusals()
    return view, namespace


def namespace_v1() -> Any:
    """Estimator's namespace as `tf.compat.v1.estimator` had it."""
    return importlib.import_module('tensorflow_estimator.python.estimator.api._v1.estimator')

"""The only part of the package that knows TensorFlow's private names.

Everything else imports TensorFlow from here, so that one place decides which estimator it is.
"""

from __future__ import annotations

from estimator_spec_ext.compat.namespace import (
    EstimatorSpec,
    ModeKeys,
    TPUEstimatorSpec,
    do_not_convert,
    estimator,
    tf,
    v1,
)

__all__ = [
    'EstimatorSpec', 'ModeKeys', 'TPUEstimatorSpec', 'do_not_convert', 'estimator', 'tf', 'v1']

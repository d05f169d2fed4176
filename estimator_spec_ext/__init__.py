"""Finds the mistakes of a model_fn before they cost a training run.

The recommended import is `import estimator_spec_ext as ese`.
"""

from __future__ import annotations

from estimator_spec_ext.diagnostics import Finding, Report, Severity, Where
from estimator_spec_ext.engine import findings
from estimator_spec_ext.errors import EstimatorSpecError, EstimatorSpecTypeError
from estimator_spec_ext.export import default_export_outputs
from estimator_spec_ext.hooks import HookElement, hook_graph_elements
from estimator_spec_ext.registry import explain, rules
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.specs import StrictEstimatorSpec, replace
from estimator_spec_ext.strict_fn import strict_model_fn
from estimator_spec_ext.validate import validate_estimator_spec, validate_hooks
from estimator_spec_ext.version import __version__

__all__ = [
    'EstimatorSpecError', 'EstimatorSpecTypeError', 'Finding', 'HookElement', 'Report', 'Rule',
    'Severity', 'StrictEstimatorSpec', 'Where', '__version__', 'default_export_outputs', 'explain',
    'findings', 'hook_graph_elements', 'replace', 'rules', 'strict_model_fn',
    'validate_estimator_spec', 'validate_hooks',
]

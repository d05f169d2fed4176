"""Finds the mistakes of a model_fn before they cost a training run.

The recommended import is `import estimator_spec_ext as ese`. Every name is loaded when it is first
used, so that reports can be read, and the command line can answer, without TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from estimator_spec_ext.version import __version__

if TYPE_CHECKING:
    from estimator_spec_ext import estimator
    from estimator_spec_ext.agreement.hook import GraphAgreementHook
    from estimator_spec_ext.diagnostics import Finding, Report, Severity, Where
    from estimator_spec_ext.engine import findings
    from estimator_spec_ext.errors import EstimatorSpecError, EstimatorSpecTypeError
    from estimator_spec_ext.export import default_export_outputs
    from estimator_spec_ext.factories import create_estimator_spec
    from estimator_spec_ext.fixed_mode import (
        create_eval_estimator_spec,
        create_predict_estimator_spec,
        create_train_estimator_spec,
    )
    from estimator_spec_ext.hooks import HookElement, hook_graph_elements
    from estimator_spec_ext.installing import install_tf_estimator
    from estimator_spec_ext.preflight.api import preflight, train_and_evaluate
    from estimator_spec_ext.preflight.roles import preflight_roles
    from estimator_spec_ext.preflight.validate_config import validate_tf_config
    from estimator_spec_ext.registry import explain, rules
    from estimator_spec_ext.rule import Rule
    from estimator_spec_ext.specs import StrictEstimatorSpec, replace
    from estimator_spec_ext.strict_fn import strict_model_fn
    from estimator_spec_ext.tpu import StrictTPUEstimatorSpec
    from estimator_spec_ext.validate import validate_estimator_spec, validate_hooks
    from estimator_spec_ext.watchdog import StallWatchdogHook

__all__ = [
    'EstimatorSpecError', 'EstimatorSpecTypeError', 'Finding', 'GraphAgreementHook',
    'HookElement', 'Report', 'Rule', 'Severity', 'StallWatchdogHook', 'StrictEstimatorSpec',
    'StrictTPUEstimatorSpec', 'Where', '__version__', 'create_estimator_spec',
    'create_eval_estimator_spec', 'create_predict_estimator_spec',
    'create_train_estimator_spec', 'default_export_outputs', 'estimator', 'explain', 'findings',
    'hook_graph_elements', 'install_tf_estimator', 'preflight', 'preflight_roles', 'replace',
    'rules', 'strict_model_fn', 'train_and_evaluate', 'validate_estimator_spec', 'validate_hooks',
    'validate_tf_config',
]

# The module that each name lives in.
_HOMES = {
    'EstimatorSpecError': 'errors',
    'EstimatorSpecTypeError': 'errors',
    'Finding': 'diagnostics',
    'GraphAgreementHook': 'agreement.hook',
    'HookElement': 'hooks',
    'Report': 'diagnostics',
    'Rule': 'rule',
    'Severity': 'diagnostics',
    'StallWatchdogHook': 'watchdog',
    'StrictEstimatorSpec': 'specs',
    'StrictTPUEstimatorSpec': 'tpu',
    'Where': 'diagnostics',
    'create_estimator_spec': 'factories',
    'create_eval_estimator_spec': 'fixed_mode',
    'create_predict_estimator_spec': 'fixed_mode',
    'create_train_estimator_spec': 'fixed_mode',
    'default_export_outputs': 'export',
    'explain': 'registry',
    'findings': 'engine',
    'hook_graph_elements': 'hooks',
    'install_tf_estimator': 'installing',
    'preflight': 'preflight.api',
    'preflight_roles': 'preflight.roles',
    'replace': 'specs',
    'rules': 'registry',
    'strict_model_fn': 'strict_fn',
    'train_and_evaluate': 'preflight.api',
    'validate_estimator_spec': 'validate',
    'validate_hooks': 'validate',
    'validate_tf_config': 'preflight.validate_config',
}


# Python binds the name of a subpackage when it is first imported. That happens here, for those
# that are also public functions, so that it cannot hide the function later.
for _subpackage in ('preflight', 'rules'):
    importlib.import_module(f'{__name__}.{_subpackage}')
    globals().pop(_subpackage)


def __getattr__(name: str) -> Any:
    if name == 'estimator':
        return importlib.import_module(f'{__name__}.estimator')
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = getattr(importlib.import_module(f'{__name__}.{home}'), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

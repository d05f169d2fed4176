"""`validate_tf_config`: what is wrong with the variable that tells a task who it is."""

from __future__ import annotations

import os
from typing import Any, Mapping, Union

from estimator_spec_ext import engine
from estimator_spec_ext.compat import role_internals
from estimator_spec_ext.diagnostics import Report
from estimator_spec_ext.preflight import tf_config as lib
from estimator_spec_ext.preflight.role_facts import TfConfigFacts

_FAMILY = ('ESX819', 'ESX830', 'ESX831', 'ESX832', 'ESX833')


def validate_tf_config(tf_config: Union[None, str, Mapping[str, Any]] = None, *,
                       train_distribute: Any = None) -> Report:
    """Says what is wrong with a TF_CONFIG.

    Args:
      tf_config: the text of the variable, or the dict; None for the environment's.
      train_distribute: the strategy of the job; False for a job without one. Where it is None, what
        is wrong with a strategy alone, or without one alone, is a warning or a note.

    Returns:
      A `Report`.

    Raises:
      TypeError: when `tf_config` is neither text nor a dict.

    Example:
      >>> report = validate_tf_config('{"cluster": {"chief": ["10.0.0.1"]}, '
      ...                             '"task": {"type": "chief", "index": 0}}')
      >>> report.findings[0].message
      "the address of chief 0 in TF_CONFIG has no port: '10.0.0.1'"
    """
    if tf_config is not None and not isinstance(tf_config, (str, Mapping)):
        raise TypeError('tf_config must be the text of the variable or a dict, got '
                        f'{type(tf_config).__name__}')
    value = os.environ.get('TF_CONFIG') if tf_config is None else tf_config
    return config_report(value, use_of(train_distribute))


def use_of(train_distribute: Any) -> lib.Use:
    """How a job with this strategy uses TF_CONFIG; False stands for none, None for not known."""
    if train_distribute is None:
        return lib.Use()
    return lib.Use(strategy=train_distribute is not False,
                   collective=role_internals.is_collective(train_distribute))


def config_report(value: Any, use: lib.Use, suppress: Any = None) -> Report:
    """What the rules about TF_CONFIG say of one."""
    return engine.check(TfConfigFacts(value, use), suppress=suppress, stages=('config',),
                        family=_FAMILY)

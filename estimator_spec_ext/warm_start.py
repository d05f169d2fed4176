"""`warm_start_from` of the factories: checked before anything is built on it."""

from __future__ import annotations

import os
from typing import Any, Mapping, Optional

from estimator_spec_ext import describe, engine
from estimator_spec_ext.compat import checkpoints, frames
from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.preflight import warm_start
from estimator_spec_ext.preflight.facts import ModeFacts, Place

# The rules about warm starting.
_FAMILY = 'ESX71'


class _Start(ModeFacts):
    """What the rules about warm starting read; there is no job around it."""

    checkpoint = None

    def __init__(self, found: Any) -> None:
        super().__init__('train', 'input')
        self.train = self
        self.warm_start = found
        self.site = Place(*frames.call_site())


def start_from(source: Any, suppress: Optional[Mapping[str, str]] = None) -> None:
    """Makes the variables of the default graph start from the values in a checkpoint.

    Args:
      source: a path or folder, for all trainable variables and their moving statistics;
        `tf.estimator.WarmStartSettings`; or a function that returns one of these, or None.
      suppress: reasons by slug or code of a rule.

    Raises:
      TypeError: for anything else.
      EstimatorSpecError: when the checkpoint does not hold what is asked for.
    """
    given = source() if callable(source) else source
    if given is None:
        return
    if isinstance(given, tf_estimator.WarmStartSettings):
        settings = given
    elif isinstance(given, (str, bytes, os.PathLike)):
        settings = warm_start.with_statistics(
            checkpoints.as_warm_start_settings(os.fsdecode(given)))
    else:
        raise TypeError('warm_start_from must be the path of a checkpoint or a '
                        f'tf.estimator.WarmStartSettings; got {describe.value(given)}')
    report = engine.check(_Start(warm_start.attempt(settings)), suppress=suppress,
                          stages=('modes',), family=_FAMILY)
    report.raise_for_errors()
    engine.log_warnings(report)

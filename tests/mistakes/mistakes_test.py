"""Every class of mistake that a graph shows, on programs as authors write them.

Each program comes with a correct twin that shares all lines but the faulty one: the program gets a
finding of a rule that claims its class, and of no rule that does not; the twin gets nothing.
"""

from __future__ import annotations

import pytest

from estimator_spec_ext import registry
from estimator_spec_ext.diagnostics import Severity
from tests.mistakes import (
    batch_norm,
    devices,
    evaluations,
    exports,
    global_step,
    gradients,
    hooks,
    losses,
    metrics,
    normalizers,
    objectives,
    optimizers,
    outputs,
    predictions,
    replicas,
    scaffolds,
    schedules,
    sessions,
)
from tests.mistakes.harness import case, describe, findings

MODULES = (global_step, schedules, batch_norm, losses, gradients, predictions, exports, metrics,
           hooks, scaffolds, replicas, optimizers, normalizers, objectives, outputs, evaluations,
           sessions, devices)
PROGRAMS = [(program, mode) for module in MODULES for program in module.PROGRAMS
            for mode in program.modes]
CASES = [case(program, mode) for program, mode in PROGRAMS]
BAD_CASES = [
    case(program, mode, marks=(pytest.mark.xfail(strict=True, reason=program.missed),)
         if program.missed else ())
    for program, mode in PROGRAMS if program.mistake]

pytestmark = pytest.mark.filterwarnings('ignore:To make it possible to preserve tf.data options')


@pytest.mark.parametrize('program, mode', BAD_CASES)
def test_mistake_is_found_and_called_by_its_name(program, mode):
    found = findings(program, mode, right=False)
    loud = [finding for finding in found if finding.severity is not Severity.INFO]
    judged = found if program.info else loud
    named = [finding for finding in judged if program.mistake in _mistakes(finding)]
    assert named, describe(found)
    allowed = {program.mistake, *program.also}
    others = [finding for finding in loud if not allowed.intersection(_mistakes(finding))]
    assert not others, describe(others)


@pytest.mark.parametrize('program, mode', CASES)
def test_correct_twin_is_silent(program, mode):
    found = findings(program, mode, right=True)
    loud = [finding for finding in found if finding.severity is not Severity.INFO]
    assert not loud, describe(loud)


def _mistakes(finding):
    return registry.find(finding.code).mistakes

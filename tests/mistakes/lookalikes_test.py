"""Correct programs that resemble a mistake: none gets an error or a warning, in any mode."""

from __future__ import annotations

import pytest

from estimator_spec_ext.diagnostics import Severity
from tests.mistakes.harness import case, describe, findings
from tests.mistakes.lookalikes import (
    adversarial,
    generative,
    heads,
    losses,
    masks,
    schedules,
    sequences,
    specs,
    tables,
    training,
)

MODULES = (adversarial, training, schedules, losses, sequences, generative, tables, specs, heads,
           masks)
CASES = [case(program, mode)
         for module in MODULES for program in module.PROGRAMS for mode in program.modes]

pytestmark = pytest.mark.filterwarnings('ignore:To make it possible to preserve tf.data options')


@pytest.mark.parametrize('program, mode', CASES)
def test_correct_program_is_silent(program, mode):
    found = findings(program, mode)
    loud = [finding for finding in found if finding.severity is not Severity.INFO]
    assert not loud, describe(loud)

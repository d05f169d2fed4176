"""The rules that judge a whole job: its modes side by side, its rehearsal, its configuration."""

from __future__ import annotations

from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import (
    preflight_again,
    preflight_crash,
    preflight_crash_text,
    preflight_export,
    preflight_input,
    preflight_variables,
    preflight_warm_start,
)

RULES: tuple[Rule, ...] = (
    preflight_crash.ModeCrashes(),
    preflight_crash.ReturnsNoSpec(),
    preflight_crash.LabelsInPredict(),
    preflight_crash.ModelFnSignature(),
    preflight_crash_text.NoGradients(),
    preflight_crash_text.KerasMinimize(),
    preflight_crash_text.SummaryOpMissing(),
    preflight_crash_text.ExportOutputRefused(),
    preflight_input.InputFnCrashes(),
    preflight_input.InputFromAnotherGraph(),
    preflight_again.KeptFromCallToCall(),
    preflight_input.ReceiverCrashes(),
    preflight_export.ServingDefaultDropped(),
    preflight_export.SignatureDropped(),
    preflight_export.ServingFeaturesDiffer(),
    preflight_export.ForwardedNotExported(),
    preflight_variables.VariableNotInTrain(),
    preflight_variables.VariableDiffersFromTrain(),
    preflight_variables.AveragesNotUsed(),
    preflight_warm_start.StaleModelDir(),
    preflight_warm_start.WarmStartMatchesNothing(),
    preflight_warm_start.WarmStartFails(),
    preflight_warm_start.WarmStartSkipsStatistics(),
    preflight_warm_start.WarmStartSkipped(),
)

"""The rules about jobs of several tasks."""

from __future__ import annotations

from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import (
    cluster_config,
    roles_end,
    roles_files,
    roles_graphs,
    roles_input,
    roles_strategy,
    roles_tasks,
    roles_variables,
    tf_config,
)

RULES: tuple[Rule, ...] = (
    tf_config.TfConfigInvalid(),
    tf_config.TfConfigAddress(),
    tf_config.TfConfigEvaluator(),
    tf_config.TfConfigName(),
    tf_config.NoParameterServer(),
    roles_tasks.TfConfigsDisagree(),
    roles_tasks.PortInUse(),
    roles_variables.VariablesDifferByRole(),
    roles_variables.VariableOrderDiffers(),
    roles_variables.VariableRenamedByRole(),
    roles_variables.VariablePlacedDifferently(),
    roles_graphs.CollectivesDiffer(),
    roles_graphs.GraphChangesByItself(),
    roles_files.RolesWriteSameFiles(),
    roles_graphs.EvaluatorRestoresDifferently(),
    roles_input.RolesStopApart(),
    roles_input.InputNotSharded(),
    roles_files.ModelDirDiffers(),
    roles_tasks.RoleCrashes(),
    roles_tasks.RoleProcessFailed(),
    roles_strategy.ParameterServerStrategyRefused(),
    roles_strategy.EvaluatorRunsEagerly(),
    roles_end.NobodyEvaluates(),
    roles_end.NoEvalSpec(),
    roles_end.PsNeverExits(),
    cluster_config.CheckpointsNeverSaved(),
    cluster_config.CheckpointSecondsIgnored(),
    cluster_config.SavingListenersDropped(),
    cluster_config.ReplicasShareDevice(),
    cluster_config.TrainInCluster(),
)

"""What the rules of the stage 'roles' may read: the tasks of a cluster side by side."""

from __future__ import annotations

import dataclasses
from typing import Any, Iterator, Mapping, Optional

from estimator_spec_ext.preflight import tf_config
from estimator_spec_ext.preflight.facts import Place, Placed
from estimator_spec_ext.preflight.role_difference import Difference, difference
from estimator_spec_ext.preflight.role_graph import RoleGraph

# These guess from one task what the comparison of all tasks knows.
SUPERSEDED = ('saver-on-every-worker', 'writer-on-every-worker')


class TfConfigFacts(Placed):
    """A TF_CONFIG.

    Attributes:
      tf_config: the text of the variable or what it stands for; None for none.
      use: how the job uses it.
    """

    def __init__(self, value: Any, use: tf_config.Use = tf_config.UNKNOWN,
                 role: Optional[str] = None) -> None:
        super().__init__()
        self.tf_config = value
        self.use = use
        self.role = role


@dataclasses.dataclass(frozen=True)
class Failure:
    """A child process that gave no answer.

    Attributes:
      role: the task that it built.
      text: what became of it: 'took longer than 60 s', 'was ended by signal 11'.
      lines: the last lines that it wrote.
    """

    role: str
    text: str
    lines: tuple[str, ...] = ()


class RolesFacts(Placed):
    """The tasks of a cluster side by side.

    Attributes:
      graphs: what each task builds, the chief first.
      later: the same tasks a day later, in a process of another hash seed where that was asked for.
      configs: the TF_CONFIG of each task by role, of those that were not built too.
      listed: whether the caller gave the TF_CONFIG of each task.
      explained: modes of which preflight has an error already.
      comparable: False when building depends on what was built before, so that tasks that were
        built in one process cannot be compared.
      separate: whether each task was built in a process of its own.
      exporters: names of the exporters of the EvalSpec.
      has_eval_spec: whether there is an EvalSpec.
      failures: child processes that gave no answer.
      given: the TF_CONFIGs as the caller listed them.
      busy: addresses of tasks on this machine at which something listens already, by role.
    """

    def __init__(self, graphs: tuple[RoleGraph, ...], *,
                 later: Mapping[str, RoleGraph], configs: Mapping[str, Mapping[str, Any]],
                 listed: bool = False, explained: frozenset[str] = frozenset(),
                 comparable: bool = True, separate: bool = False,
                 exporters: tuple[str, ...] = (), has_eval_spec: bool = True,
                 failures: tuple[Failure, ...] = (),
                 given: tuple[Mapping[str, Any], ...] = (), busy: Mapping[str, str]) -> None:
        super().__init__()
        self.graphs = graphs
        self.later = later
        self.configs = configs
        self.listed = listed
        self.explained = explained
        self.comparable = comparable
        self.separate = separate
        self.exporters = exporters
        self.has_eval_spec = has_eval_spec
        self.failures = failures
        self.given = given
        self.busy = busy

    @property
    def first(self) -> Optional[RoleGraph]:
        """The training task with which the others are compared; None when none was built."""
        return next((graph for graph in self.graphs if graph.trains), None)

    @property
    def collective(self) -> bool:
        """Whether the training tasks wait for each other in collective ops."""
        return any(graph.collective for graph in self.graphs)

    @property
    def has_cluster(self) -> bool:
        """Whether there is more than one task."""
        return len(self.configs) > 1

    @property
    def jobs(self) -> tuple[str, ...]:
        """The names of the jobs of all tasks."""
        return tuple(dict.fromkeys(role.split('/')[0] for role in self.configs))

    def pairs(self) -> Iterator[tuple[RoleGraph, RoleGraph, Difference]]:
        """The first training task with each of the others, and how their variables differ."""
        first = self.first
        if first is None or not self.comparable:
            return
        for graph in self.graphs:
            if graph.trains and graph is not first:
                yield first, graph, difference(first, graph)

    def changes(self) -> Iterator[tuple[RoleGraph, RoleGraph, Difference]]:
        """Each task with its second build, and how their variables differ."""
        for graph in self.graphs:
            again = self.later.get(graph.role)
            if again is not None and graph.crash is None and again.crash is None:
                yield graph, again, difference(graph, again)

    def at(self, graph: RoleGraph, place: Optional[Place] = None) -> 'AtRole':
        """These facts in the place of one task: what a finding about its graph is made with."""
        return AtRole(graph, place or Place())

    def of(self, graph: RoleGraph) -> 'AtRole':
        """These facts for one task: what a finding about its settings is made with."""
        return AtRole(graph, None)


class AtRole(Placed):
    """The place of a finding about one task.

    Attributes:
      mode: the mode that the task builds.
      role: 'worker/1'.
    """

    def __init__(self, graph: RoleGraph, place: Optional[Place]) -> None:
        super().__init__()
        self.role = graph.role
        self.mode = graph.kind if graph.kind in ('train', 'eval') else None
        if place is not None:
            self.site = place if place.file is not None else graph.site

    def place(self, value: Any = None) -> tuple[Optional[str], Optional[str], Optional[int]]:
        """The op of a place whose line is not known, with the line of the spec."""
        if isinstance(value, Place) and value.file is None:
            return value.op_name, self.site.file, self.site.line
        return super().place(value)

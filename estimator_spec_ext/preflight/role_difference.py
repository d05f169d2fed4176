"""How the variables of two tasks differ."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from estimator_spec_ext.preflight.role_graph import RoleGraph, Variable


@dataclasses.dataclass(frozen=True)
class Difference:
    """How the variables of two builds differ.

    Attributes:
      missing: variables that only the first has.
      extra: variables that only the second has.
      changed: (there, here) of the same name and another shape, dtype or trainable flag.
      renamed: (there, here) at the same position, alike but for their names.
      moved: the first variables at one position of which only the order differs: (there, here).
      elsewhere: (there, here) of the same name on another ps.
    """

    missing: tuple[Variable, ...] = ()
    extra: tuple[Variable, ...] = ()
    changed: tuple[tuple[Variable, Variable], ...] = ()
    renamed: tuple[tuple[Variable, Variable], ...] = ()
    moved: Optional[tuple[Variable, Variable]] = None
    elsewhere: tuple[tuple[Variable, Variable], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.changed or self.renamed or self.moved
                    or self.elsewhere)


def difference(there: RoleGraph, here: RoleGraph) -> Difference:
    """How the variables of one task differ from those of another."""
    one = {variable.name: variable for variable in there.variables}
    other = {variable.name: variable for variable in here.variables}
    missing = tuple(variable for variable in there.variables if variable.name not in other)
    extra = tuple(variable for variable in here.variables if variable.name not in one)
    both = [(one[variable.name], variable) for variable in here.variables
            if variable.name in one]
    changed = tuple(pair for pair in both if pair[0].kind != pair[1].kind)
    elsewhere = tuple(pair for pair in both if pair[0].ps != pair[1].ps)
    renamed = _renamed(there, here, missing, extra)
    if renamed:
        return Difference(renamed=renamed, changed=changed, elsewhere=elsewhere)
    order = [variable for variable in there.variables if variable.name in other]
    moved = next(((a, b) for a, (_, b) in zip(order, both) if a.name != b.name), None)
    return Difference(missing, extra, changed, (), moved, elsewhere)


def _renamed(there: RoleGraph, here: RoleGraph, missing: tuple[Variable, ...],
             extra: tuple[Variable, ...]) -> tuple[tuple[Variable, Variable], ...]:
    if not missing or len(there.variables) != len(here.variables):
        return ()
    pairs = [(a, b) for a, b in zip(there.variables, here.variables) if a.name != b.name]
    if (tuple(a for a, _ in pairs) == missing and tuple(b for _, b in pairs) == extra
            and all(a.kind == b.kind for a, b in pairs) and not _slots(pairs, here)):
        return tuple(pairs)
    return ()


def _slots(pairs: list[tuple[Variable, Variable]], here: RoleGraph) -> bool:
    """Whether these are different things about one variable: the slots of different optimizers."""
    common = {variable.name for variable in here.variables} - {b.name for _, b in pairs}
    return any(a.name.startswith(f'{name}/') and b.name.startswith(f'{name}/')
               for a, b in pairs for name in common)

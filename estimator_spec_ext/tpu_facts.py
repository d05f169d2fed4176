"""What a rule may read of a TPU spec: also its functions, and what came of calling them."""

from __future__ import annotations

import dataclasses
from typing import Any, Iterator, Mapping, Optional

from estimator_spec_ext import facts

# The fields that are a function and its tensors.
CALL_FIELDS = ('eval_metrics', 'host_call')


@dataclasses.dataclass(frozen=True, eq=False)
class Called:
    """What came of calling one of the functions on a CPU.

    Attributes:
      value: what it returned; None when it raised.
      error: what it raised.
      summaries: the tf.compat.v1.summary tensors that it made.
    """

    value: Any = None
    error: Optional[Exception] = None
    summaries: tuple[Any, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Call:
    """A function and its tensors, where the field is such a pair.

    Attributes:
      field: 'eval_metrics' or 'host_call'.
      function: the function.
      tensors: the list, tuple or dict of what it is given.
    """

    field: str
    function: Any
    tensors: Any

    @property
    def items(self) -> list[tuple[Any, Any]]:
        """The tensors with their keys or positions."""
        if isinstance(self.tensors, dict):
            return list(self.tensors.items())
        return list(enumerate(self.tensors))


class TPUFacts(facts.SpecFacts):
    """The facts of one `TPUEstimatorSpec`.

    Attributes:
      calls: the fields of `CALL_FIELDS` as they were given.
      scaffold_fn: as it was given.
      results: what the functions gave, by field; empty before they are called.
    """

    def __init__(self, mode: Any, fields: Mapping[str, Any], *, calls: Mapping[str, Any],
                 scaffold_fn: Any = None, results: Optional[Mapping[str, Called]] = None,
                 context: facts.JobContext = facts.NO_CONTEXT) -> None:
        super().__init__(mode, fields, context=context)
        self.calls = {name: calls.get(name) for name in CALL_FIELDS}
        self.scaffold_fn = scaffold_fn
        self.results = dict(results or {})

    def good_calls(self) -> Iterator[Call]:
        """The calls whose function and tensors are what they must be."""
        for field, value in self.calls.items():
            if value is None or not is_pair(value):
                continue
            function, tensors = value
            if callable(function) and isinstance(tensors, (list, tuple, dict)):
                yield Call(field, function, tensors)


def is_pair(value: Any) -> bool:
    """Whether stock takes a value apart as (function, tensors)."""
    return isinstance(value, (list, tuple)) and len(value) == 2

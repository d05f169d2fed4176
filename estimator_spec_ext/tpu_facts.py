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
      on_cpu: whether the job at hand runs on a CPU.
      summaries: those of the model; None for all that the graph has.
    """

    on_cpu = False
    summaries: Optional[tuple[Any, ...]] = None

    def __init__(self, mode: Any, fields: Mapping[str, Any], *, calls: Mapping[str, Any],
                 scaffold_fn: Any = None, results: Optional[Mapping[str, Called]] = None,
                 context: facts.JobContext = facts.NO_CONTEXT,
                 site: Optional[tuple[Optional[str], Optional[int]]] = None) -> None:
        super().__init__(mode, fields, context=context, site=site)
        self.calls = {name: calls.get(name) for name in CALL_FIELDS}
        self.scaffold_fn = scaffold_fn
        self.results = dict(results or {})

    @property
    def given(self) -> frozenset[str]:
        """Like that of any spec, and 'tpu'."""
        return super().given | {'tpu'}

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


def of_conversion(conversion: Any, mode: Any, fields: Mapping[str, Any], **known: Any) -> TPUFacts:
    """The facts of a TPU spec that has become an `EstimatorSpec`.

    Args:
      conversion: a `compat.tpu.Conversion`.
      mode: the mode.
      fields: those of the `EstimatorSpec`.
      **known: further arguments of `TPUFacts`.

    Returns:
      The facts.
    """
    spec = conversion.spec
    made = TPUFacts(
        mode, fields, calls=spec._asdict(), scaffold_fn=spec.scaffold_fn,
        results={field: Called(value, None, summaries)
                 for field, (value, summaries) in conversion.called.items()}, **known)
    made.on_cpu, made.summaries = True, conversion.summaries
    return made

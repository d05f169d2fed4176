"""What PREDICT hands out: predictions, and the tensors of the signatures; it holds no rule."""

from __future__ import annotations

import dataclasses
from typing import Any, Iterable, Optional

from estimator_spec_ext import describe, export
from estimator_spec_ext.compat import graphs
from estimator_spec_ext.facts import SpecFacts


@dataclasses.dataclass(frozen=True, eq=False)
class Output:
    """One tensor that PREDICT hands out.

    Attributes:
      field: the prediction, or where no prediction is this tensor, the export output.
      tensor: a `tf.Tensor` of the spec's own graph.
      signature: a name in export_outputs; None for a prediction that no export output holds.
    """

    field: str
    tensor: Any
    signature: Any = None

    @property
    def op(self) -> Any:
        """The op behind the tensor."""
        return self.tensor.op


def predicted(facts: SpecFacts) -> list[Output]:
    """What `predict` yields: the dense tensors among the predictions."""
    bare = not isinstance(facts.predictions, dict)
    return [Output('predictions' if bare else describe.entry('predictions', key), value)
            for key, value in facts.prediction_tensors.items() if _is_own(facts, value)]


def served(facts: SpecFacts) -> list[Output]:
    """What the export holds: the tensors of the author's own export outputs.

    Without any, or where none of them is of a known kind, the predictions.
    """
    names = {id(output.tensor): output.field for output in predicted(facts)}
    outputs, seen = [], set()
    entries = facts.export_outputs if isinstance(facts.export_outputs, dict) else {}
    for signature, value in sorted(entries.items(), key=lambda item: _order(item[0])):
        if export.was_added(value):
            continue
        place = describe.entry('export_outputs', signature)
        for _, tensor in export.tensors_of(value):
            if id(tensor) not in seen and _is_own(facts, tensor):
                seen.add(id(tensor))
                outputs.append(Output(names.get(id(tensor), place), tensor, signature))
    return outputs or predicted(facts)


def handed_out(facts: SpecFacts) -> list[Output]:
    """The outputs of `served`, and the other predictions."""
    outputs = served(facts)
    seen = {id(output.tensor) for output in outputs}
    return outputs + [output for output in predicted(facts) if id(output.tensor) not in seen]


def needing(facts: SpecFacts, outputs: Iterable[Output], op: Any) -> Optional[Output]:
    """The first of `outputs` that cannot be had without `op`."""
    return next((output for output in outputs
                 if op in facts.index.ancestors([output.tensor])), None)


def _order(signature: Any) -> tuple[bool, str]:
    return signature != export.DEFAULT_KEY, str(signature)


def _is_own(facts: SpecFacts, value: Any) -> bool:
    op = graphs.as_op(value)
    return op is not None and op.graph is facts.graph

"""What TRAIN leaves untrained, and what PREDICT is computed from."""

from __future__ import annotations

from typing import Any, Optional

from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.preflight.facts import Place
from estimator_spec_ext.rules import training


def look(facts: SpecFacts) -> tuple[Optional[dict[str, Any]], frozenset[str]]:
    """Reads both from the graph of a mode, while it is there.

    Args:
      facts: those of the spec.

    Returns:
      The trainable variables that a step of TRAIN neither reads nor updates, by name, each with its
      place; None in other modes and where it cannot be told. And the names of the variables that
      the predictions of PREDICT, or the loss of TRAIN, are computed from.
    """
    try:
        index = facts.index
        if facts.is_train:
            # What a target network reads of the averages; updating them reads them too.
            used = index.data_ancestors([facts.loss])
            return _untrained(facts), frozenset(info.name for info in index.read(used))
        if facts.is_predict:
            used = index.ancestors(facts.prediction_tensors.values())
            return None, frozenset(info.name for info in index.read(used))
    except Exception:  # noqa: BLE001 - what a rule could not read is unknown, not a fault
        pass
    return None, frozenset()


def _untrained(facts: SpecFacts) -> Optional[dict[str, Any]]:
    if facts.opaque_hooks or not facts.shows_training or not facts.trained:
        return None
    step_ops = facts.step_ops
    return {info.name: _place(facts, info) for info in facts.trainable
            if info not in facts.updated and not any(op in step_ops for op in info.handles)
            and not training.is_restored(facts, info)}


def _place(facts: SpecFacts, info: Any) -> Place:
    op_name, file, line = facts.place(info.variable if info.variable is not None else info.op)
    return Place(file, line, op_name)

"""Hooks that end a training."""

from __future__ import annotations

import dataclasses
from typing import Any, Iterator, Optional, Sequence

from estimator_spec_ext.compat import early_stopping, v1
from estimator_spec_ext.hooks import stored_attributes


@dataclasses.dataclass(frozen=True)
class Stop:
    """A hook that ends a training.

    Attributes:
      field: where it stands: 'hooks[0]'.
      last: the last step; None when nobody knows it before.
      count: the number of steps, for a hook that counts them.
    """

    field: str
    last: Optional[int] = None
    count: Optional[int] = None

    def step(self, start: int) -> Optional[int]:
        """The last step of a training that begins at `start`."""
        return self.last if self.count is None else start + self.count


def stops(hooks: Optional[Sequence[Any]], field: str) -> Iterator[Stop]:
    """Those of some hooks that end a training: StopAtStepHook, and early stopping."""
    for position, hook in enumerate(hooks or ()):
        name = f'{field}[{position}]'
        if isinstance(hook, v1.train.StopAtStepHook):
            stored = dict(stored_attributes(hook))
            last, count = stored.get('_last_step'), stored.get('_num_steps')
            if isinstance(last, int):
                yield Stop(name, last)
            elif isinstance(count, int):
                yield Stop(name, count=count)
        elif early_stopping.watched(hook) is not None:
            yield Stop(name)

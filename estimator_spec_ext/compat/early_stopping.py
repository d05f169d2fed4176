"""What TensorFlow's early-stopping hooks look at; they keep it in a closure."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, Callable, Iterator, Optional

from tensorflow_estimator.python.estimator import early_stopping as _early_stopping

_KINDS = (_early_stopping._StopOnPredicateHook, _early_stopping._CheckForStoppingHook,
          _early_stopping._MultiWorkerEarlyStoppingHook)


@dataclasses.dataclass(frozen=True)
class Watched:
    """What one hook watches.

    Attributes:
      metric: the name of the metric; None for a predicate of the user's own.
      folder: the folder whose events it reads; None for a predicate of the user's own.
      first_step: the step before which it never stops, as it was told; 0 for none.
    """

    metric: Optional[str] = None
    folder: Optional[str] = None
    first_step: int = 0


def recording(made: list[Any]) -> Iterator[tuple[type, Callable[..., None]]]:
    """The classes of these hooks, each with an `__init__` that also keeps the hook in `made`."""
    for kind in _KINDS:
        yield kind, _recording(kind.__init__, made)


def _recording(stock_init: Callable[..., None], made: list[Any]) -> Callable[..., None]:
    @functools.wraps(stock_init)
    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        stock_init(self, *args, **kwargs)
        made.append(self)

    return init


def watched(hook: Any) -> Optional[Watched]:
    """What an early-stopping hook watches; None for any other hook."""
    if not isinstance(hook, _KINDS):
        return None
    function = getattr(hook, '_should_stop_fn', None)
    cells = dict(zip(getattr(getattr(function, '__code__', None), 'co_freevars', ()),
                     getattr(function, '__closure__', None) or ()))
    metric, folder, *steps = (
        cells[name].cell_contents if name in cells else None for name in (
            'metric_name', 'eval_dir', 'min_steps', 'max_steps_without_improvement'))
    return Watched(metric if isinstance(metric, str) else None,
                   folder if isinstance(folder, str) else None,
                   max([0, *(step for step in steps if isinstance(step, int))]))

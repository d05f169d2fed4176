"""What the queues of numpy_input_fn and pandas_input_fn are fed with."""

from __future__ import annotations

import math
from typing import Any, Optional

from tensorflow_estimator.python.estimator.inputs.queues import (
    feeding_queue_runner as _feeding_queue_runner,
)


def epochs(runner: Any) -> Optional[float]:
    """How often a queue runner goes through its data; infinity for ever, None when not known."""
    if not isinstance(runner, _feeding_queue_runner._FeedingQueueRunner):
        return None
    counts = [getattr(feed, '_num_epochs', -1) for feed in runner._feed_fns]
    if any(count == -1 for count in counts):
        return None
    return min((math.inf if count is None else count for count in counts), default=None)

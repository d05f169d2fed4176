"""Which ops of a graph need which others."""

from __future__ import annotations

import collections
import collections.abc
import functools
from typing import AbstractSet, Any, Callable, Iterable, Iterator, Optional

from estimator_spec_ext.compat import graphs, tf

# Square numbers of outputs, summed up, beyond which the inputs of all ops are read instead.
_MAX_WIDE = 2_000_000
# So many ops are looked at on the way to the roots before the way back from them is tried, and so
# many on that way, before it is given up: most metrics need few ops, most train_ops nearly all.
_PATIENCE, _MAX_BACK = 200, 100


class Cone(collections.abc.Set):
    """A set of the ops that a session must run to give some roots, roots included.

    Whether it holds an op is found by following the op's readers until they meet a root or end;
    mostly that is a few steps, where finding all ancestors of a root is a walk through the whole
    graph. That walk is done when somebody counts or lists the ops, or when readers go in circles.

    Args:
      roots: ops of one graph.
      readers_of: gives the ops that need an op directly.
      parents_of: gives the ops that an op needs directly.
      walk: gives all ancestors of `roots` at once.
      walls: ops behind which nothing is looked for, though they may belong to the set themselves.

    Example:
      >>> readers, parents = {'a': ['b', 'c'], 'b': [], 'c': []}, {'b': ['a'], 'a': []}
      >>> cone = Cone(['b'], readers.get, parents.get, lambda: {'a', 'b'})
      >>> 'a' in cone, 'c' in cone
      (True, False)
    """

    def __init__(self, roots: Iterable[Any], readers_of: Callable[[Any], Iterable[Any]],
                 parents_of: Callable[[Any], Iterable[Any]], walk: Callable[[], set[Any]],
                 walls: AbstractSet[Any] = frozenset()) -> None:
        self._inside = set(roots)
        self._open = self._inside - walls  # those whose inputs belong to the set
        self._outside: set[Any] = set()
        self._walls = walls
        self._readers_of = readers_of
        self._parents_of = parents_of
        self._walk = walk
        self._whole: Optional[set[Any]] = None
        self._effort = 0

    def __contains__(self, op: Any) -> bool:
        if self._whole is not None:
            return op in self._whole
        return op in self._inside or (op not in self._outside and self._search(op))

    def __iter__(self) -> Iterator[Any]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __bool__(self) -> bool:
        return bool(self._inside)

    @classmethod
    def _from_iterable(cls, it: Iterable[Any]) -> Any:
        return set(it)  # what `&` and `-` give

    def _all(self) -> set[Any]:
        if self._whole is None:
            self._whole = self._walk()
        return self._whole

    def _search(self, start: Any) -> bool:
        """Follows the readers of `start`, and notes of all that it sees whether it is inside."""
        goals, outside, walls = self._open, self._outside, self._walls
        path, ways = {start: None}, [iter(self._readers_of(start))]
        while path:
            for op in ways[-1]:
                if op in goals:
                    self._inside.update(path)
                    goals.update(path.keys() - walls)
                    return True
                if op in outside or op in walls:
                    continue
                if op in path:  # a loop, in which an end of the way proves nothing
                    return start in self._all()
                self._effort += 1
                if self._effort == _PATIENCE:
                    self._look_back()
                    if self._whole is not None:
                        return start in self._whole
                path[op] = None
                ways.append(iter(self._readers_of(op)))
                break
            else:
                ways.pop()
                outside.add(path.popitem()[0])
        return False

    def _look_back(self) -> None:
        """Finds all ops of the set if they are few."""
        seen, stack = self._inside.copy(), list(self._open)
        while stack:
            for parent in self._parents_of(stack.pop()):
                if parent not in seen:
                    seen.add(parent)
                    if parent not in self._walls:
                        stack.append(parent)
            if len(seen) > _MAX_BACK:
                return
        self._whole = seen


class Links:
    """Tells which ops of a graph need which others directly, and all that some ops need.

    Args:
      graph: the `tf.Graph`; it is read, never changed.

    Example:
      >>> graph = tf.Graph()
      >>> with graph.as_default():
      ...     product = tf.constant(2.) * tf.constant(3.)
      >>> sorted(op.type for op in Links(graph).cone([product.op]))
      ['Const', 'Const', 'Mul']
    """

    def __init__(self, graph: tf.Graph) -> None:
        self.ops = graph.get_operations()
        self._consumers: dict[Any, list[Any]] = {}
        self._wide = 0

    # What a cone holds must not hold the cone: both are freed at once then, without the collector.

    def cone(self, roots: Iterable[Any]) -> Cone:
        """All ops that must run to give the ops `roots`."""
        return Cone(roots, self._all_readers, _all_inputs, lambda: self._walk(roots))

    def data_cone(self, roots: Iterable[Any], walls: AbstractSet[Any]) -> Cone:
        """All ops whose data the ops `roots` need, without what lies behind `walls`."""
        return Cone(roots, self.consumers, _inputs, lambda: self._data_walk(roots, walls), walls)

    def consumers(self, op: Any) -> list[Any]:
        """The ops that read an output of `op`, once for each time that they do so."""
        found = self._consumers.get(op)
        if found is None:
            outputs = op.outputs
            if len(outputs) == 1:
                found = outputs[0].consumers()
            elif self._is_too_wide(len(outputs)):
                found = self._consumers_by_inputs.get(op, [])
            else:
                found = [reader for output in outputs for reader in output.consumers()]
            self._consumers[op] = found
        return found

    def _all_readers(self, op: Any) -> list[Any]:
        """The ops that wait for `op`; those first that most often end a search."""
        return graphs.control_outputs(op) + self.consumers(op)[::-1]

    def _is_too_wide(self, outputs: int) -> bool:
        """Whether ops with many outputs have been met so often that asking them takes too long."""
        # To find the readers of an output, TensorFlow looks through those of all outputs.
        if outputs > 8:
            self._wide += outputs ** 2
        return self._wide > _MAX_WIDE

    @functools.cached_property
    def _consumers_by_inputs(self) -> dict[Any, list[Any]]:
        found: dict[Any, list[Any]] = {}
        for op in self.ops:
            for tensor in op.inputs:
                found.setdefault(tensor.op, []).append(op)
        return found

    @functools.cached_property
    def _producers(self) -> dict[Any, list[Any]]:
        """For each op the ops whose outputs it reads, in the order in which these were made."""
        # The outputs are asked for their readers: that is several times faster than asking the ops
        # for their inputs, which TensorFlow wraps one by one when they are first read.
        found: dict[Any, list[Any]] = {op: [] for op in self.ops}
        for op in self.ops:
            for reader in self.consumers(op):
                found.setdefault(reader, []).append(op)
        return found

    @functools.cached_property
    def _parents(self) -> dict[Any, list[Any]]:
        """For each op those that must run before it."""
        found = self._producers.copy()
        for op in self.ops:
            before = op.control_inputs
            if before:
                found[op] = found[op] + before
        return found

    def _walk(self, ops: Iterable[Any]) -> set[Any]:
        """All that `ops` need, themselves included."""
        parents_of = self._parents.__getitem__
        seen: set[Any] = set()
        front = set(ops)
        while front:
            seen |= front
            front = set().union(*map(parents_of, front)) - seen
        return seen

    def _data_walk(self, ops: Iterable[Any], walls: AbstractSet[Any]) -> set[Any]:
        """All whose data `ops` need, themselves included."""
        seen = set(ops)
        stack = [op for op in seen if op not in walls]
        while stack:
            for parent in self._producers[stack.pop()]:
                if parent not in seen:
                    seen.add(parent)
                    if parent not in walls:
                        stack.append(parent)
        return seen

    def path(self, start: Any, goal: Any) -> tuple[str, ...]:
        """Names of the ops on a shortest way back from `start` to `goal`, both included."""
        came_from: dict[Any, Any] = {start: None}
        queue = collections.deque([start])
        while queue:
            op = queue.popleft()
            if op is goal or op == goal:
                names = []
                while op is not None:
                    names.append(op.name)
                    op = came_from[op]
                return tuple(reversed(names))
            for parent in self._parents[op]:
                if parent not in came_from:
                    came_from[parent] = op
                    queue.append(parent)
        return ()


def _inputs(op: Any) -> list[Any]:
    """The ops whose outputs `op` reads."""
    return [tensor.op for tensor in op.inputs]


def _all_inputs(op: Any) -> list[Any]:
    """The ops that must run before `op`."""
    return _inputs(op) + op.control_inputs

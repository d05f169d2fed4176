"""One index of a `tf.Graph`, built once per spec and read by every rule.

Building it is one pass over the ops that notes their types; everything else (ancestors, writes,
variables, function bodies) is worked out when a rule first asks, and kept.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import operator
from typing import AbstractSet, Any, Iterable, Iterator, Optional

from estimator_spec_ext.compat import distribution, functions, graphs, tf, v1
from estimator_spec_ext.reach import Cone, Links

# Where data enters a graph; what lies behind an iterator belongs to the input_fn.
ITERATOR_TYPES = frozenset({
    'IteratorGetNext', 'IteratorGetNextSync', 'IteratorGetNextAsOptional', 'DatasetToSingleElement',
    'MultiDeviceIteratorGetNextFromShard'})
DEQUEUE_TYPES = frozenset({
    'QueueDequeue', 'QueueDequeueV2', 'QueueDequeueMany', 'QueueDequeueManyV2',
    'QueueDequeueUpTo', 'QueueDequeueUpToV2', 'ReaderRead', 'ReaderReadV2', 'ReaderReadUpToV2'})
PLACEHOLDER_TYPES = frozenset({'Placeholder', 'PlaceholderV2', 'PlaceholderWithDefault'})
INPUT_TYPES = ITERATOR_TYPES | DEQUEUE_TYPES | PLACEHOLDER_TYPES
PY_FUNC_TYPES = frozenset({'PyFunc', 'PyFuncStateless', 'EagerPyFunc'})
VARIABLE_TYPES = frozenset({'VarHandleOp', 'VariableV2', 'Variable', 'TemporaryVariable'})
TABLE_TYPES = frozenset({
    'HashTable', 'HashTableV2', 'MutableHashTable', 'MutableHashTableV2', 'MutableDenseHashTable',
    'MutableDenseHashTableV2', 'MutableHashTableOfTensors', 'MutableHashTableOfTensorsV2',
    'AnonymousHashTable', 'AnonymousMutableHashTable'})
TABLE_INIT_TYPES = frozenset({
    'InitializeTable', 'InitializeTableV2', 'InitializeTableFromTextFile',
    'InitializeTableFromTextFileV2', 'InitializeTableFromDataset', 'LookupTableImport',
    'LookupTableImportV2'})
RANDOM_TYPES = frozenset({
    'RandomUniform', 'RandomUniformInt', 'RandomStandardNormal', 'TruncatedNormal',
    'ParameterizedTruncatedNormal', 'RandomShuffle', 'RandomGamma', 'RandomPoisson',
    'RandomPoissonV2', 'Multinomial', 'RandomCrop', 'StatelessRandomUniform',
    'StatelessRandomUniformV2', 'StatelessRandomUniformInt', 'StatelessRandomUniformIntV2',
    'StatelessRandomNormal', 'StatelessRandomNormalV2', 'StatelessTruncatedNormal',
    'StatelessTruncatedNormalV2', 'StatelessMultinomial', 'StatefulUniform',
    'StatefulUniformFullInt', 'StatefulUniformInt', 'StatefulStandardNormal',
    'StatefulStandardNormalV2', 'StatefulTruncatedNormal', 'StatefulRandomBinomial'})

# Ops that hand on the resource or reference that they get.
PASSING_TYPES = frozenset({
    'Identity', 'RefIdentity', 'Enter', 'RefEnter', 'Exit', 'RefExit', 'Switch', 'RefSwitch',
    'NextIteration', 'RefNextIteration', 'Merge', 'RefMerge', 'IdentityN', 'While',
    'StatelessWhile'})
_RESTORES = frozenset({'RestoreV2', 'Restore', 'RestoreSlice'})
_TYPE_OF = operator.attrgetter('type')
_LARGE = 1 << 20  # bytes
_COLLECTIONS = (
    v1.GraphKeys.GLOBAL_VARIABLES, v1.GraphKeys.LOCAL_VARIABLES,
    v1.GraphKeys.TRAINABLE_VARIABLES, v1.GraphKeys.METRIC_VARIABLES,
    v1.GraphKeys.MODEL_VARIABLES, v1.GraphKeys.MOVING_AVERAGE_VARIABLES)


@dataclasses.dataclass(eq=False)  # not frozen, which doubles the time to make one
class VariableInfo:
    """A variable of the graph, reference, resource, Keras or distributed alike.

    Attributes:
      name: without ':0'.
      variable: the Python object; None for a variable that no collection holds.
      handles: its ops of type VarHandleOp or VariableV2, one for a plain variable.
      trainable: whether it is in TRAINABLE_VARIABLES.
      collections: names of the collections that hold it.
      initializers: the ops that give it, or each of its parts, the first value.
    """

    name: str
    variable: Any
    handles: tuple[Any, ...]
    trainable: bool
    collections: frozenset[str]
    initializers: tuple[Any, ...] = ()

    @property
    def op(self) -> Any:
        """The first of `handles`."""
        return self.handles[0]

    @property
    def shape(self) -> tf.TensorShape:
        """The static shape."""
        if self.variable is not None:
            return self.variable.shape
        return tf.TensorShape(graphs.attribute(self.op, 'shape'))

    @property
    def dtype(self) -> tf.DType:
        """The dtype, never a reference dtype."""
        if self.variable is not None:
            return self.variable.dtype.base_dtype
        return tf.as_dtype(graphs.attribute(self.op, 'dtype')).base_dtype

    @property
    def is_global(self) -> bool:
        """Whether a checkpoint holds it by default."""
        return v1.GraphKeys.GLOBAL_VARIABLES in self.collections


@dataclasses.dataclass(frozen=True)
class Occurrence:
    """An op of a type that was looked for, or one inside the functions that an op calls.

    Attributes:
      op: the op in the graph itself.
      inner: the name of the node inside a function body; None for the op itself.
      type: the type that was found.
    """

    op: Any
    inner: Optional[str]
    type: str


class GraphIndex:
    """Answers what the rules ask of one graph.

    Args:
      graph: the `tf.Graph`; it is read, never changed.

    Example:
      >>> graph = tf.Graph()
      >>> with graph.as_default():
      ...     product = tf.constant(2.) * tf.constant(3.)
      >>> index = GraphIndex(graph)
      >>> sorted(op.type for op in index.ancestors([product]))
      ['Const', 'Const', 'Mul']
    """

    def __init__(self, graph: tf.Graph) -> None:
        self.graph = graph
        self._links = Links(graph)
        self._cones: dict[tuple[bool, frozenset[Any], frozenset[Any]], Cone] = {}
        # The last made first: these are still in the processor's cache.
        types = list(map(_TYPE_OF, reversed(self._links.ops)))
        by_type: collections.defaultdict[str, list[Any]] = collections.defaultdict(list)
        lists = map(by_type.__getitem__, reversed(types))
        collections.deque(map(list.append, lists, self._links.ops), maxlen=0)  # runs them all
        self._by_type = dict(by_type)

    def of_types(self, types: Iterable[str]) -> list[Any]:
        """All ops of the given types, in order of type and creation."""
        by_type = self._by_type
        found = [op_type for op_type in types if op_type in by_type]
        return [op for op_type in sorted(found) for op in by_type[op_type]]

    @property
    def types(self) -> Iterable[str]:
        """The types of op that occur in the graph itself."""
        return self._by_type.keys()

    # Reachability.

    def ancestors(self, roots: Iterable[Any]) -> AbstractSet[Any]:
        """The ops that a session must run to give `roots`, roots included.

        Args:
          roots: ops, tensors or variables of this graph; anything else is passed over.

        Returns:
          A set of ops, through data and control inputs. To ask whether it holds an op takes far
          less time than to list it.
        """
        return self._cone(True, roots, frozenset())

    def data_ancestors(self, roots: Iterable[Any], stop: Iterable[Any] = ()) -> AbstractSet[Any]:
        """Like `ancestors`, through data inputs alone, not looking behind the ops in `stop`."""
        return self._cone(False, roots, frozenset(stop))

    def _cone(self, control: bool, roots: Iterable[Any], walls: frozenset[Any]) -> Cone:
        ops = frozenset(op for op in map(graphs.as_op, roots)
                        if op is not None and op.graph is self.graph)
        found = self._cones.get((control, ops, walls))
        if found is None:
            found = self._links.cone(ops) if control else self._links.data_cone(ops, walls)
            self._cones[control, ops, walls] = found
        return found

    def path(self, root: Any, target: Any) -> tuple[str, ...]:
        """Names of the ops on a shortest way back from `root` to `target`, both included."""
        return self._links.path(graphs.as_op(root), graphs.as_op(target))

    def consumers(self, op: Any) -> list[Any]:
        """The ops that read an output of `op`, once for each time that they do so."""
        return self._links.consumers(op)

    # Function bodies.

    @functools.cached_property
    def calls(self) -> dict[Any, functions.Summary]:
        """The ops that call functions (v2 control flow, tf.function, Defun), with what these do."""
        result = {}
        bodies: dict[str, functions.Summary] = {}
        names = graphs.function_names(self.graph)
        for op_type, ops in self._by_type.items():
            if op_type in names or functions.may_call(op_type):
                for op in ops:
                    result[op] = functions.summary_of_call(self.graph, op, bodies)
        return result

    def find(self, types: Iterable[str],
             within: Optional[AbstractSet[Any]] = None) -> Iterator[Occurrence]:
        """Ops of `types`, in the graph and inside the functions that it calls.

        Args:
          types: op types.
          within: only these ops (and the functions that they call); None for the whole graph.

        Yields:
          An `Occurrence` for each, in a stable order.
        """
        wanted = frozenset(types)
        for op in self.of_types(wanted):
            if within is None or op in within:
                yield Occurrence(op, None, op.type)
        for op, summary in self.calls.items():
            if within is None or op in within:
                for name, op_type in summary.nodes:
                    if op_type in wanted:
                        yield Occurrence(op, name, op_type)

    @functools.cached_property
    def _constants(self) -> tuple[list[Any], list[Any]]:
        """All constants: the others, and those known to be made by gradient functions."""
        constants = self._by_type.get('Const', [])
        # In TRAIN these are half of all, elsewhere hardly any.
        if all(graphs.differentiated_op(op) is None for op in constants[::16]):
            return constants, []
        split: tuple[list[Any], list[Any]] = [], []
        for op in constants:
            split[graphs.differentiated_op(op) is not None].append(op)
        return split

    @functools.cached_property
    def _sifted(self) -> tuple[dict[Any, int], list[Any]]:
        return graphs.sift(self._constants[0], _LARGE, 'write_summary')

    @property
    def large_constants(self) -> dict[Any, int]:
        """The constants of at least 1 MiB, each with its bytes in a serialized graph.

        One of a repeated value is stored as that value alone. Those made by gradient functions may
        be left out.
        """
        return self._sifted[0]

    @functools.cached_property
    def large_gradient_constants(self) -> dict[Any, int]:
        """Like `large_constants`, those made by gradient functions."""
        return graphs.sift(self._constants[1], _LARGE, 'write_summary')[0]

    @property
    def unwritten_summaries(self) -> list[Any]:
        """The constants that tf.summary of TensorFlow 2 may have made in the place of a write."""
        return self._sifted[1]

    @functools.cached_property
    def large_function_constants(self) -> list[int]:
        """The bytes of constants in each function that holds at least 1 MiB of them."""
        return graphs.large_function_constants(self.graph, _LARGE)

    # Variables and who writes them.

    def handle(self, tensor: Any) -> Any:
        """The op that made the variable, table or iterator behind a resource or reference."""
        op, index = tensor.op, tensor.value_index
        for _ in range(1000):
            if op.type not in PASSING_TYPES or not op.inputs:
                break
            many = op.type in ('IdentityN', 'While', 'StatelessWhile')
            tensor = op.inputs[index if many else 0]
            op, index = tensor.op, tensor.value_index
        return op

    @functools.cached_property
    def variables(self) -> tuple[VariableInfo, ...]:
        """All variables of the graph, in order of creation."""
        found: dict[Any, tuple[Any, set[str]]] = {}
        for name in _COLLECTIONS:
            # Not get_collection_ref, which adds an empty collection to the graph.
            for variable in self.graph.get_collection(name):
                if id(variable) in found:
                    found[id(variable)][1].add(name)
                elif graphs.is_variable(variable):
                    found[id(variable)] = variable, {name}
        infos: list[VariableInfo] = []
        known: set[Any] = set()
        for variable, names in found.values():
            parts = distribution.components(variable)
            handles = tuple([op for op in map(_variable_op, parts)
                             if op is not None and op.graph is self.graph])
            if handles and known.isdisjoint(handles):
                known.update(handles)
                infos.append(VariableInfo(
                    variable.name.partition(':')[0], variable, handles,
                    v1.GraphKeys.TRAINABLE_VARIABLES in names, frozenset(names),
                    tuple([op for op in map(_initializer, parts) if op is not None])))
        for op in self.of_types(VARIABLE_TYPES):
            if op not in known:
                infos.append(VariableInfo(name=op.name, variable=None, handles=(op,),
                                          trainable=False, collections=frozenset()))
        return tuple(infos)

    @functools.cached_property
    def _variable_of_handle(self) -> dict[Any, VariableInfo]:
        return {op: info for info in self.variables for op in info.handles}

    def variable(self, value: Any) -> Optional[VariableInfo]:
        """The `VariableInfo` of a variable, a handle op or a resource tensor; None if unknown."""
        if graphs.is_variable(value):
            for part in distribution.components(value):
                info = self._variable_of_handle.get(_variable_op(part))
                if info is not None:
                    return info
            return None
        op = value if isinstance(value, tf.Operation) else self.handle(value)
        return self._variable_of_handle.get(op)

    @functools.cached_property
    def writes(self) -> dict[Any, tuple[Any, ...]]:
        """For each handle op, the ops that write it: assigns, optimizers, calls that do so inside.

        Initialisers and the assigns that a Saver made for restoring are among them.
        """
        writers = [op for op_type, ops in self._by_type.items()
                   if functions.is_write_type(op_type) for op in ops]
        written = self._written_by(set(writers))
        found: dict[Any, list[Any]] = {}
        for op in writers:
            for handle in written.get(op) or self._handles_read(op):
                found.setdefault(handle, []).append(op)
        for op, summary in self.calls.items():
            for position in summary.writes:
                if position < len(op.inputs):
                    found.setdefault(self.handle(op.inputs[position]), []).append(op)
        return {handle: tuple(ops) for handle, ops in found.items()}

    def _written_by(self, writers: set[Any]) -> dict[Any, list[Any]]:
        """The handles that each writer reads directly, for those that read none through others."""
        found: dict[Any, list[Any]] = {}
        handles = self.of_types(VARIABLE_TYPES)
        passing = set(self.of_types(PASSING_TYPES))
        carriers: set[Any] = set()
        for handle in handles:
            readers = self._links.consumers(handle)
            for writer in writers.intersection(readers):
                found.setdefault(writer, []).append(handle)
            carriers.update(passing.intersection(readers))
        stack = list(carriers)
        while stack:
            for reader in self._links.consumers(stack.pop()):
                found.pop(reader, None)  # its inputs themselves must be asked
                if reader in passing and reader not in carriers:
                    carriers.add(reader)
                    stack.append(reader)
        return found

    def _handles_read(self, op: Any) -> Iterable[Any]:
        """The handles behind the resources and references that `op` gets, as its inputs tell."""
        handles: dict[Any, None] = {}
        for tensor in op.inputs:
            if tensor.dtype != tf.resource and not graphs.is_ref_dtype(tensor.dtype):
                break  # in all ops that write, what is written comes first
            handles[self.handle(tensor)] = None
        return handles

    @functools.cached_property
    def initializers(self) -> set[Any]:
        """The ops that give variables their first values."""
        return {op for info in self.variables for op in info.initializers}

    def updates(self, info: VariableInfo) -> tuple[Any, ...]:
        """The ops that write the variable, without its initialiser and a Saver's restoring."""
        # In EVAL, only those of the few variables of metrics are asked for.
        found = None if '_updates' in self.__dict__ else self._direct_writes(info)
        return self._updates.get(info, ()) if found is None else self._without_starts(found)

    def _direct_writes(self, info: VariableInfo) -> Optional[list[Any]]:
        """The ops that write a variable; None when some op hands it on to others."""
        readers = dict.fromkeys(reader for handle in info.handles
                                for reader in self._links.consumers(handle))
        if any(op.type in PASSING_TYPES or op in self.calls for op in readers):
            return None
        return [op for op in readers if functions.is_write_type(op.type)]

    @functools.cached_property
    def _updates(self) -> dict[VariableInfo, tuple[Any, ...]]:
        """What `updates` gives, of the variables for which that is anything."""
        writes, found = self.writes, {}
        for info in self.variables:
            ops = self._without_starts(
                [op for handle in info.handles for op in writes.get(handle, ())])
            if ops:
                found[info] = ops
        return found

    def _without_starts(self, writes: list[Any]) -> tuple[Any, ...]:
        """Those of some writes that neither initialise a variable nor restore it."""
        first_values, reads_files = self.initializers, self._reads_files
        return tuple([op for op in writes if op not in first_values
                      and not (reads_files and self._restores(op))])

    @functools.cached_property
    def _reads_files(self) -> bool:
        return not _RESTORES.isdisjoint(self._by_type)

    @staticmethod
    def _restores(op: Any) -> bool:
        """Whether an assign takes its value from a checkpoint reader."""
        if op.type not in ('Assign', 'AssignVariableOp'):
            return False
        source = op.inputs[1].op
        for _ in range(4):
            if source.type in _RESTORES:
                return True
            if source.type not in ('Identity', 'Reshape', 'Cast') or not source.inputs:
                return False
            source = source.inputs[0].op
        return False

    def written(self, ops: AbstractSet[Any]) -> dict[VariableInfo, tuple[Any, ...]]:
        """The variables that running `ops` updates, each with the ops that do so."""
        result = {}
        for info, updates in self._updates.items():
            found = [op for op in updates if op in ops]
            if found:
                result[info] = tuple(found)
        return result

    def read(self, ops: AbstractSet[Any]) -> list[VariableInfo]:
        """The variables that occur among `ops`."""
        return [info for info in self.variables if any(op in ops for op in info.handles)]


def _variable_op(variable: Any) -> Any:
    """The VarHandleOp or VariableV2 op of a plain variable."""
    handle = getattr(variable, 'handle', None)
    return graphs.as_op(handle if handle is not None else variable)


def _initializer(variable: Any) -> Any:
    """The op that gives a plain variable its first value."""
    return graphs.as_op(getattr(variable, 'initializer', None))

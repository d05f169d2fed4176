"""What the values of metrics read: the input, or variables that gather over the batches."""

from __future__ import annotations

from typing import AbstractSet, Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import DEQUEUE_TYPES, ITERATOR_TYPES, GraphIndex
from estimator_spec_ext.rule import EVAL, Rule
from estimator_spec_ext.rules import metrics

_FRESH_DATA = ITERATOR_TYPES | DEQUEUE_TYPES | {'Placeholder', 'PlaceholderV2'}
# A chain of these ends when its source does.
_SOURCES = frozenset({'TensorDataset', 'TensorSliceDataset', 'RangeDataset', 'TextLineDataset',
                      'TFRecordDataset', 'TFRecordDatasetV2', 'FixedLengthRecordDatasetV2'})
_REPEATS = {'RepeatDataset': 1, 'ShuffleAndRepeatDataset': 4, 'ShuffleAndRepeatDatasetV2': 4}
_MAX_DATASETS = 100
_BESIDE = ('pass (value, update_op) as tf.compat.v1.metrics.* returns them, made outside of any '
           'tf.control_dependencies that read the batch')


def next_rows(repeat: bool = True) -> Any:
    """A batch for the examples: a dataset's next element."""
    rows = tf.data.Dataset.from_tensors(tf.ones([4], name='row'))
    iterator = v1.data.make_initializable_iterator(rows.repeat() if repeat else rows)
    v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
    return iterator.get_next()


def _eval_fields(**entries: Any) -> dict[str, Any]:
    return {'mode': 'eval', 'loss': tf.constant(1., name='loss'), 'eval_metric_ops': entries}


class MetricValueReadsInput(Rule):
    """The value of a metric reads the input instead of what its update has gathered.

    What it finds: in EVAL, a value that depends on the input pipeline, by its data or by a control
    dependency. The update op given as value too is a note: with fewer steps than batches it works,
    at the price of one batch more. So is a control dependency, unless the data come to an end.

    Why it matters: Estimator runs the update op for each batch, and the value once, after the last.
    A value that reads the input then asks for one more batch: at the end of the data the evaluation
    dies with OutOfRange, inside train_and_evaluate without a word; before the end the number is
    that of a batch that was not evaluated.

    Bad:
        ratio = tf.reduce_mean(hits)
        eval_metric_ops = {'ratio': (ratio, ratio)}

    Good:
        eval_metric_ops = {'ratio': tf.compat.v1.metrics.mean(hits)}

    When to suppress: when the number of a single batch is what you want, and the data are endless.
    """

    code = 'ESX510'
    slug = 'metric-value-reads-input'
    severity = Severity.WARNING
    modes = (EVAL,)
    mistakes = ('M5',)
    needs = ('eval_metric_ops',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        index = facts.index
        sources = index.of_types(_FRESH_DATA)
        updates = _update_roots(facts) if sources else []
        for key, value in metrics.entries(facts) if sources else ():
            tensors = [part for part in metrics.pair(value)[0] if graphs.is_tensor(part)]
            found = index.ancestors(tensors)
            source = next((op for op in sources if op in found), None)
            if source is None:
                continue
            beside = source not in index.data_ancestors(tensors)
            field = describe.entry(metrics.FIELD, key)
            yield self.finding(
                facts, f'the value of {field} reads the input: it needs one batch more at the end',
                field=field, op=tensors[0],
                hint=_BESIDE if beside else
                'gather it over the batches, e.g. tf.compat.v1.metrics.mean(...), and pass what '
                'that returns, (value, update_op)',
                expected='a value of variables', actual=f"a value of op '{source.name}'",
                severity=self._severity(index, tensors, index.ancestors(updates), source, beside),
                path=index.path(tensors[0], source))

    @staticmethod
    def _severity(index: GraphIndex, tensors: list[Any], run: AbstractSet[Any], source: Any,
                  beside: bool) -> Severity:
        """Softer where the value is gathered over the batches, though it asks for one more."""
        found = index.ancestors(tensors)
        own = [op for info in gathering(index, tensors) for op in adding(index, info)
               if op in found]
        if own:
            return Severity.INFO if all(op in run for op in own) else Severity.WARNING
        return Severity.INFO if beside and not _ends(index, source) else Severity.WARNING

    @staticmethod
    def bad() -> Any:
        """The mean of one batch, twice."""
        mean = tf.reduce_mean(next_rows(), name='batch_mean')
        return _eval_fields(average=(mean, mean))

    @staticmethod
    def good() -> Any:
        """A mean over all batches."""
        return _eval_fields(average=v1.metrics.mean(next_rows()))


def _update_roots(facts: SpecFacts) -> list[Any]:
    """What Estimator runs for each batch of an evaluation."""
    roots = [facts.loss, *facts.hook_ops]
    for _, value in metrics.entries(facts):
        roots += metrics.pair(value)[1]
        if isinstance(value, tf.keras.metrics.Metric):
            roots += value.updates[:1]
    return [root for root in roots if graphs.as_op(root) is not None]


def _ends(index: GraphIndex, source: Any) -> bool:
    """Whether the graph shows that the data come to an end."""
    if source.type not in ('IteratorGetNext', 'IteratorGetNextSync'):
        return False
    iterator = index.handle(source.inputs[0])
    makers = [op for op in index.consumers(iterator) if op.type == 'MakeIterator']
    if len(makers) != 1:
        return False
    todo = [makers[0].inputs[0]]
    for _ in range(_MAX_DATASETS):
        if not todo:
            return True
        op = todo.pop().op
        inputs = [tensor for tensor in op.inputs if tensor.dtype == tf.variant]
        if op.type in _REPEATS:
            count = tf.get_static_value(op.inputs[_REPEATS[op.type]])
            if count is None or count < 0:
                return False
        elif not inputs and op.type not in _SOURCES or len(inputs) > 1:
            return False
        elif 'Flat' in op.type or 'Interleave' in op.type:
            return False  # what their functions make may be endless
        todo.extend(inputs)
    return False


def _value_behind_an_assertion() -> Any:
    """An assertion about the batch guards the value too."""
    rows = next_rows(repeat=False)
    with tf.control_dependencies([v1.assert_non_negative(rows)]):
        return _eval_fields(average=v1.metrics.mean(rows))


def _update_given_twice() -> Any:
    """With fewer steps than batches it works."""
    _, update = v1.metrics.mean(next_rows(repeat=False))
    return _eval_fields(average=(update, update))


def _constant_value() -> Any:
    """No metric at all, and no input."""
    next_rows()
    rate = tf.constant(.1, name='rate')
    return _eval_fields(rate=(rate, tf.no_op()))


MetricValueReadsInput.more_bad = (_value_behind_an_assertion,)
MetricValueReadsInput.more_good = (_update_given_twice, _constant_value)


def gathering(index: GraphIndex, values: list[Any]) -> list[Any]:
    """The variables that gather something over the batches among what `values` read.

    Args:
      index: the index.
      values: tensors and variables.

    Returns:
      `VariableInfo`s of variables that no checkpoint holds, e.g. those of `tf.compat.v1.metrics`
      and of Keras metrics, and that some op of the graph adds to.
    """
    infos = [info for info in index.variables
             if not info.is_global and not info.trainable and adding(index, info)]
    if not infos or not values:
        return []
    read = index.ancestors([value for value in values if not graphs.is_variable(value)])
    own = [index.variable(value) for value in values if graphs.is_variable(value)]
    return [info for info in infos if info in own or any(op in read for op in info.handles)]


def adding(index: GraphIndex, info: Any) -> tuple[Any, ...]:
    """The ops that make a variable follow the batches; ops that only reset it are left out."""
    return tuple(op for op in index.updates(info)
                 if not (op.type in ('Assign', 'AssignVariableOp') and _is_constant(index, op)))


def _is_constant(index: GraphIndex, op: Any) -> bool:
    if len(op.inputs) < 2:
        return False
    source: Any = op.inputs[1].op
    for _ in range(5):
        if source.type == 'Const':
            return True
        if source.type not in ('Identity', 'Fill', 'Cast', 'Reshape') or not source.inputs:
            return False
        source = source.inputs[1 if source.type == 'Fill' else 0].op
    return False

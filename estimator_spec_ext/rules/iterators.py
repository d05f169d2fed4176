"""Iterators that nothing initialises."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext.compat import frames, graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.rule import Rule


class IteratorNotInitialized(Rule):
    """The model reads an iterator that nothing initialises.

    What it finds: an initializable iterator of the author's own whose initializer is run neither
    by the table initializers (TABLE_INITIALIZERS), nor by the scaffold's local_init_op, nor by a
    hook; or by the scaffold's init_op alone, which is skipped when a checkpoint is restored. The
    iterators that Estimator makes of a data set that input_fn returns are its own business.

    Why it matters: the first step fails with "iterator has not been initialized"; with init_op,
    only after a restart.

    Bad:
        iterator = tf.compat.v1.data.make_initializable_iterator(dataset)
        return iterator.get_next()

    Good:
        iterator = tf.compat.v1.data.make_initializable_iterator(dataset)
        tf.compat.v1.add_to_collection(
            tf.compat.v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
        return iterator.get_next()

    When to suppress: when your own session code or a hook from outside runs the initializer.
    """

    code = 'ESX460'
    slug = 'iterator-not-initialized'
    severity = Severity.WARNING
    mistakes = ('I2',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        index = facts.index
        makers = index.of_types(('MakeIterator',))
        if not makers or facts.opaque_hooks:
            return
        scaffold = facts.scaffold
        local = self._local_init(facts, scaffold)
        started = index.ancestors((*local, *facts.hook_ops))
        at_start = index.ancestors([getattr(scaffold, '_init_op', None)])
        for maker in makers:
            iterator = index.handle(maker.inputs[1])
            if maker in started or not self._is_read(facts, iterator):
                continue
            if frames.made_by_tensorflow_input(iterator):
                continue
            yield self._finding(facts, iterator, skipped=maker in at_start)

    @staticmethod
    def _local_init(facts: SpecFacts, scaffold: Any) -> list[Any]:
        custom = getattr(scaffold, '_local_init_op', None)
        if graphs.as_op(custom) is not None:
            return [custom, getattr(scaffold, '_ready_for_local_init_op', None)]
        return list(facts.graph.get_collection(v1.GraphKeys.TABLE_INITIALIZERS))

    @staticmethod
    def _is_read(facts: SpecFacts, iterator: Any) -> bool:
        return any(op in facts.step_ops for op in facts.index.consumers(iterator)
                   if op.type.startswith('IteratorGetNext'))

    def _finding(self, facts: SpecFacts, iterator: Any, *, skipped: bool) -> Finding:
        what = ("its initializer is in the scaffold's init_op alone, which a restart skips"
                if skipped else 'nothing runs its initializer')
        return self.finding(
            facts, f"the model reads the iterator '{iterator.name}' and {what}", op=iterator,
            hint='return the tf.data.Dataset from input_fn, or add iterator.initializer to '
                 'tf.compat.v1.GraphKeys.TABLE_INITIALIZERS',
            expected='initialised with the tables', actual='init_op' if skipped else 'nothing')

    @staticmethod
    def bad() -> Any:
        """An iterator that is only made."""
        return _fields(_iterator())

    @staticmethod
    def good() -> Any:
        """Its initializer is run with those of the tables."""
        iterator = _iterator()
        v1.add_to_collection(v1.GraphKeys.TABLE_INITIALIZERS, iterator.initializer)
        return _fields(iterator)


def _iterator() -> Any:
    rows = tf.data.Dataset.from_tensor_slices(tf.ones([8, 2], name='rows')).repeat().batch(4)
    return v1.data.make_initializable_iterator(rows)


def _fields(iterator: Any, **more: Any) -> dict[str, Any]:
    weight = v1.get_variable('w', [2, 1])
    loss = tf.reduce_mean(tf.square(tf.matmul(iterator.get_next(), weight)))
    train_op = v1.train.GradientDescentOptimizer(.1).minimize(
        loss, v1.train.get_or_create_global_step())
    return {'mode': 'train', 'loss': loss, 'train_op': train_op, **more}


def _in_init_op() -> Any:
    iterator = _iterator()
    fields = _fields(iterator)
    fields['scaffold'] = v1.train.Scaffold(
        init_op=tf.group(v1.global_variables_initializer(), iterator.initializer))
    return fields


def _in_local_init_op() -> Any:
    iterator = _iterator()
    fields = _fields(iterator)
    fields['scaffold'] = v1.train.Scaffold(local_init_op=tf.group(
        v1.local_variables_initializer(), v1.tables_initializer(), iterator.initializer))
    return fields


def _one_shot() -> Any:
    rows = tf.data.Dataset.from_tensors(tf.ones([4, 2], name='row')).repeat()
    return _fields(v1.data.make_one_shot_iterator(rows))


IteratorNotInitialized.more_bad = (_in_init_op,)
IteratorNotInitialized.more_good = (_in_local_init_op, _one_shot)

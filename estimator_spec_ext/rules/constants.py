"""Data inside the graph itself."""

from __future__ import annotations

from typing import Any, Iterator

import numpy as np

from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.rule import Rule

WARN_BYTES = 64 << 20
# Reading a shape costs microseconds: small graphs are read whole, of large ones what is often big.
_MAX_CONSTANTS = 4000
_OFTEN_BIG = ('Assign', 'AssignVariableOp', 'GatherV2', 'Gather', 'MatMul', 'TensorSliceDataset',
              'TensorDataset')


class LargeConstants(Rule):
    """The graph holds data of many megabytes as constants.

    What it finds: constants of more than 64 MiB together: an embedding or a data set that was
    turned into a tensor from NumPy, as initial value of a variable too.

    Why it matters: the constants are written into every graph.pbtxt, every .meta of a checkpoint
    and every SavedModel, and are held in memory several times. At 2 GiB the job dies with
    "GraphDef cannot be larger than 2GB", after the session has started.

    Bad:
        embedding = tf.Variable(np.load('embedding.npy'))

    Good:
        embedding = tf.compat.v1.get_variable('embedding', shape)
        scaffold = tf.compat.v1.train.Scaffold(
            init_fn=lambda scaffold, session: embedding.load(np.load('embedding.npy'), session))

    When to suppress: when the size is known and wanted, e.g. for a small job that never exports.
    """

    code = 'ESX470'
    slug = 'large-constants'
    severity = Severity.WARNING
    mistakes = ('V7',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        sizes = []
        for op in self._candidates(facts):
            shape = op.outputs[0].shape
            count = shape.num_elements() if shape.rank else 0
            size = (count or 0) * max(op.outputs[0].dtype.size or 1, 1)
            if size >= 1 << 20:
                # A constant of one repeated value is stored as that value alone.
                sizes.append((op.node_def.ByteSize(), op.name, op))
        total = sum(size for size, _, _ in sizes)
        if total < WARN_BYTES:
            return
        size, _, largest = max(sizes, key=lambda item: (item[0], item[1]))
        yield self.finding(
            facts, f'constants of {total >> 20} MiB stand in the graph, the largest of '
                   f'{size >> 20} MiB; at 2048 it cannot be written',
            op=largest, hint='load data through tf.data or a Scaffold init_fn, and weights from a '
                             'checkpoint (tf.compat.v1.train.init_from_checkpoint)',
            expected=f'< {WARN_BYTES >> 20} MiB', actual=f'{total >> 20} MiB')

    @staticmethod
    def _candidates(facts: SpecFacts) -> list[Any]:
        index = facts.index
        constants = index.of_types(('Const',))
        if len(constants) <= _MAX_CONSTANTS or facts.context.graph_is_complete:
            return constants
        found: dict[Any, None] = {}
        for op in index.of_types(_OFTEN_BIG):
            for tensor in op.inputs:
                if tensor.op.type == 'Const':
                    found[tensor.op] = None
        return list(found)

    @staticmethod
    def bad() -> Any:
        """An embedding of 65 MiB as initial value."""
        numbers = np.arange(65 << 18, dtype=np.float32).reshape(-1, 64)
        table = v1.get_variable('embedding', trainable=False,
                                initializer=tf.constant(numbers, name='numbers'))
        ids = v1.placeholder(tf.int64, [None], name='ids')
        return {'mode': 'infer', 'predictions': {'vector': tf.nn.embedding_lookup(table, ids)}}

    @staticmethod
    def good() -> Any:
        """One of the same size that an initializer fills."""
        table = v1.get_variable('embedding', [65 << 12, 64], trainable=False,
                                initializer=v1.zeros_initializer())
        ids = v1.placeholder(tf.int64, [None], name='ids')
        return {'mode': 'infer', 'predictions': {'vector': tf.nn.embedding_lookup(table, ids)}}


def _one_value_repeated() -> Any:
    mask = tf.constant(1., shape=[20 << 10, 1 << 10], name='mask')
    ids = v1.placeholder(tf.int64, [None], name='ids')
    return {'mode': 'infer', 'predictions': {'row': tf.gather(mask, ids)}}


LargeConstants.more_good = (_one_value_repeated,)

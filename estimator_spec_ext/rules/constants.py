"""Data inside the graph itself."""

from __future__ import annotations

from typing import Any, Iterator

import numpy as np

from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.rule import Rule

WARN_BYTES = 64 << 20


class LargeConstants(Rule):
    """The graph holds data of many megabytes as constants.

    What it finds: constants of more than 64 MiB together: an embedding or a data set that was
    turned into a tensor from NumPy, as initial value of a variable too, or inside a `tf.function`
    or a function that a dataset maps.

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
        index, complete = facts.index, facts.context.graph_is_complete
        # To read what gradient functions made, and the functions of a tf.data pipeline, which no op
        # calls, is left to preflight: that takes time, and seldom shows anything.
        found = {**index.large_constants, **(index.large_gradient_constants if complete else {})}
        sizes = [(size, op.name, op) for op, size in found.items()]
        if index.calls or complete:
            sizes += [(size, '', None) for size in index.large_function_constants]
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


def _inside_a_function() -> Any:
    """An array that a function closes over."""
    numbers = np.arange(65 << 18, dtype=np.float32).reshape(-1, 64)
    ids = v1.placeholder(tf.int64, [None], name='ids')
    vector = tf.function(lambda ids: tf.gather(tf.constant(numbers), ids))(ids)
    return {'mode': 'infer', 'predictions': {'vector': vector}}


LargeConstants.more_bad = (_inside_a_function,)
LargeConstants.more_good = (_one_value_repeated,)

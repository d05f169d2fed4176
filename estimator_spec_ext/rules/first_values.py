"""First values that are read anew in every mode."""

from __future__ import annotations

import os
import tempfile
from typing import Any, Iterator

import numpy as np

from estimator_spec_ext import describe
from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import VariableInfo
from estimator_spec_ext.rule import EVAL, PREDICT, Rule

_MANY_ELEMENTS = 1 << 16
_MANY_BYTES = 1 << 18
# What is larger is too large for a graph in any mode, and another rule says so.
_TOO_MANY_ELEMENTS = 16 << 20


class FirstValuesInEveryMode(Rule):
    """EVAL or PREDICT builds the first values that only a new training needs.

    What it finds: outside of TRAIN, variables that tf.compat.v1.train.init_from_checkpoint starts
    from another checkpoint, or whose first value is a large constant.

    Why it matters: EVAL and PREDICT take every variable from the job's own checkpoint, so these
    values are never used: the graph is larger, the start slower, and the other checkpoint must
    still be there when the model is exported.

    Bad:
        tf.compat.v1.train.init_from_checkpoint(pretrained, mapping)

    Good:
        if mode == tf.estimator.ModeKeys.TRAIN:
            tf.compat.v1.train.init_from_checkpoint(pretrained, mapping)

    When to suppress: it is no fault; many programs do it.
    """

    code = 'ESX471'
    slug = 'first-values-in-every-mode'
    severity = Severity.INFO
    modes = (EVAL, PREDICT)
    mistakes = ('V4',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        index = facts.index
        restores = index.of_types(['RestoreV2', 'Restore'])
        restored, constant = [], []
        for info in index.variables:
            if not info.is_global or info.variable is None:
                continue
            size = info.shape.num_elements() or 0
            large = _MANY_ELEMENTS <= size < _TOO_MANY_ELEMENTS
            if not restores and not large:
                continue
            source = graphs.first_value(info.variable)
            if source is None:
                continue
            if source.type in ('RestoreV2', 'Restore'):
                restored.append(info)
            elif (large and source.type == 'Const'
                  and graphs.node_size(source) >= _MANY_BYTES):  # not one value repeated
                constant.append(info)
        for infos, what in ((restored, 'started from another checkpoint'),
                            (constant, 'started from a large constant')):
            if infos:
                yield self._finding(facts, infos, what)

    def _finding(self, facts: SpecFacts, infos: list[VariableInfo], what: str) -> Finding:
        names = describe.names(info.name for info in infos)
        label = 'EVAL' if facts.is_eval else 'PREDICT'
        return self.finding(
            facts, f'{label} builds first values that it never uses: {names} {what}',
            op=infos[0].op, hint='do it under `if mode == tf.estimator.ModeKeys.TRAIN:`',
            expected='first values in TRAIN alone', actual=names)

    @staticmethod
    def bad() -> Any:
        """Pretrained weights while predicting."""
        return _predict(pretrained=True)

    @staticmethod
    def good() -> Any:
        """Only TRAIN starts from them."""
        return _predict(pretrained=False)


def _predict(*, pretrained: bool) -> dict[str, Any]:
    x = v1.placeholder(tf.float32, [None, 3], name='x')
    weight = v1.get_variable('w', [3, 2])
    if pretrained:
        with tempfile.TemporaryDirectory() as folder:
            v1.train.init_from_checkpoint(_checkpoint(folder), {'w': 'w'})
    return {'mode': 'infer', 'predictions': {'p': tf.matmul(x, weight)}}


def _checkpoint(folder: str) -> str:
    with tf.Graph().as_default(), v1.Session() as session:
        v1.get_variable('w', [3, 2])
        session.run(v1.global_variables_initializer())
        return str(v1.train.Saver().save(session, os.path.join(folder, 'pretrained')))


def _large_constant() -> Any:
    """An embedding of 256 KiB from NumPy."""
    numbers = np.arange(_MANY_ELEMENTS, dtype=np.float32).reshape(-1, 64)
    table = v1.get_variable('embedding', initializer=numbers, trainable=False)
    ids = v1.placeholder(tf.int64, [None], name='ids')
    return {'mode': 'infer', 'predictions': {'vector': tf.nn.embedding_lookup(table, ids)}}


def _one_value_repeated() -> Any:
    """A constant of one number takes no room."""
    first = tf.constant(.5, shape=[_MANY_ELEMENTS // 64, 64])
    table = v1.get_variable('embedding', initializer=first, trainable=False)
    ids = v1.placeholder(tf.int64, [None], name='ids')
    return {'mode': 'infer', 'predictions': {'vector': tf.nn.embedding_lookup(table, ids)}}


FirstValuesInEveryMode.more_bad = (_large_constant,)
FirstValuesInEveryMode.more_good = (_one_value_repeated,)

"""Predictions that are computed from variables that TRAIN never touches."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs


def _two_towers(features: Any, labels: Any, mode: str, params: Any) -> Any:
    wide = v1.get_variable('wide', [jobs.FEATURES, 20])
    first = tf.reduce_sum(tf.matmul(features['x'], wide), 1, keepdims=True)
    second = tf.matmul(features['x'], v1.get_variable(
        'second', [jobs.FEATURES, 1], trainable=params['trainable']))
    if params['both']:
        return jobs.spec(mode, first + second, labels)
    return jobs.spec(mode, first + second if mode == 'infer' else first, labels)


def good_fixed() -> Any:
    """A projection that is random on purpose, and says so."""
    return jobs.job(_two_towers, params={'both': False, 'trainable': False})


class PredictedFromUntrained(Rule):
    """PREDICT is computed from variables that no training step reads or updates.

    What it finds: trainable variables that the predictions of PREDICT depend on, and that a step of
    TRAIN neither reads nor writes, although it trains others. Variables that a checkpoint, a warm
    start or an init_fn may fill count as trained, and so do all where a hook could do the work.

    Why it matters: the served numbers are made with the initial values of that part, and no message
    ever tells.

    Bad:
        predictions = wide(features) + deep(features)
        loss = tf.reduce_mean(tf.square(wide(features) - labels))

    Good:
        loss = tf.reduce_mean(tf.square(predictions - labels))

    When to suppress: when this part is trained by another job.
    """

    code = 'ESX718'
    slug = 'predicted-from-untrained'
    severity = Severity.WARNING
    stage = 'modes'
    modes = ('infer',)
    mistakes = ('L6',)
    more_good = (good_fixed,)

    def check(self, facts: Any) -> Iterator[Finding]:
        train = facts.train
        if (train is None or not train.complete or not train.untrained or train.told('L6')
                or train.fills_itself or train.warm_start is not None
                or facts.checkpoint is not None):
            return
        for build in facts.of('infer'):
            names = [name for name in train.untrained if name in build.read]
            if names and build.complete and not build.fills_itself:
                yield self.finding(
                    build, 'predictions are computed from variables that no training step reads: '
                           f'{describe.names(map(repr, names), 1)}',
                    field='predictions', op=train.untrained[names[0]],
                    hint='compute the loss from the same outputs as the predictions, or make the '
                         'variables with trainable=False',
                    expected='trained variables', actual=describe.names(names))
                return

    @staticmethod
    def bad() -> Any:
        """The loss knows one tower, the predictions two."""
        return jobs.job(_two_towers, params={'both': False, 'trainable': True})

    @staticmethod
    def good() -> Any:
        """The loss is that of what is predicted."""
        return jobs.job(_two_towers, params={'both': True, 'trainable': True})

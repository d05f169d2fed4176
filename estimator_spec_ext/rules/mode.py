"""The mode, and what stock itself refuses."""

from __future__ import annotations

import difflib
from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import stock, tf, v1
from estimator_spec_ext.diagnostics import MODE_LABELS, Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.rule import ALL_MODES, Rule

_NEAR = {'predict': 'infer', 'prediction': 'infer', 'test': 'eval', 'evaluate': 'eval',
         'training': 'train', 'inference': 'infer'}
_KEYS = {'train': 'TRAIN', 'eval': 'EVAL', 'infer': 'PREDICT'}


class UnknownMode(Rule):
    """The mode is none of tf.estimator.ModeKeys.

    What it finds: a mode that is not 'train', 'eval' or 'infer', nor a private one of TensorFlow's.

    Why it matters: stock takes any string and then checks nothing: no loss, no train_op and no
    predictions are demanded. The job fails later, without naming the mode.

    Bad:
        tf.estimator.EstimatorSpec(mode='predict', predictions=p)

    Good:
        tf.estimator.EstimatorSpec(mode=tf.estimator.ModeKeys.PREDICT, predictions=p)

    When to suppress: when your own code, not Estimator, reads the spec and knows this mode.
    """

    code = 'ESX101'
    slug = 'mode-unknown'
    severity = Severity.ERROR
    stage = 'spec'

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        mode = facts.mode
        if isinstance(mode, str) and (mode in ALL_MODES or mode in stock.PRIVATE_MODES):
            return
        expected = "'train', 'eval' or 'infer'"
        hint = 'pass on the mode that model_fn gets, a value of tf.estimator.ModeKeys'
        if isinstance(mode, str):
            close = difflib.get_close_matches(mode.lower(), ALL_MODES, n=1)
            near = _NEAR.get(mode.lower()) or (close[0] if close else None)
            if near:
                hint = f'use tf.estimator.ModeKeys.{_KEYS[near]}'
        actual = describe.value(mode)
        yield self.finding(facts, f'mode is {actual}; expected {expected}', hint=hint, field='mode',
                           expected=expected, actual=actual)

    @staticmethod
    def bad() -> Any:
        """A mode that reads well and means nothing to Estimator."""
        return {'mode': 'predict', 'predictions': {'p': tf.constant([1.])}}

    @staticmethod
    def good() -> Any:
        """Estimator's own key."""
        x = v1.placeholder(tf.float32, [None], name='x')
        return {'mode': 'infer', 'predictions': {'p': x}}


class StockRefuses(Rule):
    """Stock EstimatorSpec refuses this field.

    What it finds: whatever TensorFlow's own validators refuse and no other rule has named.

    Why it matters: Estimator raises exactly this error when the spec is built, and stops at the
    first one. Here it is listed together with all the others.

    Bad:
        tf.estimator.EstimatorSpec(mode='train', loss=loss)

    Good:
        tf.estimator.EstimatorSpec(mode='train', loss=loss, train_op=train_op)

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX102'
    slug = 'stock-refuses'
    severity = Severity.ERROR
    stage = 'stock'

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        for field, error in facts.stock_refusals.items():
            made_of_predictions = field == 'export_outputs' and facts.export_outputs is None
            if field in facts.named or (made_of_predictions and 'predictions' in facts.named):
                continue
            facts.broken.add(field)
            yield self._refused(facts, field, error)

    def _refused(self, facts: SpecFacts, field: str, error: Exception) -> Finding:
        value = facts.fields[field]
        if value is None and field != 'export_outputs':
            label = MODE_LABELS.get(facts.mode_text or '', facts.mode_text)
            return self.finding(
                facts, f'{field} is missing; {label} needs it',
                hint=f'pass {field}=... when mode is {describe.mode_key(facts.mode)}', field=field,
                expected=f'a value for {field}', actual='None')
        return self.finding(
            facts, f'TensorFlow refuses {field}: {describe.error_text(error)}',
            hint=f'pass what tf.estimator.EstimatorSpec takes for {field}', field=field,
            op=value, actual=describe.value(value))

    @staticmethod
    def bad() -> Any:
        """No train_op in TRAIN."""
        return {'mode': 'train', 'loss': tf.constant(1., name='loss')}

    @staticmethod
    def good() -> Any:
        """All that TRAIN needs."""
        step = v1.train.get_or_create_global_step()
        weight = v1.get_variable('w', [])
        loss = tf.square(weight)
        train_op = v1.train.GradientDescentOptimizer(.1).minimize(loss, step)
        return {'mode': 'train', 'loss': loss, 'train_op': train_op}

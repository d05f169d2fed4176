"""Losses that are not finite, or will not be on some batch."""

from __future__ import annotations

import math
from typing import Any, Iterator, Optional

from estimator_spec_ext.compat import graphs, tf
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import INPUT_TYPES
from estimator_spec_ext.rule import EVAL, TRAIN, Rule
from estimator_spec_ext.rules import training

# What is not finite stays so through these.
_KEEPING = frozenset({
    'Add', 'AddV2', 'AddN', 'Sub', 'Neg', 'Mul', 'RealDiv', 'Div', 'Mean', 'Sum', 'Identity',
    'Cast', 'Reshape', 'Squeeze', 'Square', 'Abs', 'Sqrt', 'CheckNumerics', 'Log'})
# Between a number and the loss there may be these for it to be a term of the loss.
_MORE_TERMS = frozenset({'SquaredDifference', 'Pack', 'ExpandDims', 'Pow', 'IdentityN',
                         'GatherV2', 'GatherNd'})
_TERM = _KEEPING | _MORE_TERMS
# How a probability comes to its logarithm: picked, or summed with a one-hot label.
_PICKING = ('Identity', 'Reshape', 'Squeeze', 'GatherNd', 'GatherV2', 'StridedSlice', 'Cast',
            'Sum', 'Mul', 'Sub')
_PROBABILITY = ('Softmax', 'Sigmoid')
_MAX_WALK = 2000
_MAX_CONSTANT = 64


class LossNotFinite(Rule):
    """The loss is not finite, or will not be once the model is sure of itself.

    What it finds: a constant that is NaN, the logarithm of a constant 0, a division by a constant
    0, from which the loss is computed: an error. The logarithm of a softmax or sigmoid as it is: a
    warning, since a probability below the smallest float is 0. A division by a sum of weights from
    the input alone is noted: a batch without weight gives 0 / 0.

    Why it matters: TRAIN stops with "NaN loss during training", after hours perhaps; EVAL reports
    nan and goes on.

    Bad:
        loss = -tf.reduce_mean(tf.reduce_sum(onehot * tf.math.log(tf.nn.softmax(logits)), 1))

    Good:
        loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(onehot, logits))

    When to suppress: when the logits are bounded.
    """

    code = 'ESX213'
    slug = 'loss-not-finite'
    severity = Severity.ERROR
    modes = (TRAIN, EVAL)
    needs = ('loss',)
    mistakes = ('L3',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        loss = graphs.as_op(facts.loss)
        if loss is None or loss.graph is not facts.graph:
            return
        kept = list(_behind(loss, _KEEPING))
        bad = next(filter(None, map(_not_finite, kept)), None)
        if bad is not None:
            op, what = bad
            yield self.finding(facts, f'the loss is computed from {what}, which is not finite',
                               field='loss', op=op, hint='take this term out of the loss',
                               expected='a finite number', actual=what)
            return
        terms = list(_behind(loss, _TERM)) if any(op.type in _MORE_TERMS for op in kept) else kept
        for op in terms:
            if op.type == 'Log':
                source = _probability(op)
                if source is not None:
                    yield self._log(facts, op, source)
                    return
        yield from self._empty(facts, terms)

    def _log(self, facts: SpecFacts, op: Any, source: Any) -> Finding:
        name = source.type.lower()
        cure = ('tf.nn.softmax_cross_entropy_with_logits' if name == 'softmax'
                else 'tf.nn.sigmoid_cross_entropy_with_logits')
        return self.finding(
            facts, f'the loss takes the logarithm of a {name}, which can be 0', field='loss', op=op,
            hint=f'compute it from the logits: {cure}, or tf.math.log(p + 1e-7)',
            expected='a logarithm of what is never 0', actual=f'log({name}(x))',
            severity=Severity.WARNING)

    def _empty(self, facts: SpecFacts, terms: list[Any]) -> Iterator[Finding]:
        for op in terms:
            if op.type in ('RealDiv', 'Div'):
                divisor = training.source(op.inputs[1])
                if divisor.op.type == 'Sum' and _is_given(facts, divisor):
                    yield self.finding(
                        facts, 'the loss divides by a sum over the input, which is 0 for a batch '
                        'without weight', field='loss', op=op, severity=Severity.INFO,
                        hint='tf.math.divide_no_nan(total, weight)')
                    return

    @staticmethod
    def bad() -> Any:
        """A term that is a constant -inf."""
        _, loss = training.regression()
        return _fields(loss + .1 * tf.math.log(0., name='log_of_zero'))

    @staticmethod
    def good() -> Any:
        """Nothing but finite terms."""
        _, loss = training.regression()
        return _fields(loss + .1 * tf.math.log(2.))


def _behind(loss: Any, through: frozenset[str]) -> Iterator[Any]:
    """The ops from which the loss is computed, up to those that are not of the given types."""
    seen = {loss}
    stack = [loss]
    while stack and len(seen) < _MAX_WALK:
        op = stack.pop()
        yield op
        if op.type in through:
            for tensor in op.inputs:
                if tensor.op not in seen:
                    seen.add(tensor.op)
                    stack.append(tensor.op)


def _not_finite(op: Any) -> Optional[tuple[Any, str]]:
    """An op that gives NaN or an infinity from constants alone, and in words what it is."""
    if op.type == 'Const' and _has(op.outputs[0], math.isnan):
        return op, 'a constant NaN'
    if op.type == 'Log' and _has(op.inputs[0], lambda value: value <= 0):
        return op, 'the logarithm of a constant that is not positive'
    if op.type in ('RealDiv', 'Div') and _has(op.inputs[1], lambda value: value == 0):
        return op, 'a division by a constant 0'
    if op.type == 'Sqrt' and _has(op.inputs[0], lambda value: value < 0):
        return op, 'the root of a negative constant'
    return None


def _has(tensor: Any, test: Any) -> bool:
    """Whether a small constant holds a number that passes the test."""
    if tensor.op.type != 'Const' or not tensor.dtype.is_floating:
        return False
    if (tensor.shape.num_elements() or 0) > _MAX_CONSTANT:
        return False
    return any(test(float(value)) for value in tf.get_static_value(tensor).ravel())


def _probability(log: Any) -> Optional[Any]:
    """The softmax or sigmoid whose output, or 1 minus it, a logarithm takes without a guard."""
    stack, seen = [log.inputs[0].op], {log}
    while stack and len(seen) < 20:
        op = stack.pop()
        seen.add(op)
        if op.type in _PROBABILITY:
            return op
        if op.type in ('Mul', 'Sub'):
            # A one-hot label times the probability, or 1 - p.
            stack.extend(tensor.op for tensor in op.inputs if tensor.op.type in _PROBABILITY)
        elif op.type in _PICKING:
            stack.append(op.inputs[0].op)
    return None


def _is_given(facts: SpecFacts, tensor: Any) -> bool:
    """Whether a tensor is computed from the input and from no variable."""
    before = facts.index.data_ancestors([tensor])
    return (any(op.type in INPUT_TYPES for op in before)
            and not any(handle in before for info in facts.index.variables
                        for handle in info.handles))


# Examples.

def _fields(loss: Any) -> Any:
    return training.train_fields(loss, training.minimize(loss))


def _classes() -> tuple[Any, Any]:
    """Logits of shape (?, 3) and one-hot labels."""
    features, labels = training.rows()
    onehot = tf.one_hot(tf.cast(labels[:, 0], tf.int64), 3)
    return training.dense(features, 3, 'logits'), onehot


def _bad_softmax() -> Any:
    logits, onehot = _classes()
    logs = tf.math.log(tf.nn.softmax(logits), name='logs')
    return _fields(-tf.reduce_mean(tf.reduce_sum(onehot * logs, 1)))


def _bad_picked() -> Any:
    """The probability of the label is picked first."""
    logits, onehot = _classes()
    picked = tf.reduce_sum(onehot * tf.nn.softmax(logits), 1)
    return _fields(-tf.reduce_mean(tf.math.log(picked, name='logs')))


def _bad_discriminator() -> Any:
    """As in the first GANs."""
    features, labels = training.rows()
    real = tf.sigmoid(training.dense(features, 1, 'real'))
    return _fields(-tf.reduce_mean(tf.math.log(1. - real, name='logs') * labels))


def _bad_division() -> Any:
    _, loss = training.regression()
    return _fields(tf.divide(loss, 0., name='scaled'))


def _good_epsilon() -> Any:
    logits, onehot = _classes()
    logs = tf.math.log(tf.nn.softmax(logits) + 1e-7)
    return _fields(-tf.reduce_mean(tf.reduce_sum(onehot * logs, 1)))


def _good_clipped() -> Any:
    logits, onehot = _classes()
    logs = tf.math.log(tf.clip_by_value(tf.nn.softmax(logits), 1e-7, 1.))
    return _fields(-tf.reduce_mean(tf.reduce_sum(onehot * logs, 1)))


def _good_log_softmax() -> Any:
    logits, onehot = _classes()
    return _fields(-tf.reduce_mean(tf.reduce_sum(onehot * tf.nn.log_softmax(logits), 1)))


def _good_chosen() -> Any:
    """What is not finite is never chosen."""
    features, labels = training.rows()
    error = labels - training.dense(features, 1, 'head')
    known = tf.where(tf.math.is_finite(error), tf.square(error), 0. * error)
    return _fields(tf.reduce_mean(tf.where(labels > 0., known, tf.fill([2, 1], math.nan))))


def _good_masked() -> Any:
    """A mean over the rows with weight, in which every batch has some: no more than a note."""
    features, labels = training.rows()
    errors = tf.square(labels - training.dense(features, 1, 'head'))
    weights = tf.cast(labels > 0., tf.float32)
    return _fields(tf.reduce_sum(errors * weights) / tf.reduce_sum(weights))


def _good_bounded_afterwards() -> Any:
    logits, onehot = _classes()
    logs = tf.maximum(tf.math.log(tf.nn.softmax(logits)), -100.)
    return _fields(-tf.reduce_mean(tf.reduce_sum(onehot * logs, 1)))


def _good_minus_infinity() -> Any:
    """Padding with the logarithm of 0 before a softmax."""
    logits, onehot = _classes()
    logits += tf.math.log([1., 1., 0.])
    return _fields(tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(onehot, logits)))


LossNotFinite.more_bad = (_bad_softmax, _bad_picked, _bad_discriminator, _bad_division)
LossNotFinite.more_good = (_good_epsilon, _good_clipped, _good_log_softmax, _good_chosen,
                           _good_masked, _good_bounded_afterwards, _good_minus_infinity)

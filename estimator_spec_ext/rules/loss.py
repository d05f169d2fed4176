"""The loss: one floating number."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import distribution, estimator, graphs, stock, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.rule import EVAL, TRAIN, Rule


def _loss(facts: SpecFacts) -> Any:
    """The loss when it is one tensor of one replica."""
    loss = facts.loss
    if distribution.is_per_replica(loss) or not graphs.is_tensor(loss):
        return None
    return loss


def _train(loss: Any, weight: Any) -> dict[str, Any]:
    step = v1.train.get_or_create_global_step()
    train_op = v1.train.GradientDescentOptimizer(.1).minimize(
        tf.reduce_mean(loss), step, var_list=[weight])
    return {'mode': 'train', 'loss': loss, 'train_op': train_op}


def _squared_errors() -> tuple[Any, Any]:
    x = v1.placeholder(tf.float32, [None, 3], name='x')
    weight = v1.get_variable('w', [3, 1])
    return tf.square(tf.matmul(x, weight), name='squared_error'), weight


class LossNotScalar(Rule):
    """The loss is not one number.

    What it finds: a loss whose static shape is neither () nor (1,): an unreduced loss per example,
    also when the batch size is not known, and also (1, 1).

    Why it matters: stock refuses only a shape that is known to hold more than one number. A loss of
    shape (?,) is accepted, dies at the first step with a reshape error that does not say "loss",
    and passes in silence when the batch happens to hold one example.

    Bad:
        loss = tf.square(labels - predictions)

    Good:
        loss = tf.reduce_mean(tf.square(labels - predictions))

    When to suppress: when every batch holds exactly one example, by design.
    """

    code = 'ESX201'
    slug = 'loss-not-scalar'
    severity = Severity.ERROR
    stage = 'spec'
    breaks = False
    modes = (TRAIN, EVAL)
    mistakes = ('L1',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        loss = _loss(facts)
        if loss is None:
            return
        loss = stock.before_reshape(loss)
        if loss.shape.rank is None or loss.shape.as_list() in ([], [1]):
            return
        actual = describe.shape(loss)
        yield self.finding(
            facts, f'loss has shape {actual}; expected () or (1,)', field='loss', op=loss,
            hint='reduce it to one number, e.g. tf.reduce_mean(loss)',
            expected='() or (1,)', actual=actual)

    @staticmethod
    def bad() -> Any:
        """One error for each example."""
        return _train(*_squared_errors())

    @staticmethod
    def good() -> Any:
        """Their mean."""
        errors, weight = _squared_errors()
        return _train(tf.reduce_mean(errors), weight)


def _bad_behind_stock() -> Any:
    """Stock's own class hides the shape, behind a Reshape to ()."""
    fields = LossNotScalar.bad()
    fields['loss'] = tf.reshape(fields['loss'], [-1], name='flat')
    return estimator.EstimatorSpec(**fields)._asdict()


def _good_reshaped_by_its_author() -> Any:
    """One number of unknown static shape, and the author says so."""
    fields = LossNotScalar.good()
    loss = v1.placeholder_with_default(tf.reshape(fields['loss'], [1]), [None])
    return {**fields, 'loss': tf.reshape(loss, [])}


LossNotScalar.more_bad = (_bad_behind_stock,)
LossNotScalar.more_good = (_good_reshaped_by_its_author,)


class LossNotFloating(Rule):
    """The loss has no floating dtype.

    What it finds: a loss of an integer, bool, string or complex dtype. In EVAL an integer loss
    works, so it is a warning there.

    Why it matters: an integer has no gradient: optimizers fail, or train nothing, and Estimator's
    check for NaN fails on some dtypes.

    Bad:
        loss = tf.reduce_sum(tf.cast(wrong, tf.int32))

    Good:
        loss = tf.reduce_mean(tf.cast(wrong, tf.float32))

    When to suppress: when the loss is only reported and the training happens elsewhere.
    """

    code = 'ESX202'
    slug = 'loss-not-floating'
    severity = Severity.ERROR
    stage = 'spec'
    breaks = False
    modes = (TRAIN, EVAL)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        loss = _loss(facts)
        if loss is None:
            return
        dtype = loss.dtype.base_dtype
        if dtype.is_floating:
            return
        works = facts.is_eval and dtype.is_integer
        yield self.finding(
            facts, f'loss has dtype {dtype.name}; expected a floating dtype', field='loss', op=loss,
            hint='compute it in floating point, e.g. tf.cast(loss, tf.float32)',
            expected='a floating dtype', actual=dtype.name,
            severity=Severity.WARNING if works else None)

    @staticmethod
    def bad() -> Any:
        """A count of mistakes as loss."""
        errors, weight = _squared_errors()
        fields = _train(tf.reduce_mean(errors), weight)
        fields['loss'] = tf.reduce_sum(tf.cast(errors > 1., tf.int32), name='mistakes')
        return fields

    @staticmethod
    def good() -> Any:
        """A half-precision loss is floating."""
        errors, weight = _squared_errors()
        return _train(tf.reduce_mean(tf.cast(errors, tf.float16)), weight)


class LossUnknownShape(Rule):
    """The loss has no static shape, so only a run can tell whether it is one number.

    What it finds: a loss of unknown rank, e.g. from tf.py_function or a dynamic reshape. The strict
    spec then adds the one op that it ever adds: an assertion that names the loss and its shape.

    Why it matters: stock accepts it. If it turns out to be a vector, the first step fails inside
    the NaN check with "truth value of an array is ambiguous".

    Bad:
        loss = tf.compat.v1.py_func(f, [x], tf.float32)

    Good:
        loss = tf.compat.v1.py_func(f, [x], tf.float32)
        loss.set_shape([])

    When to suppress: when the shape cannot be told; the assertion still guards the run.
    """

    code = 'ESX203'
    slug = 'loss-unknown-shape'
    severity = Severity.WARNING
    stage = 'spec'
    modes = (TRAIN, EVAL)
    mistakes = ('L2',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        loss = _loss(facts)
        if loss is None or loss.shape.rank is not None:
            return
        yield self.finding(
            facts, 'loss has no static shape; expected ()', field='loss', op=loss,
            hint='say that it is one number: loss.set_shape([])',
            expected='()', actual='<unknown>')

    @staticmethod
    def bad() -> Any:
        """TensorFlow cannot know the shape of what Python returns."""
        errors, weight = _squared_errors()
        fields = _train(tf.reduce_mean(errors), weight)
        fields['loss'] = v1.placeholder_with_default(fields['loss'], None, name='reported')
        return fields

    @staticmethod
    def good() -> Any:
        """The shape is said."""
        fields = LossUnknownShape.bad()
        fields['loss'].set_shape([])
        return fields

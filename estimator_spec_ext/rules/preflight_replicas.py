"""Jobs under a distribution strategy."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs


def _scaled(prediction: Any, labels: Any, mode: str, scale: Any) -> Any:
    loss = scale(tf.reduce_mean(tf.square(prediction - labels)))
    train_op = v1.train.AdamOptimizer(.01).minimize(loss, v1.train.get_global_step())
    return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def _divides(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode != 'train':
        return jobs.spec(mode, prediction, labels)
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return _scaled(prediction, labels, mode, lambda loss: loss / replicas)


def _halves(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode != 'train':
        return jobs.spec(mode, prediction, labels)
    return _scaled(prediction, labels, mode, lambda loss: loss / 2.)


def _by_keras(features: Any, labels: Any, mode: str) -> Any:
    """What tf.keras wants: a sum over the batch of all replicas."""
    prediction = jobs.linear(features)
    if mode != 'train':
        return jobs.spec(mode, prediction, labels)
    weights = tf.add_n([tf.nn.l2_loss(each) for each in v1.trainable_variables()])
    return _scaled(prediction, labels, mode, lambda loss: tf.nn.compute_average_loss(
        tf.reduce_sum(tf.square(prediction - labels), 1), global_batch_size=8)
        + tf.nn.scale_regularization_loss(weights))


class _Net:
    """A model_fn that is an object."""

    def __call__(self, features: Any, labels: Any, mode: str) -> Any:
        prediction = jobs.linear(features)
        if mode != 'train':
            return jobs.spec(mode, prediction, labels)
        return _scaled(prediction, labels, mode, self.shared)

    def shared(self, loss: Any) -> Any:
        """The loss, divided."""
        share = 1. / tf.distribute.get_strategy().num_replicas_in_sync
        return share * loss


def bad_average() -> Any:
    """The loss of a guide to custom training loops."""
    return _mirrored(_by_keras)


def bad_method() -> Any:
    """The division is in a method."""
    return _mirrored(_Net().__call__)


def _faster(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode != 'train':
        return jobs.spec(mode, prediction, labels)
    rate = .01 * tf.distribute.get_strategy().num_replicas_in_sync
    loss = .5 * tf.reduce_mean(tf.square(prediction - labels))
    train_op = v1.train.AdamOptimizer(rate).minimize(loss, v1.train.get_global_step())
    return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def _given_divided(features: Any, labels: Any, mode: str) -> Any:
    """The loss that is reported is whole; the optimizer is given a part of it."""
    prediction = jobs.linear(features)
    if mode != 'train':
        return jobs.spec(mode, prediction, labels)
    loss = tf.reduce_mean(tf.square(prediction - labels))
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    train_op = v1.train.AdamOptimizer().minimize(loss / replicas, v1.train.get_global_step())
    return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def _gradients_divided(features: Any, labels: Any, mode: str) -> Any:
    """The gradients are divided by hand."""
    prediction = jobs.linear(features)
    if mode != 'train':
        return jobs.spec(mode, prediction, labels)
    loss = tf.reduce_mean(tf.square(prediction - labels))
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    optimizer = v1.train.GradientDescentOptimizer(.01)
    pairs = [(gradient / replicas, variable)
             for gradient, variable in optimizer.compute_gradients(loss)]
    train_op = optimizer.apply_gradients(pairs, v1.train.get_global_step())
    return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def _all_rows(features: Any, labels: Any, mode: str) -> Any:
    """A sum over the rows of a replica, divided by those of all replicas."""
    prediction = jobs.linear(features)
    if mode != 'train':
        return jobs.spec(mode, prediction, labels)
    rows = 4 * tf.distribute.get_strategy().num_replicas_in_sync
    errors = tf.square(tf.ensure_shape(prediction, [4, 1]) - labels)
    loss = tf.reduce_sum(errors) / rows
    train_op = v1.train.AdamOptimizer(.01).minimize(loss, v1.train.get_global_step())
    return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def bad_given() -> Any:
    """Divided where it is given to the optimizer."""
    return _mirrored(_given_divided)


def bad_gradients() -> Any:
    """The gradients are divided."""
    return _mirrored(_gradients_divided)


def bad_all_rows() -> Any:
    """The mean over the rows of all replicas."""
    return _mirrored(_all_rows)


def good_learning_rate() -> Any:
    """Half of the squared error, and a learning rate for two replicas."""
    return _mirrored(_faster)


def _mirrored(function: Any) -> Any:
    # The default graph of the example: there a strategy looks for devices only in a session.
    strategy = tf.distribute.MirroredStrategy(['/cpu:0', '/cpu:1'])
    # As many CPUs for the session as the strategy has replicas.
    session = v1.ConfigProto(allow_soft_placement=True, device_count={'CPU': 2})
    return jobs.job(function, config={'train_distribute': strategy, 'session_config': session})


def good_half() -> Any:
    """Half of the squared error, on two replicas."""
    return _mirrored(_halves)


def good_one() -> Any:
    """One replica: a division by one."""
    return jobs.job(_divides)


class LossDividedTwice(Rule):
    """The loss is divided by the number of replicas, and the optimizer does it again.

    What it finds: under a strategy of several replicas, a loss that model_fn divides by
    `num_replicas_in_sync`, or takes from tf.nn.compute_average_loss or
    tf.nn.scale_regularization_loss, with a tf.compat.v1.train optimizer; a sum over the rows of a
    replica that is divided by the rows of all; gradients that are divided by the number.

    Why it matters: in an Estimator these optimizers divide the loss by the number of replicas
    themselves. The gradients are too small by that factor; nothing is said.

    Bad:
        loss = tf.reduce_mean(errors) / strategy.num_replicas_in_sync

    Good:
        loss = tf.reduce_mean(errors)

    When to suppress: when the learning rate makes up for it.
    """

    code = 'ESX820'
    slug = 'loss-divided-by-replicas'
    severity = Severity.WARNING
    stage = 'modes'
    mistakes = ('D11',)
    more_bad = (bad_average, bad_method, bad_given, bad_gradients, bad_all_rows)
    more_good = (good_half, good_one, good_learning_rate)

    def check(self, facts: Any) -> Iterator[Finding]:
        for build in facts.of('train'):
            if build.divided_loss is not None:
                of_gradients = any(graphs.differentiated_op(tensor.op) is not None
                                   for tensor in build.divided_loss.inputs)
                what = 'a gradient' if of_gradients else 'the loss'
                yield self.finding(
                    build, f'{what} is divided by the number of replicas, and the optimizer '
                           'divides the loss again', hint='leave the mean of the replica as it is',
                    field='loss', op=build.divided_loss, expected='the mean of one replica')

    @staticmethod
    def bad() -> Any:
        """Divided by hand, on two replicas."""
        return _mirrored(_divides)

    @staticmethod
    def good() -> Any:
        """Not divided."""
        return _mirrored(jobs.model_fn)

"""Collections belong to the graph, a model_fn runs once a replica."""

from __future__ import annotations

import re
from typing import Any, Callable, Iterator

from estimator_spec_ext import engine
from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Report, Severity, merge_reports
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import INPUT_TYPES
from estimator_spec_ext.rule import EVAL, TRAIN, Rule
from estimator_spec_ext.rules import training

_MAX_WALK = 2000
_REPLICA = re.compile(r'(?:^|/)replica_(\d+)(?:_\d+)?/')


class LossOfOtherReplicas(Rule):
    """The loss of a replica holds the losses of other replicas.

    What it finds: under a strategy with several replicas in one graph, a loss that is added up from
    a collection, e.g. by get_total_loss, in which the replicas that were built before have left
    theirs.

    Why it matters: the later replicas report the losses of the earlier ones on top of their own, so
    the loss is counted several times, and each replica waits for the others' forward pass.

    Bad:
        tf.compat.v1.losses.mean_squared_error(labels, predictions)
        loss = tf.compat.v1.losses.get_total_loss()

    Good:
        loss = tf.compat.v1.losses.mean_squared_error(labels, predictions)
        loss += tf.compat.v1.losses.get_regularization_loss()

    When to suppress: when the sum over the replicas is meant.
    """

    code = 'ESX212'
    slug = 'loss-of-other-replicas'
    severity = Severity.WARNING
    modes = (TRAIN, EVAL)
    needs = ('loss',)
    mistakes = ('D10',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        replica, count = facts.replica
        loss = graphs.as_op(facts.loss)
        # The first replica is built when the collection is empty.
        if (count < 2 or replica == 0 or loss is None or loss.graph is not facts.graph
                or _replica_of(loss) != replica):
            return
        taken = _taken(facts, loss, replica)
        if taken:
            yield self.finding(
                facts, f'the loss of replica {replica} holds {len(taken)} of other replicas: '
                f"'{taken[0].name}'", field='loss', op=loss,
                hint='add what the loss functions return, not the collection, or '
                     'get_losses(scope=tf.compat.v1.get_default_graph().get_name_scope())',
                expected='losses of this replica', actual=f"'{taken[0].name}'")

    @staticmethod
    def bad() -> Any:
        """The collection in two replicas."""
        return _in_replicas(_from_collection)

    @staticmethod
    def good() -> Any:
        """What the loss function returns."""
        return _in_replicas(_from_function)


def _replica_of(op: Any) -> int:
    """The replica whose scope an op lies in; the first one has no scope of its own."""
    found = _REPLICA.search(op.name)
    return int(found.group(1)) if found else 0


def _taken(facts: SpecFacts, loss: Any, replica: int) -> list[Any]:
    """The ops of other replicas that give a number computed from the input to this loss."""
    seen, stack, found = {loss}, [loss], []
    while stack and len(seen) < _MAX_WALK:
        for tensor in stack.pop().inputs:
            op = tensor.op
            if op in seen:
                continue
            seen.add(op)
            if _replica_of(op) == replica:
                stack.append(op)
            # What is summed up over all replicas on purpose lies on this one's device.
            elif (tensor.dtype.is_floating and tensor.shape.rank == 0 and op.inputs
                  and op.device != loss.device):
                before = facts.index.data_ancestors([op])
                if any(source.type in INPUT_TYPES for source in before):
                    found.append(op)
    return found


# Examples.

def _from_collection() -> Any:
    features, labels = training.rows()
    v1.losses.mean_squared_error(labels, training.dense(features, 1, 'head'))
    return v1.losses.get_total_loss(name='total')


def _from_function() -> Any:
    features, labels = training.rows()
    loss = v1.losses.mean_squared_error(labels, training.dense(features, 1, 'head'))
    return loss + v1.losses.get_regularization_loss()


def _from_scope() -> Any:
    features, labels = training.rows()
    v1.losses.mean_squared_error(labels, training.dense(features, 1, 'head'))
    scope = v1.get_default_graph().get_name_scope()
    return tf.add_n(v1.losses.get_losses(scope=scope))


def _in_replicas(make_loss: Callable[[], Any]) -> Report:
    """The reports of two replicas that build the same EVAL spec in one graph."""
    reports = []

    def model_fn() -> Any:
        fields = {'loss': make_loss()}
        reports.append(engine.check(SpecFacts('eval', fields)))
        return fields['loss']

    strategy = tf.distribute.MirroredStrategy(['/cpu:0', '/cpu:1'])
    with strategy.scope():
        v1.train.get_or_create_global_step()
        strategy.extended.call_for_each_replica(model_fn)
    return merge_reports(reports, depth='graph')


def _from_own_collection() -> Any:
    features, labels = training.rows()
    predictions = training.dense(features, 1, 'head')
    errors = tf.reduce_mean(tf.math.squared_difference(labels, predictions), name='errors')
    v1.add_to_collection('errors', errors)
    return tf.add_n(v1.get_collection('errors'), name='total')


def _from_all_replicas() -> Any:
    def add(strategy: Any, losses: Any) -> Any:
        return strategy.extended.reduce_to(tf.distribute.ReduceOp.SUM, losses, losses)

    return tf.distribute.get_replica_context().merge_call(add, (_from_function(),)) / 2.


def _bad_own_collection() -> Any:
    """A collection of another name."""
    return _in_replicas(_from_own_collection)


def _good_sum_over_replicas() -> Any:
    """The sum over the replicas is meant."""
    return _in_replicas(_from_all_replicas)


def _good_scope() -> Any:
    """The collection, limited to the scope of the replica."""
    return _in_replicas(_from_scope)


LossOfOtherReplicas.more_bad = (_bad_own_collection,)
LossOfOtherReplicas.more_good = (_good_scope, _good_sum_over_replicas)

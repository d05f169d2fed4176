"""Synchronous training with SyncReplicasOptimizer and without its hook."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext.compat import distribution, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import JobContext, SpecFacts
from estimator_spec_ext.rule import TRAIN, Rule
from estimator_spec_ext.rules import training

_DEQUEUE = ('QueueDequeue', 'QueueDequeueV2')
_ENQUEUE = ('QueueEnqueueMany', 'QueueEnqueueManyV2')
_HINT = ('pass training_hooks=[optimizer.make_session_run_hook(config.is_chief)], '
         'also on workers that are not the chief')


class SyncReplicasHookMissing(Rule):
    """SyncReplicasOptimizer is used without its hook on every worker.

    What it finds: a train_op that waits for a token of SyncReplicasOptimizer, while its session-run
    hook is not among the hooks, or is among training_chief_hooks alone, or was made for another
    role. An error where the whole job is known, as in preflight: a hook may also come from
    TrainSpec.

    Why it matters: the chief's hook hands out the first tokens and starts the thread that applies
    the gradients. Without it each worker waits for ever at the first step. Without it on the other
    workers they begin with a stale step and their gradients are dropped.

    Bad:
        optimizer = tf.compat.v1.train.SyncReplicasOptimizer(optimizer, 2)
        tf.estimator.EstimatorSpec(mode, loss=loss, train_op=optimizer.minimize(loss, step))

    Good:
        hook = optimizer.make_session_run_hook(config.is_chief)
        tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, training_hooks=[hook])

    When to suppress: when the hook is passed to Estimator.train or TrainSpec.
    """

    code = 'ESX309'
    slug = 'sync-replicas-hook-missing'
    severity = Severity.ERROR
    modes = (TRAIN,)
    needs = ('train_op', 'loss', 'training_hooks', 'training_chief_hooks')
    mistakes = ('T10',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if not facts.shows_training:
            return
        for op in facts.index.of_types(_DEQUEUE):
            if op in facts.step_ops:
                queue = facts.index.handle(op.inputs[0])
                if distribution.is_sync_queue(queue):
                    yield from self._judge(facts, op, queue)

    def _judge(self, facts: SpecFacts, op: Any, queue: Any) -> Iterator[Finding]:
        uses = [(hook, field) for hook, field in _hooks(facts)
                if distribution.sync_queue(hook) is queue]
        workers = facts.context.num_workers
        if not uses:
            if not _is_filled(facts, queue) and not _is_held(facts, queue):
                yield self._finding(
                    facts, op, 'train_op waits for tokens of SyncReplicasOptimizer; no hook of it '
                    'is in training_hooks', certain=not facts.opaque_hooks)
        elif workers == 1 and not any(distribution.is_chief_hook(hook) for hook, _ in uses):
            yield self._finding(
                facts, op, 'the only worker has the hook of SyncReplicasOptimizer with '
                'is_chief=False')
        elif facts.context.is_chief and not any(
                distribution.is_chief_hook(hook) for hook, _ in uses):
            yield self._finding(
                facts, op, 'the chief has the hook of SyncReplicasOptimizer with is_chief=False')
        elif _is_other_worker(facts) and any(distribution.is_chief_hook(hook) for hook, _ in uses):
            yield self._finding(
                facts, op, f'{facts.role or "this worker"} has the hook of SyncReplicasOptimizer '
                'with is_chief=True', certain=False)
        elif workers != 1 and all(field == 'training_chief_hooks' for _, field in uses):
            yield self._finding(
                facts, op, 'the hook of SyncReplicasOptimizer is in training_chief_hooks; expected '
                'in training_hooks', certain=False)

    def _finding(self, facts: SpecFacts, op: Any, message: str, *,
                 certain: bool = True) -> Finding:
        certain = certain and facts.context.graph_is_complete
        return self.finding(facts, message, field='training_hooks', op=op, hint=_HINT,
                            expected='in training_hooks',
                            severity=None if certain else Severity.WARNING)

    @staticmethod
    def bad() -> Any:
        """The optimizer without its hook, in a job that is wholly known."""
        return {**_fields(), 'context': JobContext(graph_is_complete=True)}

    @staticmethod
    def good() -> Any:
        """The hook on every worker."""
        return _fields(training_hooks=True)


def _hooks(facts: SpecFacts) -> list[tuple[Any, str]]:
    """The hooks of SyncReplicasOptimizer, each with its field, also those that a hook wraps."""
    found = [(use.hook, use.base_field) for use in facts.active_hook_uses]
    found += [(hook, '') for hook in facts.context.extra_hooks]
    for hook, field in list(found):
        found += [(value, field) for value in _held_by(hook)]
    return [(hook, field) for hook, field in found
            if isinstance(hook, distribution.SyncReplicasHook)]


def _is_filled(facts: SpecFacts, queue: Any) -> bool:
    """Whether a queue runner, or a hook that holds the hook or its ops, hands out the tokens."""
    fillers = [op for op in facts.index.of_types(_ENQUEUE)
               if facts.index.handle(op.inputs[0]) is queue]
    runners = facts.graph.get_collection(v1.GraphKeys.QUEUE_RUNNERS)
    run = [op for runner in runners for op in getattr(runner, 'enqueue_ops', None) or ()]
    running = facts.index.ancestors((*run, *facts.hook_ops))
    return any(op in running for op in fillers)


def _held_by(hook: Any) -> Iterator[Any]:
    """The values of a hook's attributes, lists taken apart."""
    for value in list(getattr(hook, '__dict__', {}).values()):
        yield from value if isinstance(value, (list, tuple)) else (value,)


def _is_held(facts: SpecFacts, queue: Any) -> bool:
    """Whether a hook of an unknown class holds the optimizer, and so may hand out the tokens."""
    return any(isinstance(value, v1.train.SyncReplicasOptimizer)
               and distribution.sync_queue(value) is queue
               for hook in facts.opaque_hooks for value in _held_by(hook))


def _is_other_worker(facts: SpecFacts) -> bool:
    if facts.context.is_chief is not None:
        return not facts.context.is_chief
    job, _, number = (facts.role or '').partition('/')
    return job == 'worker' and number not in ('', '0')


# Examples.

def _fields(training_hooks: bool = False, chief_hooks: bool = False,
            is_chief: bool = True) -> dict[str, Any]:
    _, loss = training.regression()
    optimizer = v1.train.SyncReplicasOptimizer(
        v1.train.GradientDescentOptimizer(.1), replicas_to_aggregate=2, total_num_replicas=2)
    train_op = tf.group(optimizer.minimize(loss, v1.train.get_global_step()), name='train')
    optimizer.ready_for_local_init_op.mark_used()
    hooks = [optimizer.make_session_run_hook(is_chief)]
    return training.train_fields(
        loss, train_op, training_hooks=hooks if training_hooks else [],
        training_chief_hooks=hooks if chief_hooks else [])


def _bad_spec_alone() -> Any:
    """Where the job is not known the hook may be in TrainSpec: a warning."""
    return _fields()


def _bad_chief_only() -> Any:
    return _fields(chief_hooks=True)


def _bad_never_chief() -> Any:
    """One worker, and a hook made for another."""
    return {**_fields(training_hooks=True, is_chief=False), 'context': JobContext(num_workers=1)}


def _bad_no_chief() -> Any:
    """No worker calls itself the chief."""
    return {**_fields(training_hooks=True, is_chief=False),
            'context': JobContext(num_workers=2, is_chief=True, graph_is_complete=True)}


def _bad_first_worker() -> Any:
    """Beside a chief the first worker is not one."""
    return {**_fields(training_hooks=True), 'context': JobContext(num_workers=2, is_chief=False)}


def _bad_two_chiefs() -> Any:
    """Every worker calls itself the chief."""
    return {**_fields(training_hooks=True), 'context': JobContext(num_workers=2, role='worker/1')}


def _bad_wrapped() -> Any:
    """A hook of another class may hold it: a warning."""
    return {**SyncReplicasHookMissing.bad(), 'training_hooks': [training.UnknownHook()]}


def _good_single_worker() -> Any:
    """The only worker is the chief."""
    return {**_fields(chief_hooks=True), 'context': JobContext(num_workers=1)}


def _good_from_train_spec() -> Any:
    """The hook comes from TrainSpec."""
    fields = _fields(training_hooks=True)
    hooks = tuple(fields.pop('training_hooks'))
    return {**fields, 'context': JobContext(graph_is_complete=True, extra_hooks=hooks)}


def _good_worker() -> Any:
    """A worker that is not the chief."""
    return {**_fields(training_hooks=True, is_chief=False),
            'context': JobContext(num_workers=2, role='worker/1')}


def _good_wrapped() -> Any:
    """A hook of another class runs it."""
    fields = _fields(training_hooks=True)
    return {**fields, 'training_hooks': [training.UnknownHook(*fields['training_hooks'])]}


def _good_own_hook() -> Any:
    """A hook of another class holds the optimizer, and does by hand what its hook does."""
    _, loss = training.regression()
    optimizer = v1.train.SyncReplicasOptimizer(v1.train.GradientDescentOptimizer(.1), 2)
    train_op = optimizer.minimize(loss, v1.train.get_global_step())
    optimizer.ready_for_local_init_op.mark_used()
    return training.train_fields(loss, train_op, training_hooks=[training.UnknownHook(optimizer)])


def _good_queue_runner() -> Any:
    """As before there were hooks: the chief's queue runner is in the collection."""
    _, loss = training.regression()
    optimizer = v1.train.SyncReplicasOptimizer(v1.train.GradientDescentOptimizer(.1), 1)
    train_op = optimizer.minimize(loss, v1.train.get_global_step())
    optimizer.ready_for_local_init_op.mark_used()
    v1.train.add_queue_runner(optimizer.get_chief_queue_runner())
    scaffold = v1.train.Scaffold(local_init_op=tf.group(
        v1.local_variables_initializer(), optimizer.chief_init_op,
        optimizer.get_init_tokens_op()))
    return training.train_fields(loss, train_op, scaffold=scaffold)


SyncReplicasHookMissing.more_bad = (
    _bad_spec_alone, _bad_chief_only, _bad_never_chief, _bad_no_chief, _bad_first_worker,
    _bad_two_chiefs, _bad_wrapped)
SyncReplicasHookMissing.more_good = (
    _good_single_worker, _good_from_train_spec, _good_worker, _good_wrapped,
    _good_own_hook, _good_queue_runner)

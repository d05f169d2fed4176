"""What hooks ask of a graph when they run: shown by a rehearsal alone."""

from __future__ import annotations

import functools
import re
from typing import Any, Iterator

from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules.preflight_run import DOING, crashed, run_job


class _Fetching(tf_estimator.SessionRunHook):
    """What an author may write: begin() finds something, each step fetches it."""

    def __init__(self, find: Any, *, once: bool = False) -> None:
        self._find = find
        self._once = once
        self._found: Any = None

    def begin(self) -> None:
        if not self._once or self._found is None:
            self._found = self._find(v1.get_default_graph())

    def before_run(self, run_context: Any) -> Any:
        return v1.train.SessionRunArgs({'it': self._found})


class _ByGraph(tf_estimator.SessionRunHook):
    """Looks up what it wants in the graph of the session at hand."""

    def before_run(self, run_context: Any) -> Any:
        graph = run_context.session.graph
        return v1.train.SessionRunArgs(graph.get_tensor_by_name('w/Read/ReadVariableOp:0'))


def _who(crash: Any) -> str:
    hook, method = crash.details.get('hook'), crash.details.get('method')
    return f'{hook}.{method}' if hook else 'a hook'


def _bad_fetched_name() -> Any:
    """The name is resolved at the first step."""
    hook = _Fetching(lambda graph: 'predictions:0')
    return run_job(evaluate=None, train_hooks=[hook])


class HookNameMissing(Rule):
    """A hook looks for a tensor or op by a name that the graph does not have, when it runs.

    What it finds: `get_tensor_by_name` in `begin`, or a name in `SessionRunArgs`, of a hook of
    one's own, that fails in a rehearsal. Names in TensorFlow's own hooks are told before.

    Why it matters: the job fails when the session of that mode starts; for EVAL that is at the
    first checkpoint.

    Bad:
        self._loss = graph.get_tensor_by_name('loss:0')       # it is 'head/loss:0'

    Good:
        hook = MyHook(loss)                                   # made in model_fn

    When to suppress: never; the job would fail.
    """

    code = 'ESX653'
    slug = 'hook-name-missing-when-run'
    severity = Severity.ERROR
    stage = 'run'
    mistakes = ('H1',)
    more_bad = (_bad_fetched_name,)

    def check(self, facts: Any) -> Iterator[Finding]:
        for rehearsed, crash in crashed(facts, 'unknown name'):
            named = re.search(r"The name '([^']*)'", crash.text)
            name = repr(named.group(1)) if named else 'something'
            yield self.finding(
                rehearsed, f'{_who(crash)} names {name}, which {DOING[rehearsed.name]} does not '
                           'have', op=crash.place, actual=crash.text,
                hint='hand the tensor to the hook, or name it with tf.identity(tensor, name)',
                expected='a name in this graph')

    @staticmethod
    def bad() -> Any:
        """The op lies in a scope."""
        hook = _Fetching(lambda graph: graph.get_tensor_by_name('loss/value:0'))
        return run_job(evaluate=None, train_hooks=[hook])

    @staticmethod
    def good() -> Any:
        """A name that is there."""
        hook = _Fetching(lambda graph: graph.get_tensor_by_name('global_step:0').name)
        return run_job(evaluate=None, train_hooks=[hook])


@functools.cache
def _of_another_graph() -> Any:
    with tf.Graph().as_default():
        return tf.constant(1., name='outside')


class HookForeignWhenRun(Rule):
    """A hook asks a session for a tensor or op of another graph.

    What it finds: "is not an element of this graph" in a rehearsal, where the attributes of the
    hook did not show it.

    Why it matters: the job fails at the first step of that mode, or in `end`, when all is done.

    Bad:
        CACHE.setdefault('mean', tf.reduce_mean(logits))      # of the first call of model_fn

    Good:
        mean = tf.reduce_mean(logits)                         # of this call

    When to suppress: never; the job would fail.
    """

    code = 'ESX654'
    slug = 'hook-foreign-graph-when-run'
    severity = Severity.ERROR
    stage = 'run'
    mistakes = ('H2',)

    def check(self, facts: Any) -> Iterator[Finding]:
        for rehearsed, crash in crashed(facts, 'foreign'):
            # Another train() in the same process; most jobs call it once.
            resumed = rehearsed.name == 'resume' and not facts.job.same_hooks
            yield self.finding(
                rehearsed, f'{_who(crash)} uses a tensor or op of another graph in '
                           f'{DOING[rehearsed.name]}', op=crash.place, actual=crash.text,
                hint='find or make what the hook needs anew in its begin(), for each graph',
                expected='only this graph', severity=Severity.INFO if resumed else None)

    @staticmethod
    def bad() -> Any:
        """What begin() finds is not of this graph."""
        hook = _Fetching(lambda graph: _of_another_graph())
        return run_job(evaluate=None, train_hooks=[hook])

    @staticmethod
    def good() -> Any:
        """It is."""
        return run_job(evaluate=None, train_hooks=[_Fetching(lambda graph: tf.constant(1.))])


class HookFetchesNone(Rule):
    """A hook asks a session for None.

    What it finds: "`fetch` = None has invalid type" in a rehearsal; mostly
    `tf.compat.v1.summary.merge_all()`, which is None in a mode without summaries.

    Why it matters: the job fails at the first step of that mode.

    Bad:
        self._summaries = tf.compat.v1.summary.merge_all()

    Good:
        self._summaries = tf.compat.v1.summary.merge_all()
        ...
        return None if self._summaries is None else SessionRunArgs(self._summaries)

    When to suppress: never; the job would fail.
    """

    code = 'ESX655'
    slug = 'hook-fetches-none'
    severity = Severity.ERROR
    stage = 'run'
    mistakes = ('H4',)

    def check(self, facts: Any) -> Iterator[Finding]:
        for rehearsed, crash in crashed(facts, 'none'):
            yield self.finding(
                rehearsed, f'{_who(crash)} fetches None in {DOING[rehearsed.name]}', op=crash.place,
                hint='return None from before_run where summary.merge_all() is None',
                expected='a tensor or op', actual='None')

    @staticmethod
    def bad() -> Any:
        """No summaries to merge."""
        hook = _Fetching(lambda graph: v1.summary.merge_all(key='mine'))
        return run_job(evaluate=None, train_hooks=[hook])

    @staticmethod
    def good() -> Any:
        """One of its own."""
        hook = _Fetching(lambda graph: v1.summary.merge([v1.summary.scalar('one', 1.)]))
        return run_job(evaluate=None, train_hooks=[hook])


def _in_both(hook: Any) -> Any:
    return run_job(train_hooks=[hook], eval_options={'hooks': [hook]})


def _good_stateless() -> Any:
    """A hook that keeps nothing of a graph may take part in both."""
    return _in_both(_ByGraph())


def _bad_stock() -> Any:
    """A hook of TensorFlow's own."""
    return _in_both(v1.train.LoggingTensorHook(['global_step'], every_n_iter=10))


def _bad_once() -> Any:
    """begin() finds its tensor once, for all graphs."""
    return _in_both(_Fetching(lambda graph: tf.constant(1.), once=True))


class HookSharedByModes(Rule):
    """One hook object takes part in TRAIN and in EVAL, and does not bear it.

    What it finds: a hook among those of TRAIN and of EVAL whose rehearsal of both together fails,
    where each mode alone works.

    Why it matters: train_and_evaluate runs EVAL inside of the session of TRAIN. begin() is called
    with the graph of EVAL, and when TRAIN goes on the hook holds the tensors of that graph. The
    job fails after its first evaluation. Hooks of TensorFlow do so too.

    Bad:
        hook = tf.estimator.LoggingTensorHook(['loss'], every_n_iter=10)
        TrainSpec(..., hooks=[hook]), EvalSpec(..., hooks=[hook])

    Good:
        TrainSpec(..., hooks=[make_hook()]), EvalSpec(..., hooks=[make_hook()])

    When to suppress: never; the job would fail.
    """

    code = 'ESX652'
    slug = 'hook-shared-by-modes'
    severity = Severity.ERROR
    stage = 'run'
    mistakes = ('H2',)
    more_bad = (_bad_once, _bad_stock)
    more_good = (_good_stateless,)

    def check(self, facts: Any) -> Iterator[Finding]:
        for rehearsed in facts.get('both'):
            crash = rehearsed.crash
            if crash is None or crash.kind == 'hang':
                continue
            named = crash.details.get('hook')
            name = named if named in rehearsed.shared else rehearsed.shared[0]
            how = 'inside' if facts.job.nested else 'after'
            yield self.finding(
                rehearsed, f'one {name} object is in TRAIN and in EVAL, and fails when EVAL runs '
                           f'{how} TRAIN',
                hint=f'make one {name} for TRAIN and another for EVAL', op=crash.place,
                expected='a hook object for each mode', actual=crash.text)

    @staticmethod
    def bad() -> Any:
        """TRAIN goes on with what begin() found in the graph of EVAL."""
        return _in_both(_Fetching(lambda graph: tf.constant(1.)))

    @staticmethod
    def good() -> Any:
        """Two objects."""
        def make() -> Any:
            return _Fetching(lambda graph: tf.constant(1.))
        return run_job(train_hooks=[make()], eval_options={'hooks': [make()]})

"""What the running hooks hold: tensors of another graph, and names that the graph does not have."""

from __future__ import annotations

import difflib
from typing import Any, Iterator, Optional

from estimator_spec_ext import describe, hook_methods
from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.hooks import HookElement, class_name, hook_graph_elements
from estimator_spec_ext.rule import HOOKS, Rule

_KINDS = {'tensor': 'a tensor', 'op': 'an op', 'variable': 'a variable'}


def held(facts: SpecFacts) -> list[tuple[str, Any, tuple[HookElement, ...]]]:
    """Place, hook and elements of the hooks that run in this mode; 'hooks[0]' is not the spec's."""
    found = [(use.field, use.hook, use.elements) for use in facts.active_hook_uses]
    return found + [(f'hooks[{position}]', hook, hook_graph_elements(hook))
                    for position, hook in enumerate(facts.context.extra_hooks)]


def _train() -> dict[str, Any]:
    weight = v1.get_variable('w', [])
    loss = tf.square(weight, name='loss')
    train_op = v1.train.GradientDescentOptimizer(.1).minimize(
        loss, v1.train.get_or_create_global_step())
    return {'mode': 'train', 'loss': loss, 'train_op': train_op}


class _Fetches(v1.train.SessionRunHook):
    """What an author may write: a hook that fetches what it was given."""

    def __init__(self, fetches: Any) -> None:
        self._fetches = fetches

    def before_run(self, run_context: Any) -> Any:
        """Asks for the fetches."""
        return v1.train.SessionRunArgs(self._fetches)


class HookForeignGraph(Rule):
    """A hook holds a tensor, op or variable of another graph.

    What it finds: a hook of this mode that was made with the tensors of an earlier call of
    model_fn, or outside of it. What a hook assigns anew in `begin` does not count, nor does a hook
    that holds the other graph itself, since it may run a session of its own there.

    Why it matters: Estimator builds a new graph for each call of train, evaluate and predict. The
    first run of the second call fails with "is not an element of this graph"; some hooks fail only
    in `end`, when training is over.

    Bad:
        HOOK = tf.compat.v1.train.LoggingTensorHook({'loss': loss}, every_n_iter=10)   # kept

    Good:
        hook = tf.compat.v1.train.LoggingTensorHook({'loss': loss}, every_n_iter=10)   # each call

    When to suppress: when the hook does not use what it holds in this session.
    """

    code = 'ESX604'
    slug = 'hook-foreign-graph'
    severity = Severity.ERROR
    stage = 'spec'
    mistakes = ('H2',)
    about = HOOKS

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if facts.graph is None:
            return
        for place, hook, elements in held(facts):
            foreign = [element for element in elements if self._counts(facts, element, elements)]
            if not foreign:
                continue
            first = foreign[0]
            rest = f' and {len(foreign) - 1} more' if len(foreign) > 1 else ''
            what = ('an eager tensor' if _is_eager(first)
                    else f'{_KINDS[first.kind]} of another graph')
            yield self.finding(
                facts, f'{place} ({class_name(hook)}) holds {what} in {first.path}{rest}',
                field=place, op=first.value, actual=what, expected='only this graph',
                hint='make the hook inside model_fn, from the tensors of this call; or find them '
                     'in its begin()',
                severity=None if first.known else Severity.WARNING)

    @staticmethod
    def _counts(facts: SpecFacts, element: HookElement, elements: tuple[HookElement, ...]) -> bool:
        if element.kind not in ('tensor', 'op', 'variable'):
            return False
        if _is_eager(element):
            return element.known  # others may hold a value to feed
        if not facts.is_foreign(element.value):
            return False
        graph = graphs.graph_of(element.value)
        if graph is None or graphs.is_function_graph(graph):
            return False
        if any(other.kind == 'graph' and other.value is graph for other in elements):
            return False
        return element.known or not hook_methods.is_refreshed(element)

    @staticmethod
    def bad() -> Any:
        """A hook of the call before."""
        with tf.Graph().as_default():
            hook = v1.train.LoggingTensorHook({'loss': tf.constant(1., name='loss')}, 10)
        return {**_train(), 'training_hooks': [hook]}

    @staticmethod
    def good() -> Any:
        """A hook of this call."""
        fields = _train()
        hook = v1.train.LoggingTensorHook({'loss': fields['loss']}, 10)
        return {**fields, 'training_hooks': [hook, _Fetches([fields['loss']])]}


def _is_eager(element: HookElement) -> bool:
    value = element.value
    return (element.kind == 'tensor' and isinstance(value, tf.Tensor)
            and graphs.graph_of(value) is None)


def _own_hook_of_another_graph() -> Any:
    """A hook of the author's own, kept between two calls."""
    with tf.Graph().as_default():
        hook = _Fetches({'mean': [tf.constant(1., name='mean')]})
    return {**_train(), 'training_chief_hooks': [hook]}


def _another_graph_for_another_mode() -> Any:
    """A field that TRAIN ignores."""
    with tf.Graph().as_default():
        hook = v1.train.LoggingTensorHook({'loss': tf.constant(1., name='loss')}, 10)
    return {**_train(), 'evaluation_hooks': [hook]}


class _OwnSession(v1.train.SessionRunHook):
    """Runs a graph of its own beside the training."""

    def __init__(self) -> None:
        self._graph = tf.Graph()
        with self._graph.as_default():
            self._score = tf.constant(1., name='score')


def _hook_with_a_graph_of_its_own() -> Any:
    """It does not touch the graph of the spec."""
    return {**_train(), 'training_hooks': [_OwnSession()]}


def _hook_that_begins_anew() -> Any:
    """The standard hooks find the global step again in each begin()."""
    hook = v1.train.StopAtStepHook(last_step=1)
    with tf.Graph().as_default():
        v1.train.get_or_create_global_step()
        hook.begin()
    return {**_train(), 'training_hooks': [hook]}


HookForeignGraph.more_bad = (_own_hook_of_another_graph,)
HookForeignGraph.more_good = (
    _another_graph_for_another_mode, _hook_with_a_graph_of_its_own, _hook_that_begins_anew)


class HookUnknownName(Rule):
    """A hook names a tensor that the graph does not have.

    What it finds: a name given to LoggingTensorHook, SummarySaverHook, FinalOpsHook or
    NanTensorHook that this graph does not resolve as that hook does. Ops that Estimator adds later
    are not there yet when a spec is built, so this is a warning then, and an error in preflight.

    Why it matters: the job fails with KeyError when the session of that mode starts; a hook for
    EVAL fails at the first checkpoint.

    Bad:
        tf.compat.v1.train.LoggingTensorHook(['probabilities'], every_n_iter=10)

    Good:
        tf.compat.v1.train.LoggingTensorHook({'probabilities': probabilities}, every_n_iter=10)

    When to suppress: when another hook's `begin`, run before this one's, adds the op under a name
    that its code does not show.
    """

    code = 'ESX605'
    slug = 'hook-unknown-name'
    severity = Severity.ERROR
    stage = 'spec'
    mistakes = ('H1',)
    about = HOOKS

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        # A hook runs in a session's graph, never in the body of a function.
        if facts.graph is None or graphs.is_function_graph(facts.graph):
            return
        for place, hook, elements in held(facts):
            for element in elements:
                fault = element.kind == 'name' and _unresolved(facts.graph, element)
                if not fault or _made_later(facts, hook, element.value):
                    continue
                sure = facts.context.graph_is_complete and element.known
                near = _nearest(facts.graph, element.value)
                yield self.finding(
                    facts, f'{place} ({class_name(hook)}) names {describe.value(element.value)}, '
                           f'{fault}', field=place, actual=describe.value(element.value),
                    hint=(f'the nearest is {describe.names([repr(name) for name in near])}; '
                          if near else '') + 'pass the tensor itself, or give it this name with '
                                             'tf.identity(tensor, name)',
                    expected='a name in this graph', severity=None if sure else Severity.WARNING)

    @staticmethod
    def bad() -> Any:
        """The op lies in a scope, and no op is added any more."""
        from estimator_spec_ext.facts import JobContext
        fields = _train()
        with tf.name_scope('head'):
            tf.nn.softmax(tf.constant([1., 2.]), name='probabilities')
        return {**fields, 'context': JobContext(graph_is_complete=True),
                'training_hooks': [v1.train.LoggingTensorHook(['probabilities'], 10)]}

    @staticmethod
    def good() -> Any:
        """Names of ops, names of tensors, and tensors."""
        fields = _train()
        names = {'a': 'loss', 'b': 'loss:0', 'c': fields['loss'], 'd': 'w'}
        return {**fields, 'training_hooks': [
            v1.train.LoggingTensorHook(names, 10), v1.train.NanTensorHook('loss:0'),
            v1.train.FinalOpsHook(['loss:0', fields['train_op'].name])]}


def _name_too_early() -> Any:
    """When the spec is built the op may still be added."""
    hook = v1.train.LoggingTensorHook({'rate': 'learning_rate:0'}, 10)
    return {'mode': 'eval', 'loss': tf.constant(1., name='loss'), 'evaluation_hooks': [hook]}


def _name_for_another_mode() -> Any:
    """A field that EVAL ignores."""
    hook = v1.train.LoggingTensorHook({'rate': 'learning_rate:0'}, 10)
    return {'mode': 'eval', 'loss': tf.constant(1., name='loss'), 'training_hooks': [hook]}


class _Naming(v1.train.SessionRunHook):
    """Makes an op in time."""

    def begin(self) -> None:
        tf.constant(1., name='rate')


def _name_made_in_begin() -> Any:
    """begin() of the hook before this one makes the op."""
    hook = v1.train.LoggingTensorHook({'rate': 'rate:0'}, 10)
    return {**_train(), 'training_hooks': [_Naming(), hook]}


def _name_of_the_loss_summary() -> Any:
    """Estimator adds it, as 'loss', where no other op has that name."""
    with tf.name_scope('model'):
        fields = _train()
    return {**fields, 'training_hooks': [v1.train.LoggingTensorHook(['loss'], 10)]}


HookUnknownName.more_bad = (_name_too_early,)
HookUnknownName.more_good = (
    _name_for_another_mode, _name_made_in_begin, _name_of_the_loss_summary)


def _made_later(facts: SpecFacts, hook: Any, name: str) -> bool:
    """Whether Estimator, or begin() of another hook, makes an op of this name."""
    if facts.is_train and not facts.context.graph_is_complete and name in ('loss', 'loss:0'):
        return True  # the summary of the loss
    leaf = name.split(':')[0].rsplit('/', 1)[-1]
    return any(other is not hook and hook_methods.begin_mentions(other, leaf)
               for other in facts.opaque_hooks)


def _unresolved(graph: tf.Graph, element: HookElement) -> Optional[str]:
    """Why the hook will not find the tensor that it names; None when it will."""
    name = element.value
    if element.attributes[:1] != ('_tensors',):
        if not _has(graph, name):
            return 'which this graph does not have'
        wants_number = element.attributes[:1] == ('_loss_tensor',)
        return 'which is an op; a loss is a tensor' if wants_number and ':' not in name else None
    # LoggingTensorHook takes the name of an op for its only output.
    if ':' in name:
        return None if _has(graph, name) else 'which this graph does not have'
    if not _has(graph, f'{name}:0'):
        return ('which is an op without an output' if _has(graph, name)
                else 'which this graph does not have')
    return 'an op with several outputs' if _has(graph, f'{name}:1') else None


def _has(graph: tf.Graph, name: str) -> bool:
    try:
        graph.as_graph_element(name)
    except (KeyError, ValueError, TypeError):
        return False
    return True


def _nearest(graph: tf.Graph, wanted: str) -> list[str]:
    """Up to three names of tensors that look like the wanted one, the nearest first."""
    wanted = wanted.split(':')[0]
    if _has(graph, f'{wanted}:0'):
        return [f'{wanted}:0']
    last = wanted.rsplit('/', 1)[-1]
    by_last: dict[str, list[str]] = {}
    for op in graph.get_operations():
        name = op.name
        by_last.setdefault(name.rsplit('/', 1)[-1], []).append(name)
    ends = [last] if last in by_last else []
    ends += difflib.get_close_matches(last, [end for end in by_last if end != last], n=3,
                                      cutoff=.7)
    found = []
    for end in ends:
        names = sorted(by_last[end], key=lambda name: (_is_gradient(name), len(name), name))[:50]
        names.sort(key=lambda name: (
            _is_gradient(name), -difflib.SequenceMatcher(None, wanted, name).ratio()))
        found += [f'{name}:0' for name in names if _has(graph, f'{name}:0')]
    return found[:3]


def _is_gradient(name: str) -> bool:
    return name.startswith('gradients')

"""The functions of a TPU spec: what they hold, and what comes of calling them."""

from __future__ import annotations

import functools
import inspect
import types
from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import VARIABLE_TYPES
from estimator_spec_ext.hooks import enclosed
from estimator_spec_ext.rule import EVAL, TRAIN, Rule
from estimator_spec_ext.rules.tpu import mean_of_losses, model_tensors, tpu_spec
from estimator_spec_ext.tpu_facts import Called, TPUFacts

_FUNCTIONS = {'eval_metrics': 'eval_metrics[0]', 'host_call': 'host_call[0]',
              'scaffold_fn': 'scaffold_fn'}


class FunctionFails(Rule):
    """A function of a TPU spec raises when it is called.

    What it finds: an exception from eval_metrics[0], host_call[0] or scaffold_fn, called as
    `as_estimator_spec` calls them to run the model on a CPU.

    Why it matters: stock stops at the first of them, and without the faults of the other fields. On
    a TPU metrics fail at the first evaluation, after the first checkpoint was trained.

    Bad:
        def metric_fn(labels, logits):
            return {'accuracy': tf.compat.v1.metrics.accuracy(labels)}

    Good:
        def metric_fn(labels, logits):
            return {'accuracy': tf.compat.v1.metrics.accuracy(labels, tf.argmax(logits, axis=1))}

    When to suppress: never; the function itself raises.
    """

    code = 'ESX124'
    slug = 'tpu-function-fails'
    severity = Severity.ERROR
    stage = 'stock'
    mistakes = ('U2',)
    about = ('tpu',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if not isinstance(facts, TPUFacts):
            return
        for field, result in facts.results.items():
            if result.error is not None:
                kind = type(result.error).__name__
                yield self.finding(
                    facts, f'{_FUNCTIONS[field]} raises {kind}: '
                    f'{describe.error_text(result.error)}', field=field,
                    hint=f'call {_FUNCTIONS[field]} with its tensors in model_fn to see where',
                    expected='no exception', actual=kind)

    @staticmethod
    def bad() -> Any:
        """A metric_fn with a mistake of its own."""
        losses, _ = model_tensors()

        def metric_fn(losses: Any) -> Any:
            return {'mean': v1.metrics.mean(losses['losses'])}

        return called(losses=losses, eval_metrics=(metric_fn, [losses]))

    @staticmethod
    def good() -> Any:
        """One without."""
        losses, _ = model_tensors()
        return called(losses=losses, eval_metrics=(mean_of_losses, [losses]))


def called(mode: str = 'eval', **given: Any) -> TPUFacts:
    """A spec whose functions have been called, as for a CPU."""
    from estimator_spec_ext import tpu
    made = tpu_spec(mode, **given)
    spec = types.SimpleNamespace(**made.fields, **made.calls, scaffold_fn=made.scaffold_fn)
    results = tpu.call_functions(spec)
    fields = {**made.fields, **tpu.plain_fields(spec, results)}
    return TPUFacts(mode, fields, calls=made.calls, scaffold_fn=made.scaffold_fn, results=results)


class SummariesUnderTPU(Rule):
    """Summaries of the model, which a TPU cannot write.

    What it finds: tf.compat.v1.summary ops in the model of a TPU spec in TRAIN, and such ops made
    by the function of host_call.

    Why it matters: a TPU runs many steps in a loop without its host: summaries inside the model are
    left out in silence, or refused by the compiler; in host_call they raise "Please use
    tf.contrib.summary". With use_tpu=False they are written.

    Bad:
        tf.compat.v1.summary.scalar('loss', loss)
        TPUEstimatorSpec(mode, loss=loss, train_op=train_op)

    Good:
        def host_call_fn(step, loss):  # tensors of shape [1]
            with tf.compat.v2.summary.create_file_writer(model_dir).as_default():
                with tf.compat.v2.summary.record_if(True):
                    tf.compat.v2.summary.scalar('loss', loss[0], step=step[0])
                    return tf.compat.v1.summary.all_v2_summary_ops()

    When to suppress: when the model never runs on a TPU, or makes its summaries with use_tpu=False
    alone.
    """

    code = 'ESX125'
    slug = 'tpu-summaries'
    severity = Severity.WARNING
    modes = (TRAIN, EVAL)
    mistakes = ('U3',)
    about = ('tpu',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if not isinstance(facts, TPUFacts):
            return
        hint = 'write it in host_call with tf.compat.v2.summary and a file writer'
        own: set[int] = set()
        for result in facts.results.values():
            own.update(id(tensor) for tensor in result.summaries)
        made = facts.results.get('host_call', Called()).summaries
        if made:
            yield self.finding(
                facts, f"host_call[0] makes the summary '{made[0].op.name}', which a TPU's host "
                'refuses', field='host_call', op=made[0], hint=hint)
        if not facts.is_train:
            return
        known = facts.summaries
        if known is None:
            known = facts.graph.get_collection(v1.GraphKeys.SUMMARIES) if facts.graph else ()
        for tensor in known:
            if id(tensor) not in own and self._is_of_the_model(facts, tensor):
                yield self.finding(
                    facts, f"the summary '{tensor.op.name}' is made in the model, where a TPU "
                    'leaves it out', field='train_op', op=tensor, hint=hint,
                    # Where this job runs they are written.
                    severity=Severity.INFO if facts.on_cpu else None)
                return

    @staticmethod
    def _is_of_the_model(facts: TPUFacts, summary: Any) -> bool:
        """Whether it shows what depends on a variable, and not just what an input pipeline does."""
        if not graphs.is_tensor(summary):
            return False
        return any(op.type in VARIABLE_TYPES for op in facts.index.data_ancestors([summary]))

    @staticmethod
    def bad() -> Any:
        """The loss as a summary."""
        losses, _ = model_tensors()
        v1.summary.scalar('error', tf.reduce_mean(losses))
        return tpu_spec('train', losses=losses)

    @staticmethod
    def good() -> Any:
        """What an input_fn shows is made on the host."""
        losses, _ = model_tensors()
        v1.summary.scalar('filled', tf.constant(.5))
        return tpu_spec('train', losses=losses)


def _bad_summary_in_host_call() -> Any:
    """The host refuses summaries of TensorFlow 1 too."""
    losses, _ = model_tensors()
    return called('train', losses=losses, host_call=(
        lambda losses: [v1.summary.scalar('host', losses[0])], [losses]))


def _good_host_call() -> Any:
    """A host_call that only computes."""
    losses, _ = model_tensors()
    return called('train', losses=losses, host_call=(lambda losses: [losses[0]], [losses]))


SummariesUnderTPU.more_bad = (_bad_summary_in_host_call,)
SummariesUnderTPU.more_good = (_good_host_call,)


class ScaffoldFnNotFunction(Rule):
    """scaffold_fn is no function without arguments.

    What it finds: a Scaffold itself, any other object that cannot be called, and a function that
    needs arguments.

    Why it matters: stock accepts any object and calls it when the session is prepared: "'Scaffold'
    object is not callable".

    Bad:
        TPUEstimatorSpec(mode, loss=loss, scaffold_fn=tf.compat.v1.train.Scaffold(init_fn=init))

    Good:
        TPUEstimatorSpec(mode, loss=loss,
                         scaffold_fn=lambda: tf.compat.v1.train.Scaffold(init_fn=init))

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX126'
    slug = 'scaffold-fn-not-function'
    severity = Severity.ERROR
    stage = 'stock'
    mistakes = ('U2',)
    about = ('tpu',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        # Stock asks for its truth: whatever is false means that there is none.
        if not isinstance(facts, TPUFacts) or not facts.scaffold_fn:
            return
        fault = self._fault(facts)
        if fault:
            yield self.finding(
                facts, f'scaffold_fn {fault}; expected a function () -> Scaffold',
                field='scaffold_fn', expected='a function () -> Scaffold',
                actual=describe.value(facts.scaffold_fn),
                hint='pass scaffold_fn=lambda: tf.compat.v1.train.Scaffold(...)')

    @staticmethod
    def _fault(facts: TPUFacts) -> str:
        function = facts.scaffold_fn
        if not callable(function):
            return f'is {describe.value(function)}'
        needed = _needed_arguments(function)
        if needed:
            return f'needs {describe.names(needed)}'
        return ''

    @staticmethod
    def bad() -> Any:
        """A Scaffold where a function is due."""
        return tpu_spec(scaffold_fn=v1.train.Scaffold())

    @staticmethod
    def good() -> Any:
        """The function."""
        return called(scaffold_fn=v1.train.Scaffold)


def _needed_arguments(function: Any) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [parameter.name for parameter in parameters if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)]


def _bad_needs_arguments() -> Any:
    """Nobody gives it any."""
    return tpu_spec(scaffold_fn=lambda init_fn: v1.train.Scaffold(init_fn=init_fn))


ScaffoldFnNotFunction.more_bad = (_bad_needs_arguments,)


class FunctionCaptures(Rule):
    """A function of a TPU spec holds a tensor of the model.

    What it finds: a tensor in the closure or among the bound arguments of eval_metrics[0],
    host_call[0] or scaffold_fn.

    Why it matters: these functions run on the host. Only what is listed beside them travels there;
    a tensor that they take out of model_fn belongs to the TPU's program: the graph cannot be
    compiled. With use_tpu=False it works.

    Bad:
        eval_metrics=(lambda labels: {'a': accuracy(labels, tf.argmax(logits, 1))}, [labels])

    Good:
        eval_metrics=(lambda labels, logits: {'a': accuracy(labels, tf.argmax(logits, 1))},
                      [labels, logits])

    When to suppress: when the model never runs on a TPU.
    """

    code = 'ESX127'
    slug = 'tpu-function-captures'
    severity = Severity.WARNING
    stage = 'spec'
    mistakes = ('U2', 'U3')
    about = ('tpu',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if not isinstance(facts, TPUFacts):
            return
        functions = [(call.field, call.function) for call in facts.good_calls()]
        functions.append(('scaffold_fn', facts.scaffold_fn))
        for field, function in functions:
            for name, tensor in _captured(function):
                yield self.finding(
                    facts, f"{_FUNCTIONS[field]} holds '{name}', a tensor of the model; on a TPU "
                    'it runs on the host', field=field, op=tensor,
                    hint='take it as an argument and list it in '
                    + (f'{field}[1]' if field != 'scaffold_fn' else 'host_call'))

    @staticmethod
    def bad() -> Any:
        """One of two tensors is not handed over."""
        losses, predictions = model_tensors()
        return tpu_spec(losses=losses, eval_metrics=(
            lambda losses: {'mean': v1.metrics.mean(losses + predictions[:, 0])}, [losses]))

    @staticmethod
    def good() -> Any:
        """Numbers, names and variables may be held."""
        losses, _ = model_tensors()
        scale, name = 3., 'mean'
        return tpu_spec(losses=losses, eval_metrics=(
            functools.partial(lambda scale, losses: {name: v1.metrics.mean(losses * scale)}, scale),
            {'losses': losses}))


def _captured(function: Any) -> Iterator[tuple[str, Any]]:
    """The tensors of a graph that a function itself holds, with the names that it has for them."""
    while type(function) is functools.partial:
        held = dict(enumerate(function.args), **function.keywords)  # type: ignore[arg-type]
        for name, value in held.items():
            yield from _tensors_in(str(name), value)
        function = function.func
    if not isinstance(function, types.FunctionType):
        return
    for name, value in enclosed(function).items():
        yield from _tensors_in(name, value)


def _tensors_in(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if type(value) in (list, tuple):
        items = [(f'{name}[{position}]', item) for position, item in enumerate(value)]
    elif type(value) is dict:
        items = [(f'{name}[{describe.key(key)}]', item) for key, item in value.items()]
    else:
        items = [(name, value)]
    for path, item in items:
        if graphs.is_tensor(item) and not graphs.is_variable(item) and graphs.graph_of(item):
            yield path, item


class HostCallReturnsNothing(Rule):
    """The function of host_call returns nothing that a session can run.

    What it finds: None, or anything that is no tensor, op, or list or dict of these, as the result
    of host_call[0] when it is called for a CPU.

    Why it matters: what it returns is fetched with every step. None gives "Fetch argument None has
    invalid type" at the first step.

    Bad:
        def host_call_fn(step, loss):
            tf.compat.v2.summary.scalar('loss', loss[0], step=step[0])

    Good:
        def host_call_fn(step, loss):
            tf.compat.v2.summary.scalar('loss', loss[0], step=step[0])
            return tf.compat.v1.summary.all_v2_summary_ops()

    When to suppress: never; the session itself would raise.
    """

    code = 'ESX128'
    slug = 'host-call-returns-nothing'
    severity = Severity.ERROR
    stage = 'stock'
    mistakes = ('U3',)
    about = ('tpu',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        result = facts.results.get('host_call') if isinstance(facts, TPUFacts) else None
        if result is None or result.error is not None or _can_be_fetched(result.value):
            return
        actual = describe.value(result.value)
        yield self.finding(
            facts, f'host_call[0] returns {actual}; expected a list of tensors or ops',
            field='host_call', expected='a list of tensors or ops', actual=actual,
            hint='return what each step shall run, e.g. '
            'tf.compat.v1.summary.all_v2_summary_ops(), or []')

    @staticmethod
    def bad() -> Any:
        """It forgets to return its op."""
        losses, _ = model_tensors()

        def host_call_fn(losses: Any) -> None:
            tf.reduce_max(losses)

        return called('train', losses=losses, host_call=(host_call_fn, [losses]))

    @staticmethod
    def good() -> Any:
        """It returns it."""
        losses, _ = model_tensors()
        return called('train', losses=losses, host_call=(
            lambda losses: [tf.reduce_max(losses)], [losses]))


def _can_be_fetched(value: Any) -> bool:
    if type(value) in (list, tuple):
        return all(map(_can_be_fetched, value))
    if type(value) is dict:
        return all(map(_can_be_fetched, value.values()))
    return value is not None and not isinstance(value, (bool, int, float))


def _good_no_tensors() -> Any:
    """Nothing to run, said in a way that a session understands."""
    losses, _ = model_tensors()
    return called('train', losses=losses, host_call=(lambda losses: (), {'losses': losses}))


HostCallReturnsNothing.more_good = (_good_no_tensors,)

"""The functions of a TPU spec and what they are given: pairs, arguments, tensors."""

from __future__ import annotations

import inspect
from typing import Any, Iterator, Optional

from estimator_spec_ext import describe, tpu_facts
from estimator_spec_ext.compat import graphs, tf, v1
from estimator_spec_ext.compat import tpu as compat_tpu
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.rule import EVAL, TRAIN, Rule
from estimator_spec_ext.tpu_facts import Call, TPUFacts


def _tpu(facts: SpecFacts) -> Optional[TPUFacts]:
    return facts if isinstance(facts, TPUFacts) else None


def _calls(facts: SpecFacts) -> Iterator[Call]:
    if isinstance(facts, TPUFacts):
        yield from facts.good_calls()


def used_calls(facts: SpecFacts) -> Iterator[Call]:
    """The calls whose tensors a TPU sends to its host in this mode."""
    for call in _calls(facts):
        if call.field == 'host_call' or facts.is_eval:
            yield call


def model_tensors() -> tuple[Any, Any]:
    """A loss for each example, and predictions, of a model with one weight."""
    x = v1.placeholder(tf.float32, [None, 3], name='x')
    weight = v1.get_variable('w', [3, 1])
    predictions = tf.matmul(x, weight, name='predictions')
    return tf.square(predictions[:, 0], name='losses'), predictions


def mean_of_losses(losses: Any) -> Any:
    return {'mean': v1.metrics.mean(losses)}


def tpu_spec(mode: str = 'eval', **given: Any) -> TPUFacts:
    """The facts of a spec with a good loss and, in TRAIN, a good train_op."""
    scaffold_fn, results = given.pop('scaffold_fn', None), given.pop('results', None)
    losses = given.pop('losses', None)
    if losses is None:
        losses, _ = model_tensors()
    fields = {'loss': tf.reduce_mean(losses, name='loss')}
    if mode == 'train':
        step = v1.train.get_or_create_global_step()
        fields['train_op'] = v1.train.GradientDescentOptimizer(.1).minimize(fields['loss'], step)
    return TPUFacts(mode, fields, calls=given, scaffold_fn=scaffold_fn, results=results)


class CallMalformed(Rule):
    """eval_metrics or host_call is no pair of a function and its tensors.

    What it finds: a value that is no tuple or list of two, whose first part is not callable, or
    whose second part is no list, tuple or dict; e.g. the dict that an EstimatorSpec takes.

    Why it matters: TPUEstimatorSpec takes functions, since metrics and summaries run on the host
    and not on the TPU. Stock refuses such a value, without saying what it got.

    Bad:
        TPUEstimatorSpec(mode, loss=loss, eval_metrics={'mean': tf.compat.v1.metrics.mean(losses)})

    Good:
        def metric_fn(losses):
            return {'mean': tf.compat.v1.metrics.mean(losses)}
        TPUEstimatorSpec(mode, loss=loss, eval_metrics=(metric_fn, [losses]))

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX120'
    slug = 'tpu-call-malformed'
    severity = Severity.ERROR
    stage = 'stock'
    mistakes = ('U2', 'U3')
    about = ('tpu',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        tpu = _tpu(facts)
        if tpu is None:
            return
        for field, value in tpu.calls.items():
            if value is None:
                continue
            fault = self._fault(field, value)
            if fault:
                where, actual, expected = fault
                yield self.finding(
                    facts, f'{where} is {actual}; expected {expected}', field=where, actual=actual,
                    hint=f'pass {field}=(function, tensors), with tensors as a list or a dict',
                    expected=expected)

    @staticmethod
    def _fault(field: str, value: Any) -> Optional[tuple[str, str, str]]:
        if not tpu_facts.is_pair(value):
            return field, describe.value(value), 'a pair of a function and its tensors'
        if not callable(value[0]):
            return f'{field}[0]', describe.value(value[0]), 'a function'
        if not isinstance(value[1], (list, tuple, dict)):
            return f'{field}[1]', describe.value(value[1]), 'a list or dict of tensors'
        return None

    @staticmethod
    def bad() -> Any:
        """Metrics as an EstimatorSpec takes them."""
        losses, _ = model_tensors()
        return tpu_spec(losses=losses, eval_metrics=mean_of_losses(losses))

    @staticmethod
    def good() -> Any:
        """The function that makes them, and what it needs."""
        losses, _ = model_tensors()
        return tpu_spec(losses=losses, eval_metrics=(mean_of_losses, [losses]),
                      host_call=(lambda losses: [], {'losses': losses}))


class ArgumentsDiffer(Rule):
    """The function of eval_metrics or host_call does not take the tensors that it is given.

    What it finds: a list of another length than the function's arguments (stock counts those with
    a default too), and a dict with keys that are no arguments, or without one that is needed.

    Why it matters: a list of the wrong length is refused by stock; with a dict the call fails at
    the first evaluation, or with host_call at the first step.

    Bad:
        def metric_fn(labels, predictions): ...
        eval_metrics=(metric_fn, {'labels': labels, 'logits': logits})

    Good:
        eval_metrics=(metric_fn, {'labels': labels, 'predictions': predictions})

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX121'
    slug = 'tpu-call-arguments'
    severity = Severity.ERROR
    stage = 'stock'
    mistakes = ('U2', 'U3')
    about = ('tpu',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        for call in _calls(facts):
            fault = (self._dict_fault(call) if isinstance(call.tensors, dict)
                     else self._list_fault(call))
            if fault:
                message, actual, expected = fault
                yield self.finding(
                    facts, message, field=f'{call.field}[1]', actual=actual, expected=expected,
                    hint=f'give {call.field}[1] just what the function takes: {expected}')

    @staticmethod
    def _list_fault(call: Call) -> Optional[tuple[str, str, str]]:
        if compat_tpu.refusal(call.field, (call.function, call.tensors)) is None:
            return None
        names = _argument_names(call.function)
        expected = f'({", ".join(names)})'
        actual = f'a {type(call.tensors).__name__} of {len(call.tensors)}'
        return (f'{call.field}[1] is {actual}; {call.field}[0] takes {len(names)}: '
                f'{describe.names(names, 6)}', actual, expected)

    @staticmethod
    def _dict_fault(call: Call) -> Optional[tuple[str, str, str]]:
        keys = list(call.tensors)
        try:
            signature = inspect.signature(call.function)
        except (TypeError, ValueError):  # written in C, and does not tell
            return None
        if all(isinstance(key, str) for key in keys):
            try:
                signature.bind(**call.tensors)
                return None
            except TypeError:
                pass
        named = [parameter for parameter in signature.parameters.values()
                 if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)]
        missing = [repr(parameter.name) for parameter in named
                   if parameter.default is parameter.empty and parameter.name not in keys]
        takes_any = any(parameter.kind is parameter.VAR_KEYWORD
                        for parameter in signature.parameters.values())
        known = {parameter.name for parameter in named}
        extra = [describe.key(key) for key in keys
                 if not isinstance(key, str) or (key not in known and not takes_any)]
        parts = ([f'lacks {describe.names(missing)}'] if missing else []) + (
            [f'has {describe.names(extra)}, which {call.field}[0] does not take'] if extra else [])
        if not parts:  # positional only
            parts = [f'gives arguments by name, which {call.field}[0] takes by position alone']
        expected = f'({", ".join(parameter.name for parameter in named)})'
        actual = f'({", ".join(map(describe.key, keys))})'
        return f'{call.field}[1] {" and ".join(parts)}', actual, expected

    @staticmethod
    def bad() -> Any:
        """The key is not the argument's name."""
        losses, _ = model_tensors()
        return tpu_spec(losses=losses, eval_metrics=(mean_of_losses, {'loss': losses}))

    @staticmethod
    def good() -> Any:
        """It is; and an argument with a default may be left out of a dict."""
        losses, predictions = model_tensors()

        def metric_fn(losses: Any, weights: Any = None) -> Any:
            return {'mean': v1.metrics.mean(losses, weights)}

        return tpu_spec(losses=losses, eval_metrics=(metric_fn, {'losses': losses}),
                      host_call=(lambda *tensors: [], [losses, predictions]))


def _argument_names(function: Any) -> tuple[str, ...]:
    return compat_tpu.argument_names(function)


def _bad_list() -> Any:
    """Two tensors for a function of one."""
    losses, predictions = model_tensors()
    return tpu_spec(losses=losses, eval_metrics=(mean_of_losses, [losses, predictions]))


def _good_partial_and_keywords() -> Any:
    """`**kwargs` takes every key."""
    losses, predictions = model_tensors()

    def metric_fn(**tensors: Any) -> Any:
        return {'mean': v1.metrics.mean(tensors['losses'])}

    return tpu_spec(losses=losses,
                  eval_metrics=(metric_fn, {'losses': losses, 'predictions': predictions}))


ArgumentsDiffer.more_bad = (_bad_list,)
ArgumentsDiffer.more_good = (_good_partial_and_keywords,)


class NotATensor(Rule):
    """Something else than a tensor is handed to the host by eval_metrics or host_call.

    What it finds: numbers, strings, None, sparse tensors and other objects among the tensors of
    eval_metrics (in EVAL) or host_call.

    Why it matters: only dense tensors travel from a TPU to its host: "'int' object has no attribute
    'dtype'", at the first step on the TPU. With use_tpu=False the object reaches the function.

    Bad:
        eval_metrics=(metric_fn, {'labels': labels, 'num_classes': 10})

    Good:
        eval_metrics=(functools.partial(metric_fn, num_classes=10), {'labels': labels})

    When to suppress: when the model never runs on a TPU.
    """

    code = 'ESX123'
    slug = 'tpu-value-not-tensor'
    severity = Severity.WARNING
    stage = 'spec'
    modes = (TRAIN, EVAL)
    mistakes = ('U2',)
    about = ('tpu',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        for call in used_calls(facts):
            for key, value in call.items:
                if not graphs.is_tensor(value) or graphs.is_composite(value):
                    field, actual = describe.entry(f'{call.field}[1]', key), describe.value(value)
                    yield self.finding(
                        facts, f'{field} is {actual}; a TPU sends dense tensors only', field=field,
                        expected='a dense tensor', actual=actual,
                        hint='bind what is no tensor to the function: functools.partial(function, '
                        'name=value)')

    @staticmethod
    def bad() -> Any:
        """A number of classes."""
        losses, _ = model_tensors()

        def metric_fn(losses: Any, scale: Any) -> Any:
            return {'mean': v1.metrics.mean(losses * scale)}

        return tpu_spec(losses=losses, eval_metrics=(metric_fn, {'losses': losses, 'scale': 3}))

    @staticmethod
    def good() -> Any:
        """It belongs to the function."""
        losses, _ = model_tensors()
        scale = 3
        return tpu_spec(losses=losses, eval_metrics=(
            lambda losses: {'mean': v1.metrics.mean(losses * scale)}, [losses]))

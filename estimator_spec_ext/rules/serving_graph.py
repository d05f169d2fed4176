"""What PREDICT computes its outputs from: Python code, placeholders that nobody feeds."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe, export
from estimator_spec_ext.compat import estimator, graphs, scopes, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import JobContext, SpecFacts
from estimator_spec_ext.graph import DEQUEUE_TYPES, ITERATOR_TYPES, PY_FUNC_TYPES
from estimator_spec_ext.rule import PREDICT, Rule
from estimator_spec_ext.rules import exported

_MAX_FINDINGS = 5
_MAX_INPUTS = 200
# How to see at a glance that a graph has no data of its own but what is fed.
_DATA_TYPES = ITERATOR_TYPES | DEQUEUE_TYPES


def _receiver_tensors(facts: SpecFacts) -> tuple[Any, ...]:
    """The dense tensors that clients feed, as far as they are known."""
    tensors = facts.context.receiver_tensors
    return () if tensors is None else tuple(tf.nest.flatten(dict(tensors), expand_composites=True))


def _linear(x: Any) -> Any:
    return tf.matmul(x, v1.get_variable('w', [3, 1]), name='logits')


def _predict(model_fn: Any, **context: Any) -> dict[str, Any]:
    """The spec of `model_fn`, called as Estimator does: the features are made outside of it."""
    x = v1.placeholder(tf.float32, [None, 3], name='x')
    fields = {'mode': 'infer', 'predictions': model_fn(x)}
    if context.pop('exports', False):
        fields['context'] = JobContext(receiver_tensors={'x': x})
    return fields


class PyFuncServed(Rule):
    """An output is computed by Python code, which no SavedModel can hold.

    What it finds: tf.py_function, tf.numpy_function or tf.compat.v1.py_func on the way to an output
    of PREDICT, also inside a cond, a loop or a tf.function. An error when the graph is built for
    an export. What runs in the input_fn's own dataset is not meant.

    Why it matters: `predict` works, because it runs in the same process, and the export succeeds.
    Every server, and every new process, fails at the first request: it has no such function.

    Bad:
        predictions={'text': tf.compat.v1.py_func(decode, [ids], tf.string)}

    Good:
        predictions={'text': table.lookup(ids)}     # ops of TensorFlow alone

    When to suppress: when the model is never served, only asked by `predict`.
    """

    code = 'ESX420'
    slug = 'py-func-served'
    severity = Severity.ERROR
    modes = (PREDICT,)
    mistakes = ('X7',)
    needs = ('predictions', 'export_outputs')

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        index = facts.index
        if not PY_FUNC_TYPES.intersection(index.types) and not index.calls:
            return
        outputs = exported.served(facts)
        served = index.ancestors([output.tensor for output in outputs])
        found = {occurrence.op: occurrence
                 for occurrence in index.find(PY_FUNC_TYPES, within=served)}
        for op, occurrence in list(found.items())[:_MAX_FINDINGS]:
            output = exported.needing(facts, outputs, op)
            if output is None:
                continue
            inside = f' inside {op.type} {op.name!r}' if occurrence.inner else ''
            yield self.finding(
                facts, f'{output.field} is computed by Python code ({occurrence.type}){inside}; '
                       'no server can run it',
                field=output.field, op=op,
                hint='use TensorFlow ops, or leave it to the client; export_outputs can name the '
                     'outputs that need no Python', expected='TensorFlow ops alone',
                actual=occurrence.type, path=index.path(output.op, op),
                severity=None if facts.context.receiver_tensors is not None else Severity.WARNING)

    @staticmethod
    def bad() -> Any:
        """The result of a NumPy function, in a graph that is built for an export."""
        return _predict(lambda x: {'p': _scaled(_linear(x))}, exports=True)

    @staticmethod
    def good() -> Any:
        """The same with TensorFlow's own op."""
        return _predict(lambda x: {'p': _linear(x) * 2.}, exports=True)


def _scaled(x: Any) -> Any:
    result = v1.py_func(lambda value: value * 2., [x], tf.float32, name='scaled')
    result.set_shape(x.shape)
    return result


def _by_predict_alone() -> Any:
    """The same where no receiver is known: it may be `predict` that runs."""
    return _predict(lambda x: {'p': _scaled(_linear(x))})


def _eager_function_in_the_middle() -> Any:
    """A preprocessing step in eager Python."""

    def model_fn(x: Any) -> Any:
        clean = tf.py_function(tf.abs, [x], tf.float32, name='clean')
        clean.set_shape([None, 3])
        return {'p': tf.sigmoid(_linear(clean))}

    return _predict(model_fn)


def _not_exported() -> Any:
    """The text is for `predict` alone; the export has the other output."""
    fields = _predict(lambda x: {'p': _linear(x), 'text': _scaled(x)})
    return {**fields, 'export_outputs': {
        'serving_default': estimator.export.PredictOutput({'p': fields['predictions']['p']})}}


def _in_the_input() -> Any:
    """Python code in the dataset, which stays behind when the model is exported."""
    data = tf.data.Dataset.from_tensors([1., 2., 3.]).map(
        lambda row: tf.ensure_shape(tf.numpy_function(abs, [row], tf.float32), [3])).batch(2)
    x = v1.data.make_one_shot_iterator(data).get_next()
    return {'mode': 'infer', 'predictions': {'p': _linear(x)}}


PyFuncServed.more_bad = (_by_predict_alone, _eager_function_in_the_middle)
PyFuncServed.more_good = (_not_exported, _in_the_input)


class StrayPlaceholder(Rule):
    """An output needs a placeholder that is no part of the serving receiver.

    What it finds: a placeholder on the way to an output of PREDICT that model_fn made itself, or
    that the receiver does not feed where the receiver is known; beside inputs of which nothing is
    known, a placeholder of one number or bool. A `placeholder_with_default` is not meant.

    Why it matters: `predict` fails with "You must feed a value". The export drops the signature
    with a line of level INFO, and writes a SavedModel without it; a placeholder behind a control
    input it does not even see, and every request fails.

    Bad:
        keep_prob = tf.compat.v1.placeholder(tf.float32, [])

    Good:
        keep_prob = 0.5 if mode == tf.estimator.ModeKeys.TRAIN else 1.0

    When to suppress: when a hook of yours feeds it and the model is never exported.
    """

    code = 'ESX421'
    slug = 'stray-placeholder'
    severity = Severity.ERROR
    modes = (PREDICT,)
    mistakes = ('X5',)
    needs = ('predictions', 'export_outputs')

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if 'Placeholder' not in facts.index.types:
            return
        outputs = exported.served(facts)
        if facts.context.receiver_tensors is not None:
            yield from self._not_received(facts, outputs)
            return
        held = {graphs.as_op(value) for value in facts.hook_ops}
        for op in _strays(facts, outputs):
            output = exported.needing(facts, outputs, op)
            if op in held or output is None:
                continue
            yield self.finding(
                facts, f'{output.field} needs placeholder {op.name!r}, which no receiver feeds',
                field=output.field, op=op, hint=_remedy(op), expected='outputs of the features',
                actual=describe.value(op.outputs[0]), path=facts.index.path(output.op, op),
                severity=Severity.WARNING)

    def _not_received(self, facts: SpecFacts, outputs: list[exported.Output]) -> Iterator[Finding]:
        index = facts.index
        fed = {graphs.as_op(tensor) for tensor in _receiver_tensors(facts)}
        told: set[tuple[Any, Any]] = set()
        for output in outputs:
            name = output.signature
            field = output.field if name is None else describe.entry('export_outputs', name)
            by_data = index.data_ancestors([output.tensor], stop=fed)
            for op in _placeholders_behind(output.op, fed):
                if (op, name) in told:
                    continue
                told.add((op, name))
                # TensorFlow looks at data inputs alone when it decides what to drop.
                effect = 'the export drops it' if op in by_data else 'every request will fail'
                lost = name is None or name == export.DEFAULT_KEY
                yield self.finding(
                    facts, f'{field} needs placeholder {op.name!r}, which the receiver does not '
                           f'feed; {effect}',
                    field=field, op=op, hint=_remedy(op), expected='placeholders of the receiver',
                    actual=op.name, path=index.path(output.op, op),
                    severity=None if lost else Severity.WARNING)

    @staticmethod
    def bad() -> Any:
        """The keep probability of a dropout, in a graph that is built for an export."""
        return _predict(_fed_by_nobody, exports=True)

    @staticmethod
    def good() -> Any:
        """A number that the mode decides."""
        return _predict(lambda x: {'p': _linear(x) * 1.}, exports=True)


def _placeholders_behind(root: Any, fed: set[Any]) -> list[Any]:
    """The placeholders that must be fed for `root` beside those that are fed, by name."""
    seen, stack, found = {root}, [root], []
    while stack:
        op = stack.pop()
        if op in fed:
            continue
        if op.type == 'Placeholder':
            found.append(op)
        for parent in (*(tensor.op for tensor in op.inputs), *op.control_inputs):
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(found, key=lambda op: op.name)


def _strays(facts: SpecFacts, outputs: list[exported.Output]) -> list[Any]:
    """Placeholders that model_fn made itself, or that look like switches beside the features."""
    index = facts.index
    behind = index.ancestors([output.tensor for output in outputs])
    found = [op for op in index.of_types(['Placeholder']) if op in behind]
    stacks = {op: scopes.stack_of(op) for op in found}
    certain = [op for op in found if scopes.made_by_model_fn(stacks[op])]
    if certain or not found:
        return certain
    inputs = index.of_types(_DATA_TYPES | {'Placeholder'})[:_MAX_INPUTS]
    made = [scopes.stack_of(output.op) for output in outputs if output.op not in inputs]
    if not made:
        return []
    depths = {op: max(scopes.nesting(stacks.get(op) or scopes.stack_of(op), reference)
                      for reference in made) for op in {*inputs, *found}}
    outermost = min(depths.values())
    if any(depths[op] == outermost and not _looks_like_switch(op) for op in inputs):
        inner = [op for op in found if depths[op] > outermost]
        if inner:
            return inner
    if all(_looks_like_switch(op) for op in inputs if op in behind):
        return []
    return [op for op in found if _looks_like_switch(op)
            and any(scopes.is_beside(stacks[op], reference) for reference in made)]


def _looks_like_switch(op: Any) -> bool:
    """Whether an input is one number or bool: no batch of anything."""
    if op.type != 'Placeholder':
        return False
    tensor = op.outputs[0]
    dtype = tensor.dtype.base_dtype
    if tensor.shape.rank is None:
        return bool(dtype == tf.bool)
    return tensor.shape.rank == 0 and (dtype == tf.bool or dtype.is_floating or dtype.is_integer)


def _remedy(op: Any) -> str:
    if _looks_like_switch(op):
        return ('let the mode decide: a Python value, or '
                'tf.compat.v1.placeholder_with_default(value, [])')
    return 'use the features that model_fn gets, or put it into the serving receiver'


def _fed_by_nobody(x: Any) -> Any:
    keep = v1.placeholder(tf.float32, [], name='keep_prob')
    return {'p': _linear(x) * keep}


def _receiver_not_known() -> Any:
    """The same where no receiver is known; the features were made before model_fn was called."""
    return _predict(_fed_by_nobody)


def _second_input() -> Any:
    """A placeholder for the features, made once more inside of model_fn."""

    def model_fn(x: Any) -> Any:
        again = v1.placeholder(tf.float32, [None, 3], name='inputs')
        return {'p': _linear(again), 'key': tf.identity(x)}

    return _predict(model_fn)


def _switch_beside_iterator() -> Any:
    """is_training, beside features that come from a dataset."""
    x = v1.data.make_one_shot_iterator(tf.data.Dataset.from_tensors([[1., 2., 3.]])).get_next()
    training = v1.placeholder(tf.bool, name='is_training')
    return {'mode': 'infer', 'predictions': {'p': tf.where(training, x, _linear(x) * x)}}


def _with_default() -> Any:
    """A default needs no feeding."""
    return _predict(lambda x: {'p': _linear(x) * v1.placeholder_with_default(1., [])})


def _scalar_feature() -> Any:
    """A raw receiver may hold one number beside the batch: both were made outside of model_fn."""
    x = v1.placeholder(tf.float32, [None, 3], name='x')
    temperature = v1.placeholder(tf.float32, [], name='temperature')

    def model_fn(features: Any) -> Any:
        return {'p': tf.nn.softmax(_linear(features['x']) / features['temperature'])}

    return {'mode': 'infer', 'predictions': model_fn({'x': x, 'temperature': temperature})}


def _fed_inside() -> Any:
    """Clients feed a tensor behind the placeholder."""
    x = v1.placeholder(tf.string, [None], name='examples')
    parsed = tf.io.parse_example(x, {'x': tf.io.FixedLenFeature([3], tf.float32)})['x']
    return {'mode': 'infer', 'predictions': {'p': _linear(parsed)},
            'context': JobContext(receiver_tensors={'x': parsed})}


def _fed_by_hook() -> Any:
    """A hook of the spec holds the placeholder and feeds it."""
    fields = _predict(_fed_by_nobody)
    keep = v1.get_default_graph().get_tensor_by_name('keep_prob:0')
    return {**fields, 'prediction_hooks': [v1.train.FeedFnHook(lambda: {keep: 1.})]}


StrayPlaceholder.more_bad = (_receiver_not_known, _second_input, _switch_beside_iterator)
StrayPlaceholder.more_good = (_with_default, _scalar_feature, _fed_inside, _fed_by_hook)


class ReceiverNotReached(Rule):
    """The outputs do not depend on what clients send.

    What it finds: in a graph that is built for an export, outputs of which none depends on any of
    the receiver's tensors.

    Why it matters: the receiver made its features of constants, or of other placeholders: every
    request gets the same answer.

    Bad:
        ServingInputReceiver({'x': tf.constant([[1., 2., 3.]])}, {'x': placeholder})

    Good:
        ServingInputReceiver({'x': placeholder}, {'x': placeholder})

    When to suppress: when the model has an answer that does not depend on the request.
    """

    code = 'ESX422'
    slug = 'receiver-not-reached'
    severity = Severity.WARNING
    modes = (PREDICT,)
    mistakes = ('X5',)
    needs = ('predictions', 'export_outputs')

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        fed = {graphs.as_op(tensor) for tensor in _receiver_tensors(facts)} - {None}
        outputs = exported.served(facts)
        if not fed or not outputs:
            return
        if not fed & facts.index.ancestors([output.tensor for output in outputs]):
            names = describe.names(repr(name) for name in facts.context.receiver_tensors or {})
            yield self.finding(
                facts, f'no output depends on what clients send ({names})', field=outputs[0].field,
                op=outputs[0].tensor,
                hint='make the features of the receiver out of its receiver_tensors',
                expected='outputs of the receiver', actual='outputs of something else')

    @staticmethod
    def bad() -> Any:
        """The features are a constant."""
        fields = _predict(lambda x: {'p': _linear(tf.constant([[1., 2., 3.]]))}, exports=True)
        return fields

    @staticmethod
    def good() -> Any:
        """The features are what clients send."""
        return _predict(lambda x: {'p': _linear(x)}, exports=True)


def _through_the_batch_size() -> Any:
    """A baseline model reads no more of the request than its length."""
    return _predict(lambda x: {'p': tf.fill([tf.shape(x)[0]], 3.)}, exports=True)


ReceiverNotReached.more_good = (_through_the_batch_size,)

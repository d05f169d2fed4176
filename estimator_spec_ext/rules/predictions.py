"""The predictions: tensors, under names that a signature can hold."""

from __future__ import annotations

from typing import Any, Iterator, Optional

from estimator_spec_ext import describe, export
from estimator_spec_ext.compat import distribution, estimator, graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.rule import PREDICT, Rule

FIELD = 'predictions'


def entries(facts: SpecFacts) -> list[tuple[Any, Any]]:
    """Key and value of each prediction; a bare value has the key None."""
    value = facts.predictions
    if isinstance(value, dict):
        return list(value.items())
    return [] if value is None or distribution.is_per_replica(value) else [(None, value)]


def _place(facts: SpecFacts, key: Any) -> str:
    return describe.entry(FIELD, key) if isinstance(facts.predictions, dict) else FIELD


def _features() -> Any:
    return v1.placeholder(tf.float32, [None, 3], name='x')


def _predict(predictions: Any, **fields: Any) -> dict[str, Any]:
    return {'mode': 'infer', 'predictions': predictions, **fields}


class PredictionNotTensor(Rule):
    """A prediction is not a dense tensor.

    What it finds: a SparseTensor or RaggedTensor, as CTC and beam search decoders return them, a
    Python or NumPy value, None, a list, an operation, or a nested dict.

    Why it matters: stock raises when the spec is built, in every mode in which predictions are
    handed in. It shows the repr of the object and says nothing of a way out.

    Bad:
        predictions={'words': decoded[0]}

    Good:
        predictions={'words': tf.sparse.to_dense(decoded[0], default_value=-1)}

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX401'
    slug = 'prediction-not-tensor'
    severity = Severity.ERROR
    stage = 'spec'
    mistakes = ('P6',)
    about = ('predictions',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        for key, value in entries(facts):
            if graphs.is_tensor(value) or distribution.is_per_replica(value):
                continue
            actual = describe.value(value)
            place = _place(facts, key)
            expected = ('a tensor' if isinstance(facts.predictions, dict)
                        else 'a tensor or a dict of tensors')
            yield self.finding(facts, f'{place} is {actual}; expected {expected}', field=place,
                               op=_part(value), hint=_remedy(value), expected=expected,
                               actual=actual)

    @staticmethod
    def bad() -> Any:
        """What a CTC decoder returns."""
        frames = v1.placeholder(tf.float32, [20, None, 5], name='frames')
        lengths = tf.fill([tf.shape(frames)[1]], 20)
        decoded, scores = tf.nn.ctc_greedy_decoder(frames, lengths)
        return _predict({'words': decoded[0], 'scores': scores})

    @staticmethod
    def good() -> Any:
        """The same, made dense."""
        fields = PredictionNotTensor.bad()
        words = fields['predictions']['words']
        fields['predictions']['words'] = tf.sparse.to_dense(words, default_value=-1)
        return fields


def _part(value: Any) -> Any:
    """A tensor inside a composite one, which knows the place where it was made."""
    if isinstance(value, tf.SparseTensor):
        return value.values
    if isinstance(value, tf.RaggedTensor):
        return value.flat_values
    return value if isinstance(value, tf.Operation) else None


def _remedy(value: Any) -> str:
    if isinstance(value, tf.SparseTensor):
        return 'make it dense: tf.sparse.to_dense(value, default_value=...)'
    if isinstance(value, tf.RaggedTensor):
        return 'pad it: value.to_tensor(default_value=...)'
    if graphs.is_composite(value):
        return f'predict the tensors that the {type(value).__name__} is made of'
    if value is None:
        return 'leave the key out, or give it a tensor'
    if isinstance(value, tf.Operation):
        return 'pass the tensor that it computes: op.outputs[0]'
    if isinstance(value, dict):
        return "make one flat dict of it, e.g. with keys 'head/scores'"
    if isinstance(value, (list, tuple)):
        return 'name each tensor in a dict, or put them together: tf.stack(values, axis=1)'
    if callable(value):
        return 'call it on the features and pass the tensor that it returns'
    return 'make it a tensor with one row an example: tf.fill([batch_size], value)'


def _bare_ragged() -> Any:
    """A ragged tensor, not in a dict."""
    return _predict(tf.RaggedTensor.from_row_lengths(
        v1.placeholder(tf.int64, [None], name='ids'), v1.placeholder(tf.int64, [None])))


def _python_values() -> Any:
    """Values of Python's, and none at all, while evaluating."""
    predictions = {'p': _features(), 'threshold': .5, 'labels': None, 'names': ['a', 'b']}
    return {'mode': 'eval', 'loss': tf.constant(1.), 'predictions': predictions}


def _list_of_tensors() -> Any:
    """A list of tensors where a dict is needed."""
    return _predict([_features()])


def _any_key_outside_predict() -> Any:
    """Outside of PREDICT keys may be anything, and a variable is a tensor."""
    weight = v1.get_variable('w', [3])
    return {'mode': 'eval', 'loss': tf.constant(1.),
            'predictions': {('head', 'p'): _features(), 3: weight}}


def _subclass_of_dict() -> Any:
    """An OrderedDict of tensors of several dtypes, one of them twice, of unknown rank."""
    import collections
    text = v1.placeholder(tf.string, name='text')
    return _predict(collections.OrderedDict(
        text=text, again=text, image=v1.placeholder(tf.uint8, [None, 8, 8, 3])))


PredictionNotTensor.more_bad = (_bare_ragged, _python_values, _list_of_tensors)
PredictionNotTensor.more_good = (_any_key_outside_predict, _subclass_of_dict)


class PredictionKeyNotString(Rule):
    """A key of the predictions is no string, so no default signature can be made.

    What it finds: in PREDICT without export_outputs, a key that is neither a string nor a tuple of
    strings.

    Why it matters: stock makes `serving_default` of the predictions and raises there; training and
    evaluation with the same keys work, so it is seen only after training.

    Bad:
        predictions={0: scores, 1: classes}

    Good:
        predictions={'scores': scores, 'classes': classes}

    When to suppress: never; TensorFlow itself would raise. With export_outputs of your own, any
    key will do.
    """

    code = 'ESX402'
    slug = 'prediction-key-not-string'
    severity = Severity.ERROR
    stage = 'spec'
    modes = (PREDICT,)
    about = ('predictions',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if (not facts.is_predict or facts.export_outputs is not None
                or not isinstance(facts.predictions, dict)):
            return
        for key in facts.predictions:
            if export.flat_key(key) is None:
                actual = describe.key(key)
                yield self.finding(
                    facts, f'predictions has the key {actual}; expected a string',
                    field=_place(facts, key), op=facts.predictions[key],
                    hint='name each output by a string; export_outputs then names its signatures',
                    expected='a string, or a tuple of strings', actual=actual)

    @staticmethod
    def bad() -> Any:
        """A number for a name."""
        return _predict({0: _features()})

    @staticmethod
    def good() -> Any:
        """A name."""
        return _predict({'p': _features()})


def _tuple_with_number() -> Any:
    """A tuple is joined with '/', which takes strings alone."""
    return _predict({('head', 1): _features(), ('head', 'p'): _features()})


def _own_exports() -> Any:
    """With export outputs of the author's own, nothing is made of the predictions."""
    x = _features()
    return _predict({0: x}, export_outputs={
        'serving_default': estimator.export.PredictOutput({'p': x})})


def _tuples_of_strings() -> Any:
    """MultiHead names its outputs so."""
    return _predict({('head1', 'logits'): _features(), ('head2', 'logits'): _features()})


PredictionKeyNotString.more_bad = (_tuple_with_number,)
PredictionKeyNotString.more_good = (_own_exports, _tuples_of_strings)


class OutputNamesCollide(Rule):
    """Two predictions get the same name in the export, and one of them is lost.

    What it finds: a tuple key that, joined with '/', equals another key: `('a', 'b')` and 'a/b'.

    Why it matters: stock keeps the last one and says nothing; the SavedModel lacks an output.

    Bad:
        predictions={('head', 'scores'): a, 'head/scores': b}

    Good:
        predictions={('head', 'scores'): a, 'scores': b}

    When to suppress: when the model is never exported.
    """

    code = 'ESX403'
    slug = 'output-names-collide'
    severity = Severity.ERROR
    stage = 'spec'
    modes = (PREDICT,)
    about = ('predictions',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if not facts.is_predict or not isinstance(facts.predictions, dict):
            return
        first: dict[Optional[str], Any] = {}
        for key, value in facts.predictions.items():
            name = export.flat_key(key)
            if name is None or first.setdefault(name, key) == key:
                continue
            other = facts.predictions[first[name]]
            if other is not value and _exported(facts, name, (value, other)):
                yield self.finding(
                    facts, f'predictions has {describe.key(first[name])} and {describe.key(key)}; '
                           f'both are exported as {name!r} and one is lost',
                    field=_place(facts, key), op=value, hint='rename one of the two',
                    expected='names that differ', actual=repr(name))

    @staticmethod
    def bad() -> Any:
        """The key of a head and one made by hand."""
        x = _features()
        return _predict({('head', 'scores'): x, 'head/scores': tf.nn.softmax(x)})

    @staticmethod
    def good() -> Any:
        """Another name."""
        x = _features()
        return _predict({('head', 'scores'): x, 'scores': tf.nn.softmax(x)})


def _exported(facts: SpecFacts, name: str, values: tuple[Any, ...]) -> bool:
    """Whether a signature has one of `values` under `name`."""
    outputs = facts.export_outputs
    if outputs is None:
        return True
    if not isinstance(outputs, dict):
        return False
    return any(held is value for output in outputs.values()
               if isinstance(output, estimator.export.PredictOutput)
               for held_name, held in export.tensors_of(output) if held_name == name
               for value in values)


def _collides_in_own_output() -> Any:
    """The author's own PredictOutput of the same dict has lost it already."""
    fields = OutputNamesCollide.bad()
    return {**fields, 'export_outputs': {
        'serving_default': estimator.export.PredictOutput(fields['predictions'])}}


def _same_tensor_twice() -> Any:
    """Nothing is lost when both names hold one tensor."""
    x = _features()
    return _predict({('head', 'scores'): x, 'head/scores': x})


OutputNamesCollide.more_bad = (_collides_in_own_output,)
OutputNamesCollide.more_good = (_same_tensor_twice,)


class PredictionNotServable(Rule):
    """A prediction cannot be fetched or served.

    What it finds: in PREDICT, a tensor of dtype variant or resource (a dataset, an optional, a
    tensor list, a handle), or a variable where its value is wanted.

    Why it matters: a session cannot fetch a variant, and a client gets nothing out of a handle.
    Stock accepts both; of a variable it makes no default signature and raises.

    Bad:
        predictions={'table': variable.handle}

    Good:
        predictions={'table': tf.tile(variable[tf.newaxis], [tf.shape(x)[0], 1, 1])}

    When to suppress: when only a hook of yours reads it.
    """

    code = 'ESX404'
    slug = 'prediction-not-servable'
    severity = Severity.ERROR
    stage = 'spec'
    modes = (PREDICT,)
    mistakes = ('P2', 'P3')
    about = ('predictions',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if not facts.is_predict:
            return
        for key, value in entries(facts):
            if not graphs.is_tensor(value) or distribution.is_per_replica(value):
                continue
            place = _place(facts, key)
            dtype = value.dtype.base_dtype
            if dtype in (tf.variant, tf.resource):
                yield self.finding(
                    facts, f'{place} has dtype {dtype.name}; expected one that a client can read',
                    field=place, op=value, hint='pass the numbers or strings that it stands for',
                    expected='numbers or strings', actual=dtype.name,
                    severity=None if dtype == tf.variant else Severity.WARNING)
            elif facts.export_outputs is None and graphs.is_variable(value):
                yield self.finding(
                    facts, f'{place} is a variable; expected its value', field=place, op=value,
                    hint='leave weights out, or repeat their value for each example: '
                         'tf.tile(variable[None], [batch, ...])', expected='a tensor',
                    actual='a variable')

    @staticmethod
    def bad() -> Any:
        """A list of tensors, as a variant."""
        scores = tf.raw_ops.TensorListFromTensor(tensor=_features(), element_shape=[3])
        return _predict({'scores': scores})

    @staticmethod
    def good() -> Any:
        """The tensor itself."""
        return _predict({'scores': _features()})


def _handle() -> Any:
    """A handle of a variable."""
    variable = v1.get_variable('v', [3], use_resource=True)
    return _predict({'p': _features(), 'v': variable.handle})


def _variable() -> Any:
    """A variable: stock makes no default signature of it."""
    return _predict({'v': v1.get_variable('v', [3])})


def _variable_in_eval() -> Any:
    """Outside of PREDICT nothing is made of a variable among the predictions."""
    return {'mode': 'eval', 'loss': tf.constant(1.),
            'predictions': {'p': _features(), 'v': v1.get_variable('v', [3])}}


PredictionNotServable.more_bad = (_handle, _variable)
PredictionNotServable.more_good = (_variable_in_eval,)

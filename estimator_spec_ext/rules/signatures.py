"""The signatures that an export will have: the default among them, and those that are dropped."""

from __future__ import annotations

from typing import Any, Iterator, Optional

from estimator_spec_ext import describe, export
from estimator_spec_ext.compat import estimator, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.rule import PREDICT, Rule
from estimator_spec_ext.rules import export_outputs

FIELD = export_outputs.FIELD
outputs_lib = estimator.export
entries = export_outputs.entries


def _scores(dtype: Any = tf.float32) -> Any:
    return v1.placeholder(dtype, [None, 3], name='scores')


def _predict(scores: Any, outputs: Any) -> dict[str, Any]:
    return {'mode': 'infer', 'predictions': {'scores': scores}, 'export_outputs': outputs}


class NoDefaultSignature(Rule):
    """Several export outputs, and none is `serving_default`.

    What it finds: in PREDICT, two or more export outputs without that name. Where the predictions
    can be exported, a strict spec adds them under it and says so as information.

    Why it matters: stock raises in PREDICT alone, which is after training. A client that names no
    signature asks for `serving_default`.

    Bad:
        export_outputs={'sales': PredictOutput(a), 'clicks': PredictOutput(b)}

    Good:
        export_outputs={'serving_default': PredictOutput(a), 'clicks': PredictOutput(b)}

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX408'
    slug = 'no-default-signature'
    severity = Severity.ERROR
    stage = 'spec'
    modes = (PREDICT,)
    mistakes = ('X3',)
    about = (FIELD,)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        outputs = facts.export_outputs
        if not facts.is_predict or not isinstance(outputs, dict) or len(outputs) < 2:
            return
        default = outputs.get(export.DEFAULT_KEY)
        if default is not None and not export.was_added(default):
            return
        names = [describe.key(name) for name, value in outputs.items()
                 if not export.was_added(value)]
        listed = describe.names(names)
        if default is None:
            yield self.finding(
                facts, f"export_outputs has {listed}; expected one to be 'serving_default'",
                field=FIELD, hint=f"give the main one the name 'serving_default' beside {names[0]}",
                expected="'serving_default'", actual=listed)
        else:
            yield self.finding(
                facts, f"export_outputs has {listed} and no 'serving_default'; "
                       'all predictions were added as the default',
                field=FIELD, hint="name the one that clients get by default 'serving_default'",
                expected="'serving_default'", actual=listed, severity=Severity.INFO)

    @staticmethod
    def bad() -> Any:
        """Two heads of equal rank, and predictions that cannot stand in."""
        scores = _scores()
        return {**_predict(scores, {'sales': outputs_lib.PredictOutput({'sales': scores[:, 0]}),
                                    'clicks': outputs_lib.PredictOutput({'clicks': scores[:, 1]})}),
                'predictions': {}}

    @staticmethod
    def good() -> Any:
        """One of the two is the default."""
        scores = _scores()
        sales = outputs_lib.PredictOutput({'sales': scores[:, 0]})
        return _predict(scores, {'serving_default': sales, 'sales': sales,
                                 'clicks': outputs_lib.PredictOutput({'clicks': scores[:, 1]})})


def _one_of_any_name() -> Any:
    """A single output of any name: stock makes it the default."""
    scores = _scores()
    return _predict(scores, {'my_signature': outputs_lib.PredictOutput({'scores': scores})})


def _completed() -> Any:
    """A strict spec adds the default that two heads lack."""
    scores = _scores()
    heads = {'sales': outputs_lib.PredictOutput({'sales': scores[:, 0]}),
             'clicks': outputs_lib.PredictOutput({'clicks': scores[:, 1]})}
    return _predict(scores, export.complete_export_outputs(heads, {'scores': scores}))


NoDefaultSignature.more_bad = (_completed,)
NoDefaultSignature.more_good = (_one_of_any_name,)


class SignatureAlwaysDropped(Rule):
    """An export output that TensorFlow drops at every export.

    What it finds: in PREDICT, a RegressionOutput or the scores of a ClassificationOutput of another
    dtype than float32, classes that are not strings, or a PredictOutput without any tensor. An
    error when it is the default and no other output of yours can be served.

    Why it matters: the constructors take any floating dtype; the export then leaves the signature
    out and gives the reason in a line of level INFO.

    Bad:
        export_outputs={'serving_default': RegressionOutput(value)}   # float64

    Good:
        export_outputs={'serving_default': RegressionOutput(tf.cast(value, tf.float32))}

    When to suppress: when the model is never exported.
    """

    code = 'ESX409'
    slug = 'signature-always-dropped'
    severity = Severity.ERROR
    stage = 'spec'
    modes = (PREDICT,)
    mistakes = ('X2', 'X4')
    about = (FIELD,)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if not facts.is_predict:
            return
        own = [(name, value) for name, value in entries(facts) if not export.was_added(value)]
        reasons = {id(value): _reason(value) for _, value in own}
        other_is_left = any(reasons[id(value)] is None for _, value in own)
        told: set[int] = set()
        # The default first: one object may have two names.
        for name, value in sorted(own, key=lambda item: item[0] != export.DEFAULT_KEY):
            reason = reasons[id(value)]
            if reason is None or id(value) in told:
                continue
            told.add(id(value))
            part, tensor, expected, hint = reason
            actual = 'no tensor' if tensor is None else f'{part} {describe.value(tensor)}'
            place = describe.entry(FIELD, name)
            yield self.finding(
                facts, f'{place} has {actual}; expected {expected}, or the export drops it',
                field=place, op=tensor, hint=hint, expected=expected, actual=actual,
                severity=Severity.WARNING if other_is_left else None)

    @staticmethod
    def bad() -> Any:
        """A regression in double precision."""
        value = _scores(tf.float64)[:, 0]
        return _predict(value, {'serving_default': outputs_lib.RegressionOutput(value)})

    @staticmethod
    def good() -> Any:
        """The same in single precision."""
        value = _scores()[:, 0]
        return _predict(value, {'serving_default': outputs_lib.RegressionOutput(value)})


def _reason(output: Any) -> Optional[tuple[str, Any, str, str]]:
    """Why no export keeps this output: part, tensor, what is expected, and the remedy."""
    as_float = 'cast it: tf.cast(value, tf.float32)'
    if isinstance(output, outputs_lib.PredictOutput):
        if not output.outputs:
            return 'outputs', None, 'at least one tensor', 'give it the tensors to serve'
        return None
    for name, tensor in export.tensors_of(output):
        dtype = tensor.dtype.base_dtype
        if name == 'classes' and dtype != tf.string:
            return name, tensor, 'strings', 'name the classes: tf.as_string(class_ids)'
        if name != 'classes' and dtype != tf.float32:
            return name, tensor, 'float32', as_float
    return None


class _Ids(outputs_lib.ClassificationOutput):  # type: ignore[name-defined]
    """A classification by numbers, round the check in the constructor."""

    @property
    def classes(self) -> Any:
        return tf.compat.v1.get_default_graph().get_tensor_by_name('ids:0')


def _number_classes() -> Any:
    """Class ids where labels are wanted, and half-precision scores beside a good default."""
    scores = _scores()
    v1.placeholder(tf.int64, [None, 3], name='ids')
    half = outputs_lib.ClassificationOutput(scores=tf.cast(scores, tf.float16))
    return _predict(scores, {'serving_default': outputs_lib.PredictOutput(scores),
                             'ids': _Ids(scores=scores), 'half': half})


def _empty_output() -> Any:
    """A PredictOutput of nothing."""
    return _predict(_scores(), {'serving_default': outputs_lib.PredictOutput({})})


def _labels() -> Any:
    """Labels and scores of the right types; PredictOutput takes any dtype."""
    scores = _scores()
    classes = tf.as_string(tf.tile([tf.range(3)], [tf.shape(scores)[0], 1]))
    return _predict(scores, {
        'serving_default': outputs_lib.ClassificationOutput(scores=scores, classes=classes),
        'predict': outputs_lib.PredictOutput({'double': tf.cast(scores, tf.float64)})})


SignatureAlwaysDropped.more_bad = (_number_classes, _empty_output)
SignatureAlwaysDropped.more_good = (_labels,)


class SignatureNeedsExamples(Rule):
    """The default signature is kept only for a receiver of serialized examples.

    What it finds: in PREDICT, a ClassificationOutput or RegressionOutput as `serving_default`.

    Why it matters: TensorFlow drops it, with a line of level INFO, unless the receiver is exactly
    one string tensor: a receiver of raw features leaves a SavedModel without its default. A strict
    spec sees to it that a signature 'predict' is left.

    Bad:
        export_outputs={'serving_default': ClassificationOutput(scores=scores)}

    Good:
        export_outputs={'serving_default': PredictOutput({'scores': scores})}

    When to suppress: when clients send serialized tf.train.Example.
    """

    code = 'ESX410'
    slug = 'signature-needs-examples'
    severity = Severity.INFO
    stage = 'spec'
    modes = (PREDICT,)
    mistakes = ('X2',)
    about = (FIELD,)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if not facts.is_predict or facts.context.receiver_tensors is not None:
            return
        default = dict(entries(facts)).get(export.DEFAULT_KEY)
        kinds = (outputs_lib.ClassificationOutput, outputs_lib.RegressionOutput)
        if not isinstance(default, kinds) or _reason(default) is not None:
            return
        kind = next(kind for kind in kinds if isinstance(default, kind)).__name__
        yield self.finding(
            facts, f'serving_default is a {kind}: kept for a receiver of one string tensor alone',
            field=describe.entry(FIELD, export.DEFAULT_KEY),
            hint='for a receiver of raw features make it a tf.estimator.export.PredictOutput',
            expected='a PredictOutput', actual=kind)

    @staticmethod
    def bad() -> Any:
        """A classification as default."""
        scores = _scores()
        return _predict(scores, {
            'serving_default': outputs_lib.ClassificationOutput(scores=scores)})

    @staticmethod
    def good() -> Any:
        """Any receiver will do for this one."""
        scores = _scores()
        return _predict(scores, {
            'serving_default': outputs_lib.PredictOutput({'scores': scores}),
            'classification': outputs_lib.ClassificationOutput(scores=scores)})

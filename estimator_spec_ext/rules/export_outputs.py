"""The export outputs: what the signatures of a SavedModel are made of."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import estimator, graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.rule import PREDICT, Rule

FIELD = 'export_outputs'
outputs_lib = estimator.export


def entries(facts: SpecFacts) -> list[tuple[Any, Any]]:
    """Name and value of each export output; () when the field holds no dict."""
    outputs = facts.export_outputs
    return list(outputs.items()) if isinstance(outputs, dict) else []


def _scores(dtype: Any = tf.float32) -> Any:
    return v1.placeholder(dtype, [None, 3], name='scores')


def _predict(scores: Any, export_outputs: Any) -> dict[str, Any]:
    return {'mode': 'infer', 'predictions': {'scores': scores}, 'export_outputs': export_outputs}


class NoSignatures(Rule):
    """The export will have no signature at all.

    What it finds: in PREDICT, an empty dict as export_outputs, or empty predictions without
    export_outputs.

    Why it matters: the export succeeds, with a line "Export includes no signatures!" in the log,
    and no server or client can call the model.

    Bad:
        tf.estimator.EstimatorSpec(mode, predictions=predictions, export_outputs={})

    Good:
        tf.estimator.EstimatorSpec(mode, predictions=predictions)

    When to suppress: when the model is never exported.
    """

    code = 'ESX405'
    slug = 'no-signatures'
    severity = Severity.WARNING
    stage = 'spec'
    modes = (PREDICT,)
    mistakes = ('X1',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if not facts.is_predict:
            return
        outputs, predictions = facts.export_outputs, facts.predictions
        if isinstance(outputs, dict) and not outputs:
            yield self.finding(
                facts, 'export_outputs is an empty dict; the export will have no signature',
                field=FIELD, hint='leave export_outputs out: the predictions become the default',
                expected="None, or a dict with 'serving_default'", actual='{}')
        elif outputs is None and isinstance(predictions, dict) and not predictions:
            yield self.finding(
                facts, 'predictions is an empty dict; the export will have no signature',
                field='predictions', hint='give predictions, or export_outputs of your own',
                expected='a tensor or a dict of tensors', actual='{}')

    @staticmethod
    def bad() -> Any:
        """An empty dict is not the same as none."""
        return _predict(_scores(), {})

    @staticmethod
    def good() -> Any:
        """Stock makes the default of the predictions."""
        return _predict(_scores(), None)


def _nothing_to_predict() -> Any:
    """Neither predictions nor export outputs."""
    return {'mode': 'infer', 'predictions': {}}


def _exports_alone() -> Any:
    """All outputs are exported by name, and predict returns none of them."""
    return {'mode': 'infer', 'predictions': {},
            'export_outputs': {'predict': outputs_lib.PredictOutput({'state': _scores()})}}


NoSignatures.more_bad = (_nothing_to_predict,)
NoSignatures.more_good = (_exports_alone,)


class NotExportOutput(Rule):
    """export_outputs is not a dict of ExportOutput objects.

    What it finds: a list, a bare ExportOutput, or a dict that holds tensors, dicts or classes.

    Why it matters: stock raises in PREDICT alone, which is after training. In TRAIN and EVAL it
    ignores the field, so there this is information.

    Bad:
        export_outputs={'serving_default': {'scores': scores}}

    Good:
        export_outputs={'serving_default': tf.estimator.export.PredictOutput({'scores': scores})}

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX406'
    slug = 'not-export-output'
    severity = Severity.ERROR
    stage = 'spec'
    about = (FIELD,)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        outputs = facts.export_outputs
        softer = None if facts.is_predict else Severity.INFO
        if outputs is not None and not isinstance(outputs, dict):
            actual = describe.value(outputs)
            yield self.finding(
                facts, f'export_outputs is {actual}; expected a dict', field=FIELD, op=outputs,
                hint="name it: {'serving_default': tf.estimator.export.PredictOutput(...)}",
                expected='a dict', actual=actual, severity=softer)
            return
        for name, value in entries(facts):
            if isinstance(value, outputs_lib.ExportOutput):
                continue
            actual = describe.value(value)
            place = describe.entry(FIELD, name)
            yield self.finding(
                facts, f'{place} is {actual}; expected an ExportOutput', field=place, op=value,
                hint=_wrapped(value), expected='a tf.estimator.export.ExportOutput', actual=actual,
                severity=softer)

    @staticmethod
    def bad() -> Any:
        """A dict of tensors where an ExportOutput is wanted."""
        scores = _scores()
        return _predict(scores, {'serving_default': {'scores': scores}})

    @staticmethod
    def good() -> Any:
        """The same dict, wrapped."""
        scores = _scores()
        return _predict(scores, {'serving_default': outputs_lib.PredictOutput({'scores': scores})})


def _wrapped(value: Any) -> str:
    if isinstance(value, type):
        return f'call it: tf.estimator.export.{value.__name__}(...)'
    if graphs.is_tensor(value):
        return "wrap it: tf.estimator.export.PredictOutput({'name': tensor})"
    if isinstance(value, dict):
        return 'wrap the dict: tf.estimator.export.PredictOutput(...)'
    return 'pass a PredictOutput, ClassificationOutput or RegressionOutput'


def _bare_output() -> Any:
    """An ExportOutput that has no name."""
    scores = _scores()
    return _predict(scores, outputs_lib.PredictOutput(scores))


def _tensor_and_class() -> Any:
    """A tensor, and a class that was never called."""
    scores = _scores()
    return _predict(scores, {'serving_default': scores,
                             'classes': outputs_lib.ClassificationOutput})


def _list_in_train() -> Any:
    """Stock ignores the field in TRAIN and would raise in PREDICT."""
    step = v1.train.get_or_create_global_step()
    weight = v1.get_variable('w', [])
    loss = tf.square(weight)
    return {'mode': 'train', 'loss': loss, 'export_outputs': ['serving_default'],
            'train_op': v1.train.GradientDescentOptimizer(.1).minimize(loss, step)}


class _OwnOutput(outputs_lib.PredictOutput):  # type: ignore[name-defined]
    """A PredictOutput of the author's own kind."""


def _subclass_under_two_names() -> Any:
    """One object, of a class of the author's, under two names."""
    output = _OwnOutput({'p': _scores()})
    return _predict(output.outputs['p'], {'serving_default': output, 'predict': output})


NotExportOutput.more_bad = (_bare_output, _tensor_and_class, _list_in_train)
NotExportOutput.more_good = (_subclass_under_two_names,)


class SignatureNameNotString(Rule):
    """The name of a signature is not a string.

    What it finds: in PREDICT, a key of export_outputs that is a number, a tuple, bytes or None.

    Why it matters: stock formats it: None becomes 'None', b'a' becomes "b'a'", and a client that
    asks for the name that the author had in mind finds nothing.

    Bad:
        export_outputs={b'scores': output}

    Good:
        export_outputs={'scores': output}

    When to suppress: when clients know the formatted name.
    """

    code = 'ESX407'
    slug = 'signature-name-not-string'
    severity = Severity.WARNING
    stage = 'spec'
    modes = (PREDICT,)
    about = (FIELD,)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if not facts.is_predict:
            return
        for name, _ in entries(facts):
            if not isinstance(name, str):
                actual = 'None' if name is None else describe.key(name)
                yield self.finding(
                    facts, f'export_outputs has the key {actual}; expected a string',
                    field=f'{FIELD}[{actual}]', hint="name the signature, e.g. 'serving_default'",
                    expected='a string', actual=actual)

    @staticmethod
    def bad() -> Any:
        """The label of a head, as a number."""
        scores = _scores()
        return _predict(scores, {'serving_default': outputs_lib.PredictOutput(scores),
                                 7: outputs_lib.PredictOutput(scores)})

    @staticmethod
    def good() -> Any:
        """A name."""
        scores = _scores()
        return _predict(scores, {'serving_default': outputs_lib.PredictOutput(scores),
                                 'head_7': outputs_lib.PredictOutput(scores)})

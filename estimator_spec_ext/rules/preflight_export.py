"""The export, built but not written: which signatures are left, and what they need."""

from __future__ import annotations

import re
from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs
from estimator_spec_ext.rules.preflight_crash import CrashRule

DEFAULT = 'serving_default'
_outputs = tf_estimator.export
_DEPEND = ('make serving_default a tf.estimator.export.PredictOutput of tensors that depend on the '
           'receiver alone')
_PARSE = ('make it a tf.estimator.export.PredictOutput, or receive serialized tf.Examples: '
          'tf.estimator.export.build_parsing_serving_input_receiver_fn(feature_spec)')
# TensorFlow's words about a classification or a regression.
_OF_STRINGS = 'single tensor input'


def reason_text(reason: str) -> str:
    """TensorFlow's reason in few words, without the names of all tensors."""
    needs = re.search(r'dependency on `([^`]*)`', reason)
    if needs:
        return f'it needs placeholder {needs.group(1)!r}, which no receiver feeds'
    text = reason.strip().split('\n', 1)[0]
    for mark in ('Received', 'received', '. ', '; got'):
        text = text.split(mark, 1)[0]
    return text.strip().rstrip('.;,')[:110]


def _told(build: Any, name: str) -> bool:
    """Whether a rule of the fields has spoken of this signature."""
    field = describe.entry('export_outputs', name)
    return any(finding.where.field == field for finding in build.report.findings
               if finding.severity is not Severity.INFO)


def _classifies(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    outputs = {DEFAULT: _outputs.ClassificationOutput(scores=prediction)}
    return jobs.spec(mode, prediction, labels, export_outputs=outputs if mode == 'infer' else None)


def _classifies_beside(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    outputs = {DEFAULT: _outputs.PredictOutput({'p': prediction}),
               'classify': _outputs.ClassificationOutput(scores=prediction)}
    return jobs.spec(mode, prediction, labels, export_outputs=outputs if mode == 'infer' else None)


def _keep_probability(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode == 'infer':
        prediction *= v1.placeholder(tf.float32, [], name='keep_prob')
    return jobs.spec(mode, prediction, labels)


def _example_receiver() -> Any:
    return _outputs.build_parsing_serving_input_receiver_fn(
        {'x': tf.io.FixedLenFeature([jobs.FEATURES], tf.float32)})()


def good_examples() -> Any:
    """A receiver of serialized examples keeps classifications."""
    return jobs.job(_classifies, receiver=_example_receiver)


class ServingDefaultDropped(Rule):
    """The export would have no signature `serving_default`.

    What it finds: an export, built with the job's own serving receiver, whose `serving_default`
    TensorFlow drops, with TensorFlow's own reason.

    Why it matters: the export "succeeds" with a line of level INFO, and every client that names no
    signature fails. A ClassificationOutput or RegressionOutput is dropped unless the receiver is
    one tensor of strings; any output is dropped that needs a placeholder which nobody feeds.

    Bad:
        export_outputs={'serving_default': ClassificationOutput(scores=p)}   # raw features

    Good:
        export_outputs={'serving_default': PredictOutput({'p': p})}

    When to suppress: when every client names the signature that is left.
    """

    code = 'ESX481'
    slug = 'serving-default-dropped'
    severity = Severity.ERROR
    stage = 'modes'
    mistakes = ('X1', 'X2', 'X5')
    more_good = (good_examples,)

    def check(self, facts: Any) -> Iterator[Finding]:
        for build in facts.of('infer'):
            if build.signatures is None or DEFAULT in build.signatures or _told(build, DEFAULT):
                continue
            reason = build.dropped.get(DEFAULT)
            if reason is None:
                message = 'the export has no signature serving_default: export_outputs has none'
            else:
                message = f'TensorFlow drops serving_default from the export: {reason_text(reason)}'
            left = describe.names(build.signatures) if build.signatures else 'none'
            # Of a canned estimator the outputs are given; the receiver is the user's own.
            hint = _PARSE if reason and _OF_STRINGS in reason else _DEPEND
            yield self.finding(
                build, message, field=describe.entry('export_outputs', DEFAULT), hint=hint,
                expected=DEFAULT, actual=left)

    @staticmethod
    def bad() -> Any:
        """A classification over a receiver of numbers."""
        return jobs.job(_classifies)

    @staticmethod
    def good() -> Any:
        """The predictions themselves."""
        return jobs.job()


class SignatureDropped(Rule):
    """The export would lose one of its signatures.

    What it finds: an entry of export_outputs, other than `serving_default`, that TensorFlow drops
    at the export with the job's own serving receiver.

    Why it matters: the reason is a line of level INFO; clients find out.

    Bad:
        export_outputs={'serving_default': PredictOutput(p), 'classify': ClassificationOutput(p)}

    Good:
        export_outputs={'serving_default': PredictOutput(p)}

    When to suppress: when nobody asks for this signature.
    """

    code = 'ESX482'
    slug = 'signature-dropped'
    severity = Severity.WARNING
    stage = 'modes'
    mistakes = ('X2',)

    def check(self, facts: Any) -> Iterator[Finding]:
        for build in facts.of('infer'):
            if build.signatures is None or DEFAULT not in build.signatures:
                continue  # the lost default is told; the others go with it
            for name, reason in sorted(build.dropped.items()):
                if not _told(build, name):
                    yield self.finding(
                        build, f'TensorFlow drops signature {name!r} from the export: '
                               f'{reason_text(reason)}',
                        field=describe.entry('export_outputs', name),
                        hint='leave it out, make it a PredictOutput, or serve one string tensor',
                        expected=name, actual=describe.names(build.signatures))

    @staticmethod
    def bad() -> Any:
        """A classification beside a default that stays."""
        return jobs.job(_classifies_beside)

    @staticmethod
    def good() -> Any:
        """The same over serialized examples."""
        return jobs.job(_classifies_beside, receiver=_example_receiver)


def _renamed_receiver() -> Any:
    x = v1.placeholder(tf.float32, [None, jobs.FEATURES], name='y')
    return _outputs.ServingInputReceiver({'y': x}, {'y': x})


def _bare_receiver() -> Any:
    x = v1.placeholder(tf.float32, [None, jobs.FEATURES], name='x')
    return _outputs.TensorServingInputReceiver(x, x)


def _double_receiver() -> Any:
    x = v1.placeholder(tf.float64, [None, jobs.FEATURES], name='x')
    return _outputs.ServingInputReceiver({'x': x}, {'x': x})


def _weighted_input_fn() -> Any:
    return jobs.input_fn().map(lambda x, y: ({**x, 'weight': y}, y)).repeat()


def bad_bare() -> Any:
    """A tensor where model_fn reads a dict."""
    return jobs.job(receiver=_bare_receiver)


def bad_dtype() -> Any:
    """Double precision where model_fn multiplies with single."""
    return jobs.job(receiver=_double_receiver)


def good_fewer() -> Any:
    """A feature that PREDICT does not read."""
    return jobs.job(train=_weighted_input_fn, evaluate=_weighted_input_fn,
                    eval_options={'steps': 3})


def bad_width() -> Any:
    """A width that TRAIN knows, and that the receiver leaves open."""
    def receiver() -> Any:
        x = v1.placeholder(tf.float32, [None, None], name='x')
        return _outputs.ServingInputReceiver({'x': x}, {'x': x})

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        if tf.compat.dimension_value(features['x'].shape[1]) is None:
            raise ValueError('the width of x is None')
        return jobs.spec(mode, jobs.linear(features), labels)

    return jobs.job(model_fn, receiver=receiver)


class ServingFeaturesDiffer(CrashRule):
    """The serving receiver gives other features than model_fn reads.

    What it finds: PREDICT that cannot be built on the serving receiver, where the receiver's
    features differ from those of TRAIN and EVAL in their names, dtypes or ranks.

    Why it matters: a KeyError or a type error at the export, after training.

    Bad:
        ServingInputReceiver({'y': x}, {'y': x})     # model_fn reads features['x']

    Good:
        ServingInputReceiver({'x': x}, {'y': x})     # clients send 'y', model_fn reads 'x'

    When to suppress: never; the export would fail.
    """

    code = 'ESX483'
    slug = 'serving-features-differ'
    mistakes = ('X6', 'X11')
    kinds = ('serving features',)
    more_bad = (bad_bare, bad_dtype, bad_width)
    more_good = (good_fewer,)

    def of_crash(self, build: Any, crash: Any) -> Iterator[Finding]:
        difference = crash.details
        if 'structure' in difference:
            here, there = difference['structure']
            message = f'the serving receiver gives {here} of features; TRAIN and EVAL get {there}'
            expected, actual = there, here
        elif 'missing' in difference:
            expected = describe.names(map(repr, difference['missing']))
            actual = describe.names(map(repr, difference.get('extra', ()))) or 'nothing else'
            message = f'the serving receiver lacks {expected}; it gives {actual} beyond TRAIN\'s'
            if 'extra' not in difference:
                message = f'the serving receiver lacks {expected}, which PREDICT reads'
        else:
            key, actual, expected = difference['differing'][0]
            message = (f'the serving receiver gives {key!r} as {actual}; '
                       f'TRAIN and EVAL get {expected}')
        yield self.finding(
            build, f'{message} ({crash.text})',
            hint='give ServingInputReceiver(features=...) the names and types of the input_fn',
            op=crash.place, expected=expected, actual=actual)

    @staticmethod
    def bad() -> Any:
        """Another name."""
        return jobs.job(receiver=_renamed_receiver)

    @staticmethod
    def good() -> Any:
        """The same names."""
        return jobs.job()


def _keyed_input_fn() -> Any:
    return jobs.input_fn().map(
        lambda x, y: ({**x, 'key': tf.as_string(y[:, 0])}, y)).repeat()


def _keyed_receiver() -> Any:
    tensors = {'x': v1.placeholder(tf.float32, [None, jobs.FEATURES], name='x'),
               'key': v1.placeholder(tf.string, [None], name='key')}
    return _outputs.ServingInputReceiver(tensors, tensors)


def _keyed_job(*, exported: bool) -> Any:
    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        prediction = jobs.linear(features)
        if mode != 'infer':
            return jobs.spec(mode, prediction, labels)
        predictions = {'p': prediction, 'key': features['key']}
        served = predictions if exported else {'p': prediction}
        return tf_estimator.EstimatorSpec(mode, predictions=predictions, export_outputs={
            DEFAULT: _outputs.PredictOutput(served)})

    return jobs.job(model_fn, train=_keyed_input_fn, evaluate=_keyed_input_fn,
                    receiver=_keyed_receiver, eval_options={'steps': 3})


class ForwardedNotExported(Rule):
    """A feature that predictions pass through is not in the export.

    What it finds: a prediction that is an integer or string feature handed on as it came, one a
    row as the key of an instance is, and that no export output holds.

    Why it matters: `forward_features` and its like change the predictions alone. `predict` shows
    the key, and the served answers do not have it.

    Bad:
        predictions['key'] = features['key']     # export_outputs was made before

    Good:
        export_outputs = {'serving_default': PredictOutput({**predictions, 'key': features['key']})}

    When to suppress: when clients need no key.
    """

    code = 'ESX484'
    slug = 'forwarded-feature-not-exported'
    severity = Severity.WARNING
    stage = 'modes'
    modes = ('infer',)
    mistakes = ('X13',)

    def check(self, facts: Any) -> Iterator[Finding]:
        for build in facts.of('infer'):
            for key in build.forwarded:
                yield self.finding(
                    build, f'predictions[{key!r}] hands on a feature, and no export output has it',
                    field=describe.entry('predictions', key),
                    hint='put it into the PredictOutput of serving_default as well',
                    expected=f'an output {key!r}', actual='none')

    @staticmethod
    def bad() -> Any:
        """The key is predicted, and not exported."""
        return _keyed_job(exported=False)

    @staticmethod
    def good() -> Any:
        """It is exported too."""
        return _keyed_job(exported=True)

"""The export for real: written to a scratch folder, loaded in a fresh process, and asked."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs


def _serve_job(function: Any = jobs.model_fn, **options: Any) -> Any:
    return jobs.job(function, depth='serve', **options)


def _with(served: Any) -> str:
    return '' if served.exporter is None else f' with exporter {served.exporter!r}'


def _tensor_as_init_op(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    scaffold = None
    if mode == 'infer':
        with tf.control_dependencies([v1.train.Scaffold.default_local_init_op()]):
            scaffold = v1.train.Scaffold(local_init_op=tf.constant(1))
    return jobs.spec(mode, prediction, labels, scaffold=scaffold)


def bad_exporter() -> Any:
    """The same in an exporter."""
    return _serve_job(_tensor_as_init_op, receiver=None, eval_options={
        'exporters': tf_estimator.FinalExporter('final', jobs.receiver_fn)})


def _greater_accuracy(best_eval_result: Any, current_eval_result: Any) -> bool:
    return bool(current_eval_result['accuracy'] > best_eval_result['accuracy'])


def bad_compare_fn() -> Any:
    """A metric that EVAL does not have: it would be asked for at the second evaluation."""
    best = tf_estimator.BestExporter('best', jobs.receiver_fn, compare_fn=_greater_accuracy)
    return _serve_job(receiver=None, config={'save_checkpoints_steps': 50},
                      eval_options={'exporters': best, 'throttle_secs': 0})


def good_exporters() -> Any:
    """All exporters of TensorFlow's."""
    return _serve_job(receiver=None, eval_options={'exporters': [
        tf_estimator.FinalExporter('final', jobs.receiver_fn),
        tf_estimator.LatestExporter('latest', jobs.receiver_fn),
        tf_estimator.BestExporter('best', jobs.receiver_fn)]})


class ExportFails(Rule):
    """The export raises.

    What it finds: an exception of export_saved_model, or of an exporter of the EvalSpec, on the
    checkpoint of a rehearsal; a BestExporter is run twice, since it compares from then on.

    Why it matters: with a FinalExporter it comes after the last step of the training.

    Bad:
        Scaffold(local_init_op=tensor)          # sessions take it, exports do not

    Good:
        Scaffold(local_init_op=tensor.op)

    When to suppress: when what is missing is only there where the job will run.
    """

    code = 'ESX485'
    slug = 'export-fails'
    severity = Severity.ERROR
    stage = 'serve'
    mistakes = ('X11',)
    more_bad = (bad_exporter, bad_compare_fn)
    more_good = (good_exporters,)

    def check(self, facts: Any) -> Iterator[Finding]:
        for served in facts.served:
            if served.crash is not None:
                yield self.finding(
                    served, f'the export{_with(served)} raises {served.crash.text}',
                    hint='mend what PREDICT and the serving receiver need', op=served.crash.place,
                    actual=served.crash.text)

    @staticmethod
    def bad() -> Any:
        """A tensor where the export wants an operation."""
        return _serve_job(_tensor_as_init_op)

    @staticmethod
    def good() -> Any:
        """No such scaffold."""
        return _serve_job()


def _python_at_start(features: Any, labels: Any, mode: str) -> Any:
    scaffold = None
    prediction = jobs.linear(features)
    if mode == 'infer':
        greeting = v1.py_func(lambda: b'ready', [], tf.string)
        scaffold = v1.train.Scaffold(local_init_op=tf.group(
            v1.train.Scaffold.default_local_init_op(), greeting))
    return jobs.spec(mode, prediction, labels, scaffold=scaffold)


class SavedModelNotLoadable(Rule):
    """The exported SavedModel cannot be loaded in a fresh process.

    What it finds: an export that a process which knows nothing of the job cannot load: Python code
    or a custom op in what runs at the start, a file that is not among the assets.

    Why it matters: a server knows nothing of the job either.

    Bad:
        Scaffold(local_init_op=tf.compat.v1.py_func(...))

    Good:
        Scaffold()

    When to suppress: when the server registers what is missing.
    """

    code = 'ESX486'
    slug = 'saved-model-not-loadable'
    severity = Severity.ERROR
    stage = 'serve'
    mistakes = ('X7', 'X9')

    def check(self, facts: Any) -> Iterator[Finding]:
        for served in facts.served:
            if served.load_error is not None:
                yield self.finding(
                    served, f'the export{_with(served)} cannot be loaded in a fresh process: '
                            f'{served.load_error}',
                    hint='let nothing in the serving graph depend on this process or its files',
                    actual=served.load_error)

    @staticmethod
    def bad() -> Any:
        """Python code at the start."""
        return _serve_job(_python_at_start)

    @staticmethod
    def good() -> Any:
        """Nothing of the kind."""
        return _serve_job()


def _four_when_served(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if features['x'].op.type == 'Placeholder':
        prediction = v1.placeholder_with_default(prediction, None) + tf.zeros([4, 1])
    return jobs.spec(mode, prediction, labels)


class SignatureFails(Rule):
    """A signature of the export fails on a request of one or of three rows.

    What it finds: errors of the loaded SavedModel when it is asked in a fresh process, with rows of
    the job's own input.

    Why it matters: the export says nothing; the first client does.

    Bad:
        state = tf.zeros([FLAGS.batch_size, units])

    Good:
        state = tf.zeros([tf.shape(x)[0], units])

    When to suppress: when every request holds as many rows as the model wants.
    """

    code = 'ESX487'
    slug = 'signature-fails'
    severity = Severity.ERROR
    stage = 'serve'
    mistakes = ('X8', 'X9', 'X7', 'X5')

    def check(self, facts: Any) -> Iterator[Finding]:
        for served in facts.served:
            if served.build.told(*self.mistakes):
                continue
            seen = set()
            for name, rows, error in served.failures:
                if name in seen:
                    continue
                seen.add(name)
                word = 'row' if rows == 1 else 'rows'
                yield self.finding(
                    served, f'signature {name!r} fails for {rows} {word} in a fresh process: '
                            f'{error}', field='export_outputs',
                    hint='take batch sizes from the input; keep Python and tables that nobody '
                         'initialises out of what is served', actual=error)

    @staticmethod
    def bad() -> Any:
        """Four rows, when it is served."""
        return _serve_job(_four_when_served)

    @staticmethod
    def good() -> Any:
        """Any number of rows."""
        return _serve_job()


def _two_things(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    outputs = None
    if mode == 'infer':
        outputs = {'serving_default': tf_estimator.export.PredictOutput(
            {'p': 1. + tf.sigmoid(prediction)})}
    return jobs.spec(mode, prediction, labels, export_outputs=outputs)


def _example_receiver() -> Any:
    return tf_estimator.export.build_parsing_serving_input_receiver_fn(
        {'x': tf.io.FixedLenFeature([jobs.FEATURES], tf.float32)})()


def good_examples() -> Any:
    """Serialized examples are made of the rows."""
    return _serve_job(receiver=_example_receiver)


class ServedAnswersDiffer(Rule):
    """What is served is not what `predict` gives.

    What it finds: an output of a signature and a prediction of the same name that differ for the
    same rows, beyond rounding, where neither is drawn at random.

    Why it matters: metrics and offline checks speak of one thing, clients get another.

    Bad:
        predictions={'p': logits}, export_outputs={'serving_default': PredictOutput({'p': prob})}

    Good:
        predictions={'p': prob}, export_outputs={'serving_default': PredictOutput({'p': prob})}

    When to suppress: when the two are meant to differ.
    """

    code = 'ESX488'
    slug = 'served-answers-differ'
    severity = Severity.WARNING
    stage = 'serve'
    mistakes = ('X11',)
    more_good = (good_examples,)

    def check(self, facts: Any) -> Iterator[Finding]:
        for served in facts.served:
            failing = {name for name, _, _ in served.failures}
            seen = set()
            for name, key, difference in served.different:
                if (name, key) in seen or name in failing:
                    continue
                seen.add((name, key))
                yield self.finding(
                    served, f'output {key!r} of signature {name!r} differs from what predict '
                            f'gives: {difference}', field='export_outputs',
                    hint='export what is predicted, or give it another name',
                    expected='the prediction of this name', actual=difference)

    @staticmethod
    def bad() -> Any:
        """Two things of one name."""
        return _serve_job(_two_things)

    @staticmethod
    def good() -> Any:
        """The predictions themselves."""
        return _serve_job()

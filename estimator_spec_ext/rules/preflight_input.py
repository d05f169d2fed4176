"""Input functions and serving receivers that fail."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding
from estimator_spec_ext.rules import jobs
from estimator_spec_ext.rules.preflight_crash import MODE_NAMES, CrashRule


def _no_such_column() -> Any:
    return jobs.input_fn().map(lambda x, y: ({'x': x['z']}, y))


def _three_parts() -> Any:
    return tf.constant([1.]), tf.constant([1.]), tf.constant([1.])


def bad_three_parts() -> Any:
    """Estimator takes features and labels, and nothing else."""
    return jobs.job(evaluate=_three_parts)


class InputFnCrashes(CrashRule):
    """An input function raises.

    What it finds: an exception of the input function of TRAIN or EVAL, or of Estimator on what it
    returned.

    Why it matters: that of EVAL is called for the first time at the first checkpoint.

    Bad:
        dataset.map(lambda x, y: ({'x': x['z']}, y))   # there is no 'z'

    Good:
        dataset.map(lambda x, y: ({'x': x['x']}, y))

    When to suppress: when the data is there only on the machine that trains.
    """

    code = 'ESX138'
    slug = 'input-fn-crashes'
    kinds = ('input',)
    more_bad = (bad_three_parts,)

    def of_crash(self, build: Any, crash: Any) -> Iterator[Finding]:
        part = ('the input function raises' if crash.stage == 'input_fn'
                else 'what the input function returns cannot be used')
        yield self.finding(
            build, f'{part}: {crash.text}', op=crash.place, actual=crash.text,
            hint=f'mend the input function of {MODE_NAMES[build.mode]}; it returns a dataset of '
                 '(features, labels), or such a pair', severity=self.doubted(build))

    @staticmethod
    def bad() -> Any:
        """A feature that is not there."""
        return jobs.job(evaluate=_no_such_column)

    @staticmethod
    def good() -> Any:
        """Both input functions work."""
        return jobs.job()


def _tensors() -> Any:
    return {'x': tf.zeros([4, jobs.FEATURES])}, tf.zeros([4, 1])


def good_tensors() -> Any:
    """Tensors instead of a dataset, made inside the input function."""
    return jobs.job(train=_tensors)


def bad_tensors_made_before() -> Any:
    """Tensors, which only model_fn finds to be another graph's."""
    made = {'x': tf.zeros([4, jobs.FEATURES])}, tf.zeros([4, 1])
    return jobs.job(train=lambda: made, evaluate=None, receiver=None)


class InputFromAnotherGraph(CrashRule):
    """An input function returns a dataset or tensors of another graph.

    What it finds: a dataset or tensors built outside of the input function and returned by it.

    Why it matters: Estimator builds each mode in a graph of its own and calls the input function
    there. What was built before belongs to another graph; the message speaks of operations that
    the author never wrote.

    Bad:
        dataset = make_dataset()
        estimator.train(lambda: dataset)

    Good:
        estimator.train(make_dataset)

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX139'
    slug = 'input-from-another-graph'
    mistakes = ('I1',)
    kinds = ('input graph',)
    more_bad = (bad_tensors_made_before,)
    more_good = (good_tensors,)

    def of_crash(self, build: Any, crash: Any) -> Iterator[Finding]:
        yield self.finding(
            build, 'the input function returns what was built outside of it, in another graph',
            hint='build the dataset inside the input function', op=crash.place,
            expected='a dataset of the graph of this mode', actual=crash.text)

    @staticmethod
    def bad() -> Any:
        """The dataset is made once, before."""
        dataset = jobs.endless_input_fn()
        return jobs.job(train=lambda: dataset, evaluate=None)

    @staticmethod
    def good() -> Any:
        """The dataset is made at each call."""
        return jobs.job()


def _bad_receiver() -> Any:
    x = v1.placeholder(tf.float32, [None, jobs.FEATURES], name='x')
    return tf_estimator.export.ServingInputReceiver({'x': [x, x]}, {'x': x})


class ReceiverCrashes(CrashRule):
    """The serving_input_receiver_fn raises.

    What it finds: an exception of the serving receiver function.

    Why it matters: it is called for the first time at the export, after training.

    Bad:
        tf.estimator.export.ServingInputReceiver({'x': [x, x]}, {'x': x})

    Good:
        tf.estimator.export.ServingInputReceiver({'x': x}, {'x': x})

    When to suppress: never; the export would fail.
    """

    code = 'ESX480'
    slug = 'serving-receiver-crashes'
    mistakes = ('X11',)
    kinds = ('receiver',)

    def of_crash(self, build: Any, crash: Any) -> Iterator[Finding]:
        yield self.finding(
            build, f'the serving receiver raises: {crash.text}', op=crash.place,
            hint='return a tf.estimator.export.ServingInputReceiver(features, receiver_tensors)',
            actual=crash.text)

    @staticmethod
    def bad() -> Any:
        """A list where a tensor is wanted."""
        return jobs.job(receiver=_bad_receiver)

    @staticmethod
    def good() -> Any:
        """A receiver of one placeholder."""
        return jobs.job()

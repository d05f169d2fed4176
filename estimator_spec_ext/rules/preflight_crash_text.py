"""Exceptions of TensorFlow in a mode whose text does not say what to do."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding
from estimator_spec_ext.rules import jobs
from estimator_spec_ext.rules.preflight_crash import MODE_NAMES, CrashRule


def _integer_loss(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode == 'train':
        wrong = tf.cast(tf.argmax(prediction, 1), tf.float32)
        train_op = v1.train.AdamOptimizer().minimize(
            tf.reduce_mean(wrong), v1.train.get_global_step())
        return tf_estimator.EstimatorSpec(mode, loss=tf.reduce_mean(wrong), train_op=train_op)
    return jobs.spec(mode, prediction, labels)


def _empty_list(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode != 'train':
        return jobs.spec(mode, prediction, labels)
    loss = tf.reduce_mean(tf.square(prediction - labels))
    train_op = v1.train.AdamOptimizer().minimize(
        loss, v1.train.get_global_step(), var_list=v1.trainable_variables('network'))
    return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


def _bad_empty_list() -> Any:
    """No variable has this scope."""
    return jobs.job(_empty_list)


class NoGradients(CrashRule):
    """The loss reaches no variable through ops that have a gradient.

    What it finds: an optimizer that says "No gradients provided for any variable", with the op on
    the way from the loss that stops the gradients, where it can be told; or one that says "No
    variables to optimize", because its var_list is empty.

    Why it matters: TensorFlow lists all variables and does not name the op. Mostly it is argmax, a
    cast to an integer, a comparison, round or stop_gradient, or a loss of the labels alone. A list
    is empty when no variable has the scope that was asked for.

    Bad:
        loss = tf.reduce_mean(tf.cast(tf.argmax(logits, 1), tf.float32))

    Good:
        loss = tf.compat.v1.losses.sparse_softmax_cross_entropy(labels, logits)

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX134'
    slug = 'no-gradients'
    mistakes = ('L5',)
    kinds = ('gradients',)
    more_bad = (_bad_empty_list,)

    def of_crash(self, build: Any, crash: Any) -> Iterator[Finding]:
        if 'no_variables' in crash.details:
            yield self.finding(
                build, 'the optimizer is given no variable to train', op=crash.place,
                field='train_op', hint='look at var_list: do trainable variables have that scope?',
                expected='at least one variable', actual=crash.text)
            return
        stops = crash.details.get('stops')
        if stops is None:
            message = 'no variable gets a gradient of the loss'
        else:
            message = f'no variable gets a gradient of the loss: {stops.type} stops them'
        yield self.finding(
            build, message, op=crash.place if stops is None else stops, field='loss',
            hint='make the loss of differentiable ops of the model\'s output',
            expected='a gradient for some variable', actual=crash.text)

    @staticmethod
    def bad() -> Any:
        """argmax has no gradient."""
        return jobs.job(_integer_loss)

    @staticmethod
    def good() -> Any:
        """Squared errors have."""
        return jobs.job()


def _keras_minimize(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode == 'train':
        loss = tf.reduce_mean(tf.square(prediction - labels))
        train_op = tf.keras.optimizers.Adam().minimize(loss, v1.trainable_variables())
        return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)
    return jobs.spec(mode, prediction, labels)


class KerasMinimize(CrashRule):
    """A Keras optimizer's minimize gets a tensor as loss.

    What it finds: `tf.keras.optimizers...minimize(loss, ...)` in a model_fn, which fails with
    "`tape` is required".

    Why it matters: Keras 2 optimizers take a function or a tape there; graphs have neither. They
    also know nothing of Estimator's global step.

    Bad:
        train_op = tf.keras.optimizers.Adam().minimize(loss, variables)

    Good:
        train_op = tf.compat.v1.train.AdamOptimizer().minimize(
            loss, tf.compat.v1.train.get_global_step())

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX135'
    slug = 'keras-optimizer-minimize'
    mistakes = ('T2',)
    kinds = ('keras optimizer',)

    def of_crash(self, build: Any, crash: Any) -> Iterator[Finding]:
        yield self.finding(
            build, 'a Keras optimizer\'s minimize takes no tensor as loss in a graph',
            hint='use a tf.compat.v1.train optimizer with global_step, or '
                 'ese.create_estimator_spec(..., optimizer=...)', op=crash.place,
            field='train_op', expected='get_updates, or a tf.compat.v1.train optimizer',
            actual=crash.text)

    @staticmethod
    def bad() -> Any:
        """A Keras optimizer as if it were a TF1 one."""
        return jobs.job(_keras_minimize)

    @staticmethod
    def good() -> Any:
        """A TF1 optimizer."""
        return jobs.job()


def _summary_hook(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    hooks = None
    if mode == 'eval':
        hooks = [v1.train.SummarySaverHook(save_steps=1, output_dir=None,
                                           summary_op=v1.summary.merge_all())]
    return jobs.spec(mode, prediction, labels, evaluation_hooks=hooks)


class SummaryOpMissing(CrashRule):
    """A SummarySaverHook gets no summary_op, because the mode has no summaries.

    What it finds: `SummarySaverHook(summary_op=tf.summary.merge_all())` where merge_all() is None.

    Why it matters: TensorFlow says "Exactly one of scaffold or summary_op must be provided", which
    does not tell that there is nothing to merge.

    Bad:
        hook = tf.compat.v1.train.SummarySaverHook(
            save_steps=1, output_dir=folder, summary_op=tf.compat.v1.summary.merge_all())

    Good:
        tf.compat.v1.summary.scalar('loss', loss)
        hook = tf.compat.v1.train.SummarySaverHook(
            save_steps=1, output_dir=folder, summary_op=tf.compat.v1.summary.merge_all())

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX136'
    slug = 'summary-op-missing'
    mistakes = ('H4',)
    kinds = ('summary op',)

    def of_crash(self, build: Any, crash: Any) -> Iterator[Finding]:
        name = MODE_NAMES[build.mode]
        yield self.finding(
            build, f'SummarySaverHook gets no summary_op: {name} has no summaries',
            hint='add a tf.compat.v1.summary op in this mode, or leave the hook out',
            op=crash.place, expected='a summary op', actual='None', severity=self.doubted(build))

    @staticmethod
    def bad() -> Any:
        """Nothing to merge in EVAL."""
        return jobs.job(_summary_hook)

    @staticmethod
    def good() -> Any:
        """No such hook."""
        return jobs.job()


def _class_ids(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    outputs = None
    if mode == 'infer':
        outputs = {'serving_default': tf_estimator.export.ClassificationOutput(
            scores=prediction, classes=tf.argmax(prediction, 1))}
    return jobs.spec(mode, prediction, labels, export_outputs=outputs)


class ExportOutputRefused(CrashRule):
    """An ExportOutput refuses its tensors.

    What it finds: an exception of `ClassificationOutput`, `RegressionOutput` or `PredictOutput`,
    e.g. class ids where names of classes are wanted.

    Why it matters: only PREDICT makes these, so it shows at the export.

    Bad:
        ClassificationOutput(scores=p, classes=tf.argmax(p, 1))

    Good:
        ClassificationOutput(scores=p, classes=tf.as_string(class_ids))

    When to suppress: never; TensorFlow itself would raise.
    """

    code = 'ESX137'
    slug = 'export-output-refused'
    mistakes = ('X4',)
    kinds = ('export output',)

    def of_crash(self, build: Any, crash: Any) -> Iterator[Finding]:
        yield self.finding(
            build, f'an export output refuses its tensors: {crash.text}',
            hint='give scores and values as float tensors, classes as strings: '
                 'tf.as_string(class_ids)', op=crash.place, field='export_outputs',
            actual=crash.text, severity=self.doubted(build))

    @staticmethod
    def bad() -> Any:
        """Ids of classes where strings are wanted."""
        return jobs.job(_class_ids)

    @staticmethod
    def good() -> Any:
        """The default output."""
        return jobs.job()

"""What the numbers of a rehearsal show: steps, batches of other sizes, files written outside."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs
from estimator_spec_ext.rules.preflight_crash import MODE_NAMES
from estimator_spec_ext.rules.preflight_run import run_job


def _skips_all(features: Any, labels: Any, mode: str) -> Any:
    return _skipping(features, labels, mode, lambda step: tf.constant(False))


def _accumulates(features: Any, labels: Any, mode: str) -> Any:
    return _skipping(features, labels, mode, lambda count: tf.equal(count % 3, 0))


def _skipping(features: Any, labels: Any, mode: str, when: Any) -> Any:
    prediction = jobs.linear(features)
    if mode != 'train':
        return jobs.spec(mode, prediction, labels)
    loss = tf.reduce_mean(tf.square(prediction - labels))
    optimizer = v1.train.GradientDescentOptimizer(.001)
    gradients = optimizer.compute_gradients(loss)
    calls = v1.get_variable('calls', [], tf.int64, trainable=False,
                            initializer=v1.zeros_initializer(), use_resource=True)
    count = calls.assign_add(1)
    train_op = tf.cond(when(count), lambda: optimizer.apply_gradients(
        gradients, v1.train.get_global_step()), lambda: tf.no_op())
    return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=tf.group(train_op, count))


def good_accumulation() -> Any:
    """Every third step counts."""
    return run_job(_accumulates, evaluate=None)


class StepStandsStill(Rule):
    """The global step did not move in ten training steps.

    What it finds: a rehearsal of TRAIN in which ten session runs left the global step where it was.

    Why it matters: training by max_steps never ends, checkpoints by steps never come.

    Bad:
        train_op = tf.cond(condition_that_never_holds, apply_gradients, tf.no_op)

    Good:
        train_op = optimizer.minimize(loss, tf.compat.v1.train.get_global_step())

    When to suppress: when gradients are gathered over more than ten steps.
    """

    code = 'ESX724'
    slug = 'step-stands-still'
    severity = Severity.WARNING
    stage = 'run'
    mistakes = ('T1', 'T2')
    more_good = (good_accumulation,)

    def check(self, facts: Any) -> Iterator[Finding]:
        for rehearsed in facts.get('train'):
            seen = rehearsed.recorder
            if (rehearsed.crash is None and seen.runs >= 10 and seen.first_step is not None
                    and seen.last_step == seen.first_step and not rehearsed.build.told('T1', 'T2')):
                yield self.finding(
                    rehearsed, f'the global step is still {seen.last_step} after {seen.runs} '
                               'training steps', field='train_op',
                    hint='let train_op advance it: minimize(loss, '
                         'tf.compat.v1.train.get_global_step())',
                    expected='a step that moves', actual=str(seen.last_step))

    @staticmethod
    def bad() -> Any:
        """A condition that never holds."""
        return run_job(_skips_all, evaluate=None)

    @staticmethod
    def good() -> Any:
        """Each step counts."""
        return run_job(evaluate=None)


class _Counts(tf_estimator.SessionRunHook):
    """Counts the steps, in a variable of its own or in the global step too."""

    def __init__(self, own: bool) -> None:
        self._own = own
        self._count: Any = None

    def begin(self) -> None:
        counter = v1.get_variable(
            'runs', [], tf.int64, v1.zeros_initializer(), trainable=False) if self._own else (
                v1.train.get_global_step())
        self._count = v1.assign_add(counter, 1).op

    def after_run(self, run_context: Any, run_values: Any) -> None:
        run_context.session.run(self._count)


class StepCountsMore(Rule):
    """The global step advances by more than one in each training step.

    What it finds: a rehearsal of TRAIN in which each session run moved the global step by the same
    number above 1, where the graph did not show it, e.g. in a tf.function.

    Why it matters: training ends after a half of the steps, and schedules, summaries and
    checkpoints count wrongly, without a word.

    Bad:
        generator.minimize(loss_g, step); discriminator.minimize(loss_d, step)

    Good:
        generator.minimize(loss_g, step); discriminator.minimize(loss_d)

    When to suppress: when one run of train_op makes several updates on purpose.
    """

    code = 'ESX730'
    slug = 'step-counts-more'
    severity = Severity.WARNING
    stage = 'run'
    mistakes = ('T3',)

    def check(self, facts: Any) -> Iterator[Finding]:
        for rehearsed in facts.get('train'):
            seen = rehearsed.recorder
            if (rehearsed.crash is not None or seen is None or seen.runs < 2
                    or None in (seen.first_step, seen.last_step) or rehearsed.build.told('T3')):
                continue
            moved = seen.last_step - seen.first_step
            if moved > seen.runs and moved % seen.runs == 0:
                yield self.finding(
                    rehearsed, f'{seen.runs} runs of train_op advance the global step by {moved}',
                    field='train_op', hint='give global_step to one optimizer, or one assign_add',
                    expected=f'{seen.runs}', actual=f'{moved}')

    @staticmethod
    def bad() -> Any:
        """A hook counts beside the optimizer."""
        return run_job(train_hooks=[_Counts(own=False)], evaluate=None)

    @staticmethod
    def good() -> Any:
        """It has a counter of its own."""
        return run_job(train_hooks=[_Counts(own=True)], evaluate=None)


def _stopped(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode != 'train':
        return jobs.spec(mode, prediction, labels)
    loss = tf.reduce_mean(tf.square(prediction - labels))
    train_op = v1.train.GradientDescentOptimizer(0.).minimize(
        loss, v1.train.get_global_step())
    return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)


class NothingLearned(Rule):
    """No trainable variable changed in the steps of a rehearsal.

    What it finds: a rehearsal of TRAIN that moved the global step and no trainable variable.

    Why it matters: a learning rate of 0, an optimizer that is never applied, gradients that are all
    zero. At the start of a warm-up of the learning rate it is right.

    Bad:
        tf.compat.v1.train.GradientDescentOptimizer(0.)

    Good:
        tf.compat.v1.train.GradientDescentOptimizer(0.1)

    When to suppress: when the learning rate starts from 0.
    """

    code = 'ESX725'
    slug = 'nothing-learned'
    severity = Severity.INFO
    stage = 'run'
    mistakes = ('L6',)

    def check(self, facts: Any) -> Iterator[Finding]:
        for rehearsed in facts.get('train'):
            seen = rehearsed.recorder
            if (rehearsed.crash is None and seen.runs >= 2 and seen.unchanged and not seen.changed
                    and seen.last_step != seen.first_step
                    and not rehearsed.build.told('L6', 'T1', 'T2')):
                yield self.finding(
                    rehearsed, f'no trainable variable changed in {seen.runs} steps',
                    field='train_op', hint='look at the learning rate, and at what train_op runs',
                    expected='variables that change', actual=describe.names(seen.unchanged))

    @staticmethod
    def bad() -> Any:
        """A learning rate of zero."""
        return run_job(_stopped, evaluate=None)

    @staticmethod
    def good() -> Any:
        """A learning rate above zero."""
        return run_job(evaluate=None)


def _predicting(prediction_of: Any) -> Any:
    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        prediction = jobs.linear(features)
        if mode != 'infer':
            return jobs.spec(mode, prediction, labels)
        return tf_estimator.EstimatorSpec(mode, predictions=prediction_of(prediction))

    return run_job(model_fn)


def _hidden_rank(tensor: Any) -> Any:
    return v1.placeholder_with_default(tensor, None)


def bad_constant() -> Any:
    """As many rows whatever the batch."""
    return _predicting(lambda p: {'p': p, 'c': _hidden_rank(tf.zeros([tf.size(p) * 0 + 2]))})


def good_beams() -> Any:
    """Two rows for each row of the batch, in each key."""
    return _predicting(lambda p: {'p': tf.repeat(p, 2, 0), 'q': tf.repeat(p, 2, 0)})


def bad_beams() -> Any:
    """Two rows for each row of the batch, in one key alone."""
    return _predicting(lambda p: {'p': p, 'q': tf.repeat(p, 2, 0)})


class PredictionNotBatchMajor(Rule):
    """A prediction does not have one row for each row of the batch.

    What it finds: predictions whose first dimension does not follow the batch, seen on batches of
    one and of three rows cut from the job's own input: tf.squeeze without axis, a mean over the
    batch, tensors that belong to the model and not to a row; and predictions with several rows for
    each of the batch beside others with one.

    Why it matters: predict() splits each prediction by rows. It raises, or pairs rows wrongly, for
    a single row above all; batching servers refuse such outputs.

    Bad:
        predictions={'label': tf.squeeze(tf.argmax(p, 1))}

    Good:
        predictions={'label': tf.argmax(p, 1)}

    When to suppress: when predict() is called with yield_single_examples=False alone.
    """

    code = 'ESX726'
    slug = 'prediction-not-batch-major'
    severity = Severity.WARNING
    stage = 'run'
    mistakes = ('P2', 'P3')
    more_bad = (bad_constant, bad_beams)
    more_good = (good_beams,)

    def check(self, facts: Any) -> Iterator[Finding]:
        for rehearsed in facts.get('infer'):
            if rehearsed.crash or rehearsed.bad_size or rehearsed.build.told('P2', 'P3', 'X8'):
                continue
            found = sorted(_shapes(rehearsed.answers).items())
            usual = min((_rows_of_each(shapes) for _, shapes in found), default=1)
            for key, shapes in found:
                # One number of rows for all: predict() takes the n-th of each.
                if all(shape and shape[0] == size * usual for size, shape in shapes):
                    continue
                seen = ' and '.join(f'{describe.shape_text(shape)} for {size}'
                                    for size, shape in sorted(shapes))
                field = describe.entry('predictions', key or None)
                yield self.finding(
                    rehearsed, f'{field} has shape {seen} rows; expected a first dimension that '
                               'follows the batch', field=field,
                    hint='keep the batch dimension, e.g. tf.squeeze(x, axis=1)',
                    expected='a first dimension that follows the batch', actual=seen)

    @staticmethod
    def bad() -> Any:
        """A squeeze that also takes a batch of one."""
        return _predicting(lambda p: {'p': p, 'q': tf.squeeze(_hidden_rank(p))})

    @staticmethod
    def good() -> Any:
        """A squeeze of one axis."""
        return _predicting(lambda p: {'p': p, 'q': tf.squeeze(p, axis=1)})


def _shapes(answers: Any) -> dict[str, list[tuple[int, tuple[int, ...]]]]:
    """(rows in the batch, shape) by key, where more than one size was tried."""
    found: dict[str, list[tuple[int, tuple[int, ...]]]] = {}
    for size, values in answers:
        for key, value in values.items():
            found.setdefault(key, []).append((size, value.shape))
    return {key: shapes for key, shapes in found.items() if len(shapes) > 1}


def _rows_of_each(shapes: Any) -> int:
    """Rows of the prediction for one row of the batch."""
    size, shape = max(shapes)
    return shape[0] // size if shape and shape[0] >= size else 1


def _baked(prediction: Any) -> Any:
    # Not a constant: constants of a batch size show in the graph already.
    rows = 4 + 0 * tf.size(prediction)
    return {'p': tf.reshape(_hidden_rank(prediction), tf.stack([rows, 1]))}


def bad_in_eval() -> Any:
    """EVAL, whose data end with a smaller batch."""
    return _evaluating(lambda: jobs.input_fn().unbatch().take(6).batch(4), steps=1)


def good_even() -> Any:
    """Eight rows in batches of four."""
    return _evaluating(jobs.input_fn)


def good_endless() -> Any:
    """Data without an end have no smaller last batch."""
    return _evaluating(jobs.endless_input_fn)


def bad_last_of_training() -> Any:
    """TRAIN, whose data end with two rows, again and again."""
    return _training(lambda: _rows(14).batch(4).repeat())


def bad_end_of_file() -> Any:
    """TRAIN, whose data may end with any number of rows."""
    return _training(lambda: _rows(16).filter(lambda features, labels: features['x'][0] < 9.)
                     .batch(4))


def good_repeated_first() -> Any:
    """TRAIN on rows that are repeated before they are batched."""
    return _training(lambda: _rows(14).repeat().batch(4))


def good_stops_before() -> Any:
    """TRAIN that ends before its data do."""
    return _training(lambda: _rows(14).batch(4), max_steps=3)


def _rows(count: int) -> Any:
    return tf.data.Dataset.from_tensor_slices(
        ({'x': tf.ones([count, jobs.FEATURES])}, tf.ones([count, 1])))


def _training(input_fn: Any, max_steps: int = 100) -> Any:
    return run_job(_baked_in('train'), train=input_fn, evaluate=None, max_steps=max_steps)


def _evaluating(input_fn: Any, steps: int = 2) -> Any:
    return run_job(_baked_in('eval'), evaluate=input_fn, eval_options={'steps': steps})


def _baked_in(baked_mode: str) -> Any:
    """A model_fn that takes four rows alone in one of its modes."""
    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        prediction = jobs.linear(features)
        if mode == baked_mode:
            prediction = _baked(prediction)['p']
        return jobs.spec(mode, prediction, labels)

    return model_fn


class BatchSizeBakedIn(Rule):
    """A mode works for the batch size of the job's input alone.

    What it finds: PREDICT, or TRAIN or EVAL on data that may have a smaller batch, that fails on a
    batch of one or of three rows cut from the job's own input, and works on its first batches. Of
    data whose rows can be counted, TRAIN is tried with the rows of the last batch; where only the
    data know how they end, what is found in TRAIN is a note.

    Why it matters: clients send any number of rows, and the last batch of a finite dataset is
    smaller.

    Bad:
        state = tf.zeros([FLAGS.batch_size, units])

    Good:
        state = tf.zeros([tf.shape(x)[0], units])

    When to suppress: when every request holds that many rows.
    """

    code = 'ESX727'
    slug = 'batch-size-baked-in'
    severity = Severity.WARNING
    stage = 'run'
    mistakes = ('X8',)
    more_bad = (bad_in_eval, bad_last_of_training, bad_end_of_file)
    more_good = (good_endless, good_even, good_repeated_first, good_stops_before)

    def check(self, facts: Any) -> Iterator[Finding]:
        for rehearsed in facts.get('fewer', 'eval', 'infer'):
            size, build = rehearsed.bad_size, rehearsed.build
            if not size or rehearsed.crash or build.told('X8', 'P2'):
                continue
            last = rehearsed.name == 'fewer' and build.smaller_batch.rows is not None
            works = 'as many as its data end with' if last else (
                'and works on those of the input function')
            yield self.finding(
                rehearsed, f'{MODE_NAMES[rehearsed.mode]} fails on a batch of {size} '
                           f'{"row" if size == 1 else "rows"}, {works}',
                op=rehearsed.bad_place,
                hint='take the batch size from the input: tf.shape(x)[0]',
                expected='any number of rows', actual=f'fails for {size}',
                severity=Severity.INFO if rehearsed.name == 'fewer' and not last else None)

    @staticmethod
    def bad() -> Any:
        """Four rows, always."""
        return _predicting(_baked)

    @staticmethod
    def good() -> Any:
        """As many as there are."""
        return run_job()

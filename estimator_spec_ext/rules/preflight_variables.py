"""Variables of EVAL and PREDICT against those of TRAIN, and of all against model_dir."""

from __future__ import annotations

import difflib
from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import estimator, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs
from estimator_spec_ext.rules.preflight_crash import MODE_NAMES


def _later(facts: Any) -> Iterator[tuple[Any, Any]]:
    """EVAL and PREDICT with what TRAIN saves, where both are known."""
    train = facts.train
    if train is None or not train.complete or train.saved is None:
        return
    for build in facts.builds:
        if build.mode != 'train' and build.restored is not None:
            yield build, train.saved


def _place(entry: Any) -> Any:
    return entry.variable


def _scoped(features: Any, labels: Any, mode: str) -> Any:
    with v1.variable_scope('training' if mode == 'train' else 'later'):
        return jobs.spec(mode, jobs.linear(features), labels)


def _extra_in_predict(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode == 'infer':
        prediction *= v1.get_variable('temperature', [], initializer=v1.ones_initializer())
    return jobs.spec(mode, prediction, labels)


def _local_in_eval(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode == 'eval':
        v1.get_variable('seen', [], collections=[v1.GraphKeys.LOCAL_VARIABLES], trainable=False)
    return jobs.spec(mode, prediction, labels)


def _own_saver(features: Any, labels: Any, mode: str) -> Any:
    if mode == 'train':
        return jobs.spec(mode, jobs.linear(features), labels)
    with v1.variable_scope('later'):
        prediction = jobs.linear(features)
    step = v1.train.get_global_step()
    weight, = v1.trainable_variables()
    saver = v1.train.Saver({'w': weight, 'global_step': step})
    return jobs.spec(mode, prediction, labels, scaffold=v1.train.Scaffold(saver=saver))


def bad_extra() -> Any:
    """A variable that PREDICT alone has."""
    return jobs.job(_extra_in_predict)


def _some_averaged(features: Any, labels: Any, mode: str) -> Any:
    bias = v1.get_variable('b', [], initializer=v1.zeros_initializer())
    prediction = jobs.linear(features) + bias
    average = v1.train.ExponentialMovingAverage(.9)
    made = jobs.spec(mode, prediction, labels)
    if mode == 'train':
        with tf.control_dependencies([made.train_op]):
            return made._replace(train_op=average.apply([bias]))
    saver = v1.train.Saver(average.variables_to_restore())
    return made._replace(scaffold=v1.train.Scaffold(saver=saver))


def bad_averages() -> Any:
    """EVAL asks for averages of all variables; TRAIN keeps that of one."""
    return jobs.job(_some_averaged)


def good_local() -> Any:
    """A local variable is in no checkpoint."""
    return jobs.job(_local_in_eval)


def good_saver() -> Any:
    """A saver that maps the names."""
    return jobs.job(_own_saver)


class VariableNotInTrain(Rule):
    """EVAL or PREDICT restores a variable that TRAIN never saves.

    What it finds: variables of EVAL and PREDICT, by the names under which their saver looks for
    them, that are not among those that the saver of TRAIN writes. Own savers are respected.

    Why it matters: "Key ... not found in checkpoint" when the session of that mode starts: at the
    first checkpoint for EVAL, at the export, after training, for PREDICT. The most reported message
    of all.

    Bad:
        with tf.compat.v1.variable_scope('train' if training else 'eval'):

    Good:
        with tf.compat.v1.variable_scope('model'):

    When to suppress: when the checkpoint that this mode restores comes from elsewhere.
    """

    code = 'ESX710'
    slug = 'variable-not-in-train'
    severity = Severity.ERROR
    stage = 'modes'
    mistakes = ('V1', 'V5')
    more_bad = (bad_extra, bad_averages)
    more_good = (good_local, good_saver)

    def check(self, facts: Any) -> Iterator[Finding]:
        for build, saved in _later(facts):
            if not saved.complete:
                continue
            missing = [key for key in build.restored.by_key if key not in saved.by_key]
            if not missing:
                continue
            missing.sort()
            free = sorted(key for key in set(saved.by_key) - set(build.restored.by_key)
                          if not key.endswith('_power'))
            near = difflib.get_close_matches(missing[0], free, n=1, cutoff=0.3)
            hint = 'give it the same name and scope in every mode'
            if missing[0].endswith('/ExponentialMovingAverage'):
                hint = ('average it in TRAIN too: ema.apply(...); or leave it out: '
                        'ema.variables_to_restore([the averaged variables])')
            elif near:
                hint += f'; TRAIN has {near[0]!r}'
            names = describe.names(map(repr, missing), 2)
            yield self.finding(
                build, f'{MODE_NAMES[build.mode]} restores {names}; TRAIN saves no such variable',
                hint=hint,
                op=_place(build.restored.by_key[missing[0]]),
                expected=describe.names(saved.by_key), actual=describe.names(missing))

    @staticmethod
    def bad() -> Any:
        """A scope that depends on the mode."""
        return jobs.job(_scoped)

    @staticmethod
    def good() -> Any:
        """The same names in every mode."""
        return jobs.job()


def _wider(features: Any, labels: Any, mode: str) -> Any:
    units = 4 if mode == 'train' else 5
    hidden = tf.matmul(features['x'], v1.get_variable('hidden', [jobs.FEATURES, units]))
    return jobs.spec(mode, tf.reduce_sum(hidden, 1, keepdims=True), labels)


def _half(features: Any, labels: Any, mode: str) -> Any:
    dtype = tf.float16 if mode == 'infer' else tf.float32
    weight = v1.get_variable('w', [jobs.FEATURES, 1], dtype)
    return jobs.spec(mode, tf.matmul(features['x'], tf.cast(weight, tf.float32)), labels)


def bad_dtype() -> Any:
    """Another dtype in PREDICT."""
    return jobs.job(_half)


class VariableDiffersFromTrain(Rule):
    """A variable of EVAL or PREDICT has another shape or dtype than in TRAIN.

    What it finds: variables of one name with static shapes or dtypes that do not fit.

    Why it matters: restoring fails when the session of that mode starts, after the first checkpoint
    or at the export.

    Bad:
        units = 512 if training else 256

    Good:
        units = 512

    When to suppress: when the checkpoint that this mode restores comes from elsewhere.
    """

    code = 'ESX711'
    slug = 'variable-differs-from-train'
    severity = Severity.ERROR
    stage = 'modes'
    mistakes = ('V1', 'X6')
    more_bad = (bad_dtype,)

    def check(self, facts: Any) -> Iterator[Finding]:
        for build, saved in _later(facts):
            found = [(entry, difference) for key, entry in sorted(build.restored.by_key.items())
                     for difference in _difference(entry, saved.by_key.get(key),
                                                   build.restored.reshapes)]
            if not found:
                continue
            entry, (there, here) = found[0]
            more = f' (and {len(found) - 1} more)' if len(found) > 1 else ''
            yield self.finding(
                build, f'{entry.key!r} is {here} in {MODE_NAMES[build.mode]} and {there} in TRAIN'
                       f'{more}', hint=_other_feature(build, facts.train) or (
                    'build the variable alike in every mode'),
                op=_place(entry), expected=there, actual=here)

    @staticmethod
    def bad() -> Any:
        """Fewer units in TRAIN."""
        return jobs.job(_wider)

    @staticmethod
    def good() -> Any:
        """The same shapes in every mode."""
        return jobs.job()


def _other_feature(build: Any, train: Any) -> str:
    """A feature that the serving receiver gives in another form than TRAIN gets it."""
    if build.source != 'receiver' or train is None:
        return ''
    for key, text in sorted(build.features.items()):
        usual = train.features.get(key, text)
        if text.split(',', 1)[1:] != usual.split(',', 1)[1:]:  # the batch is left out
            return f'the serving receiver gives {key!r} as {text}, TRAIN gets {usual}: align them'
    return ''


def _difference(entry: Any, other: Any, reshapes: bool) -> Iterator[tuple[str, str]]:
    """What `other` (as saved) and `entry` (as restored) are, if they do not fit."""
    if other is None:
        return
    if entry.dtype is not None and other.dtype is not None and entry.dtype != other.dtype:
        yield other.dtype.name, entry.dtype.name
    elif (entry.shape is not None and other.shape is not None and not reshapes
          and not entry.shape.is_compatible_with(other.shape)):
        yield describe.shape_text(other.shape), describe.shape_text(entry.shape)


def _with_average(features: Any, labels: Any, mode: str, *, restored: bool) -> Any:
    prediction = jobs.linear(features)
    average = v1.train.ExponentialMovingAverage(.9)
    if mode != 'train':
        scaffold = None
        if restored:
            names = average.variables_to_restore()
            scaffold = v1.train.Scaffold(saver=v1.train.Saver(names))
        return jobs.spec(mode, prediction, labels, scaffold=scaffold)
    made = jobs.spec(mode, prediction, labels)
    with tf.control_dependencies([made.train_op]):
        train_op = average.apply(v1.trainable_variables())
    return estimator.EstimatorSpec(mode, loss=made.loss, train_op=train_op)


def _plain_average(features: Any, labels: Any, mode: str) -> Any:
    return _with_average(features, labels, mode, restored=False)


def _restored_average(features: Any, labels: Any, mode: str) -> Any:
    return _with_average(features, labels, mode, restored=True)


def _average_of_loss(features: Any, labels: Any, mode: str) -> Any:
    made = jobs.spec(mode, jobs.linear(features), labels)
    if mode != 'train':
        return made
    with tf.control_dependencies([made.train_op]):
        train_op = v1.train.ExponentialMovingAverage(.9).apply([made.loss])
    return estimator.EstimatorSpec(mode, loss=made.loss, train_op=train_op)


def _applied_everywhere(features: Any, labels: Any, mode: str) -> Any:
    made = jobs.spec(mode, jobs.linear(features), labels)
    average = v1.train.ExponentialMovingAverage(.9)
    with tf.control_dependencies([made.train_op] if mode == 'train' else []):
        apply = average.apply(v1.trainable_variables())
    return made._replace(train_op=apply) if mode == 'train' else made


def bad_both_restored() -> Any:
    """Every mode makes the averages, and none computes anything from them."""
    return jobs.job(_applied_everywhere)


def _target_network(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    if mode != 'train':
        return jobs.spec(mode, prediction, labels)
    average = v1.train.ExponentialMovingAverage(.9)
    weight, = v1.trainable_variables()
    apply = average.apply([weight])
    target = tf.stop_gradient(tf.matmul(features['x'], average.average(weight)))
    loss = tf.reduce_mean(tf.square(prediction - labels) + tf.square(prediction - target))
    train_op = v1.train.AdamOptimizer(.01).minimize(
        loss, v1.train.get_global_step(), var_list=[weight])
    return estimator.EstimatorSpec(mode, loss=loss, train_op=tf.group(train_op, apply))


def good_target_network() -> Any:
    """The averages are what the loss compares with."""
    return jobs.job(_target_network)


def good_average_of_loss() -> Any:
    """The average of the loss is only looked at."""
    return jobs.job(_average_of_loss)


class AveragesNotUsed(Rule):
    """TRAIN keeps moving averages of the weights, and no other mode uses them.

    What it finds: variables named .../ExponentialMovingAverage in TRAIN whose weights EVAL and
    PREDICT restore as they are.

    Why it matters: the averages cost time and memory and change nothing: the raw weights are
    evaluated and served, without a word.

    Bad:
        train_op = ema.apply(tf.compat.v1.trainable_variables())   # and nothing in EVAL

    Good:
        saver = tf.compat.v1.train.Saver(ema.variables_to_restore())
        EstimatorSpec(mode, ..., scaffold=tf.compat.v1.train.Scaffold(saver=saver))

    When to suppress: when the averages are taken from the checkpoint by another program.
    """

    code = 'ESX712'
    slug = 'moving-averages-not-used'
    severity = Severity.WARNING
    stage = 'modes'
    mistakes = ('V5',)
    more_bad = (bad_both_restored,)
    more_good = (good_average_of_loss, good_target_network)

    def check(self, facts: Any) -> Iterator[Finding]:
        train = facts.train
        if train is None or not train.complete or train.saved is None:
            return
        suffix = '/ExponentialMovingAverage'
        averages = {key for key in train.saved.by_key if key.endswith(suffix)}
        if averages & train.read:
            return  # a target network: training itself uses them
        later = [build for build in facts.builds if build.mode != 'train' and build.complete]
        if not averages or not later or any(build.restored is None for build in later):
            return
        raw = []
        for build in later:
            restored = set(build.restored.by_key)
            if restored & averages:
                if build.mode != 'infer':
                    continue
                # Both are restored: what is served is computed from one of them.
                both = {key for key in averages & restored
                        if key[:-len(suffix)] in restored & build.read}
                if not both or averages & build.read:
                    return  # what is served has them
                raw += [(build, key) for key in both]
                continue
            if build.opaque_hooks:
                return  # a hook may swap the weights
            raw += [(build, key) for key in averages if key[:-len(suffix)] in restored]
        if not raw:
            return
        build, key = min(raw, key=lambda item: (item[0].mode, item[1]))
        does = 'uses' if key in build.restored.by_key else 'restores'
        yield self.finding(
            build, f'{MODE_NAMES[build.mode]} {does} {key[:-len(suffix)]!r} and not its moving '
                   'average, which TRAIN keeps',
            hint='restore it: Scaffold(saver=Saver(ema.variables_to_restore()))', field='scaffold',
            op=_place(build.restored.by_key[key[:-len(suffix)]]), expected=key,
            actual=key[:-len(suffix)])

    @staticmethod
    def bad() -> Any:
        """The averages are made, and nobody reads them."""
        return jobs.job(_plain_average)

    @staticmethod
    def good() -> Any:
        """EVAL and PREDICT restore the averages."""
        return jobs.job(_restored_average)

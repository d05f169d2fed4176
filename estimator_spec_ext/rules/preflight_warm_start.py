"""Warm starting, and checkpoints of an older model in model_dir."""

from __future__ import annotations

import os
import tempfile
from typing import Any, Callable, Iterator, Optional

from estimator_spec_ext import describe
from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs


def write_checkpoint(folder: str, build: Callable[[], Any], step: int = 3) -> None:
    """Writes a checkpoint of the variables that `build` makes."""
    with tf.Graph().as_default(), v1.Session() as session:
        build()
        v1.train.create_global_step()
        session.run(v1.global_variables_initializer())
        session.run(v1.assign(v1.train.get_global_step(), step))
        os.makedirs(folder, exist_ok=True)
        v1.train.Saver().save(session, os.path.join(folder, 'model.ckpt'), step,
                              write_meta_graph=False)


def _narrow() -> None:
    v1.get_variable('w', [2, 1])


def all_of_linear() -> None:
    weight = v1.get_variable('w', [jobs.FEATURES, 1])
    for part in ('beta1_power', 'beta2_power'):
        v1.get_variable(part, [])
    for slot in ('Adam', 'Adam_1'):
        v1.get_variable(f'w/{slot}', weight.shape)


def _job_with_checkpoint(build: Callable[[], Any]) -> Any:
    folder = tempfile.TemporaryDirectory(prefix='ese_example_')
    write_checkpoint(os.path.join(folder.name, 'model'), build)
    return jobs.job(folder=folder)


def bad_missing_slots() -> Any:
    """The checkpoint was written with another optimizer."""
    return _job_with_checkpoint(lambda: v1.get_variable('w', [jobs.FEATURES, 1]))


class StaleModelDir(Rule):
    """The newest checkpoint in model_dir does not fit this model.

    What it finds: variables that the mode to run first would restore and that the checkpoint does
    not hold, or holds in another shape or dtype.

    Why it matters: Estimator always resumes from model_dir. With another architecture or another
    optimizer it fails when the session starts, or, where the shapes happen to fit, goes on with the
    wrong run.

    Bad:
        tf.estimator.Estimator(wider_model_fn, model_dir='same_as_before')

    Good:
        tf.estimator.Estimator(wider_model_fn, model_dir='wider')

    When to suppress: when model_dir is emptied before the job starts.
    """

    code = 'ESX713'
    slug = 'model-dir-of-another-model'
    severity = Severity.ERROR
    stage = 'modes'
    mistakes = ('V2',)
    more_bad = (bad_missing_slots,)

    def check(self, facts: Any) -> Iterator[Finding]:
        checkpoint = facts.checkpoint
        build = facts.train or next(iter(facts.builds), None)
        if (checkpoint is None or checkpoint.by_object or build is None or not build.complete
                or build.restored is None):
            return
        missing, differing = [], []
        for key, entry in sorted(build.restored.by_key.items()):
            if key not in checkpoint.shapes:
                missing.append(entry)
                continue
            there = tf.TensorShape(checkpoint.shapes[key])
            if entry.dtype is not None and checkpoint.dtypes[key].base_dtype != entry.dtype:
                differing.append((entry, checkpoint.dtypes[key].name, entry.dtype.name))
            elif (entry.shape is not None and not build.restored.reshapes
                  and not entry.shape.is_compatible_with(there)):
                differing.append((entry, describe.shape_text(there),
                                  describe.shape_text(entry.shape)))
        hint = 'use another model_dir, or empty this one'
        if differing:
            entry, there_text, here = differing[0]
            more = f' (and {len(differing) - 1} more)' if len(differing) > 1 else ''
            yield self.finding(
                build, f'model_dir holds {entry.key!r} as {there_text}; this model needs {here}'
                       f'{more}', hint=hint, op=entry.variable, expected=here, actual=there_text)
        elif missing:
            names = describe.names([repr(entry.key) for entry in missing], 2)
            yield self.finding(
                build, f'the checkpoint in model_dir lacks {names}, which this model restores',
                hint=hint, op=missing[0].variable,
                expected=describe.names([entry.key for entry in missing]),
                actual=f'{len(checkpoint.shapes)} other variables')

    @staticmethod
    def bad() -> Any:
        """The checkpoint of a narrower model."""
        return _job_with_checkpoint(_narrow)

    @staticmethod
    def good() -> Any:
        """The checkpoint of this model."""
        return _job_with_checkpoint(all_of_linear)


def _warm_job(build: Callable[[], Any], chosen: Any = '.*', names: Any = None,
              function: Any = jobs.model_fn) -> Any:
    folder = tempfile.TemporaryDirectory(prefix='ese_example_')
    source = os.path.join(folder.name, 'source')
    write_checkpoint(source, build)
    settings = tf_estimator.WarmStartSettings(source, chosen, var_name_to_prev_var_name=names)
    return jobs.job(function, folder=folder, warm_start_from=settings)


def _linear_only() -> None:
    v1.get_variable('w', [jobs.FEATURES, 1])


def _warm(facts: Any) -> Optional[Any]:
    train = facts.train
    return None if train is None or train.warm_start is None else train.warm_start


def _initialized_job(scope: str) -> Any:
    """A model_fn that takes from a checkpoint what has the name of a variable in `scope`."""
    job = jobs.job()
    source = os.path.join(job.folder.name, 'pretrained')
    write_checkpoint(source, _linear_only)

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        spec = jobs.model_fn(features, labels, mode)
        known = {name for name, _ in tf.train.list_variables(source)}
        if mode == 'train':
            v1.train.init_from_checkpoint(source, {
                scope + variable.op.name: variable for variable in v1.trainable_variables()
                if scope + variable.op.name in known})
        return spec

    return jobs.job(model_fn, folder=job.folder)


def bad_empty_map() -> Any:
    """Names that the checkpoint does not have."""
    return _initialized_job('bert/')


def good_map() -> Any:
    """Names that it has."""
    return _initialized_job('')


class WarmStartMatchesNothing(Rule):
    """Warm starting chooses no variable at all.

    What it finds: `vars_to_warm_start` that matches no variable of TRAIN. A string is matched from
    the start of the name, against the trainable variables; a list against all. And
    init_from_checkpoint that is given an empty assignment_map, a warning.

    Why it matters: TensorFlow logs "Warm-started 0 variables" at level INFO, or nothing at all, and
    trains from random weights.

    Bad:
        tf.estimator.WarmStartSettings(checkpoint, vars_to_warm_start='encoder/.*')  # bert/encoder

    Good:
        tf.estimator.WarmStartSettings(checkpoint, vars_to_warm_start='bert/encoder/.*')

    When to suppress: never; leave warm starting out instead.
    """

    code = 'ESX714'
    slug = 'warm-start-matches-nothing'
    severity = Severity.ERROR
    stage = 'modes'
    mistakes = ('V6',)

    def check(self, facts: Any) -> Iterator[Finding]:
        calls = facts.train.initializations if facts.train is not None else ()
        if calls and all(empty for empty, _ in calls):
            yield self.finding(
                facts.train, 'init_from_checkpoint is given an empty assignment_map: it loads '
                'nothing', op=calls[0][1], severity=Severity.WARNING,
                hint="name scopes or variables: {'bert/': 'encoder/'}; compare their names with "
                     'tf.train.list_variables(checkpoint)',
                expected='at least one variable', actual='{}')
        warm = _warm(facts)
        if (warm is None or warm.skipped or not warm.source_found or warm.error or warm.names
                or warm.settings.vars_to_warm_start is None):
            return
        chosen = warm.settings.vars_to_warm_start
        shown = (repr(chosen) if isinstance(chosen, str) else
                 f'[{describe.names([repr(each) for each in chosen], 2)}]')
        there = describe.names([repr(name) for name in warm.trainable], 2)
        yield self.finding(
            facts.train, f'warm start matches no variable: vars_to_warm_start is {shown}',
            hint=f'match the names from their start; this model has {there}',
            expected='at least one variable', actual=shown)

    more_bad = (bad_empty_map,)
    more_good = (good_map,)

    @staticmethod
    def bad() -> Any:
        """A scope that does not exist."""
        return _warm_job(_linear_only, 'encoder/.*')

    @staticmethod
    def good() -> Any:
        """All trainable variables."""
        return _warm_job(_linear_only)


def bad_shape() -> Any:
    """A variable of another shape."""
    return _warm_job(_narrow)


def bad_source() -> Any:
    """There is no checkpoint at that place."""
    job = jobs.job()
    settings = tf_estimator.WarmStartSettings(os.path.join(job.folder.name, 'nowhere'))
    return jobs.job(folder=job.folder, warm_start_from=settings)


def good_renamed() -> Any:
    """The name in the source is given."""
    return _warm_job(lambda: v1.get_variable('old', [jobs.FEATURES, 1]), 'w', {'w': 'old'})


class WarmStartFails(Rule):
    """Warm starting asks for what its source does not hold.

    What it finds: chosen variables that the source lacks or holds in another shape, a source that
    cannot be read, or settings that TensorFlow refuses.

    Why it matters: TensorFlow raises in train(), for the first variable alone.

    Bad:
        WarmStartSettings(checkpoint, '.*')   # a new head that the checkpoint does not have

    Good:
        WarmStartSettings(checkpoint, 'encoder/.*')

    When to suppress: when the source is written before the job starts.
    """

    code = 'ESX715'
    slug = 'warm-start-fails'
    severity = Severity.ERROR
    stage = 'modes'
    mistakes = ('V6',)
    more_bad = (bad_shape, bad_source)
    more_good = (good_renamed,)

    def check(self, facts: Any) -> Iterator[Finding]:
        warm = _warm(facts)
        if warm is None or warm.skipped:
            return
        hint = 'choose with vars_to_warm_start what the source holds; map renamed variables ' \
               'with var_name_to_prev_var_name'
        if not warm.source_found:
            yield self.finding(facts.train, 'warm start finds no checkpoint at its source',
                               hint='give ckpt_to_initialize_from a checkpoint, or its folder',
                               expected='a checkpoint', actual='none')
        elif warm.missing:
            names = describe.names(map(repr, warm.missing), 2)
            yield self.finding(facts.train, f'warm start asks for {names}; the source lacks them'
                               if len(warm.missing) > 1 else
                               f'warm start asks for {names}; the source lacks it', hint=hint,
                               expected=describe.names(warm.missing), actual='missing')
        elif warm.differing:
            name, there, here = warm.differing[0]
            yield self.finding(facts.train, f'warm start: {name!r} is {there} in the source and '
                               f'{here} here', hint=hint, expected=here, actual=there)
        elif warm.error is not None:
            text = describe.error_text(warm.error)
            yield self.finding(facts.train, f'warm start fails: {text}', hint=hint, actual=text)

    @staticmethod
    def bad() -> Any:
        """A head that the source does not have."""
        return _warm_job(lambda: v1.get_variable('old', [jobs.FEATURES, 1]))

    @staticmethod
    def good() -> Any:
        """The source has it all."""
        return _warm_job(_linear_only)


def _normalized(features: Any, labels: Any, mode: str) -> Any:
    inputs = v1.layers.batch_normalization(features['x'], training=mode == 'train', name='bn')
    prediction = jobs.linear({'x': inputs})
    with tf.control_dependencies(v1.get_collection(v1.GraphKeys.UPDATE_OPS)):
        return jobs.spec(mode, prediction, labels)


def _normalized_source() -> None:
    _linear_only()
    for name in ('gamma', 'beta', 'moving_mean', 'moving_variance'):
        v1.get_variable(f'bn/{name}', [jobs.FEATURES])


class WarmStartSkipsStatistics(Rule):
    """Warm starting takes the weights and leaves the moving statistics fresh.

    What it finds: moving means and variances of batch normalisation that the source holds, beside
    weights that are warm-started, and that are not chosen.

    Why it matters: a string in `vars_to_warm_start`, '.*' by default, matches trainable variables
    alone. The statistics start from 0 and 1: EVAL and serving are off until they have caught up.

    Bad:
        tf.estimator.WarmStartSettings(checkpoint, vars_to_warm_start='.*')

    Good:
        tf.estimator.WarmStartSettings(checkpoint, vars_to_warm_start=['.*'])   # a list: all

    When to suppress: when the statistics of the new data are wanted.
    """

    code = 'ESX716'
    slug = 'warm-start-skips-statistics'
    severity = Severity.WARNING
    stage = 'modes'
    mistakes = ('V6',)

    def check(self, facts: Any) -> Iterator[Finding]:
        warm = _warm(facts)
        if warm is None or warm.skipped or not warm.moving or warm.missing or warm.differing:
            return
        names = describe.names(map(repr, warm.moving), 2)
        yield self.finding(
            facts.train, f'warm start leaves out {names}, which the source holds',
            hint='name all variables: a list, e.g. vars_to_warm_start=[\'bn/\', \'dense/\']',
            expected=describe.names(warm.moving), actual='fresh')

    @staticmethod
    def bad() -> Any:
        """The default takes trainable variables."""
        return _warm_job(_normalized_source, function=_normalized)

    @staticmethod
    def good() -> Any:
        """A list takes all."""
        return _warm_job(_normalized_source, ['w:', 'bn/(gamma|beta|moving_mean|moving_variance):'],
                         function=_normalized)


class WarmStartSkipped(Rule):
    """Warm starting is left out, because model_dir holds a checkpoint.

    What it finds: warm-start settings of an estimator whose model_dir holds a checkpoint.

    Why it matters: Estimator then resumes from model_dir and says nothing. That is right for a job
    that goes on, and surprising for one that was meant to start over.

    Bad:
        tf.estimator.Estimator(model_fn, model_dir='used', warm_start_from=checkpoint)

    Good:
        tf.estimator.Estimator(model_fn, model_dir='new', warm_start_from=checkpoint)

    When to suppress: when the job is meant to go on.
    """

    code = 'ESX717'
    slug = 'warm-start-skipped'
    severity = Severity.INFO
    stage = 'modes'
    mistakes = ('V6',)

    def check(self, facts: Any) -> Iterator[Finding]:
        warm = _warm(facts)
        if warm is not None and warm.skipped:
            yield self.finding(
                facts.train, 'warm start is left out: model_dir holds a checkpoint, which is used',
                hint='use an empty model_dir to start from the source', actual='a checkpoint')

    @staticmethod
    def bad() -> Any:
        """Settings, and a checkpoint of its own."""
        job = _job_with_checkpoint(all_of_linear)
        source = os.path.join(job.folder.name, 'source')
        write_checkpoint(source, _linear_only)
        return jobs.job(folder=job.folder, warm_start_from=source)

    @staticmethod
    def good() -> Any:
        """An empty model_dir."""
        return _warm_job(_linear_only)

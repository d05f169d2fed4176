"""For tests: of a model_fn (`assert_strict`) and of rules of your own (`assert_rule`)."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import warnings
from typing import Any, Callable, Mapping, Optional, Sequence

from estimator_spec_ext import engine, facts, registry
from estimator_spec_ext.compat import estimator, tf, v1
from estimator_spec_ext.compat.logs import quiet_logs
from estimator_spec_ext.diagnostics import Report, Severity
from estimator_spec_ext.rule import ALL_MODES, Rule
from estimator_spec_ext.rules import jobs


def assert_strict(model_fn: Callable[..., Any], features: Any, labels: Any = None, *,
                  params: Optional[Mapping[str, Any]] = None, config: Any = None,
                  serving_input_receiver_fn: Optional[Callable[[], Any]] = None,
                  modes: Sequence[str] = ALL_MODES, depth: str = 'graph',
                  suppress: Optional[Mapping[str, str]] = None,
                  fail_level: str = 'error') -> Report:
    """Builds a model_fn in TRAIN, EVAL and PREDICT, and fails when something is wrong with it.

    Each mode is built in a fresh graph, as `tf.estimator.Estimator` builds it, and compared with
    the others. Nothing is written but into a temporary folder. With pytest the fixture
    `assert_strict` is this function.

    Args:
      model_fn: as for `tf.estimator.Estimator`; the spec that it returns need not be strict.
      features: one batch: an array of shape [batch, ...], or a dict or tuple of such arrays. Or
        an input_fn, which then gives the labels too.
      labels: the labels of that batch, in the same forms; None for a model without any.
      params: hyperparameters, for a model_fn that takes `params`.
      config: a `tf.estimator.RunConfig`; its `model_dir` is not used.
      serving_input_receiver_fn: what PREDICT is fed by; None for the features themselves.
      modes: `tf.estimator.ModeKeys` values, which must all be built; findings about the others do
        not count.
      depth: how deep to look, as for `preflight`.
      suppress: reasons by slug or code of a rule.
      fail_level: the least severity that fails, 'error' or 'warning'.

    Returns:
      The `Report`, when nothing in it fails.

    Raises:
      AssertionError: with the text of the report.
      ValueError: for an unknown mode, depth or fail_level.

    Example:
      >>> def model_fn(features, labels, mode):
      ...     p = tf.compat.v1.layers.dense(features, 1)
      ...     if mode == 'infer':
      ...         return tf.estimator.EstimatorSpec(mode, predictions=p)
      ...     loss = tf.reduce_mean(tf.square(p - labels))
      ...     step = tf.compat.v1.train.get_or_create_global_step()
      ...     train_op = tf.compat.v1.train.AdamOptimizer().minimize(loss, global_step=step)
      ...     return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)
      >>> assert_strict(model_fn, [[1.], [2.]], [[2.], [4.]]).ok
      True
    """
    __tracebackhide__ = True  # pytest then shows the line that calls this
    from estimator_spec_ext.preflight import api
    failing = _failing(fail_level)
    unknown = [mode for mode in modes if mode not in ALL_MODES]
    if unknown:
        raise ValueError(f"modes must be of 'train', 'eval' and 'infer', got {unknown[0]!r}")
    train_input_fn, eval_input_fn = _input_fns(features, labels)
    with tempfile.TemporaryDirectory(prefix='assert_strict_') as scratch, quiet_logs(), (
            warnings.catch_warnings()):
        # That Estimator and tf.layers will be removed is not what the test is about.
        warnings.filterwarnings('ignore', '.* is deprecated and will be removed', UserWarning)
        run_config = (config or estimator.RunConfig()).replace(model_dir=scratch)
        report = api.preflight(
            estimator.Estimator(model_fn, params=params, config=run_config),
            estimator.TrainSpec(train_input_fn, max_steps=1),
            estimator.EvalSpec(eval_input_fn, steps=1),
            serving_input_receiver_fn=serving_input_receiver_fn, depth=depth, suppress=suppress)
    others = set(ALL_MODES) - set(modes)
    report = dataclasses.replace(report, findings=tuple(
        finding for finding in report.findings if finding.where.mode not in others))
    built = all(part['built'] for part in report.facts['modes'] if part['mode'] not in others)
    if not built or any(finding.severity in failing for finding in report.findings):
        raise AssertionError(report.to_text())
    engine.log_warnings(report)
    return report


def _failing(fail_level: str) -> tuple[Severity, ...]:
    if fail_level not in ('error', 'warning'):
        raise ValueError(f"fail_level must be 'error' or 'warning', got {fail_level!r}")
    return (Severity.ERROR, Severity.WARNING)[:1 if fail_level == 'error' else 2]


def _input_fns(features: Any, labels: Any) -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Two input_fns: endless for TRAIN, one batch for EVAL and PREDICT."""
    if callable(features):
        if labels is not None:
            raise ValueError('an input_fn gives the labels itself: leave out labels')
        return features, features
    # Tensors of eager mode belong to no graph; arrays go into any.
    given = tf.nest.map_structure(
        lambda value: value.numpy() if hasattr(value, 'numpy') else value,
        features if labels is None else (features, labels))

    def batch() -> Any:
        dataset = tf.data.Dataset.from_tensor_slices(given)
        return dataset.batch(tf.data.experimental.cardinality(dataset))

    return lambda: batch().repeat(), batch


def assert_rule(rule: Rule) -> None:
    """Runs the examples of a rule: bad must give its findings and no others, good none.

    Args:
      rule: the rule; it need not be registered.

    Raises:
      AssertionError: with the text of the report of the example that differs.
      ValueError: when the rule could not be registered, e.g. because its code is taken.

    Example:
      >>> assert_rule(registry.find('loss-not-scalar'))
    """
    __tracebackhide__ = True
    known = type(registry.find(getattr(rule, 'slug', ''))) is type(rule)
    with contextlib.nullcontext() if known else registry.added(rule):
        for builder in (rule.bad, *rule.more_bad):
            report = run_example(builder)
            if {finding.slug for finding in report.findings} != {rule.slug}:
                raise AssertionError(f'{builder.__name__} must give {rule.slug} and nothing else, '
                                     f'and gives\n{report.to_text()}')
        for builder in (rule.good, *rule.more_good):
            report = run_example(builder)
            if [f for f in report.findings if f.severity is not Severity.INFO]:
                raise AssertionError(f'{builder.__name__} must give no error and no warning, '
                                     f'and gives\n{report.to_text()}')


def run_example(builder: Callable[[], Any]) -> Report:
    """Builds an example of a rule in a fresh graph with a global step, and checks it.

    Args:
      builder: `bad` or `good` of a rule. It builds in the default graph and returns the fields of
        a spec as a dict (with 'mode', and 'suppress' or 'context' if need be), or `SpecFacts`, or
        a finished `Report`, or a whole `rules.jobs.Job`.

    Returns:
      The `Report`.
    """
    with tf.Graph().as_default():
        v1.train.get_or_create_global_step()
        made = builder()
        if isinstance(made, Report):
            return made
        if isinstance(made, jobs.Job):
            return _run_job(made)
        if isinstance(made, facts.SpecFacts):
            return engine.check(made)
        fields = dict(made)
        suppress = fields.pop('suppress', None)
        context = fields.pop('context', facts.JobContext())
        return engine.check(facts.SpecFacts(fields.pop('mode'), fields, context=context),
                            suppress=suppress)


def _run_job(job: jobs.Job) -> Report:
    from estimator_spec_ext.preflight import api
    before = {name: os.environ.get(name) for name in job.environ}
    os.environ.update(job.environ)
    try:
        made = api.job_of(job.estimator, job.train_spec, job.eval_spec,
                          job.serving_input_receiver_fn)
        return api.check_job(dataclasses.replace(made, **job.script), depth=job.depth,
                             suppress=job.suppress, time_limit=job.time_limit)
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if job.folder is not None:
            job.folder.cleanup()

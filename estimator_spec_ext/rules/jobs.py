"""Small whole jobs for the examples of the rules that judge jobs."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from typing import Any, Callable, Mapping, Optional

from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.compat import tf, v1

FEATURES, ROWS = 3, 8


@dataclasses.dataclass(eq=False)
class Job:
    """What `preflight` is given.

    Attributes:
      estimator: the `tf.estimator.Estimator`.
      train_spec: a `tf.estimator.TrainSpec`, or None.
      eval_spec: a `tf.estimator.EvalSpec`, or None.
      serving_input_receiver_fn: a function, or None.
      depth: how deep the rule looks.
      suppress: reasons by rule.
      environ: environment variables while it runs.
      folder: a temporary folder that goes with the job.
      time_limit: seconds for all rehearsals.
      script: what a script that calls the methods of the estimator tells beside, by the names of
        `preflight.facts.Job`.
    """

    estimator: Any
    train_spec: Any = None
    eval_spec: Any = None
    serving_input_receiver_fn: Any = None
    depth: str = 'graph'
    suppress: Optional[Mapping[str, str]] = None
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)
    folder: Any = None
    time_limit: float = 600.
    script: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def input_fn() -> Any:
    """Two batches of four rows: features {'x': (?, 3)} and labels (?, 1)."""
    x = [[float(row + column) for column in range(FEATURES)] for row in range(ROWS)]
    y = [[float(row)] for row in range(ROWS)]
    return tf.data.Dataset.from_tensor_slices(({'x': x}, y)).batch(4)


def endless_input_fn() -> Any:
    """The same rows for ever."""
    return input_fn().repeat()


def receiver_fn() -> Any:
    """Any number of rows of plain numbers."""
    x = v1.placeholder(tf.float32, [None, FEATURES], name='x')
    return tf_estimator.export.ServingInputReceiver({'x': x}, {'x': x})


def linear(features: Any) -> Any:
    """One prediction a row, (?, 1)."""
    weight = v1.get_variable('w', [FEATURES, 1], use_resource=True)
    return tf.matmul(features['x'], weight)


def spec(mode: str, prediction: Any, labels: Any, **fields: Any) -> Any:
    """The spec of a regression."""
    if mode == 'infer':
        return tf_estimator.EstimatorSpec(mode, predictions={'p': prediction}, **fields)
    loss = tf.reduce_mean(tf.square(prediction - labels))
    if mode == 'eval':
        metrics = {'mean': v1.metrics.mean(prediction)}
        return tf_estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics, **fields)
    train_op = v1.train.AdamOptimizer(.01).minimize(loss, v1.train.get_global_step())
    return tf_estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, **fields)


def model_fn(features: Any, labels: Any, mode: str) -> Any:
    """A model without faults."""
    return spec(mode, linear(features), labels)


def job(function: Callable[..., Any] = model_fn, *, train: Any = endless_input_fn,
        evaluate: Any = input_fn, receiver: Any = receiver_fn, max_steps: Optional[int] = 100,
        params: Any = None, config: Optional[Mapping[str, Any]] = None, warm_start_from: Any = None,
        train_hooks: Any = None, eval_options: Optional[Mapping[str, Any]] = None,
        folder: Any = None, **options: Any) -> Job:
    """A job that trains, evaluates and exports.

    Args:
      function: the model_fn.
      train: the input function of TRAIN; None for a job without.
      evaluate: the input function of EVAL; None for a job without.
      receiver: the serving_input_receiver_fn, or None.
      max_steps: of the `TrainSpec`.
      params: of the Estimator.
      config: further arguments of the `RunConfig`.
      warm_start_from: of the Estimator.
      train_hooks: hooks of the `TrainSpec`.
      eval_options: further arguments of the `EvalSpec`.
      folder: a `tempfile.TemporaryDirectory` to work in; a new one for None.
      **options: further fields of `Job`.

    Returns:
      A `Job`.
    """
    folder = folder or tempfile.TemporaryDirectory(prefix='ese_example_')
    arguments = {'model_dir': os.path.join(folder.name, 'model'), 'tf_random_seed': 1,
                 **(config or {})}
    estimator = tf_estimator.Estimator(
        function, params=params, config=tf_estimator.RunConfig(**arguments),
        warm_start_from=warm_start_from)
    train_spec = eval_spec = None
    if train is not None:
        train_spec = tf_estimator.TrainSpec(train, max_steps=max_steps, hooks=train_hooks)
    if evaluate is not None:
        eval_spec = tf_estimator.EvalSpec(evaluate, **{'steps': None, **(eval_options or {})})
    return Job(estimator, train_spec, eval_spec, receiver, folder=folder, **options)

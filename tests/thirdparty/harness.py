"""Runs somebody else's estimator with every spec made strict, through its whole life."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
from typing import Any, Callable, Optional

import numpy as np
import tensorflow as tf

import estimator_spec_ext as ese

v1 = tf.compat.v1
STEPS = 3
MODES = ('train', 'evaluate', 'predict', 'export')


@dataclasses.dataclass
class Outcome:
    """What happened to one estimator.

    Attributes:
      modes: which of `MODES` went through.
      specs: how many specs were built and checked.
      errors: how many of their findings are errors.
      warnings: (mode, slug) of every warning, once each.
      signatures: names of the signatures of the export.
    """

    modes: list[str] = dataclasses.field(default_factory=list)
    specs: int = 0
    errors: int = 0
    warnings: set[tuple[str, str]] = dataclasses.field(default_factory=set)
    texts: list[str] = dataclasses.field(default_factory=list)
    signatures: tuple[str, ...] = ()


def strict_estimator(estimator: tf.estimator.Estimator, outcome: Outcome) -> Any:
    """The same estimator with its model_fn behind `ese.strict_model_fn`."""
    def recording(model_fn: Callable[..., Any]) -> Callable[..., Any]:
        strict = ese.strict_model_fn(model_fn)

        @functools.wraps(strict)
        def record(*args: Any, **kwargs: Any) -> Any:
            try:
                spec = strict(*args, **kwargs)
            except ese.EstimatorSpecError as error:
                outcome.errors += len(error.report.errors)
                raise
            outcome.specs += 1
            for finding in ese.findings(v1.get_default_graph()):
                if finding.severity is ese.Severity.ERROR:
                    outcome.errors += 1
                elif finding.severity is ese.Severity.WARNING:
                    outcome.warnings.add((finding.where.mode_label, finding.slug))
                    outcome.texts.append(finding.to_text())
            return spec

        record.__signature__ = inspect.signature(model_fn)
        return record

    estimator._model_fn = recording(estimator._model_fn)
    make = getattr(estimator, '_create_model_fn', None)
    if make is not None:  # adanet trains and evaluates other estimators, which it makes itself
        estimator._create_model_fn = lambda *args, **kwargs: recording(make(*args, **kwargs))
    return estimator


def run(estimator: tf.estimator.Estimator, train_input_fn: Callable[[], Any],
        eval_input_fn: Optional[Callable[[], Any]] = None,
        receiver_fn: Optional[Callable[[], Any]] = None,
        predict_input_fn: Optional[Callable[[], Any]] = None) -> Outcome:
    """Trains, evaluates, predicts and exports.

    Args:
      estimator: any estimator; its model_fn is replaced.
      train_input_fn: endless or long enough for `STEPS` steps.
      eval_input_fn: finite; None for two batches of `train_input_fn`.
      receiver_fn: the serving receiver; None to leave the export out.
      predict_input_fn: where prediction takes other features than evaluation.

    Returns:
      An `Outcome`. An error of the checks is raised.
    """
    outcome = Outcome()
    estimator = strict_estimator(estimator, outcome)
    estimator.train(train_input_fn, steps=STEPS)
    outcome.modes.append('train')
    result = estimator.evaluate(eval_input_fn or train_input_fn, steps=2)
    assert np.isfinite(result['loss']), result
    outcome.modes.append('evaluate')
    rows = []
    for row in estimator.predict(predict_input_fn or eval_input_fn or train_input_fn):
        rows.append(row)
        if len(rows) == 3:
            break
    assert rows
    outcome.modes.append('predict')
    if receiver_fn is not None:
        path = estimator.export_saved_model(os.path.join(estimator.model_dir, 'export'),
                                            receiver_fn)
        with tf.Graph().as_default(), v1.Session() as session:
            meta = v1.saved_model.load(session, ['serve'], path)
        outcome.signatures = tuple(sorted(meta.signature_def))
        outcome.modes.append('export')
    assert outcome.specs >= len(outcome.modes), 'not every spec was checked'
    return outcome


def raw_receiver(**shapes: tuple[Any, list[Optional[int]]]) -> Callable[[], Any]:
    """A serving receiver of placeholders: name -> (dtype, shape without the batch)."""
    def receiver() -> Any:
        tensors = {name: v1.placeholder(dtype, [None, *shape], name=name)
                   for name, (dtype, shape) in shapes.items()}
        return tf.estimator.export.ServingInputReceiver(tensors, tensors)
    return receiver


def example_receiver(feature_columns: Any) -> Callable[[], Any]:
    """A serving receiver of serialized tf.Examples."""
    return tf.estimator.export.build_parsing_serving_input_receiver_fn(
        tf.feature_column.make_parse_example_spec(feature_columns))


def table_rows(rng_seed: int = 0, rows: int = 32) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """A small table: float 'x' and 'z', string 'c'; labels 0 or 1."""
    rng = np.random.RandomState(rng_seed)
    x = rng.rand(rows, 1).astype(np.float32)
    z = rng.rand(rows, 1).astype(np.float32)
    c = rng.choice([b'a', b'b', b'c'], size=(rows, 1))
    return {'x': x, 'z': z, 'c': c}, (x[:, 0] + z[:, 0] > 1).astype(np.int64)


def input_fn(features: Any, labels: Any, *, repeat: bool = True,
             batch: int = 8) -> Callable[[], Any]:
    """An input_fn over arrays."""
    def make() -> Any:
        dataset = tf.data.Dataset.from_tensor_slices((features, labels))
        return (dataset.repeat() if repeat else dataset).batch(batch, drop_remainder=False)
    return make

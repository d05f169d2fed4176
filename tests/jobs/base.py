"""What the jobs share: the data, a small model, and the way a job is put together."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, Callable, Mapping, Optional

import numpy as np
import tensorflow as tf

v1 = tf.compat.v1

TRAIN, EVAL, PREDICT = 'train', 'eval', 'infer'
WIDTH = 6


@dataclasses.dataclass
class Whole:
    """A job as `train_and_evaluate` takes it, and what is done with the model afterwards.

    Attributes:
      estimator: the `tf.estimator.Estimator`.
      train_spec: a `tf.estimator.TrainSpec`; None for a job that does not train.
      eval_spec: a `tf.estimator.EvalSpec`; None for a job that does not evaluate.
      receiver_fn: what the job exports with when no exporter does; None for no further export.
      predicts: whether the job predicts.
      calls: how often a script calls the methods of the estimator, by their names.
    """

    estimator: Any
    train_spec: Any = None
    eval_spec: Any = None
    receiver_fn: Optional[Callable[[], Any]] = None
    predicts: bool = True
    calls: Mapping[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Pair:
    """Both twins of a class.

    Attributes:
      mistake: the class.
      make: called with `right` and a folder that it may fill; gives the `Whole`, or raises what
        the script would raise.
      depth: how deep `preflight` has to look.
      environ: environment variables while it is made and checked.
      cluster: whether stock needs several processes to run it.
    """

    mistake: str
    make: Callable[[bool, str], Whole]
    depth: str = 'graph'
    environ: Mapping[str, str] = dataclasses.field(default_factory=dict)
    cluster: bool = False


PAIRS: dict[str, Pair] = {}


def pair(mistake: str, **options: Any) -> Callable[[Any], Any]:
    """Registers a function of `right` and `folder` as the pair of a class."""
    def add(function: Any) -> Any:
        assert mistake not in PAIRS, mistake
        PAIRS[mistake] = Pair(mistake, function, **options)
        return function

    return add


def houses(count: int = 32, batch: int = 4, *, endless: bool = False,
           labels: str = 'price') -> Callable[[], Any]:
    """An input_fn: features {'rooms': (?, 6)}, labels (?, 1), of classes (?,) for 'kind'."""
    def input_fn() -> Any:
        rooms = np.cos(np.arange(count * WIDTH)).reshape(count, WIDTH).astype(np.float32)
        price = rooms.sum(1, keepdims=True) + .5
        given = price if labels == 'price' else (price[:, 0] > .5).astype(np.int64)
        data = tf.data.Dataset.from_tensor_slices(({'rooms': rooms}, given))
        return (data.repeat() if endless else data).batch(batch)

    return input_fn


def serving() -> Any:
    """Plain rows."""
    rooms = v1.placeholder(tf.float32, [None, WIDTH], name='rooms')
    return tf.estimator.export.ServingInputReceiver({'rooms': rooms}, {'rooms': rooms})


def hidden(features: Any, width: int = 8) -> Any:
    """One hidden layer, (?, width)."""
    return v1.layers.dense(features['rooms'], width, tf.nn.relu, name='hidden')


def outputs(features: Any, count: int = 1) -> Any:
    """What the model predicts, (?, count)."""
    return v1.layers.dense(hidden(features), count, name='outputs')


def minimize(loss: Any, **options: Any) -> Any:
    """A training step that is right."""
    return v1.train.AdamOptimizer(.01).minimize(
        loss, global_step=v1.train.get_or_create_global_step(), **options)


def spec(mode: str, predicted: Any, labels: Any, *, loss: Any = None, train_op: Any = None,
         predictions: Any = None, metrics: Any = None, **fields: Any) -> Any:
    """The stock spec of a regression; what is given takes the place of what is right."""
    if mode == PREDICT:
        return tf.estimator.EstimatorSpec(
            mode, predictions={'price': predicted} if predictions is None else predictions,
            **fields)
    if loss is None:
        loss = tf.reduce_mean(tf.square(predicted - labels))
    if mode == EVAL:
        if metrics is None:
            metrics = {'error': v1.metrics.mean_absolute_error(labels, predicted)}
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops=metrics, **fields)
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, train_op=minimize(loss) if train_op is None else train_op, **fields)


def model_fn(features: Any, labels: Any, mode: str) -> Any:
    """A model that is right."""
    return spec(mode, outputs(features), labels)


def whole(function: Callable[..., Any], folder: str, *, train: Any = None, evaluate: Any = None,
          max_steps: Optional[int] = 20, receiver_fn: Any = serving, exporters: Any = None,
          config: Optional[Mapping[str, Any]] = None, eval_options: Any = None,
          train_hooks: Any = None, warm_start_from: Any = None, params: Any = None) -> Whole:
    """A job that trains, evaluates twice and exports."""
    settings = {'model_dir': os.path.join(folder, 'model'), 'tf_random_seed': 3,
                'save_checkpoints_steps': 10, **(config or {})}
    estimator = tf.estimator.Estimator(
        function, params=params, config=tf.estimator.RunConfig(**settings),
        warm_start_from=warm_start_from)
    if exporters is None and receiver_fn is not None:
        exporters = [tf.estimator.FinalExporter('final', receiver_fn)]
    options = {'steps': None, 'throttle_secs': 0, 'start_delay_secs': 0, 'exporters': exporters,
               **(eval_options or {})}
    return Whole(
        estimator,
        tf.estimator.TrainSpec(train or houses(endless=True), max_steps=max_steps,
                               hooks=train_hooks),
        tf.estimator.EvalSpec(evaluate or houses(), **options), receiver_fn)


def checkpoint_of(function: Callable[..., Any], folder: str, *, steps: int = 2,
                  name: str = 'model') -> str:
    """Trains a model for a few steps; gives its folder."""
    path = os.path.join(folder, name)
    config = tf.estimator.RunConfig(model_dir=path, tf_random_seed=3)
    tf.estimator.Estimator(function, config=config).train(houses(endless=True), steps=steps)
    return path


def two_replicas(**options: Any) -> dict[str, Any]:
    """Arguments of a RunConfig: two replicas on one machine's CPU."""
    session = v1.ConfigProto(device_count={'CPU': 2})
    with tf.Graph().as_default():  # eagerly it would look for a second CPU now
        strategy = tf.distribute.MirroredStrategy(['/cpu:0', '/cpu:1'])
    return {'session_config': session, **dict.fromkeys(options.pop('of'), strategy), **options}

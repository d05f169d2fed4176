"""A few mistakes in one job: what TensorFlow says of each and when, and what the checks say.

    python -m tests.mistakes.stock        # writes stock.json, from which README.md has its table

The job trains 20 steps, evaluates, exports, and asks the export. Everything is run: TensorFlow's
words and the moment at which it says them are those of this run.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys
import tempfile
import textwrap
import warnings
from typing import Any, Optional

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import numpy as np
import tensorflow as tf

import estimator_spec_ext as ese

v1 = tf.compat.v1
RESULTS = pathlib.Path(__file__).with_name('stock.json')
_STEPS, _PATIENCE = 20, 200

# The mistakes, in the words of the table.
MISTAKES = {
    'loss_per_row': 'the loss is not reduced to one number',
    'no_global_step': '`minimize(loss)` without the global step',
    'no_update_ops': 'the updates of batch normalisation are not run',
    'metric_not_pair': 'a metric is a tensor, not `(value, update_op)`',
    'names_by_mode': 'EVAL names its variables otherwise than TRAIN',
    'labels_in_predict': 'PREDICT computes the loss too',
    'classification_only': 'the only export output is a `ClassificationOutput`',
    'flattened_batch': 'a prediction has lost its batch',
}


def model_fn(features, labels, mode, params):
    """A classifier of two classes with the mistake that `params['mistake']` names."""
    mistake = params['mistake']
    training = mode == 'train'
    scope = mode if mistake == 'names_by_mode' else 'net'
    with v1.variable_scope(scope):
        net = v1.layers.dense(features['x'], 4)
        net = v1.layers.batch_normalization(net, training=training)
        logits = v1.layers.dense(tf.nn.relu(net), 1)
    score = tf.sigmoid(logits)
    predictions = {'score': score}
    if mistake == 'flattened_batch':
        predictions['best'] = tf.reduce_max(score)
    if mode == 'infer' and mistake != 'labels_in_predict':
        outputs = None
        if mistake == 'classification_only':
            outputs = {'serving_default': tf.estimator.export.ClassificationOutput(scores=score)}
        return tf.estimator.EstimatorSpec(mode, predictions=predictions, export_outputs=outputs)
    loss = tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits)
    mean = tf.reduce_mean(loss)
    if mistake != 'loss_per_row':
        loss = mean
    if mode == 'eval':
        right = tf.equal(score > 0.5, labels > 0.5)
        value = v1.metrics.mean(tf.cast(right, tf.float32))
        if mistake == 'metric_not_pair':
            value = value[0]
        return tf.estimator.EstimatorSpec(mode, loss=loss, eval_metric_ops={'accuracy': value})
    updates = [] if mistake == 'no_update_ops' else v1.get_collection(v1.GraphKeys.UPDATE_OPS)
    step = None if mistake == 'no_global_step' else v1.train.get_or_create_global_step()
    with tf.control_dependencies(updates):
        train_op = v1.train.AdamOptimizer(0.01).minimize(mean, global_step=step)
    return tf.estimator.EstimatorSpec(
        mode, predictions=predictions, loss=loss, train_op=train_op)


def input_fn():
    """Endless batches of 8 rows."""
    rows = np.random.RandomState(1).normal(3., 1., [64, 3]).astype(np.float32)
    labels = (rows.sum(1, keepdims=True) > 9).astype(np.float32)
    return tf.data.Dataset.from_tensor_slices(({'x': rows}, labels)).repeat().batch(8)


def receiver_fn():
    """Plain rows, any number of them."""
    x = v1.placeholder(tf.float32, [None, 3], name='x')
    return tf.estimator.export.ServingInputReceiver({'x': x}, {'x': x})


class _Patience(tf.estimator.SessionRunHook):
    """Counts what really runs, and ends what would not end."""

    def __init__(self) -> None:
        self.runs = 0

    def after_run(self, run_context: Any, run_values: Any) -> None:
        self.runs += 1
        if self.runs >= _PATIENCE:
            run_context.request_stop()


def _first_line(error: BaseException) -> str:
    """The line of an error that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # What a session raises begins with where; what stands behind the name of the node.
    behind = [after for line, after in zip(lines, lines[1:]) if line.startswith('Node: ')]
    line = next(iter([*behind, *lines]), '')
    return textwrap.shorten(f'{type(error).__name__}: {line}', 110, placeholder=' …')


def run_stock(mistake: str) -> tuple[str, str]:
    """Runs the job as it is.

    Returns:
      When TensorFlow says something, and what; ('never', what has silently become of it) else.
    """
    with tempfile.TemporaryDirectory() as folder:
        estimator = _estimator(model_fn, mistake, folder)
        patience = _Patience()
        when = 'when TRAIN is built'
        try:
            try:
                estimator.train(input_fn, max_steps=_STEPS, hooks=[patience])
            except Exception:
                when = f'at step {patience.runs + 1}' if _started(folder) else when
                raise
            if patience.runs >= _PATIENCE:
                step = estimator.get_variable_value('global_step')
                return 'never', (f'training does not end: {patience.runs} steps of {_STEPS} are '
                                 f'run, global_step is {step}')
            moved = [estimator.get_variable_value(name) for name in estimator.get_variable_names()
                     if name.endswith('moving_mean')]
            when = 'after training, in EVAL'
            estimator.evaluate(input_fn, steps=2)
            when = 'after training, at the export'
            exported = estimator.export_saved_model(os.path.join(folder, 'export'), receiver_fn)
            when = 'when a client asks'
            answer = _ask(exported.decode())
            if answer:
                return 'when a client asks', answer
        except Exception as error:  # noqa: BLE001 - whatever it says is the answer
            return when, _first_line(error)
    if moved and not np.any(moved):
        return 'never', 'nothing; the moving averages stay 0, and EVAL and serving use them'
    return 'never', 'nothing'


def _started(folder: str) -> bool:
    return any(name.startswith('model.ckpt') for name in os.listdir(folder))


def _ask(path: str) -> Optional[str]:
    with tf.Graph().as_default(), v1.Session() as session:
        signatures = v1.saved_model.load(session, ['serve'], path).signature_def
        if 'serving_default' not in signatures:
            return f'the export has {len(signatures)} signatures'
        signature = signatures['serving_default']
        rows = np.ones([3, 3], np.float32)
        answer = session.run({key: info.name for key, info in signature.outputs.items()},
                             {signature.inputs['x'].name: rows})
    scalars = [key for key, value in answer.items() if np.shape(value)[:1] != (3,)]
    return f'{scalars[0]!r}: one answer for 3 rows' if scalars else None


def run_checked(mistake: str) -> tuple[str, str]:
    """When and what the checks say: in the training itself, or else in preflight."""
    with tempfile.TemporaryDirectory() as folder:
        estimator = _estimator(ese.strict_model_fn(model_fn), mistake, folder)
        try:
            estimator.train(input_fn, steps=1)
        except ese.EstimatorSpecError as error:
            return 'when TRAIN is built', _names(error.findings)
        except Exception:  # noqa: BLE001 - stock's own failure is told above
            pass
    with tempfile.TemporaryDirectory() as folder:
        report = ese.preflight(
            _estimator(model_fn, mistake, folder),
            tf.estimator.TrainSpec(input_fn, max_steps=_STEPS),
            tf.estimator.EvalSpec(input_fn, steps=2), serving_input_receiver_fn=receiver_fn,
            depth='graph')
    loud = [f for f in report.findings if f.severity is not ese.Severity.INFO]
    return ('before the start, in preflight', _names(loud)) if loud else ('never', 'nothing')


def _names(found: Any) -> str:
    return ', '.join(dict.fromkeys(f'{finding.code} {finding.slug}' for finding in found))


def _estimator(function: Any, mistake: str, folder: str) -> Any:
    config = tf.estimator.RunConfig(model_dir=folder, tf_random_seed=1)
    return tf.estimator.Estimator(function, config=config, params={'mistake': mistake})


def results() -> list[dict[str, str]]:
    """One row for each mistake."""
    rows = []
    for mistake, text in MISTAKES.items():
        when, said = run_stock(mistake)
        our_when, ours = run_checked(mistake)
        rows.append({'mistake': text, 'stock when': when, 'stock': said,
                     'checks when': our_when, 'checks': ours})
    return rows


def main() -> int:
    """Writes stock.json."""
    v1.logging.set_verbosity(v1.logging.ERROR)
    warnings.simplefilter('ignore')
    RESULTS.write_text(json.dumps(results(), indent=1) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())

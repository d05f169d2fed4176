"""Measures what `preflight` costs on the digits example, side by side with stock TensorFlow.

    python benchmarks/preflight_cost.py            # both depths: two minutes
    python benchmarks/preflight_cost.py --rounds 3

Depth `graph` is set against stock's own train, evaluate and export, each stopped where its session
would start: CPU time of the thread, both in one process. Depth `serve` is set against a script
written by hand that takes two training steps, evaluates, predicts, exports, and reads the export
back in a fresh process: time by the clock, each in a process of its own.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import itertools
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
import types
import warnings
from typing import Any, Callable, Iterator

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
BUDGETS = {'graph': 1.2, 'serve': 1.5}

sys.path[:0] = [str(ROOT), str(ROOT / 'examples')]


def main() -> int:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=9, help='pairs to measure (default: 9)')
    parser.add_argument('--only', choices=tuple(BUDGETS), help='one depth alone')
    parser.add_argument('--worker', choices=('stock', 'ours', 'reload'), help=argparse.SUPPRESS)
    parser.add_argument('folder', nargs='?', help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter('ignore')
    if arguments.worker:
        return {'stock': _serve_stock, 'ours': _serve_ours, 'reload': _reload}[arguments.worker](
            arguments.folder)
    for line in table(arguments.rounds, arguments.only):
        print(line, flush=True)
    return 0


def table(rounds: int, only: Any = None) -> Iterator[str]:
    """The lines of the table, in Markdown.

    Args:
      rounds: how many pairs to measure.
      only: 'graph' or 'serve'; None for both.
    """
    measures: dict[str, tuple[Callable[[], float], Callable[[], float], str]] = {
        'graph': (_graph_stock, _graph_ours, 's of CPU'),
        'serve': (lambda: _process('stock'), lambda: _process('ours'), 's by the clock')}
    yield '| preflight of the digits example | stock | preflight | ratio | at most |'
    yield '| --- | ---: | ---: | ---: | ---: |'
    for depth, (stock, ours, unit) in measures.items():
        if only not in (None, depth):
            continue
        if depth == 'graph':
            stock(), ours()  # loads what TensorFlow and the rules load lazily
        pairs = []
        for number in range(rounds):
            first, second = (stock, ours) if number % 2 else (ours, stock)
            times = {first: first(), second: second()}
            pairs.append((times[stock], times[ours]))
        ratio = statistics.median(ours / stock for stock, ours in pairs)
        over = '' if ratio <= BUDGETS[depth] else ' **over**'
        yield (f'| depth `{depth}`, {unit}, median of {rounds} | '
               f'{statistics.median(pair[0] for pair in pairs):.2f} | '
               f'{statistics.median(pair[1] for pair in pairs):.2f} | {ratio:.2f}{over} | '
               f'{BUDGETS[depth]} |')


# The job.

def _job(model_dir: str, spec_class: Any) -> tuple[Any, Any, Any]:
    """The estimator and the specs of the example, as its own train() makes them."""
    import digits_classifier as example
    import tensorflow as tf
    tf.get_logger().setLevel('ERROR')
    example.ese = types.SimpleNamespace(StrictEstimatorSpec=spec_class)
    training, validation, _ = example.load_digits()
    config = tf.estimator.RunConfig(model_dir=model_dir, tf_random_seed=7,
                                    save_checkpoints_steps=200)
    params = {'filters': [32, 64], 'dropout': 0.3, 'learning_rate': 0.002}
    return (tf.estimator.Estimator(example.model_fn, config=config, params=params),
            tf.estimator.TrainSpec(example.make_input_fn(*training, training=True), max_steps=600),
            tf.estimator.EvalSpec(
                example.make_input_fn(*validation, training=False), steps=None, throttle_secs=0,
                exporters=tf.estimator.FinalExporter('digits', example.serving_input_receiver_fn)))


# Depth graph.

class _Stopped(Exception):
    """The graph is there, and the session would start now."""


def _graph_stock() -> float:
    import digits_classifier as example
    import tensorflow as tf

    class Stop(tf.estimator.SessionRunHook):
        """Ends train and evaluate before their session."""

        def begin(self) -> None:
            raise _Stopped

    with tempfile.TemporaryDirectory() as folder:
        estimator, train_spec, eval_spec = _job(folder, tf.estimator.EstimatorSpec)
        gc.collect()
        start = time.thread_time()
        with contextlib.suppress(_Stopped):
            estimator.train(train_spec.input_fn, hooks=[Stop()])
        with contextlib.suppress(_Stopped):
            estimator.evaluate(eval_spec.input_fn, hooks=[Stop()])
        with tf.Graph().as_default():
            tf.compat.v1.set_random_seed(estimator.config.tf_random_seed)
            tf.compat.v1.train.create_global_step()
            features = example.serving_input_receiver_fn().features
            estimator.model_fn(features, None, tf.estimator.ModeKeys.PREDICT, estimator.config)
        return time.thread_time() - start


def _graph_ours() -> float:
    import estimator_spec_ext as ese
    with tempfile.TemporaryDirectory() as folder:
        job = _job(folder, ese.StrictEstimatorSpec)
        gc.collect()
        start = time.thread_time()
        report = ese.preflight(*job, depth='graph')
        spent = time.thread_time() - start
    assert not report.findings, report.to_text()
    return spent


# Depth serve.

def _process(kind: str) -> float:
    """How long a process of this kind takes, from its start to its end."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run([sys.executable, __file__, '--worker', kind, folder], check=True,
                       capture_output=True)
        return time.perf_counter() - start


def _serve_stock(folder: str) -> int:
    """What somebody would write to try the job out."""
    import digits_classifier as example
    import numpy as np
    import tensorflow as tf
    estimator, train_spec, eval_spec = _job(folder, tf.estimator.EstimatorSpec)
    estimator.train(train_spec.input_fn, steps=2)
    estimator.evaluate(eval_spec.input_fn, steps=2)
    rows = list(itertools.islice(estimator.predict(eval_spec.input_fn), 3))
    path = estimator.export_saved_model(os.path.join(folder, 'export'),
                                        example.serving_input_receiver_fn)
    np.savez(os.path.join(folder, 'rows.npz'), images=example.load_digits()[1][0][:3],
             expected=[row['probabilities'] for row in rows])
    os.rename(os.fsdecode(path), os.path.join(folder, 'saved'))
    subprocess.run([sys.executable, __file__, '--worker', 'reload', folder], check=True)
    return 0


def _reload(folder: str) -> int:
    """Asks the export for one row and for three, and compares."""
    import numpy as np
    import tensorflow as tf
    data = np.load(os.path.join(folder, 'rows.npz'))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        loaded = tf.compat.v1.saved_model.load(session, ['serve'], os.path.join(folder, 'saved'))
        signature = loaded.signature_def['serving_default']
        for rows in (1, 3):
            answers = session.run(signature.outputs['probabilities'].name,
                                  {signature.inputs['image'].name: data['images'][:rows]})
            np.testing.assert_allclose(answers, data['expected'][:rows], rtol=1e-3, atol=1e-4)
    return 0


def _serve_ours(folder: str) -> int:
    import estimator_spec_ext as ese
    report = ese.preflight(*_job(folder, ese.StrictEstimatorSpec))
    assert not report.findings and not report.notes, report.to_text()
    return 0


if __name__ == '__main__':
    sys.exit(main())

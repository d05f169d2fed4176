"""Trains a classifier of handwritten digits in a cluster of processes on this machine.

The multi-worker job of `tf.estimator`, with what keeps it from hanging without a word:

- all roles are preflighted, one after the other in this process, before one is started;
- `ese.train_and_evaluate` checks each role again where it runs, and adds a
  `GraphAgreementHook`: no step is taken before the roles have compared their graphs;
- an `ese.StallWatchdogHook` ends a role whose step does not end.

    python examples/multi_worker.py --workers 2 --strategy multi_worker_mirrored
    python examples/multi_worker.py --workers 2 --strategy parameter_server

Started with TF_CONFIG in its environment the program plays that role, with MODEL_DIR and STRATEGY
from the environment: this is what runs in a real cluster, see examples/kubernetes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

# TensorFlow reads it when it is imported; without it the progress drowns in notes.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import numpy as np
import tensorflow as tf
from sklearn import datasets

import estimator_spec_ext as ese

ese.install_tf_estimator()  # TensorFlow 2.16 and later have no tf.estimator of their own

tf1 = tf.compat.v1

_STRATEGIES = ('multi_worker_mirrored', 'parameter_server')
_TEST = 360  # digits which nobody trains on
_BATCH = 64
_STEPS = 400
_WANTED_ACCURACY = 0.93


def load_digits():
    """Returns (images, digits) for training and for the test: 1437 and 360 of them."""
    data = datasets.load_digits()
    order = np.random.RandomState(7).permutation(len(data.target))
    images = (data.images[order] / 16.0).astype(np.float32)
    digits = data.target[order].astype(np.int64)
    return (images[:-_TEST], digits[:-_TEST]), (images[-_TEST:], digits[-_TEST:])


def model_fn(features, labels, mode):
    """A network with one hidden layer.

    Args:
        features: A dict with 'image', float32 of shape [batch, 8, 8], values from 0 to 1.
        labels: The digits, int64 of shape [batch]; None in PREDICT.
        mode: One of `tf.estimator.ModeKeys`.

    Returns:
        An `ese.StrictEstimatorSpec`.
    """
    net = tf1.layers.flatten(features['image'])
    net = tf1.layers.dense(net, 64, tf.nn.relu, name='hidden')
    logits = tf1.layers.dense(net, 10, name='logits')
    digit = tf.argmax(logits, axis=1)
    return ese.create_estimator_spec(
        mode, predictions={'digit': digit, 'probabilities': tf.nn.softmax(logits)}, labels=labels,
        loss_fn=lambda labels, predictions: tf1.losses.sparse_softmax_cross_entropy(labels, logits),
        optimizer=lambda: tf1.train.AdamOptimizer(0.005),
        metrics_fn=lambda labels, predictions: {'accuracy': tf1.metrics.accuracy(labels, digit)})


def train_input_fn(input_context=None):
    """Endless and shuffled; where the strategy says so, each worker reads a part of its own."""
    dataset = tf.data.Dataset.from_tensor_slices(load_digits()[0])
    if input_context is not None:
        dataset = dataset.shard(
            input_context.num_input_pipelines, input_context.input_pipeline_id)
    dataset = dataset.shuffle(1500).repeat().batch(_BATCH)
    return dataset.map(lambda image, digit: ({'image': image}, digit))


def eval_input_fn():
    """The digits of the test, once."""
    dataset = tf.data.Dataset.from_tensor_slices(load_digits()[1]).batch(_BATCH)
    return dataset.map(lambda image, digit: ({'image': image}, digit))


def serving_input_receiver_fn():
    """What a client sends: any number of images as plain floats."""
    image = tf1.placeholder(tf.float32, [None, 8, 8], name='image')
    return tf.estimator.export.ServingInputReceiver({'image': image}, {'image': image})


def build():
    """The job, for whichever role TF_CONFIG names.

    Returns:
        The estimator, the TrainSpec and the EvalSpec.
    """
    strategy = None
    if os.environ.get('STRATEGY') == 'multi_worker_mirrored':
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    config = tf.estimator.RunConfig(
        os.environ.get('MODEL_DIR'), train_distribute=strategy, log_step_count_steps=100,
        # Steps, not seconds: under MultiWorkerMirrored, seconds become 1000 steps. There summaries
        # must not be switched off, or checkpoints are too.
        save_checkpoints_steps=100, save_summary_steps=100,
        # Workers beside parameter servers wait so long for the chief to initialise the variables.
        experimental_max_worker_delay_secs=3)
    watchdog = ese.StallWatchdogHook(limit_secs=120, start_limit_secs=240, stop=True)
    return (
        tf.estimator.Estimator(model_fn, config=config),
        tf.estimator.TrainSpec(train_input_fn, max_steps=_STEPS, hooks=[watchdog]),
        tf.estimator.EvalSpec(
            eval_input_fn, steps=None, start_delay_secs=0, throttle_secs=1,
            exporters=tf.estimator.FinalExporter('digits', serving_input_receiver_fn)))


def play_role():
    """Takes the part in the job that TF_CONFIG names."""
    tf1.logging.set_verbosity(tf1.logging.INFO)
    # With MultiWorkerMirrored an evaluator works in graph mode only.
    tf1.disable_eager_execution()
    ese.train_and_evaluate(*build(), depth='graph')


def make_cluster(workers, strategy):
    """Addresses on this machine: a chief, workers, an evaluator, perhaps a parameter server.

    Args:
        workers: How many processes train, the chief among them.
        strategy: One of `_STRATEGIES`.

    Returns:
        The value of 'cluster' in TF_CONFIG.
    """
    # MultiWorkerMirrored wants the evaluator listed, the others do not mind.
    counts = {'chief': 1, 'worker': workers - 1, 'evaluator': 1,
              'ps': 1 if strategy == 'parameter_server' else 0}
    with contextlib.ExitStack() as stack:
        cluster = {}
        for kind, count in counts.items():
            sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
            for free in sockets:
                free.bind(('127.0.0.1', 0))
            if sockets:
                cluster[kind] = [f'127.0.0.1:{free.getsockname()[1]}' for free in sockets]
        return cluster


@contextlib.contextmanager
def started(cluster, logs):
    """Starts a process for every role, and ends all that still run when the block is left."""
    processes = {}
    try:
        for kind, addresses in cluster.items():
            for index in range(len(addresses)):
                task = {'cluster': cluster, 'task': {'type': kind, 'index': index}}
                with open(os.path.join(logs, f'{kind}-{index}.log'), 'w') as log:
                    processes[f'{kind}/{index}'] = subprocess.Popen(
                        [sys.executable, os.path.abspath(__file__)], stdout=log, stderr=log,
                        env={**os.environ, 'TF_CONFIG': json.dumps(task)})
        yield processes
    finally:
        for process in processes.values():
            process.kill()
        for process in processes.values():
            process.wait()


def wait(processes, seconds):
    """Waits until all roles have ended but parameter servers, which never do.

    Args:
        processes: The processes by role.
        seconds: How long to wait at most.

    Returns:
        The roles that failed, or were not done in time, with their exit status.
    """
    end = time.monotonic() + seconds
    running = {name: process for name, process in processes.items() if not name.startswith('ps/')}
    failed = {}
    while running and not failed:
        if time.monotonic() > end:
            return dict.fromkeys(running, 'not done')
        for name, process in list(running.items()):
            if process.poll() is not None:
                del running[name]
                print(f'  {name} ended with status {process.returncode}')
                if process.returncode:
                    failed[name] = process.returncode
        time.sleep(0.2)
    return failed


def accuracy_of(saved_model):
    """Loads a SavedModel and asks it for the digits of the test."""
    images, digits = load_digits()[1]
    with tf.Graph().as_default(), tf1.Session() as session:
        meta_graph = tf1.saved_model.load(session, ['serve'], saved_model)
        signature = meta_graph.signature_def['serving_default']
        answer = session.run(signature.outputs['digit'].name,
                             {signature.inputs['image'].name: images})
    return np.mean(answer == digits)


def launch(workers, strategy, seconds):
    """Preflights the job, runs it, and asks what it exported; returns an exit status."""
    with tempfile.TemporaryDirectory(prefix='digits_') as folder:
        os.environ.update(STRATEGY=strategy, MODEL_DIR=os.path.join(folder, 'model'))
        cluster = make_cluster(workers, strategy)
        report = ese.preflight_roles(
            build, {'cluster': cluster, 'task': {'type': 'chief', 'index': 0}},
            suppress={'evaluator-runs-eagerly': 'each role switches eager execution off first'})
        print(f'Preflight of all roles: {report}')
        if not report.ok:
            return 1
        print(f'Training with {strategy}:')
        with started(cluster, folder) as processes:
            failed = wait(processes, seconds)
        for name, status in failed.items():
            print(f'{name}: {status}', file=sys.stderr)
            with open(os.path.join(folder, f'{name.replace("/", "-")}.log')) as log:
                print(log.read()[-3000:], file=sys.stderr)
        if failed:
            return 1
        exports = os.path.join(os.environ['MODEL_DIR'], 'export', 'digits')
        accuracy = accuracy_of(os.path.join(exports, max(os.listdir(exports))))
    print(f'Test accuracy of the exported model: {accuracy:.4f} on {_TEST} digits')
    return 0 if accuracy > _WANTED_ACCURACY else 1


def main(argv=None):
    if 'TF_CONFIG' in os.environ:
        play_role()
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--workers', type=int, default=2,
                        help='processes that train, the chief among them (default: 2)')
    parser.add_argument('--strategy', choices=_STRATEGIES, default=_STRATEGIES[0])
    parser.add_argument('--timeout', type=float, default=400,
                        help='seconds for the training (default: 400)')
    args = parser.parse_args(argv)
    if args.workers < 2:
        parser.error('a cluster needs --workers of 2 or more')
    tf1.logging.set_verbosity(tf1.logging.ERROR)
    # So that `started` ends its processes.
    signal.signal(signal.SIGTERM, lambda *unused: sys.exit(143))
    return launch(args.workers, args.strategy, args.timeout)


if __name__ == '__main__':
    sys.exit(main())

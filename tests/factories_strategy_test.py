"""The factories under the strategies that Estimator supports: the same training on each."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

import estimator_spec_ext as ese
from tests import strategy_job

_STRATEGIES = {
    'one-device': lambda: tf.distribute.OneDeviceStrategy('/cpu:0'),
    'mirrored': lambda: tf.distribute.MirroredStrategy(['/cpu:0']),
}


@pytest.mark.parametrize('name', sorted(_STRATEGIES))
@pytest.mark.parametrize('optimizer', sorted(strategy_job.OPTIMIZERS))
def test_same_training(tmp_path, name, optimizer):
    """A strategy changes where the work is done, not what comes out."""
    make = strategy_job.OPTIMIZERS[optimizer]
    strategy_job.assert_same_training(tmp_path, make, make, _STRATEGIES[name](), 1)


def test_errors_under_a_strategy(tmp_path):
    """A finding arrives as what it is, also from a replica's thread."""

    def model_fn(features, labels, mode):
        return ese.create_train_estimator_spec(features, optimizer=strategy_job.OPTIMIZERS['tf1'])

    config = tf.estimator.RunConfig(
        model_dir=str(tmp_path), train_distribute=_STRATEGIES['mirrored']())
    with pytest.raises(ese.EstimatorSpecError, match='loss-not-scalar'):
        tf.estimator.Estimator(model_fn, config=config).train(
            lambda: tf.data.Dataset.from_tensor_slices(strategy_job.X).batch(4), steps=1)


@pytest.mark.slow
def test_two_replicas():
    """Two replicas need two devices, which a process must ask for before it computes anything."""
    root = pathlib.Path(__file__).absolute().parents[1]
    done = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider',
         'tests/factories_two_replicas.py'],
        cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-5000:]
    assert ' passed' in done.stdout and 'skipped' not in done.stdout

"""The factories on two replicas; `factories_strategy_test` runs this in a process of its own."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from tests import strategy_job

# Before anything is computed; afterwards it would be refused.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices('CPU')[0], [tf.config.LogicalDeviceConfiguration()] * 2)


def _mirrored():
    return tf.distribute.MirroredStrategy(['/cpu:0', '/cpu:1'])


@pytest.mark.parametrize('optimizer', sorted(strategy_job.OPTIMIZERS))
def test_same_training(tmp_path, optimizer):
    """Two replicas with half of the batch each train as one with all of it."""
    make = strategy_job.OPTIMIZERS[optimizer]
    strategy_job.assert_same_training(tmp_path, make, make, _mirrored(), 2)


@pytest.mark.parametrize('optimizer', sorted(strategy_job.OPTIMIZERS))
def test_one_object_for_all_replicas(tmp_path, optimizer):
    """An optimizer object made in main() serves every replica, and a second training."""
    made = strategy_job.OPTIMIZERS[optimizer]()
    for attempt in ('first', 'second'):
        strategy_job.assert_same_training(
            tmp_path / attempt, made, strategy_job.OPTIMIZERS[optimizer], _mirrored(), 2)


def test_updates_of_keras_layers(tmp_path):
    """Batch normalisation moves on every replica, and the checkpoint has the mean of them."""
    estimator, _ = strategy_job.train(
        tmp_path, strategy_job.OPTIMIZERS['keras'], _mirrored(), 2, steps=1, norm=True)
    np.testing.assert_allclose(
        estimator.get_variable_value('batch_normalization/moving_mean'),
        0.5 * strategy_job.X.mean(0), rtol=1e-4, atol=1e-6)


def test_warm_start(tmp_path):
    """Every replica starts from the source, and so do the averages."""
    source, _ = strategy_job.train(tmp_path / 'source', strategy_job.OPTIMIZERS['tf1'])
    weight = source.get_variable_value('w')
    estimator, _ = strategy_job.train(
        tmp_path / 'warm', lambda: tf.compat.v1.train.GradientDescentOptimizer(0.), _mirrored(), 2,
        steps=1, warm_start_from=tf.estimator.WarmStartSettings(source.model_dir, 'w'))
    for name in ('w', 'w/ExponentialMovingAverage'):
        np.testing.assert_array_equal(estimator.get_variable_value(name), weight, err_msg=name)

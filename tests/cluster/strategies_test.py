"""Strict specs under every strategy that Estimator supports: what stock trains, strict trains.

Each job runs twice, stock and strict, from the same seed: train, evaluate, export.
"""

from __future__ import annotations

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf

MAX_STEPS = 20


def _variables(model_dir):
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(model_dir)))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}


def _signatures(model_dir):
    folders = sorted(pathlib.Path(model_dir, 'export', 'final').iterdir())
    assert len(folders) == 1 and (folders[0] / 'saved_model.pb').exists()
    from tensorflow.core.protobuf import saved_model_pb2
    saved = saved_model_pb2.SavedModel.FromString((folders[0] / 'saved_model.pb').read_bytes())
    return sorted(saved.meta_graphs[0].signature_def)


def _evaluations(model_dir):
    events = sorted(pathlib.Path(model_dir, 'eval').glob('events*'))
    return {value.tag for path in events for event in tf.compat.v1.train.summary_iterator(str(path))
            for value in event.summary.value}


def _both(clusters, tmp_path, counts, **options):
    """Runs the job stock and strict; returns the variables of each."""
    found = []
    for strict in (False, True):
        model_dir = tmp_path / f'strict-{strict}'
        cluster = clusters(**counts)
        options.update(model_dir=str(model_dir), strict=strict, agreement=strict)
        options.setdefault('max_steps', MAX_STEPS)
        if counts:
            cluster.start_all(**options)
        else:
            cluster.start('local', **options)
        statuses = cluster.wait(seconds=150)
        assert statuses == dict.fromkeys(statuses, 0)
        assert all('\ndone\n' in cluster.roles[name].log for name in statuses)
        cluster.__exit__()
        assert _signatures(model_dir) == ['serving_default']
        assert _evaluations(model_dir) == {'loss', 'error', 'checkpoint_path'}
        found.append(_variables(model_dir))
    return found


def _assert_same(stock, strict):
    assert stock.keys() == strict.keys()
    assert stock['global_step'] == strict['global_step'] == MAX_STEPS
    for name in stock:
        np.testing.assert_allclose(stock[name], strict[name], rtol=1e-6, err_msg=name)
    assert np.ptp(strict['a']) > 0


@pytest.mark.parametrize('strategy', [
    '', 'one_device', 'mirrored_1', 'mirrored_2', 'central_storage'])
def test_one_process(clusters, tmp_path, strategy):
    _assert_same(*_both(clusters, tmp_path, {}, strategy=strategy))


@pytest.mark.parametrize('options, evaluator', [
    (dict(strategy='multi_worker'), 1),
    (dict(strategy='multi_worker_v1'), 1),
    (dict(strategy='multi_worker', eager=True), 0),
], ids=['graph', 'v1', 'eager'])
def test_multi_worker_mirrored(clusters, tmp_path, options, evaluator):
    """Two workers; with an evaluator only in graph mode, and only when the cluster lists it."""
    if evaluator:
        counts = dict(chief=1, worker=1, evaluator=1)
        _assert_same(*_both(clusters, tmp_path, counts, **options))
        return
    found = []
    for strict in (False, True):
        model_dir = tmp_path / f'strict-{strict}'
        cluster = clusters(chief=1, worker=1).start_all(
            model_dir=str(model_dir), strict=strict, agreement=strict, **options)
        assert cluster.wait(seconds=100) == {'chief/0': 0, 'worker/0': 0}
        found.append(_variables(model_dir))
    _assert_same(*found)


@pytest.mark.parametrize('strategy', ['', 'ps_v1'])
def test_parameter_servers(clusters, tmp_path, strategy):
    """The loss is linear, so that the weights tell how many steps were counted, whoever took them.

    Each role may be in a step when the last one is counted; it takes it all the same.
    """
    stock, strict = _both(clusters, tmp_path, dict(chief=1, worker=1, ps=1, evaluator=1),
                          strategy=strategy, linear=True)
    assert stock.keys() == strict.keys()
    from tests.cluster import job
    slope = job.X.reshape(4, 16, 3).mean(1)
    for found in (stock, strict):
        steps = int(found['global_step'])
        assert MAX_STEPS <= steps <= MAX_STEPS + 2
        for name in 'ab':
            moved = .1 * ord(name) - found[name][:, 0]
            # Each role goes through the four batches from the first.
            least, most = slope.min(0) * steps * .01, slope.max(0) * steps * .01
            assert (moved > least - 1e-4).all() and (moved < most + 1e-4).all(), name
            assert np.abs(moved).max() > 1e-3


def test_parameter_servers_version_2(clusters, tmp_path):
    """It crashes in its constructor, before anything of this package could see it."""
    cluster = clusters(chief=1, worker=1, ps=1).start_all(
        model_dir=str(tmp_path / 'model'), strategy='ps_v2', eager=True)
    statuses = cluster.wait('chief/0', 'worker/0', 'ps/0', seconds=20)
    assert 0 not in statuses.values(), json.dumps(statuses)
    assert not (tmp_path / 'model').exists()

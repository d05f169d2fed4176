"""Processes that are killed in the middle: where stock recovers, strict jobs recover too.

Where stock hangs, which is MultiWorkerMirrored after any lost role, the watchdog makes an error of
it within its limit, so that the whole job can be started anew.
"""

from __future__ import annotations

import re

import tensorflow as tf

from estimator_spec_ext import watchdog

WATCHDOG = {'limit_secs': 6., 'start_limit_secs': 25., 'stop': True}


def _newest(model_dir):
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(str(model_dir)))
    return int(reader.get_tensor('global_step'))


def _restored(role):
    """The step of the checkpoint that a role went on from."""
    found = re.findall(r'Restoring parameters from \S*model\.ckpt-(\d+)', role.log)
    return int(found[0]) if found else None


def _multi_worker(clusters, model_dir, counts=None, **options):
    return clusters(**(counts or dict(chief=1, worker=1))).start_all(
        model_dir=str(model_dir), strategy='multi_worker', agreement=True, watchdog=WATCHDOG,
        **{'max_steps': 200, 'pause': .05, **options})


def _assert_watchdog_ended(role):
    assert role.wait(60) == watchdog.EXIT_STATUS, role.log[-3000:]
    assert f'{role.name} ends, with status {watchdog.EXIT_STATUS}' in role.log
    assert 'thread MainThread:' in role.log


def _relaunch(clusters, model_dir):
    """Starts the whole job anew; it goes on from the newest checkpoint to its end."""
    newest = _newest(model_dir)
    cluster = _multi_worker(clusters, model_dir, max_steps=newest + 20, pause=0)
    assert cluster.wait(seconds=60) == {'chief/0': 0, 'worker/0': 0}
    assert _restored(cluster.roles['chief/0']) == newest
    assert f'\nstep {newest}\n' in cluster.roles['chief/0'].log
    assert _newest(model_dir) == newest + 20


def test_a_worker_of_multi_worker_mirrored(clusters, tmp_path):
    cluster = _multi_worker(clusters, tmp_path / 'model')
    cluster.roles['worker/0'].wait_for('^step 45$', 60)
    cluster.roles['worker/0'].kill()
    chief = cluster.roles['chief/0']
    _assert_watchdog_ended(chief)
    assert re.search(
        r'chief/0 has been in step \d+ \(it began at global step 0\) for more than 6 s', chief.log)
    assert 'it may be waiting for: worker/0' in chief.log
    assert _newest(tmp_path / 'model') >= 40
    _relaunch(clusters, tmp_path / 'model')


def test_the_chief_of_multi_worker_mirrored(clusters, tmp_path):
    cluster = _multi_worker(clusters, tmp_path / 'model')
    cluster.roles['chief/0'].wait_for('^step 45$', 60)
    cluster.roles['chief/0'].kill()
    worker = cluster.roles['worker/0']
    # It may see the loss and try to make sessions, one after the other, without end.
    _assert_watchdog_ended(worker)
    _relaunch(clusters, tmp_path / 'model')


def test_a_worker_that_comes_back_to_multi_worker_mirrored(clusters, tmp_path):
    """It cannot take part; it is told so instead of waiting for ever."""
    model_dir = tmp_path / 'model'
    cluster = _multi_worker(clusters, model_dir)
    cluster.roles['worker/0'].wait_for('^step 45$', 60)
    cluster.roles['worker/0'].kill()
    options = dict(model_dir=str(model_dir), strategy='multi_worker', max_steps=200)
    again = cluster.start('worker/0', agreement_secs=8, **options)
    _assert_watchdog_ended(cluster.roles['chief/0'])
    assert again.wait(60) == 1
    assert 'GraphAgreementError: chief/0 did not come within 8 s' in again.log
    _relaunch(clusters, model_dir)


def test_the_evaluator(clusters, tmp_path):
    """Training goes on; an evaluator that is started anew finishes the evaluations."""
    counts = dict(chief=1, worker=1, evaluator=1)
    cluster = _multi_worker(clusters, tmp_path / 'model', counts, max_steps=80)
    cluster.roles['chief/0'].wait_for('^step 30$', 60)
    cluster.roles['evaluator/0'].kill()
    again = cluster.start('evaluator/0', model_dir=str(tmp_path / 'model'),
                          strategy='multi_worker', max_steps=80)
    assert cluster.wait('chief/0', 'worker/0', 'evaluator/0', seconds=90) == {
        'chief/0': 0, 'worker/0': 0, 'evaluator/0': 0}
    assert 'global_step = 80' in again.log
    assert len(list((tmp_path / 'model' / 'export' / 'final').iterdir())) == 1


def _servers(clusters, model_dir, **options):
    cluster = clusters(chief=1, worker=1, ps=1)
    options = {**dict(model_dir=str(model_dir), linear=True, agreement=True, max_steps=500,
                      pause=.04, preflight=True, plain_config=True), **options}
    return cluster.start_all(**options), options


def test_a_worker_beside_servers(clusters, tmp_path):
    """It comes back and takes part again; no step is lost."""
    cluster, options = _servers(clusters, tmp_path / 'model')
    worker = cluster.roles['worker/0']
    worker.wait_for(r'^step \d+$', 90)
    worker.kill()
    again = cluster.start('worker/0', **options)
    assert cluster.wait('chief/0', 'worker/0', seconds=120) == {'chief/0': 0, 'worker/0': 0}
    first = int(re.search(r'^step (\d+)$', again.log, re.MULTILINE).group(1))
    assert first > int(re.findall(r'^step (\d+)$', worker.log, re.MULTILINE)[-1])
    steps = [int(step) for step in
             re.findall(r'^step (\d+)$', cluster.roles['chief/0'].log, re.MULTILINE)]
    assert steps == sorted(steps)  # never rolled back
    assert 500 <= _newest(tmp_path / 'model') <= 502


def test_the_server(clusters, tmp_path):
    """The chief restores the newest checkpoint into the new server and goes on."""
    cluster, options = _servers(clusters, tmp_path / 'model', max_steps=300)
    chief = cluster.roles['chief/0']
    chief.wait_for('^step (5[5-9]|[6-9].)$', 60)
    cluster.roles['ps/0'].kill()
    # The step in which the server was lost is tried again, so only checkpoints count.
    newest = _newest(tmp_path / 'model')
    cluster.start('ps/0', **options)
    assert chief.wait(120) == 0
    resumed = [int(step) for step in
               re.findall(r'Restoring parameters from \S*model\.ckpt-(\d+)', chief.log)]
    assert resumed and resumed[-1] >= newest
    assert _newest(tmp_path / 'model') >= 300


def test_the_chief_beside_servers(clusters, tmp_path):
    """A chief that is started anew goes on from its newest checkpoint, as stock does."""
    cluster, options = _servers(clusters, tmp_path / 'model', max_steps=300)
    chief = cluster.roles['chief/0']
    chief.wait_for('^step (5[5-9]|[6-9].)$', 60)
    chief.kill()
    newest = _newest(tmp_path / 'model')
    again = cluster.start('chief/0', **options)
    assert again.wait(120) == 0
    assert _restored(again) == newest
    assert _newest(tmp_path / 'model') >= 300

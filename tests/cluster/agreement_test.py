"""Jobs whose roles differ: an error on every role within seconds, where stock hangs or mixes."""

from __future__ import annotations

import pytest

SWAP = (
    "the graph of worker/0 is not that of chief/0:\n"
    "    variable 1: 'a' float32 (3, 1) on chief/0, 'b' float32 (3, 1) on worker/0\n"
    "    variable 2: 'b' float32 (3, 1) on chief/0, 'a' float32 (3, 1) on worker/0\n")


def _assert_all_say(cluster, text, seconds=40):
    statuses = cluster.wait(*cluster.roles, seconds=seconds)
    assert set(statuses.values()) == {1}, statuses
    for role in cluster.roles.values():
        assert f'GraphAgreementError: {text}' in role.log, role.name


@pytest.mark.parametrize('how', ['agreement', 'preflight'])
def test_swapped_variables(clusters, tmp_path, how):
    """MultiWorkerMirrored would train a wrong model and exit with 0."""
    cluster = clusters(chief=1, worker=1).start_all(
        model_dir=str(tmp_path / 'model'), strategy='multi_worker', **{how: True},
        only={'worker/0': {'order': 'ba'}})
    _assert_all_say(cluster, SWAP)
    for name in 'ab':
        assert f"here '{name}' is made at tests/cluster/job.py:" in cluster.roles['worker/0'].log
    assert not list((tmp_path / 'model').glob('model.ckpt*'))


def test_a_variable_of_the_chief_alone(clusters, tmp_path):
    """MultiWorkerMirrored would hang without a word."""
    cluster = clusters(chief=1, worker=1).start_all(
        model_dir=str(tmp_path / 'model'), strategy='multi_worker', agreement=True,
        only={'chief/0': {'extra': 'c'}})
    _assert_all_say(cluster, (
        'the graph of worker/0 is not that of chief/0:\n'
        "    variable 3: 'c' float32 (3, 1) on chief/0, none on worker/0\n"))


def test_a_variable_of_one_worker_beside_servers(clusters, tmp_path):
    """The worker would wait for two hours, and the chief finish alone."""
    cluster = clusters(chief=1, worker=1, ps=1)
    cluster.start_all(
        model_dir=str(tmp_path / 'model'), linear=True, agreement=True, max_steps=2000, pause=.05,
        only={'worker/0': {'extra': 'c'}})
    statuses = cluster.wait('chief/0', 'worker/0', seconds=60)
    assert statuses == {'chief/0': 1, 'worker/0': 1}
    for name in statuses:
        assert ('GraphAgreementError: the graph of worker/0 is not that of chief/0:\n'
                "    variable 'c' float32 (3, 1) is on worker/0 alone\n"
                ) in cluster.roles[name].log


def test_variables_in_other_places_beside_servers(clusters, tmp_path):
    """With two servers another order puts variables into other places."""
    cluster = clusters(chief=1, worker=1, ps=2)
    cluster.start_all(
        model_dir=str(tmp_path / 'model'), linear=True, agreement=True, max_steps=2000, pause=.05,
        only={'worker/0': {'order': 'ba'}})
    assert cluster.wait('chief/0', 'worker/0', seconds=60) == {'chief/0': 1, 'worker/0': 1}
    assert ("    variable 'b': float32 (3, 1) in ps/0 on chief/0, float32 (3, 1) in ps/1 on "
            'worker/0\n') in cluster.roles['chief/0'].log


def test_a_worker_that_is_never_started(clusters, tmp_path):
    """MultiWorkerMirrored would wait for it for ever."""
    cluster = clusters(chief=1, worker=2)
    for name in ('chief/0', 'worker/0'):
        cluster.start(name, model_dir=str(tmp_path / 'model'), strategy='multi_worker',
                      agreement_secs=5)
    _assert_all_say(cluster, 'worker/1 did not come within 5 s; chief/0 waited in ')


def test_a_folder_that_is_not_shared(clusters, tmp_path):
    """A relaunch would hang: the chief has a checkpoint and the worker has none."""
    cluster = clusters(chief=1, worker=1)
    for name in ('chief/0', 'worker/0'):
        cluster.start(name, model_dir=str(tmp_path / name), strategy='multi_worker',
                      agreement_secs=5)
    assert cluster.wait(seconds=40) == {'chief/0': 1, 'worker/0': 1}
    assert 'worker/0 did not come within 5 s' in cluster.roles['chief/0'].log
    assert 'chief/0 did not come within 5 s' in cluster.roles['worker/0'].log


@pytest.mark.parametrize('counts, options', [
    (dict(chief=1, worker=1), dict(strategy='multi_worker')),
    (dict(chief=1, worker=1), dict(strategy='multi_worker', eager=True)),
    (dict(chief=1, worker=1, ps=1), dict(linear=True, max_steps=200, pause=.05)),
], ids=['multi-worker', 'multi-worker-eager', 'ps'])
def test_jobs_that_agree(clusters, tmp_path, counts, options):
    """They train, and the second launch in the same folder goes on from the checkpoint."""
    for launch in (1, 2):
        cluster = clusters(**counts).start_all(
            model_dir=str(tmp_path / 'model'), agreement=True,
            **{**options, 'max_steps': options.get('max_steps', 20) * launch})
        statuses = cluster.wait(seconds=100)
        assert statuses == dict.fromkeys(statuses, 0)
        for role in cluster.roles.values():
            assert 'Nobody has compared' not in role.log and 'differs from' not in role.log
        assert not list((tmp_path / 'model' / 'graph_agreement').iterdir())

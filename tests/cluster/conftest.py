"""Real clusters take minutes: `make test-cluster` sets ESE_CLUSTER, plain `make test` does not."""

from __future__ import annotations

import os

import pytest

collect_ignore_glob = [] if os.environ.get('ESE_CLUSTER') == '1' else ['*_test.py']


@pytest.fixture
def clusters(tmp_path):
    """Makes clusters whose processes all end with the test; their logs are shown when it fails."""
    from tests.cluster import harness

    made = []

    def make(**counts):
        folder = tmp_path / f'logs{len(made)}'
        folder.mkdir()
        made.append(harness.Cluster(folder, **counts))
        return made[-1]

    yield make
    for cluster in made:
        print(cluster.tell())
        cluster.__exit__()


@pytest.fixture(scope='session', autouse=True)
def no_process_stays():
    """Looks, after the last test, whether a role is still there."""
    import multiprocessing

    yield
    assert multiprocessing.active_children() == []

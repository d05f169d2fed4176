"""The example of a multi-worker job: it starts its own cluster and leaves nothing behind."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).absolute().parents[2]


def _processes_of(example):
    """The processes that run a file, by what Linux says of them."""
    found = []
    for entry in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
        try:
            if example in entry.read_bytes().decode(errors='replace').split('\0'):
                found.append(entry.parent.name)
        except OSError:  # it has ended meanwhile
            continue
    return found


@pytest.mark.parametrize('strategy', ['multi_worker_mirrored', 'parameter_server'])
def test_multi_worker(strategy, tmp_path):
    example = str(ROOT / 'examples' / 'multi_worker.py')
    done = subprocess.run(
        [sys.executable, example, '--workers', '2', '--strategy', strategy],
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'TMPDIR': str(tmp_path)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=500)
    assert done.returncode == 0, done.stdout
    for role in ('chief/0', 'worker/0', 'evaluator/0'):
        assert f'  {role} ended with status 0\n' in done.stdout
    accuracy = re.search(r'^Test accuracy of the exported model: ([01]\.\d{4}) on 360 digits$',
                         done.stdout, re.MULTILINE)
    assert accuracy and float(accuracy[1]) > .93, done.stdout
    assert _processes_of(example) == []
    assert not list(tmp_path.glob('digits_*'))

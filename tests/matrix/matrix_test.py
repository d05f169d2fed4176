"""A job written for TensorFlow 2.15 gives the same on this one, and each reads what the other left.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys

import numpy as np
import pytest

_ROOT = pathlib.Path(__file__).parents[2]
_HERE = pathlib.Path(__file__).parent
_LIMIT = 300
_OLD = [os.environ.get('ESE_MATRIX_PYTHON', '')]
_NEW = [sys.executable, '-m', 'estimator_spec_ext', 'run', '--execute']
_LINE = 'import estimator_spec_ext as ese; ese.install_tf_estimator()\n'


def _start(command, script, *arguments, tf_config=None):
    environment = {key: value for key, value in os.environ.items()
                   if key not in ('TF_CONFIG', 'TF_USE_LEGACY_KERAS', 'PYTHONPATH')}
    environment['PYTHONPATH'] = str(_ROOT)
    if tf_config is not None:
        environment['TF_CONFIG'] = json.dumps(tf_config)
    return subprocess.Popen(
        [*command, str(script), *map(str, arguments)], env=environment, encoding='utf-8',
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def _finish(*processes):
    try:
        for process in processes:
            output, _ = process.communicate(timeout=_LIMIT)
            assert process.returncode == 0, output[-4000:]
    finally:
        for process in processes:
            process.kill()


def _read(path):
    return json.loads(path.read_text(encoding='utf-8'))


def _run(command, folder, kind, script=_HERE / 'job.py'):
    results = folder.with_suffix('.json')
    _finish(_start(command, script, folder, results, kind))
    return _read(results)


def _same(first, second):
    assert first['metrics'].keys() == second['metrics'].keys()
    for key, value in first['metrics'].items():
        np.testing.assert_allclose(value, second['metrics'][key], rtol=1e-4, atol=1e-6,
                                   err_msg=key)
    np.testing.assert_allclose(first['scores'], second['scores'], rtol=1e-4, atol=1e-6)


@pytest.fixture(scope='module', params=['custom', 'canned'])
def jobs(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    kind = request.param
    return folder, kind, _run(_OLD, folder / 'old', kind), _run(_NEW, folder / 'new', kind)


def test_an_unmodified_script_gives_the_same(jobs):
    _, _, old, new = jobs
    assert old['metrics']['global_step'] == 60
    _same(old, new)


def test_one_line_does_too(jobs):
    folder, kind, old, _ = jobs
    script = folder / 'job_with_line.py'
    text = (_HERE / 'job.py').read_text(encoding='utf-8')
    script.write_text(text.replace('import json\n', _LINE + 'import json\n', 1), encoding='utf-8')
    _same(old, _run([sys.executable], folder / 'line', kind, script))


@pytest.mark.parametrize('left_by', ['old', 'new'])
def test_each_reads_what_the_other_left(jobs, left_by):
    folder, kind, old, new = jobs
    shutil.copytree(folder / left_by, folder / f'from_{left_by}')
    reader = _NEW if left_by == 'old' else _OLD
    back = _run(reader, folder / f'from_{left_by}', kind, _HERE / 'read_back.py')
    _same({'old': old, 'new': new}[left_by], back)
    assert back['step'] == 65


def test_two_workers_give_the_same(tmp_path):
    found = {}
    for name, command in (('old', _OLD), ('new', _NEW)):
        cluster = {'worker': [f'127.0.0.1:{port}' for port in _free_ports(2)]}
        _finish(*[_start(command, _HERE / 'job.py', tmp_path / name, tmp_path / f'{name}.json',
                         'pair', tf_config={'cluster': cluster,
                                            'task': {'type': 'worker', 'index': index}})
                  for index in range(2)])
        found[name] = _read(tmp_path / f'{name}.json')
    assert found['old']['metrics']['global_step'] == 60
    _same(found['old'], found['new'])


def _free_ports(count):
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in opened:
            one.bind(('127.0.0.1', 0))
        return [one.getsockname()[1] for one in opened]

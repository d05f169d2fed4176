"""`estimator-preflight run --execute`: a script runs as it is, with the processes it starts."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

_ROOT = pathlib.Path(__file__).parents[1]
_LIMIT = 240

_SCRIPT = '''
import subprocess
import sys

import tensorflow.compat.v1 as tf1
from tensorflow import estimator

if __name__ == '__main__':
    assert estimator.Estimator is not tf1.estimator.Estimator
    print('arguments', sys.argv)
    child = 'import tensorflow as tf; print(tf.estimator.ModeKeys.PREDICT)'
    print('child', subprocess.run([sys.executable, '-c', child], stdout=subprocess.PIPE,
                                  check=True).stdout.split()[-1].decode())
    sys.exit(3)
'''


def _execute(folder, *arguments):
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join(
        [str(_ROOT), os.environ.get('PYTHONPATH', '')]).rstrip(os.pathsep))
    return subprocess.run(
        [sys.executable, '-m', 'estimator_spec_ext', 'run', '--execute', *arguments], cwd=folder,
        env=environment, capture_output=True, timeout=_LIMIT, encoding='utf-8')


@pytest.mark.once
def test_a_script_and_its_child_run_for_real(tmp_path):
    (tmp_path / 'train.py').write_text(_SCRIPT, encoding='utf-8')
    done = _execute(tmp_path, 'train.py', '--steps', '3')
    assert done.returncode == 3, done.stderr
    assert done.stdout.splitlines() == ["arguments ['train.py', '--steps', '3']", 'child infer']


@pytest.mark.once
def test_no_such_script(tmp_path):
    done = _execute(tmp_path, 'missing.py')
    assert (done.returncode, done.stdout) == (2, '')
    assert done.stderr == 'estimator-preflight: error: there is no file missing.py\n'


@pytest.mark.once
def test_an_exception_is_the_scripts_own(tmp_path):
    (tmp_path / 'train.py').write_text("raise KeyError('learning_rate')\n", encoding='utf-8')
    done = _execute(tmp_path, 'train.py')
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "KeyError: 'learning_rate'"

"""Every example runs, as a process of its own, and shows what it is there to show."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

import matplotlib.image
import pytest

_ROOT = pathlib.Path(__file__).absolute().parents[1]
_TF1_BEHAVIOR = os.environ.get('ESE_TF1_BEHAVIOR') == '1'

# Runs a script under the behaviour that this run of the suite is about.
_UNDER_TF1_BEHAVIOR = """
import runpy, sys
import tensorflow.compat.v1 as tf1
tf1.logging.set_verbosity(tf1.logging.ERROR)
tf1.disable_v2_behavior()
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


# What TensorFlow's C++ side writes, from 2.20 on, before the level of its log counts.
_NATIVE = re.compile(r'^(?:WARNING: All log messages before absl::InitializeLog|[IWE]\d{4} ).*\n',
                     re.MULTILINE)


def _run(name, *args):
    """Runs an example to its end and returns what it printed, on both streams."""
    bootstrap = ['-c', _UNDER_TF1_BEHAVIOR] if _TF1_BEHAVIOR else []
    path = os.pathsep.join([str(_ROOT), os.environ.get('PYTHONPATH', '')]).rstrip(os.pathsep)
    done = subprocess.run(
        [sys.executable, *bootstrap, str(_ROOT / 'examples' / name), *args],
        env={**os.environ, 'PYTHONPATH': path, 'TF_CPP_MIN_LOG_LEVEL': '2'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout
    return _NATIVE.sub('', done.stdout)


@pytest.mark.slow
def test_digits_classifier(tmp_path):
    printed = _run('digits_classifier.py', '--output', str(tmp_path))
    accuracy = re.search(
        r'^Test accuracy of the exported model: ([01]\.\d{4}) on 360 digits$', printed, re.MULTILINE
    )
    assert accuracy and float(accuracy.group(1)) > 0.95, printed
    batch = r'\?' if _TF1_BEHAVIOR else 'None'
    signature = (
        r'^Signature serving_default:\n'
        rf'  in   image          float32 \({batch}, 8, 8\)\n'
        rf'  out  digit          int64 \({batch},\)\n'
        rf'  out  probabilities  float32 \({batch}, 10\)\n'
    )
    assert re.search(signature, printed, re.MULTILINE), printed
    assert 'INFO:' not in printed and 'WARNING:' not in printed
    picture = tmp_path / 'digits.png'
    assert f'Picture: {picture}\n' in printed
    assert picture.read_bytes().startswith(b'\x89PNG\r\n\x1a\n')
    pixels = matplotlib.image.imread(picture)
    assert min(pixels.shape[:2]) > 300
    # Paper, ink and something red.
    assert pixels[..., :3].max() == 1 and pixels[..., :3].min() < 0.1


@pytest.mark.once
def test_many_faults():
    printed = _run('many_faults.py')
    assert '\nestimator_spec_ext: 10 errors\n' in printed, printed
    found = re.findall(r'^train  ERROR  (ESX\d{3} [a-z-]+)  ', printed, re.MULTILINE)
    assert len(found) == 10 and len(set(found)) == 10, printed
    # Each has its own line in the example, and something to type.
    places = re.findall(r'^       at \S*many_faults\.py:\d+(?:   |\n {7})field ', printed,
                        re.MULTILINE)
    assert len(places) == 10
    assert printed.count('\n       fix: ') == 10
    # TensorFlow's own class tells of one.
    stock = printed.partition('the same job stops with one of them:')[2]
    assert stock.strip().startswith('TypeError: predictions[margin] must be Tensor'), printed
    # Nothing but the report: no logs, no traceback.
    assert 'Traceback' not in printed and 'WARNING:' not in printed and 'INFO:' not in printed


@pytest.mark.skipif(_TF1_BEHAVIOR, reason='the Keras part is a program of TensorFlow 2')
def test_leave_estimator():
    printed = _run('leave_estimator.py')
    assert 'left in the checkpoint: 19 variables, e.g. batch_normalization/beta/Adam' in printed
    accuracy = re.search(r'accuracy as restored (\d\.\d+), after two epochs of fit', printed)
    assert accuracy and float(accuracy.group(1)) > 0.9

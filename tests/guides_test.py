"""The guides of the stock class, as examples that run and show what they are there to show."""

from __future__ import annotations

import importlib.util
import pathlib
import re

import pytest
import tensorflow as tf

_EXAMPLES = pathlib.Path(__file__).absolute().parents[1] / 'examples'
_GUIDES = ('migrate_model_fn', 'checkpoints', 'multi_head')


@pytest.fixture
def run(capfd):
    """Runs an example's main() in this process; returns what it printed, on both streams."""
    verbosity = tf.compat.v1.logging.get_verbosity()

    def run_main(name):
        spec = importlib.util.spec_from_file_location(f'examples_{name}', _EXAMPLES / f'{name}.py')
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        assert module.main() == 0
        out, err = capfd.readouterr()
        assert 'WARNING' not in err and 'Warning' not in err, err
        return out

    yield run_main
    tf.compat.v1.logging.set_verbosity(verbosity)


@pytest.mark.parametrize('name', _GUIDES)
def test_short_enough_to_read(name):
    """A guide is read in one sitting."""
    assert len((_EXAMPLES / f'{name}.py').read_text().splitlines()) < 160


def test_migrate_model_fn(run):
    """The guide's model_fn and its short form give the same bits; a Keras optimizer works too."""
    printed = run('migrate_model_fn')
    rows = re.findall(
        r'^(\w+) +(\d+) lines   step 60   loss \d\.\d{4}   accuracy (\d\.\d{4})$', printed,
        re.MULTILINE)
    assert [name for name, _, _ in rows] == ['before', 'after', 'with_keras_optimizer'], printed
    assert rows[0][2] == rows[1][2]
    assert all(float(accuracy) > 0.85 for _, _, accuracy in rows), printed
    assert int(rows[1][1]) < int(rows[0][1])
    assert 'before and after equal to the last bit: True\n' in printed


def test_checkpoints(run):
    """An Estimator's object-based checkpoint is restored by objects alone."""
    printed = run('checkpoints')
    first = re.search(r'trained 10 steps; its loss is (\d\.\d{4})\.', printed)
    assert first, printed
    assert '  net/line/kernel                [1, 1]\n' in printed
    assert re.search(r'restored step 10, optimizer step 10, weight 1\.\d{4}\.\n', printed), printed
    assert f'Its loss is {first.group(1)}.\n' in printed


def test_multi_head(run):
    """Two heads, three signatures, and the default is the head that was chosen."""
    printed = run('multi_head')
    assert printed.startswith('Stock, without a default: Multiple `export_outputs` were provided')
    for name in ('digit', 'parity'):
        accuracy = re.search(rf'^{name}_accuracy +(\d\.\d{{4}})$', printed, re.MULTILINE)
        assert accuracy and float(accuracy.group(1)) > 0.85, printed
    answers = dict(re.findall(r'^  (\w+) +(\w+: .*)$', printed, re.MULTILINE))
    assert sorted(answers) == ['digit', 'parity', 'serving_default'], printed
    assert answers['serving_default'] == answers['digit']
    assert answers['digit'].startswith('digit: 8   probabilities: 0% ')
    assert re.fullmatch(r'even: \d\d%', answers['parity'])

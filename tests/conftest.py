"""What every test needs: absl's flags, quiet logs, and the choice of TensorFlow's behaviour.

The suite runs under TensorFlow 2 behaviour, or, with ESE_TF1_BEHAVIOR=1 in the environment, under
`tf.compat.v1.disable_v2_behavior()`; `make test` does both, each in a process of its own.
"""

from __future__ import annotations

import contextlib
import os

import pytest

from estimator_spec_ext import installing

_TF1_VARIABLE = 'ESE_TF1_BEHAVIOR'

# Before TensorFlow is imported, which reads it once.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
# Here already: the conftest of a folder that pytest is given imports TensorFlow before
# pytest_configure, which says what is missing.
with contextlib.suppress(ImportError, AttributeError):
    installing.install_tf_estimator()


def _tf1_behavior() -> bool:
    value = os.environ.get(_TF1_VARIABLE, '0')
    if value not in ('', '0', '1'):
        raise pytest.UsageError(f'{_TF1_VARIABLE} is {value!r}; expected 0 or 1')
    return value == '1'


def pytest_addoption(parser):
    parser.addoption('--regenerate-golden', action='store_true',
                     help='write tests/golden/ anew from what the rules say now')


def pytest_configure(config):
    try:
        from estimator_spec_ext import executing

        installing.install_tf_estimator()
        executing.prepare_children()
        import tensorflow as tf

        tf.estimator.EstimatorSpec  # noqa: B018  (loaded lazily: this is its import)
    except (ImportError, AttributeError) as e:
        raise pytest.UsageError(
            f'the tests need TensorFlow with tensorflow-estimator ({type(e).__name__}: {e}); '
            '`make test` installs them into .venv and runs them there'
        ) from None
    from absl import flags, logging
    from hypothesis import settings

    # absl's temporary folders need parsed flags, and pytest leaves them unparsed.
    flags.FLAGS(['pytest'], known_only=True)
    logging.set_verbosity(logging.WARNING)
    # The switch itself logs a warning about its age.
    tf.get_logger().setLevel('ERROR')
    if _tf1_behavior():
        tf.compat.v1.disable_v2_behavior()
    tf.get_logger().setLevel('WARNING')
    # The same examples each time, none refused for the slowness of the first graph.
    settings.register_profile('ese', deadline=None, derandomize=True, database=None)
    settings.load_profile('ese')


def pytest_report_header(config):
    import tensorflow as tf

    behavior = 'TF1 behaviour' if _tf1_behavior() else 'TensorFlow 2 behaviour'
    return f'TensorFlow {tf.__version__}, {behavior}'


def pytest_collection_modifyitems(config, items):
    """Leaves out of the TF1 run what the other run has already shown."""
    if not _tf1_behavior():
        return
    dropped = [item for item in items if item.get_closest_marker('once')]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if not item.get_closest_marker('once')]


@pytest.fixture(autouse=True)
def _fresh_default_graph():
    """Under TF1 behaviour all tests would share one default graph."""
    import tensorflow as tf

    if _tf1_behavior():
        tf.compat.v1.reset_default_graph()
    yield

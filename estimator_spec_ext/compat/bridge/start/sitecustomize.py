"""Run by Python when it starts, in the processes of a program that was given tf.estimator back.

`executing.prepare_children` puts this folder into PYTHONPATH. Nothing of TensorFlow is imported
here: tf.estimator is put back when, and if, the process imports TensorFlow.
"""

import importlib
import importlib.util
import os
import sys

_FOLDER = os.path.dirname(os.path.abspath(__file__))
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(_FOLDER))))


def _start() -> None:
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _FOLDER]
    # The one that this file has hidden, e.g. that of the machine.
    own = sys.modules.pop(__name__)
    try:
        importlib.import_module(__name__)
    except ImportError:
        sys.modules[__name__] = own
    if importlib.util.find_spec('estimator_spec_ext') is None:
        sys.path.append(_ROOT)
    from estimator_spec_ext import installing
    installing.install_with_tensorflow()


if __name__ == 'sitecustomize':
    _start()

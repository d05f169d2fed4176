"""Programs on two TensorFlows: they run with `make test-matrix`, no other run collects them.

ESE_MATRIX_PYTHON names the Python of an environment with TensorFlow 2.15; what the tests are run
with is compared to it.
"""

from __future__ import annotations

import os

if not os.environ.get('ESE_MATRIX_PYTHON'):
    collect_ignore_glob = ['*_test.py']

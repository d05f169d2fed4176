"""The pytest plugin: a fixture that checks a model_fn in a unit test.

    def test_model_fn(assert_strict):
        assert_strict(model_fn, features={'x': np.zeros([8, 3])}, labels=np.zeros([8]))

It is there wherever estimator_spec_ext is installed; `-p no:estimator_spec_ext.pytest_plugin`
leaves it out. TensorFlow is imported by the first test that asks for the fixture, not by pytest.
"""

from __future__ import annotations

from typing import Any, Callable

import pytest


@pytest.fixture(scope='session')
def assert_strict() -> Callable[..., Any]:
    """`estimator_spec_ext.testing.assert_strict`: fails with the report of what is wrong.

    See its documentation for the arguments, e.g. `pydoc estimator_spec_ext.testing`.
    """
    from estimator_spec_ext import testing
    return testing.assert_strict

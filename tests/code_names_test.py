"""Names that the code of users' functions mentions."""

from __future__ import annotations

import functools
import logging

import pytest

from estimator_spec_ext.code_names import names_of

pytestmark = pytest.mark.once


def _deep(strategy):
    return strategy.wanted


def _calls(strategy):
    return _deep(strategy)


class Net:
    def __init__(self, size):
        self.size = size

    def __call__(self, x):
        return self.inner(x)

    def inner(self, x):
        return x.wanted

    def other(self, x):
        return x


class Derived(Net):
    def other(self, x):
        return super().inner(x)


def _makes(x):
    return Net(3)(x)


def _logs(x):
    logging.getLogger('x').warning(x)


def _closed(inner):
    return lambda x: inner(x)


@pytest.mark.parametrize('value', [
    _deep, _calls, Net(1), Net(1).__call__, _makes, _closed(_calls), functools.partial(_calls, 1),
    functools.partial(_closed, _deep), Derived(1).other, functools.wraps(_deep)(_closed(_deep)),
])
def test_what_is_called_is_followed(value):
    assert 'wanted' in names_of(value)


@pytest.mark.parametrize('value', [_logs, print, len, 3, None, lambda x: x, Net(1).other])
def test_libraries_are_not(value):
    assert not {'wanted', 'open', 'acquire'} & names_of(value)


def test_a_circle_ends():
    def one(x):
        return two(x)

    def two(x):
        return one(x).last

    assert 'last' in names_of(one)

"""The table of README.md, what stock says and when, is what a run gives."""

from __future__ import annotations

import json

import pytest
import tensorflow as tf

from tests.mistakes import stock


@pytest.mark.once
@pytest.mark.skipif(not tf.__version__.startswith('2.15.'), reason="2.15's words are recorded")
def test_the_table_is_what_happens():
    assert stock.results() == json.loads(stock.RESULTS.read_text())

"""The Bazel workspace names every test, and nothing that is not there."""

from __future__ import annotations

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).absolute().parent.parent

pytestmark = pytest.mark.once


def _listed():
    """The files that build_defs/tests.bzl lists; its dict is one of Python too."""
    tree = ast.parse((ROOT / 'build_defs' / 'tests.bzl').read_text(encoding='utf-8'))
    tests, = [ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign)]
    assert set(tests) <= {'small', 'medium', 'large', 'enormous'}
    return [path for paths in tests.values() for path in paths]


def test_every_test_file_belongs_to_one_target():
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / 'tests').rglob('*_test.py')}
    listed = _listed()
    assert len(set(listed)) == len(listed)
    assert there - set(listed) == set(), 'add them to build_defs/tests.bzl'
    assert set(listed) - there == set()


def test_examples_that_are_programs_belong_to_a_target():
    build = (ROOT / 'BUILD').read_text(encoding='utf-8')
    programs = {path.stem for path in (ROOT / 'examples').glob('*.py')}
    assert {name for name in programs if f'"{name}",' not in build} == set()

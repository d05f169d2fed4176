"""The rules of the house: borders between modules, the registry, sizes, what an import loads."""

from __future__ import annotations

import ast
import importlib
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest

import estimator_spec_ext
from estimator_spec_ext import registry
from estimator_spec_ext.rule import ALL_MODES, SECTIONS, Rule

pytestmark = pytest.mark.once

PACKAGE = pathlib.Path(estimator_spec_ext.__file__).parent
ROOT = PACKAGE.parent
FILES = sorted(PACKAGE.rglob('*.py'))
STAGES = ('spec', 'stock', 'graph', 'config', 'modes', 'run', 'serve', 'roles', 'tool')
# The number behind ESX begins with the subject.
SUBJECTS = '123456789'


def _name(path):
    return path.relative_to(ROOT).as_posix()


def _imports(path):
    """The modules that a file imports, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f'{node.module}.{alias.name}', node.lineno) for alias in node.names)


@pytest.mark.parametrize('path', FILES, ids=_name)
def test_private_tensorflow_is_imported_in_compat_alone(path):
    if PACKAGE / 'compat' in path.parents:
        return
    private = [f'{_name(path)}:{line} {module}' for module, line in _imports(path)
               if module.startswith(('tensorflow.python', 'tensorflow.core', 'tensorflow_estimator',
                                     'keras'))]
    assert not private


@pytest.mark.parametrize('path', FILES, ids=_name)
def test_no_wildcards_and_no_long_files(path):
    text = path.read_text(encoding='utf-8')
    assert len(text.splitlines()) < 450, 'split it'
    assert not re.search(r'^\s*from .* import \*', text, re.MULTILINE)


@pytest.mark.parametrize('path', FILES, ids=_name)
def test_every_module_says_what_it_is(path):
    tree = ast.parse(path.read_text(encoding='utf-8'))
    if tree.body:
        assert ast.get_docstring(tree), 'no docstring'


@pytest.mark.parametrize('path', FILES, ids=_name)
def test_the_command_line_alone_prints_and_the_rest_logs_through_absl(path):
    if path.stem.startswith('cli') or path.parent.name.startswith('cli'):
        return
    calls = [f'{_name(path)}:{node.lineno}' for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.Call) and getattr(node.func, 'id', None) == 'print']
    assert not calls
    assert 'logging' not in {module for module, _ in _imports(path)}, 'use absl.logging'


def test_every_rule_is_registered():
    defined = set()
    for module in pkgutil.iter_modules([str(PACKAGE / 'rules')]):
        loaded = importlib.import_module(f'estimator_spec_ext.rules.{module.name}')
        defined |= {kind for kind in vars(loaded).values()
                    if isinstance(kind, type) and issubclass(kind, Rule)
                    and kind.__module__ == loaded.__name__ and not kind.__name__.startswith('_')}
    registered = {type(rule) for rule in registry.RULES}
    assert {kind.__name__ for kind in defined - registered if hasattr(kind, 'code')} == set()
    assert registered <= defined


def test_codes_and_slugs_are_unique():
    codes = [rule.code for rule in registry.RULES]
    slugs = [rule.slug for rule in registry.RULES]
    assert sorted(set(codes)) == sorted(codes)
    assert sorted(set(slugs)) == sorted(slugs)
    assert not set(codes) & set(slugs)


@pytest.mark.parametrize('rule', registry.rules(), ids=lambda rule: rule.slug)
def test_a_rule_is_complete(rule):
    assert re.fullmatch(rf'ESX[{SUBJECTS}]\d\d', rule.code)
    assert re.fullmatch(r'[a-z][a-z0-9]*(-[a-z0-9]+)+', rule.slug)
    assert rule.stage in STAGES
    assert rule.modes
    assert set(rule.modes) <= set(ALL_MODES)
    assert all(re.fullmatch(r'[A-Z]\d+', mistake) for mistake in rule.mistakes)
    assert (rule.code[3] == '9') == (rule.stage == 'tool')
    for kind in (rule.bad, rule.good, *rule.more_bad, *rule.more_good):
        assert callable(kind)


@pytest.mark.parametrize('rule', registry.rules(), ids=lambda rule: rule.slug)
def test_the_docstring_of_a_rule_has_its_headings(rule):
    text = rule.documentation
    summary, rest = text.split('\n', 1)
    assert summary.endswith('.')
    found = [line.split(':')[0] for line in rest.split('\n')
             if re.match(rf'({"|".join(SECTIONS)}):', line)]
    assert tuple(found) == SECTIONS
    for section in ('Bad', 'Good'):  # code, indented, on lines of its own
        assert re.search(rf'^{section}:\n    \S', rest, re.MULTILINE)


@pytest.mark.parametrize('module', ['estimator_spec_ext', 'estimator_spec_ext.diagnostics',
                                    'estimator_spec_ext.errors', 'estimator_spec_ext.cli'])
def test_the_import_loads_no_tensorflow(module):
    code = (f'import sys, {module}\n'
            "loaded = {'tensorflow', 'numpy', 'absl', 'keras'} & set(sys.modules)\n"
            'sys.exit(f"loaded: {loaded}" if loaded else 0)')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr


def test_reports_are_written_without_tensorflow():
    code = ('import sys\n'
            'from estimator_spec_ext import Finding, Report, Severity\n'
            "report = Report((Finding('ESX201', 'slug', Severity.ERROR, 'text'),))\n"
            'report.to_text(), report.to_json(), report.to_error()\n'
            "sys.exit('tensorflow' in sys.modules)")
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr


def test_importing_everything_changes_nothing_of_tensorflows():
    code = ('import sys\n'
            'import tensorflow as tf\n'
            'before = tf.executing_eagerly(), tf.compat.v1.get_default_graph().version\n'
            'import estimator_spec_ext as ese\n'
            'for name in ese.__all__: getattr(ese, name)\n'
            'after = tf.executing_eagerly(), tf.compat.v1.get_default_graph().version\n'
            'sys.exit(before != after)')
    done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True,
                          timeout=120)
    assert done.returncode == 0, done.stderr


def test_the_facade_names_what_it_has():
    assert sorted(estimator_spec_ext.__all__, key=str.lower) == sorted(
        set(estimator_spec_ext.__all__), key=str.lower)
    for name in estimator_spec_ext.__all__:
        assert getattr(estimator_spec_ext, name) is not None
    assert set(estimator_spec_ext.__all__) <= set(dir(estimator_spec_ext))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        estimator_spec_ext.nothing  # noqa: B018
    assert callable(estimator_spec_ext.rules), 'the subpackage hides the function'

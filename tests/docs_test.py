"""The documentation tells the truth: its code runs, and prints what stands there."""

from __future__ import annotations

import difflib
import pathlib
import re
import sys

import pytest

import estimator_spec_ext as ese

ROOT = pathlib.Path(__file__).absolute().parent.parent
sys.path.insert(0, str(ROOT / 'tools'))
import docs  # noqa: E402

sys.path.pop(0)

pytestmark = pytest.mark.once


@pytest.mark.parametrize('path', docs.pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_code_runs_and_prints_what_the_page_says(path):
    if path.name == 'tutorial.md' and int(pytest.__version__.split('.')[0]) < 9:
        pytest.skip('the page shows what pytest 9 prints; older ones have fewer lines')
    old, new = path.read_text(encoding='utf-8'), docs.fill(path)
    changes = difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm='', n=1)
    assert old == new, 'run make docs-output:\n' + '\n'.join(changes)


@pytest.mark.parametrize('path', docs.pages(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_names_and_links_lead_somewhere(path):
    text = path.read_text(encoding='utf-8')
    assert {name for name in re.findall(r'\bese\.(\w+)', text) if not hasattr(ese, name)} == set()
    slugs = {rule.slug for rule in ese.rules()}
    for target in re.findall(r'\]\((?!http)([^)\s]+)\)', text):
        file, _, anchor = target.partition('#')
        assert (path.parent / file).exists(), target
        assert not anchor or anchor in slugs, target


def test_targets_of_make_that_pages_name_are_there():
    targets = set(re.findall(r'^([a-z][a-z-]*):', (ROOT / 'Makefile').read_text(), re.MULTILINE))
    named = {name for path in docs.pages()
             for name in re.findall(r'(?:`|\$ )make ([a-z-]+)', path.read_text())}
    assert named and named <= targets


@pytest.mark.parametrize('page, error', [
    ('```python\nraise KeyError(3)\n```\n', 'KeyError: 3'),
    ('```python\nprint(3)\n```\n', 'prints something, and nothing shows it'),
    ('```console\n$ rm x\n```\n', 'ValueError: nobody runs rm'),
    ('```console\n$ estimator-preflight explain no-such\n```\n', 'ValueError: estimator-preflight'),
    ('```yaml\na: 1\n```\n', 'ValueError: a block of yaml needs a title'),
    ('```yaml title="mkdocs.yml"\na: 1\n```\n', 'ValueError: mkdocs.yml holds other lines'),
])
def test_a_wrong_block_is_noticed(page, error, tmp_path):
    path = tmp_path / 'page.md'
    path.write_text(page)
    with pytest.raises(docs.WrongBlock) as raised:
        docs.fill(path)
    assert str(raised.value).startswith('page.md:1: ') and error in str(raised.value)

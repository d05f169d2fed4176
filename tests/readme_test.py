"""The README tells the truth: its report is what the example prints, its names exist."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys

import pytest

import estimator_spec_ext as ese

ROOT = pathlib.Path(__file__).resolve().parent.parent
README = (ROOT / 'README.md').read_text()

pytestmark = pytest.mark.once


def test_blocks_are_what_the_project_prints():
    done = subprocess.run([sys.executable, 'tools/readme.py', '--check'], cwd=ROOT, text=True,
                          capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_public_names_in_the_readme_exist():
    names = set(re.findall(r'\bese\.(\w+)', README))
    assert names
    assert {name for name in names if not hasattr(ese, name)} == set()


def test_links_lead_to_files():
    links = set(re.findall(r'\]\((?!http)([^)#]+)', README))
    assert {link for link in links if not (ROOT / link).exists()} == set()


def test_rules_in_the_readme_exist():
    slugs = set(re.findall(r"suppress=\{'([\w-]+)'", README))
    slugs |= set(re.findall(r'explain ([\w-]+)`', README))
    assert slugs
    known = {rule.slug for rule in ese.rules()}
    assert slugs <= known

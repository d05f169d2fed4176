"""The hook of pre-commit and the workflow of GitHub: their commands run and give what they say."""

from __future__ import annotations

import json
import pathlib
import re
import shlex
import sys

import pytest

from estimator_spec_ext import cli

ROOT = pathlib.Path(__file__).absolute().parent.parent

pytestmark = pytest.mark.once


@pytest.fixture
def in_ci(tmp_path, monkeypatch):
    """A folder to write into, from which the example's trainer can be imported."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / 'examples' / 'ci'))
    yield tmp_path
    for name in [name for name in sys.modules if name.split('.')[0] == 'trainer']:
        del sys.modules[name]


def test_the_workflow_uploads_what_its_command_writes(in_ci):
    workflow = (ROOT / 'examples' / 'ci' / 'github_preflight.yml').read_text()
    command, = re.findall(r'run: estimator-preflight (.*)', workflow)
    uploaded, = re.findall(r'sarif_file: (\S+)', workflow)
    assert cli.main([*shlex.split(command), '--depth', 'graph']) == 0
    log = json.loads((in_ci / uploaded).read_text())
    assert log['version'] == '2.1.0' and log['runs'][0]['results'] == []
    assert 'security-events: write' in workflow and '!cancelled()' in workflow


def test_the_hook_of_pre_commit_runs(in_ci, capsys):
    hooks = (ROOT / '.pre-commit-hooks.yaml').read_text()
    entry, = re.findall(r'^  entry: estimator-preflight (.*)$', hooks, re.MULTILINE)
    arguments, = re.findall(r"args: \['([^']+)'\]", hooks)
    assert cli.main([*shlex.split(entry), arguments]) == 0
    assert capsys.readouterr().out == 'estimator_spec_ext: no findings\n'

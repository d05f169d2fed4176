"""The command line: what it prints, its exit status, and that it answers without TensorFlow."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import pytest

import estimator_spec_ext as ese
from estimator_spec_ext import cli, registry, rule_table

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What the command line prints does not depend on TensorFlow's behaviour.
pytestmark = pytest.mark.once


def _python(*arguments):
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True,
                          timeout=120)


def test_rules_as_text(capsys):
    assert cli.main(['rules']) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ['CODE', 'SLUG', 'SEVERITY', 'STAGE', 'MODES', 'MISTAKES', 'SUMMARY']
    assert [line.split()[:4] for line in lines] == [
        [rule.code, rule.slug, rule.severity.value, rule.stage] for rule in ese.rules()]
    line = next(line for line in lines if 'loss-not-scalar' in line)
    assert line.split()[4:] == ['train', 'eval', 'L1', 'The', 'loss', 'is', 'not', 'one', 'number']
    assert all(line == line.rstrip() for line in lines)


def test_rules_as_json(capsys):
    assert cli.main(['rules', '--format', 'json']) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row['code'] for row in rows] == [rule.code for rule in ese.rules()]
    assert {'code': 'ESX201', 'slug': 'loss-not-scalar', 'severity': 'error', 'stage': 'spec',
            'modes': ['train', 'eval'], 'mistakes': ['L1'],
            'summary': 'The loss is not one number'} in rows


def test_rules_as_markdown_is_the_documentation(capsys):
    assert cli.main(['rules', '--format', 'markdown']) == 0
    text = capsys.readouterr().out
    path = ROOT / 'docs' / 'rules.md'
    assert text == path.read_text(encoding='utf-8'), 'run make rules-table'


def test_markdown_shows_text_as_it_is():
    assert rule_table._escaped('`a*b<c` and d*e<f') == r'`a*b<c` and d\*e\<f'


def test_explain_prints_the_documentation_of_each_name(capsys):
    assert cli.main(['explain', 'loss-not-scalar', 'ESX101']) == 0
    text = capsys.readouterr().out
    assert text == ese.explain('ESX201') + '\n' + ese.explain('mode-unknown')
    assert text.startswith(
        'ESX201 loss-not-scalar (error)\n'
        'stage: spec   modes: train, eval   mistakes: L1\n\n'
        'The loss is not one number.\n\n'
        'What it finds: a loss whose static shape is neither () nor (1,)')


@pytest.mark.parametrize('rule', registry.rules(), ids=lambda rule: rule.slug)
def test_every_rule_is_explained_by_slug_and_by_code(rule, capsys):
    assert cli.main(['explain', rule.slug]) == 0
    by_slug = capsys.readouterr().out
    assert cli.main(['explain', rule.code]) == 0
    assert capsys.readouterr().out == by_slug
    assert rule.documentation in by_slug


def test_explain_of_an_unknown_rule_names_the_nearest(capsys):
    assert cli.main(['explain', 'loss-not-scaler']) == 2
    out, err = capsys.readouterr()
    assert out == ''
    assert err.startswith("estimator-preflight: error: no rule is called 'loss-not-scaler'; "
                          'did you mean loss-not-scalar')


def test_explain_of_nonsense_names_nothing(capsys):
    assert cli.main(['explain', 'zzzzzz']) == 2
    assert capsys.readouterr().err == ("estimator-preflight: error: no rule is called 'zzzzzz'\n")


@pytest.mark.parametrize('arguments', [
    [], ['nonsense'], ['explain'], ['rules', '--format', 'yaml'], ['rules', 'extra']])
def test_wrong_arguments_exit_with_2_and_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as exit_info:
        cli.main(arguments)
    assert exit_info.value.code == 2
    assert capsys.readouterr().err.startswith('usage: estimator-preflight')


def test_a_crash_of_the_tool_exits_with_2(monkeypatch, capsys):
    def broken(rules, form):
        raise RuntimeError('no table today')

    monkeypatch.setattr(rule_table, 'render', broken)
    assert cli.main(['rules']) == 2
    err = capsys.readouterr().err
    assert 'RuntimeError: no table today' in err
    assert err.endswith('estimator-preflight: failed, see above\n')


@pytest.mark.parametrize('arguments, status', [
    (['--help'], 0), (['--version'], 0), (['rules', '--help'], 0), (['explain', '--help'], 0),
    ([], 2), (['nonsense'], 2)])
def test_help_and_usage_need_no_tensorflow(arguments, status):
    code = ('import sys\n'
            'from estimator_spec_ext import cli\n'
            'try:\n'
            f'    cli.main({arguments!r})\n'
            'except SystemExit as error:\n'
            f'    assert (error.code or 0) == {status}, error.code\n'
            "loaded = [name for name in ('tensorflow', 'numpy') if name in sys.modules]\n"
            'assert not loaded, loaded\n')
    done = _python('-c', code)
    assert done.returncode == 0, done.stderr


def test_as_a_module_it_runs_quietly():
    done = _python('-m', 'estimator_spec_ext', 'explain', 'loss-not-scalar')
    assert (done.returncode, done.stdout) == (0, ese.explain('loss-not-scalar'))
    assert done.stderr == ''


def test_a_reader_that_stops_early_is_no_failure():
    code = ('import subprocess, sys\n'
            'p = subprocess.Popen([sys.executable, "-m", "estimator_spec_ext", "rules"],\n'
            '                     stdout=subprocess.PIPE, stderr=subprocess.PIPE)\n'
            'p.stdout.close()\n'
            'error = p.stderr.read()\n'
            'sys.exit(f"{p.wait()} {error!r}" if p.wait() or error else 0)\n')
    done = _python('-c', code)
    assert done.returncode == 0, done.stderr

"""What mkdocs makes of the code itself: a page a rule, the reference, the command's help.

mkdocs calls these functions by their names; see mkdocs.yml. The examples of messages come from
`tests/golden`, which the tests keep to what the rules really say.
"""

from __future__ import annotations

import os
import pathlib
import re
import sys
from typing import Any

_ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_ROOT))
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

_SUBJECTS = {
    '1': 'Modes and required fields', '2': 'Loss', '3': 'train_op and variables',
    '4': 'Predictions and export', '5': 'Metrics', '6': 'Hooks',
    '7': 'Scaffold, checkpoints and warm start', '8': 'Roles and configuration',
    '9': 'The tool itself',
}


def on_config(config: Any) -> Any:
    """Adds to the menu what is generated, and the scoreboard when there is one."""
    rules = [{'By subject': 'rule/index.md'}, {'All on one page': 'rules.md'}]
    for subject, found in _by_subject().items():
        rules.append({subject: [{f'{rule.code} {rule.slug}': f'rule/{rule.slug}.md'}
                                for rule in found]})
    extra = [{'Rules': rules}, {'Reference': ['reference.md', 'command.md']}]
    if (_ROOT / 'docs' / 'scoreboard.md').exists():
        extra.append({'Scoreboard': 'scoreboard.md'})
    # Before the last entry, what it does not see.
    config.nav[-1:-1] = extra
    return config


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated pages."""
    from mkdocs.structure.files import File
    pages = {'rule/index.md': _index(), 'reference.md': _reference(), 'command.md': _command()}
    for found in _by_subject().values():
        for rule in found:
            pages[f'rule/{rule.slug}.md'] = _page(rule)
    for path, text in pages.items():
        files.append(File.generated(config, path, content=text))
    return files


def _by_subject() -> dict[str, list[Any]]:
    from estimator_spec_ext import registry
    subjects: dict[str, list[Any]] = {}
    # The rules of this package alone, not those of plugins that happen to be installed.
    for rule in sorted(registry.RULES, key=lambda rule: rule.code):
        subjects.setdefault(_SUBJECTS[rule.code[3]], []).append(rule)
    return subjects


def _page(rule: Any) -> str:
    """A rule's own words, with the messages that its bad examples give."""
    from estimator_spec_ext import rule_table
    text = rule_table.render([rule], 'markdown')
    body = text.split(f'\n## {rule.slug}\n', 1)[1]
    row = rule_table.row(rule)
    lines = [f'# {rule.slug}', body.rstrip('\n'), '',
             f'Stage `{row["stage"]}`, modes {", ".join(row["modes"])}. Suppress it with '
             f"`suppress={{'{rule.slug}': 'the reason'}}`.", '', '**What it says:**', '']
    golden = (_ROOT / 'tests' / 'golden' / f'{rule.slug}.txt').read_text(encoding='utf-8')
    first = re.split(r'^== \w+\n\n', golden, flags=re.MULTILINE)[1]
    return '\n'.join([*lines, '```text', first.rstrip('\n'), '```', ''])


def _index() -> str:
    lines = ['# Rules', '', 'A page for each; [all of them on one page](../rules.md).', '']
    for subject, found in _by_subject().items():
        lines += [f'## {subject}', '', '| code | rule | severity | finds |', '| --- ' * 4 + '|']
        lines += [f'| {rule.code} | [{rule.slug}]({rule.slug}.md) | {rule.severity.value} | '
                  f'{rule.summary} |'.replace('*', r'\*') for rule in found]
        lines.append('')
    return '\n'.join(lines)


def _reference() -> str:
    import estimator_spec_ext as ese
    names = [f'{ese._HOMES[name]}.{name}' for name in ese.__all__ if name in ese._HOMES]
    names += ['testing.assert_strict', 'testing.assert_rule', 'registry.reload']
    lines = ['# Reference', '', 'Each name of `estimator_spec_ext` itself, then the helpers for '
             'tests.', '']
    for name in names:
        lines += [f'::: estimator_spec_ext.{name}', '']
    return '\n'.join(lines)


def _command() -> str:
    """The help of the command and of each of its verbs."""
    import argparse

    from estimator_spec_ext import cli
    parser = cli._parser()
    verbs = next(action for action in parser._actions
                 if isinstance(action, argparse._SubParsersAction))
    lines = ['# The command', '']
    for name, part in [('', parser), *verbs.choices.items()]:
        lines += [f'## estimator-preflight {name}'.rstrip(), '', '```text',
                  part.format_help().rstrip('\n'), '```', '']
    return '\n'.join(lines)

"""Fills the blocks of README.md from what the project really prints: tools/readme.py [--check].

A block stands between `<!-- begin:NAME -->` and `<!-- end:NAME -->`.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import pathlib
import re
import subprocess
import sys

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_README = _ROOT / 'README.md'


def _model_fn() -> str:
    source = (_ROOT / 'examples' / 'first_report.py').read_text()
    body = re.search(r'^def model_fn.*?(?=^def input_fn)', source, re.MULTILINE | re.DOTALL)
    return f'```python\n{body.group(0).strip()}\n```'


def _report() -> str:
    path = os.pathsep.join([str(_ROOT), os.environ.get('PYTHONPATH', '')]).rstrip(os.pathsep)
    done = subprocess.run([sys.executable, 'examples/first_report.py'], cwd=_ROOT, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
                          env={**os.environ, 'PYTHONPATH': path})
    return f'```text\n{done.stdout.strip()}\n```'


def _thirdparty() -> str:
    results = json.loads((_ROOT / 'tests' / 'thirdparty' / 'results.json').read_text())
    packages: dict[str, list[dict]] = {}
    for row in results:
        packages.setdefault(row['package'], []).append(row)
    columns = ('package', 'estimators', 'jobs', 'behaviours', 'specs checked', 'false errors',
               'warnings')
    rows = [f'| {" | ".join(columns)} |', '| --- ' * len(columns) + '|']
    for package, items in packages.items():
        ran = [item for item in items if 'skipped' not in item]
        names = dict.fromkeys(_short(item['estimator']) for item in ran)
        specs = sum(item['specs'] for item in ran)
        errors = sum(item['errors'] for item in ran)
        reasons = {f'{slug}, {why}' for item in ran for slug, why in item['warnings'].items()}
        cells = [package, ', '.join(names), len(ran), _behaviors(items), specs, errors,
                 '; '.join(sorted(reasons)) or 'none']
        rows.append(f'| {" | ".join(map(str, cells))} |')
    return '\n'.join(rows)


def _short(name: str) -> str:
    """The estimator without its variant: neither 'v1' nor ', 3 classes'."""
    return name.removeprefix('v1 ').split(', ')[0]


def _behaviors(items: list[dict]) -> str:
    ran = sorted({item['behavior'] for item in items if 'skipped' not in item}, reverse=True)
    reasons = {f'not {item["behavior"]}: {item["skipped"]}' for item in items if 'skipped' in item}
    return ', '.join([*ran, *sorted(reasons)])


def _stock() -> str:
    rows = json.loads((_ROOT / 'tests' / 'mistakes' / 'stock.json').read_text())
    lines = ['| mistake | stock TensorFlow says | when | we say | when |', '| --- ' * 5 + '|']
    for row in rows:
        cells = [row[name] for name in ('mistake', 'stock', 'stock when', 'checks', 'checks when')]
        lines.append('| ' + ' | '.join(cell.replace('|', r'\|') for cell in cells) + ' |')
    return '\n'.join(lines)


def _matrix() -> str:
    rows = json.loads((_ROOT / 'tests' / 'matrix' / 'results.json').read_text())
    columns = {'TF2': 'TensorFlow 2 behaviour', 'TF1': 'TF1 behaviour',
               'jobs': 'the same jobs as on 2.15', 'clusters': 'real clusters'}
    lines = [f'| Python | TensorFlow | {" | ".join(columns.values())} |',
             '| --- ' * (2 + len(columns)) + '|']
    for row in rows:
        cells = [_outcome(row['runs'].get(name)) for name in columns]
        lines.append(f'| {row["python"]} | {row["tensorflow"]} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def _outcome(counts: dict[str, int] | None) -> str:
    if counts is None:
        return '-'
    told = [f'{counts["passed"]} passed']
    told += [f'{counts[name]} {name}' for name in ('failed', 'skipped') if counts[name]]
    return ', '.join(told)


_BLOCKS = {'model_fn': _model_fn, 'report': _report, 'stock': _stock, 'thirdparty': _thirdparty,
           'matrix': _matrix}


def fill(text: str) -> str:
    """README's text with every block made anew."""
    for name, make in _BLOCKS.items():
        pattern = re.compile(rf'(<!-- begin:{name} -->\n).*?(<!-- end:{name} -->)', re.DOTALL)
        if pattern.search(text):
            made = make()
            text = pattern.sub(lambda match, made=made: f'{match[1]}{made}\n{match[2]}', text)
    return text


def main() -> int:
    """Writes README.md, or says with --check whether it is up to date."""
    parser = argparse.ArgumentParser(description=inspect.getdoc(sys.modules[__name__]))
    parser.add_argument('--check', action='store_true', help='write nothing')
    arguments = parser.parse_args()
    old = _README.read_text()
    new = fill(old)
    if arguments.check:
        if new != old:
            print('README.md is out of date; run: make readme', file=sys.stderr)
        return int(new != old)
    _README.write_text(new)
    return 0


if __name__ == '__main__':
    sys.exit(main())

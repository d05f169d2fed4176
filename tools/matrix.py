"""Runs the suite on every pair of Python and TensorFlow that README.md claims: make test-matrix.

    tools/matrix.py                        all pairs, an environment for each: two hours
    tools/matrix.py --only 2.18.1          some; what is known of the others stays
    tools/matrix.py --run clusters         a part alone; what is known of the other parts stays
    tools/matrix.py --again                what failed the last time, and nothing else

What was seen is kept in tests/matrix/results.json, and README.md's table is made of that.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from typing import Any

_ROOT = pathlib.Path(__file__).resolve().parent.parent
_RESULTS = _ROOT / 'tests' / 'matrix' / 'results.json'
PAIRS = {'2.12.1': '3.9', '2.15.1': '3.11', '2.16.2': '3.11', '2.18.1': '3.12', '2.21.0': '3.13'}
# What tf.estimator's own last release runs on; the jobs of the others are compared with its jobs.
_OLD = '2.15.1'
_BEHAVIORS = {'TF2': '0', 'TF1': '1'}
_RUNS = (*_BEHAVIORS, 'jobs', 'clusters')


def main() -> int:
    """Runs what the arguments ask for; 1 when a test failed."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--only', action='append', choices=PAIRS, help='this TensorFlow alone; '
                        'may be given several times')
    parser.add_argument('--run', action='append', choices=_RUNS, dest='runs',
                        help='the suite in a behaviour, the same jobs as on 2.15, or tests/cluster;'
                             ' may be given several times (default: all)')
    parser.add_argument('--again', action='store_true',
                        help='run the tests that failed the last time, and count them anew')
    parser.add_argument('--venv', default='.venv', help='how the names of the environments begin')
    arguments, pytest_arguments = parser.parse_known_args()
    status = 0
    for tensorflow in arguments.only or PAIRS:
        wanted = arguments.runs or list(_RUNS)
        if arguments.again:
            row = _run_again(tensorflow, arguments.venv, wanted)
        else:
            row = _run(tensorflow, arguments.venv, wanted, pytest_arguments)
        print(json.dumps(row), flush=True)
        status |= any(counts['failed'] for counts in row['runs'].values())
        if not pytest_arguments:  # a part of the suite says nothing of the pair
            _keep(row)
            subprocess.run([sys.executable, 'tools/readme.py'], cwd=_ROOT, check=True)
    return status


def _run(tensorflow: str, venv: str, wanted: list[str], arguments: list[str]) -> dict[str, Any]:
    python = _environment(tensorflow, venv)
    old = _environment(_OLD, venv) if tensorflow != _OLD else python
    # A core for each behaviour; the clusters and the jobs need all of them.
    started = {name: _pytest(python, arguments, **_variables(name, old))
               for name in wanted if name in _BEHAVIORS}
    runs = {name: _counts(*run) for name, run in started.items()}
    for name, folder in (('jobs', 'tests/matrix'), ('clusters', 'tests/cluster')):
        if name in wanted and not arguments and (name, tensorflow) != ('jobs', _OLD):
            runs[name] = _counts(*_pytest(python, [folder], **_variables(name, old)))
    return {'tensorflow': tensorflow, 'python': PAIRS[tensorflow], 'runs': runs}


def _run_again(tensorflow: str, venv: str, wanted: list[str]) -> dict[str, Any]:
    """The row with what failed counted anew."""
    python, old = _environment(tensorflow, venv), _environment(_OLD, venv)
    known = next((row for row in _known() if row['tensorflow'] == tensorflow), {'runs': {}})
    runs = {}
    for name, counts in known['runs'].items():
        if name in wanted and counts.get('failures'):
            found = _counts(*_pytest(python, counts['failures'], **_variables(name, old)))
            found['passed'] += counts['passed']
            found['skipped'] += counts['skipped']
            runs[name] = found
    return {'tensorflow': tensorflow, 'python': PAIRS[tensorflow], 'runs': runs}


def _variables(run: str, old: pathlib.Path) -> dict[str, str]:
    """What tests/conftest.py and those of the folders ask for."""
    if run in _BEHAVIORS:
        return {'ESE_TF1_BEHAVIOR': _BEHAVIORS[run]}
    return {'jobs': {'ESE_MATRIX_PYTHON': str(old)}, 'clusters': {'ESE_CLUSTER': '1'}}[run]


def _environment(tensorflow: str, venv: str) -> pathlib.Path:
    folder = f'{venv}-{tensorflow}'
    subprocess.run(['sh', 'tools/make_venv.sh', folder], cwd=_ROOT, check=True, env={
        **os.environ, 'PYTHON': f'python{PAIRS[tensorflow]}', 'TENSORFLOW': tensorflow})
    return _ROOT / folder / 'bin' / 'python'


def _pytest(python: pathlib.Path, arguments: list[str],
            **environment: str) -> tuple[subprocess.Popen[bytes], pathlib.Path]:
    folder = pathlib.Path(tempfile.mkdtemp(prefix='matrix_'))
    report = folder / 'report.xml'
    command = [str(python), '-m', 'pytest', '-q', f'--junitxml={report}',
               '-o', f'cache_dir={folder}', *arguments]
    with open(folder / 'log.txt', 'wb') as log:
        process = subprocess.Popen(command, cwd=_ROOT, stdout=log, stderr=subprocess.STDOUT,
                                   env={**os.environ, **environment})
    return process, report


def _counts(process: subprocess.Popen[bytes], report: pathlib.Path) -> dict[str, Any]:
    process.wait()
    log = report.with_name('log.txt').read_text(encoding='utf-8', errors='replace')
    if process.returncode not in (0, 5):
        print(log[-20_000:], flush=True)
    if not report.exists():
        return {'passed': 0, 'failed': 1, 'skipped': 0}
    return _read(report)


def _read(report: pathlib.Path) -> dict[str, Any]:
    """How many tests passed, failed and were skipped, and which failed."""
    suite = ElementTree.parse(report).getroot()[0]
    total, skipped, failed, errors = (
        int(suite.get(name, '0')) for name in ('tests', 'skipped', 'failures', 'errors'))
    counts = {'passed': total - skipped - failed - errors, 'failed': failed + errors,
              'skipped': skipped}
    failures = [f'{case.get("classname", "").replace(".", "/")}.py::{case.get("name")}'
                for case in suite.iter('testcase')
                if case.find('failure') is not None or case.find('error') is not None]
    return {**counts, 'failures': failures} if failures else counts


def _known() -> list[dict[str, Any]]:
    return json.loads(_RESULTS.read_text(encoding='utf-8')) if _RESULTS.exists() else []


def _keep(row: dict[str, Any]) -> None:
    rows = {known['tensorflow']: known for known in _known()}
    row['runs'] = {**rows.get(row['tensorflow'], row)['runs'], **row['runs']}
    rows[row['tensorflow']] = row
    kept = [rows[tensorflow] for tensorflow in PAIRS if tensorflow in rows]
    _RESULTS.write_text(json.dumps(kept, indent=1) + '\n', encoding='utf-8')


if __name__ == '__main__':
    sys.exit(main())

"""Builds the source distribution, and the wheel from it: tools/build_dist.py DIR.

The wheel comes from the source distribution, not from the checkout, so that what is missing there
is noticed. Nothing is downloaded: setuptools has to be installed.
"""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

_ROOT = pathlib.Path(__file__).resolve().parent.parent


def main(folder: str) -> int:
    """Writes both into `folder`, which is made, and prints their paths."""
    target = pathlib.Path(folder).resolve()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        # setuptools leaves its notes beside setup.py, which would be ours.
        copy = pathlib.Path(scratch, 'source')
        shutil.copytree(_ROOT, copy, ignore=_left_out)
        subprocess.run([sys.executable, 'setup.py', '-q', 'sdist', '-d', str(target)], cwd=copy,
                       check=True, env={**os.environ, 'PYTHONWARNINGS': 'ignore'})
        sdist = max(target.glob('*.tar.gz'), key=os.path.getmtime)
        subprocess.run([sys.executable, '-m', 'pip', 'wheel', '-q', '--disable-pip-version-check',
                        '--no-deps', '--no-build-isolation', '-w', str(target), str(sdist)],
                       cwd=scratch, check=True)
    wheel = max(target.glob('*.whl'), key=os.path.getmtime)
    print(sdist, wheel, sep='\n')
    return 0


def _left_out(folder: str, names: list[str]) -> list[str]:
    return [name for name in names
            if name.startswith(('.git', '.venv', '.build', '.mypy', '.pytest', '.ruff', 'bazel-'))
            or name == '__pycache__' or name.endswith('.egg-info')
            or (name in ('dist', 'digits_out', 'site') and pathlib.Path(folder) == _ROOT)]


if __name__ == '__main__':
    if len(sys.argv) != 2:
        sys.exit('usage: tools/build_dist.py DIR')
    sys.exit(main(sys.argv[1]))

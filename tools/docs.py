"""Runs the code of the documentation, and writes what it prints into it: tools/docs.py [--check].

    ```python title="model.py"     a file: written to disk and imported, for the blocks that follow
    ```python                      run, in one namespace for the page
    ```console                     each line that starts with "$ " is a command; its output follows
    ```text                        never run
    any other, with a title        a file of the project, or lines of it, word for word

What a block of Python prints stands behind it, between `<!-- begin:output -->` and
`<!-- end:output -->`. All pages run in this one process, each in an empty folder. Commands that
install or download are not run here but by `make test-dist`.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib
import inspect
import io
import linecache
import os
import pathlib
import re
import runpy
import shlex
import sys
import tempfile
import warnings
from typing import Any, Iterator, Optional

# Not resolved: under Bazel the files are links to elsewhere.
ROOT = pathlib.Path(__file__).absolute().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

_FENCE = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
_OUTPUT = re.compile(r'\n\n?<!-- begin:output -->\n(.*?)<!-- end:output -->', re.DOTALL)
# They need the network, or take long: `make test-dist` types them.
_ELSEWHERE = ('.', 'cd', 'git', 'kubectl', 'make', 'mkdir', 'pip', 'pre-commit', 'python3',
              'tensorboard')
# With these pytest prints otherwise, CI for one without shortening: a reader has none of them.
_PYTEST_READS = ('PYTEST_ADDOPTS', 'CI', 'BUILD_NUMBER', 'COLUMNS', 'FORCE_COLOR', 'PY_COLORS')
# They differ from run to run.
_PASSING = re.compile(r' in \d+\.\d+s')


class WrongBlock(Exception):
    """A block that does not run, or does not say what it should; the text says which and why."""


@dataclasses.dataclass(frozen=True)
class Block:
    """One fenced block of a page."""

    language: str
    title: Optional[str]
    code: str
    start: int
    end: int


def pages() -> list[pathlib.Path]:
    """Every page of the documentation with code of its own."""
    generated = {ROOT / 'docs' / 'rules.md', ROOT / 'docs' / 'scoreboard.md'}
    return sorted(path for path in (ROOT / 'docs').rglob('*.md') if path not in generated)


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(match[1], match[2], match[3], match.start(), match.end())
            for match in _FENCE.finditer(text)]


def fill(path: pathlib.Path) -> str:
    """Runs a page's blocks, in order.

    Args:
      path: the page.

    Returns:
      Its text with all output as it is now.

    Raises:
      WrongBlock: when one does not run.
    """
    text = path.read_text(encoding='utf-8')
    outputs = set()
    made, position = [], 0
    with _page() as page:
        for block in blocks(text):
            if block.start in outputs:
                continue
            shown = _OUTPUT.match(text, block.end)
            try:
                printed = page.run(block)
            except (Exception, SystemExit) as error:
                line = text.count('\n', 0, block.start) + 1
                raise WrongBlock(f'{path.name}:{line}: '
                                 f'{type(error).__name__}: {error}') from error
            if printed.strip() and block.language == 'python':
                printed = printed.rstrip('\n') + '\n'
            if block.language == 'console':
                made += [text[position:block.start], f'```console\n{printed}```']
                position = block.end
            elif shown:
                outputs.update(other.start for other in blocks(text)
                               if shown.start() <= other.start < shown.end())
                made += [text[position:block.end], '\n\n<!-- begin:output -->\n```text\n',
                         printed, '```\n<!-- end:output -->']
                position = shown.end()
            elif printed:
                line = text.count('\n', 0, block.start) + 1
                raise WrongBlock(f'{path.name}:{line}: prints something, and nothing '
                                 'shows it: add <!-- begin:output --> <!-- end:output -->')
    return ''.join([*made, text[position:]])


class _Page:
    """The state that the blocks of one page share: a folder and a namespace."""

    def __init__(self) -> None:
        self._names: dict[str, Any] = {'__name__': '__page__'}

    def run(self, block: Block) -> str:
        """Runs one block and returns what it printed."""
        if block.language == 'console':
            return self._console(block.code)
        if block.language == 'python':
            return self._file(block) if block.title else self._plain(block.code)
        if block.title:
            self._quoted(block)
        elif block.language != 'text':
            raise ValueError(f'a block of {block.language} needs a title: the file it is from')
        return ''

    def _plain(self, code: str) -> str:
        with _stdout() as printed:
            exec(compile(code, 'page.py', 'exec'), self._names)
        return printed.getvalue()

    @staticmethod
    def _file(block: Block) -> str:
        path = pathlib.Path(block.title or '')
        if (ROOT / path).exists():
            _Page._quoted(block)
            return ''
        path.write_text(block.code, encoding='utf-8')
        importlib.invalidate_caches()
        _forget(os.getcwd(), set())  # the files before it may have imported its older text
        with _stdout() as printed:
            importlib.import_module(path.stem)
        return printed.getvalue()

    @staticmethod
    def _quoted(block: Block) -> None:
        path = ROOT / (block.title or '')
        if not path.exists():  # a file of the reader's, which a later block may read
            pathlib.Path(block.title or '').write_text(block.code, encoding='utf-8')
        elif block.code not in path.read_text(encoding='utf-8'):
            raise ValueError(f'{block.title} holds other lines')

    def _console(self, code: str) -> str:
        lines = []
        shown: list[str] = []
        commands = [part for part in re.split(r'^(?=\$ )', code, flags=re.MULTILINE) if part]
        for part in commands:
            command, _, shown_text = part.partition('\n')
            shown = [shown_text]
            words = shlex.split(command[2:], comments=True)
            if words[0] in _ELSEWHERE:
                if words[0] == 'cd' and (ROOT / words[1]).is_dir():
                    sys.path.insert(0, str(ROOT / words[1]))
                if words[:2] == ['pip', 'install'] and words[2].startswith('./'):
                    _install(ROOT / words[2])
                lines += [command, '\n', *shown]
                continue
            lines += [command, '\n', _command(words)]
        return ''.join(lines)


def _install(project: pathlib.Path) -> None:
    """Does for this page what pip would do: its modules and entry points are found."""
    from estimator_spec_ext import registry
    points = re.search(r'^\[project\.entry-points\."(.+)"\]\n((?:.+\n)+)',
                       (project / 'pyproject.toml').read_text(), re.MULTILINE)
    folder = pathlib.Path(f'{project.name}-1.0.dist-info')
    folder.mkdir()
    (folder / 'METADATA').write_text(
        f'Metadata-Version: 2.1\nName: {project.name}\nVersion: 1.0\n')
    if points:
        (folder / 'entry_points.txt').write_text(
            f'[{points[1]}]\n' + points[2].replace('"', ''))
    sys.path.insert(0, str(project))
    registry.reload()


def _command(words: list[str]) -> str:
    with _stdout() as printed:
        if words[0] == 'estimator-preflight':
            from estimator_spec_ext import cli
            status = _status(lambda: cli.main(words[1:]))
            if status == cli.FAILED:
                raise ValueError(f'{shlex.join(words)} fails:\n{printed.getvalue()}')
        elif words[0] == 'pytest':
            import pytest
            pytest.main([*words[1:], '-p', 'no:cacheprovider', '--color=no', '-p',
                         'estimator_spec_ext.pytest_plugin', '--rootdir', os.getcwd()])
        elif words[0] == 'python':
            _script(words[1:])
        else:
            raise ValueError(f'nobody runs {words[0]}')
    return _PASSING.sub('', printed.getvalue()).replace(os.getcwd() + os.sep, '')


def _status(call: Any) -> int:
    try:
        return call()
    except SystemExit as done:  # argparse, after --help
        return int(done.code or 0)


def _script(words: list[str]) -> None:
    before, sys.argv = sys.argv, words
    try:
        runpy.run_path(words[0], run_name='__main__')
    finally:
        sys.argv = before


@contextlib.contextmanager
def _stdout() -> Iterator[io.StringIO]:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        yield printed


@contextlib.contextmanager
def _page() -> Iterator[_Page]:
    """An empty folder to be in, and afterwards everything as it was before."""
    import tensorflow as tf

    from estimator_spec_ext import registry
    folder, path, modules = os.getcwd(), list(sys.path), set(sys.modules)
    environ = dict(os.environ)
    for name in _PYTEST_READS:
        os.environ.pop(name, None)
    bytecode, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        os.chdir(scratch)
        sys.path.insert(0, os.getcwd())
        try:
            with tf.Graph().as_default() if not tf.executing_eagerly() else (
                    contextlib.nullcontext()):
                yield _Page()
        finally:
            os.chdir(folder)
            sys.path[:] = path
            sys.dont_write_bytecode = bytecode
            os.environ.clear()
            os.environ.update(environ)
            _forget(scratch, modules)
            _forget(str(ROOT / 'examples'), modules)
            registry.reload()


def _forget(folder: str, known: set[str]) -> None:
    """Makes Python forget the modules from `folder`."""
    for name in set(sys.modules) - known:
        if (getattr(sys.modules[name], '__file__', None) or '').startswith(folder):
            del sys.modules[name]
    linecache.checkcache()


def main() -> int:
    """Writes the output anew, or says with --check whether it is up to date."""
    parser = argparse.ArgumentParser(description=(inspect.getdoc(sys.modules[__name__]) or '')
                                     .splitlines()[0])
    parser.add_argument('--check', action='store_true', help='write nothing')
    arguments = parser.parse_args()
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
    import tensorflow as tf
    tf.get_logger().setLevel('ERROR')
    stale = 0
    for path in pages():
        new = fill(path)
        if new != path.read_text(encoding='utf-8'):
            stale += 1
            if arguments.check:
                print(f'{path.relative_to(ROOT)} is out of date; run: make docs-output')
            else:
                path.write_text(new, encoding='utf-8')
    return int(bool(stale and arguments.check))


if __name__ == '__main__':
    sys.exit(main())

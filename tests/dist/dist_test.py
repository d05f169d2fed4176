"""The wheel and the source distribution, installed as a user would, outside the checkout."""

from __future__ import annotations

import email
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from estimator_spec_ext.version import __version__

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What each image holds before our wheel comes.
IMAGES = ('tensorflow-cpu', 'tensorflow')
_OF_TENSORFLOW = {'tensorflow', 'tensorflow-cpu', 'tensorflow-intel', 'tf-nightly'}

# Parts of the suite that need nothing of the checkout but the folder tests.
_SUITE = ('assert_strict_test.py', 'engine_test.py', 'plugins_test.py', 'reports_test.py',
          'rules_test.py', 'specs_test.py', 'strict_fn_test.py', 'tpu_test.py')


def _run(*command, cwd, timeout=1200):
    """Runs a command that sees neither the checkout nor the caller's environment of Python."""
    env = {name: value for name, value in os.environ.items()
           if name not in ('PYTHONPATH', 'PYTHONHOME', 'VIRTUAL_ENV')}
    env['TF_CPP_MIN_LOG_LEVEL'] = '2'
    done = subprocess.run([str(part) for part in command], cwd=cwd, env=env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout)
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def _pip(python, *arguments, cwd):
    return _run(python, '-m', 'pip', '--disable-pip-version-check', *arguments, cwd=cwd)


@pytest.fixture(scope='session')
def built(tmp_path_factory):
    """The two files that `make dist` makes: (wheel, sdist)."""
    folder = tmp_path_factory.mktemp('dist')
    _run(sys.executable, ROOT / 'tools' / 'build_dist.py', folder, cwd=ROOT)
    wheel, = folder.glob('*.whl')
    sdist, = folder.glob('*.tar.gz')
    return wheel, sdist


@pytest.fixture(scope='session', params=IMAGES)
def image(request, built, tmp_path_factory):
    """(name, its Python, packages before, packages after the wheel, a folder of its own)."""
    folder = tmp_path_factory.mktemp(request.param)
    _run(sys.executable, '-m', 'venv', folder / 'venv', cwd=folder)
    python = folder / 'venv' / 'bin' / 'python'
    pins = [f'{request.param}==2.15.1', 'numpy<2', 'setuptools<81', 'pytest', 'hypothesis']
    _pip(python, 'install', '-q', '--no-compile', *pins, cwd=folder)
    before = _packages(python, folder)
    _pip(python, 'install', '-q', built[0], cwd=folder)
    yield request.param, python, before, _packages(python, folder), folder
    shutil.rmtree(folder / 'venv')


def _packages(python, folder):
    listed = json.loads(_pip(python, 'list', '--format', 'json', cwd=folder))
    return {package['name'].lower().replace('_', '-') for package in listed}


def test_the_wheel_holds_the_package_alone(built):
    with zipfile.ZipFile(built[0]) as wheel:
        names = wheel.namelist()
        top = {name.split('/')[0] for name in names}
        assert top == {'estimator_spec_ext', f'estimator_spec_ext-{__version__}.dist-info'}
        assert 'estimator_spec_ext/py.typed' in names
        source = ROOT / 'estimator_spec_ext'
        files = {path.relative_to(ROOT).as_posix() for path in source.rglob('*')
                 if path.is_file() and path.suffix != '.pyc'}
        assert files <= set(names)
        info = f'estimator_spec_ext-{__version__}.dist-info'
        metadata = email.message_from_bytes(wheel.read(f'{info}/METADATA'))
        points = wheel.read(f'{info}/entry_points.txt').decode()
    assert metadata['Version'] == __version__
    assert 'estimator-preflight = estimator_spec_ext.cli:main' in points
    assert '[pytest11]' in points
    needed = [line for line in metadata.get_all('Requires-Dist') if 'extra ==' not in line]
    names = {line.split(';')[0].split('>')[0].split('<')[0].split('=')[0].strip()
             for line in needed}
    assert not names & _OF_TENSORFLOW, 'TensorFlow is the image\'s own matter'


def test_the_sdist_holds_what_it_takes_to_test_it(built):
    with tarfile.open(built[1]) as sdist:
        names = {name.partition('/')[2] for name in sdist.getnames()}
    for path in ('README.md', 'LICENSE', 'Makefile', 'setup.py', 'tests/rules_test.py',
                 'tests/golden/loss-not-scalar.txt', 'examples/first_report.py', 'docs/rules.md',
                 'tools/readme.py', 'requirements-dev.txt'):
        assert path in names, path
    assert not [name for name in names if name.endswith('.pyc') or name.startswith('.git')]


def test_no_second_tensorflow_comes_along(image):
    name, _, before, after, _ = image
    assert after - before == {'estimator-spec-ext'}
    assert before <= after
    assert after & _OF_TENSORFLOW == {name}


def test_the_installed_package_runs(image):
    _, python, _, _, folder = image
    where = _run(python, '-c', 'import estimator_spec_ext as e; print(e.__file__, e.__version__)',
                 cwd=folder)
    path, version = where.split()
    assert pathlib.Path(path).is_relative_to(folder / 'venv') and version == __version__
    command = folder / 'venv' / 'bin' / 'estimator-preflight'
    assert _run(command, '--version', cwd=folder) == f'estimator_spec_ext {__version__}\n'
    shutil.copy(ROOT / 'examples' / 'first_report.py', folder)
    report = _run(python, 'first_report.py', cwd=folder)
    assert 'estimator_spec_ext: 3 errors\n' in report
    # TensorFlow with a GPU build says something of its own first.
    assert 'ESX201 loss-not-scalar (error)\n' in _run(
        command, 'explain', 'loss-not-scalar', cwd=folder)


def test_the_fixture_is_there_without_being_asked_for(image):
    _, python, _, _, folder = image
    listed = _run(python, '-m', 'pytest', '--fixtures', '-q', '-p', 'no:cacheprovider', cwd=folder)
    assert 'assert_strict' in listed


def test_rules_of_another_package_are_found_once_it_is_installed(image):
    _, python, _, _, folder = image
    copied = folder / 'acme_rules'
    shutil.copytree(ROOT / 'examples' / 'acme_rules', copied)
    _pip(python, 'install', '-q', copied, cwd=folder)
    command = folder / 'venv' / 'bin' / 'estimator-preflight'
    assert '\nACME101 ' in '\n' + _run(command, 'rules', cwd=folder)
    assert '1 passed' in _run(python, '-m', 'pytest', '-q', 'test_acme_rules.py', cwd=copied)
    _pip(python, 'uninstall', '-q', '-y', 'acme_rules', cwd=folder)


def test_the_suite_passes_on_the_installed_package(image):
    name, python, _, _, folder = image
    if name != IMAGES[0]:
        pytest.skip(f'once is enough: with {IMAGES[0]}')
    copied = folder / 'suite'
    shutil.copytree(ROOT / 'tests', copied / 'tests',
                    ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copy(ROOT / 'pyproject.toml', copied)
    # The recorded texts name files by their place in the checkout.
    printed = _run(python, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '-k', 'not whole_text',
                   *[f'tests/{part}' for part in _SUITE], cwd=copied, timeout=2400)
    assert ' passed' in printed and ' failed' not in printed


def test_a_users_typed_program_is_clean(image):
    name, python, _, _, folder = image
    if name != IMAGES[0]:
        pytest.skip(f'once is enough: with {IMAGES[0]}')
    _pip(python, 'install', '-q', 'mypy', 'basedpyright', cwd=folder)
    copied = folder / 'typed'
    copied.mkdir()
    shutil.copy(ROOT / 'tests' / 'typing' / 'user_program.py', copied)
    # Outside the checkout the types come from the installed package, by its py.typed.
    assert 'Success' in _run(python, '-m', 'mypy', '--strict', 'user_program.py', cwd=copied)
    (copied / 'pyrightconfig.json').write_text(json.dumps({
        'typeCheckingMode': 'strict', 'reportUnnecessaryTypeIgnoreComment': True}))
    pyright = folder / 'venv' / 'bin' / 'basedpyright'
    printed = _run(pyright, '--pythonpath', python, cwd=copied)
    assert printed.splitlines()[-1] == '0 errors, 0 warnings, 0 notes'

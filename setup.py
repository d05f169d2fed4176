"""Packaging of estimator_spec_ext. Tool settings live in pyproject.toml."""

import os
import re

from setuptools import find_packages, setup

_HERE = os.path.dirname(os.path.abspath(__file__))


def _read(*parts):
    with open(os.path.join(_HERE, *parts), encoding='utf-8') as f:
        return f.read()


def _version():
    # Read as text: importing the package would import TensorFlow.
    text = _read('estimator_spec_ext', 'version.py')
    return re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE).group(1)


def _long_description():
    return _read('README.md') if os.path.exists(os.path.join(_HERE, 'README.md')) else ''


def _old_tensorflow(name):  # the last one with a tf.estimator of its own
    return [requirement + '; python_version < "3.12"' for requirement in (
        name + '>=2.15,<2.16', 'numpy<2', 'setuptools<81')]


def _new_tensorflow(name):
    return [requirement + '; python_version >= "3.12"' for requirement in (
        name + '>=2.16,<2.22', 'protobuf<7', 'tensorboard', 'setuptools<81')]


_EXAMPLES = ['matplotlib>=3.5', 'scikit-learn>=1.0']

setup(
    name='estimator_spec_ext',
    version=_version(),
    description='Strict EstimatorSpecs: every fault of a tf.estimator model_fn at once, when the '
    'spec is built, with its place and its fix.',
    long_description=_long_description(),
    long_description_content_type='text/markdown',
    author='The estimator_spec_ext authors',
    license='Apache-2.0',
    python_requires='>=3.9',
    packages=find_packages(include=['estimator_spec_ext', 'estimator_spec_ext.*']),
    package_data={'estimator_spec_ext': ['py.typed', 'reports/schema.json',
                                         'compat/bridge/start/sitecustomize.py']},
    # Not zip-safe: type checkers look for py.typed on disk.
    zip_safe=False,
    # TensorFlow is an extra, because tensorflow and tensorflow-cpu own the same files: requiring
    # one would put a second TensorFlow into an environment that has the other.
    install_requires=[
        'absl-py>=1.0',
        # Each TensorFlow up to 2.15 asks for its own; the newer ones ask for none and get the last.
        'tensorflow-estimator>=2.12,<2.16',
    ],
    extras_require={
        'tensorflow': _old_tensorflow('tensorflow') + _new_tensorflow('tensorflow') + [
            'tf-keras>=2.16,<2.22; python_version >= "3.12"'],
        # tf-keras asks for `tensorflow` by name: pip install --no-deps tf-keras beside this one.
        'tensorflow-cpu': _old_tensorflow('tensorflow-cpu') + _new_tensorflow('tensorflow-cpu'),
        'examples': _EXAMPLES,
        'rich': ['rich>=12'],
        'test': ['hypothesis>=6.80', 'pytest>=7.4'] + _EXAMPLES,
    },
    entry_points={
        'console_scripts': ['estimator-preflight = estimator_spec_ext.cli:main'],
        # Named as its module is, so that `-p estimator_spec_ext.pytest_plugin` is the same plugin.
        'pytest11': ['estimator_spec_ext.pytest_plugin = estimator_spec_ext.pytest_plugin'],
    },
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Developers',
        'Intended Audience :: Science/Research',
        'License :: OSI Approved :: Apache Software License',
        'Programming Language :: Python :: 3',
        'Programming Language :: Python :: 3.9',
        'Programming Language :: Python :: 3.10',
        'Programming Language :: Python :: 3.11',
        'Programming Language :: Python :: 3.12',
        'Programming Language :: Python :: 3.13',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Typing :: Typed',
    ],
)

"""Every public name is documented, and its example runs."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
import types

import pytest
import tensorflow as tf

import estimator_spec_ext as ese

MODULES = sorted(
    module.name for module in pkgutil.walk_packages(ese.__path__, 'estimator_spec_ext.')
    if not module.name.endswith('__main__'))
# Of `estimator`, a module, the names are TensorFlow's.
PUBLIC = sorted(set(ese.__all__) - {'__version__', 'estimator'})
# Plain values, told by their attributes, and what its neighbour's example shows already.
WITHOUT_EXAMPLE = {'Finding', 'HookElement', 'Rule', 'Severity', 'Where', 'EstimatorSpecTypeError',
                   'train_and_evaluate'}


def _doc(name):
    return inspect.getdoc(getattr(ese, name)) or ''


@pytest.mark.once
@pytest.mark.parametrize('name', PUBLIC)
def test_a_public_name_has_a_docstring_with_an_example(name):
    text = _doc(name)
    assert text, 'no docstring'
    summary = text.split('\n\n')[0]
    assert summary.endswith(('.', ':'))
    if name not in WITHOUT_EXAMPLE:
        assert re.search(r'^Example:\n( *\n)* {2}>>> ', text, re.MULTILINE), 'no example'


def _functions():
    for name in PUBLIC:
        value = getattr(ese, name)
        if isinstance(value, type):
            if not issubclass(value, (Exception, tuple)):
                for attribute, member in vars(value).items():
                    if isinstance(member, types.FunctionType) and not attribute.startswith('_'):
                        yield f'{name}.{attribute}', member, False
            if issubclass(value, tuple):
                yield name, value.__new__, True
        else:
            yield name, value, True


@pytest.mark.once
@pytest.mark.parametrize('name, function, whole', [
    pytest.param(*item, id=item[0]) for item in _functions()])
def test_arguments_and_results_are_documented(name, function, whole):
    text = _doc(name) if name in PUBLIC else inspect.getdoc(function) or ''
    assert text, 'no docstring'
    parameters = [parameter for parameter in inspect.signature(function).parameters.values()
                  if parameter.name not in ('self', 'cls')]
    # A method of one line may leave its arguments to its name.
    if parameters and (whole or '\n' in text):
        described = text.split('Args:', 1)[-1] if 'Args:' in text else ''
        missing = [p.name for p in parameters
                   if not re.search(rf'^\s+\*{{0,2}}{p.name}: ', described, re.MULTILINE)]
        assert not missing, f'Args does not tell of {missing}'
    if whole and name in PUBLIC and not isinstance(getattr(ese, name), type):
        assert 'Returns:' in text


@pytest.mark.once
def test_what_raises_says_so():
    for name in ('StrictEstimatorSpec', 'replace', 'strict_model_fn', 'validate_estimator_spec',
                 'validate_hooks', 'default_export_outputs', 'explain', 'create_estimator_spec'):
        assert 'Raises:' in _doc(name), name


@pytest.mark.parametrize('name', MODULES)
def test_the_examples_of_a_module_run(name):
    module = importlib.import_module(name)
    # The examples of rules are not doctests; they are run by rules_test.
    with tf.Graph().as_default():
        result = doctest.testmod(
            module, extraglobs={'tf': tf, 'ese': ese, 'v1': tf.compat.v1},
            optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0, f'{result.failed} of {result.attempted} examples failed, see above'

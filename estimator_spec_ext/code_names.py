"""Which names the code of a user's function mentions, and that of what it calls; nothing is run."""

from __future__ import annotations

import functools
import sys
import types
from typing import Any, Iterator, Optional

from estimator_spec_ext.hooks import class_dict, enclosed, module_of, mro

_LIBRARIES = frozenset({'tensorflow', 'tensorflow_estimator', 'keras', 'tf_keras', 'numpy',
                        'estimator_spec_ext', 'absl', '_pytest', 'builtins',
                        # Python 3.9 has no list of its own modules.
                        *getattr(sys, 'stdlib_module_names', ('logging', 'json', 'os', 'time'))})
_MAX_DEPTH, _MAX_FUNCTIONS = 5, 300


def names_of(value: Any, kind: Optional[type] = None) -> frozenset[str]:
    """The names that a function mentions, and those that what it calls mentions.

    Functions are followed through global names, modules, closures, partials, classes and the
    methods of `self`; not into libraries.

    Args:
      value: a function, a method, a partial, or an object that can be called.
      kind: the class whose method it is, when `value` is a plain function.

    Returns:
      The names of functions, modules, attributes and methods; not those of local variables.
    """
    walk = _Walk()
    walk.visit(value, kind, 0)
    return frozenset(walk.names)


class _Walk:
    """A bounded walk over functions."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self._seen: set[int] = set()

    def visit(self, value: Any, kind: Optional[type], depth: int) -> None:
        if depth > _MAX_DEPTH or id(value) in self._seen or len(self._seen) > _MAX_FUNCTIONS:
            return
        known = type(value)
        if known is types.MethodType:
            self.visit(value.__func__, type(value.__self__), depth)
        elif known in (staticmethod, classmethod):
            self.visit(value.__func__, kind, depth)
        elif known is functools.partial:
            for part in (value.func, *value.args, *value.keywords.values()):
                self.visit(part, None, depth)
        elif known is types.FunctionType:
            self._seen.add(id(value))
            self._function(value, kind, depth)
        elif isinstance(value, type):
            self._class(value, depth)
        else:
            self._class(known, depth)

    def _function(self, function: types.FunctionType, kind: Optional[type], depth: int) -> None:
        for value in enclosed(function).values():
            self.visit(value, None, depth + 1)
        if is_library(function.__module__):
            return
        for code in _codes(function.__code__):
            self.names.update(code.co_names)
            for name in code.co_names:
                found = function.__globals__.get(name)
                if type(found) is types.ModuleType:
                    self._module(found, code.co_names, depth)
                elif found is not None:
                    self.visit(found, None, depth + 1)
                self._method(kind, name, depth)

    def _module(self, module: types.ModuleType, names: tuple[str, ...], depth: int) -> None:
        if not is_library(module.__name__):
            for name in names:
                self.visit(vars(module).get(name), None, depth + 1)

    def _method(self, kind: Optional[type], name: str, depth: int) -> None:
        for base in mro(kind) if kind is not None else ():
            if name in class_dict(base):
                self.visit(class_dict(base)[name], kind, depth + 1)

    def _class(self, kind: type, depth: int) -> None:
        if id(kind) in self._seen or is_library(module_of(kind)):
            return
        self._seen.add(id(kind))
        for member in list(class_dict(kind).values()):
            if type(member) in (types.FunctionType, staticmethod, classmethod):
                self.visit(member, kind, depth + 1)


def is_library(module: Optional[str]) -> bool:
    """Whether a module belongs to Python or to a library, so that its functions are not read."""
    name = module or ''
    # The examples of the rules play the user's part.
    return name.split('.')[0] in _LIBRARIES and not name.startswith('estimator_spec_ext.rules.')


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)

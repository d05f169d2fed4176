"""Ops that a hook makes after its graph was finalized, read from its code and never run."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import re
import sys
import textwrap
import types
import weakref
from typing import Any, Iterator, Optional

from estimator_spec_ext import hook_methods
from estimator_spec_ext.code_names import is_library
from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.hooks import class_dict, enclosed, mro, stored_attributes

# A session calls these when its graph cannot be changed any more.
METHODS = ('after_create_session', 'before_run', 'after_run', 'end')
# What makes an op each time that it is called in a graph, whatever it is given.
_MAKERS = (
    'constant', 'zeros', 'ones', 'fill', 'placeholder', 'no_op', 'identity', 'add', 'subtract',
    'multiply', 'divide', 'matmul', 'assign', 'assign_add', 'assign_sub', 'Variable',
    'global_variables_initializer', 'local_variables_initializer', 'tables_initializer',
    'variables_initializer', 'reduce_mean', 'reduce_sum', 'reduce_max', 'reduce_min', 'argmax',
    'argmin', 'equal', 'greater', 'less', 'square', 'sqrt', 'exp', 'abs', 'reshape', 'stack',
    'expand_dims', 'squeeze', 'transpose', 'gather', 'one_hot', 'random_normal', 'random_uniform',
    'gradients', 'sigmoid', 'tanh', 'train.Saver', 'summary.scalar', 'summary.image',
    'summary.histogram', 'summary.text', 'summary.audio')
# In these all functions do so, but for those that look something up or hand on their only input.
_MAKING_MODULES = ('math', 'nn', 'random', 'image', 'strings', 'linalg')
_LOOKING_UP = re.compile('get_|set_|add_n$')
_ASSIGNING = frozenset({'assign', 'assign_add', 'assign_sub'})
# Under these another graph, or none, is the default one.
_ELSEWHERE = frozenset({'as_default', 'init_scope'})
_MAX_DEPTH = 3

_KNOWN: 'weakref.WeakKeyDictionary[type, tuple[LateOp, ...]]' = weakref.WeakKeyDictionary()


@dataclasses.dataclass(frozen=True)
class LateOp:
    """A place in a hook's code that makes an op too late.

    Attributes:
      method: which of `METHODS` leads there.
      text: what is called, e.g. 'tf.constant'.
      file: the file.
      line: the line, from 1.
      attribute: the attribute of the hook that has to hold a tensor or variable all the time for it
        to be so; '' when it is so in any case.
    """

    method: str
    text: str
    file: str
    line: int
    attribute: str = ''


def late_ops(hook: Any) -> list[LateOp]:
    """The places at which a hook makes an op after its graph was finalized.

    Args:
      hook: a hook; none of its code is run.

    Returns:
      A `LateOp` for each, in the order of `METHODS` and lines.

    Example:
      >>> late_ops(v1.train.StopAtStepHook(last_step=1))
      []
    """
    kind = type(hook)
    found = _KNOWN.get(kind)
    if found is None:
        found = _KNOWN[kind] = tuple(_of_class(kind))
    if not any(place.attribute for place in found):
        return list(found)
    stored, assigned = dict(stored_attributes(hook)), hook_methods.assigned_by(kind)
    held = frozenset() if assigned.everything else frozenset(
        name for name, value in stored.items()
        if name not in assigned.names and isinstance(value, (tf.Tensor, tf.Variable)))
    return [place for place in found if not place.attribute or place.attribute in held]


def _of_class(kind: type) -> Iterator[LateOp]:
    early = _Reading(kind, 'begin')
    early.method('begin')
    for name in METHODS:
        reading = _Reading(kind, name, early.seen)
        reading.method(name)
        yield from sorted(reading.found, key=lambda place: (place.file, place.line))


class _Reading:
    """One pass through what a method of a hook calls.

    Args:
      kind: the class of the hook.
      root: the method that a session calls.
      early: functions that begin() calls too, in which a hook may make what is missing.
    """

    def __init__(self, kind: type, root: str, early: frozenset[Any] = frozenset()) -> None:
        self._kind = kind
        self._root = root
        self._early = early
        self._visited: set[Any] = set()
        self.found: list[LateOp] = []

    @property
    def seen(self) -> frozenset[Any]:
        """The code of all functions on the way."""
        return frozenset(self._visited)

    def method(self, name: str, depth: int = 0) -> None:
        """Reads the method `name` as the class has it."""
        for base in mro(self._kind):
            member = class_dict(base).get(name)
            if member is not None:
                self.function(getattr(member, '__func__', member), depth)
                return

    def function(self, function: Any, depth: int) -> None:
        """Reads a function of the user's."""
        if (type(function) is not types.FunctionType or depth > _MAX_DEPTH
                or function.__code__ in self._visited or function.__code__ in self._early
                or is_library(function.__module__)):
            return
        self._visited.add(function.__code__)
        tree = _tree_of(function.__code__)
        if tree is not None:
            _Calls(self, function, tree, depth).visit(tree)

    def note(self, function: Any, text: str, node: ast.AST, attribute: str = '') -> None:
        """Keeps a place."""
        code = function.__code__
        self.found.append(LateOp(self._root, text, code.co_filename,
                                 code.co_firstlineno + getattr(node, 'lineno', 1) - 1, attribute))


class _Calls(ast.NodeVisitor):
    """What one function calls in the graph that is the default one."""

    def __init__(self, reading: _Reading, function: Any, tree: Any, depth: int) -> None:
        self._reading = reading
        self._function = function
        self._depth = depth
        self._tree = tree
        self._self = tree.args.args[0].arg if tree.args.args else ''
        self._names = _visible(function)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        """Functions inside may be run elsewhere."""
        if node is self._tree:
            for statement in node.body:
                self.visit(statement)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        """As for functions inside."""

    def visit_With(self, node: ast.With) -> None:
        """Another graph may be the default one below."""
        if not any(isinstance(part, ast.Attribute) and part.attr in _ELSEWHERE
                   for item in node.items for part in ast.walk(item.context_expr)):
            self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> None:
        """Who catches what is raised knows of it."""
        for statement in [*([] if node.handlers else node.body), *node.finalbody]:
            self.visit(statement)

    def visit_Import(self, node: ast.Import) -> None:
        """A module that the function imports itself."""
        for alias in node.names:
            name = alias.asname or alias.name.partition('.')[0]
            self._names[name] = sys.modules.get(alias.name if alias.asname else name)

    def visit_Call(self, node: ast.Call) -> None:
        """The calls that make an op, and those that lead to other code of the user's."""
        owner = _attribute_of(node.func.value, self._self) if isinstance(
            node.func, ast.Attribute) else ''
        if owner and node.func.attr in _ASSIGNING:  # type: ignore[attr-defined]
            self._reading.note(self._function, ast.unparse(node.func), node, owner)
        method = _attribute_of(node.func, self._self)
        if method and method not in METHODS:
            self._reading.method(method, self._depth + 1)
        called = self._resolved(node.func)
        if called is not None and id(called) in _makers():
            self._reading.note(self._function, ast.unparse(node.func), node)
        elif called is not None:
            self._reading.function(called, self._depth + 1)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        """Arithmetic with a tensor that the hook holds."""
        formats = isinstance(node.left, ast.JoinedStr) or (
            isinstance(node.left, ast.Constant) and isinstance(node.left.value, str))
        for side in (node.left, node.right):
            owner = _attribute_of(side, self._self)
            if owner and not formats:
                self._reading.note(self._function, ast.unparse(node), node, owner)
        self.generic_visit(node)

    def _resolved(self, node: ast.AST) -> Any:
        """What a name, or an attribute of a module, stands for."""
        if isinstance(node, ast.Name):
            return self._names.get(node.id)
        if isinstance(node, ast.Attribute):
            owner = self._resolved(node.value)
            if isinstance(owner, types.ModuleType):
                # Attributes of TensorFlow's modules may be made when they are first asked for.
                return (getattr(owner, node.attr, None) if is_library(owner.__name__)
                        else vars(owner).get(node.attr))
        return None


def _attribute_of(node: ast.AST, name: str) -> str:
    """The attribute in `name.attribute`; '' for any other expression."""
    if (name and isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
            and node.value.id == name):
        return node.attr
    return ''


def _visible(function: Any) -> dict[str, Any]:
    """The names that a function knows from outside."""
    # An empty cell hides the global of its name too.
    return {**function.__globals__, **dict.fromkeys(function.__code__.co_freevars),
            **enclosed(function)}


def _tree_of(code: types.CodeType) -> Optional[ast.FunctionDef]:
    """The syntax tree of a function; None without its source, or where it asks for the mode."""
    if 'executing_eagerly' in code.co_names:
        return None
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(code)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    body = tree.body[0] if tree.body else None
    return body if isinstance(body, ast.FunctionDef) else None


@functools.cache
def _makers() -> frozenset[int]:
    """The ids of the functions and classes that make ops."""
    found = []
    for module in (tf, v1):
        for name in _MAKERS:
            value: Any = module
            for part in name.split('.'):
                value = getattr(value, part, None)
            found.append(value)
        for name in _MAKING_MODULES:
            found += [value for key, value in vars(getattr(module, name)).items()
                      if type(value) is types.FunctionType and not _LOOKING_UP.match(key)]
    return frozenset(id(value) for value in found if value is not None)

"""Builds a model_fn as `tf.estimator.Estimator` would, and collects what the checks say of it.

A pair is one function with an argument `right`: False makes the mistake, True is the correct twin,
and both share every other line. A look-alike is a correct program that resembles a mistake.
"""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import os
import tempfile
from typing import Any, Callable, Iterator, Optional

import pytest
import tensorflow as tf

import estimator_spec_ext as ese
from estimator_spec_ext import facts, strict_fn
from tests.mistakes import data as data_lib

v1 = tf.compat.v1

TRAIN, EVAL, PREDICT = 'train', 'eval', 'infer'
SERVE = 'serve'  # PREDICT, fed by a serving receiver instead of an input_fn
ALL_MODES = (TRAIN, EVAL, PREDICT, SERVE)

# The jobs write nothing: model_dir is a name alone.
MODEL_DIR = os.path.join(tempfile.gettempdir(), 'estimator_spec_ext_mistakes', 'no_such_dir')


@dataclasses.dataclass(frozen=True)
class Program:
    """A model_fn with what it needs to be built.

    Attributes:
      name: of the function.
      function: takes features, labels, mode, and by name `right` and `config` if it wants them.
      modes: the modes to build.
      data: what its input_fn gives.
      bad_data: what it gives when `right` is False, where the mistake is there.
      mistake: the class of the mistake it makes when `right` is False; '' for a look-alike.
      also: other classes whose findings are just as true of it.
      info: whether a finding of severity INFO is enough.
      missed: why nobody can tell the mistake from a correct program; '' when it must be found.
      cluster: task and cluster for TF_CONFIG; None for a single process.
      replicas: how many replicas a MirroredStrategy builds; 0 without one.
      suppress: reasons by slug.
      needs_v2: why it does not build under TF1 behaviour; '' when it does.
    """

    name: str
    function: Callable[..., Any]
    modes: tuple[str, ...]
    data: data_lib.Data
    mistake: str = ''
    also: tuple[str, ...] = ()
    info: bool = False
    missed: str = ''
    cluster: Optional[str] = None
    replicas: int = 0
    bad_data: Optional[data_lib.Data] = None
    suppress: Optional[dict[str, str]] = None
    needs_v2: str = ''


class Programs(list):
    """Collects the programs of a module."""

    def pair(self, mistake: str, *modes: str, **options: Any) -> Callable[[Any], Any]:
        """Registers a function with an argument `right`."""
        return self._adder(mistake, modes, options)

    def good(self, *modes: str, **options: Any) -> Callable[[Any], Any]:
        """Registers a correct program, built in all modes unless told."""
        return self._adder('', modes or ALL_MODES, options)

    def _adder(self, mistake: str, modes: tuple[str, ...],
               options: dict[str, Any]) -> Callable[[Any], Any]:
        options.setdefault('data', data_lib.rows())

        def add(function: Any) -> Any:
            self.append(Program(function.__name__, function, modes, mistake=mistake, **options))
            return function

        return add


class _Built(Exception):
    """Ends Estimator's work once the model_fn has returned."""


def findings(program: Program, mode: str, right: bool = True) -> list[ese.Finding]:
    """Builds one mode of a program in a graph of its own; what the checks say of its spec."""
    found: list[ese.Finding] = []
    receiver: dict[str, Any] = {}

    def model_fn(features: Any, labels: Any, mode: str, config: Any) -> Any:
        return _checked(program, found, receiver, features, labels, mode, config, right)

    with _tf_config(program.cluster):
        config = tf.estimator.RunConfig(
            model_dir=MODEL_DIR, tf_random_seed=1,
            train_distribute=_strategy(program.replicas) if mode == TRAIN else None)
    estimator = tf.estimator.Estimator(model_fn, config=config)
    estimator._train_with_estimator_spec = _stop
    try:
        _build(estimator, program.data if right else program.bad_data or program.data, mode,
               receiver)
    except (_Built, ese.EstimatorSpecError):
        pass
    return found


def _stop(*args: Any) -> None:
    raise _Built


def _build(estimator: Any, data: data_lib.Data, mode: str, receiver: dict[str, Any]) -> None:
    if mode == TRAIN:
        estimator.train(data.input_fn(mode), steps=3)
    elif mode == EVAL:
        estimator.evaluate(data.input_fn(mode), steps=3)
    elif mode == PREDICT:
        list(estimator.predict(data.input_fn(mode)))
    else:
        with tf.Graph().as_default() as graph:
            estimator._create_and_assert_global_step(graph)
            tf.random.set_seed(1)
            made = data.receiver_fn()()
            receiver.update(made.receiver_tensors)
            estimator._call_model_fn(made.features, None, PREDICT, estimator.config)


def _checked(program: Program, found: list[ese.Finding], receiver: dict[str, Any], features: Any,
             labels: Any, mode: str, config: Any, right: bool) -> Any:
    wanted = inspect.signature(program.function).parameters
    options = {name: value for name, value in (('right', right), ('config', config))
               if name in wanted}
    try:
        spec = program.function(features, labels, mode, **options)
        # A strict spec has had its check; a second one would see what the first one guarded.
        if not isinstance(spec, ese.StrictEstimatorSpec):
            context = dataclasses.replace(facts.context_of(config),
                                          receiver_tensors=receiver or None)
            spec = strict_fn.make_strict(spec, suppress=program.suppress, context=context)
    except ese.EstimatorSpecError as error:
        found[:] = error.findings
        raise
    found[:] = ese.findings(v1.get_default_graph())
    if not program.replicas:
        raise _Built
    return spec  # the other replicas are still at work


def _strategy(replicas: int) -> Any:
    if not replicas:
        return None
    # In a graph nothing looks for the second device, and no session is ever started.
    with tf.Graph().as_default():
        return tf.distribute.MirroredStrategy([f'/cpu:{n}' for n in range(replicas)])


@contextlib.contextmanager
def _tf_config(task: Optional[str]) -> Iterator[None]:
    """TF_CONFIG of one chief, two workers and a parameter server, for `task`, e.g. 'worker/0'."""
    before = os.environ.pop('TF_CONFIG', None)
    if task is not None:
        kind, number = task.split('/')
        cluster = {'chief': ['a.invalid:1'], 'worker': ['b.invalid:1', 'c.invalid:1'],
                   'ps': ['d.invalid:1']}
        os.environ['TF_CONFIG'] = json.dumps(
            {'cluster': cluster, 'task': {'type': kind, 'index': int(number)}})
    try:
        yield
    finally:
        os.environ.pop('TF_CONFIG', None)
        if before is not None:
            os.environ['TF_CONFIG'] = before


def case(program: Program, mode: str, *, marks: tuple[Any, ...] = ()) -> Any:
    """The pytest parameter of one mode of a program."""
    if program.needs_v2:
        marks += (pytest.mark.skipif(os.environ.get('ESE_TF1_BEHAVIOR') == '1',
                                     reason=program.needs_v2),)
    prefix = f'{program.mistake}-' if program.mistake else ''
    return pytest.param(program, mode, id=f'{prefix}{program.name}-{mode}', marks=marks)


def describe(found: list[ese.Finding]) -> str:
    """All findings as text, for a failed assertion."""
    return '\n\n'.join(finding.to_text() for finding in found) or 'no finding'

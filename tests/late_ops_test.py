"""Ops that a hook's code makes after its graph was finalized."""

from __future__ import annotations

import functools

import pytest
import tensorflow as tf

from estimator_spec_ext.late_ops import late_ops

v1 = tf.compat.v1
Hook = tf.estimator.SessionRunHook


def found(hook):
    return [(place.method, place.text) for place in late_ops(hook)]


@pytest.fixture
def tensor():
    with tf.Graph().as_default():
        yield tf.constant(1., name='t')


def helper(session):
    session.run(v1.assign(v1.train.get_global_step(), 0))


def counted(function):
    @functools.wraps(function)
    def wrapper(self, *arguments):
        self.calls = 1
        return function(self, *arguments)
    return wrapper


class Math(Hook):

    def end(self, session):
        session.run([tf.math.log(1.), v1.nn.relu(1.), tf.random.normal([2])])
        tf.random.set_seed(1)


class Base(Hook):

    def __init__(self, held=None):
        self._held = held
        self._steps = 0


class InFunction(Base):
    """A function of the module, reached from a method of the hook."""

    def after_run(self, run_context, run_values):
        if self._steps % 100 == 0:
            self._reset(run_context.session)

    def _reset(self, session):
        helper(session)


class Imports(Base):
    """The module has its name in the method alone."""

    def end(self, session):
        import tensorflow.compat.v1 as t
        saver = t.train.Saver()
        saver.save(session, 'model')


class Inherits(InFunction):
    """Of a base class."""


class Overrides(InFunction):
    """What the base class does is replaced."""

    def after_run(self, run_context, run_values):
        self._steps += 1


class Lazily(Base):
    """begin() makes what is missing; later nothing is."""

    def begin(self):
        self._make()

    def after_run(self, run_context, run_values):
        self._make()

    def _make(self):
        if self._held is None:
            self._held = tf.constant(2.)


class Innocent(Base):
    """All that hooks do in sessions, and that makes no op."""

    def after_create_session(self, session, coord):
        self._writer = v1.summary.FileWriterCache.get('folder')

    def before_run(self, run_context):
        return v1.train.SessionRunArgs({'held': self._held, 'step': v1.train.get_global_step()})

    def after_run(self, run_context, run_values):
        step = run_values.results['step']
        summary = v1.Summary(value=[v1.Summary.Value(tag='x', simple_value=1.)])
        self._writer.add_summary(summary, step + 1)
        self._steps = self._steps + 1
        v1.logging.info('%s is %d' % (self._held, self._steps * 2))
        if isinstance(self._held, tf.Variable):
            self._held.load(1., run_context.session)

    def end(self, session):
        with tf.Graph().as_default():
            v1.Session().run(tf.constant(1))
        with tf.init_scope():
            tf.constant(1)
        try:
            tf.constant(1)
        except RuntimeError:
            pass
        later = lambda: tf.constant(1)  # noqa: E731
        print(later, tf.constant, v1.train.latest_checkpoint('folder'))


class Holding(Base):
    """What it does with what it holds makes an op where that is a tensor or a variable."""

    def end(self, session):
        session.run(self._held * 2)
        session.run(self._held.assign(0.))


class Refreshed(Holding):
    """A number takes the place of the tensor."""

    def after_run(self, run_context, run_values):
        self._held = float(run_values.results)


class Decorated(Base):

    @counted
    def end(self, session):
        session.run(tf.constant(1))


def test_the_way_there_leads_through_methods_and_functions(tensor):
    expected = [('after_run', 'v1.assign')]
    assert found(InFunction()) == found(Inherits()) == expected
    place, = late_ops(InFunction())
    with open(place.file, encoding='utf-8') as source:
        line = source.read().splitlines()[place.line - 1]
    assert line == '    session.run(v1.assign(v1.train.get_global_step(), 0))'
    assert found(Imports()) == [('end', 't.train.Saver')]
    assert found(Math()) == [
        ('end', 'tf.math.log'), ('end', 'v1.nn.relu'), ('end', 'tf.random.normal')]
    assert found(Decorated()) == [('end', 'tf.constant')]


def test_what_makes_no_op_when_it_is_called_is_passed_over(tensor):
    assert found(Overrides()) == found(Lazily()) == found(Innocent(tensor)) == []


def test_what_a_hook_holds_decides(tensor):
    assert found(Holding(tensor)) == [('end', 'self._held * 2'), ('end', 'self._held.assign')]
    assert found(Holding(3)) == found(Refreshed(tensor)) == []


def test_code_without_a_source_is_passed_over(tensor):
    names = {'tf': tf, 'Hook': Hook}
    exec('class NoSource(Hook):\n    def end(self, session):\n        tf.constant(1)', names)
    assert found(names['NoSource']()) == []

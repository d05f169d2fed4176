"""What AutoGraph, which runs a model_fn under a distribution strategy, does to code and errors."""

from __future__ import annotations

import sys

import pytest
import tensorflow as tf
from tensorflow.python.autograph.impl import api

v1 = tf.compat.v1


def _mirrored(function):
    """Calls the function as Estimator calls model_fn under a MirroredStrategy of one device."""
    with tf.Graph().as_default():
        strategy = tf.distribute.MirroredStrategy(['/cpu:0'])
        with strategy.scope():
            return strategy.extended.call_for_each_replica(function)


def _converted(function):
    """Calls the function converted as the strategies do it, without a strategy."""
    autograph = tf.__internal__.autograph
    with tf.Graph().as_default():
        return autograph.tf_convert(function, autograph.control_status_ctx())()


def _one_device(function):
    """Calls the function as Estimator does under a OneDeviceStrategy."""
    with tf.Graph().as_default():
        strategy = tf.distribute.OneDeviceStrategy('/cpu:0')
        with strategy.scope():
            return strategy.extended.call_for_each_replica(function)


both = pytest.mark.parametrize('call', [_mirrored, _converted])


class OfValueError(ValueError):
    """A subclass of ValueError without anything of its own."""


class OfException(Exception):
    """A direct subclass of Exception."""


class PassThrough(ValueError):
    """A ValueError with a constructor and attributes of its own, left alone by AutoGraph."""

    ag_pass_through = True

    def __init__(self, text, findings):
        super().__init__(text)
        self.findings = findings


def _arrives(call, error):
    def model_fn():
        raise error

    with pytest.raises(Exception) as caught:
        call(model_fn)
    return caught.value


@both
def test_subclass_of_value_error_becomes_staging_error(call):
    """A subclass of ValueError arrives as StagingError: `except ValueError` misses it."""
    arrived = _arrives(call, OfValueError('words'))
    assert type(arrived) is api.StagingError
    assert not isinstance(arrived, ValueError)
    assert str(arrived).startswith('in user code:\n')
    assert 'OfValueError: words' in str(arrived)


@both
def test_value_error_arrives_as_a_new_one(call):
    """A plain ValueError arrives as another ValueError with a longer text."""
    error = ValueError('words')
    arrived = _arrives(call, error)
    assert type(arrived) is ValueError
    assert arrived is not error
    assert str(arrived).startswith('in user code:\n')


@both
def test_subclass_of_exception_loses_its_attributes(call):
    """A direct subclass of Exception keeps its type; it is made anew, without its attributes."""
    error = OfException('words')
    error.findings = ['finding']
    arrived = _arrives(call, error)
    assert type(arrived) is OfException
    assert arrived is not error
    assert not hasattr(arrived, 'findings')


@both
def test_ag_pass_through_keeps_the_very_object(call):
    """An exception whose class says `ag_pass_through = True` arrives as the same object."""
    error = PassThrough('words', ['finding'])
    arrived = _arrives(call, error)
    assert arrived is error
    assert arrived.findings == ['finding']
    assert str(arrived) == 'words'


@both
def test_pass_through_is_inherited(call):
    """A subclass of such a class is left alone too."""

    class Typed(PassThrough, TypeError):
        pass

    error = Typed('words', [])
    assert _arrives(call, error) is error


@pytest.mark.filterwarnings('ignore:To make it possible to preserve tf.data options')
def test_pass_through_the_estimator(make_estimator, input_fn):
    """Such an exception leaves Estimator.train under MirroredStrategy as the same object too."""
    error = PassThrough('words', ['finding'])

    def model_fn(features, labels, mode):
        raise error

    estimator = make_estimator(
        model_fn, train_distribute=tf.distribute.MirroredStrategy(['/cpu:0'])
    )
    with pytest.raises(PassThrough) as caught:
        estimator.train(input_fn)
    assert caught.value is error


def test_one_device_converts_nothing():
    """Under OneDeviceStrategy nothing is converted, and every error arrives as it is."""
    error = OfValueError('words')
    assert _arrives(_one_device, error) is error


def _choose(value):
    if value > 0:
        result = tf.constant('positive')
    else:
        result = tf.constant('other')
    return result


@tf.autograph.experimental.do_not_convert
def _choose_unconverted(value):
    return _choose(value)


@both
def test_helpers_are_converted(call):
    """A helper that the function calls is converted as well: `if tensor` works in it."""

    def model_fn():
        return _choose(v1.placeholder(tf.float32, []))

    assert isinstance(call(model_fn), tf.Tensor)


@both
def test_do_not_convert(call):
    """A function marked do_not_convert runs as it is written, with all that it calls."""

    def model_fn():
        return _choose_unconverted(v1.placeholder(tf.float32, []))

    with pytest.raises(tf.errors.OperatorNotAllowedInGraphError, match='Using a symbolic'):
        call(model_fn)


@tf.autograph.experimental.do_not_convert
def _own_frame():
    return sys._getframe().f_code.co_filename


class _Spec(tf.estimator.EstimatorSpec):
    def __new__(cls, mode):
        self = super().__new__(cls, mode)
        self.frame = sys._getframe().f_code.co_filename
        return self


@both
def test_frames_lie_in_converted_code(call):
    """In converted code sys._getframe() gives a frame of AutoGraph's own, not the caller's.

    In a function marked do_not_convert it gives that function's frame.
    """

    def model_fn():
        frame = sys._getframe()
        return frame.f_code.co_filename, _own_frame()

    assert call(model_fn) == (api.__file__, __file__)


@both
def test_new_is_not_converted(call):
    """A class that converted code calls runs its `__new__` as it is written."""
    kept = []

    def model_fn():
        kept.append(_Spec('any').frame)

    call(model_fn)
    assert kept == [__file__]


@both
def test_traceback_still_names_the_authors_line(call):
    """An op made in converted code has a traceback of the author's own file and function."""

    def model_fn():
        return tf.identity(1.0)

    op = call(model_fn).op
    own = [(f.name, f.lineno) for f in op.traceback if f.filename == __file__]
    assert ('model_fn', model_fn.__code__.co_firstlineno + 1) in own
    assert not any('__autograph_generated_file' in f.filename for f in op.traceback)

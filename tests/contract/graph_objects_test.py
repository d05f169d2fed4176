"""What a walk over a TensorFlow graph can rely on."""

from __future__ import annotations

import inspect
import os
import weakref

import pytest
import tensorflow as tf
from tensorflow.core.framework import function_pb2
from tensorflow.python.framework import func_graph
from tensorflow.python.framework import function as tf1_function

v1 = tf.compat.v1


def test_graph_objects_can_be_weakly_referenced(graph):
    """Graphs, operations, tensors and scaffolds can be weakly referenced."""
    t = tf.constant(1.0)
    scaffold = v1.train.Scaffold()
    for thing in (graph, t.op, t, scaffold):
        assert weakref.ref(thing)() is thing


def test_graph_objects_are_hashable(graph):
    """Graphs, operations and the tensors of a plain graph can be keys, compared by identity."""
    one, two = tf.constant(1.0), tf.constant(1.0)
    assert len({one: 0, two: 0, one.op: 0, two.op: 0, graph: 0}) == 5
    assert (one == two) is False
    assert one in [two, one]


def test_an_op_knows_who_waits_for_it(graph):
    """Control edges can be followed forwards too; `consumers` follows data alone."""
    t = tf.constant(1.0)
    with tf.control_dependencies([t]):
        waiting = tf.no_op()
    assert t.op._control_outputs == [waiting] and t.consumers() == []


def test_the_same_op_object_every_time(graph):
    """An op is one Python object, however it is reached."""
    t = tf.constant(1.0, name='t')
    u = tf.identity(t)
    assert graph.get_operation_by_name('t') is t.op
    assert u.op.inputs[0] is t
    assert u.op.inputs[0].op is t.op
    assert graph.get_operations()[0] is t.op
    assert t.consumers() == [u.op]


def test_control_inputs(graph):
    """control_dependencies show as `control_inputs`, not among the inputs."""
    first, value = tf.no_op(), tf.constant(1.0)
    with tf.control_dependencies([first]):
        second = tf.identity(value)
    assert second.op.control_inputs == [first]
    assert [t.op for t in second.op.inputs] == [value.op]


def test_control_inputs_are_left_out_where_a_data_input_has_them(graph):
    """Under control_dependencies only the first ops of a chain get the control input."""
    first = tf.no_op()
    with tf.control_dependencies([first]):
        value = tf.constant(1.0)
        second = tf.identity(value)
    assert value.op.control_inputs == [first]
    assert second.op.control_inputs == []


def test_traceback_names_the_users_line(graph):
    """`op.traceback` holds the file and line where the user made the op, outermost first."""
    line = inspect.currentframe().f_lineno + 1
    t = tf.reduce_mean(tf.constant([1.0]), name='mine')
    own = [f for f in t.op.traceback if f.filename == __file__]
    assert [(f.lineno, f.name) for f in own] == [(line, 'test_traceback_names_the_users_line')]
    frames = [f.filename for f in t.op.traceback]
    folder = os.path.dirname(os.path.dirname(tf.__file__))
    assert all(name.startswith(folder) for name in frames[frames.index(__file__) + 1 :])


def test_traceback_of_an_imported_graph(graph):
    """An op that came from a GraphDef has no traceback at all: None."""
    graph_def = v1.GraphDef()
    graph_def.node.add(name='a', op='NoOp')
    tf.import_graph_def(graph_def, name='')
    assert graph.get_operation_by_name('a').traceback is None


def _tf_function(x):
    return tf.function(lambda x: x * 2.0)(x)


def _dataset(x):
    del x
    dataset = tf.data.Dataset.range(3).map(lambda row: row + 1)
    return v1.data.make_one_shot_iterator(dataset).get_next()


def _defun(x):
    @tf1_function.Defun(tf.float32)
    def double(x):
        return x * 2.0

    return double(x)


def _imported(x):
    with tf.Graph().as_default() as other:
        _tf_function(tf.constant(1.0))
    tf.import_graph_def(other.as_graph_def(), name='imported')
    return x


_OLD = tuple(map(int, tf.__version__.split('.')[:2])) < (2, 13)
_DEFINITIONS = ('definition',) if _OLD else ('definition', 'cached_definition')


@pytest.mark.parametrize('make', [_tf_function, _dataset, _defun, _imported])
def test_function_definitions(graph, make):
    """`graph._get_function(name)` gives, by `definition`, each function's FunctionDef.

    `cached_definition` gives it too, from TensorFlow 2.13 on; `function_def` does not exist.
    """
    make(tf.constant(1.0))
    names = [f.signature.name for f in graph.as_graph_def().library.function]
    assert names
    for name in names:
        function = graph._get_function(name)
        for attribute in _DEFINITIONS:
            definition = getattr(function, attribute)
            assert type(definition) is function_pb2.FunctionDef
            assert definition.signature.name == name
            assert len(definition.node_def) > 0
        assert not hasattr(function, 'function_def')
    assert sorted(graph._functions) == sorted(names)


def test_unknown_function(graph):
    """`graph._get_function` of an unknown name gives None."""
    assert graph._get_function('missing') is None


def test_calls_name_their_function(graph):
    """An op that calls a function holds its name in an attribute of type func."""
    result = _tf_function(tf.constant(1.0))
    call = result.op
    assert call.type in ('PartitionedCall', 'StatefulPartitionedCall')
    assert graph._get_function(call.get_attr('f').name) is not None


def test_outer_graph_of_a_tf1_function(graph):
    """Inside a Defun the default graph is a `_FuncGraph`, no FuncGraph, with an outer_graph."""
    seen = []

    @tf1_function.Defun(tf.float32)
    def double(x):
        seen.append(v1.get_default_graph())
        return x * 2.0

    double(tf.constant(1.0))
    (inner,) = seen
    assert type(inner) is tf1_function._FuncGraph
    assert not isinstance(inner, func_graph.FuncGraph)
    assert isinstance(inner, tf.Graph)
    assert inner.outer_graph is graph


def test_outer_graph_of_a_tf_function(graph):
    """Inside a tf.function the default graph is a FuncGraph, with an outer_graph."""
    seen = []

    @tf.function
    def double(x):
        seen.append(v1.get_default_graph())
        return x * 2.0

    double(tf.constant(1.0))
    (inner,) = seen
    assert type(inner) is func_graph.FuncGraph
    assert inner.outer_graph is graph


def test_plain_graph_has_no_outer_graph(graph):
    """A plain graph has no attribute outer_graph, so following it ends there."""
    assert type(graph) is tf.Graph
    assert not hasattr(graph, 'outer_graph')


def test_version_counts_ops(graph):
    """`graph.version` grows with every op: it says whether a graph changed since it was read."""
    before = graph.version
    tf.constant(1.0)
    assert graph.version > before
    assert graph.version == len(graph.get_operations())


@pytest.mark.parametrize('use_resource', [False, True])
def test_variable_ops(graph, use_resource):
    """A variable's own op is VarHandleOp or VariableV2, its initializer assigns to it."""
    v = v1.get_variable('v', [], use_resource=use_resource)
    assert v.op.type == ('VarHandleOp' if use_resource else 'VariableV2')
    assert v.op.name == 'v'
    assert v.initializer.type == ('AssignVariableOp' if use_resource else 'Assign')
    assert v.initializer.inputs[0].op is v.op

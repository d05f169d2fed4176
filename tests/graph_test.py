"""The index of a graph, against graphs of every kind that TensorFlow builds."""

from __future__ import annotations

import contextlib
import random

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework import function as tf_function

from estimator_spec_ext import graph as graph_lib
from estimator_spec_ext import reach, registry
from estimator_spec_ext.graph import GraphIndex

v1 = tf.compat.v1


@pytest.fixture
def graph():
    """A fresh graph, the default one during the test, which no question may change."""
    with tf.Graph().as_default() as fresh:
        yield fresh


@contextlib.contextmanager
def _control_flow(version):
    """Builds cond and while of this version, whatever the behaviour of the run is."""
    was = v1.control_flow_v2_enabled()
    (v1.enable_control_flow_v2 if version == 2 else v1.disable_control_flow_v2)()
    try:
        yield
    finally:
        (v1.enable_control_flow_v2 if was else v1.disable_control_flow_v2)()


def _variable(name, value=0., resource=True, **kwargs):
    return v1.get_variable(name, initializer=value, use_resource=resource, **kwargs)


def _inputs_walk(roots):
    """The ancestors as TensorFlow's own attributes tell them."""
    seen, stack = set(roots), list(roots)
    while stack:
        op = stack.pop()
        for parent in [tensor.op for tensor in op.inputs] + list(op.control_inputs):
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return seen


def _names(ops):
    return sorted(op.name for op in ops)


# Types.

def test_ops_by_type_in_the_order_of_creation(graph):
    tf.constant(1., name='b') + tf.constant(2., name='a')
    index = GraphIndex(graph)
    assert [op.name for op in index.of_types(['Const', 'AddV2', 'Missing'])] == ['add', 'b', 'a']
    assert sorted(index.types) == ['AddV2', 'Const']


# Ancestors.

def test_ancestors_follow_data_and_control_inputs(graph):
    a, b, c = (tf.constant(1., name=name) for name in 'abc')
    with tf.control_dependencies([c]):
        root = tf.add(a, a, name='root')
    tf.add(b, root, name='behind')
    index = GraphIndex(graph)
    assert _names(index.ancestors([root])) == ['a', 'c', 'root']
    assert _names(index.ancestors([root.op])) == ['a', 'c', 'root']
    assert _names(index.data_ancestors([root])) == ['a', 'root']
    assert _names(index.consumers(root.op)) == ['behind']


def test_ancestors_of_nothing_of_this_graph(graph):
    with tf.Graph().as_default():
        other = tf.constant(1.)
    index = GraphIndex(graph)
    assert index.ancestors([None, 'name', 3, object(), other]) == set()


@pytest.mark.parametrize('resource', [True, False])
def test_a_variable_is_a_root_too(graph, resource):
    variable = _variable('w', resource=resource)
    update = variable.assign_add(1.)
    index = GraphIndex(graph)
    assert variable.op in index.ancestors([variable])
    assert variable.op in index.ancestors([update])


def test_walls_end_the_data_walk_and_belong_to_it(graph):
    a = tf.constant(1., name='a')
    wall = tf.identity(a, name='wall')
    root = tf.negative(wall, name='root')
    index = GraphIndex(graph)
    assert _names(index.data_ancestors([root], stop=[wall.op])) == ['root', 'wall']
    assert _names(index.data_ancestors([wall], stop=[wall.op])) == ['wall']


def _random_graph(seed):
    """Ops of one to five outputs that read and follow random ops before them."""
    draw = random.Random(seed)
    tensors = [tf.constant([1.] * 4)]
    for _ in range(60):
        before = draw.sample(tensors, min(len(tensors), draw.choice([0, 0, 1, 2])))
        with tf.control_dependencies([tensor.op for tensor in before]):
            if draw.random() < .2:
                tensors += tf.split(draw.choice(tensors[:1]), 4)
            else:
                parts = draw.sample(tensors, min(len(tensors), draw.randint(1, 3)))
                tensors.append(tf.reshape(tf.add_n([tf.reduce_sum(part) for part in parts]), [1]))


@pytest.mark.parametrize('most_outputs', [reach._MAX_WIDE, 0])
@pytest.mark.parametrize('seed', range(5))
def test_ancestors_are_those_of_the_inputs(graph, monkeypatch, seed, most_outputs):
    _random_graph(seed)
    tf.split(tf.zeros([20]), 20)  # so many outputs that the other way is taken when none may be
    monkeypatch.setattr(reach, '_MAX_WIDE', most_outputs)
    index, draw = GraphIndex(graph), random.Random(seed)
    for size in (1, 2, 3, 2, 1):  # later questions are answered with earlier answers
        roots = draw.sample(graph.get_operations(), size)
        assert index.ancestors(roots) == _inputs_walk(roots)


def test_an_answer_that_was_used_again_stays_as_it_was(graph):
    a, b = tf.constant(1., name='a'), tf.constant(1., name='b')
    index = GraphIndex(graph)
    first = index.ancestors([a])
    assert _names(index.ancestors([a, b])) == ['a', 'b']
    assert _names(first) == ['a']
    assert index.ancestors([a]) is first


@pytest.mark.parametrize('version', [1, 2])
def test_ancestors_reach_through_cond_and_while(graph, version):
    with _control_flow(version):
        flag = v1.placeholder(tf.bool, [], name='flag')
        start, bound = tf.constant(0., name='start'), tf.constant(9., name='bound')
        captured = tf.constant(2., name='captured')
        chosen = tf.cond(flag, lambda: captured * 2., lambda: captured)
        looped = v1.while_loop(lambda i: i < bound, lambda i: i + chosen, [start])
    found = _names(GraphIndex(graph).ancestors([looped]))
    assert {'flag', 'start', 'bound', 'captured'} <= set(found)
    assert set(found) == set(_names(_inputs_walk([looped.op])))


def test_an_op_with_thousands_of_outputs(graph):
    parts = tf.split(tf.zeros([3000]), 3000)
    root = tf.add_n(parts)
    assert GraphIndex(graph).ancestors([root]) == _inputs_walk([root.op])


# Paths.

def test_the_path_is_a_shortest_one_and_names_both_ends(graph):
    a = tf.constant(1., name='a')
    long_way = tf.identity(tf.identity(a, name='first'), name='second')
    short = tf.identity(a, name='short')
    root = tf.add(long_way, short, name='root')
    index = GraphIndex(graph)
    assert index.path(root, a) == ('root', 'short', 'a')
    assert index.path(root, root) == ('root',)
    assert index.path(a, root) == ()


def test_the_path_follows_control_inputs(graph):
    a = tf.constant(1., name='a')
    with tf.control_dependencies([a]):
        root = tf.no_op(name='root')
    assert GraphIndex(graph).path(root, a) == ('root', 'a')


# Variables.

@pytest.mark.parametrize('resource', [True, False])
def test_variables_with_their_collections(graph, resource):
    step = v1.train.get_or_create_global_step()
    _variable('w', tf.zeros([2, 3]), resource)
    _variable('local', 0, resource, trainable=False,
              collections=[v1.GraphKeys.LOCAL_VARIABLES])
    step_info, w, local = GraphIndex(graph).variables
    assert (step_info.name, step_info.variable is step, step_info.dtype, step_info.trainable) == (
        'global_step', True, tf.int64, False)
    assert (w.name, w.shape.as_list(), w.dtype, w.trainable, w.is_global) == (
        'w', [2, 3], tf.float32, True, True)
    assert w.op.type == ('VarHandleOp' if resource else 'VariableV2')
    assert w.handles == (w.op,)
    assert (local.name, local.is_global, local.trainable) == ('local', False, False)
    assert local.collections == {'local_variables'}


def test_a_variable_of_no_collection_is_known_by_its_op(graph):
    v1.Variable(1., name='hidden', trainable=False, collections=[], use_resource=True)
    info, = GraphIndex(graph).variables
    assert (info.name, info.variable, info.shape.as_list(), info.dtype, info.is_global) == (
        'hidden', None, [], tf.float32, False)


def test_variables_of_keras_layers(graph):
    layer = tf.keras.layers.BatchNormalization(name='norm')
    layer(tf.zeros([2, 3]), training=True)
    index = GraphIndex(graph)
    infos = {info.name: info for info in index.variables}
    assert {'norm/gamma', 'norm/moving_mean'} <= set(infos)
    assert infos['norm/gamma'].variable is layer.gamma
    assert index.variable(layer.moving_mean) is infos['norm/moving_mean']


def test_variables_of_a_strategy(graph):
    strategy = tf.distribute.MirroredStrategy(['/cpu:0'])
    with strategy.scope():
        mirrored = _variable('mirrored')
    index = GraphIndex(graph)
    info, = index.variables
    assert info.variable is mirrored
    assert len(info.handles) == 1
    assert index.variable(mirrored) is info
    assert index.variable(mirrored.values[0]) is info


def test_the_variable_behind_a_handle_an_op_or_a_tensor(graph):
    variable = _variable('w')
    index = GraphIndex(graph)
    info, = index.variables
    assert index.variable(variable) is info
    assert index.variable(variable.handle) is info
    assert index.variable(variable.handle.op) is info
    assert index.variable(tf.identity(variable.handle)) is info
    assert index.variable(tf.constant(1.)) is None


@pytest.mark.parametrize('resource', [True, False])
def test_the_variables_that_ops_read(graph, resource):
    first, _ = _variable('first', resource=resource), _variable('second', resource=resource)
    root = tf.identity(first) * 2.
    index = GraphIndex(graph)
    assert [info.name for info in index.read(index.ancestors([root]))] == ['first']


# Handles and writes.

def _writers(graph, name):
    index = GraphIndex(graph)
    info = next(info for info in index.variables if info.name == name)
    return [op.type for op in index.updates(info)]


@pytest.mark.parametrize('resource, expected', [
    (True, ['AssignAddVariableOp', 'AssignVariableOp', 'ResourceScatterUpdate']),
    (False, ['Assign', 'AssignAdd', 'ScatterUpdate'])])
def test_assigns_are_updates_and_initialisers_are_not(graph, resource, expected):
    variable = _variable('w', tf.zeros([2]), resource)
    variable.assign([1., 2.])
    variable.assign_add([1., 2.])
    v1.scatter_update(variable, [0], [1.])
    assert sorted(_writers(graph, 'w')) == expected


@pytest.mark.parametrize('resource', [True, False])
def test_restoring_from_a_checkpoint_is_no_update(graph, resource):
    variable = _variable('w', resource=resource)
    saver = v1.train.Saver()
    index = GraphIndex(graph)
    writes = index.writes[index.variables[0].op]
    assert saver.saver_def.restore_op_name
    assert len(writes) == 2  # the initialiser's and the Saver's
    assert _writers(graph, 'w') == []
    assert variable.initializer in writes


@pytest.mark.parametrize('resource', [True, False])
@pytest.mark.parametrize('optimizer', [
    lambda: v1.train.GradientDescentOptimizer(.1), lambda: v1.train.AdamOptimizer(.1),
    lambda: v1.train.FtrlOptimizer(.1), lambda: v1.train.RMSPropOptimizer(.1, centered=True),
    lambda: v1.train.AdagradDAOptimizer(.1, v1.train.get_or_create_global_step())])
def test_an_optimizer_updates_the_variable_and_its_slots(graph, resource, optimizer):
    variable = _variable('w', 1., resource)
    made = optimizer()
    train_op = made.minimize(tf.square(variable))
    index = GraphIndex(graph)
    slots = [made.get_slot(variable, name) for name in made.get_slot_names()]
    assert len(slots) == {'Adam': 2, 'Ftrl': 2, 'RMSProp': 3, 'AdagradDA': 2}.get(
        type(made).__name__.replace('Optimizer', ''), 0)
    written = index.written(index.ancestors([train_op]))
    names = {info.name for info in written}
    assert {variable.op.name, *(slot.op.name for slot in slots)} <= names
    apply_op = written[index.variable(variable)][0]
    for slot in slots:
        assert apply_op in written[index.variable(slot)]


@pytest.mark.parametrize('resource', [True, False])
def test_embedding_gradients_update_the_rows(graph, resource):
    table = _variable('table', tf.zeros([5, 2]), resource)
    loss = tf.reduce_sum(tf.nn.embedding_lookup(table, [1, 2]))
    v1.train.AdagradOptimizer(.1).minimize(loss)
    assert _writers(graph, 'table') == [
        'ResourceSparseApplyAdagrad' if resource else 'SparseApplyAdagrad']


# Functions cannot capture a reference.
@pytest.mark.parametrize('version, resource', [(1, True), (1, False), (2, True)])
def test_writes_inside_cond(graph, version, resource):
    variable, other = _variable('w', resource=resource), _variable('other', resource=resource)
    with _control_flow(version):
        flag = v1.placeholder(tf.bool, [])
        update = tf.cond(flag, lambda: tf.identity(variable.assign_add(1.)),
                         lambda: tf.identity(other))
    index = GraphIndex(graph)
    info, unwritten = index.variables
    assert len(index.updates(info)) == 1
    assert index.updates(unwritten) == ()
    assert list(index.written(index.ancestors([update]))) == [info]


@pytest.mark.parametrize('version', [1, 2])
def test_writes_inside_while(graph, version):
    variable, other = _variable('w'), _variable('other')
    with _control_flow(version):
        def body(i):
            with tf.control_dependencies([variable.assign_add(1. + other)]):
                return i + 1

        update = v1.while_loop(lambda i: i < 3, body, [0])
    index = GraphIndex(graph)
    info, unwritten = index.variables
    assert len(index.updates(info)) == 1
    assert index.updates(unwritten) == ()
    assert info in index.written(index.ancestors([update]))


@pytest.mark.parametrize('version', [1, 2])
def test_writes_inside_cond_inside_while(graph, version):
    variable = _variable('w')
    with _control_flow(version):
        def body(i):
            update = tf.cond(i > 1, lambda: tf.identity(variable.assign_add(1.)), lambda: 0.)
            with tf.control_dependencies([update]):
                return i + 1

        v1.while_loop(lambda i: i < 3, body, [0])
    assert len(_writers(graph, 'w')) == 1


def test_writes_inside_case(graph):
    variable = _variable('w')
    which = v1.placeholder(tf.int32, [])
    with _control_flow(2):
        tf.switch_case(which, [lambda: tf.identity(variable.assign_add(1.)),
                               lambda: tf.identity(variable)])
    assert _writers(graph, 'w') == ['Case']


def test_writes_inside_functions(graph):
    variable, other = _variable('w'), _variable('other')

    @tf.function(autograph=False)
    def inner():
        return variable.assign_add(1.)

    @tf.function(autograph=False)
    def outer():
        return inner() + other

    outer()
    assert _writers(graph, 'w') == ['StatefulPartitionedCall']
    assert _writers(graph, 'other') == []


def test_writes_inside_a_defun(graph):
    variable = _variable('w')

    @tf_function.Defun(tf.float32)
    def add(x):
        with tf.control_dependencies([variable.assign_add(x)]):
            return tf.identity(x)

    call = add(1.)
    index = GraphIndex(graph)
    info, = index.variables
    assert index.updates(info) == (call.op,)
    assert [item.type for item in index.find(['AssignAddVariableOp'])] == ['AssignAddVariableOp']


def test_writes_by_a_handle_that_was_handed_on(graph):
    variable = _variable('w')
    handle = tf.identity(tf.identity(variable.handle))
    tf.raw_ops.AssignAddVariableOp(resource=handle, value=1.)
    assert _writers(graph, 'w') == ['AssignAddVariableOp']


def test_writing_one_variable_with_the_value_of_another(graph):
    first, second = _variable('first', resource=False), _variable('second', resource=False)
    first.assign(tf.identity(second))
    v1.assign(first, second)
    assert _writers(graph, 'first') == ['Assign', 'Assign']
    assert _writers(graph, 'second') == []


def test_writes_under_a_strategy(graph):
    strategy = tf.distribute.MirroredStrategy(['/cpu:0'])
    with strategy.scope():
        mirrored = _variable('mirrored')
        strategy.extended.update(mirrored, lambda part: part.assign_add(1.))
    assert _writers(graph, 'mirrored') == ['AssignAddVariableOp']


# Functions, tables, Python.

@pytest.mark.parametrize('version', [1, 2])
def test_random_ops_are_found_wherever_they_hide(graph, version):
    flag = v1.placeholder(tf.bool, [])
    with _control_flow(version):
        root = tf.cond(flag, lambda: v1.nn.dropout(tf.ones([3]), rate=.5), lambda: tf.ones([3]))
    away = tf.random.uniform([2])
    index = GraphIndex(graph)
    everywhere = list(index.find(graph_lib.RANDOM_TYPES))
    assert [item.type for item in everywhere] == ['RandomUniform'] * 2
    inside, = index.find(graph_lib.RANDOM_TYPES, within=index.ancestors([root]))
    assert (inside.inner is None) == (version == 1)
    assert inside.op is not away.op
    if version == 2:
        assert inside.op.type in ('If', 'StatelessIf')


def test_py_funcs_in_the_graph_and_in_functions(graph):
    v1.py_func(np.sin, [1.], tf.float64, name='plain')

    @tf.function(autograph=False)
    def wrapped(x):
        return tf.numpy_function(np.cos, [x], tf.float64)

    call = wrapped(tf.constant(1.))
    plain, inside = GraphIndex(graph).find(graph_lib.PY_FUNC_TYPES)
    assert (plain.op.name, plain.inner) == ('plain', None)
    assert inside.op is call.op
    assert inside.inner


def test_tables_and_their_initialisers(graph):
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(['a'], [1]), default_value=0)
    value = table.lookup(tf.constant(['a']))
    index = GraphIndex(graph)
    made, = index.find(graph_lib.TABLE_TYPES)
    filled, = index.find(graph_lib.TABLE_INIT_TYPES)
    assert index.handle(filled.op.inputs[0]) is made.op
    assert made.op in index.ancestors([value])
    assert filled.op not in index.ancestors([value])


def test_many_conds_inside_each_other(graph):
    def nested(x, depth):
        return x if depth == 0 else tf.cond(
            x > 0., lambda: nested(x, depth - 1), lambda: nested(tf.exp(x), depth - 1))

    with _control_flow(2):
        nested(v1.placeholder(tf.float32, []), 6)
    assert len(list(GraphIndex(graph).find(['Exp']))) == 63


def test_inputs_are_known_by_their_types(graph):
    data = tf.data.Dataset.from_tensors(1.)
    v1.data.make_one_shot_iterator(data).get_next()
    v1.placeholder(tf.float32)
    v1.placeholder_with_default(1., [])
    found = [op.type for op in GraphIndex(graph).of_types(graph_lib.INPUT_TYPES)]
    assert found == ['IteratorGetNext', 'Placeholder', 'PlaceholderWithDefault']


def test_no_question_changes_the_graph(graph):
    variable = _variable('w')
    with _control_flow(2):
        update = tf.cond(variable > 0., lambda: tf.identity(variable.assign_add(1.)), lambda: 0.)
    version, collections = graph.version, {key: list(graph.get_collection(key))
                                           for key in graph.collections}
    definition = graph.as_graph_def().SerializeToString(deterministic=True)
    index = GraphIndex(graph)
    found = index.ancestors([update])
    assert index.written(found)
    assert index.read(found)
    assert list(index.find(['AssignAddVariableOp']))
    assert index.path(update, variable.op)
    assert graph.version == version
    assert {key: list(graph.get_collection(key)) for key in graph.collections} == collections
    assert graph.as_graph_def().SerializeToString(deterministic=True) == definition


@pytest.mark.parametrize('slug', [
    'metric-never-updated', 'moving-statistics-not-updated', 'global-step-not-advanced',
    'keras-weights-lost', 'sync-replicas-hook-missing'])
def test_updates_are_the_same_asked_for_one_variable_or_for_all(slug):
    """Of a variable that no op hands on, the readers alone are asked."""
    rule = registry.find(slug)
    for build in (rule.bad, rule.good, *rule.more_bad, *rule.more_good):
        with tf.Graph().as_default() as graph:
            v1.train.get_or_create_global_step()
            build()
        index = GraphIndex(graph)
        alone = {info: set(index.updates(info)) for info in index.variables}
        together = index.written(set(graph.get_operations()))
        assert alone == {info: set(together.get(info, ())) for info in index.variables}

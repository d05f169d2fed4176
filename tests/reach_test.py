"""What some ops need, asked op by op, against the whole walk."""

from __future__ import annotations

import contextlib
import gc
import random
import weakref

import pytest
import tensorflow as tf

import estimator_spec_ext as ese
from estimator_spec_ext import facts, reach
from estimator_spec_ext.graph import GraphIndex
from estimator_spec_ext.reach import Cone

v1 = tf.compat.v1


@pytest.fixture
def graph():
    """A fresh graph, the default one during the test."""
    with tf.Graph().as_default() as fresh:
        yield fresh


def _inputs_walk(roots, control=True, walls=()):
    """The ancestors as TensorFlow's own attributes tell them."""
    seen, stack = set(roots), [op for op in roots if op not in walls]
    while stack:
        op = stack.pop()
        for parent in [tensor.op for tensor in op.inputs] + control * list(op.control_inputs):
            if parent not in seen:
                seen.add(parent)
                if parent not in walls:
                    stack.append(parent)
    return seen


def _random_graph(seed):
    draw = random.Random(seed)
    tensors = [tf.constant([1.] * 4)]
    for _ in range(80):
        before = draw.sample(tensors, min(len(tensors), draw.choice([0, 0, 1, 2])))
        with tf.control_dependencies([tensor.op for tensor in before]):
            if draw.random() < .2:
                tensors += tf.split(draw.choice(tensors[:1]), 4)
            else:
                parts = draw.sample(tensors, min(len(tensors), draw.randint(1, 3)))
                tensors.append(tf.reshape(tf.add_n([tf.reduce_sum(part) for part in parts]), [1]))


@contextlib.contextmanager
def _no_walk(monkeypatch):
    """Fails when anybody lists the ancestors instead of following an op."""
    with monkeypatch.context() as patch:
        for name in ('_walk', '_data_walk'):
            patch.setattr(reach.Links, name, lambda *_: pytest.fail('the whole graph was walked'))
        yield


@pytest.mark.parametrize('patience', [reach._PATIENCE, 1])
@pytest.mark.parametrize('most_outputs', [reach._MAX_WIDE, 0])
@pytest.mark.parametrize('seed', range(4))
def test_each_op_is_inside_or_outside_as_the_inputs_tell(
        graph, monkeypatch, seed, most_outputs, patience):
    _random_graph(seed)
    tf.split(tf.zeros([20]), 20)
    monkeypatch.setattr(reach, '_MAX_WIDE', most_outputs)
    monkeypatch.setattr(reach, '_PATIENCE', patience)
    index, draw, ops = GraphIndex(graph), random.Random(seed), graph.get_operations()
    with _no_walk(monkeypatch):
        for size in (1, 2, 5):
            roots = draw.sample(ops, size)
            found, data = index.ancestors(roots), index.data_ancestors(roots)
            walls = draw.sample(ops, 10)
            behind = index.data_ancestors(roots, stop=walls)
            asked = draw.sample(ops, len(ops))
            assert {op for op in asked if op in found} == _inputs_walk(roots)
            assert {op for op in asked if op in data} == _inputs_walk(roots, False)
            assert {op for op in asked if op in behind} == _inputs_walk(roots, False, walls)


def test_listing_counts_what_asking_finds(graph):
    _random_graph(1)
    ops = graph.get_operations()
    index = GraphIndex(graph)
    found = index.ancestors([ops[-1]])
    expected = _inputs_walk([ops[-1]])
    assert set(found) == expected
    assert len(found) == len(expected)
    assert found & set(ops[:9]) == expected & set(ops[:9])
    assert set(ops) - found == set(ops) - expected
    assert set(ops) & found == expected
    assert found == expected
    assert not index.ancestors([])
    assert found


def test_a_loop_of_readers_ends(graph):
    was = v1.control_flow_v2_enabled()
    v1.disable_control_flow_v2()
    try:
        away = tf.constant(1., name='away')
        start = tf.constant(0., name='start')
        looped = v1.while_loop(lambda i: i < 9., lambda i: i + tf.sqrt(i + 1.), [start])
        inside = v1.while_loop(lambda i: i < away, lambda i: i + 1., [start])
    finally:
        if was:
            v1.enable_control_flow_v2()
    index = GraphIndex(graph)
    for root in (looped.op, inside.op):
        found = index.ancestors([root])
        assert {op for op in graph.get_operations() if op in found} == _inputs_walk([root])


def test_what_a_metric_needs_is_found_from_its_end(graph, monkeypatch):
    x = tf.constant(1., name='x')
    value, update = v1.metrics.mean(x)
    for _ in range(2 * reach._PATIENCE):
        x = tf.negative(x)
    index = GraphIndex(graph)
    with _no_walk(monkeypatch):
        assert graph.get_operation_by_name('x') not in index.ancestors([value])
        assert graph.get_operation_by_name('x') in index.ancestors([update])
        assert len(index.ancestors([value])) < 30  # known as a whole by now


def test_the_updates_of_a_step_are_found_without_a_walk(graph, monkeypatch):
    step = v1.train.get_or_create_global_step()
    weight = v1.get_variable('w', [2])
    train_op = v1.train.AdamOptimizer().minimize(tf.reduce_sum(tf.square(weight)), step)
    index = GraphIndex(graph)
    with _no_walk(monkeypatch):
        written = {info.name for info in index.written(index.ancestors([train_op]))}
    assert {'global_step', 'w', 'w/Adam', 'beta1_power'} <= written


def test_walls_may_be_roots():
    readers = {'a': ['wall'], 'wall': ['root'], 'root': []}
    parents = {'root': ['wall'], 'wall': ['a'], 'a': []}
    cone = Cone(['root', 'wall'], readers.__getitem__, parents.__getitem__, lambda: {'root'},
                frozenset(['wall']))
    assert 'wall' in cone
    assert 'a' not in cone


@pytest.fixture
def no_collector():
    """Nothing is freed but what nobody refers to."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_an_index_goes_without_the_collector(graph, no_collector):
    _random_graph(2)
    root = graph.get_operations()[-1]
    index = GraphIndex(graph)
    assert root in index.ancestors([root])
    assert len(index.data_ancestors([root])) > 1
    last = weakref.ref(index)
    del index
    assert last() is None


def test_what_a_spec_was_checked_with_goes_without_the_collector(
        graph, monkeypatch, no_collector):
    made = []

    class Watched(facts.GraphIndex):
        def __init__(self, graph):
            super().__init__(graph)
            made.append(weakref.ref(self))

    monkeypatch.setattr(facts, 'GraphIndex', Watched)
    step = v1.train.get_or_create_global_step()
    loss = tf.reduce_sum(tf.square(v1.get_variable('w', [2])))
    train_op = v1.train.GradientDescentOptimizer(.1).minimize(loss, step)
    ese.StrictEstimatorSpec('train', loss=loss, train_op=train_op)
    assert [index() for index in made] == [None]
    assert not gc.isenabled()

"""What hooks do to the disk and to each other."""

from __future__ import annotations

import os

import pytest
import tensorflow as tf

v1 = tf.compat.v1
train = v1.train


@pytest.fixture
def target(tmp_path):
    """A folder that does not exist yet."""
    return str(tmp_path / 'target')


def _event_files(folder):
    return [name for name in os.listdir(folder) if name.startswith('events.out.tfevents.')]


def test_profiler_hook_opens_a_writer_in_its_constructor(graph, target):
    """ProfilerHook's constructor opens a summary writer, which makes the folder and its file."""
    hook = train.ProfilerHook(save_steps=1, output_dir=target)
    assert os.path.isdir(target)
    assert isinstance(hook._file_writer, v1.summary.FileWriter)
    hook._file_writer.close()
    assert len(_event_files(target)) == 1


def test_profiler_hook_writes_the_default_graph_at_once(graph, target):
    """That writer starts with the graph that is the default one when the hook is built."""
    tf.constant(1.0, name='early')
    train.ProfilerHook(save_steps=1, output_dir=target)._file_writer.close()
    (name,) = _event_files(target)
    events = list(v1.train.summary_iterator(os.path.join(target, name)))
    graph_defs = [tf.compat.v1.GraphDef.FromString(e.graph_def) for e in events if e.graph_def]
    assert [node.name for node in graph_defs[0].node] == ['early']


def test_profiler_hook_cannot_be_built_in_eager_mode(target):
    """Where TensorFlow executes eagerly, ProfilerHook's constructor raises for its writer."""
    if not tf.executing_eagerly():
        train.ProfilerHook(save_steps=1, output_dir=target)._file_writer.close()
        return
    with pytest.raises(RuntimeError, match='FileWriter is not compatible with eager execution'):
        train.ProfilerHook(save_steps=1, output_dir=target)
    assert not os.path.exists(target)


@pytest.mark.parametrize(
    'make',
    [
        lambda folder: train.CheckpointSaverHook(folder, save_steps=1),
        lambda folder: train.SummarySaverHook(1, output_dir=folder, summary_op=tf.constant('')),
        lambda folder: train.StepCounterHook(output_dir=folder),
    ],
)
def test_other_writing_hooks_open_theirs_in_begin(graph, target, make):
    """The other hooks that write touch the disk first in begin."""
    train.create_global_step()
    hook = make(target)
    assert not os.path.exists(target)
    hook.begin()
    assert os.path.isdir(target)


class _OwnSaver(train.CheckpointSaverHook):
    """An author's own subclass."""


@pytest.mark.parametrize('hook_class', [train.CheckpointSaverHook, _OwnSaver])
@pytest.mark.parametrize('place', ['training_hooks', 'training_chief_hooks', 'train()'])
def test_any_saver_hook_switches_the_default_off(
    make_estimator, linear, input_fn, target, hook_class, place
):
    """With a CheckpointSaverHook of one's own the default one is left out.

    Also when it saves elsewhere: then model_dir has no checkpoint.
    """
    given = []

    def model_fn(features, labels, mode):
        _, loss, train_op = linear(features, labels)
        hooks = {} if place == 'train()' else {place: given}
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, **hooks)

    given.append(hook_class(target, save_steps=1))
    estimator = make_estimator(model_fn)
    estimator.train(input_fn, hooks=given if place == 'train()' else None, steps=1)
    assert tf.train.latest_checkpoint(target) == os.path.join(target, 'model.ckpt-1')
    assert estimator.latest_checkpoint() is None


def test_a_decorated_saver_hook_does_not(make_estimator, linear, input_fn, target):
    """A hook that merely holds a CheckpointSaverHook leaves the default one in place."""

    class Wrapper(tf.estimator.SessionRunHook):
        def __init__(self, hook):
            self.hook = hook

    def model_fn(features, labels, mode):
        _, loss, train_op = linear(features, labels)
        hooks = [Wrapper(train.CheckpointSaverHook(target, save_steps=1))]
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, training_hooks=hooks)

    estimator = make_estimator(model_fn)
    estimator.train(input_fn, steps=1)
    assert os.path.basename(estimator.latest_checkpoint()) == 'model.ckpt-1'


def test_in_memory_evaluator_builds_eval_in_its_own_graph(make_estimator, linear, input_fn):
    """InMemoryEvaluatorHook builds the EVAL graph inside train(), in a graph of its own."""
    built = []

    def model_fn(features, labels, mode):
        built.append((mode, v1.get_default_graph()))
        _, loss, train_op = linear(features, labels)
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    estimator = make_estimator(model_fn)
    hook = tf.estimator.experimental.InMemoryEvaluatorHook(estimator, input_fn)
    estimator.train(input_fn, hooks=[hook], steps=1)
    (train_mode, train_graph), (eval_mode, eval_graph) = built
    assert (train_mode, eval_mode) == ('train', 'eval')
    assert train_graph is not eval_graph


def test_one_hook_in_all_fields_and_modes(make_estimator, linear, input_fn):
    """One hook object may stand in all four hook fields, in every mode."""

    class Counting(tf.estimator.SessionRunHook):
        runs = 0

        def after_run(self, run_context, run_values):
            self.runs += 1

    hook = Counting()

    def model_fn(features, labels, mode):
        prediction, loss, train_op = linear(features, labels)
        return tf.estimator.EstimatorSpec(
            mode, prediction, loss, train_op, None, None, [hook], [hook], None, [hook], [hook]
        )

    estimator = make_estimator(model_fn)
    estimator.train(input_fn, steps=1)
    assert hook.runs == 2  # As a training hook and again as a chief hook.
    estimator.evaluate(input_fn, steps=2)
    assert hook.runs == 4
    next(estimator.predict(input_fn))
    assert hook.runs == 5

"""What hooks hold: things of another graph, and names that this graph does not have."""

from __future__ import annotations

import functools

import pytest
import tensorflow as tf
from tensorflow.python.eager import context as eager_context

import estimator_spec_ext as ese
from estimator_spec_ext import engine
from estimator_spec_ext.diagnostics import Severity
from estimator_spec_ext.facts import JobContext, SpecFacts
from estimator_spec_ext.validate import validate_hooks

v1 = tf.compat.v1
train = v1.train
ERROR, WARNING = Severity.ERROR, Severity.WARNING


@pytest.fixture(autouse=True)
def _graph():
    with tf.Graph().as_default():
        yield


def _elsewhere(make):
    """What `make` builds in a graph of its own."""
    with tf.Graph().as_default():
        return make()


def _found(hooks, mode='eval', **context):
    field = {'train': 'training_hooks', 'eval': 'evaluation_hooks', 'infer': 'prediction_hooks'}
    facts = SpecFacts(mode, {field[mode]: hooks}, context=JobContext(**context))
    return [(f.slug, f.severity, f.where.field, f.message) for f in
            engine.check(facts, family='ESX6').findings]


def _foreign(*hooks, **context):
    return [(severity, message.split(' holds ')[1])
            for slug, severity, _, message in _found(list(hooks), **context)
            if slug == 'hook-foreign-graph']


class Own(train.SessionRunHook):
    """A user's hook."""

    def __init__(self, value):
        self.value = value

    def before_run(self, run_context):
        return train.SessionRunArgs(self.value)


def _t():
    return tf.constant(1.0, name='t')


# Another graph.


@pytest.mark.parametrize(
    'make, path',
    [
        (lambda: train.LoggingTensorHook([_t()], 1), 'a tensor of another graph in _tensors['),
        (lambda: train.NanTensorHook(_t()), 'a tensor of another graph in _loss_tensor'),
        (
            lambda: train.FinalOpsHook({'a': (_t().op, _t())}),
            "an op of another graph in _final_ops['a'][0] and 1 more",
        ),
        (lambda: train.FinalOpsHook([], {_t(): 1.0}), 'a tensor of another graph in _final_ops_fe'),
        (
            lambda: train.SummarySaverHook(1, summary_op=v1.summary.scalar('s', _t())),
            'a tensor of another graph in _summary_op',
        ),
        (
            lambda: train.SummarySaverHook(
                1, scaffold=train.Scaffold(summary_op=v1.summary.scalar('s', _t()))),
            'a tensor of another graph in _scaffold._summary_op',
        ),
    ],
)
def test_standard_hooks_of_another_graph_are_errors(make, path):
    ((severity, text),) = _foreign(_elsewhere(make))
    assert severity is ERROR
    assert text.startswith(path)
    assert _foreign(make()) == []


@pytest.mark.parametrize(
    'make, path',
    [
        (lambda: Own(_t()), 'a tensor of another graph in value'),
        (lambda: Own([_t().op]), 'an op of another graph in value[0]'),
        (lambda: Own({'w': v1.get_variable('w', [])}), "a variable of another graph in value['w']"),
        (lambda: Own(functools.partial(print, _t())), 'a tensor of another graph in value.args[0]'),
        (lambda: Own(Own(_t())), 'a tensor of another graph in value.value'),
        (
            lambda: Own(train.LoggingTensorHook({'t': _t()}, 1)),
            "a tensor of another graph in value._tensors['t']",
        ),
        (
            lambda: train.FeedFnHook(functools.partial(lambda t: {t: 1.0}, _t())),
            'a tensor of another graph in feed_fn.args[0]',
        ),
    ],
)
def test_hooks_that_may_use_what_they_hold_warn(make, path):
    ((severity, text),) = _foreign(_elsewhere(make))
    assert severity is WARNING
    assert text == path
    assert _foreign(make()) == []


def _with_saver():
    v1.get_variable('w', [])
    return train.CheckpointSaverHook('d', save_steps=1, saver=train.Saver())


def test_a_subclass_of_a_standard_hook():
    class Formatted(train.LoggingTensorHook):
        def after_run(self, run_context, run_values):
            super().after_run(run_context, run_values)

    class Scaled(train.LoggingTensorHook):
        def before_run(self, run_context):
            return None

    ((severity, _),) = _foreign(_elsewhere(lambda: Formatted({'t': _t()}, 1)))
    assert severity is ERROR
    ((severity, _),) = _foreign(_elsewhere(lambda: Scaled({'t': _t()}, 1)))
    assert severity is WARNING


def test_a_class_in_a_model_fn_keeps_its_tensor():
    def make():
        t = _t()

        class Local(train.SessionRunHook):
            def before_run(self, run_context):
                return train.SessionRunArgs(t)

        return Local()

    assert _foreign(_elsewhere(make)) == [
        (WARNING, 'a tensor of another graph in before_run.<t>')]
    assert _foreign(make()) == []


def test_an_eager_tensor():
    with eager_context.eager_mode():
        eager = tf.constant(1.0)
    assert _foreign(train.LoggingTensorHook({'t': eager}, 1)) == [
        (ERROR, "an eager tensor in _tensors['t']")]
    # A value to compare with, or to feed.
    assert _foreign(Own(eager)) == []


def test_hooks_from_outside_the_spec():
    hook = _elsewhere(lambda: train.NanTensorHook(_t()))
    ((slug, _, place, _),) = _found([], extra_hooks=(hook,))
    assert (slug, place) == ('hook-foreign-graph', 'hooks[0]')


def test_the_error_stops_a_spec():
    hook = _elsewhere(lambda: train.NanTensorHook(_t()))
    with pytest.raises(ese.EstimatorSpecError, match='ESX604'):
        ese.StrictEstimatorSpec('eval', loss=tf.constant(1.0), evaluation_hooks=[hook])
    # EVAL does not run it.
    ese.StrictEstimatorSpec('eval', loss=tf.constant(1.0), training_hooks=[hook])


# Correct look-alikes.


class Evaluates(train.SessionRunHook):
    """Runs another graph beside the session."""

    def __init__(self):
        self._graph = tf.Graph()
        with self._graph.as_default():
            self._score = tf.constant(1.0)
            self._saver_variables = [v1.get_variable('w', [])]


class WithSession(train.SessionRunHook):
    """Holds a session of another graph, not the graph."""

    def __init__(self):
        graph = tf.Graph()
        with graph.as_default():
            self._score = tf.constant(1.0)
        self._session = v1.Session(graph=graph)


class Cached(train.SessionRunHook):
    """Finds its tensors once for each graph."""

    def __init__(self):
        self._tensors = {}
        self._current = None

    def begin(self):
        graph = v1.get_default_graph()
        if graph not in self._tensors:
            self._tensors[graph] = tf.constant(1.0)
        self._current = self._tensors[graph]


class Lazy(train.SessionRunHook):
    """Looks its tensor up in the first run."""

    def __init__(self):
        self._fetch = None

    def after_create_session(self, session, coord):
        self._fetch = session.graph.get_tensor_by_name('t:0')


def _begun(hook):
    _t()
    train.get_or_create_global_step()
    hook.begin()
    return hook


def _looked_up():
    hook = Lazy()
    _t()
    with v1.Session() as session:
        hook.after_create_session(session, None)
    return hook


@pytest.mark.parametrize(
    'make',
    [
        Evaluates,
        WithSession,
        lambda: _begun(Cached()),
        _looked_up,
        lambda: _begun(train.LoggingTensorHook(['t'], 1)),
        lambda: _begun(train.StopAtStepHook(num_steps=1)),
        lambda: _begun(train.StepCounterHook()),
        lambda: _begun(train.CheckpointSaverHook('d', save_steps=1, scaffold=train.Scaffold())),
        # A saver goes by names: it works in any graph that has them.
        lambda: _with_saver(),
        lambda: Own(train.AdamOptimizer().minimize and train.AdamOptimizer()),
    ],
)
def test_hooks_that_may_be_used_again(make, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _foreign(_elsewhere(make)) == []


def test_a_hook_with_a_function_and_its_graph():
    function = tf.function(lambda x: x + 1.0).get_concrete_function(tf.TensorSpec([]))
    assert _foreign(Own(function), Own(function.graph.outputs)) == []


def test_inside_a_function_graph_the_outer_graph_is_no_other():
    hook = train.NanTensorHook(_t())
    found = []

    @tf.function
    def body():
        found.extend(_foreign(hook))
        return tf.constant(1.0)

    body.get_concrete_function()
    assert found == []


def test_in_memory_evaluator_hook(tmp_path):
    def model_fn(features, labels, mode):
        hook = train.LoggingTensorHook(['only_in_eval'], every_n_iter=1)
        tf.constant(1.0, name='only_in_eval')
        step = train.get_or_create_global_step()
        return tf.estimator.EstimatorSpec(
            mode, loss=tf.constant(1.0), train_op=step.assign_add(1), evaluation_hooks=[hook])

    def input_fn():
        return tf.data.Dataset.from_tensors(({'x': [1.0]}, [1.0]))

    estimator = tf.estimator.Estimator(model_fn, str(tmp_path))
    inner = train.LoggingTensorHook(['only_in_eval'], every_n_iter=1)
    hook = tf.estimator.experimental.InMemoryEvaluatorHook(estimator, input_fn, hooks=[inner])
    assert _found([hook], 'train') == []
    with tf.Graph().as_default():
        hook.begin()
    assert _found([hook], 'train') == []


# Names.


def _names(*hooks, **context):
    return [(severity, message.split(' names ')[1])
            for slug, severity, _, message in _found(list(hooks), **context)
            if slug == 'hook-unknown-name']


def test_names_as_the_hooks_resolve_them():
    """What a hook's begin() or a session refuses, and nothing else, is found."""
    _t()
    tf.split(tf.constant([1.0, 2.0]), 2, name='halves')
    tf.no_op(name='nothing')
    with tf.name_scope('scope'):
        tf.constant(1.0, name='inner')
    for name in ('t', 't:0', 't:1', 'halves', 'halves:1', 'halves:2', 'nothing', 'nothing:0',
                 'inner', 'scope/inner', 'scope/inner:0', '', ':', 't:x', '^nothing'):
        hook = train.LoggingTensorHook([name], every_n_iter=1)
        try:
            hook.begin()
            refused = False
        except (KeyError, ValueError):
            refused = True
        assert bool(_names(hook)) is refused, name
        with v1.Session() as session:
            try:
                session.run(name)
                refused = False
            except (KeyError, ValueError, TypeError):
                refused = True
        assert bool(_names(train.FinalOpsHook([name]))) is refused, name


def test_severity_by_what_may_still_come():
    hook = train.LoggingTensorHook(['probabilities'], every_n_iter=1)
    expected = "'probabilities', which this graph does not have"
    assert _names(hook) == [(WARNING, expected)]
    assert _names(hook, graph_is_complete=True) == [(ERROR, expected)]


def test_every_wrong_name_and_its_reason():
    tf.split(tf.constant([1.0, 2.0]), 2, name='halves')
    tf.no_op(name='nothing')
    names = {'a': 'halves', 'b': 'nothing', 'c': 'lost:0'}
    assert [text for _, text in _names(train.LoggingTensorHook(names, every_n_iter=1))] == [
        "'halves', an op with several outputs",
        "'lost:0', which this graph does not have",
        "'nothing', which is an op without an output",
    ]
    tf.constant(1.0, name='loss')
    assert [text for _, text in _names(train.NanTensorHook('loss'))] == [
        "'loss', which is an op; a loss is a tensor"]
    assert _names(train.NanTensorHook('loss:0')) == []


@pytest.mark.parametrize(
    'name, nearest',
    [
        ('probabilities', "the nearest is 'head/probabilities:0'; "),
        ('head/probabilties:0', "the nearest is 'head/probabilities:0'; "),
        ('acuracy', "the nearest is 'metrics/accuracy:0'; "),
        ('head/probabilities:1', "the nearest is 'head/probabilities:0'; "),
        ('softmax_tensor', ''),
    ],
)
def test_the_nearest_names(name, nearest):
    with tf.name_scope('head'):
        probabilities = tf.nn.softmax(tf.constant([1.0, 2.0]), name='probabilities')
    with tf.name_scope('metrics'):
        tf.reduce_mean(probabilities, name='accuracy')
        tf.no_op(name='probabilities')
    hook = train.LoggingTensorHook([name], every_n_iter=1)
    (finding,) = validate_hooks([hook], mode='eval').findings
    assert finding.hint == nearest + (
        'pass the tensor itself, or give it this name with tf.identity(tensor, name)')


def test_names_inside_a_function_graph_are_left_alone():
    found = []
    hook = train.LoggingTensorHook(['lost'], every_n_iter=1)

    @tf.function
    def body():
        found.extend(_names(hook))
        return tf.constant(1.0)

    body.get_concrete_function()
    assert found == []


# Whole jobs.


def test_one_standard_hook_serves_several_calls(tmp_path):
    """Hooks by name, and hooks that count, kept between train and evaluate: no word about them."""
    kept = [train.LoggingTensorHook(['scores'], every_n_iter=1), train.StepCounterHook()]
    texts = []

    @ese.strict_model_fn
    def model_fn(features, labels, mode):
        weight = v1.get_variable('weight', [])
        loss = tf.reduce_mean(tf.square(features['x'] * weight - labels), name='scores')
        train_op = train.GradientDescentOptimizer(0.1).minimize(loss, train.get_global_step())
        return tf.estimator.EstimatorSpec(
            mode, loss=loss, train_op=train_op, training_hooks=kept, evaluation_hooks=kept)

    def input_fn():
        return tf.data.Dataset.from_tensors(({'x': [1.0]}, [1.0]))

    class Watch(train.SessionRunHook):
        def begin(self):
            texts.extend(f.to_text() for f in ese.findings() if f.code.startswith('ESX6'))

    estimator = tf.estimator.Estimator(model_fn, str(tmp_path))
    for _ in range(2):
        estimator.train(input_fn, hooks=[Watch()])
        estimator.evaluate(input_fn, hooks=[Watch()])
    assert texts == []


def test_a_kept_hook_is_refused_in_the_second_call(tmp_path):
    """Stock fails here in the session; the spec says so before."""
    kept = []

    @ese.strict_model_fn
    def model_fn(features, labels, mode):
        loss = tf.reduce_mean(features['x'])
        train_op = train.get_global_step().assign_add(1)
        if not kept:
            kept.append(train.LoggingTensorHook({'loss': loss}, every_n_iter=1))
        return tf.estimator.EstimatorSpec(
            mode, loss=loss, train_op=train_op, training_hooks=list(kept))

    def input_fn():
        return tf.data.Dataset.from_tensors(({'x': [1.0]}, [1.0]))

    estimator = tf.estimator.Estimator(model_fn, str(tmp_path))
    estimator.train(input_fn)
    with pytest.raises(ese.EstimatorSpecError, match='hook-foreign-graph'):
        estimator.train(input_fn)

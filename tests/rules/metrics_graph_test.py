"""What metric values read, and updates that nobody runs, beside what stock makes of them."""

from __future__ import annotations

import pytest
import tensorflow as tf

from estimator_spec_ext import engine
from estimator_spec_ext.diagnostics import Severity
from estimator_spec_ext.facts import JobContext, SpecFacts

v1 = tf.compat.v1
train = v1.train
ERROR, WARNING, INFO = Severity.ERROR, Severity.WARNING, Severity.INFO


def _found(mode, fields, extra=()):
    facts = SpecFacts(mode, fields, context=JobContext(extra_hooks=extra))
    report = engine.check(facts, family='ESX5')
    assert 'rule-crashed' not in {f.slug for f in report.findings}, report.to_text()
    return [(f.slug, f.severity, f.where.field) for f in report.findings]


def _evaluate(tmp_path, make, *, repeat=False, steps=None):
    """The number that stock reports for the metric 'm', or the name of its error; our findings."""
    found = []

    def model_fn(features, labels, mode):
        fields = {'loss': tf.reduce_mean(features['x']),
                  'eval_metric_ops': {'m': make(features['x'])}}
        found.extend((slug, severity) for slug, severity, _ in _found(mode, fields))
        return tf.estimator.EstimatorSpec(mode, **fields)

    def input_fn():
        data = tf.data.Dataset.from_tensor_slices(({'x': tf.range(8.0)}, tf.range(8.0))).batch(4)
        return data.repeat() if repeat else data

    try:
        result = tf.estimator.Estimator(model_fn, str(tmp_path)).evaluate(input_fn, steps)['m']
        result = float(result)
    except tf.errors.OutOfRangeError:
        result = 'OutOfRange'
    except (tf.errors.NotFoundError, tf.errors.FailedPreconditionError):
        result = 'uninitialised'
    return result, found


def _raw(x):
    mean = tf.reduce_mean(x)
    return mean, mean


def _raw_with_a_variable(x):
    total = v1.get_local_variable('total', [], initializer=tf.zeros_initializer())
    return tf.reduce_mean(x), total.assign_add(1.0)


def _swapped(x):
    value, update = v1.metrics.mean(x)
    return update, value


def _update_twice(x):
    _, update = v1.metrics.mean(x)
    return update, update


def _guarded(x):
    with tf.control_dependencies([v1.assert_non_negative(x)]):
        return v1.metrics.mean(x)


def _value_twice(x):
    value, _ = v1.metrics.mean(x)
    return value, value


def _no_update(x):
    return v1.metrics.mean(x)[0], tf.no_op()


def _keras(x):
    mean = tf.keras.metrics.Mean()
    mean.update_state(x)
    return mean


def _keras_twice(x):
    mean = tf.keras.metrics.Mean()
    mean.update_state(x)
    mean.update_state(x * 10.0)
    return mean


def _keras_taken_apart(x):
    mean = tf.keras.metrics.Mean()
    mean.update_state(x)
    return mean.result(), mean.updates[0]


def _keras_taken_apart_and_listed(x):
    mean = tf.keras.metrics.Mean()
    mean.update_state(x)
    for variable in mean.variables:
        v1.add_to_collection(v1.GraphKeys.LOCAL_VARIABLES, variable)
    return mean.result(), mean.updates[0]


def _good(x):
    return v1.metrics.mean(x)


READS, NEVER = 'metric-value-reads-input', 'metric-never-updated'
TWICE, LOOSE = 'metric-updated-twice', 'metric-not-initialized'


@pytest.mark.parametrize(
    'make, at_the_end, findings_at_the_end, on_endless_data, findings_on_endless_data',
    [
        (_raw, 'OutOfRange', [(READS, WARNING)], 5.5, [(READS, WARNING)]),
        (_raw_with_a_variable, 'OutOfRange', [(READS, WARNING)], 5.5, [(READS, WARNING)]),
        (_swapped, 'OutOfRange', [(READS, WARNING)], 5.5, [(READS, WARNING)]),
        # With fewer steps than batches it is a mean all the same, of one batch more.
        (_update_twice, 'OutOfRange', [(READS, INFO)], 3.5, [(READS, INFO)]),
        (_guarded, 'OutOfRange', [(READS, WARNING)], pytest.approx(17 / 6), [(READS, INFO)]),
        (_value_twice, 0.0, [(NEVER, WARNING)], 0.0, [(NEVER, WARNING)]),
        (_no_update, 0.0, [(NEVER, WARNING)], 0.0, [(NEVER, WARNING)]),
        (_keras_twice, 3.5, [(TWICE, WARNING)], pytest.approx(17 / 6), [(TWICE, WARNING)]),
        (_keras, 3.5, [], pytest.approx(17 / 6), []),
        (_keras_taken_apart, 'uninitialised', [(LOOSE, ERROR)], 'uninitialised', [(LOOSE, ERROR)]),
        (_keras_taken_apart_and_listed, 3.5, [], pytest.approx(17 / 6), []),
        (_good, 3.5, [], pytest.approx(17 / 6), []),
    ],
)
def test_beside_stock(tmp_path, make, at_the_end, findings_at_the_end, on_endless_data,
                      findings_on_endless_data):
    assert _evaluate(tmp_path / 'a', make) == (at_the_end, findings_at_the_end)
    endless = _evaluate(tmp_path / 'b', make, repeat=True, steps=3)
    assert endless == (on_endless_data, findings_on_endless_data)


# Other ways to read the input.


def _entry(value, update=None):
    return {'loss': tf.constant(1.0),
            'eval_metric_ops': {'m': (value, tf.no_op() if update is None else update)}}


@pytest.fixture
def graph():
    with tf.Graph().as_default() as g:
        train.get_or_create_global_step()
        yield g


def _from_queue():
    queue = tf.queue.FIFOQueue(10, tf.float32, shapes=[[]])
    return queue.dequeue_many(2)


def _one_shot():
    return v1.data.make_one_shot_iterator(tf.data.Dataset.from_tensors([1.0]).repeat()).get_next()


def _inside_a_loop():
    rows = _one_shot()
    return tf.while_loop(lambda i, _: i < 3, lambda i, s: (i + 1, s + rows[0]), [0, 0.0])[1]


def _through_a_function():
    @tf.function
    def square(x):
        return tf.square(x)

    return square(_one_shot())


@pytest.mark.parametrize('source', [
    _from_queue, _one_shot, _inside_a_loop, _through_a_function,
    lambda: v1.placeholder(tf.float32, [None]),
    lambda: v1.py_func(lambda x: x, [_one_shot()], tf.float32)])
def test_sources(graph, source):
    value = tf.reduce_mean(source())
    assert _found('eval', _entry(value, value)) == [(READS, WARNING, "eval_metric_ops['m']")]
    # Another mode ignores it.
    assert _found('train', _entry(value, value)) == []


@pytest.mark.parametrize(
    'change, ends',
    [
        (lambda d: d, True),
        (lambda d: d.map(lambda x: x * 2.0).shuffle(2).prefetch(1), True),
        (lambda d: d.repeat(3), True),
        (lambda d: d.repeat(), False),
        (lambda d: d.shuffle(3).repeat().map(tf.identity), False),
        (lambda d: d.repeat(v1.placeholder_with_default(tf.constant(2, tf.int64), [])), False),
        (lambda d: d.flat_map(lambda x: tf.data.Dataset.from_tensors(x).repeat()), False),
        (lambda d: tf.data.Dataset.zip((d, d)).map(lambda x, y: x), False),
    ],
)
def test_whether_the_data_end(graph, change, ends):
    data = change(tf.data.Dataset.from_tensors([1.0]))
    rows = v1.data.make_initializable_iterator(data).get_next()
    with tf.control_dependencies([v1.assert_non_negative(rows)]):
        value, update = v1.metrics.mean(rows)
    assert _found('eval', _entry(value, update)) == [
        (READS, WARNING if ends else INFO, "eval_metric_ops['m']")]


def test_values_that_read_no_input(graph):
    rows = _one_shot()
    weight = v1.get_variable('w', [])
    calls = []
    shared = v1.py_func(lambda x: calls.append(x), [rows], [])
    metrics = {
        'rate': (tf.constant(0.1), tf.no_op()),
        'weight': (weight, tf.no_op()),
        'norm': (tf.norm(weight), tf.group(v1.metrics.mean(rows)[1])),
        'own': (tf.constant(2.0),) * 2,
        'map': (v1.py_func(lambda: 0.5, [], tf.float32), shared),
        'recall': (v1.py_func(lambda: 0.5, [], tf.float32), shared),
        'auc': v1.metrics.auc(tf.ones([2]), tf.ones([2])),
        'nested': ({'a': v1.metrics.mean(rows)[0]}, v1.get_collection(v1.GraphKeys.UPDATE_OPS)),
    }
    nested, update = v1.metrics.mean(rows)
    metrics['nested'] = ({'a': nested, 'b': nested * 2.0}, [update, shared])
    assert _found('eval', {'loss': tf.reduce_mean(rows), 'eval_metric_ops': metrics}) == []


# Updates.


def test_f1_of_two_metrics(graph):
    x = v1.placeholder(tf.int64, [None])
    precision, p_update = v1.metrics.precision(x, x)
    recall, r_update = v1.metrics.recall(x, x)
    f1 = 2.0 * precision * recall / (precision + recall)
    both = _entry(f1, tf.group(p_update, r_update))
    assert _found('eval', both) == []
    assert _found('eval', _entry(f1, p_update)) == [(NEVER, WARNING, "eval_metric_ops['m']")]
    listed = _entry(f1, p_update)
    listed['eval_metric_ops']['recall'] = (recall, r_update)
    assert _found('eval', listed) == []


@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_an_update_in_a_hook_of_the_job(graph, mode):
    value, update = v1.metrics.mean(v1.placeholder(tf.float32, [None]))
    v1.summary.scalar('m', value)
    fields = {'loss': tf.constant(1.0), 'train_op': tf.no_op(),
              'eval_metric_ops': {'m': (value, tf.no_op())}}
    hook = train.FinalOpsHook(update)
    assert len(_found(mode, fields)) == 1
    assert _found(mode, fields, extra=(hook,)) == []


def test_a_variable_that_is_only_reset(graph):
    """Reset ops that nothing runs are no updates."""
    limit = v1.get_local_variable('limit', [], initializer=tf.ones_initializer())
    v1.assign(limit, 0.0)
    limit.assign(tf.zeros([]))
    assert _found('eval', _entry(limit)) == []
    assert _found('eval', _entry(limit * 2.0)) == []


def test_a_metric_and_its_reset(graph):
    mean = tf.keras.metrics.Mean()
    update = mean.update_state(v1.placeholder(tf.float32, [None]))
    for variable in mean.variables:
        v1.add_to_collection(v1.GraphKeys.LOCAL_VARIABLES, variable)
        variable.assign(tf.zeros_like(variable))
    assert _found('eval', _entry(mean.result(), update)) == []


def test_a_hand_made_metric(graph):
    x = v1.placeholder(tf.float32, [None])
    seen = v1.Variable(0.0, trainable=False, collections=[v1.GraphKeys.LOCAL_VARIABLES])
    add = v1.assign_add(seen, tf.reduce_sum(x))
    assert _found('eval', _entry(seen, add)) == []
    assert _found('eval', _entry(seen)) == [(NEVER, WARNING, "eval_metric_ops['m']")]
    assert _found('eval', _entry(tf.identity(seen))) == [
        (NEVER, WARNING, "eval_metric_ops['m']")]


def test_every_v1_metric_and_many_keras_metrics_pass(graph):
    labels = v1.placeholder(tf.int64, [None])
    scores = v1.placeholder(tf.float32, [None])
    flags = tf.cast(scores > 0.5, tf.int64)
    metrics = {
        'accuracy': v1.metrics.accuracy(labels, flags),
        'auc': v1.metrics.auc(labels, scores),
        'cosine': v1.metrics.mean_cosine_distance(scores, scores, 0),
        'false_negatives': v1.metrics.false_negatives(labels, flags),
        'iou': v1.metrics.mean_iou(labels, flags, 2),
        'mean_tensor': v1.metrics.mean_tensor(tf.ones([3])),
        'mse': v1.metrics.mean_squared_error(scores, scores),
        'per_class': v1.metrics.mean_per_class_accuracy(labels, flags, 2),
        'below': v1.metrics.percentage_below(scores, 0.5),
        'pearson_like': v1.metrics.mean_relative_error(scores, scores, scores),
        'precision_at': v1.metrics.precision_at_thresholds(labels, scores, [0.5]),
        'precision_at_k': v1.metrics.precision_at_k(labels[:, None], scores[:, None], 1),
        'rmse': v1.metrics.root_mean_squared_error(scores, scores),
        'specificity': v1.metrics.specificity_at_sensitivity(labels, scores, 0.5),
    }
    for name in ('AUC', 'Accuracy', 'Mean', 'MeanSquaredError', 'Precision', 'Recall', 'Sum'):
        metric = getattr(tf.keras.metrics, name)()
        metric.update_state(*([scores] if name in ('Mean', 'Sum') else [flags, flags]))
        metrics[name] = metric
    found = _found('eval', {'loss': tf.reduce_mean(scores), 'eval_metric_ops': metrics})
    assert [entry for entry in found if entry[0] != 'metric-not-scalar'] == []


# Training.


def _train_fields():
    x = v1.placeholder(tf.float32, [None])
    weight = v1.get_variable('w', [])
    loss = tf.reduce_mean(tf.square(x * weight))
    train_op = train.GradientDescentOptimizer(0.1).minimize(loss, train.get_global_step())
    return {'loss': loss, 'train_op': train_op}, x


def test_a_custom_hook_that_shows_a_value(graph):
    class Prints(train.SessionRunHook):
        def __init__(self, **tensors):
            self.tensors = tensors

        def before_run(self, run_context):
            return train.SessionRunArgs(self.tensors)

    fields, x = _train_fields()
    value, update = v1.metrics.mean(x)
    slug = 'train-metric-never-updated'
    assert _found('train', {**fields, 'training_hooks': [Prints(m=value)]}) == [
        (slug, WARNING, None)]
    assert _found('train', {**fields, 'training_hooks': [Prints(m=value, u=update)]}) == []
    assert _found('train', {**fields, 'training_chief_hooks': [Prints(m=update)]}) == []


def test_summaries_of_other_things(graph):
    fields, x = _train_fields()
    v1.summary.scalar('loss', fields['loss'])
    v1.summary.histogram('w', v1.trainable_variables()[0])
    moving = v1.get_variable('moving', [], trainable=False)
    moving.assign_add(1.0)
    v1.summary.scalar('moving', moving)
    v1.summary.scalar('step', train.get_global_step())
    v1.summary.scalar('m', v1.metrics.mean(x)[1])
    assert _found('train', fields) == []


def test_one_finding_for_each_summary_that_shows_it(graph):
    fields, x = _train_fields()
    value, _ = v1.metrics.mean(x)
    v1.summary.scalar('a', value)
    v1.summary.scalar('b', value * 100.0)
    assert len(_found('train', fields)) == 2

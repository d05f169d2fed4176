"""Predictions, exports, metrics, hooks and scaffolds of unusual and correct kinds."""

from __future__ import annotations

import os
import tempfile

import tensorflow as tf

import estimator_spec_ext as ese
from tests.mistakes import data
from tests.mistakes.harness import EVAL, PREDICT, SERVE, TRAIN, Programs

v1 = tf.compat.v1
export = tf.estimator.export
PROGRAMS = Programs()
ELSEWHERE = os.path.join(tempfile.gettempdir(), 'estimator_spec_ext_mistakes', 'elsewhere')


def _model(features, labels):
    logits = v1.layers.dense(v1.layers.dense(features['x'], 4, tf.nn.relu), 3)
    loss = None if labels is None else v1.losses.sparse_softmax_cross_entropy(labels, logits)
    return logits, loss


def _train(loss):
    return v1.train.AdamOptimizer().minimize(loss, v1.train.get_global_step())


def _spec(mode, loss, **fields):
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, train_op=_train(loss) if mode == TRAIN else None, **fields)


# Predictions and exports.


@PROGRAMS.good(PREDICT, SERVE)
def keys_of_every_kind(features, labels, mode):
    """Tuple keys, as a MultiHead makes them, and strings, integers and bytes as values."""
    logits, _ = _model(features, labels)
    ids = tf.argmax(logits, axis=1)
    picture = tf.cast(tf.clip_by_value(logits * 255., 0., 255.), tf.uint8)
    predictions = {('a', 'logits'): logits, ('a', 'id'): ids, ('b', 'name'): tf.as_string(ids),
                   ('b', 'picture'): picture}
    flat = {'/'.join(key): value for key, value in predictions.items()}
    return tf.estimator.EstimatorSpec(
        mode, predictions, export_outputs={'out': export.PredictOutput(flat)})


@PROGRAMS.good(PREDICT)
def integer_keys(features, labels, mode):
    """Predictions by number."""
    logits, _ = _model(features, labels)
    return ese.StrictEstimatorSpec(
        mode, {0: logits, 1: tf.argmax(logits, 1)},
        export_outputs={'only': export.PredictOutput({'logits': logits})})


@PROGRAMS.good(SERVE)
def exports_without_predictions(features, labels, mode):
    """Empty predictions and an export, as the time series head has them."""
    logits, _ = _model(features, labels)
    return tf.estimator.EstimatorSpec(
        mode, predictions={}, export_outputs={'predict': export.PredictOutput({'l': logits})})


@PROGRAMS.good(PREDICT, SERVE, data=data.bare())
def bare_tensors(features, labels, mode):
    """A bare tensor in and a bare tensor out, also under a second name."""
    out = v1.layers.dense(features, 2)
    same = export.PredictOutput(out)
    return tf.estimator.EstimatorSpec(
        mode, predictions=out, export_outputs={'serving_default': same, 'predict': same})


@PROGRAMS.good(PREDICT)
def classification_with_string_classes(features, labels, mode):
    """Classification, regression and prediction side by side."""
    logits, _ = _model(features, labels)
    scores = tf.nn.softmax(logits)
    names = tf.tile(tf.constant([['a', 'b', 'c']]), [tf.shape(logits)[0], 1])
    return tf.estimator.EstimatorSpec(
        mode, {'scores': scores},
        export_outputs={'serving_default': export.PredictOutput({'scores': scores}),
                        'classification': export.ClassificationOutput(scores, names),
                        'regression': export.RegressionOutput(logits[:, 0])})


@PROGRAMS.good(TRAIN, EVAL)
def no_common_batch_dimension(features, labels, mode):
    """In TRAIN and EVAL predictions may be anything; exports and prediction hooks are ignored."""
    logits, loss = _model(features, labels)
    predictions = {'logits': logits, 'loss': loss, 'vocabulary': tf.constant(['a', 'b'])}
    return _spec(mode, loss, predictions=predictions,
                 export_outputs={'x': export.PredictOutput({'y': logits})},
                 prediction_hooks=[v1.train.LoggingTensorHook(['no/such/name'], every_n_iter=1)])


@PROGRAMS.good(PREDICT, SERVE, data=data.images())
def detections(features, labels, mode):
    """Boxes after non-maximum suppression, padded, with a count for each image."""
    net = v1.layers.conv2d(features['image'], 5, 3, padding='same', strides=2)
    flat = tf.reshape(net, [-1, 16, 5])
    boxes, scores, _, valid = tf.image.combined_non_max_suppression(
        tf.expand_dims(tf.sigmoid(flat[..., :4]), 2), tf.sigmoid(flat[..., 4:]), 4, 4)
    return tf.estimator.EstimatorSpec(
        mode, {'boxes': boxes, 'scores': scores, 'num_detections': valid})


@PROGRAMS.good(PREDICT, SERVE)
def squeezed_with_an_axis(features, labels, mode):
    """tf.squeeze of a known axis; a broadcast version; features passed through."""
    logits, _ = _model(features, labels)
    version = tf.fill(tf.shape(logits)[:1], 'v3')
    return tf.estimator.EstimatorSpec(
        mode, {'score': tf.squeeze(logits[:, :1], axis=[1]), 'version': version,
               'x': features['x']})


@PROGRAMS.good(PREDICT, data=data.rows(batch=1, static=True))
def fixed_batch_of_one(features, labels, mode):
    """An input_fn with a static batch: all predictions have it."""
    logits, _ = _model(features, labels)
    return tf.estimator.EstimatorSpec(mode, {'p': tf.nn.softmax(logits),
                                             'c': tf.argmax(logits, 1)})


@PROGRAMS.good(PREDICT, SERVE)
def default_placeholders(features, labels, mode):
    """placeholder_with_default for what a client may override."""
    temperature = v1.placeholder_with_default(1., [], 'temperature')
    logits, _ = _model(features, labels)
    return tf.estimator.EstimatorSpec(mode, {'p': tf.nn.softmax(logits / temperature)})


# Metrics.


@PROGRAMS.good(TRAIN, EVAL, PREDICT)
def metrics_in_every_mode(features, labels, mode):
    """TF1 metrics, Keras metrics and hand-made ones, with slashes in their names."""
    logits, _ = _model(features, labels)
    labels = tf.argmax(logits, 1) if labels is None else labels
    loss = v1.losses.sparse_softmax_cross_entropy(labels, logits)
    keras = tf.keras.metrics.SparseCategoricalAccuracy()
    keras.update_state(labels, logits)
    mean = tf.keras.metrics.Mean()
    mean.update_state(loss)
    precision, precision_op = v1.metrics.precision(labels > 0, tf.argmax(logits, 1) > 0)
    recall, recall_op = v1.metrics.recall(labels > 0, tf.argmax(logits, 1) > 0)
    f1 = 2. * precision * recall / (precision + recall + 1e-9)
    turns = v1.get_local_variable('turns', [], initializer=v1.zeros_initializer())
    turn = v1.assign_add(turns, 1.)
    metrics = {'accuracy/keras': keras, 'average_loss': mean,
               'f1': (f1, tf.group(precision_op, recall_op)),
               'lr': (tf.constant(.1), tf.no_op()),
               'turns': (turn, turn),
               'steps': (tf.identity(v1.train.get_global_step()), tf.no_op())}
    return _spec(mode, loss, predictions={'l': logits}, eval_metric_ops=metrics)


class Fraction(tf.keras.metrics.Metric):
    """A metric of the author's own, of two variables."""

    def __init__(self):
        super().__init__(name='fraction')
        self.hits = self.add_weight('hits', initializer='zeros')
        self.rows = self.add_weight('rows', initializer='zeros')

    def update_state(self, labels, classes, sample_weight=None):
        self.hits.assign_add(tf.reduce_sum(tf.cast(tf.equal(labels, classes), tf.float32)))
        self.rows.assign_add(tf.cast(tf.size(labels), tf.float32))

    def result(self):
        return tf.math.divide_no_nan(self.hits, self.rows)


@PROGRAMS.good(EVAL)
def keras_metric_of_the_authors_own(features, labels, mode):
    """A subclass, and a metric given both as itself and as a pair made by hand."""
    logits, loss = _model(features, labels)
    fraction = Fraction()
    fraction.update_state(labels, tf.argmax(logits, 1))
    mean = tf.keras.metrics.Mean()
    update = mean.update_state(logits)
    return _spec(mode, loss, eval_metric_ops={'fraction': fraction, 'logit': mean,
                                              'logit/scaled': (mean.result() * 100., update)})


@PROGRAMS.good(TRAIN)
def metrics_used_in_training(features, labels, mode):
    """The update feeds the summary; another metric is updated by train_op and logged."""
    logits, loss = _model(features, labels)
    classes = tf.argmax(logits, 1)
    v1.summary.scalar('accuracy', v1.metrics.accuracy(labels, classes)[1])
    value, update = v1.metrics.mean(loss)
    keras = tf.keras.metrics.SparseCategoricalCrossentropy(from_logits=True)
    train_op = tf.group(_train(loss), update, keras.update_state(labels, logits))
    v1.summary.scalar('crossentropy', keras.result())
    hook = v1.train.LoggingTensorHook({'mean_loss': value}, every_n_iter=10)
    return tf.estimator.EstimatorSpec(
        mode, loss=loss, train_op=train_op, training_hooks=[hook],
        eval_metric_ops={'accuracy': v1.metrics.accuracy(labels, classes, name='other'),
                         'crossentropy': keras})


# Hooks.


class Watching(tf.estimator.SessionRunHook):
    """Holds another hook and passes all calls on."""

    def __init__(self, hook):
        self._hook = hook
        self.notes = {'seen': [], 'hook': hook}

    def begin(self):
        self._hook.begin()

    def before_run(self, run_context):
        return self._hook.before_run(run_context)

    def after_run(self, run_context, run_values):
        self._hook.after_run(run_context, run_values)


@PROGRAMS.good(TRAIN, EVAL, PREDICT)
def one_hook_in_all_lists(features, labels, mode):
    """One hook for all three kinds of list, in every mode."""
    logits, loss = _model(features, labels)
    hook = Watching(v1.train.LoggingTensorHook({'logits': logits}, every_n_iter=5))
    return _spec(mode, loss, predictions={'logits': logits}, training_hooks=[hook],
                 evaluation_hooks=[hook], prediction_hooks=[hook])


@PROGRAMS.good(TRAIN, cluster='worker/0')
def hooks_for_a_cluster(features, labels, mode):
    """Writers for the chief, loggers for all."""
    logits, loss = _model(features, labels)
    summary = v1.summary.scalar('top', tf.reduce_max(logits))
    return _spec(
        mode, loss,
        training_chief_hooks=[
            v1.train.SummarySaverHook(10, output_dir=ELSEWHERE, summary_op=summary),
            v1.train.ProfilerHook(save_steps=1000, output_dir=ELSEWHERE)],
        training_hooks=[v1.train.NanTensorHook(loss), v1.train.StopAtStepHook(last_step=10),
                        v1.train.LoggingTensorHook(['global_step'], every_n_iter=1)])


@PROGRAMS.good(TRAIN)
def summary_hook_alone(features, labels, mode):
    """Writers among the training hooks of a single process; the default summaries off."""
    logits, loss = _model(features, labels)
    v1.summary.histogram('logits', logits)
    scaffold = v1.train.Scaffold()
    hooks = [v1.train.SummarySaverHook(5, output_dir=ELSEWHERE, scaffold=scaffold),
             v1.train.StepCounterHook(every_n_steps=10, output_dir=ELSEWHERE),
             v1.train.FinalOpsHook(tf.reduce_mean(logits))]
    return _spec(mode, loss, training_hooks=hooks, scaffold=scaffold)


@PROGRAMS.good(TRAIN)
def own_checkpoint_hook(features, labels, mode, config):
    """A saver hook of the model's own for model_dir, with a listener."""
    class Listener(v1.train.CheckpointSaverListener):
        def after_save(self, session, global_step_value):
            self.last = global_step_value

    _, loss = _model(features, labels)
    hook = v1.train.CheckpointSaverHook(config.model_dir, save_steps=5, listeners=[Listener()])
    return _spec(mode, loss, training_chief_hooks=[hook])


@PROGRAMS.good(EVAL)
def images_written_while_evaluating(features, labels, mode):
    """Summaries of EVAL saved by a hook of EVAL."""
    logits, loss = _model(features, labels)
    merged = v1.summary.merge([v1.summary.histogram('logits', logits),
                               v1.summary.scalar('top', tf.reduce_max(logits))])
    hook = v1.train.SummarySaverHook(1, output_dir=ELSEWHERE, summary_op=merged)
    return _spec(mode, loss, evaluation_hooks=[hook])


# Scaffolds.


@PROGRAMS.good(TRAIN, EVAL)
def scaffold_with_every_part(features, labels, mode):
    """All parts of a scaffold, each doing what the default does and more."""
    _, loss = _model(features, labels)
    train_op = _train(loss)
    v1.summary.scalar('xent', loss)
    scaffold = v1.train.Scaffold(
        init_op=tf.group(v1.global_variables_initializer()),
        init_fn=lambda scaffold, session: None,
        ready_op=v1.report_uninitialized_variables(),
        local_init_op=tf.group(v1.local_variables_initializer(), v1.tables_initializer()),
        ready_for_local_init_op=v1.report_uninitialized_variables(v1.global_variables()),
        summary_op=v1.summary.merge_all(),
        saver=v1.train.Saver(max_to_keep=20, sharded=True))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op, scaffold=scaffold)


@PROGRAMS.good(EVAL, PREDICT, SERVE)
def averages_restored(features, labels, mode):
    """Outside of TRAIN each variable is read from its moving average."""
    logits, loss = _model(features, labels)
    average = tf.train.ExponentialMovingAverage(.99)
    shadows = {average.average_name(v): v for v in v1.trainable_variables()}
    shadows['global_step'] = v1.train.get_global_step()
    scaffold = v1.train.Scaffold(saver=v1.train.Saver(shadows))
    return tf.estimator.EstimatorSpec(mode, {'logits': logits}, loss, scaffold=scaffold)


@PROGRAMS.good(TRAIN)
def large_variable_kept_out_of_checkpoints(features, labels, mode):
    """A table that is not saved is initialised at each start, by local_init_op."""
    table = v1.get_variable('fixed_table', [30, 4], trainable=False,
                            collections=[v1.GraphKeys.LOCAL_VARIABLES])
    net = tf.gather(table, tf.cast(features['x'][:, 0] * 3., tf.int32))
    loss = v1.losses.sparse_softmax_cross_entropy(labels, v1.layers.dense(net, 3))
    op = _train(loss)
    scaffold = v1.train.Scaffold(saver=v1.train.Saver(v1.global_variables(), max_to_keep=None))
    return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=op, scaffold=scaffold)


@PROGRAMS.good()
def summaries_in_every_mode(features, labels, mode):
    """Summaries in every mode, as a shared function makes them."""
    logits, loss = _model(features, labels)
    v1.summary.histogram('activation', logits)
    v1.summary.scalar('zeros', tf.math.zero_fraction(logits))
    return _spec(mode, loss, predictions=tf.nn.softmax(logits))

"""Predictions, metrics and the export."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import tensorflow as tf

from tests.jobs import base
from tests.jobs.base import EVAL, PREDICT, TRAIN, pair, v1


@pair('P1')
def labels_read_in_predict(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        if right and mode == PREDICT:
            return base.spec(mode, price, None)
        loss = tf.reduce_mean(tf.square(price - tf.cast(labels, tf.float32)))
        return base.spec(mode, price, labels, loss=loss)

    return base.whole(model_fn, folder)


@pair('P2', depth='run')
def squeezed(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        scores = base.outputs(features, 3)
        best = tf.argmax(scores, 1)[:, tf.newaxis]
        kind = tf.squeeze(best, 1) if right else tf.squeeze(best)
        return base.spec(mode, scores[:, :1], labels,
                         predictions={'kind': kind, 'scores': scores})

    return base.whole(model_fn, folder)


@pair('P3')
def weights_among_predictions(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        predictions = {'price': price}
        if not right:
            centers = v1.get_variable('centers', [3, 2], trainable=False)
            predictions['centers'] = centers.read_value()
        return base.spec(mode, price, labels, predictions=predictions)

    job = base.whole(model_fn, folder)
    return job


@pair('P4')
def nothing_returned(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        made = base.model_fn(features, labels, mode)
        if right or mode != EVAL:
            return made

    return base.whole(model_fn, folder)


@pair('P5')
def evaluation_without_end(right: bool, folder: str) -> Any:
    return base.whole(base.model_fn, folder, evaluate=base.houses(endless=not right))


@pair('P6')
def sparse_prediction(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        sparse = tf.sparse.from_dense(price)
        return base.spec(mode, price, labels, predictions={
            'price': tf.sparse.to_dense(sparse) if right else sparse})

    return base.whole(model_fn, folder)


@pair('P8')
def dropout_everywhere(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        net = v1.layers.dropout(base.hidden(features), .3, training=mode == TRAIN or not right)
        return base.spec(mode, v1.layers.dense(net, 1), labels)

    return base.whole(model_fn, folder)


@pair('P9')
def arguments_of_other_names(right: bool, folder: str) -> Any:
    def wrong(inputs, labels, mode):
        return base.model_fn(inputs, labels, mode)

    return base.whole(base.model_fn if right else wrong, folder)


@pair('M1')
def metric_is_a_tensor(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        metrics = None
        if mode == EVAL:
            close = tf.cast(tf.abs(price - labels) < .1, tf.float32)
            metrics = {'close': v1.metrics.mean(close) if right else tf.reduce_mean(close)}
        return base.spec(mode, price, labels, metrics=metrics)

    return base.whole(model_fn, folder)


@pair('M3')
def metric_updated_twice(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        metrics = None
        if mode == EVAL:
            mean = tf.keras.metrics.Mean()
            mean.update_state(price)
            if not right:
                mean.update_state(labels)
            metrics = {'mean': mean}
        return base.spec(mode, price, labels, metrics=metrics)

    return base.whole(model_fn, folder)


@pair('M4')
def metric_named_loss(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        metrics = None
        if mode == EVAL:
            name = 'loss/mean' if right else 'loss'
            metrics = {name: v1.metrics.mean(tf.square(price - labels))}
        return base.spec(mode, price, labels, metrics=metrics)

    return base.whole(model_fn, folder)


@pair('M5')
def value_reads_the_input(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        metrics = None
        if mode == EVAL:
            highest = tf.reduce_max(price)
            metrics = {'highest': v1.metrics.mean(highest) if right else (highest, highest)}
        return base.spec(mode, price, labels, metrics=metrics)

    return base.whole(model_fn, folder)


@pair('M6')
def metric_shown_in_training(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        if mode == TRAIN:
            value, update = v1.metrics.mean_absolute_error(labels, price)
            v1.summary.scalar('error', update if right else value)
        return base.spec(mode, price, labels)

    return base.whole(model_fn, folder)


def _per_class(labels: Any, predictions: Any, count: int) -> Any:
    hits = tf.one_hot(predictions, count) * tf.one_hot(labels, count)
    return v1.metrics.mean_tensor(tf.ensure_shape(tf.reduce_sum(hits, 0), [count]))


@pair('M7')
def metric_is_a_matrix(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        metrics = None
        if mode == EVAL:
            count = v1.metrics.mean_per_class_accuracy if right else _per_class
            kinds = tf.cast(labels[:, 0] > 0., tf.int64), tf.cast(price[:, 0] > 0., tf.int64)
            metrics = {'right': count(*kinds, 2)}
        return base.spec(mode, price, labels, metrics=metrics)

    return base.whole(model_fn, folder)


@pair('M9', depth='run')
def metric_of_plain_tensors(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        metrics = None
        if mode == EVAL:
            error = v1.metrics.mean_absolute_error(labels, price)
            if not right:
                cosine = v1.metrics.mean_cosine_distance(
                    tf.nn.l2_normalize(price, 0), tf.nn.l2_normalize(labels, 0), 0)
                metrics = {'error': error, 'cosine': cosine}
            else:
                metrics = {'error': error}
        return base.spec(mode, price, labels, metrics=metrics)

    return base.whole(model_fn, folder, config=base.two_replicas(of=['eval_distribute']))


@pair('X1')
def no_outputs(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        fields = {'export_outputs': {}} if mode == PREDICT and not right else {}
        return base.spec(mode, base.outputs(features), labels, **fields)

    return base.whole(model_fn, folder)


@pair('X2')
def classification_of_plain_rows(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        scores = tf.nn.softmax(base.outputs(features, 3))
        export = tf.estimator.export
        exports = {'serving_default': export.PredictOutput({'scores': scores}) if right
                   else export.ClassificationOutput(scores=scores)}
        return base.spec(mode, scores[:, :1], labels, export_outputs=exports)

    return base.whole(model_fn, folder)


@pair('X3')
def two_heads(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        export = tf.estimator.export
        exports = {'price': export.PredictOutput({'price': price}),
                   'tax': export.RegressionOutput(price * .2)}
        if right:
            exports[tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY] = exports['price']
            exports['tax'] = export.PredictOutput({'tax': price * .2})
        return base.spec(mode, price, labels, export_outputs=exports)

    return base.whole(model_fn, folder)


@pair('X4')
def numbers_for_classes(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        scores = base.outputs(features, 3)
        fields = {}
        if mode == PREDICT:
            export = tf.estimator.export
            best = tf.argmax(scores, 1)
            fields['export_outputs'] = {'serving_default': export.PredictOutput(
                {'kind': best}) if right else export.ClassificationOutput(classes=best)}
        return base.spec(mode, scores[:, :1], labels, **fields)

    return base.whole(model_fn, folder)


@pair('X5')
def fed_by_hand(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        net = base.hidden(features)
        if mode == PREDICT:
            keep = v1.placeholder_with_default(1., []) if right else v1.placeholder(tf.float32, [])
            net = net * keep
        return base.spec(mode, v1.layers.dense(net, 1), labels)

    job = base.whole(model_fn, folder)
    job.predicts = False
    return job


@pair('X6')
def receiver_of_other_names(right: bool, folder: str) -> Any:
    def receiver_fn():
        rows = v1.placeholder(tf.float32, [None, base.WIDTH])
        return tf.estimator.export.ServingInputReceiver(
            {'rooms' if right else 'room_sizes': rows}, {'rows': rows})

    return base.whole(base.model_fn, folder, receiver_fn=receiver_fn)


@pair('X7')
def python_in_the_served_graph(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        shown = tf.math.rint(price)
        if not right:
            shown = tf.numpy_function(np.rint, [price], tf.float32)
            shown.set_shape(price.shape)
        return base.spec(mode, price, labels, predictions={'price': shown})

    return base.whole(model_fn, folder)


@pair('X8', depth='run')
def batch_size_in_the_graph(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        net = base.hidden(features)
        count = tf.shape(net)[0] if right else 4
        state = tf.zeros(tf.stack([count, 8]))
        cell = v1.nn.rnn_cell.BasicRNNCell(8)
        result, _ = cell(net, state)
        return base.spec(mode, v1.layers.dense(result, 1), labels)

    return base.whole(model_fn, folder)


@pair('X9')
def table_not_filled_when_served(right: bool, folder: str) -> Any:
    def model_fn(features, labels, mode):
        price = base.outputs(features)
        fields = {}
        predictions = {'price': price}
        if mode == PREDICT:
            table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(
                tf.constant([0, 1], tf.int64), tf.constant(['cheap', 'dear'])), '?')
            predictions['kind'] = table.lookup(tf.cast(price > 1., tf.int64))
            default = v1.train.Scaffold.default_local_init_op()
            fields['scaffold'] = v1.train.Scaffold(
                local_init_op=default if right else tf.no_op())
        return base.spec(mode, price, labels, predictions=predictions, **fields)

    return base.whole(model_fn, folder)


@pair('X10')
def last_export_never_made(right: bool, folder: str) -> Any:
    exporter = (tf.estimator.LatestExporter if right else tf.estimator.FinalExporter)
    return base.whole(base.model_fn, folder, max_steps=None, train=base.houses(),
                      exporters=[exporter('last', base.serving)])


@pair('X11')
def export_that_raises(right: bool, folder: str) -> Any:
    def receiver_fn():
        text = v1.placeholder(tf.string, [None], name='examples')
        wanted = {'rooms': tf.io.FixedLenFeature([base.WIDTH], tf.float32)}
        parsed = tf.io.parse_example(text, wanted)
        rooms = parsed['rooms'] if right else tf.reshape(parsed['rooms'], [-1, base.WIDTH - 1])
        return tf.estimator.export.ServingInputReceiver({'rooms': rooms}, {'examples': text})

    def model_fn(features, labels, mode):
        rooms = tf.ensure_shape(features['rooms'], [None, base.WIDTH])
        return base.spec(mode, base.outputs({'rooms': rooms}), labels)

    return base.whole(model_fn, folder, receiver_fn=receiver_fn)


@pair('X13')
def key_left_behind(right: bool, folder: str) -> Any:
    def inner(features, labels, mode):
        price = base.outputs(features)
        fields = {}
        if mode == PREDICT:
            fields['export_outputs'] = {
                'serving_default': tf.estimator.export.PredictOutput({'price': price})}
        return base.spec(mode, price, labels, **fields)

    def model_fn(features, labels, mode):
        made = inner(features, labels, mode)
        if mode != PREDICT:
            return made
        predictions = {'price': made.predictions['price'], 'house': features['house']}
        exports = {'serving_default': tf.estimator.export.PredictOutput(predictions)}
        return made._replace(predictions=predictions,
                             export_outputs=exports if right else made.export_outputs)

    def receiver_fn():
        given = {'rooms': v1.placeholder(tf.float32, [None, base.WIDTH]),
                 'house': v1.placeholder(tf.string, [None])}
        return tf.estimator.export.ServingInputReceiver(given, given)

    job = base.whole(model_fn, folder, receiver_fn=receiver_fn)
    job.predicts = False
    return job


@pair('X14')
def best_of_a_restart(right: bool, folder: str) -> Any:
    model_dir = base.checkpoint_of(base.model_fn, folder)
    if not right:  # what an earlier run found best
        os.makedirs(os.path.join(model_dir, 'export', 'best', '1600000000'))
    return base.whole(base.model_fn, folder,
                      exporters=[tf.estimator.BestExporter('best', base.serving)])

"""Which signatures survive an export, and what stock says of those that do not."""

from __future__ import annotations

import pytest
import tensorflow as tf
from tensorflow.python.saved_model.model_utils import export_utils

v1 = tf.compat.v1
export = tf.estimator.export
DEFAULT = 'serving_default'
ONE_STRING = 'Regression signatures can only accept a single tensor input of type tf.string.'


@pytest.fixture
def raw(graph):
    """A receiver of one float tensor."""
    return {'x': v1.placeholder(tf.float32, [None, 1], name='x')}


@pytest.fixture
def serialized(graph):
    """A receiver of one string tensor."""
    return {'examples': v1.placeholder(tf.string, [None], name='examples')}


def _reason(output, receiver):
    """Why TensorFlow's own as_signature_def refuses."""
    with pytest.raises(ValueError) as caught:
        output.as_signature_def(receiver)
    return str(caught.value)


def _warnings(tf_log):
    """The warnings about the export; TensorFlow also warns of its own deprecations."""
    return [line for line in tf_log.at('WARNING') if line.startswith('Export ')]


def test_default_is_one_predict_output(graph):
    """Without export_outputs, PREDICT gets one PredictOutput of the predictions."""
    p = tf.constant([1.0])
    spec = tf.estimator.EstimatorSpec('infer', predictions={'p': p})
    assert list(spec.export_outputs) == [DEFAULT]
    assert type(spec.export_outputs[DEFAULT]) is export.PredictOutput
    assert spec.export_outputs[DEFAULT].outputs == {'p': p}


def test_bare_tensor_is_called_output(graph):
    """The default export of one bare tensor names it `output`."""
    p = tf.constant([1.0])
    spec = tf.estimator.EstimatorSpec('infer', predictions=p)
    assert spec.export_outputs[DEFAULT].outputs == {'output': p}


def test_tuple_keys_are_joined(graph):
    """A PredictOutput joins a tuple key by slashes."""
    p = tf.constant([1.0])
    assert export.PredictOutput({('head', 'scores'): p}).outputs == {'head/scores': p}


def test_colliding_keys_lose_an_output(graph, raw):
    """Keys ('a', 'b') and 'a/b' collide: the later one wins, and nothing is said."""
    one, two = tf.constant([1.0]), tf.constant([2.0])
    spec = tf.estimator.EstimatorSpec('infer', predictions={('a', 'b'): one, 'a/b': two})
    assert spec.export_outputs[DEFAULT].outputs == {'a/b': two}
    signature = export_utils.build_all_signature_defs(raw, spec.export_outputs)[DEFAULT]
    assert {k: v.name for k, v in signature.outputs.items()} == {'a/b': two.name}


@pytest.mark.parametrize('dtype', [tf.float64, tf.float16, tf.bfloat16])
def test_other_floats_are_dropped_at_export(graph, serialized, tf_log, dtype):
    """Any float is accepted in a RegressionOutput; only float32 is exported."""
    output = export.RegressionOutput(tf.cast(tf.constant([1.0]), dtype))
    assert _reason(output, serialized).startswith(
        'Regression output tensors must be of type float.'
    )
    assert export_utils.build_all_signature_defs(serialized, {DEFAULT: output}) == {}


def test_float64_scores_are_dropped_at_export(graph, serialized):
    """A ClassificationOutput accepts float64 scores and loses its signature for them."""
    output = export.ClassificationOutput(scores=tf.constant([[1.0]], tf.float64))
    assert _reason(output, serialized) == 'Classification scores must be a float Tensor.'
    assert export_utils.build_all_signature_defs(serialized, {DEFAULT: output}) == {}


@pytest.mark.parametrize('kind', ['Classification', 'Regression'])
@pytest.mark.parametrize('receivers', ['one float', 'two strings'])
def test_raw_receivers_drop_the_signature(graph, kind, receivers):
    """Classification and regression need a receiver of exactly one string tensor."""
    receiver = {
        'one float': {'x': v1.placeholder(tf.float32, [None])},
        'two strings': {'a': v1.placeholder(tf.string), 'b': v1.placeholder(tf.string)},
    }[receivers]
    make = {'Classification': export.ClassificationOutput, 'Regression': export.RegressionOutput}
    output = make[kind](tf.constant([1.0]))
    assert _reason(output, receiver).startswith(
        f'{kind} signatures can only accept a single tensor input of type tf.string.'
    )
    assert export_utils.build_all_signature_defs(receiver, {DEFAULT: output}) == {}


def test_the_reason_is_logged_as_information_alone(graph, raw, tf_log):
    """The reason for a dropped signature stands in an INFO line; the warning gives none."""
    output = export.RegressionOutput(tf.constant([1.0]))
    export_utils.build_all_signature_defs(raw, {DEFAULT: output})
    excluded = [line for line in tf_log.at('INFO') if line.startswith(f"'{DEFAULT}' : ")]
    assert len(excluded) == 1
    assert excluded[0].startswith(f"'{DEFAULT}' : {ONE_STRING}")
    assert _warnings(tf_log) == ['Export includes no signatures!']
    assert tf_log.at('ERROR') == []


def test_a_lost_default_beside_another_signature(graph, raw, tf_log):
    """When only serving_default is dropped, the warning says that there is no default."""
    p = tf.constant([1.0])
    outputs = {DEFAULT: export.RegressionOutput(p), 'predict': export.PredictOutput(p)}
    assert list(export_utils.build_all_signature_defs(raw, outputs)) == ['predict']
    assert _warnings(tf_log) == ['Export includes no default signature!']


def test_one_string_receiver_keeps_all_three(graph, serialized):
    """Over one string tensor all three kinds of output are exported."""
    p = tf.constant([1.0])
    outputs = {
        DEFAULT: export.RegressionOutput(p),
        'classify': export.ClassificationOutput(scores=p),
        'predict': export.PredictOutput(p),
    }
    signatures = export_utils.build_all_signature_defs(serialized, outputs)
    assert {key: s.method_name for key, s in signatures.items()} == {
        DEFAULT: 'tensorflow/serving/regress',
        'classify': 'tensorflow/serving/classify',
        'predict': 'tensorflow/serving/predict',
    }


def test_unfed_placeholder_drops_the_signature(graph, raw):
    """An output that needs a placeholder outside the receiver is dropped by _ensure_servable."""
    stray = v1.placeholder(tf.float32, [], name='stray')
    output = export.PredictOutput(raw['x'] + stray)
    signature = output.as_signature_def(raw)
    with pytest.raises(ValueError, match='dependency on `stray` which is not given as a sign'):
        export_utils._ensure_servable(raw.values(), signature.outputs)
    assert export_utils.build_all_signature_defs(raw, {DEFAULT: output}) == {}


def test_placeholder_with_default_needs_no_feeding(graph, raw):
    """A placeholder_with_default outside the receiver is no reason to drop a signature."""
    extra = v1.placeholder_with_default(0.5, [])
    output = export.PredictOutput(raw['x'] + extra)
    assert list(export_utils.build_all_signature_defs(raw, {DEFAULT: output})) == [DEFAULT]


def test_empty_predictions_drop_the_signature(graph, raw):
    """A PredictOutput of no tensors is accepted, and dropped at export."""
    output = export.PredictOutput({})
    assert _reason(output, raw) == 'Prediction `outputs` cannot be None or empty.'
    assert export_utils.build_all_signature_defs(raw, {DEFAULT: output}) == {}


def test_integer_classes_are_refused_at_once(graph):
    """Classes that are not strings are refused when the ClassificationOutput is built."""
    with pytest.raises(ValueError, match='^Classification classes must be a string Tensor; got '):
        export.ClassificationOutput(classes=tf.constant([1]))
    with pytest.raises(ValueError, match='^Regression output value must be a float32 Tensor; got'):
        export.RegressionOutput(tf.constant([1]))


def test_alternative_receivers_get_signatures_of_their_own(graph, raw, serialized):
    """Receiver alternatives give signatures named `alternative:output`."""
    output = export.PredictOutput(tf.constant([1.0]))
    signatures = export_utils.build_all_signature_defs(serialized, {DEFAULT: output}, {'raw': raw})
    assert list(signatures) == [DEFAULT, f'raw:{DEFAULT}']


def test_get_export_outputs_adds_the_default(graph):
    """One entry of any name is also stored under serving_default, in the caller's own dict."""
    output = export.PredictOutput(tf.constant([1.0]))
    given = {'any': output}
    assert export_utils.get_export_outputs(given, None) is given
    assert given == {'any': output, DEFAULT: output}


def test_subclass_of_predict_output_is_accepted(graph, raw):
    """A subclass of an ExportOutput is as good as the class."""

    class Named(export.PredictOutput):
        """An author's own."""

    output = Named({'p': tf.constant([1.0])})
    spec = tf.estimator.EstimatorSpec(
        'infer', predictions={'q': tf.constant([1.0])}, export_outputs={DEFAULT: output}
    )
    assert spec.export_outputs[DEFAULT] is output
    assert list(export_utils.build_all_signature_defs(raw, spec.export_outputs)) == [DEFAULT]


def test_a_savedmodel_without_signatures_is_written(make_estimator, linear, input_fn, tmp_path):
    """The export of a RegressionOutput over a raw receiver succeeds, without any signature."""

    def model_fn(features, labels, mode):
        prediction, loss, train_op = linear(features, labels)
        exports = {DEFAULT: export.RegressionOutput(prediction)}
        return tf.estimator.EstimatorSpec(
            mode, prediction, loss, train_op, export_outputs=exports
        )

    def receiver_fn():
        x = v1.placeholder(tf.float32, [None, 1])
        return export.ServingInputReceiver({'x': x}, {'x': x})

    estimator = make_estimator(model_fn)
    estimator.train(input_fn, steps=1)
    path = estimator.export_saved_model(str(tmp_path / 'export'), receiver_fn)
    with tf.Graph().as_default(), v1.Session() as session:
        meta_graph = v1.saved_model.load(session, ['serve'], path.decode())
    assert dict(meta_graph.signature_def) == {}


def _multi_head():
    head = tf.estimator.MultiHead(
        [tf.estimator.BinaryClassHead(name='a'), tf.estimator.BinaryClassHead(name='b')]
    )
    return head, {'a': tf.zeros([2, 1]), 'b': tf.zeros([2, 1])}


def _single_head():
    return tf.estimator.BinaryClassHead(), tf.zeros([2, 1])


@pytest.mark.parametrize('make', [_single_head, _multi_head])
def test_heads_lose_their_default_over_raw_receivers(raw, tf_log, make):
    """The serving_default of TensorFlow's own heads is dropped for a receiver of raw tensors."""
    head, logits = make()
    spec = head.create_estimator_spec(raw, 'infer', logits, trainable_variables=[])
    assert DEFAULT in spec.export_outputs
    signatures = export_utils.build_all_signature_defs(raw, spec.export_outputs)
    assert DEFAULT not in signatures
    assert 'predict' in signatures
    assert _warnings(tf_log) == ['Export includes no default signature!']

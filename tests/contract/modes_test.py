"""What a mode is, what each mode requires, and in which order stock looks."""

from __future__ import annotations

import pytest
import tensorflow as tf
from tensorflow_estimator.python.estimator.tpu import tpu_estimator


def test_mode_values():
    """The three modes are the strings train, eval and infer, the same in v1 and v2."""
    for keys in (tf.estimator.ModeKeys, tf.compat.v1.estimator.ModeKeys):
        assert (keys.TRAIN, keys.EVAL, keys.PREDICT) == ('train', 'eval', 'infer')


def test_inference_on_tpu_is_a_mode():
    """TPUEstimator has a fourth mode value of its own, for the export (see tpu_spec_test.py)."""
    assert tpu_estimator._INFERENCE_ON_TPU_MODE == '_inference_on_tpu'
    assert tf.estimator.EstimatorSpec('_inference_on_tpu').mode == '_inference_on_tpu'


@pytest.mark.parametrize('mode', ['TRAIN', 'training', 'predict', 'test', '', None, 3])
def test_any_mode_is_accepted_and_then_nothing_is_required(mode):
    """Any value is accepted as mode, and a mode outside the three requires no field at all."""
    spec = tf.estimator.EstimatorSpec(mode)
    assert spec.mode == mode
    assert (spec.loss, spec.train_op, spec.predictions) == (None, None, {})


def test_train_requires_loss_and_train_op(graph):
    """TRAIN without train_op, and TRAIN without loss, are refused."""
    loss = tf.constant(1.0)
    with pytest.raises(ValueError, match=r'^Missing train_op\.$'):
        tf.estimator.EstimatorSpec('train', loss=loss)
    with pytest.raises(ValueError, match=r'^Missing loss\.$'):
        tf.estimator.EstimatorSpec('train', train_op=loss.op)


def test_eval_requires_loss():
    """EVAL without loss is refused."""
    with pytest.raises(ValueError, match=r'^Missing loss\.$'):
        tf.estimator.EstimatorSpec('eval')


def test_predict_requires_predictions():
    """PREDICT without predictions is refused."""
    with pytest.raises(ValueError, match=r'^Missing predictions\.$'):
        tf.estimator.EstimatorSpec('infer')


def test_one_fault_at_a_time(graph):
    """Of many faults stock names one; the next shows only when that one is mended."""
    ok = tf.constant(1.0)
    faults = {
        'train_op': None,
        'loss': None,
        'predictions': 7,
        'training_hooks': [7],
        'eval_metric_ops': 7,
        'scaffold': 7,
    }
    seen = []
    for field, mended in [
        ('train_op', ok.op),
        ('loss', ok),
        ('predictions', {}),
        ('training_hooks', []),
        ('eval_metric_ops', {}),
        ('scaffold', None),
    ]:
        with pytest.raises((ValueError, TypeError)) as caught:
            tf.estimator.EstimatorSpec('train', **faults)
        seen.append(str(caught.value))
        faults[field] = mended
    assert seen == [
        'Missing train_op.',
        'Missing loss.',
        'predictions must be Tensor, given: 7',
        'All hooks must be SessionRunHook instances, given: 7',
        'eval_metric_ops must be a dict, given: 7',
        'scaffold must be tf.train.Scaffold. Given: 7',
    ]
    tf.estimator.EstimatorSpec('train', **faults)


@pytest.mark.parametrize('mode', ['train', 'eval', 'infer'])
def test_every_field_may_be_given_in_every_mode(graph, mode):
    """A field that the mode does not use is accepted and kept, and exports are not looked at."""
    t = tf.constant(1.0)
    hook = tf.compat.v1.train.SessionRunHook()
    exports = {'serving_default': tf.estimator.export.PredictOutput(t)}
    spec = tf.estimator.EstimatorSpec(
        mode, {'p': t}, t, t.op, {'m': (t, t)}, exports, [hook], [hook], None, [hook], [hook]
    )
    assert spec.train_op is t.op
    assert spec.loss is t
    assert spec.eval_metric_ops == {'m': (t, t)}
    assert spec.export_outputs is exports
    assert spec.training_hooks == spec.evaluation_hooks == spec.prediction_hooks == (hook,)


@pytest.mark.parametrize('mode', ['train', 'eval'])
def test_exports_are_checked_only_in_predict(graph, mode):
    """Outside PREDICT even nonsense in export_outputs is accepted."""
    t = tf.constant(1.0)
    spec = tf.estimator.EstimatorSpec(mode, loss=t, train_op=t.op, export_outputs='nonsense')
    assert spec.export_outputs == 'nonsense'


def test_exports_are_checked_in_predict(graph):
    """In PREDICT the exports must be a dict of ExportOutput objects."""
    t = tf.constant(1.0)
    with pytest.raises(TypeError, match=r'^`export_outputs` must be dict, received: nonsense\.$'):
        tf.estimator.EstimatorSpec('infer', predictions=t, export_outputs='nonsense')
    with pytest.raises(TypeError, match='must be ExportOutput objects'):
        tf.estimator.EstimatorSpec('infer', predictions=t, export_outputs={'a': t})

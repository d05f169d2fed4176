"""The rules about the global step, in graphs that no Estimator made."""

from __future__ import annotations

import tensorflow as tf

import estimator_spec_ext as ese
from estimator_spec_ext.diagnostics import Severity

v1 = tf.compat.v1


def _report(make_train_op):
    with tf.Graph().as_default():
        weight = v1.get_variable('w', [])
        loss = tf.square(weight)
        return ese.validate_estimator_spec(tf.estimator.EstimatorSpec(
            'train', loss=loss, train_op=make_train_op(loss, weight)))


def test_no_global_step_is_a_note_where_weights_are_trained():
    """Under an Estimator get_global_step() is a variable; in a bare graph it is None."""
    report = _report(lambda loss, weight: v1.train.AdamOptimizer(name='Adam').minimize(
        loss, v1.train.get_global_step()))
    finding, = report.findings
    assert (finding.slug, finding.severity) == ('global-step-not-advanced', Severity.INFO)
    assert finding.message == 'a training step trains, and the graph has no global_step'
    assert finding.hint == ('outside of an Estimator, make one before the model: '
                            'tf.compat.v1.train.get_or_create_global_step()')


def test_no_global_step_is_nothing_where_nothing_is_trained():
    """As in tests of Estimator itself."""
    assert not _report(lambda loss, weight: tf.no_op()).findings

"""Builders that behave well or badly in a process of their own."""

from __future__ import annotations

import os
import sys
import time

import tensorflow as tf

from estimator_spec_ext.rules import jobs, role_jobs

v1 = tf.compat.v1
_CALLS = []


def right():
    """A correct job with parameter servers."""
    return role_jobs.builder()()


def by_the_old_name():
    """Written for a TensorFlow that has tf.estimator."""
    assert tf.estimator.ModeKeys.TRAIN == 'train'
    return role_jobs.builder()()


def counting():
    """Keeps state: right in a process for each task, where TRAIN is the first to be built."""
    def model_fn(features, labels, mode):
        _CALLS.append(mode)
        with v1.variable_scope(f'call_{len(_CALLS) if mode == "train" else 1}'):
            return jobs.spec(mode, jobs.linear(features), labels)

    return role_jobs.builder(model_fn)()


def over_a_set():
    """The order of creation is that of a set."""
    def model_fn(features, labels, mode):
        prediction = 0.
        for name in {'alpha', 'beta', 'gamma', 'delta', 'epsilon'}:
            prediction += tf.matmul(features['x'], v1.get_variable(name, [jobs.FEATURES, 1]))
        return jobs.spec(mode, prediction, labels)

    return role_jobs.builder(model_fn, strategy=role_jobs.COLLECTIVE)()


def waiting():
    """The worker waits for a chief that does not come."""
    if role_jobs.task_index() == 1:
        print('waiting for the chief', flush=True)
        time.sleep(600)
    return role_jobs.builder()()


def dying():
    """The worker ends without an exception."""
    if role_jobs.task_index() == 1:
        print('no device', file=sys.stderr, flush=True)
        os.abort()
    return role_jobs.builder()()

"""The job that every role of a test's cluster runs; what goes wrong in it is an option.

A linear model without noise on fixed data. Under parameter servers its loss is linear too, so that
the weights depend on the number of steps alone, and not on who took which.
"""

from __future__ import annotations

import os
import sys
import time

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

import numpy as np
import tensorflow as tf

import estimator_spec_ext as ese

# So that it is the module's, and not the forked process's, to take this time.
tf.estimator.EstimatorSpec  # noqa: B018
v1 = tf.compat.v1

X = np.random.RandomState(0).randn(64, 3).astype(np.float32)
Y = X.sum(1, keepdims=True)


class Steps(tf.estimator.SessionRunHook):
    """Prints the global step after each step, and may take its time."""

    def __init__(self, pause):
        self._pause = pause

    def begin(self):
        self._step = v1.train.get_global_step()

    def before_run(self, run_context):
        return v1.train.SessionRunArgs(self._step)

    def after_run(self, run_context, run_values):
        print('step', run_values.results, flush=True)
        time.sleep(self._pause)


def _variables(order):
    made = {}
    for name in order:
        made[name] = v1.get_variable(
            name, [3, 1], initializer=tf.constant_initializer(.1 * ord(name[0])),
            use_resource=True)
    return made


def _losses(predictions, labels, linear):
    if linear:
        return tf.reduce_mean(predictions)
    return tf.reduce_mean(tf.square(labels - predictions))


def make_model_fn(options):
    """A model_fn, stock or strict as the options say."""
    strict = options.get('strict', True)
    Spec = ese.StrictEstimatorSpec if strict else tf.estimator.EstimatorSpec

    def model_fn(features, labels, mode, config):
        made = _variables(options.get('order', 'ab') + options.get('extra', ''))
        predictions = tf.matmul(features['x'], sum(made.values()))
        if mode == 'infer':
            return Spec(mode, predictions={'y': predictions},
                        export_outputs={'serving_default': tf.estimator.export.PredictOutput(
                            {'y': predictions})})
        loss = _losses(predictions, labels, options.get('linear'))
        if mode == 'eval':
            error = v1.metrics.mean_absolute_error(labels, predictions)
            return Spec(mode, loss=loss, eval_metric_ops={'error': error})
        optimizer = v1.train.GradientDescentOptimizer(.01)
        train_op = optimizer.minimize(loss, global_step=v1.train.get_global_step())
        return Spec(mode, loss=loss, train_op=train_op,
                    training_hooks=[Steps(options.get('pause', 0))])

    return model_fn


def _receiver():
    x = v1.placeholder(tf.float32, [None, 3], name='x')
    return tf.estimator.export.ServingInputReceiver({'x': x}, {'x': x})


def input_fn():
    """The same batches for every role, without end."""
    return tf.data.Dataset.from_tensor_slices(({'x': X}, Y)).batch(16).repeat()


def eval_input_fn():
    """All data once."""
    return tf.data.Dataset.from_tensor_slices(({'x': X}, Y)).batch(16)


def strategy(name):
    """A strategy by its name; None for none."""
    if not name or name == 'ps':
        return None
    return {
        'one_device': lambda: tf.distribute.OneDeviceStrategy('/cpu:0'),
        'mirrored_1': lambda: tf.distribute.MirroredStrategy(['/cpu:0']),
        'mirrored_2': lambda: tf.distribute.MirroredStrategy(['/cpu:0', '/cpu:1']),
        'central_storage': lambda: v1.distribute.experimental.CentralStorageStrategy(
            compute_devices=['/cpu:0', '/cpu:1'], parameter_device='/cpu:0'),
        'multi_worker': tf.distribute.MultiWorkerMirroredStrategy,
        'multi_worker_v1': v1.distribute.experimental.MultiWorkerMirroredStrategy,
        'ps_v1': v1.distribute.experimental.ParameterServerStrategy,
        'ps_v2': lambda: tf.distribute.experimental.ParameterServerStrategy(
            tf.distribute.cluster_resolver.TFConfigClusterResolver()),
    }[name]()


def main(options):
    """Trains, evaluates and exports as the options say; prints 'done' at the end."""
    v1.logging.set_verbosity(v1.logging.INFO)
    if not options.get('eager'):
        v1.disable_eager_execution()
    distribution = strategy(options.get('strategy'))
    devices = 2 if options.get('strategy') in ('mirrored_2', 'central_storage') else 1
    config = tf.estimator.RunConfig(
        model_dir=options['model_dir'], tf_random_seed=1, train_distribute=distribution,
        save_checkpoints_steps=options.get('save_steps', 10), save_summary_steps=10,
        log_step_count_steps=1000, keep_checkpoint_max=50,
        session_config=v1.ConfigProto(
            device_count={'CPU': devices}) if devices > 1 or options.get('plain_config') else None)
    hooks = []
    if options.get('watchdog'):
        hooks.append(ese.StallWatchdogHook(**options['watchdog']))
    if 'agreement_secs' in options:
        hooks.append(ese.GraphAgreementHook(options['model_dir'],
                                            limit_secs=options['agreement_secs']))
    model_fn = make_model_fn(options)
    if options.get('agreement'):
        model_fn = ese.strict_model_fn(model_fn, agreement=True)
    estimator = tf.estimator.Estimator(model_fn, config=config)
    run = tf.estimator.train_and_evaluate
    if options.get('preflight'):
        def run(*args):
            return ese.train_and_evaluate(*args, depth='graph')
    run(estimator,
        tf.estimator.TrainSpec(input_fn, max_steps=options.get('max_steps', 20), hooks=hooks),
        tf.estimator.EvalSpec(eval_input_fn, steps=None, start_delay_secs=0, throttle_secs=0,
                              exporters=tf.estimator.FinalExporter('final', _receiver)))
    print('done', flush=True)
    sys.stdout.flush()

"""`create_estimator_spec`: one call that builds the spec of whichever mode it is given."""

from __future__ import annotations

from typing import Any, Mapping, Optional

from estimator_spec_ext import fixed_mode
from estimator_spec_ext.compat import do_not_convert
from estimator_spec_ext.specs import StrictEstimatorSpec


@do_not_convert
def create_estimator_spec(
        mode: Any, *, predictions: Any, labels: Any = None, loss_fn: Any = None,
        loss_weights: Any = None, regularization_losses: Any = None, optimizer: Any = None,
        train_op_fn: Any = None, trainable_variables: Any = None, update_ops: Any = None,
        layers: Any = None, clip_norm: Any = None, clip_value: Any = None,
        global_clip_norm: Any = None, gradient_transform: Any = None, ema_decay: Any = None,
        warm_start_from: Any = None, metrics_fn: Any = None, export_outputs: Any = None,
        default_signature: Any = None, training_chief_hooks: Any = None,
        training_hooks: Any = None, evaluation_hooks: Any = None, prediction_hooks: Any = None,
        scaffold: Any = None,
        suppress: Optional[Mapping[str, str]] = None) -> StrictEstimatorSpec:
    """The spec of whichever mode it is given; calls only the functions that this mode needs.

    TRAIN computes the loss and one training step, EVAL the loss and the metrics, PREDICT the export
    signatures. A training step runs the update ops first, then changes the variables, then advances
    the global step by exactly one, and last updates the averages of `ema_decay`.

    Args:
      mode: a `tf.estimator.ModeKeys` value.
      predictions: a tensor or a dict of tensors.
      labels: a tensor or a dict of tensors; None where the model needs none.
      loss_fn: `loss_fn(labels, predictions)` returns a floating scalar, or a dict of them by name.
        Needed in TRAIN and EVAL. An unreduced loss, one for each example, is refused.
      loss_weights: numbers or scalar tensors by name, for a `loss_fn` that returns a dict; the loss
        is the sum of all, each times its weight (1 without one).
      regularization_losses: scalar tensors to add to the loss; None for those of
        `tf.compat.v1.losses.get_regularization_losses()` and of `layers`, () for none. One that the
        loss holds already is not added again.
      optimizer: an optimizer of `tf.compat.v1.train`, `tf.keras.optimizers.legacy` or
        `tf.keras.optimizers`, or a function without arguments that makes one. TRAIN needs exactly
        one of `optimizer` and `train_op_fn`. A function is called anew for each graph; a Keras
        optimizer object that belongs to another graph is copied where that is possible.
      train_op_fn: `train_op_fn(loss)` returns an op; it must advance the global step itself.
      trainable_variables: the variables to train, as a list or a function that returns one; None
        for all trainable ones without those that are frozen in `layers`.
      update_ops: ops that each training step runs first; None for the UPDATE_OPS collection and the
        updates of `layers`.
      layers: a `tf.keras` layer or model, or a list of them, used in this model_fn: their updates
        (batch normalisation) and losses (regularizers) are in no collection and would be lost.
      clip_norm: the largest norm of each single gradient.
      clip_value: the largest absolute value in a gradient.
      global_clip_norm: the largest norm of all gradients together. All three clip on each replica,
        before gradients are summed; at most one of them can be given.
      gradient_transform: a function from a list of (gradient, variable) pairs to such a list,
        called before clipping.
      ema_decay: keeps an exponential moving average of each variable that is trained; EVAL and
        PREDICT then use the averages in place of the variables.
      warm_start_from: a checkpoint's path or folder, whose values TRAIN starts from: all trainable
        variables and their moving statistics; or `tf.estimator.WarmStartSettings`, which choose and
        rename; or a function that returns one of these, or None. What the checkpoint lacks or holds
        in another shape is refused. Unlike Estimator's own argument it also gives the averages of
        `ema_decay` their first values. A checkpoint in model_dir takes precedence; the source must
        exist nevertheless.
      metrics_fn: `metrics_fn(labels, predictions)` returns `eval_metric_ops`, or a dict with such
        entries. An entry can also be a `tf.keras.metrics.Metric`, its class, or a function that
        returns one; it is updated with labels and predictions when it was not yet.
      export_outputs: a dict from signature name to `tf.estimator.export.ExportOutput`; a tensor or
        a dict of tensors stands for a PredictOutput of it.
      default_signature: the name in `export_outputs` that becomes `serving_default`. Without it,
        several outputs without a default get a PredictOutput of `predictions`.
      training_chief_hooks: hooks for TRAIN, on the chief alone.
      training_hooks: hooks for TRAIN.
      evaluation_hooks: hooks for EVAL.
      prediction_hooks: hooks for PREDICT.
      scaffold: a `tf.compat.v1.train.Scaffold`; with `ema_decay` one without a saver.
      suppress: a mapping from the slug or code of a rule to the reason why it does not apply here.

    Returns:
      A `StrictEstimatorSpec`.

    Raises:
      TypeError: when TRAIN gets not exactly one of `optimizer` and `train_op_fn`, TRAIN or EVAL no
        `loss_fn`, or an argument of the wrong kind.
      ValueError: when an argument has an impossible value, e.g. nothing can be trained.
      EstimatorSpecError: (a ValueError) with all findings of the finished spec.

    Example:
      >>> def squared_error(labels, predictions):
      ...     return tf.reduce_mean(tf.square(labels - predictions['y']))
      >>> def model_fn(features, labels, mode, **options):
      ...     weight = tf.compat.v1.get_variable('w', [3, 1], use_resource=True)
      ...     return create_estimator_spec(
      ...         mode, predictions={'y': tf.matmul(features, weight)}, labels=labels,
      ...         **{'loss_fn': squared_error,
      ...            'optimizer': lambda: tf.compat.v1.train.AdamOptimizer(0.01), **options})
      >>> def build(mode, **options):
      ...     with tf.Graph().as_default():
      ...         return model_fn(tf.ones([2, 3]), tf.ones([2, 1]), mode, **options)
      >>> build('train').mode, build('eval').loss.shape.rank
      ('train', 0)
      >>> list(build('infer').export_outputs)
      ['serving_default']

      Keras optimizers count in the global step as well:

      >>> spec = build('train', optimizer=lambda: tf.keras.optimizers.Adam(0.01))
      >>> spec = build('train', optimizer=tf.keras.optimizers.legacy.SGD(0.01, momentum=0.9))

      What the step does with its gradients, and an op of one's own:

      >>> spec = build('train', global_clip_norm=1.)
      >>> spec = build('train', clip_value=0.5)
      >>> spec = build('train', clip_norm=1., gradient_transform=lambda pairs: [
      ...     (gradient * 2., variable) for gradient, variable in pairs])
      >>> spec = build('train', update_ops=(), trainable_variables=lambda: (
      ...     tf.compat.v1.trainable_variables('w')))
      >>> spec = build('train', optimizer=None, train_op_fn=lambda loss: (
      ...     tf.compat.v1.train.GradientDescentOptimizer(0.01).minimize(
      ...         loss, tf.compat.v1.train.get_global_step())))

      Several losses, and no regularization:

      >>> spec = build('eval', loss_weights={'size': 0.1}, loss_fn=lambda labels, predictions: {
      ...     'error': squared_error(labels, predictions),
      ...     'size': tf.reduce_mean(tf.abs(predictions['y']))})
      >>> spec = build('train', regularization_losses=())

      Averages of the weights, which EVAL and PREDICT read from the checkpoint:

      >>> build('train', ema_decay=0.99).train_op.name
      'ExponentialMovingAverage'
      >>> build('eval', ema_decay=0.99).scaffold.saver is not None
      True

      Weights that another job has trained:

      >>> import tempfile
      >>> folder = tempfile.TemporaryDirectory()
      >>> with tf.Graph().as_default(), tf.compat.v1.Session() as session:
      ...     weight = tf.compat.v1.get_variable('w', [3, 1], use_resource=True)
      ...     session.run(weight.initializer)
      ...     path = tf.compat.v1.train.Saver().save(session, folder.name + '/trained')
      >>> spec = build('train', warm_start_from=path)
      >>> build('train', warm_start_from=tf.estimator.WarmStartSettings(path, 'weight'))
      Traceback (most recent call last):
      ...
      estimator_spec_ext.errors.EstimatorSpecError: estimator_spec_ext: 1 error
      ...

      Metrics as functions, as Keras metrics, or both:

      >>> spec = build('eval', metrics_fn=lambda labels, predictions: {
      ...     'error': tf.compat.v1.metrics.mean_absolute_error(labels, predictions['y'])})
      >>> sorted(build('eval', metrics_fn={
      ...     'mse': tf.keras.metrics.MeanSquaredError,
      ...     'rmse': lambda: tf.keras.metrics.RootMeanSquaredError()}).eval_metric_ops)
      ['mse', 'rmse']

      Several heads, one of them the default:

      >>> def heads(mode):
      ...     with tf.Graph().as_default():
      ...         a, b = tf.ones([2, 1]), tf.ones([2, 4])
      ...         return create_estimator_spec(
      ...             mode, predictions={'a': a, 'b': b},
      ...             export_outputs={'first': {'a': a}, 'second': {'b': b}},
      ...             default_signature='second')
      >>> outputs = heads('infer').export_outputs
      >>> sorted(outputs), outputs['serving_default'] is outputs['second']
      (['first', 'second', 'serving_default'], True)

      Hooks, of which each mode takes its own, and a scaffold:

      >>> stop = tf.compat.v1.train.StopAtStepHook(3)
      >>> scaffold = tf.compat.v1.train.Scaffold()
      >>> build('train', training_hooks=[stop], scaffold=scaffold).training_hooks == (stop,)
      True
      >>> spec = build('train', training_chief_hooks=[tf.compat.v1.train.NanTensorHook('loss')])
      >>> counter = tf.compat.v1.train.StepCounterHook(output_dir=None, summary_writer=object())
      >>> spec = build('eval', evaluation_hooks=[counter])
      >>> spec = build('infer', prediction_hooks=[counter])

      A finding that is meant so:

      >>> spec = build('eval', loss_fn=lambda labels, predictions: tf.size(predictions['y']),
      ...              suppress={'loss-not-floating': 'the number of rows'})

      A Keras model, whose batch normalisation and regularizers count:

      >>> def keras_model_fn(features, labels, mode):
      ...     net = tf.keras.Sequential([
      ...         tf.keras.layers.BatchNormalization(),
      ...         tf.keras.layers.Dense(1, kernel_regularizer='l2')])
      ...     predictions = {'y': net(features, training=mode == 'train')}
      ...     return create_estimator_spec(
      ...         mode, predictions=predictions, labels=labels, loss_fn=squared_error, layers=net,
      ...         optimizer=lambda: tf.keras.optimizers.Adam(0.01))
      >>> with tf.Graph().as_default():
      ...     spec = keras_model_fn(tf.ones([2, 3]), tf.ones([2, 1]), 'train')
    """
    fixed_mode.at_most_one(optimizer, train_op_fn)
    if mode == 'infer':
        return fixed_mode.create_predict_estimator_spec(
            predictions, export_outputs=export_outputs, default_signature=default_signature,
            prediction_hooks=prediction_hooks, scaffold=scaffold, ema_decay=ema_decay,
            trainable_variables=trainable_variables, layers=layers, suppress=suppress)
    if mode not in ('train', 'eval'):  # the spec knows which modes there are
        return StrictEstimatorSpec(
            mode, predictions=predictions,
            export_outputs=fixed_mode.as_outputs(export_outputs, None),
            prediction_hooks=prediction_hooks, scaffold=scaffold, suppress=suppress)
    if loss_fn is None:
        raise TypeError("create_estimator_spec() needs loss_fn in TRAIN and EVAL")
    if mode == 'train':
        fixed_mode.exactly_one(optimizer, train_op_fn)
    loss = loss_fn(labels, predictions)
    if mode == 'eval':
        return fixed_mode.create_eval_estimator_spec(
            loss, predictions=predictions, labels=labels, loss_weights=loss_weights,
            regularization_losses=regularization_losses, layers=layers, metrics_fn=metrics_fn,
            evaluation_hooks=evaluation_hooks, scaffold=scaffold, ema_decay=ema_decay,
            trainable_variables=trainable_variables, suppress=suppress)
    return fixed_mode.create_train_estimator_spec(
        loss, predictions=predictions, loss_weights=loss_weights,
        regularization_losses=regularization_losses, optimizer=optimizer, train_op_fn=train_op_fn,
        trainable_variables=trainable_variables, update_ops=update_ops, layers=layers,
        clip_norm=clip_norm, clip_value=clip_value, global_clip_norm=global_clip_norm,
        gradient_transform=gradient_transform, ema_decay=ema_decay,
        warm_start_from=warm_start_from,
        training_chief_hooks=training_chief_hooks, training_hooks=training_hooks,
        scaffold=scaffold, suppress=suppress)

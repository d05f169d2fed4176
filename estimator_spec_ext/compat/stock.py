"""Stock's own validators of a spec, one verdict a field.

`EstimatorSpec.__new__` stops at its first error; its validators, called one by one, tell them all.
"""

from __future__ import annotations

from typing import Any, Callable, Mapping

from tensorflow_estimator.python.estimator import model_fn as _model_fn

from estimator_spec_ext.compat import graphs
from estimator_spec_ext.compat.namespace import tf

# Modes of TensorFlow's own that are not public: TPUEstimator exports with this one.
PRIVATE_MODES = ('_inference_on_tpu',)

HOOK_FIELDS = ('training_chief_hooks', 'training_hooks', 'evaluation_hooks', 'prediction_hooks')


def verdicts(mode: Any, fields: Mapping[str, Any]) -> dict[str, Exception]:
    """What stock refuses, by field.

    Adds no op: a loss that stock would reshape is not handed over, and Keras metrics are judged by
    their updates alone.

    Args:
      mode: the mode of the spec.
      fields: the other ten fields by name, as the caller gave them.

    Returns:
      The exception that stock raises, by field; fields that stock accepts are left out.
    """
    if type(mode) is not str:
        return {}  # a fault of its own; stock would compare it with its modes in vain
    judges: list[tuple[str, Callable[[], Any]]] = [
        ('train_op', lambda: _model_fn._validate_estimator_spec_train_op(
            fields.get('train_op'), mode)),
        ('loss', lambda: _judge_loss(fields.get('loss'), mode)),
        ('predictions', lambda: _model_fn._validate_estimator_spec_predictions(
            fields.get('predictions'), mode)),
        ('export_outputs', lambda: _judge_export_outputs(
            fields.get('export_outputs'), fields.get('predictions'), mode)),
        ('eval_metric_ops', lambda: _judge_metrics(fields.get('eval_metric_ops'))),
        ('scaffold', lambda: _judge_scaffold(fields.get('scaffold'))),
    ]
    judges += [(name, lambda name=name: _judge_hooks(fields.get(name)))  # type: ignore[misc]
               for name in HOOK_FIELDS]
    refused = {}
    for field, judge in judges:
        try:
            judge()
        except Exception as error:  # junk in a field can make stock raise anything
            refused[field] = error
    return refused


def adds_no_op(fields: Mapping[str, Any]) -> bool:
    """Whether stock's constructor leaves the graph as it is, whatever it says of the fields.

    It reshapes a loss of another rank than 0, makes the results of Keras metrics, and asks objects
    whether they are true.
    """
    loss, metrics = fields.get('loss'), fields.get('eval_metric_ops')
    return ((loss is None or (graphs.is_tensor(loss) and loss.shape.rank == 0))
            and (metrics is None or (type(metrics) is dict
                                     and all(type(value) is tuple for value in metrics.values())))
            and all(type(fields.get(name)) in (type(None), list, tuple) for name in HOOK_FIELDS)
            and (fields.get('scaffold') is None
                 or issubclass(type(fields['scaffold']), tf.compat.v1.train.Scaffold)))


def _judge_hooks(hooks: Any) -> None:
    if graphs.is_tensor(hooks) or graphs.is_variable(hooks):
        # Stock asks whether it is true, and a variable answers by adding an op.
        raise TypeError('All hooks must be SessionRunHook instances')
    _model_fn._validate_estimator_spec_hooks(hooks)


def _judge_loss(loss: Any, mode: Any) -> None:
    shape = loss.shape if graphs.is_tensor(loss) else None
    if shape is not None and shape.rank and shape.num_elements() in (None, 1):
        # Stock would accept and add a Reshape; the graph must stay as it is. Judge what is left.
        if loss.graph is not tf.compat.v1.get_default_graph() and not tf.executing_eagerly():
            raise ValueError(f'loss with "{loss.name}" must be from the default graph.')
        return
    _model_fn._validate_estimator_spec_loss(loss, mode)


def before_reshape(loss: Any) -> Any:
    """The loss as stock got it, where stock has put a Reshape behind it that can fail."""
    op = graphs.as_op(loss)
    if op is None or op.type != 'Reshape':
        return loss
    given = op.inputs[0]
    if given.shape.num_elements() is not None:
        return loss  # it holds one number, so the Reshape cannot fail
    made_by = {frame.name for frame in op.traceback or ()}
    return given if '_validate_estimator_spec_loss' in made_by else loss


def _judge_export_outputs(export_outputs: Any, predictions: Any, mode: Any) -> None:
    if isinstance(export_outputs, dict):
        export_outputs = dict(export_outputs)
    if predictions is None:
        predictions = {}
    _model_fn._validate_estimator_spec_export_outputs(export_outputs, predictions, mode)


def _judge_metrics(metrics: Any) -> None:
    if not isinstance(metrics, dict):
        _model_fn._validate_eval_metric_ops(metrics)
        return
    plain = {}
    for key, value in metrics.items():
        if isinstance(value, tf.keras.metrics.Metric):
            if not value.updates:
                raise ValueError(
                    f'Please call update_state(...) on the "{value.name}" metric')
        else:
            plain[key] = value
    _model_fn._validate_eval_metric_ops(plain)


def _judge_scaffold(scaffold: Any) -> None:
    if graphs.is_tensor(scaffold) or graphs.is_variable(scaffold):
        raise TypeError('scaffold must be tf.train.Scaffold')  # for the same reason
    if scaffold is not None:
        _model_fn._validate_scaffold(scaffold)


def refuses_metric(key: Any, value: Any) -> bool:
    """Whether stock refuses this one entry of `eval_metric_ops`."""
    try:
        _judge_metrics({key: value})
    except Exception:  # noqa: BLE001 - any exception of stock's is a refusal
        return True
    return False

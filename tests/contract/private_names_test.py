"""Private names of TensorFlow and Estimator that must keep their place and their arguments.

What they do is pinned where the subject is; this file only says that they are there.
"""

from __future__ import annotations

import importlib
import inspect

import pytest
import tensorflow as tf
from tensorflow_estimator.python.estimator import model_fn as model_fn_lib

ESTIMATOR = 'tensorflow_estimator.python.estimator.'
PYTHON = 'tensorflow.python.'
_OLD = tf.__version__.startswith('2.12.')
_NN = PYTHON + ('ops.nn_impl' if _OLD else 'ops.nn_impl_distribute')

FUNCTIONS = [
    # The validators of the spec's fields, in the order in which the constructor calls them.
    (ESTIMATOR + 'model_fn', '_validate_estimator_spec_train_op', 'train_op mode'),
    (ESTIMATOR + 'model_fn', '_validate_estimator_spec_loss', 'loss mode'),
    (ESTIMATOR + 'model_fn', '_validate_estimator_spec_predictions', 'predictions mode'),
    (
        ESTIMATOR + 'model_fn',
        '_validate_estimator_spec_export_outputs',
        'export_outputs predictions mode',
    ),
    (ESTIMATOR + 'model_fn', '_validate_estimator_spec_hooks', 'hooks'),
    (ESTIMATOR + 'model_fn', '_validate_eval_metric_ops', 'eval_metric_ops'),
    (ESTIMATOR + 'model_fn', '_validate_scaffold', 'scaffold'),
    # The signatures of an export.
    (
        PYTHON + 'saved_model.model_utils.export_utils',
        'build_all_signature_defs',
        'receiver_tensors export_outputs receiver_tensors_alternatives serving_only',
    ),
    (
        PYTHON + 'saved_model.model_utils.export_utils',
        'get_export_outputs',
        'export_outputs predictions',
    ),
    (
        PYTHON + 'saved_model.model_utils.export_utils',
        '_ensure_servable',
        'input_tensors names_to_output_tensor_infos',
    ),
    (
        PYTHON + 'saved_model.model_utils.export_utils',
        '_maybe_add_default_serving_output',
        'export_outputs',
    ),
    # What is read of data sets and of the queues of numpy_input_fn.
    (
        PYTHON + 'framework.function_def_to_graph',
        'function_def_to_graph',
        'fdef structured_input_signature structured_outputs input_shapes '
        'propagate_device_spec' + ('' if _OLD else ' include_library_functions'),
    ),
    (
        ESTIMATOR + 'inputs.queues.feeding_functions',
        '_ArrayFeedFn',
        'placeholders array batch_size random_start seed num_epochs',
    ),
    # Their names tell what a division in a loss is for.
    (_NN, 'compute_average_loss',
     'per_example_loss sample_weight global_batch_size'),
    (_NN, 'scale_regularization_loss', 'regularization_loss'),
    # What init_from_checkpoint calls in the end, under every strategy.
    (PYTHON + 'training.checkpoint_utils', '_init_from_checkpoint',
     'ckpt_dir_or_file assignment_map'),
    # Distribution: regrouping, and the functions that Estimator calls for a cluster.
    (PYTHON + 'distribute.distribute_utils', 'regroup', 'values wrap_class always_wrap'),
    (PYTHON + 'distribute.estimator_training', 'init_run_config', 'config tf_config'),
    (PYTHON + 'distribute.estimator_training', 'should_run_distribute_coordinator', 'config'),
    (
        PYTHON + 'distribute.estimator_training',
        'train_and_evaluate',
        'estimator train_spec eval_spec executor_cls',
    ),
    (
        PYTHON + 'distribute.estimator_training',
        'estimator_train',
        'estimator train_distributed_fn hooks',
    ),
    (
        PYTHON + 'distribute.estimator_training',
        'estimator_evaluate',
        'estimator evaluate_distributed_fn hooks',
    ),
    # What Estimator calls to build and to run a graph.
    (ESTIMATOR + 'estimator', 'Estimator._call_model_fn', 'self features labels mode config'),
    (ESTIMATOR + 'estimator', 'Estimator._call_input_fn', 'self input_fn mode input_context'),
    (
        ESTIMATOR + 'estimator',
        'Estimator._get_features_and_labels_from_input_fn',
        'self input_fn mode',
    ),
    (ESTIMATOR + 'estimator', 'Estimator._create_and_assert_global_step', 'self graph'),
    (
        ESTIMATOR + 'estimator',
        'Estimator._evaluate_build_graph',
        'self input_fn hooks checkpoint_path',
    ),
    (
        ESTIMATOR + 'estimator',
        'Estimator._train_with_estimator_spec',
        'self estimator_spec worker_hooks hooks global_step_tensor saving_listeners',
    ),
    (
        ESTIMATOR + 'estimator',
        '_verify_and_create_loss_metric',
        'eval_metric_ops loss distribution',
    ),
    (ESTIMATOR + 'estimator', '_load_global_step_from_checkpoint_dir', 'checkpoint_dir'),
    (ESTIMATOR + 'util', 'parse_input_fn_result', 'result'),
    (ESTIMATOR + 'training', '_TrainingExecutor._start_std_server', 'self config'),
    (
        PYTHON + 'training.evaluation',
        '_evaluate_once',
        'checkpoint_path master scaffold eval_ops feed_dict final_ops final_ops_feed_dict '
        'hooks config',
    ),
    (PYTHON + 'training.monitored_session', '_HookedSession._call_hook_before_run',
     'self run_context fetch_dict user_feed_dict options'),
    (PYTHON + 'training.training_util', '_get_or_create_global_step_read', 'graph'),
    (PYTHON + 'training.basic_session_run_hooks', '_as_graph_element', 'obj'),
]


def _find(module, name):
    thing = importlib.import_module(module)
    for part in name.split('.'):
        thing = getattr(thing, part)
    return thing


@pytest.mark.parametrize(
    ('module', 'name', 'parameters'), FUNCTIONS, ids=[name for _, name, _ in FUNCTIONS]
)
def test_parameters(module, name, parameters):
    """The function is in its module and takes these parameters, in this order."""
    assert list(inspect.signature(_find(module, name)).parameters) == parameters.split()


@pytest.mark.parametrize(
    ('module', 'name'),
    [
        (PYTHON + 'distribute.distribute_coordinator', '_run_std_server'),
        (PYTHON + 'distribute.distribute_coordinator',
         'distribute_coordinator_context.get_current_worker_context'),
        (PYTHON + 'distribute.parameter_server_strategy_v2', 'ParameterServerStrategyV2.__init__'),
        (PYTHON + 'eager.context', 'default_execution_mode'),
        (ESTIMATOR + 'training', 'time.sleep'),
        (ESTIMATOR + 'estimator', 'tempfile.mkdtemp'),
        (ESTIMATOR + 'estimator', 'Estimator.latest_checkpoint'),
        (ESTIMATOR + 'estimator', 'training.MonitoredTrainingSession'),
        (ESTIMATOR + 'estimator', 'evaluation._evaluate_once'),
        (ESTIMATOR + 'tpu.tpu_estimator', '_INFERENCE_ON_TPU_MODE'),
        (PYTHON + 'autograph.impl.api', 'StagingError'),
        (PYTHON + 'framework.func_graph', 'FuncGraph'),
        (PYTHON + 'framework.function', '_FuncGraph'),
        (PYTHON + 'distribute.values', 'PerReplica'),
    ],
)
def test_present(module, name):
    """The name is reachable through this module, by which Estimator itself calls it."""
    assert _find(module, name) is not None


VALIDATORS = [name for module, name, _ in FUNCTIONS if name.startswith('_validate')]


def test_constructor_calls_every_validator(monkeypatch):
    """The constructor calls these validators, by these names, in this order, and no other."""
    called = []
    for name in [name for name in vars(model_fn_lib) if name.startswith('_validate')]:
        stock = getattr(model_fn_lib, name)

        def validator(*args, name=name, stock=stock):
            called.append((name, len(args)))
            return stock(*args)

        monkeypatch.setattr(model_fn_lib, name, validator)
    tf.estimator.EstimatorSpec('any')
    hooks = [('_validate_estimator_spec_hooks', 1)] * 4
    assert called == [
        ('_validate_estimator_spec_train_op', 2),
        ('_validate_estimator_spec_loss', 2),
        ('_validate_estimator_spec_predictions', 2),
        ('_validate_estimator_spec_export_outputs', 3),
        *hooks,
        ('_validate_eval_metric_ops', 1),
        ('_validate_scaffold', 1),
    ]
    assert sorted({name for name, _ in called}) == sorted(VALIDATORS)


def test_validators_return_what_the_spec_holds(graph):
    """Called one by one, the validators give what the constructor stores, or its errors."""
    t = tf.constant([1.0])
    lib = model_fn_lib
    assert lib._validate_estimator_spec_train_op(t.op, 'train') is t.op
    assert lib._validate_estimator_spec_loss(t, 'eval').shape.as_list() == []
    assert lib._validate_estimator_spec_predictions(None, 'eval') == {}
    assert lib._validate_estimator_spec_export_outputs(None, t, 'eval') is None
    assert list(lib._validate_estimator_spec_export_outputs(None, t, 'infer')) == [
        'serving_default'
    ]
    assert lib._validate_estimator_spec_hooks(None) == ()
    assert lib._validate_eval_metric_ops(None) == {}
    assert type(lib._validate_scaffold(None)) is tf.compat.v1.train.Scaffold
    with pytest.raises(ValueError, match=r'^Missing loss\.$'):
        lib._validate_estimator_spec_loss(None, 'train')

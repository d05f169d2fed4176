"""One estimator for the whole package: `tf.estimator`, or tensorflow-estimator over the bridge."""

from __future__ import annotations

import ast
import importlib
import json
import pathlib

import pytest
import tensorflow as tf

import estimator_spec_ext as ese
from estimator_spec_ext.compat import namespace
from estimator_spec_ext.compat.bridge import coordinator, keras3, tpu_names, versions

_PACKAGE = pathlib.Path(ese.__file__).parent
_CLUSTER = {'chief': ['a:1'], 'worker': ['b:1', 'c:1'], 'ps': ['d:1'], 'evaluator': ['e:1']}


def test_the_namespace_is_that_of_tensorflow():
    from estimator_spec_ext import estimator
    assert estimator is ese.estimator
    assert estimator.Estimator is tf.estimator.Estimator
    assert estimator.export.PredictOutput is tf.estimator.export.PredictOutput
    assert estimator.v1.Estimator is tf.compat.v1.estimator.Estimator
    assert {*dir(tf.estimator), 'v1'} - {'_sys'} <= {*dir(estimator)}
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        _ = estimator.no_such_name


def test_installing_twice_changes_nothing():
    before = tf.estimator.Estimator, tf.compat.v1.estimator.Estimator
    ese.install_tf_estimator()
    assert (tf.estimator.Estimator, tf.compat.v1.estimator.Estimator) == before
    assert tf.compat.v2.estimator.Estimator is tf.estimator.Estimator


@pytest.mark.parametrize('statement', [
    'from tensorflow import estimator as it',
    'from tensorflow.compat.v2 import estimator as it',
    'import tensorflow.compat.v2 as v2; it = v2.estimator',
    'import tensorflow.compat.v1 as v1; it = v1.compat.v2.estimator',
])
def test_modules_see_it_however_they_import_tensorflow(statement):
    names = {}
    exec(statement, names)
    assert names['it'].EstimatorSpec is ese.estimator.EstimatorSpec


@pytest.mark.once
def test_no_module_of_the_package_asks_tensorflow_for_it():
    asked = []
    for path in sorted(_PACKAGE.rglob('*.py')):
        if path == _PACKAGE / 'compat' / 'namespace.py':
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
            if (isinstance(node, ast.Attribute) and node.attr == 'estimator'
                    and ast.unparse(node.value) in ('tf', 'v1', 'tf.compat.v1', 'tf.compat.v2')):
                asked.append(f'{path.relative_to(_PACKAGE)}:{node.lineno}')
    assert asked == []


@pytest.mark.once
def test_files_tell_whether_estimator_is_gone():
    assert versions.lacks_estimator() is namespace.BRIDGED
    assert versions.minor('2.16.2') == (2, 16)
    assert versions.minor('unknown') == (0, 0)


@pytest.mark.once
@pytest.mark.parametrize('version', ['2.15.1', '2.22.0-rc1'])
def test_untested_versions_are_refused(version, monkeypatch):
    monkeypatch.delenv(versions.OVERRIDE, raising=False)
    with pytest.raises(ImportError) as caught:
        versions.check(version)
    assert str(caught.value) == (
        f'tf.estimator was brought back on TensorFlow 2.16 to 2.21 and not tried on {version}; '
        'install one of these, or set ESE_UNTESTED_TENSORFLOW=1 to try it')


@pytest.mark.once
def test_the_refusal_can_be_overridden(monkeypatch):
    monkeypatch.setenv(versions.OVERRIDE, '1')
    if namespace.BRIDGED:
        versions.check('2.22.0')
    else:
        with pytest.raises(ImportError) as caught:
            versions.check('2.22.0')
        assert str(caught.value) == (
            'TensorFlow 2.22.0 has no tf.estimator of its own, and what brings it back is not '
            "installed: pip install --no-deps 'tf-keras~=2.22.0'")


@pytest.mark.once
def test_names_of_the_tpu_refuse_to_be_used():
    gone = tpu_names._Gone('tensorflow.python.tpu.tpu_embedding')
    assert not isinstance(3, gone.AdagradParameters)
    with pytest.raises(NotImplementedError) as caught:
        gone.TPUEmbedding({}, mode='training')
    assert str(caught.value) == (
        'tensorflow.python.tpu.tpu_embedding.TPUEmbedding left TensorFlow with 2.16: use '
        'TensorFlow 2.15 for this on a TPU, or TPUEstimator(use_tpu=False) without TPU embeddings')


@pytest.mark.once
def test_objects_of_keras_2_are_let_through():
    if namespace.BRIDGED:  # before, Keras 2 lives where Keras 3 does now
        assert keras3.sentence('it', tf.keras.metrics.Mean()) is None
    assert keras3.sentence('it', None) is None


def _settings(config):
    kept = dict(vars(config))
    kept['_cluster_spec'] = config.cluster_spec.as_dict()
    return {name: value for name, value in kept.items()
            if isinstance(value, (int, str, dict, type(None)))}


def _task(kind, index=0, **more):
    return json.dumps({'cluster': _CLUSTER, 'task': {'type': kind, 'index': index}, **more})


_TF_CONFIGS = ['{}', _task('chief'), _task('worker', 1), _task('ps'), _task('evaluator'),
               _task('nobody'), _task('worker', 9), json.dumps({'cluster': _CLUSTER}),
               json.dumps({'cluster': {'worker': ['a:1']}, 'task': {'type': 'worker', 'index': 0}}),
               json.dumps({'cluster': {'master': ['a:1'], 'worker': ['b:1']},
                           'task': {'type': 'master', 'index': 0}})]


@pytest.mark.skipif(namespace.BRIDGED, reason='compares with what TensorFlow 2.15 has')
@pytest.mark.once
@pytest.mark.parametrize('given', ['train', 'eval', 'both', 'remote', 'twice', 'nothing'])
def test_run_configs_are_those_of_tensorflow(given, monkeypatch):
    stock = importlib.import_module('tensorflow.python.distribute.estimator_training')
    kept = stock.init_run_config
    made = importlib.import_module('tensorflow.python.distribute.distribute_config')
    strategy = tf.distribute.OneDeviceStrategy('/cpu:0')
    arguments = {
        'train': {'train_distribute': strategy},
        'eval': {'eval_distribute': strategy},
        'both': {'train_distribute': strategy, 'eval_distribute': strategy},
        'remote': {'experimental_distribute': made.DistributeConfig(
            strategy, remote_cluster=tf.train.ClusterSpec({'worker': ['a:1']}))},
        'twice': {'train_distribute': strategy,
                  'experimental_distribute': made.DistributeConfig(strategy)},
        'nothing': {'experimental_distribute': made.DistributeConfig()},
    }[given]

    def outcome(function):
        monkeypatch.setattr(stock, 'init_run_config', function)
        try:
            config = tf.estimator.RunConfig(**arguments)
        except ValueError as error:
            return str(error)
        return _settings(config), (stock.should_run_distribute_coordinator(config),
                                   coordinator.should_run_distribute_coordinator(config))

    for tf_config in _TF_CONFIGS:
        monkeypatch.setenv('TF_CONFIG', tf_config)
        ours = outcome(coordinator.init_run_config)
        assert ours == outcome(kept), tf_config
        assert isinstance(ours, str) or ours[1][0] is ours[1][1]

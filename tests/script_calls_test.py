"""`estimator-preflight run`: what the single calls of a script on its estimators tell."""

from __future__ import annotations

import json

import pytest

from tests import preflight_command_test

pytestmark = pytest.mark.once

call, write = preflight_command_test.call, preflight_command_test.write


CALLS = '''
    import numpy as np
    import tensorflow as tf
    tf1 = tf.compat.v1

    def rows(scale=1.):
        x = np.full([8, 2], scale, np.float32)
        return lambda: tf.data.Dataset.from_tensor_slices((x, x[:, :1])).batch(4)

    def unlabelled():
        return rows()().map(lambda x, y: x)

    def model_fn(features, labels, mode):
        out = tf1.layers.dense(features / tf.norm(features, axis=1, keepdims=True), 1)
        if mode == 'infer':
            return tf.estimator.EstimatorSpec(mode, predictions={'y': out})
        loss = tf1.losses.mean_squared_error(labels, out)
        train_op = tf1.train.AdamOptimizer().minimize(loss, tf1.train.get_global_step())
        return tf.estimator.EstimatorSpec(mode, loss=loss, train_op=train_op)

    def receiver_fn():
        x = tf1.placeholder(tf.float32, [None, 2])
        return tf.estimator.export.TensorServingInputReceiver(x, {'x': x})

    def dict_receiver_fn():
        x = tf1.placeholder(tf.float32, [None, 2])
        return tf.estimator.export.ServingInputReceiver({'z': x}, {'z': x})

    class Keeps(tf.estimator.SessionRunHook):
        loss = None

        def begin(self):
            self.loss = self.loss if self.loss is not None else tf1.losses.get_losses()[0]

        def before_run(self, run_context):
            return tf.estimator.SessionRunArgs(self.loss)

    est = tf.estimator.Estimator(model_fn, 'model')
'''

SILENT = {
    'positions': '''
        est.train(rows(), [tf1.train.StepCounterHook(output_dir='model')], 2)
        est.evaluate(rows(), 2)
        est.export_saved_model('export', receiver_fn)
    ''',
    'predict without labels': '''
        est.train(rows(), steps=2)
        print(next(est.predict(unlabelled))['y'][0])
        rows_of = est.predict(unlabelled)
        while next(rows_of, None) is not None:
            pass
        for row in est.predict(unlabelled):
            print(row)
    ''',
    'early stopping and a last test': '''
        stop = tf.estimator.experimental.stop_if_no_decrease_hook(est, 'loss', 1)
        tf.estimator.train_and_evaluate(
            est, tf.estimator.TrainSpec(rows(), max_steps=2, hooks=[stop]),
            tf.estimator.EvalSpec(rows(), steps=None))
        est.evaluate(rows())
    ''',
    'predict after train_and_evaluate': '''
        tf.estimator.train_and_evaluate(est, tf.estimator.TrainSpec(rows(), max_steps=2),
                                        tf.estimator.EvalSpec(rows(), steps=None))
        list(est.predict(unlabelled))
    ''',
    'a checkpoint of this script': '''
        est.train(rows(), steps=2)
        other = tf.estimator.Estimator(model_fn)
        other.evaluate(rows(), checkpoint_path=tf.train.latest_checkpoint('model'))
    ''',
    'warm start from this script': '''
        est.train(rows(), steps=2)
        tuned = tf.estimator.Estimator(model_fn, 'tuned', warm_start_from='model')
        tuned.train(rows(), steps=2)
    ''',
    'warm start from the latest checkpoint': '''
        est.train(rows(), max_steps=20)
        newest = est.latest_checkpoint()
        assert est.get_variable_value('global_step') == 20
        assert newest == tf.train.latest_checkpoint('model') and newest.endswith('-20'), newest
        settings = tf.estimator.WarmStartSettings(newest, vars_to_warm_start='.*')
        tuned = tf.estimator.Estimator(model_fn, 'tuned', warm_start_from=settings)
        tuned.train(rows(), steps=2)
    ''',
    'a checkpoint of a later train': '''
        tf.estimator.train_and_evaluate(est, tf.estimator.TrainSpec(rows(), max_steps=2),
                                        tf.estimator.EvalSpec(rows(), steps=None))
        est.train(rows(), max_steps=5)
        assert est.latest_checkpoint().endswith('-5'), est.latest_checkpoint()
    ''',
    'rounds': '''
        for _ in range(2):
            est.train(rows(), max_steps=100)
            est.evaluate(rows())
    ''',
    'the same model twice': '''
        est.train(rows(), steps=2)
        tf.estimator.Estimator(model_fn, 'model').evaluate(rows())
    ''',
}

TOLD = {
    'a second train': ('est.train(rows()); est.train(rows(0.))', ['loss-not-finite-when-run']),
    'a second evaluate': ('est.train(rows()); est.evaluate(rows()); '
                          'est.evaluate(lambda: rows()().repeat())', ['evaluation-never-ends']),
    'a hook for a second train': (
        'est.train(rows()); '
        "est.train(rows(), hooks=[tf.estimator.LoggingTensorHook(['nothing'], every_n_iter=1)])",
        ['hook-unknown-name']),
    'warm start from names that the script does not train': (
        "est.train(rows(), max_steps=20); tf.estimator.Estimator(model_fn, 'tuned', "
        'warm_start_from=tf.estimator.WarmStartSettings(est.latest_checkpoint(), '
        "vars_to_warm_start='encoder/.*')).train(rows(), steps=2)",
        ['warm-start-matches-nothing']),
    'a hook object twice': (
        'hook = Keeps(); est.train(rows(), hooks=[hook]); est.train(rows(), hooks=[hook])',
        ['hook-foreign-graph-when-run']),
    'an export after next': (
        'est.train(rows()); next(est.predict(unlabelled)); '
        "est.export_saved_model('export', dict_receiver_fn)", ['serving-features-differ']),
    'exports of several modes': (
        'est.train(rows()); '
        "est.experimental_export_all_saved_models('export', {'infer': dict_receiver_fn})",
        ['serving-features-differ']),
    'another model in the folder': (
        "est.train(rows()); "
        "tf.estimator.DNNRegressor([4], [tf.feature_column.numeric_column('x')], 'model').train("
        "lambda: rows()().map(lambda x, y: ({'x': x[:, :1]}, y)))", ['model-dir-of-another-model']),
    'max_steps that steps have passed': (
        'endless = lambda: rows()().repeat()\n'
        '        est.train(endless, steps=30)\n'
        '        tf.estimator.train_and_evaluate(est, tf.estimator.TrainSpec(endless, '
        'max_steps=25), tf.estimator.EvalSpec(rows()))', ['training-idle']),
    'a new BestExporter': (
        'best = lambda: tf.estimator.BestExporter("best", dict_receiver_fn)\n'
        '        for last in (20, 40): tf.estimator.train_and_evaluate(est, tf.estimator.TrainSpec('
        'lambda: rows()().repeat(), max_steps=last), tf.estimator.EvalSpec(rows(), '
        'exporters=best()))', ['serving-features-differ', 'best-exporter-forgets']),
    'max_steps again': (
        'endless = lambda: rows()().repeat()\n'
        '        for _ in range(2): est.train(endless, max_steps=20)', ['training-idle']),
}


@pytest.mark.parametrize('name', SILENT)
def test_run_a_script_that_calls_the_methods_rightly(tmp_path, call, name):
    write(tmp_path, 'train.py', CALLS, SILENT[name])
    done = call('run', '--depth', 'run', '--fail-level', 'warning', 'train.py')
    assert done.returncode == 0, done.stdout
    assert 'ended with' not in done.stdout and 'not rehearsed: it has' not in done.stdout


@pytest.mark.parametrize('name', TOLD)
def test_run_a_script_whose_later_calls_are_wrong(tmp_path, call, name):
    text, slugs = TOLD[name]
    write(tmp_path, 'train.py', CALLS, '        ' + text)
    done = call('run', '--depth', 'run', '--format', 'json', 'train.py')
    report = json.loads(done.stdout)
    assert [finding['slug'] for finding in report['findings']
            if finding['severity'] != 'info'] == slugs, done.stdout


def test_run_says_where_a_script_ended(tmp_path, call):
    write(tmp_path, 'train.py', CALLS, """
        est.train(rows())
        raise RuntimeError('the metric is NaN')
    """)
    done = call('run', '--depth', 'graph', 'train.py')
    line = 1 + (tmp_path / 'train.py').read_text().splitlines().index(
        "raise RuntimeError('the metric is NaN')")
    assert done.stdout.endswith(
        f'note: the script ended with RuntimeError at train.py:{line}, and what follows was not '
        'reached: its calls\n         gave no real results\n'), done.stdout


def test_predict_that_a_script_never_asks_for_is_a_note(tmp_path, call):
    write(tmp_path, 'train.py', CALLS.replace("if mode == 'infer':", "if mode == 'predict':"),
          'est.train(rows())')
    done = call('run', '--depth', 'graph', 'train.py')
    assert done.returncode == 0
    assert 'predict  INFO  ESX1' in done.stdout and 'WARNING' not in done.stdout, done.stdout


def test_a_job_that_tf_config_keeps_from_starting(tmp_path, call, monkeypatch):
    monkeypatch.setenv('TF_CONFIG', '{"cluster": {"chief": ["a.invalid:1"]}, '
                                    '"task": {"type": "worker", "index": 3}}')
    write(tmp_path, 'train.py', CALLS)
    done = call('run', '--depth', 'graph', '--format', 'json', 'train.py')
    found = {finding['code'] for finding in json.loads(done.stdout)['findings']}
    assert found == {'ESX142', 'ESX819'}, done.stdout


CANNED = '''
    import numpy as np
    import tensorflow as tf

    COLUMNS = [tf.feature_column.numeric_column(name) for name in 'ab']

    def input_fn():
        data = {name: np.linspace(0., 1., 12, dtype=np.float32) for name in 'ab'}
        labels = (data['a'] > .5).astype(np.int64)
        return tf.data.Dataset.from_tensor_slices((data, labels)).batch(4)

    est = tf.estimator.KIND([4], COLUMNS, model_dir='model')
    est.train(input_fn, steps=2)
    est.evaluate(input_fn)
    est.export_saved_model('export', tf.estimator.export.build_parsing_serving_input_receiver_fn(
        tf.feature_column.make_parse_example_spec(COLUMNS)))
'''


@pytest.mark.parametrize('kind', ['DNNClassifier', 'DNNRegressor'])
def test_signatures_to_classify_and_to_regress_are_asked(tmp_path, call, kind):
    write(tmp_path, 'train.py', CANNED.replace('KIND', kind))
    done = call('run', '--fail-level', 'warning', 'train.py')
    assert done.returncode == 0, done.stdout
    assert 'not asked' not in done.stdout and 'not exported' not in done.stdout

"""`GraphAgreementHook` in one process: threads play the roles, letters lie on real file systems."""

from __future__ import annotations

import inspect
import json
import threading
import time

import pytest
import tensorflow as tf

import estimator_spec_ext as ese
from estimator_spec_ext import job_role
from estimator_spec_ext.agreement import compare, hook, letters, meeting, sheet
from estimator_spec_ext.errors import GraphAgreementError

v1 = tf.compat.v1
ADDRESSES = {'chief': ['a:1'], 'worker': ['b:1', 'c:1']}
TRAINERS = ('chief/0', 'worker/0', 'worker/1')


def _sheet(names=('a', 'b'), shapes=None, collectives=True, server=''):
    entries = tuple(sheet.VariableEntry(name, 'float32', (shapes or {}).get(name, '(3, 1)'), True,
                                        server) for name in names)
    keys = range(1, len(names) + 1 if collectives else 1)
    return sheet.Sheet(entries, tuple(
        sheet.CollectiveEntry('CollectiveBcast', f'{name}/Bcast', 'float32', '(3, 1)', (3, 1, key))
        for name, key in zip(names, keys)))


def _role(name, has_ps=False):
    return job_role.JobRole(name, TRAINERS, has_ps)


def _meet(folder, sheets, limit=20., delays=()):
    """All roles meet, each in a thread.

    Returns:
      By role, the text of the failure, the LookupError, or None.
    """
    results = {}

    def take_part(name, own):
        time.sleep(dict(delays).get(name, 0))
        role = _role(name)
        box = letters.Box(str(folder))
        try:
            if role.is_leader:
                leader = meeting.Leader(role, box, own)
                leader.come()
                failure = leader.meet(limit)
            else:
                member = meeting.Member(role, box, own)
                member.come()
                failure = member.meet(limit, all_agree=True)
            results[name] = failure and failure.text
        except LookupError as error:
            results[name] = error

    threads = [threading.Thread(target=take_part, args=item) for item in sheets.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return results


def test_the_same_graphs(tmp_path):
    assert _meet(tmp_path, {name: _sheet() for name in TRAINERS}) == dict.fromkeys(TRAINERS)


def test_a_second_run_in_the_same_folder(tmp_path):
    """Letters of an earlier run, which told of other graphs, are not believed."""
    old = _meet(tmp_path, {'chief/0': _sheet(), 'worker/0': _sheet(('b', 'a')),
                           'worker/1': _sheet()})
    assert all('is not that of' in text for text in old.values())
    new = {name: _sheet(('c', 'd')) for name in TRAINERS}
    assert _meet(tmp_path, new, delays=[('chief/0', .5)]) == dict.fromkeys(TRAINERS)
    assert _meet(tmp_path, new, delays=[('worker/1', .5)]) == dict.fromkeys(TRAINERS)


def test_a_file_system_that_is_no_disk():
    """tf.io.gfile carries the letters to wherever the checkpoints go."""
    folder = f'ram://agreement-{time.time_ns()}'
    found = _meet(folder, {'chief/0': _sheet(), 'worker/0': _sheet(), 'worker/1': _sheet(('a',))})
    assert len(found) == 3 and len(set(found.values())) == 1 and 'worker/1' in found['chief/0']


def test_all_hear_of_a_swap(tmp_path):
    found = _meet(tmp_path, {'chief/0': _sheet(), 'worker/0': _sheet(),
                             'worker/1': _sheet(('b', 'a'))}, delays=[('worker/0', 1.)])
    assert set(found.values()) == {
        'the graph of worker/1 is not that of chief/0:\n'
        "    variable 0: 'a' float32 (3, 1) on chief/0, 'b' float32 (3, 1) on worker/1\n"
        "    variable 1: 'b' float32 (3, 1) on chief/0, 'a' float32 (3, 1) on worker/1\n"
        '  why: values would be mixed without a word: variables are matched by the order in which '
        'they are made\n'
        '  fix: make the same variables in the same order in every role: no branch on the role '
        'before a\n'
        '    variable is made, no loop over a set, the same code and the same configuration'}
    assert len(found) == 3


def test_a_worker_that_does_not_come(tmp_path):
    found = _meet(tmp_path, {'chief/0': _sheet(), 'worker/0': _sheet()}, limit=.5)
    assert found['chief/0'] == found['worker/0'] == (
        f'worker/1 did not come within 0.5 s; chief/0 waited in {tmp_path}/graph_agreement\n'
        '  these came: worker/0\n'
        '  fix: start every role that TF_CONFIG lists, each with the hook and with the same '
        'model_dir,\n    on a file system that all of them see')


def test_a_folder_of_ones_own(tmp_path):
    """A model_dir that is not shared: nobody hears of anybody."""
    found = _meet(tmp_path / 'one', {'worker/0': _sheet()}, limit=.3)
    assert str(found['worker/0'].args[0]).startswith('chief/0 did not come within 0.3 s; worker/0')


def test_half_a_letter_is_none(tmp_path):
    box = letters.Box(str(tmp_path))
    box.put(letters.Letter('chief/0', 'x', 'y'))
    path = tmp_path / 'graph_agreement' / 'chief-0.json'
    for text in ('', path.read_text()[:20], '[]', '{}', '{"version": 2}'):
        path.write_text(text)
        assert box.get('chief/0') is None


def _difference(ours, theirs):
    return compare.difference('chief/0', ours, 'worker/0', theirs)


def test_a_variable_with_another_name_is_a_warning():
    found = _difference(_sheet(('a', 'b')), _sheet(('a', 'c')))
    assert not found.harmful
    assert found.lines == (
        "variable 1: 'b' float32 (3, 1) on chief/0, 'c' float32 (3, 1) on worker/0",)


@pytest.mark.parametrize('theirs, line, why', [
    (_sheet(('a',)), "variable 1: 'b' float32 (3, 1) on chief/0, none on worker/0",
     'the job would hang, or fail in a collective'),
    (_sheet(shapes={'b': '(4,)'}), "variable 1: 'b' is float32 (3, 1) on chief/0, "
     'float32 (4,) on worker/0', 'the job would hang, or fail in a collective'),
    (_sheet(collectives=False), '2 collectives on chief/0, 0 on worker/0',
     'the job would hang: a collective waits until every role has reached it'),
], ids=['missing', 'shape', 'collectives'])
def test_what_hangs(theirs, line, why):
    found = _difference(_sheet(), theirs)
    assert found.harmful and found.lines[0] == line and found.why == why


def test_parameter_servers_match_by_name():
    plain = _sheet(('a', 'b'), collectives=False, server='ps/0')
    assert _difference(plain, _sheet(('b', 'a'), collectives=False, server='ps/0')) is None
    # What the chief alone has, the chief alone uses.
    assert _difference(plain, _sheet(('a',), collectives=False, server='ps/0')) is None
    more = _difference(plain, _sheet(('a', 'b', 'c'), collectives=False, server='ps/0'))
    assert more.lines == ("variable 'c' float32 (3, 1) is on worker/0 alone",)
    assert more.why == 'nobody initialises it: worker/0 would wait, and chief/0 go on without it'
    moved = _difference(plain, _sheet(('a', 'b'), collectives=False, server='ps/1'))
    assert moved.lines[0] == (
        "variable 'a': float32 (3, 1) in ps/0 on chief/0, float32 (3, 1) in ps/1 on worker/0")
    assert moved.why == 'worker/0 would wait for a variable that is elsewhere'


def test_the_sheet_of_a_graph():
    with tf.Graph().as_default() as graph:
        v1.train.create_global_step()
        v1.get_variable('w', [3, 1], use_resource=True)
        v1.get_variable('old', [], trainable=False, use_resource=False)
        with tf.device('/job:ps/task:1'):
            v1.get_variable('far', [2], use_resource=True)
        found = sheet.of_graph(graph)
        assert [(str(entry), entry.trainable, entry.server) for entry in found.variables] == [
            ("'global_step' int64 ()", False, ''), ("'w' float32 (3, 1)", True, ''),
            ("'old' float32 ()", False, ''), ("'far' float32 (2,)", True, 'ps/1')]
        again = sheet.Sheet.from_json(found.to_json())
        assert again == found and again.digest == found.digest
        v1.get_variable('x', [], use_resource=True)
        assert sheet.of_graph(graph).digest != found.digest


def _set_role(monkeypatch, kind, index=0, **cluster):
    monkeypatch.setenv('TF_CONFIG', json.dumps(
        {'cluster': {**ADDRESSES, **cluster}, 'task': {'type': kind, 'index': index}}))


def test_a_job_of_one_does_nothing(tmp_path, monkeypatch):
    own = ese.GraphAgreementHook(tmp_path)
    monkeypatch.delenv('TF_CONFIG', raising=False)
    for text in (None, '{}', 'no json', '{"cluster": {"chief": ["a:1"]}, "task": '
                 '{"type": "chief", "index": 0}}'):
        if text is not None:
            monkeypatch.setenv('TF_CONFIG', text)
        with tf.Graph().as_default():
            own.begin()
    _set_role(monkeypatch, 'evaluator')
    with tf.Graph().as_default():
        own.begin()
    assert not list(tmp_path.iterdir())


def test_a_worker_stops_and_says_where(tmp_path, monkeypatch):
    """The hook itself, against a leader in a thread."""
    chief = meeting.Leader(job_role.JobRole('chief/0', ('chief/0', 'worker/0'), False),
                           letters.Box(str(tmp_path)), _sheet(('a', 'w')))
    chief.come()
    thread = threading.Thread(target=chief.meet, args=(20,))
    thread.start()
    monkeypatch.setenv('TF_CONFIG', json.dumps(
        {'cluster': {'chief': ['a:1'], 'worker': ['b:1']}, 'task': {'type': 'worker', 'index': 0}}))
    with tf.Graph().as_default():
        v1.get_variable('w', [3, 1], use_resource=True)
        line = inspect.currentframe().f_lineno - 1
        with pytest.raises(GraphAgreementError) as caught:
            ese.GraphAgreementHook(tmp_path, limit_secs=20).begin()
    thread.join(20)
    assert str(caught.value).startswith(
        'the graph of worker/0 is not that of chief/0:\n'
        "    variable 0: 'a' float32 (3, 1) on chief/0, 'w' float32 (3, 1) on worker/0\n"
        "    variable 1: 'w' float32 (3, 1) on chief/0, none on worker/0\n"
        f"  here 'w' is made at tests/agreement_test.py:{line}\n"
        '  why: the job would hang, or fail in a collective\n')


def test_a_chief_beside_servers_never_waits(tmp_path, monkeypatch):
    """It trains at once, answers a worker that comes late, and one that comes back."""
    _set_role(monkeypatch, 'chief', ps=['p:1'])
    role = job_role.JobRole('worker/1', TRAINERS, True)
    with tf.Graph().as_default():
        v1.train.create_global_step()
        chief = ese.GraphAgreementHook(tmp_path, limit_secs=30)
        own = sheet.of_graph(v1.get_default_graph(), collectives=False)
        with v1.train.MonitoredSession(hooks=[chief]) as session:
            session.run('global_step:0')
            for _ in range(2):
                worker = meeting.Member(role, letters.Box(str(tmp_path)), own)
                worker.come()
                assert worker.meet(20, all_agree=False) is None
            session.run('global_step:0')
            # One that differs stops the chief too, as the job has just begun.
            other = meeting.Member(role, letters.Box(str(tmp_path)),
                                   _sheet(collectives=False, server='ps/0'))
            other.come()
            failure = other.meet(20, all_agree=False)
            assert failure.text.startswith('the graph of worker/1 is not that of chief/0:\n')
            with pytest.raises(GraphAgreementError) as caught:
                for _ in range(100):
                    session.run('global_step:0')
                    time.sleep(.05)
            assert str(caught.value) == failure.text
    # `end` is not called after an error; the thread ends with its hook all the same.
    assert list(tmp_path.iterdir())


def test_a_worker_beside_servers_goes_on_alone(tmp_path, monkeypatch, caplog):
    """Its model_dir need not be the chief's, as only the chief writes checkpoints."""
    _set_role(monkeypatch, 'worker', 1, ps=['p:1'])
    with tf.Graph().as_default():
        v1.train.create_global_step()
        with v1.train.MonitoredSession(
                hooks=[ese.GraphAgreementHook(tmp_path, limit_secs=.2)]) as session:
            session.run('global_step:0')
    assert 'chief/0 did not come within 0.2 s; worker/1 waited in ' in caplog.text
    assert 'Nobody has compared the graph of worker/1; it goes on.' in caplog.text
    assert not list((tmp_path / 'graph_agreement').iterdir())


def test_a_folder_that_estimator_made_for_one_process(monkeypatch, caplog):
    """Without a model_dir each role has one of its own: that is no reason to wait for anybody."""
    _set_role(monkeypatch, 'worker')
    model_dir = tf.estimator.Estimator(lambda features: None).model_dir
    assert hook.automatic_hooks(model_dir) == ()
    assert f'model_dir is a temporary folder, {model_dir}, which no other role knows' in caplog.text
    assert hook.automatic_hooks(None) == ()
    given, = hook.automatic_hooks('/shared/model')
    assert given.model_dir == '/shared/model'


def test_bad_arguments():
    with pytest.raises(TypeError, match='^model_dir must be a path, got NoneType$'):
        ese.GraphAgreementHook(None)
    with pytest.raises(ValueError, match='^model_dir is empty; the roles need a folder'):
        ese.GraphAgreementHook('')
    for limit in (0, -1, 'x'):
        with pytest.raises(ValueError, match='^limit_secs must be a positive number, got '):
            ese.GraphAgreementHook('/x', limit_secs=limit)


@pytest.mark.parametrize('takes_config', [False, True])
def test_strict_model_fn_adds_it(tmp_path, monkeypatch, takes_config):
    def build(features, labels, mode):
        weight = v1.get_variable('w', [], initializer=tf.zeros_initializer(), use_resource=True)
        loss = tf.reduce_mean(tf.square(features * weight - 1.))
        step = v1.train.get_global_step()
        return tf.estimator.EstimatorSpec(
            mode, loss=loss, train_op=v1.train.GradientDescentOptimizer(.1).minimize(loss, step))

    def with_config(features, labels, mode, config):
        assert config.model_dir == str(tmp_path)
        return build(features, labels, mode)

    model_fn = ese.strict_model_fn(with_config if takes_config else build, agreement=True)
    specs = []

    def keep(features, labels, mode, config):
        specs.append(model_fn(features, labels, mode, config=config))
        return specs[-1]

    def kinds():
        for mode in ('train', 'eval'):
            with tf.Graph().as_default():
                v1.train.create_global_step()
                keep(tf.ones([4]), None, mode, config)
        return [[type(hook).__name__ for hook in spec.training_hooks] for spec in specs[-2:]]

    monkeypatch.delenv('TF_CONFIG', raising=False)
    config = tf.estimator.RunConfig(str(tmp_path))
    assert list(inspect.signature(model_fn).parameters) == ['features', 'labels', 'mode', 'config']
    assert kinds() == [[], []]
    estimator = tf.estimator.Estimator(model_fn, config=config)
    estimator.train(lambda: tf.data.Dataset.from_tensors(tf.ones([4])).repeat(), steps=1)
    _set_role(monkeypatch, 'worker')
    assert kinds() == [['GraphAgreementHook'], []]

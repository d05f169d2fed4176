"""Judges a TF_CONFIG by TensorFlow's two sets of rules, which contradict each other.

`RunConfig` alone wants a chief and takes any evaluator. With a strategy in `train_distribute` the
coordinator of the strategies reads it again: a chief may be missing, and the evaluator must stand
in the cluster. This module imports no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
from typing import Any, Iterator, Mapping, Optional, Union

from estimator_spec_ext.diagnostics import Severity

JOBS = ('chief', 'master', 'worker', 'ps', 'evaluator')
_OF_STRATEGIES = ('chief', 'worker', 'ps', 'evaluator')
_KEYS = ('cluster', 'task', 'environment', 'service', 'session_master', 'eval_session_master',
         'model_dir', 'rpc_layer', 'job')
# What people write for the two keys of a task.
_ALIASES = {'index': ('id', 'task_id', 'task_index', 'idx', 'rank', 'number'),
            'type': ('job', 'job_name', 'name', 'task_type', 'role', 'kind')}
_FORM = ('write {"cluster": {"chief": ["host:2222"], "worker": ["host:2222"]}, '
         '"task": {"type": "worker", "index": 0}}')
_ADDRESS = re.compile(r'(?P<host>\[[0-9A-Fa-f:.]+\]|[^:/\s]+):(?P<port>\d+)')
_MAX_PORT = 65535

# Kinds of faults; each has a rule.
INVALID, ADDRESS, EVALUATOR, NAME, NO_PS = 'invalid', 'address', 'evaluator', 'name', 'no ps'


@dataclasses.dataclass(frozen=True)
class Fault:
    """One thing that is wrong with a TF_CONFIG.

    Attributes:
      kind: one of the kinds above.
      message: a sentence that quotes the wrong part.
      hint: the right form.
      severity: how sure it is.
      expected: the right form in few words.
      actual: the wrong part.
    """

    kind: str
    message: str
    hint: str
    severity: Severity = Severity.ERROR
    expected: Optional[str] = None
    actual: Optional[str] = None


@dataclasses.dataclass(frozen=True)
class Use:
    """How a job uses TF_CONFIG, as far as it is known.

    Attributes:
      strategy: whether `RunConfig` has a `train_distribute`; None when nobody knows.
      collective: whether that is a MultiWorkerMirroredStrategy; None when nobody knows.
    """

    strategy: Optional[bool] = None
    collective: Optional[bool] = None


def parse(value: Union[str, Mapping[str, Any], None]) -> tuple[Any, Optional[Fault]]:
    """A TF_CONFIG as a dict, or what keeps it from being one.

    Args:
      value: the text of the variable, or what it stands for.

    Returns:
      The dict ({} for None) and None; or None and the `Fault`.

    Example:
      >>> parse('{"cluster": {}}')
      ({'cluster': {}}, None)
    """
    if value is None:
        return {}, None
    if isinstance(value, str):
        if not value.strip():
            return None, Fault(INVALID, 'TF_CONFIG is empty; expected a JSON object',
                               'unset it for a job without a cluster', actual="''")
        try:
            value = json.loads(value)
        except ValueError as error:
            return None, _not_json(str(value), error)
    if not isinstance(value, Mapping):
        return None, _wrong_kind('TF_CONFIG', value, 'an object')
    return dict(value), None


UNKNOWN = Use()


def faults(value: Union[str, Mapping[str, Any], None], use: Use = UNKNOWN) -> list[Fault]:
    """All that is wrong with one TF_CONFIG.

    Args:
      value: the text of the variable, or the dict.
      use: how the job uses it. Where that is not known, what is wrong under one set of rules alone
        is a warning.

    Returns:
      The `Fault`s; [] for one that TensorFlow takes.

    Example:
      >>> [fault.message for fault in faults('{"cluster": {"chief": ["a:1"]}, "task": {}}')]
      ['TF_CONFIG has a cluster, and no type of task']
    """
    config, broken = parse(value)
    if broken is not None:
        return [broken]
    found = list(shape_faults(config))
    if any(fault.kind == INVALID for fault in found):
        return found
    cluster = {job: tasks for job, tasks in (config.get('cluster') or {}).items() if tasks}
    found += _top_level(config)
    if not cluster:
        return found + list(_without_cluster(config.get('task') or {}))
    misnamed = list(_job_names(cluster, use))
    found += misnamed
    found += _addresses(cluster)
    found += _chiefs(cluster, use, misnamed)
    found += _task(cluster, config.get('task') or {}, use, misnamed)
    return found


def tasks(config: Mapping[str, Any]) -> list[tuple[str, int]]:
    """The tasks of the cluster of a faultless TF_CONFIG, the chief first, the evaluator last.

    Example:
      >>> tasks({'cluster': {'worker': ['a:1', 'b:1'], 'chief': ['c:1']}})
      [('chief', 0), ('worker', 0), ('worker', 1)]
    """
    cluster = config.get('cluster') or {}
    jobs = sorted(cluster, key=lambda job: (JOBS.index(job) if job in JOBS else len(JOBS), job))
    return [(job, index) for job in jobs for index in range(len(cluster[job] or ()))]


def of_task(config: Mapping[str, Any], job: str, index: int) -> dict[str, Any]:
    """The TF_CONFIG of another task of the same cluster."""
    return {**config, 'task': {**(config.get('task') or {}), 'type': job, 'index': index}}


def role_of(config: Mapping[str, Any]) -> str:
    """'worker/1' for the task of a TF_CONFIG; 'local' for one without a cluster."""
    task = config.get('task') or {}
    if not config.get('cluster'):
        return 'local'
    return f'{task.get("type")}/{int(task.get("index", 0))}'


def workers(config: Mapping[str, Any]) -> int:
    """How many tasks train, the chief included; 1 without a cluster."""
    cluster = config.get('cluster') or {}
    return max(1, sum(len(cluster.get(job) or ()) for job in ('chief', 'master', 'worker')))


def is_chief(config: Mapping[str, Any]) -> Optional[bool]:
    """Whether this is the task of a chief; None in a cluster without one, and without a cluster."""
    cluster = config.get('cluster') or {}
    chiefs = {'chief', 'master'} & set(cluster)
    return (config.get('task') or {}).get('type') in chiefs if chiefs else None


def cluster_of_environment() -> dict[str, Any]:
    """The addresses by job in the environment's TF_CONFIG; {} without a cluster."""
    config, broken = parse(os.environ.get('TF_CONFIG'))
    if broken is not None or list(shape_faults(config)):
        return {}
    return {job: listed for job, listed in (config.get('cluster') or {}).items() if listed}


def addresses(config: Mapping[str, Any]) -> dict[str, str]:
    """The address of each task of a cluster by its role."""
    return {f'{job}/{index}': config['cluster'][job][index] for job, index in tasks(config)}


# One fault of a kind is told, the first: the others mostly follow from it.

def _not_json(text: str, error: ValueError) -> Fault:
    position = getattr(error, 'pos', 0)
    start = max(0, position - 12)
    part = text[start:position + 12]
    why = getattr(error, 'msg', str(error)).lower().removesuffix(' starting at')
    hint = 'make it with json.dumps: JSON has double quotes' if "'" in text else _FORM
    return Fault(INVALID, f'TF_CONFIG is no JSON: {why} at {part!r}', hint,
                 expected='a JSON object', actual=repr(part))


def _wrong_kind(what: str, value: Any, expected: str) -> Fault:
    kind = {dict: 'an object', list: 'a list', str: 'a string', int: 'a number',
            float: 'a number', bool: 'a bool', type(None): 'null'}.get(type(value), 'no JSON')
    plain = type(value) in (str, int, float, bool) and len(repr(value)) < 30
    shown = f' {value!r}' if plain else ''
    return Fault(INVALID, f'{what} is {kind}{shown}; expected {expected}', _FORM,
                 expected=expected, actual=kind)


def shape_faults(config: Mapping[str, Any]) -> Iterator[Fault]:
    """What keeps the parts of a TF_CONFIG from being read."""
    cluster, task = config.get('cluster'), config.get('task')
    if cluster is not None and not isinstance(cluster, Mapping):
        yield _wrong_kind('"cluster" of TF_CONFIG', cluster, 'an object')
        return
    if task is not None and not isinstance(task, Mapping):
        yield _wrong_kind('"task" of TF_CONFIG', task, 'an object')
        return
    if config.get('model_dir') == '':
        yield Fault(INVALID, '"model_dir" of TF_CONFIG is empty', 'leave it out')
        return
    for job, listed in (cluster or {}).items():
        if not isinstance(listed, list):
            yield _wrong_kind(f'{job!r} of the cluster in TF_CONFIG', listed,
                              'a list of "host:port"')
            return
        for index, address in enumerate(listed):
            if not isinstance(address, str):
                yield _wrong_kind(f'address {index} of {job!r} in TF_CONFIG', address,
                                  'a string "host:port"')
                return


def _top_level(config: Mapping[str, Any]) -> Iterator[Fault]:
    for key in config:
        if key in _KEYS:
            continue
        near = difflib.get_close_matches(str(key).lower(), ('cluster', 'task'), n=1, cutoff=.7)
        if near and near[0] not in config:
            yield Fault(NAME, f'TF_CONFIG has {key!r}, which TensorFlow does not read',
                        f'call it "{near[0]}"', expected=near[0], actual=str(key))
            return
    if config.get('environment') == 'google':
        yield Fault(NAME, '"environment" of TF_CONFIG is \'google\': no server will be started',
                    'leave "environment" out, or write "cloud"', Severity.WARNING,
                    expected='cloud', actual='google')


def _without_cluster(task: Mapping[str, Any]) -> Iterator[Fault]:
    kind, index = task.get('type'), task.get('index')
    if kind is not None and kind != 'worker':
        yield Fault(INVALID, f'TF_CONFIG has task {kind!r}, and no cluster',
                    'add the cluster, or leave the task out', expected='a cluster',
                    actual='none')
    elif index not in (None, 0, '0'):
        yield Fault(INVALID, f'TF_CONFIG has task index {index!r}, and no cluster',
                    'add the cluster, or leave the task out', expected='a cluster',
                    actual='none')


def _job_names(cluster: Mapping[str, Any], use: Use) -> Iterator[Fault]:
    for job in cluster:
        if job in JOBS:
            continue
        near = difflib.get_close_matches(str(job).lower(), JOBS, n=1, cutoff=.6)
        if near and near[0] not in cluster:
            yield Fault(NAME, f'the cluster in TF_CONFIG has job {job!r}; did you mean '
                              f'{near[0]!r}?', f'call it "{near[0]}"', expected=near[0],
                        actual=str(job))
        elif use.strategy:
            yield Fault(NAME, f'the cluster in TF_CONFIG has job {job!r}, which strategies refuse',
                        f'name the jobs {", ".join(_OF_STRATEGIES)}',
                        expected=', '.join(_OF_STRATEGIES), actual=str(job))


def _addresses(cluster: Mapping[str, Any]) -> Iterator[Fault]:
    seen: dict[str, str] = {}
    for job, index in tasks({'cluster': cluster}):
        address, task = cluster[job][index], f'{job} {index}'
        found = _ADDRESS.fullmatch(address)
        right = 'write host:port, as in "10.0.0.1:2222"'
        if found is None:
            wrong = ('has a scheme' if '://' in address else
                     'has no port' if ':' not in address.strip('[]') or address.endswith(']')
                     else 'is no host:port')
            yield Fault(ADDRESS, f'the address of {task} in TF_CONFIG {wrong}: {address!r}', right,
                        expected='host:port', actual=repr(address))
            return
        port = int(found['port'])
        if not 0 < port <= _MAX_PORT:
            yield Fault(ADDRESS, f'the address of {task} in TF_CONFIG has port {port}: '
                                 f'{address!r}', 'write a port from 1 to 65535',
                        Severity.WARNING if port else Severity.ERROR,
                        expected='1 to 65535', actual=str(port))
            return
        if job == 'evaluator':
            continue  # it starts no server
        if address in seen:
            yield Fault(ADDRESS, f'{seen[address]} and {task} in TF_CONFIG have one address: '
                                 f'{address!r}', 'give each task an address of its own',
                        expected='different addresses', actual=repr(address))
            return
        seen[address] = task


def _chiefs(cluster: Mapping[str, Any], use: Use, misnamed: list[Fault]) -> Iterator[Fault]:
    jobs = ', '.join(sorted(cluster))
    if 'chief' in cluster and 'master' in cluster:
        yield Fault(INVALID, 'the cluster in TF_CONFIG has a chief and a master',
                    'leave the master out', expected='one of them', actual='both')
        return
    for job in ('chief', 'master'):
        if len(cluster.get(job, ())) > 1:
            yield Fault(INVALID, f'the cluster in TF_CONFIG has {len(cluster[job])} of {job!r}; '
                                 'expected one', f'leave one {job}, make the others workers',
                        expected='1', actual=str(len(cluster[job])))
            return
    if len(cluster.get('evaluator', ())) > 1:
        yield Fault(EVALUATOR, f'the cluster in TF_CONFIG has {len(cluster["evaluator"])} '
                               'evaluators; expected one', 'leave one evaluator', expected='1',
                    actual=str(len(cluster['evaluator'])))
    if 'master' in cluster and use.strategy:
        yield Fault(INVALID, "the cluster in TF_CONFIG has a 'master', which strategies refuse",
                    'call it "chief"', expected='chief', actual='master')
        return
    if misnamed or {'chief', 'master'} & set(cluster):
        if use.strategy is False and 'worker' in cluster and 'ps' not in cluster and not misnamed:
            yield Fault(NO_PS, f'the cluster in TF_CONFIG has no ps ({jobs}), and the job no '
                               'strategy', 'add a "ps" job, or a '
                               'tf.distribute.MultiWorkerMirroredStrategy', expected='a ps',
                        actual=jobs)
        return
    if use.strategy and 'worker' in cluster:
        return
    soft = use.strategy is None and 'worker' in cluster
    yield Fault(INVALID, f'the cluster in TF_CONFIG has no chief ({jobs})'
                         + ('; only jobs with a strategy may' if soft else ''),
                'call one of the workers "chief"', Severity.WARNING if soft else Severity.ERROR,
                expected='a chief', actual=jobs)


def _task(cluster: Mapping[str, Any], task: Mapping[str, Any], use: Use,
          misnamed: list[Fault]) -> Iterator[Fault]:
    for key in ('type', 'index'):
        if task.get(key) is None or task.get(key) == '':
            other = next((name for name in task if name in _ALIASES[key]), None)
            yield Fault(INVALID, f'TF_CONFIG has a cluster, and no {key} of task'
                        + (f', but {other!r}' if other else ''),
                        f'call it "{key}"' if other else
                        'add "task": {"type": "worker", "index": 0}', expected=key,
                        actual=str(other))
            return
    kind, index = task['type'], task['index']
    jobs = ', '.join(sorted(cluster))
    if kind not in cluster and kind != 'evaluator':
        near = difflib.get_close_matches(str(kind).lower(), [*cluster, *JOBS], n=1, cutoff=.6)
        if misnamed and kind in JOBS:
            return  # it is the job that is misspelt
        yield Fault(INVALID, f'TF_CONFIG has task {kind!r}, and no such job in its cluster '
                             f'({jobs})',
                    f'did you mean "{near[0]}"?' if near and near[0] in cluster
                    else 'add the job to the cluster', expected=jobs, actual=str(kind))
        return
    try:
        number = int(index)
    except (TypeError, ValueError):
        yield Fault(INVALID, f'TF_CONFIG has task index {index!r}; expected a number',
                    'write "index": 0', expected='a number', actual=repr(index))
        return
    wrong = list(_index(cluster, str(kind), number))
    if kind == 'evaluator' and not wrong:
        wrong = list(_evaluator(cluster, use))
    yield from wrong
    if isinstance(index, str) and not wrong:
        yield Fault(INVALID, f'TF_CONFIG has task index {index!r}, a string',
                    f'write "index": {number}', Severity.INFO, expected=str(number),
                    actual=repr(index))


def _index(cluster: Mapping[str, Any], kind: str, number: int) -> Iterator[Fault]:
    size = max(1, len(cluster.get(kind, ())))
    if 0 <= number < size or len(cluster.get(kind, ())) > 1 and kind == 'evaluator':
        return
    what = 'there is one evaluator at most' if kind == 'evaluator' else (
        f'its cluster has {size} of them')
    right = 'write "index": 0' if size == 1 else f'write an index from 0 to {size - 1}'
    yield Fault(EVALUATOR if kind == 'evaluator' else INVALID,
                f'TF_CONFIG has {kind} {number}; {what}', right, expected=f'0 to {size - 1}',
                actual=str(number))


def _evaluator(cluster: Mapping[str, Any], use: Use) -> Iterator[Fault]:
    if 'master' in cluster:
        yield Fault(EVALUATOR, 'TF_CONFIG has task \'evaluator\' beside a master, which evaluates '
                               'itself', 'call the master "chief"', expected='a chief',
                    actual='a master')
    elif 'evaluator' not in cluster and use.collective is not False and use.strategy is not False:
        soft = use.collective is None
        yield Fault(EVALUATOR, 'TF_CONFIG has task \'evaluator\', which is not in its cluster'
                    + ('; multi-worker strategies want it' if soft else ''),
                    'add "evaluator": ["host:2222"] to the cluster',
                    Severity.INFO if soft else Severity.ERROR, expected='evaluator in the cluster',
                    actual=', '.join(sorted(cluster)))

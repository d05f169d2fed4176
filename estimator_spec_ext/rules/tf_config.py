"""What TF_CONFIG says, by itself."""

from __future__ import annotations

import json
import os
from typing import Any, Iterator, Optional

from estimator_spec_ext.diagnostics import Finding, Report, Severity
from estimator_spec_ext.rule import Rule

_CLUSTER: dict[str, Any] = {'chief': ['a.invalid:1'], 'worker': ['b.invalid:1', 'c.invalid:1'],
                            'ps': ['d.invalid:1']}


def text_of(facts: Any) -> Any:
    """The TF_CONFIG that the facts speak of: their own, or that of the environment."""
    return facts.tf_config if hasattr(facts, 'tf_config') else os.environ.get('TF_CONFIG')


def faults_of(facts: Any, kind: str) -> Iterator[Any]:
    """The faults of one kind."""
    from estimator_spec_ext.preflight import tf_config as lib
    from estimator_spec_ext.preflight import validate_config
    use = getattr(facts, 'use', None)
    if use is None:
        use = validate_config.use_of(facts.config.train_distribute or False)
    for fault in lib.faults(text_of(facts), use):
        if fault.kind == kind:
            yield fault


def config(task: str = 'chief', index: Any = 0, cluster: Any = None, **keys: Any) -> str:
    """A TF_CONFIG as text."""
    return json.dumps({'cluster': _CLUSTER if cluster is None else cluster,
                       'task': {'type': task, 'index': index}, **keys})


def judged(value: Any, strategy: Optional[bool] = False,
           collective: Optional[bool] = False) -> Report:
    """What the rules say of a TF_CONFIG."""
    from estimator_spec_ext.preflight import tf_config as lib
    from estimator_spec_ext.preflight import validate_config
    return validate_config.config_report(value, lib.Use(strategy, collective))


class _TfConfigRule(Rule):
    """A rule about one kind of fault."""

    stage = 'config'
    mistakes: tuple[str, ...] = ('D3',)
    kind = ''

    def check(self, facts: Any) -> Iterator[Finding]:
        for fault in faults_of(facts, self.kind):
            yield self.finding(facts, fault.message, hint=fault.hint, field='TF_CONFIG',
                               expected=fault.expected, actual=fault.actual,
                               severity=fault.severity)


def bad_json() -> Any:
    """A quote is missing."""
    return judged('{"cluster: {}}')


def bad_quotes() -> Any:
    """Python's quotes are no JSON."""
    return judged(str(json.loads(config())))


def bad_list() -> Any:
    """A list."""
    return judged('[]')


def bad_cluster_list() -> Any:
    """A list of addresses instead of a cluster."""
    return judged('{"cluster": ["a.invalid:1"]}')


def bad_single_address() -> Any:
    """A string instead of a list."""
    return judged(config(cluster={**_CLUSTER, 'ps': 'd.invalid:1'}))


def bad_task_type() -> Any:
    """A typo."""
    return judged(config('wroker'))


def bad_index() -> Any:
    """Worker 2 of two."""
    return judged(config('worker', 2))


def bad_negative_index() -> Any:
    """An index below 0."""
    return judged(config('worker', -1), True, True)


def bad_text_index() -> Any:
    """A name instead of an index."""
    return judged(config('worker', 'b'))


def bad_no_index() -> Any:
    """Another name for the index."""
    return judged(json.dumps({'cluster': _CLUSTER, 'task': {'type': 'worker', 'id': 0}}))


def bad_no_chief() -> Any:
    """Without a strategy one task must be the chief."""
    return judged(config('worker', cluster={'worker': ['b.invalid:1'], 'ps': ['d.invalid:1']}))


def bad_maybe_no_chief() -> Any:
    """Nobody knows whether the job has a strategy."""
    return judged(config('worker', cluster={'worker': ['b.invalid:1']}), None, None)


def bad_two_chiefs() -> Any:
    """Two chiefs."""
    return judged(config(cluster={**_CLUSTER, 'chief': ['a.invalid:1', 'e.invalid:1']}), True, True)


def bad_master_and_chief() -> Any:
    """A chief of each kind."""
    return judged(config(cluster={**_CLUSTER, 'master': ['e.invalid:1']}))


def bad_master() -> Any:
    """A strategy looks for a chief, and does not know masters."""
    return judged(config('master', cluster={
        'master': ['a.invalid:1'], 'worker': ['b.invalid:1']}), True, True)


def bad_no_cluster() -> Any:
    """A chief of nothing."""
    return judged('{"task": {"type": "chief", "index": 0}}')


def good_empty() -> Any:
    """No cluster."""
    return judged('{}')


def good_text_index() -> Any:
    """TensorFlow makes a number of it."""
    return judged(config('worker', '1'))


def good_no_chief() -> Any:
    """Worker 0 is the chief then."""
    return judged(config('worker', cluster={'worker': ['b.invalid:1', 'c.invalid:1']}), True, True)


def good_master() -> Any:
    """The older name of the chief, without a strategy."""
    return judged(config('master', cluster={
        'master': ['a.invalid:1'], 'worker': ['b.invalid:1'], 'ps': ['d.invalid:1']}))


class TfConfigInvalid(_TfConfigRule):
    """TF_CONFIG contradicts itself.

    What it finds: a TF_CONFIG that is no JSON object, a task that is not in the cluster, an index
    out of its range, a cluster with two chiefs, or without one where the job has no strategy, or
    with a master where it has one.

    Why it matters: RunConfig reads it when it is made, and strategies once more: some of this stops
    the job with a message about types, the rest makes it run alone, or wait for ever.

    Bad:
        {"cluster": {"worker": ["host:2222"]}, "task": {"type": "chief", "index": 0}}

    Good:
        {"cluster": {"chief": ["host:2222"]}, "task": {"type": "chief", "index": 0}}

    When to suppress: when TF_CONFIG is for another program.
    """

    code = 'ESX819'
    slug = 'tf-config-invalid'
    severity = Severity.ERROR
    mistakes = ('D3', 'D4')
    kind = 'invalid'
    more_bad = (bad_json, bad_quotes, bad_list, bad_cluster_list, bad_single_address, bad_task_type,
                bad_index, bad_negative_index, bad_text_index, bad_no_index, bad_no_chief,
                bad_maybe_no_chief, bad_two_chiefs, bad_master_and_chief, bad_master,
                bad_no_cluster)
    more_good = (good_empty, good_text_index, good_no_chief, good_master)

    @staticmethod
    def bad() -> Any:
        """An empty variable."""
        return judged('')

    @staticmethod
    def good() -> Any:
        """A chief of its cluster."""
        return judged(config())


def _with_address(address: str) -> Report:
    return judged(config(cluster={**_CLUSTER, 'ps': [address]}))


def bad_scheme() -> Any:
    """A URL."""
    return _with_address('http://d.invalid:1')


def bad_twice() -> Any:
    """Two tasks at one address."""
    return _with_address('b.invalid:1')


def bad_port() -> Any:
    """A service's name for the port."""
    return _with_address('d.invalid:grpc')


def bad_high_port() -> Any:
    """TensorFlow wraps it around and listens somewhere."""
    return _with_address('d.invalid:99999')


def good_ipv6() -> Any:
    """An IPv6 address."""
    return _with_address('[::1]:2222')


class TfConfigAddress(_TfConfigRule):
    """An address in TF_CONFIG is no host:port, or that of another task.

    What it finds: addresses with a scheme, without a port, with a port that is no number or too
    large, and two tasks of one address.

    Why it matters: RunConfig takes any text. gRPC aborts the process on an address without a port,
    and the second task of an address dies with "Could not start gRPC server"; the other tasks wait
    for them without a word.

    Bad:
        {"cluster": {"chief": ["10.0.0.1"], ...

    Good:
        {"cluster": {"chief": ["10.0.0.1:2222"], ...

    When to suppress: when a resolver of your own reads TF_CONFIG.
    """

    code = 'ESX830'
    slug = 'tf-config-address'
    severity = Severity.ERROR
    kind = 'address'
    more_bad = (bad_scheme, bad_twice, bad_port, bad_high_port)
    more_good = (good_ipv6,)

    @staticmethod
    def bad() -> Any:
        """No port."""
        return _with_address('d.invalid')

    @staticmethod
    def good() -> Any:
        """A host and a port."""
        return _with_address('d.invalid:1')


def bad_second_evaluator() -> Any:
    """There is one evaluator."""
    return judged(config('evaluator', 1))


def bad_two_evaluators() -> Any:
    """Two in the cluster."""
    return judged(config(cluster={**_CLUSTER, 'evaluator': ['e.invalid:1', 'f.invalid:1']}))


def bad_beside_master() -> Any:
    """A master evaluates by itself."""
    return judged(config('evaluator', cluster={
        'master': ['a.invalid:1'], 'worker': ['b.invalid:1'], 'ps': ['d.invalid:1']}))


def good_outside() -> Any:
    """Without a strategy it stands outside of the cluster."""
    return judged(config('evaluator'))


def good_inside() -> Any:
    """With a strategy it stands in the cluster."""
    return judged(config('evaluator', cluster={
        'chief': ['a.invalid:1'], 'evaluator': ['e.invalid:1']}), True, True)


class TfConfigEvaluator(_TfConfigRule):
    """The evaluator does not stand where the job looks for it.

    What it finds: under MultiWorkerMirroredStrategy an evaluator that is not in the cluster; an
    evaluator beside a master; a second evaluator.

    Why it matters: without a strategy RunConfig wants the evaluator outside of the cluster, or
    takes it anywhere; MultiWorkerMirroredStrategy looks for it in the cluster, and raises KeyError:
    'evaluator'. The other tasks train on and end well: nobody evaluates, nobody exports.

    Bad:
        {"cluster": {"chief": [...], "worker": [...]}, "task": {"type": "evaluator", "index": 0}}

    Good:
        {"cluster": {"chief": [...], "worker": [...], "evaluator": ["host:2222"]}, "task": ...

    When to suppress: when a resolver of your own reads TF_CONFIG.
    """

    code = 'ESX831'
    slug = 'tf-config-evaluator'
    severity = Severity.ERROR
    kind = 'evaluator'
    more_bad = (bad_second_evaluator, bad_two_evaluators, bad_beside_master)
    more_good = (good_inside,)

    @staticmethod
    def bad() -> Any:
        """Outside of the cluster, under MultiWorkerMirroredStrategy."""
        return judged(config('evaluator', cluster={
            'chief': ['a.invalid:1'], 'worker': ['b.invalid:1']}), True, True)

    @staticmethod
    def good() -> Any:
        """Outside of the cluster, without a strategy."""
        return good_outside()


def bad_key() -> Any:
    """Nobody reads "clusters": the job would run alone."""
    return judged(json.dumps({'clusters': _CLUSTER, 'task': {'type': 'worker', 'index': 0}}))


def bad_google() -> Any:
    """A word that Estimator takes for another world."""
    return judged(config(environment='google'))


def bad_own_job() -> Any:
    """Strategies know four jobs."""
    return judged(config(cluster={'chief': ['a.invalid:1'], 'preparer': ['b.invalid:1']}),
                  True, True)


def good_cloud() -> Any:
    """What orchestrators add."""
    return judged(config(environment='cloud', job={'job_id': 'a'}))


def good_own_job() -> Any:
    """A job of one's own, without a strategy."""
    return judged(config(cluster={**_CLUSTER, 'preparer': ['e.invalid:1']}))


class TfConfigName(_TfConfigRule):
    """A name in TF_CONFIG means nothing to TensorFlow.

    What it finds: keys and jobs that look like a misspelt one, jobs that strategies refuse, and
    "environment": "google".

    Why it matters: TensorFlow takes any job, and leaves keys alone that it does not know. The tasks
    of a misspelt job are missing, and the others wait for them; without "cluster" each task trains
    alone into the same model_dir, and all end well. In the environment "google" train_and_evaluate
    starts no server.

    Bad:
        {"cluster": {"cheif": ["host:2222"], ...

    Good:
        {"cluster": {"chief": ["host:2222"], ...

    When to suppress: when the job is one of your own.
    """

    code = 'ESX832'
    slug = 'tf-config-unknown-name'
    severity = Severity.ERROR
    kind = 'name'
    more_bad = (bad_key, bad_google, bad_own_job)
    more_good = (good_cloud, good_own_job)

    @staticmethod
    def bad() -> Any:
        """A typo."""
        return judged(config('worker', cluster={'cheif': ['a.invalid:1'],
                                                'worker': ['b.invalid:1']}))

    @staticmethod
    def good() -> Any:
        """The right names."""
        return judged(config('worker'))


def good_strategy() -> Any:
    """A MultiWorkerMirroredStrategy needs no ps."""
    return judged(config(cluster={'chief': ['a.invalid:1'], 'worker': ['b.invalid:1']}),
                  True, True)


def good_chief_alone() -> Any:
    """Nobody else trains."""
    return judged(config(cluster={'chief': ['a.invalid:1']}))


class NoParameterServer(_TfConfigRule):
    """Workers without a parameter server and without a strategy share nothing.

    What it finds: a cluster with a chief and workers, without ps, for a RunConfig without
    train_distribute.

    Why it matters: each task has variables of its own. The chief trains alone and ends well; the
    workers wait for ever for a chief that initialises theirs.

    Bad:
        {"cluster": {"chief": [...], "worker": [...]}, ...   with RunConfig()

    Good:
        {"cluster": {"chief": [...], "worker": [...], "ps": [...]}, ...   with RunConfig()

    When to suppress: when a device_fn of your own places the variables.
    """

    code = 'ESX833'
    slug = 'no-parameter-server'
    severity = Severity.ERROR
    mistakes = ('D3', 'D4')
    kind = 'no ps'
    more_good = (good_strategy, good_chief_alone)

    @staticmethod
    def bad() -> Any:
        """A chief and a worker."""
        return judged(config(cluster={'chief': ['a.invalid:1'], 'worker': ['b.invalid:1']}))

    @staticmethod
    def good() -> Any:
        """With a ps."""
        return judged(config())

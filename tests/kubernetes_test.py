"""The manifest for Kubernetes: it can be read, and its init container's command does its work."""

from __future__ import annotations

import json
import pathlib
import re
import sys

import pytest
import yaml

from estimator_spec_ext import cli

FOLDER = pathlib.Path(__file__).absolute().parent.parent / 'examples'
KINDS = {'Chief': 'chief', 'Worker': 'worker', 'PS': 'ps', 'Evaluator': 'evaluator'}

pytestmark = pytest.mark.once


@pytest.fixture(scope='module')
def job():
    """The manifest, as Kubernetes reads it."""
    return yaml.safe_load((FOLDER / 'kubernetes' / 'tfjob.yaml').read_text())


def _init_container(job, kind):
    found, = job['spec']['tfReplicaSpecs'][kind]['template']['spec']['initContainers']
    return found


def _environment(container, **labels):
    """The variables of a container, the way Kubernetes fills them in."""
    values = {}
    for entry in container['env']:
        if 'value' in entry:
            values[entry['name']] = re.sub(
                r'\$\((\w+)\)', lambda match: values.get(match[1], match[0]), entry['value'])
        else:
            label = re.fullmatch(r"metadata\.labels\['training\.kubeflow\.org/replica-(\w+)'\]",
                                 entry['valueFrom']['fieldRef']['fieldPath'])
            values[entry['name']] = labels[label[1]]
    return values


def test_the_cluster_is_the_one_of_the_job(job):
    specs = job['spec']['tfReplicaSpecs']
    assert {kind: spec['replicas'] for kind, spec in specs.items()} == {
        'Chief': 1, 'Worker': 2, 'PS': 1, 'Evaluator': 1}
    name, namespace = job['metadata']['name'], job['metadata']['namespace']
    for kind, spec in specs.items():
        for index in range(spec['replicas']):
            values = _environment(_init_container(job, kind), type=KINDS[kind], index=str(index))
            config = json.loads(values['TF_CONFIG'])
            assert config['task'] == {'type': KINDS[kind], 'index': index}
            assert config['cluster'] == {
                KINDS[other]: [f'{name}-{KINDS[other]}-{i}.{namespace}.svc:2222'
                               for i in range(specs[other]['replicas'])]
                for other in ('Chief', 'Worker', 'PS')}
        pod = spec['template']['spec']
        trained, = pod['containers']
        assert trained['name'] == 'tensorflow'
        assert {(item['name'], item['value']) for item in trained['env']} <= set(values.items())
        assert pod['volumes'][0]['name'] == trained['volumeMounts'][0]['name']


@pytest.mark.slow
@pytest.mark.parametrize('kind', sorted(KINDS))
def test_the_init_container_preflights_its_role(job, kind, tmp_path, monkeypatch, capsys):
    container = _init_container(job, kind)
    program, *arguments = container['command']
    assert program == 'estimator-preflight'
    for name, value in _environment(container, type=KINDS[kind], index='0').items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv('MODEL_DIR', str(tmp_path / 'model'))
    monkeypatch.syspath_prepend(str(FOLDER))
    try:
        assert cli.main(arguments) == 0
    finally:
        sys.modules.pop('multi_worker', None)
    assert capsys.readouterr().out == 'estimator_spec_ext: no findings\n'
    assert not list(tmp_path.iterdir())

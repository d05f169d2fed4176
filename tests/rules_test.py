"""Runs the examples of every rule: bad gives exactly its finding, good gives nothing.

The whole text of what bad gives is kept in `tests/golden/<slug>.txt`; after a wanted change

    python -m pytest tests/rules_test.py --regenerate-golden

writes these files anew, and `git diff tests/golden` shows what changed.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib

import pytest
import tensorflow as tf

from estimator_spec_ext import registry, testing
from estimator_spec_ext.diagnostics import Severity
from estimator_spec_ext.preflight import reader

GOLDEN = pathlib.Path(__file__).parent / 'golden'
# Not resolved: under Bazel the files are links to elsewhere.
ROOT = pathlib.Path(registry.__file__).absolute().parent.parent


@pytest.fixture(scope='module', autouse=True)
def _one_process_for_all_exports():
    with reader.one_for_all():
        yield


def _builders(rule, kind):
    return [getattr(rule, kind), *getattr(rule, f'more_{kind}')]


def _marks(rule):
    """What is exported is read back by another process, whose behaviour is always the same."""
    return [pytest.mark.once] if rule.stage == 'serve' else []


def _rules():
    return [pytest.param(rule, id=rule.slug, marks=_marks(rule)) for rule in registry.rules()]


def _examples(kind):
    return [pytest.param(rule, builder, id=f'{rule.slug}-{builder.__name__}', marks=_marks(rule))
            for rule in registry.rules() for builder in _builders(rule, kind)]


def _run(builder):
    """The report of an example, after a look at whether the checks left the graph alone."""
    seen = []

    def watched():
        made = builder()
        graph = tf.compat.v1.get_default_graph()
        seen.append((graph, graph.version, _collections(graph)))
        return made

    report = testing.run_example(watched)
    (graph, version, collections), = seen
    assert graph.version == version, 'the checks added ops to the graph'
    assert _collections(graph) == collections, 'the checks changed a collection'
    return report


def _collections(graph):
    return {key: len(graph.get_collection_ref(key)) for key in graph.collections}


def _text(report):
    """What a report says, with paths from the root of the project and without line numbers."""
    texts = []
    for finding in report.findings:
        where = finding.where
        if where.file is not None:
            path = os.path.relpath(where.file, ROOT).replace(os.sep, '/')
            where = dataclasses.replace(where, file=path, line='#')
        texts.append(dataclasses.replace(finding, where=where).to_text())
    return '\n\n'.join(texts) + '\n'


@pytest.mark.parametrize('rule', _rules())
def test_bad_example_gives_this_finding_and_its_whole_text(rule, request):
    reports = {builder.__name__: _run(builder) for builder in _builders(rule, 'bad')}
    assert len(reports) == len(_builders(rule, 'bad')), 'two bad builders have one name'
    for name, report in reports.items():
        assert {finding.slug for finding in report.findings} == {rule.slug}, (
            f'{name} of {rule.slug} gives\n{report.to_text()}')
        for finding in report.findings:
            assert finding.code == rule.code
            assert finding.severity.rank >= rule.severity.rank, 'harder than the rule itself'
            assert not finding.message.endswith('.')
            assert finding.hint
    # The rule can reach its full severity.
    assert rule.severity in {finding.severity for report in reports.values()
                             for finding in report.findings}
    text = '\n'.join(f'== {name}\n\n{_text(report)}' for name, report in reports.items())
    path = GOLDEN / f'{rule.slug}.txt'
    # Where a text quotes TensorFlow, and this one words it otherwise.
    own = GOLDEN / f'tensorflow-{".".join(tf.__version__.split(".")[:2])}' / path.name
    path = own if own.exists() else path
    if request.config.getoption('--regenerate-golden'):
        path.write_text(text, encoding='utf-8')
    assert path.exists(), f'{path.name} is missing: run with --regenerate-golden and look at it'
    assert text == path.read_text(encoding='utf-8')


@pytest.mark.parametrize('rule, builder', _examples('good'))
def test_good_example_gives_nothing(rule, builder):
    report = _run(builder)
    loud = [finding for finding in report.findings if finding.severity is not Severity.INFO]
    assert not loud, report.to_text()
    if rule.severity is Severity.INFO:
        assert rule.slug not in {finding.slug for finding in report.findings}


@pytest.mark.once
def test_every_golden_file_belongs_to_a_rule():
    slugs = {rule.slug for rule in registry.rules()}
    files = {path.stem for path in GOLDEN.glob('*.txt')}
    assert not files - slugs

"""Rules of other packages: found by their entry points, and refused whole when one is broken."""

from __future__ import annotations

import sys
import textwrap

import pytest
import tensorflow as tf

import estimator_spec_ext as ese
from estimator_spec_ext import plugins, registry

v1 = tf.compat.v1
pytestmark = pytest.mark.once

_RULE = '''
import estimator_spec_ext as ese

class WideLayer(ese.Rule):
    """A prediction is wider than the house allows."""
    code = {code!r}
    slug = {slug!r}
    severity = ese.Severity.WARNING
    stage = {stage!r}

    def check(self, facts):
        for key, tensor in facts.prediction_tensors.items():
            if tensor.shape[-1] is not None and tensor.shape[-1] > 8:
                yield self.finding(facts, f'predictions has width {{tensor.shape[-1]}}; '
                                   'expected at most 8', hint='make it narrower',
                                   field='predictions', op=tensor)

RULES = (WideLayer,)
'''


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Lays packages with an entry point on the path, and forgets them afterwards."""
    monkeypatch.syspath_prepend(str(tmp_path))
    modules = set(sys.modules)

    def install(name, source, value=None):
        (tmp_path / f'{name}.py').write_text(textwrap.dedent(source))
        folder = tmp_path / f'{name}-1.0.dist-info'
        folder.mkdir()
        (folder / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n')
        (folder / 'entry_points.txt').write_text(
            f'[{plugins.GROUP}]\n{name} = {value or name + ":RULES"}\n')
        registry.reload()

    yield install
    for name in set(sys.modules) - modules:
        if name.startswith('acme'):
            del sys.modules[name]
    monkeypatch.undo()
    registry.reload()


def _rule(code='ACME101', slug='prediction-too-wide', stage='graph'):
    return _RULE.format(code=code, slug=slug, stage=stage)


def _wide_spec():
    with tf.Graph().as_default():
        wide = v1.placeholder(tf.float32, [None, 9], name='wide')
        return tf.estimator.EstimatorSpec('infer', predictions={'p': wide})


def test_a_rule_of_another_package_is_a_rule_like_any_other(installed):
    installed('acme_rules', _rule())
    assert ese.rules()[0].code == 'ACME101'
    assert ese.explain('prediction-too-wide').startswith(
        'ACME101 prediction-too-wide (warning)\n')
    finding, = ese.validate_estimator_spec(_wide_spec()).findings
    assert (finding.code, finding.message, finding.where.op) == (
        'ACME101', 'predictions has width 9; expected at most 8', 'wide')
    report = ese.validate_estimator_spec(
        _wide_spec(), suppress={'prediction-too-wide': 'the head is cut later'})
    assert report.findings == () and len(report.suppressed) == 1
    assert '"id": "ACME101"' in ese.Report(findings=(finding,)).to_sarif()


def test_hooks_alone_are_judged_by_the_rules_about_hooks(installed):
    installed('acme_rules', _rule())
    with tf.Graph().as_default():
        report = ese.validate_hooks([], mode='train')
    assert 'prediction-too-wide' not in report.rules_run


@pytest.mark.parametrize('source, value, text', [
    ('import no_such_module', None, "ModuleNotFoundError: No module named 'no_such_module'"),
    ('raise SystemExit(3)', None, 'SystemExit: 3'),
    ('RULES = ()', None, 'it holds no rule'),
    ('RULES = (len,)', None, 'a builtin_function_or_method is no estimator_spec_ext.Rule'),
    ('RULES = 3', None, "TypeError: 'int' object is not iterable"),
    (_rule(), 'acme_rules:RULEZ', "AttributeError: module 'acme_rules' has no attribute 'RULEZ'"),
    (_rule(code='ESX201'), None, 'WideLayer.code must be capital letters, not ESX, and three or '
                                 "four digits, e.g. 'ACME101'"),
    (_rule(slug='loss-not-scalar'), None, 'WideLayer: loss-not-scalar is taken by '
                                          'estimator_spec_ext.rules.loss.LossNotScalar'),
    (_rule(slug='Too_Wide'), None, 'WideLayer.slug must be small letters and hyphens, e.g. '
                                   "'loss-too-large'"),
    (_rule(stage='tool'), None, 'WideLayer.stage must be one of spec, graph, modes, config, run, '
                                'serve, roles'),
])
def test_a_broken_plugin_is_one_finding_and_none_of_its_rules(installed, source, value, text):
    installed('acme_rules', source, value)
    finding, = ese.validate_estimator_spec(_wide_spec()).findings
    assert (finding.code, finding.slug, finding.severity) == (
        'ESX904', 'plugin-broken', ese.Severity.WARNING)
    name = f'acme_rules = {value or "acme_rules:RULES"}'
    assert finding.message == f'the rules of {name} are left out: {text}'
    assert not [rule for rule in ese.rules() if rule.code.startswith('ACME')]


def test_of_two_plugins_with_one_code_the_first_stays(installed):
    installed('acme_a', _rule())
    installed('acme_b', _rule(slug='another-slug'))
    assert {finding.slug for finding in ese.validate_estimator_spec(_wide_spec()).findings} == {
        'prediction-too-wide', 'plugin-broken'}
    fault, = plugins.load(registry.RULES).faults
    assert fault.text == 'WideLayer: ACME101 is taken by acme_a.WideLayer'


def test_preflight_names_a_broken_plugin_once(installed):
    installed('acme_rules', 'import no_such_module')

    def model_fn(features, labels, mode):
        return tf.estimator.EstimatorSpec(mode, predictions={'p': features})

    def receiver_fn():
        x = v1.placeholder(tf.float32, [None, 3])
        return tf.estimator.export.ServingInputReceiver(x, x)

    report = ese.preflight(tf.estimator.Estimator(model_fn), depth='graph',
                           serving_input_receiver_fn=receiver_fn)
    assert [finding.slug for finding in report.findings].count('plugin-broken') == 1


def test_nothing_is_loaded_until_rules_are_needed():
    # The list of rules is what loads them; importing the package does not.
    source = ('import sys, estimator_spec_ext; '
              'print("estimator_spec_ext.plugins" in sys.modules)')
    import subprocess
    done = subprocess.run([sys.executable, '-c', source], capture_output=True, text=True,
                          timeout=60, cwd=registry.__file__.rpartition('estimator_spec_ext')[0])
    assert done.stdout == 'False\n', done.stderr

"""What model_dir holds before the job starts."""

from __future__ import annotations

import os
import tempfile
from typing import Any, Iterator

from estimator_spec_ext.compat import v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs
from estimator_spec_ext.rules.preflight_warm_start import all_of_linear, write_checkpoint


def _loads_itself(features: Any, labels: Any, mode: str) -> Any:
    prediction = jobs.linear(features)
    scaffold = v1.train.Scaffold(init_fn=lambda scaffold, session: None)
    return jobs.spec(mode, prediction, labels, scaffold=scaffold)


def _no_variables(features: Any, labels: Any, mode: str) -> Any:
    return jobs.spec(mode, features['x'][:, :1], labels)


def good_own_loading() -> Any:
    """A scaffold that fills the variables by itself."""
    return jobs.job(_loads_itself, train=None, receiver=None)


def good_other_checkpoint() -> Any:
    """Every variable starts from the checkpoint of another job."""
    folder = tempfile.TemporaryDirectory(prefix='ese_example_')
    source = os.path.join(folder.name, 'pretrained')
    write_checkpoint(source, all_of_linear)

    def model_fn(features: Any, labels: Any, mode: str) -> Any:
        prediction = jobs.linear(features)
        v1.train.init_from_checkpoint(source, {'w': 'w'})
        return jobs.spec(mode, prediction, labels)

    return jobs.job(model_fn, train=None, receiver=None, folder=folder)


def good_no_variables() -> Any:
    """Nothing to restore."""
    return jobs.job(_no_variables, train=None, receiver=None)


class NoCheckpoint(Rule):
    """A job that does not train has no checkpoint to work with.

    What it finds: EVAL or PREDICT without TRAIN, variables to restore, and a model_dir without a
    checkpoint, where nothing else fills the variables (warm start, Scaffold.init_fn,
    init_from_checkpoint for all of them, a training into this model_dir earlier in the script).

    Why it matters: evaluate and predict log one line of level INFO, initialise the variables at
    random and give plausible numbers. export_saved_model raises.

    Bad:
        tf.estimator.Estimator(model_fn).evaluate(input_fn)

    Good:
        tf.estimator.Estimator(model_fn, model_dir='trained').evaluate(input_fn)

    When to suppress: when numbers of an untrained model are wanted.
    """

    code = 'ESX720'
    slug = 'no-checkpoint'
    severity = Severity.WARNING
    stage = 'config'
    mistakes = ('V10',)
    more_good = (good_own_loading, good_no_variables, good_other_checkpoint)

    def check(self, facts: Any) -> Iterator[Finding]:
        if (facts.job.train_spec is not None or facts.checkpoint is not None
                or facts.warm_starts or facts.job.has_weights):
            return
        for build in facts.builds:
            if build.restored is None or build.fills_itself:
                continue
            if any(key != 'global_step' for key in build.restored.by_key):
                yield self.finding(
                    build, 'model_dir holds no checkpoint: the variables will be random',
                    hint='give the model_dir of a trained model, or train first',
                    expected='a checkpoint in model_dir', actual='none')
                return

    @staticmethod
    def bad() -> Any:
        """An evaluation of nothing."""
        return jobs.job(train=None, receiver=None)

    @staticmethod
    def good() -> Any:
        """An evaluation of a trained model."""
        folder = tempfile.TemporaryDirectory(prefix='ese_example_')
        write_checkpoint(os.path.join(folder.name, 'model'), all_of_linear)
        return jobs.job(train=None, receiver=None, folder=folder)

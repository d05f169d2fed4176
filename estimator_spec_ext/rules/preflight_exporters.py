"""Exporters that export nothing, or the wrong model."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from typing import Any, Iterator, Optional

from estimator_spec_ext.code_names import names_of
from estimator_spec_ext.compat import estimator as tf_estimator
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.hooks import is_stock
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs
from estimator_spec_ext.rules.preflight_config import batches_left, final_exporters
from estimator_spec_ext.rules.preflight_warm_start import all_of_linear, write_checkpoint

# How a hook of one's own ends a training.
_REQUEST_STOP = 'request_stop'


def _exporting(train: Any = jobs.endless_input_fn, max_steps: Optional[int] = 100,
               kind: Any = tf_estimator.FinalExporter) -> Any:
    return jobs.job(train=train, max_steps=max_steps, receiver=None, eval_options={
        'exporters': kind('export', jobs.receiver_fn)})


def _stopping_early(kind: Any) -> Any:
    job = _exporting(kind=kind)
    hook = tf_estimator.experimental.stop_if_no_decrease_hook(job.estimator, 'loss', 20)
    spec = tf_estimator.TrainSpec(jobs.endless_input_fn, max_steps=100, hooks=[hook])
    return dataclasses.replace(job, train_spec=spec)


def bad_stopped_at() -> Any:
    """A hook that ends training at an earlier step."""
    job = _exporting()
    hook = tf_estimator.StopAtStepHook(last_step=50)
    return dataclasses.replace(job, train_spec=tf_estimator.TrainSpec(
        jobs.endless_input_fn, max_steps=100, hooks=[hook]))


def bad_stopped() -> Any:
    """Early stopping, and nothing but the final export."""
    return _stopping_early(tf_estimator.FinalExporter)


def good_stopped() -> Any:
    """Early stopping, and an export at each evaluation."""
    return _stopping_early(tf_estimator.LatestExporter)


def bad_short_data() -> Any:
    """The data ends before the last step."""
    return _exporting(jobs.input_fn)


def good_latest() -> Any:
    """LatestExporter exports at every evaluation."""
    return _exporting(max_steps=None, kind=tf_estimator.LatestExporter)


class ExporterNeverFires(Rule):
    """A FinalExporter that will never export.

    What it finds: a FinalExporter in a job without max_steps, or whose data end before max_steps;
    and, where nobody else exports, a hook that ends training before. That early stopping, or a
    hook of your own that requests a stop, may do so is a note.

    Why it matters: the final export comes with an evaluation at max_steps. Without one the job ends
    well and the export folder stays empty.

    Bad:
        TrainSpec(input_fn, max_steps=None), EvalSpec(..., exporters=FinalExporter(...))

    Good:
        TrainSpec(input_fn, max_steps=10000), EvalSpec(..., exporters=FinalExporter(...))

    When to suppress: when another process trains on to max_steps.
    """

    code = 'ESX813'
    slug = 'exporter-never-fires'
    severity = Severity.ERROR
    stage = 'config'
    mistakes = ('X10',)
    more_bad = (bad_short_data, bad_stopped_at, bad_stopped)
    more_good = (good_latest, good_stopped)

    def check(self, facts: Any) -> Iterator[Finding]:
        names = final_exporters(facts)
        spec = facts.job.train_spec
        if not names or spec is None:
            return
        name = repr(names[0])
        if spec.max_steps is None:
            yield self.finding(
                facts, f'FinalExporter {name} never exports: TrainSpec.max_steps is None',
                hint='set max_steps, or use a tf.estimator.LatestExporter', field='exporters',
                expected='a max_steps', actual='None')
            return
        batches = batches_left(facts)
        if batches is not None:
            yield self.finding(
                facts, f'FinalExporter {name} never exports: the data has {batches} batches, '
                       f'max_steps is {spec.max_steps}',
                hint='repeat the dataset, or set max_steps to what it holds', field='exporters',
                expected=f'at least {spec.max_steps - facts.start_step} batches',
                actual=str(batches), severity=Severity.WARNING)
        elif len(names) == len(facts.job.exporters):
            yield from self._stopped(facts, name, spec)

    def _stopped(self, facts: Any, name: str, spec: Any) -> Iterator[Finding]:
        """A hook that ends training leaves nothing behind where nobody else exports."""
        known = [(stop.field, stop.step(facts.start_step)) for stop in facts.stops]
        certain = [field for field, step in known if step is not None and step < spec.max_steps]
        own = [f'hooks[{position}]' for position, hook in enumerate(spec.hooks or ())
               if not is_stock(hook) and _REQUEST_STOP in names_of(type(hook))]
        perhaps = [field for field, step in known if step is None] + own
        for where in (certain or perhaps)[:1]:
            severity = Severity.WARNING if certain else Severity.INFO
            yield self.finding(
                facts, f'FinalExporter {name} exports nothing when {where} ends training before '
                       f'step {spec.max_steps}', field='exporters', severity=severity,
                hint='use a tf.estimator.BestExporter or LatestExporter, or export after '
                     'train_and_evaluate', expected='an exporter that does not wait for max_steps',
                actual='FinalExporter alone')

    @staticmethod
    def bad() -> Any:
        """No last step."""
        return _exporting(max_steps=None)

    @staticmethod
    def good() -> Any:
        """A last step."""
        return _exporting()


def _best_exporter(*, exported: bool) -> Any:
    folder = tempfile.TemporaryDirectory(prefix='ese_example_')
    model_dir = os.path.join(folder.name, 'model')
    write_checkpoint(model_dir, all_of_linear)
    if exported:
        os.makedirs(os.path.join(model_dir, 'export', 'best', '1500000000'))
    exporter = tf_estimator.BestExporter('best', jobs.receiver_fn)
    return jobs.job(folder=folder, receiver=None, eval_options={'exporters': exporter})


def bad_new_object() -> Any:
    """A second call of a script, with an exporter of its own for the same folder."""
    return dataclasses.replace(_best_exporter(exported=False),
                               script={'replaced_exporters': frozenset({'best'})})


class BestExporterForgets(Rule):
    """A BestExporter goes on after a restart: its first export may be a worse model.

    What it finds: a BestExporter whose folder in model_dir holds exports of an earlier run, and a
    new BestExporter object for the folder of one that the script used before.

    Why it matters: a new BestExporter object exports at its first evaluation whatever the result,
    and the export is the newest then, the one that is served.

    Bad:
        a restarted job with exporters=BestExporter(...)

    Good:
        copy what is served away from model_dir, or move the old exports aside; in one script, the
        same BestExporter object for both calls

    When to suppress: when what is served is not chosen by being the newest.
    """

    code = 'ESX818'
    slug = 'best-exporter-forgets'
    severity = Severity.WARNING
    stage = 'config'
    mistakes = ('X14',)
    more_bad = (bad_new_object,)

    def check(self, facts: Any) -> Iterator[Finding]:
        if facts.job.train_spec is None:
            return
        for exporter in facts.job.exporters_of(tf_estimator.BestExporter):
            if exporter.name in facts.job.replaced_exporters:
                yield self.finding(
                    facts, f'BestExporter {exporter.name!r} is not the object of the call before: '
                           'it exports its first result, better or worse',
                    hint='make one BestExporter, and give it to both calls', field='exporters',
                    expected='the same object', actual='a new one')
                continue
            if facts.checkpoint is None:
                continue
            folder = os.path.join(str(facts.job.estimator.model_dir), 'export', exporter.name)
            try:
                old = [name for name in os.listdir(folder) if name.isdigit()]
            except OSError:  # also a folder that the operating system does not see
                continue
            if old:
                yield self.finding(
                    facts, f'BestExporter {exporter.name!r} exports its first result after a '
                           f'restart, better or worse; {len(old)} exports are there',
                    hint='keep the best export elsewhere before the job starts again',
                    field='exporters', expected='no earlier exports', actual=str(len(old)))

    @staticmethod
    def bad() -> Any:
        """Exports of an earlier run."""
        return _best_exporter(exported=True)

    @staticmethod
    def good() -> Any:
        """None yet."""
        return _best_exporter(exported=False)

"""Writes docs/scoreboard.md: when the author of each mistake is told, by stock and by this package.

For each class of mistakes tests/jobs has a whole job. Stock runs the bad one as its author would:
train_and_evaluate with its exports, predict, requests to the export, and a second train(). The
first exception is the moment at which stock tells; a job that goes through tells nothing. The
same job goes through `preflight`. The correct twin must run on stock, and preflight must be silent
on it.

    python tools/scoreboard.py                # all classes; writes the page
    python tools/scoreboard.py --only V1,X2   # some; prints the table
"""

from __future__ import annotations

import argparse
import concurrent.futures
import glob
import itertools
import multiprocessing
import os
import pathlib
import re
import shutil
import sys
import tempfile
import traceback
from typing import Any, Callable, Optional

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / 'docs' / 'scoreboard.md'
SECONDS = 90
NEVER, HANGS = 'never', 'never: it hangs'
CLUSTER = 'not run: it takes a cluster'
# By the stage of a rule, the earliest first.
MOMENTS = {'spec': 'when the spec is built', 'stock': 'when the spec is built',
           'graph': 'when the spec is built', 'modes': 'preflight, building the modes',
           'config': 'preflight, reading the job', 'run': 'preflight, rehearsing',
           'serve': 'preflight, asking the export'}


def main(argv: Optional[list[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split('\n\n')[0])
    parser.add_argument('--only', help='classes, separated by commas')
    parser.add_argument('--jobs', type=int, default=2, help='how many run side by side')
    arguments = parser.parse_args(argv)
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    import tensorflow as tf
    tf.get_logger().setLevel('ERROR')
    from tests.jobs import check
    wanted = arguments.only.split(',') if arguments.only else list(check.PAIRS)
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        rows = list(pool.map(lambda name: _row(check.PAIRS[name]), wanted))
    table = _table(rows)
    if arguments.only:
        print(table)
    else:
        PAGE.write_text(_page(table, rows, tf.__version__), encoding='utf-8')
        print(f'{PAGE.relative_to(ROOT)}: {len(rows)} classes')
    wrong = [f'{row["class"]}: {text}' for row in rows for text in row['wrong']]
    print('\n'.join(wrong), file=sys.stderr)
    return 1 if wrong else 0


def _row(pair: Any) -> dict[str, Any]:
    row: dict[str, Any] = {'class': pair.mistake, 'wrong': [],
                           'about': pair.make.__name__.replace('_', ' ')}
    row['stock'], row['says'] = _stock(pair, right=False)
    moment, says = _stock(pair, right=True)
    if moment not in (NEVER, CLUSTER):
        row['wrong'].append(f'the twin fails on stock at {moment}: {says}')
    found = _alone(_ours, pair, False) or {}
    row['ours'], row['slug'] = found.get('moment'), found.get('slug')
    if not row['slug']:
        row['wrong'].append(f'no finding: {found}')
    noise = (_alone(_ours, pair, True) or {'noise': 'hangs'})['noise']
    if noise:
        row['wrong'].append(f'a finding on the twin: {noise}')
    print(f'{pair.mistake}: stock {row["stock"]}; {row["ours"]}: {row["slug"]}', file=sys.stderr,
          flush=True)
    return row


def _alone(function: Callable[..., Any], *arguments: Any) -> Optional[dict[str, Any]]:
    """Calls a function in a process of its own; None when it does not come back."""
    context = multiprocessing.get_context('fork')
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(there, function, arguments))
    process.start()
    there.close()
    try:
        answer = here.recv() if here.poll(SECONDS) else None
    except EOFError:
        answer = {'where': 'the process dies', 'says': f'exit status {process.exitcode}',
                  'noise': 'dies'}
    process.kill()
    process.join()
    return answer


def _answer(pipe: Any, function: Callable[..., Any], arguments: Any) -> None:
    os.setpgrp()
    sys.stdout = sys.stderr = open(os.devnull, 'w')  # noqa: SIM115
    try:
        pipe.send(function(*arguments))
    except BaseException:  # noqa: BLE001 - the parent shows it
        pipe.send({'where': 'the tool', 'says': traceback.format_exc(), 'noise': 'the tool'})
    pipe.close()


# Stock.


def _stock(pair: Any, *, right: bool) -> tuple[str, str]:
    if pair.cluster:
        return CLUSTER, ''
    folder = tempfile.mkdtemp(prefix='scoreboard_')
    try:
        done = _alone(_run_stock, pair, right, folder)
        if done is None:
            return HANGS, ''
        if done['where'] == NEVER and done['exports']:
            done = _alone(_ask, done['exports']) or {'where': HANGS, 'says': ''}
        if done['where'] == NEVER and done.get('again'):
            return done['again']
        return done['where'], done['says']
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Tracker:
    """Where a job of stock stands; the innermost place that sees an exception names it."""

    def __init__(self) -> None:
        self.where = ''

    def doing(self, text: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BaseException:
            self.where = self.where or text
            raise

    def watch(self, owner: Any, name: str, text: str) -> None:
        """Names the moment of what is raised inside a method."""
        method = getattr(owner, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            return self.doing(text, method, *args, **kwargs)

        setattr(owner, name, watched)


def _run_stock(pair: Any, right: bool, folder: str) -> dict[str, Any]:
    import tensorflow as tf

    from tests.jobs import check
    tracker = _Tracker()
    with check.environment(pair.environ):
        try:
            job = tracker.doing('when the job is made', pair.make, right, folder)
            if job.calls and not right:
                return _loop(job)
            _run_job(tf, job, tracker)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the moment of stock
            return {'where': tracker.where, 'says': _text(error), 'exports': []}
        exports = glob.glob(os.path.join(folder, '**', 'saved_model.pb'), recursive=True)
        return {'where': NEVER, 'says': '', 'exports': sorted(map(os.path.dirname, exports))}


def _run_job(tf: Any, job: Any, tracker: _Tracker) -> None:
    estimator = job.estimator

    class Steps(tf.estimator.SessionRunHook):  # type: ignore[misc]
        """Knows how far training has come."""

        done = 0
        where = 'building TRAIN'

        def begin(self) -> None:
            self.where = 'starting the session'

        def after_run(self, run_context: Any, run_values: Any) -> None:
            self.done += 1

    steps = Steps()

    def where() -> str:
        if steps.done and steps.done == train.max_steps:
            return 'the end of training'
        return f'step {steps.done + 1}' if steps.done else steps.where

    def after_create(session: Any, coordinator: Any) -> None:
        steps.where = 'the first step'

    steps.after_create_session = after_create
    tracker.watch(estimator, 'evaluate', 'the first evaluation')
    tracker.watch(estimator, 'export_saved_model', 'the export')
    train, evaluation = job.train_spec, job.eval_spec
    try:
        if train is not None and evaluation is not None:
            hooked = tf.estimator.TrainSpec(train.input_fn, train.max_steps,
                                            hooks=[*(train.hooks or ()), steps])
            tf.estimator.train_and_evaluate(estimator, hooked, evaluation)
        elif train is not None:
            estimator.train(train.input_fn, max_steps=train.max_steps,
                            hooks=[*(train.hooks or ()), steps])
        elif evaluation is not None:
            estimator.evaluate(evaluation.input_fn, steps=evaluation.steps)
    except BaseException:
        tracker.where = tracker.where or where()
        raise
    if job.predicts and evaluation is not None:
        tracker.doing('predict', lambda: list(itertools.islice(
            estimator.predict(lambda: _features(evaluation.input_fn())), 5)))
    if job.receiver_fn is not None and not (evaluation.exporters or ()):
        estimator.export_saved_model(os.path.join(os.path.dirname(estimator.model_dir), 'export'),
                                     job.receiver_fn)
    if train is not None:
        tracker.doing('a second train()', estimator.train, train.input_fn, steps=2)


def _features(data: Any) -> Any:
    return data.map(lambda features, labels: features) if hasattr(data, 'map') else data


def _loop(job: Any) -> dict[str, Any]:
    for _ in range(3):
        job.estimator.train(job.train_spec.input_fn, steps=2)
        job.estimator.evaluate(job.eval_spec.input_fn, steps=2)
    return {'where': NEVER, 'says': '', 'exports': []}


def _ask(exports: list[str]) -> dict[str, Any]:
    """One row and three rows to `serving_default` of the newest export, in a fresh process."""
    import numpy as np
    import tensorflow as tf
    v1 = tf.compat.v1
    where = 'the first request to the export'
    try:
        with tf.Graph().as_default(), v1.Session() as session:
            meta = v1.saved_model.loader.load(session, ['serve'], exports[-1])
            if 'serving_default' not in meta.signature_def:
                return {'where': where, 'says': 'no signature serving_default'}
            signature = meta.signature_def['serving_default']
            for count in (1, 3):
                session.run({key: info.name for key, info in signature.outputs.items()},
                            {info.name: _rows(np, tf, info, count)
                             for info in signature.inputs.values()})
    except Exception as error:  # noqa: BLE001 - the moment of stock
        return {'where': where, 'says': _text(error)}
    return {'where': NEVER, 'says': ''}


def _rows(np: Any, tf: Any, info: Any, count: int) -> Any:
    width = [dim.size for dim in info.tensor_shape.dim[1:]]
    if tf.as_dtype(info.dtype) != tf.string:
        return np.ones([count, *width], tf.as_dtype(info.dtype).as_numpy_dtype)
    example = tf.train.Example()
    example.features.feature['rooms'].float_list.value.extend([1.] * 6)
    return [example.SerializeToString()] * count


def _text(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    useful = [line for line in lines if 'Graph execution error' not in line
              and not line.startswith(('Detected at', 'File "', 'Node:', '[['))]
    first = re.sub(r'0x[0-9a-f]+', '0x...', (useful or [''])[0])
    return f'{type(error).__name__}: {first}'[:100]


# This package.


def _ours(pair: Any, right: bool) -> dict[str, Any]:
    import estimator_spec_ext as ese
    from tests.jobs import check
    report = check.report(pair, right)
    stages = {rule.slug: rule.stage for rule in ese.rules()}
    noise = [finding.slug for finding in report.findings
             if finding.severity is not ese.Severity.INFO]
    found = sorted(check.of_class(report, pair.mistake),
                   key=lambda finding: list(MOMENTS).index(stages[finding.slug]))
    if not found:
        return {'noise': noise}
    return {'noise': noise, 'slug': found[0].slug, 'moment': MOMENTS[stages[found[0].slug]]}


# The page.


def _table(rows: list[dict[str, Any]]) -> str:
    lines = ['| class | the mistake | stock TensorFlow | this package | rule |',
             '| --- | --- | --- | --- | --- |']
    for row in rows:
        stock = row['stock']
        if row['says']:
            stock += f': `{row["says"].replace("|", "/").replace("`", "")}`'
        lines.append(f'| {row["class"]} | {row["about"]} | {stock} | {row["ours"] or "**never**"} '
                     f'| [{row["slug"]}](rules.md#{row["slug"]}) |')
    return '\n'.join(lines)


def _page(table: str, rows: list[dict[str, Any]], version: str) -> str:
    ran = [row for row in rows if row['stock'] != CLUSTER]
    silent = sum(row['stock'] in (NEVER, HANGS) for row in ran)
    before = sum(row['stock'] in ('when the job is made', 'building TRAIN') for row in ran)
    named = sum(bool(row['slug']) for row in rows)
    return '\n'.join((
        '# When the author is told', '',
        f'Written by `make scoreboard` on TensorFlow {version}. Each class of mistakes is a whole '
        'job in `tests/jobs`,',
        'which stock runs to its end (train_and_evaluate, predict, requests to the export, a '
        'second train()) and `preflight`',
        'checks. Each has a correct twin, which runs on stock and on which `preflight` is silent.',
        '',
        f'Of {len(ran)} jobs that stock ran, it said nothing about {silent}, and something before '
        f'the first step about {before}.',
        f'This package named {named} of {len(rows)} before the first step.',
        '', table, ''))


if __name__ == '__main__':
    sys.exit(main())

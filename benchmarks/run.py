"""Measures what the checks cost, side by side with stock TensorFlow.

    python benchmarks/run.py             # everything: a quarter of an hour
    python benchmarks/run.py --quick     # graphs of 1 and 10 thousand ops: some minutes
    python benchmarks/run.py --write     # and keep the tables in benchmarks/README.md

Nothing here is asserted: a number says what was seen on the machine that is named above it.
"""

from __future__ import annotations

import argparse
import gc
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from typing import Any, Callable, Iterator

os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent
README = HERE / 'README.md'
NAMES = ('dense', 'transformer', 'rnn')
REPEATS = {1_000: 9, 10_000: 3, 100_000: 1}
BUDGETS = {'build': 0.01, 'memory': 1.05, 'import': 50., 'steps': 0.99}

sys.path[:0] = [str(ROOT), str(HERE)]


def main() -> int:
    """Measures what the arguments ask for, prints it, and writes it if told to."""
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--quick', action='store_true', help='leave out 100 thousand ops')
    parser.add_argument('--write', action='store_true', help='keep the tables in README.md')
    parser.add_argument('--only', action='append',
                        choices=('build', 'reading', 'memory', 'steps', 'import'),
                        help='measure this alone; may be given several times')
    parser.add_argument('--profile', metavar='NAME', choices=NAMES,
                        help='show which rules take the time, at 10 thousand ops, and stop')
    parser.add_argument('--worker', nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    warnings.simplefilter('ignore')
    if arguments.worker:
        return _worker(*arguments.worker)
    if arguments.profile:
        return _profile(arguments.profile)
    sizes = [size for size in REPEATS if not (arguments.quick and size > 10_000)]
    parts: dict[str, Callable[[], Iterator[str]]] = {
        'build': lambda: _build_table(sizes),
        'reading': _reading_table,
        'memory': lambda: _memory_table(sizes),
        'steps': _steps_table,
        'import': _import_table,
    }
    machine = _machine()
    print(machine + '\n', flush=True)
    for name, part in parts.items():
        if arguments.only and name not in arguments.only:
            continue
        lines = []
        for line in part():
            print(line, flush=True)
            lines.append(line)
        print(flush=True)
        if arguments.write:
            _write(name, '\n'.join([machine, '', *lines]))
    return 0


def _machine() -> str:
    import tensorflow as tf
    tf.get_logger().setLevel('ERROR')
    model = platform.processor() or platform.machine()
    try:
        for line in pathlib.Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                model = line.split(':', 1)[1].strip()
                break
    except OSError:
        pass
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2 ** 30
    return (f'{platform.system()}, {os.cpu_count()} cores ({model}), {memory:.0f} GiB, '
            f'Python {platform.python_version()}, TensorFlow {tf.__version__}.')


# Construction.

def _build_table(sizes: list[int]) -> Iterator[str]:
    import models
    measured = {}
    yield ('| model | mode | ops | model_fn ms | stock spec ms | strict spec ms | us an op | '
           'strict / model_fn (at most 1%) | ops added |')
    yield '| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |'
    _construct('dense', 2, 'train')  # loads what TensorFlow and the rules load lazily
    for name in NAMES:
        for mode in ('train', 'eval', 'infer'):
            for size in sizes:
                if mode != 'train' and size != 10_000:
                    continue
                units = models.units_for(name, mode, size)
                runs = [_construct(name, units, mode) for _ in range(REPEATS[size])]
                build, stock, strict = (statistics.median(run[key] for run in runs)
                                        for key in ('build', 'stock', 'strict'))
                ratio = statistics.median(run['strict'] / run['build'] for run in runs)
                ops, added = runs[0]['ops'], max(run['added'] for run in runs)
                measured[name, mode, size] = strict / ops
                yield (f'| {name} | {mode} | {ops} | {build * 1e3:.0f} | {stock * 1e3:.2f} | '
                       f'{strict * 1e3:.1f} | {strict / ops * 1e6:.2f} | {ratio:.2%}'
                       f'{_flag(ratio <= BUDGETS["build"])} | {added} |')
    yield ''
    low, high = sizes[0], sizes[-1]
    growth = ', '.join(f'{name} {measured[name, "train", high] / measured[name, "train", low]:.2f}'
                       for name in NAMES)
    yield (f'Time an op at {high} ops over that at {low} ops (1 is linear, less is better): '
           f'{growth}.')


def _flag(kept: bool) -> str:
    return '' if kept else ' **over**'


def _graph(name: str, units: int, mode: str) -> Any:
    """A graph with the model, its fields, and how long the model_fn took.

    CPU time of this thread: what other programs do on the machine then matters less.
    """
    import models
    import tensorflow as tf
    gc.collect()
    graph = tf.Graph()
    with graph.as_default():
        tf.compat.v1.train.get_or_create_global_step()
        features, labels = models.inputs()
        start = time.thread_time()
        fields = models.spec_fields(name, units, features, labels, mode)
        return graph, fields, time.thread_time() - start


def _construct(name: str, units: int, mode: str) -> dict[str, float]:
    import tensorflow as tf

    import estimator_spec_ext as ese
    graph, fields, build = _graph(name, units, mode)
    with graph.as_default():
        ops = len(graph.get_operations())
        start = time.thread_time()
        tf.estimator.EstimatorSpec(**fields)
        stock = time.thread_time() - start
        start = time.thread_time()
        ese.StrictEstimatorSpec(**fields)
        strict = time.thread_time() - start
        added = len(graph.get_operations()) - ops
    return {'build': build, 'stock': stock, 'strict': strict, 'ops': ops, 'added': added}


# What a construction cannot do without.

def _reading_table() -> Iterator[str]:
    """What stock's class and the first look at each op take, without any rule."""
    import models
    yield ('| model | ops | model_fn ms | stock spec ms | type of each op ms | the same again ms | '
           'bytes of each constant ms | spec, types and constants / model_fn |')
    yield '| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |'
    for name in NAMES:
        units = models.units_for(name, 'train', 1_000)
        runs = [_read(name, units) for _ in range(REPEATS[1_000])]
        build, stock, types, again, constants = (
            statistics.median(run[key] for run in runs)
            for key in ('build', 'stock', 'types', 'again', 'constants'))
        ratio = statistics.median(
            (run['stock'] + run['types'] + run['constants']) / run['build'] for run in runs)
        yield (f'| {name} | {runs[0]["ops"]} | {build * 1e3:.0f} | {stock * 1e3:.2f} | '
               f'{types * 1e3:.2f} | {again * 1e3:.2f} | {constants * 1e3:.2f} | {ratio:.2%} |')


def _read(name: str, units: int) -> dict[str, float]:
    import tensorflow as tf

    from estimator_spec_ext.compat import graphs
    graph, fields, build = _graph(name, units, 'train')
    with graph.as_default():
        marks = [time.thread_time()]
        tf.estimator.EstimatorSpec(**fields)
        marks.append(time.thread_time())
        ops = graph.get_operations()
        types = [op.type for op in ops]
        marks.append(time.thread_time())
        again = [op.type for op in ops]
        marks.append(time.thread_time())
        graphs.sift([op for op, kind in zip(ops, types) if kind == 'Const'
                     and graphs.differentiated_op(op) is None], 1 << 20, '\n')
        marks.append(time.thread_time())
    assert types == again
    stock, first, second, constants = (end - start for start, end in zip(marks, marks[1:]))
    return {'build': build, 'stock': stock, 'types': first, 'again': second,
            'constants': constants, 'ops': len(ops)}


# Memory.

def _memory_table(sizes: list[int]) -> Iterator[str]:
    yield '| model | ops | peak MiB stock | peak MiB strict | strict / stock (at most 1.05) |'
    yield '| --- | ---: | ---: | ---: | ---: |'
    for size in sizes[1:]:
        for name in NAMES:
            peaks = {kind: _peak(kind, name, size) for kind in ('stock', 'strict')}
            ratio = peaks['strict'] / peaks['stock']
            yield (f'| {name} | {size} | {peaks["stock"]:.0f} | {peaks["strict"]:.0f} | '
                   f'{ratio:.3f}{_flag(ratio <= BUDGETS["memory"])} |')


def _peak(kind: str, name: str, size: int) -> float:
    runs = 3 if size <= 10_000 else 1
    return statistics.median(
        float(_subprocess([str(HERE / 'run.py'), '--worker', kind, name, 'train', str(size)]))
        for _ in range(runs))


def _subprocess(arguments: list[str], **environment: str) -> str:
    done = subprocess.run([sys.executable, *arguments], check=True, capture_output=True, text=True,
                          cwd=ROOT, env={**os.environ, 'PYTHONPATH': str(ROOT), **environment})
    return done.stdout.strip().splitlines()[-1]


def _worker(kind: str, name: str, mode: str, size: str) -> int:
    """Prints the peak memory in MiB of a process that builds one spec."""
    import models
    import tensorflow as tf

    import estimator_spec_ext as ese
    spec_class = {'stock': tf.estimator.EstimatorSpec, 'strict': ese.StrictEstimatorSpec}[kind]
    units = models.units_for(name, mode, int(size))
    graph, fields, _ = _graph(name, units, mode)
    with graph.as_default():
        spec_class(**fields)
    print(_peak_memory())
    return 0


def _peak_memory() -> float:
    """MiB that this process has had in memory at most."""
    try:  # Linux counts in ru_maxrss what the process had before exec, which was its parent's.
        for line in pathlib.Path('/proc/self/status').read_text().splitlines():
            if line.startswith('VmHWM:'):
                return int(line.split()[1]) / 2 ** 10
    except OSError:
        pass
    unit = 2 ** 20 if sys.platform == 'darwin' else 2 ** 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


# Steps a second.

# Both jobs train at once, each in a thread, and take turns of so many steps: what else the machine
# does meanwhile then costs both the same.
_TURN, _TURNS, _WARM = 10, 300, 20


def _steps_table() -> Iterator[str]:
    turns = _take_turns(('stock', 'strict'))
    rates = {kind: _TURN / statistics.median(times[_WARM:]) for kind, times in turns.items()}
    ratio = rates['strict'] / rates['stock']
    yield '| job | steps/s stock | steps/s strict | strict / stock (at least 0.99) |'
    yield '| --- | ---: | ---: | ---: |'
    yield (f'| dense, 1 thousand ops, median of {_TURNS - _WARM} turns of {_TURN} steps | '
           f'{rates["stock"]:.1f} | {rates["strict"]:.1f} | '
           f'{ratio:.3f}{_flag(ratio >= BUDGETS["steps"])} |')


def _take_turns(kinds: tuple[str, ...]) -> dict[str, list[float]]:
    """Seconds of each turn, by kind of spec."""
    turns: dict[str, list[float]] = {kind: [] for kind in kinds}
    batons = {kind: threading.Semaphore(0) for kind in kinds}
    following = dict(zip(kinds, (*kinds[1:], kinds[0])))
    threads = [threading.Thread(target=_train, args=(
        kind, turns[kind], batons[kind], batons[following[kind]])) for kind in kinds]
    for thread in threads:
        thread.start()
    batons[kinds[0]].release()
    for thread in threads:
        thread.join()
    return turns


def _train(kind: str, times: list[float], mine: threading.Semaphore,
           others: threading.Semaphore) -> None:
    import models
    import tensorflow as tf

    import estimator_spec_ext as ese
    spec_class = {'stock': ese.estimator.EstimatorSpec, 'strict': ese.StrictEstimatorSpec}[kind]
    units = models.units_for('dense', 'train', 1_000)

    def model_fn(features, labels, mode):
        return spec_class(**models.spec_fields('dense', units, features, labels, mode))

    class Turns(tf.compat.v1.train.SessionRunHook):
        """Waits for the baton before each turn, and notes how long the turn took."""

        def __init__(self) -> None:
            self.step, self.start = 0, 0.

        def before_run(self, run_context):
            if self.step % _TURN == 0:
                mine.acquire()
                self.start = time.perf_counter()

        def after_run(self, run_context, run_values):
            self.step += 1
            if self.step % _TURN == 0:
                times.append(time.perf_counter() - self.start)
                others.release()

    def input_fn():
        return tf.data.Dataset.from_tensors(
            (tf.ones([models.BATCH, 32]), tf.ones([models.BATCH], tf.int64))).repeat()

    with tempfile.TemporaryDirectory() as model_dir:
        config = ese.estimator.RunConfig(model_dir, save_summary_steps=None,
                                         save_checkpoints_steps=10 ** 9,
                                         log_step_count_steps=None)
        ese.estimator.Estimator(model_fn, config=config).train(
            input_fn, steps=_TURN * _TURNS, hooks=[Turns()])


# Import.

_IMPORT = '''
import time
start = time.perf_counter()
import tensorflow as tf
loaded = time.perf_counter()
import estimator_spec_ext as ese
imported = time.perf_counter()
tf.estimator.EstimatorSpec
stock = time.perf_counter()
ese.StrictEstimatorSpec
strict = time.perf_counter()
print(loaded - start, imported - loaded, stock - imported, strict - stock)
'''


def _import_table() -> Iterator[str]:
    # As where packages are installed: every module is compiled, by a first run that does not count.
    with tempfile.TemporaryDirectory() as compiled:
        rows = [tuple(map(float, _subprocess(['-c', _IMPORT], PYTHONPYCACHEPREFIX=compiled,
                                             PYTHONDONTWRITEBYTECODE='').split()))
                for _ in range(8)][1:]
    tensorflow, ours, stock, strict = (statistics.median(column) * 1e3 for column in zip(*rows))
    yield '| what | ms, median of 7 |'
    yield '| --- | ---: |'
    yield f'| `import tensorflow` | {tensorflow:.0f} |'
    yield (f'| `import estimator_spec_ext` after it (at most 50) | {ours:.1f}'
           f'{_flag(ours <= BUDGETS["import"])} |')
    yield f'| `tf.estimator.EstimatorSpec`, first use, which loads the estimator | {stock:.0f} |'
    yield (f'| `ese.StrictEstimatorSpec`, first use, which loads the rules (at most 50) | '
           f'{strict:.1f}{_flag(strict <= BUDGETS["import"])} |')


# What takes the time.

def _profile(name: str) -> int:
    import models
    import tensorflow as tf

    from estimator_spec_ext import facts, registry
    from estimator_spec_ext.engine import SPEC_STAGES
    tf.get_logger().setLevel('ERROR')
    _construct('dense', 2, 'train')
    graph, fields, build = _graph(name, models.units_for(name, 'train', 10_000), 'train')
    print(f'model_fn {build * 1e3:.0f} ms; the budget is {build * 10:.2f} ms')
    with graph.as_default():
        spec_facts = facts.SpecFacts(fields.pop('mode'), fields)
        gc.disable()
        start = time.thread_time()
        spec_facts.index  # noqa: B018 - worked out when first read
        spent = [(time.thread_time() - start, '(the index)')]
        for rule in (rule for stage in SPEC_STAGES for rule in registry.rules_of_stage(stage)):
            if rule.stage in ('spec', 'graph') and spec_facts.mode not in rule.modes:
                continue
            start = time.thread_time()
            list(rule.check(spec_facts))
            spent.append((time.thread_time() - start, rule.slug))
    print(f'{sum(seconds for seconds, _ in spent) * 1e3:8.2f} ms  all')
    for seconds, slug in sorted(spent, reverse=True)[:25]:
        print(f'{seconds * 1e3:8.2f} ms  {slug}')
    return 0


def _write(part: str, table: str) -> None:
    """Puts the table of one part in the place of the one that README.md holds."""
    text = README.read_text(encoding='utf-8')
    start, end = f'<!-- made by run.py: {part} -->', f'<!-- end: {part} -->'
    head, rest = text.split(start, 1)
    tail = rest.split(end, 1)[1]
    README.write_text(f'{head}{start}\n\n{table}\n\n{end}{tail}', encoding='utf-8')
    print(f'written to {README.relative_to(ROOT)}')


if __name__ == '__main__':
    sys.exit(main())

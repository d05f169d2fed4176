"""When the tasks stop, and what they read."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext.compat import tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.rule import Rule
from estimator_spec_ext.rules import jobs, role_jobs


def _stop_of_chief() -> Any:
    return [v1.train.StopAtStepHook(last_step=50)] if role_jobs.task_index() == 0 else []


def _uneven_input() -> Any:
    return jobs.input_fn().shuffle(8).repeat(5 if role_jobs.task_index() else 10)


def _even_input() -> Any:
    return jobs.input_fn().shuffle(8).repeat(10)


def bad_hook() -> Any:
    """A hook that stops the chief alone."""
    return role_jobs.collective(hooks=_stop_of_chief)


def bad_data() -> Any:
    """The worker's data ends first."""
    return role_jobs.collective(train=_uneven_input)


def bad_classic() -> Any:
    """With parameter servers the others train on, and nobody saves when the chief has gone."""
    return role_jobs.classic(max_steps=lambda: 50 if role_jobs.task_index() == 0 else 100)


def good_data() -> Any:
    """The same number of batches."""
    return role_jobs.collective(train=_even_input)


def good_classic_data() -> Any:
    """With parameter servers each worker goes through its data by itself."""
    return role_jobs.classic(train=_uneven_input)


def _end(graph: Any) -> Any:
    """The step at which a task stops for certain; None when nothing says so."""
    ends = [step for _, step in graph.last_steps]
    if graph.max_steps is not None:
        ends.append(graph.max_steps)
    return min(ends) if ends else None


class RolesStopApart(Rule):
    """The tasks of a cluster do not stop at the same step.

    What it finds: training tasks with another max_steps, another StopAtStepHook, or, under
    MultiWorkerMirroredStrategy, with another number of batches before that step.

    Why it matters: under MultiWorkerMirroredStrategy the first task that stops leaves the others
    waiting for it for ever, without a message. With parameter servers, when the chief stops first,
    nobody saves what the others go on to train.

    Bad:
        TrainSpec(lambda: dataset.shard(n, i).batch(32), max_steps=10000)

    Good:
        TrainSpec(lambda: dataset.shard(n, i).repeat().batch(32), max_steps=10000)

    When to suppress: never.
    """

    code = 'ESX848'
    slug = 'roles-stop-apart'
    severity = Severity.ERROR
    stage = 'roles'
    mistakes = ('D6', 'D8', 'D2')
    more_bad = (bad_hook, bad_data, bad_classic)
    more_good = (good_data, good_classic_data)

    def check(self, facts: Any) -> Iterator[Finding]:
        for there, here, _ in facts.pairs():
            one, other = _end(there), _end(here)
            if one != other:
                severity = None if facts.collective else Severity.WARNING
                yield self.finding(
                    facts.of(here), f'{here.role} stops at {_step(other)}, {there.role} at '
                    f'{_step(one)}', hint='give every task the same max_steps and stop hooks',
                    field='max_steps', expected=_step(one), actual=_step(other),
                    severity=severity)
            elif facts.collective and _ends_first(there, here, one):
                yield self.finding(
                    facts.of(here), f'{here.role} has {here.cardinality} batches, {there.role} has '
                    f'{there.cardinality}: one will wait for the other for ever',
                    hint='repeat the dataset, and stop by max_steps', field='input_fn',
                    expected=str(there.cardinality), actual=str(here.cardinality))

    @staticmethod
    def bad() -> Any:
        """Half as many steps in the chief."""
        return role_jobs.collective(max_steps=lambda: 50 if role_jobs.task_index() == 0 else 100)

    @staticmethod
    def good() -> Any:
        """The same number."""
        return role_jobs.collective()


def _step(step: Any) -> str:
    return 'the end of its data' if step is None else f'step {step}'


def _ends_first(there: Any, here: Any, last_step: Any) -> bool:
    """Whether the data of one task ends before that of the other, and before the last step."""
    sizes = (there.cardinality, here.cardinality)
    if sizes[0] == sizes[1] or {'unknown', 'finite'}.intersection(sizes):
        return False
    numbers = [size for size in sizes if isinstance(size, int)]
    return last_step is None or min(numbers) < last_step


def _sharded_input(input_context: Any = None) -> Any:
    rows = tf.data.Dataset.range(8)
    index = input_context.input_pipeline_id if input_context else role_jobs.task_index()
    rows = rows.shard(2, index).map(lambda row: (
        {'x': tf.fill([jobs.FEATURES], tf.cast(row, tf.float32))}, [tf.cast(row, tf.float32)]))
    return rows.repeat().batch(4)


def bad_seed() -> Any:
    """One seed: the same order everywhere."""
    return role_jobs.collective(train=lambda: jobs.input_fn().shuffle(8, seed=3).repeat())


def bad_parameter_server() -> Any:
    """With parameter servers each worker goes through all of it."""
    return role_jobs.classic(train=jobs.endless_input_fn)


def good_shuffled() -> Any:
    """Each task shuffles by itself."""
    return role_jobs.collective(train=role_jobs.shuffled_input_fn)


def _python_rows() -> Any:
    def rows() -> Any:
        yield {'x': [1.] * jobs.FEATURES}, [1.]

    return tf.data.Dataset.from_generator(
        rows, output_types=({'x': tf.float32}, tf.float32),
        output_shapes=({'x': [jobs.FEATURES]}, [1])).repeat().batch(4)


def good_generator() -> Any:
    """What a generator gives is not in the graph."""
    return role_jobs.collective(train=_python_rows)


class InputNotSharded(Rule):
    """All tasks read the same rows in the same order.

    What it finds: datasets of the training tasks that are alike to the last constant, without a
    shuffle that differs by task and without Python code.

    Why it matters: Estimator does not shard what an input function returns. Under
    MultiWorkerMirroredStrategy all workers compute the same gradients: as slow as many, as good as
    one. With parameter servers the data is gone through once for each worker.

    Bad:
        def input_fn(): return dataset.batch(32)

    Good:
        def input_fn(input_context):
            return dataset.shard(input_context.num_input_pipelines,
                                 input_context.input_pipeline_id).batch(32)

    When to suppress: when model_fn treats the rows differently in each task.
    """

    code = 'ESX849'
    slug = 'input-not-sharded'
    severity = Severity.WARNING
    stage = 'roles'
    mistakes = ('D8',)
    more_bad = (bad_seed,)
    more_good = (good_shuffled, good_generator, bad_parameter_server)

    def check(self, facts: Any) -> Iterator[Finding]:
        prints = [graph.input_print for graph in facts.graphs if graph.trains]
        if len(prints) < 2 or len(set(prints)) > 1 or prints[0] is None or not facts.comparable:
            return
        yield self.finding(
            facts, f'{facts.first.role} and {len(prints) - 1} more read the same rows in the same '
                   'order', hint='shard the dataset by input_context.input_pipeline_id, or shuffle '
                                 'it without a seed', field='input_fn',
            expected='rows of its own in each task', actual='the same rows',
            severity=None if facts.collective else Severity.INFO)

    @staticmethod
    def bad() -> Any:
        """No shuffle, no shard."""
        return role_jobs.collective(train=jobs.endless_input_fn)

    @staticmethod
    def good() -> Any:
        """A shard for each task."""
        return role_jobs.collective(train=_sharded_input)

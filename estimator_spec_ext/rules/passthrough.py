"""Features that the predictions hand on, and the export does not."""

from __future__ import annotations

from typing import Any, Iterator, Optional

from estimator_spec_ext.compat import estimator, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import DEQUEUE_TYPES, ITERATOR_TYPES, PLACEHOLDER_TYPES
from estimator_spec_ext.rule import PREDICT, Rule
from estimator_spec_ext.rules import exported

_SOURCES = ITERATOR_TYPES | DEQUEUE_TYPES | PLACEHOLDER_TYPES | frozenset({
    'ParseExample', 'ParseExampleV2', 'ParseSequenceExample', 'ParseSequenceExampleV2'})
_HANDING_ON = frozenset({'Identity', 'Cast', 'ExpandDims', 'Reshape', 'Squeeze', 'AsString'})


class KeyNotExported(Rule):
    """The key of an instance is predicted, and not exported.

    What it finds: in PREDICT, a prediction that is an integer or string feature handed on as it
    came, one value for each example, which takes no part in the other outputs, and which no
    export output holds.

    Why it matters: `forward_features` and its like change the predictions and leave the export
    outputs as they were. `predict` gives the key; a batch prediction by the SavedModel cannot say
    which answer belongs to which example.

    Bad:
        predictions['key'] = features['key']     # export_outputs was made before

    Good:
        export_outputs = {'serving_default': PredictOutput({**scores, 'key': features['key']})}

    When to suppress: when clients need no key.
    """

    code = 'ESX411'
    slug = 'key-not-exported'
    severity = Severity.WARNING
    modes = (PREDICT,)
    mistakes = ('X13',)
    needs = ('predictions', 'export_outputs')

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        # With a receiver at hand its own features tell more.
        if not facts.export_outputs or facts.context.receiver_tensors is not None:
            return
        outputs = exported.served(facts)
        names = {id(output.tensor) for output in outputs}
        handed_on = [(output, _source(output.tensor)) for output in exported.predicted(facts)
                     if id(output.tensor) not in names and _may_be_key(output.tensor)]
        for output, source in handed_on:
            if source is None:
                continue
            # Other tensors of the source op are features of their own.
            used = facts.index.data_ancestors([item.tensor for item in outputs])
            if any(reader in used for reader in source.consumers()) or any(
                    _source(item.tensor) is source for item in outputs):
                continue
            yield self.finding(
                facts, f'{output.field} hands on a feature, and no export output holds it',
                field=output.field, op=output.tensor,
                hint='put it into the PredictOutput of serving_default as well',
                expected='an output for it', actual='none')

    @staticmethod
    def bad() -> Any:
        """A wrapper that changed the predictions alone."""
        return _keyed(exported_too=False)

    @staticmethod
    def good() -> Any:
        """The export has it as well."""
        return _keyed(exported_too=True)


def _may_be_key(tensor: Any) -> bool:
    """Whether a tensor holds one integer or string for each example."""
    shape = tensor.shape
    dtype = tensor.dtype.base_dtype
    return bool((dtype.is_integer or dtype == tf.string) and (
        shape.rank == 1 or (shape.rank == 2 and shape.as_list()[1] == 1)))


def _source(tensor: Any) -> Optional[Any]:
    """The feature that a tensor hands on; None when it was computed."""
    for _ in range(10):
        op = tensor.op
        if op.type in _SOURCES:
            return tensor
        if op.type not in _HANDING_ON or not op.inputs:
            return None
        tensor = op.inputs[0]
    return None


def _keyed(*, exported_too: bool, use_key: bool = False) -> dict[str, Any]:
    x = v1.placeholder(tf.float32, [None, 3], name='x')
    key = v1.placeholder(tf.int64, [None], name='key')
    scores = tf.matmul(x, v1.get_variable('w', [3, 2]))
    if use_key:
        scores += tf.cast(key[:, tf.newaxis], tf.float32)
    predictions = {'scores': scores, 'key': tf.identity(key, name='handed_on')}
    output = estimator.export.PredictOutput(
        predictions if exported_too else {'scores': scores})
    return {'mode': 'infer', 'predictions': predictions,
            'export_outputs': {'serving_default': output}}


def _feature_of_the_model() -> Any:
    """Shown beside the answer that was computed from it; clients have sent it."""
    return _keyed(exported_too=False, use_key=True)


def _image_for_looking_at() -> Any:
    """A picture for those who call predict."""
    x = v1.placeholder(tf.float32, [None, 3], name='x')
    scores = tf.matmul(x, v1.get_variable('w', [3, 2]))
    return {'mode': 'infer', 'predictions': {'scores': scores, 'x': tf.identity(x)},
            'export_outputs': {'scores': estimator.export.PredictOutput({'scores': scores})}}


KeyNotExported.more_good = (_feature_of_the_model, _image_for_looking_at)

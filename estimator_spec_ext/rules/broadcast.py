"""Shapes that broadcast to a square where one number a row was meant."""

from __future__ import annotations

from typing import Any, Iterator, Optional

from estimator_spec_ext import describe
from estimator_spec_ext.compat import functions, graphs, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import INPUT_TYPES
from estimator_spec_ext.rule import EVAL, TRAIN, Rule
from estimator_spec_ext.rules import training

_MEETING = frozenset({'Sub', 'SquaredDifference', 'Mul', 'RealDiv', 'Div', 'DivNoNan', 'Xlogy',
                      'Xdivy', 'Xlog1py', 'Maximum', 'Minimum', 'Atan2'})
_COMPARING = ('Equal', 'NotEqual')
_CHOOSING = 'SelectV2'  # tf.where, whose condition broadcasts against what it chooses from
# Between an op and the loss there may be only these: what works row by row, and means and sums.
_PASSING = _MEETING | frozenset({
    'Mean', 'Sum', 'Add', 'AddV2', 'AddN', 'Neg', 'Abs', 'Square', 'Sqrt', 'Rsqrt', 'Pow', 'Exp',
    'Log', 'Log1p', 'Select', 'SelectV2', 'Softplus', 'Sigmoid', 'Relu', 'Cos', 'Sin', 'Acos',
    'Tanh', 'Cast', 'Identity', 'IdentityN', 'StopGradient', 'Reshape', 'Squeeze', 'ExpandDims',
    'CheckNumerics', 'ClipByValue', 'Reciprocal', 'Erf', 'Sign', 'Pack',
    'L2Loss', 'Cosh', 'Expm1', 'Lgamma', 'Relu6', 'Elu', 'LeakyRelu'})
_PICKING = ('GatherV2', 'TopKV2')  # a part of the errors: tf.boolean_mask, the hardest examples
_EXPANDING = ('ExpandDims', 'Reshape', 'StridedSlice')
_ROW_WISE = ('Identity', 'Cast', 'Sigmoid', 'Tanh', 'Relu', 'Exp')
_CALLING = ('PartitionedCall', 'StatefulPartitionedCall')  # of a tf.function
_MAX_WALK = 2000
_MAX_FINDINGS = 3


class LossBroadcasts(Rule):
    """Predictions and labels broadcast to a square.

    What it finds: on the way to the loss, in a tf.function too, through nothing but row-wise ops,
    means and sums, a difference, product, quotient or tf.where of shapes (?,) and (?, 1), or (n,)
    and (n, 1), where one side is computed from trainable variables and the other from the input
    alone. In EVAL also an equality of such shapes. A warning where one side was given its last
    dimension just there, as for a comparison of all pairs, or has a known length where the other's
    is unknown.

    Why it matters: the result has shape (?, ?) and compares each prediction with the labels of all
    rows. The loss goes down, towards a model that predicts the mean. Nothing says so.

    Bad:
        loss = tf.reduce_mean(tf.square(tf.squeeze(logits, 1) - labels))  # labels: (?, 1)

    Good:
        loss = tf.reduce_mean(tf.square(logits - labels))

    When to suppress: when all pairs of predictions and labels are meant.
    """

    code = 'ESX210'
    slug = 'loss-broadcasts'
    severity = Severity.ERROR
    modes = (TRAIN, EVAL)
    needs = ('loss',)
    mistakes = ('L4',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        loss = graphs.as_op(facts.loss)
        if loss is None or loss.graph is not facts.graph or not loss.outputs:
            return
        lines = set()
        start = facts.loss if graphs.is_tensor(facts.loss) else loss.outputs[0]
        for op, body in _on_the_way(start):
            sides = _sides(facts, op, body)
            place = op if body is None else body.outermost
            if sides is not None and facts.place(place)[1:] not in lines:
                lines.add(facts.place(place)[1:])
                yield self._square(facts, op, sides, 'loss', place)
                if len(lines) == _MAX_FINDINGS:
                    return
        if not facts.is_eval:
            return
        for op in facts.index.of_types(_COMPARING):
            sides = _sides(facts, op) if op in facts.step_ops else None
            if sides is not None:
                yield self._square(facts, op, sides, 'eval_metric_ops')
                return

    def _square(self, facts: SpecFacts, op: Any, sides: tuple[Any, Any], field: str,
                place: Any = None) -> Finding:
        made, given = (describe.shape_text(_shape(side)) for side in sides)
        pairs = (any(side.shape.rank == 2 and side.op.type in _EXPANDING for side in sides)
                 or _size(sides[0]) != _size(sides[1]))
        return self.finding(
            facts, f'{op.type} of {made} from the model and {given} from the input compares all '
            'pairs of rows', field=field, op=op if place is None else place,
            hint='give both sides one shape first, e.g. tf.reshape(labels, tf.shape(predictions))',
            expected='one shape on both sides', actual=f'{made} and {given}',
            severity=Severity.WARNING if pairs or field != 'loss' else None)

    @staticmethod
    def bad() -> Any:
        """A squeezed prediction and a column of labels."""
        return _squared(squeeze=True)

    @staticmethod
    def good() -> Any:
        """Both are columns."""
        return _squared(squeeze=False)


class _Body:
    """The inside of a function where it is called; a call within it has the outer one for `around`.
    """

    def __init__(self, graph: Any, call: Any, around: Optional['_Body']) -> None:
        self.outputs = graph.outputs
        self._outer = dict(zip((tensor.op for tensor in graph.inputs), call.inputs))
        self.around = around
        self.outermost: Any = call if around is None else around.outermost

    def outer(self, op: Any) -> Any:
        """The tensor outside that an op of the function hands in; None for any other op."""
        return self._outer.get(op)

    def behind(self, tensor: Any) -> set[Any]:
        """The ops outside of all functions from which a tensor of this one is computed."""
        found: set[Any] = set()
        stack, seen = [tensor.op], {tensor.op}
        while stack:
            op = stack.pop()
            outer = self.outer(op)
            if outer is not None:
                found |= {outer.op} if self.around is None else self.around.behind(outer)
            for before in op.inputs:
                if before.op not in seen:
                    seen.add(before.op)
                    stack.append(before.op)
        return found


def _on_the_way(loss: Any) -> Iterator[tuple[Any, Optional[_Body]]]:
    """The ops near the loss whose rows reach it one by one, each with the function it is in."""
    seen = {loss.op}
    stack: list[tuple[Any, Optional[_Body]]] = [(loss, None)]
    while stack and len(seen) < _MAX_WALK:
        tensor, body = stack.pop()
        op, inputs = tensor.op, []
        if body is not None and body.outer(op) is not None:
            inputs, body = [body.outer(op)], body.around
        elif op.type in _CALLING:
            graph = functions.body_of_call(op)
            if graph is not None:
                body = _Body(graph, op, body)
                inputs = [body.outputs[tensor.value_index]]
        elif op.type in _PICKING and tensor.shape.rank in (None, 1):
            inputs = op.inputs[:1]
        elif op.type in _PASSING:
            if op.type in _MEETING or op.type == _CHOOSING:
                yield op, body
            inputs = op.inputs
        for before in inputs:
            if before.op not in seen:
                seen.add(before.op)
                stack.append((before, body))


def _sides(facts: SpecFacts, op: Any, body: Optional[_Body] = None) -> Optional[tuple[Any, Any]]:
    """The computed and the given side when they broadcast to a square; None otherwise."""
    left, right = op.inputs[0], op.inputs[1]
    if op.type == _CHOOSING and left.shape.rank == right.shape.rank:
        right = op.inputs[2]
    if not _is_row_and_column(_shape(left), _shape(right)):
        return None
    if left.dtype.is_integer and op.type not in _COMPARING:
        return None
    left_made, left_given = _origin(facts, left, body)
    right_made, right_given = _origin(facts, right, body)
    if left_given != right_given:
        return None  # A constant, e.g. thresholds; where both are constants, all the data are.
    if left_made == right_made:
        return None
    made, given = (left, right) if left_made else (right, left)
    # Of the model, n numbers may be one a class; of the input alone they are one a row.
    return None if _size(made) is not None and _size(given) is None else (made, given)


def _size(tensor: Any) -> Optional[int]:
    return _shape(tensor).as_list()[0]


def _shape(tensor: Any) -> tf.TensorShape:
    """The static shape; (?,) for a column squeezed without an axis, whose rank is not known."""
    if tensor.shape.rank is None:
        op = training.source(tensor, _ROW_WISE).op
        if op.type == 'Squeeze' and not graphs.attribute(op, 'squeeze_dims'):
            column = op.inputs[0].shape
            if column.rank == 2 and column.as_list() == [None, 1]:
                return tf.TensorShape([None])
    return tensor.shape


def _is_row_and_column(left: tf.TensorShape, right: tf.TensorShape) -> bool:
    """Whether the shapes are (n,) and (n, 1), with one n above 1, or unknown in one or both."""
    if left.rank is None or right.rank is None or left.rank + right.rank != 3:
        return False
    row, column = (left, right) if left.rank == 1 else (right, left)
    if row.rank != 1:
        return False
    (size,), (rows, last) = row.as_list(), column.as_list()
    return last == 1 and 1 not in (size, rows) and (size == rows or None in (size, rows))


def _origin(facts: SpecFacts, tensor: Any, body: Optional[_Body]) -> tuple[bool, bool]:
    """Whether a tensor is computed from trainable variables, and whether from the input."""
    before = facts.index.data_ancestors([tensor] if body is None else body.behind(tensor))
    made = any(handle in before for info in facts.index.variables if info.trainable
               for handle in info.handles)
    return made, any(op.type in INPUT_TYPES for op in before)


# Examples.

def _scores() -> tuple[Any, Any]:
    features, labels = training.rows()
    return training.dense(features, 1, 'scores'), labels


def _fields(loss: Any) -> Any:
    return training.train_fields(loss, training.minimize(loss))


def _squared(*, squeeze: bool) -> Any:
    scores, labels = _scores()
    scores = tf.squeeze(scores, 1) if squeeze else scores
    return _fields(tf.reduce_mean(tf.square(tf.subtract(scores, labels, name='error'))))


def _bad_keras_function() -> Any:
    """The functional losses of Keras do not look at ranks, those in classes do."""
    scores, labels = _scores()
    labels = labels[:, 0]
    return _fields(tf.reduce_mean(tf.keras.losses.mean_squared_error(labels, scores)))


def _bad_weights() -> Any:
    """A weight of shape (?, 1) on a loss of shape (?,)."""
    features, labels = training.rows()
    scores = training.dense(features, 2, 'scores')
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.cast(labels[:, 0], tf.int64), logits=scores)
    weights = tf.slice(features, [0, 1], [-1, 1])
    return _fields(tf.reduce_mean(tf.multiply(losses, weights, name='weighted')))


def _bad_log_cosh() -> Any:
    """The logarithm of the hyperbolic cosine."""
    scores, labels = _scores()
    error = tf.subtract(labels[:, 0], scores, name='error')
    return _fields(tf.reduce_mean(tf.math.log(tf.math.cosh(error))))


def _bad_chosen() -> Any:
    """The probability of the true class, chosen by a row of labels."""
    scores, labels = _scores()
    likely = tf.sigmoid(scores)
    likely = v1.where_v2(labels[:, 0] > .5, likely, 1. - likely, name='of_truth')
    return _fields(-tf.reduce_mean(tf.math.log(likely + 1e-6)))


def _good_chosen() -> Any:
    """Labels and predictions are columns; the other choice is a number."""
    scores, labels = _scores()
    likely = tf.sigmoid(scores)
    errors = v1.where_v2(labels > .5, 1. - likely, likely)
    return _fields(tf.reduce_mean(v1.where_v2(errors > .1, errors, 0.)))


def _bad_squeezed_without_axis() -> Any:
    """TensorFlow does not know the rank of what is left; it is 1 for every batch but one row."""
    scores, labels = _scores()
    scores = tf.sigmoid(tf.squeeze(scores))
    return _fields(tf.reduce_mean(tf.abs(tf.subtract(labels, scores, name='error'))))


def _bad_in_function() -> Any:
    """The loss is a tf.function, which TensorFlow keeps as a graph of its own."""
    squares = tf.function(lambda predictions, labels: tf.square(predictions - labels))
    scores, labels = _scores()
    return _fields(tf.reduce_mean(squares(tf.squeeze(scores, 1), labels)))


def _bad_all_in_function() -> Any:
    """Model and loss are one tf.function, within another."""
    features, labels = training.rows()
    kernel = v1.get_variable('kernel', [features.shape[-1], 1], use_resource=True)

    squares = tf.function(lambda x, y: tf.square(tf.squeeze(tf.matmul(x, kernel), 1) - y))
    loss = tf.function(lambda x, y: tf.reduce_mean(squares(x, y)))
    return _fields(loss(features, labels))


def _good_in_function() -> Any:
    """Columns meet in a tf.function, and all pairs of predictions in another."""
    squares = tf.function(lambda predictions, labels: tf.reduce_mean(
        tf.square(predictions - labels)))
    spread = tf.function(lambda predictions: tf.reduce_mean(
        tf.abs(predictions - tf.squeeze(predictions, 1))))
    scores, labels = _scores()
    return _fields(squares(scores, labels) + .01 * spread(scores))


def _bad_expanded() -> Any:
    """Labels that were given a second dimension: a warning."""
    scores, labels = _scores()
    labels = tf.expand_dims(labels[:, 0], 1)
    return _fields(tf.reduce_mean(tf.abs(tf.subtract(tf.squeeze(scores, 1), labels, name='error'))))


def _bad_accuracy() -> Any:
    """An accuracy over all pairs: a warning."""
    scores, labels = _scores()
    loss = tf.reduce_mean(tf.math.squared_difference(scores, labels))
    right = tf.equal(tf.round(scores), labels[:, 0], name='right')
    accuracy = v1.metrics.mean(tf.cast(right, tf.float32))
    return {'mode': 'eval', 'loss': loss, 'eval_metric_ops': {'accuracy': accuracy}}


def _bad_known_length() -> Any:
    """Labels reshaped to the batch size in params: a warning."""
    scores, labels = _scores()
    labels = tf.reshape(labels, [32])
    return _fields(tf.reduce_mean(tf.abs(tf.subtract(scores, labels, name='error'))))


def _bad_angle() -> Any:
    """One minus the cosine of a difference."""
    scores, labels = _scores()
    error = tf.subtract(labels[:, 0], scores, name='error')
    return _fields(tf.reduce_mean(1. - tf.cos(error)))


def _bad_xlogy() -> Any:
    """A cross entropy by hand."""
    scores, labels = _scores()
    return _fields(-tf.reduce_mean(tf.math.xlogy(labels[:, 0], tf.sigmoid(scores), name='error')))


def _bad_hardest() -> Any:
    """Only some of the errors count."""
    scores, labels = _scores()
    errors = tf.abs(tf.subtract(tf.squeeze(scores, 1), labels, name='error'))
    hardest, _ = tf.nn.top_k(tf.boolean_mask(errors, errors < 10.), 2)
    return _fields(tf.reduce_mean(hardest))


def _good_classes() -> Any:
    """A column of labels meets the numbers of the classes, which the batch gives."""
    scores, labels = _scores()
    centers = tf.reduce_mean(tf.tile(scores, [1, 4]), 0)
    return _fields(tf.reduce_mean(tf.abs(labels - centers)))


def _good_keras_class() -> Any:
    scores, labels = _scores()
    return _fields(tf.keras.losses.MeanSquaredError()(labels[:, 0], scores))


def _good_pairs_of_predictions() -> Any:
    """A ranking loss compares all pairs of rows."""
    scores, labels = _scores()
    better = tf.cast(labels > tf.transpose(labels), tf.float32)
    differences = scores - tf.squeeze(scores, 1)
    return _fields(tf.reduce_mean(better * tf.nn.softplus(-differences)))


def _good_pairs_of_labels() -> Any:
    """Distances between labels are no predictions."""
    scores, labels = _scores()
    distances = tf.abs(labels - tf.squeeze(labels, 1))
    return _fields(tf.reduce_mean(distances * tf.square(scores - tf.transpose(scores))))


def _good_levels() -> Any:
    """A column of labels meets a row of quantiles, of another length."""
    features, labels = training.rows()
    errors = labels - training.dense(features, 5, 'quantiles')
    levels = tf.linspace(.1, .9, 5)
    return _fields(tf.reduce_mean(tf.maximum(levels * errors, (levels - 1.) * errors)))


def _good_thresholds() -> Any:
    """Trained thresholds, one a class, meet a column."""
    scores, labels = _scores()
    thresholds = v1.get_variable('thresholds', [3], initializer=tf.zeros_initializer())
    return _fields(tf.reduce_mean(tf.square(tf.sigmoid(scores - thresholds) - labels)))


LossBroadcasts.more_bad = (_bad_keras_function, _bad_weights, _bad_log_cosh, _bad_chosen,
                           _bad_squeezed_without_axis, _bad_expanded, _bad_accuracy,
                           _bad_in_function, _bad_all_in_function, _bad_known_length, _bad_angle,
                           _bad_xlogy, _bad_hardest)
LossBroadcasts.more_good = (_good_keras_class, _good_pairs_of_predictions, _good_pairs_of_labels,
                            _good_levels, _good_thresholds, _good_chosen, _good_in_function,
                            _good_classes)

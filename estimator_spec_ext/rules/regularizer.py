"""Regularization that was asked for and takes no part in training."""

from __future__ import annotations

from typing import Any, Iterator, Optional

from estimator_spec_ext import describe
from estimator_spec_ext.compat import graphs, keras_layers, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import PASSING_TYPES, VariableInfo
from estimator_spec_ext.rule import TRAIN, Rule
from estimator_spec_ext.rules import training

# What a norm of a variable begins with.
_NORMS = ('L2Loss', 'Square', 'Abs', 'Pow')
_SHOWING = ('Summary', 'Print')
_KERAS_SCOPE = '/Regularizer/'
_KERAS_ACTIVITY_SCOPE = 'ActivityRegularizer/'
_KERAS_HINT = ('loss += tf.add_n(model.losses), or layer.losses of each layer: '
               'Keras puts nothing into REGULARIZATION_LOSSES')
_MAX_WALK = 60


class RegularizerUnused(Rule):
    """Regularization losses take no part in the loss.

    What it finds: regularizers of trained weights of which not one is run by a training step, nor
    has part in a gradient: members of REGULARIZATION_LOSSES that nobody adds, regularizers of Keras
    layers, which are in no collection and whose layer.losses is not read or not added, and norms of
    weights that are computed and go nowhere. Also members of REGULARIZATION_LOSSES that are in the
    loss that is reported, and in no gradient.

    Why it matters: the weights are trained without the penalty that the program asks for, and
    nothing says so.

    Bad:
        layer = tf.keras.layers.Dense(10, kernel_regularizer='l2')
        loss = cross_entropy + tf.compat.v1.losses.get_regularization_loss()

    Good:
        layer = tf.keras.layers.Dense(10, kernel_regularizer='l2')
        loss = cross_entropy + tf.add_n(layer.losses)

    When to suppress: when the penalty is left out on purpose, or is in the optimizer instead.
    """

    code = 'ESX211'
    slug = 'regularizer-unused'
    severity = Severity.WARNING
    modes = (TRAIN,)
    needs = ('train_op', 'loss')
    mistakes = ('L7',)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        if not facts.shows_training:
            return
        for find, hint in (
                (_in_collection, 'loss += tf.compat.v1.losses.get_regularization_loss()'),
                (_norms, 'add it to the loss that is minimised: loss += scale * norm'),
                (_in_keras, _KERAS_HINT)):
            weights = find(facts)
            if weights:
                names = describe.names([info.name for info in weights], limit=1)
                first = weights[0]
                place = first.variable if first.variable is not None else first.op
                yield self._unused(facts, names, place, hint)
                return
        reported = _only_reported(facts)
        if reported:
            first = reported[0]
            names = describe.names([info.name for info in reported], limit=1)
            yield self.finding(
                facts, f'the regularizer of {names} is in the loss reported, and in no gradient',
                field='loss', op=first.variable if first.variable is not None else first.op,
                hint='minimise the same loss that is given to the spec',
                expected='part of the gradients', actual='only run')
            return
        activity = _activity(facts)
        if activity is not None:
            yield self._unused(facts, f"'{activity.name}'", activity, _KERAS_HINT)

    def _unused(self, facts: SpecFacts, names: str, place: Any, hint: str) -> Finding:
        return self.finding(
            facts, f'the regularizer of {names} takes no part in the loss', field='loss', op=place,
            hint=hint, expected='part of the loss', actual='not run')

    @staticmethod
    def bad() -> Any:
        """The collection that Keras leaves empty."""
        features, labels = training.rows()
        layer = tf.keras.layers.Dense(1, kernel_regularizer='l2', name='head')
        loss = tf.reduce_mean(tf.math.squared_difference(labels, layer(features)))
        loss += v1.losses.get_regularization_loss()
        return _keep(training.train_fields(loss, training.minimize(loss)), layer)

    @staticmethod
    def good() -> Any:
        """The losses of the layer itself."""
        features, labels = training.rows()
        layer = tf.keras.layers.Dense(1, kernel_regularizer='l2')
        loss = tf.reduce_mean(tf.math.squared_difference(labels, layer(features)))
        loss += tf.add_n(layer.losses)
        return _keep(training.train_fields(loss, training.minimize(loss)), layer)


def _is_used(facts: SpecFacts, op: Any) -> bool:
    """Whether a step runs an op, or has run it in mind when it computes a gradient."""
    return op in facts.run_ops or training.is_differentiated(op, facts.run_ops)


def _in_collection(facts: SpecFacts) -> list[VariableInfo]:
    """The weights of REGULARIZATION_LOSSES when none of these is used."""
    members = _members(facts)
    if any(member in facts.run_ops for member in members):
        return []
    weights: dict[VariableInfo, None] = {}
    for member in members:
        behind = _behind(facts, member)
        # get_variable(regularizer=...) makes new ops for each use of the member.
        again = [op for first, info in behind.items() if info is not None
                 for op in training.readers(info) if op.type == first.type]
        if any(_is_used(facts, op) for op in [*behind, *again]):
            return []
        weights.update(dict.fromkeys(info for info in behind.values() if info in facts.updated))
    return list(weights)


def _only_reported(facts: SpecFacts) -> list[VariableInfo]:
    """The weights of REGULARIZATION_LOSSES whose norms are run, while no gradient knows one.

    A decay by hand is known by the product of the weight in it.
    """
    weights: dict[VariableInfo, None] = {}
    for member in _members(facts) if not facts.opaque_hooks else ():
        for norm, info in _behind(facts, member).items():
            if info is None or info not in facts.updated:
                continue
            readers = [op for op in training.readers(info) if op in facts.run_ops]
            norms = [op for op in readers if op.type == norm.type]
            if (not norms or any(op.type in ('Mul', 'Sign') or op in facts.index.calls
                                 for op in readers)
                    or any(training.is_differentiated(op, facts.run_ops) for op in norms)):
                return []
            weights[info] = None
    return list(weights)


def _members(facts: SpecFacts) -> list[Any]:
    """The ops in REGULARIZATION_LOSSES."""
    return [op for op in map(graphs.as_op, facts.graph.get_collection(
        v1.GraphKeys.REGULARIZATION_LOSSES)) if op is not None and op.graph is facts.graph]


def _behind(facts: SpecFacts, member: Any) -> dict[Any, Optional[VariableInfo]]:
    """The ops from a loss back to the weights, each with the trainable weight that it reads."""
    found: dict[Any, Optional[VariableInfo]] = {}
    stack, seen = [member], {member}
    while stack and len(found) < _MAX_WALK:
        op = stack.pop()
        found[op] = None
        for tensor in op.inputs:
            info = training.read_variable(facts, tensor)
            if info is not None:
                found[op] = info if info.trainable else None
            elif tensor.op not in seen:
                seen.add(tensor.op)
                stack.append(tensor.op)
    return found


def _norms(facts: SpecFacts) -> list[VariableInfo]:
    """The trained weights whose norm is computed and goes nowhere, when no norm is used."""
    weights: dict[VariableInfo, None] = {}
    for op in _reading_weights(facts, facts.index.of_types(_NORMS)):
        info = training.read_variable(facts, op.inputs[0])
        if info is None or info not in facts.updated or not info.trainable:
            continue
        if op.type == 'Pow' and tf.get_static_value(op.inputs[1]) != 2:
            continue
        if _is_used(facts, op):
            return []
        # A hook may look it up by name; what a regularizer of Keras made has no name to go by.
        if _is_penalty(op) and (not facts.opaque_hooks or _KERAS_SCOPE in op.name):
            weights[info] = None
    return list(weights)


def _reading_weights(facts: SpecFacts, norms: list[Any]) -> list[Any]:
    """Those of `norms` that may read the value of a trained weight itself."""
    # Most are norms of gradients; to ask them what they read would take far longer.
    index, wanted = facts.index, set(norms)
    passing = set(index.of_types(PASSING_TYPES | {'ReadVariableOp'})) if norms else set()
    found: set[Any] = set()
    stack = [op for info in facts.updated if info.trainable for op in info.handles if norms]
    while stack:
        for reader in index.consumers(stack.pop()):
            if reader in wanted:
                found.add(reader)
            elif reader in passing:
                passing.remove(reader)  # seen
                stack.append(reader)
    return [op for op in norms if op in found]


def _is_penalty(op: Any) -> bool:
    """Whether an op leads to one number and from there to nothing but numbers, and no summary."""
    if op.type != 'L2Loss':
        op = next((consumer for consumer in op.outputs[0].consumers()
                   if consumer.type in ('Sum', 'Mean')), op)
    seen, stack = {op}, [op]
    while stack and len(seen) < _MAX_WALK:
        last = stack.pop()
        if any(word in last.type for word in _SHOWING):
            return False
        if any(tensor.shape.rank != 0 for tensor in last.outputs):
            return False
        for tensor in last.outputs:
            for consumer in tensor.consumers():
                if consumer not in seen:
                    seen.add(consumer)
                    stack.append(consumer)
    return True


def _in_keras(facts: SpecFacts) -> list[VariableInfo]:
    """The trained weights with a regularizer in a Keras layer, when none of these is used."""
    if not keras_layers.has_regularized_weights():
        return []
    for op in facts.graph.get_operations():
        if _KERAS_SCOPE in op.name and _is_used(facts, op):
            return []
    found = map(facts.index.variable, keras_layers.regularized_weights(facts.graph))
    return sorted({info for info in found if info is not None and info in facts.updated},
                  key=lambda info: info.name)


def _activity(facts: SpecFacts) -> Optional[Any]:
    """The op whose output a Keras layer penalizes, when no such penalty is used."""
    run_ops, step_ops = facts.run_ops, facts.step_ops
    penalized = None
    for op in facts.index.of_types(('RealDiv', 'DivNoNan')):
        if _KERAS_ACTIVITY_SCOPE not in op.name:
            continue
        near = [consumer for tensor in op.inputs for consumer in tensor.consumers()]
        if any(consumer in run_ops for consumer in near):
            return None  # It is run, or its gradient.
        seen, stack = {op}, [op.inputs[0].op]
        while stack and penalized is None and len(seen) < _MAX_WALK:
            behind = stack.pop()
            if behind in step_ops and behind.inputs:
                penalized = behind
            elif behind not in seen:
                seen.add(behind)
                stack.extend(tensor.op for tensor in behind.inputs)
    return penalized


# Examples.

def _keep(fields: dict[str, Any], layer: Any) -> dict[str, Any]:
    """The layer lives as long as the hook that holds it."""
    return {**fields, 'training_hooks': [training.UnknownHook(layer.name, [layer])]}


def _with_regularizer() -> tuple[Any, Any]:
    return training.regression(regularizer=lambda weight: .1 * tf.nn.l2_loss(weight))


def _bad_collection() -> Any:
    _, loss = _with_regularizer()
    return training.train_fields(loss, training.minimize(loss))


def _bad_by_hand() -> Any:
    """A penalty is computed and forgotten."""
    _, loss = training.regression()
    tf.add_n([tf.reduce_sum(tf.abs(weight)) for weight in v1.trainable_variables('head/kernel')])
    return training.train_fields(loss, training.minimize(loss))


def _bad_power() -> Any:
    """Squares as powers of 2."""
    _, loss = training.regression()
    tf.multiply(.1, tf.reduce_sum(v1.trainable_variables('head/kernel')[0] ** 2.), name='decay')
    return training.train_fields(loss, training.minimize(loss))


def _good_power() -> Any:
    """The same, added; and another power, which is none."""
    _, loss = training.regression()
    weight = v1.trainable_variables('head/kernel')[0]
    tf.reduce_sum(weight ** 3.)
    return training.train_fields(loss, training.minimize(loss + tf.reduce_sum(weight ** 2.)))


def _bad_keras_not_added() -> Any:
    """The losses of the layer are read, and not added."""
    features, labels = training.rows()
    layer = tf.keras.layers.Dense(1, kernel_regularizer=tf.keras.regularizers.L1(.1), name='head')
    loss = tf.reduce_mean(tf.math.squared_difference(labels, layer(features)))
    tf.add_n(layer.losses)
    return training.train_fields(loss, training.minimize(loss))


def _bad_keras_activity() -> Any:
    """A penalty on what a layer gives out."""
    features, labels = training.rows()
    layer = tf.keras.layers.Dense(4, activity_regularizer='l2', name='hidden')
    _, loss = training.regression((layer(features), labels))
    return training.train_fields(loss, training.minimize(loss))


def _good_collection() -> Any:
    _, loss = _with_regularizer()
    loss += v1.losses.get_regularization_loss()
    return training.train_fields(loss, training.minimize(loss))


def _bad_only_reported() -> Any:
    """The loss that is reported has the penalty; the one that is minimised leaves it out."""
    _, loss = _with_regularizer()
    total = loss + v1.losses.get_regularization_loss()
    return training.train_fields(total, training.minimize(loss))


def _good_decay_by_hand() -> Any:
    """The penalty is reported, and its gradient is written by hand."""
    _, loss = _with_regularizer()
    total = loss + v1.losses.get_regularization_loss()
    optimizer = v1.train.GradientDescentOptimizer(.1)
    pairs = [(gradient + .1 * weight, weight)
             for gradient, weight in optimizer.compute_gradients(loss)]
    return training.train_fields(
        total, optimizer.apply_gradients(pairs, v1.train.get_global_step()))


def _good_only_minimised() -> Any:
    """The loss that is reported leaves the penalty out; the one that is minimised has it."""
    _, loss = _with_regularizer()
    total = loss + tf.add_n(v1.get_collection(v1.GraphKeys.REGULARIZATION_LOSSES))
    return training.train_fields(loss, training.minimize(total))


def _good_summary() -> Any:
    """Norms for a summary are no penalty."""
    _, loss = training.regression()
    for weight in v1.trainable_variables():
        v1.summary.scalar(f'{weight.op.name}/norm', tf.sqrt(2. * tf.nn.l2_loss(weight)))
    return training.train_fields(loss, training.minimize(loss))


def _good_watched() -> Any:
    """A hook of a class that is not TensorFlow's may look the norm up by its name."""
    _, loss = training.regression()
    tf.add_n([tf.nn.l2_loss(weight) for weight in v1.trainable_variables()], name='norm')
    return training.train_fields(loss, training.minimize(loss),
                                 training_hooks=[training.UnknownHook('norm')])


def _good_distances() -> Any:
    """Squares of weights in a distance that this mode does not need, as in k-means."""
    features, labels = training.rows()
    centers = v1.get_variable('centers', [2, 3])
    distances = (tf.reduce_sum(tf.square(features), 1, keepdims=True)
                 - 2. * tf.matmul(features, centers, transpose_b=True)
                 + tf.reduce_sum(tf.square(centers), 1))
    tf.reduce_mean(tf.reduce_min(distances, 1))
    _, loss = training.regression((tf.matmul(features, centers, transpose_b=True), labels))
    return training.train_fields(loss, training.minimize(loss))


def _good_frozen_layer() -> Any:
    """The regularized weights are not trained."""
    features, labels = training.rows()
    hidden = training.dense(features, 4, 'frozen', regularizer=tf.nn.l2_loss)
    _, loss = training.regression((hidden, labels))
    return training.train_fields(
        loss, training.minimize(loss, var_list=v1.trainable_variables('head')))


def _good_asked_twice() -> Any:
    """Looking at layer.losses makes ops that go nowhere; those of the second look are added."""
    features, labels = training.rows()
    layer = tf.keras.layers.Dense(1, kernel_regularizer='l2')
    loss = tf.reduce_mean(tf.math.squared_difference(labels, layer(features)))
    if layer.losses:
        loss += tf.add_n(layer.losses)
    return training.train_fields(loss, training.minimize(loss))


RegularizerUnused.more_bad = (_bad_collection, _bad_by_hand, _bad_power, _bad_keras_not_added,
                               _bad_keras_activity, _bad_only_reported)
RegularizerUnused.more_good = (_good_collection, _good_only_minimised, _good_power, _good_summary,
                               _good_watched, _good_distances, _good_frozen_layer,
                               _good_asked_twice, _good_decay_by_hand)

"""Weights that Keras loads where no Estimator finds them."""

from __future__ import annotations

from typing import Any, Iterator

from estimator_spec_ext import describe
from estimator_spec_ext.compat import graphs, keras_layers, tf, v1
from estimator_spec_ext.diagnostics import Finding, Severity
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.rule import TRAIN, Rule
from estimator_spec_ext.rules import training


def _fields(load: Any, **fields: Any) -> dict[str, Any]:
    """A Keras layer whose weights are set to what `load` does with it."""
    features, labels = training.rows()
    layer = tf.keras.layers.Dense(1, name='head')
    prediction = layer(features)
    more = load(layer) or {}
    loss = tf.reduce_mean(tf.math.squared_difference(labels, prediction))
    return {**training.train_fields(loss, training.minimize(loss)), **more, **fields}


def _zeros(layer: Any) -> None:
    layer.set_weights([0. * value for value in layer.get_weights()])


def _zeros_again(layer: Any) -> dict[str, Any]:
    """What init_fn does counts."""
    _zeros(layer)
    ops = [v1.assign(weight, tf.zeros_like(weight)) for weight in layer.weights]
    return {'scaffold': v1.train.Scaffold(init_fn=lambda scaffold, session: session.run(ops))}


def _good_init_fn() -> Any:
    """The session of the training loads them once more."""
    return _fields(_zeros_again)


class KerasWeightsLost(Rule):
    """Weights that model_fn loads into Keras layers are not those that are trained.

    What it finds: trainable variables that Keras's `load_weights` or `set_weights` has set while
    model_fn was called in TRAIN, `weights='imagenet'` of tf.keras.applications among them, where no
    Scaffold.init_fn, hook or init_from_checkpoint gives them a value.

    Why it matters: in a graph Keras assigns them in a session of its own. The Estimator opens
    another one, in which the variables are initialised as if nothing had been loaded.

    Bad:
        base = tf.keras.applications.ResNet50(weights='imagenet')     # inside of model_fn

    Good:
        base = tf.keras.applications.ResNet50(weights=None)
        tf.compat.v1.train.init_from_checkpoint(checkpoint, {'/': '/'})

    When to suppress: when every run starts from a checkpoint in model_dir or is warm-started.
    """

    code = 'ESX310'
    slug = 'keras-weights-lost'
    severity = Severity.WARNING
    modes = (TRAIN,)
    mistakes = ('V6',)
    more_good = (_good_init_fn,)

    def check(self, facts: SpecFacts) -> Iterator[Finding]:
        lost = [info for info in facts.index.variables
                if info.trainable and keras_layers.is_set_in_own_session(info.variable)]
        if (not lost or facts.opaque_hooks
                or getattr(facts.scaffold, 'init_fn', None) is not None):
            return
        lost = [info for info in lost if not _is_restored(info.variable)]
        if lost:
            names = describe.names([info.name for info in lost], limit=1)
            yield self.finding(
                facts, f'what Keras loads into {names} in model_fn is lost: it is set in a session '
                       'of Keras', op=lost[0].variable,
                hint='start from a checkpoint (warm_start_from, tf.compat.v1.train.'
                     'init_from_checkpoint), or assign the values in Scaffold(init_fn=...)',
                expected='values that the session of the Estimator gets',
                actual='values of another session')

    @staticmethod
    def bad() -> Any:
        """Weights are set while the graph is built."""
        return _fields(_zeros)

    @staticmethod
    def good() -> Any:
        """They are the initial values."""
        features, labels = training.rows()
        layer = tf.keras.layers.Dense(1, kernel_initializer=tf.keras.initializers.Constant(0.))
        loss = tf.reduce_mean(tf.math.squared_difference(labels, layer(features)))
        return training.train_fields(loss, training.minimize(loss))


def _is_restored(variable: Any) -> bool:
    """Whether its initial value comes from a checkpoint."""
    source = graphs.first_value(variable)
    return source is not None and source.type == 'RestoreV2'

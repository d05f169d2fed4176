"""Objects of Keras 3 that reach Estimator: what to do, in one sentence, where they are refused.

Only in force while `tf.keras` is Keras 3. Estimator knows Keras 2 alone and says of such an object
no more than that it is not what it wanted.
"""

from __future__ import annotations

import functools
import os
import sys
from typing import Any, Callable, Mapping, Optional

from tensorflow.python.platform import tf_logging as _logging

from estimator_spec_ext.compat.bridge.keras2 import LEGACY

_KINDS = {'Metric': 'a metric', 'Optimizer': 'an optimizer', 'Layer': 'a layer or model',
          'Variable': 'a variable', 'KerasVariable': 'a variable'}
_DO = (f'Estimator works with Keras 2. Set {LEGACY}=1 before TensorFlow is imported, or have '
       '`from estimator_spec_ext import estimator` above `import tensorflow`, and tf.keras is '
       'Keras 2; or use tf_keras in the place of keras here')


def kind(value: Any) -> Optional[str]:
    """What an object of Keras 3 is, e.g. 'a metric'; None for everything else."""
    for base in type(value).__mro__:
        if base.__module__.startswith('keras.src.') and base.__name__ in _KINDS:
            return _KINDS[base.__name__]
    return None


def sentence(what: str, value: Any) -> Optional[str]:
    """What to do about `value`; None when it is no object of Keras 3."""
    found = kind(value)
    return None if found is None else f'{what} is {found} of Keras 3, and {_DO}'


def explain_refusals() -> None:
    """Puts the sentence where Estimator refuses, or is hurt by, an object of Keras 3."""
    from tensorflow_estimator.python.estimator import estimator, keras_lib, model_fn
    from tensorflow_estimator.python.estimator.canned import optimizers
    from tensorflow_estimator.python.estimator.head import base_head

    _check_first(model_fn, '_validate_eval_metric_ops', TypeError, lambda metrics: {
        f'eval_metric_ops[{key!r}]': value for key, value in metrics.items()}
        if isinstance(metrics, Mapping) else {})
    _check_first(model_fn, '_validate_estimator_spec_train_op', TypeError,
                 lambda train_op, *_, **__: {'train_op': train_op})
    _check_first(base_head, 'validate_v2_optimizer', ValueError,
                 lambda optimizer, *_, **__: {'the optimizer': optimizer})
    _check_first(optimizers, 'get_optimizer_instance_v2', ValueError,
                 lambda optimizer, *_, **__: {'the optimizer': optimizer})
    _check_first(keras_lib, 'model_to_estimator', ValueError,
                 lambda keras_model=None, *_, **__: {'keras_model': keras_model})
    estimator.Estimator._call_model_fn = _with_advice(estimator.Estimator._call_model_fn)


def _check_first(module: Any, name: str, error: type[Exception],
                 named: Callable[..., Mapping[str, Any]]) -> None:
    """Replaces a function, in every module of Estimator that imported it, by one that looks."""
    stock = getattr(module, name)

    @functools.wraps(stock)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for what, value in named(*args, **kwargs).items():
            text = sentence(what, value)
            if text is not None:
                raise error(text)
        return stock(*args, **kwargs)

    for known in list(sys.modules.values()):
        if (getattr(known, '__name__', '').startswith('tensorflow_estimator.')
                and vars(known).get(name) is stock):
            setattr(known, name, checked)


def _with_advice(stock: Any) -> Any:
    """`Estimator._call_model_fn`, with a word on Keras 3 inside of model_fn."""
    import tensorflow
    tf: Any = tensorflow

    def advise(variables: list[Any]) -> None:
        made = [variable.op.name for variable in variables if _made_by_keras3(variable)]
        if made:
            _logging.warning(
                'The variable %s was made by a layer of Keras 3, which counts its names on from '
                'mode to mode, so that EVAL and PREDICT may not find it in the checkpoint: %s.',
                made[0], _DO)

    advise = tf.autograph.experimental.do_not_convert(advise)

    # AutoGraph converts this function as it would convert Estimator's own.
    def call_model_fn(self: Any, features: Any, labels: Any, mode: Any, config: Any) -> Any:
        spec = stock(self, features, labels, mode, config)
        advise(tf.compat.v1.trainable_variables())
        return spec

    return call_model_fn


def _made_by_keras3(variable: Any) -> bool:
    try:
        frames = variable.op.traceback or ()
    except Exception:  # noqa: BLE001 - distributed variables have no op of their own
        return False
    return any(_LAYERS in frame.filename for frame in frames)


_LAYERS = os.sep.join(('', 'keras', 'src', 'layers', ''))

"""Says what an exception means: TensorFlow's own texts often name the symptom alone."""

from __future__ import annotations

import re
from typing import Any, Optional

from estimator_spec_ext import describe
from estimator_spec_ext.compat import estimator_internals as internals
from estimator_spec_ext.compat import frames, graphs, tf
from estimator_spec_ext.errors import EstimatorSpecError
from estimator_spec_ext.preflight.facts import Crash, ModeFacts, Place, feature_texts

# Kinds of crashes. Rules in rules/preflight_crash.py and rules/preflight_export.py tell them.
STRICT = 'strict'  # a strict spec has said all
REFUSED = 'refused'  # stock refused the spec; the rules of its fields say why
RETURN = 'return'
LABELS = 'labels'
SIGNATURE = 'signature'
GRAPH = 'graph'
INPUT_GRAPH = 'input graph'
INPUT = 'input'
RECEIVER = 'receiver'
SERVING = 'serving features'
GRADIENTS = 'gradients'
OPTIMIZER = 'keras optimizer'
SUMMARY = 'summary op'
EXPORT_OUTPUT = 'export output'
REMOVED = 'estimator removed'
UNSUPPORTED = 'not implemented'
PROMISED = 'promised'  # it reads what the script trains before; a note says so
OTHER = 'other'

MODE_NAMES = {'train': 'TRAIN', 'eval': 'EVAL', 'infer': 'PREDICT'}

_UNKNOWN = re.compile(r'\bNone\b|NoneType|undefined|unknown|fully.defined|must be (?:specified|'
                      r'known)', re.IGNORECASE)
_FOREIGN = re.compile(
    r'same graph|not an element of this graph|from a different graph|is out of scope|'
    r'must be from the default graph|not from the (?:current|default) graph|'
    r'different graph|another graph|capture an EagerTensor|outside of (?:the|its) (?:current )?'
    r'graph|does not belong to the|different variable-creation|not in the current graph|'
    r'creat(?:e|ed|ing) (?:outside|in) (?:of )?(?:the|a|another) (?:current |different )?'
    r'(?:graph|function|`?init_scope)|not compatible with the current graph', re.IGNORECASE)

# How TensorFlow shows tensors and variables; their names are enough.
_REPR = re.compile(r'Tensor\("([^"]*)", shape=.*?, dtype=\w+(?:, device=[^)]*)?\)'
                   r"|<tf\.\w+ '([^']*)' shape=[^>]*>")


def crash_of(error: BaseException, facts: ModeFacts) -> Crash:
    """What ended the building of a mode.

    Args:
      error: the exception, with its traceback.
      facts: the mode as far as it came; `facts.tap` is read.

    Returns:
      A `Crash`.
    """
    tap = facts.tap
    kind, details = _kind(error, facts)
    file, line = frames.error_site(error)
    if kind in (RETURN, SIGNATURE) or file is None:
        function = tap.input_fn if kind in (INPUT, INPUT_GRAPH) else tap.model_fn
        # Where PREDICT gets the input of another mode, the function is wrapped.
        site = frames.code_site(getattr(function, 'written_as', function))
        file, line = site if site[0] is not None else (file, line)
    return Crash(kind, tap.stage, error, _text(error), Place(file, line), details)


def early(error: BaseException) -> Crash:
    """What ended a builder or a script before there was a job."""
    return Crash(OTHER, 'early', Exception(), _text(error), Place(*frames.error_site(error)))


def _text(error: BaseException) -> str:
    name = type(error).__name__
    if isinstance(error, KeyError) and error.args:
        return f'{name}: {describe.value(error.args[0])}'
    text = describe.error_text(error, 400)
    # AutoGraph puts the reason at the end of a list of its own lines.
    if text.rstrip(':') in ('in user code', name):
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        text = lines[-1][:140] if lines else ''
    text = _REPR.sub(lambda match: repr(match.group(1) or match.group(2)), text)
    text = text if len(text) <= 140 else text[:139] + '…'
    return name if text in ('', name) else f'{name}: {text}'


def _kind(error: BaseException, facts: ModeFacts) -> tuple[str, dict[str, Any]]:
    tap = facts.tap
    text = _whole_text(error)
    if isinstance(error, EstimatorSpecError):
        return STRICT, {}
    if tap.stage == internals.MODEL_FN and _is_tf_function(tap.model_fn):
        return SIGNATURE, {'fault': 'is a tf.function; expected a plain function'}
    if tap.stage in (internals.INPUT_FN, internals.INPUT, internals.SETUP):
        if 'model_fn does not take labels' in text:
            return SIGNATURE, {}
        return (INPUT_GRAPH if _FOREIGN.search(text) else INPUT), {}
    if tap.stage == internals.RECEIVER:
        return RECEIVER, {}
    if 'model_fn should return an EstimatorSpec' in text:
        found, value = internals.frame_value(error, '_call_model_fn', 'model_fn_results')
        return RETURN, {'returned': value} if found else {}
    if 'model_fn does not take labels' in text:
        return SIGNATURE, {}
    if isinstance(error, TypeError) and _is_innermost(error, 'estimator.py', '_call_model_fn'):
        # The call itself: nothing of model_fn has run.
        return SIGNATURE, {'fault': f'is not what Estimator calls: {_text(error)}'}
    attempt = refused_attempt(error, tap)
    if attempt is not None:
        return REFUSED, {'attempt': attempt}
    if isinstance(error, NotImplementedError):
        return UNSUPPORTED, {}
    if 'No gradients provided for any variable' in text:
        found, loss = internals.frame_value(error, 'minimize', 'loss')
        return GRADIENTS, {'loss': loss} if found and graphs.is_tensor(loss) else {}
    if text.startswith('No variables to optimize'):
        return GRADIENTS, {'no_variables': True}
    if '`tape` is required' in text or 'tape is required' in text:
        return OPTIMIZER, {}
    if 'Exactly one of scaffold or summary_op' in text:
        return SUMMARY, {}
    if _is_innermost(error, 'export_output.py'):
        return EXPORT_OUTPUT, {}
    if _FOREIGN.search(text):
        return (INPUT_GRAPH if _is_foreign_input(tap) else GRAPH), {}
    return OTHER, {}


def _whole_text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - a user's exception may fail to describe itself
        return ''


def refused_attempt(error: BaseException, tap: Any) -> Any:
    """The construction of a spec that raised this exception; None when it came from elsewhere."""
    chain: list[Any] = []
    current: Optional[BaseException] = error
    while current is not None and len(chain) < 20:
        chain.append(current)
        current = current.__cause__ or current.__context__
    for attempt in reversed(tap.attempts):
        if attempt.error is not None and any(attempt.error is item for item in chain):
            return attempt
    # AutoGraph raises a new exception with the old text.
    for attempt in reversed(tap.attempts):
        if attempt.error is not None and _whole_text(attempt.error) in _whole_text(error):
            return attempt
    return None


def _is_tf_function(function: Any) -> bool:
    return hasattr(function, 'python_function') and hasattr(function, 'get_concrete_function')


def _is_foreign_input(tap: Any) -> bool:
    """Whether features or labels are tensors that were made outside of the input function."""
    return any(graphs.is_tensor(value) and getattr(value, 'graph', None) is not tap.graph
               for value in tf.nest.flatten([tap.features, tap.labels])
               if not graphs.is_composite(value))


def _is_innermost(error: BaseException, file_name: str, function: str = '') -> bool:
    """Whether an exception was raised in this file, and in this function where one is named."""
    trace = error.__traceback__
    last = None
    while trace is not None:
        last = trace
        trace = trace.tb_next
    code = None if last is None else last.tb_frame.f_code
    return code is not None and code.co_filename.endswith(file_name) and (
        function in ('', code.co_name))


def serving_difference(facts: ModeFacts, usual: Optional[ModeFacts],
                       loose: bool = False) -> dict[str, Any]:
    """How the receiver's features differ from those that TRAIN and EVAL get.

    Args:
      facts: PREDICT on a serving receiver.
      usual: TRAIN or EVAL.
      loose: whether a dimension that only TRAIN and EVAL know is a difference.

    Returns:
      'missing', 'extra' and 'differing' by key; 'structure' when one is a dict and the other is
      not; {} when they are alike.
    """
    if usual is None or usual.tap is None or facts.tap is None:
        return {}
    here, there = facts.tap.features, usual.tap.features
    if here is None or there is None:
        return {}
    if isinstance(here, dict) != isinstance(there, dict):
        kind = {True: 'a dict', False: 'a tensor'}
        return {'structure': (kind[isinstance(here, dict)], kind[isinstance(there, dict)])}
    mine, theirs = feature_texts(here), feature_texts(there)
    found: dict[str, Any] = {}
    missing = sorted(set(theirs) - set(mine))
    extra = sorted(set(mine) - set(theirs))
    differing = [(key, mine[key], theirs[key]) for key in sorted(set(mine) & set(theirs))
                 if _kinds_differ(here.get(key), there.get(key))
                 or loose and _knows_less(here.get(key), there.get(key))]
    if missing:
        found['missing'] = missing
    if extra:
        found['extra'] = extra
    if differing:
        found['differing'] = differing
    return found


def _kinds_differ(here: Any, there: Any) -> bool:
    """Whether dtype, kind or rank differ, or dims behind the batch that are known on both sides."""
    if graphs.is_composite(here) != graphs.is_composite(there):
        return True
    if getattr(here, 'dtype', None) != getattr(there, 'dtype', None):
        return True
    one, other = getattr(here, 'shape', None), getattr(there, 'shape', None)
    if one is None or other is None or one.rank is None or other.rank is None:
        return False
    return one.rank != other.rank or not one[1:].is_compatible_with(other[1:])


def _knows_less(here: Any, there: Any) -> bool:
    one, other = getattr(here, 'shape', None), getattr(there, 'shape', None)
    if one is None or other is None or other.rank is None:
        return False
    return one.rank is None or any(
        mine is None and known is not None
        for mine, known in zip(one.as_list()[1:], other.as_list()[1:]))


def lacks_a_dimension(crash: Crash) -> bool:
    """Whether a crash is about a dimension of a shape that is not known."""
    return _UNKNOWN.search(_whole_text(crash.error)) is not None


def blames_features(crash: Crash, difference: dict[str, Any]) -> bool:
    """Whether a crash of PREDICT follows from the receiver's features."""
    if not difference or crash.stage != internals.MODEL_FN:
        return False
    if 'structure' in difference or 'differing' in difference:
        return crash.kind == OTHER
    missing = difference.get('missing', ())
    if isinstance(crash.error, KeyError) and crash.error.args:
        return crash.error.args[0] in missing
    text = _whole_text(crash.error)
    return crash.kind == OTHER and any(re.search(rf'\b{re.escape(key)}\b', text) is not None
                                       for key in missing)

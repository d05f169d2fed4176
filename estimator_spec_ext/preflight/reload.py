"""A program of its own: loads SavedModels in a fresh process and asks their signatures.

It knows nothing of the job, as a server knows nothing of it. It reads one JSON line for each
SavedModel from standard input and writes one JSON line for each to standard output; arrays go
through pickle files in the scratch folder. It ends when its standard input does.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from typing import Any


def main() -> None:
    # What TensorFlow prints must not get between the answers.
    answers = os.fdopen(os.dup(1), 'w', encoding='utf-8')
    os.dup2(2, 1)
    import tensorflow as tf
    tf.compat.v1.logging.set_verbosity(tf.compat.v1.logging.ERROR)
    for line in sys.stdin:
        answers.write(json.dumps(_answer(tf, json.loads(line))) + '\n')
        answers.flush()


def _answer(tf: Any, request: dict[str, Any]) -> dict[str, Any]:
    """The signatures, with inputs, outputs and whether they predict; or {'error': text}."""
    with open(request['queries'], 'rb') as file:
        queries = pickle.load(file)
    results = []
    try:
        with tf.Graph().as_default(), tf.compat.v1.Session(
                config=tf.compat.v1.ConfigProto(device_count={'GPU': 0})) as session:
            loaded = tf.compat.v1.saved_model.load(session, ['serve'], request['path'])
            signatures = dict(loaded.signature_def)
            for name, feeds in queries:
                results.append(_query(session, signatures.get(name), name, feeds))
    except Exception as error:  # noqa: BLE001 - any failure is the answer
        return {'error': _text(error)}
    with open(request['results'], 'wb') as file:
        pickle.dump(results, file)
    return {'signatures': {name: {'inputs': sorted(signature.inputs),
                                  'outputs': sorted(signature.outputs),
                                  'predicts': signature.method_name.endswith('/predict')}
                           for name, signature in signatures.items()
                           if not name.startswith('__')}}


def _query(session: Any, signature: Any, name: str,
           feeds: dict[str, Any]) -> tuple[str, Any, Any]:
    """(name, outputs, None), or (name, None, what went wrong)."""
    if signature is None:
        return name, None, 'no such signature'
    if len(signature.inputs) == len(feeds) == 1:
        # Signatures to classify and to regress call the one input 'inputs', whatever its name was.
        feeds = dict(zip(signature.inputs, feeds.values()))
    missing = sorted(set(signature.inputs) - set(feeds))
    if missing:
        return name, None, f'no value for input {missing[0]}'
    fetches = {key: info.name for key, info in signature.outputs.items()}
    values = {signature.inputs[key].name: value for key, value in feeds.items()
              if key in signature.inputs}
    try:
        return name, (session.run(fetches, values), session.run(fetches, values)), None
    except Exception as error:  # noqa: BLE001 - any failure is the answer
        return name, None, _text(error)


def _text(error: Exception) -> str:
    return f'{type(error).__name__}\n{error}'[:4000]


if __name__ == '__main__':
    main()

"""What the rules about training have in common; it holds no rule itself."""

from __future__ import annotations

import re
from typing import AbstractSet, Any, Iterable, Optional

from estimator_spec_ext.compat import estimator, graphs, tf, v1
from estimator_spec_ext.facts import SpecFacts
from estimator_spec_ext.graph import VariableInfo

# What moving statistics are called, in lower case.
MOVING_NAME = re.compile(r'(moving|running|pop|population)_?(mean|var|std|avg|average|inv)')
_LOCAL = frozenset({v1.GraphKeys.LOCAL_VARIABLES, v1.GraphKeys.METRIC_VARIABLES})


def is_state(info: VariableInfo) -> bool:
    """Whether the variable outlives a step of one mode: not a metric's, not a local one."""
    return info.is_global or not info.collections & _LOCAL


def step_trains(facts: SpecFacts) -> bool:
    """Whether train_op and loss alone, without hooks, update a trainable variable."""
    step_ops = facts.step_ops
    return any(op in step_ops for info in facts.trained for op in facts.updated[info])


def is_counter(info: VariableInfo) -> bool:
    """Whether the variable is one integer; tf.Variable(0) calls itself trainable."""
    return info.dtype.is_integer and info.shape.rank == 0


def source(tensor: Any, passing: Iterable[str] = ('Identity', 'Cast', 'Reshape')) -> Any:
    """The tensor behind ops that hand on the value of their first input."""
    for _ in range(100):
        op = tensor.op
        if op.type not in passing or not op.inputs:
            break
        tensor = op.inputs[0]
    return tensor


def read_variable(facts: SpecFacts, tensor: Any) -> Optional[VariableInfo]:
    """The variable whose value, unchanged, `tensor` is; None when it is computed."""
    op = source(tensor, ('Identity',)).op
    if op.type == 'ReadVariableOp':
        return facts.index.variable(op.inputs[0])
    return facts.index.variable(op) if op.type in ('VariableV2', 'Variable') else None


def readers(info: VariableInfo) -> list[Any]:
    """The ops that read the variable's value and do something with it."""
    found = []
    stack = list(info.handles)
    while stack:
        for tensor in stack.pop().outputs:
            for consumer in tensor.consumers():
                if consumer.type in ('ReadVariableOp', 'Identity', 'Enter'):
                    stack.append(consumer)
                elif not consumer.type.startswith('Assign'):
                    found.append(consumer)
    return found


def is_restored(facts: SpecFacts, info: VariableInfo) -> bool:
    """Whether an assign of the variable takes its value from a checkpoint."""
    return any(op.type.startswith('Assign') and len(op.inputs) > 1
               and source(op.inputs[1]).op.type.startswith('Restore')
               for handle in info.handles for op in facts.index.writes.get(handle, ()))


def is_differentiated(op: Any, ops: AbstractSet[Any]) -> bool:
    """Whether `ops` compute a gradient through a norm, which need not be among them."""
    for tensor in op.inputs:
        for consumer in tensor.consumers():
            if consumer is op or consumer not in ops:
                continue
            forward = graphs.differentiated_op(consumer)
            # A GradientTape does not tell; it multiplies with the input of the norm or its sign.
            if forward is op or (forward is None and consumer.type in ('Mul', 'Sign')):
                return True
    return False


# Examples.

class UnknownHook(estimator.SessionRunHook):
    """A hook of a class that is not TensorFlow's, holding what it is given."""

    def __init__(self, *held: Any) -> None:
        self.held = held


def rows() -> tuple[Any, Any]:
    """Features of shape (?, 3) and labels of shape (?, 1), float32, from a dataset."""
    data = tf.data.Dataset.from_tensor_slices(([[1., 2., 3.]] * 4, [[1.]] * 4)).repeat()
    return v1.data.make_one_shot_iterator(data.batch(2)).get_next()


def dense(inputs: Any, units: int, name: str, **options: Any) -> Any:
    """A dense layer of variables '<name>/kernel' and '<name>/bias', without activation."""
    with v1.variable_scope(name):
        kernel = v1.get_variable('kernel', [inputs.shape[-1], units], **options)
        bias = v1.get_variable('bias', [units], initializer=tf.zeros_initializer())
        return tf.nn.bias_add(tf.matmul(inputs, kernel), bias)


def regression(data: Any = None, **options: Any) -> tuple[Any, Any]:
    """A linear regression on `rows()` or other (features, labels): predictions and loss."""
    features, labels = rows() if data is None else data
    predictions = dense(features, 1, 'head', **options)
    return predictions, tf.reduce_mean(tf.math.squared_difference(labels, predictions),
                                       name='loss')


def minimize(loss: Any, **options: Any) -> Any:
    """A train_op that also advances the global step."""
    step = v1.train.get_or_create_global_step()
    return v1.train.GradientDescentOptimizer(.1).minimize(loss, step, **options)


def train_fields(loss: Any, train_op: Any, **others: Any) -> dict[str, Any]:
    """The fields of a TRAIN spec."""
    return {'mode': 'train', 'loss': loss, 'train_op': train_op, **others}

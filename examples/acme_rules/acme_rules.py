"""The rules of a house: what its own serving expects of every model."""

import tensorflow as tf

import estimator_spec_ext as ese


class PredictionsWithoutId(ese.Rule):
    """The predictions do not carry the id of their example.

    What it finds: predictions of PREDICT without the key 'id'.

    Why it matters: the pipeline joins answers to requests by it, and drops those without.

    Bad:
        predictions = {'score': score}

    Good:
        predictions = {'score': score, 'id': features['id']}

    When to suppress: the model is not served by the pipeline.
    """

    code = 'ACME101'
    slug = 'predictions-without-id'
    severity = ese.Severity.WARNING
    stage = 'graph'
    modes = ('infer',)

    def check(self, facts):
        keys = list(facts.prediction_tensors)
        if 'id' not in keys:
            yield self.finding(
                facts, f"predictions has {len(keys)} keys; expected 'id' among them",
                hint="add it: predictions['id'] = features['id']", field='predictions')

    @staticmethod
    def bad():
        """A score that nobody can join."""
        score = tf.compat.v1.placeholder(tf.float32, [None])
        return {'mode': 'infer', 'predictions': {'score': score}}

    @staticmethod
    def good():
        """A score beside its id."""
        score = tf.compat.v1.placeholder(tf.float32, [None])
        ids = tf.compat.v1.placeholder(tf.int64, [None])
        return {'mode': 'infer', 'predictions': {'score': score, 'id': ids}}


RULES = (PredictionsWithoutId,)

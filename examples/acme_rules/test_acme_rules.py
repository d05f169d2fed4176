"""The rule finds what its bad example does wrong, and nothing in its good one."""

import acme_rules

from estimator_spec_ext import testing


def test_predictions_without_id():
    testing.assert_rule(acme_rules.PredictionsWithoutId())

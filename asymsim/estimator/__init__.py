"""The estimator: one scenario to one estimate."""

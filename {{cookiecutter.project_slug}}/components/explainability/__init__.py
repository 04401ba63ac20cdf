"""Explainability: which features moved a prediction and how much, learned once and then said for every batch."""

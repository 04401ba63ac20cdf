"""The control plane: one small function for each event between scoring, drift, retraining and release."""

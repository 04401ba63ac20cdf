"""Algorithm: learns a model from features and labels, and answers batches of features with predictions."""

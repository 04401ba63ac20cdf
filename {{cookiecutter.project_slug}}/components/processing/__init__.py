"""Processing: learns a preprocessor from raw training data, and applies it to new raw data."""

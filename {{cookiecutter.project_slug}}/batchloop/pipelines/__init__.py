"""The training and the inference pipeline: SageMaker SDK in, a checked JSON definition out."""

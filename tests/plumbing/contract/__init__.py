"""What SageMaker asks of the four images, and what any component that replaces ours must keep. Needs docker."""

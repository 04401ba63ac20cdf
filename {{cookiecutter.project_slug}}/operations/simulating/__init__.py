"""`operations simulate`: whether drift leads to a retraining, it to a release, and that to better scores."""

from operations.repository import Repository
from operations.simulating.options import Options

__all__ = ["Options", "simulate"]


def simulate(repository: Repository, options: Options) -> int:
    """The exit code: 0 also where the loop did not help; the table says so. Raises Failure where it can't be run."""
    from operations.simulating import simulation  # noqa: PLC0415 - needs boto3's exceptions

    return simulation.run(repository, options)

"""What the steps of a local run run in."""

from operations import images
from operations.engine import running
from operations.engine.backend import Backend
from operations.engine.containers import Containers
from operations.engine.processes import Processes
from operations.options import DOCKER
from operations.repository import Repository


def make(repository: Repository, on: str) -> Backend:
    """Plain processes, or docker with its images built. Raises Failure where docker does not work."""
    if on == DOCKER:
        images.build(repository)
        return Containers(repository)
    return Processes(repository, running.versions(repository))

"""What the simulation's command line says, and where it keeps everything."""

from dataclasses import dataclass
from pathlib import Path

from operations.repository import Repository


@dataclass(frozen=True)
class Options:
    """`stages` is a folder, "" the sample's, which has `rows` and a `seed`; without `decision` nothing is retrained."""

    environment: str = "dev"
    stages: str = ""
    decision: bool = True
    fresh: bool = False
    rows: int = 4000
    seed: int = 7


@dataclass(frozen=True)
class Simulated(Repository):
    """The same repository, whose runs leave nothing where the user's own are."""

    decision: bool = True

    @property
    def local(self) -> Path:
        return self.root / "local" / ("simulation" if self.decision else "simulation-off")

    def compiled(self, environment: str) -> Path:
        """The user's own: the definitions are the same."""
        return self.root / "local" / "compiled" / environment

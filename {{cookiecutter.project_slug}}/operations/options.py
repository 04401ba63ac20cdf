"""What a run's command line says."""

from dataclasses import dataclass

PROCESSES, DOCKER = "processes", "docker"


@dataclass(frozen=True)
class Options:
    """`data` is a path or URI ("" for the window's own), `chosen` are Name=value pairs, `on` is what steps run in.

    A training goes `onward` from the released model, or `fresh`, without a champion.
    """

    environment: str = "dev"
    data: str = ""
    chosen: tuple[str, ...] = ()
    onward: bool = False
    fresh: bool = False
    on: str = PROCESSES

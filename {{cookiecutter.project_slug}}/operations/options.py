"""What a run's command line says."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """`data` is a path or URI ("" for the window's own), `chosen` are Name=value pairs."""

    environment: str = "dev"
    data: str = ""
    chosen: tuple[str, ...] = ()
    onward: bool = False

"""Growth."""

from collections.abc import Sequence

from bench_places import Places

AXES: dict[str, int] = {}


def main(places: Places, names: Sequence[str], fresh: bool) -> None:
    """Later."""


def section(places: Places) -> str:
    return ""

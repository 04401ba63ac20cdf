"""`make releases`: what was released, when, by whom, why, and how good it was."""

import sys
from typing import Any

from functions.release import Manifest
from operations.releasing import differences, signing, writing
from operations.repository import Repository

COLUMNS = ("", "release", "when (UTC)", "model", "test metrics, the gate's first", "commit", "by", "reason")
WIDE = 240  # characters, where there is no terminal whose width would matter
METRICS = 3


def show(repository: Repository, environment: str) -> int:
    """One row a release, newest first; the exit code. SSM keeps the last hundred versions of the parameter."""
    there = signing.sign_in(repository, environment)
    now = writing.current(there)
    found = writing.history(there)
    if now.damage:
        print(f"the release of {environment} is damaged: {now.damage}")
    if not found:
        print(f"{environment} has no release yet; `make release ENV={environment}` makes the newest approved model it.")
        return 0
    gate = str(repository.tables().get("gate", {}).get("metric", ""))
    _print([_row(manifest, now.manifest, gate) for manifest in found])
    return 0


def _row(manifest: Manifest, current: Manifest | None, gate: str) -> tuple[str, ...]:
    return (
        "→" if current and current["version"] == manifest["version"] else "",
        str(manifest["version"]),
        manifest["created"][:16].replace("T", " "),
        differences.model(manifest),
        ", ".join(differences.measured(manifest["metrics"], gate)[:METRICS]),
        differences.commit(manifest),
        differences.person(manifest["by"]),
        manifest["reason"],
    )


def _print(rows: list[tuple[str, ...]]) -> None:
    """What people wrote stays text: rich would read [brackets] as its own."""
    from rich.console import Console  # noqa: PLC0415 - costs a tenth of a second
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table: Any = Table(*COLUMNS, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row), style="green" if row[0] else "")
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)

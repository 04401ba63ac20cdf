"""What people see while a pipeline runs: a live table on a terminal, plain lines elsewhere."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from operations.engine.scheduler import Progress, State, Watch

if TYPE_CHECKING:
    from rich.table import Table

STYLES: Mapping[State, str] = {
    State.WAITING: "dim",
    State.RUNNING: "bold yellow",
    State.DONE: "green",
    State.REUSED: "cyan",
    State.FAILED: "bold red",
    State.NOT_RUN: "dim",
    State.NOT_TAKEN: "dim",
    State.STOPPED: "yellow",
}
QUIET = (State.WAITING, State.NOT_TAKEN)


@contextmanager
def watching(names: list[str]) -> Iterator[Watch]:
    """Shows the steps as long as the block lasts; call what it gives with every change."""
    if sys.stdout.isatty():
        with _live(names) as watch:
            yield watch
    else:
        yield _lines(max(map(len, names)))


def _lines(width: int) -> Watch:
    def watch(name: str, progress: Progress) -> None:
        if progress.state not in QUIET:
            took = f" in {progress.seconds:.1f} s" if progress.state in (State.DONE, State.FAILED) else ""
            print(f"  {name:<{width}}  {progress.state}{took}", flush=True)

    return watch


@contextmanager
def _live(names: list[str]) -> Iterator[Watch]:
    from rich.live import Live  # noqa: PLC0415 - costs a tenth of a second, and only terminals need it

    steps = {name: Progress("") for name in names}

    def watch(name: str, progress: Progress) -> None:
        steps[name] = progress

    with Live(get_renderable=lambda: _table(steps), refresh_per_second=8):
        yield watch


def _table(steps: Mapping[str, Progress]) -> "Table":
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table("step", "state", box=None, padding=(0, 2))
    table.add_column("seconds", justify="right")
    for name, step in steps.items():
        seconds = monotonic() - step.started if step.state == State.RUNNING else step.seconds
        table.add_row(name, Text(step.state, STYLES[step.state]), f"{seconds:.1f}" if seconds else "")
    return table

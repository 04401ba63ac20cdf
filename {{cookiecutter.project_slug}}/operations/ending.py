"""How commands say what failed and where to read on."""

import sys
from collections.abc import Iterable

from operations.engine.running import Finished
from operations.repository import Repository


def failures(repository: Repository, finished: Finished) -> None:
    """One line for each failed step: its own message, and its log where it wrote one."""
    for name, step in finished.failed.items():
        log = repository.local / "runs" / finished.identity / "logs" / f"{name}.log"
        where = f"\n  log: {repository.shown(log)}" if log.is_file() else ""
        said = f"{name}: {step.message}" if step.type == "Fail" else f"{name} failed: {step.message}"
        print(f"{said}{where}", file=sys.stderr, flush=True)


def warnings(repository: Repository, finished: Finished) -> None:
    """What the steps that ran here found worth a warning."""
    for name in finished.steps:
        log = repository.local / "runs" / finished.identity / "logs" / f"{name}.log"
        text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
        lines(f"{name}: {line}" for line in text.splitlines() if line.startswith("warning: "))


def lines(texts: Iterable[str]) -> None:
    """Each on its own line."""
    for text in texts:
        print(text)

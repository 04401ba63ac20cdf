"""docs/performance.md, from what was kept of every row that was measured in full."""

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench_places import HERE, TEMPLATE

Kept = Mapping[str, Any]


def machine() -> str:
    """Cores, processor, memory, Python and the libraries that decide."""
    model = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    lock = (TEMPLATE / "locks" / "components.txt").read_text(encoding="utf-8")
    versions = ", ".join(f"{name} {found}" for name, found in re.findall(r"(?m)^(polars|lightgbm|numpy)==(\S+)", lock))
    cores = f"{os.cpu_count()} cores ({model[0] if model else platform.machine()}), {memory:.0f} GiB"
    return f"{cores}, Python {platform.python_version()}, {versions}"


def kept(folder: Path, names: Sequence[str]) -> dict[str, Kept]:
    """Of the rows that were measured to their end, in the order of `names`."""
    files = {name: folder / f"{name}.json" for name in names}
    found = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.is_file()}
    return {name: one for name, one in found.items() if "goals" in one}


def document(rows: Mapping[str, Kept], growth: str) -> str:
    """The text with its tables."""
    disturbed = [f"{name} ({one['disturbed']})" for name, one in rows.items() if one["disturbed"]]
    values = {
        "machine": "\n".join(
            f"- {line}" for line in sorted({f"{one['machine']}; {one['date']}" for one in rows.values()})
        ),
        "goals": table(["row", "goal", "measured", "CPU", "rounds", "holds"], _goals(rows)),
        "disturbed": ", ".join(disturbed) or "none",
        "equal": "\n".join(f"- {one['title']}: {one['equal']}." for one in rows.values() if one["equal"]),
        "taken": table(["row", "who", "what it took"], _taken(rows)),
        "growth": growth,
    }
    text = (HERE / "performance.md.txt").read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"<{key}>", value)
    return text.rstrip() + "\n"


def table(head: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    """In Markdown."""
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in [head, ["---"] * len(head), *lines])


def _goals(rows: Mapping[str, Kept]) -> list[list[object]]:
    return [
        [
            one["title"] if number == 0 else "",
            *(goal[key] for key in ("goal", "measured", "cpu", "rounds")),
            "yes" if goal["holds"] else "**no**",
        ]
        for one in rows.values()
        for number, goal in enumerate(one["goals"])
    ]


def _taken(rows: Mapping[str, Kept]) -> list[list[object]]:
    return [
        [one["title"] if number == 0 else "", subject, ", ".join(f"{what} {text}" for what, text in values.items())]
        for one in rows.values()
        for number, (subject, values) in enumerate(one["taken"].items())
    ]

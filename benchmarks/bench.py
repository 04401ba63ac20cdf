"""Measures the rendered components beside what one would write instead and the least work there is; see README.md.

`make bench [ROWS="…"] [QUICK=yes] [GROWTH=yes] [FRESH=yes]`. What was measured is kept in build/bench round by round:
an interrupted run goes on where it was, and docs/performance.md is written from all of it.
"""

import argparse
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bench_document as document
import bench_growth as growth
import bench_measure as measure
from bench_measure import Failed, Plan, Round, Row
from bench_places import CLONE, TEMPLATE, Places, code
from bench_rows import ALL, COMPONENT, QUICK

ROOT = CLONE / "build" / "bench"
DOCUMENT = CLONE / "docs" / "performance.md"
QUICKLY = 3  # rounds of a quick run
SLOWED, TIMES = "processing-parquet-train", 10  # the row that must fail when its component takes so many times longer


def main() -> int:
    """1 where a row of a quick run does not hold."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ALL))
    for switch in ("quick", "growth", "fresh"):
        parser.add_argument(f"--{switch}", action="store_true")
    given = parser.parse_args()
    known = growth.AXES if given.growth else ALL
    unknown = [name for name in given.rows if name not in known]
    if unknown:
        parser.error(f"there is no row {unknown[0]}; there are {', '.join(known)}")
    places = Places(ROOT, given.quick)
    try:
        places.prepare()
        if given.growth:
            growth.main(places, given.rows, given.fresh)
        elif given.quick:
            return quick(places, given.rows or QUICK, guard=not given.rows)
        else:
            full(places, given.rows or tuple(ALL), given.fresh)
    except Failed as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rows = document.kept(ROOT / "full", tuple(ALL))
    DOCUMENT.write_text(document.document(rows, growth.section(places)), encoding="utf-8")
    print(f"written: {DOCUMENT.parent.name}/{DOCUMENT.name}")
    return 0


def full(places: Places, names: Sequence[str], fresh: bool) -> None:
    """Every row, or what is missing of it; the document says which goals hold."""
    for name in names:
        file = ROOT / "full" / f"{name}.json"
        if fresh:
            file.unlink(missing_ok=True)
        attempt(places, name, file)


def quick(places: Places, names: Sequence[str], guard: bool) -> int:
    """Small tables and wide limits, anew each time; then show that a much slower component would be found."""
    shutil.rmtree(ROOT / "quick", ignore_errors=True)
    failed = [name for name in names if not attempt(places, name, ROOT / "quick" / f"{name}.json")]
    if guard and not guards(places):
        failed.append(f"{SLOWED}, made {TIMES} times slower, still holds: the bench finds nothing")
    for name in failed:
        print(f"does not hold: {name}", file=sys.stderr)
    return 1 if failed else 0


def attempt(places: Places, name: str, file: Path) -> bool:
    """A row; one that breaks off, or whose subjects did not do the same work, does not hold, and stops no other."""
    try:
        return row(places, name, file)
    except Failed as error:
        print(f"== {name}\n   error: {error}", file=sys.stderr, flush=True)
        return False


def row(places: Places, name: str, file: Path) -> bool:
    """Measure a row, or go on with it, and print it; whether its goals hold."""
    started, now = time.monotonic(), code(TEMPLATE)
    kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if kept.get("code") != now:
        kept = {"code": now, "rounds": [], "equal": None}
    done, described = measure.from_json(kept["rounds"]), ALL[name](places)
    plan = replace(described.plan, rounds=min(QUICKLY, described.plan.rounds), tries=QUICKLY)
    plan = plan if places.quick else described.plan

    def keep() -> None:
        kept["rounds"] = measure.as_json(done)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(kept, indent=1), encoding="utf-8")

    measure.measure(described.subjects, plan, done, keep)
    if kept["equal"] is None:
        kept["equal"] = described.check()
        kept |= {"date": datetime.now(UTC).strftime("%Y-%m-%d"), "machine": document.machine()}
    kept |= judged(described, plan, done, places.quick)
    keep()
    print(f"== {name} ({time.monotonic() - started:.0f} s)\n{said(kept)}", flush=True)
    return all(goal["holds"] is not False for goal in kept["goals"])


def judged(row: Row, plan: Plan, done: Sequence[Round], quickly: bool) -> dict[str, Any]:
    """A row's goals and what its subjects took, in numbers and words."""
    counted = measure.counted(done, plan.rounds)
    goals = []
    for goal in row.goals:
        spread = measure.spread(measure.ratios(counted, goal.of, goal.to, goal.what))
        cpu = measure.ratios(counted, goal.of, goal.to, "cpu") if goal.to and goal.what in ("wall", "rate") else []
        found = {
            "goal": goal.text(quickly),
            "measured": spread.text(),
            "cpu": measure.spread(cpu).text() if cpu else "",
        }
        goals.append(found | {"rounds": spread.rounds, "holds": measure.holds(goal, spread, quickly)})
    taken = {
        name: {what: measure.spread(measure.ratios(counted, name, "", what)).text() for what in values}
        for name, values in done[0].values.items()
    }
    disturbed = sum(each.disturbed for each in counted)
    return {"title": row.title, "goals": goals, "taken": taken, "disturbed": disturbed, "tried": len(done)}


def said(kept: Mapping[str, Any]) -> str:
    """For the terminal: a line a goal."""
    return "\n".join(
        f"   {goal['goal']}: {goal['measured']}"
        + (f", CPU {goal['cpu']}" if goal["cpu"] else "")
        + {True: ": holds", False: ": DOES NOT HOLD", None: " (not asked of small tables)"}[goal["holds"]]
        for goal in kept["goals"]
    )


def guards(places: Places) -> bool:
    """Whether the quick bench fails on a component that was made slower: shown each time, not believed."""
    file = places.repository / "components" / "processing" / "features.py"
    text, described = file.read_text(encoding="utf-8"), ALL[SLOWED](places)
    usual = described.subjects[COMPONENT]()["wall"]
    wait = f"time.sleep({(TIMES - 1) * usual})"
    file.write_text(
        f"{text}\n\n_fit = fit\n\n\ndef fit(*given):\n    import time\n\n    {wait}\n    return _fit(*given)\n",
        encoding="utf-8",
    )
    slowed: list[Round] = []
    rendered = places.mark.rename(places.mark.with_suffix(".slowed"))  # whatever ends this, nothing slow is used again
    try:
        measure.measure(described.subjects, Plan(1, 1), slowed, lambda: None)
    finally:
        file.write_text(text, encoding="utf-8")
        rendered.rename(places.mark)
    found = judged(described, Plan(1, 1), slowed, quickly=True)
    print(f"== {SLOWED}, made {TIMES} times slower: must not hold\n{said(found)}", flush=True)
    return any(goal["holds"] is False for goal in found["goals"])


if __name__ == "__main__":
    raise SystemExit(main())

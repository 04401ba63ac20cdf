"""What a run of a day's window saw, what the loop knows then, and what it decides about a row of these."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from batchloop.control.decision import Decision, DecisionContext, Memory, Observation, decide, retraining_ended
from batchloop.control.names import Settings

START = datetime(2026, 11, 24, 6, tzinfo=UTC)
ONE = Settings(cooldown_hours=24, budget=2, budget_days=30, minimum_rows=100)
THREE = replace(ONE, alarms=2, windows=3)
WORSE: dict[str, Any] = {"worse": True, "metric": "auc", "expected": 0.7123, "reference": 0.83}


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def window(day: int) -> str:
    return f"2026-11-{day:02}"


def saw(day: int, drifted: bool | None = True, **other: Any) -> Observation:
    """What a run of a day's window saw."""
    values = {"window": window(day), "run": f"run-{day}", "time": at(day).isoformat(), "rows": 1000, "columns": 2}
    return Observation(**{**values, "drifted": drifted, **other})


def around(hours: float = 0, labelled: tuple[int, ...] = (), **other: Any) -> DecisionContext:
    return DecisionContext(at(hours), frozenset(map(window, labelled)), **other)


def after(*seen: Observation, rules: Settings = ONE, labelled: tuple[int, ...] = ()) -> Decision:
    """The last decision about a row of observations."""
    known = Memory()
    for observation in seen:
        decision = decide(known, observation, rules, around(labelled=labelled))
        known = decision.memory
    return decision


def retrained(day: int = 1, hours: float = 0) -> Memory:
    """A loop that has retrained once, and is idle again."""
    begun = decide(Memory(), saw(day), ONE, around(hours, (day,))).memory
    return retraining_ended(begun, "ended as Succeeded")

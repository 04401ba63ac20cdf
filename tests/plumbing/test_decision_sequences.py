"""What holds of the loop's decisions for any sequence of windows, labels and ends, in whatever order they come."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from batchloop.control.decision import (
    MOST,
    RETRAINING,
    WAITING,
    Action,
    Decision,
    Memory,
    Observation,
    alarming,
    decide,
    parse,
    retraining_ended,
)
from batchloop.control.names import DRIFT, PERFORMANCE, REALISED, REASONS, Settings
from plumbing.observations import THREE, after, around, at, saw, window


class Step(NamedTuple):
    """Hours pass, and then a window is scored, labels come, or a training ends."""

    hours: int
    event: str
    day: int
    drifted: bool | None
    rows: int
    labelled: bool
    worse: bool | None
    realised: bool | None
    measuring: bool


STEPS = st.lists(
    st.builds(
        Step,
        st.integers(0, 200),
        st.sampled_from(["scored", "scored", "scored", "labels", "ended"]),
        st.integers(1, 30),
        st.sampled_from([True, True, False, None]),
        st.integers(0, 300),
        st.booleans(),
        st.sampled_from([True, False, None]),
        st.sampled_from([True, False, None, None]),
        st.booleans(),
    ),
    max_size=60,
)
RULES = st.builds(
    lambda more, **rest: Settings(windows=min(MOST, rest["alarms"] + more), minimum_rows=100, **rest),
    more=st.integers(0, 3),
    enabled=st.sampled_from([True, True, True, False]),
    on=st.sampled_from([REASONS, (DRIFT,), (PERFORMANCE,), (REALISED,), (DRIFT, REALISED)]),
    alarms=st.integers(1, 3),
    cooldown_hours=st.sampled_from([0, 1, 24, 100, 1000]),
    budget=st.integers(0, 5),
    budget_days=st.sampled_from([0.5, 7, 30]),
)


class Loop:
    """Plays a row of steps, and keeps what was done and when; a training runs until it is ended."""

    def __init__(self, rules: Settings) -> None:
        self.rules, self.memory, self.hours = rules, Memory(), 0.0
        self.starts: list[datetime] = []
        self.labelled: set[int] = set()
        self.decisions: list[tuple[Memory, Observation | None, Decision]] = []

    def play(self, step: Step) -> None:
        self.hours += step.hours
        if step.labelled or step.event == "labels":
            self.labelled.add(step.day)
        if step.event == "ended" and self.memory.state == RETRAINING:
            self.memory = retraining_ended(self.memory, "ended as Failed")
        run = f"{step.day}-{len(self.decisions)}"
        told = {"rows": step.rows, "run": run, "worse": step.worse, "realised": step.realised}
        seen = saw(step.day, step.drifted, **told) if step.event == "scored" else None
        known = around(self.hours, tuple(self.labelled), running=self.memory.state == RETRAINING)
        known = replace(known, measuring=known.labelled) if step.measuring else known
        decision = decide(self.memory, seen, self.rules, known)
        self.decisions.append((self.memory, seen, decision))
        if decision.action == Action.RETRAIN:
            self.starts.append(at(self.hours))
        self.memory = decision.memory


@settings(max_examples=300, deadline=None)
@given(rules=RULES, steps=STEPS)
def test_whatever_happens_the_rules_hold(rules: Settings, steps: list[Step]) -> None:
    loop = Loop(rules)
    for step in steps:
        loop.play(step)
    days = timedelta(days=rules.budget_days)
    for first in loop.starts:
        assert sum(first <= start < first + days for start in loop.starts) <= rules.budget
    assert all(later - first >= timedelta(hours=rules.cooldown_hours) for first, later in pairwise(loop.starts))
    assert rules.enabled or not loop.starts
    for before, seen, decision in loop.decisions:
        assert decision.reason.endswith(".")
        assert "\n" not in decision.reason
        assert parse(decision.memory.text()) == decision.memory
        if decision.action != Action.NONE:
            assert before.state != RETRAINING
            assert decision.memory.windows or before.state == WAITING
        if decision.action == Action.RETRAIN:
            assert decision.window in {window(day) for day in loop.labelled}
        verdict = seen and seen.drifted is not None and seen.rows >= rules.minimum_rows
        if seen and not (verdict and alarming(seen, rules)):
            assert decision.action == Action.NONE or before.state == WAITING
        if seen and verdict and seen.realised is False and not seen.drifted and before.state != WAITING:
            assert decision.action == Action.NONE


@settings(max_examples=200, deadline=None)
@given(rules=RULES, days=st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=12))
def test_the_same_event_twice_is_the_same_as_once(rules: Settings, days: list[tuple[int, bool]]) -> None:
    known, hours = Memory(), 0.0
    for day, drifted in days:
        hours += 100
        once = decide(known, saw(day, drifted=drifted), rules, around(hours, (day,)))
        twice = decide(once.memory, saw(day, drifted=drifted), rules, around(hours, (day,)))
        assert twice.memory == once.memory
        assert twice.action == Action.NONE
        known = retraining_ended(once.memory, "ended as Failed") if once.action == Action.RETRAIN else once.memory


@settings(max_examples=200, deadline=None)
@given(data=st.data(), drifts=st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=8))
def test_what_is_remembered_does_not_depend_on_the_order_of_arrival(
    data: st.DataObject, drifts: list[bool | None]
) -> None:
    off = replace(THREE, enabled=False)
    seen = [saw(day, drifted=drifted) for day, drifted in enumerate(drifts, start=1)]
    shuffled = data.draw(st.permutations(seen))
    assert after(*shuffled, rules=off).memory.windows == after(*seen, rules=off).memory.windows

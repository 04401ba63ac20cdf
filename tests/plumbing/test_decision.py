"""Whether the loop retrains: each rule by itself."""

import json
import sys
from dataclasses import replace
from typing import Any

import pytest

from batchloop.control.decision import (
    IDLE,
    MOST,
    RETRAINING,
    WAITING,
    Action,
    Arrival,
    Labelled,
    Memory,
    Observation,
    alarming,
    candidates,
    decide,
    parse,
    retraining_ended,
    retrainings_in_budget,
)
from batchloop.control.names import DRIFT, PERFORMANCE, REALISED, REASONS, Settings, earlier_windows, order
from plumbing.observations import ONE, START, THREE, WORSE, after, around, at, retrained, saw, window


def test_a_window_that_drifted_is_retrained_on_when_its_labels_are_there() -> None:
    decision = after(saw(1), labelled=(1,))
    assert (decision.action, decision.window, decision.memory.state) == (Action.RETRAIN, window(1), RETRAINING)
    assert decision.memory.started == (START.isoformat(),)
    assert decision.reason == (
        "Window 2026-11-01 drifted in 2 columns; labels are there, and the model is retrained on window 2026-11-01."
    )


def test_without_labels_the_retraining_waits_for_them() -> None:
    decision = after(saw(1))
    assert (decision.action, decision.window, decision.memory.state) == (Action.WAIT, window(1), WAITING)
    assert decision.memory.started == ()
    later = decide(decision.memory, None, ONE, around(500, (1,)))
    assert (later.action, later.window) == (Action.RETRAIN, window(1))


def test_other_labels_change_nothing_for_a_loop_that_waits() -> None:
    waiting = after(saw(1)).memory
    decision = decide(waiting, None, ONE, around(1, (2,)))
    assert (decision.action, decision.memory) == (Action.NONE, waiting)


def test_a_later_window_that_drifted_and_has_labels_ends_the_waiting() -> None:
    decision = decide(after(saw(1)).memory, saw(2), ONE, around(1, (2,)))
    assert (decision.action, decision.window) == (Action.RETRAIN, window(2))


def test_later_windows_without_labels_do_not_put_the_waiting_off() -> None:
    """Labels that always come a week late would else never be the ones waited for."""
    decision = after(*(saw(day) for day in range(1, 9)))
    assert (decision.action, decision.window) == (Action.WAIT, window(1))
    assert decide(decision.memory, None, ONE, around(200, (1,))).window == window(1)


def test_labels_of_a_remembered_later_drift_will_do_too() -> None:
    waiting = after(saw(1), saw(2), saw(3, drifted=False), saw(4), rules=THREE).memory
    assert candidates(waiting, THREE) == [window(4), window(2)]
    assert decide(waiting, None, THREE, around(9, (4,))).window == window(4)
    assert decide(waiting, None, THREE, around(9, (2, 4))).window == window(4)
    assert candidates(after(saw(1), saw(2), rules=THREE).memory, THREE) == [window(2)]


def test_a_healthy_window_does_not_end_the_waiting_and_says_so() -> None:
    decision = decide(after(saw(1)).memory, saw(2, drifted=False), ONE, around(1))
    assert (decision.action, decision.memory.state) == (Action.NONE, WAITING)
    assert decision.reason == "Window 2026-11-02 has not drifted; labels of window 2026-11-01 are still waited for."


def test_labels_that_came_unseen_are_found_with_the_next_window() -> None:
    decision = decide(after(saw(1)).memory, saw(2, drifted=False), ONE, around(1, (1,)))
    assert (decision.action, decision.window) == (Action.RETRAIN, window(1))


@pytest.mark.parametrize("learned", [1, 3])
def test_a_release_that_learned_from_that_window_or_a_newer_one_ends_the_waiting(learned: int) -> None:
    decision = decide(after(saw(1)).memory, None, ONE, around(1, (1,), learned=window(learned)))
    assert (decision.action, decision.memory.state) == (Action.NONE, IDLE)


@pytest.mark.parametrize(("rows", "drifted"), [(99, True), (0, True), (5000, None)])
def test_too_few_rows_are_neither_healthy_nor_drifted(rows: int, drifted: bool | None) -> None:
    decision = after(saw(1, drifted=drifted, rows=rows), labelled=(1,))
    assert decision.action == Action.NONE
    assert decision.memory.windows[0].drifted is None
    assert "neither as healthy nor as drifted" in decision.reason


def test_windows_without_a_verdict_push_no_alarm_out() -> None:
    decision = after(saw(1), saw(2, rows=3), saw(3, rows=3), saw(4, rows=3), saw(5), rules=THREE, labelled=(5,))
    assert decision.action == Action.RETRAIN
    assert len(decision.memory.windows) == 3


@pytest.mark.parametrize(
    ("drifts", "action"),
    [("n", "none"), ("y", "none"), ("yy", "retrain"), ("yny", "retrain"), ("ynny", "none"), ("yyn", "none")],
)
def test_k_of_the_last_n_windows_and_the_newest_have_to_drift(drifts: str, action: str) -> None:
    seen = [saw(day, drifted=drift == "y") for day, drift in enumerate(drifts, start=1)]
    assert after(*seen[:-1], seen[-1], rules=THREE, labelled=(len(seen),)).action == action


def test_alarms_by_another_baseline_do_not_count() -> None:
    seen = [saw(1, baseline="old"), saw(2, baseline="new")]
    decision = after(*seen, rules=THREE, labelled=(1, 2))
    assert decision.action == Action.NONE
    assert "1 of the last 1 windows alarmed, and 2 are needed" in decision.reason


def test_a_duplicate_changes_nothing() -> None:
    first = after(saw(1), labelled=(1,))
    again = decide(first.memory, saw(1), ONE, around(30, (1,)))
    assert (again.action, again.arrival, again.memory) == (Action.NONE, Arrival.DUPLICATE, first.memory)


def test_a_late_window_is_remembered_and_decides_nothing() -> None:
    first = after(saw(3, drifted=False), rules=THREE)
    late = decide(first.memory, saw(1), THREE, around(1, (1, 3)))
    assert (late.action, late.arrival) == (Action.NONE, Arrival.LATE)
    assert [seen.window for seen in late.memory.windows] == [window(1), window(3)]
    assert decide(late.memory, saw(4), THREE, around(2, (4,))).action == Action.RETRAIN


def test_a_duplicate_of_a_window_long_forgotten_changes_nothing() -> None:
    known = after(saw(1), saw(2, drifted=False)).memory
    assert decide(known, saw(1), ONE, around(1)).memory == known


def test_a_window_counts_once_however_often_it_is_scored() -> None:
    again = saw(1, run="second", time=at(99).isoformat())
    assert after(saw(1), again, rules=THREE, labelled=(1,)).action == Action.NONE
    older = decide(after(again).memory, saw(1), ONE, around(1, (1,)))
    assert (older.arrival, older.memory.windows) == (Arrival.LATE, (again,))


def test_only_one_retraining_runs_at_a_time() -> None:
    decision = decide(after(saw(1), labelled=(1,)).memory, saw(2), ONE, around(99, (2,)))
    assert (decision.action, decision.memory.state) == (Action.NONE, RETRAINING)
    assert "another one is still running" in decision.reason


def test_a_training_that_a_person_started_counts_as_running() -> None:
    decision = decide(Memory(), saw(1), ONE, around(0, (1,), running=True))
    assert (decision.action, decision.memory.state) == (Action.NONE, IDLE)


@pytest.mark.parametrize(("hours", "action"), [(0, "none"), (23.99, "none"), (24, "retrain")])
def test_after_a_retraining_there_is_none_within_the_cooldown(hours: float, action: str) -> None:
    decision = decide(replace(retrained(), execution="arn:first"), saw(2), ONE, around(hours, (2,)))
    assert decision.action == action
    assert decision.memory.execution == ("arn:first" if action == "none" else "")


@pytest.mark.parametrize(("day", "action"), [(29.9, "none"), (30, "retrain")])
def test_the_budget_is_for_that_many_days(day: float, action: str) -> None:
    spent = replace(retrained(), started=(at(0).isoformat(), at(48).isoformat()))
    assert decide(spent, saw(9), ONE, around(24 * day, (9,))).action == action
    assert retrainings_in_budget(spent, ONE, at(24 * day)) == (2 if action == "none" else 1)


def test_a_retraining_that_failed_blocks_nothing_and_counts_in_the_budget() -> None:
    failed = retraining_ended(after(saw(1), labelled=(1,)).memory, "ended as Failed: not good enough")
    assert (failed.state, failed.reason) == (
        IDLE,
        "The retraining on window 2026-11-01 ended as Failed: not good enough.",
    )
    second = decide(failed, saw(2), ONE, around(25, (2,)))
    assert second.action == Action.RETRAIN
    third = decide(retraining_ended(second.memory, "ended as Failed"), saw(3), ONE, around(50, (3,)))
    assert (third.action, "the budget of 2 in 30 days is used up" in third.reason) == (Action.NONE, True)


def test_the_same_window_is_not_tried_twice() -> None:
    again = saw(1, run="second", time=at(99).isoformat())
    decision = decide(retrained(), again, ONE, around(99, (1,)))
    assert (decision.action, "it was tried before" in decision.reason) == (Action.NONE, True)


def test_a_window_that_the_release_has_learned_from_is_no_reason() -> None:
    decision = decide(Memory(), saw(1), ONE, around(0, (1,), learned=window(1)))
    assert (decision.action, "has learned from it" in decision.reason) == (Action.NONE, True)


def test_retraining_can_be_switched_off() -> None:
    decision = after(saw(1), rules=replace(ONE, enabled=False), labelled=(1,))
    assert (decision.action, decision.memory.state) == (Action.NONE, IDLE)
    assert "enabled = false" in decision.reason


def test_a_loop_that_waits_keeps_waiting_where_something_is_in_the_way() -> None:
    waiting = decide(retrained(), saw(2), ONE, around(25)).memory
    blocked = decide(waiting, None, ONE, around(26, (2,), running=True))
    assert (blocked.action, blocked.memory.state) == (Action.NONE, WAITING)
    assert decide(blocked.memory, None, ONE, around(27, (2,))).action == Action.RETRAIN


def test_a_window_that_is_expected_to_score_worse_is_an_alarm_without_any_drift() -> None:
    decision = after(saw(1, drifted=False, columns=0, **WORSE), labelled=(1,))
    assert (decision.action, decision.window) == (Action.RETRAIN, window(1))
    assert decision.reason.startswith(
        "Window 2026-11-01 has not drifted, but auc is expected to fall to 0.712 from 0.83; labels are there"
    )
    mixed = [saw(1), saw(2, drifted=False), saw(3, drifted=False, **WORSE)]
    assert after(*mixed, rules=THREE, labelled=(3,)).action == Action.RETRAIN
    assert after(*mixed[1:], rules=THREE, labelled=(3,)).action == Action.NONE


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({"importance": 0.413}, "drifted in 2 columns, which carry 41 % of the model's reasons;"),
        ({"importance": 0.0, "columns": 1}, "drifted in 1 column, which carries 0 % of the model's reasons;"),
        ({**WORSE, "worse": False}, "drifted in 2 columns;"),
        (
            {"importance": 0.41, **WORSE},
            "drifted in 2 columns, which carry 41 % of the model's reasons, and auc is expected to fall to 0.712 "
            "from 0.83;",
        ),
        (
            {**WORSE, "metric": "log_loss", "expected": 0.6, "reference": 0.4},
            "drifted in 2 columns, and log_loss is expected to rise to 0.6 from 0.4;",
        ),
        ({"worse": True}, "drifted in 2 columns, and the model is expected to score worse by its metric;"),
    ],
)
def test_the_reason_says_what_raised_the_alarm(seen: dict[str, Any], said: str) -> None:
    assert after(saw(1, **seen)).reason.startswith(f"Window 2026-11-01 {said}")


@pytest.mark.parametrize(
    ("on", "drifted", "worse", "action", "said"),
    [
        (
            DRIFT,
            False,
            True,
            "none",
            "but auc is expected to fall to 0.712 from 0.83, which [retraining] on leaves out.",
        ),
        (DRIFT, True, False, "retrain", "drifted in 2 columns; labels are there"),
        (DRIFT, True, None, "retrain", "drifted in 2 columns; labels are there"),
        (PERFORMANCE, True, False, "none", "drifted in 2 columns, which [retraining] on leaves out."),
        (PERFORMANCE, False, True, "retrain", "has not drifted, but auc is expected"),
        (PERFORMANCE, True, None, "none", "drifted in 2 columns; how well it was scored is not known without labels"),
        (PERFORMANCE, False, False, "none", "has not drifted."),
    ],
)
def test_the_settings_say_what_counts(on: str, drifted: bool, worse: bool | None, action: str, said: str) -> None:
    seen = saw(1, drifted=drifted, **WORSE | {"worse": worse})
    decision = after(seen, rules=replace(ONE, on=(on,)), labelled=(1,))
    assert decision.action == action
    assert said in decision.reason


def test_what_does_not_count_pushes_no_alarm_out_and_its_labels_will_not_do() -> None:
    rules = replace(THREE, on=(PERFORMANCE,))
    unknown = [saw(day) for day in (2, 3, 4)]
    decision = after(saw(1, **WORSE), *unknown, saw(5, **WORSE), rules=rules, labelled=(5,))
    assert (decision.action, len(decision.memory.windows)) == (Action.RETRAIN, 3)
    waiting = after(saw(1, **WORSE), saw(2, **WORSE), saw(3, worse=False), saw(4, **WORSE), rules=rules).memory
    assert candidates(waiting, rules) == [window(4), window(2)]
    assert decide(waiting, None, rules, around(9, (3,))).action == Action.NONE


GOOD: dict[str, Any] = {"realised": False, "metric": "auc", "measured": 0.82, "reference": 0.83}
BAD: dict[str, Any] = {**GOOD, "realised": True, "measured": 0.7}


def labels_of(day: int, run: str = "", **seen: Any) -> Observation:
    """What the run saw that measured a day's window by its labels, which came when it had been scored long since."""
    return saw(day, run=run or f"labels-{day}", time=at(day + 500).isoformat(), **{"drifted": False, **seen})


def test_labels_say_more_of_a_window_than_what_was_expected_without_them() -> None:
    expected = {**WORSE, "drifted": False, "columns": 0}
    taken_back = after(saw(1, **expected | GOOD | {"expected": 0.7123}), labelled=(1,))
    assert taken_back.action == Action.NONE
    assert taken_back.reason == (
        "Window 2026-11-01 has not drifted, and by its labels auc is 0.82, 0.83 on validation, "
        "not 0.712 as was expected."
    )
    unforeseen = after(saw(1, drifted=False, columns=0, **BAD), labelled=(1,))
    assert unforeseen.action == Action.RETRAIN
    assert "has not drifted, but by its labels auc is 0.7, 0.83 on validation; labels are there" in unforeseen.reason


@pytest.mark.parametrize(
    ("on", "seen", "action"),
    [
        ((REALISED,), BAD, "retrain"),
        ((REALISED,), GOOD, "none"),
        ((REALISED,), WORSE, "none"),
        ((DRIFT,), BAD, "none"),
        ((PERFORMANCE,), WORSE | BAD, "retrain"),
        ((PERFORMANCE,), WORSE | GOOD, "none"),
        (REASONS, BAD, "retrain"),
    ],
)
def test_labels_count_where_the_settings_say_so(on: tuple[str, ...], seen: dict[str, Any], action: str) -> None:
    assert after(saw(1, drifted=False, **seen), rules=replace(ONE, on=on), labelled=(1,)).action == action


def test_the_newest_window_with_labels_decides_however_many_have_been_scored_since() -> None:
    healthy = [saw(day, drifted=False) for day in range(1, 9)]
    decision = after(*healthy, labels_of(3, **BAD), labelled=(3,))
    assert (decision.action, decision.window, decision.arrival) == (Action.RETRAIN, window(3), Arrival.NEW)
    assert decision.reason.startswith("Labels of window 2026-11-03 have come late: by its labels auc is 0.7, 0.83")
    good = after(*healthy, labels_of(3, **GOOD), labelled=(3,))
    assert (good.action, good.memory.labelled) == (Action.NONE, (Labelled(window(3), "labels-3", "", False),))


def test_labels_of_an_older_window_than_the_newest_with_labels_decide_nothing() -> None:
    healthy = [saw(day, drifted=False) for day in range(1, 9)]
    decision = after(*healthy, labels_of(5, **GOOD), labels_of(3, **BAD), labelled=(3,))
    assert (decision.action, decision.arrival) == (Action.NONE, Arrival.LATE)


def test_labels_told_twice_are_one_observation() -> None:
    rules = replace(ONE, cooldown_hours=0)
    first = after(saw(1, drifted=False), saw(2, drifted=False), labels_of(1, **BAD), rules=rules)
    again = decide(first.memory, labels_of(1, **BAD), rules, around(9))
    assert (first.action, again.action, again.arrival) == (Action.WAIT, Action.NONE, Arrival.DUPLICATE)
    assert again.memory == first.memory


def test_k_of_the_last_n_windows_with_labels_have_to_be_worse() -> None:
    healthy = [saw(day, drifted=False) for day in range(1, 9)]
    one = after(*healthy, labels_of(1, **BAD), rules=THREE, labelled=(1, 2))
    assert (one.action, "1 of the last 1 windows with labels alarmed, and 2 are needed" in one.reason) == ("none", True)
    seen = [*healthy, labels_of(1, **BAD), labels_of(2, **GOOD)]
    assert after(*seen, labels_of(3, **BAD), rules=THREE, labelled=(3,)).action == Action.RETRAIN
    assert after(*seen, labels_of(3, **BAD, baseline="other"), rules=THREE, labelled=(3,)).action == Action.NONE


def test_a_model_that_is_no_longer_released_is_no_reason_to_retrain() -> None:
    """The release may have learned from that very window, or from a newer one."""
    known = after(*(saw(day, drifted=False) for day in (1, 2, 3))).memory
    late = labels_of(1, **BAD, baseline="old")
    gone = decide(known, late, ONE, around(9, (1,), baseline="new", learned=window(2)))
    assert gone.action == Action.NONE
    assert "the model that scored it is not the released one any more" in gone.reason
    assert decide(known, late, ONE, around(9, (1,), baseline="old")).action == Action.RETRAIN
    assert decide(known, late, ONE, around(9, (1,), baseline="old", learned=window(1))).action == Action.NONE


def test_the_cooldown_and_a_running_training_hold_for_labels_too() -> None:
    for around_it in (around(1, (1,), running=True), around(1, (1,))):
        busy = replace(retrained(5), windows=(saw(5), saw(6, drifted=False)))
        assert decide(busy, labels_of(1, **BAD), ONE, around_it).action == Action.NONE


def test_an_estimate_waits_for_what_its_labels_say() -> None:
    """Labels that arrive are first held against the predictions; what they refute starts no retraining."""
    scored = [saw(1, drifted=False, **WORSE), saw(2, drifted=False)]
    waiting = after(*scored).memory
    assert (waiting.state, waiting.estimated) == (WAITING, True)
    here = around(9, (1,), measuring=frozenset({window(1)}))
    first = decide(waiting, None, ONE, here)
    assert (first.action, first.memory.state) == (Action.WAIT, WAITING)
    assert "labels of window 2026-11-01 are there, and how well it was scored is measured first" in first.reason
    refuted = decide(first.memory, labels_of(1, **WORSE | GOOD), ONE, around(10, (1,)))
    assert (refuted.action, refuted.memory.state) == (Action.NONE, IDLE)
    assert decide(refuted.memory, None, ONE, around(11, (1,))).action == Action.NONE
    confirmed = decide(first.memory, labels_of(1, **WORSE | BAD), ONE, around(10, (1,)))
    assert (confirmed.action, confirmed.window) == (Action.RETRAIN, window(1))
    unknown = decide(first.memory, labels_of(1, **WORSE), ONE, around(10, (1,)))
    assert unknown.action == Action.RETRAIN  # too few labels refute nothing
    failed = decide(first.memory, None, ONE, around(10, (1,)))
    assert failed.action == Action.RETRAIN


def test_drift_does_not_wait_for_what_labels_say() -> None:
    waiting = after(saw(1, **WORSE)).memory
    assert not waiting.estimated
    here = around(9, (1,), measuring=frozenset({window(1)}))
    assert decide(waiting, None, ONE, here).action == Action.RETRAIN


def test_a_refuted_estimate_leaves_the_next_alarm_waited_for() -> None:
    rules = replace(ONE, windows=3)
    waiting = after(saw(1, drifted=False, **WORSE), saw(2), rules=rules).memory
    decision = decide(waiting, labels_of(1, **WORSE | GOOD), rules, around(9))
    assert (decision.memory.state, decision.memory.window, decision.memory.estimated) == (WAITING, window(2), False)


@pytest.mark.parametrize("few", [{"drifted": None}, {"rows": 99}])
def test_without_a_verdict_no_expectation_counts_either(few: dict[str, Any]) -> None:
    decision = after(saw(1, **WORSE | few), labelled=(1,))
    assert decision.action == Action.NONE
    assert alarming(decision.memory.windows[0], ONE) is None


def test_a_memory_that_knows_nothing_of_expectations_is_read() -> None:
    entry = {"window": window(1), "run": "r", "time": START.isoformat(), "rows": 900, "drifted": True, "columns": 1}
    text = Memory().text().replace('"windows":[]', f'"windows":[{json.dumps({**entry, "baseline": "12345678"})}]')
    known = parse(text)
    assert [alarming(seen, ONE) for seen in known.windows] == [True]
    assert alarming(known.windows[0], replace(ONE, on=(PERFORMANCE,))) is None
    again = saw(2, baseline="12345678")
    assert decide(known, again, THREE, around(1, (2,))).action == Action.RETRAIN


def test_names_order_windows_numbers_by_value_and_dates_after_words() -> None:
    names = ["sample", "stage-2", "stage-10", "2026-W9", "2026-W10", "2026-11-23", "2026-11-24"]
    expected = ["sample", "stage-2", "stage-10", "2026-11-23", "2026-11-24", "2026-W9", "2026-W10"]
    assert sorted(names, key=order) == expected


def test_memory_is_read_as_it_was_written_and_fits_a_parameter() -> None:
    most = replace(THREE, alarms=1, windows=MOST)
    known = Memory(started=(START.isoformat(),) * MOST, window="w" * 30, execution="a" * 120, reason="r" * 600)
    for day in range(40):
        names: dict[str, Any] = {"window": f"2026-11-24T{day:02}-30-00", "run": f"{day:012}", "baseline": "12345678"}
        numbers: dict[str, Any] = {"importance": 0.1234, "metric": "m" * 40, "expected": 0.1234, "reference": 0.8765}
        numbers |= {"realised": True, "measured": 0.1234}
        long = saw(day % 30, worse=True, **names, **numbers)
        known = decide(known, long, most, around(running=True)).memory
    assert parse(known.text()) == known
    assert len(known.windows) == len(known.labelled) == MOST
    free = replace(most, budget=MOST, budget_days=0, cooldown_hours=0)
    known = decide(replace(known, state=IDLE), saw(30), free, around(labelled=(30,))).memory
    assert (known.state, len(known.started)) == (RETRAINING, MOST)
    assert len(known.text()) <= 8192


def test_no_value_yet_is_an_empty_memory() -> None:
    assert parse("none") == Memory()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "1",
        '{"schema": 2}',
        Memory().text().replace(IDLE, "asleep"),
        Memory().text().replace(":1", ":2", 1),
    ],
)
def test_a_damaged_memory_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="write `none` into it"):
        parse(text)


@pytest.mark.parametrize(
    ("learn", "earlier"), [("window", 0), ("last 1", 0), ("last 2", 1), ("last 30", 29), ("all", sys.maxsize)]
)
def test_learn_says_how_many_earlier_windows(learn: str, earlier: int) -> None:
    assert Settings.of({"retraining": {"learn": learn}}).earlier == earlier


@pytest.mark.parametrize(
    ("windows", "window", "expected"),
    [
        (["2026-11-9", "2026-11-10", "2026-11-11", "2026-11-12"], "2026-11-11", ["2026-11-10", "2026-11-9"]),
        (["stage10", "stage9", "stage1"], "stage10", ["stage9", "stage1"]),
        (["sample", "adopted", "2026-11-01", "2026-11", "2026-11-01T06"], "2026-11-02", ["2026-11-01"]),
        (["sample"], "adopted", []),
    ],
)
def test_earlier_windows_are_older_and_named_alike(windows: list[str], window: str, expected: list[str]) -> None:
    assert earlier_windows(windows, window) == expected


def test_settings_come_from_usecase_toml_and_have_defaults() -> None:
    tables = {"retraining": {"alarms": 2, "windows": 3, "on": ["performance"]}, "drift": {"minimum_rows": 7}}
    assert Settings.of(tables) == Settings(alarms=2, windows=3, on=(PERFORMANCE,), minimum_rows=7)
    assert Settings.of({}) == Settings(on=REASONS)

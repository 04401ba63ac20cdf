"""The arithmetic of the bench: what counts, what is compared, what holds, and that a quick run fails where not."""

import json
import math
import os
import re
import resource
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import bench
import bench_document as document
import bench_growth as growth
import bench_measure as measure
import pytest
from bench_measure import Command, Failed, Goal, Plan, Round, Row, Subject
from bench_places import TEMPLATE, Contract, Places
from bench_rows import ALL, QUICK


def rounds(*walls: tuple[float, float], calm: bool = True) -> list[Round]:
    """Of a component and a peer."""
    calibrations = [1.0, 1.05 if calm else 1.5]
    return [Round(["a", "b"], {"a": {"wall": a}, "b": {"wall": b}}, calibrations) for a, b in walls]


def test_ratios_are_of_one_round_and_the_median_of_them_counts() -> None:
    found = measure.ratios(rounds((1, 2), (30, 60), (2, 8)), "b", "a", "wall")
    assert found == [2, 2, 4]
    assert measure.spread(found) == measure.Spread(2, 2, 3, 3)
    assert measure.spread(found).text() == "2 (2–3)"
    assert measure.spread([1234.5]).text() == "1,234"
    assert measure.ratios(rounds((1, 2)), "a", "", "wall") == [1]
    assert measure.ratios(rounds((1, 2)), "a", "absent", "wall") == []
    assert measure.ratios(rounds((1, 2)), "a", "b", "cpu") == []


def test_disturbed_rounds_count_only_where_there_are_too_few_others() -> None:
    calm, disturbed = rounds((1, 1), (2, 1)), rounds((9, 1), calm=False)
    assert measure.counted([*disturbed, *calm], 2) == calm
    assert measure.counted([*disturbed, *calm], 3) == [*calm, *disturbed]
    assert disturbed[0].drift == pytest.approx(0.5)


def test_rounds_are_repeated_while_they_are_disturbed_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([1.0, 1.0, 2.0, *[1.0] * 6, *[1.0, 3.0, 3.0] * 9])  # the first round is disturbed, two are not
    monkeypatch.setattr(measure, "calibrate", lambda: next(seconds))
    kept: list[int] = []
    done: list[Round] = []
    subjects: dict[str, Subject] = {"a": lambda: {"wall": 1.0}, "b": lambda: {"wall": 2.0}}
    measure.measure(subjects, Plan(2, 5), done, lambda: kept.append(len(done)))
    assert [each.disturbed for each in done] == [True, False, False]
    assert kept == [1, 2, 3]
    measure.measure(subjects, Plan(4, 5), done, lambda: None)
    assert len(done) == 5
    assert {tuple(each.order) for each in done} == {("a", "b"), ("b", "a")}


def test_a_slow_peer_runs_in_the_first_rounds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "calibrate", lambda: 1.0)
    done: list[Round] = []
    subjects: dict[str, Subject] = {"a": lambda: {"wall": 1.0}, "slow": lambda: {"wall": 70.0}}
    measure.measure(subjects, Plan(3, 3, only={"slow": 1}), done, lambda: None)
    assert measure.ratios(done, "slow", "a", "wall") == [70]
    assert measure.from_json(json.loads(json.dumps(measure.as_json(done)))) == done


def test_a_goal_is_a_limit_from_above_or_below_and_another_one_in_a_quick_run() -> None:
    goal = Goal("a", "b", "wall", 1.4, quick=3)
    assert [measure.holds(goal, measure.spread([number])) for number in (1.4, 1.5)] == [True, False]
    assert measure.holds(goal, measure.spread([2.9]), quick=True)
    assert measure.holds(replace(goal, at_least=True), measure.spread([1.3])) is False
    assert measure.holds(replace(goal, quick=None), measure.spread([99]), quick=True) is None
    assert goal.text() == "a / b, wall ≤ 1.4"
    assert replace(goal, to="", at_least=True).text(quick=True) == "a, wall ≥ 3"


def command(folder: Path, text: str) -> Command:
    return Command((sys.executable, "-c", text), {"PATH": os.environ["PATH"]}, folder / "log", folder)


def test_a_process_is_measured_with_its_children(tmp_path: Path) -> None:
    work = "import subprocess, sys; x = bytes(100 * 2**20); sum(range(2 * 10**6)); "
    child = "subprocess.run([sys.executable, '-c', 'sum(range(3 * 10**6)); y = bytearray(200 * 2**20)'], check=True)"
    found = measure.run(command(tmp_path, work + child))
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # a child begins as a copy of this process
    assert 180 < found["memory"] < 400 + own
    assert found["cpu"] > 0.05
    assert found["wall"] > 0


def test_a_process_that_fails_or_takes_too_much_says_so(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"gave 1:\n.*no such thing"):
        measure.run(command(tmp_path, "raise SystemExit('no such thing')"))
    with pytest.raises(Failed, match="more than 0 s"):
        measure.run(replace(command(tmp_path, "import time; time.sleep(60)"), seconds=0.2))
    with pytest.raises(Failed, match="more than 100 MiB"):
        measure.run(replace(command(tmp_path, "x = bytearray(2**28); import time; time.sleep(60)"), memory=100))


def test_the_contract_of_the_measured_tables_is_the_shipped_one_with_other_columns(tmp_path: Path) -> None:
    contract = Contract(2, 1, ranges=True, settings={"hyperparameters.num_iterations": 5})
    contract.write(TEMPLATE / "usecase.toml", tmp_path / "usecase.toml")
    text = (tmp_path / "usecase.toml").read_text(encoding="utf-8")
    assert '[columns]\nn0 = { type = "number", minimum = -1e9, maximum = 1e9 }\nn1 = ' in text
    assert "num_iterations = 5\n" in text
    assert 'label = "label"\n' in text
    with pytest.raises(KeyError, match=r"hyperparameters\.nothing"):
        Contract(settings={"hyperparameters.nothing": 1}).write(TEMPLATE / "usecase.toml", tmp_path / "usecase.toml")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, float]:
    """One row in place of all, whose component takes what a test says, and nothing rendered."""
    takes = {"component": 1.0}
    subjects: dict[str, Subject] = {"component": lambda: {"wall": takes["component"]}, "copy": lambda: {"wall": 1.0}}
    row = Row("a row", subjects, (Goal("component", "copy", "wall", 1.4, quick=3.0),), lambda: "the same")
    monkeypatch.setattr(bench, "ALL", {"row": lambda _: row})
    monkeypatch.setattr(bench, "QUICK", ("row",))
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "DOCUMENT", tmp_path / "performance.md")
    monkeypatch.setattr(bench, "guards", lambda _: True)
    monkeypatch.setattr(Places, "prepare", lambda _: None)
    monkeypatch.setattr(document, "machine", lambda _: "here")
    monkeypatch.setattr(measure, "calibrate", lambda: 1.0)
    return takes


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bench.py", *words])
    return bench.main()


def test_a_quick_run_fails_where_a_component_has_become_slow(
    measured: dict[str, float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured["component"] = 2.9
    assert run(monkeypatch, "--quick") == 0
    measured["component"] = 3.1
    assert run(monkeypatch, "--quick") == 1
    assert "does not hold: row" in capsys.readouterr().err


def test_a_quick_run_fails_where_a_slowed_component_is_not_found(
    measured: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "guards", lambda _: False)
    assert run(monkeypatch, "--quick") == 1
    assert measured


def test_a_row_that_breaks_off_fails_and_stops_no_other(
    measured: dict[str, float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: Places) -> Row:
        raise Failed("other work")

    monkeypatch.setattr(bench, "ALL", {"broken": broken, **vars(bench)["ALL"]})
    monkeypatch.setattr(bench, "QUICK", ("broken", "row"))
    assert run(monkeypatch, "--quick") == 1
    said = capsys.readouterr()
    assert "error: other work" in said.err
    assert "== row" in said.out
    assert measured


def test_a_full_run_writes_what_holds_and_what_does_not(
    measured: dict[str, float], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    measured["component"] = 2.0
    assert run(monkeypatch) == 0
    text = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert "| a row | component / copy, wall ≤ 1.4 | 2 (2–2) |  | 5 | **no** |" in text
    assert "- a row: the same." in text
    measured["component"] = 1.0
    assert run(monkeypatch) == 0  # of the same code: it is not measured again
    assert (tmp_path / "performance.md").read_text(encoding="utf-8") == text
    assert run(monkeypatch, "--fresh") == 0
    assert "1 (1–1) |  | 5 | yes |" in (tmp_path / "performance.md").read_text(encoding="utf-8")


def test_what_is_asked_in_ci_is_there_and_a_wrong_name_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(QUICK) <= set(ALL)
    with pytest.raises(SystemExit):
        run(monkeypatch, "processing-json-train")
    assert "there is no row processing-json-train; there are processing-parquet-train, " in capsys.readouterr().err


def test_a_slope_of_one_is_linear_and_what_was_not_reached_is_said(tmp_path: Path) -> None:
    assert growth.slope([(1, 5), (10, 2), (1000, 200)]) == pytest.approx(1)
    assert growth.slope([(10, 2), (100, 200)]) == pytest.approx(2)
    places = Places(tmp_path, quick=False)
    assert growth.section(places) == ""
    (tmp_path / "growth").mkdir()
    found = [{"cpu": 1.0, "memory": 100.0}, {"cpu": 10.0, "memory": 100.0}, "more than 300 s"]
    for point, values in zip((30, 300, 3000), found, strict=True):
        text = json.dumps({"code": "", "values": {"monitoring train": values}})
        (tmp_path / "growth" / f"columns-{point:08d}.json").write_text(text, encoding="utf-8")
    said = growth.section(places)
    assert "| monitoring train | 1.0 s, 100 MiB | 10.0 s, 100 MiB | more than 300 s | 1.00 | 0.00 |" in said
    assert growth.plot(growth.results(places)).count("<polyline") == 4  # and where linear would be
    assert math.isfinite(growth.slope([(1, 1), (2, 2)]))


def test_labels_below_a_panel_of_six_decades_stand_apart() -> None:
    values = {"monitoring train": {"cpu": 1.0, "memory": 100.0}}
    drawn = growth.plot({"categories": {10: values, 1_000_000: values}})
    found = re.findall(r'<text x="([\d.]+)" y="244" text-anchor="middle">([^<]+)<', drawn)
    places, names = [float(place) for place, _ in found], [name for _, name in found]
    assert names == ["10", "100", "1 k", "10 k", "100 k", "1 M"]
    wide = [7 * len(name) for name in names]  # letters of 12 pixels are about so wide
    for one, (left, right) in enumerate(pairwise(places)):
        assert left + wide[one] / 2 < right - wide[one + 1] / 2 - 4, names[one : one + 2]


def test_peers_are_locked_with_hashes_and_name_no_host() -> None:
    folder = Path(bench.__file__).parent / "peers"
    for lock in folder.glob("*.txt"):
        text = lock.read_text(encoding="utf-8")
        assert (folder / f"{lock.stem}.in").is_file()
        assert text.count("==") <= text.count("--hash=sha256:"), lock
        assert "://" not in text
        assert "index-url" not in text


def test_a_document_is_a_table(tmp_path: Path) -> None:
    assert document.table(["a", "b"], [[1, "x"]]) == "| a | b |\n| --- | --- |\n| 1 | x |"
    assert document.kept(tmp_path, ("row",)) == {}
    assert "Python 3" in document.machine(Path(sys.executable))

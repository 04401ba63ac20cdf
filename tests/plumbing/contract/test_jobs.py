"""Jobs in the images where it is hard: long reasons, checkpoints, kills, full and closed disks, several hosts."""

import csv
import json
import re
import shutil
import signal
import time
from pathlib import Path

import polars as pl
import pytest

from plumbing.contract.containers import (
    HERE,
    JOBS,
    Contract,
    Running,
    Spec,
    Start,
    contents,
    every_job,
    until,
)
from plumbing.contract.processes import kill

every_whole_job = pytest.mark.parametrize(
    "spec", [spec for spec in JOBS if spec.name != "processing serve"], ids=lambda spec: spec.name.replace(" ", "-")
)
HOSTS = ("algo-1", "algo-2")
LEARNERS = [spec for spec in JOBS if spec.artifact]
every_learner = pytest.mark.parametrize("spec", LEARNERS, ids=lambda spec: spec.component)
ROUNDS = {"num_iterations", "num_boost_round"} & set(HERE.tables()["hyperparameters"])


def wrote_nothing_usable(contract: Contract, spec: Spec, root: Path) -> bool:
    """Nothing a later job would take for a whole artifact: the manifest comes last."""
    return not any((contract.output(spec, root, name) / "manifest.json").exists() for name in spec.outputs)


@every_job
def test_a_missing_input_is_said_where_the_service_looks_for_it(contract: Contract, spec: Spec, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    name = next(iter(spec.inputs))
    code, running = contract.run(spec, tmp_path / "ml", Start(inputs={name: empty}))
    assert code == 1
    assert name in running.failure()
    assert "Traceback" not in running.failure()
    assert (tmp_path / "ml" / "output" / ("failure" if spec.trains else "message")).is_file()
    assert wrote_nothing_usable(contract, spec, tmp_path / "ml")


@every_job
def test_an_unexpected_error_reaches_the_service_too(contract: Contract, spec: Spec, tmp_path: Path) -> None:
    """Damaged inputs of every kind: the exit code is 1 and there is a reason, whatever it is."""
    for name, folder in contract.inputs(spec).items():
        damaged = tmp_path / f"damaged-{name}"
        shutil.copytree(folder, damaged)
        for file in (path for path in damaged.rglob("*") if path.is_file()):
            whole = file.read_bytes()
            file.write_bytes(bytes(64) + whole if file.suffix == ".csv" else whole[: len(whole) // 2])
        code, running = contract.run(spec, tmp_path / f"ml-{name}", Start(inputs={name: damaged}))
        if name.startswith("champion"):  # there is none; its place is not looked at
            continue
        if (spec.name, name) == ("monitoring serve", "explainer"):  # it weighs what has drifted, and is not needed
            assert code == 0
            assert "no importance of columns is known" in running.log()
            continue
        assert code == 1, name
        assert 0 < len(running.failure().encode()) <= 1024


@every_job
def test_it_ends_soon_when_it_is_told_to(contract: Contract, spec: Spec, tmp_path: Path) -> None:
    running = contract.start(spec, tmp_path)
    until(lambda: list(tmp_path.rglob(".scratch-*")))
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT):  # stopped first, so that it can't be done before
        kill(running, number)
    begun = time.monotonic()
    assert running.wait() != 0
    assert time.monotonic() - begun < 5
    assert "SIGTERM" in running.failure() or "interrupted" in running.failure()
    assert wrote_nothing_usable(contract, spec, tmp_path)


@every_whole_job
def test_of_several_hosts_the_first_does_what_can_not_be_spread(contract: Contract, spec: Spec, tmp_path: Path) -> None:
    code, second = contract.run(spec, tmp_path / "second", Start(hosts=HOSTS, host="algo-2"))
    assert code == 0
    assert "nothing to do" in second.log()
    assert not any(contents(contract.output(spec, tmp_path / "second", name)) for name in spec.outputs)
    code, _ = contract.run(spec, tmp_path / "first", Start(hosts=HOSTS))
    assert code == 0
    for name in spec.outputs:  # files of rows begin with the host's name, wherever there are several
        found = contents(contract.output(spec, tmp_path / "first", name)).items()
        assert {file.removeprefix("algo-1-"): kept for file, kept in found} == contents(
            contract.stored((spec.name, name))
        )


def test_a_long_reason_is_cut_to_a_kilobyte_and_begins_with_the_cause(contract: Contract, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    with (raw / "rows.csv").open("w") as file:
        csv.writer(file).writerow(["column_" + "é" * 400 + str(number) for number in range(9)])
    code, _ = contract.run(JOBS[0], tmp_path / "ml", Start(inputs={"raw": raw}))
    assert code == 1
    reason = (tmp_path / "ml" / "output" / "message").read_bytes()
    assert 900 < len(reason) <= 1024
    assert reason.decode("utf-8").startswith("rows.csv")


def test_hyperparameters_are_texts_and_a_wrong_one_is_named(contract: Contract, tmp_path: Path) -> None:
    spec, known = LEARNERS[1], HERE.tables()["hyperparameters"]
    name = next(name for name, value in known.items() if isinstance(value, float))
    code, _ = contract.run(spec, tmp_path / "half", Start(settings={name: str(known[name] / 2)}))
    metadata = json.loads((tmp_path / "half" / "model" / "metadata.json").read_text())
    assert (code, metadata["hyperparameters"][name]) == (0, known[name] / 2)
    code, running = contract.run(spec, tmp_path / "wrong", Start(settings={name: "many"}))
    assert code == 1
    assert name in running.failure()
    assert "many" in running.failure()


@pytest.mark.skipif(not ROUNDS, reason="this model keeps no checkpoint")
def test_an_interrupted_training_goes_on_from_its_checkpoint(contract: Contract, tmp_path: Path) -> None:
    spec, kept = LEARNERS[1], tmp_path / "checkpoints"
    kept.mkdir()
    settings = {min(ROUNDS): "1000", "early_stopping_rounds": "0", "learning_rate": "0.001"}
    how = Start(settings=settings, options=("--volume", f"{kept}:/opt/ml/checkpoints"))
    running = contract.start(spec, tmp_path / "first", how)
    until((kept / "fit.txt").exists)
    begun = time.monotonic()
    kill(running, signal.SIGTERM)
    assert running.wait() != 0
    assert time.monotonic() - begun < 5
    assert wrote_nothing_usable(contract, spec, tmp_path / "first")
    code, again = contract.run(spec, tmp_path / "second", how)
    assert code == 0
    [rounds] = re.findall(r"going on from a checkpoint of (\d+) rounds", again.log())
    assert 100 <= int(rounds) < 1000
    metadata = json.loads((tmp_path / "second" / "model" / "metadata.json").read_text())
    assert metadata["best_iteration"] == 1000
    assert not list(kept.iterdir()), "what is finished must not be taken up again"


@every_learner
@pytest.mark.parametrize("moment", ["first file", "later", "last"])
def test_killed_while_writing_it_leaves_nothing_that_serve_would_take(
    contract: Contract, spec: Spec, tmp_path: Path, moment: str
) -> None:
    running = contract.start(spec, tmp_path)
    target = contract.output(spec, tmp_path, spec.artifact)
    until(lambda: list(target.iterdir()))
    time.sleep({"first file": 0.0, "later": 0.005, "last": 0.02}[moment])
    kill(running, signal.SIGKILL)
    running.wait()
    whole = contents(contract.stored((spec.name, spec.artifact)))
    assert not (target / "manifest.json").exists() or contents(target) == whole


@every_job
def test_a_full_disk_is_named(contract: Contract, spec: Spec, tmp_path: Path) -> None:
    page = 4096
    large = [name for name in spec.outputs if size(contract.stored((spec.name, name))) > page]
    assert large
    for name in large:
        place = spec.inside("output", name)
        how = Start(options=("--mount", f"type=tmpfs,target={place},tmpfs-size={page}"))
        code, running = contract.run(spec, tmp_path / name.replace("/", "-"), how)
        assert code == 1, name
        assert "the disk is full" in running.failure(), running.failure()
        assert "volume_gb" in running.failure()


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*"))


@every_job
def test_an_output_that_can_not_be_written_is_named(contract: Contract, spec: Spec, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    name = spec.outputs[0]
    how = Start(options=("--volume", f"{closed}:{spec.inside('output', name)}:ro"))
    code, running = contract.run(spec, tmp_path / "ml", how)
    assert code == 1
    assert name in running.failure()
    assert not list(closed.iterdir())


def test_where_the_reason_can_not_be_written_it_is_in_the_log(contract: Contract, tmp_path: Path) -> None:
    for folder in ("closed", "empty"):
        (tmp_path / folder).mkdir()
    how = Start(inputs={"raw": tmp_path / "empty"}, options=("--volume", f"{tmp_path / 'closed'}:/opt/ml/output:ro"))
    code, running = contract.run(JOBS[0], tmp_path / "ml", how)
    assert code == 1
    assert "error: raw holds nothing" in running.log()
    assert "could not be written" in running.log()


@every_whole_job
def test_what_needs_the_whole_table_refuses_a_part(contract: Contract, spec: Spec, tmp_path: Path) -> None:
    name = "validation" if spec.trains else next(iter(spec.inputs))
    for host in HOSTS:
        how = Start(hosts=HOSTS, host=host, sharded=(name,))
        code, running = contract.run(spec, tmp_path / host, how)
        assert code == 1
        assert name in running.failure()
        assert "FullyReplicated" in running.failure()


def test_features_of_parts_are_the_features_of_the_whole(contract: Contract, tmp_path: Path) -> None:
    spec = next(spec for spec in JOBS if spec.name == "processing serve")
    [file] = contract.stored(("data", "production")).iterdir()
    both = tmp_path / "both"
    for number, host in enumerate(HOSTS):
        part = tmp_path / host
        part.mkdir()
        shutil.copy(file, part / f"part-{number}{file.suffix}")
        how = Start(inputs={"raw": part}, hosts=HOSTS, host=host, sharded=("raw",))
        code, _ = contract.run(spec, tmp_path / f"ml-{host}", how)
        assert code == 0
        for name in spec.outputs:
            before = set(contents(both / name)) if (both / name).exists() else set()
            written = contract.output(spec, tmp_path / f"ml-{host}", name)
            assert not before & set(contents(written)), "the hosts' files lie in one place and must not collide"
            shutil.copytree(written, both / name, dirs_exist_ok=True)
    alone = len(contents(contract.stored((spec.name, "features"))))
    assert len(contents(both / "features")) == 2 * alone


def test_a_host_whose_part_holds_no_file_writes_none(contract: Contract, tmp_path: Path) -> None:
    spec = next(spec for spec in JOBS if spec.name == "processing serve")
    (tmp_path / "none").mkdir()
    how = Start(inputs={"raw": tmp_path / "none"}, hosts=HOSTS, host="algo-2", sharded=("raw",))
    code, running = contract.run(spec, tmp_path / "ml", how)
    assert code == 0
    assert "no file" in running.log()
    assert not any(contents(contract.output(spec, tmp_path / "ml", name)) for name in spec.outputs)


def learning(contract: Contract, folder: Path, count: int, **settings: str) -> list[Running]:
    """The algorithm's training on so many hosts, each with its part of the rows, in a network that only they see."""
    spec = next(spec for spec in JOBS if spec.trains)
    rows = pl.read_parquet(sorted(contract.stored(("processing train", "train")).glob("*.parquet")))
    names = tuple(f"localhost:{12400 + 10 * number}" for number in range(count))
    running: list[Running] = []
    for number, name in enumerate(names):
        part = folder / f"part-{number}"
        part.mkdir(parents=True)
        rows.gather_every(count, number).write_parquet(part / f"part-{number:05d}.parquet")
        network = f"container:{running[0].identity}" if running else "none"
        how = Start({"train": part}, settings, names, name, ("train",), network=network)
        running.append(contract.start(spec, folder / f"ml-{number}", how))
    return running


def measured(folder: Path) -> dict[str, float]:
    return dict(json.loads((folder / "output/data/evaluation.json").read_text())["test"])


@pytest.mark.parametrize("count", [2, 4])
def test_hosts_learn_together_what_one_learns_alone(contract: Contract, tmp_path: Path, count: int) -> None:
    hosts = learning(contract, tmp_path, count)
    for host in hosts:
        assert host.wait() == 0, host.log()
    for number in range(1, count):
        assert not any(contents(tmp_path / f"ml-{number}" / "model")), "the first host writes the model"
    alone, together = measured(contract.folder / "algorithm train"), measured(tmp_path / "ml-0")
    assert together["auc"] == pytest.approx(alone["auc"], abs=0.01)
    print(count, "hosts:", together["auc"], "alone:", alone["auc"])
    assert (tmp_path / "ml-0" / "model" / "manifest.json").exists()


@pytest.mark.parametrize("killed", [0, 1])
def test_where_one_of_the_hosts_is_killed_the_others_end_and_say_so(
    contract: Contract, tmp_path: Path, killed: int
) -> None:
    hosts = learning(contract, tmp_path, 2, **dict.fromkeys(ROUNDS, "100000"), early_stopping_rounds="0")
    until(lambda: all("2 of 2 hosts are there" in host.log() for host in hosts))
    time.sleep(1)
    kill(hosts[killed], signal.SIGKILL)
    begun = time.monotonic()
    assert hosts[1 - killed].wait() == 1
    assert time.monotonic() - begun < 30
    assert "LightGBM lost another host: " in hosts[1 - killed].failure()
    assert not (tmp_path / f"ml-{1 - killed}" / "model" / "manifest.json").exists()

"""The runtime: settings are checked in the reader's words, artifacts are whole or absent, failures reach their file."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tracemalloc
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from batchloop.container import artifacts, job, usecase
from batchloop.container.__main__ import main
from batchloop.container.job import InputError
from plumbing.rendered import ROOT

VALID: dict[str, Any] = {
    "usecase": {"name": "loans", "title": "Loans", "description": "who repays", "namespace": "bank"},
    "data": {"task": "binary", "id": "id", "label": "repaid", "classes": ["no", "yes"]},
    "columns": {"income": {"type": "number"}, "town": {"type": "category"}},
    "gate": {"metric": "auc", "minimum": 0.7},
}

CONTRACT = usecase.parse(VALID).contract()


def changed(**tables: Any) -> dict[str, Any]:
    """The valid use case with some tables' keys changed."""
    return VALID | {name: VALID.get(name, {}) | values for name, values in tables.items()}


WRONG = [
    (changed(data={"task": "ranking"}), "'ranking' is not one of binary, multiclass, regression"),
    (changed(data={"colour": 1}), "unknown key 'colour'"),
    (changed(data={"label": "income"}), "the model would see the answer"),
    (changed(data={"id": "town"}), "it would leak"),
    (changed(data={"id": "score"}), "predictions use"),
    (changed(data={"classes": ["yes"]}), "the two label values"),
    (changed(data={"classes": [0, 1]}), "put each in quotes"),
    (changed(data={"classes": ["a", "a"]}), "names a value twice"),
    (changed(data={"separator": ";;"}), "not one character"),
    (changed(data={"bad_rows": "few"}), "'few' is not a number"),
    (changed(data={"bad_rows": 2}), "bad_rows = 2 is not a number from 0 to 1"),
    (changed(columns={"__file": {"type": "number"}}), "begin with __"),
    (changed(data={"label": "^a.*$"}), "look like ^…$"),
    (changed(data={"id": ""}, columns={"row": {"type": "number"}}), "rename it"),
    (
        changed(columns={"income": {"type": "money"}}),
        "'income' type = 'money' is not one of number, category, boolean, date",
    ),
    (changed(columns={"income": {"type": "number", "min": 0}}), "unknown key 'min'"),
    (changed(split={"method": "time"}), "needs [data] time"),
    (changed(split={"method": "magic"}), "'magic' is not"),
    (changed(split={"validation": 0.6, "test": 0.5}), "leave nothing to train on"),
    (changed(split={"seed": True}), "seed = true is not a whole number"),
    (changed(features={"impute": "mean"}), "'mean' is not"),
    (changed(explanation={"rule": "best"}), "'best' is not"),
    ({key: value for key, value in VALID.items() if key != "columns"}, "no [columns] table"),
    (VALID | {"gate": {"metric": "auc"}}, "[gate] needs minimum"),
]


@pytest.mark.parametrize(("tables", "sentence"), WRONG)
def test_a_wrong_setting_is_named_with_what_would_be_right(tables: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as raised:
        usecase.parse(tables)
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_contract_changes_with_what_data_means_and_with_nothing_else() -> None:
    contract = usecase.parse(VALID).contract()
    assert usecase.parse(changed(data={"separator": ";", "missing": ["-"]}, split={"seed": 8})).contract() == contract
    assert usecase.parse(changed(data={"classes": ["yes", "no"]})).contract() != contract
    assert usecase.parse(changed(columns={"town": {"type": "boolean"}})).contract() != contract


def test_a_missing_or_broken_usecase_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        usecase.load(tmp_path / "usecase.toml")
    (tmp_path / "usecase.toml").write_text("[data\n")
    with pytest.raises(InputError, match="not valid TOML"):
        usecase.load(tmp_path / "usecase.toml")


def test_nothing_is_left_of_an_artifact_whose_writing_failed(tmp_path: Path) -> None:
    def write() -> None:
        with artifacts.writing(tmp_path / "model") as folder:
            (folder / "half").write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert list((tmp_path / "model").iterdir()) == []


def test_killed_between_two_files_an_artifact_has_no_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []

    def replace(source: Path, target: Path) -> None:
        """What the disk would show if the process had been killed before this move."""
        assert not (target.parent / artifacts.MANIFEST).exists(), moved
        moved.append(target.name)
        os.replace(source, target)

    monkeypatch.setattr(Path, "replace", replace)
    with artifacts.writing(tmp_path) as folder:
        artifacts.write_manifest(folder, "processing", CONTRACT)
        for name in ("a.json", "z.json"):
            (folder / name).write_text("{}")
    assert moved == ["a.json", "z.json", "manifest.json"]


def test_a_failure_on_a_full_disk_says_so_whatever_the_library_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="thrift"), artifacts.writing(tmp_path):
        raise ValueError("Invalid thrift: transport error")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=0))
    with pytest.raises(OSError, match="No space left on device"), artifacts.writing(tmp_path):
        raise ValueError("Invalid thrift: transport error")


def test_an_artifact_of_another_component_is_refused(tmp_path: Path) -> None:
    artifacts.write_manifest(tmp_path, "monitoring", CONTRACT)
    with pytest.raises(InputError, match="'monitoring' where processing's is needed"):
        artifacts.check_manifest(tmp_path, "processing", CONTRACT)


def test_the_empty_artifact_and_an_empty_folder_are_absent(tmp_path: Path) -> None:
    assert artifacts.is_absent(tmp_path / "missing")
    assert artifacts.is_absent(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"component": "none"}))
    assert artifacts.is_absent(tmp_path)
    artifacts.write_manifest(tmp_path, "processing", CONTRACT)
    assert not artifacts.is_absent(tmp_path)


def test_a_fingerprint_tells_names_and_contents_apart(tmp_path: Path) -> None:
    seen = set()
    for name, content in (("a", "1"), ("a", "2"), ("b", "2")):
        folder = tmp_path / f"{name}{content}"
        folder.mkdir()
        (folder / name).write_text(content)
        seen.add(artifacts.fingerprint(folder))
    assert len(seen) == 3


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../outside"])
def test_an_archive_can_not_write_outside_its_folder(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    with tarfile.open(tmp_path / "in" / "model.tar.gz", "w:gz") as archive:
        archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(InputError, match="no plain file"):
        artifacts.unpacked(tmp_path / "in", tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"in", "out"}


def test_an_archive_may_hold_folders_but_no_links(tmp_path: Path) -> None:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "deep" / "file").write_text("x")
    with tarfile.open(tmp_path / "in" / "model.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "in" / "deep", "deep")
    assert (artifacts.unpacked(tmp_path / "in", tmp_path / "out") / "deep" / "file").read_text() == "x"
    link = tarfile.TarInfo("link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    with tarfile.open(tmp_path / "in" / "model.tar.gz", "w:gz") as archive:
        archive.addfile(link)
    with pytest.raises(InputError, match="no plain file"):
        artifacts.unpacked(tmp_path / "in", tmp_path / "out2")


def test_a_small_archive_that_would_fill_the_disk_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    size = 150 * 2**20
    with (
        tarfile.open(tmp_path / "in" / "model.tar.gz", "w:gz", compresslevel=1) as archive,
        open("/dev/zero", "rb") as zeros,
    ):
        member = tarfile.TarInfo("model.txt")
        member.size = size
        archive.addfile(member, zeros)
    with pytest.raises(InputError, match=r"model\.tar\.gz of [\d,]+ bytes unpacks to more than 104,857,600"):
        artifacts.unpacked(tmp_path / "in", tmp_path / "out")
    assert sum(file.stat().st_size for file in (tmp_path / "out").rglob("*") if file.is_file()) == 0


def archived(folder: Path, *blocks: bytes) -> Path:
    """A small archive of many bytes."""
    folder.mkdir()
    with gzip.open(folder / "model.tar.gz", "wb", compresslevel=1) as packed:
        for block in blocks:
            packed.write(block)
    return folder


def test_an_archive_of_more_files_than_any_artifact_has_is_refused(tmp_path: Path) -> None:
    folder = archived(tmp_path / "in", *(tarfile.TarInfo(f"{number}").tobuf() for number in range(10_001)))
    with pytest.raises(InputError, match=r"model\.tar\.gz holds more than 10,000 files; no artifact does\."):
        artifacts.unpacked(folder, tmp_path / "out")


def test_headers_that_would_fill_the_memory_are_refused(tmp_path: Path) -> None:
    header = tarfile.TarInfo("x")
    header.type, header.size = tarfile.XHDTYPE, 2**33 - 1
    folder = archived(tmp_path / "in", header.tobuf(), *[b"\0" * 2**20] * 120)
    tracemalloc.start()
    with pytest.raises(InputError, match="unpacks to more than 104,857,600"):
        artifacts.unpacked(folder, tmp_path / "out")
    assert tracemalloc.get_traced_memory()[1] < 250 * 2**20
    tracemalloc.stop()


@pytest.mark.parametrize(
    "members",
    [
        [tarfile.LNKTYPE, "/etc/passwd"],
        [tarfile.CHRTYPE, ""],
        [tarfile.FIFOTYPE, ""],
    ],
)
def test_an_archive_holds_nothing_but_files(tmp_path: Path, members: list[Any]) -> None:
    member = tarfile.TarInfo("odd")
    member.type, member.linkname = members
    folder = archived(tmp_path / "in", member.tobuf())
    with pytest.raises(InputError, match="'odd', which is no plain file"):
        artifacts.unpacked(folder, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b", b"\x1f\x8b\x08\x00" + b"\xff" * 40])
def test_what_is_no_archive_is_said_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "model.tar.gz").write_bytes(content)
    told = r"^model\.tar\.gz can't be unpacked \(.*\); was it packed by gzip, and uploaded whole\?$"
    with pytest.raises(InputError, match=told):
        artifacts.unpacked(tmp_path / "in", tmp_path / "out")


def start(monkeypatch: pytest.MonkeyPatch, root: Path, error: Exception, component: str = "monitoring") -> int:
    """Run a component whose training raises."""

    def broken(_: Mapping[str, str]) -> None:
        raise error

    monkeypatch.setenv("ML_ROOT", str(root))
    return job.run(f"{component} train", broken)


def test_the_reason_of_a_failure_fits_the_kilobyte_that_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert start(monkeypatch, tmp_path, InputError("ü" * 2000)) == 1
    written = (tmp_path / "output" / "message").read_bytes()
    assert len(written) == 1024
    assert written.decode() == "ü" * 512


def test_a_training_job_s_reason_is_in_the_failure_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    start(monkeypatch, tmp_path, KeyError("x"), component="algorithm")
    assert (tmp_path / "output" / "failure").read_text().startswith("KeyError: 'x' (unexpected in algorithm train")
    assert not (tmp_path / "output" / "message").exists()


def test_arguments_win_over_hyperparameters(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ML_ROOT", str(tmp_path))
    (tmp_path / "input" / "config").mkdir(parents=True)
    (tmp_path / "input" / "config" / "hyperparameters.json").write_text('{"trials": "3", "seed": "1"}')
    assert job.settings(["--seed", "2"]) == {"trials": "3", "seed": "2"}
    with pytest.raises(InputError, match="--key value pairs"):
        job.settings(["--seed"])


def test_an_unknown_mode_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["monitoring", "fly"]) == 2
    assert "train|serve" in capsys.readouterr().err


def test_a_job_s_memory_is_its_own_and_not_that_of_who_has_started_it() -> None:
    """On Linux, getrusage hands the peak of a parent down to its child, which would hide what a job needs."""
    held = bytearray(300 << 20)
    told = subprocess.run(
        [sys.executable, "-c", "from batchloop.container import job; print(job._most_memory())"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(told.stdout) < len(held) >> 21

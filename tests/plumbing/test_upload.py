"""Putting a window's data into S3: files, then the mark; what is complete is left as it is. moto stands for S3."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import polars as pl
import pytest
from moto import mock_aws
from PIL import Image

from batchloop.cloud.upload import Upload, upload
from batchloop.container.job import InputError
from batchloop.control import storage
from batchloop.repository import Repository
from plumbing import deployed
from plumbing.control_plane import BUCKET, WINDOW, World, session


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with mock_aws():
        made = World()
        known = {"sts": session().client("sts"), **{its.name: getattr(made.aws, its.name) for its in fields(made.aws)}}
        monkeypatch.setattr("batchloop.cloud.session.connect", lambda *_: known.__getitem__)
        yield made


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    return deployed.repository(tmp_path, monkeypatch)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    folder = tmp_path / "rows"
    for name in ("a.csv", "more/b.csv", ".hidden.csv", "_SUCCESS", "_temporary/0/part.csv"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return folder


def there(world: World, part: str = "production") -> dict[str, str]:
    """What a part of the window holds, by name."""
    prefix = f"team/case/data/{WINDOW}/{part}/"
    found = world.aws.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
    body = {its["Key"]: world.aws.s3.get_object(Bucket=BUCKET, Key=its["Key"])["Body"].read() for its in found}
    return {key.removeprefix(prefix): text.decode() for key, text in body.items()}


def failure(repository: Repository, data: Path, window: str = WINDOW, part: str = "production") -> str:
    with pytest.raises(InputError) as raised:
        upload(repository, Upload(str(data), window, part))
    return str(raised.value)


def test_files_come_first_and_the_mark_last(
    world: World, repository: Repository, rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []
    world.aws.s3.meta.events.register(
        "provide-client-params.s3.PutObject", lambda params, **_: seen.append(params["Key"])
    )
    assert upload(repository, Upload(str(rows), WINDOW)) == 0
    assert there(world) == {"a.csv": "a.csv", "more/b.csv": "more/b.csv", "_SUCCESS": ""}
    assert seen[-1].endswith("/production/_SUCCESS")
    assert storage.newest_window(world.aws, world.places) == (WINDOW, [])
    assert "has 2 files (15 bytes) and _SUCCESS." in capsys.readouterr().out


def test_one_file_and_another_part(world: World, repository: Repository, rows: Path) -> None:
    upload(repository, Upload(str(rows / "a.csv"), WINDOW, "labels"))
    assert there(world, "labels") == {"a.csv": "a.csv", "_SUCCESS": ""}


@pytest.mark.parametrize(("part", "columns"), [("production", ["file", "picture"]), ("labels", ["file", "y"])])
def test_a_folder_of_pictures_goes_there_as_the_table_that_components_read(
    world: World, repository: Repository, tmp_path: Path, part: str, columns: list[str]
) -> None:
    file = repository.root / "usecase.toml"
    text = re.sub(
        r"(?ms)^\[columns\].*?(?=^\[)", '[columns]\npicture = { type = "image", size = 16 }\n', file.read_text()
    )
    file.write_text(re.sub(r"(?m)^id = .*", 'id = "file"', text))
    for name in ("yes/1.png", "no/2.png"):
        picture = tmp_path / "pictures" / name
        picture.parent.mkdir(parents=True)
        Image.new("L", (20, 20)).save(picture)
    upload(repository, Upload(str(tmp_path / "pictures"), WINDOW, part))
    found = storage.objects(world.aws, world.places.data(WINDOW, part))
    [key] = [key for key in found if not key.endswith("_SUCCESS")]
    body = world.aws.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    assert pl.read_parquet(body).columns == columns


def test_a_complete_window_is_replaced_only_when_that_is_said(world: World, repository: Repository, rows: Path) -> None:
    upload(repository, Upload(str(rows), WINDOW))
    before = there(world)
    (rows / "a.csv").write_text("corrected")
    (rows / "more/b.csv").unlink()
    assert f"data/{WINDOW}/production/ is complete. REPLACE=yes" in failure(repository, rows)
    assert there(world) == before
    assert upload(repository, Upload(str(rows), WINDOW, replace=True)) == 0
    assert there(world) == {"a.csv": "corrected", "_SUCCESS": ""}


def test_an_upload_that_was_cut_off_is_repeated_and_one_of_other_files_is_not(
    world: World, repository: Repository, rows: Path
) -> None:
    place = f"s3://{BUCKET}/team/case/data/{WINDOW}/production"
    world.put(f"{place}/a.csv", b"half")
    assert upload(repository, Upload(str(rows), WINDOW)) == 0
    world.aws.s3.delete_object(Bucket=BUCKET, Key=f"team/case/data/{WINDOW}/production/_SUCCESS")
    world.put(f"{place}/other.csv")
    assert "holds other files, without _SUCCESS: other.csv" in failure(repository, rows)
    assert "_SUCCESS" not in there(world)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ((WINDOW, "test"), "PART=test is none of production, train, validation, labels."),
        (("../dev", "train"), "WINDOW=../dev can't be a window's name"),
        (("a/b", "train"), "WINDOW=a/b can't be a window's name"),
        (("w" * 65, "train"), f"WINDOW={65 * 'w'} can't be a window's name: at most 64"),
    ],
)
def test_what_can_not_be_a_window_is_refused(
    world: World, repository: Repository, rows: Path, asked: tuple[str, str], told: str
) -> None:
    window, part = asked
    assert failure(repository, rows, window, part).startswith(told)
    assert there(world, part) == {}


def test_no_data_is_said(world: World, repository: Repository, tmp_path: Path) -> None:
    assert failure(repository, tmp_path / "absent").endswith("absent: no such file or folder.")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "_SUCCESS").touch()
    assert failure(repository, tmp_path / "empty").endswith("empty holds no files.")
    assert there(world) == {}


def test_the_bytes_of_a_long_upload_are_told_while_they_go(
    world: World,
    repository: Repository,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "large.csv"
    file.write_bytes(b"1\n" * 10_000_000)  # sent in parts
    monkeypatch.setattr("batchloop.cloud.upload.SECONDS", 0)
    upload(repository, Upload(str(file), WINDOW))
    told = [int(line.split()[0].replace(",", "")) for line in capsys.readouterr().out.splitlines() if " of 20," in line]
    assert len(told) > 2
    assert told == sorted(told)
    assert told[-1] == 20_000_000

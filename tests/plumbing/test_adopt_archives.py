"""Archives with tricks, given to `make adopt`: read as the table that they hold, or refused in one sentence."""

import gzip
import zipfile
from pathlib import Path

import pytest

from plumbing.test_adopt import BEFORE, run

TABLE = "key,x,y\n" + "".join(f"{number},{number * 7 % 31},{number % 2}\n" for number in range(900))


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder in a folder, in which nothing else may appear."""
    folder = tmp_path / "outer" / "inner" / "desk"
    folder.mkdir(parents=True)
    (folder / "usecase.toml").write_text(BEFORE)
    return folder


def zipped(file: Path, *members: tuple[str | zipfile.ZipInfo, str]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file


def refused(desk: Path, file: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """What is said of a file that is refused, on one line; nothing is written or left."""
    before = {path for path in desk.parents[1].rglob("*") if path.is_file()}
    assert run(desk, file, "--label", "y", *options) in (1, 2)
    assert {path for path in desk.parents[1].rglob("*") if path.is_file()} == before
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


@pytest.mark.parametrize("name", ["/etc/outside.csv", "../../outside.csv", "C:\\outside.csv", "..\\outside.csv"])
def test_what_an_archive_calls_its_table_leads_nowhere(desk: Path, name: str) -> None:
    assert run(desk, zipped(desk / "table.zip", (name, TABLE)), "--label", "y") == 0
    assert not list(desk.parents[1].rglob("*outside*"))


def test_a_link_in_an_archive_is_not_followed(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    link = zipfile.ZipInfo("link.csv")
    link.external_attr = 0o120777 << 16
    said = refused(desk, zipped(desk / "table.zip", (link, "/etc/hostname")), capsys)
    assert "has no column 'y' (LABEL); known are /etc/hostname." in said


def test_names_in_an_archive_do_not_steer_the_terminal(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = zipped(desk / "table.zip", ("a\x1b[2J.csv", TABLE), ("b\u202e.csv", ""))
    said = "table.zip holds 2 files (a\\x1b[2J.csv, b\\u202e.csv); a table is one: unpack it yourself."
    assert said in refused(desk, file, capsys)


@pytest.mark.parametrize(("sign", "options"), [(b"a", ()), (b"\xff", ("--encoding", "windows-1252"))])
def test_a_line_that_would_fill_the_memory_is_refused(
    desk: Path, capsys: pytest.CaptureFixture[str], sign: bytes, options: tuple[str, ...]
) -> None:
    with gzip.open(desk / "table.csv.gz", "wb", compresslevel=1) as packed:
        packed.write(b"key,x,y\n")
        for _ in range(70):
            packed.write(sign * 2**20)
    said = refused(desk, desk / "table.csv.gz", capsys, *options)
    assert said == "error: table.csv.gz holds a line of more than 67,108,864 bytes; no row of a table has.\n"


def test_an_archive_of_very_many_files_is_refused(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = zipped(desk / "table.zip", *((f"{number}.csv", "") for number in range(20_000)))
    assert "table.zip holds 20,000 files (0.csv, " in refused(desk, file, capsys)


def test_an_archive_that_lies_about_its_size_is_damaged(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = zipped(desk / "table.zip", ("table.csv", TABLE))
    content = bytearray(file.read_bytes())
    at = content.index(b"PK\x01\x02") + 24  # of the directory: the size when unpacked
    content[at : at + 4] = (100).to_bytes(4, "little")
    file.write_bytes(content)
    assert "table.zip is truncated or damaged (Bad CRC-32" in refused(desk, file, capsys)


def test_an_archive_in_an_archive_is_no_table(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    inner = zipped(desk / "inner.zip", ("table.csv", TABLE))
    with zipfile.ZipFile(desk / "table.zip", "w") as archive:
        archive.write(inner, "inner.zip")
    assert "table.zip holds an archive again; unpack it yourself." in refused(desk, desk / "table.zip", capsys)

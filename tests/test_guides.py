"""The guides, followed: each page's commands and edits in their order, in a fresh repository."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import TEMPLATE, run_in

BLOCK = re.compile(r"(?ms)^```(sh|diff)\n(.*?)^```$")
FAILS = "   # fails"
PAGES = {"a table": ("your-table",), "a model": ("reports", "change-the-model")}  # in one repository each


def edit(folder: Path, diff: str) -> None:
    """A file's name, then lines as in a diff, without numbers: those that stand there must be there once."""
    head, *lines = diff.splitlines()
    file = folder / head.removeprefix("# ")
    before = "".join(f"{line[1:]}\n" for line in lines if line[:1] in " -")
    after = "".join(f"{line[1:]}\n" for line in lines if line[:1] in " +")
    text = file.read_text(encoding="utf-8")
    assert text.count(before) == 1, f"{file.name} has these lines {text.count(before)} times:\n{before}"
    file.write_text(text.replace(before, after), encoding="utf-8")


def follow(folder: Path, page: str) -> None:
    """Every block of a page; a line that says so fails, and says why in a sentence."""
    for kind, text in BLOCK.findall(page):
        if kind == "diff":
            edit(folder, text)
        elif FAILS in text:
            done = run_in(folder)("bash", "-euc", text, succeeds=False)
            assert "Traceback" not in done.stdout + done.stderr
        else:
            run_in(folder)("bash", "-euc", text)


@pytest.mark.parametrize("name", PAGES)
def test_a_guide_does_what_it_says(another: Callable[[str], Path], name: str) -> None:
    folder = another(name)
    run_in(folder)("make", "sample", "ROWS=4000")
    for page in PAGES[name]:
        follow(folder, (folder / "docs" / f"{page}.md").read_text(encoding="utf-8"))


def test_every_page_with_commands_to_follow_is_followed() -> None:
    pages = {file.stem for file in (TEMPLATE / "docs").glob("*.md") if BLOCK.search(file.read_text(encoding="utf-8"))}
    assert pages == {page for pages in PAGES.values() for page in pages}

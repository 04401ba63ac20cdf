"""The documentation: links lead somewhere, symptoms are what the code says, pictures are what their texts say."""

import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from conftest import ROOT, TEMPLATE

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *TEMPLATE.glob("*.md"), *TEMPLATE.glob("docs/*.md")]


def anchors(page: Path) -> set[str]:
    """What a page's headings are called in links to them."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = re.sub(r"(?ms)^```.*?^```|`[^`\n]*`", "", page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        place, _, part = link.partition("#")
        target = page.parent / place if place else page
        assert link.startswith("https://") or target.exists(), link
        assert not part or part in anchors(target), link


def test_every_symptom_of_the_runbook_is_a_message_of_the_code() -> None:
    files = [*TEMPLATE.glob("batchloop/**/*.py"), *TEMPLATE.glob("components/**/*.py"), TEMPLATE / "Makefile"]
    code = "".join(file.read_text(encoding="utf-8") for file in files)
    code = re.sub(r'"\s*\n\s*f?"', "", code)  # a sentence that goes on in the next line
    rows = re.findall(r"(?m)^\| (`.*?) \|", (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8"))
    assert len(rows) > 25
    symptoms = re.findall(r"`([^`]+)`", " ".join(rows))
    words = {part.strip() for symptom in symptoms for part in re.split(r"make train |DTA|_SUCCESS", symptom)}
    assert [each for each in words if each not in code] == []


def test_every_test_that_is_named_as_a_proof_is_there() -> None:
    """`file.py::test_it`; another of the same file in the same cell is `::test_it`."""
    files = [*(ROOT / "tests").rglob("*.py"), *(TEMPLATE / "tests").rglob("*.py")]
    known = {file: {file.name, *re.findall(r"def (test_\w+)", file.read_text(encoding="utf-8"))} for file in files}
    missing, found = [], 0
    for line in (ROOT / "docs" / "aws-proof.md").read_text(encoding="utf-8").splitlines():
        place = ""
        for own, name in re.findall(r"`([\w/]*test_\w+\.py)?(?:::)?(test_\w+)?(?=[`\[])", line):
            place, found = own or place, found + bool(name)
            here = [names for file, names in known.items() if not place or file.as_posix().endswith(f"/{place}")]
            missing += [f"{place} {name}"] if not any((name or Path(place).name) in names for names in here) else []
    assert found > 100
    assert missing == []


def test_every_page_is_in_the_site_once() -> None:
    named = re.findall(r'"([\w/-]+\.md)"', (ROOT / "zensical.toml").read_text(encoding="utf-8"))
    pages = [file.relative_to(ROOT / "docs").as_posix() for file in (ROOT / "docs").rglob("*.md")]
    pages += [f"guides/{file.name}" for file in TEMPLATE.glob("docs/*.md")]
    assert sorted(named) == sorted(pages)
    assert tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["theme"]["font"] is False


def test_the_pictures_are_what_their_texts_say() -> None:
    texts = list((ROOT / "docs" / "pictures").glob("*.txt"))
    assert len(texts) == 2
    drawn = runpy.run_path(str(ROOT / "docs" / "pictures" / "draw.py"))["drawn"]
    for file in texts:
        assert drawn(file.read_text(encoding="utf-8")) == file.with_suffix(".svg").read_text(encoding="utf-8")


def test_the_site_is_built_strictly_and_loads_nothing_from_elsewhere() -> None:
    tools = os.path.relpath(Path(sys.executable).parent, ROOT)  # the folder before it may have a space
    command = ["make", "--old-file=setup", "docs", f"BIN={tools}"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    pages = list((ROOT / "build" / "site").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="?https?://[^">]+', page.read_text("utf-8")), page

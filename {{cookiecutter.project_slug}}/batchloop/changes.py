"""`make changes`: what this working tree changes against another commit, as Markdown for whoever reviews it.

No account is asked and nothing here is changed: the other commit is unpacked into a temporary folder, compiled there,
and trained on the data that lie here.
"""

import difflib
import json
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from batchloop import cost, local
from batchloop import environment as environments
from batchloop import repository as here
from batchloop.container.job import InputError, plain
from batchloop.control.names import FINGERPRINT
from batchloop.engine import storage
from batchloop.pipelines import definitions
from batchloop.repository import COMPONENTS, Repository
from batchloop.updating import git, unpack

PLACES = ("EarlierData", FINGERPRINT, "ArtifactsPrefix", "ChampionPreprocessor", "ChampionModel", "GitCommit")
LONGEST = 300  # lines of a difference; a comment holds 65,536 characters
TOTALS = ("a training run", "a scoring run", "a month")


def show(repository: Repository, base: str) -> int:
    """Print it; the exit code. Raises InputError for a commit that is not there and for wrong settings of this tree."""
    commit = git("-C", repository.root, "merge-base", "--", "HEAD", base or "HEAD")
    with TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        before = _unpacked(repository, commit, Path(folder).resolve())
        parts = [*_images(before, repository), *_definitions(before, repository)]
        compared = _metrics(before, repository) if parts else ()
        parts += [*_cost(before, repository), *compared]
    said = [f"### What this changes, against {commit[:9]}", *parts]
    print("\n\n".join(said if parts else [*said, "No image, no pipeline and no cost."]))
    return 0


def _unpacked(repository: Repository, commit: str, folder: Path) -> Repository:
    """The tree of a commit in a folder of its own, with the data of this one."""
    packed, root = folder / "packed.tar", folder / "repository"
    git("-C", repository.root, "archive", "--format=tar", f"--output={packed}", f"{commit}:./")
    unpack(packed, root)
    for name in ("window", repository.window()):
        if (own := repository.root / "data" / name).exists() and not (root / "data" / name).exists():
            (root / "data" / name).symlink_to(own)
    return replace(repository, root=root, elsewhere=None)


def _images(before: Repository, after: Repository) -> Iterator[str]:
    locks, parts = dict[Repository, dict[str, str]](), {each: here.own(each, "parts") for each in (before, after)}
    for each in parts:
        with suppress(InputError):  # what is wrong with a file of settings is told below
            locks[each] = definitions.locks(each, definitions.read(each)[1])
    for name in COMPONENTS:
        old, new = (found[locks.get(each, {}).get(name, name)] for each, found in parts.items())
        if files := sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)):
            more = f" and {len(files) - 3} more" if len(files) > 3 else ""
            yield f"- image to build: **{name}** ({', '.join(map(_code, files[:3]))}{more})"


def _definitions(before: Repository, after: Repository) -> Iterator[str]:
    compiled = {name: definitions.definition(after, name) for name in definitions.NAMES}
    try:
        definitions.run_module(before, "batchloop", "compile", "--env", after.environment)  # by its own plumbing
    except InputError as error:
        yield f"Pipelines of {_code(after.environment)}: what was before does not compile: {_code(str(error))}"
        return
    for name, definition in compiled.items():
        old = _text(json.loads((before.compiled / f"{name}.json").read_text(encoding="utf-8")))
        new = _text(definition)
        if lines := list(difflib.unified_diff(old, new, "before", "after", lineterm="", n=2)):
            shown = lines[:LONGEST] + ([f"… and {len(lines) - LONGEST} more lines"] if len(lines) > LONGEST else [])
            fence = "`" * max([3, *(len(run) + 1 for run in re.findall("`+", "\n".join(shown)))])
            yield "\n".join([f"Pipeline **{name}** of {_code(after.environment)}:", f"{fence}diff", *shown, fence])


def _text(definition: Mapping[str, Any]) -> list[str]:
    return json.dumps(definition, indent=2, ensure_ascii=False, sort_keys=True).splitlines()


def _cost(before: Repository, after: Repository) -> Iterator[str]:
    """Both by the minutes that this one's jobs take."""
    new = cost.make(after, cost.Usage())
    minutes = {line.what: (line.minutes, line.origin) for line in new.lines if line.minutes is not None}
    try:
        old = cost.make(before, cost.Usage(), minutes)
    except InputError as error:
        yield f"Cost of {_code(after.environment)}: of what was before it is not known: {_code(str(error))}"
        return
    each = ((its.run("training"), its.run("inference"), its.month) for its in (old, new))
    rows = [(name, f"{one:,.3f}", f"{other:,.3f}") for name, one, other in zip(TOTALS, *each, strict=True)]
    if any(one != other for _, one, other in rows):
        yield _table(f"{_code(after.environment)}, {new.prices.currency}", rows)


def _metrics(before: Repository, after: Repository) -> Iterator[str]:
    """What both learn from the data that lie here."""
    release = storage.read_release(after.release)
    current = {name: here.component(after, name) for name in COMPONENTS}
    if not release or any(not release["images"][name].endswith(f":{tag}") for name, tag in current.items()):
        yield "Metrics: no released model here is of these sources; `make train` makes one to compare."
        return
    if other := _otherwise(after, release):
        which = ", ".join(map(_code, other))
        yield f"Metrics: the released model was trained with other {which} than `make train` takes alone."
    file = before.root / "environments" / f"{after.environment}.toml"
    if file.is_file():
        file.write_text(environments.untracked(file.read_text(encoding="utf-8")), encoding="utf-8")
    command = [sys.executable, "-m", "batchloop", "train", "--env", after.environment]
    done = here.ran(command, before.root)
    old: dict[str, Any] = (storage.read_release(before.release) or {}).get("metrics", {})
    if not old:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        yield f"Metrics: what was before releases no model of these data: {_code(' '.join(said))}"
    names = [name for name in release["metrics"] if name.startswith("test:")]
    rows = [(name[5:], _number(old.get(name)), _number(release["metrics"][name])) for name in names]
    yield _table(f"test rows of {_code(after.window())}", rows)


def _otherwise(after: Repository, release: Mapping[str, Any]) -> list[str]:
    """What the released model's run was given, or the data, other than `make train` alone would have it now."""
    given, folders = local.given(after, release), {"TrainingData": "train", "ValidationData": "validation"}
    alone = {name: value for name, value in given.items() if name in PLACES or name.endswith("Image")}
    alone |= {name: definitions.folder(after.data(part)) for name, part in folders.items()}
    if not given:
        return []
    with suppress(InputError):  # the data are gone
        alone[FINGERPRINT] = local.fingerprint(after, alone)
    expected = definitions.values(definitions.definition(after, "training"), alone, ())
    return [name for name, value in expected.items() if given.get(name) != value]


def _code(name: str) -> str:
    """A name in backticks, of which nothing is Markdown."""
    return f"`{' '.join(plain(name).replace('`', chr(39)).split())}`"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _table(title: str, rows: list[tuple[str, str, str]]) -> str:
    head = [f"| {title.replace('|', chr(92) + '|')} | before | after |", "|---|---:|---:|"]
    return "\n".join([*head, *(f"| {name} | {old} | {new} |" for name, old, new in rows)])

"""`make update` fetches a newer version of the template, which merges itself in; `make doctor` says what wants care.

How a version comes into a repository is the template's own (its hooks/update.py): it knows what has changed since.
Neither needs more than the standard library, so that `make doctor` works before anything is installed.
"""

import json
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from batchloop import environment
from batchloop import repository as here
from batchloop.container import usecase
from batchloop.container.job import InputError
from batchloop.repository import Repository

RECORD = ".template.json"
ENVIRONMENTS = {"development": ".venv", "components": ".venv-components"}  # lock → folder
TOOLS = {  # and what needs them
    "git": "nothing can be updated, and a release names no commit",
    "make": "there are no commands",
    "docker": "only ON=docker, make images, contract and push need it",
}


def record(repository: Repository) -> dict[str, Any]:
    """What the template wrote of itself when it rendered this repository, or was merged into it."""
    try:
        found = json.loads((repository.root / RECORD).read_text(encoding="utf-8"))
        return {key: found[key] for key in ("template", "version", "commit", "batchloop")}
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{RECORD} is missing or damaged, so the template and its version are not known: bring it back from git, "
            "or call hooks/update.py of a clone of the template here."
        ) from None


def git(*words: object) -> str:
    """What git says. Raises InputError with its own words; it asks for no password."""
    try:
        done = here.ran(["git", *map(str, words)], more={"GIT_TERMINAL_PROMPT": "0"}, timeout=300)
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        raise InputError(f"git can't be run or gave no answer: {error}") from None
    if done.returncode != 0:
        raise InputError(f"git: {done.stderr.strip()}")
    return done.stdout.strip()


def unpack(archive: Path, folder: Path) -> None:
    """What git has packed. Raises InputError for a link, or a name, that leads out of it."""
    try:
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
    except tarfile.FilterError as error:
        name = error.tarinfo.name
        raise InputError(f"git knows {name}, which leads out of this folder: make it a file, and commit.") from None


def releases(place: str) -> list[tuple[int, ...]]:
    """The versions that the template has a tag for, the newest last."""
    tags = re.findall(r"refs/tags/v(\d+)\.(\d+)\.(\d+)$", git("ls-remote", "--tags", "--", place), re.MULTILINE)
    return sorted(tuple(map(int, tag)) for tag in tags)


def tag(version: tuple[int, ...]) -> str:
    return "v" + ".".join(map(str, version))


def update(repository: Repository, to: str) -> int:
    """Fetch a version: the newest release, or what `to` names, a version or another folder or URL of the template."""
    place = str(record(repository)["template"])
    if Path(to).is_dir() and to:
        place, to = str(Path(to).resolve()), "HEAD"
    elif re.match(r"[\w+.-]+(://|@)", to):
        place, to = to, ""
    tags = [tag(version) for version in releases(place)]
    wanted = to or (tags[-1] if tags else "HEAD")
    with TemporaryDirectory() as folder:
        clone = Path(folder) / "template"
        git("clone", "--quiet", "--no-checkout", "--", place, clone)
        git("-C", clone, "checkout", "--quiet", "--detach", _commit(clone, wanted, place))
        if not (merging := clone / "hooks" / "update.py").is_file():
            raise InputError(f"{wanted} of {place} can't update a repository yet; name a newer version with TO=.")
        command = [sys.executable, "-B", str(merging), "--template", place]
        return subprocess.run(command, cwd=repository.root, check=False).returncode  # noqa: S603 - the template


def _commit(clone: Path, wanted: str, place: str) -> str:
    """The commit that a version, a branch or a commit's own name means. Raises InputError."""
    for name in (f"refs/tags/v{wanted}", f"refs/remotes/origin/{wanted}", wanted):
        with suppress(InputError):
            return git("-C", clone, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    raise InputError(f"{place} has no version, branch or commit {wanted!r}, and no folder here is called so.")


def doctor(repository: Repository) -> int:
    """Print a line for each thing that was looked at; 1 where something has to be mended."""
    found = [*_template(repository), *_machine(repository), *_settings(repository)]
    for mark, what, said in found:
        print(f"{mark:<5}{what:<17}{said}")
    return int(any(mark == "mend" for mark, _, _ in found))


def _template(repository: Repository) -> Iterator[tuple[str, str, str]]:
    """Whether a newer version is out, and whether the plumbing was edited."""
    try:
        about = record(repository)
    except InputError as error:
        yield "mend", "template", str(error)
        return
    what = f"version {about['version']} ({about['commit'][:9] or 'no commit'}) of {about['template']}"
    try:
        own = tuple(map(int, re.findall(r"\d+", str(about["version"]))))
        newer = [version for version in releases(about["template"]) if version > own]
        mark, more = ("look", f"; {tag(newer[-1])} is out: make update") if newer else ("ok", "")
        yield mark, "template", what + more
    except InputError as error:
        yield "look", "template", f"{what}; whether a newer one is out is not known: {error}"
    plumbing = repository.root / "batchloop"
    if here.of(here.files(repository.root, [plumbing])) == about["batchloop"]:
        yield "ok", "batchloop/", "as it was rendered"
        return
    since = git("-C", repository.root, "log", "-1", "--format=%H", "--", RECORD)
    names = git("-C", repository.root, "diff", "--name-only", "--relative", since or "HEAD", "--", "batchloop")
    edited = ", ".join(names.split()) or "some file"
    yield "look", "batchloop/", f"edited: {edited}; the next update replaces it: keep own work in ★ files"


def _machine(repository: Repository) -> Iterator[tuple[str, str, str]]:
    yield "ok", "python", sys.version.split()[0]
    for tool, without in TOOLS.items():
        place = shutil.which(tool)
        yield "ok" if place else "look", tool, place or f"is not here: {without}"
    for lock, name in ENVIRONMENTS.items():
        installed, locked = repository.root / name / "installed", repository.root / "locks" / f"{lock}.txt"
        same = installed.is_file() and installed.read_bytes() == locked.read_bytes()
        said = f"holds what locks/{lock}.txt says" if same else f"is not what locks/{lock}.txt says: make install"
        yield "ok" if same else "look", name, said


def _settings(repository: Repository) -> Iterator[tuple[str, str, str]]:
    try:
        case = usecase.load(repository.root / "usecase.toml")
        for file in sorted(repository.root.glob("environments/*.toml")):
            environment.load(file.parent, file.stem, case)
        yield "ok", "settings", "usecase.toml and environments/ are in order"
    except InputError as error:
        yield "mend", "settings", str(error).replace("\n", " ")

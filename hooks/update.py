"""Merge this version of the template into the repository in the current folder; `make update` there ends here.

Both versions, the one that the repository has and this one, are rendered with its answers; git merges the difference
into what lies there, so conflicts are git's own. Nothing is committed, and no account is asked. In a repository without
a record, rendered before there was one, call it from a clone of the template, by a Python that has cookiecutter:
`python path/to/template/hooks/update.py [--from commit]`.
"""

import argparse
import filecmp
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hooks.answers import public, source  # noqa: E402 - this file is started as a script

RECORD, CRUFT, COPIER = ".template.json", ".cruft.json", ".copier-answers.yml"
PLUMBING = "batchloop"
RENDERED = "{" + "{cookiecutter.project_slug}" + "}"
NOBODY = {
    f"GIT_{role}_{part}": value
    for role in ("AUTHOR", "COMMITTER")
    for part, value in (("NAME", "template"), ("EMAIL", "nobody@localhost"))
}


class Problem(Exception):
    """What keeps an update from being made, and what to do."""


def git(*words: object, cwd: Path, given: str = "", **environment: str) -> str:
    """What a git command says. Raises Problem, with git's own words, where it fails."""
    command, own = ["git", *map(str, words)], os.environ | environment
    try:
        done = subprocess.run(command, cwd=cwd, input=given, env=own, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Problem("git is not installed, and an update is its merge.") from None
    if done.returncode != 0:
        raise Problem(f"git {words[0]} failed: {done.stderr.strip()}")
    return done.stdout.strip()


def known(source: Path, name: str) -> str:
    """The full name of a commit, or nothing where the template does not have it."""
    try:
        return git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", cwd=source) if name else ""
    except Problem:
        return ""


@dataclass(frozen=True)
class Version:
    """A version of the template and the answers that it is rendered with; `answers` of a newer one may lack some."""

    template: str
    version: str
    commit: str
    answers: Mapping[str, str]


def recorded(repository: Path) -> Version:
    """What the repository was rendered from: as recorded, else as cruft says, else the answers that its files hold."""
    if (file := repository / RECORD).is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        return Version(*(found[key] for key in ("template", "version", "commit", "answers")))
    if (file := repository / CRUFT).is_file():
        found = json.loads(file.read_text(encoding="utf-8"))
        given = found["context"]["cookiecutter"].items()
        return Version(found["template"], "", found["commit"], {k: v for k, v in given if not k.startswith("_")})
    case, dev = (
        tomllib.loads((repository / name).read_text(encoding="utf-8"))
        for name in ("usecase.toml", "environments/dev.toml")
    )
    names = {"project_name": "title", "project_slug": "name", "description": "description", "namespace": "namespace"}
    return Version("", "", "", {k: case["usecase"][v] for k, v in names.items()} | {"aws_region": dev["region"]})


def base(source: Path, old: Version, repository: Path) -> str:
    """The commit that the repository was rendered from. Raises Problem where the template's history lacks it."""
    if old.template and not known(source, old.commit):
        fetch = ["git", "fetch", "--quiet", "--tags", old.template]
        subprocess.run(fetch, cwd=source, capture_output=True, check=False)
    for name in (old.commit, old.version and f"v{old.version}", alike(source, repository)):
        if commit := known(source, name):
            return commit
    raise Problem(
        f"the version that this repository was rendered from ({old.version or 'not recorded'}, commit "
        f"{old.commit[:9] or 'not recorded'}, {old.template or 'of an unknown place'}) is not to be found. Name a "
        "clone of the template that has it, `make update TO=folder or URL`; or the commit that comes nearest, "
        "`python path/to/template/hooks/update.py --from commit`."
    )


def alike(source: Path, repository: Path) -> str:
    """The oldest commit with the plumbing that the repository has, or began with: it is copied as it stands."""
    first = git("rev-list", "--max-parents=0", "HEAD", cwd=repository).split()[-1]
    own = {plumbing(repository, "HEAD"), plumbing(repository, first)} - {""}
    commits = git("rev-list", "--reverse", "HEAD", cwd=source).split()
    asked = "".join(f"{commit}:{RENDERED}/{PLUMBING}\n" for commit in commits)
    trees = git("cat-file", "--batch-check", cwd=source, given=asked).splitlines()
    return next((commit for commit, tree in zip(commits, trees, strict=True) if tree.split()[0] in own), "")


def plumbing(repository: Path, commit: str) -> str:
    """git's name of the plumbing's content in a commit."""
    try:
        return git("rev-parse", "--verify", "--quiet", f"{commit}:./{PLUMBING}", cwd=repository)
    except Problem:
        return ""


def rendered(source: Path, version: Version, folder: Path) -> Path:
    """A version, rendered below a temporary folder, where its hooks touch nothing else."""
    folder.mkdir()
    template, settings = folder / "template", folder / "cookiecutter.yaml"
    git("worktree", "add", "--quiet", "--detach", template, version.commit, cwd=source)
    settings.write_text(json.dumps({"replay_dir": str(folder), "cookiecutters_dir": str(folder)}), encoding="utf-8")
    answers = [f"{key}={value}" for key, value in {**version.answers, "aws_resources": "skip"}.items()]
    command = [sys.executable, "-B", "-m", "cookiecutter", str(template), "--no-input", "--config-file", str(settings)]
    done = subprocess.run(
        [*command, "--output-dir", str(folder / "out"), *answers],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise Problem(
            f"{version.commit[:9]} of the template could not be rendered: {(done.stderr or done.stdout).strip()}"
        )
    [project] = (folder / "out").iterdir()
    shutil.rmtree(project / ".git", ignore_errors=True)
    return project


def files(folder: Path) -> dict[str, Path]:
    """Relative name → file, of all below a folder but caches."""
    found = (file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {file.relative_to(folder).as_posix(): file for file in found}


def differing(one: Path, other: Path) -> list[str]:
    """Names of files that are not the same in two folders."""
    left, right = files(one), files(other)
    both = left.keys() & right.keys()
    changed = {name for name in both if not filecmp.cmp(left[name], right[name], shallow=False)}
    return sorted(left.keys() ^ right.keys() | changed)


def put(source: Path, target: Path) -> None:
    """Make a file or folder the same as another, which may be missing."""
    if target.is_dir():
        shutil.rmtree(target)
    target.unlink(missing_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    elif source.is_file():
        shutil.copy(source, target)


def taken_over(repository: Path, old: Path, new: Path) -> list[str]:
    """Make `old` hold what lies in the repository wherever the new version replaces it, unmerged; what to say of it."""
    said = []
    if edited := differing(repository / PLUMBING, old / PLUMBING):
        names = ", ".join(f"{PLUMBING}/{name}" for name in edited)
        said.append(f"{PLUMBING}/ is replaced as a whole, also where it was edited (git has it): {names}")
    for name in (PLUMBING, RECORD, CRUFT, COPIER):
        put(repository / name, old / name)
    locks = [name for name in differing(old / "locks", new / "locks") if (repository / "locks" / name).is_file()]
    if set(locks) & set(differing(repository / "locks", old / "locks")):
        said.append("locks/ are the new version's: `make lock` adds the dependencies that pyproject.toml has beside")
        for name in locks:
            put(repository / "locks" / name, old / "locks" / name)
    return said


def signed(repository: Path, source: Path, new: Path, old: Version, to: Version) -> Mapping[str, str]:
    """Write what the repository is rendered from now, for cruft and copier too; the answers of the new version."""
    record = json.loads((new / RECORD).read_text(encoding="utf-8")) | {
        "template": public(to.template),
        "commit": to.commit,
    }
    (new / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    described = git("describe", "--tags", "--always", to.commit, cwd=source)
    for name, was, now in (
        (CRUFT, re.escape(old.commit), to.commit),
        (COPIER, r"(?m)^_commit: .*$", f"_commit: {described}"),
    ):
        if (file := repository / name).is_file():
            (new / name).write_text(re.sub(was, now, file.read_text(encoding="utf-8")), encoding="utf-8")
    return dict(record["answers"])


def tree(repository: Path, folder: Path, index: Path) -> str:
    """git's name of a rendered folder in the place of this one: the repository may hold other projects."""
    own = {"GIT_INDEX_FILE": str(index)}
    directory = git("rev-parse", "--absolute-git-dir", cwd=repository)
    git("add", "--all", "--force", ".", cwd=folder, GIT_DIR=directory, GIT_WORK_TREE=str(folder), **own)
    name = git("write-tree", cwd=repository, **own)
    if prefix := git("rev-parse", "--show-prefix", cwd=repository):
        top = Path(git("rev-parse", "--show-toplevel", cwd=repository))
        git("read-tree", "HEAD", cwd=top, **own)
        git("rm", "-r", "--quiet", "--cached", "--", prefix, cwd=top, **own)
        git("read-tree", f"--prefix={prefix}", name, cwd=top, **own)
        name = git("write-tree", cwd=top, **own)
    index.unlink()
    return name


def merged(repository: Path, old: Path, new: Path, about: str) -> list[str]:
    """Let git merge the difference between two renderings into the repository; the files with conflicts."""
    index = old.parent / "index"
    base = git("commit-tree", "-m", "before", tree(repository, old, index), cwd=repository, **NOBODY)
    with_new = git("commit-tree", "-p", base, "-m", about, tree(repository, new, index), cwd=repository, **NOBODY)
    try:
        git("cherry-pick", "--no-commit", with_new, cwd=repository)
    except Problem:
        if conflicts := git("diff", "--name-only", "--relative", "--diff-filter=U", cwd=repository).splitlines():
            return sorted(set(conflicts))
        raise
    return []


def conflict(repository: Path, name: str) -> str:
    """How a conflict is to be resolved: git marks no file that one side took away and the other changed."""
    sides = {line.split()[2] for line in git("ls-files", "--unmerged", "--", name, cwd=repository).splitlines()}
    if sides == {"1", "2", "3"} or "1" not in sides:
        return f"a conflict, marked in the file: {name}"
    one, other = ("here", "the template") if "2" not in sides else ("by the template", "this repository")
    return f"a conflict: {name} was taken away {one}, and {other} changed it; git rm or git add it"


def to_do(changes: str, version: str) -> str:
    """What the change log asks of whoever updates, in every version after one."""
    newer = re.split(rf"(?m)^## {re.escape(version)}\b", changes)[0] if version else changes
    return "\n".join(part.strip() for part in re.findall(r"(?ms)^### When you update\n(.*?)(?=^##|\Z)", newer))


def update(repository: Path, old: Version, to: Version, work: Path) -> Iterable[str]:
    """Bring `to` in; what to say, line by line."""
    source = work / "source"
    git("clone", "--quiet", "--no-checkout", ROOT, source, cwd=work)
    missed, old = old.commit, replace(old, commit=base(source, old, repository))
    if to.commit == old.commit:
        return [f"Nothing to do: this repository is of {to.commit[:9]} already."]
    if known(source, to.commit) in git("rev-list", old.commit, cwd=source).split():
        raise Problem(
            f"{to.commit[:9]} is older than {old.commit[:9]}, which this repository is of. To go back, revert the "
            "commit in which it was updated."
        )
    before, after = (rendered(source, version, work / name) for name, version in (("old", old), ("new", to)))
    said = taken_over(repository, before, after)
    if missed and known(source, missed) != old.commit:
        said.insert(0, f"{missed[:9]}, which is recorded, is not to be found: {old.commit[:9]} was taken for it")
    answers = signed(repository, source, after, old, to)
    new_ones = {key: value for key, value in answers.items() if key not in old.answers}
    said += [f"a new question, {key}: its default was taken, {value!r}" for key, value in new_ones.items()]
    conflicts = merged(repository, before, after, f"{to.commit[:9]} of the template")
    said += [conflict(repository, name) for name in conflicts]
    asked = to_do(git("show", f"{to.commit}:CHANGELOG.md", cwd=source), old.version)
    return [
        f"{to.commit[:9]} of the template is merged in, after {old.commit[:9]}; nothing is committed.",
        *(f"- {line}" for line in said),
        *(["", "What this update asks of you:", asked] if asked else []),
        "",
        "Look:  git diff --cached    Try:   make install check test train",
        "Keep:  git add --all && git commit    Undo:  git reset --hard",
    ]


def checked(repository: Path) -> None:
    """Refuse what git could not take back."""
    if not (repository / "usecase.toml").is_file():
        raise Problem("usecase.toml is missing; run from the folder that holds it.")
    try:
        git("rev-parse", "--verify", "--quiet", "HEAD", cwd=repository)
    except Problem:
        raise Problem(
            "an update needs git and a commit to go back to: git init && git add --all && git commit"
        ) from None
    if changed := git("status", "--porcelain", cwd=repository):
        raise Problem(f"commit or stash your changes first, so that git can take the update back:\n{changed}")


def main() -> int:
    """The exit code; conflicts are no failure."""
    parser = argparse.ArgumentParser(prog="update.py", description="Merge this version of the template in.")
    place = json.loads(source({"_version": ""}))["template"]
    parser.add_argument("--template", default=place, help="what the record gets as its place")
    parser.add_argument(
        "--from", dest="commit", help="the commit of the template that this repository was rendered from"
    )
    given, repository = parser.parse_args(), Path.cwd()
    try:
        checked(repository)
        try:
            old = recorded(repository)
        except (KeyError, ValueError) as error:
            raise Problem(f"what this repository was rendered from can't be read of its files: {error}") from None
        old = replace(old, commit=given.commit) if given.commit else old
        to = Version(given.template, "", git("rev-parse", "HEAD", cwd=ROOT), old.answers)
        with tempfile.TemporaryDirectory() as work:
            print("\n".join(update(repository, old, to, Path(work).resolve())))
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "stopped; `git status` shows whether anything was merged, `git reset --hard` takes it back.",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""A newer version of the template comes into a repository that was worked in, and nothing of that work is lost.

From an older version to a newer one that changes something in every file that its owner edits, for each tool that
renders; and from the last release, or the last state that kept no record, to what lies here.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from conftest import ROOT, commit, run_in

BIN = Path(sys.executable).parent
STARRED = [
    "components/processing/features.py",
    "components/algorithm/model.py",
    "components/monitoring/drift.py",
    "components/explainability/attributions.py",
    "tests/test_features.py",
    "tests/test_model.py",
    "tests/test_drift.py",
    "tests/test_attributions.py",
]
NAME = """O'Brien's "best" \\ churn"""
ANSWERS = {"project_name": NAME, "project_slug": "best", "namespace": "team", "aws_resources": "skip"}
THEIRS, OURS = "# of the newer template", "OWN = 1  # of its owner"
PLACE = "{{cookiecutter.project_slug}}"


def change(file: Path, old: str, new: str) -> None:
    """Replace the first occurrence, which has to be there."""
    text = file.read_text(encoding="utf-8")
    assert old in text, f"{file}: {old}"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def copied(folder: Path) -> Path:
    """What git knows or would add of this template, as it lies here."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z", "--", "hooks", "*.json", "*.yml", "*.md", PLACE]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in names:
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository with two releases of the template: 0.0.1, and 0.0.2 that changes what an owner edits too."""
    folder = copied(tmp_path_factory.mktemp("template"))
    git, version = run_in(folder), re.compile(r'"_version": "[\d.]+"')
    settings, rendered = folder / "cookiecutter.json", folder / PLACE

    def release(name: str) -> None:
        settings.write_text(
            version.sub(f'"_version": "{name}"', settings.read_text(encoding="utf-8")), encoding="utf-8"
        )
        commit(folder)
        git("git", "tag", f"v{name}")

    git("git", "init", "--quiet", "--initial-branch=main")
    release("0.0.1")
    change(settings, '"aws_resources": [', '"cost_center": "none",\n  "aws_resources": [')
    change(folder / "copier.yml", "aws_resources:\n", "cost_center:\n  type: str\n  default: none\naws_resources:\n")
    for name in STARRED:
        change(rendered / name, "\nimport ", f"\n{THEIRS}\nimport ")
    change(rendered / "usecase.toml", "[usecase]", f"{THEIRS}\n[usecase]")
    change(rendered / "README.md", "## Five commands", "## A few commands")
    change(rendered / "locks" / "development.txt", "boto3==", "boto3==0.")
    change(rendered / "batchloop" / "cost.py", "\nimport ", f"\n{THEIRS}\nimport ")
    (rendered / "batchloop" / "README.md").rename(rendered / "batchloop" / "ROOMS.md")
    change(
        folder / "CHANGELOG.md",
        "# Changelog\n",
        "# Changelog\n\n## 0.0.2\n- More.\n\n### When you update\n- Sing.\n\n## 0.0.1\n",
    )
    release("0.0.2")
    return folder


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A user without a configuration, whose copier may run what the template asks for."""
    config = "[user]\nname = owner\nemail = owner@example.com\n[init]\ndefaultBranch = main\n"
    (tmp_path / "gitconfig").write_text(config, encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")


def settings(folder: Path = ROOT) -> dict[str, object]:
    return dict(json.loads((folder / "cookiecutter.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of this template with what lies here as its newest commit, and a tag of its version."""
    folder = tmp_path_factory.mktemp("here") / "template"
    run_in(ROOT)("git", "clone", "--quiet", str(ROOT), str(folder))
    copied(folder)
    git = run_in(folder)
    git("git", "add", "--all")
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    git("git", *identity, "commit", "--quiet", "--allow-empty", "--message", "what lies here")
    if not git("git", "tag", "--list", f"v{settings()['_version']}").stdout:
        git("git", "tag", f"v{settings()['_version']}")
    return folder


def before(folder: Path) -> str:
    """The commit of the release before; before there was one, of the last state that kept no record."""
    git = run_in(folder)
    tags = git("git", "tag", "--list", "v[0-9]*", "--merged", "HEAD~1", "--sort=-version:refname").stdout.split()
    added = git("git", "log", "--diff-filter=A", "--format=%H", "--", "hooks/update.py").stdout.split()
    if not tags and len(added) != 1:
        pytest.skip("a clone without history has no version before")
    return tags[0] if tags else f"{added[0]}~1"


def by_cookiecutter(template: Path, folder: Path, version: str) -> None:
    answers = [f"{key}={value}" for key, value in ANSWERS.items()]
    run_in(folder)("cookiecutter", f"git+file://{template}", "--no-input", "--checkout", version, *answers)


def by_cruft(template: Path, folder: Path, version: str) -> None:
    answers = ("--extra-context", json.dumps(ANSWERS))
    run_in(folder)("cruft", "create", str(template), "--no-input", "--checkout", version, *answers)


def by_copier(template: Path, folder: Path, version: str) -> None:
    answers = [word for key, value in ANSWERS.items() for word in ("--data", f"{key}={value}")]
    run_in(folder)("copier", "copy", "--trust", "--defaults", "--vcs-ref", version, *answers, str(template), "best")


def make_update(repository: Path) -> str:
    """`make update`, with the tests' environment in the place of what `make install` makes."""
    for lock, name in (("development", ".venv"), ("components", ".venv-components")):
        (repository / name / "bin").mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / "locks" / f"{lock}.txt", repository / name / "installed")
    python = repository / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    return run_in(repository)("make", "update").stdout


def cruft_update(repository: Path) -> str:
    return run_in(repository)("cruft", "update", "--skip-apply-ask").stdout


def copier_update(repository: Path) -> str:
    return run_in(repository)("copier", "update", "--trust", "--defaults").stdout


def worked_in(repository: Path) -> None:
    """Everything that an owner does: a table adopted, every ★ file edited, files and a dependency added."""
    run = run_in(repository)
    rows = [f"{number},{number % 7},{'ab'[number % 2]},{int(number % 7 > 3)}" for number in range(900)]
    (repository / "local").mkdir(exist_ok=True)
    (repository / "local" / "table.csv").write_text("\n".join(["key,size,kind,late", *rows, ""]), encoding="utf-8")
    run(sys.executable, "-m", "batchloop", "adopt", "--data", "local/table.csv", "--label", "late")
    for name in STARRED:
        with (repository / name).open("a", encoding="utf-8") as file:
            file.write(f"\n\n{OURS}\n")
    change(repository / "usecase.toml", "[gate]", "# the owner's\n[gate]")
    change(repository / "pyproject.toml", "\n]\n", '\n    "holidays>=0.80",\n]\n')
    change(repository / "Makefile", "clean: ##", "mine: ## the owner's\n\t@echo mine\n\nclean: ##")
    (repository / "buildspec.yml").unlink()
    (repository / "components" / "processing" / "calendar.py").write_text('"""The owner\'s."""\n', encoding="utf-8")
    commit(repository)


def holds(repository: Path) -> None:
    """All of the owner's work and all of the newer version; nothing marked, nothing refused, and the checks pass."""
    for name in STARRED:
        text = (repository / name).read_text(encoding="utf-8")
        assert THEIRS in text, name
        assert OURS in text, name
    usecase = (repository / "usecase.toml").read_text(encoding="utf-8")
    for part in (THEIRS, "the owner's", "kind = { type", 'label = "late"', "O'Brien"):
        assert part in usecase
    assert "holidays" in (repository / "pyproject.toml").read_text(encoding="utf-8")
    assert "@echo mine" in (repository / "Makefile").read_text(encoding="utf-8")
    assert (repository / "components" / "processing" / "calendar.py").is_file()
    assert not (repository / "buildspec.yml").exists()
    assert THEIRS in (repository / "batchloop" / "cost.py").read_text(encoding="utf-8")
    assert (repository / "batchloop" / "ROOMS.md").is_file()
    assert not (repository / "batchloop" / "README.md").exists()
    assert not list(repository.rglob("*.rej"))
    record = json.loads((repository / ".template.json").read_text(encoding="utf-8"))
    assert record["version"] == "0.0.2"
    assert "aws_resources" not in record["answers"]
    expected = {name: ANSWERS[name] for name in ANSWERS if name != "aws_resources"} | {"cost_center": "none"}
    assert {name: record["answers"][name] for name in expected} == expected
    passes(repository, "0.0.2")


def passes(repository: Path, version: str) -> None:
    """The checks that need no environment."""
    run = run_in(repository)
    run("ruff", "check", ".")
    run("ruff", "format", "--check", ".")
    run(sys.executable, "-m", "compileall", "-q", "batchloop", "components", "pipelines", "tests")
    said = run(sys.executable, "-m", "batchloop", "doctor").stdout
    assert re.search(rf"(?m)^ok +template +version {re.escape(version)} ", said)
    assert re.search(r"(?m)^ok +batchloop/ ", said)
    assert re.search(r"(?m)^ok +settings ", said)


TOOLS = {
    "cookiecutter": (by_cookiecutter, make_update),
    "cruft": (by_cruft, cruft_update),
    "copier": (by_copier, copier_update),
    "cruft, updated by make": (by_cruft, make_update),
    "copier, updated by make": (by_copier, make_update),
}


@pytest.mark.parametrize("tool", TOOLS)
def test_no_edit_is_lost_and_conflicts_are_git_s(template: Path, tmp_path: Path, tool: str) -> None:
    rendered, updated = TOOLS[tool]
    rendered(template, tmp_path, "v0.0.1")
    repository = tmp_path / "best"
    status = run_in(repository)("git", "status", "--porcelain").stdout.splitlines()
    assert status == (["?? .cruft.json"] if rendered is by_cruft else [])
    worked_in(repository)
    change(repository / "README.md", "## Five commands", "## Our commands")
    commit(repository)
    said = updated(repository)
    status = run_in(repository)("git", "status", "--porcelain").stdout.splitlines()
    assert [line for line in status if line[:2] in ("UU", "AA", "DU", "UD")] == ["UU README.md"]
    readme = (repository / "README.md").read_text(encoding="utf-8")
    assert re.search(r"(?s)<<<<<<< .*## Our commands.*=======.*## A few commands.*>>>>>>> ", readme)
    holds(repository)
    if updated is make_update:
        assert "README.md" in said
        assert "cost_center: its default was taken, 'none'" in said
        assert "Sing." in said
    newest = run_in(template)("git", "rev-parse", "HEAD").stdout.strip()
    assert json.loads((repository / ".template.json").read_text(encoding="utf-8"))["commit"] == newest
    if (cruft := repository / ".cruft.json").is_file():
        assert json.loads(cruft.read_text(encoding="utf-8"))["commit"] == newest
    if (copier := repository / ".copier-answers.yml").is_file():
        assert "_commit: v0.0.2\n" in copier.read_text(encoding="utf-8")


def test_the_version_before_comes_up_to_this_one(here: Path, tmp_path: Path) -> None:
    """By plain cookiecutter, also from the state that kept no record: there its plumbing tells which one it was."""
    by_cookiecutter(here, tmp_path, before(here))
    repository = tmp_path / "best"
    if run_in(repository)("git", "status", "--porcelain").stdout:  # of a version that did not commit
        commit(repository)
    worked_in(repository)
    run = run_in(repository)
    said = run(sys.executable, "-B", str(here / "hooks" / "update.py")).stdout
    assert "nothing is committed" in said
    for name in STARRED:
        assert OURS in (repository / name).read_text(encoding="utf-8"), name
    assert "holidays" in (repository / "pyproject.toml").read_text(encoding="utf-8")
    assert 'label = "late"' in (repository / "usecase.toml").read_text(encoding="utf-8")
    assert not differing(here, repository)
    conflicts = run("git", "diff", "--name-only", "--diff-filter=U").stdout.splitlines()
    for name in conflicts:  # where the two versions happen to differ beside an edit
        if name == "buildspec.yml":  # worked_in took it away
            assert "a conflict: buildspec.yml was taken away here, and the template changed it" in said
        else:
            assert f"a conflict, marked in the file: {name}" in said
            assert "\n<<<<<<< " in (repository / name).read_text(encoding="utf-8")
    if not conflicts:
        passes(repository, str(settings()["_version"]))


def differing(template: Path, repository: Path) -> list[str]:
    """Files of the plumbing that are not the template's."""
    listed = run_in(template)("git", "ls-files", f"{PLACE}/batchloop").stdout.splitlines()
    names = [name.removeprefix(f"{PLACE}/") for name in listed]
    there = [f for f in (repository / "batchloop").rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    assert sorted(names) == sorted(file.relative_to(repository).as_posix() for file in there)
    return [name for name in names if (repository / name).read_bytes() != (template / PLACE / name).read_bytes()]


def test_a_release_is_rendered_from_its_tag(here: Path, tmp_path: Path) -> None:
    """As from a server, by a plain cookiecutter: it knows the version that the change log describes, and trains."""
    version, bare = settings()["_version"], tmp_path / "template.git"
    run_in(tmp_path)("git", "clone", "--quiet", "--bare", str(here), str(bare))
    by_cookiecutter(bare, tmp_path, f"v{version}")
    repository = tmp_path / "best"
    record = json.loads((repository / ".template.json").read_text(encoding="utf-8"))
    assert record["version"] == version
    assert record["commit"] == run_in(bare)("git", "rev-parse", f"v{version}^{{commit}}").stdout.strip()
    assert record["template"] == f"file://{bare}"
    passes(repository, str(version))
    trained = run_in(repository)(
        "env", f"COMPONENTS_PYTHON={sys.executable}", sys.executable, "-m", "batchloop", "train"
    )
    assert "registered and released as version 1" in trained.stdout
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"(?m)^## ([\d.]+)", changes)[0] == version
    assert re.search(rf"(?ms)^## {re.escape(str(version))}$.*?^### When you update$", changes)


def test_the_tools_ask_the_same_questions() -> None:
    """copier.yml stays as thin as it is: the same names, defaults and choices, and nothing private in a file."""
    asked = {name: default for name, default in settings().items() if not name.startswith("_")}
    copier = yaml.safe_load((ROOT / "copier.yml").read_text(encoding="utf-8"))
    questions = {name: about for name, about in copier.items() if not name.startswith("_")}
    assert list(questions) == list(asked)
    for name, default in asked.items():
        if isinstance(default, list):
            assert list(questions[name]["choices"].values()) == default
            assert questions[name]["default"] == default[0]
        elif "{{" not in str(default):
            assert questions[name]["default"] == default
    for file in (path for path in (ROOT / PLACE).rglob("*") if path.is_file() and path.suffix in (".toml", ".md")):
        assert "{{ cookiecutter._" not in file.read_text(encoding="utf-8"), f"{file}: copier knows no private variable"


def test_beside_other_projects_what_was_edited_against_advice_is_replaced_and_said(
    template: Path, tmp_path: Path
) -> None:
    run_in(tmp_path)("git", "init", "--quiet", "monorepo")
    by_cookiecutter(template, tmp_path / "monorepo", "v0.0.1")
    repository = tmp_path / "monorepo" / "best"
    (tmp_path / "monorepo" / "other.txt").write_text("another project\n", encoding="utf-8")
    change(repository / "batchloop" / "cost.py", '"""', '"""Mine: ')
    with (repository / "locks" / "development.txt").open("a", encoding="utf-8") as file:
        file.write("holidays==0.80 --hash=sha256:0\n")
    commit(tmp_path / "monorepo")
    said = run_in(repository)(sys.executable, "-B", str(template / "hooks" / "update.py")).stdout
    assert "batchloop/cost.py" in said
    assert "make lock" in said
    assert "Mine" not in (repository / "batchloop" / "cost.py").read_text(encoding="utf-8")
    locked = (repository / "locks" / "development.txt").read_text(encoding="utf-8")
    assert "boto3==0." in locked
    assert "holidays" not in locked
    assert not run_in(repository)("git", "diff", "--name-only", "--diff-filter=U").stdout
    assert (tmp_path / "monorepo" / "other.txt").is_file()
    run_in(repository)("git", "reset", "--quiet", "--hard")
    assert run_in(repository)("git", "status", "--porcelain").stdout == ""


@pytest.fixture
def plain(template: Path, tmp_path: Path) -> Path:
    by_cookiecutter(template, tmp_path, "v0.0.1")
    return tmp_path / "best"


def test_what_can_t_be_updated_is_said_and_nothing_changes(plain: Path, template: Path, tmp_path: Path) -> None:
    def refused(*words: str, by: str = "") -> str:
        script = [str(template / "hooks" / "update.py")] if by else ["-m", "batchloop", "update"]
        said = run_in(plain)(sys.executable, "-B", *script, *words, succeeds=False).stderr
        assert "Traceback" not in said
        return said

    (plain / "note.txt").write_text("mine\n", encoding="utf-8")
    assert "commit or stash" in refused(by="hand")
    commit(plain)
    record, old = plain / ".template.json", run_in(template)("git", "rev-parse", "v0.0.1").stdout.strip()
    assert "Nothing to do" in run_in(plain)(sys.executable, "-m", "batchloop", "update", "--to", "0.0.1").stdout
    assert "9.9.9" in refused("--to", "9.9.9")
    change(record, old, run_in(template)("git", "rev-parse", "v0.0.2").stdout.strip())
    commit(plain)
    assert "older than" in refused("--to", "0.0.1")
    change(record, json.loads(record.read_text(encoding="utf-8"))["commit"], "0" * 40)
    commit(plain)
    assert "Nothing to do" in run_in(plain)(sys.executable, "-m", "batchloop", "update", "--to", "0.0.1").stdout
    change(record, '"0.0.1"', '"0.0.0"')
    change(plain / "batchloop" / "cost.py", '"""', '"""Mine: ')
    (plain / ".git" / "HEAD").write_text("ref: refs/heads/other\n", encoding="utf-8")  # a history that begins with it
    commit(plain)
    assert "(0.0.0, commit 000000000, file:" in refused()
    change(record, f"file://{template}", f"file://{tmp_path}/gone")
    commit(plain)
    assert "gone" in refused()
    record.unlink()
    commit(plain)
    assert ".template.json is missing" in refused()
    assert run_in(plain)("git", "status", "--porcelain").stdout == ""


def test_no_password_of_an_address_is_recorded(template: Path, tmp_path: Path) -> None:
    """Neither where it was cloned with one, nor where an update names one."""
    clone, address = tmp_path / "clone", "https://owner:pass@word@git.example/template.git"
    run_in(tmp_path)("git", "clone", "--quiet", str(template), str(clone))
    run_in(clone)("git", "checkout", "--quiet", "v0.0.1")
    run_in(clone)("git", "remote", "set-url", "origin", address)
    run_in(tmp_path)("cookiecutter", str(clone), "--no-input", *(f"{key}={value}" for key, value in ANSWERS.items()))
    repository = tmp_path / "best"
    told = repository.joinpath(".template.json").read_text(encoding="utf-8")
    assert json.loads(told)["template"] == "https://git.example/template.git"
    run_in(clone)("git", "checkout", "--quiet", "v0.0.2")
    update = (sys.executable, "-B", str(clone / "hooks" / "update.py"), "--template", address)
    said = run_in(repository)(*update).stdout
    told = repository.joinpath(".template.json").read_text(encoding="utf-8")
    assert json.loads(told)["template"] == "https://git.example/template.git"
    assert "word" not in told + said


# In git's place: at one of its calls it ends whoever called it, as kill -9 does, and goes on by itself.
GIT = """#!/bin/sh
echo "$1" >> "$CALLS"
[ "$(wc -l < "$CALLS")" -ne "$AT" ] || { echo $$ > "$CALLS.process"; kill -9 $PPID; }
exec "{git}" "$@"
"""


def test_an_update_that_was_killed_is_taken_back_by_git_and_ends_right_when_said_again(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub, calls = tmp_path / "stub" / "git", tmp_path / "calls"
    stub.parent.mkdir()
    stub.write_text(GIT.replace("{git}", str(shutil.which("git"))), encoding="utf-8")
    stub.chmod(0o755)
    command, run = (sys.executable, "-B", "-m", "batchloop", "update", "--to", "0.0.2"), run_in(plain)

    def updated(at: int) -> str:
        calls.write_text("", encoding="utf-8")
        given = {"PATH": f"{stub.parent}:{os.environ['PATH']}", "CALLS": str(calls), "AT": str(at)}
        with monkeypatch.context() as patched:
            for name, value in given.items():
                patched.setenv(name, value)
            run_in(plain)(*command, succeeds=not at)
        return run("git", "write-tree").stdout

    expected, words = updated(0), calls.read_text(encoding="utf-8").split()
    run("git", "reset", "--quiet", "--hard")
    for at in (words.index("rev-list"), words.index("cherry-pick") + 1):
        updated(at)
        while Path("/proc", Path(f"{calls}.process").read_text(encoding="utf-8").strip()).exists():
            time.sleep(0.01)
        run("git", "reset", "--quiet", "--hard")
        assert run("git", "status", "--porcelain").stdout == ""
        assert updated(0) == expected
        run("git", "reset", "--quiet", "--hard")


def test_doctor_says_what_wants_care(plain: Path) -> None:
    def lines(succeeds: bool = True) -> dict[str, str]:
        said = run_in(plain)("make", "doctor", succeeds=succeeds).stdout
        return {line[5:22].strip(): line[:5].strip() + " " + line[22:] for line in said.splitlines()}

    assert lines()["template"].endswith("v0.0.2 is out: make update")
    assert lines()["batchloop/"] == "ok as it was rendered"
    run_in(plain)(sys.executable, "-S", "-B", "-m", "batchloop", "doctor")  # with nothing but the standard library
    assert lines()[".venv"] == "look is not what locks/development.txt says: make install"
    change(plain / "batchloop" / "cost.py", '"""', '"""Mine: ')
    change(plain / "usecase.toml", "[gate]", "[gates]")
    change(plain / ".template.json", "file://", "file:///nowhere")
    found = lines(succeeds=False)
    assert found["batchloop/"].startswith("look edited: batchloop/cost.py; ")
    assert found["settings"].startswith("mend usecase.toml")
    assert "whether a newer one is out is not known" in found["template"]
    (plain / ".template.json").write_text("[]", encoding="utf-8")
    assert lines(succeeds=False)["template"].startswith("mend .template.json is missing or damaged")


def test_copier_s_answers_are_checked_too(template: Path, tmp_path: Path) -> None:
    copy = ("copier", "copy", "--trust", "--defaults", "--quiet", "--data", "project_slug=Best Case")
    assert "for example 'best-case'" in run_in(tmp_path)(*copy, str(template), "best", succeeds=False).stderr
    assert not (tmp_path / "best").exists()


def test_who_has_told_git_no_name_gets_a_first_commit_too(template: Path, tmp_path: Path) -> None:
    """And none inside another repository, or in a temporary folder."""
    (tmp_path / "gitconfig").write_text("[commit]\ngpgSign = true\n", encoding="utf-8")
    by_cookiecutter(template, tmp_path, "v0.0.1")
    git = run_in(tmp_path / "best")
    assert (
        git("git", "log", "--format=%an <%ae> %s").stdout
        == "template <nobody@localhost> Rendered from the template 0.0.1\n"
    )
    assert git("git", "status", "--porcelain").stdout == ""
    assert "user.name" not in git("git", "config", "--list").stdout
    git("git", "init", "--quiet", "inside")
    by_cookiecutter(template, tmp_path / "best" / "inside", "v0.0.1")
    assert not (tmp_path / "best" / "inside" / "best" / ".git").exists()
    by_cookiecutter(template, tmp_path / "temporary", "v0.0.1")
    assert "does not have any commits" in run_in(tmp_path / "temporary" / "best")("git", "log", succeeds=False).stderr

"""What rendering does in an AWS account: nothing unless asked, exactly the plan when asked, and never at any price."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from account import FAULTS, Account, account
from conftest import commit, run_in

COMPONENTS = ("processing", "algorithm", "monitoring", "explainability")
REPOSITORIES = {f"team/case/{component}" for component in COMPONENTS}
PARAMETERS = {f"/team/case/dev/components/{name}/{kind}" for name in COMPONENTS for kind in ("image", "artifact")} | {
    "/team/case/dev/release",
    "/team/case/dev/retraining",
    "/team/case/dev/inference/latest",
    "/team/case/dev/training/latest",
}
ANSWERS = {"project_slug": "case", "namespace": "team", "aws_region": "eu-central-1"}


@pytest.fixture
def aws() -> Iterator[Account]:
    with account() as found:
        yield found


def environment(aws: Account, folder: Path) -> dict[str, str]:
    """The caller's, without an AWS account but this one; the system's temporary folder is elsewhere than `folder`."""
    (folder / "temporary").mkdir(exist_ok=True)
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return own | aws.environment | {"TMPDIR": str(folder / "temporary")}


def rendered(
    template: Path, folder: Path, aws: Account, choice: str = "create", into: str = "a folder"
) -> tuple[Path, str]:
    """The real command into a folder with a space in its name: the repository, and what was said."""
    target = folder / into
    answers = [f"{key}={value}" for key, value in (ANSWERS | {"aws_resources": choice}).items()]
    command = [sys.executable, "-m", "cookiecutter", str(template), "--no-input", "--overwrite-if-exists"]
    done = subprocess.run(
        [*command, "--output-dir", str(target), *answers],
        env=environment(aws, folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (target / "case" / "usecase.toml").is_file()
    assert "Traceback" not in done.stdout + done.stderr
    return target / "case", done.stdout + done.stderr


def finish(repository: Path, aws: Account, folder: Path) -> str:
    """What `make bootstrap CREATE=yes ENV=dev` runs."""
    command = [sys.executable, "-m", "batchloop", "bootstrap", "create", "--env", "dev"]
    done = subprocess.run(
        command, cwd=repository, env=environment(aws, folder), capture_output=True, text=True, check=True
    )
    return done.stdout


def test_create_makes_exactly_what_plan_names_and_a_second_time_nothing(
    template: Path, tmp_path: Path, aws: Account
) -> None:
    _, planned = rendered(template, tmp_path, aws, "plan")
    assert aws.writes == []
    for name in REPOSITORIES | PARAMETERS:
        assert f"create    {name}" in planned
    rendered(template, tmp_path, aws)
    assert aws.repositories() == REPOSITORIES
    assert aws.parameters() == dict.fromkeys(PARAMETERS, ("none", 1))
    aws.calls.clear()
    _, said = rendered(template, tmp_path, aws)
    assert "everything is there" in said
    assert aws.writes == []


def test_skip_does_not_even_look(template: Path, tmp_path: Path, aws: Account) -> None:
    rendered(template, tmp_path, aws, "skip")
    assert aws.calls == []


@pytest.mark.parametrize("operation", ["CreateRepository", "PutLifecyclePolicy", "GetParameter", "PutParameter"])
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_whatever_fails_the_repository_stays_and_one_command_finishes(
    template: Path, tmp_path: Path, aws: Account, operation: str, fault: str
) -> None:
    aws.client("ssm").put_parameter(
        Name="/team/case/dev/release",
        Value="somebody's",
        Type="String",
        Tags=[{"Key": "namespace", "Value": "team"}, {"Key": "usecase", "Value": "case"}],
    )
    aws.faults[operation] = fault
    repository, said = rendered(template, tmp_path, aws)
    assert operation not in aws.faults, "the call was never made"
    assert "cd case && make bootstrap CREATE=yes ENV=dev" in said or "everything is there" in said
    assert (fault in ("lost", "unreached")) or "The repository is complete; the AWS side is not" in said
    assert "everything is there" in finish(repository, aws, tmp_path)
    assert aws.repositories() == REPOSITORIES
    expected = dict.fromkeys(PARAMETERS, ("none", 1)) | {"/team/case/dev/release": ("somebody's", 1)}
    assert aws.parameters() == expected


def test_without_an_account_it_says_so_and_how_to_go_on(template: Path, tmp_path: Path, aws: Account) -> None:
    aws.url = "http://127.0.0.1:9"  # nobody listens there
    _, said = rendered(template, tmp_path, aws)
    assert "could not reach AWS" in said
    assert "make bootstrap CREATE=yes ENV=dev" in said


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "ValueError"])
def test_what_ends_the_import_of_the_program_leaves_the_repository(
    template: Path, tmp_path: Path, aws: Account, error: str
) -> None:
    source = tmp_path / "source"
    shutil.copytree(template, source)
    program = source / "{{cookiecutter.project_slug}}" / "batchloop" / "__main__.py"
    program.write_text(f"raise {error}\n", encoding="utf-8")
    _, said = rendered(source, tmp_path, aws)
    assert "The repository is complete; the AWS side is not" in said
    assert "cd case && make bootstrap CREATE=yes ENV=dev" in said


def test_from_a_temporary_folder_nothing_is_created(template: Path, tmp_path: Path, aws: Account) -> None:
    _, said = rendered(template, tmp_path, aws, into="temporary/below")
    assert "Nothing is created in AWS from a temporary folder" in said
    assert aws.writes == []


def test_cruft_creates_once_and_nothing_when_it_renders_again(template: Path, tmp_path: Path, aws: Account) -> None:
    source, target = tmp_path / "source", tmp_path / "a folder"
    shutil.copytree(template, source)
    run_in(source)("git", "init", "--quiet", "--initial-branch=main")
    commit(source)

    def cruft(*words: str, cwd: Path) -> str:
        command = [sys.executable, "-m", "cruft", *words]
        done = subprocess.run(
            command, cwd=cwd, env=environment(aws, tmp_path), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    target.mkdir()
    answers = json.dumps(ANSWERS | {"aws_resources": "create"})
    cruft("create", str(source), "--no-input", "--extra-context", answers, "--output-dir", str(target), cwd=tmp_path)
    assert aws.repositories() == REPOSITORIES
    commit(target / "case")
    readme = source / "{{cookiecutter.project_slug}}" / "README.md"
    readme.write_text(readme.read_text(encoding="utf-8") + "\nA line that came later.\n", encoding="utf-8")
    commit(source)
    aws.calls.clear()
    cruft("update", "--skip-apply-ask", cwd=target / "case")
    assert "A line that came later." in (target / "case" / "README.md").read_text(encoding="utf-8")
    cruft("diff", cwd=target / "case")
    assert aws.calls == []

"""GitHub's and GitLab's files beside buildspec.yml: by their schemas, and their commands run in order as those do."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from moto.server import ThreadedMotoServer

from batchloop import changes, repository
from batchloop.pipelines import definitions
from batchloop.repository import COMPONENTS, Repository
from plumbing.rendered import ROOT

GITHUB, GITLAB = ".github/workflows/ci.yml", ".gitlab-ci.yml"
SPEC: dict[str, Any] = yaml.safe_load((ROOT / "buildspec.yml").read_text(encoding="utf-8"))
ACTIONS: dict[str, Any] = yaml.safe_load((ROOT / GITHUB).read_text(encoding="utf-8"))
JOBS: dict[str, Any] = yaml.safe_load((ROOT / GITLAB).read_text(encoding="utf-8"))
VERBS = {
    "test": ["install", "check ENV=dev", "test", "scan"],
    "changes": ["install", "train", "changes BASE=origin/main ENV=dev"],
    "push": ["install", "push ENV=dev", "sbom", "upsert ENV=dev"],
}
RECORDING = """.DEFAULT:
	@echo "$@ $(sort $(MAKEOVERRIDES))" | sed 's/ *$$//' >> "$$TOLD"
	@test "$@" != changes || echo "### What this changes"
	@test "$@" != "$$FAILS"
"""
EXPRESSIONS = {
    "steps.changes.outputs.text": "",
    "github.token": "the job's",
    "github.event.number": "7",
    "needs.changes.outputs.text": '### What `this` changes, "and" $(touch never)',
    "vars.AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/deployer",
}


def stubs(folder: Path, *names: str) -> str:
    """A PATH on which these programs write down what they are called with."""
    folder.mkdir()
    for name in names:
        (folder / name).write_text(f'#!/bin/sh\nprintf "%s\\n" {name} "$@" >> "$TOLD"\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


class Runner:
    """Runs the jobs of either file as their services do, in a folder."""

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder, self.told = folder, folder.parent / f"told-{folder.name}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MAKE", "MFLAGS"))}
        clean = {name: value for name, value in clean.items() if not name.lower().endswith("_proxy")}  # all is loopback
        temporary = {"TOLD": str(self.told), "RUNNER_TEMP": str(folder.parent)}
        self.environment = clean | temporary | dict(environment or {})

    def github(self, name: str) -> bool:
        return all(self.step(step) for step in ACTIONS["jobs"][name]["steps"] if "run" in step)

    def step(self, step: dict[str, Any]) -> bool:
        place = {"runner.temp": str(self.folder.parent)}
        given = {**ACTIONS["env"], **step.get("env", {})}
        given = {
            key: re.sub(r"\${{ (.+?) }}", lambda match: (EXPRESSIONS | place)[match[1]], str(value))
            for key, value in given.items()
        }
        return self.run(["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]], given)

    def gitlab(self, name: str) -> bool:
        given = {key: re.sub(r"\$(\w+)", "", value) for key, value in JOBS["variables"].items()}
        script = "\n".join(JOBS[name]["script"])
        token = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(self.folder.parent / "identity"), "AWS_IDENTITY": "a token"}
        return self.run(["bash", "-eo", "pipefail", "-c", script], given | token)

    def run(self, command: list[str], given: Mapping[str, str]) -> bool:
        environment = {**given, **self.environment}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)
        self.said = done.stdout + done.stderr
        return done.returncode == 0

    def lines(self) -> list[str]:
        found = self.told.read_text(encoding="utf-8").splitlines() if self.told.exists() else []
        self.told.unlink(missing_ok=True)
        return found


class Identity(BaseHTTPRequestHandler):
    """GitHub's own service, which gives a job its token."""

    def do_GET(self) -> None:
        good = self.headers["Authorization"] == "bearer asked" and self.path.endswith("&audience=sts.amazonaws.com")
        body = json.dumps({"value": "a token"} if good else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[Runner]:
    """In a folder whose Makefile writes down what it is asked for."""
    folder = tmp_path / "a clone"
    folder.mkdir()
    (folder / "Makefile").write_text(RECORDING, encoding="utf-8")
    with ThreadingHTTPServer(("127.0.0.1", 0), Identity) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        variables = {
            "PATH": stubs(tmp_path / "programs", "gh", "docker", "apt-get"),
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"http://127.0.0.1:{server.server_port}/?v=2",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "asked",
            "GITHUB_BASE_REF": "main",
            "GITHUB_REPOSITORY": "team/case",
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary"),
            "GITHUB_OUTPUT": str(tmp_path / "output"),
            "CI_MERGE_REQUEST_DIFF_BASE_SHA": "origin/main",
        }
        yield Runner(folder, variables)
        server.shutdown()


@pytest.mark.parametrize(("file", "kind"), [(GITHUB, "github-workflows"), (GITLAB, "gitlab-ci")])
def test_each_file_is_what_its_schema_says(file: str, kind: str) -> None:
    """The schemas that check-jsonschema comes with; it asks nobody."""
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{kind}"]
    checker += ["--data-transform", "gitlab-ci"] if kind == "gitlab-ci" else []
    done = subprocess.run([*checker, str(ROOT / file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_all_three_have_the_same_variables_and_no_code_of_strangers() -> None:
    variables = {name: SPEC["env"]["variables"][name] for name in ("ENV", "BASE_IMAGE", "APPROVAL")}
    assert ACTIONS["env"] == JOBS["variables"] == variables
    assert ACTIONS["jobs"]["push"]["environment"] == "dev"
    used = [step["uses"] for job in ACTIONS["jobs"].values() for step in job["steps"] if "uses" in step]
    assert {re.sub(r"@[0-9a-f]{40}$", "", name) for name in used} == {"actions/checkout", "actions/setup-python"}
    for file in (GITHUB, GITLAB):
        text = (ROOT / file).read_text(encoding="utf-8")
        assert not re.search(r"(?i)secrets\.|access_key", text)


def test_what_can_write_runs_no_code_of_a_request() -> None:
    assert ACTIONS["permissions"] == {"contents": "read"}
    may_write = {name for name, job in ACTIONS["jobs"].items() if "write" in job.get("permissions", {}).values()}
    assert may_write == {"comment", "push"}
    assert ACTIONS["jobs"]["push"]["if"].startswith("github.event_name == 'push' &&")
    assert [step.get("uses") for step in ACTIONS["jobs"]["comment"]["steps"]] == [None]
    assert "permissions" not in ACTIONS["jobs"]["changes"]
    # each job of a request reads whatever variable a GitLab project has: none of the file asks for a token in one
    requests = [job for job in JOBS.values() if "merge_request_event" in str(job) and "script" in job]
    assert "TOKEN" not in str(requests)
    assert [job["artifacts"] for job in requests] == [{"expose_as": "what this changes", "paths": ["changes.md"]}]
    assert [name for name, job in JOBS.items() if "id_tokens" in job] == ["push"]


def test_all_three_ask_make_for_the_same() -> None:
    phases = [line for name in ("install", "pre_build", "build") for line in SPEC["phases"][name]["commands"]]
    steps = [step.get("run", "") for name in ("test", "push") for step in ACTIONS["jobs"][name]["steps"]]
    texts = ("\n".join(lines) for lines in (phases, steps, [*JOBS["test"]["script"], *JOBS["push"]["script"]]))
    asked = [list(dict.fromkeys(re.findall(r"(?<!`)\bmake ([a-z]+)", text))) for text in texts]
    assert asked[0] == asked[1] == asked[2] == ["install", "check", "test", "scan", "push", "sbom", "upsert"]


@pytest.mark.parametrize("service", ["github", "gitlab"])
@pytest.mark.parametrize("job", VERBS)
def test_each_job_asks_make_for_what_a_person_would(recorded: Runner, service: str, job: str) -> None:
    assert getattr(recorded, service)(job), recorded.said
    assert [line for line in recorded.lines() if line != "docker"] == VERBS[job]
    if job == "push":
        assert (recorded.folder.parent / "identity").read_text(encoding="utf-8").strip() == "a token"
        assert (recorded.folder.parent / "identity").stat().st_mode & 0o77 == 0


@pytest.mark.parametrize("service", ["github", "gitlab"])
@pytest.mark.parametrize(("job", "verb"), [("test", "check"), ("push", "push"), ("changes", "changes")])
def test_what_fails_ends_a_job(recorded: Runner, service: str, job: str, verb: str) -> None:
    recorded.environment["FAILS"] = verb
    assert not getattr(recorded, service)(job)
    assert recorded.lines()[-1].split()[0] == verb


@pytest.mark.parametrize("service", ["github", "gitlab"])
def test_a_model_that_the_gate_refuses_does_not_hide_what_changes(recorded: Runner, service: str) -> None:
    recorded.environment["FAILS"] = "train"
    assert getattr(recorded, service)("changes")
    assert recorded.lines() == VERBS["changes"]


@pytest.mark.parametrize("service", ["github", "gitlab"])
def test_where_a_person_approves_no_pipeline_is_written(recorded: Runner, service: str) -> None:
    recorded.environment["APPROVAL"] = "PendingManualApproval"
    assert getattr(recorded, service)("push")
    assert "upsert ENV=dev" not in recorded.lines()
    assert "make deploy ENV=dev" in recorded.said


def test_without_a_token_nothing_is_pushed(recorded: Runner) -> None:
    recorded.environment["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = "wrong"
    assert not recorded.github("push")
    assert recorded.lines() == ["install"]


def test_the_comment_is_what_was_printed_and_never_run(recorded: Runner) -> None:
    assert recorded.github("changes")
    output = (recorded.folder.parent / "output").read_text(encoding="utf-8")
    assert re.fullmatch(r"text<<([0-9a-f]{32})\n### What this changes\n\n\1\n", output)
    assert recorded.github("comment")
    body = "body=<!-- make changes -->", EXPRESSIONS["needs.changes.outputs.text"]
    comments = "repos/team/case/issues/7/comments"
    asked = recorded.lines()[3:]
    assert asked[:4] == ["gh", "api", comments, "--paginate"]
    assert asked[6:] == ["gh", "api", "--silent", "--method", "POST", comments, "--raw-field", *body]
    program = recorded.folder.parent / "programs" / "gh"
    program.write_text(program.read_text(encoding="utf-8") + "echo 12\n", encoding="utf-8")
    assert recorded.github("comment")
    assert recorded.lines()[-4:] == ["repos/team/case/issues/comments/12", "--raw-field", *body]
    assert not (recorded.folder / "never").exists()


def test_the_role_is_taken_by_the_token_and_no_key(recorded: Runner, tmp_path: Path) -> None:
    """As GitHub's and GitLab's jobs have it; moto stands where AWS would."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    (tmp_path / "identity").write_text("a token", encoding="utf-8")
    given = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ROLE_ARN": EXPRESSIONS["vars.AWS_ROLE_ARN"],
        "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "identity"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }
    runner = Runner(ROOT)
    assert not runner.run([sys.executable, "-m", "batchloop", "push"], given)
    server.stop()
    assert "there is no parameter /ml/customer-churn/dev/components/processing/image" in runner.said


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a branch on which a hyperparameter and the schedule are others, its sample small."""
    root = tmp_path_factory.mktemp("clones") / "a clone"
    shutil.copytree(ROOT, root, ignore=shutil.ignore_patterns("__pycache__", ".git", "local", ".venv*", "sample"))
    for name in (".venv", ".venv-components"):
        (root / name).symlink_to(sys.prefix)
    nothing = r"\1: # nothing\n\t@true\n\n"  # what installs has been tried
    makefile = re.sub(r"(?ms)^(install|scanners):.*?(?=^\S)", nothing, (root / "Makefile").read_text())
    (root / "Makefile").write_text(makefile)
    usecase = (root / "usecase.toml").read_text(encoding="utf-8")
    usecase = re.sub(r"(?m)^num_iterations = \d+", "num_iterations = 30", usecase)
    usecase = re.sub(r"(?m)^minimum = [\d.]+", "minimum = 0.5", usecase)
    (root / "usecase.toml").write_text(usecase, encoding="utf-8")
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")

    def git(*words: str) -> None:
        subprocess.run(["git", *identity, *words], cwd=root, check=True, capture_output=True)

    dev = root / "environments" / "dev.toml"
    dev.write_text(dev.read_text().replace('tracking.uri = ""', f'tracking.uri = "{root.parent}/mlruns"'))

    git("init", "--quiet", "--initial-branch=main")
    git("add", "--all")
    git("commit", "--quiet", "--message", "base")
    git("update-ref", "refs/remotes/origin/main", "HEAD")
    (root / "usecase.toml").write_text(usecase.replace("num_iterations = 30", "num_iterations = 20"), encoding="utf-8")
    dev.write_text(re.sub(r"(?m)^schedule = .*", 'schedule = "cron(0 5 * * ? *)"', dev.read_text()), encoding="utf-8")
    git("commit", "--quiet", "--all", "--message", "quicker")
    sample = [sys.executable, "-m", "data.sample", "--output", "data/sample", "--rows", "1500"]
    subprocess.run(sample, cwd=root, check=True, capture_output=True)
    return root


def test_a_request_says_which_images_definitions_costs_and_metrics_change(clone: Path, tmp_path: Path) -> None:
    runner = Runner(clone, {"GITHUB_BASE_REF": "main", "COMPONENTS_PYTHON": sys.executable})
    runner.environment |= {name: str(tmp_path / name) for name in ("GITHUB_STEP_SUMMARY", "GITHUB_OUTPUT")}
    assert runner.github("changes"), runner.said
    text = (tmp_path / "GITHUB_STEP_SUMMARY").read_text(encoding="utf-8")
    assert text.startswith("### What this changes, against ")
    assert "- image to build: **algorithm** (`usecase.toml [hyperparameters]`)\n" in text
    assert text.count("- image to build") == 1
    assert re.search(
        r'Pipeline \*\*training\*\* of `dev`:\n```diff\n(?s:.+?)-\s+"DefaultValue": "30",\n\+\s+.+"20"', text
    )
    assert "| `dev`, USD | before | after |" in text
    assert re.search(r"(?m)^\| auc \| 0\.\d{4} \| 0\.\d{4} \|$", text)
    status = subprocess.run(["git", "status", "--porcelain"], cwd=clone, capture_output=True, text=True, check=True)
    assert status.stdout == ""
    assert "was trained with other" not in text
    assert len(list(clone.parent.glob("mlruns/*/*/tags/run"))) == 1  # what was before is not tracked
    assert runner.run(["make", "train", "SET=NumIterations=21 QualityLimit=0.4"], {}), runner.said
    assert runner.run(["make", "changes", "BASE=origin/main"], {}), runner.said
    assert "was trained with other `NumIterations`, `QualityLimit` than `make train` takes alone." in runner.said


def test_each_tree_is_counted_by_its_own_plumbing(tmp_path: Path) -> None:
    """An update may count other files: an older commit's images have the names that it gave them."""
    for name in ("batchloop", "components", "locks"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "usecase.toml", tmp_path)
    code, tree = tmp_path / "batchloop" / "repository.py", Repository(tmp_path)
    today = {name: repository.component(tree, name) for name in COMPONENTS}
    assert repository.own(tree, "component") == today
    with code.open("a", encoding="utf-8") as file:
        file.write("\n\ndef component(_, name, lock):\n    return f'old {name}'\n")
    assert repository.own(tree, "component") == {name: f"old {name}" for name in COMPONENTS}
    code.write_text("import nothing.of.this.name", encoding="utf-8")
    assert repository.own(tree, "component") == today


def test_no_name_of_a_file_or_a_window_is_markdown() -> None:
    assert changes._code("a.py") == "`a.py`"
    assert changes._code("`![x](http://host/)`\n\n\x1b# y") == r"`'![x](http://host/)' \x1b# y`"
    assert changes._table(f"rows of {changes._code('![x](y)|z')}", []).startswith(r"| rows of `![x](y)\|z` | before |")


def test_with_nothing_changed_nothing_is_said_and_an_unknown_commit_is_refused(clone: Path) -> None:
    runner = Runner(clone, {"COMPONENTS_PYTHON": sys.executable})
    assert runner.run(["make", "changes"], {})
    assert "\n\nNo image, no pipeline and no cost.\n" in runner.said
    assert not runner.run(["make", "changes", "BASE=nowhere"], {})
    assert "Not a valid object name nowhere" in runner.said
    assert "Traceback" not in runner.said


def test_what_was_before_may_be_broken(clone: Path, tmp_path: Path) -> None:
    """What lies here is still said."""
    broken = tmp_path / "broken"
    shutil.copytree(clone, broken, symlinks=True, ignore=shutil.ignore_patterns("local", "sample"))
    toml = broken / "usecase.toml"
    good = toml.read_text(encoding="utf-8")
    toml.write_text(good.replace("[gate]", "[gates]"), encoding="utf-8")
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    subprocess.run(["git", *identity, "commit", "-qam", "broken"], cwd=broken, check=True)
    toml.write_text(good, encoding="utf-8")
    runner = Runner(broken, {"COMPONENTS_PYTHON": sys.executable})
    assert runner.run(["make", "changes"], {}), runner.said
    assert "Pipelines of `dev`: what was before does not compile: `usecase.toml" in runner.said
    assert "Traceback" not in runner.said
    assert definitions.definition(Repository(broken), "training")["Steps"]

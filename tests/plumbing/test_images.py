"""What `make images` decides, and what it says when docker can't: with a stand-in for the docker command."""

import json
import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from batchloop.cloud import images
from batchloop.container.job import InputError
from plumbing.engine_miniature import Miniature, build
from plumbing.rendered import ROOT

STAND_IN = """#!/bin/sh
echo "$@" >> "$0.calls"
case "$*" in
  "images --quiet"*) test -e "$0.built" && echo 0123456789ab; exit 0;;
  "buildx bake"*) cat > "$0.plan"; {bake};;
  *) {other};;
esac
"""


@pytest.fixture
def mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Miniature:
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()
    made = build(tmp_path / "repository")
    made.write("components/Dockerfile", "ARG BASE_IMAGE=python:3.11-slim-bookworm\n")
    return made


def stand_in(mini: Miniature, bake: str = 'touch "$0.built"', other: str = "exit 0") -> Path:
    """A docker that answers so; what it was called with is in docker.calls, the build plan in docker.plan."""
    file = mini.root.parent / "bin" / "docker"
    file.write_text(STAND_IN.replace("{bake}", bake).replace("{other}", other))
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


def test_what_is_missing_is_built_at_once_as_a_plain_image(mini: Miniature) -> None:
    docker = stand_in(mini)
    said = mini.run("images")
    plan = json.loads(Path(f"{docker}.plan").read_text())
    assert plan["group"]["default"]["targets"] == ["processing", "algorithm", "monitoring", "explainability"]
    assert plan["target"]["algorithm"]["platforms"] == ["linux/amd64"]
    # what SageMaker takes: a plain image of Docker's media types, which newer builders no longer write by themselves
    assert plan["target"]["algorithm"]["output"] == ["type=docker,oci-mediatypes=false"]
    assert plan["target"]["algorithm"]["attest"] == ["type=provenance,disabled=true", "type=sbom,disabled=true"]
    assert "--load" not in Path(f"{docker}.calls").read_text(), "it would be another output"
    [tag] = plan["target"]["algorithm"]["tags"]
    assert tag.startswith("local/team/mini/algorithm:")
    assert "building processing, algorithm, monitoring, explainability\n" in said
    assert said.count(" built ") == 4


def test_what_is_there_is_not_built(mini: Miniature) -> None:
    docker = stand_in(mini)
    mini.run("images")
    Path(f"{docker}.plan").unlink()
    said = mini.run("images")
    assert said.count("unchanged") == 4
    assert not Path(f"{docker}.plan").exists()


def test_only_what_changed_gets_another_name(mini: Miniature) -> None:
    docker = stand_in(mini)
    mini.run("images")
    tags = {}
    for change in ("components/algorithm/train.py", "usecase.toml"):
        Path(f"{docker}.built").unlink()
        text = (mini.root / change).read_text()
        mini.write(change, text.replace("rounds = 3", "rounds = 4") + "\n# changed\n")
        mini.run("images")
        plan = json.loads(Path(f"{docker}.plan").read_text())
        tags[change] = {name: target["tags"][0] for name, target in plan["target"].items()}
    before, after = tags.values()
    assert {name for name in before if before[name] != after[name]} == {"algorithm"}


def on_a_gpu(mini: Miniature, job: str = "algorithm") -> None:
    file = mini.root / "environments" / "dev.toml"
    text = re.sub(rf'(?m)^({job} = {{ type = )"[^"]*"', r'\1"ml.g5.xlarge"', file.read_text())
    file.write_text(text)


@pytest.mark.parametrize(
    ("job", "component"), [("algorithm", "algorithm"), ("transform", "algorithm"), ("explainability", "explainability")]
)
def test_an_environment_with_a_gpu_gets_the_image_with_cuda(mini: Miniature, job: str, component: str) -> None:
    """By its instance type alone, where there is a lock for it; a run on this machine has no GPU."""
    docker = stand_in(mini)
    plan = Path(f"{docker}.plan")

    def targets() -> dict[str, tuple[str, str | None, str]]:
        Path(f"{docker}.built").unlink(missing_ok=True)
        mini.run("images")
        built = json.loads(plan.read_text())["target"]
        return {name: (of["target"], of["args"].get(name.upper()), of["tags"][0]) for name, of in built.items()}

    before = targets()
    assert all((target, lock) == (name, None) for name, (target, lock, _) in before.items())
    on_a_gpu(mini, job)
    assert targets() == before, "there is nothing that could compute on it"
    mini.write(f"locks/{component}-gpu.txt", "jax-cuda12-plugin==1.0\n")
    after = targets()
    assert after[component][:2] == (component, f"{component}-gpu")
    assert {name for name in after if after[name] != before[name]} == {component}
    assert after[component][2] != before[component][2], "another content, another tag"
    Path(f"{docker}.built").unlink()
    mini.run("train", "--on", "docker", code=1)
    assert component.upper() not in json.loads(plan.read_text())["target"][component]["args"]


def test_a_gpu_that_nothing_computes_on_is_said(mini: Miniature) -> None:
    on_a_gpu(mini)
    said = mini.run("compile")
    assert (
        "environments/dev.toml: [instances] gives algorithm a GPU, which is paid for and idle: pyproject.toml" in said
    )
    mini.write("locks/algorithm-gpu.txt", "jax-cuda12-plugin==1.0\n")
    said = mini.run("compile")
    assert "idle" not in said
    assert "`make push` makes its image with CUDA, and scoring has it from the next training's release on" in said
    assert "older than" not in said


def test_a_gpu_is_said_to_be_idle_where_no_image_has_a_stage_for_it_and_to_be_old_where_cuda_left_it(
    mini: Miniature,
) -> None:
    on_a_gpu(mini, "monitoring")
    mini.write("locks/monitoring-gpu.txt", "jax-cuda12-plugin==1.0\n")
    assert "gives monitoring a GPU, which is paid for and idle: nothing of it computes on one" in mini.run("compile")
    dev = mini.root / "environments" / "dev.toml"
    dev.write_text(dev.read_text().replace("ml.g5.xlarge", "ml.m5.large"))
    on_a_gpu(mini)
    dev.write_text(dev.read_text().replace("ml.g5.xlarge", "ml.p3.2xlarge"))
    mini.write("locks/algorithm-gpu.txt", "jax-cuda12-plugin==1.0\n")
    assert "; ml.p3.2xlarge is older than what CUDA's newer libraries are made for" in mini.run("compile")


def test_images_with_cuda_say_so_to_nvidia_s_runtime_and_no_others() -> None:
    """The name of a stage is an ARG: BuildKit of Docker 20.10 puts none into a mount's source."""
    text = (ROOT / "components" / "Dockerfile").read_text()
    for component in ("algorithm", "explainability"):
        assert re.search(rf"(?m)^ARG {component.upper()}={component}$", text)
        assert f"FROM ${{{component.upper()}}}-packages AS {component}\n" in text
        [stage] = re.findall(rf"(?ms)^FROM gpu AS {component}-gpu-packages\n(.*?)^FROM", text)
        assert f"source=locks/{component}-gpu.txt," in stage
    [gpu] = re.findall(r"(?ms)^FROM base AS gpu\n(.*?)^FROM", text)
    assert gpu.startswith("ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility\n")
    assert text.count("NVIDIA_VISIBLE_DEVICES") == 1
    assert text.count("FROM gpu AS") == 2


def test_two_builds_at_once_do_not_take_each_others_notes_away(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from batchloop.engine.storage import write_json\n"
    code += "for number in range(2000): write_json(Path(sys.argv[1]), {'number': number})"
    command = [sys.executable, "-c", code, str(tmp_path / "images.json")]
    both = [subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[1] for process in both] == ["", ""]
    assert json.loads((tmp_path / "images.json").read_text()) == {"number": 1999}


def test_a_mirror_and_pips_settings_reach_the_build(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings as text: bake refuses files outside the folder it runs in (docker/buildx #2796, from 0.20 on)."""
    docker = stand_in(mini, bake='echo "$PIP_SETTINGS" > "$0.pip"; pwd > "$0.folder"; touch "$0.built"')
    (mini.root.parent / "our pip.conf").write_text("[global]\nindex-url = mirror")
    monkeypatch.setenv("BASE_IMAGE", "mirror.example/python:3.11")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(mini.root.parent / "our pip.conf"))
    mini.run("images")
    target = json.loads(Path(f"{docker}.plan").read_text())["target"]["monitoring"]
    assert target["args"]["BASE_IMAGE"] == "mirror.example/python:3.11"
    assert target["secret"] == ["id=pip,env=PIP_SETTINGS"]
    assert Path(f"{docker}.pip").read_text() == "[global]\nindex-url = mirror\n"
    assert Path(f"{docker}.folder").read_text().strip() == str(mini.root.resolve())
    Path(f"{docker}.built").unlink()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/no/where")
    assert "PIP_CONFIG_FILE=/no/where can't be read: No such file" in mini.run("images", code=1)


DIGEST = f"sha256:{'a' * 64}"
ANSWERS = f"""case "$*" in
  *.Manifest*) echo '{{"digest": "{DIGEST}"}}';;
  *) exit 0;; esac"""


def test_an_image_says_by_digest_what_it_was_built_on(mini: Miniature) -> None:
    """Built from what the tag meant then, so that the label is true."""
    docker = stand_in(mini, other=ANSWERS)
    mini.run("images")
    target = json.loads(Path(f"{docker}.plan").read_text())["target"]["monitoring"]
    assert target["args"]["BASE_IMAGE"] == f"python:3.11-slim-bookworm@{DIGEST}"
    assert target["labels"]["org.opencontainers.image.base.digest"] == DIGEST
    assert target["labels"]["org.opencontainers.image.base.name"] == "python:3.11-slim-bookworm"


LABELS = {"org.opencontainers.image.base.name": "mirror/python:3.11", "org.opencontainers.image.base.digest": DIGEST}


@pytest.mark.parametrize(
    ("here", "there", "said"),
    [
        (LABELS, None, f"mirror/python:3.11@{DIGEST}"),
        ({"other": "x"}, None, ""),
        (None, {"config": {"Labels": LABELS}}, f"mirror/python:3.11@{DIGEST}"),
        (None, {"config": {}}, ""),
        (None, None, ""),
    ],
)
def test_what_an_image_was_built_on_is_read_of_its_labels(
    here: object, there: object, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def docker(*words: str) -> str:
        if (answer := there if "imagetools" in words else here) is None:
            raise InputError("the image is not on this machine")
        return json.dumps(answer)

    monkeypatch.setattr("batchloop.cloud.images.docker", docker)
    monkeypatch.setattr("batchloop.cloud.images.exists", lambda _: here is not None)
    assert images.built_on(f"registry.example/team/case/algorithm@{DIGEST}") == said


def test_codebuild_takes_the_same_base_image_from_the_mirror() -> None:
    """Docker Hub's limit is by address, and CodeBuild's addresses are shared: builds there end with 429."""
    [named] = re.findall(r"^ARG BASE_IMAGE=(\S+)$", (ROOT / "components" / "Dockerfile").read_text(), re.MULTILINE)
    variables = yaml.safe_load((ROOT / "buildspec.yml").read_text())["env"]["variables"]
    assert variables["BASE_IMAGE"] == f"public.ecr.aws/docker/library/{named}"


def say(text: str) -> str:
    return f"echo '{text}' >&2; exit 1"


FULL = "ERROR: write /x: no space left on device"
NO_BASE = "ERROR: python:3.11: failed to resolve source metadata for docker.io/library/python"
STEP = "#9 [monitoring 1/4] RUN pip\\n#9 0.5 ERROR: No matching distribution found for polars\\nERROR: failed to solve"


@pytest.mark.parametrize(
    ("bake", "other", "sentence"),
    [
        ("exit 0", say("Cannot connect to the Docker daemon at unix:///x"), "Docker's daemon is not running; start it"),
        ("exit 0", say("permission denied while trying to connect to the daemon"), "you may not use Docker's daemon"),
        (say(FULL.replace("'", "")), "exit 0", "the disk is full; `docker system prune`"),
        (say(NO_BASE), "exit 0", "the base image can't be pulled"),
        (say("unknown command: docker buildx"), "exit 0", "docker's buildx plugin is not installed"),
        (f"printf '{STEP}' ; exit 1", "exit 0", "No matching distribution found for polars (monitoring)"),
    ],
)
def test_what_is_wrong_with_docker_is_one_sentence(mini: Miniature, bake: str, other: str, sentence: str) -> None:
    stand_in(mini, bake, other)
    said = mini.run("images", code=1)
    assert sentence in said
    assert "Traceback" not in said
    assert len([line for line in said.splitlines() if not line.startswith(("building", "  log:"))]) == 1


def test_without_docker_it_says_what_needs_it(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    (mini.root.parent / "none").mkdir()
    monkeypatch.setenv("PATH", str(mini.root.parent / "none"))
    assert mini.run("images", code=1) == "docker is not installed; only images and ON=docker need it.\n"
    assert "docker is not installed" in mini.run("train", "--on", "docker", code=1)

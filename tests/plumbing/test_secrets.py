"""What a shell holds for other programs stays there: no output, log, report or artifact has it."""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from batchloop import environment
from batchloop.container import usecase
from batchloop.container.job import InputError
from plumbing.engine_miniature import Miniature, build
from plumbing.rendered import ROOT

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIASECRET1",
    "AWS_SECRET_ACCESS_KEY": "SECRET2",
    "AWS_SESSION_TOKEN": "SECRET3",
    "HTTPS_PROXY": "http://owner:SECRET4@127.0.0.1:9",
    "GH_TOKEN": "SECRET5",
    "GITLAB_TOKEN": "SECRET6",
    "PIP_INDEX_URL": "https://owner:SECRET7@127.0.0.1:9/simple",
    "MLFLOW_TRACKING_PASSWORD": "SECRET8",
    "DATABASE_URL": "postgres://owner:SECRET9@127.0.0.1:9/x",
}
# its environment, as a component of yours may print it
CURIOUS = "import os\nprint(dict(os.environ), flush=True)\n"


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and those in archives."""
    found = {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    for name in [name for name in found if name.endswith(".tar.gz")]:
        with tarfile.open(fileobj=io.BytesIO(found[name])) as archive:
            for member in (member for member in archive if member.isfile()):
                inside = archive.extractfile(member)
                assert inside
                found[f"{name}:{member.name}"] = inside.read()
    return found


@pytest.fixture
def mini(tmp_path: Path) -> Miniature:
    made = build(tmp_path / "mini")
    for file in (made.root / "components").glob("*/*.py"):
        file.write_text(CURIOUS + file.read_text(encoding="utf-8"), encoding="utf-8")
    for words in (["init", "--quiet"], ["remote", "add", "origin", "https://owner:SECRET0@git.example/x.git"]):
        subprocess.run(["git", *words], cwd=made.root, check=True)
    return made


def test_nothing_that_a_run_writes_or_says_holds_a_secret(mini: Miniature, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    said = mini.run("train") + mini.run("score")
    found = contents(mini.root / "local")
    assert any(b"ML_ROOT" in content for content in found.values())  # it did print what it has
    assert "SECRET" not in said
    assert [name for name, content in found.items() if b"SECRET" in content] == []


@pytest.mark.parametrize(
    "address", ["https://owner:SECRET0@host/x", "http://o:SECRET/0!@host", "mysql://o:SECRET0@host"]
)
def test_an_address_of_mlflow_with_a_password_is_refused_and_not_said(tmp_path: Path, address: str) -> None:
    text = (ROOT / "environments" / "dev.toml").read_text(encoding="utf-8")
    file = tmp_path / "dev.toml"
    file.write_text(text.replace('tracking.uri = ""', f'tracking.uri = "{address}"'), encoding="utf-8")
    with pytest.raises(
        InputError, match=r"\[tracking\] uri .*MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
    ) as said:
        environment.load(tmp_path, "dev", usecase.load(ROOT / "usecase.toml"))
    assert "SECRET" not in str(said.value)


@pytest.mark.parametrize(
    "words",
    [
        ["push"],
        ["bootstrap", "plan"],
        ["preflight"],
        ["--verbose", "releases"],
        ["doctor"],
        ["update", "--to", "https://owner:SECRET0@127.0.0.1:9/template.git"],
    ],
)
def test_what_fails_at_a_service_names_no_secret(words: list[str]) -> None:
    """Nobody answers there."""
    given = os.environ | SECRETS | {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    given |= {"NO_PROXY": "127.0.0.1", "GIT_TERMINAL_PROMPT": "0"}
    command = [sys.executable, "-B", "-m", "batchloop", *words]
    done = subprocess.run(command, cwd=ROOT, env=given, capture_output=True, text=True, check=False)
    assert done.returncode or "doctor" in words or "bootstrap" in words
    assert "SECRET" not in done.stdout + done.stderr

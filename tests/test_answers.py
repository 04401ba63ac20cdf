"""Awkward answers render a correct repository, or are refused in one clear line; nothing in between."""

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pytest_cookies.plugin import Cookies

from conftest import commit, run_in

CORRECT = [
    "Customer churn",
    'The "best" offer',
    "O'Brien's churn",
    "back\\slash \\n \\",
    "Kündigung – 顧客の離脱",
    "Отток клиентов",
    "rocket 🚀 science",
    "a: b # c = [d] & <e> % $HOME `f`",
    "{single} %(braces)s }} ${x}",
]


@pytest.mark.parametrize("text", CORRECT)
def test_texts_with_awkward_characters_arrive_unchanged(cookies: Cookies, template: Path, text: str) -> None:
    answers = {"project_name": text, "description": text, "project_slug": "awkward", "aws_resources": "skip"}
    result = cookies.bake(extra_context=answers, template=str(template))
    assert result.exit_code == 0
    usecase = tomllib.loads((result.project_path / "usecase.toml").read_text(encoding="utf-8"))["usecase"]
    assert (usecase["title"], usecase["description"]) == (text, text)
    assert text in (result.project_path / "README.md").read_text(encoding="utf-8")
    for file in result.project_path.rglob("*.toml"):
        tomllib.loads(file.read_text(encoding="utf-8"))


NAMES = [
    "Customer churn",
    "Kündigung – 顧客",
    "Отток клиентов",
    "🚀",
    "a very long name that never seems to end at all",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_slug_that_is_proposed_for_a_name_is_legal(cookies: Cookies, template: Path, name: str) -> None:
    answers = {"project_name": name, "aws_resources": "skip"}
    assert cookies.bake(extra_context=answers, template=str(template)).exit_code == 0


REFUSED = [
    ({"project_name": "two\nlines"}, "line break"),
    ({"project_name": "a\x1bb"}, "control character"),
    ({"project_name": "   ", "project_slug": "blank"}, "project_name is empty"),
    ({"description": ""}, "description is empty"),
    ({"description": "x" * 201}, "at most 200"),
    ({"project_slug": "Customer Churn"}, "'customer-churn'"),
    ({"project_slug": "customer_churn"}, "'customer-churn'"),
    ({"project_slug": "customer--churn"}, "'customer-churn'"),
    ({"project_slug": "-churn"}, "'churn'"),
    ({"project_slug": "churn-"}, "'churn'"),
    ({"project_slug": "3churn"}, "'churn'"),
    ({"project_slug": "x"}, "two or more"),
    ({"project_slug": "größe"}, "project_slug"),
    ({"project_slug": "con"}, "Windows"),
    ({"project_slug": "c" * 33}, "at most 32"),
    ({"namespace": "data-science-and-more", "project_slug": "customer-churn-in-europe"}, "Shorten"),
    ({"namespace": "n" * 10, "project_slug": "s" * 25}, "AWS names leave 35 in eu-central-1, beside 'staging'"),
    ({"namespace": "n" * 10, "project_slug": "s" * 24, "aws_region": "ap-southeast-2"}, "AWS names leave 34"),
    ({"aws_region": "cn-north-1"}, "'cn-north-1' is none that is supported; those are af-south-1, "),
    ({"aws_region": "eu-centrall-1"}, "eu-central-1"),
    ({"namespace": "aws-team"}, "AWS keeps"),
    ({"namespace": "ssm"}, "AWS keeps"),
    ({"namespace": "My Team"}, "'my-team'"),
    ({"aws_region": "Frankfurt"}, "eu-central-1"),
]


@pytest.mark.parametrize(("answers", "reason"), REFUSED)
def test_an_impossible_answer_is_refused_with_what_would_be_right(
    cookies: Cookies, template: Path, capfd: pytest.CaptureFixture[str], answers: dict[str, str], reason: str
) -> None:
    result = cookies.bake(extra_context={"aws_resources": "skip"} | answers, template=str(template))
    assert result.exit_code != 0
    assert result.project_path is None
    said = capfd.readouterr().err
    assert reason in said
    assert "Traceback" not in said


@pytest.mark.parametrize("command", [["cookiecutter", "{}"], ["cruft", "create", "{}", "--no-input"]])
def test_the_real_command_says_what_is_wrong_and_nothing_more(
    template: Path, tmp_path: Path, command: list[str]
) -> None:
    """Typed at a prompt too: nothing of the template's or of cookiecutter's own working is shown below it."""
    (tmp_path / "into").mkdir()
    typed = "1\nChurn\nCustomer Churn\nWho leaves, and {{ 7 }}\nml\neu-central-1\n3\n"
    words = [sys.executable, "-m", *command]
    if "cruft" in command:
        shutil.copytree(template, tmp_path / "git")
        run_in(tmp_path / "git")("git", "init", "--quiet")
        commit(tmp_path / "git")
        words += ["--extra-context", json.dumps({"project_slug": "Customer Churn"})]
    place = tmp_path / "git" if "cruft" in command else template
    words = [str(place) if word == "{}" else word for word in words]
    done = subprocess.run(words, cwd=tmp_path / "into", input=typed, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "for example 'customer-churn'" in done.stderr
    assert ("template braces" in done.stderr) is ("cookiecutter" in command)
    assert all(line.startswith("- ") for line in done.stderr.splitlines())
    assert not [word for word in ("Traceback", "hook", "ERROR") if word in done.stdout + done.stderr]
    assert not list((tmp_path / "into").iterdir())

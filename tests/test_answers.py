"""Awkward answers render a correct repository, or are refused in one clear line; nothing in between."""

import json
import random
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from cookiecutter.main import cookiecutter
from hooks.answers import problems
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


# what people paste, what programs choke on, and what leads elsewhere
PIECES = [
    *(
        "Churn",
        " ",
        "'",
        '"',
        "\\",
        "`",
        "$(id)",
        "${HOME}",
        "%s",
        "{x}",
        "}}",
        "{{ 7 }}",
        "{% raw %}",
        "{#",
        "#",
        "---",
    ),
    *(
        "\n",
        "\r\n",
        "\t",
        "\x00",
        "\x1b[2J",
        "\u2028",
        "\u202e",
        "\ufeff",
        "\xa0",
        "ß",
        "Ωmega",
        "顧客",
        "👩‍🔬",
        "e\u0301",
    ),
    *(
        "../../etc",
        "/",
        "C:\\",
        "~",
        "con",
        "a" * 60,
        "<script>",
        "&amp;",
        "null",
        "true",
        "[gate]",
        "= 1",
        '"""',
        "'''",
    ),
]
ANSWERED = {"domain": "table", "aws_region": "eu-central-1"}


@pytest.mark.parametrize("seed", range(3))
def test_any_answers_are_taken_or_refused_in_sentences_of_one_line(seed: int) -> None:
    """What is taken can't be anything else in the files that it comes into."""
    draw, taken = random.Random(seed), 0

    def text(most: int) -> str:
        return "".join(draw.choices(PIECES, k=draw.randint(0, most)))

    for _ in range(300):
        answers = {key: text(3) for key in ("project_name", "description")}
        answers |= {key: draw.choice(["team", "a-b2", text(2)]) for key in ("project_slug", "namespace")}
        found = problems(answers | ANSWERED)
        assert [problem for problem in found if not problem.isprintable() or problem[-1] != "."] == []
        if not found:
            taken += 1
            assert re.fullmatch(r"[a-z0-9-]{2,32}", answers["project_slug"])
            texts = answers["project_name"] + answers["description"]
            assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]|\{[{%#]", texts)
    assert taken > 3


def drawn(number: int) -> dict[str, str]:
    """Answers of which the texts are drawn, and the names are legal."""
    draw = random.Random(number)
    found = dict[str, str]()
    while not found or problems(found | ANSWERED):
        found = {key: "".join(draw.sample(PIECES, 3)) for key in ("project_name", "description")}
        found |= {"project_slug": f"case-{number}", "namespace": "team"}
    return found


@pytest.mark.parametrize("number", range(4))
def test_texts_that_are_drawn_arrive_unchanged_and_everything_compiles(
    cookies: Cookies, template: Path, number: int
) -> None:
    answers = drawn(number) | {"aws_resources": "skip", "domain": ("table", "image", "timeseries")[number % 3]}
    result = cookies.bake(extra_context=answers, template=str(template))
    assert result.exit_code == 0
    usecase = tomllib.loads((result.project_path / "usecase.toml").read_text(encoding="utf-8"))["usecase"]
    assert (usecase["title"], usecase["description"]) == (answers["project_name"], answers["description"])
    record = json.loads((result.project_path / ".template.json").read_text(encoding="utf-8"))
    assert {key: record["answers"][key] for key in ("project_name", "description")} == {
        key: answers[key] for key in ("project_name", "description")
    }
    run = run_in(result.project_path)
    run(str(Path(sys.executable).with_name("ruff")), "check", ".")
    run(str(Path(sys.executable).with_name("ruff")), "format", "--check", ".")
    if not number:
        run("env", f"COMPONENTS_PYTHON={sys.executable}", sys.executable, "-m", "batchloop", "compile")
        run(sys.executable, "-m", "batchloop", "templates")


@pytest.mark.parametrize(
    "slug",
    ["../outside", "/tmp/outside", "a/b", "..", ".", "", "a b", "-rf", "a\nb", "{{ 7 }}", "$(touch x)", "x" * 300],
)
def test_a_slug_that_leads_elsewhere_leaves_nothing_behind(
    template: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], slug: str
) -> None:
    (tmp_path / "into").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SystemExit):
        cookiecutter(
            str(template),
            no_input=True,
            output_dir=str(tmp_path / "into"),
            extra_context={"project_slug": slug, "aws_resources": "skip"},
        )
    assert sorted(tmp_path.rglob("*")) == before
    said = capfd.readouterr().err
    assert re.fullmatch(r"(- .+\n)+", said)
    assert "project_slug" in said

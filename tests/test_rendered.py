"""What one command renders: these files, without a trace of the template, in a git repository of its own."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

import pytest

from conftest import ROOT, TEMPLATE, run_in, template_files

RECORD = ".template.json"  # which the hook writes
Render = Callable[..., Path]


@pytest.fixture(scope="module")
def rendered(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("rendered"))


def files(folder: Path) -> list[Path]:
    """Every file that was rendered; git's own are not."""
    return sorted(file for file in folder.rglob("*") if file.is_file() and ".git" not in file.relative_to(folder).parts)


def test_exactly_these_files_are_rendered(rendered: Path) -> None:
    expected = (ROOT / "tests" / "rendered-files.txt").read_text(encoding="utf-8").splitlines()
    assert sorted(file.relative_to(rendered).as_posix() for file in files(rendered)) == sorted([*expected, RECORD])
    assert [name for name in template_files() if not name.startswith("domains/")] == expected


def test_nothing_of_the_template_is_left_over(rendered: Path) -> None:
    for file in files(rendered):
        text = file.read_text(encoding="utf-8")
        assert "cookiecutter." not in text, file
        assert (
            file.suffix in (".html", ".jinja", ".py")
            or file.parent.parent.name == ".github"
            or not re.search(r"{{ |{% ", text)
        ), file


def test_python_files_are_copied_and_never_rendered(rendered: Path) -> None:
    for name in template_files():
        if name.endswith(".py") and not name.startswith("domains/"):
            assert (rendered / name).read_bytes() == (TEMPLATE / name).read_bytes()
            assert "{{ cookiecutter" not in (TEMPLATE / name).read_text(encoding="utf-8"), name


def test_rendering_starts_one_hook_and_copies_the_plumbing_as_a_folder() -> None:
    """Each hook is a process, and each file that is not in such a folder a template more, for its name."""
    assert [file.name for file in (ROOT / "hooks").glob("*_*.py")] == ["post_gen_project.py"]
    settings = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
    assert "batchloop" in settings["_copy_without_render"]
    assert not [name for name in template_files() if name.startswith("batchloop/") and "cookiecutter" in name]


def test_only_files_with_an_answer_in_them_are_rendered() -> None:
    """To read a file as a template takes longer than to copy it."""
    patterns = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))["_copy_without_render"]
    for name in template_files():
        copied = any(fnmatch(str(part), pattern) for part in (name, *Path(name).parents) for pattern in patterns)
        assert copied != ("{{ cookiecutter" in (TEMPLATE / name).read_text(encoding="utf-8")), name


def test_the_rendered_folder_is_a_git_repository(rendered: Path) -> None:
    assert (rendered / ".git").is_dir()


def test_no_repository_is_started_inside_another(render: Render, tmp_path: Path) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    assert not (render(tmp_path) / ".git").exists()


def test_the_plan_names_every_resource_and_creates_none(
    render: Render, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    render(tmp_path, aws_resources="plan", namespace="team", project_slug="case")
    said = capfd.readouterr().out
    for component in ("processing", "algorithm", "monitoring", "explainability"):
        assert f"team/case/{component}" in said
        assert f"/team/case/dev/components/{component}/image" in said
        assert f"/team/case/dev/components/{component}/artifact" in said
    assert "/team/case/dev/release" in said
    assert "/team/case/dev/retraining" in said


def test_every_make_target_that_a_page_names_exists_and_takes_what_is_named(rendered: Path) -> None:
    makefile = (rendered / "Makefile").read_text(encoding="utf-8")
    blocks = dict(re.findall(r"(?ms)^([a-z]+):([^=].*?)(?=^\S|\Z)", makefile))
    pages = [*rendered.glob("*.md"), *rendered.glob("docs/*.md"), ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    found = 0
    for page in pages:
        own = page.parent in (ROOT, ROOT / "docs")
        parts = page.read_text(encoding="utf-8").split("```")  # every second one is a block
        named = [each for part in parts[::2] for each in re.findall(r"`make ([a-z]+)((?: [A-Z_]+=)?)", part)]
        named += [each for part in parts[1::2] for each in re.findall(r"(?m)^make ([a-z]+)((?: [A-Z_]+=)?)", part)]
        for verb, given in named:
            if own and re.search(rf"(?m)^{verb}:", (ROOT / "Makefile").read_text(encoding="utf-8")):
                continue
            assert verb in blocks, f"{page.name}: make {verb}"
            names = [*re.findall(r"[A-Z_]+", blocks[verb]), "PYTHON", "VERBOSE"]
            assert given.strip(" =") in ["", *names, *(["BASE_IMAGE"] if "ON" in names else [])], (
                f"{page}: {verb}{given}"
            )
            found += 1
    assert found > 50


def test_the_readme_is_two_screens_and_its_links_lead_somewhere(rendered: Path) -> None:
    text = (rendered / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 80
    assert [line for line in text.splitlines() if len(line) > 120] == []
    [commands] = re.findall(r"(?ms)^## Five commands\n```\n(.*?)^```", text)
    assert [line.split()[:2] for line in commands.splitlines()] == [
        ["make", verb] for verb in ("train", "score", "adopt", "train", "score")
    ]
    assert {file.name for file in (rendered / "docs").iterdir()} == set(re.findall(r"\]\(docs/([^)]+)\)", text))


def test_the_maps_for_agents_are_a_page_each(rendered: Path) -> None:
    for root in (rendered, ROOT):
        text = (root / "AGENTS.md").read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 60
        named = set(re.findall(r"`([\w.{}-]+/[\w./{}-]*|[\w-]+\.(?:toml|md|lock))`", text)) - {"local/"}
        assert [name for name in named if not (root / name).exists() and not (rendered / name).exists()] == []
    text = (rendered / "AGENTS.md").read_text(encoding="utf-8")
    modules = [*rendered.glob("components/*/*.py"), *rendered.glob("tests/*.py")]
    for star in [file for file in modules if "★" in file.read_text(encoding="utf-8")[:20]]:
        assert star.relative_to(rendered).as_posix() in text


def test_the_rendered_makefile_lists_its_targets(rendered: Path) -> None:
    listed = run_in(rendered)("make").stdout
    for target in ("train", "score", "adopt", "check", "test"):
        assert f"make {target}" in listed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("demo DOMIAN=image", "make demo takes no DOMIAN; did you mean DOMAIN? It takes DOMAIN ON BASE_IMAGE."),
        ("demo on=docker", "make demo takes no on; did you mean ON?"),
        ("test ON=docker", "make test takes no ON. It takes nothing."),
        ("bench ROW=100", "make bench takes no ROW; did you mean ROWS?"),
        ("bench QUICK=1", "QUICK=1: it is yes or no"),
        ("demo DOMAIN=tabel", "DOMAIN=tabel: it is table, image or timeseries"),
        ("dmeo", "make has no verb dmeo; did you mean demo?"),
    ],
)
def test_the_template_s_own_makefile_refuses_what_it_would_not_use_too(words: str, said: str) -> None:
    done = run_in(ROOT)("make", *words.split(), succeeds=False)
    assert said in done.stderr
    assert done.stdout == ""


def test_what_the_template_s_makefile_takes_reaches_the_rendered_one(tmp_path: Path) -> None:
    """There each verb refuses what it doesn't take, DOMAIN among it."""
    inner = tmp_path / "build" / "drawn-shapes"
    inner.mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(TEMPLATE / "Makefile", inner)
    said = run_in(tmp_path)("make", "--old-file=setup", "--dry-run", "demo", "DOMAIN=image", "ON=docker").stdout
    assert '-m batchloop train --env="$ENV" --on="$ON"' in said


def tree(readme: str) -> list[str]:
    """The lines of the README's drawing of the repository that begin with a name."""
    blocks = re.findall(r"(?ms)^```$(.*?)^```$", readme)
    [drawing] = [block for block in blocks if "usecase.toml" in block and "★" in block]
    return [line for line in drawing.splitlines() if line.strip() and not line.startswith(" " * 20)]


def test_the_tree_in_both_readmes_is_the_tree(rendered: Path) -> None:
    folders = {path.name for path in rendered.iterdir() if path.is_dir()} - {".git"}
    for root in (rendered, ROOT):
        lines = tree((root / "README.md").read_text(encoding="utf-8"))
        for line in lines:
            name = line.split()[0]
            assert any((folder / name).exists() for folder in (rendered, rendered / "components", rendered.parent)), (
                line
            )
            for file in re.findall(r"(?<![\w./-])[a-z_]+\.(?:py|toml|yaml)", line):
                assert list(rendered.rglob(file)), f"{line}: {file}"
        assert folders <= {line.split()[0].strip("/") for line in lines}


def test_the_owner_sees_few_files_and_little_code() -> None:
    """The house's budgets: what is not the plumbing, its dependency locks apart."""
    names = [name for name in template_files() if not name.startswith(("batchloop/", "locks/", "domains/"))]
    assert len(names) <= 60
    lines = {name: (TEMPLATE / name).read_text(encoding="utf-8").count("\n") for name in names if name.endswith(".py")}
    assert sum(lines.values()) <= 2600, sum(lines.values())


PLUMBING = 22_668  # lines of Python in batchloop/: what comes in takes something out (docs/decisions.md)


def test_the_plumbing_does_not_grow() -> None:
    names = [name for name in template_files() if name.startswith("batchloop/") and name.endswith(".py")]
    lines = {name: (TEMPLATE / name).read_text(encoding="utf-8").count("\n") for name in names}
    assert PLUMBING - 100 < sum(lines.values()) <= PLUMBING, sum(lines.values())
    assert {name: count for name, count in lines.items() if count > 400} == {}

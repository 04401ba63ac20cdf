"""What one command renders: these files, without a trace of the template, in a git repository of its own."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import ROOT, TEMPLATE, run_in, template_files

Render = Callable[..., Path]


@pytest.fixture(scope="module")
def rendered(render: Render, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render(tmp_path_factory.mktemp("rendered"))


def files(folder: Path) -> list[Path]:
    """Every file that was rendered; git's own are not."""
    return sorted(file for file in folder.rglob("*") if file.is_file() and ".git" not in file.relative_to(folder).parts)


def test_exactly_these_files_are_rendered(rendered: Path) -> None:
    expected = (ROOT / "tests" / "rendered-files.txt").read_text(encoding="utf-8").splitlines()
    assert sorted(file.relative_to(rendered).as_posix() for file in files(rendered)) == expected
    assert [name for name in template_files() if not name.startswith("domains/")] == expected


def test_nothing_of_the_template_is_left_over(rendered: Path) -> None:
    for file in files(rendered):
        text = file.read_text(encoding="utf-8")
        assert "cookiecutter." not in text, file
        assert file.suffix in (".html", ".jinja", ".py") or not re.search(r"{{ |{% ", text), file


def test_python_files_are_copied_and_never_rendered(rendered: Path) -> None:
    for name in template_files():
        if name.endswith(".py"):
            assert (rendered / name).read_bytes() == (TEMPLATE / name).read_bytes()
            assert "{{ cookiecutter" not in (TEMPLATE / name).read_text(encoding="utf-8"), name


def test_rendering_starts_one_hook_and_copies_the_plumbing_as_a_folder() -> None:
    """Each hook is a process, and each file that is not in such a folder a template more, for its name."""
    assert [file.name for file in (ROOT / "hooks").glob("*_*.py")] == ["post_gen_project.py"]
    settings = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
    assert "batchloop" in settings["_copy_without_render"]
    assert not [name for name in template_files() if name.startswith("batchloop/") and "cookiecutter" in name]


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


def test_every_make_target_of_the_readme_exists(rendered: Path) -> None:
    for root in (rendered, ROOT):
        makefile = (root / "Makefile").read_text(encoding="utf-8")
        targets = set(re.findall(r"`make ([a-z]+)", (root / "README.md").read_text(encoding="utf-8")))
        assert targets
        for target in targets - {"images"}:
            assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE) or root == ROOT, target


def test_the_rendered_makefile_lists_its_targets(rendered: Path) -> None:
    listed = run_in(rendered)("make").stdout
    for target in ("train", "score", "adopt", "check", "test"):
        assert f"make {target}" in listed


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


PLUMBING = 19_805  # lines of Python in batchloop/; it is to go down, to 11,000 (docs/decisions.md)


def test_the_plumbing_does_not_grow() -> None:
    names = [name for name in template_files() if name.startswith("batchloop/") and name.endswith(".py")]
    lines = {name: (TEMPLATE / name).read_text(encoding="utf-8").count("\n") for name in names}
    assert PLUMBING - 100 < sum(lines.values()) <= PLUMBING, sum(lines.values())
    assert {name: count for name, count in lines.items() if count > 400} == {}

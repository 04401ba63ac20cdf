"""What one command renders: these files, without a trace of the template, in a git repository of its own."""

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
    assert template_files() == expected


def test_nothing_of_the_template_is_left_over(rendered: Path) -> None:
    for file in files(rendered):
        text = file.read_text(encoding="utf-8")
        assert "cookiecutter." not in text, file
        assert file.suffix in (".html", ".py") or not re.search(r"{{ |{% ", text), file


def test_python_files_are_copied_and_never_rendered(rendered: Path) -> None:
    for name in template_files():
        if name.endswith(".py"):
            assert (rendered / name).read_bytes() == (TEMPLATE / name).read_bytes()
            assert "{{ cookiecutter" not in (TEMPLATE / name).read_text(encoding="utf-8"), name


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

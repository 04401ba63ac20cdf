"""Imports point one way, so that each part can be read, replaced and shipped without the others."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMPONENTS = {"processing", "algorithm", "monitoring", "explainability"}
OURS = COMPONENTS | {"runtime", "pipelines", "operations", "data", "functions"}
ALLOWED = {
    "runtime": set[str](),
    "processing": {"runtime"},
    "algorithm": {"runtime"},
    "monitoring": {"runtime"},
    "explainability": {"runtime"},
    "pipelines": {"runtime"},
    "functions": set[str](),  # what goes to Lambda holds nothing else
    "operations": {"runtime", "pipelines", "functions"},
    "data": set[str](),
}
NOT_IN_IMAGES = {"sagemaker", "boto3", "botocore"}
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc"}


def imports(file: Path) -> set[str]:
    """Dotted names a file imports; `from algorithm import model` counts as algorithm.model."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(package: str) -> list[Path]:
    inside = "components" if package in COMPONENTS | {"runtime"} else "infra" if package == "functions" else ""
    return sorted((ROOT / inside / package).rglob("*.py"))


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_a_package_imports_only_what_it_may(package: str) -> None:
    assert files(package)
    for file in files(package):
        for name in imports(file):
            first = name.partition(".")[0]
            if first in OURS - {package}:
                allowed = any(name == rule or name.startswith(f"{rule}.") for rule in ALLOWED[package])
                assert allowed, f"{file.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("package", sorted(COMPONENTS | {"runtime"}))
def test_what_goes_into_an_image_knows_no_sdk(package: str) -> None:
    for file in files(package):
        found = {name.partition(".")[0] for name in imports(file)} & NOT_IN_IMAGES
        assert not found, f"{file.relative_to(ROOT)} imports {found}"


LIBRARIES = {"lightgbm"}  # that model.py and attributions.py are written for
STARRED = {"algorithm/model.py", "explainability/attributions.py"}


@pytest.mark.parametrize("package", sorted(COMPONENTS | {"runtime"}))
def test_only_starred_files_name_the_model_library(package: str) -> None:
    for file in files(package):
        if file.relative_to(ROOT / "components").as_posix() not in STARRED:
            assert not {name.partition(".")[0] for name in imports(file)} & LIBRARIES, file.relative_to(ROOT)


def test_every_module_says_in_a_line_what_it_is_for() -> None:
    for package in OURS:
        for file in files(package):
            assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), file.relative_to(ROOT)
            assert file.stem not in VAGUE, file.relative_to(ROOT)


def test_every_component_looks_like_every_other() -> None:
    for component in COMPONENTS:
        names = {file.name for file in files(component)}
        assert {"__init__.py", "__main__.py", "train.py", "serve.py"} <= names, component

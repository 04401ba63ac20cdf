"""Imports point one way, so that each part can be read, replaced and shipped without the others."""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from batchloop import repository
from batchloop.repository import Repository
from plumbing.rendered import ROOT

COMPONENTS = ("processing", "algorithm", "monitoring", "explainability")
OURS = ("batchloop", "components", "pipelines", "data")
ALLOWED = {  # what of this repository a folder may import beside itself
    "batchloop/container": set[str](),
    "batchloop/control": set[str](),  # what goes to Lambda holds nothing else
    "batchloop/pipelines": {f"batchloop.{name}" for name in ("container", "control", "environment", "repository")},
    "batchloop": {"batchloop"},
    "pipelines": {"batchloop.container", "batchloop.environment", "batchloop.pipelines"},
    "data": set[str](),
    **{f"components/{name}": {"batchloop.container"} for name in COMPONENTS},
}
LIBRARIES = {"lightgbm"}  # that model.py and attributions.py are written for
STARRED = {"components/algorithm/model.py", "components/explainability/attributions.py"}
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc"}


def imports(file: Path) -> set[str]:
    """Dotted names a file imports; `from batchloop.container import raw` counts as batchloop.container.raw."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def within(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


@pytest.mark.parametrize("folder", ALLOWED)
def test_a_folder_imports_only_what_it_may(folder: str) -> None:
    assert files(folder)
    allowed = ALLOWED[folder] | {folder.replace("/", ".")}
    for file in files(folder):
        for name in imports(file):
            if name.partition(".")[0] in OURS:
                assert any(within(name, package) for package in allowed), f"{file.relative_to(ROOT)} imports {name}"


def test_modules_import_each_other_in_no_circle() -> None:
    names = {file.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."): file for file in files("batchloop")}
    used = {name: imports(file) for name, file in names.items()}
    graph = {
        name: {module for module in names if module != name and any(within(one, module) for one in used[name])}
        for name in names
    }
    assert len(list(TopologicalSorter(graph).static_order())) == len(names)


@pytest.mark.parametrize("folder", ["batchloop/container", "components"])
def test_what_goes_into_an_image_knows_no_sdk(folder: str) -> None:
    for file in files(folder):
        found = {name.partition(".")[0] for name in imports(file)} & {"sagemaker", "boto3", "botocore"}
        assert not found, f"{file.relative_to(ROOT)} imports {found}"


def test_only_starred_files_name_the_model_library() -> None:
    for file in [*files("batchloop"), *files("components"), *files("pipelines")]:
        if file.relative_to(ROOT).as_posix() not in STARRED:
            assert not {name.partition(".")[0] for name in imports(file)} & LIBRARIES, file.relative_to(ROOT)


def test_every_module_says_in_a_line_what_it_is_for() -> None:
    for folder in OURS:
        for file in files(folder):
            assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))), file.relative_to(ROOT)
            assert file.stem not in VAGUE, file.relative_to(ROOT)


def test_every_component_looks_like_every_other() -> None:
    starred = ("features.py", "model.py", "drift.py", "attributions.py")
    for component, own in zip(COMPONENTS, starred, strict=True):
        names = {file.name for file in files(f"components/{component}")}
        assert {"__init__.py", own, "train.py", "serve.py"} <= names, component


def copied(target: str) -> set[str]:
    """The sources that the Dockerfile copies into an image, by their path here."""
    text = (ROOT / "components" / "Dockerfile").read_text(encoding="utf-8")
    [stage] = re.findall(rf"(?ms)^FROM \S+ AS {target}$(.*?)(?=^FROM|\Z)", text)
    paths = [path.replace("/opt/program/", "") for path in re.findall(r"COPY --from=code (\S+)", stage)]
    sources = {file for path in paths if path != "/opt/model" for file in expanded(path)}
    if "/opt/model" in paths:  # algorithm, less what is removed of it
        [removed] = re.findall(r"rm (/opt/model/.*?) &&", text)
        sources |= expanded("components/algorithm")
        sources -= {f"components/algorithm/{Path(path).name}" for path in removed.split()}
    whole = {file for file in sources if file.startswith("batchloop/")}
    return (sources - whole) | {"batchloop/__init__.py"} | expanded("batchloop/container")


def expanded(path: str) -> set[str]:
    """The files that a path, which may hold a *, and the folders it names stand for."""
    found = [file for entry in ROOT.glob(path) for file in [entry, *entry.rglob("*")] if file.is_file()]
    return {file.relative_to(ROOT).as_posix() for file in found if "__pycache__" not in file.parts}


@pytest.mark.parametrize("component", COMPONENTS)
def test_an_image_s_hash_covers_what_is_in_it_and_nothing_else(component: str) -> None:
    """A change in the command line or in another component builds no image anew."""
    recipe = {"components/Dockerfile", "components/install.sh", f"locks/{component}.txt"}
    hashed = {name for name in repository.parts(Repository(ROOT), component) if not name.startswith("usecase.toml")}
    assert hashed == copied(component) | recipe

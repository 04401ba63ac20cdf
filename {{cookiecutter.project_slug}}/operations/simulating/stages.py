"""The stages that the simulation goes through: a folder each, with production rows to score and rows to learn from."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from functions.memory import order
from operations import compiling
from operations.failures import Failure
from operations.repository import Repository
from operations.simulating.options import Options
from runtime import files
from runtime.failures import InputError

ABOUT = "about.txt"
PARTS = ("production", "train", "validation", "labels")


@dataclass(frozen=True)
class Stage:
    """`place` counts from 1; the folder holds production/, train/ and, where [split] asks for it, validation/."""

    place: int
    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def about(self) -> str:
        """What it is, in the words of its about.txt; "" without one."""
        file = self.folder / ABOUT
        return file.read_text(encoding="utf-8").strip() if file.is_file() else ""

    def bring(self, window: Path, labelled: bool = False) -> None:
        """Put copies of its files where a window's data lies, each part in one rename.

        `labelled`: its production rows hold their labels, which are the window's labels too.
        """
        sources = {part: self.folder / part for part in PARTS}
        if labelled and not sources["labels"].is_dir():
            sources["labels"] = sources["production"]
        for part, source in sources.items():
            target = window / part
            if source.is_dir() and not target.exists():
                partial = window / f".{part}"
                shutil.rmtree(partial, ignore_errors=True)
                shutil.copytree(source, partial, ignore=shutil.ignore_patterns(".*"))
                partial.rename(target)


def found(repository: Repository, options: Options) -> list[Stage]:
    """The user's stages in the order of windows, numbers by value; or the sample's. Raises Failure."""
    folder = Path(options.stages).expanduser().absolute() if options.stages else _sample(repository, options)
    if not folder.is_dir():
        raise Failure(f"{options.stages} is no folder; give one that holds <stage>/production and <stage>/train.")
    names = sorted((path.name for path in folder.iterdir() if (path / "production").is_dir()), key=order)
    stages = [Stage(place, folder / name) for place, name in enumerate(names, 1)]
    if not stages:
        raise Failure(f"{folder.name} holds no <stage>/production; each stage has that and <stage>/train.")
    for part, wanted in (("production", stages), ("train", stages[:1])):
        for stage in wanted:
            _check(stage, part)
    return stages


def _check(stage: Stage, part: str) -> None:
    """Later stages may lack train/: a retraining then waits for it. Raises Failure."""
    try:
        files.find(stage.folder / part)
    except InputError as error:
        raise Failure(f"stage {stage.name}: {error}") from None


def _sample(repository: Repository, options: Options) -> Path:
    """The sample's stages, written anew where they were made with other arguments. Raises Failure."""
    if repository.window() != "sample":
        raise Failure(
            "the sample's stages are none of your own table; give STAGES=folder with <stage>/production and "
            "<stage>/train (STAGES=data goes through the windows you have)."
        )
    folder, made = repository.local / "stages", f"{options.rows} rows, seed {options.seed}"
    stamp = folder / ".made"
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != made:
        shutil.rmtree(folder, ignore_errors=True)
        arguments = ("--rows", str(options.rows), "--seed", str(options.seed), "--output", str(folder))
        compiling.run_module(repository, "data.stages", *arguments)
        stamp.write_text(made, encoding="utf-8")
    return folder

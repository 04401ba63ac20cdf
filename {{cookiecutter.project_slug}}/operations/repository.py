"""Where things lie in this repository, and which Python runs its components."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operations.failures import Failure

LABELLED = "labelled.parquet"  # below a window's train/: scored rows whose labels have come
COMPONENTS = ("processing", "algorithm", "monitoring", "explainability")


@dataclass(frozen=True)
class Repository:
    """The folder that holds usecase.toml; what runs leave behind goes below `local/`, which git ignores."""

    root: Path

    @property
    def local(self) -> Path:
        return self.root / "local"

    @property
    def release(self) -> Path:
        """The manifest of the released model."""
        return self.local / "release.json"

    def compiled(self, environment: str) -> Path:
        """The folder of training.json and inference.json."""
        return self.local / "compiled" / environment

    def tables(self) -> dict[str, Any]:
        """usecase.toml as it stands. Raises Failure where it is missing or no TOML."""
        from runtime import settings  # noqa: PLC0415 - needs components/ on sys.path
        from runtime.failures import InputError  # noqa: PLC0415

        try:
            return settings.read(self.root / "usecase.toml", "usecase.toml")[0]
        except FileNotFoundError:
            raise Failure("usecase.toml is missing; run from the folder that holds it.") from None
        except InputError as error:
            raise Failure(str(error)) from None

    def names(self) -> tuple[str, str]:
        """The namespace and the use case's name. Raises Failure where [usecase] lacks one."""
        about = self.tables().get("usecase", {})
        for key in ("namespace", "name"):
            if not isinstance(about, dict) or not about.get(key):
                raise Failure(f"usecase.toml: [usecase] needs {key}: it begins the names of everything in AWS.")
        return str(about["namespace"]), str(about["name"])

    def pipeline(self, environment: str, name: str) -> str:
        """What the training or inference pipeline is called in AWS."""
        return f"{'-'.join(self.names())}-{environment}-{name}"

    def image(self, component: str, version: str) -> str:
        """What an image is called on this machine: the repository as in AWS, and the content's hash as the tag."""
        return f"local/{'/'.join(self.names())}/{component}:{version}"

    def python(self) -> str:
        """The Python that has what the images have: COMPONENTS_PYTHON, .venv-components, or this one."""
        chosen = os.environ.get("COMPONENTS_PYTHON", "")
        own = self.root / ".venv-components" / "bin" / "python"
        if chosen and Path(chosen).exists():
            return chosen
        return str(own) if own.exists() else sys.executable

    def window(self) -> str:
        """The name of the data in use: the one line of data/window, or the sample."""
        file = self.root / "data" / "window"
        name = file.read_text(encoding="utf-8").strip() if file.is_file() else ""
        return name or "sample"

    def data(self, part: str) -> Path:
        """The folder of train, validation or production data."""
        return self.root / "data" / self.window() / part

    def shown(self, path: Path) -> str:
        """A path as a person in this folder would type it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


def here() -> Repository:
    """The repository this module lies in."""
    return Repository(Path(__file__).resolve().parents[1])

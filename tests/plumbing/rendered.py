"""One rendered repository, for all tests of its plumbing; what they import of it is there.

It lies in the folder that RENDERED names, and where that is not set, in one of its own for this run: the first
process makes it, those that it starts get the variable, and it is gone at the end.
"""

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

from cookiecutter.main import cookiecutter

TEMPLATE = Path(__file__).resolve().parents[2]


def _rendered() -> Path:
    if "RENDERED" not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="a rendered "))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        copy = folder / "template"
        left_out = shutil.ignore_patterns("__pycache__", ".*_cache", ".venv*", "build")
        copy.mkdir()
        for name in ("cookiecutter.json", "hooks", "{{cookiecutter.project_slug}}"):
            source = TEMPLATE / name
            shutil.copytree(source, copy / name, ignore=left_out) if source.is_dir() else shutil.copy(source, copy)
        made = cookiecutter(str(copy), no_input=True, output_dir=str(folder), extra_context={"aws_resources": "skip"})
        os.environ["RENDERED"] = made
    folder = Path(os.environ["RENDERED"]).resolve()
    os.environ["RENDERED"] = str(folder)  # also for processes that are started elsewhere
    return folder


ROOT = _rendered()
sys.path.insert(0, str(ROOT))

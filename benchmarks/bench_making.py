"""Rows about the repository itself: rendering it, its first commands, and what its components import."""

import json
import shutil
import time
from contextlib import suppress
from pathlib import Path

from bench_measure import Command, Failed, Goal, Plan, Row, Subject, Values, calibrate, run, start_process, wait
from bench_places import BIN, TEMPLATE, Places, call, plain
from bench_serving import cpu, own, session

OURS = "template"


def workspace(places: Places, name: str) -> Path:
    """A repository as rendered a moment ago, its tools installed."""
    folder = places.root / "jobs" / name
    shutil.rmtree(folder, ignore_errors=True)
    left_out = shutil.ignore_patterns(".venv*", "local", "__pycache__", "sample", ".git")
    shutil.copytree(places.repository, folder, ignore=left_out)
    for environment in (".venv", ".venv-components"):
        (folder / environment).symlink_to(places.repository / environment)
    return folder


def made(places: Places, target: str, folder: str) -> Subject:
    """`make <target>` in a fresh repository."""

    def subject() -> Values:
        place = workspace(places, folder)
        log = places.root / "logs" / f"make-{target}.log"
        return run(Command(("make", target), plain() | {"PYTHONDONTWRITEBYTECODE": "1"}, log, place))

    return subject


def calibration() -> Values:
    """What the machine takes for a fixed work, as a subject."""
    cpu = time.process_time()
    return {"wall": calibrate(), "cpu": time.process_time() - cpu}


def first_compile(places: Places) -> Row:
    subjects = {"make compile": made(places, "compile", "compiled"), "calibration": calibration}
    goals = (
        Goal("make compile", "", "wall", 3.0),
        Goal("make compile", "calibration", "cpu", 11, quick=28),
    )
    return Row("first compile, tools installed", subjects, goals, plan=Plan(2 if places.quick else 5))


def warm_score(places: Places) -> Row:
    """`make score` of an unchanged repository, until its first step's container starts."""
    place = workspace(places, "warm")
    for target in ("train", "score"):
        call("make", target, folder=place)

    def subject() -> Values:
        start = time.perf_counter()
        process = start_process(Command(("make", "score"), plain(), places.root / "logs" / "warm.log", place))
        try:
            while not (started := _container(process.pid)) and process.poll() is None:
                time.sleep(0.002)
            if not started:
                raise Failed("make score ended without starting a step")
            return {"cpu": cpu(process.pid, children=True) - started, "wall": time.perf_counter() - start}
        finally:
            wait(process, 120)

    return Row(
        "make score again, until its first step starts", {"make score": subject}, (Goal("make score", "", "cpu", 0.5),)
    )


def _container(leader: int) -> float:
    """CPU seconds of the first container among what `leader` started, 0 where there is none yet."""
    for place in session(leader):
        with suppress(OSError):
            if b"batchloop.container" in (place / "cmdline").read_bytes():
                return max(own(place), 1e-6)
    return 0.0


def first_train(places: Places) -> Row:
    subjects = {"make train": made(places, "train", "trained")}
    return Row("first make train, tools installed", subjects, (Goal("make train", "", "wall", 5.0),))


def render(places: Places) -> Row:
    """With hooks, the plan printed; beside a template of the size of cookiecutter-pypackage."""
    ours, peer = places.template(), stand_in(places.root / "stand-in")

    def rendered(template: Path, name: str) -> Subject:
        def subject() -> Values:
            target = places.root / "jobs" / name
            shutil.rmtree(target, ignore_errors=True)
            words = (str(BIN / "cookiecutter"), str(template), "--no-input", "--output-dir", str(target))
            return run(Command(words, plain(), places.root / "logs" / f"{name}.log", places.root))

        return subject

    subjects = {OURS: rendered(ours, "rendered"), "32 files": rendered(peer, "stand-in")}
    goal = Goal(OURS, "32 files", "wall", 1.1, quick=3.0)
    count = sum(1 for file in (ours / TEMPLATE.name).rglob("*") if file.is_file())
    said = f"{count} files and two hooks against a made-up template of 32 files and two, cookiecutter-pypackage's size"
    return Row("render with hooks", subjects, (goal,), lambda: said)


def stand_in(folder: Path) -> Path:
    """A template of 32 files of 40 lines that each use an answer, and two hooks in Python."""
    inside = folder / "{{cookiecutter.slug}}" / "package"
    inside.mkdir(parents=True, exist_ok=True)
    answers = {"name": "A package", "slug": "a-package", "author": "Somebody", "version": "0.1.0", "year": "2026"}
    (folder / "cookiecutter.json").write_text(json.dumps(answers), encoding="utf-8")
    line = "# {{ cookiecutter.name }} {{ cookiecutter.version }}, a line like those that a package has\n"
    for number in range(32):
        (inside / f"module_{number}.txt").write_text(line * 40, encoding="utf-8")
    (folder / "hooks").mkdir(exist_ok=True)
    check = "import re, sys\nsys.exit(not re.fullmatch('[a-z][a-z0-9-]*', '{{ cookiecutter.slug }}'))\n"
    (folder / "hooks" / "pre_gen_project.py").write_text(check, encoding="utf-8")
    (folder / "hooks" / "post_gen_project.py").write_text("from pathlib import Path\nPath.cwd()\n", encoding="utf-8")
    return folder


def imports(places: Places) -> Row:
    """What starting costs before a component looks at its input, and the packages it needs."""
    variables = {"PYTHONPATH": str(places.repository)}

    def starting(name: str, modules: str) -> Subject:
        log = places.root / "logs" / f"import-{name}.log"
        command = places.script(places.python, "bench_limits.py", "", **variables)
        words = (str(places.python), "-c", f"import {modules}")
        return lambda: run(Command(words, command.environment, log, places.root))

    parts = ("processing", "algorithm", "monitoring", "explainability")
    subjects = {name: starting(name, f"components.{name}.train, components.{name}.serve") for name in parts}
    subjects["polars"] = starting("polars", "polars")

    def check() -> str:
        locks = places.repository / "locks"
        sizes = {name: places.ask("packages", locks / f"{name}.txt") for name in parts}
        return "MiB of packages: " + ", ".join(f"{name} {size:.0f}" for name, size in sizes.items())

    goals = tuple(
        Goal(name, "polars", "cpu", limit, quick=limit) for name, limit in zip(parts, (2, 6, 4, 6), strict=True)
    )
    return Row("imports", subjects, goals, check)

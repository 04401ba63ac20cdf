"""Where things are: the rendered repository, environments, tables, artifacts, and the components' jobs.

A component is started as the local engine starts it (batchloop/engine/processes.py): the same words, the same few
variables, what the compiled definition gives its container, and a folder that stands for /opt/ml.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_measure import Command, Failed, Subject, Values, run

HERE = Path(__file__).resolve().parent
CLONE = HERE.parent
TEMPLATE = CLONE / "{{cookiecutter.project_slug}}"
BIN = Path(sys.executable).parent  # of the template's own environment
KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "POLARS_MAX_THREADS")
HOST = {"current_host": "algo-1", "hosts": ["algo-1"]}
SPLITS = ("train", "validation", "test", "champion_test")
CACHES = shutil.ignore_patterns("__pycache__", ".*_cache", ".venv*", "build", "local")


def plain() -> dict[str, str]:
    """The caller's environment without what belongs to its project, or to make."""
    left_out = ("VIRTUAL_ENV", "MAKEFLAGS", "MAKELEVEL", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "COMPONENTS_PYTHON")
    return {key: value for key, value in os.environ.items() if key not in left_out}


def call(*words: object, folder: Path = CLONE) -> str:
    """What a command prints; it is not measured. Raises Failed."""
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=folder, env=plain(), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"{' '.join(command)[:300]} gave {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    return done.stdout


def code(path: Path) -> str:
    """A hash of a file, or of those in a folder: what was made by other code is made anew."""
    sums = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        inside = file.relative_to(path.parent).parts[:-1]
        if file.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in inside):
            sums.update(file.name.encode() + b"\0" + file.read_bytes())
    return sums.hexdigest()[:16]


@dataclass(frozen=True)
class Contract:
    """How the shipped usecase.toml is changed: columns, with ranges on or off, and keys of other tables."""

    numbers: int = 20
    categories: int = 8
    ranges: bool = False
    settings: Mapping[str, object] = field(default_factory=dict)

    def write(self, shipped: Path, target: Path) -> None:
        """The usecase.toml of the measured tables. Raises KeyError for a key that the shipped one does not have."""
        text = shipped.read_text(encoding="utf-8")
        limits = ", minimum = -1e9, maximum = 1e9" if self.ranges else ""
        lines = [f'n{number} = {{ type = "number"{limits} }}' for number in range(self.numbers)]
        lines += [f'c{number} = {{ type = "category" }}' for number in range(self.categories)]
        text = re.sub(r"(?ms)^\[columns\].*?(?=^\[)", "[columns]\n" + "\n".join(lines) + "\n\n", text)
        for key, value in ({"id": '"id"', "label": '"label"', "classes": '["no", "yes"]'} | {**self.settings}).items():
            table, _, name = key.rpartition(".")
            pattern = rf"(?ms)(^\[{table}\].*?^{name} = ).*?$" if table else rf"(?m)(^{name} = ).*?$"
            text, found = re.subn(pattern, rf"\g<1>{value}", text, count=1)
            if not found:
                raise KeyError(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


PLAIN = Contract(settings={"hyperparameters.num_iterations": 200, "hyperparameters.early_stopping_rounds": 0})


@dataclass(frozen=True)
class Job:
    """One component's mode: its inputs by name, the contract, arguments, and a name for its folder."""

    component: str
    mode: str
    inputs: Mapping[str, Path]
    contract: Contract = PLAIN
    arguments: Sequence[str] = ()
    name: str = ""


class Places:
    """Everything below build/bench."""

    def __init__(self, root: Path, quick: bool) -> None:
        self.root, self.quick = root, quick
        self.repository = root / "customer-churn"
        self.python = self.repository / ".venv-components" / "bin" / "python"
        self.mark = self.repository / "local" / "bench"  # holds the code that was rendered
        self._environments: dict[str, dict[str, str]] = {}

    # --- what is there before anything is measured

    def prepare(self) -> None:
        """Render this clone and install its environments, unless that has been done for the same code."""
        now = code(TEMPLATE)
        if not (self.mark.is_file() and self.mark.read_text(encoding="utf-8") == now):
            self.render()
            call("make", "setup", folder=self.repository)
            call("make", "compile", folder=self.repository)
            self.mark.write_text(now, encoding="utf-8")
        for name in ("training", "inference"):
            file = self.repository / "local" / "compiled" / "dev" / f"{name}.json"
            self._take(json.loads(file.read_text(encoding="utf-8"))["Steps"])

    def template(self) -> Path:
        """A copy of what is rendered, without caches of tools that ran in it."""
        copy = self.root / "template"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir(parents=True)
        shutil.copy(CLONE / "cookiecutter.json", copy)
        for name in ("hooks", TEMPLATE.name):
            shutil.copytree(CLONE / name, copy / name, ignore=CACHES)
        return copy

    def render(self) -> None:
        """Anew, with the environments that are there."""
        fresh = self.root / "fresh"
        shutil.rmtree(fresh, ignore_errors=True)
        call(BIN / "cookiecutter", self.template(), "--no-input", "--output-dir", fresh, "aws_resources=skip")
        for name in (".venv", ".venv-components"):
            if (self.repository / name).is_dir():
                (self.repository / name).rename(fresh / "customer-churn" / name)
        shutil.rmtree(self.repository, ignore_errors=True)
        (fresh / "customer-churn").rename(self.repository)

    def _take(self, steps: Sequence[Mapping[str, Any]]) -> None:
        """What the definition's steps give their containers, by component and mode."""
        for step in steps:
            arguments = step.get("Arguments", {})
            for inside in ("IfSteps", "ElseSteps"):
                self._take(arguments.get(inside, []))
            given = {
                key: "benchmark" if isinstance(value, dict) else value
                for key, value in arguments.get("Environment", {}).items()
            }
            if step["Type"] == "Processing":
                application = arguments["AppSpecification"]
                component = application["ContainerEntrypoint"][-1]
                self._environments[f"{component} {application['ContainerArguments'][0]}"] = given
            elif step["Type"] in ("Training", "Transform"):
                self._environments["algorithm train" if step["Type"] == "Training" else "algorithm serve"] = given

    def peer(self, name: str) -> Path:
        """The interpreter of a peer's environment, which peers/<name>.txt locks."""
        lock, folder = HERE / "peers" / f"{name}.txt", self.root / "peers" / name
        mark = folder / "installed"
        if not (mark.is_file() and mark.read_bytes() == lock.read_bytes()):
            call(BIN / "uv", "venv", "--quiet", "--allow-existing", "--python", BIN / "python", folder)
            call(BIN / "uv", "pip", "sync", "--quiet", "--require-hashes", "--python", folder, lock)
            shutil.copy(lock, mark)
        return folder / "bin" / "python"

    def table(self, name: str, *options: object) -> Path:
        """A seeded table, made once: `name` says how it is written, options what it is."""
        words = [str(option) for option in options]
        place = self.root / "data" / code(HERE / "bench_tables.py") / "-".join(word.strip("-") for word in words)
        target = place / name
        if not target.exists():
            partial = place / f"partial-{name}"
            call(self.python, HERE / "bench_tables.py", partial, *words)
            partial.rename(target)
        return target

    # --- runs

    def environment(self, component: str, mode: str, root: Path, case: Path) -> dict[str, str]:
        """As little as an image has, and what the definition gives it."""
        kept = {name: os.environ[name] for name in KEPT if name in os.environ}
        return (
            kept
            | self._environments.get(f"{component} {mode}", {})
            | {
                "ML_ROOT": str(root),
                "USECASE_FILE": str(case),
                "CODE_VERSION": "benchmark",
                "PYTHONPATH": str(self.repository),
                "PYTHONUNBUFFERED": "1",
                "OMP_WAIT_POLICY": "PASSIVE",
            }
        )

    def folder(self, job: Job) -> Path:
        """The folder that stands for a job's /opt/ml."""
        return self.root / "jobs" / (job.name or f"{job.component}-{job.mode}")

    def begin(self, job: Job) -> Command:
        """An empty /opt/ml with links to the inputs, and the command."""
        root = self.folder(job)
        shutil.rmtree(root, ignore_errors=True)
        inside = root / ("input/data" if job.component == "algorithm" else "processing/input")
        for name, source in job.inputs.items():
            place = inside / name
            if source.is_file():
                place.mkdir(parents=True)
                (place / source.name).symlink_to(source)
            else:
                inside.mkdir(parents=True, exist_ok=True)
                place.symlink_to(source)
        config = root / ("input/config" if job.component == "algorithm" else "config")
        config.mkdir(parents=True)
        (config / "resourceconfig.json").write_text(json.dumps(HOST), encoding="utf-8")
        case = root / "usecase.toml"
        job.contract.write(self.repository / "usecase.toml", case)
        words = (str(self.python), "-m", "batchloop.container", job.component, job.mode, *job.arguments)
        environment = self.environment(job.component, job.mode, root, case)
        return Command(words, environment, root / "log", root)

    def component(self, *jobs: Job) -> Subject:
        """These jobs, one after the other, each with an empty folder."""
        return lambda: run(*[self.begin(job) for job in jobs])

    def output(self, job: Job, name: str) -> Path:
        """What a processing job wrote under this name, or a training job as `model` or `data`."""
        root = self.folder(job)
        if job.component == "algorithm":
            return root / ("model" if name == "model" else "output/data")
        return root / "processing" / "output" / name

    def program(
        self, python: Path, script: str, *words: object, target: Path | None = None, **variables: str
    ) -> Subject:
        """One of the scripts beside this file, whose output folder is emptied before."""

        def subject() -> Values:
            if target:
                shutil.rmtree(target, ignore_errors=True)
            return run(self.script(python, script, *words, **variables))

        return subject

    def script(self, python: Path, script: str, *words: object, **variables: str) -> Command:
        """The command, with as little of an environment as a component has."""
        environment = {name: os.environ[name] for name in KEPT if name in os.environ} | variables
        environment |= {"OMP_WAIT_POLICY": "PASSIVE"}  # as the components have it: LightGBM beside others is faster so
        name = f"{Path(script).stem}-{words[0]}"
        log = self.root / "logs" / f"{name[-80:].replace('/', '_')}.log"
        return Command((str(python), "-W", "ignore", str(HERE / script), *map(str, words)), environment, log, self.root)

    def limit(self, *words: object, target: Path | None = None) -> Subject:
        """A function of bench_limits.py in the components' environment."""
        return self.program(self.python, "bench_limits.py", *words, target=target)

    def ask(self, *words: object) -> Any:
        """The answer of a function of bench_checks.py; not measured."""
        return json.loads(call(self.python, HERE / "bench_checks.py", *words, folder=self.root))

    # --- artifacts of one release, learned from a small table: what the serving modes are given

    def absent(self) -> Path:
        """The empty artifact: there is no champion."""
        folder = self.root / "absent"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").write_text('{"component": "none"}', encoding="utf-8")
        return folder

    def release(self, contract: Contract = PLAIN, *shape: object) -> dict[str, Path]:
        """preprocessor, model, baseline, explainer and the splits by name; made once for the same code."""
        words = [str(word) for word in shape] or ["--rows", "50000"]
        name = hashlib.sha256(repr((contract, words, code(TEMPLATE))).encode()).hexdigest()[:12]
        target = self.root / "releases" / name
        found = {part: target / part for part in (*SPLITS, "preprocessor", "model", "baseline", "explainer")}
        if target.is_dir():
            return found
        raw, partial = self.table("learned.parquet", *words), target.with_name("partial")
        shutil.rmtree(partial, ignore_errors=True)
        prepare = Job(
            "processing", "train", {"raw": raw, "champion": self.absent()}, contract, name="release-processing"
        )
        split = {part: self.output(prepare, part) for part in SPLITS}
        fit = Job("algorithm", "train", split | {"champion": self.absent()}, contract, name="release-algorithm")
        evaluation = {"raw": raw, "evaluation": self.output(fit, "data")}
        learn = Job("monitoring", "train", evaluation, contract, name="release-monitoring")
        given = {"model": self.output(fit, "model"), "features": split["validation"]}
        explain = Job("explainability", "train", given, contract, name="release-explainability")
        self.component(prepare, fit, learn, explain)()
        made = split | {"preprocessor": self.output(prepare, "preprocessor"), "model": self.output(fit, "model")}
        made |= {"baseline": self.output(learn, "baseline"), "explainer": self.output(explain, "explainer")}
        for part, source in made.items():
            shutil.copytree(source, partial / part)
        shutil.copytree(self.output(fit, "data"), partial / "evaluation")
        partial.rename(target)
        return found

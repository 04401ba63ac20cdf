"""The compiled definitions, their parameters, and all checks of settings before anything runs."""

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from batchloop import environment as environments
from batchloop import repository as batchloop_repository
from batchloop.container import metrics, settings, usecase
from batchloop.container.job import InputError, check_quotable
from batchloop.container.usecase import UseCase
from batchloop.environment import Environment
from batchloop.repository import Repository

NAMES = ("training", "inference")
Values = Mapping[str, Any]
IN_CARD = ("TrainingData", "AlgorithmImage", "GitCommit", "DataFingerprint")  # parameters that a package's card names
KINDS: dict[str, Any] = {"Integer": int, "Float": float, "Boolean": bool}  # a parameter's type; else it is text
# pipeline parameters, and the settings that they stand in for; a job's instances besides
SETTINGS: dict[str, tuple[str, ...]] = {
    "QualityLimit": ("gate", "minimum"),
    "MinimumLead": ("gate", "minimum_lead"),
    "Trials": ("tuning", "trials"),
}
SETTINGS |= {
    f"{job.capitalize()}Instance{key.capitalize()}": ("instances", job, key)
    for job in environments.JOBS
    for key in ("type", "count")
}


def read(repository: Repository) -> tuple[UseCase, Environment]:
    """The use case and the environment. Raises InputError with the file, the line, the key and what is right."""
    case = usecase.load(repository.root / "usecase.toml")
    return case, environments.load(repository.root / "environments", repository.environment, case)


def locks(repository: Repository, environment: Environment) -> dict[str, str]:
    """Component → what its image is made of there: with what a GPU needs, where a job has one and there is a lock."""
    made = batchloop_repository.locks(repository)
    return {name: lock for lock, name in made.items() if lock == name or environment.gpu(name)}


def definition(repository: Repository, name: str) -> dict[str, Any]:
    """The training or inference definition, compiled where sources have changed. Raises InputError."""
    folder, sources = repository.compiled, batchloop_repository.sources(repository)
    complete = all((folder / file).is_file() for file in ("sources", *(f"{name}.json" for name in NAMES)))
    if not complete or (folder / "sources").read_text(encoding="utf-8") != sources:
        print("compiling the pipelines (only when they, usecase.toml or the environment changed)", flush=True)
        compile_all(repository)
    loaded: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return loaded


def show(repository: Repository) -> int:
    """Compile and check anew, and say where; the exit code."""
    compile_all(repository)
    print(f"compiled and checked: {repository.shown(repository.compiled)}/")
    return 0


def compile_all(repository: Repository) -> None:
    """Check every setting, then compile and check in a process of its own, for the SDK is slow. Raises InputError."""
    case, where = read(repository)
    for name, lock in locks(repository, where).items():
        if where.gpu(name):
            print(f"{where.file}: [instances] gives {name} a GPU{_of_gpu(name, lock, where)}")
    if metrics.passes_all(case.data.task, case.gate.metric, case.gate.minimum):
        print(f"[gate] minimum = {case.gate.minimum:g} lets every model pass: {case.gate.metric} is never worse")
    folder, sources = repository.compiled, batchloop_repository.sources(repository)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sources").unlink(missing_ok=True)
    with ThreadPoolExecutor() as beside:
        words = (str(repository.root), repository.environment, str(folder))
        compiling = beside.submit(run_module, repository, "batchloop.pipelines.compile", *words)
        check_hyperparameters(repository)
        compiling.result()
    (folder / "sources").write_text(sources, encoding="utf-8")


def _of_gpu(name: str, lock: str, environment: Environment) -> str:
    """What a GPU is good for, and from when on."""
    if lock == name:
        missing = f"pyproject.toml has no group {name}-gpu, and so its image nothing that computes on it"
        nothing = "nothing of it computes on one" if name not in batchloop_repository.ON_GPU else missing
        return f", which is paid for and idle: {nothing}"
    old = [its.type for its in environment.instances.values() if re.match(r"ml\.p[23]\w*\.", its.type)]
    cuda = f"; {old[0]} is older than what CUDA's newer libraries are made for: take g4dn or later" if old else ""
    return f": `make push` makes its image with CUDA, and scoring has it from the next training's release on{cuda}"


def values(definition: Mapping[str, Any], known: Mapping[str, Any], words: Sequence[str]) -> dict[str, Any]:
    """Each declared parameter's value, of `known` or Name=value `words`. Raises InputError for one that is wrong."""
    declared = {parameter["Name"]: parameter for parameter in definition.get("Parameters", [])}
    given = {**known, **_pairs(words, declared)}
    parsed = {}
    for name, parameter in declared.items():
        if name not in given and "DefaultValue" not in parameter:
            raise InputError(f"parameter {name} has no value; add SET={name}=…")
        value, allowed = given.get(name, parameter.get("DefaultValue")), parameter.get("EnumValues")
        if allowed and value not in allowed:
            raise InputError(f"{name} = {value!r} is none of {', '.join(map(str, allowed))}.")
        kind = KINDS.get(parameter["Type"], str)
        if (typed := settings.parsed(kind, str(value))) is None:
            raise InputError(f"{name} = {value!r} is not {settings.KINDS[kind]}.")
        if name in IN_CARD:
            check_quotable(name, str(value))
        parsed[name] = typed
    return parsed


def _pairs(words: Sequence[str], declared: Iterable[str]) -> dict[str, str]:
    """Raises InputError for a name that is not declared, or is given two values; a value may hold blanks."""
    given: dict[str, str] = {}
    for pair in (pair for text in words for pair in re.split(r"\s+(?=\w+\s*=)", text.strip())):
        name, equals, value = map(str.strip, pair.partition("="))
        if not equals or not value:
            raise InputError(f"SET={pair} is not Name=value.")
        if name not in declared:
            raise InputError(f"there is no parameter {name!r} to SET; {settings.nearest(name, sorted(declared))}.")
        if name in given:
            raise InputError(f"SET gives {name} two values, {given[name]} and {value}; leave one of them out.")
        given[name] = value
    return given


def chosen(repository: Repository, definition: Values, words: Sequence[str], values: Values) -> dict[str, Any]:
    """The values that Name=value pairs have given, checked as the settings they stand in for. Raises InputError."""
    given = {name: values[name] for name in _pairs(words, values)}
    if not given:
        return {}
    from batchloop.pipelines import check  # noqa: PLC0415 - botocore costs a tenth of a second

    pairs = " ".join(f"{name}={value}" for name, value in given.items())
    usecase_tables, environment = repository.tables(), repository.environment
    environment_tables = environments.read(repository.root / "environments", environment)[0]
    for name in set(given) & set(SETTINGS):
        *tables, key = SETTINGS[name]
        inner: Any = environment_tables if tables[0] in environment_tables else usecase_tables
        for table in tables:
            inner = inner.setdefault(table, {})
        inner[key] = given[name]
    try:
        environments.parse(environment_tables, environment, usecase.parse(usecase_tables))
    except InputError as error:
        raise InputError(f"SET={pairs}: {str(error).removeprefix('usecase.toml: ')}") from None
    now, before = (set(check.check(which)) for which in (with_defaults(definition, given), definition))
    if wrong := sorted(now - before):
        raise InputError(f"SET={pairs}: {'; '.join(wrong)}.")
    jobs = [step["Arguments"] for step in definition.get("Steps", ()) if step["Type"] == "Training"]
    taken = {key: value for job in jobs for key, value in job.get("HyperParameters", {}).items()}
    texts = [(key, {"Get": f"Parameters.{name}"}, str(value)) for key in taken for name, value in given.items()]
    if hyperparameters := {key: text for key, get, text in texts if taken[key] == get}:
        check_hyperparameters(repository, hyperparameters)
    return given


def with_defaults(definition: Values, values: Values) -> dict[str, Any]:
    declared = [
        parameter | ({"DefaultValue": values[parameter["Name"]]} if parameter["Name"] in values else {})
        for parameter in definition.get("Parameters", [])
    ]
    return {**definition, "Parameters": declared}


def check_hyperparameters(repository: Repository, chosen: Mapping[str, str] | None = None) -> None:
    """Ask the algorithm whether it takes usecase.toml's, overridden by those chosen. Raises InputError."""
    words = [f"{name}={value}" for name, value in (chosen or {}).items()]
    try:
        run_module(repository, "batchloop.container.hyperparameters", *words, python=repository.python())
    except InputError as failure:  # the model library's own complaint stands above
        raise InputError(str(failure).splitlines()[-1].removeprefix("error: ")) from None


def location(text: str) -> str:
    """A path of the user's as a URI; s3:// stays. Raises InputError for a path that does not exist."""
    if text.startswith(("s3://", "file://")):
        return text
    path = Path(text).expanduser().absolute()
    if not path.exists():
        raise InputError(f"{text} does not exist.")
    return folder(path) if path.is_dir() else path.as_uri()


def folder(path: Path) -> str:
    return f"{path.as_uri()}/"


def git_commit(repository: Repository) -> str:
    """The commit at work, with -dirty where files differ from it; "uncommitted" before the first."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return batchloop_repository.ran(command, repository.root).stdout.strip() or "uncommitted"
    except OSError:
        return "uncommitted"


def run_module(repository: Repository, module: str, *arguments: str, python: str = sys.executable) -> str:
    """What a module of this repository prints, run by a Python. Raises InputError with what it says is wrong."""
    variables = {"PYTHONPATH": str(repository.root), "USECASE_FILE": str(repository.root / "usecase.toml")}
    done = batchloop_repository.ran([python, "-m", module, *arguments], repository.root, variables)
    if done.returncode != 0:
        output = done.stderr.strip() or done.stdout.strip() or "it said nothing"
        if "Traceback" in output:
            owned = rf'File "{re.escape(str(repository.root))}/((?:components|pipelines|data)/.+?)", line (\d+)'
            frames = re.findall(owned, output)  # what the owner edits, not the plumbing or a package
            place = f"{frames[-1][0]}, line {frames[-1][1]}" if frames else f"python -m {module} failed"
            raise InputError(f"{place}: {output.splitlines()[-1]}")
        raise InputError(output.removeprefix("error: "))
    return done.stdout

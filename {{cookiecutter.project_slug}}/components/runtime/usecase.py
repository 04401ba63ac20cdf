"""usecase.toml as frozen dataclasses, checked once and in the reader's words."""

import hashlib
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from runtime.failures import InputError

TASKS = ("binary", "multiclass", "regression")
TYPES = ("number", "category", "boolean", "date")
RESERVED = ("prediction", "score", "error")
# Keys of [data] that say how files are read, not what the data means.
READING = ("missing", "separator", "encoding", "decimal", "thousands", "header", "bad_rows")
# The tables each component reads; a change in any other does not change what it does.
TABLES = {
    "processing": ("data", "columns", "split", "features"),
    "algorithm": ("data", "columns", "hyperparameters", "tuning", "prediction", "gate"),
    "monitoring": ("usecase", "data", "columns", "drift"),
    "explainability": ("usecase", "data", "columns", "explanation"),
}


@dataclass(frozen=True)
class Column:
    """One raw column: its name and type, the range of a number, the format and time zone of a date.

    `time_zone` is the IANA zone in whose local time a column of instants is read; `drift` = false leaves the column out
    of the drift decision, for one that moves by its nature.
    """

    name: str
    type: str
    minimum: float | None = None
    maximum: float | None = None
    format: str = ""
    time_zone: str = ""
    drift: bool = True


@dataclass(frozen=True)
class Data:
    task: str
    label: str
    id: str = ""
    classes: tuple[str, ...] = ()
    time: str = ""
    time_format: str = ""
    time_zone: str = ""
    missing: tuple[str, ...] = ("",)
    separator: str = ","
    encoding: str = "utf-8"
    decimal: str = "."
    thousands: str = ""
    header: bool = True
    bad_rows: float = 0.01


@dataclass(frozen=True)
class Split:
    method: str = "random"
    group: str = ""
    validation: float = 0.15
    test: float = 0.15
    seed: int = 7


@dataclass(frozen=True)
class Features:
    rare: int = 20
    vocabulary: int = 200
    impute: str = "none"


@dataclass(frozen=True)
class Tuning:
    trials: int = 0
    timeout_seconds: int = 1800
    search: Mapping[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    threshold: float = 0.5
    escape_formulas: bool = True


@dataclass(frozen=True)
class Gate:
    metric: str
    minimum: float
    minimum_lead: float = 0.0


@dataclass(frozen=True)
class Drift:
    significance: float = 0.01
    minimum_effect: float = 0.1
    minimum_rows: int = 200
    bins: int = 20
    performance_drop: float = 0.05


@dataclass(frozen=True)
class Explanation:
    rows: int = 2000
    rule: str = "random"
    top: int = 5
    seed: int = 7


@dataclass(frozen=True)
class UseCase:
    """Everything in usecase.toml; `columns` keeps the file's order."""

    name: str
    title: str
    description: str
    namespace: str
    data: Data
    columns: tuple[Column, ...]
    split: Split
    features: Features
    hyperparameters: Mapping[str, Any]
    tuning: Tuning
    prediction: Prediction
    gate: Gate
    drift: Drift
    explanation: Explanation

    def contract(self) -> str:
        """A hash of what the data means: artifacts learned under another one are refused."""
        data = {key: value for key, value in asdict(self.data).items() if key not in READING}
        columns = [{key: value for key, value in asdict(column).items() if key != "drift"} for column in self.columns]
        return digest({"data": data, "columns": columns})


def digest(value: object) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=list).encode()).hexdigest()[:16]


def location() -> Path:
    """USECASE_FILE, or usecase.toml beside the component packages, as in an image."""
    beside = Path(__file__).resolve().parents[1] / "usecase.toml"
    return Path(os.environ.get("USECASE_FILE", beside))


def load(path: Path | None = None) -> UseCase:
    """Read and check usecase.toml. Raises InputError with the table, the key and what would be right."""
    path = path or location()
    try:
        return parse(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run from the folder that holds usecase.toml.") from None
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path.name} is not valid TOML: {error}.") from None


def parse(tables: Mapping[str, Any]) -> UseCase:
    """A UseCase from TOML tables. Raises InputError."""
    usecase = _need(tables, "usecase")
    about = {key: str(usecase.get(key, "")) for key in ("name", "title", "description", "namespace")}
    columns = tuple(_column(name, spec) for name, spec in _need(tables, "columns").items())
    parsed = UseCase(
        **about,
        data=_table(Data, "data", _need(tables, "data")),
        columns=columns,
        split=_table(Split, "split", tables.get("split", {})),
        features=_table(Features, "features", tables.get("features", {})),
        hyperparameters=dict(tables.get("hyperparameters", {})),
        tuning=_table(Tuning, "tuning", tables.get("tuning", {})),
        prediction=_table(Prediction, "prediction", tables.get("prediction", {})),
        gate=_table(Gate, "gate", _need(tables, "gate")),
        drift=_table(Drift, "drift", tables.get("drift", {})),
        explanation=_table(Explanation, "explanation", tables.get("explanation", {})),
    )
    _check(parsed)
    return parsed


def _need(tables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    if not isinstance(tables.get(name), Mapping) or not tables[name]:
        raise InputError(f"usecase.toml has no [{name}] table; `make adopt` writes [data] and [columns] for you.")
    table: Mapping[str, Any] = tables[name]
    return table


Table = TypeVar("Table")


def _table(kind: type[Table], name: str, values: Mapping[str, Any]) -> Table:
    known = {entry.name: entry for entry in fields(kind)}  # type: ignore[arg-type]
    for key, value in values.items():
        if key not in known:
            raise InputError(f"usecase.toml [{name}] has an unknown key {key!r}; known are {', '.join(known)}.")
        default = getattr(kind, key, None)
        if isinstance(default, bool) != isinstance(value, bool) and isinstance(default, float | int):
            wanted = "true or false" if isinstance(default, bool) else "a number"
            raise InputError(f"usecase.toml [{name}] {key} = {value!r} is not {wanted}.")
        if isinstance(default, float | int) and not isinstance(value, float | int):
            raise InputError(f"usecase.toml [{name}] {key} = {value!r} is not a number.")
        if (isinstance(default, str) or known[key].type in (str, "str")) and not isinstance(value, str):
            raise InputError(f"usecase.toml [{name}] {key} = {value!r} is not text; put it in quotes.")
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in values.items()})
    except TypeError:
        required = [key for key in known if key not in values and not hasattr(kind, key)]
        raise InputError(f"usecase.toml [{name}] needs {', '.join(required)}.") from None


def _column(name: str, spec: Any) -> Column:
    if not isinstance(spec, Mapping) or spec.get("type") not in TYPES:
        raise InputError(f"usecase.toml [columns] {name!r} needs a type: one of {', '.join(TYPES)}.")
    unknown = set(spec) - {"type", "minimum", "maximum", "format", "time_zone", "drift"}
    if unknown:
        raise InputError(f"usecase.toml [columns] {name!r} has an unknown key {sorted(unknown)[0]!r}.")
    return Column(name, **spec)


def usable(name: str) -> bool:
    """Whether a column's name is free: __ begins the runtime's own, and ^…$ is a pattern to Polars."""
    return not name.startswith("__") and not (name.startswith("^") and name.endswith("$"))


def _split_rules(usecase: UseCase) -> list[tuple[bool, str]]:
    split, columns = usecase.split, {column.name: column.type for column in usecase.columns}
    group = split.group
    return [
        (
            split.method in ("random", "time", "group", "given"),
            f"[split] method = {split.method!r} is not random, time, group or given.",
        ),
        (
            split.method != "time" or bool(usecase.data.time),
            '[split] method = "time" needs [data] time: the column that says when a row happened.',
        ),
        (
            split.method != "group" or bool(group),
            '[split] method = "group" needs group: the column whose rows stay in one part, such as a patient.',
        ),
        (
            split.method != "random" or not group,
            f'[split] group = {group!r} says nothing to method = "random"; say method = "group".',
        ),
        (not group or group != usecase.data.label, f"[split] group = {group!r} is the label; name another column."),
        (not group or usable(group), "[split] group can't begin with __ or look like ^…$; rename the column."),
        (
            columns.get(group, "date") == "date",  # a day's weekday says something of other days
            f"[columns] holds {group!r}, which is [split] group: no value of it is in two parts, so what the model "
            "learns of it is of no use; take it out.",
        ),
        (
            0 < split.validation < 1 and 0 < split.test < 1,
            "[split] validation and test are shares between 0 and 1.",
        ),
        (split.validation + split.test < 1, "[split] validation and test leave nothing to train on."),
    ]


def _check(usecase: UseCase) -> None:
    """Rules that span keys."""
    data, names = usecase.data, [column.name for column in usecase.columns]
    rules = [
        (data.task in TASKS, f"[data] task = {data.task!r} is not one of {', '.join(TASKS)}."),
        (
            all(usable(name) for name in [*names, data.id, data.label, data.time]),
            "[columns] and [data] can't use names that begin with __ or look like ^…$; rename the column.",
        ),
        (
            bool(data.id) or "row" not in names,
            "[columns] holds 'row', the id's name while [data] id is empty; rename it.",
        ),
        (
            data.label not in names,
            f"[columns] holds the label {data.label!r}: the model would see the answer; take it out.",
        ),
        (data.id not in names, f"[columns] holds the id {data.id!r}: it would leak; take it out."),
        (data.id not in RESERVED, f"[data] id = {data.id!r} is a name that predictions use themselves."),
        (len(data.separator) == 1, f"[data] separator = {data.separator!r} is not one character."),
        (0 <= data.bad_rows <= 1, f"[data] bad_rows = {data.bad_rows} is not between 0 and 1."),
        (
            data.task != "binary" or len(data.classes) == 2,
            "[data] classes needs the two label values of a binary task, the positive one last.",
        ),
        (data.task != "multiclass" or len(data.classes) > 2, "[data] classes needs the label's three or more values."),
        (len(set(data.classes)) == len(data.classes), "[data] classes names a value twice."),
        (all(isinstance(value, str) for value in data.classes), "[data] classes are text: put each in quotes."),
        *_split_rules(usecase),
        (
            usecase.features.impute in ("none", "median"),
            f"[features] impute = {usecase.features.impute!r} is not none or median.",
        ),
        (
            usecase.explanation.rule in ("random", "highest"),
            f"[explanation] rule = {usecase.explanation.rule!r} is not random or highest.",
        ),
    ]
    for holds, message in rules:
        if not holds:
            raise InputError(f"usecase.toml {message}")

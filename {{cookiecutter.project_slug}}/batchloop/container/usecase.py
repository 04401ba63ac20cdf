"""usecase.toml as frozen dataclasses, checked once and in the reader's words."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from batchloop.container import formats, horizons, metrics, settings
from batchloop.container.job import InputError
from batchloop.container.settings import Matching, Range, SettingError

RESERVED = ("prediction", "score", "error")
NAME_RULE = "names can't begin with __ or look like ^…$; rename the column."
# Keys of [data] that say how files are read, not what the data means.
READING = ("missing", "separator", "encoding", "decimal", "thousands", "header", "bad_rows")
# The tables each component reads; a change in any other does not change what it does.
TABLES = {
    "processing": ("data", "columns", "series", "split", "features", "slices"),
    "algorithm": ("data", "columns", "series", "hyperparameters", "tuning", "prediction", "gate", "slices"),
    "monitoring": ("usecase", "data", "columns", "series", "split", "drift", "retraining", "slices"),
    "explainability": ("usecase", "data", "columns", "series", "explanation"),
}
# Keys of a column that are for some types alone.
ONLY = {"minimum": ("number",), "maximum": ("number",), "format": ("date", "number"), "time_zone": ("date",)}
ONLY |= dict.fromkeys(("size", "colour"), ("image",))
HYPERPARAMETERS, LONGEST = 98, 256  # a training job takes 100, two of them the job's; characters of a value

NAME = Matching(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", "lower case letters, digits and single hyphens, a letter first")
NAMESPACE = Matching(f"(?!aws|ssm|amzn|sthree){NAME.pattern}", f"{NAME}, and aws, ssm, amzn or sthree never first")
FILLED = Matching(r"(?s).*\S.*", "a name")
CHARACTER = Matching(r'[^"\s0-9A-Za-z]|[ \t]', "one character, and no letter, digit, quote or line break")
DECIMAL = Matching("[.,]", '"." or ","')
NO_CHARACTER = Matching(r"[^\"\r\n0-9A-Za-z+-]?", 'one character or ""')
LEARN = Matching(
    "window|all|last [1-9][0-9]{0,5}",
    '"window" (the drifted one), "last 3" (it and the two before; any number) or "all" (up to it)',
)
PROSE = Matching(r"(?s).{0,1024}", "a text of at most 1,024 characters")
SHARE = Range(ge=0, le=1)
REMEMBERED = Range(ge=1, le=20)  # windows: the loop's memory is one parameter
PART = Range(gt=0, lt=1)
FROM_0, FROM_1 = Range(ge=0), Range(ge=1)


@dataclass(frozen=True)
class Column:
    """One raw column. `format` of a date is one of strptime, or "epoch s" (ms, us, ns) for numbers since 1970, UTC; of
    a number 1234.5 as the column writes it ("€ 1.234,5"), or "hh:mm:ss" or "mm:ss", read as hours; several stand with |
    between them. `missing` are further texts for "no value". `time_zone` is the IANA zone in whose local time instants
    are read; `drift` = false leaves the column out of the drift decision. Pictures are brought to `size` × `size`,
    grey or in `colour`.
    """

    name: str
    type: Literal["number", "category", "boolean", "date", "text", "image"]
    minimum: float | None = None
    maximum: float | None = None
    format: str = ""
    time_zone: str = ""
    drift: bool = True
    missing: tuple[str, ...] = ()
    size: Annotated[int, Range(ge=8, le=1024)] = 32
    colour: bool = False

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and channels of a picture."""
        return self.size, self.size, 3 if self.colour else 1

    @property
    def cells(self) -> int:
        """How many numbers it has in a row."""
        return prod(self.shape) if self.type == "image" else 1


@dataclass(frozen=True)
class Data:
    task: Literal["binary", "multiclass", "regression", "forecasting"]
    label: Annotated[str, FILLED]
    id: str = ""
    classes: tuple[str, ...] = ()
    time: str = ""
    time_format: str = ""
    time_zone: str = ""
    label_format: str = ""
    missing: tuple[str, ...] = ("",)
    separator: Annotated[str, CHARACTER] = ","
    encoding: str = "utf-8"
    decimal: Annotated[str, DECIMAL] = "."
    thousands: Annotated[str, NO_CHARACTER] = ""
    header: bool = True
    bad_rows: Annotated[float, SHARE] = 0.01


@dataclass(frozen=True)
class Split:
    method: Literal["random", "time", "group", "given"] = "random"
    group: str = ""
    validation: Annotated[float, PART] = 0.15
    test: Annotated[float, PART] = 0.15
    seed: Annotated[int, FROM_0] = 7


@dataclass(frozen=True)
class Features:
    rare: Annotated[int, FROM_0] = 20
    vocabulary: Annotated[int, FROM_1] = 200
    impute: Literal["none", "median"] = "none"
    terms: Annotated[int, FROM_1] = 50


@dataclass(frozen=True)
class Tuning:
    trials: Annotated[int, FROM_0] = 0
    timeout_seconds: Annotated[int, FROM_1] = 1800
    search: Mapping[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Prediction:
    threshold: Annotated[float, SHARE] = 0.5
    escape_formulas: bool = True


@dataclass(frozen=True)
class Gate:
    metric: str
    minimum: float
    minimum_lead: float = 0.0


@dataclass(frozen=True)
class Slices:
    """Parts of the rows that are measured by themselves; `limit` is the gate's for the worst of them."""

    columns: tuple[str, ...] = ()
    bins: Annotated[int, Range(ge=2, le=20)] = 4
    values: Annotated[int, Range(ge=1, le=200)] = 20
    minimum_rows: Annotated[int, FROM_1] = 100
    limit: float | None = None
    not_evaluable: Literal["fail", "pass"] = "fail"


@dataclass(frozen=True)
class Drift:
    significance: Annotated[float, PART] = 0.01
    minimum_effect: Annotated[float, FROM_0] = 0.1
    minimum_rows: Annotated[int, FROM_1] = 200
    bins: Annotated[int, Range(ge=2, le=1000)] = 20
    performance_drop: Annotated[float, FROM_0] = 0.05


@dataclass(frozen=True)
class Retraining:
    """What follows from an alarm; the control plane reads the table too."""

    enabled: bool = True
    on: tuple[Literal["drift", "performance", "realised"], ...] = ("drift", "performance", "realised")
    learn: Annotated[str, LEARN] = "window"
    alarms: Annotated[int, REMEMBERED] = 1
    windows: Annotated[int, REMEMBERED] = 1
    cooldown_hours: Annotated[float, FROM_0] = 24
    budget: Annotated[int, Range(ge=0, le=20)] = 4
    budget_days: Annotated[float, FROM_0] = 30


@dataclass(frozen=True)
class Explanation:
    rows: Annotated[int, FROM_0] = 2000
    rule: Literal["random", "highest"] = "random"
    top: Annotated[int, FROM_1] = 5
    seed: Annotated[int, FROM_0] = 7


@dataclass(frozen=True)
class Card:
    """[card]: what only people know of the model; no run reads it, its card shows it."""

    owner: Annotated[str, PROSE] = ""
    intended_use: Annotated[str, PROSE] = ""
    limitations: Annotated[str, PROSE] = ""
    ethics: Annotated[str, PROSE] = ""
    risk: Literal["Unknown", "Low", "Medium", "High"] = "Unknown"


@dataclass(frozen=True)
class About:
    """[usecase]: the names that begin every AWS name, and the texts that people read."""

    name: Annotated[str, NAME]
    title: str = ""
    description: str = ""
    namespace: Annotated[str, NAMESPACE] = ""


@dataclass(frozen=True, kw_only=True)
class UseCase(About):
    """Everything in usecase.toml; `columns` keeps the file's order."""

    data: Data
    columns: tuple[Column, ...]
    split: Split
    features: Features
    hyperparameters: Mapping[str, Any]
    tuning: Tuning
    prediction: Prediction
    gate: Gate
    drift: Drift
    slices: Slices
    explanation: Explanation
    retraining: Retraining = field(default_factory=Retraining)
    card: Card = field(default_factory=Card)
    series: horizons.Series | None = None

    def keys(self) -> tuple[str, ...]:
        """The columns that name a row: the id, of a series the series and the time; () where rows are numbered."""
        names = (self.series.id, self.data.time) if self.series else (self.data.id,)
        return tuple(name for name in names if name)

    def contract(self) -> dict[str, Any]:
        """What the data means, without what is left at its default: artifacts learned under another one are refused."""

        def chosen(table: Any, left_out: tuple[str, ...]) -> dict[str, Any]:
            values = {entry.name: (getattr(table, entry.name), entry.default) for entry in fields(table)}
            return {key: value for key, (value, usual) in values.items() if value != usual and key not in left_out}

        tables = {"data": chosen(self.data, READING), "columns": [chosen(one, ("drift",)) for one in self.columns]}
        return {**tables, "series": chosen(self.series, ())} if self.series else tables

    def sources(self) -> tuple[Column, ...]:
        """The columns that features come from: those of [columns], and of a series the time and the label."""
        own = [Column(self.data.time, "date"), Column(self.data.label, "number")] if self.series else []
        return (*self.columns, *own)


KINDS: dict[str, Any] = {name: kind for name, kind in get_type_hints(UseCase).items() if is_dataclass(kind)}


def of_labels(case: UseCase, group: str = "") -> UseCase:
    """The contract of a table of labels: an id and a label, and maybe the group; no other column is looked at."""
    data, split = case.data if case.series else replace(case.data, time=""), replace(case.split, group=group)
    return replace(case, columns=(), slices=Slices(), data=data, split=split)


def digest(value: object) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=list).encode()).hexdigest()[:16]


def location() -> Path:
    """USECASE_FILE, or usecase.toml beside the component packages, as in an image."""
    return Path(os.environ.get("USECASE_FILE", Path(__file__).resolve().parents[2] / "usecase.toml"))


def load(path: Path | None = None) -> UseCase:
    """Read and check usecase.toml. Raises InputError with the line, the table, the key and what would be right."""
    path = path or location()
    try:
        return parse(*settings.read(path, path.name))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; run from the folder that holds usecase.toml.") from None


def parse(tables: Mapping[str, Any], text: str = "") -> UseCase:
    """A UseCase from TOML tables; with the text they stand in, what is refused has its line. Raises InputError."""
    with settings.errors_in("usecase.toml", text):
        _check_tables(tables)
        columns = tables.get("columns", {})
        parsed = UseCase(
            **asdict(settings.table(About, ("usecase",), tables["usecase"])),
            columns=tuple(settings.table(Column, ("columns", name), one, name=name) for name, one in columns.items()),
            hyperparameters=_hyperparameters(tables.get("hyperparameters", {})),
            series=settings.table(horizons.Series, ("series",), tables["series"]) if "series" in tables else None,
            **{name: settings.table(kind, (name,), tables.get(name, {})) for name, kind in KINDS.items()},
        )
        own = [_data_rules(parsed), _split_rules(parsed), horizons.rules(parsed)]
        for rules in [*map(_column_rules, parsed.columns), *own]:
            settings.check(rules)
        gate, drop = parsed.gate, parsed.drift.performance_drop
        metrics.check_gate(parsed.data.task, gate.metric, gate.minimum, gate.minimum_lead, drop)
        if parsed.slices.limit is not None:
            metrics.check_limit(parsed.data.task, gate.metric, parsed.slices.limit, "[slices] limit")
        return parsed


def _check_tables(tables: Mapping[str, Any]) -> None:
    """Raises SettingError for an unknown or a missing table, and for a key that stands outside all tables."""
    known = ["usecase", "columns", "hyperparameters", "series", *KINDS]
    for name in tables:
        if name not in known and not isinstance(tables[name], Mapping):
            homes = [f"[{table}]" for table, kind in KINDS.items() if name in (entry.name for entry in fields(kind))]
            belongs = f"it belongs into {' or '.join(homes)}" if homes else "no table has such a key"
            raise SettingError(f"{name!r} stands outside all tables; {belongs}.", name)
        if name not in known:
            raise SettingError(f"there is no table [{name}] to set; {settings.nearest(name, known)}.", name)
        if not isinstance(tables[name], Mapping):
            raise SettingError(f"[{name}] is {settings.shown(tables[name])}, and should be one table.", name)
    for name in ("data", "gate", "usecase", *(() if "series" in tables else ("columns",))):
        if not tables.get(name):
            raise SettingError(f"there is no [{name}] table; `make adopt` writes [data] and [columns] for you.", name)


def _hyperparameters(values: Mapping[str, Any]) -> dict[str, Any]:
    """Names are the model library's, so only what any training job takes is checked here. Raises SettingError."""
    if len(values) > HYPERPARAMETERS:
        raise SettingError(f"[hyperparameters] has {len(values)} keys; {HYPERPARAMETERS} fit.")
    for name, value in values.items():
        fits = isinstance(value, str) or (isinstance(value, int | float) and abs(value) < settings.HUGE)
        if not fits or len(str(value)) > LONGEST:
            said = f"is not a number, true, false or a text of at most {LONGEST} characters"
            raise SettingError(f"[hyperparameters] {name} = {settings.shown(value)} {said}.", "hyperparameters", name)
    return dict(values)


def usable(name: str) -> bool:
    """Whether a column's name is free: __ begins those that reading adds, and ^…$ is a pattern to Polars."""
    return not name.startswith("__") and not (name.startswith("^") and name.endswith("$"))


def _column_rules(column: Column) -> formats.Rules:
    """What a column's keys ask of each other."""
    low, high, name = column.minimum, column.maximum, f"[columns] {column.name!r}"
    yield usable(column.name), f"{name}: {NAME_RULE}"
    for key, kinds in ONLY.items():
        holds = column.type in kinds or getattr(column, key) == getattr(Column, key)
        yield holds, f"{name}: {key} is for {'s and '.join(kinds)}s, it is a {column.type}."
    holds = low is None or high is None or low <= high
    yield holds, f"{name}: minimum = {low or 0:g} is above maximum = {high or 0:g}: no value could keep to it."
    yield from formats.rules(f"{name}: format", column.format, column.type == "number")
    yield from formats.zone_rules(f"{name}: time_zone", column.time_zone)


def _data_rules(case: UseCase) -> formats.Rules:
    """Rules of [data], alone and beside [columns]."""
    data, names = case.data, [column.name for column in case.columns]
    for key in ("id", "label", "time"):
        yield usable(getattr(data, key)), f"[data] {key} = {getattr(data, key)!r}: {NAME_RULE}"
    yield data.id or "row" not in names, "[columns] 'row' is the id's name while [data] id is empty; rename it."
    holds: object = data.label not in names
    yield holds, f"[columns] {data.label!r} is the label: the model would see the answer; take it out."
    yield data.id not in names, f"[columns] {data.id!r} is the id: it would leak; take it out."
    yield data.id not in RESERVED, f"[data] id = {data.id!r} is a name that predictions use themselves."
    yield data.id != data.label, f"[data] id = {data.id!r} is the label too."
    try:
        "".encode(data.encoding)
        holds = True
    except (LookupError, ValueError):  # some codecs are none of text
        holds = False
    yield holds, f"[data] encoding = {data.encoding!r} is not known; utf-8, utf-16 and windows-1252 are."
    yield data.thousands != data.decimal, f"[data] thousands = {data.thousands!r} is the sign for decimals too."
    count = len(data.classes)
    holds = data.task != "binary" or count == 2
    yield holds, "[data] classes needs the two label values of a binary task, the positive one last."
    yield data.task != "multiclass" or count > 2, "[data] classes needs the label's three or more values."
    yield not count or data.task in metrics.CLASSES, "[data] classes are for binary and multiclass; leave it empty."
    yield len(set(data.classes)) == count, "[data] classes names a value twice."
    yield all(value.strip() for value in data.classes), "[data] classes holds an empty text."
    yield from formats.rules("[data] label_format", data.label_format, number=True)
    yield from formats.rules("[data] time_format", data.time_format, number=False)
    yield from formats.zone_rules("[data] time_zone", data.time_zone)


def _split_rules(case: UseCase) -> formats.Rules:
    """Rules of [split] and [retraining]."""
    data, split, loop = case.data, case.split, case.retraining
    holds: object = split.method != "time" or data.time
    yield holds, '[split] method = "time" needs [data] time: the column that says when a row happened.'
    holds = split.method != "group" or split.group
    yield holds, '[split] method = "group" needs [split] group: the column whose rows stay together.'
    holds = split.method != "random" or not split.group
    yield holds, f'[split] group = {split.group!r} says nothing to method = "random"; say method = "group".'
    holds = not split.group or split.group != data.label
    yield holds, f"[split] group = {split.group!r} is the label; name another column."
    yield usable(split.group), "[split] group can't begin with __ or look like ^…$; rename the column."
    kinds = {column.name: column.type for column in case.columns}
    holds = kinds.get(split.group, "date") == "date"  # a day's weekday says something of other days
    yield holds, f"[columns] {split.group!r} is [split] group: what is learned of it fits no other part; take it out."
    sliced = case.slices.columns
    yield len(set(sliced)) == len(sliced), "[slices] columns names one twice."
    yield data.label not in sliced, f"[slices] columns names the label {data.label!r}: it would part what is measured."
    yield all(map(usable, sliced)), f"[slices] columns: {NAME_RULE}"
    yield sliced or case.slices.limit is None, "[slices] limit is of the worst slice, and columns names none."
    holds = loop.alarms <= loop.windows
    yield holds, f"[retraining] alarms = {loop.alarms} is above windows = {loop.windows}: so many can't alarm."
    holds = set(loop.on) - (set() if data.classes else {"performance"})
    yield holds, '[retraining] on needs one of "drift" and "realised", or, for classes, "performance".'
    yield split.validation + split.test < 1, "[split] validation and test leave nothing to train on."

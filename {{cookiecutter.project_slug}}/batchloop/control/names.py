"""What everything of one environment is called in AWS, how windows are named, and the settings of the loop."""

import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

COMPONENTS = {
    "processing": "preprocessor",
    "algorithm": "model",
    "monitoring": "baseline",
    "explainability": "explainer",
}
WINDOW = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"  # a registered model's metadata holds 256 letters, and names its data
FINGERPRINT = "DataFingerprint"  # the parameter of both pipelines that says what is in the raw data that a run reads
NOTHING = "none"  # the text of a parameter that has no value yet
RELEASED = "released-"  # begins a tag of each image that was ever released
PREDICTIONS = "predictions"  # the table of the Glue Data Catalog, where `catalog` of environments/ asks for one
LATEST = {name: f"{name}/latest" for name in ("inference", "training")}  # parameters: what the last run has made
REASONS = DRIFT, PERFORMANCE, REALISED = ("drift", "performance", "realised")  # what a window can alarm for


@dataclass(frozen=True)
class Settings:
    """[retraining] of usecase.toml, and [drift] minimum_rows."""

    enabled: bool = True
    on: tuple[str, ...] = REASONS
    learn: str = "window"
    alarms: int = 1
    windows: int = 1
    cooldown_hours: float = 24
    budget: int = 4
    budget_days: float = 30
    minimum_rows: int = 200

    @property
    def earlier(self) -> int:
        """How many windows before its own a retraining learns from too."""
        last = re.fullmatch(r"last ([1-9][0-9]{0,5})", self.learn)
        return int(last[1]) - 1 if last else sys.maxsize if self.learn == "all" else 0

    @classmethod
    def of(cls, tables: Mapping[str, Any]) -> "Settings":
        """From the tables of usecase.toml, which batchloop.container.usecase has checked."""
        table: Mapping[str, Any] = tables.get("retraining", {})
        given: dict[str, Any] = {name: tuple(value) if name == "on" else value for name, value in table.items()}
        return cls(**given, minimum_rows=tables.get("drift", {}).get("minimum_rows", cls.minimum_rows))


def is_data(name: str) -> bool:
    """Whether a file of a folder is data: names that begin with _ or a dot are none, also of folders."""
    return not any(part[:1] in ("_", ".") for part in name.split("/"))


def order(window: str) -> tuple[Any, ...]:
    """Sorts windows from old to new: by name, numbers by value; names that begin with a letter (sample) come first."""
    parts = [int(part) if place % 2 else part for place, part in enumerate(re.split(r"(\d+)", window))]
    return (window[:1].isdigit(), parts, window)


def earlier_windows(windows: Iterable[str], window: str) -> list[str]:
    """The windows older than one, newest first; only those named alike but for their numbers: no other table's."""
    kind = re.sub(r"\d+", "0", window)
    alike = [name for name in windows if re.sub(r"\d+", "0", name) == kind and order(name) < order(window)]
    return sorted(alike, key=order, reverse=True)


def besides(windows: list[str]) -> str:
    """Earlier windows in words: all of a few, of more the first, the last and their number."""
    if len(windows) > 5:
        return f"{len(windows)} earlier windows ({windows[0]} to {windows[-1]})"
    return f"{len(windows)} earlier window{'s' * (len(windows) > 1)} ({', '.join(windows)})" if windows else ""


@dataclass(frozen=True)
class Names:
    """What everything of one environment is called in AWS."""

    namespace: str
    usecase: str
    environment: str
    bucket: str

    @property
    def prefix(self) -> str:
        """Begins the names of what belongs to the environment; the stack and the model package group have no more."""
        return f"{self.namespace}-{self.usecase}-{self.environment}"

    @property
    def folder(self) -> str:
        """Begins the names of image repositories and the keys of objects."""
        return f"{self.namespace}/{self.usecase}"

    @property
    def storage(self) -> str:
        """The S3 prefix under which everything of the use case lies."""
        return f"s3://{self.bucket}/{self.folder}"

    @property
    def tags(self) -> dict[str, str]:
        return {"namespace": self.namespace, "usecase": self.usecase, "environment": self.environment}

    @property
    def repositories(self) -> list[str]:
        """The image repositories, which all environments of an account share."""
        return [f"{self.folder}/{component}" for component in COMPONENTS]

    @property
    def parameters(self) -> list[str]:
        pairs = [f"components/{component}/{kind}" for component in COMPONENTS for kind in ("image", "artifact")]
        return [self.parameter(name) for name in (*pairs, "release", "retraining", *LATEST.values())]

    def parameter(self, name: str) -> str:
        return f"/{self.folder}/{self.environment}/{name}"

    def pipeline(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def runs(self, pipeline: str) -> str:
        """Below it a pipeline's executions write: <execution id>/<step>/<output>."""
        return f"{self.storage}/{self.environment}/{pipeline}"

    @property
    def nothing(self) -> str:
        """The empty artifact, for what there is not: a pipeline's inputs can't be optional."""
        return f"{self.storage}/none/"

    @property
    def releases(self) -> str:
        """Below it lie the artifacts that were released: <model version>/<artifact>/."""
        return f"{self.storage}/{self.environment}/releases/"

    def data(self, window: str, part: str) -> str:
        """With a slash at its end, as every folder: a prefix without one takes `<part>_old/` too."""
        return f"{self.storage}/data/{window}/{part}/"

    def window(self, uri: str, *parts: str) -> str:
        """The window whose part lies at or above a URI, "" where it is none of this use case."""
        found = re.fullmatch(rf"{re.escape(self.storage)}/data/({WINDOW})/({'|'.join(parts)})(/.*)?", uri)
        return found[1] if found else ""


@dataclass(frozen=True)
class Places(Names):
    """Names and settings; `given_validation`: the use case brings validation files ([split] method = "given").

    `catalog` is the Glue database with the table of predictions, "" where there is none.
    """

    topic: str
    settings: Settings
    given_validation: bool = False
    catalog: str = ""

    @classmethod
    def of(cls, names: Names, tables: Mapping[str, Any], topic: str = "", catalog: str = "") -> "Places":
        """With the settings in the tables of usecase.toml."""
        given = tables.get("split", {}).get("method") == "given"
        own = (names.namespace, names.usecase, names.environment, names.bucket)
        return cls(*own, topic, Settings.of(tables), given, catalog)

    @property
    def labelled(self) -> tuple[str, ...]:
        """The parts of a window that a retraining reads."""
        return ("train", "validation") if self.given_validation else ("train",)


def here() -> Places:
    """Of the function that is running: its variables, and the usecase.toml that lies beside its code."""
    tables = tomllib.loads((Path(__file__).resolve().parents[2] / "usecase.toml").read_text(encoding="utf-8-sig"))
    names = Names(*(os.environ[name] for name in ("NAMESPACE", "USECASE", "ENVIRONMENT", "BUCKET")))
    return Places.of(names, tables, os.environ["TOPIC_ARN"], os.environ.get("CATALOG", ""))


@dataclass(frozen=True)
class Aws:
    """boto3 clients, or what answers as they do."""

    cloudwatch: Any
    ecr: Any
    s3: Any
    sagemaker: Any
    sns: Any
    ssm: Any
    glue: Any = None


def connect() -> Aws:
    """Clients with the function's own role and region; each connects at its first call."""
    import boto3  # noqa: PLC0415 - nothing happens at import
    from botocore.config import Config  # noqa: PLC0415

    # a function has a minute for all that it does
    soon = Config(connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2, "mode": "standard"})
    session, config = boto3.Session(), {"glue": soon}
    return Aws(**{its.name: session.client(its.name, config=config.get(its.name)) for its in fields(Aws)})


def handler(work: Callable[[Mapping[str, Any], Aws, Places, datetime], str]) -> Callable[[Mapping[str, Any], Any], str]:
    """What Lambda calls with an event: it logs and returns what was done, in a sentence."""

    def handle(event: Mapping[str, Any], _context: Any) -> str:
        done = work(event, connect(), here(), datetime.now(UTC))
        print(done)
        return done

    return handle

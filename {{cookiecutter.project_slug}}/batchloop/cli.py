"""Every command of `python -m batchloop`: its options, and the function that carries it out.

A function's module is imported when it is called and not before: planning the AWS side must run before any environment
is installed, and nobody waits for a library that a command does without.
"""

import argparse
import importlib
import re
from functools import partial
from typing import Any, NamedTuple, NoReturn

from batchloop import repository
from batchloop.container.job import InputError
from batchloop.repository import DOCKER, PROCESSES


class Parser(argparse.ArgumentParser):
    """Says what is wrong in a line, with the names that make has for options."""

    def error(self, message: str) -> NoReturn:
        named = re.sub(r"(argument )?--([a-z-]+)", lambda match: match[2].upper().replace("-", "_"), message)
        raise InputError(f"{named}.")


class Option(NamedTuple):
    """One option of a command line, and how argparse takes it."""

    name: str
    settings: dict[str, Any]


class Group(NamedTuple):
    """Options that a function takes as one frozen dataclass, whose fields are in their order."""

    type: str
    options: tuple[Option, ...]


class Command:
    """`function` gets the repository, seen by ENV, and its other options in order; it returns the exit code."""

    def __init__(self, name: str, function: str, *options: Option | Group) -> None:
        self.name, self.function, self.options = name, function, options

    def __call__(self, parsed: argparse.Namespace) -> int:
        here = repository.here(getattr(parsed, "env", ENV.settings["default"]))
        given = (value(option, parsed) for option in self.options if option is not ENV)
        return int(load(self.function)(here, *given))

    def words(self) -> list[Option]:
        """What its command line takes, the options of groups too."""
        groups = [option.options if isinstance(option, Group) else (option,) for option in self.options]
        return [option for group in groups for option in group]


def value(option: Option | Group, parsed: argparse.Namespace) -> Any:
    """What was given for an option, or for each option of a group."""
    if isinstance(option, Group):
        return load(option.type)(*(value(inner, parsed) for inner in option.options))
    return getattr(parsed, option.name.strip("-").replace("-", "_"))


def load(name: str) -> Any:
    """A function or class of this package by its dotted name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(f"batchloop.{module}"), attribute)


def text(name: str, about: str = "", default: str = "", **settings: Any) -> Option:
    return Option(name, {"default": default, "help": about, **settings})


def number(name: str, about: str, kind: type = int, default: float | None = None) -> Option:
    return Option(name, {"type": partial(_number, kind), "default": default, "help": about})


def switch(name: str, about: str) -> Option:
    return Option(name, {"action": "store_true", "help": about})


def _number(kind: type, word: str) -> Any:
    from batchloop.container import settings  # noqa: PLC0415

    if (parsed := settings.parsed(kind, word)) is None:
        raise argparse.ArgumentTypeError(f"{word!r} is not {settings.KINDS[kind]}")
    return parsed


def _on(word: str) -> bool:
    if word not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"{word!r} is not on or off")
    return word == "on"


ENV = text("--env", "one of environments/*.toml", "dev")
DATA = text("--data", "a file, a folder or s3://… (default: data/<window>/)")
SET = Option("--set", {"action": "append", "default": [], "metavar": "Name=value …"})
ON = text("--on", "what the steps run in", PROCESSES, choices=(PROCESSES, DOCKER))
CONTINUE = switch("--continue", "go on from the release")
FRESH = switch("--fresh", "without a champion: [gate] minimum alone decides")
WINDOW = text("--window", "whose data (default: the newest, or what was scored last)")
STAGES = text("--stages", "a folder with one folder a stage (default: the sample's stages)")
DECISION = Option("--decision", {"type": _on, "default": "on", "help": "off: nothing is retrained"})
ROWS = number("--rows", "labelled rows of a stage of the sample (default: its own number)")
SEED = number("--seed", "of the sample", default=7)
USE = number("--use", "release this version")
MINUTES = text("--minutes", "of each job, like 'processing=4 algorithm=12'")
RUNS = number("--runs", "scoring runs a month", float)
RETRAININGS = number("--retrainings", "training runs a month", float)
GB = number("--gb", "gigabytes in S3", float)
LONGEST = number("--longest", "minutes that a job may work", float, 60.0)
CHOICE = Option("choice", {"choices": ("plan", "create")})
REGISTRY = text("--registry", "host of another registry than the account's own")
SOURCE = text("--from", "copy the images of this environment, and build nothing")
CONFIRM = switch("--confirm", "do not ask")
PIPELINE = Option("--pipeline", {"required": True})
MODEL = number("--model", "its version (default: the newest)")
APPROVE = switch("--approve", "approve it first")
REASON = text("--reason", "why, for whoever reads the history")
TO = number("--to", "its version (default: the one before)")
PROFILE = text("--from-profile", "the AWS profile that may read the source's account")
PROMOTE = (Option("--from", {"required": True}), Option("--to", {"required": True}), PROFILE)
PUSH = (REGISTRY, SOURCE, PROFILE)
REPLACE = switch("--replace", "put these files in place of what is there")
PART = text("--part", "production, train, validation or labels", "production")
QUERY = text("--from", "a query, or a file whose name ends in .sql, in place of DATA")
UPLOAD = Group("cloud.upload.Upload", (text("--data"), Option("--window", {"required": True}), PART, REPLACE, QUERY))
AUDITED = text("--from", "the environment whose release it is (default: a release of this machine)")
AUDIT = number("--release", "its number (default: the last)"), AUDITED, text("--out"), switch("--batch", "its rows too")
VERSION = text("--to", "a version, or a folder or URL of the template (default: its newest release)")
LAST = number("--last", "how many trainings", default=10)
OUT = text("--out", "a file that gets it as JSON")
NAME = text("--name", "what would be typed to agree")
BASE = text("--base", "a branch or commit (default: the last commit)")

HERE = (DATA, SET, ON)
TRAIN, SCORE = Group("local.RunOptions", (*HERE, CONTINUE, FRESH)), Group("local.RunOptions", HERE)
SIMULATE = Group("simulate.loop.Options", (STAGES, DECISION, FRESH, ROWS, SEED))
USAGE = Group("cost.Usage", (MINUTES, RUNS, RETRAININGS, GB))
SIZE = (DATA, number("--rows", "of the real runs (default: those of DATA)"), LONGEST)
REQUEST = Group("cloud.run.Request", (PIPELINE, WINDOW, SET, FRESH))

COMMANDS = (
    Command("train", "local.train", ENV, TRAIN),
    Command("score", "local.score", ENV, SCORE),
    Command("label", "labelling.label", DATA, WINDOW, ENV, ON),
    Command("simulate", "simulate.simulation.simulate", ENV, SIMULATE),
    Command("images", "cloud.images.show", ENV),
    Command("models", "local.models", ENV, USE),
    Command("compare", "trainings.compare", ENV, LAST, OUT),
    Command("track", "tracking.track", ENV),
    Command("compile", "pipelines.definitions.show", ENV),
    Command("changes", "changes.show", ENV, BASE),
    Command("templates", "cloud.stack.show", ENV),
    Command("cost", "cost.show_cost", ENV, USAGE),
    Command("size", "sizing.show", ENV, *SIZE),
    Command("bootstrap", "cloud.bootstrap.run", CHOICE, ENV),
    Command("push", "cloud.images.push", ENV, *PUSH),
    Command("upsert", "cloud.run.upsert", ENV),
    Command("preflight", "cloud.preflight.show", ENV),
    Command("deploy", "cloud.deploy.deploy", ENV, CONFIRM),
    Command("upload", "cloud.upload.upload", ENV, UPLOAD),
    Command("run", "cloud.run.run", ENV, REQUEST),
    Command("release", "cloud.release.release", ENV, MODEL, APPROVE, REASON),
    Command("releases", "cloud.release.show", ENV),
    Command("rollback", "cloud.release.rollback", ENV, TO, REASON),
    Command("promote", "cloud.release.promote", *PROMOTE, REASON),
    Command("teardown", "cloud.deploy.teardown", ENV, NAME),
    Command("audit", "audit.bundle.audit", ENV, Group("audit.bundle.Wanted", AUDIT)),
    Command("sbom", "audit.supply.sbom"),
    Command("scan", "audit.supply.scan"),
    Command("update", "updating.update", VERSION),
    Command("doctor", "updating.doctor"),
)


def parser() -> argparse.ArgumentParser:
    """The whole command line; what it finds has `run`. What commands are for stands beside their targets of make."""
    whole = Parser(prog="python -m batchloop")
    commands = whole.add_subparsers(required=True, metavar="command")
    for command in COMMANDS:
        added = commands.add_parser(command.name)
        for option in command.words():
            added.add_argument(option.name, **option.settings)
        added.set_defaults(run=command)
    commands.add_parser("adopt", add_help=False)  # has a command line of its own
    return whole

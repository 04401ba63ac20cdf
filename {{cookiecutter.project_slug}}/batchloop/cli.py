"""Every command of `python -m batchloop`: the function that carries it out, and its options as make calls them.

A function's module is imported when it is called and not before: planning the AWS side must run before any environment
is installed, and nobody waits for a library that a command does without.
"""

import argparse
import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from functools import partial
from typing import Any, NoReturn, get_type_hints

from batchloop import repository
from batchloop.container import settings
from batchloop.container.job import InputError
from batchloop.container.settings import Range
from batchloop.repository import DOCKER, PROCESSES, Repository

Taken = dict[str, Any]  # how argparse takes an option


class Parser(argparse.ArgumentParser):
    """Says what is wrong in a line, with the names that make has for options."""

    def error(self, message: str) -> NoReturn:
        named = re.sub(r"(argument )?--([a-z-]+)", lambda match: match[2].upper().replace("-", "_"), message)
        raise InputError(f"{named}.")


def number(kind: type, least: float, default: float | None = None) -> Taken:
    return {"type": partial(_number, kind, Range(ge=least)), "default": default}


def _number(kind: type, within: Range, word: str) -> Any:
    if (parsed := settings.parsed(kind, word)) is None or not within.holds(parsed):
        raise argparse.ArgumentTypeError(f"{word!r} is not {settings.KINDS[kind]}{within}")
    return parsed


def _on(word: str) -> bool:
    if word not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"{word!r} is not on or off")
    return word == "on"


TEXT, NEEDED, SWITCH = {"default": ""}, {"required": True}, {"action": "store_true"}
OPTIONS: dict[str, Taken] = {  # what is not here is a text
    "choice": {"choices": ("plan", "create")},
    "DECISION": {"type": _on, "default": "on"},
    "ENV": {"default": Repository.environment},
    "LAST": number(int, 1, 10),
    "LONGEST": number(float, 0.1, 60.0),
    "ON": {"choices": (PROCESSES, DOCKER), "default": PROCESSES},
    "PART": {"default": "production"},
    "PIPELINE": NEEDED,
    "SEED": number(int, 0, 7),
    "SET": {"action": "append", "default": [], "metavar": "Name=value …"},
    **dict.fromkeys(("MODEL", "RELEASE", "ROWS", "USE"), number(int, 1)),
    **dict.fromkeys(("GB", "RETRAININGS", "RUNS"), number(float, 0)),
    **dict.fromkeys(("APPROVE", "BATCH", "CONFIRM", "CONTINUE", "FRESH", "REPLACE"), SWITCH),
}


class Command:
    """`function` gets the repository, seen by ENV, and the other options in order, and returns the exit code.

    `own` are options that are not as OPTIONS says.
    """

    def __init__(self, name: str, function: str, options: str = "", **own: Taken) -> None:
        self.name, self.function = name, function
        self.options = {option: own.get(option, OPTIONS.get(option, TEXT)) for option in options.split()}

    def __call__(self, parsed: argparse.Namespace) -> int:
        function, here = load(self.function), repository.here(getattr(parsed, "env", Repository.environment))
        return int(function(here, *arguments(function, [getattr(parsed, option.lower()) for option in self.given])))

    @property
    def given(self) -> list[str]:
        """What the function takes: ENV is the repository's."""
        return [option for option in self.options if option != "ENV"]


def arguments(function: Callable[..., Any], values: Sequence[Any]) -> list[Any]:
    """Values as a function takes them; where its last parameter is a dataclass, that has all that are left."""
    kinds = [*get_type_hints(function).values()][1:-1]  # without the repository's and what is returned
    single, last = len(kinds) - 1, kinds[-1] if kinds else None
    if isinstance(last, type) and is_dataclass(last):
        return [*values[:single], last(*values[single:])]
    return [*values]


def load(name: str) -> Any:
    """A function of this package by its dotted name."""
    module, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(f"batchloop.{module}"), attribute)


COMMANDS = (
    Command("train", "local.train", "ENV DATA SET ON CONTINUE FRESH"),
    Command("score", "local.score", "ENV DATA SET ON"),
    Command("label", "labelling.label", "ENV DATA WINDOW ON"),
    Command("simulate", "simulate.simulation.simulate", "ENV STAGES DECISION FRESH ROWS SEED"),
    Command("images", "cloud.images.show", "ENV"),
    Command("models", "local.models", "ENV USE"),
    Command("compare", "trainings.compare", "ENV LAST OUT"),
    Command("track", "tracking.track", "ENV"),
    Command("compile", "pipelines.definitions.show", "ENV"),
    Command("changes", "changes.show", "ENV BASE"),
    Command("templates", "cloud.stack.show", "ENV"),
    Command("cost", "cost.show_cost", "ENV MINUTES RUNS RETRAININGS GB"),
    Command("size", "sizing.show", "ENV DATA ROWS LONGEST"),
    Command("bootstrap", "cloud.bootstrap.run", "choice ENV"),
    Command("push", "cloud.images.push", "ENV REGISTRY FROM FROM_PROFILE"),
    Command("upsert", "cloud.run.upsert", "ENV"),
    Command("preflight", "cloud.preflight.show", "ENV"),
    Command("deploy", "cloud.deploy.deploy", "ENV CONFIRM"),
    Command("upload", "cloud.upload.upload", "ENV DATA WINDOW PART REPLACE FROM", WINDOW=NEEDED),
    Command("run", "cloud.run.run", "ENV PIPELINE WINDOW SET FRESH"),
    Command("release", "cloud.release.release", "ENV MODEL APPROVE REASON"),
    Command("releases", "cloud.release.show", "ENV"),
    Command("rollback", "cloud.release.rollback", "ENV TO REASON", TO=number(int, 1)),
    Command("promote", "cloud.release.promote", "FROM TO FROM_PROFILE REASON", FROM=NEEDED, TO=NEEDED),
    Command("teardown", "cloud.deploy.teardown", "ENV NAME"),
    Command("audit", "audit.bundle.audit", "ENV RELEASE FROM OUT BATCH"),
    Command("sbom", "audit.supply.sbom"),
    Command("scan", "audit.supply.scan"),
    Command("update", "updating.update", "TO"),
    Command("doctor", "updating.doctor"),
)


def parser() -> argparse.ArgumentParser:
    """The whole command line; what it finds has `run`. What commands and options mean stands beside make's targets."""
    whole = Parser(prog="python -m batchloop")
    commands = whole.add_subparsers(required=True, metavar="command")
    for command in COMMANDS:
        added = commands.add_parser(command.name)
        for option, taken in command.options.items():
            added.add_argument(option if option.islower() else f"--{option.lower().replace('_', '-')}", **taken)
        added.set_defaults(run=command)
    commands.add_parser("adopt", add_help=False)  # has a command line of its own
    return whole

"""Every command of `python -m batchloop`: its options, and the function that carries it out.

A function's module is imported when it is called and not before: planning the AWS side must run before any environment
is installed, and nobody waits for a library that a command does without.
"""

import argparse
import importlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

from batchloop import repository
from batchloop.repository import DOCKER, PROCESSES, Failure, Options

Chosen = argparse.Namespace


@dataclass(frozen=True)
class Option:
    """One option of a command line, as argparse takes it."""

    name: str
    settings: dict[str, Any]

    @property
    def dest(self) -> str:
        return str(self.settings.get("dest", self.name.strip("-").replace("-", "_")))


@dataclass(frozen=True)
class Command:
    """`run` gets what was chosen and returns the exit code; or it names a function that gets its options in order."""

    name: str
    help: str
    run: Callable[[Chosen], int] | str
    options: tuple[Option, ...] = ()

    def __call__(self, chosen: Chosen) -> int:
        if not isinstance(self.run, str):
            return self.run(chosen)
        return call(*self.run.rsplit(".", 1), *(getattr(chosen, option.dest) for option in self.options))


class Parser(argparse.ArgumentParser):
    """Says what is wrong in a line, with the names that make has for options."""

    def error(self, message: str) -> NoReturn:
        said = re.sub(r"(argument )?--([a-z-]+)", lambda found: found[2].upper().replace("-", "_"), message)
        raise Failure(f"{said}.")


def call(module: str, function: str, *arguments: Any) -> int:
    """The exit code of a function of this package that begins with the repository."""
    found = getattr(importlib.import_module(f"batchloop.{module}"), function)
    return int(found(repository.here(), *arguments))


def text(name: str, about: str = "", default: str = "", **settings: Any) -> Option:
    return Option(name, {"default": default, "help": about, **settings})


def number(name: str, about: str, kind: type = int, default: float | None = None) -> Option:
    return Option(name, {"type": partial(_number, kind), "default": default, "help": about})


def switch(name: str, about: str, **settings: Any) -> Option:
    return Option(name, {"action": "store_true", "help": about, **settings})


def _number(kind: type, said: str) -> Any:
    from batchloop.container import settings  # noqa: PLC0415

    if (value := settings.parsed(kind, said)) is None:
        raise argparse.ArgumentTypeError(f"{said!r} is not {settings.KINDS[kind]}")
    return value


ENV = text("--env", "one of environments/*.toml", "dev")
REASON = text("--reason", "why, for whoever reads the history")
CHOSEN = Option("--set", {"dest": "chosen", "action": "append", "default": [], "metavar": "Name=value …"})
DATA = text("--data", "a file, a folder or s3://… (default: data/<window>/)")
WINDOW = text("--window", "whose data (default: the newest, or what was scored last)")
ON = text("--on", "what the steps run in", PROCESSES, choices=(PROCESSES, DOCKER))
ONWARD = switch("--continue", "go on from the release", dest="onward")
FRESH = switch("--fresh", "without a champion: [gate] minimum alone decides")
STAGES = text("--stages", "a folder with one folder a stage (default: the sample's stages)")
DECISION = text("--decision", "off: nothing is retrained", "on", choices=("on", "off"))
ROWS = number("--rows", "labelled rows of a stage of the sample", default=4000)
SEED = number("--seed", "of the sample", default=7)
USE = number("--use", "release this version")
MINUTES = text("--minutes", "of each job, like 'processing=4 algorithm=12'")
RUNS = number("--runs", "scoring runs a month", float)
RETRAININGS = number("--retrainings", "training runs a month", float)
GB = number("--gb", "gigabytes in S3", float)
CHOICE = Option("choice", {"choices": ("plan", "create")})
REGISTRY = text("--registry", "host of another registry than the account's own")
CONFIRM = switch("--confirm", "do not ask")
PIPELINE = Option("--pipeline", {"required": True})
MODEL, APPROVE = number("--model", "its version (default: the newest)"), switch("--approve", "approve it first")
TO = number("--to", "its version (default: the one before)")
SOURCE, TARGET = Option("--from", {"dest": "source", "required": True}), Option("--to", {"required": True})
PROFILE = text("--from-profile", "the AWS profile that may read the source's account")
NAME = text("--name", "what would be typed to agree")


def _here(name: str, chosen: Chosen) -> int:
    how = {name: getattr(chosen, name, False) for name in ("onward", "fresh")}
    return call(*name.rsplit(".", 1), Options(chosen.env, chosen.data, tuple(chosen.chosen), on=chosen.on, **how))


TRAIN, SCORE = partial(_here, "local.train"), partial(_here, "local.score")


def _models(chosen: Chosen) -> int:
    return call("local", "show") if chosen.use is None else call("local", "use", chosen.use)


def _cost(chosen: Chosen) -> int:
    from batchloop.cost import Options as Assumed  # noqa: PLC0415

    return call("cost", "show_cost", chosen.env, Assumed(chosen.minutes, chosen.runs, chosen.retrainings, chosen.gb))


def _run(chosen: Chosen) -> int:
    from batchloop.cloud.run import Request  # noqa: PLC0415

    return call(
        "cloud.run", "run", chosen.env, Request(chosen.pipeline, chosen.window, tuple(chosen.chosen), chosen.fresh)
    )


def _label(chosen: Chosen) -> int:
    from batchloop.labelling import Options as Labels  # noqa: PLC0415

    return call("labelling", "label", Labels(chosen.data, chosen.window, chosen.env, chosen.on))


def _simulate(chosen: Chosen) -> int:
    from batchloop.simulate.simulation import Options as Simulation  # noqa: PLC0415

    wanted = Simulation(chosen.env, chosen.stages, chosen.decision == "on", chosen.fresh, chosen.rows, chosen.seed)
    return call("simulate.simulation", "simulate", wanted)


COMMANDS = (
    Command("train", "run the training pipeline here", TRAIN, (DATA, CHOSEN, ENV, ON, ONWARD, FRESH)),
    Command("score", "run the inference pipeline here with the released model", SCORE, (DATA, CHOSEN, ENV, ON)),
    Command("label", "measure by labels what predictions were worth", _label, (DATA, WINDOW, ENV, ON)),
    Command("simulate", "prove that drift leads to a release", _simulate, (ENV, STAGES, DECISION, FRESH, ROWS, SEED)),
    Command("images", "build the images that changed", "cloud.images.show"),
    Command("models", "list the models registered here", _models, (USE,)),
    Command("compile", "compile and check the pipeline definitions", "pipelines.definitions.show", (ENV,)),
    Command("cost", "what an environment costs, a run and a month", _cost, (ENV, MINUTES, RUNS, RETRAININGS, GB)),
    Command(
        "bootstrap", "plan or create what must be there before anything else", "cloud.bootstrap.run", (CHOICE, ENV)
    ),
    Command("push", "push the images that changed, and record their digests", "cloud.images.push", (ENV, REGISTRY)),
    Command("upsert", "create or update the pipelines in SageMaker", "cloud.run.upsert", (ENV,)),
    Command("deploy", "show what would change in an environment, and change it", "cloud.deploy.deploy", (ENV, CONFIRM)),
    Command("run", "start a pipeline in SageMaker and follow it", _run, (PIPELINE, ENV, WINDOW, CHOSEN, FRESH)),
    Command("release", "make an approved model the release", "cloud.release.release", (ENV, MODEL, APPROVE, REASON)),
    Command("releases", "the history of releases", "cloud.release.show", (ENV,)),
    Command("rollback", "bring an earlier release back", "cloud.release.rollback", (ENV, TO, REASON)),
    Command(
        "promote",
        "make one environment's release another's",
        "cloud.release.promote",
        (SOURCE, TARGET, PROFILE, REASON),
    ),
    Command("teardown", "delete a stack, its pipelines and parameters", "cloud.deploy.teardown", (ENV, NAME)),
)


def parser() -> argparse.ArgumentParser:
    """The whole command line; what it finds has `run`."""
    found = Parser(prog="python -m batchloop")
    commands = found.add_subparsers(required=True, metavar="command")
    for command in COMMANDS:
        added = commands.add_parser(command.name, help=command.help)
        for option in command.options:
            added.add_argument(option.name, **option.settings)
        added.set_defaults(run=command)
    commands.add_parser("adopt", help="take on your own table", add_help=False)  # has a command line of its own
    return found

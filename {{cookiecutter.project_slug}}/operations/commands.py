"""Every command of `python -m operations`: its options, and the function that carries it out.

A function's module is imported when it is called and not before: planning the AWS side must run before any environment
is installed, and nobody waits for a library that a command does without.
"""

import argparse
import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from operations import repository
from operations.options import DOCKER, PROCESSES, Options

Chosen = argparse.Namespace


@dataclass(frozen=True)
class Option:
    """One option of a command line, as argparse takes it."""

    name: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class Command:
    """`run` gets what was chosen and returns the exit code."""

    name: str
    help: str
    run: Callable[[Chosen], int]
    options: tuple[Option, ...] = ()


def call(module: str, function: str, *arguments: Any) -> int:
    """The exit code of a function of this package that begins with the repository."""
    found = getattr(importlib.import_module(f"operations.{module}"), function)
    return int(found(repository.here(), *arguments))


def text(name: str, about: str = "", default: str = "", **settings: Any) -> Option:
    return Option(name, {"default": default, "help": about, **settings})


def number(name: str, about: str, kind: type = int) -> Option:
    return Option(name, {"type": kind, "default": None, "help": about})


def switch(name: str, about: str) -> Option:
    return Option(name, {"action": "store_true", "help": about})


ENV = text("--env", "one of environments/*.toml", "dev")
REASON = text("--reason", "why, for whoever reads the history")
CHOSEN = Option("--set", {"dest": "chosen", "action": "append", "default": [], "metavar": "Name=value …"})
DATA = text("--data", "a file, a folder or s3://… (default: data/<window>/)")
ON = text("--on", "what the steps run in", PROCESSES, choices=(PROCESSES, DOCKER))
FRESH = switch("--fresh", "without a champion: [gate] minimum alone decides")
HERE = (DATA, CHOSEN, ENV, ON)


def _options(chosen: Chosen) -> Options:
    how = {name: getattr(chosen, name, False) for name in ("onward", "fresh")}
    return Options(chosen.env, chosen.data, tuple(chosen.chosen), on=chosen.on, **how)


def _models(chosen: Chosen) -> int:
    return call("models", "show") if chosen.use is None else call("models", "use", chosen.use)


def _bootstrap(chosen: Chosen) -> int:
    from operations import bootstrap  # noqa: PLC0415

    return bootstrap.run(repository.here().root, chosen.choice, chosen.env)


def _cost(chosen: Chosen) -> int:
    from operations.costing import Options as Assumed  # noqa: PLC0415

    return call("costing", "show", chosen.env, Assumed(chosen.minutes, chosen.runs, chosen.retrainings, chosen.gb))


def _run(chosen: Chosen) -> int:
    from operations.following import Asked  # noqa: PLC0415

    return call(
        "following", "run", chosen.env, Asked(chosen.pipeline, chosen.window, tuple(chosen.chosen), chosen.fresh)
    )


def _label(chosen: Chosen) -> int:
    from operations.labelling import Options as Labels  # noqa: PLC0415

    return call("labelling", "label", Labels(chosen.data, chosen.window, chosen.env, chosen.on))


def _simulate(chosen: Chosen) -> int:
    from operations.simulating import Options as Simulation  # noqa: PLC0415

    wanted = Simulation(chosen.env, chosen.stages, chosen.decision == "on", chosen.fresh, chosen.rows, chosen.seed)
    return call("simulating", "simulate", wanted)


# on this machine
LOCAL = (
    Command(
        "train",
        "run the training pipeline here",
        lambda chosen: call("training", "train", _options(chosen)),
        (
            *HERE,
            Option("--continue", {"dest": "onward", "action": "store_true", "help": "go on from the release"}),
            FRESH,
        ),
    ),
    Command(
        "score",
        "run the inference pipeline here with the released model",
        lambda chosen: call("scoring", "score", _options(chosen)),
        HERE,
    ),
    Command(
        "label",
        "measure by labels what predictions were worth",
        _label,
        (
            text("--data", "a table with the id and the label"),
            text("--window", "default: what was scored last"),
            ENV,
            ON,
        ),
    ),
    Command(
        "simulate",
        "prove that the loop from drift to a new release closes",
        _simulate,
        (
            ENV,
            text("--stages", "a folder with one folder a stage (default: the sample's stages)"),
            text("--decision", "off: nothing is retrained", "on", choices=("on", "off")),
            switch("--fresh", "begin anew"),
            Option("--rows", {"type": int, "default": 4000, "help": "labelled rows of a stage of the sample"}),
            Option("--seed", {"type": int, "default": 7}),
        ),
    ),
    Command("images", "build the images that changed", lambda _: call("images", "show")),
    Command("models", "list the models registered here", _models, (number("--use", "release this version"),)),
    Command(
        "compile",
        "compile and check the pipeline definitions",
        lambda chosen: call("compiling", "show", chosen.env),
        (ENV,),
    ),
    Command(
        "cost",
        "what an environment costs, a run and a month",
        _cost,
        (
            ENV,
            text("--minutes", "of each job, like 'processing=4 algorithm=12'"),
            number("--runs", "scoring runs a month", float),
            number("--retrainings", "training runs a month", float),
            number("--gb", "gigabytes in S3", float),
        ),
    ),
)
# in an AWS account
REMOTE = (
    Command(
        "bootstrap",
        "plan or create what must be there before anything else",
        _bootstrap,
        (Option("choice", {"choices": ("plan", "create")}), ENV),
    ),
    Command(
        "push",
        "push the images that changed, and record their digests",
        lambda chosen: call("pushing", "push", chosen.env, chosen.registry),
        (ENV, text("--registry", "host of another registry than the account's own")),
    ),
    Command(
        "upsert",
        "create or update the pipelines in SageMaker",
        lambda chosen: call("upserting", "upsert", chosen.env),
        (ENV,),
    ),
    Command(
        "deploy",
        "show what would change in an environment, and change it",
        lambda chosen: call("deploying", "deploy", chosen.env, chosen.confirm),
        (ENV, switch("--confirm", "do not ask")),
    ),
    Command(
        "run",
        "start a pipeline in SageMaker and follow it",
        _run,
        (
            Option("--pipeline", {"required": True}),
            ENV,
            text("--window", "whose data (default: the newest)"),
            CHOSEN,
            FRESH,
        ),
    ),
    Command(
        "release",
        "make an approved model the release",
        lambda chosen: call("releasing", "release", chosen.env, chosen.model, chosen.approve, chosen.reason),
        (ENV, number("--model", "its version (default: the newest)"), switch("--approve", "approve it first"), REASON),
    ),
    Command("releases", "the history of releases", lambda chosen: call("releasing", "show", chosen.env), (ENV,)),
    Command(
        "rollback",
        "bring an earlier release back",
        lambda chosen: call("releasing", "rollback", chosen.env, chosen.to, chosen.reason),
        (ENV, number("--to", "its version (default: the one before)"), REASON),
    ),
    Command(
        "promote",
        "make one environment's release another's",
        lambda chosen: call("releasing", "promote", chosen.source, chosen.to, chosen.from_profile, chosen.reason),
        (
            Option("--from", {"dest": "source", "required": True}),
            Option("--to", {"required": True}),
            text("--from-profile", "the AWS profile that may read the source's account"),
            REASON,
        ),
    ),
    Command(
        "teardown",
        "delete an environment's stack, pipelines and parameters",
        lambda chosen: call("tearing_down", "teardown", chosen.env, chosen.name),
        (ENV, text("--name", "what would be typed to agree")),
    ),
)


def parser() -> argparse.ArgumentParser:
    """The whole command line; what it finds has `run`."""
    found = argparse.ArgumentParser(prog="python -m operations")
    commands = found.add_subparsers(required=True, metavar="command")
    for command in (*LOCAL, *REMOTE):
        added = commands.add_parser(command.name, help=command.help)
        for option in command.options:
            added.add_argument(option.name, **option.settings)
        added.set_defaults(run=command.run)
    commands.add_parser("adopt", help="take on your own table", add_help=False)  # has a command line of its own
    return found

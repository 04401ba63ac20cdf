"""`python -m operations train|score|adopt|images|releases|compile|bootstrap|push|upsert`.

Each command imports only what it needs: planning the AWS side must run before any environment is installed.
"""

import argparse
import importlib
import sys
from collections.abc import Callable

from operations import repository
from operations.failures import Failure
from operations.options import DOCKER, PROCESSES, Options

INTERRUPTED = 130


def main(arguments: list[str] | None = None) -> int:
    """Run one command; what is wrong is said in one line."""
    words = sys.argv[1:] if arguments is None else arguments
    # components/ holds the runtime, which knows how usecase.toml is read
    sys.path.insert(0, str(repository.here().root / "components"))
    try:
        if words[:1] == ["adopt"]:
            return int(importlib.import_module("operations.adopt").main(words[1:]))
        chosen = _parser().parse_args(words)
        run: Callable[[argparse.Namespace], int] = chosen.run
        return run(chosen)
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; everything that was started has ended. The same command goes on from here.", file=sys.stderr)
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m operations")
    commands = parser.add_subparsers(required=True, metavar="command")
    train = _pipeline(commands.add_parser("train", help="run the training pipeline here"), _train)
    train.add_argument("--continue", dest="onward", action="store_true", help="go on from the released model")
    _pipeline(commands.add_parser("score", help="run the inference pipeline here with the released model"), _score)
    commands.add_parser("adopt", help="take on your own table", add_help=False)
    commands.add_parser("images", help="build the images that changed").set_defaults(run=_images)
    releases = commands.add_parser("releases", help="list the models registered here")
    releases.add_argument("--use", type=int, metavar="VERSION", help="release this version")
    releases.set_defaults(run=_releases)
    compiling = commands.add_parser("compile", help="compile and check the pipeline definitions")
    bootstrap = commands.add_parser("bootstrap", help="plan or create what this use case needs in AWS")
    bootstrap.add_argument("choice", choices=("plan", "create"))
    push = commands.add_parser("push", help="push the images that changed, and record their digests")
    push.add_argument("--registry", default="", help="host of another registry than the account's own")
    upsert = commands.add_parser("upsert", help="create or update the pipelines in SageMaker")
    for command, run in ((compiling, _compile), (bootstrap, _bootstrap), (push, _push), (upsert, _upsert)):
        command.add_argument("--env", default="dev", help="one of environments/*.toml")
        command.set_defaults(run=run)
    return parser


def _pipeline(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
    parser.add_argument("--data", default="", help="a file, a folder or s3://… (default: data/<window>/)")
    parser.add_argument("--set", dest="chosen", action="append", default=[], metavar="Name=value")
    parser.add_argument("--env", default="dev", help="one of environments/*.toml")
    parser.add_argument("--on", default=PROCESSES, choices=(PROCESSES, DOCKER), help="what the steps run in")
    parser.set_defaults(run=run, onward=False)
    return parser


def _train(chosen: argparse.Namespace) -> int:
    from operations import training  # noqa: PLC0415

    return training.train(repository.here(), _options(chosen))


def _score(chosen: argparse.Namespace) -> int:
    from operations import scoring  # noqa: PLC0415

    return scoring.score(repository.here(), _options(chosen))


def _options(chosen: argparse.Namespace) -> Options:
    return Options(chosen.env, chosen.data, tuple(chosen.chosen), chosen.onward, chosen.on)


def _images(_chosen: argparse.Namespace) -> int:
    from operations import images  # noqa: PLC0415

    return images.show(repository.here())


def _releases(chosen: argparse.Namespace) -> int:
    from operations import releases  # noqa: PLC0415

    here = repository.here()
    return releases.show(here) if chosen.use is None else releases.use(here, chosen.use)


def _compile(chosen: argparse.Namespace) -> int:
    from operations import compiling  # noqa: PLC0415

    here = repository.here()
    compiling.compile_all(here, chosen.env)
    print(f"compiled and checked: {here.shown(here.compiled(chosen.env))}/")
    return 0


def _push(chosen: argparse.Namespace) -> int:
    from operations import pushing  # noqa: PLC0415

    return pushing.push(repository.here(), chosen.env, chosen.registry)


def _upsert(chosen: argparse.Namespace) -> int:
    from operations import upserting  # noqa: PLC0415

    return upserting.upsert(repository.here(), chosen.env)


def _bootstrap(chosen: argparse.Namespace) -> int:
    from operations import bootstrap  # noqa: PLC0415

    return bootstrap.run(repository.here().root, chosen.choice, chosen.env)


if __name__ == "__main__":
    raise SystemExit(main())

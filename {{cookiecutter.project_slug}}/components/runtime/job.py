"""How a component starts, says what it does, and fails."""

import json
import logging
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from runtime import hosts, paths
from runtime.failures import InputError

Mode = Callable[[Mapping[str, str]], None]
LIMIT = 1024  # bytes of a failure text that SageMaker shows
WARNING = "warning: "
FULL = "No space left on device"  # in the system's words, which every library passes on


def run(component: str, train: Mode, serve: Mode, spread: str = "") -> int:
    """Run one mode, named by the first argument; the exit code says whether it worked.

    A mode gets its settings as text: `--key value` arguments of a processing job, or a training job's hyperparameters.
    `spread` names the mode that may work on a part of its input beside other hosts; elsewhere the first host works.
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    logging.getLogger().handlers[0].setFormatter(Words())
    modes = {"train": train, "serve": serve}
    if len(sys.argv) < 2 or sys.argv[1] not in modes:
        print(f"usage: python -m {component} train|serve [--key value ...]", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, stop)  # the first process of a container would not notice it otherwise
    mode = sys.argv[1]
    try:
        if mode == spread or hosts.has_work(f"{component} {mode}"):
            with _scratch():
                modes[mode](settings(sys.argv[2:]))
    except InputError as error:
        return fail(component, str(error))
    except SystemExit as stopped:
        return fail(component, str(stopped))
    except Exception as error:  # the reason must reach the failure file, whatever it is
        traceback.print_exc()
        if FULL in str(error):
            return fail(component, f"the disk is full ({error}); give the job more volume_gb in environments/*.toml.")
        where = f"unexpected in {component} {mode}; the log has the traceback"
        return fail(component, f"{type(error).__name__}: {error} ({where})")
    return 0


class Words(logging.Formatter):
    """The message alone; what wants attention says so, and can be found among other lines."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return f"{WARNING}{text}" if record.levelno >= logging.WARNING else text


def stop(_number: int, _frame: FrameType | None) -> None:
    """End on SIGTERM, tidily: what was half written goes."""
    raise SystemExit("stopped by SIGTERM before it was done")


@contextmanager
def _scratch() -> Iterator[None]:
    """Temporary files go to the volume that was sized for the data, and are gone afterwards."""
    before = tempfile.tempdir
    try:
        paths.scratch().mkdir(parents=True, exist_ok=True)
        tempfile.tempdir = str(paths.scratch())
        yield
    finally:
        tempfile.tempdir = before
        shutil.rmtree(paths.scratch(), ignore_errors=True)


def settings(arguments: list[str]) -> dict[str, str]:
    """Hyperparameters where there are any, then `--key value` pairs over them."""
    file = paths.hyperparameters()
    values: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    if len(arguments) % 2 or any(not key.startswith("--") for key in arguments[::2]):
        raise InputError(f"arguments come as --key value pairs, not {' '.join(arguments)!r}.")
    return values | {key.removeprefix("--"): value for key, value in zip(arguments[::2], arguments[1::2], strict=True)}


def flag(values: Mapping[str, str], name: str) -> bool:
    """A setting that is "true" or "false". Raises InputError for anything else."""
    text = values.get(name, "false").strip().lower()
    if text not in ("true", "false"):
        raise InputError(f"{name} is {text!r}; it must be true or false.")
    return text == "true"


def fail(component: str, message: str) -> int:
    """Write the reason where SageMaker looks for it, print it, and give the exit code."""
    print(f"error: {message}", file=sys.stderr)
    file = paths.failure(component)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(message.encode()[:LIMIT].decode(errors="ignore").encode())
    except OSError as error:
        print(f"the reason could not be written to {file}: {error}", file=sys.stderr)
    return 1

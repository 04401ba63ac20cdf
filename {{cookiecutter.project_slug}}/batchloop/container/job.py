"""A job in a container: its folders under /opt/ml, its hosts and settings, and how it ends."""

import json
import logging
import os
import re
import resource
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)
NUMBER = re.compile(r"-?\d+([.,]\d+)?")
SHARDED = "ShardedByS3Key"
LIMIT = 1024  # bytes of a failure text that SageMaker shows
PACE = 5.0  # seconds between two lines that say how far long work is
FULL = "No space left on device"  # in the system's words, which every library passes on
Mode = Callable[[Mapping[str, str]], None]
Spread = Callable[[], Sequence[str]]  # the inputs of which a host may have its part


class InputError(Exception):
    """Something a person can mend: the message names the file, the column, the row, and what to do."""


class Pace:
    """Says how far long work is, now and then."""

    def __init__(self) -> None:
        self.due = monotonic() + PACE

    def say(self, text: str, *values: Any) -> None:
        if monotonic() >= self.due:
            log.info(text, *values)
            self.due = monotonic() + PACE


def sentence(error: Exception) -> str:
    """A failure in one line that ends with a full stop: an InputError's own words, the kind of any other before it."""
    text = " ".join(str(error).split()).rstrip(".")
    return f"{text}." if isinstance(error, InputError) else f"{type(error).__name__}: {text[:200]}."


def column_hint(absent: Iterable[str], present: Sequence[str]) -> str:
    """Why the names of a table's columns may not be those that are looked for, "" where nothing is near."""
    names = {name.strip().lower(): name for name in present}
    for name in absent:
        if close := names.get(name.strip().lower()):
            return f"; {close!r} differs from {name!r} in upper and lower case or blanks: write both alike"
    if len(present) == 1 and (marks := [sign for sign in (";", "\t", "|", ",") if sign in present[0]]):
        return f"; its cells seem to be separated by {marks[0]!r}"
    return "; does the first line hold the names?" if any(map(NUMBER.fullmatch, names)) else ""


def plain(text: object) -> str:
    """What is said of data, as a terminal shows it: without characters that steer it, or turn lines around."""
    return "".join(sign if sign.isprintable() or sign in "\n\t\xa0" else repr(sign)[1:-1] for sign in str(text))


def listed(names: Iterable[object], most: int = 10) -> str:
    """Names for a sentence: at most so many, and how many more there are."""
    every = [str(name) for name in names]
    more = [f"and {len(every) - most:,} more"] if len(every) > most else []
    return ", ".join([*every[:most], *more])


def root() -> Path:
    """The folder that is /opt/ml inside a container."""
    return Path(os.environ.get("ML_ROOT", "/opt/ml"))


def processing_input(name: str) -> Path:
    """The folder into which a processing job's input of this name was copied."""
    return root() / "processing" / "input" / name


def holds_files(folder: Path) -> bool:
    """Whether a host was given any: of an input in parts it may get none."""
    return any(path.is_file() and path.name[0] not in "._" for path in folder.rglob("*"))


def processing_output(name: str) -> Path:
    """The folder whose files a processing job uploads under this output's name."""
    return root() / "processing" / "output" / name


def channel(name: str) -> Path:
    """The folder of a training job's input channel."""
    return root() / "input" / "data" / name


def model() -> Path:
    """What a training job packs as model.tar.gz, and a transform container finds unpacked."""
    return root() / "model"


def training_output() -> Path:
    """What a training job packs as output.tar.gz."""
    return root() / "output" / "data"


def checkpoints() -> Path:
    """Files that survive an interrupted training job."""
    return root() / "checkpoints"


@dataclass(frozen=True)
class Hosts:
    """This host's name, all names, and the inputs of which this host has only its part."""

    name: str = ""
    names: tuple[str, ...] = ()
    shards: tuple[str, ...] = ()

    @property
    def several(self) -> bool:
        return len(self.names) > 1

    @property
    def together(self) -> bool:
        """Whether each of several hosts has a part of an input."""
        return self.several and bool(self.shards)

    @property
    def first(self) -> bool:
        """Whether this is the host that does what is done once; a host that is alone does everything."""
        return not self.several or self.name == min(self.names)

    @property
    def prefix(self) -> str:
        """What keeps this host's files apart from the others', which are stored in the same place."""
        return f"{self.name}-" if self.several else ""


def current() -> Hosts:
    """What the service wrote for this job; a job without those files is alone."""
    training = root() / "input" / "config"
    resources = _read(root() / "config" / "resourceconfig.json") or _read(training / "resourceconfig.json")
    inputs = [(name, given.get("S3DataDistributionType")) for name, given in _inputs().items()]
    channels = _read(training / "inputdataconfig.json").items()
    inputs += [(name, channel.get("S3DistributionType")) for name, channel in channels]
    shards = tuple(name for name, distribution in inputs if distribution == SHARDED)
    return Hosts(resources.get("current_host", ""), tuple(resources.get("hosts", ())), shards)


def source(name: str) -> str:
    """The place that a processing job's input of this name was copied from; "" where nobody says."""
    return str(_inputs().get(name, {}).get("S3Uri", "")).removeprefix("file://")


def check_quotable(name: str, text: str) -> None:
    """Raises InputError for a parameter's value that can't stand in the registered card, which is JSON, as it is."""
    if re.search(r'["\\\x00-\x1f]', text):
        raise InputError(f"{name} = {text!r} has a quote, a backslash or a line break in it; give it another name.")


def _inputs() -> dict[str, Mapping[str, Any]]:
    """A processing job's inputs by name."""
    inputs = _read(root() / "config" / "processingjobconfig.json").get("ProcessingInputs") or []
    return {given.get("InputName", "?"): given.get("S3Input") or {} for given in inputs}


def _read(file: Path) -> Mapping[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _has_work(mode: str, spread: Spread, shared: bool) -> bool:
    """Whether this host does the job: the first one, or each where an input of `spread` is in parts or it is `shared`.

    Raises InputError where an input is in parts that has to be whole.
    """
    hosts = current()
    if not hosts.several or shared:
        return True
    if torn := set(hosts.shards).difference(spread()):
        part = f"the {len(hosts.names)} hosts were each given a part; use one instance, or FullyReplicated inputs"
        raise InputError(f"{mode} needs all of {', '.join(sorted(torn))} on one host, but {part}.")
    if not hosts.shards and not hosts.first:
        log.info("%s of %s hosts has nothing to do: %s is not spread", hosts.name, len(hosts.names), mode)
        return False
    return True


def run(name: str, mode: Mode, arguments: Sequence[str] = (), spread: Spread = tuple) -> int:
    """Run one mode of a component, such as "processing train"; the exit code says whether it worked.

    A mode gets its settings as text: `--key value` arguments of a processing job, or a training job's hyperparameters.
    Of the inputs in `spread` a host may have its part, as it does where the setting `share` is "true".
    """
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    logging.getLogger().handlers[0].setFormatter(Words())
    signal.signal(signal.SIGTERM, _stop)  # the first process of a container would not notice it otherwise
    try:
        if name == "processing train":  # a value given in the console, or by the API, was looked at by nobody
            check_quotable("TrainingData", source("raw"))
        if _has_work(name, spread, flag(settings(arguments), "share")):
            with _scratch():
                mode(settings(arguments))
            usage = resource.getrusage(resource.RUSAGE_SELF)  # `make size` reads both from the log
            log.info("used %.2f processor seconds and at most %d MiB", usage.ru_utime + usage.ru_stime, _most_memory())
    except (InputError, SystemExit) as error:
        return _fail(name, str(error))
    except Exception as error:  # the reason must reach the failure file, whatever it is
        traceback.print_exc()
        if FULL in str(error):
            return _fail(name, f"the disk is full ({error}); give the job more volume_gb in environments/*.toml.")
        return _fail(name, f"{type(error).__name__}: {error} (unexpected in {name}; the log has the traceback)")
    return 0


def _most_memory() -> int:
    """MiB that this program has held at once; on Linux, getrusage tells those of the program that started it too."""
    with suppress(OSError):
        held = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="utf-8"))
        if held:
            return int(held[1]) >> 10
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_maxrss // (2**20 if sys.platform == "darwin" else 2**10)


class Words(logging.Formatter):
    """The message alone; what wants attention says so, and can be found among other lines."""

    def format(self, record: logging.LogRecord) -> str:
        text = plain(super().format(record))
        return f"warning: {text}" if record.levelno >= logging.WARNING else text


def _stop(_number: int, _frame: FrameType | None) -> None:
    """End on SIGTERM, tidily: what was half written goes."""
    raise SystemExit("stopped by SIGTERM before it was done")


@contextmanager
def _scratch() -> Iterator[None]:
    """Temporary files go to the volume that was sized for the data: where the outputs lie, or /tmp of a training job.

    "SageMaker AI environment variables and the default paths for training storage locations", developer guide.
    """
    outputs = sorted(path for path in (root() / "processing" / "output").glob("*") if path.is_dir())
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=outputs[0] if outputs else None) as folder:
        tempfile.tempdir = folder
        try:
            yield
        finally:
            tempfile.tempdir = before


def settings(arguments: Sequence[str]) -> dict[str, str]:
    """A training job's hyperparameters where there are any, then `--key value` pairs over them."""
    file = root() / "input" / "config" / "hyperparameters.json"
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


def _fail(name: str, message: str) -> int:
    """Write the reason where SageMaker looks for it, print it, and give the exit code."""
    message = plain(message)
    print(f"error: {message}", file=sys.stderr)
    file = root() / "output" / ("failure" if name.startswith("algorithm ") else "message")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(message.encode()[:LIMIT].decode(errors="ignore").encode())
    except OSError as error:
        print(f"the reason could not be written to {file}: {error}", file=sys.stderr)
    return 1

"""`make sbom` and `make scan`: what the locks put into the images, and what is known to be vulnerable of it."""

import json
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Annotated, Any

from batchloop import repository as batchloop_repository
from batchloop.cloud import images
from batchloop.container import settings
from batchloop.container.job import InputError, listed
from batchloop.container.settings import Matching
from batchloop.engine.storage import write_json
from batchloop.repository import Repository

# what an image is to the markers of a lock, whatever this machine is
IMAGE = {"sys_platform": "linux", "os_name": "posix", "platform_system": "Linux", "platform_machine": "x86_64"}
IMAGE |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
IGNORED = "vulnerabilities.toml"
UNKNOWN = "not known: no image that docker reads here says what it was built on"


@dataclass(frozen=True)
class Pass:
    """Why a known vulnerability is let pass, and its last day."""

    reason: Annotated[str, Matching(r"(?s).*\S.*", "a text that says why")]
    until: Annotated[str, Matching(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])", 'a day, as "2027-01-31"')]


def locked(repository: Repository, lock: str) -> list[str]:
    """The requirements that an image takes of a lock, with their hashes: those of its system and its Python."""
    from packaging.requirements import Requirement  # noqa: PLC0415 - loaded where it is used

    text = (repository.root / "locks" / f"{lock}.txt").read_text(encoding="utf-8").replace("\\\n", "")
    python = (re.findall(r"python:(3\.\d+)", images.base_image(repository)) or ["3.11"])[0]
    image, found = IMAGE | {"python_version": python, "python_full_version": f"{python}.0"}, []
    for line in filter(str.strip, text.splitlines()):
        name, *hashes = line.split("--hash=")
        requirement = Requirement(name)
        if requirement.marker is None or requirement.marker.evaluate(image):
            requirement.marker = None
            found.append(" ".join([str(requirement), *(f"--hash={one.strip()}" for one in hashes)]))
    return found


def _tool(*words: str, given: str = "") -> tuple[str, str]:
    """What a program of .venv-auditors prints, and what it complains of; it may end with 1."""
    program = batchloop_repository.here().root / ".venv-auditors" / "bin" / words[0]
    try:
        done = subprocess.run([program, *words[1:]], input=given, capture_output=True, text=True, check=False)  # noqa: S603
    except OSError as error:
        raise InputError(f"{words[0]}: {error.strerror}; `make auditors` installs it.") from None
    return done.stdout, done.stderr.strip()


def sbom(repository: Repository) -> int:
    """Write a bill of materials for each image; the exit code."""
    bases = list[dict[str, Any]]()
    for lock, name in batchloop_repository.locks(repository).items():
        image = repository.image(name, batchloop_repository.component(repository, name, lock))
        found = bill(repository, lock, name, image, image)
        file = repository.local / "sbom" / f"{lock}.cdx.json"
        write_json(file, found)
        print(f"{lock:<15} {len(found['components']) - 1:>3} packages  {repository.shown(file)}")
        bases.append(found["components"][-1])
    for name, digest in sorted({(base["name"], base["version"]) for base in bases}):
        print(f"on {name}, digest {digest}; what else that holds is seen by whoever scans the image")
    return 0


def bill(repository: Repository, lock: str, component: str, named: str, kept: str) -> dict[str, Any]:
    """CycloneDX of an image, `named` with its tag and `kept` by a digest: its lock's packages, and what it is built on.

    That has the digest by which it was named in the build, or UNKNOWN: what a tag means now says nothing of then.
    Raises InputError where the tool can't make it.
    """
    base = images.built_on(kept) or images.base_image(repository)
    digest = base.partition("@")[2] or UNKNOWN
    given = "\n".join(locked(repository, lock)) + "\n"
    said, trouble = _tool("cyclonedx-py", "requirements", "-", "--output-reproducible", given=given)
    try:
        made: dict[str, Any] = json.loads(said)
    except ValueError:
        raise InputError(f"cyclonedx-py: {trouble or 'it said nothing'}") from None
    for package in made["components"]:
        package.pop("description")  # the line of the lock again
    version = named.rpartition(":")[2]
    name, under = f"{repository.names().folder}/{component}", re.split(":[^/]*$|@", base)[0]
    hashes = [] if digest == UNKNOWN else [{"alg": "SHA-256", "content": digest.partition(":")[2]}]
    image = {"type": "container", "bom-ref": "image", "name": name, "version": version}
    made["metadata"]["component"] = image
    made["components"].append({**image, "bom-ref": "base", "name": under, "version": digest, "hashes": hashes})
    held = [package["bom-ref"] for package in made["components"]]
    made["dependencies"] = [{"ref": "image", "dependsOn": held}, *({"ref": ref} for ref in held)]
    return made


def scan(repository: Repository) -> int:
    """Print the known vulnerabilities of what the locks name; 1 where one is not let pass. Raises InputError."""
    passed, where = _passed(repository), dict[str, list[str]]()
    locks = sorted(file.stem for file in (repository.root / "locks").glob("*.txt"))
    for lock in locks:
        for line in locked(repository, lock):
            where.setdefault(line, []).append(lock)
    open_ones, seen = 0, set[str]()
    for package in _vulnerable(list(where)):
        place = f"{package['name']}=={package['version']}"
        held = listed(next((held for line, held in where.items() if line.split()[0] == place), []), 9)
        for one in package["vulns"]:
            names = [one["id"], *one["aliases"]]
            let = next((name for name in names if name in passed), "")
            mended = f"mended in {listed(one['fix_versions'], 3)}" if one["fix_versions"] else "no version mends it"
            said = f"{mended}. {' '.join(str(one.get('description', '')).split())[:150]}"
            said = f"let pass until {passed[let].until}: {passed[let].reason}" if let else said
            print(f"{place} (locks/: {held}): {listed(names, 3)}: {said}")
            seen, open_ones = seen | {let}, open_ones + (not let)
    for name in passed.keys() - seen:
        print(f"{IGNORED}: [{name}] is of nothing that is locked; take it out")
    count = f"{open_ones or 'no'} known {'vulnerability' if open_ones == 1 else 'vulnerabilities'} to mend"
    print(f"{count} in {len(where)} packages of {len(locks)} locks, as OSV knows them on {datetime.now(UTC).date()}")
    if open_ones:
        print(f"`make lock UPGRADE=yes` takes newer versions; {IGNORED} lets one pass, with a reason and a last day")
    return int(open_ones > 0)


def _vulnerable(lines: list[str]) -> Iterator[dict[str, Any]]:
    """The packages with known vulnerabilities. Raises InputError where the service gives no answer."""
    versions: dict[str, list[str]] = {}
    for line in lines:
        versions.setdefault(line.partition("==")[0], []).append(line)
    words = ["--format", "json", "--progress-spinner", "off", "--vulnerability-service", "osv", "--disable-pip"]
    words += ["--require-hashes", "--requirement", "/dev/stdin"]
    while versions:  # it takes one version of a package at a time
        given = "".join(f"{found.pop()}\n" for found in versions.values())
        versions = {name: found for name, found in versions.items() if found}
        said, trouble = _tool("pip-audit", *words, given=given)
        try:
            packages = json.loads(said)["dependencies"]
        except ValueError:
            last = (trouble.splitlines() or ["it said nothing"])[-1]
            raise InputError(
                f"whether anything is vulnerable is not known: OSV gave no answer ({last[:70]} …). "
                "PIP_AUDIT_OSV_URL names a mirror, HTTPS_PROXY a proxy."
            ) from None
        yield from (package for package in packages if package.get("vulns"))


def _passed(repository: Repository) -> dict[str, Pass]:
    """What is let pass today. Raises InputError for an entry without a reason or a day."""
    try:
        tables, text = settings.read(repository.root / IGNORED, IGNORED)
    except FileNotFoundError:
        return {}
    with settings.errors_in(IGNORED, text):
        entries = {name: settings.table(Pass, (name,), table) for name, table in tables.items()}
    for name, entry in [*entries.items()]:
        try:
            if date.fromisoformat(entry.until) < datetime.now(UTC).date():
                print(f"{IGNORED}: [{name}] was let pass until {entry.until}, and counts again")
                del entries[name]
        except ValueError:
            raise InputError(f"{IGNORED}: [{name}] until = {entry.until!r} is no day of the calendar.") from None
    return entries

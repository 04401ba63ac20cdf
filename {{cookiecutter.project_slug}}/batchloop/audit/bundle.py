"""`make audit`: one folder with what an auditor asks of a release, and what it takes to repeat its predictions."""

import shutil
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from batchloop import local
from batchloop import repository as batchloop_repository
from batchloop.audit import card, supply
from batchloop.audit.subject import Subject, here, sha256
from batchloop.container import report, usecase
from batchloop.container.job import InputError
from batchloop.container.job import listed as sentence
from batchloop.container.usecase import UseCase
from batchloop.engine import running
from batchloop.engine.storage import write_json
from batchloop.repository import COMPONENTS, Repository, definition_file
from batchloop.updating import git, unpack

HERE = Path(__file__).parent
NO_WINDOW = {"manifest.json"}  # the empty artifact's only file: nothing was learned from earlier windows
# end the names of parameters that `make score` sets itself
GIVEN = ("Image", "Data", "Version", "Prefix", "Fingerprint")


@dataclass(frozen=True)
class Wanted:
    """A release by its number, or the last one: of the `source` environment's account, or of this machine.

    `batch`: with the rows scored.
    """

    release: int | None = None
    source: str = ""
    out: str = ""
    batch: bool = False


def audit(repository: Repository, wanted: Wanted) -> int:
    """Write the folder, whole or not at all; 1 where something is missing that should be in it. Raises InputError."""
    with TemporaryDirectory() as fetched:
        if wanted.source:
            from batchloop.audit import account  # noqa: PLC0415 - of AWS

            subject = account.there(replace(repository, environment=wanted.source), wanted.release, Path(fetched))
        else:
            subject = here(repository, wanted.release)
        number, environment = subject.manifest["version"], local.trained_for(repository, subject.package)
        folder = f"{environment}-{number}" if wanted.source else f"release-{environment}-{number}"
        target = Path(wanted.out or repository.local / "audit" / folder).expanduser().resolve()
        if wanted.out and target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InputError(f"OUT={wanted.out} is there already; name a folder that is new or empty.")
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=target.parent, prefix=".audit-") as scratch:
            made = Path(scratch) / "made"
            missing = Bundle(repository, subject, made, wanted.batch).write()
            if target.exists():
                shutil.rmtree(target)
            made.rename(target)
    sizes = [file.stat().st_size for file in target.rglob("*") if file.is_file()]
    held = f"{len(sizes)} files, {sum(sizes) / 1e6:,.1f} MB"
    print(f"release {number} of {environment}: {held} in {repository.shown(target)}/")
    print("its README.md says what is what, and how to repeat the predictions", *missing, sep="\nmissing: ")
    return int(bool(missing))


@dataclass(frozen=True)
class Bundle:
    """The folder `made` while it is written."""

    repository: Repository
    subject: Subject
    made: Path
    batch: bool

    def write(self) -> list[str]:
        """Write everything; in words, what is missing."""
        manifest, made, images = self.subject.manifest, self.made, self.subject.manifest["images"]
        made.mkdir()
        with TemporaryDirectory() as scratch:
            unpacked = Repository(Path(scratch))
            packed = self._sources(made / "source.tar", unpacked)
            both, tags = batchloop_repository.locks(unpacked), batchloop_repository.own(unpacked, "component")
            made_of = {lock: name for lock, name in both.items() if images[name].endswith(f":{tags.get(lock)}")}
            differ = [name for name in COMPONENTS if name not in made_of.values()]
            missing = [f"sources of {name}: those of {packed} make another image than the release's" for name in differ]
            case, kept = usecase.load(unpacked.root / "usecase.toml"), manifest.get("digests", images)
            for lock, name in {**made_of, **{name: name for name in differ}}.items():
                bill = supply.bill(unpacked, lock, name, images[name], kept[name])
                write_json(made / "sbom" / f"{lock}.cdx.json", bill)
        for name in ("package", "decisions"):
            write_json(made / f"{name}.json", getattr(self.subject, name))
        for path in ("release.json", "local/release.json"):
            write_json(made / path, manifest)
        for name, definition in self.subject.definitions.items():
            write_json(made / "definitions" / f"{name}.json", definition)
            if name == "inference":
                write_json(definition_file(Repository(made), name, str(manifest["definition"])), definition)
        lacking = [name for name in ("training", "inference") if name not in self.subject.definitions]
        missing += [f"the {name} pipeline: it was not kept when this model was registered" for name in lacking]
        for uri in manifest["artifacts"].values():
            self._copy(uri, running.storage(Repository(made)).path(uri))
        runs = (self.subject.trained, self.subject.scored)
        data = {name: part for run in runs for name, part in self.raw(case, run)}
        write_json(made / "data.json", data)
        for name, part in [(name, part) for name, part in data.items() if not part["same"]]:
            which = sentence((f"{file} ({state})" for file, state in part["lost"].items()), 5)
            what = f"is not all there: {which}" if which else "is gone, has changed or was added to"
            missing.append(f"{name}: what run {part['run']} has read {what}")
        self._card(case, {name: part for name, part in data.items() if name != "ProductionData"})
        missing += self._scored()
        about: dict[str, Any] = {
            "scored": self.subject.scored.get("execution", ""),
            "environment": local.trained_for(self.repository, self.subject.package),
            "settings": self._settings(),
            "day": f"{datetime.now(UTC):%Y-%m-%d}",
            "name": self.repository.names().folder,
            "packed": packed,
            "differ": differ,
        }
        page = report.render("readme.jinja", HERE, manifest=manifest, missing=missing, batch=self.batch, **about)
        (made / "README.md").write_text(page, encoding="utf-8")
        listed = [(file.relative_to(made).as_posix(), file) for file in sorted(made.rglob("*")) if file.is_file()]
        write_sums(made / "SHA256SUMS", listed)
        return missing

    def _copy(self, uri: str, target: Path) -> None:
        """A stored file or folder, to be read and removed by anybody."""
        single = self.subject.stored.existing(uri).is_file()
        for name, file in self.subject.stored.files(uri):
            place = target if single else target / name
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)

    def _sources(self, archive: Path, unpacked: Repository) -> str:
        """Pack what the release was made from, its commit, or else this folder; in words, which of them."""
        commit, root = str(self.subject.manifest["git_commit"]), self.repository.root
        packed = ""
        with suppress(InputError):
            if len(commit) == 40:
                git("-C", root, "archive", "--format=tar", f"--output={archive}", commit)
                packed = f"commit {commit}"
        if not packed:
            packed = "this folder, as it lay here when this was written"
            # what git doesn't know goes in where code belongs alone: tables may lie beside it
            known = git("-C", root, "ls-files", "-z").split("\0")
            known += git("-C", root, "ls-files", "-oz", "--exclude-standard", "components", "pipelines").split("\0")
            if "usecase.toml" not in known:
                raise InputError("git knows no usecase.toml here, so the sources of the release are not known; commit.")
            with tarfile.open(archive, "w") as tar:
                for name in sorted(name for name in known if name and (root / name).is_file()):
                    tar.add(root / name, name, filter=_plain)
        unpack(archive, unpacked.root)
        return packed

    def raw(self, case: UseCase, run: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each parameter that names raw data, with every file, and what has become of it since the run has read it."""
        given, before, parts = run.get("parameters", {}), self.subject.before(self.repository, run), dict[str, Any]()
        for name in [name for name in (*local.RAW, "EarlierData") if name in given]:
            parts[name] = []
            with suppress(InputError):
                parts[name] = self.subject.raw(case, name, given[name])
        same = self.subject.fingerprint(parts.values()) == given.get("DataFingerprint")
        for name, files in parts.items():
            known = before.get(name)
            for file in files:
                file["since"] = _since(file, known) if known is not None else "same" if same else "not known"
            lost = {file["name"]: "changed" for file in files if file["since"] == "changed"}
            lost |= dict.fromkeys(sorted({*(known or {})} - {file["name"] for file in files}), "gone")
            if name != "EarlierData" or {*lost, *(file["name"] for file in files)} != NO_WINDOW:
                about = {"same": same if known is None else not lost, "lost": lost, "files": files}
                yield name, {"run": run["execution"], "uri": given[name], **about}

    def _card(self, case: UseCase, data: Mapping[str, Any]) -> None:
        manifest, stored, package = self.subject.manifest, self.subject.stored, self.subject.package
        try:
            quality = package["ModelMetrics"]["ModelQuality"]["Statistics"]["S3Uri"]
            reasons = package["ModelMetrics"]["Explainability"]["Report"]["S3Uri"]
        except (KeyError, TypeError):
            number = manifest["version"]
            raise InputError(f"what is registered of version {number} names no reports of its training.") from None
        self._copy(f"{quality.rpartition('/')[0]}/", self.made / "reports" / "LearnBaseline")
        self._copy(reasons, self.made / "reports" / "LearnExplainer.html")
        declared = self.subject.definitions.get("training", {}).get("Parameters", [])
        usual = {"QualityLimit": case.gate.minimum, "MinimumLead": case.gate.minimum_lead}
        usual |= {one["Name"]: one["DefaultValue"] for one in declared if one["Name"] in usual}
        known = card.Known(
            case,
            manifest,
            self.subject.package,
            usual,
            {name: float(self.subject.trained.get("parameters", {}).get(name, one)) for name, one in usual.items()},
            evaluation=stored.read_json(quality),
            learned=stored.read_json(f"{manifest['artifacts']['baseline']}baseline.json"),
            reasons=stored.read_json(f"{manifest['artifacts']['explainer']}explainer.json"),
            data=data,
        )
        card.write(known, self.made)

    def _scored(self) -> Iterator[str]:
        """The last scoring: its report and the hashes of its predictions; for a `batch` its rows too."""
        if not self.subject.scored:
            yield "predictions: no scoring, or in an account not the last one, was of this release"
            return
        outputs, stored = self.subject.scored["outputs"], self.subject.stored
        write_sums(self.made / "PREDICTIONS", stored.files(outputs["predictions"]))
        reports = {"drift": "DetectDrift"} | ({"explanations": "ExplainPredictions"} if self.batch else {})
        for name, folder in reports.items():
            with suppress(InputError, KeyError):
                self._copy(outputs[name], self.made / "reports" / folder)
        if self.batch:
            self._copy(outputs["predictions"], self.made / "predictions")
            rows = self.subject.scored["parameters"]["ProductionData"]
            single = stored.existing(rows)
            self._copy(rows, self.made / "batch" / (single.name if single.is_file() else ""))

    def _settings(self) -> str:
        """What the last scoring was given besides the definition's own values, as SET= takes it."""
        own = {name.capitalize() for name in self.subject.manifest["artifacts"]}
        declared = self.subject.definitions.get("inference", {}).get("Parameters", [])
        usual = {one["Name"]: one.get("DefaultValue") for one in declared if not one["Name"].endswith(GIVEN)}
        given = {name: value for name, value in self.subject.scored.get("parameters", {}).items() if name in usual}
        return " ".join(f"{name}={one}" for name, one in given.items() if name not in own and one != usual[name])


def _since(file: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """What has become of a file, by what is known of those that a run has read."""
    if file["name"] not in known:
        return "added since"
    return "same" if known[file["name"]] == [file["bytes"], file["sha256"]] else "changed"


def _plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Nobody's file of no time: the same sources are the same bytes."""
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


def write_sums(target: Path, entries: Iterable[tuple[str, Path]]) -> None:
    """The list that `sha256sum -c` takes."""
    target.write_text("".join(f"{sha256(file)}  {name}\n" for name, file in entries), encoding="utf-8")

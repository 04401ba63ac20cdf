"""What an auditor gets: bills of materials, known vulnerabilities, a card, and what repeats the predictions."""

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from conftest import commit, run_in

VALID = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
for file in sys.argv[1:]:
    print(JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(file, encoding="utf-8").read()))
"""
KNOWN = {  # as api.osv.dev answers
    "id": "PYSEC-2026-1",
    "aliases": ["CVE-2026-0001"],
    "summary": "A table of a certain\nshape is read wrongly.",
    "affected": [
        {
            "package": {"name": "polars", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.1"}]}],
        }
    ],
}


class Osv(BaseHTTPRequestHandler):
    """OSV's query on loopback: it knows something of polars alone."""

    asked: list[dict[str, Any]] = []  # noqa: RUF012 - the test looks at it

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(query)
        body = json.dumps({"vulns": [KNOWN]} if query["package"]["name"] == "polars" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def osv(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Osv) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("PIP_AUDIT_OSV_URL", f"http://127.0.0.1:{server.server_port}/v1/query")
        yield
        server.shutdown()


def test_each_image_has_a_bill_of_materials_of_what_its_lock_installs(repository: Path) -> None:
    run = run_in(repository)
    run("make", "sbom")
    bills = sorted((repository / "local" / "sbom").glob("*.cdx.json"))
    assert [file.name.partition(".")[0] for file in bills] == [
        "algorithm",
        "explainability",
        "monitoring",
        "processing",
    ]
    assert set(run(".venv-auditors/bin/python", "-c", VALID, *map(str, bills)).stdout.split()) == {"None"}
    first = [file.read_bytes() for file in bills]
    run("make", "sbom")
    assert [file.read_bytes() for file in bills] == first
    installed = run(".venv/bin/uv", "pip", "freeze", "--python", ".venv-components").stdout.split()
    listed = set()
    for file in bills:
        bill = json.loads(file.read_text(encoding="utf-8"))
        packages = [each for each in bill["components"] if each["type"] == "library"]
        listed |= {f"{each['name']}=={each['version']}" for each in packages}
        assert all(each["externalReferences"][0]["hashes"] for each in packages)
        [base] = [each for each in bill["components"] if each["type"] == "container"]
        assert (base["name"], bill["metadata"]["component"]["type"]) == ("python", "container")
    assert listed == set(installed)  # one of each, though the locks name other versions for other Pythons


@pytest.mark.usefixtures("osv")
def test_a_known_vulnerability_fails_until_it_is_let_pass_with_a_reason_and_a_day(another: Callable[..., Path]) -> None:
    folder = another("vulnerable")
    run, ignored = run_in(folder), folder / "vulnerabilities.toml"
    Osv.asked.clear()
    said = run("make", "scan", succeeds=False).stdout
    assert "mended in 99.1. A table of a certain shape" in said
    assert "algorithm, components, development" in said
    assert "1 known vulnerability to mend" in said
    assert len({(query["package"]["name"], query["version"]) for query in Osv.asked}) > 100
    entry, later = '[CVE-2026-0001]\nreason = "no such table here"\nuntil = "{}"\n', date.today() + timedelta(9)
    ignored.write_text(entry.format(later), encoding="utf-8")
    said = run("make", "scan").stdout
    assert f"let pass until {later}: no such table here" in said
    assert "no known vulnerabilities to mend" in said
    ignored.write_text(entry.format(date.today() - timedelta(1)), encoding="utf-8")
    assert "and counts again" in run("make", "scan", succeeds=False).stdout
    ignored.write_text(entry.format("2027-02-30"), encoding="utf-8")
    assert "until = '2027-02-30' is no day of the calendar" in run("make", "scan", succeeds=False).stderr
    ignored.write_text(entry.format(later).replace("until", "untill"), encoding="utf-8")
    said = run("make", "scan", succeeds=False).stderr
    assert "vulnerabilities.toml, line 3" in said
    assert "the nearest is 'until'" in said


def test_whether_anything_is_vulnerable_is_not_guessed(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", "http://127.0.0.1:9/v1/query")
    said = run_in(repository)("make", "scan", succeeds=False).stderr
    assert "is not known: OSV gave no answer" in said
    assert "Traceback" not in said


TEXTS = {"model_creator": 1024, "training_observations": 1024, "evaluation_observation": 2096}
MEMBERS = {  # of "Model package model card schema" in the SageMaker developer guide
    "": {"model_overview", "intended_uses", "training_details", "evaluation_details", "additional_information"},
    "model_overview": {"model_creator", "model_artifact"},
    "intended_uses": {"purpose_of_model", "intended_uses", "risk_rating"},
    "training_details": {"training_observations", "training_job_details"},
    "training_job_details": {"training_datasets", "training_environment", "hyper_parameters"},
    "training_environment": {"container_image"},
    "hyper_parameters": {"name", "value"},
    "evaluation_details": {"name", "evaluation_observation", "metric_groups"},
    "metric_groups": {"name", "metric_data"},
    "metric_data": {"name", "type", "value"},
    "additional_information": {"ethical_considerations", "caveats_and_recommendations", "custom_details"},
}


def fits(name: str, value: Any) -> None:
    """A card has members that the registry knows, and texts within its limits."""
    if isinstance(value, dict):
        assert name == "custom_details" or set(value) <= MEMBERS[name], name
        for key, one in value.items():
            fits(key, one)
    elif isinstance(value, list):
        for one in value:
            fits(name, one)
    elif isinstance(value, str):
        assert 0 < len(value) <= TEXTS.get(name, 1024 if name not in MEMBERS["intended_uses"] else 2048), name
    else:
        assert isinstance(value, float | int), name


CARD = """
[card]
owner = "Retention team"
intended_use = "To call customers <who may leave>."
"""


@pytest.fixture(scope="module")
def audited(another: Callable[..., Path]) -> Path:
    """A repository with a card, trained and scored once."""
    folder = another("audited")
    with (folder / "usecase.toml").open("a", encoding="utf-8") as file:
        file.write(CARD)
    commit(folder)
    run = run_in(folder)
    run("make", "sample", "ROWS=4000")
    run("make", "train")
    run("make", "score")
    return folder


def moved(folder: Path, to: Path) -> Path:
    """The bundle where nothing of the repository is."""
    [made] = (folder / "local" / "audit").iterdir()
    return made.rename(to / "bundle")


def test_a_bundle_repeats_the_predictions_byte_for_byte_where_nothing_else_is(audited: Path, tmp_path: Path) -> None:
    said = run_in(audited)("make", "audit", "BATCH=yes").stdout
    assert "release 1 of dev: " in said
    assert "missing" not in said
    bundle = moved(audited, tmp_path)
    original = {file.name: file.read_bytes() for file in audited.glob("local/storage/runs/inference/**/*.out")}
    away = audited.rename(audited.with_name("gone"))
    try:
        [steps] = re.findall(r"(?ms)^```\n(.*?)^```", (bundle / "README.md").read_text(encoding="utf-8"))
        kept = ("PATH", "HOME", "UV_", "PIP_", "SSL_")  # where this machine's index of packages is
        environment = {name: value for name, value in os.environ.items() if name.startswith(kept)}
        environment |= {"TMPDIR": str(tmp_path)}
        command = ["bash", "-euc", steps]
        done = subprocess.run(command, cwd=bundle, env=environment, check=False, capture_output=True, text=True)
    finally:
        away.rename(audited)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert "installing the environments" in done.stdout
    assert re.search(r"(?m)^\S+\.out: OK$", done.stdout)
    repeated = {file.name: file.read_bytes() for file in tmp_path.glob("*/local/storage/runs/inference/**/*.out")}
    assert repeated == original != {}
    assert {file.name: file.read_bytes() for file in bundle.glob("predictions/**/*.out")} == original


def test_rows_are_in_it_only_where_they_are_asked_for(audited: Path, tmp_path: Path) -> None:
    run_in(audited)("make", "audit")
    bundle = moved(audited, tmp_path)
    assert not (bundle / "batch").exists()
    rows = pl.read_csv(next((audited / "data" / "sample" / "production").glob("*.csv")))
    held = b"".join(file.read_bytes() for file in bundle.rglob("*") if file.is_file())
    assert not [name for name in rows["customer_id"].head(200) if str(name).encode() in held]
    data = json.loads((bundle / "data.json").read_text(encoding="utf-8"))
    assert [file["rows"] for part in data.values() for file in part["files"]] == [4000, rows.height]


def test_the_card_says_what_is_known_and_what_nobody_has_said(audited: Path, tmp_path: Path) -> None:
    run_in(audited)("make", "audit")
    bundle = moved(audited, tmp_path)
    text = (bundle / "card.json").read_text(encoding="utf-8")
    card = json.loads(text)
    fits("", card)
    assert len(text) < 100_000
    assert card["model_overview"]["model_creator"] == "Retention team"
    assert {"name": "num_leaves", "value": "31"} in card["training_details"]["training_job_details"]["hyper_parameters"]
    page = (bundle / "card.html").read_text(encoding="utf-8")
    assert "Nobody has said: what it can&#39;t do, ethics." in page
    assert "&lt;who may leave&gt;" in page
    package = json.loads((bundle / "package.json").read_text(encoding="utf-8"))["ModelCard"]
    registered = json.loads(package["ModelCardContent"])
    fits("", registered)
    assert (registered["model_overview"], package["ModelCardStatus"]) == (card["model_overview"], "Draft")


def test_what_is_missing_is_said(another: Callable[..., Path], audited: Path) -> None:
    folder = another("incomplete")
    run = run_in(folder)
    for name in ("local", "data/sample"):
        shutil.copytree(audited / name, folder / name, symlinks=True)
    assert "is not registered" in run("make", "audit", "RELEASE=9", succeeds=False).stderr
    assert "is there already" in run("make", "audit", "OUT=data", succeeds=False).stderr
    said = run("make", "audit", "RELEASE=1", "OUT=out", succeeds=False).stdout
    assert "missing: sources of monitoring: those of " in said
    assert "What is missing" in (folder / "out" / "README.md").read_text(encoding="utf-8")
    for name in ("model.tar.gz",):
        for file in (folder / "local" / "storage").rglob(name):
            file.unlink()
    assert "can't be audited" in run("make", "audit", succeeds=False).stderr

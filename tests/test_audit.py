"""What an auditor gets: bills of materials, known vulnerabilities, a card, and what repeats the predictions."""

import json
import threading
from collections.abc import Iterator
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from conftest import run_in

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
def test_a_known_vulnerability_fails_until_it_is_let_pass_with_a_reason_and_a_day(another: Any) -> None:
    folder = another("vulnerable")
    (folder / ".venv-auditors").symlink_to((folder / ".venv").resolve().parent / ".venv-auditors")
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
    ignored.write_text(entry.format(later).replace("until", "untill"), encoding="utf-8")
    said = run("make", "scan", succeeds=False).stderr
    assert "vulnerabilities.toml, line 3" in said
    assert "the nearest is 'until'" in said


def test_whether_anything_is_vulnerable_is_not_guessed(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", "http://127.0.0.1:9/v1/query")
    said = run_in(repository)("make", "scan", succeeds=False).stderr
    assert "is not known: OSV gave no answer" in said
    assert "Traceback" not in said

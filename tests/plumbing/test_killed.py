"""kill -9 at any write of a verb: said again it ends right, nothing half-written is taken for whole, nothing runs on.

The moments are drawn: KILLS=30 draws more of them, KILLS_SEED=2 others. What a simulation does then:
test_simulating_whole.py.
"""

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import boto3
import polars as pl
import pytest
from moto.server import ThreadedMotoServer

from batchloop.container import usecase
from batchloop.pipelines import definitions
from batchloop.repository import Repository
from plumbing.engine_miniature import Miniature, build, copied, processes_of, until

FOLDERS = ("batchloop", "components", "pipelines", "environments", "data", "locks", "infra", "tests")
KILLS, SEED = int(os.environ.get("KILLS", "2")), os.environ.get("KILLS_SEED", "1")
# Counts what is about to be written, moved, removed, started or sent, and ends at one of these, as kill -9 does.
COUNTING = """
import atexit, os, runpy, signal, sys
at, told, module = int(sys.argv[1]), sys.argv[2], sys.argv[3]
names = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "shutil.copyfile", "shutil.rmtree",
         "subprocess.Popen", "http.client.send"}
counted = 0
def count(event, given):
    global counted
    if event in names or (event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)):
        counted += 1
        if counted == at:
            os.kill(os.getpid(), signal.SIGKILL)
sys.dont_write_bytecode = True
sys.addaudithook(count)
@atexit.register
def tell():
    number = counted
    with open(told, "w") as file:
        file.write(str(number))
sys.argv = sys.argv[3:]
sys.path.insert(0, os.getcwd())
runpy.run_path(module, run_name="__main__") if module.endswith(".py") else runpy.run_module(module, run_name="__main__")
"""
Say = Callable[[Path], list[str]]


def said(
    root: Path, words: list[str], at: int = 0, environment: Mapping[str, str] = MappingProxyType({})
) -> tuple[int, str, int]:
    """A verb's exit code, what it printed, and how many moments it had; it is killed at one of them."""
    told = root.parent / f"moments-{root.name}"
    told.unlink(missing_ok=True)
    own = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    command = [sys.executable, "-c", COUNTING, str(at), str(told), *words]
    done = subprocess.run(
        command,
        cwd=root,
        env={**own, "COMPONENTS_PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    until(lambda: not processes_of(root), 15)
    return done.returncode, done.stdout + done.stderr, int(told.read_text() or 0) if told.exists() else 0


def killed_at_some(root: Path, words: list[str], check: Callable[[str], None], kills: int = KILLS) -> None:
    """A verb is killed at moments that are drawn, each time in the same folder as it was, and said again: `check`ed."""
    before = root.with_name(f"{root.name}-before")
    shutil.copytree(root, before, symlinks=True)

    def anew() -> None:
        shutil.rmtree(root)
        shutil.copytree(before, root, symlinks=True)

    code, text, moments = said(root, words)
    assert code == 0, text
    check(text)
    assert moments > 3
    draw = random.Random(f"{SEED} {words}")
    for at in sorted(draw.sample(range(1, moments + 1), min(kills, moments))):
        anew()
        assert said(root, words, at)[0] in (-9, 0), at  # 0: this time it had fewer moments
        code, text, _ = said(root, words)
        assert code == 0, f"killed at {at} of {moments}, then:\n{text}"
        assert "Traceback" not in text
        check(text)
    anew()
    shutil.rmtree(before)


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Miniature:
    """The real engine with components of a few lines."""
    return build(tmp_path_factory.mktemp("killed") / "mini")


def stored(root: Path) -> dict[str, bytes]:
    """What a run's outputs hold, by the name of the step, of the newest run."""
    run = json.loads(max(root.glob("local/runs/*/run.json")).read_text(encoding="utf-8"))
    assert run["state"] == "done"
    places = [file for file in (root / "local/storage").rglob("*") if file.is_file()]
    assert not [file for file in places if ".partial" in str(file)]
    return {file.name: file.read_bytes() for file in places if file.suffix == ".txt"}


def test_train(mini: Miniature) -> None:
    expected: list[dict[str, bytes]] = []

    def whole(text: str) -> None:
        assert "registered and released as version " in text  # killed between the two, it registers once more
        expected.append(stored(mini.root))
        assert expected[-1] == expected[0]

    killed_at_some(mini.root, ["batchloop", "train"], whole, 2 * KILLS)


def test_score(mini: Miniature) -> None:
    mini.run("train")
    expected: list[dict[str, bytes]] = []

    def whole(text: str) -> None:
        assert "scoring with release 1" in text
        expected.append(stored(mini.root))
        assert expected[-1] == expected[0]

    killed_at_some(mini.root, ["batchloop", "score"], whole, 2 * KILLS)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository itself, with a quick fit."""
    root = tmp_path_factory.mktemp("killed") / "real"
    copied(root, FOLDERS, num_iterations=10, rows=50)
    file = root / "usecase.toml"
    text = file.read_text(encoding="utf-8")
    file.write_text("\n".join("minimum = 0.5" if line.startswith("minimum = ") else line for line in text.splitlines()))
    sample = root / "data" / "sample.py"
    sample.write_text(sample.read_text(encoding="utf-8").replace("default=20_000", "default=1000"), encoding="utf-8")
    return root


def test_the_sample_is_written_anew_where_a_first_training_was_killed_in_it(real: Path) -> None:
    file = real / "data" / "sample.py"
    text = file.read_text(encoding="utf-8")
    once = (
        "        import os\n        if name == 'train' and not place.exists():\n            place.mkdir(parents=True)\n"
    )
    once += "            os.kill(os.getppid(), 9)\n            os._exit(1)\n"
    file.write_text(text.replace("        place = folder / name\n", f"        place = folder / name\n{once}"))
    assert said(real, ["batchloop", "train"])[0] == -9
    file.write_text(text, encoding="utf-8")
    code, told, _ = said(real, ["batchloop", "train"])
    assert code == 0, told
    rows = {name: pl.read_csv(real / "data" / "sample" / name / "customers.csv") for name in ("train", "production")}
    assert (rows["train"].height, rows["production"].height) == (1000, 500)


@pytest.fixture(scope="module")
def scored(real: Path) -> Path:
    root = real.with_name("scored")
    shutil.copytree(real, root)
    code, text, _ = said(root, ["batchloop", "score"])
    assert code == 0, text
    return root


def test_label(scored: Path) -> None:
    kept: list[pl.DataFrame] = []

    def whole(text: str) -> None:
        assert "500 rows have a prediction and a label" in text
        kept.append(pl.read_parquet(scored / "data" / "sample" / "labels" / "labels.parquet"))
        assert kept[-1].equals(kept[0])
        assert pl.read_parquet(scored / "data" / "sample" / "train" / "labelled.parquet").height == 500

    killed_at_some(scored, ["batchloop", "label", "--data", "data/sample/later"], whole, 1)


def test_adopt(real: Path) -> None:
    root = real.with_name("adopting")
    shutil.copytree(real, root)
    pl.DataFrame(
        {"key": range(900), "x": [n * 7 % 31 for n in range(900)], "y": [n % 2 for n in range(900)]}
    ).write_csv(root / "table.csv")

    def whole(text: str) -> None:
        case = usecase.load(root / "usecase.toml")
        assert [column.name for column in case.columns] == ["x"]
        assert (root / "data" / "window").read_text() == "adopted\n"
        parts = [pl.read_parquet(root / "data" / "adopted" / part) for part in ("train", "production")]
        assert sum(part.height for part in parts) == 900
        assert not [file for file in root.rglob("*.partial") if "local" not in file.parts]

    killed_at_some(root, ["batchloop", "adopt", "--data", "table.csv", "--label", "y"], whole)


def test_upload(real: Path) -> None:
    """Its mark comes last. moto stands where S3 would."""
    root = real.with_name("uploading")
    shutil.copytree(real, root)
    file = root / "environments" / "dev.toml"
    lines = file.read_text(encoding="utf-8").splitlines()
    lines = ['account = "123456789012"' if line.startswith("account = ") else line for line in lines]
    file.write_text("\n".join(lines), encoding="utf-8")
    (root / "rows").mkdir()
    for name in "abc":
        (root / "rows" / f"{name}.csv").write_text(name * 1000)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = dict.fromkeys(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), "testing")
    given = {**keys, "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_EC2_METADATA_DISABLED": "true"}
    client = boto3.client(
        "s3",
        region_name="eu-central-1",
        endpoint_url=given["AWS_ENDPOINT_URL"],
        **{name.lower(): value for name, value in keys.items()},
    )
    bucket = definitions.read(Repository(root))[1].bucket
    client.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    words = ["batchloop", "upload", "--data", "rows", "--window"]
    try:
        code, text, moments = said(root, [*words, "whole"], 0, given)
        assert code == 0, text
        draw = random.Random(SEED)
        for at in sorted(draw.sample(range(max(1, moments - 12), moments + 1), KILLS)):  # while it sends
            assert said(root, [*words, f"cut-{at}"], at, given)[0] in (-9, 0)
            code, text, _ = said(root, [*words, f"cut-{at}"], 0, given)
            assert code == 0 or "is complete" in text, text
            found = client.list_objects_v2(Bucket=bucket, Prefix=f"case/case/data/cut-{at}/")["Contents"]
            sizes = {entry["Key"].rpartition("/")[2]: entry["Size"] for entry in found}
            assert sizes == {"a.csv": 1000, "b.csv": 1000, "c.csv": 1000, "_SUCCESS": 0}
    finally:
        server.stop()

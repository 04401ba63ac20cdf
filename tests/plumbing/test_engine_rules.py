"""The local engine keeps the service's rules, and is never kinder: what a prefix takes, what a cached step compares."""

import json
from pathlib import Path
from typing import Any

import pytest

from batchloop.container.job import InputError
from batchloop.engine import steps
from batchloop.engine.storage import Cache, Mount, Storage


@pytest.fixture
def stored(tmp_path: Path) -> Storage:
    """Two folders of which one's name begins the other's."""
    for name in ("data/w/train/a.csv", "data/w/train/part/b.csv", "data/w/train_old/a.csv"):
        file = tmp_path / "bucket" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    return Storage(tmp_path)


def test_a_prefix_is_matched_letter_by_letter(stored: Storage) -> None:
    assert [name for name, _ in stored.files("s3://bucket/data/w/train")] == ["_old/a.csv", "a.csv", "part/b.csv"]
    assert [name for name, _ in stored.files("s3://bucket/data/w/train/")] == ["a.csv", "part/b.csv"]
    assert [name for name, _ in stored.files("s3://bucket/data/w/train/a.csv")] == ["a.csv"]
    local = (stored.root / "bucket/data/w/train").as_uri()
    assert (len(stored.files(local)), len(stored.files(f"{local}/"))) == (3, 2)


def test_a_job_gets_what_the_prefix_takes(stored: Storage) -> None:
    folder = stored.root / "bucket/data/w/train"
    assert stored.mounts("s3://bucket/data/w/train/", "/in") == [Mount("/in", folder)]
    assert [mount.path for mount in stored.mounts("s3://bucket/data/w/train", "/in")] == [
        "/in/_old/a.csv",
        "/in/a.csv",
        "/in/part/b.csv",
    ]
    with pytest.raises(InputError, match="does not exist"):
        stored.mounts("s3://bucket/data/w/validation/", "/in")


@pytest.mark.parametrize("given", [{}, {"Containers": []}, {"Containers": [{"Image": "x"}]}, {"PrimaryContainer": {}}])
def test_a_model_without_data_is_refused_in_a_sentence(given: Any) -> None:
    with pytest.raises(InputError, match="gives its first container no ModelDataUrl"):
        steps.model("CreateModel", given, Any)  # type: ignore[arg-type]


def test_a_registered_model_whose_card_names_data_is_found_again(stored: Storage) -> None:
    cache, step = Cache(stored.root / "cache", stored, own=True), {"Name": "RegisterModel", "Type": "RegisterModel"}
    card = json.dumps({"training_data": "s3://bucket/data/w/train/"})
    package = {"ModelCard": {"ModelCardContent": card}, "model": "s3://bucket/data/w/train/a.csv"}
    cache.keep(step, {}, package)
    assert cache.find(step, {}) == package
    stored.path("s3://bucket/data/w/train/a.csv").unlink()
    assert cache.find(step, {}) is None

"""A column of pictures: what is decoded and what is said of others, what monitoring measures, and how it is adopted."""

import io
import json
import os
import re
import struct
import tomllib
import zlib
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl
import pytest
from PIL import Image

from batchloop import labelling, local, sizing
from batchloop.adopt import adopting
from batchloop.adopt import pictures as adopt_pictures
from batchloop.container import (
    appearance,
    batches,
    drift_report,
    explanations,
    job,
    leakage,
    matrices,
    measured,
    models,
    patches,
    pictures,
    profile,
    raw,
    samples,
    server,
    tables,
    usecase,
)
from batchloop.container.job import InputError
from batchloop.container.protocols import Attributions, Feature, Table
from batchloop.container.usecase import Column, UseCase
from batchloop.engine import running
from batchloop.labelling import Scored
from batchloop.repository import Repository
from plumbing.rendered import ROOT

COLUMN = Column("picture", "image", size=16)
COLOUR = Column("picture", "image", size=16, colour=True)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    target = io.BytesIO()
    image.save(target, kind, **options)
    return target.getvalue()


def grey(value: int = 100, side: int = 20) -> Image.Image:
    return Image.new("L", (side, side), value)


def parsed(*cells: bytes | str | None, column: Column = COLUMN) -> tuple[list[Any], list[str | None]]:
    """Typed cells and reasons."""
    kind = pl.String if any(isinstance(cell, str) for cell in cells) else pl.Binary
    typed, reasons = pictures.parse(pl.Series("picture", cells, dtype=kind), column, [""])
    assert typed.dtype == pictures.CELL
    return typed.to_list(), [None] * len(typed) if reasons is None else reasons.to_list()


def values(cell: bytes, column: Column = COLUMN) -> Any:
    [found], reasons = parsed(cell, column=column)
    assert reasons == [None]
    return np.frombuffer(found["pixels"], np.uint8).reshape(column.shape)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_each_kind_is_decoded_to_the_size_that_is_asked_for(kind: str) -> None:
    [found], _ = parsed(encoded(grey(100, 40).resize((40, 30)), kind))
    assert (found["width"], found["height"]) == (40, 30)
    assert np.abs(np.frombuffer(found["pixels"], np.uint8).astype(int) - 100).max() <= 2
    assert len(found["pixels"]) == 256


def test_modes_have_an_answer() -> None:
    assert values(encoded(Image.new("LA", (16, 16), (0, 0)))).min() == 255  # transparent is white
    assert values(encoded(Image.new("RGBA", (16, 16), (9, 9, 9, 255)))).max() == 9
    assert values(encoded(Image.new("1", (16, 16), 1))).min() == 255
    deep = Image.fromarray(np.full((16, 16), 40_000, np.uint16))
    assert values(encoded(deep)).mean() == 40_000 // 256
    palette = Image.new("RGB", (16, 16), (200, 0, 0)).convert("P")
    assert values(encoded(palette), COLOUR)[0, 0].tolist() == pytest.approx([200, 0, 0], abs=8)
    inked = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert values(encoded(inked, "JPEG"), COLOUR)[8, 8].tolist() == pytest.approx([255, 0, 0], abs=12)
    assert values(encoded(grey(77)), COLOUR)[3, 3].tolist() == [77, 77, 77]


def test_a_photo_is_turned_as_its_orientation_says() -> None:
    photo = Image.new("L", (32, 16), 0)
    photo.paste(255, (0, 0, 16, 16))  # its left half is white
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise: the left becomes the top
    [found], _ = parsed(encoded(photo, "JPEG", exif=exif, quality=95))
    turned = np.frombuffer(found["pixels"], np.uint8).reshape(16, 16)
    assert (found["width"], found["height"]) == (16, 32)
    assert turned[:6].mean() > 240
    assert turned[-6:].mean() < 15


def huge() -> bytes:
    """A PNG whose header asks for 30,000 × 30,000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def film() -> bytes:
    return encoded(grey(1), "WEBP", save_all=True, append_images=[grey(200)])


WRONG: list[tuple[bytes | None, str]] = [
    (b"", "the picture is empty (0 bytes)"),
    (None, "there is no picture"),
    (b"no picture at all", "it is no picture that can be read; PNG, JPEG and WebP are read"),
    (encoded(grey(), "GIF"), "it is no picture that can be read; PNG, JPEG and WebP are read"),
    (encoded(Image.effect_noise((64, 64), 50))[:900], "the picture is truncated or damaged"),
    (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:700], "the picture is truncated or damaged"),
    (huge(), "it has 30,000 × 30,000 pixels; up to 67,108,864 are decoded: make it smaller"),
    (film(), "it is a film of 2 pictures; give one of them"),
]


@pytest.mark.parametrize(("cell", "reason"), WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_what_is_no_picture_says_why_and_the_others_are_kept(cell: bytes | None, reason: str) -> None:
    found, reasons = parsed(encoded(grey(5)), cell, encoded(grey(6)))
    assert [one is None for one in found] == [False, True, False]
    assert (reasons[0], reasons[2]) == (None, None)
    assert str(reasons[1]).startswith(reason)


def test_a_column_that_can_hold_no_picture_is_refused() -> None:
    with pytest.raises(InputError, match="column 'picture' holds values of type Int64; a picture is the bytes"):
        pictures.parse(pl.Series("picture", [1, 2]), COLUMN, [""])


TEXT = (ROOT / "usecase.toml").read_text(encoding="utf-8")


def case(columns: str = 'picture = { type = "image", size = 16 }', bad: float = 1.0) -> UseCase:
    """The contract of a table with id, label and these columns."""
    head, tail = TEXT.partition("\n[columns]")[0], TEXT[TEXT.index("\n[split]") :]
    head = head.replace("customer_id", "id").replace('label = "churned"', 'label = "label"')
    head = head.replace("bad_rows = 0.01", f"bad_rows = {bad}")
    return usecase.parse(tomllib.loads(f"{head}\n[columns]\n{columns}\n{tail}"))


def table(rows: int, seed: int = 1) -> pl.DataFrame:
    """Dark pictures are a no, light ones a yes."""
    random = np.random.default_rng(seed)
    light = random.random(rows) < 0.5
    made = [encoded(Image.fromarray(random.integers(100 * yes, 100 * yes + 90, (20, 24), np.uint8))) for yes in light]
    labels = np.where(light, "yes", "no")
    return pl.DataFrame({"id": [f"p{n}" for n in range(rows)], "picture": made, "label": labels})


def test_bytes_paths_and_a_struct_of_bytes_are_the_same_table(tmp_path: Path) -> None:
    made, folder = table(30), tmp_path / "given"
    frames = []
    (folder / "some").mkdir(parents=True)
    for row in made.iter_rows(named=True):
        (folder / "some" / f"{row['id']}.png").write_bytes(row["picture"])
    paths = made.with_columns(pl.format("some/{}.png", "id").alias("picture"))
    nested = made.with_columns(pl.struct(pl.col("picture").alias("bytes")))
    for name, frame in {"a.parquet": made, "b.parquet": paths, "c.csv": paths, "d.parquet": nested}.items():
        for other in folder.glob("*.*"):
            other.unlink()
        frame.write_csv(folder / name) if name.endswith("csv") else frame.write_parquet(folder / name)
        found = raw.read(folder, case(), labelled=True)
        frames.append(found.frame.select("id", "picture", "label", raw.ERROR).collect())
        assert found.broken == 0, found.first
    assert all(frame.equals(frames[0]) for frame in frames)


@pytest.mark.parametrize(
    ("path", "content", "reason"),
    [
        ("gone.png", None, "column 'picture': 'gone.png' is no file in the table's folder"),
        ("../out.png", encoded(grey()), "column 'picture': '../out.png' leads out of the table's folder"),
        ("empty.png", b"", "column 'picture': 'empty.png' is empty (0 bytes)"),
        ("named.jpg", encoded(grey()), "column 'picture': 'named.jpg': it is a PNG picture, whatever its name says"),
        ("text.png", b"hello", "column 'picture': 'text.png': it is no picture that can be read"),
        ("", None, "column 'picture': there is no picture"),
    ],
)
def test_a_path_that_leads_to_no_picture_says_why(
    tmp_path: Path, path: str, content: bytes | None, reason: str
) -> None:
    folder = tmp_path / "given"
    folder.mkdir()
    if content is not None:
        (folder / path).write_bytes(content)
    (folder / "right.png").write_bytes(encoded(grey(8)))
    frame = pl.DataFrame({"id": ["a", "b"], "picture": [path, "right.png"], "label": ["no", "yes"]})
    frame.write_csv(folder / "table.csv")
    found = raw.read(folder, case(), labelled=True)
    assert found.frame.select(raw.BROKEN).collect().to_series().to_list() == [True, False]
    assert found.first.startswith(f"table.csv, row 1 (a): {reason}")


def test_paths_of_windows_are_read_at_scoring_as_they_were_adopted(tmp_path: Path) -> None:
    (tmp_path / "given" / "deep").mkdir(parents=True)
    (tmp_path / "given" / "deep" / "a.png").write_bytes(encoded(grey(8)))
    (tmp_path / "given" / "t.csv").write_text("id,picture\n1,deep\\a.png\n2,..\\a.png\n", encoding="utf-8")
    found = raw.read(tmp_path / "given", case(), labelled=False)
    assert (found.rows, found.broken) == (2, 1)
    assert "row 2 (2): column 'picture': '..\\a.png' leads out of the table's folder" in found.first
    there = adopt_pictures.staged(tmp_path / "given" / "t.csv", case(), tmp_path / "kept" / "t.csv", False)
    assert (there / "deep" / "a.png").is_file()


def test_pictures_are_read_in_parts_and_stay_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = table(50)
    made.write_parquet(tmp_path / "t.parquet")
    whole = raw.read(tmp_path, case(), labelled=True).frame.collect()
    monkeypatch.setattr(batches, "PICTURES", 4000)
    monkeypatch.setattr(batches, "CELLS", 4 * 300 * 7)
    found, parts = raw.stream(tmp_path, case(), labelled=True)
    frames = list(parts)
    assert len(frames) > 3
    assert pl.concat(frames).equals(whole)
    assert found.rows == 50


FEATURE: Feature = {"name": "picture", "source": "picture", "kind": "image", "shape": [16, 16, 1]}
NUMBER: Feature = {"name": "x", "source": "x", "kind": "number"}


def test_a_matrix_of_pictures_alone_is_bytes_and_one_with_numbers_is_numbers() -> None:
    pixels = bytes(range(256))
    frame = pl.DataFrame({"picture": [pixels, None], "x": [1.5, None]}, schema_overrides={"x": pl.Float32})
    alone = tables.matrix(frame, [FEATURE])
    assert alone.dtype == np.uint8
    assert alone.tolist() == [list(range(256)), [0] * 256]
    both = tables.matrix(frame, [NUMBER, FEATURE])
    assert both.dtype == np.float32
    assert both[0].tolist() == [1.5, *range(256)]
    assert np.isnan(both[1, 0])
    assert matrices.places([NUMBER, FEATURE]) == [slice(0, 1), slice(1, 257)]


def test_patches_are_named_and_add_up() -> None:
    features: list[Feature] = [NUMBER, {**FEATURE, "shape": [6, 5, 3]}]
    parts = patches.parts(features)
    assert len(parts) == 17
    assert parts[1]["name"] == "picture, rows 1-1, columns 1-1"
    assert parts[-1]["name"] == "picture, rows 5-6, columns 4-5"
    attributed = np.random.default_rng(1).normal(size=(3, 2, 1 + 90))
    found = patches.added(attributed, features)
    np.testing.assert_allclose(found.sum(axis=2), attributed.sum(axis=2))
    means = patches.means(np.full((2, 91), 7), features)
    np.testing.assert_allclose(means, 7)
    [figure] = patches.shown(np.full(91, 9), attributed[0, 0], features)
    assert all(uri.startswith("data:image/png;base64,") for uri in figure.values())


def test_a_picture_beside_other_columns_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    features: list[Feature] = [NUMBER, {**FEATURE, "shape": [8, 8, 1]}]
    cells = [bytes([number] * 64) for number in (9, 200)]
    frame = pl.DataFrame({"id": ["a", "b"], NUMBER["name"]: [1.5, 2.5], FEATURE["name"]: cells})
    frame = frame.with_columns(pl.col(NUMBER["name"]).cast(pl.Float32))
    values = np.random.default_rng(1).normal(size=(2, 3, 65))
    found = Attributions(values, np.zeros((2, 3)), values.sum(axis=2))
    given = type("Given", (), {"TOLERANCE": 1e-9, "explain": lambda *_: found})
    monkeypatch.setattr(explanations, "module", lambda: given)
    fitted = models.Model(None, {"features": features, "id": "id", "classes": ["x", "y", "z"]})
    [part] = explanations.explained(fitted, {}, explanations.Chosen(frame.lazy(), 2, 2))
    assert part.frame[NUMBER["name"]].to_list() == [1.5, 2.5]
    assert part.frame[f"{FEATURE['name']}, rows 1-2, columns 7-8"].to_list() == [9, 200]
    shown = [name for name, _ in json.loads(str(part.arrays["pictures"]))]
    assert shown == [f"{row}: {'xyz'[best]}" for row, best in zip("ab", found.raw.argmax(axis=1), strict=True)]


def test_bars_of_a_picture_s_reasons_are_read_to_their_end() -> None:
    place = "picture, rows 97-128, columns 97-128"
    line = {"feature": place, "importance": 0.5, "reference": 0.5, "rank": 1, "reference_rank": 1}
    found = {"importance": [line], "moved": 0.0, "explained": 1, "rows": 1, "rule": "random", "sampling_error": 0.0}
    found |= {"unit": "log-odds", "additivity_error": 0.0, "tolerance": 0.01}
    reason = {"reason_1_feature": place, "reason_1_value": "brightness 118", "reason_1_attribution": 0.5}
    rows = [{"id": "p1", "raw_score": 1.0, **reason}]
    page = explanations.page(case(), found, cast(Any, SimpleNamespace(pictures=[])), rows)
    assert ">rows 97-128, columns 97-128: 118<" in page
    assert ">rows 97-128, columns 97-128<" in page
    assert "…" not in page.partition("<body")[2]
    two = case('picture = { type = "image", size = 16 }\nback = { type = "image", size = 16 }')
    page = explanations.page(two, found, cast(Any, SimpleNamespace(pictures=[])), rows)
    assert f"{place}: 118" in page


def drifted(columns: str) -> str:
    """The page of a batch like its baseline."""
    seen, names = case(columns), ["picture: brightness", "picture: sharpness"]
    names += ["weight"] if "weight" in columns else []
    share = 1.0 if len(names) == 2 else 0.5
    one = {"kind": "number", "decides": True, "drifted": False, "importance": share, "adjusted_p_value": 1.0}
    one |= dict.fromkeys(("psi", "ks", "js", "wasserstein", "psi_beyond_chance", "missing", "missing_baseline"), 0.0)
    one |= {"invalid": 0.0, "unknown": None, "outside_range": None}
    performance = {"alarm": False, "reason": "not known", "metrics": {}, "estimated": None, "metric": "auc"}
    found = {"verdict": "no drift", "reason": "r", "consequence": "", "rows": 50, "baseline_rows": 50, "errors": 0.0}
    found |= {
        "left_out": {},
        "performance": performance,
        "columns": [{**one, "name": name} for name in names],
        "scores": {},
    }
    return drift_report.batch(seen, {"columns": [], "scores": []}, found, {"pictures": {}})


def test_reasons_are_shown_where_there_is_more_than_one_picture_to_have_them() -> None:
    picture = 'picture = { type = "image", size = 16 }'
    assert "reasons %" not in drifted(picture)
    page = drifted(f'{picture}\nweight = {{ type = "number" }}')
    assert "reasons %" in page
    assert "What is measured of one picture or text has the share of all of it." in page


def test_a_request_that_unpacks_to_too_many_pixels_is_refused() -> None:
    black, body = pl.DataFrame({"id": [1], "picture": [bytes(10**6)]}), io.BytesIO()
    pl.concat([black] * 300).write_parquet(body)
    columns = ["id", "picture"]
    with pytest.raises(InputError, match="a request may have 200: send it in parts"):
        server.read(body.getvalue(), server.PARQUET, columns, 250_000)
    assert server.read(body.getvalue(), server.PARQUET, columns, 2).height == 300


def looks(images: list[Image.Image], column: Column = COLUMN) -> pl.DataFrame:
    seen = measured.seen(case(f'picture = {{ type = "image", size = 16{", colour = true" * column.colour} }}')).columns
    cells, _ = pictures.parse(pl.Series("picture", [encoded(image) for image in images]), seen[0], [])
    return measured.measured(pl.DataFrame([cells]), seen)


def noisy(rows: int, seed: int, side: int = 32) -> Any:
    """Circles anywhere, with noise: some are alike by nature."""
    random = np.random.default_rng(seed)
    x, y, radius = (random.uniform(low, high, (rows, 1, 1)) for low, high in ((12, 20), (12, 20), (6, 10)))
    down, across = np.mgrid[:side, :side]
    shapes = np.where((down - y) ** 2 + (across - x) ** 2 < radius**2, 180, 60)
    return np.clip(shapes + random.normal(0, 6, (rows, side, side)), 0, 255).astype(np.uint8)


def leak_of(train: Any, test: Any) -> dict[str, Any]:
    feature = {"name": "p", "source": "p", "kind": "image", "shape": [*train.shape[1:3], 1]}
    known, new = (
        Table(part.reshape(len(part), part[:1].size or train[0].size), np.zeros(len(part))) for part in (train, test)
    )
    question = leakage.Question("multiclass", "accuracy", 0.5, lambda *_: np.zeros(1))
    return leakage.find(known, {"validation": new, "test": new}, [feature], question)


def saved_again(picture: Any) -> Any:
    return np.asarray(Image.open(io.BytesIO(encoded(Image.fromarray(picture), "JPEG", quality=98))))


@pytest.mark.parametrize(
    ("copied", "same"),
    [
        (lambda picture: picture, True),
        (lambda picture: picture[:, ::-1], True),
        (np.rot90, True),
        (lambda picture: np.rot90(picture[::-1], 3), True),
        (lambda picture: (picture * 0.8 + 30).astype(np.uint8), False),
        (saved_again, False),
    ],
)
def test_pictures_that_training_has_too_are_said(copied: Callable[[Any], Any], same: bool) -> None:
    train, test = noisy(200, 1), noisy(60, 2)
    test[:15] = [copied(picture) for picture in train[50:65]]
    found = leak_of(train, test)
    assert found["twins"] == {"validation": 0.25, "test": 0.25}
    counts = "30 the same, 0 nearly" if same else "0 the same, 30 nearly"
    assert found["reason"].startswith(f"30 of 120 validation or test pictures are in training too ({counts};")
    assert found["trusted"] is not same


def test_the_share_of_copies_is_of_the_pictures_that_were_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every second one, where one more than fits is there."""
    monkeypatch.setattr(leakage, "LOOKED", 40)
    found = leak_of(train := noisy(60, 1), train[:42])
    assert found["twins"] == {"validation": 1.0, "test": 1.0}
    assert found["reason"].startswith("42 of 42 ")


def test_pictures_that_are_alike_by_nature_are_no_copies() -> None:
    blank = np.full((40, 32, 32), 255, np.uint8)
    for test in (noisy(300, 2), blank):
        found = leak_of(np.concatenate([noisy(300, 1), blank]), test)
        assert (found["twins"], found["reason"], found["trusted"]) == ({"validation": 0.0, "test": 0.0}, None, True)


@pytest.mark.parametrize("side", [8, 20, 100])
def test_copies_are_found_at_any_size(side: int) -> None:
    train = np.random.default_rng(1).integers(0, 255, (30, side, side), dtype=np.uint8)
    assert leak_of(train, train[:5])["twins"] == {"validation": 1.0, "test": 1.0}
    assert leak_of(train, train[:0])["reason"] is None


def test_monitoring_measures_light_focus_size_edges_and_colour() -> None:
    striped = Image.fromarray(np.tile(np.repeat([50, 200], 8).astype(np.uint8), (64, 4)))
    found = looks([striped, striped.rotate(90), striped.resize((16, 16)).resize((64, 64))])
    level, upright = found["picture: level edges"], found["picture: upright edges"]
    assert level[0] < upright[0] - 0.9
    assert upright[1] < level[1] - 0.9
    assert found["picture: brightness"][0] == pytest.approx(125, abs=1)
    assert found["picture: sharpness"][2] < found["picture: sharpness"][0] - 0.5
    assert found["picture: width"].to_list() == [64, 64, 64]
    red = looks([Image.new("RGB", (20, 20), (200, 20, 20))], COLOUR)
    assert red["picture: red share"][0] > 0.75
    assert appearance.names(COLUMN) == [name.removeprefix("picture: ") for name in found.columns]


def test_what_drifts_of_one_picture_counts_once_among_the_reasons() -> None:
    """Sixteen measures of one picture once carried 1600 % of the reasons, which the loop's decision threw away."""
    of = {f"picture: {name}": "picture" for name in ("brightness", "contrast", "sharpness")}

    def columns(**shares: float) -> list[dict[str, Any]]:
        found = [{"name": name, "importance": shares["picture"], "drifted": True} for name in of]
        return [*found, {"name": "weight", "importance": shares["weight"], "drifted": False}]

    assert drift_report._drifted_importance(columns(picture=0.75, weight=0.25), of) == (0.75, ["picture"])
    assert drift_report._drifted_importance(columns(picture=0.25, weight=0.75), of) == (0.25, [])
    assert drift_report._drifted_importance(columns(picture=1.0, weight=0.0)[:3], of) == (1.0, ["picture"])


def test_a_picture_of_one_grey_and_a_missing_one_measure_too() -> None:
    seen = measured.seen(case()).columns
    cells, _ = pictures.parse(pl.Series("picture", [encoded(grey()), None], dtype=pl.Binary), seen[0], [])
    found = measured.measured(pl.DataFrame([cells]), seen)
    assert all(np.isfinite(value) for value in found.row(0))
    assert found.row(1) == (None,) * found.width


@pytest.mark.parametrize("given", ["bytes", "beside", "folders"])
def test_pictures_are_adopted_in_three_forms(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("usecase.toml").write_text(TEXT, encoding="utf-8")
    made, folder = table(60), Path("mine")
    folder.mkdir()
    for row in made.iter_rows(named=True):
        place = folder / (row["label"] if given == "folders" else "files")
        if given != "bytes":
            place.mkdir(exist_ok=True)
            (place / f"{row['id']}.png").write_bytes(row["picture"])
    if given == "bytes":
        made.write_parquet(folder / "t.parquet")
    if given == "beside":
        made.with_columns(pl.format("files/{}.png", "id").alias("picture")).write_csv(folder / "t.csv", separator=";")
    assert adopting.main(["--data", "mine", "--label", "label"]) == 0, capsys.readouterr().err
    adopted = usecase.load(Path("usecase.toml"))
    assert [(column.name, column.type, column.size) for column in adopted.columns] == [("picture", "image", 32)]
    assert adopted.data.classes == ("no", "yes")
    found = raw.read(Path("data/adopted/train"), adopted, labelled=True)
    assert (found.rows, found.broken) == (60, 0)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder beside a usecase.toml, in which `make adopt DATA=mine` is said."""
    monkeypatch.chdir(tmp_path)
    Path("usecase.toml").write_text(TEXT, encoding="utf-8")
    Path("mine").mkdir()
    return Path("mine")


def placed(folder: Path, *names: str) -> None:
    """A picture under each name."""
    for number, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        kind = {".png": "PNG", ".webp": "WEBP", ".gif": "GIF"}.get(file.suffix.lower(), "JPEG")
        file.write_bytes(encoded(grey(number % 256), kind))


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["a.png"], "mine holds pictures and no table; put them into a folder for each class"),
        (["cat/a.png", "cat/b.jpg"], "the label 'label' holds only 'cat'; there is nothing to learn"),
        (["train/cat/a.png", "Test/dog/b.png"], "mine holds parts of a split (Test, train) and no classes; give one"),
        (
            ["cat/a.gif", "dog/b.gif"],
            "mine holds pictures such as a.gif; PNG, JPEG and WebP are read: save them as one of these",
        ),
    ],
)
def test_pictures_that_can_not_be_adopted_are_told_what_is_wanted(
    names: list[str], reason: str, mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    placed(mine, *names)
    assert adopting.main(["--data", "mine", "--label", "label"]) == 1
    assert reason in capsys.readouterr().err


def test_a_folder_for_each_class_says_the_class_by_nothing_but_the_picture(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kinds = ("brick wall", "Gräs (1)")
    names = [f"{kind}/deep/№ {n} of {kind}{end}" for kind in kinds for n in range(60) for end in (".JPG", ".webp")]
    placed(mine, *names, "brick wall/x.gif")
    (mine / "brick wall" / "Thumbs.db").write_bytes(b"x")
    (mine / "readme.txt").write_text("Where these come from", encoding="utf-8")
    placed(mine, "__MACOSX/._a.png")
    assert adopting.main(["--data", "mine", "--label", "label"]) == 0, capsys.readouterr().err
    said, adopted = capsys.readouterr().out, usecase.load(Path("usecase.toml"))
    assert said.startswith("mine: 241 rows")
    assert "row 241 ('brick wall/x.gif'): column 'picture': it is no picture that can be read" in said
    assert (adopted.data.id, [column.name for column in adopted.columns]) == ("file", ["picture"])
    assert adopted.data.classes == ("brick wall", "Gräs (1)")


def test_cells_of_windows_and_of_hugging_face_are_pictures(mine: Path) -> None:
    names = [f"a b/{n}.png" for n in range(40)]
    placed(mine, *names)
    labels = ["yes", "no"] * 20
    paths = pl.DataFrame({"photo": [name.replace("/", "\\") for name in names], "label": labels})
    packed = [{"bytes": (mine / name).read_bytes(), "path": name} for name in names]
    for table in (paths, pl.DataFrame({"photo": packed, "label": labels})):
        for file in mine.glob("t.*"):
            file.unlink()
        table.write_parquet(mine / "t.parquet")
        assert adopting.main(["--data", "mine", "--label", "label"]) == 0
        adopted = usecase.load(Path("usecase.toml"))
        assert [(column.name, column.type) for column in adopted.columns] == [("photo", "image")]
        assert raw.read(Path("data/adopted/train"), adopted, labelled=True).broken == 0


def test_a_table_of_paths_keeps_its_form(mine: Path) -> None:
    placed(mine, *(f"img/{n}.png" for n in range(60)))
    rows = "".join(f"img/{n}.png;{10 + n},5;{('yes', 'no')[n % 2]}\n" for n in range(60))
    (mine / "list.csv").write_text(f"photo;weight;label\n{rows}", encoding="utf-8")
    assert adopting.main(["--data", "mine/list.csv", "--label", "label"]) == 0
    adopted = usecase.load(Path("usecase.toml"))
    assert (adopted.data.separator, adopted.data.decimal) == (";", ",")
    for place in (mine, Path("data/adopted/train")):
        assert raw.read(place, adopted, labelled=True).broken == 0


@pytest.mark.parametrize("labelled", [True, False])
def test_a_folder_of_pictures_is_scored_and_trained_as_it_was_adopted(mine: Path, labelled: bool) -> None:
    placed(mine, "yes/Bild ü.png", "no/b.JPG", "no/deep/c.webp", *(["d.png"] if not labelled else []))
    adopted = case()
    for _ in range(2):
        there = adopt_pictures.staged(mine, adopted, Path("local/x/mine"), labelled)
        found = raw.read(there, adopted, labelled=labelled)
    names = [*(["d.png"] if not labelled else []), "no/b.JPG", "no/deep/c.webp", "yes/Bild ü.png"]
    assert (found.broken, found.frame.select("id").collect().to_series().to_list()) == (0, names)
    if labelled:
        assert found.frame.select("label").collect().to_series().to_list() == ["no", "no", "yes"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_table_alone_brings_the_pictures_that_it_names(mine: Path, kind: str) -> None:
    placed(mine, "a b/1.png", "2.png", "other.png")
    file = mine / f"list.{kind}"
    frame = pl.DataFrame({"id": ["a", "b", "c"], "picture": ["a b/1.png", "2.png", "gone.png"]})
    frame.write_csv(file) if kind == "csv" else frame.write_parquet(file)
    there = adopt_pictures.staged(file, case(), Path("local/x/list"), False)
    assert sorted(one.name for one in there.rglob("*.*")) == ["1.png", "2.png", file.name]
    found = raw.read(there, case(), labelled=False)
    assert found.first.endswith("row 3 (c): column 'picture': 'gone.png' is no file in the table's folder")
    assert found.broken == 1


def test_a_table_with_its_pictures_in_it_stays_where_it_is(mine: Path) -> None:
    table(5).write_parquet(mine / "t.parquet")
    for data in (mine, mine / "t.parquet"):
        assert adopt_pictures.staged(data, case(), Path("local/x/t"), False) == data


def test_a_folder_without_a_table_names_the_picture_that_can_t_be_used(mine: Path) -> None:
    placed(mine, "a.png", "b.png")
    (mine / "deep").mkdir()
    (mine / "deep" / "c.png").write_bytes(b"hello")
    there = adopt_pictures.staged(mine, case(), Path("local/x/mine"), False)
    found = raw.read(there, case(), labelled=False)
    assert found.first.startswith("pictures-00000.parquet, row 3 (deep/c.png): column 'picture': it is no picture")


def written(folder: Path) -> Repository:
    """A repository whose rows are pictures."""
    head, tail = TEXT.partition("\n[columns]")[0], TEXT[TEXT.index("\n[split]") :]
    head = head.replace("customer_id", "id").replace('label = "churned"', 'label = "label"')
    columns = '[columns]\npicture = { type = "image", size = 16 }\n'
    (folder / "usecase.toml").write_text(f"{head}\n{columns}{tail}", encoding="utf-8")
    return Repository(folder)


def test_labels_of_pictures_are_the_folders_into_which_they_were_put(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The scored folder holds the same pictures beside each other, so an id is the place below the class's folder."""
    repository, seen = written(tmp_path), case()
    placed(mine, "yes/1.png", "no/2.png", "no/later/3.png")
    other = tmp_path / "scored"
    placed(other, "1.png", "2.png", "later/3.png", "4.png")
    rows = Path(local.as_table(repository, str(other), False))
    scored = Scored({}, rows, "", tmp_path / "labels", "the folder")
    monkeypatch.setattr(usecase, "load", lambda _: seen)
    labelling._taken(repository, str(mine), scored)
    assert "mine: 3 rows with labels, 0 of them of no scored row" in capsys.readouterr().out
    kept = pl.read_parquet(tmp_path / "labels" / "labels.parquet").sort("id")
    assert kept.rows() == [("1.png", "yes"), ("2.png", "no"), ("later/3.png", "no")]
    labels = tmp_path / "labels.csv"
    labels.write_text("id,label\n4.png,no\n", encoding="utf-8")
    labelling._taken(repository, str(labels), scored)
    assert len(pl.read_parquet(tmp_path / "labels" / "labels.parquet")) == 4


def test_tables_that_folders_have_become_do_not_pile_up(mine: Path, tmp_path: Path) -> None:
    repository, made = written(tmp_path), list[Path]()
    for number in range(local.KEPT + 2):
        placed(mine / str(number), "a.png")
        made.append(Path(local._kept_table(repository, str(mine / str(number)), False)))
        os.utime(made[-1].parent, (number, number))
        if not number:
            ran(repository, made[0])
    assert [folder.exists() for folder in made] == [True, False] + [True] * local.KEPT
    assert local.as_table(repository, "s3://bucket/folder/", False) == "s3://bucket/folder/"


def ran(repository: Repository, rows: Path) -> None:
    """A scoring of these rows is on record."""
    step = {"state": "done", "seconds": 1, "message": "", "properties": {}}
    record = {"pipeline": "p", "execution": "1", "state": "done", "started": "", "steps": {"ScoreFeatures": step}}
    file = repository.local / "runs" / "1" / "run.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({**record, "parameters": {"ProductionData": f"{rows.as_uri()}/"}}), encoding="utf-8")


def test_what_no_run_reads_is_made_apart_and_takes_no_table_of_a_run_away(mine: Path, tmp_path: Path) -> None:
    """Upload and size hold no lock: a training may be reading the table of the same folder."""
    repository = written(tmp_path)
    placed(mine, "yes/a.png")
    kept = Path(local._kept_table(repository, str(mine), True))
    os.utime(kept.parent, (1, 1))
    for number in range(local.KEPT + 1):
        placed(tmp_path / "more" / str(number), "yes/a.png")
        local.as_table(repository, str(tmp_path / "more" / str(number)), True)
    assert raw.read(kept, case(), labelled=True).broken == 0
    assert Path(local.as_table(repository, str(mine), True)) != kept


def test_a_cell_writes_nothing_outside_the_folder_of_its_table(mine: Path, tmp_path: Path) -> None:
    mine = mine.rename(mine.parent / "u").resolve()
    placed(mine, "a.png", "b.png", "deep/c.png")
    cells = ["../u/a.png", "../../u/a.png", str(mine / "a.png"), "deep/../b.png", "deep/c.png"]
    pl.DataFrame({"id": [*"abcde"], "picture": cells}).write_csv(mine / "t.csv")
    there = adopt_pictures.staged(mine / "t.csv", case(), tmp_path / "x" / "y" / "t.csv", False)
    files = {file.relative_to(tmp_path / "x").as_posix() for file in (tmp_path / "x").rglob("*.*") if file.is_file()}
    assert files == {"y/t.csv/t.csv", "y/t.csv/b.png", "y/t.csv/deep/c.png"}
    found = raw.read(there, case(), labelled=False)
    assert found.broken == 3
    assert found.first.endswith("row 1 (a): column 'picture': '../u/a.png' leads out of the table's folder")


def test_labels_of_scored_class_folders_are_of_whole_places(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, seen = written(tmp_path), case()
    placed(mine, "yes/1.png", "no/1.png", "no/2.png")
    rows = Path(local.as_table(repository, str(mine), False))
    monkeypatch.setattr(usecase, "load", lambda _: seen)
    labelling._taken(repository, str(mine), Scored({}, rows, "", tmp_path / "labels", "the folder"))
    kept = pl.read_parquet(tmp_path / "labels" / "labels.parquet").sort("id")
    assert kept.rows() == [("no/1.png", "no"), ("no/2.png", "no"), ("yes/1.png", "yes")]


def test_a_picture_in_two_classes_is_refused_and_both_are_named(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, seen = written(tmp_path), case()
    placed(mine, "yes/1.png", "no/1.png")
    placed(tmp_path / "scored", "1.png")
    rows = Path(local.as_table(repository, str(tmp_path / "scored"), False))
    monkeypatch.setattr(usecase, "load", lambda _: seen)
    with pytest.raises(InputError, match=r"mine holds no/1\.png and yes/1\.png, two labels of one id, 1\.png"):
        labelling._taken(repository, str(mine), Scored({}, rows, "", tmp_path / "labels", "the folder"))


def test_a_sample_of_a_table_of_paths_is_measured_with_its_pictures(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed(mine, "img/a.png", "img/b.png", "img/c.png")
    pl.DataFrame({"id": ["a", "b"], "picture": ["img/a.png", "img/b.png"]}).write_csv(mine / "t.csv")
    alone, seen, adopted = Repository(tmp_path / "alone"), list[Path](), case()
    monkeypatch.setattr(usecase, "load", lambda _: adopted)

    def runs(_: Repository, options: local.RunOptions) -> int:
        seen.append(Path(options.data))
        return 0

    for name in ("train", "score"):
        monkeypatch.setattr(local, name, runs)
    monkeypatch.setattr(running, "records", lambda _: iter([{"execution": "1", "steps": {}}]))
    sizing._measured(alone, [mine / "t.csv"], pl.scan_csv(mine / "t.csv"))
    assert raw.read(seen[0], adopted, labelled=False).broken == 0
    assert not list(alone.root.rglob("c.png"))


def test_names_of_pictures_that_are_not_there_are_said(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pl.DataFrame({"photo": [f"{n}.png" for n in range(40)], "label": ["yes", "no"] * 20}).write_csv(mine / "t.csv")
    assert adopting.main(["--data", "mine", "--label", "label"]) == 1
    assert (
        "column 'photo' names pictures that are not in mine, such as '0.png'; put them there" in capsys.readouterr().err
    )


def test_size_and_colour_are_those_of_all_pictures_not_of_the_first(mine: Path) -> None:
    small, large = (Image.new("RGB", (side, side), colour) for side, colour in ((30, "grey"), (120, "red")))
    cells = [encoded(small)] * 60 + [encoded(large)] * 140
    pl.DataFrame({"photo": cells, "label": ["yes", "no"] * 100}).write_parquet(mine / "t.parquet")
    assert adopting.main(["--data", "mine", "--label", "label"]) == 0
    (column,) = usecase.load(Path("usecase.toml")).columns
    assert (column.size, column.colour) == (128, True)


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ('x = { type = "number", size = 64 }', "size is for images, it is a number"),
        ('x = { type = "image", size = 7 }', "size = 7 is not a whole number from 8 to 1,024"),
        ('x = { type = "image", colour = 1 }', "colour = 1 is not true or false"),
    ],
)
def test_a_picture_has_a_size_and_nothing_else_has(column: str, reason: str) -> None:
    with pytest.raises(InputError, match=re.escape(reason)):
        case(column)


def test_where_hosts_had_parts_of_the_pictures_those_of_the_first_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("raw", samples.NAME):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(job, "processing_input", lambda name: tmp_path / name)
    monkeypatch.setattr(job, "processing_output", lambda name: tmp_path / name)
    table(20).write_parquet(tmp_path / "raw" / "table.parquet")
    alone = profile.examples(samples.NAME, case())
    profile.write_baseline(case())
    (tmp_path / "raw" / "table.parquet").unlink()
    assert len(alone["pictures"]["picture"]) == appearance.EXAMPLES
    assert profile.examples(samples.NAME, case()) == alone


def test_of_pictures_a_sample_keeps_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "CELLS", 1000)
    rows = pl.DataFrame({raw.FILE: ["a"] * 500, "x": range(500)})
    kept = [samples.Sample(more) for more in (0, 100)]
    for sample in kept:
        sample.add(rows)
    assert [len(sample.rows()) for sample in kept] == [250, 9]

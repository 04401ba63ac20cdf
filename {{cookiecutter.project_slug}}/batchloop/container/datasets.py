"""Datasets: which part each row of a raw table goes into, and the parts as Parquet files of features.

Beside the files of a processed table, but for those of train, lies features.json, which says what each column is.
"""

import io
import logging
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import Any, cast

import polars as pl

from batchloop.container import artifacts, files, job, raw
from batchloop.container.job import InputError
from batchloop.container.known import Known
from batchloop.container.protocols import FeaturesFile
from batchloop.container.raw import PART, RawTable
from batchloop.container.usecase import Split, UseCase

log = logging.getLogger(__name__)
Check = Callable[[RawTable, UseCase], None]
Schema = dict[str, Any]  # id, label, features: what features.json and preprocessor.json hold
PARTS = ("train", "validation", "test")
DRAW = "__draw"
MASK, GOLDEN = 2**64 - 1, 0x9E3779B97F4A7C15
FILE = 2**26  # bytes of a file of features, before compression: several instances that train have several files each
FAR = 0.5  # of a share that was asked for: a part that is smaller or larger by more is said
FULL, POOR = 0.93, 0.85  # of a limit of bytes: what is aimed at, and below what a file is written once more
SPARE, TRIES = 1.3, 3  # rows that are held for a file that has room, times its rows; how often it may be written again
SAMPLE = 500_000  # cells that tell how many rows fit into the first file
LEVEL = 1  # of Zstandard: 40 % less work than Polars' own choice, for files 6 % larger
LARGEST = 32  # times the limit: what a file may hold unpacked, roughly
ROW_NUMBER = pl.col(raw.ROW).cast(pl.UInt64)


def usable(usecase: UseCase) -> pl.Expr:
    """Whether a row keeps the contract and has a label."""
    return ~pl.col(raw.BROKEN) & pl.col(usecase.data.label).is_not_null()


def read(usecase: UseCase, folder: Path, check_rows: Check = raw.check_training) -> pl.LazyFrame:
    """The usable rows of a checked table. Raises InputError."""
    table = raw.read(folder, usecase, labelled=True)
    check(table, usecase, raw.shared_ids(table, usecase), check_rows)
    return table.frame.filter(usable(usecase))


def check(table: RawTable, usecase: UseCase, warnings: Sequence[str], check_rows: Check = raw.check_training) -> None:
    """Say which rows are left out, and the warnings. Raises InputError for a table that nothing can be learned from."""
    check_rows(table, usecase)
    if table.broken:
        log.warning("%s rows break the contract and are left out; first: %s", table.broken, table.first)
    if table.empty:
        log.warning("%s empty lines are no rows", f"{table.empty:,}")
    for warning in warnings:
        log.warning("%s", warning)
    if table.unlabelled:
        log.warning("%s rows have no label and are left out", table.unlabelled)
    if table.ungrouped:
        log.warning("%s rows have no %r and are split one by one", table.ungrouped, usecase.split.group)


def split_key(usecase: UseCase) -> pl.Expr | None:
    """What the borders between the parts depend on: the time, or a group's draw; None where they are known."""
    if usecase.split.method == "time":
        return pl.col(usecase.data.time)
    draw = pl.when(pl.col(raw.GROUP).is_not_null()).then(_group_draws(usecase.split.seed)).alias(DRAW)
    return draw if usecase.split.group else None


def with_parts(
    frame: pl.LazyFrame, usecase: UseCase, keys: pl.LazyFrame | None = None, numbered: bool = False
) -> pl.LazyFrame:
    """The frame with `__part`: train, validation or test; with [split] group no group is in two of them.

    Of a part of a table that is `numbered` as the whole, `keys` are the `split_key` of all rows and how many have each.
    Raises InputError where a split by time isn't possible, or there are fewer groups than parts.
    """
    split = usecase.split
    # rows are numbered through all files: row 1 of every file would have the same number, and so the same part
    frame = frame if numbered else frame.drop(raw.ROW).with_row_index(raw.ROW, offset=1)
    if split.method == "time":
        times = frame if keys is None else keys.select(pl.col(usecase.data.time).repeat_by("len").explode())
        frame = frame.with_columns(_by_time(times, usecase))
        return _one_part_a_group(frame, split) if split.group else frame
    if not split.group:
        return frame.with_columns(_part(draws(split.seed), _shares(split)))
    drawn = frame.with_columns(_group_draws(split.seed).alias(DRAW))
    counts = drawn.group_by(DRAW).len() if keys is None else keys
    return drawn.with_columns(_part(pl.col(DRAW), _borders(counts, split))).drop(DRAW)


def draws(seed: int, key: pl.Expr = ROW_NUMBER) -> pl.Expr:
    """A number in [0, 1) for each row, from the seed and the row's number or another key: SplitMix64 (Steele, Lea and
    Flood, 2014), the same on every machine and version. UInt64 arithmetic wraps, as the method needs."""
    number = partial(pl.lit, dtype=pl.UInt64)
    state = key * number(GOLDEN) + number((seed * GOLDEN) & MASK)
    state = (state ^ (state // number(2**30))) * number(0xBF58476D1CE4E5B9)
    state = (state ^ (state // number(2**27))) * number(0x94D049BB133111EB)
    return (state ^ (state // number(2**31))).cast(pl.Float64) / 2.0**64


def _group_draws(seed: int) -> pl.Expr:
    """The same number (of CRC-32) for all rows of a group, in every file and window; a row without a group is one.

    So a group that was held out once is held out again, and a released model is compared on groups it has not seen.
    """

    def checksums(groups: pl.Series) -> pl.Series:
        sums = [None if group is None else zlib.crc32(group.encode()) for group in groups.to_list()]
        return pl.Series(groups.name, sums, dtype=pl.UInt64)

    key = pl.col(raw.GROUP).map_batches(checksums, return_dtype=pl.UInt64, is_elementwise=True)
    return draws(seed, pl.coalesce(key, ROW_NUMBER))


def _shares(split: Split) -> tuple[float, float]:
    """Below the first border a draw is test, below the second validation."""
    return split.test, split.test + (0.0 if split.method == "given" else split.validation)


def _part(draw: pl.Expr, borders: tuple[float | pl.Expr, float | pl.Expr]) -> pl.Expr:
    part = pl.when(draw < borders[0]).then(pl.lit("test")).when(draw < borders[1]).then(pl.lit("validation"))
    return part.otherwise(pl.lit("train")).alias(PART)


def _borders(counts: pl.LazyFrame, split: Split) -> tuple[float, float]:
    """The shares as borders, moved to the nearest group where a part would have none; warns where they are far off."""
    counted = counts.sort(DRAW).collect(engine="streaming")
    groups, parts = counted[DRAW], 2 if split.method == "given" else 3
    if len(groups) < parts:
        few = f"column {split.group!r} ([split] group) holds {len(groups)} groups, and {parts} parts need one each"
        raise InputError(f"{few}; give more data or another group.")
    shares = _shares(split)
    wished = [int((groups < share).sum()) for share in shares]
    test = min(max(wished[0], 1), len(groups) - parts + 1)
    second = test if parts == 2 else min(max(wished[1], test + 1), len(groups) - 1)
    sizes: list[int] = counted["len"].to_list()
    rows, total = [sum(sizes[second:]), sum(sizes[test:second]), sum(sizes[:test])], sum(sizes)
    wanted = (1 - shares[1], shares[1] - shares[0], shares[0])
    uneven = [
        f"{part} has {count / total:.0%} of the rows instead of {share:.0%}"
        for part, count, share in zip(PARTS, rows, wanted, strict=True)
        if abs(count / total - share) > FAR * share
    ]
    if uneven:
        words = "%s; rows of one %r stay together, and the largest has %s of %s: another [split] seed draws anew"
        log.warning(words, ", ".join(uneven), split.group, f"{max(sizes):,}", f"{total:,}")
    places = zip((test, second), wished, shares, strict=True)
    first, last = (share if place == wish else groups[place] for place, wish, share in places)
    return first, last


def _by_time(frame: pl.LazyFrame, usecase: UseCase) -> pl.Expr:
    """The latest rows are test, those before them validation; equal times stay together."""
    name, split = usecase.data.time, usecase.split
    time = pl.col(name)
    shares = (1 - split.test - split.validation, 1 - split.test)
    borders = frame.select(time.quantile(share, "higher").alias(str(share)) for share in shares)
    first, second = borders.collect(engine="streaming").row(0)
    if first is None or first == second:
        raise InputError(f'column {name!r} does not spread enough to split by time; use [split] method = "random".')
    part = pl.when(time >= second).then(pl.lit("test")).when(time >= first).then(pl.lit("validation"))
    return part.otherwise(pl.lit("train")).alias(PART)


def _one_part_a_group(frame: pl.LazyFrame, split: Split) -> pl.LazyFrame:
    """A group whose rows lie in several parts keeps those in one of them, drawn by the shares: no part is empty."""
    names = [f"__in:{part}" for part in PARTS]
    here = [(pl.col(PART) == part).any().alias(name) for part, name in zip(PARTS, names, strict=True)]
    groups = frame.filter(pl.col(raw.GROUP).is_not_null()).group_by(raw.GROUP).agg(*here, pl.col(raw.ROW).first())
    shares = (1 - split.test - split.validation, split.validation, split.test)
    train, validation, test = (pl.col(name) * share for name, share in zip(names, shares, strict=True))
    point = _group_draws(split.seed) * (train + validation + test)
    chosen = groups.select(raw.GROUP, _part(point, (test, test + validation)).alias(DRAW)).collect(engine="streaming")
    whole = frame.join(chosen.lazy(), on=raw.GROUP, how="left", maintain_order="left")
    kept = pl.col(DRAW).is_null() | (pl.col(DRAW) == pl.col(PART))
    left_out, rows = whole.select((~kept).sum(), pl.len().alias("rows")).collect(engine="streaming").row(0)
    if left_out:
        words = "%s of %s rows are left out: their %r has rows in two parts of the time, and is kept in one of them"
        log.warning(words, f"{left_out:,}", f"{rows:,}", split.group)
    return whole.filter(kept).drop(DRAW)


def check_apart(frame: pl.LazyFrame, validation: pl.LazyFrame, group: str) -> None:
    """Raises InputError where rows of the user's own validation files belong to a group of the training files."""
    if not group:
        return
    both = validation.join(frame.select(raw.GROUP).unique(), on=raw.GROUP, how="semi")
    rows, example, of = pl.len(), pl.col(raw.GROUP).min(), validation.select(pl.len()).collect().item()
    shared, name = both.select(rows, example).collect(engine="streaming").row(0)
    if shared:
        alike = f"{group!r} that is in the training files too (such as {name!r})"
        why = "so they can't tell what the model is worth on others; keep it on one side."
        raise InputError(f"{shared:,} of {of:,} rows of the validation files have a {alike}, {why}")


def windows(folder: Path) -> dict[str, Path]:
    """Each window's name and folder below an input: its labelled rows lie in <anything>/<window>/train/."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name[0] not in "._"]
    folders: dict[str, Path] = {}
    for table in (path for path in paths if path.name.lower().endswith(files.KINDS)):
        rows = next((parent for parent in table.parents if parent.name == "train"), table.parent)
        folders[rows.parent.name if rows.name == "train" else rows.name] = rows
    return folders


def held_out(newest: pl.LazyFrame, case: UseCase) -> pl.DataFrame:
    """Whom the newest window's validation and test rows are of: id and group, where the contract names them."""
    names = [name for name in (case.data.id, raw.GROUP) if name and name in newest.collect_schema()]
    rows = newest.filter(pl.col(PART) != "train")
    return rows.select(names).unique().collect(engine="streaming")


def unseen(rows: pl.LazyFrame, held: pl.DataFrame) -> pl.LazyFrame:
    """The rows of nobody in `held`: the model must not know those it is judged by."""
    for name in held.columns:
        rows = rows.join(held.lazy().select(name), on=name, how="anti", maintain_order="left")
    return rows


def module() -> FeaturesFile:
    """★ components/processing/features.py."""
    return cast(FeaturesFile, import_module("components.processing.features"))


def schema(case: UseCase, learned: Sequence[dict[str, Any]]) -> Schema:
    """The description of a processed table. Raises InputError where two features would share a name."""
    names = [feature["name"] for feature in learned]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"two features are called {name!r}; rename a column in [columns].")
    return {"id": case.data.id or raw.NO_ID, "label": case.data.label, "features": list(learned)}


def write_parts(frame: pl.LazyFrame, learned: Schema, sliced: Sequence[pl.Expr]) -> dict[str, int]:
    """Write each part of the frame into its output folder in one pass over it; the answer is rows a part."""
    host, rows = job.current(), dict.fromkeys(PARTS, 0)

    def name(context: Any) -> str:
        part = context.partition_keys[PART][0]
        return f"{part}/{artifacts.PARTIAL}/{host.prefix}part-{context.index_in_partition:05d}.parquet"

    target = pl.PartitionBy(
        job.processing_output(""), key=PART, include_key=False, file_path_provider=name, approximate_bytes_per_file=FILE
    )
    with ExitStack() as stack:
        folders = {part: stack.enter_context(artifacts.writing(job.processing_output(part))) for part in PARTS}
        group = pl.selectors.by_name(raw.GROUP, require_all=False)
        chosen = frame.select(*columns(learned), group, *sliced, pl.col(PART))
        chosen.sink_parquet(target, compression_level=LEVEL, mkdir=True, engine="streaming")
        for part, folder in folders.items():
            if written := sorted(folder.glob("*.parquet")):
                rows[part] = pl.scan_parquet(written, glob=False).select(pl.len()).collect().item()
            if part != "train" and host.first:  # of train each host that learns gets some files, and only rows
                artifacts.write_json(folder / "features.json", learned)
    return rows


def written(part: str) -> pl.LazyFrame:
    return pl.scan_parquet(sorted(job.processing_output(part).glob("*.parquet")), glob=False)


def check_parts(rows: Mapping[str, int]) -> None:
    """Raises InputError for a part without rows."""
    for part in PARTS:
        if rows.get(part, 0) == 0:
            raise InputError(f"the {part} split has no rows ({dict(rows)}); give more data or change [split].")


def write_champion_test(frame: pl.LazyFrame, champion: Schema | None, reason: str) -> None:
    """The test rows as the champion's preprocessor sees them, or the empty artifact with the reason."""
    host = job.current()
    with artifacts.writing(job.processing_output("champion_test")) as folder:
        if champion is not None:
            chosen, file = frame.select(columns(champion)), folder / f"{host.prefix}part-00000.parquet"
            chosen.sink_parquet(file, compression_level=LEVEL, engine="streaming")
        if host.first and champion is None:
            artifacts.write_absent(folder, reason)
        elif host.first:
            artifacts.write_json(folder / "features.json", champion)


def columns(learned: Schema) -> list[pl.Expr]:
    """Id, features and label, as a preprocessor makes them from typed raw columns."""
    return [pl.col(learned["id"]), *module().transform(learned["features"]), pl.col(learned["label"])]


def write_batch(batches: Iterable[pl.DataFrame], known: Known, stem: Path, limit: int) -> list[Path]:
    """Features in files <stem>-00000.parquet … of nearly `limit` bytes. Raises InputError for a row that is larger."""
    files, features = Filled(stem, limit), module().transform(known.learned["features"])
    usable = [pl.when(~pl.col(raw.BROKEN)).then(feature) for feature in features]
    for batch in batches:
        made = usable if batch[raw.BROKEN].any() else features
        frame = batch.select(pl.col(known.learned["id"]), *made, pl.col(raw.ERROR))
        known.count(batch, frame)
        files.add(frame)
    files.close()
    for file in files.written:
        if (size := file.stat().st_size) > limit:
            most = f"a request may have {limit // 2**20}; raise MaxPayloadInMB."
            raise InputError(f"{file.name} has {size / 2**20:.1f} MB, {most}")
    return files.written


class Filled:
    """Parquet files of one table, each with as many rows as `limit` bytes hold: the file before tells how many."""

    def __init__(self, stem: Path, limit: int) -> None:
        self.stem, self.limit, self.rows = stem, limit, 0
        self.held = pl.DataFrame()
        self.written: list[Path] = []

    def add(self, frame: pl.DataFrame) -> None:
        self.held = pl.concat([self.held, frame]) if self.held.width else frame
        if not self.rows and len(frame):
            sample, body = frame.head(max(1, SAMPLE // frame.width)), io.BytesIO()
            sample.write_parquet(body, compression_level=LEVEL)
            self._learn(sample, body.tell())
        while len(self.held) > SPARE * self.rows:
            self._write()

    def close(self) -> None:
        while len(self.held) or not self.written:
            self._write()

    def _learn(self, frame: pl.DataFrame, size: int) -> None:
        row = max(4 * frame.width + 64, frame.estimated_size() / max(1, len(frame)))
        fitting, most = FULL * self.limit / size, LARGEST * self.limit / row
        self.rows = max(1, int(min(fitting * len(frame), most)))

    def _write(self) -> None:
        """The next file, written again where its rows don't fit, or leave too much room."""
        file = self.stem.with_name(f"{self.stem.name}-{len(self.written):05d}.parquet")
        for tries in count():
            frame = self.held.head(self.rows).rechunk()
            frame.write_parquet(file, compression_level=LEVEL)
            size, rows = file.stat().st_size, self.rows
            if len(frame) <= 1:
                break
            self._learn(frame, size)
            roomy = size < POOR * self.limit and rows < min(self.rows, len(self.held))
            if size <= self.limit and not (roomy and tries < TRIES):
                break
            self.rows = min(self.rows, len(frame) - 1) if size > self.limit else self.rows
        self.held = self.held.slice(len(frame))
        self.written.append(file)

"""Whether subjects did equal work, and what they are given: `python bench_checks.py NAME ARGUMENT …` prints JSON.

Run by the components' environment, and not measured.
"""

import json
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import polars as pl
from bench_limits import matrix, model, table

EVERY = 50_000  # rows of an answer


def body(source: str, target: str, limit: str) -> int:
    """The first rows of a features file as a request of at most so many bytes, by its name; how many."""
    whole, file = pl.read_parquet(source).drop("__error", strict=False), Path(target)
    taken, size = whole.height, 2 * int(limit)
    while size > int(limit):
        part = whole.head(taken)
        part.write_csv(file) if file.suffix == ".csv" else part.write_parquet(file)
        size = file.stat().st_size
        taken = int(taken * min(0.99, int(limit) / size))
    return len(part)


def predictions(raw: str, target: str, seed: str) -> None:
    """Answers as a transform job writes them, with scores drawn: reading them costs the same."""
    files = sorted(Path(raw).iterdir()) if Path(raw).is_dir() else [Path(raw)]
    scan = pl.scan_csv if files[0].suffix == ".csv" else pl.scan_parquet
    identity = pl.concat([scan(file).select("id").collect() for file in files])["id"]
    scores = np.random.default_rng(int(seed)).beta(2, 4, len(identity))
    words = pl.Series("prediction", np.where(scores > 0.5, "yes", "no"))
    frame = pl.DataFrame([identity, words, pl.Series("score", scores)])
    frame = frame.with_columns(pl.lit(None, dtype=pl.String).alias("error"))
    Path(target).mkdir(parents=True, exist_ok=True)
    for number, start in enumerate(range(0, len(frame), EVERY)):
        frame[start : start + EVERY].write_parquet(f"{target}/features-{number:05d}.parquet.out", compression="lz4")


def save_matrix(folder: str, features: str, target: str) -> None:
    """Features as numbers, for a peer that is not asked to read them."""
    np.save(target, matrix(pl.read_parquet(features), model(folder)[1]))


def same_tables(ours: str, others: str) -> dict[str, object]:
    """Features written by processing and by another: rows, columns that are not there, sums of numbers apart."""
    one, two = (pl.scan_parquet(sorted(Path(folder).rglob("*.parquet"))) for folder in (ours, others))
    schema, there = one.collect_schema(), two.collect_schema()
    absent = [name for name in schema if name not in there and not name.startswith("__")]
    numbers = [name for name, kind in schema.items() if kind.is_numeric() and name in there]
    sums = [frame.select(pl.len(), pl.col(numbers).cast(pl.Float64).sum()).collect().row(0) for frame in (one, two)]
    apart = max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(*sums, strict=True))
    return {"rows": [sums[0][0], sums[1][0]], "numbers": len(numbers), "absent": absent, "apart": apart}


def same_scores(ours: str, theirs: str, folder: str, request: str) -> float:
    """The largest difference between two answers to one request, and what the booster says itself."""
    booster, features = model(folder)
    known = booster.predict(matrix(table(Path(request).read_bytes(), request), features))
    answers = [table(Path(file).read_bytes(), file)["score"].cast(pl.Float64).to_numpy() for file in (ours, theirs)]
    return max(float(np.abs(each - known).max()) for each in answers)


def same_reasons(explanations: str, contributions: str, features: str) -> float:
    """The largest difference between the strongest attributions here and there."""
    strongest = pl.read_parquet(explanations)["reason_1_attribution"].abs().to_numpy()
    found = np.abs(np.load(contributions)[:, : int(features)]).max(axis=1)
    return float(np.abs(np.sort(strongest) - np.sort(found)).max())


def packages(lock: str) -> float:
    """MiB of the packages that a lock names, as they are installed here."""
    sizes = []
    for line in Path(lock).read_text(encoding="utf-8").splitlines():
        name, is_one, _ = line.partition("==")
        try:
            files = (metadata.files(name.strip()) or []) if is_one else []
        except metadata.PackageNotFoundError:  # of another platform
            continue
        places = [Path(str(file.locate())) for file in files]
        sizes += [place.stat().st_size for place in places if place.is_file()]
    return sum(sizes) / 2**20


def main(name: str, *arguments: str) -> None:
    known = (body, predictions, save_matrix, same_tables, same_scores, same_reasons, packages)
    print(json.dumps({function.__name__: function for function in known}[name](*arguments)))


if __name__ == "__main__":
    main(*sys.argv[1:])

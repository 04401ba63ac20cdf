"""Free text as numbers: the words that a model learns from, and what monitoring measures of a text or a picture.

A word is two or more letters or digits; upper and lower case are one.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import polars as pl

from batchloop.container.usecase import Column, Features, UseCase

WORD = r"\w{2,}"
LONGEST = 40  # letters of a word that is learned
COMMON = 0.5  # a word in a larger share of the texts tells them apart less and less
SIZE = 64  # pixels to which pictures are brought, so that they can be compared


def terms(frame: pl.LazyFrame, column: Column, settings: Features) -> list[dict[str, Any]]:
    """A feature for each of the words that stand in most texts: `term`, and its inverse document frequency `idf`.

    idf is ln((1 + texts) / (1 + texts with the word)) + 1, as scikit-learn's TfidfVectorizer has it.
    """
    words = pl.col(column.name).str.to_lowercase().str.extract_all(WORD).list.unique()
    texts = frame.select(pl.col(column.name).drop_nulls()).with_columns(words.alias("term"))
    total: int = texts.select(pl.len()).collect(engine="streaming").item()
    counts = texts.select("term").explode("term").drop_nulls().group_by("term").len()
    least, short = max(1, settings.rare), pl.col("term").str.len_chars() <= LONGEST
    kept = counts.filter((pl.col("len") >= least) & (pl.col("len") <= COMMON * total) & short)
    most = kept.sort(["len", "term"], descending=[True, False]).head(settings.terms).collect(engine="streaming")
    common = {"source": column.name, "kind": "number"}
    return [
        {"name": f"{column.name}: {term}", **common, "term": term, "idf": math.log((1 + total) / (1 + count)) + 1}
        for term, count in most.sort("term").iter_rows()
    ]


def tf_idf(feature: Mapping[str, Any]) -> pl.Expr:
    """How often the term stands in each text, times its idf (Float32); null where there is no text."""
    idf: float = feature["idf"]
    count = pl.col(feature["source"]).str.count_matches(rf"(?i)\b{feature['term']}\b")
    return (count * idf).cast(pl.Float32).alias(feature["name"])


def measures(column: Column) -> dict[str, tuple[str, pl.Expr]]:
    """What monitoring looks at in the place of a column: name → type and values; nothing where it is the column itself.

    Of a text: its length, its words, and one of them, which the length picks: rows are independent, its words are not.
    """
    if column.type == "image":
        from batchloop.container import appearance  # noqa: PLC0415 - it needs NumPy, and processing may have none

        looks = appearance.names(column)
        return {f"{column.name}: {name}": ("number", pl.col(column.name).struct.field(name)) for name in looks}
    if column.type != "text":
        return {}
    text = pl.col(column.name)
    words, length = text.str.to_lowercase().str.extract_all(WORD), text.str.len_chars()
    one = words.list.get(length % words.list.len().replace(0, None), null_on_oob=True)
    found = {
        "characters": ("number", length.cast(pl.Float64)),
        "words": ("number", words.list.len().cast(pl.Float64)),
        "a word": ("category", one),
    }
    return {f"{column.name}: {name}": (kind, expression) for name, (kind, expression) in found.items()}


def kinds(columns: Iterable[Column]) -> dict[str, str]:
    """The name and type of everything that is monitored of these columns."""
    found: dict[str, str] = {}
    for column in columns:
        made = {name: kind for name, (kind, _) in measures(column).items()}
        found |= made or {column.name: column.type}
    return found


def sources(columns: Iterable[Column]) -> dict[str, str]:
    """The column of each measure."""
    return {name: column.name for column in columns for name in measures(column)}


def measured(batch: pl.DataFrame, columns: Iterable[Column]) -> pl.DataFrame:
    """A batch of typed raw columns with what is measured of them in their place."""
    from batchloop.container import appearance  # noqa: PLC0415 - as above

    columns = [*columns]
    made = {column.name: measures(column) for column in columns}
    pictures = [appearance.measured(batch[each.name], each) for each in columns if each.type == "image"]
    batch = batch.with_columns(pictures) if pictures else batch
    expressions = [values.alias(name) for found in made.values() for name, (_, values) in found.items()]
    if not expressions:
        return batch
    return batch.with_columns(expressions).drop(name for name, found in made.items() if found)


def seen(case: UseCase) -> UseCase:
    """The contract as monitoring reads it: all pictures in one size, whatever the model sees of them."""
    columns = [replace(each, size=SIZE) if each.type == "image" else each for each in case.columns]
    return replace(case, columns=tuple(columns))

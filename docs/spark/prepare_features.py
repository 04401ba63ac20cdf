"""PrepareFeatures on Spark: a learned preprocessor makes features of raw rows, in files of one transform request each.

It stands for components/processing/serve.py where one machine is too small; README.md says what it leaves out.
Spark alone is imported: the container has neither this repository nor Polars.
"""

import argparse
import json
import tomllib
from functools import reduce
from pathlib import Path

from pyspark.sql import Column, DataFrame, Observation, SparkSession
from pyspark.sql import functions as f
from pyspark.sql.types import StringType, StructField, StructType

OTHER, ERROR, BROKEN, RAGGED = "other", "__error", "__broken", "__ragged"
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
NO_NUMBER = r"(?i)^[+-]?(nan|inf|infinity)$"  # no value, and nothing wrong
TRUE = ("true", "yes", "y", "t", "1", "1.0", "on", "ja", "oui", "si", "sí", "sim", "wahr", "vrai")
FALSE = ("false", "no", "n", "f", "0", "0.0", "off", "nein", "non", "não", "falsch", "faux")
PLAIN = {"encoding": "utf-8", "decimal": ".", "thousands": "", "header": True}  # of [data]: others are not worked out
FORMATS = {"%Y": "yyyy", "%m": "MM", "%d": "dd", "%H": "HH", "%M": "mm", "%S": "ss"}
DAY = 24 * 3600
MEGABYTE, FULL = 2**20, 0.9  # how much of a request a file may fill, before compression


def words() -> argparse.Namespace:
    """The arguments; `raw` and `features` are URIs, the others places on the driver's machine."""
    parser = argparse.ArgumentParser()
    for name in ("raw", "preprocessor", "usecase", "features", "summary"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--format", choices=("csv", "parquet"), default="csv")
    parser.add_argument("--max_payload_mb", type=int, default=6)
    return parser.parse_args()


def read(spark: SparkSession, uri: str, kind: str, separator: str) -> DataFrame:
    """Raw rows, CSV as text; `__ragged` says of a line that it is not as wide as the header."""
    options = {"recursiveFileLookup": True}
    if kind == "parquet":
        return spark.read.options(**options).parquet(uri).withColumn(RAGGED, f.lit(None).cast("string"))
    options |= {
        "header": True,
        "escape": '"',
        "enforceSchema": False,
    }  # files whose columns stand in another order fail
    names = spark.read.options(**options).csv(uri).columns
    text = StructType([StructField(name, StringType()) for name in [*names, RAGGED]])
    frame = spark.read.options(**options, columnNameOfCorruptRecord=RAGGED).csv(uri, schema=text)
    ragged = f.when(f.col(RAGGED).isNotNull(), f.lit("the line has too few or too many cells"))
    return frame.withColumn(RAGGED, ragged)


def text(name: str, missing: list[str]) -> Column:
    """Canonical text without blanks around it; null where there is no value."""
    plain = f.regexp_replace(f.col(name).cast("string"), r"^\s+|\s+$", "")
    plain = f.regexp_replace(plain, r"^(-?(?:0|[1-9]\d*))\.0+$", "$1")
    plain = f.when(plain.isin("True", "TRUE", "False", "FALSE"), f.lower(plain)).otherwise(plain)
    return f.when(~plain.isin("", *missing), plain)


def value(column: dict, missing: list[str]) -> tuple[Column, Column]:
    """A contract's column as its type, and what is wrong with a cell, or null."""
    name, kind, form = column["name"], column["type"], column.get("format", "")
    cell = text(name, missing)
    if unknown := sorted({*column} - {"name", "type", "format", "minimum", "maximum", "drift"}):
        raise SystemExit(f"[columns] {name}: {', '.join(unknown)} is not worked out here.")
    if kind == "category":
        return cell, f.lit(None).cast("string")
    if kind == "number" and not form:
        low, high = column.get("minimum"), column.get("maximum")
        parsed = f.when(cell.rlike(NUMBER), cell.cast("double"))
        fits = reduce(
            Column.__and__, [parsed >= low] * (low is not None) + [parsed <= high] * (high is not None), f.lit(True)
        )
        bounds = ("" if low is None else f" from {low:g}") + ("" if high is None else f" up to {high:g}")
        return f.when(fits, parsed), _wrong(name, cell, fits | cell.rlike(NO_NUMBER), f"a number{bounds}")
    if kind == "boolean":
        parsed = f.when(f.lower(cell).isin(*TRUE), True).when(f.lower(cell).isin(*FALSE), False)
        return parsed, _wrong(name, cell, parsed.isNotNull(), "a yes or no")
    if (
        kind == "date"
        and form
        and "%" not in (pattern := reduce(lambda p, pair: p.replace(*pair), FORMATS.items(), form))
    ):
        parsed = f.to_timestamp(cell, pattern)
        return parsed, _wrong(name, cell, parsed.isNotNull(), f"a date like {form}")
    raise SystemExit(f"[columns] {name}: {kind} {form!r} is not worked out here.")


def _wrong(name: str, cell: Column, right: Column, wanted: str) -> Column:
    said = f.concat(
        f.lit(f"column {name!r}: '"),
        f.substring(f.trim(f.col(name).cast("string")), 1, 40),
        f.lit(f"' is not {wanted}"),
    )
    return f.when(cell.isNotNull() & ~f.coalesce(right, f.lit(False)), said)


def feature(learned: dict) -> Column:
    """As `transform` of components/processing/features.py, over the contract's values."""
    source = f.col(f"`{learned['source']}`")
    if learned["kind"] == "category":
        return f.when(source.isin(learned["categories"]), source).when(source.isNotNull(), OTHER)
    if learned["kind"] == "date":
        part = learned["name"].rpartition("__")[2]
        clock = f.hour(source) * 3600 + f.minute(source) * 60 + f.second(source)
        parts = {"days": f.unix_micros(source) / (DAY * 1e6), "month": f.month(source), "day": f.dayofmonth(source)}
        parts |= {"weekday": f.weekday(source) + 1, "day_of_year": f.dayofyear(source), "hour": clock / 3600}
        return parts[part].cast("float")
    number = source.cast("float")
    return f.coalesce(number, f.lit(learned["fill"]).cast("float")) if "fill" in learned else number


def prepared(raw: DataFrame, columns: list[dict], learned: dict, missing: list[str]) -> DataFrame:
    """Id, features, and `__error`, which is null where a row keeps the contract; else its features are."""
    name, values = learned["id"], [(column["name"], *value(column, missing)) for column in columns]
    nameless = f.when(text(name, missing).isNull(), f.lit(f"column {name!r}: the id is missing"))
    error = f.coalesce(f.col(RAGGED), nameless, *(wrong for *_, wrong in values))
    typed = raw.select(
        text(name, missing).alias("__id"), error.alias(ERROR), *(cell.alias(column) for column, cell, _ in values)
    )
    usable = f.col(ERROR).isNull()
    made = [f.when(usable, feature(one)).alias(one["name"]) for one in learned["features"]]
    return typed.select(f.col("__id").alias(name), *made, ERROR)


def main() -> None:
    """Write features and summary.json. Raises SystemExit where more rows are broken than may be."""
    given, spark = words(), SparkSession.builder.appName("PrepareFeatures").getOrCreate()
    settings = {"session.timeZone": "UTC", "ansi.enabled": "false", "legacy.timeParserPolicy": "CORRECTED"}
    for key, setting in settings.items():
        spark.conf.set(f"spark.sql.{key}", setting)
    # every file there becomes a request, and _SUCCESS is none
    spark._jsc.hadoopConfiguration().set("mapreduce.fileoutputcommitter.marksuccessfuljobs", "false")
    manifest, learned = (
        json.loads((Path(given.preprocessor) / file).read_text()) for file in ("manifest.json", "preprocessor.json")
    )
    data = tomllib.loads(Path(given.usecase).read_text(encoding="utf-8-sig"))["data"]
    if other := [key for key, usual in PLAIN.items() if data.get(key, usual) != usual]:
        raise SystemExit(f"usecase.toml [data] {', '.join(other)}: not worked out here.")
    raw, features = (uri.replace("s3://", "s3a://", 1) for uri in (given.raw, given.features))
    counts = Observation("rows")
    broken = f.col(ERROR).isNotNull()
    frame = prepared(
        read(spark, raw, given.format, data.get("separator", ",")), manifest["columns"], learned, data["missing"]
    )
    frame = frame.observe(
        counts, f.count(f.lit(1)).alias("rows"), f.count_if(broken).alias("broken"), f.min(ERROR).alias("first")
    )
    width = sum(16 if one["kind"] == "category" else 4 for one in learned["features"]) + 64
    most = int(FULL * given.max_payload_mb * MEGABYTE / width)
    frame.write.option("maxRecordsPerFile", most).mode("overwrite").parquet(features)
    found = counts.get
    summary = {
        "rows": found["rows"],
        "broken": found["broken"],
        "first_break": found["first"],
        "empty": 0,
        "warnings": [],
    }
    Path(given.summary).mkdir(parents=True, exist_ok=True)
    (Path(given.summary) / "summary.json").write_text(json.dumps(summary, indent=2))
    if not found["rows"] or found["broken"] > data.get("bad_rows", 0.01) * found["rows"]:
        raise SystemExit(f"{found['broken']} of {found['rows']} rows break the contract; such as: {found['first']}")


if __name__ == "__main__":
    main()

"""[series] of usecase.toml: which rows are one series, how far apart they are, and how far ahead is forecast."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from batchloop.container.metrics import GIVEN
from batchloop.container.settings import Matching, Range

FREQUENCY = Matching(r"[1-9][0-9]{0,3}(s|m|h|d|w|mo|q|y)", '"1d" (or s, m, h, w, mo, q, y; "15m" is a quarter hour)')


@dataclass(frozen=True)
class Series:
    """Forecasting: [data] label and [data] time make a series for each value of the column `id`, or one if it is "".

    `frequency` is the time from one period to the next, `horizon` how many periods are forecast, `season_length` how
    many make a season. Columns that are not `known` in advance are seen up to the last period with a label.
    """

    horizon: Annotated[int, Range(ge=1, le=1000)]
    frequency: Annotated[str, FREQUENCY]
    id: str = ""
    season_length: Annotated[int, Range(ge=1, le=10_000)] = 1
    known: tuple[str, ...] = ()


def rules(case: Any) -> Iterator[tuple[object, str]]:
    series, data = case.series, case.data
    holds: object = (data.task == "forecasting") == (series is not None)
    yield holds, '[series] and [data] task = "forecasting" go together: give both or neither.'
    if series is None:
        return
    yield data.time, "[series] needs [data] time: the column that says which period a row is of."
    only = '[split] method = "time", without a group, is the one way to split [series]: the last periods are test.'
    yield case.split.method == "time" and not case.split.group, only
    yield not data.id, "[data] id is empty for [series]: series and time name a row."
    names = {column.name for column in case.columns}
    for name in (data.time, data.label):
        yield name not in GIVEN, f"[data] {name!r}: each forecast has a column of this name; rename yours."
    for name in (data.time, series.id):
        yield name not in names, f"[columns] {name!r} names the rows of [series]; take it out."
    yield not series.id.startswith("__"), f"[series] id = {series.id!r}: names can't begin with __; rename the column."
    yield series.id not in (data.time, data.label), f"[series] id = {series.id!r} is the time or the label too."
    if absent := next((name for name in series.known if name not in names), ""):
        yield False, f"[series] known names {absent!r}, which is none of [columns]."

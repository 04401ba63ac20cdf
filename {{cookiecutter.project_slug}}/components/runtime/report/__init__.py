"""Self-contained HTML pages for people: verdict first, then sections of tables and inline charts.

Nothing is loaded from the network, nothing runs, and every text from the data is escaped by Jinja. A page is a
`page` of a `Verdict` and `Section`s, whose bodies are tables and charts, several of them put together by `join`.
"""

from runtime.report.charts import Interval, Point, bars, compare, interval, timeline
from runtime.report.pages import Section, Tone, Verdict, join, page
from runtime.report.rendering import number
from runtime.report.tables import matrix, table

__all__ = [
    "Interval",
    "Point",
    "Section",
    "Tone",
    "Verdict",
    "bars",
    "compare",
    "interval",
    "join",
    "matrix",
    "number",
    "page",
    "table",
    "timeline",
]

"""How dates, numbers and durations are written: the formats that usecase.toml may name."""

import re
from collections.abc import Iterator
from zoneinfo import ZoneInfo, available_timezones

from batchloop.container import settings
from batchloop.container.settings import Matching

EPOCHS = {  # formats of dates that are numbers since 1970, in UTC: what is counted, and how many microseconds one is
    "epoch s": ("seconds", 1e6),
    "epoch ms": ("milliseconds", 1e3),
    "epoch us": ("microseconds", 1.0),
    "epoch ns": ("nanoseconds", 1e-3),
}
NUMERALS = "1234.5 as the column writes it, like '€ 1.234,5' or '1,234.5 kg', and not 'hh:mm:ss' or 'mm:ss'"
# formats of numbers: hours and minutes, of which two parts are the first or the last, or 1234.5 as the column writes it
CLOCKS = ("hh:mm:ss", "mm:ss")
NUMERAL = re.compile(
    r"(?P<open>\()?(?P<prefix>[^\d()|]*?)\s*1(?P<thousands>[.,'’ \u00a0\u2009\u202f]?)234(?:(?P<decimal>[.,])5)?"
    r"\s*(?P<suffix>[^\d()|]*?)(?P<end>[)-])?"
)

YEAR, DAY_CLOCK, HALF_DAY_CLOCK, CLOCK = (
    "".join(rf"(?=.*%[-_0]?[{directive}])" for directive in directives)
    for directives in (["YyGgDFcxvs+"], ["Hk", "M"], ["Il", "M", "pP"], ["HkIlMSpP"])
)
DIRECTIVE = r"%(?:[-_0]?([a-zA-Z])(?<![EJKLNOQio])(?!\1)|[.]?[369]?f|[+%]|#z|:{1,3}z)"  # chrono's, which Polars asks
DATES = Matching(
    rf"(?:epoch [mun]?s)?|{YEAR}(?:{DAY_CLOCK}(?!.*%[IlpP])|{HALF_DAY_CLOCK}|(?!{CLOCK}))(?:[^%]|{DIRECTIVE})+",
    "a date's format with a year like '%d.%m.%Y' or '%Y-%m-%d %H:%M', or 'epoch s', ms, us or ns (numbers since 1970)",
)
Rules = Iterator[tuple[object, str]]


def numeral(form: str) -> bool:
    """Whether a format is one of numbers, or several of them."""
    return all(part in CLOCKS or NUMERAL.fullmatch(part) for part in form.split("|")) or not form


def zone(name: str) -> bool:
    """Whether a time zone is one of IANA's; true where this machine has no list of them."""
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        return not available_timezones()
    return True


def rules(key: str, form: str, number: bool) -> Rules:
    """Whether a format is one of numbers or of dates, and what to say where it is not."""
    holds = numeral(form) if number else not form or all(map(DATES.holds, form.split("|")))
    yield holds, f"{key} = {form!r} is not {NUMERALS if number else DATES}."


def zone_rules(key: str, name: str) -> Rules:
    """The same of a time zone."""
    holds = not name or zone(name)
    close = "" if holds else settings.nearest(name, ["Europe/Berlin", *sorted(available_timezones())])
    yield holds, f"{key} = {name!r} is no IANA time zone like 'Europe/Berlin'; {close}."

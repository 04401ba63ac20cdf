"""How often a schedule of EventBridge Scheduler fires in an average month."""

import re

MONTH_HOURS = 730  # AWS's own convention: a year is 8,760 hours
MINUTES = {"minute": 1, "hour": 60, "day": 24 * 60}
MONTHS = (31, 28.25, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
DAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
ANY = ("*", "?")


def runs_a_month(schedule: str) -> float | None:
    """0 for "" (never); None for an expression whose runs can't be counted.

    The grammar is that of "Schedule types" in the EventBridge Scheduler user guide.
    """
    if not schedule:
        return 0.0
    kind, _, inside = schedule.removesuffix(")").partition("(")
    if kind == "rate":
        return _rate(inside)
    fields = inside.upper().split()
    return _cron(fields) if kind == "cron" and len(fields) == 6 else None


def _rate(text: str) -> float | None:
    match = re.fullmatch(r"\s*([1-9]\d*)\s+(minute|hour|day)s?\s*", text)
    return MONTH_HOURS * 60 / (int(match[1]) * MINUTES[match[2]]) if match else None


def _cron(fields: list[str]) -> float | None:
    minutes, hours, days, months, weekdays, year = fields
    often, daily = values(minutes, 0, 59), values(hours, 0, 23)
    chosen = values(months, 1, 12, MONTH_NAMES)
    if year not in ANY or not often or not daily or not chosen:
        return None
    found = [_days(days, weekdays, MONTHS[month - 1]) for month in chosen]
    known = [count for count in found if count is not None]
    return len(often) * len(daily) * sum(known) / 12 if len(known) == len(found) else None


def _days(days: str, weekdays: str, length: float) -> float | None:
    """On how many days of one month; one of the two fields has to be open."""
    if weekdays in ANY:
        if days in ANY:
            return length
        if re.fullmatch(r"L|LW|\d+W", days):
            return 1.0
        chosen = values(days, 1, 31)
        # the 29th of February comes every fourth year
        return sum(min(1.0, max(0.0, length - day + 1)) for day in chosen) if chosen else None
    if days not in ANY:
        return None
    if re.fullmatch(r"\w{1,3}#[1-4]|[1-7]L", weekdays):
        return 1.0
    chosen = values(weekdays, 1, 7, DAY_NAMES)
    return len(chosen) * length / 7 if chosen else None


def values(field: str, lowest: int, highest: int, names: tuple[str, ...] = ()) -> set[int]:
    """What a field of a cron expression matches; nothing where it can't be read."""
    for number, name in enumerate(names, lowest):
        field = re.sub(rf"\b{name}\b", str(number), field)
    found: set[int] = set()
    for part in field.split(","):
        match = re.fullmatch(r"([*?]|\d+)(?:-(\d+))?(?:/([1-9]\d*))?", part)
        if not match:
            return set()
        first, last, step = match.groups()
        start = lowest if first in ANY else int(first)
        end = int(last) if last else highest if first in ANY or step else start
        if not lowest <= start <= end <= highest:
            return set()
        found |= set(range(start, end + 1, int(step or 1)))
    return found

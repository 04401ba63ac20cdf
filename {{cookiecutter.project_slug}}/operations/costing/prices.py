"""operations/prices.toml: what AWS asks for what this use case runs and keeps."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date
from typing import Any

from operations.failures import Failure
from operations.repository import Repository

FILE = "operations/prices.toml"
OLD = 365  # days


@dataclass(frozen=True)
class Assumed:
    """What is reckoned with where nothing was measured; the table says why."""

    start_minutes: float
    work_minutes: float
    retrainings: float
    data_gb: float
    images_gb: float
    log_gb_a_run: float
    custom_metrics: float


@dataclass(frozen=True)
class Prices:
    """The figures of one region; `wanted` is the region that was asked for, which may not be in the table."""

    when: date
    currency: str
    source: str
    region: str
    wanted: str
    spot_saves: float
    assumed: Assumed
    figures: Mapping[str, float]
    hours: Mapping[str, float]

    def remarks(self, today: date) -> list[str]:
        """What a reader has to know before believing the figures."""
        age = (today - self.when).days
        found = []
        if self.region != self.wanted:
            found.append(
                f"there are no prices for {self.wanted}: the figures are {self.region}'s, an order of magnitude"
            )
        if age > OLD:
            found.append(f"the prices are {age // 30} months old: look them up again and write them into {FILE}")
        return found


def load(repository: Repository, region: str) -> Prices:
    """The region's figures, or those of the region that stands in for it. Raises Failure."""
    try:
        table = tomllib.loads((repository.root / FILE).read_text(encoding="utf-8"))
        return _parse(table, region)
    except FileNotFoundError:
        raise Failure(f"{FILE} is missing: the cost can't be told without prices.") from None
    except tomllib.TOMLDecodeError as error:
        raise Failure(f"{FILE} is not valid TOML: {error}.") from None
    except KeyError as error:
        raise Failure(f"{FILE} has no {error.args[0]!r}.") from None


def _parse(table: Mapping[str, Any], region: str) -> Prices:
    taken = region if region in table["regions"] else table["elsewhere"]
    figures = dict(table["regions"][taken])
    return Prices(
        when=table["date"],
        currency=table["currency"],
        source=table["source"],
        region=taken,
        wanted=region,
        spot_saves=table["spot"]["saves_up_to"],
        assumed=Assumed(**{entry.name: table["assumed"][entry.name] for entry in fields(Assumed)}),
        hours=figures.pop("instance_hour", {}),
        figures=figures,
    )

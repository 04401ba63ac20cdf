"""Which columns the model really uses: drift in one that it hardly looks at does not matter much."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime import artifacts
from runtime.failures import InputError

log = logging.getLogger(__name__)
Column = dict[str, Any]


def shares(folder: Path, contract: Mapping[str, Any]) -> dict[str, float]:
    """Each raw column's share of the model's reasons, from the explainer's global importance; empty where unknown.

    Only explainer.json's `source_importance` (raw column → importance, 0 or more) is read. Another component in
    explainability's place may write no such thing: drift is found all the same.
    """
    try:
        artifacts.check_manifest(folder, "explainability", contract)
        importance = artifacts.read_json(folder / "explainer.json")["source_importance"]
        total = sum(importance.values())
        return {name: score / total for name, score in importance.items()} if total > 0 else {}
    except (InputError, OSError, LookupError, TypeError, AttributeError) as error:
        log.warning("no importance of columns is known (%s): they are ordered by their drift alone", error)
        return {}


def weigh(columns: list[Column], known: Mapping[str, float]) -> None:
    """Set each column's `importance` (None where unknown; 0 where the model does not use it), most important first.

    Drifted ones come first; among them counts the share of the reasons times the effect. Those that don't take part in
    the decision come last.
    """
    for column in columns:
        column["importance"] = known.get(column["name"], 0.0) if known else None
    columns.sort(key=_place)


def _place(column: Column) -> tuple[bool, bool, float, float, str]:
    effect, importance = column["psi_beyond_chance"], column["importance"]
    weight = effect if importance is None else importance * effect
    return not column["decides"], not column["drifted"], -weight, -effect, column["name"]


def drifted(columns: list[Column]) -> tuple[float | None, list[str]]:
    """The share of the reasons in drifted columns, and those of them with more than an even share; None if unknown."""
    found = [column for column in columns if column["drifted"]]
    if any(column["importance"] is None for column in columns):
        return None, []
    even = 1 / max(len(columns), 1)
    return sum(column["importance"] for column in found), [
        column["name"] for column in found if column["importance"] > even
    ]

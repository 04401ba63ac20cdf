"""The champion: the released model that a new one goes on from, or has to beat.

A model of another library or contract, or a damaged one, is not comparable: that is said, and stops no training.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from algorithm import tables
from algorithm.evaluation import Contender
from runtime import artifacts, models, paths
from runtime.failures import InputError, told
from runtime.models import Model
from runtime.protocols import Table
from runtime.usecase import UseCase

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Champion:
    """The released model; where it is None `reason` says why it can't be used, and is "" where none is released."""

    model: Model | None = None
    reason: str = ""


def load(case: UseCase, scratch: Path) -> Champion:
    """The champion, if there is one that can be used; `scratch` is for unpacking."""
    folder = paths.channel("champion")
    try:
        if artifacts.is_absent(folder):
            return Champion()
        folder = artifacts.unpacked(folder, scratch)
        if artifacts.is_absent(folder):
            return Champion()
        artifacts.check_manifest(folder, "algorithm", case.contract())
        return Champion(models.load(folder))
    except Exception as error:  # another library's files can make ours fail in any way
        return _unusable(f"the champion can't be used: {told(error)}")


def _unusable(reason: str) -> Champion:
    log.warning("not comparable: %s", reason)
    return Champion(reason=reason)


def start(champion: Champion, schema: tables.Schema, classes: tuple[str, ...]) -> Any:
    """The champion's fitted model, to go on from. Raises InputError where there is none that fits the features."""
    if not models.takes_progress():
        raise InputError(
            "components/algorithm/model.py can't go on from a model: its fit takes no `progress`. Leave out CONTINUE."
        )
    if champion.model is None:
        raise InputError(
            f"there is no champion to go on from (continue_training): {champion.reason or 'no model is released yet.'} "
            "Train without CONTINUE, or with FRESH=yes in its place."
        )
    metadata = champion.model.metadata
    if metadata["features"] != schema["features"] or metadata["classes"] != list(classes):
        raise InputError(
            "continue_training needs features from the champion's preprocessor, and these are from another; "
            "run the processing step with continue_training = true too."
        )
    return champion.model.fitted


def contender(champion: Champion) -> tuple[Contender | None, str]:
    """The champion with the test rows as its own preprocessor sees them; without it the reason, "" for no champion."""
    if champion.model is None:
        return None, champion.reason
    folder = paths.channel("champion_test")
    try:
        if artifacts.is_absent(folder):
            raise InputError(artifacts.absence(folder) or "there is no preprocessor that belongs to the champion.")
        found = Contender(champion.model, test_rows("champion_test", champion.model))
        models.predict(found.model, found.test.features[:1])
        float(found.model.metadata["threshold"])
    except Exception as error:  # as above
        return None, _unusable(told(error)).reason
    return found, ""


def test_rows(channel: str, judged: Model) -> Table:
    """A channel's rows for a model. Raises InputError where they were prepared for another model, or are none."""
    folder = paths.channel(channel)
    schema = tables.schema(folder)
    if schema["features"] != judged.metadata["features"]:
        raise InputError(f"{channel}/ holds other features than its model was fitted on; prepare it again.")
    table = tables.read(folder, schema, tuple(judged.metadata["classes"]))
    if not table.labels.size:
        raise InputError(f"{channel}/ has no rows; give more data or change [split].")
    return table

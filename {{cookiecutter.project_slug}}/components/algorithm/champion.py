"""The champion: the released model that a new one goes on from, or has to beat."""

import logging
from pathlib import Path

import lightgbm as lgb

from algorithm import model, tables
from algorithm.evaluation import Contender
from algorithm.model import Model, Table
from runtime import artifacts, paths
from runtime.failures import InputError
from runtime.usecase import UseCase

log = logging.getLogger(__name__)


def load(case: UseCase, scratch: Path) -> Model | None:
    """The champion's model, or None where there is none, or none under this contract; `scratch` is for unpacking."""
    folder = paths.channel("champion")
    if artifacts.is_absent(folder):
        return None
    folder = artifacts.unpacked(folder, scratch)
    if artifacts.is_absent(folder):
        return None
    try:
        artifacts.check_manifest(folder, "algorithm", case.contract())
    except InputError as error:
        log.warning("the champion can't be compared: %s", error)
        return None
    return model.load(folder)


def start(champion: Model | None, schema: tables.Schema, classes: tuple[str, ...]) -> lgb.Booster:
    """The champion's booster, to go on from. Raises InputError where it does not fit the features."""
    if champion is None:
        raise InputError("continue_training needs a champion, and there is no released model yet; train once first.")
    if champion.metadata["features"] != schema["features"] or champion.metadata["classes"] != list(classes):
        raise InputError(
            "continue_training needs features from the champion's preprocessor, and these are from another; "
            "run the processing step with continue_training = true too."
        )
    return champion.booster


def contender(champion: Model | None) -> Contender | None:
    """The champion with the test rows as its own preprocessor sees them, or None where there are none."""
    if champion is None:
        return None
    if artifacts.is_absent(paths.channel("champion_test")):
        log.warning("the champion can't be compared: processing found no preprocessor of its contract")
        return None
    return Contender(champion, test_rows("champion_test", champion))


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

"""The rendered repository's fixture for its contract suite, and what tests of the server need besides."""

import json
from collections.abc import Iterator
from typing import Any

import polars as pl
import pytest

from plumbing.contract.containers import Contract, Server, contract, serving

__all__ = ["contract", "features", "schema", "server"]


@pytest.fixture(scope="module")
def server(contract: Contract, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The algorithm's image in serve mode."""
    with serving(contract, tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="session")
def features(contract: Contract) -> pl.DataFrame:
    """The features of the use case's own rows, as processing wrote them."""
    return pl.read_parquet(contract.stored(("processing serve", "features")) / "*.parquet")


@pytest.fixture(scope="session")
def schema(contract: Contract) -> dict[str, Any]:
    """preprocessor.json: the name of the id, and each feature's name and kind."""
    learned = contract.stored(("processing train", "preprocessor")) / "preprocessor.json"
    return dict(json.loads(learned.read_text()))

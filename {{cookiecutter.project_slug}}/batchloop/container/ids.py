"""Ids that more than one row has."""

from pathlib import Path

import polars as pl

from batchloop.container import files

AT_ONCE = 1 << 21  # ids that are compared at once


def shared(ids: pl.LazyFrame) -> tuple[int, list[str]]:
    """Of a frame whose one column is `id`: how many rows have the id of another one, and the first such ids."""
    repeated = ids.drop_nulls().group_by("id").len().filter(pl.col("len") > 1).collect(engine="streaming")
    return int(repeated["len"].sum()), repeated["id"].sort().head(3).to_list()


class Ids:
    """The ids of a table, added bit by bit; they lie in scratch, so that more rows take no more memory."""

    def __init__(self) -> None:
        self.parts: list[Path] = []
        self.rows = 0

    def add(self, ids: pl.Series) -> None:
        known = ids.drop_nulls().alias("id").to_frame().with_columns(pl.col("id").hash().alias("hash"))
        if not self.parts:
            self.scratch = files.scratch("ids-")
        self.parts.append(self.scratch / f"{len(self.parts):06d}.arrow")
        known.write_ipc(self.parts[-1])
        self.rows += len(known)

    def shared(self) -> tuple[int, list[str]]:
        """How many rows have the id of another one, and the first such ids.

        Equal ids have equal hashes: a share of the hashes is looked at in turn, and ids only where some are equal.
        """
        if not self.rows:
            return 0, []
        shares, rows, first = 1 + self.rows // AT_ONCE, 0, list[str]()
        for share in range(shares):
            some = files.in_parts(self.parts).filter(pl.col("hash") % shares == share)
            if some.select(pl.len() - pl.col("hash").n_unique()).collect(engine="streaming").item():
                more, repeated = shared(some.select("id"))
                rows, first = rows + more, sorted([*first, *repeated])[:3]
        return rows, first

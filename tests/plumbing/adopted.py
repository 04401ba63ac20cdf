"""A table that is adopted, and what the components then make of it, in one process."""

import json
from pathlib import Path

from batchloop.adopt import adopting
from batchloop.container import usecase
from batchloop.contract.flow import Flow
from plumbing.rendered import ROOT

USECASE = """
[usecase]
name = "case"
title = "A case"
description = "d"
namespace = "team"
[data]
task = "binary"
label = "label"
classes = ["0", "1"]
[columns]
x = { type = "number" }
[split]
method = "random"
[features]
rare = 5
[hyperparameters]
{hyperparameters}
[gate]
metric = "auc"
minimum = 0.5
[explanation]
rows = 50
"""
QUICK = {"num_iterations": 20, "early_stopping_rounds": 5, "learning_rate": 0.1, "num_leaves": 7, "min_data_in_leaf": 5}


class Adopted(Flow):
    """A repository in small that a table is adopted into, with the model's own hyperparameters."""

    def empty(self) -> "Adopted":
        chosen = usecase.load(ROOT / "usecase.toml").hyperparameters
        lines = [f"{name} = {json.dumps(QUICK.get(name, value))}" for name, value in chosen.items()]
        self.begin(USECASE.replace("{hyperparameters}", "\n".join(lines)))
        return self

    def adopt(self, data: Path, *options: str) -> int:
        """The exit code: 0 adopted, 1 refused, 2 a question."""
        folders = ["--usecase", str(self.root / "usecase.toml"), "--folder", str(self.root / "data")]
        return adopting.main(["--data", str(data), *folders, *options])

    def learn(self) -> None:
        self.train(self.root / "data" / "adopted" / "train")

"""What one would otherwise write: pandas and scikit-learn, flask, shap; each run by its own environment's interpreter.

`python bench_peers.py NAME ARGUMENT …`; evidently is run by drift_peer.py.
"""

import io
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

PARTS = ("train", "validation", "test")


def frame(source: str) -> pd.DataFrame:
    """A table by its name."""
    return pd.read_csv(source) if source.endswith(".csv") else pd.read_parquet(source)


def features(table: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Numbers and categories of bench_tables.py."""
    names = [name for name in table.columns if name[1:].isdigit()]
    return [name for name in names if name[0] == "n"], [name for name in names if name[0] == "c"]


def written(coder: Any, table: pd.DataFrame, file: Path) -> None:
    """Id, features as Float32, and the label where there is one."""
    result = coder.transform(table).astype("float32")
    result.insert(0, "id", table["id"])
    if "label" in table:
        result["label"] = table["label"]
    file.parent.mkdir(parents=True, exist_ok=True)
    result.to_parquet(file, index=False)


def prepare_train(source: str, target: str) -> None:
    """Split, learn codes of the frequent categories on the training part, write three parts."""
    from sklearn.compose import ColumnTransformer
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import OrdinalEncoder

    table = frame(source)
    numbers, categories = features(table)
    train, rest = train_test_split(table, test_size=0.3, random_state=7)
    validation, test = train_test_split(rest, test_size=0.5, random_state=7)
    codes = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, min_frequency=20, max_categories=201)
    steps = [("numbers", "passthrough", numbers), ("categories", codes, categories)]
    coder = ColumnTransformer(steps, verbose_feature_names_out=False).set_output(transform="pandas").fit(train)
    for name, part in zip(PARTS, (train, validation, test), strict=True):
        written(coder, part, Path(target, name, "part.parquet"))
    Path(target, "preprocessor.pickle").write_bytes(pickle.dumps(coder))


def prepare_serve(source: str, preprocessor: str, target: str) -> None:
    """The same on new rows."""
    coder = pickle.loads(Path(preprocessor).read_bytes())  # noqa: S301 - written by the function above
    written(coder, frame(source), Path(target, "features.parquet"))


def application() -> Any:
    """The flask application that gunicorn serves; MODEL names the folder of a model."""
    import flask
    import lightgbm as lgb

    app, folder = flask.Flask("peer"), Path(os.environ["MODEL"])
    metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    booster = lgb.Booster(model_str=(folder / "model.txt").read_text(encoding="utf-8"))

    @app.get("/ping")
    def ping() -> str:
        return ""

    @app.post("/invocations")
    def invocations() -> Any:
        body, parquet = io.BytesIO(flask.request.get_data()), flask.request.content_type != "text/csv"
        table = pd.read_parquet(body) if parquet else pd.read_csv(body)
        numbers = np.empty((len(table), len(metadata["features"])), dtype=np.float32)
        for position, feature in enumerate(metadata["features"]):
            column = table[feature["name"]]
            if feature["kind"] == "category":
                codes = pd.Categorical(column.astype(object), categories=feature["categories"]).codes
                known = np.where((codes < 0) & column.notna().to_numpy(), 0, codes).astype(np.float32)
                numbers[:, position] = np.where(column.isna().to_numpy(), np.nan, known)
            else:
                numbers[:, position] = column
        scores = booster.predict(numbers, num_threads=1)
        answer = pd.DataFrame({"id": table["id"], "prediction": np.where(scores >= 0.5, "yes", "no"), "score": scores})
        content = answer.to_parquet(index=False) if parquet else answer.to_csv(index=False)
        return flask.Response(content, mimetype=flask.request.content_type)

    return app


def contributions(model: str, table: str, rows: str, target: str) -> None:
    """shap's TreeExplainer on the first rows."""
    import lightgbm as lgb
    import shap

    booster = lgb.Booster(model_str=Path(model, "model.txt").read_text(encoding="utf-8"))
    numbers = np.load(table)[: int(rows)]
    found = shap.TreeExplainer(booster).shap_values(numbers)
    Path(target).mkdir(parents=True, exist_ok=True)
    np.save(Path(target, "contributions.npy"), found)


if __name__ == "__main__":
    known: dict[str, Any] = {function.__name__: function for function in (prepare_train, prepare_serve, contributions)}
    known[sys.argv[1]](*sys.argv[2:])

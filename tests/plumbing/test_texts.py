"""A column of free text: its words are features, reasons and what monitoring looks at."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer

from batchloop.container import measured, usecase
from batchloop.container.usecase import Column, Features
from plumbing.adopted import Adopted

COMMENT = Column("comment", "text")
GOOD, BAD = ("thanks", "great", "Love"), ("refund", "broken", "Late")
OTHERS = ("the", "and", "my", "order", "it", "été")


def texts(rows: int, seed: int, topics: tuple[str, ...] = GOOD + BAD) -> list[str | None]:
    random = np.random.default_rng(seed)
    made: list[str | None] = []
    for _ in range(rows):
        words = [*random.choice(OTHERS, 6), *random.choice(topics, 2)]
        made.append(", ".join(random.permutation(words)) + ".")
    return made


def test_terms_are_those_of_scikit_learn() -> None:
    frame = pl.DataFrame({"comment": texts(300, 1)})
    learned = measured.terms(frame.lazy(), COMMENT, Features(rare=2, terms=4))
    names = [feature["term"] for feature in learned]
    assert set(names) < {word.lower() for word in GOOD + BAD}  # all others stand in more than half of the texts
    reference = TfidfVectorizer(vocabulary=names, norm=None, token_pattern=r"\w{2,}")
    wanted = reference.fit_transform(frame["comment"].to_list()).toarray()
    found = frame.select(measured.tf_idf(feature) for feature in learned).to_numpy()
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


def test_a_row_without_a_text_has_no_value_and_one_of_new_words_none_of_the_terms() -> None:
    learned = measured.terms(pl.LazyFrame({"comment": texts(300, 1)}), COMMENT, Features(rare=2))
    made = pl.DataFrame({"comment": [None, "", "REFUND! refunded", "a b c"]}, schema={"comment": pl.String})
    found = made.select(measured.tf_idf(feature) for feature in learned if feature["term"] == "refund").to_series()
    assert found[0] is None
    assert found[1] == found[3] == 0
    assert found[2] == pytest.approx(next(feature["idf"] for feature in learned if feature["term"] == "refund"))


def test_what_is_measured_of_a_text_has_an_answer_for_every_text() -> None:
    frame = pl.DataFrame({"comment": [None, "", "!", "One", "one two, three"]}, schema={"comment": pl.String})
    found = measured.measured(frame, [COMMENT])
    assert found.columns == list(measured.kinds([COMMENT]))
    assert found["comment: characters"].to_list() == [None, 0, 1, 3, 14]
    assert found["comment: words"].to_list() == [None, 0, 0, 1, 3]
    assert found["comment: a word"].to_list() == [None, None, None, "one", "three"]
    assert usecase.Column("comment", "text") == COMMENT


def table(rows: int, seed: int, topics: tuple[str, ...] = GOOD + BAD) -> pl.DataFrame:
    comments = texts(rows, seed, topics)
    unhappy = ["yes" if any(word in (comment or "") for word in BAD) else "no" for comment in comments]
    numbers = np.random.default_rng(seed).normal(size=rows)
    return pl.DataFrame({"id": range(rows), "amount": numbers, "comment": comments, "left": unhappy})


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_text_is_adopted_learned_scored_explained_and_monitored(tmp_path: Path, ending: str) -> None:
    flow = Adopted(tmp_path / "case").empty()

    def written(frame: pl.DataFrame, name: str) -> Path:
        file = tmp_path / f"{name}.{ending}"
        frame.write_csv(file) if ending == "csv" else frame.write_parquet(file)
        return file

    assert flow.adopt(written(table(1500, 1), "table"), "--label", "left", "--id", "id") == 0
    assert usecase.load(flow.root / "usecase.toml").columns[1] == COMMENT
    flow.learn()
    new = table(400, 2)
    usual = flow.score(written(new.drop("left"), "usual"))
    assert np.mean(usual.predictions["prediction"].to_numpy() == new["left"].to_numpy()) > 0.95
    assert usual.report["verdict"] == "no drift"
    others = flow.score(written(table(400, 3, (*GOOD, "invoice", "price")).drop("left"), "others"))
    assert "comment: a word" in others.report["drifted"]
    column = next(column for column in others.report["columns"] if column["name"] == "comment: a word")
    assert column["importance"] > 0.5

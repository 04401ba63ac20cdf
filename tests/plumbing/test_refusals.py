"""What no command can use: each says so in a sentence, none shows a traceback, and only VERBOSE does."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from batchloop import cli, updating
from batchloop.__main__ import main
from batchloop.container.job import InputError
from batchloop.repository import Repository
from plumbing.rendered import ROOT

TABLE = "adopt --data {folder}/table.csv --label left --usecase {folder}/usecase.toml --folder {folder}"
WORDS = [
    "train --data nope",
    "train --set x",
    "train --on moon",
    "train --env mars",
    "train --data s3://a/b",
    "train --data Makefile/",
    "score --data {folder}/none",
    "label --data usecase.toml",
    "label --window ..",
    "models --use abc",
    "models --use 99",
    "compile --env ../x",
    "templates --env q",
    "cost --minutes a=b",
    "cost --runs nan",
    "size --rows -4",
    "size --data locks",
    "simulate --stages locks",
    "bootstrap plan --env x",
    "bootstrap maybe",
    "upload --data x --window y",
    "upload --window y",
    "run --pipeline z",
    "release --model x",
    "promote --from dev --to dev",
    "rollback --to -1.5",
    "teardown --name x",
    "trian",
    "adopt",
    "adopt --data Makefile --label x",
    "adopt --data locks --label x",
    *(
        f"{TABLE} {option}"
        for option in (
            "--types x",
            "--types 'age=date(%Q)'",
            "--types 'age=number(abc)'",
            "--encoding zzz",
            "--time-zone Mars",
            "--time age",
            "--dates xx",
            "--separator abc",
            "--separator é",
            "--separator '\"'",
            "--decimal x",
            "--thousands xx",
            "--header maybe",
            "--task none",
            "--id left",
            "--group x",
            "--label lft",
        )
    ),
]


@pytest.mark.parametrize("words", WORDS)
def test_what_can_not_be_used_is_refused_in_a_sentence(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{n},{20 + n % 50},{n % 2}\n" for n in range(300))
    (tmp_path / "table.csv").write_text(f"id,age,left\n{rows}", encoding="utf-8")
    (tmp_path / "usecase.toml").write_bytes((ROOT / "usecase.toml").read_bytes())
    monkeypatch.chdir(ROOT)
    try:
        code = main(shlex.split(words.replace("{folder}", str(tmp_path))))
    except SystemExit as ended:  # argparse's own way, in `adopt`
        code = int(ended.code or 0)
    said = capsys.readouterr()
    assert code in (1, 2)
    assert said.err.strip()
    assert "Traceback" not in said.err
    assert "unexpected" not in said.err


def test_the_doctor_looks_at_every_file_of_settings(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "environments", tmp_path / "environments")
    shutil.copy(ROOT / "usecase.toml", tmp_path)
    said = "usecase.toml and environments/ are in order"
    assert [*updating._settings(Repository(tmp_path))] == [("ok", "settings", said)]
    (tmp_path / "environments" / "prod.toml").write_text("account = 5", encoding="utf-8")
    [(mark, _, said)] = updating._settings(Repository(tmp_path))
    assert (mark, said) == ("mend", "environments/prod.toml, line 1: account = 5 is not twelve digits in quotes.")


@pytest.mark.parametrize("wanted", ["-x", "nowhere", "README.md", "9.9.9", "--pathspec-from-file=x"])
def test_a_version_that_the_template_has_not_is_named(wanted: str, tmp_path: Path) -> None:
    template, root = tmp_path / "template", tmp_path / "repository"
    for words in (["init", "--quiet", "template"], ["-C", "template", "commit", "--quiet", "--allow-empty", "-m", "x"]):
        git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", *words]
        subprocess.run(git, cwd=tmp_path, check=True)
    root.mkdir()
    about = {"template": str(template), "version": "0.1.0", "commit": "", "batchloop": ""}
    (root / ".template.json").write_text(json.dumps(about), encoding="utf-8")
    with pytest.raises(InputError) as raised:
        updating.update(Repository(root), wanted)
    said = f"{template} has no version, branch or commit {wanted!r}, and no folder here is called so."
    assert str(raised.value) == said
    with pytest.raises(InputError, match="can't update a repository yet"):
        updating.update(Repository(root), "HEAD")


def test_a_mistake_of_the_code_is_a_sentence_and_a_traceback_where_one_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(cli, "parser", broken)
    assert main(["train"]) == 1
    said = "ZeroDivisionError: division by zero (unexpected; VERBOSE=yes says where in the code)\n"
    assert capsys.readouterr().err == said
    assert main(["--verbose", "train"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("Traceback")
    assert told.endswith(said)

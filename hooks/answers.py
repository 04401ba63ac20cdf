"""Refuse answers that would make a broken repository or illegal AWS names, and say what would be right.

cookiecutter.json names `Answers` as an extension of Jinja, whose filter sees all answers once the last is given. It is
no hook: cookiecutter writes a traceback below what a hook says that fails, and starts a process for each.
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment
from jinja2.ext import Extension

LONGEST_SLUG = 32
LEGAL = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
DEVICES = {"con", "prn", "aux", "nul"} | {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)}
TEXTS = {"project_name": 80, "description": 200}  # and how long they may be
NAMES = ("project_slug", "namespace")
ROOT = Path(__file__).resolve().parents[1]
BRACES = ("{" + "{", "{" + "%", "{" + "#")


def suggestion(text: str) -> str:
    """The nearest legal name, or an example where nothing is left of the text."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    name = re.sub(r"^[0-9-]+", "", "-".join(words))[:LONGEST_SLUG].strip("-")
    return name if len(name) > 1 else "customer-churn"


def text_problems(key: str, text: str, longest: int) -> list[str]:
    """What is wrong with an answer that people read."""
    if not text.strip():
        return [f"{key} is empty; say it in a few words."]
    if any(ord(character) < 32 or 127 <= ord(character) < 160 or character in "\u2028\u2029" for character in text):
        return [f"{key} holds a line break or control character: {text!r}; write it on one line."]
    if any(brace in text for brace in BRACES):
        return [f"{key} holds template braces: {text!r}; leave them out."]
    return [f"{key} has {len(text)} characters; at most {longest} fit."] if len(text) > longest else []


def name_problems(key: str, text: str) -> list[str]:
    """What is wrong with an answer that becomes part of AWS names and paths."""
    if not LEGAL.fullmatch(text) or len(text) < 2:
        return [
            f"{key} {text!r} can't name AWS resources: two or more lower case letters and digits, words joined by "
            f"single hyphens, a letter first; for example {suggestion(text)!r}."
        ]
    if text in DEVICES:
        return [f"{key} {text!r} can't be a folder's name on Windows; take another word."]
    return (
        [f"{key} {text!r} has {len(text)} characters; at most {LONGEST_SLUG} fit."] if len(text) > LONGEST_SLUG else []
    )


def problems(answers: Mapping[str, str]) -> list[str]:
    """Everything that is wrong, so that one more try is enough."""
    found = [problem for key, longest in TEXTS.items() for problem in text_problems(key, answers[key], longest)]
    found += [problem for key in NAMES for problem in name_problems(key, answers[key])]
    namespace, slug, region = answers["namespace"], answers["project_slug"], answers["aws_region"]
    if namespace.startswith(("aws", "ssm", "sthree", "amzn")):
        found.append(f"namespace {namespace!r}: AWS keeps names that begin with aws, ssm, amzn or sthree for itself.")
    if sys.version_info < (3, 11):  # noqa: UP036 - it runs under whatever Python cookiecutter has
        return [*found, "the template needs Python 3.11 or newer; install cookiecutter under one."]
    places, environments = rendered()
    if region not in places["regions"]:
        supported = ", ".join(places["regions"])
        return [*found, f"aws_region {region!r} is none that is supported; those are {supported}."]
    code, staging = places["regions"][region]["code"], max(environments, key=len)
    if (longest := places["longest"] - len(f"-{staging}") - len(code)) < len(f"{namespace}-{slug}"):
        found.append(
            f"{f'{namespace}-{slug}'!r} has {len(namespace) + len(slug) + 1} characters; AWS names leave {longest} in "
            f"{region}, beside {staging!r}. Shorten the namespace or the slug."
        )
    return found


def rendered() -> tuple[dict[str, Any], list[str]]:
    """What the rendered repository knows of regions and names, and the environments that it comes with."""
    import tomllib  # noqa: PLC0415 - Python 3.11

    [template] = ROOT.glob("*cookiecutter.project_slug*")
    places = tomllib.loads((template / "batchloop" / "regions.toml").read_text(encoding="utf-8"))
    return places, [file.stem for file in (template / "environments").glob("*.toml")]


def checked(answers: Mapping[str, str]) -> str:
    """ "yes"; or print what is wrong, a line each, and end."""
    found = problems(answers)
    for problem in found:
        print(f"- {problem}", file=sys.stderr)
    if found:
        sys.exit(1)
    return "yes"


def git(*words: str) -> str:
    """What git says of the folder that this template lies in; nothing where there is none."""
    try:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def public(place: str) -> str:
    """A repository's address without the name and the password or token that may stand before its host."""
    return re.sub(r"^(https?://)[^/]*@", r"\1", place)


def source(settings: Mapping[str, Any]) -> str:
    """Where this template lies and comes from, its version and, of a git repository, its commit: JSON for the record.

    It is asked here and not in the hook: this file lies in the template, whatever renders it and from where.
    """
    repository = git("rev-parse", "--show-toplevel")
    found = {"root": str(ROOT), "template": str(ROOT), "version": settings["_version"], "commit": ""}
    if repository and Path(repository).resolve() == ROOT:
        found |= {
            "commit": git("rev-parse", "HEAD"),
            "template": public(git("remote", "get-url", "origin")) or str(ROOT),
        }
    return json.dumps(found)


class Answers(Extension):
    """The filters `checked` and `source`."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.filters["checked"] = checked
        environment.filters["source"] = source

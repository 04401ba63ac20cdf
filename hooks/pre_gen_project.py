"""Refuse answers that would make a broken repository or illegal AWS names, and say what would be right."""

import json
import re
import sys

ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")

# Names built from namespace and slug must fit S3 buckets (63 characters), model package groups (63) and IAM roles (64):
# "<namespace>-<slug>" and the longest suffix, "-staging-000000000000", leave 41.
LONGEST_PAIR = 41
LONGEST_SLUG = 32
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
REGION = re.compile(r"[a-z]{2,4}(-[a-z]+)+-[0-9]{1,2}")
DEVICES = {"con", "prn", "aux", "nul"} | {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)}
BRACES = ("{" + "{", "{" + "%", "{" + "#")


def suggestion(text: str) -> str:
    """The nearest legal name, or an example where nothing is left of the text."""
    words = re.findall(r"[a-z0-9]+", text.lower())
    name = re.sub(r"^[0-9-]+", "", "-".join(words))[:LONGEST_SLUG].strip("-")
    return name if len(name) > 1 else "customer-churn"


def text_problems(key: str, longest: int) -> list[str]:
    """What is wrong with an answer that people read."""
    text = ANSWERS[key]
    if not text.strip():
        return [f"{key} is empty; say it in a few words."]
    if any(ord(character) < 32 or 127 <= ord(character) < 160 or character in "\u2028\u2029" for character in text):
        return [f"{key} holds a line break or control character: {text!r}; write it on one line."]
    if any(brace in text for brace in BRACES):
        return [f"{key} holds template braces: {text!r}; leave them out."]
    return [f"{key} has {len(text)} characters; at most {longest} fit."] if len(text) > longest else []


def name_problems(key: str) -> list[str]:
    """What is wrong with an answer that becomes part of AWS names and paths."""
    text = ANSWERS[key]
    if not NAME.fullmatch(text) or len(text) < 2:
        return [
            f"{key} {text!r} can't name AWS resources: two or more lower case letters and digits, words joined by "
            f"single hyphens, a letter first; for example {suggestion(text)!r}."
        ]
    if text in DEVICES:
        return [f"{key} {text!r} can't be a folder's name on Windows; take another word."]
    return (
        [f"{key} {text!r} has {len(text)} characters; at most {LONGEST_SLUG} fit."] if len(text) > LONGEST_SLUG else []
    )


def problems() -> list[str]:
    """Everything that is wrong, so that one more try is enough."""
    found = text_problems("project_name", 80) + text_problems("description", 200)
    found += name_problems("project_slug") + name_problems("namespace")
    namespace, slug = ANSWERS["namespace"], ANSWERS["project_slug"]
    if namespace.startswith(("aws", "ssm", "sthree", "amzn")):
        found.append(f"namespace {namespace!r}: AWS keeps names that begin with aws, ssm, amzn or sthree for itself.")
    if len(f"{namespace}-{slug}") > LONGEST_PAIR:
        found.append(
            f"'{namespace}-{slug}' has {len(namespace) + len(slug) + 1} characters; AWS names leave {LONGEST_PAIR}. "
            "Shorten the namespace or the slug."
        )
    if not REGION.fullmatch(ANSWERS["aws_region"]):
        found.append(f"aws_region {ANSWERS['aws_region']!r} is not a region; for example 'eu-central-1'.")
    return found


def main() -> int:
    """Print what is wrong; the exit code tells cookiecutter whether to go on."""
    if sys.version_info < (3, 11):  # noqa: UP036 - it runs under whatever Python cookiecutter has
        print("The template needs Python 3.11 or newer; install cookiecutter under one.", file=sys.stderr)
        return 1
    found = problems()
    for problem in found:
        print(f"- {problem}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

"""Lay the chosen domain over the table's, start a git repository, plan or create what the use case needs in AWS.

Never fails: the rendered repository stays.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ANSWERS = json.loads(sys.argv[1] if sys.argv[1:] else r"""{{ cookiecutter | tojson }}""")
COMMANDS = {"plan": "make bootstrap", "create": "make bootstrap CREATE=yes ENV=dev"}


def lay_over(domain: str) -> None:
    """Put the chosen domain's files in the place of the table's, which stand there already, and take all others away.

    `groups.toml` of a domain holds lines of [dependency-groups], which replace those of the same name, or stand beside
    the images' groups.
    """
    chosen, project = Path("domains") / domain, Path("pyproject.toml")
    for file in sorted(path for path in chosen.rglob("*") if path.is_file() and path.name != "groups.toml"):
        target = file.relative_to(chosen)
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
    if (groups := chosen / "groups.toml").is_file():
        lines = {line.partition(" = ")[0]: line for line in groups.read_text(encoding="utf-8").splitlines() if line}
        text = project.read_text(encoding="utf-8").splitlines()
        text = [lines.pop(line.partition(" = [")[0], line) for line in text]
        place = text.index("components = [")
        text[place:place] = lines.values()
        project.write_text("\n".join([*text, ""]), encoding="utf-8")
    shutil.rmtree("domains", ignore_errors=True)


def temporary() -> bool:
    """Whether this folder lies below the system's temporary one, where nothing is meant to stay."""
    return Path(tempfile.gettempdir()).resolve() in Path.cwd().resolve().parents


def compared() -> bool:
    """Whether cruft renders this only to compare, in `update` and `diff`, with the answers given back then.

    It renders into a temporary folder and, unlike cookiecutter's own command, without an answer `_output_dir`
    (cruft 2.16, _commands/utils/generate.py). A .git folder would show up as a difference.
    """
    return "_compared" in ANSWERS or (temporary() and "_output_dir" not in ANSWERS)


def git(*words: str) -> bool:
    """Whether a git command in the rendered folder succeeds, quietly."""
    return subprocess.run(["git", *words], capture_output=True, check=False).returncode == 0


def start_repository() -> None:
    """`git init` and a first commit, unless the folder already lies in a repository.

    Who has told git no name commits under one that stands for nobody; later commits ask for it as ever. The commit runs
    no hooks and signs nothing: nobody is asked for a password while a template renders.
    """
    if shutil.which("git") is None:
        print("git is not installed; run `git init` here once it is.", flush=True)
        return
    if git("rev-parse", "--is-inside-work-tree") or not git("init", "--quiet", "--initial-branch=main") or temporary():
        return
    known = git("-c", "user.useConfigOnly=true", "var", "GIT_COMMITTER_IDENT")
    neutral = [] if known else ["-c", "user.name=template", "-c", "user.email=nobody@localhost"]
    quietly = ["-c", "core.hooksPath=/dev/null", "-c", "commit.gpgSign=false"]
    about = f"Rendered from the template {json.loads(ANSWERS['__source'])['version']}"
    if not (git("add", "--all") and git(*neutral, *quietly, "commit", "--quiet", "--message", about)):
        print("The first commit failed; make it yourself: git add --all && git commit", flush=True)


def aws_resources(choice: str) -> None:
    """Plan or create by the rendered repo's own code, as `record` imports it; what goes wrong is said and survived."""
    if choice == "create" and temporary():
        print(f"Nothing is created in AWS from a temporary folder; where the repository stays: {COMMANDS[choice]}")
        return
    try:
        from batchloop import __main__ as program  # noqa: PLC0415 - as in `record`

        failed = program.main(["bootstrap", choice]) != 0
    except (KeyboardInterrupt, Exception):  # an exception here takes the rendered folder away
        failed = True
    if failed:
        again = f"cd {Path.cwd().name} && {COMMANDS[choice]}"
        print(f"The repository is complete; the AWS side is not. Once that is mended: {again}", flush=True)


def record() -> None:
    """Write what an update needs: the template, its version and the answers; and what the plumbing hashes to there.

    It is the same whatever renders, and where copier updates there still lies what the older version had.
    """
    sys.path.insert(0, str(Path.cwd()))
    sys.dont_write_bytecode = True
    from batchloop import repository  # noqa: PLC0415 - of the folder that was rendered

    about = json.loads(ANSWERS["__source"])
    [template] = Path(about.pop("root")).glob("*cookiecutter.project_slug*")
    plumbing = repository.of(repository.files(template, [template / "batchloop"]))
    answers = {key: value for key, value in ANSWERS.items() if not key.startswith("_") and key != "aws_resources"}
    about |= {"answers": answers, "batchloop": plumbing}
    text = json.dumps(about, indent=2, ensure_ascii=False, sort_keys=True)
    Path(".template.json").write_text(f"{text}\n", encoding="utf-8")


def main() -> None:
    """Everything after rendering."""
    record()
    for cache in () if "_compared" in ANSWERS else (*Path.cwd().rglob("__pycache__"), *Path.cwd().rglob(".*_cache")):
        shutil.rmtree(cache)  # of tools that ran in the template's own folder
    lay_over(ANSWERS["domain"])
    if compared():
        return
    start_repository()
    if ANSWERS["aws_resources"] != "skip":
        aws_resources(ANSWERS["aws_resources"])
    print(f"\n{Path.cwd().name} is ready. Next: cd {Path.cwd().name} && make train && make score")


if __name__ == "__main__":
    main()

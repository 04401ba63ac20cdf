"""Start a git repository, and say what the use case needs in AWS. Never fails: the rendered repository stays."""

import json
import shutil
import subprocess
import sys

ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")


def start_repository() -> None:
    """`git init`, unless the folder already lies in a repository."""
    if shutil.which("git") is None:
        print("git is not installed; run `git init` here once it is.")
        return
    inside = subprocess.run(["git", "rev-parse", "--is-inside-work-tree"], capture_output=True, check=False)
    if inside.returncode != 0:
        subprocess.run(["git", "init", "--quiet", "--initial-branch=main"], check=False)


def aws_resources(choice: str) -> None:
    """Plan or create by the rendered repo's own code; whatever goes wrong there is said and survived."""
    command = [sys.executable, "-B", "-m", "operations", "bootstrap", choice]
    done = subprocess.run(command, check=False)
    if done.returncode != 0:
        print(
            f"The repository is complete; the AWS side is not. To finish: make bootstrap (in {ANSWERS['project_slug']})"
        )


def main() -> None:
    """Everything after rendering."""
    start_repository()
    if ANSWERS["aws_resources"] != "skip":
        aws_resources(ANSWERS["aws_resources"])
    print(f"\n{ANSWERS['project_slug']} is ready. Next: cd {ANSWERS['project_slug']} && make train && make score")


if __name__ == "__main__":
    main()

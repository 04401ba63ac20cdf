"""What copier runs once it has copied the template (copier.yml): the same checks, record and hook as in cookiecutter.

The first word holds the answers as JSON, the second what the file of copier's own answers gets, the third its name.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from hooks.answers import checked, source  # noqa: E402 - copier starts this file as a script


def main() -> int:
    """The exit code: copier takes the new folder away again where it is not 0."""
    answers = json.loads(sys.argv[1])
    checked(answers)
    Path(sys.argv[3]).write_text(sys.argv[2], encoding="utf-8")
    settings = json.loads((ROOT / "cookiecutter.json").read_text(encoding="utf-8"))
    given = json.dumps(answers | {"__source": source(settings)})
    return subprocess.run([sys.executable, "-B", ROOT / "hooks" / "post_gen_project.py", given], check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())

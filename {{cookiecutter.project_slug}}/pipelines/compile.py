"""`python -m pipelines.compile --env dev --output folder`: both definitions as JSON, offline, always the same bytes."""

import argparse
import json
import sys
from pathlib import Path

from pipelines import environment, session
from runtime import usecase
from runtime.failures import InputError

ROOT = Path(__file__).resolve().parents[1]


def compile_all(root: Path, name: str, output: Path) -> list[Path]:
    """Write training.json and inference.json. Raises InputError for wrong settings."""
    case = usecase.load(root / "usecase.toml")
    where = environment.load(root / "environments", name, case)
    offline = session.offline(where.region, where.bucket)
    from pipelines import inference, training  # noqa: PLC0415 - the SDK takes seconds to import, and needs the session

    output.mkdir(parents=True, exist_ok=True)
    written = []
    for pipeline, build in (("training", training.pipeline), ("inference", inference.pipeline)):
        definition = json.loads(build(case, where, offline).definition())
        file = output / f"{pipeline}.json"
        file.write_text(json.dumps(definition, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        written.append(file)
    return written


def main() -> int:
    """The command line; the exit code says whether both definitions were written."""
    parser = argparse.ArgumentParser(prog="python -m pipelines.compile")
    parser.add_argument("--env", default="dev")
    parser.add_argument("--root", type=Path, default=ROOT)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    try:
        for file in compile_all(options.root, options.env, options.output):
            print(file)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

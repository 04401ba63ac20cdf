"""`operations bootstrap plan|create`: what this use case needs in AWS, from usecase.toml.

Standard library only: the template's hook runs this before any environment is installed.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path

COMPONENTS = ("processing", "algorithm", "monitoring", "explainability")
NOT_YET = "not yet: creating AWS resources comes with a later version; nothing was created"


def plan(usecase: Mapping[str, str], environment: str) -> dict[str, list[str]]:
    """Resource type → names. Image repositories are shared by all environments, parameters belong to one."""
    pair = f"{usecase['namespace']}/{usecase['name']}"
    prefix = f"/{pair}/{environment}"
    components = [f"{prefix}/components/{name}/{kind}" for name in COMPONENTS for kind in ("image", "artifact")]
    return {
        "ECR repositories": [f"{pair}/{name}" for name in COMPONENTS],
        "SSM parameters": [*components, f"{prefix}/release", f"{prefix}/retraining"],
    }


def run(root: Path, choice: str, environment: str) -> int:
    """Print the plan; `create` says that it can't yet. Touches nothing."""
    usecase = tomllib.loads((root / "usecase.toml").read_text(encoding="utf-8"))["usecase"]
    print(f"{usecase['name']} needs in AWS ({environment}):")
    for kind, names in plan(usecase, environment).items():
        print(f"  {len(names)} {kind}")
        for name in names:
            print(f"    {name}")
    print(NOT_YET if choice == "create" else "nothing was created: this is the plan")
    return 0

"""A release in words: what it is, who made it, and how it differs from the one before."""

from collections.abc import Iterator, Mapping
from typing import Any

from functions.release import Manifest, learned_from

SHORT = 7  # digits of a commit that a person reads
NOTHING = "nothing"


def lines(environment: str, before: Manifest | None, after: Manifest) -> Iterator[str]:
    """The release in a line, then one line for each thing that changed."""
    yield f"release {after['version']} of {environment}: {after['reason']} (by {person(after['by'])})"
    old, new = (_told(before) if before else {}), _told(after)
    for name, value in new.items():
        if old.get(name, NOTHING) != value:
            yield f"  {name:<14} {old.get(name, NOTHING)} → {value}"
    if before:
        for kind in ("images", "artifacts"):
            if changed := [name for name, place in after[kind].items() if before[kind].get(name) != place]:
                yield f"  {kind:<14} {', '.join(changed)}"


def _told(manifest: Manifest) -> dict[str, str]:
    return {
        "release": str(manifest["version"]),
        "model": model(manifest),
        "quality": ", ".join(measured(manifest["metrics"], "")[:1]) or "not known",
        "training data": learned_from(manifest) or "not known",
        "commit": commit(manifest),
        "contract": manifest["contract"] or "not known",
    }


def model(manifest: Mapping[str, Any]) -> str:
    """A model package as its group and version."""
    return str(manifest["model_package"]).partition(":model-package/")[2] or str(manifest["model_package"])


def commit(manifest: Mapping[str, Any]) -> str:
    """The first digits of the commit; a tree with changes stays marked."""
    name, dash, rest = str(manifest["git_commit"]).partition("-")
    return f"{name[:SHORT] if len(name) == 40 else name}{dash}{rest}" or "not known"


def person(arn: str) -> str:
    """Whom an ARN names, as a person would say it: role and session, or the user."""
    return arn.rpartition(":")[2].removeprefix("assumed-role/").removeprefix("user/")


def measured(metrics: Mapping[str, float], preferred: str) -> list[str]:
    """Test metrics, the one that the gate judged first: its value is `gate:value`, and of equals it is `preferred`."""
    test = {name.removeprefix("test:"): value for name, value in metrics.items() if name.startswith("test:")}
    gate = metrics.get("gate:value")
    names = sorted(test, key=lambda name: (test[name] != gate, name != preferred))
    doubt = " (validation repeats training: not to be trusted on new rows)" if metrics.get("gate:trusted") == 0 else ""
    return [f"{name} {test[name]:.4g}{'' if place else doubt}" for place, name in enumerate(names)]

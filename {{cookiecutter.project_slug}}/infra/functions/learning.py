"""What a training is started with: the rows it learns from, the images that run, and the champion it has to beat."""

import json
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from hashlib import sha256

from functions import parameters, release, storage, wording
from functions.clients import Aws
from functions.memory import NOTHING, before
from functions.places import COMPONENTS, Places
from functions.release import NotReleased

CHAMPION = {"ChampionPreprocessor": "preprocessor", "ChampionModel": "model"}


@dataclass(frozen=True)
class Learning:
    """The training pipeline's parameters, and the version of the release that the new model follows, or 0.

    `champion` says what it is compared with, `besides` which windows it learns from besides its own, "" for none;
    `unusual`: whether there is a release that it is not compared with.
    """

    values: dict[str, str]
    version: int
    champion: str
    besides: str
    unusual: bool

    @property
    def remarks(self) -> str:
        """What of it a person who knows the window does not expect; sentences, or ""."""
        besides = f"It also learns from {self.besides}." if self.besides else ""
        return " ".join(part for part in (besides, f"{self.champion}." if self.unusual else "") if part)


def plan(aws: Aws, places: Places, window: str, fresh: bool = False) -> Learning:
    """For a window; `fresh`: without a champion, also where the release is damaged, which raises NotReleased else."""
    released = None
    with suppress(NotReleased) if fresh else nullcontext():
        _, released = release.current(aws, places)
    champion = {name: released["artifacts"][artifact] for name, artifact in CHAMPION.items()} if released else {}
    gone = [CHAMPION[name] for name, uri in champion.items() if not storage.exists(aws, uri)]
    version = released["version"] if released else 0
    if fresh or gone:
        champion = dict.fromkeys(CHAMPION, f"{places.storage}/none")
    pushed = {name: parameters.read(aws.ssm, places.parameter(f"components/{name}/image")).text for name in COMPONENTS}
    images = (released["images"] if released else {}) | {name: at for name, at in pushed.items() if at != NOTHING}
    earlier = earlier_windows(aws, places, window)
    values = {
        "TrainingData": places.data(window, "train"),
        **({"EarlierData": _listed(aws, places, window, earlier)} if earlier else {}),
        **({"ValidationData": places.data(window, "validation")} if places.given_validation else {}),
        "ArtifactsPrefix": places.runs("training"),
        **(champion or dict.fromkeys(CHAMPION, f"{places.storage}/none")),
        **{f"{name.capitalize()}Image": image for name, image in images.items()},
    }
    return Learning(values, version, _compared(version, gone, fresh), wording.besides(list(earlier)), bool(gone))


def _compared(version: int, gone: list[str], fresh: bool) -> str:
    if fresh:
        return "No champion was asked for: [gate] minimum alone decides"
    if gone:
        lost = " and ".join(gone)
        return f"Release {version} is not compared, because its {lost} is gone from S3: [gate] minimum alone decides"
    return f"Release {version} is the champion" if version else "There is no champion yet"


def earlier_windows(aws: Aws, places: Places, window: str) -> dict[str, dict[str, str]]:
    """The windows before this one that [retraining] learn asks for, old to new, each with its labelled files.

    A window without labels counts for nothing.
    """
    found: dict[str, dict[str, str]] = {}
    for name in before(storage.windows(aws, places), window) if places.settings.earlier else []:
        if len(found) < places.settings.earlier and (files := storage.files(aws, places.data(name, "train"))):
            found[name] = files
    return dict(reversed(found.items()))


def _listed(aws: Aws, places: Places, window: str, earlier: dict[str, dict[str, str]]) -> str:
    """The URI of a manifest of these files, which is how a processing job takes several folders as one input.

    "S3DataSource" in the SageMaker API reference: a prefix, then keys relative to it. It is called after the files
    and what is in them, so that the pipeline's cache, which compares requests, takes other ones for another input.
    """
    prefix = f"{places.storage}/data/"
    (bucket, folder), files = (
        storage.split(prefix),
        {key: tag for keys in earlier.values() for key, tag in keys.items()},
    )
    name = sha256(json.dumps(files).encode()).hexdigest()[:16]
    uri = f"{places.runs('training')}/earlier/{window}-{name}.manifest"
    text = json.dumps([{"prefix": prefix}, *(key.removeprefix(folder) for key in files)], indent=1)
    aws.s3.put_object(Bucket=bucket, Key=storage.split(uri)[1], Body=text.encode())
    return uri

"""A release in an environment's account (`make audit FROM=`); what lies in S3 is brought here when it is read."""

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from batchloop import repository as batchloop_repository
from batchloop.audit.subject import Subject, decided
from batchloop.cloud import release
from batchloop.cloud.session import Session, opened
from batchloop.container.job import InputError
from batchloop.container.usecase import UseCase
from batchloop.control import release as control
from batchloop.control import retraining
from batchloop.control import storage as control_storage
from batchloop.control.names import LATEST
from batchloop.engine.storage import Storage
from batchloop.repository import Repository

GONE = ("ResourceNotFound", "ValidationException", "ImageNotFoundException", "RepositoryNotFoundException")


class Fetched(Storage):
    """Files by URI, fetched before they are read."""

    def __init__(self, root: Path, session: Session) -> None:
        super().__init__(root)
        self.session, self.fetched = session, set[str]()

    def path(self, uri: str) -> Path:
        if uri not in self.fetched:
            bucket = control_storage.split(uri)[0]
            with self.session.asking(f"reading {uri}"):
                for key in control_storage.objects(self.session.aws, uri):
                    place = super().path(f"s3://{bucket}/{key}")
                    place.parent.mkdir(parents=True, exist_ok=True)
                    self.session.aws.s3.download_file(bucket, key, str(place))
            self.fetched.add(uri)
        return super().path(uri)


class Released(Subject):
    """Raw data stays where it is: S3 tells names, sizes and ETags."""

    def raw(self, case: UseCase, name: str, uri: str) -> list[dict[str, Any]]:
        stored, uris = self.stored, [uri]
        assert isinstance(stored, Fetched)
        if name == "EarlierData":
            first, *keys = stored.read_json(uri)
            uris = [f"{first['prefix']}{key}" for key in keys]
        with stored.session.asking("reading the raw data"):
            tags = [item for one in uris for item in control_storage.files(stored.session.aws, one).items()]
        parted = ((key, *tag.split()) for key, tag in tags)
        return [{"name": key, "bytes": int(size), "etag": etag} for key, size, etag in parted]

    def fingerprint(self, parts: Iterable[list[dict[str, Any]]]) -> str:
        every = (file for files in parts for file in files)
        return control_storage.fingerprint({file["name"]: f"{file['bytes']} {file['etag']}" for file in every})


def there(repository: Repository, number: int | None, folder: Path) -> Subject:
    """A release of the environment. Raises InputError where there is none, or it can't be read."""
    session, name = opened(repository), repository.environment
    known = release.history(session)
    manifest = next((one for one in known if number in (None, one["version"])), None)
    if manifest is None:
        which = "" if number is None else f" {number}"
        raise InputError(f"{name} has no release{which}; `make releases ENV={name}` lists them.")
    group, version = manifest["model_package"].split(":model-package/")[-1].split("/")
    if group != session.places.prefix:  # what it was trained on lies in another environment, often of another account
        source = group.rpartition("-")[2]
        raise InputError(
            f"release {manifest['version']} of {name} was brought there ({manifest['reason']}): model {version} of "
            f"{group} is audited where it was trained; `make releases ENV={source}` lists the releases for `make "
            f"audit FROM={source}`."
        )
    package = session.call("sagemaker", "describe_model_package", ModelPackageName=manifest["model_package"])
    group, stored = {"ModelPackageGroupName": package["ModelPackageGroupName"]}, Fetched(folder, session)
    # …/training/<execution>/TrainModel/output/<job>/output/model.tar.gz
    model, training = package["CustomerMetadataProperties"]["model"], session.places.pipeline("training")
    execution, begin = re.split("/training/|/TrainModel/", f"{model}/training/")[1], package["ModelPackageArn"]
    arn = f"{begin.partition(':model-package/')[0]}:pipeline/{training}/execution/{execution}"
    inference = {"PipelineName": session.places.pipeline("inference"), **control.version(manifest)}
    of_run, key = "describe_pipeline_definition_for_execution", "PipelineDefinition"
    texts = {
        "training": session.find("sagemaker", of_run, GONE, key, PipelineExecutionArn=arn),
        "inference": session.find("sagemaker", "describe_pipeline", GONE, key, **inference),
    }
    definitions = {name: json.loads(text) for name, text in texts.items() if text}
    with session.asking("reading the training run"):
        given = retraining.parameters(session.aws, arn) if "training" in definitions else {}
    trained, scored = {"execution": arn, "parameters": given} if given else {}, _scored(session, manifest)
    decisions = {
        "releases": known,
        "packages": list(session.pages("sagemaker", "list_model_packages", "ModelPackageSummaryList", **group)),
        "retraining": control_storage.read(session.aws.ssm, session.places.parameter("retraining")).text,
        "scorings": [decided(stored, scored)] if scored else [],
    }
    images = {component: _tagged(session, image) for component, image in manifest["images"].items()}
    definition = batchloop_repository.of(definitions.get("inference"))
    return Released(
        {**manifest, "digests": manifest["images"], "images": images, "definition": definition},
        json.loads(json.dumps(package, default=str)),
        definitions,
        json.loads(json.dumps(decisions, default=str)),
        stored,
        trained,
        scored,
    )


def _scored(session: Session, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The record of the last scoring, where this release has made it; {} else."""
    with session.asking("reading the last scoring"), suppress(ValueError):
        latest = json.loads(control_storage.read(session.aws.ssm, session.places.parameter(LATEST["inference"])).text)
        given = retraining.parameters(session.aws, latest["run"])
        if given.get("Model") == manifest["artifacts"]["model"]:
            outputs = {"drift": f"{latest['drift_report'].rpartition('/')[0]}/"}
            outputs |= {name: latest[name] for name in ("predictions", "explanations")}
            return {"execution": latest["run"], "ended": latest["started"], "parameters": given, "outputs": outputs}
    return {}


def _tagged(session: Session, image: str) -> str:
    """An image by the tag that is its content's hash, where ECR has one for its digest."""
    if found := control.ECR.fullmatch(image):
        wanted = {"registryId": found[1], "repositoryName": found[2], "imageIds": [{"imageDigest": found[3]}]}
        for about in session.find("ecr", "describe_images", GONE, "imageDetails", **wanted) or []:
            for tag in about.get("imageTags", []):
                if re.fullmatch("[0-9a-f]{16}", tag):
                    return f"{image.partition('@')[0]}:{tag}"
    return image

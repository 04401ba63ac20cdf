"""The ECR repositories: immutable tags, scanned on push, untagged images gone after a month, released ones never."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from operations.bootstrap.calls import CallFailed, ask
from operations.bootstrap.findings import Difference, Finding, stranger, tag_differences
from operations.bootstrap.wanted import SHARED, Wanted

IMMUTABLE = "IMMUTABLE"
SCANNED = {"scanOnPush": True}
# "Lifecycle policy properties" in the ECR user guide. An image that was released keeps its tag, so no rule selects it.
UNTAGGED = {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 30}
EXPIRE = {"type": "expire"}
RULE = {"rulePriority": 1, "description": "untagged images, after 30 days", "selection": UNTAGGED, "action": EXPIRE}
LIFECYCLE = {"rules": [RULE]}


@dataclass(frozen=True)
class Repositories:
    """Looking needs ecr:DescribeRepositories, ListTagsForResource and GetLifecyclePolicy.

    Creating needs ecr:CreateRepository, TagResource and PutLifecyclePolicy, with a KMS key also kms:CreateGrant and
    DescribeKey ("Encryption at rest" in the ECR user guide); changing needs TagResource and the Put… calls below.
    """

    client: Any
    wanted: Wanted
    title: str = "ECR repositories"

    @property
    def names(self) -> tuple[str, ...]:
        return self.wanted.repositories

    def look(self, name: str) -> Finding:
        """What is there under this name. Raises CallFailed."""
        try:
            [found] = ask(self.client, "describe_repositories", "repositories", repositoryNames=[name])
        except CallFailed as failed:
            if failed.code != "RepositoryNotFoundException":
                raise
            return Finding(create=partial(self._create, name))
        listed = ask(self.client, "list_tags_for_resource", resourceArn=found["repositoryArn"]).get("tags", [])
        tags = {tag["Key"]: tag["Value"] for tag in listed}
        if other := stranger(tags, self.wanted.owner):
            return Finding(stranger=other)
        return Finding(differences=tuple(self._differences(name, found, tags)))

    def _create(self, name: str) -> None:
        """Tags come with it, so it is never there without saying whose it is."""
        ask(
            self.client,
            "create_repository",
            repositoryName=name,
            imageTagMutability=IMMUTABLE,
            imageScanningConfiguration=SCANNED,
            encryptionConfiguration=self._encryption,
            tags=self._tags,
        )
        self._put_lifecycle(name)

    def _differences(self, name: str, found: Mapping[str, Any], tags: Mapping[str, str]) -> Iterator[Difference]:
        if (mutability := found.get("imageTagMutability")) != IMMUTABLE:
            mend = self._change("put_image_tag_mutability", repositoryName=name, imageTagMutability=IMMUTABLE)
            yield Difference(f"tags are {mutability}, not {IMMUTABLE}", mend)
        if not found.get("imageScanningConfiguration", {}).get("scanOnPush"):
            settings = {"repositoryName": name, "imageScanningConfiguration": SCANNED}
            mend = self._change("put_image_scanning_configuration", **settings)
            yield Difference("images are not scanned on push", mend)
        if self._lifecycle(name) != LIFECYCLE:
            yield Difference("the lifecycle policy is missing or another", partial(self._put_lifecycle, name))
        mend = self._change("tag_resource", resourceArn=found["repositoryArn"], tags=self._tags)
        yield from tag_differences(tags, self.wanted.tags(SHARED), mend)
        yield from self._encrypted(found.get("encryptionConfiguration", {"encryptionType": "AES256"}))

    def _change(self, operation: str, **request: Any) -> Callable[[], object]:
        return partial(ask, self.client, operation, **request)

    def _encrypted(self, found: Mapping[str, str]) -> Iterator[Difference]:
        """ECR fixes it at creation ("EncryptionConfiguration" in the API reference)."""
        if any(found.get(key) != value for key, value in self._encryption.items()):
            has, wanted = (" ".join(texts.values()) for texts in (found, self._encryption))
            yield Difference(f"encrypted with {has}, not {wanted}, which AWS never changes")

    def _lifecycle(self, name: str) -> object:
        try:
            return json.loads(ask(self.client, "get_lifecycle_policy", "lifecyclePolicyText", repositoryName=name))
        except CallFailed as failed:
            if failed.code != "LifecyclePolicyNotFoundException":
                raise
            return None

    def _put_lifecycle(self, name: str) -> None:
        ask(self.client, "put_lifecycle_policy", repositoryName=name, lifecyclePolicyText=json.dumps(LIFECYCLE))

    @property
    def _tags(self) -> list[dict[str, str]]:
        return [{"Key": key, "Value": value} for key, value in self.wanted.tags(SHARED).items()]

    @property
    def _encryption(self) -> dict[str, str]:
        key = self.wanted.kms_key
        return {"encryptionType": "KMS", "kmsKey": key} if key else {"encryptionType": "AES256"}

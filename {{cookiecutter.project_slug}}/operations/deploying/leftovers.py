"""What an earlier stack of this name has left: deleting a stack keeps the bucket and the registered models."""

from operations.bootstrap.calls import CallFailed, ask
from operations.bootstrap.findings import stranger
from operations.deploying.packaging import ABSENT
from operations.deploying.target import Target, tag_map
from operations.failures import Failure

NO_GROUP = ("ResourceNotFound", "ValidationException")


def found(target: Target) -> list[str]:
    """In words, what a new stack has to take over. Raises Failure where it is somebody else's."""
    kept = {f"bucket {target.where.bucket}": _bucket(target), f"model package group {target.name}": _group(target)}
    for name, tags in kept.items():
        if tags is not None and (other := stranger(tags, target.owner)):
            raise Failure(f"the {name}: {other}.")
    return [name for name, tags in kept.items() if tags is not None]


def _bucket(target: Target) -> dict[str, str] | None:
    """Its tags, None where there is no such bucket."""
    s3, name = target.client("s3"), target.where.bucket
    place = {"Bucket": name, "ExpectedBucketOwner": target.account.number}
    try:
        ask(s3, "head_bucket", **place)
    except CallFailed as failed:
        if failed.code in (*ABSENT, "NoSuchBucket"):
            return None
        if failed.code == "403":
            raise Failure(
                f"the bucket {name} belongs to another account, or you may not look at it; "
                f"name another one with `bucket` in {target.needs.file}, or get s3:ListBucket for it."
            ) from None
        raise
    _key(target, place)
    try:
        return tag_map(ask(s3, "get_bucket_tagging", "TagSet", **place))
    except CallFailed as failed:
        if failed.code != "NoSuchTagSet":
            raise
        return {}


def _key(target: Target, place: dict[str, str]) -> None:
    """A new key would lock away what the old one encrypted. Raises Failure."""
    if not target.where.create_key or target.where.kms_key:
        return
    try:
        rules = ask(target.client("s3"), "get_bucket_encryption", "ServerSideEncryptionConfiguration", **place)["Rules"]
    except CallFailed as failed:
        if failed.code != "ServerSideEncryptionConfigurationNotFoundError":
            raise
        return
    keys = [rule.get("ApplyServerSideEncryptionByDefault", {}).get("KMSMasterKeyID") for rule in rules]
    if old := next((key for key in keys if key), ""):
        raise Failure(
            f"what lies in {target.where.bucket} is encrypted with {old}, which a new stack's key can't read: "
            f'write kms_key = "{old}" into {target.needs.file}.'
        )


def _group(target: Target) -> dict[str, str] | None:
    sagemaker = target.client("sagemaker")
    try:
        arn = ask(sagemaker, "describe_model_package_group", ModelPackageGroupName=target.name)["ModelPackageGroupArn"]
    except CallFailed as failed:
        if failed.code not in NO_GROUP:
            raise
        return None
    return tag_map(ask(sagemaker, "list_tags", "Tags", ResourceArn=arn))

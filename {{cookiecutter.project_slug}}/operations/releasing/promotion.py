"""`make promote`: the release of one environment becomes that of another."""

from functions.release import Manifest
from operations.bootstrap.account import NotSignedIn
from operations.bootstrap.calls import CallFailed, ask
from operations.failures import Failure
from operations.releasing import copying, registries, signing, writing
from operations.releasing.signing import SignedIn
from operations.repository import Repository


def promote(repository: Repository, source: str, target: str, profile: str = "", reason: str = "") -> int:
    """Copy what the target lacks, then write its release; the exit code. Raises Failure; a re-run goes on.

    `profile` signs in to the source's account, where that is another one than the target's. The manifest goes on naming
    the source's model package and training data: they are where the model comes from, and nothing reads them in the
    target. The contract is not compared with usecase.toml, because the images bring the one that they were built with.
    """
    if source == target:
        raise Failure(f"FROM and TO are both {source}; name two environments.")
    giving, taking = _source(repository, source, profile), signing.sign_in(repository, target)
    for there in (giving, taking):
        if not there.needs.account_is_set:
            raise Failure(f'write account = "{there.account}" into {there.needs.file} first, so that no other is met.')
    released, now = _released(giving), writing.current(taking)
    writing.stands(giving, released)
    about = reason or f"promoted from {source} release {released['version']}"
    manifest = writing.occasion(taking, _moved(giving, taking, released), about)
    writing.fits(taking, manifest)
    _bucket(taking)
    again = f"make promote FROM={source} TO={target}{f' FROM_PROFILE={profile}' if profile else ''}"
    try:
        copying.copy_all(giving, taking, [(uri, _to(giving, taking, uri)) for uri in released["artifacts"].values()])
    except CallFailed as failed:
        raise Failure(f"{failed}.\n{target} was not touched but for copies; to finish: {again}") from None
    return writing.write(taking, now, manifest, again)


def _source(repository: Repository, environment: str, profile: str) -> SignedIn:
    try:
        return signing.sign_in(repository, environment, profile)
    except NotSignedIn:
        raise
    except Failure as failure:
        hint = "" if profile else f". FROM_PROFILE= names the AWS profile of {environment}'s account"
        raise Failure(f"{str(failure).rstrip('.')}{hint}.") from None


def _released(giving: SignedIn) -> Manifest:
    current = writing.current(giving)
    if current.manifest is None:
        why = f"the release of {giving.name} is damaged: {current.damage}" if current.damage else ""
        raise Failure(why or f"{giving.name} has no release yet; `make release ENV={giving.name}` makes one.")
    return current.manifest


def _moved(giving: SignedIn, taking: SignedIn, released: Manifest) -> Manifest:
    """The manifest with places that the target's roles may read. Raises Failure where its registry lacks an image."""
    artifacts = {name: _to(giving, taking, uri) for name, uri in released["artifacts"].items()}
    return {**released, "images": registries.images(giving, taking, released["images"]), "artifacts": artifacts}


def _to(giving: SignedIn, taking: SignedIn, uri: str) -> str:
    return copying.destination(giving.places, taking.places, uri)


def _bucket(taking: SignedIn) -> None:
    """Raises Failure where the target's bucket is not there, or is another account's."""
    bucket = taking.places.bucket
    try:
        ask(taking.aws.s3, "head_bucket", Bucket=bucket, ExpectedBucketOwner=taking.account)
    except CallFailed as failed:
        where = f"bucket {bucket} of {taking.name} is not there, or not yours"
        raise Failure(f"{where} ({failed}); it comes with the stack of {taking.name}.") from None

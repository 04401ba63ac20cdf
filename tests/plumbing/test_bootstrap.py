"""Planning and creating what the use case needs in AWS. moto stands where AWS would; between it and us, calls fail."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from moto import mock_aws
from moto.server import ThreadedMotoServer

from batchloop.cloud import bootstrap
from batchloop.container.job import InputError
from batchloop.repository import Repository
from plumbing.engine_miniature import Miniature, build
from plumbing.rendered import ROOT
from plumbing.unreliable_services import (
    ACCOUNT,
    FAULTS,
    REGION,
    Aws,
    State,
    Wire,
    delivered,
    garbage,
    only,
    pairs,
    refusal,
    silence,
)

KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
COMPONENTS = ("processing", "algorithm", "monitoring", "explainability")
REPOSITORIES = [f"team/case/{name}" for name in COMPONENTS]
FINISH = "To finish: make bootstrap CREATE=yes ENV=dev"


def parameters(environment: str = "dev") -> list[str]:
    pairs = [f"components/{name}/{kind}" for name in COMPONENTS for kind in ("image", "artifact")]
    return [
        f"/team/case/{environment}/{name}"
        for name in (*pairs, "release", "retraining", "inference/latest", "training/latest")
    ]


def wanted(environment: str = "dev") -> State:
    """What there has to be, as `State` describes it."""
    # in this order: an image that matches a rule's tags is not expired by a later one
    expired = [
        {"tagStatus": "tagged", "tagPrefixList": ["released-"], "countType": "imageCountMoreThan", "countNumber": 1000},
        {"tagStatus": "untagged", "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 30},
        {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 100},
    ]
    own = {"namespace": "team", "usecase": "case", "managed-by": "cookiecutter-template"}
    repository = {
        "mutability": "IMMUTABLE",
        "scanned": True,
        "encryption": {"encryptionType": "AES256"},
        "expired": [(selection, {"type": "expire"}) for selection in expired],
        "tags": own | {"environment": "shared"},
    }
    parameter = {"value": "none", "type": "String", "version": 1, "tags": own | {"environment": environment}}
    return dict.fromkeys(REPOSITORIES, repository) | dict.fromkeys(parameters(environment), parameter)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "usecase.toml").write_text('[usecase]\nname = "case"\nnamespace = "team"\n')
    environment(tmp_path)
    return tmp_path


def environment(root: Path, name: str = "dev", **values: str) -> None:
    """environments/<name>.toml, as far as it matters here."""
    values = {"account": "000000000000", "region": REGION, "kms_key": ""} | values
    (root / "environments").mkdir(exist_ok=True)
    lines = [f'{key} = "{value}"\n' for key, value in values.items()]
    (root / "environments" / f"{name}.toml").write_text("".join(lines))


@pytest.fixture(scope="module")
def server() -> Iterator[Aws]:
    serving = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    serving.start()
    host, port = serving.get_host_and_port()
    yield Aws(f"http://{host}:{port}")
    serving.stop()


@pytest.fixture(scope="module")
def without_a_socket() -> Aws:
    return Aws()


@pytest.fixture
def inside(without_a_socket: Aws) -> Aws:
    """In this process, because the faults take thousands of calls; to be used within mock_aws()."""
    without_a_socket.wire = Wire()
    return without_a_socket


@pytest.fixture
def aws(server: Aws) -> Iterator[Aws]:
    """Nothing is there yet, and nothing fails."""
    server.wire = Wire()
    with mock_aws():  # empties what the server serves
        yield server


def run(root: Path, choice: str, aws: Aws, environment: str = "dev") -> int:
    return bootstrap.run(Repository(root, environment=environment), choice, lambda *_: aws.once)


def failure(root: Path, choice: str, aws: Aws) -> str:
    with pytest.raises(InputError) as raised:
        run(root, choice, aws)
    return str(raised.value)


def lines(said: str, word: str) -> dict[str, str]:
    """Name → remark, of the lines that begin with a word."""
    rows = [line.strip() for line in said.splitlines()]
    found = [row.removeprefix(word).strip().partition(": ") for row in rows if row.startswith(f"{word} ")]
    return {name: remark for name, _, remark in found}


def report(said: str) -> dict[str, set[str]]:
    """State → names, of what is listed after a failure."""
    _, _, listed = said.partition("as it is now:\n")
    found = {word: set(lines(listed, word)) for word in ("create", "not ours", "change", "leave", "unknown")}
    return {word: names for word, names in found.items() if names}


def untried(said: str) -> set[str]:
    """What was not created because its kind could not be reached."""
    return {name for name, remark in lines(said, "failed").items() if remark == "not tried"}


def test_exactly_what_was_planned_exists_afterwards(root: Path, aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(root, "plan", aws) == 0
    planned = set(lines(capsys.readouterr().out, "create"))
    assert not aws.wire.writes
    assert not aws.exist()
    assert run(root, "create", aws) == 0
    assert aws.exist() == planned == {*REPOSITORIES, *parameters()}
    assert aws.state() == wanted()
    said = capsys.readouterr().out
    assert f'write account = "{ACCOUNT}" into environments/dev.toml' in said


def test_a_second_run_only_reads(root: Path, aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    run(root, "create", aws)
    aws.past.ssm.put_parameter(Name="/team/case/dev/release", Value="{}", Overwrite=True)
    before = aws.state()
    aws.wire = Wire()
    for choice, word in (("create", "left"), ("plan", "leave")):
        capsys.readouterr()
        assert run(root, choice, aws) == 0
        assert set(lines(capsys.readouterr().out, word)) == {*REPOSITORIES, *parameters()}
    assert aws.wire.calls
    assert not aws.wire.writes
    assert aws.state() == before
    assert before["/team/case/dev/release"]["version"] == 2


def test_a_second_environment_shares_the_repositories(root: Path, aws: Aws) -> None:
    environment(root, "prod")
    run(root, "create", aws)
    assert run(root, "create", aws, "prod") == 0
    assert aws.state() == wanted() | wanted("prod")
    assert aws.wire.writes.count("PutLifecyclePolicy") == len(REPOSITORIES)


def test_what_was_changed_by_hand_is_planned_and_changed_back(
    root: Path, aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    run(root, "create", aws)
    ecr, ssm = aws.past.ecr, aws.past.ssm
    mutable, unscanned, eager, untagged = REPOSITORIES
    ecr.put_image_tag_mutability(repositoryName=mutable, imageTagMutability="MUTABLE")
    ecr.put_image_scanning_configuration(repositoryName=unscanned, imageScanningConfiguration={"scanOnPush": False})
    rule = {"rulePriority": 1, "selection": {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 1}}
    policy = json.dumps({"rules": [rule | {"action": {"type": "expire"}}]})
    ecr.put_lifecycle_policy(repositoryName=eager, lifecyclePolicyText=policy)
    [found] = ecr.describe_repositories(repositoryNames=[untagged])["repositories"]
    ecr.untag_resource(resourceArn=found["repositoryArn"], tagKeys=["managed-by"])
    ecr.tag_resource(resourceArn=found["repositoryArn"], tags=pairs({"environment": "x", "cost-centre": "7"}))
    release = {"ResourceType": "Parameter", "ResourceId": "/team/case/dev/release"}
    ssm.remove_tags_from_resource(**release, TagKeys=["environment"])
    capsys.readouterr()
    assert run(root, "plan", aws) == 0
    assert set(lines(capsys.readouterr().out, "change")) == {*REPOSITORIES, "/team/case/dev/release"}
    assert run(root, "create", aws) == 0
    expected = wanted()
    expected[untagged] = expected[untagged] | {"tags": expected[untagged]["tags"] | {"cost-centre": "7"}}
    assert aws.state() == expected


def test_a_key_encrypts_new_repositories_and_is_only_missed_in_old_ones(
    root: Path, aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    old = REPOSITORIES[0]
    owner = pairs({"namespace": "team", "usecase": "case"})
    aws.past.ecr.create_repository(repositoryName=old, tags=owner)
    environment(root, kms_key=KEY)
    for _ in range(2):
        assert run(root, "create", aws) == 0
    remark = lines(capsys.readouterr().out, "left")[old]
    assert remark == f"encrypted with AES256, not KMS {KEY}, which AWS never changes"
    state = aws.state()
    assert [state[name]["encryption"]["encryptionType"] for name in REPOSITORIES] == ["AES256", "KMS", "KMS", "KMS"]
    assert state[REPOSITORIES[1]]["encryption"] == {"encryptionType": "KMS", "kmsKey": KEY}


def test_a_parameter_of_another_type_keeps_its_value(root: Path, aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    name, owner = "/team/case/dev/release", pairs({"namespace": "team", "usecase": "case"})
    aws.past.ssm.put_parameter(Name=name, Value="a,b", Type="StringList", Tags=owner)
    assert run(root, "create", aws) == 0
    assert "of type StringList, not String, which AWS never changes" in lines(capsys.readouterr().out, "changed")[name]
    assert aws.state()[name] == wanted()[name] | {"value": "a,b", "type": "StringList"}


def test_what_belongs_to_somebody_else_is_not_touched_and_the_others_go_on(
    root: Path, aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    repository, parameter = REPOSITORIES[1], "/team/case/dev/release"
    aws.past.ecr.create_repository(repositoryName=repository, tags=pairs({"namespace": "team", "usecase": "other"}))
    aws.past.ssm.put_parameter(Name=parameter, Value="theirs", Type="String")
    before = aws.state()
    assert "2 of 16" in failure(root, "plan", aws)
    planned = lines(capsys.readouterr().out, "not ours")
    assert "has the tag usecase=other" in planned[repository]
    assert "has no tag namespace" in planned[parameter]
    assert FINISH in failure(root, "create", aws)
    said = capsys.readouterr().out
    assert set(lines(said, "failed")) == set(before) == report(said)["not ours"]
    assert aws.state() == wanted() | before


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> State:
    """What has to be there for two of the components, which is enough where every call of a run is to fail once."""
    monkeypatch.setattr("batchloop.control.names.COMPONENTS", COMPONENTS[:2])
    others = COMPONENTS[2:]
    return {name: its for name, its in wanted().items() if not any(f"/{other}" in name for other in others)}


@pytest.mark.parametrize("kind", [*FAULTS, "lost"])
def test_whatever_call_fails_is_told_truly_and_a_second_run_finishes(
    root: Path, inside: Aws, capsys: pytest.CaptureFixture[str], half: State, kind: str
) -> None:
    with mock_aws():
        run(root, "create", inside)
        calls = len(inside.wire.calls)
    assert calls == 1 + 2 * len(["look", "create", "lifecycle"]) + 8 * len(["look", "create"])
    for number in range(calls):
        with mock_aws():
            inside.wire.fail(number, kind)
            told = failure(root, "create", inside)
            assert told.endswith(FINISH)
            said, exist = report(capsys.readouterr().out), inside.exist()
            if number == 0:
                assert "what exists is not known" in told
                assert not exist
            else:
                assert said.get("leave", set()) | said.get("change", set()) == exist
                assert said.get("create", set()) == half.keys() - exist
            inside.wire.fail(-1, kind)
            assert run(root, "create", inside) == 0
            assert inside.state() == half


@pytest.mark.parametrize("kind", FAULTS)
def test_changing_back_survives_a_failure_as_well(root: Path, inside: Aws, half: State, kind: str) -> None:
    for number in range(1 + 3 + 2):  # who am I; three looks at the first repository, two changes of it
        with mock_aws():
            inside.wire.fail(-1, kind)
            run(root, "create", inside)
            name = REPOSITORIES[0]
            inside.past.ecr.put_image_tag_mutability(repositoryName=name, imageTagMutability="MUTABLE")
            inside.past.ecr.delete_lifecycle_policy(repositoryName=name)
            inside.wire.fail(number, kind)
            failure(root, "create", inside)
            inside.wire.fail(-1, kind)
            run(root, "create", inside)
            assert inside.state() == half


def test_a_plan_says_what_it_could_not_look_at(root: Path, aws: Aws, capsys: pytest.CaptureFixture[str]) -> None:
    for kind in FAULTS:
        aws.wire.fail(1, kind)
        assert f"{4 if kind == 'timeout' else 1} of 16" in failure(root, "plan", aws)
        said = capsys.readouterr().out
        assert "ecr:DescribeRepositories" in lines(said, "unknown")[REPOSITORIES[0]]
        assert set(parameters()) <= set(lines(said, "create"))


def test_a_service_that_never_answers_is_not_asked_again_and_again(
    root: Path, aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.wire.answers = lambda number, call: silence if number else None
    assert FINISH in failure(root, "create", aws)
    said = capsys.readouterr().out
    assert report(said) == {"unknown": {*REPOSITORIES, *parameters()}}
    assert untried(said) == {*REPOSITORIES, *parameters()} - {REPOSITORIES[0], parameters()[0]}
    assert len(aws.wire.calls) == 1 + 2 * 2  # once for each kind, and once more for the report
    aws.wire = Wire()
    assert run(root, "create", aws) == 0
    assert aws.state() == wanted()


@pytest.mark.parametrize("kind", ["throttled", "broken", "timeout"])
def test_a_failure_that_passes_is_never_noticed(
    root: Path, aws: Aws, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    failing: set[str] = set()

    def once_each(number: int, call: str) -> Callable[..., AWSResponse | None] | None:
        new = call not in failing
        failing.add(call)
        return FAULTS[kind] if new else None

    aws.wire.answers = once_each
    assert bootstrap.run(Repository(root), "create", lambda *_: aws.patient) == 0
    assert len(failing) == 6
    assert aws.state() == wanted()


def test_our_own_creation_is_recognised_when_its_answer_was_lost_and_it_was_tried_again(
    root: Path, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda seconds: None)
    seen: list[str] = []

    def swallow(request: Any, **_: object) -> AWSResponse | None:
        delivered(request)
        return silence(request)

    def first(number: int, call: str) -> Callable[..., AWSResponse | None] | None:
        seen.append(call)
        return swallow if call in ("CreateRepository", "PutParameter") and seen.count(call) == 1 else None

    aws.wire.answers = first
    assert bootstrap.run(Repository(root), "create", lambda *_: aws.patient) == 0
    assert aws.state() == wanted()
    assert (seen.count("CreateRepository"), seen.count("PutParameter")) == (5, 13)


def test_an_answer_that_is_not_from_aws_is_said_in_a_sentence(
    root: Path, aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    for call in ("GetCallerIdentity", "DescribeRepositories", "GetParameter"):
        aws.wire.answers = partial(only, call, garbage)
        told = failure(root, "create", aws) + capsys.readouterr().out
        assert FINISH in told
        assert f"{call} got an answer that is not AWS's" in told


def test_two_at_once_end_in_one_consistent_state(root: Path, aws: Aws) -> None:
    both, one_at_a_time = threading.Barrier(2), threading.Lock()

    def together(request: Any, **_: object) -> AWSResponse:
        """Both have seen that there is nothing, before either creates it."""
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(timeout=2)
        with one_at_a_time:
            return delivered(request)

    aws.wire.answers = lambda _, call: together if call in ("CreateRepository", "PutParameter") else None
    codes: list[int] = []
    threads = [threading.Thread(target=lambda: codes.append(run(root, "create", aws))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [0, 0]
    assert aws.state() == wanted()
    assert (aws.wire.calls.count("CreateRepository"), aws.wire.calls.count("PutParameter")) == (8, 24)


def alone(monkeypatch: pytest.MonkeyPatch, folder: Path, **variables: str) -> None:
    """An environment in which boto3 finds nothing but these variables."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    nowhere = {"AWS_CONFIG_FILE": str(folder / "none"), "AWS_SHARED_CREDENTIALS_FILE": str(folder / "none")}
    for name, value in (nowhere | {"AWS_EC2_METADATA_DISABLED": "true", "AWS_MAX_ATTEMPTS": "1"} | variables).items():
        monkeypatch.setenv(name, value)


KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x"}
WRONG = [
    ({}, {}, "there are no AWS credentials here", 0),
    ({}, KEYS | {"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, f"could not reach AWS in {REGION}", 1),
    ({}, {"AWS_PROFILE": "absent"}, "The config profile (absent) could not be found", 1),
    ({}, {"AWS_ACCESS_KEY_ID": "x"}, "Partial credentials found", 1),
    ({"region": "Frankfurt"}, KEYS, "region 'Frankfurt' is none that is supported; ", 1),
    ({"account": "12"}, KEYS, "account '12' is not twelve digits in quotes", 1),
    ({"account": "111111111111"}, KEYS, f"names account 111111111111, your credentials are of {ACCOUNT}", 1),
]


@pytest.mark.parametrize("case", WRONG)
def test_whoever_can_not_be_served_is_told_why_in_a_sentence_and_sees_the_names(
    root: Path, server: Aws, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], case: Any
) -> None:
    file, variables, reason, code = case
    alone(monkeypatch, root, **{"AWS_ENDPOINT_URL": server.endpoint or ""} | variables)
    environment(root, **file)
    assert bootstrap.run(Repository(root), "plan") == code
    said = capsys.readouterr().out
    assert {line.strip() for line in said.splitlines()} >= {*REPOSITORIES, *parameters()}
    assert reason in said.splitlines()[-1]
    with pytest.raises(InputError) as raised:
        bootstrap.run(Repository(root), "create")
    assert reason in str(raised.value)
    assert str(raised.value).endswith(FINISH)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("ExpiredToken", "your AWS credentials have expired; sign in again"),
        ("InvalidClientTokenId", f"AWS does not accept your credentials in {REGION}"),
    ],
)
def test_credentials_that_do_not_hold_are_said_to_be_that(
    root: Path, aws: Aws, capsys: pytest.CaptureFixture[str], code: str, reason: str
) -> None:
    aws.wire.answers = partial(only, "GetCallerIdentity", partial(refusal, 403, code))
    assert run(root, "plan", aws) == 1
    assert reason in capsys.readouterr().out
    assert reason in failure(root, "create", aws)


def test_credentials_that_expire_on_the_way_leave_what_was_created(
    root: Path, aws: Aws, capsys: pytest.CaptureFixture[str]
) -> None:
    expired = partial(refusal, 400, "ExpiredTokenException")
    aws.wire.answers = lambda number, call: expired if number > 9 else None
    failure(root, "create", aws)
    said = capsys.readouterr().out
    assert lines(said, "failed")[REPOSITORIES[3]] == "your AWS credentials have expired; sign in again"
    assert untried(said) == set(parameters()[1:])
    assert set(lines(said, "created")) == set(REPOSITORIES[:3]) == aws.exist()


def test_an_environment_that_is_not_there_is_said_with_those_that_are(root: Path, aws: Aws) -> None:
    environment(root, "prod")
    with pytest.raises(InputError, match="there is no environment 'test'; there are dev, prod"):
        run(root, "plan", aws, "test")
    (root / "environments" / "dev.toml").write_text("account = ")
    assert "environments/dev.toml is not valid TOML" in failure(root, "plan", aws)


@pytest.fixture
def mini(tmp_path: Path) -> Miniature:
    built = build(tmp_path / "a 'quoted' folder")
    environment(built.root)
    return built


def test_names_are_planned_with_the_standard_library_alone(mini: Miniature) -> None:
    code = "import sys; sys.path.insert(0, '.'); from batchloop.__main__ import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-I", "-S", "-c", code, "bootstrap"]
    planned, created = (
        subprocess.run([*command, choice], cwd=mini.root, capture_output=True, text=True, check=False, env={})
        for choice in ("plan", "create")
    )
    assert planned.returncode == 0
    names = {name.replace("/case/", "/mini/") for name in (*REPOSITORIES, *parameters())}
    assert {line.strip() for line in planned.stdout.splitlines()} >= names
    assert "nothing was created: this is the plan. It could not look at the account: boto3 is" in planned.stdout
    assert created.returncode == 1
    assert created.stderr.startswith("nothing was created")
    assert created.stderr.endswith(f"{FINISH}\n")
    assert not (mini.root / "local").exists()


def test_the_command_creates_and_a_refused_one_ends_with_what_to_do(
    mini: Miniature, aws: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone(monkeypatch, mini.root, **KEYS, AWS_ENDPOINT_URL=aws.endpoint or "")
    aws.past.ssm.put_parameter(Name="/team/mini/dev/release", Value="theirs", Type="String")
    said = mini.run("bootstrap", "create", "--env", "dev", code=1)
    assert said.endswith(f"1 of 16 were not finished. {FINISH}\n")
    assert "Traceback" not in said
    aws.past.ssm.delete_parameter(Name="/team/mini/dev/release")
    assert "everything is there" in mini.run("bootstrap", "create")
    assert aws.exist() == {name.replace("/case/", "/mini/") for name in (*REPOSITORIES, *parameters())}


@pytest.mark.parametrize(("words", "choice"), [((), "plan"), (("CREATE=yes",), "create"), (("CREATE=no",), "plan")])
def test_make_creates_only_when_it_is_told_to(words: tuple[str, ...], choice: str) -> None:
    command = ["make", "--dry-run", "--old-file=setup", "bootstrap", "ENV=prod", *words]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert shown.strip().endswith(f'-m batchloop bootstrap {choice} --env="$ENV"')

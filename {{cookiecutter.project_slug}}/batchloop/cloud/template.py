"""The templates of infra/ as they are sent, their parameters, and the functions' code as Lambda takes it."""

import io
import json
import re
import zipfile
from collections.abc import Collection
from hashlib import sha256
from pathlib import Path

from batchloop.container.job import InputError
from batchloop.environment import Environment
from batchloop.pipelines import definitions
from batchloop.repository import Repository

STORAGE, STACK = "storage.yaml", "stack.yaml"  # of infra/
EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first moment that a zip can name
READABLE = 0o644 << 16
TAKEN = ("window", "prediction", "score", "lower", "upper", "error")  # columns of the table of predictions


def show(repository: Repository, name: str) -> int:
    """Write an environment's templates as they are sent beside its definitions, and print its region; the exit code."""
    environment, folder = definitions.read(repository, name)[1], repository.compiled(name)
    for file in (STORAGE, STACK):
        (folder / file).write_text(template(repository.root, file, environment.place["without"]), encoding="utf-8")
    print(environment.region)
    return 0


def template(root: Path, name: str, without: Collection[str] = ()) -> str:
    """A template of infra/ without its lines of comment, and without the resources of these names."""
    kept, section, skipped = [], "", False
    for line in (root / "infra" / name).read_text(encoding="utf-8").splitlines():
        if heading := re.match(r" {0,2}(\w+):", line):  # a section, or a resource of one
            section = section if line.startswith(" ") else heading[1]
            skipped = section == "Resources" and heading[1] in without
        if line.strip() and not line.lstrip().startswith("#") and not skipped:
            kept.append(line)
    return "\n".join(kept)


def parameters(repository: Repository, environment: Environment, body: str, **others: str) -> dict[str, str]:
    """The values of a template's parameters: the environment's settings, and `others`. Raises InputError."""
    build, data = environment.build, repository.tables()["data"]
    name = data.get("id", "").lower() or "row"  # of rows that are numbered; Athena knows names in lower case alone
    if environment.catalog and name in TAKEN:
        raise InputError(
            f"{environment.file}: catalog = true: [data] id may not be called {name}, as a column of its table is."
        )
    values = {
        "Namespace": environment.namespace,
        "Usecase": environment.usecase,
        "Environment": environment.environment,
        "RegionCode": environment.place["code"],
        "BucketName": environment.bucket,
        "Schedule": environment.schedule,
        "HoursBetweenRuns": str(environment.hours_between_runs),
        "NoticeEmail": environment.notice_email,
        "MonthlyBudget": f"{environment.monthly_budget:g}",
        "ConnectionArn": build.connection,
        "RepositoryProvider": build.provider,
        "Repository": build.repository,
        "Branch": build.branch,
        "CreateKey": str(environment.create_key).lower(),
        "KmsKeyArn": environment.kms_key,
        "PermissionsBoundaryArn": environment.permissions_boundary,
        "KeepRunsDays": str(environment.keep_runs_days),
        "KeepTrainingsDays": str(environment.keep_trainings_days),
        "Approval": environment.approval,
        "SubnetIds": ",".join(environment.subnets),
        "SecurityGroupIds": ",".join(environment.security_groups),
        "Catalog": environment.database,
        "IdColumn": name,
        "Task": data["task"],
    }
    declared = re.findall(r"(?m)^  (\w+): \{Type: ", body)
    taken = {name: value for name, value in (values | others).items() if name in declared}
    if "State" in declared:  # of all but the key, which only the storage knows where it makes one
        told = json.dumps([body, taken | {"KmsKeyArn": ""}], sort_keys=True)
        taken["State"] = sha256(told.encode()).hexdigest()[:16]
    return taken


def package(root: Path) -> bytes:
    """A zip of batchloop/control/*.py and of usecase.toml, where batchloop.control.names reads it.

    Nothing is compressed: what zlib makes of the same bytes differs between its versions, and this is small.
    """
    modules, out = sorted((root / "batchloop" / "control").glob("*.py")), io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for file in (root / "batchloop" / "__init__.py", *modules, root / "usecase.toml"):
            entry = zipfile.ZipInfo(file.relative_to(root).as_posix(), EARLIEST)
            entry.create_system, entry.external_attr = 3, READABLE  # else Windows writes other bytes
            archive.writestr(entry, file.read_bytes())
    return out.getvalue()


def functions(environment: Environment, code: bytes) -> str:
    """The S3 key of the functions' code."""
    return f"{environment.folder}/{environment.environment}/functions/{sha256(code).hexdigest()}.zip"

"""infra/stack.yaml and its parameters, as CloudFormation takes them."""

from pathlib import Path

from operations.failures import Failure
from pipelines.environment import Environment

LIMIT = 51_200  # bytes of a template that is sent with the request ("CloudFormation quotas")


def body(root: Path) -> str:
    """The template without its lines of comment: with them it is larger than what a request takes.

    Larger ones would have to lie in a bucket, and the bucket is what this stack makes. Raises Failure.
    """
    lines = (root / "infra" / "stack.yaml").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if line.strip() and not line.lstrip().startswith("#"))
    if (size := len(text.encode())) > LIMIT:
        raise Failure(f"infra/stack.yaml has {size:,} bytes without comments; CloudFormation takes {LIMIT:,}.")
    return text


def parameters(where: Environment, functions: str) -> dict[str, str]:
    """Every parameter of the template; `functions` is the key of their code, "" in the first of the two passes."""
    return {
        "Namespace": where.namespace,
        "Usecase": where.slug,
        "Environment": where.name,
        "BucketName": where.bucket,
        "FunctionsKey": functions,
        "Schedule": where.schedule,
        "HoursBetweenRuns": str(where.hours_between_runs),
        "NoticeEmail": where.notice_email,
        "MonthlyBudget": f"{where.monthly_budget:g}",
        "ConnectionArn": where.build.connection,
        "RepositoryProvider": where.build.provider,
        "Repository": where.build.repository,
        "Branch": where.build.branch,
        "CreateKey": str(where.create_key).lower(),
        "KmsKeyArn": where.kms_key,
        "PermissionsBoundaryArn": where.permissions_boundary,
        "SubnetIds": ",".join(where.subnets),
        "SecurityGroupIds": ",".join(where.security_groups),
    }

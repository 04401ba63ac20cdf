"""What people and alarms get: a message on the topic, and metrics."""

from collections.abc import Mapping
from datetime import datetime

from functions.clients import Aws
from functions.places import Places

SUBJECT = 99  # "less than 100 characters": "Publish" in the SNS API reference


def tell(aws: Aws, places: Places, subject: str, lines: Mapping[str, str]) -> None:
    """Publish a message without its empty lines; the subject is ASCII on one line, as every mail server takes it."""
    text = " ".join(f"{places.usecase} {places.environment}: {subject}".split())
    if len(text) > SUBJECT:
        text = f"{text[: SUBJECT - 3]}..."
    body = "\n".join(f"{name}: {line}" for name, line in lines.items() if line)
    aws.sns.publish(TopicArn=places.topic, Subject=text.encode("ascii", "replace").decode(), Message=body)


def measure(aws: Aws, places: Places, now: datetime, values: Mapping[str, float | None]) -> None:
    """Publish metrics in the namespace NAMESPACE/USECASE; what has no value is left out."""
    dimensions = [{"Name": "Environment", "Value": places.environment}]
    data = [
        {"MetricName": name, "Value": float(value), "Timestamp": now, "Dimensions": dimensions}
        for name, value in values.items()
        if value is not None
    ]
    aws.cloudwatch.put_metric_data(Namespace=f"{places.namespace}/{places.usecase}", MetricData=data)

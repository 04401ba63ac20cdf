"""Athena, the Redshift Data API and Glue, refusing what their references say they refuse; files go to moto's S3.

Athena: "UNLOAD" and "Service Quotas" in its user guide, StartQueryExecution in its API reference. Redshift: "UNLOAD" in
the developer guide, "Considerations when calling the Data API" in the management guide. Glue: "CreatePartition" and
"UpdatePartition" in its API reference, before moto's. No SQL is read but the UNLOAD around it.
"""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError
from botocore.session import Session
from botocore.validate import ParamValidator

ROWS = (b"PAR1 first", b"PAR1 second")
ATHENA = re.compile(r"UNLOAD \(\n(?P<query>.*)\n\) TO '(?P<to>s3://[^']+/)' WITH \(format = 'PARQUET'\)", re.DOTALL)
REDSHIFT = re.compile(
    r"UNLOAD \('(?P<query>(?:[^'\\]|''|\\\\)*)'\) TO '(?P<to>s3://[^']+)' IAM_ROLE default FORMAT PARQUET"
    "(?P<encrypted> ENCRYPTED AUTO)?",
    re.DOTALL,
)


def checked(service: str, operation: str, request: dict[str, Any]) -> None:
    shape = Session().get_service_model(service).operation_model(operation).input_shape
    assert not ParamValidator().validate(request, shape).generate_report()


def refused(operation: str, code: str, why: str) -> ClientError:
    about: Any = {"Error": {"Code": code, "Message": why}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    return ClientError(about, operation)


class Warehouse:
    """Runs an UNLOAD in `looks` looks; `files` are what it writes, `fault` why it fails at its end."""

    def __init__(self, s3: Any) -> None:
        self.s3, self.fault, self.looks = s3, "", 2
        self.files: tuple[bytes, ...] = ROWS
        self.queries: dict[str, dict[str, Any]] = {}
        self.places_for_results = {"analysts": "s3://results/", "": ""}
        self.looked: Callable[[], object] = lambda: None
        self.meta = SimpleNamespace(region_name="eu-central-1")

    def began(self, found: re.Match[str], ending: str) -> str:
        number = str(uuid4())
        place = found["to"]
        query = {"query": found["query"], "to": place, "left": self.looks, "state": "RUNNING", "ending": ending}
        query |= {"encrypted": bool(found.groupdict().get("encrypted"))}
        bucket, _, prefix = place.removeprefix("s3://").partition("/")
        if self.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents"):
            query |= {"fault": f"HIVE_PATH_ALREADY_EXISTS: Target directory for table '{place}' already exists"}
        self.queries[number] = query
        return number

    def look(self, number: str) -> dict[str, Any]:
        """The query, a look later."""
        self.looked()
        query = self.queries[number]
        if query["state"] == "RUNNING":
            query["left"] -= 1
            if query["left"] < 0:
                fault = query.get("fault", self.fault)
                query |= {"state": "FAILED" if fault else "DONE", "fault": fault}
                bucket, _, prefix = query["to"].removeprefix("s3://").partition("/")
                for at, body in enumerate(self.files[:1] if fault else self.files):  # nothing of a failure is deleted
                    key = f"{prefix}{at:04}_{number}{query['ending']}"
                    self.s3.put_object(Bucket=bucket, Key=key, Body=body)
        return query

    def stop(self, number: str) -> None:
        if self.queries[number]["state"] == "RUNNING":
            self.queries[number]["state"] = "STOPPED"


def client(service: str, **methods: Any) -> Any:
    """As much of a boto3 client as a session's calls need."""
    model = SimpleNamespace(signing_name=service)
    mapping = {name: "".join(part.capitalize() for part in name.split("_")) for name in methods}
    meta = SimpleNamespace(region_name="eu-central-1", service_model=model, method_to_api_mapping=mapping)
    return SimpleNamespace(meta=meta, **methods)


def athena(warehouse: Warehouse) -> Any:
    words = {"RUNNING": "RUNNING", "DONE": "SUCCEEDED", "FAILED": "FAILED", "STOPPED": "CANCELLED"}

    def start_query_execution(**request: Any) -> dict[str, str]:
        checked("athena", "StartQueryExecution", request)
        text, group = request["QueryString"], request["WorkGroup"]
        if group not in warehouse.places_for_results:
            raise refused("StartQueryExecution", "InvalidRequestException", f"WorkGroup {group} is not found.")
        if len(text.encode()) > 262_144:
            raise refused("StartQueryExecution", "InvalidRequestException", "Your query has exceeded the length.")
        if not warehouse.places_for_results[group]:
            raise refused("StartQueryExecution", "InvalidRequestException", "No output location provided.")
        if not (found := ATHENA.fullmatch(text)) or ";" in found["query"]:
            raise refused("StartQueryExecution", "InvalidRequestException", "Only one sql statement is allowed.")
        return {"QueryExecutionId": warehouse.began(found, "")}

    def get_query_execution(**request: Any) -> dict[str, Any]:
        checked("athena", "GetQueryExecution", request)
        query = warehouse.look(request["QueryExecutionId"])
        why = {"StateChangeReason": query["fault"]} if query.get("fault") else {}
        scanned = {"DataScannedInBytes": 12_345_678} if query["state"] != "RUNNING" else {}
        return {"QueryExecution": {"Status": {"State": words[query["state"]], **why}, "Statistics": scanned}}

    def stop_query_execution(**request: Any) -> None:
        warehouse.stop(request["QueryExecutionId"])

    return client(
        "athena",
        start_query_execution=start_query_execution,
        get_query_execution=get_query_execution,
        stop_query_execution=stop_query_execution,
    )


def redshift(warehouse: Warehouse) -> Any:
    words = {"RUNNING": "STARTED", "DONE": "FINISHED", "FAILED": "FAILED", "STOPPED": "ABORTED"}

    def execute_statement(**request: Any) -> dict[str, str]:
        checked("redshift-data", "ExecuteStatement", request)
        if ("WorkgroupName" in request) == ("ClusterIdentifier" in request) or not request.get("Database"):
            raise refused("ExecuteStatement", "ValidationException", "Either a cluster or a workgroup is needed.")
        if len(request["Sql"].encode()) > 100 * 1024:
            raise refused("ExecuteStatement", "ValidationException", "Query statement size is limited to 100 KB.")
        found = REDSHIFT.fullmatch(request["Sql"])
        assert found, request["Sql"]
        number = warehouse.began(found, ".parquet")
        if re.search(r"\blimit\b", re.sub(r"\(.*\)", "", found["query"], flags=re.DOTALL), re.IGNORECASE):
            warehouse.queries[number]["fault"] = "ERROR: Limit clause is not supported"
        return {"Id": number}

    def describe_statement(**request: Any) -> dict[str, Any]:
        checked("redshift-data", "DescribeStatement", request)
        query = warehouse.look(request["Id"])
        why = {"Error": query["fault"]} if query.get("fault") else {}
        return {"Id": request["Id"], "Status": words[query["state"]], "Duration": 3_000_000_000, **why}

    def cancel_statement(**request: Any) -> dict[str, bool]:
        if warehouse.queries[request["Id"]]["state"] != "RUNNING":
            raise refused("CancelStatement", "ValidationException", "Could not cancel a query that has ended.")
        warehouse.stop(request["Id"])
        return {"Status": True}

    return client(
        "redshift-data",
        execute_statement=execute_statement,
        describe_statement=describe_statement,
        cancel_statement=cancel_statement,
    )

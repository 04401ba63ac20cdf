"""Predictions as a table of the Glue Data Catalog, so that Athena and what else knows it can query them.

A window is a partition, which names the folder of the run that scored it last: runs write below their ids, where
partition projection finds no window. Sources: "GetPartition", "CreatePartition", "UpdatePartition", Glue API reference.
"""

from botocore.exceptions import BotoCoreError, ClientError

from batchloop.control import reports, storage
from batchloop.control.names import PREDICTIONS, Aws, Places


def register(aws: Aws, places: Places, window: str, run: tuple[str, str], predictions: str) -> None:
    """Make a run (ARN, start in ISO 8601) the window's partition, unless a later one is there; a refusal is told."""
    if not places.catalog or not predictions:
        return
    from botocore.parsers import ResponseParserError  # noqa: PLC0415 - a simulation has no catalog

    (arn, started), table, known = run, {"DatabaseName": places.catalog, "TableName": PREDICTIONS}, None
    try:
        with storage.passed_over("EntityNotFoundException"):
            known = aws.glue.get_partition(**table, PartitionValues=[window])["Partition"]
        if known and known.get("Parameters", {}).get("started", "") > started:
            return
        whole = aws.glue.get_table(DatabaseName=places.catalog, Name=PREDICTIONS)["Table"]["StorageDescriptor"]
        about = {"run": arn, "started": started}
        partition = {"Values": [window], "StorageDescriptor": whole | {"Location": predictions}, "Parameters": about}
        if known:
            aws.glue.update_partition(**table, PartitionValueList=[window], PartitionInput=partition)
        else:
            aws.glue.create_partition(**table, PartitionInput=partition)
    except (BotoCoreError, ClientError, ResponseParserError, LookupError) as refusal:
        where = f"{places.catalog}.{PREDICTIONS}"
        function = places.pipeline("start-inference")
        todo = f"Mend what is refused, and call {function} with the window and a text in `again`."
        lines = {"Predictions": predictions, "Decision": f"{where} does not have them: {refusal}", "To do": todo}
        reports.tell(aws, places, f"{window}: predictions are not in {where}", lines | {"Run": arn})

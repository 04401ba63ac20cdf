"""PrepareFeatures on SageMaker's Spark container, for `_prepare_features` of pipelines/inference.py."""

from sagemaker.core import image_uris
from sagemaker.core.network import NetworkConfig
from sagemaker.core.processing import Processor
from sagemaker.core.shapes import ProcessingInput, ProcessingOutput, ProcessingS3Input, ProcessingS3Output
from sagemaker.mlops.workflow.steps import ProcessingStep

from batchloop.pipelines import steps
from batchloop.pipelines.steps import Context

SPARK, PYTHON = "3.5", "py312"
SCRIPT = "prepare_features.py"


def prepare_features(context: Context) -> ProcessingStep:
    """Spark reads and writes S3 itself: its hosts share no disk, so the container needs a network."""
    environment = context.environment
    image = image_uris.retrieve("spark", environment.region, version=SPARK, py_version=PYTHON)
    processor = Processor(
        role=environment.role,
        image_uri=image,
        instance_type=context["ProcessingInstanceType"],
        instance_count=context["ProcessingInstanceCount"],
        volume_size_in_gb=environment.instances["processing"].volume_gb,
        max_runtime_in_seconds=environment.max_runtime_seconds,
        entrypoint=["smspark-submit", f"/opt/ml/processing/input/code/{SCRIPT}"],
        # neither is read; each run gives both, and a parameter must be used
        env={"DATA_FINGERPRINT": context["DataFingerprint"], "LEARNED_BY": context["ProcessingImage"]},
        volume_kms_key=environment.volume_key("processing"),
        output_kms_key=environment.key,
        network_config=NetworkConfig(
            enable_network_isolation=False,
            subnets=list(environment.subnets) or None,
            security_group_ids=list(environment.security_groups) or None,
        ),
        tags=context.tags,
        sagemaker_session=context.session,
    )
    code = f"{environment.releases}spark/"  # where the role reads and no run writes
    inputs = [
        ProcessingInput(
            input_name=name,
            s3_input=ProcessingS3Input(
                s3_uri=uri,
                local_path=f"/opt/ml/processing/input/{name}",
                s3_data_type="S3Prefix",
                s3_input_mode="File",
                s3_data_distribution_type="FullyReplicated",
            ),
        )
        for name, uri in {"code": code, "preprocessor": context["Preprocessor"]}.items()
    ]
    # Nothing lies in the folder of `features` in the container: the output says where Spark has written them.
    places = {name: steps.output_uri(context, "PrepareFeatures", name) for name in ("features", "summary")}
    outputs = [
        ProcessingOutput(
            output_name=name,
            s3_output=ProcessingS3Output(
                s3_uri=uri, local_path=f"/opt/ml/processing/output/{name}", s3_upload_mode="EndOfJob"
            ),
        )
        for name, uri in places.items()
    ]
    arguments = {
        "raw": context["ProductionData"],
        "preprocessor": "/opt/ml/processing/input/preprocessor",
        "usecase": "/opt/ml/processing/input/code/usecase.toml",
        "features": places["features"],
        "summary": "/opt/ml/processing/output/summary",
        "max_payload_mb": context["MaxPayloadInMB"].to_string(),
    }
    words = [word for name, value in arguments.items() for word in (f"--{name}", value)]
    request = processor.run(inputs=inputs, outputs=outputs, arguments=words)
    # not cached: its arguments name the execution
    return ProcessingStep(name="PrepareFeatures", step_args=request, retry_policies=steps.job_retries())

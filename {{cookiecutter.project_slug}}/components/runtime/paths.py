"""Where SageMaker puts files into a container and expects them from it.

`ML_ROOT` moves the whole tree, so that the same code runs as a plain process.
Source: "How Amazon SageMaker Processing Runs Your Processing Container Image" and
"How Amazon SageMaker Provides Training Information" in the SageMaker developer guide.
"""

import os
from pathlib import Path


def root() -> Path:
    """The folder that is /opt/ml inside a container."""
    return Path(os.environ.get("ML_ROOT", "/opt/ml"))


def processing_input(name: str) -> Path:
    """The folder into which a processing job's input of this name was copied."""
    return root() / "processing" / "input" / name


def processing_output(name: str) -> Path:
    """The folder whose files a processing job uploads under this output's name."""
    return root() / "processing" / "output" / name


def channel(name: str) -> Path:
    """The folder of a training job's input channel."""
    return root() / "input" / "data" / name


def model() -> Path:
    """What a training job packs as model.tar.gz, and a transform container finds unpacked."""
    return root() / "model"


def training_output() -> Path:
    """What a training job packs as output.tar.gz."""
    return root() / "output" / "data"


def checkpoints() -> Path:
    """Files that survive an interrupted training job."""
    return root() / "checkpoints"


def hyperparameters() -> Path:
    """The training job's string-to-string map."""
    return root() / "input" / "config" / "hyperparameters.json"


def failure(component: str) -> Path:
    """Where the reason for a failure goes: the service shows its first kilobyte."""
    return root() / "output" / ("failure" if component == "algorithm" else "message")


def scratch() -> Path:
    """Room for files that live as long as the job: on the volume that was sized for the data."""
    return root() / "scratch"

"""A repository in small: the real plumbing, components of a few lines, definitions written by hand."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plumbing.rendered import ROOT

CACHED = {"CacheConfig": {"Enabled": True, "ExpireAfter": "P30D"}}
FINGERPRINT = {"DATA_FINGERPRINT": {"Get": "Parameters.DataFingerprint"}}
PREFIX = {"Get": "Parameters.ArtifactsPrefix"}

USECASE = """
[usecase]
name = "mini"
title = "Mini"
description = "d"
namespace = "team"
[data]
task = "binary"
label = "y"
classes = ["no", "yes"]
[columns]
x = { type = "number" }
[split]
seed = 7
[hyperparameters]
rounds = 3
[gate]
metric = "auc"
minimum = 0.5
"""

# Reads its raw rows as orders: `sleep 5` and `fail words` do so, `child` starts a process that outlives a plain kill.
ORDERS = '''
"""A component of a few lines."""
import json, os, subprocess, sys, time
from pathlib import Path

root = Path(os.environ["ML_ROOT"])

def obey(text):
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "sleep":
            print("sleeping", flush=True)
            time.sleep(float(rest))
        if word == "child":
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(97)"])
        if word == "fail":
            (root / "output").mkdir(exist_ok=True)
            (root / "output" / "message").write_text(rest)
            raise SystemExit(1)
        if word == "crash":
            raise ValueError(rest)

def read(folder):
    return "".join(file.read_text() for file in sorted(folder.rglob("*")) if file.is_file())
'''

PROCESSING = (
    ORDERS
    + """
raw = read(root / "processing/input/raw")
obey(raw)
for output in (root / "processing/output").iterdir():
    for number in (0, 1):
        (output / f"part-{number}.txt").write_text(raw + str(number))
    (output / "link").symlink_to("/etc/hostname")
for file in sorted((root / "processing/input").glob("earlier/**/*")):
    if file.is_file():
        print("earlier", file.relative_to(root / "processing/input/earlier"), file.read_text().strip())
print("environment", json.dumps(sorted(os.environ)))
"""
)

LEARNER = (
    ORDERS
    + """
for name in sorted((root / "processing/input").iterdir()):
    text = name.name
time.sleep(float(os.environ.get("TAKES", "0")))
for output in (root / "processing/output").iterdir():
    (output / "report.html").write_text(str(time.time()) if "CLOCK" in os.environ else "report")
print(time.time(), "learned", flush=True)
"""
)

ALGORITHM = (
    ORDERS
    + """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

def learn():
    config = json.loads((root / "input/config/hyperparameters.json").read_text())
    (root / "model" / "model.txt").write_text(read(root / "input/data/train") + json.dumps(config))
    auc = float(config["auc"])
    report = {"metric": "auc", "validation": {"auc": auc}, "test": {"auc": auc}, "champion": None}
    (root / "output/data/evaluation.json").write_text(json.dumps(report))
    print("metric test:auc=0.1")
    print(f"metric test:auc={auc}")

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200 if self.path == "/ping" else 404, b"")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if b"refuse" in body:
            return self.answer(400, b"row 3: no such plan")
        self.answer(200, (root / "model/model.txt").read_bytes()[:4] + body.upper())

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

if sys.argv[2] == "train":
    learn()
else:
    port = int(os.environ["SAGEMAKER_BIND_TO_PORT"])
    ThreadingHTTPServer((os.environ["SERVE_HOST"], port), Handler).serve_forever()
"""
)

COMPILER = """
import shutil, sys
from pathlib import Path
output = Path(sys.argv[-1])
for name in ("training", "inference"):
    shutil.copy(f"pipelines/{name}.json", output)
    if "Wrong" in (output / f"{name}.json").read_text():
        sys.exit("training.json: Wrong is no key")
"""


def uri(step: str, output: str) -> dict[str, Any]:
    """Where a step stores an output, as the compiled definitions say it."""
    return {"Std:Join": {"On": "/", "Values": [PREFIX, {"Get": "Execution.PipelineExecutionId"}, step, output]}}


def made(step: str, output: str) -> dict[str, Any]:
    """A reference to another step's output."""
    get = {"Get": f"Steps.{step}.ProcessingOutputConfig.Outputs['{output}'].S3Output.S3Uri"}
    return {"Std:Join": {"On": "", "Values": [get, "/"]}}


def kind(name: str) -> dict[str, str]:
    return {"S3DataType": "ManifestFile" if name == "earlier" else "S3Prefix"}


def processing(name: str, component: str, inputs: dict[str, Any], outputs: list[str], **more: Any) -> dict[str, Any]:
    """A processing step."""
    place = "/opt/ml/processing"
    arguments = {
        "AppSpecification": {
            "ImageUri": {"Get": f"Parameters.{component.capitalize()}Image"},
            "ContainerEntrypoint": ["python", "-m", "batchloop.container", component],
            "ContainerArguments": ["train"],
        },
        "Environment": more.pop("environment", {}),
        "ProcessingInputs": [
            {"InputName": key, "S3Input": {"LocalPath": f"{place}/input/{key}", "S3Uri": value, **kind(key)}}
            for key, value in inputs.items()
        ],
        "ProcessingOutputConfig": {
            "KmsKeyId": "ignored",
            "Outputs": [
                {"OutputName": key, "S3Output": {"LocalPath": f"{place}/output/{key}", "S3Uri": uri(name, key)}}
                for key in outputs
            ],
        },
    }
    return {"Name": name, "Type": "Processing", "Arguments": arguments, **CACHED, **more}


def training(takes: str = "0") -> dict[str, Any]:
    """Prepare → train → two independent learners → gate."""
    source = {"DataSource": {"S3DataSource": {"S3Uri": made("Prepare", "train"), "S3DataType": "S3Prefix"}}}
    train = {
        "AlgorithmSpecification": {
            "TrainingImage": {"Get": "Parameters.AlgorithmImage"},
            "MetricDefinitions": [{"Name": "test:auc", "Regex": r"metric test:auc=(\S+)"}],
        },
        "HyperParameters": {"auc": {"Get": "Parameters.Auc"}, "rounds": {"Get": "Parameters.Rounds"}},
        "InputDataConfig": [{"ChannelName": "train", **source}],
        "OutputDataConfig": {"S3OutputPath": uri("Train", "model")},
    }
    model = {"Get": "Steps.Train.ModelArtifacts.S3ModelArtifacts"}
    packed = ["OutputDataConfig.S3OutputPath", "TrainingJobName"]
    evaluation = {
        "Std:Join": {"On": "/", "Values": [*({"Get": f"Steps.Train.{key}"} for key in packed), "output/output.tar.gz"]}
    }
    auc = {"Get": "Steps.Train.FinalMetricDataList['test:auc'].Value"}
    about = {
        "preprocessor": made("Prepare", "preprocessor"),
        "model": model,
        "baseline": made("Baseline", "baseline"),
        "explainer": made("Explainer", "explainer"),
        "training_data": {"Get": "Parameters.TrainingData"},
        "git_commit": {"Get": "Parameters.GitCommit"},
        "contract": "c",
        **{
            f"{name}_image": {"Get": f"Parameters.{name.capitalize()}Image"}
            for name in ("processing", "algorithm", "monitoring", "explainability")
        },
    }
    register = {
        "ModelPackageGroupName": "team-mini",
        "ModelApprovalStatus": {"Get": "Parameters.ApprovalStatus"},
        "CustomerMetadataProperties": about,
    }
    message = {"Std:Join": {"On": " ", "Values": ["test:auc is", auc, "and must be", {"Get": "Parameters.Minimum"}]}}
    check = {
        "Conditions": [{"Type": "GreaterThanOrEqualTo", "LeftValue": auc, "RightValue": {"Get": "Parameters.Minimum"}}],
        "IfSteps": [{"Name": "Register", "Type": "RegisterModel", "Arguments": register}],
        "ElseSteps": [{"Name": "Reject", "Type": "Fail", "Arguments": {"ErrorMessage": message}}],
    }
    raw = {"raw": {"Get": "Parameters.TrainingData"}, "champion": {"Get": "Parameters.ChampionPreprocessor"}}
    raw |= {"earlier": {"Get": "Parameters.EarlierData"}}
    prepared, learned = {"AWS_REGION": "x"} | FINGERPRINT, {"environment": {"TAKES": takes}}
    steps = [
        processing("Prepare", "processing", raw, ["preprocessor", "train"], environment=prepared),
        {"Name": "Train", "Type": "Training", "Arguments": train, **CACHED},
        processing("Baseline", "monitoring", {"evaluation": evaluation}, ["baseline", "report"], **learned),
        processing("Explainer", "explainability", {"model": model}, ["explainer"], **learned),
        {"Name": "Check", "Type": "Condition", "Arguments": check, "DependsOn": ["Baseline", "Explainer"]},
    ]
    return {
        "Version": "2020-12-01",
        "Parameters": parameters(TrainingData=None, DataFingerprint=None, EarlierData="?"),
        "Steps": steps,
    }


def inference() -> dict[str, Any]:
    """Prepare → model → transform."""
    container = {"Image": {"Get": "Parameters.AlgorithmImage"}, "ModelDataUrl": {"Get": "Parameters.Model"}}
    source = {"DataSource": {"S3DataSource": {"S3Uri": made("Prepare", "features")}}, "ContentType": "text/plain"}
    transform = {
        "ModelName": {"Get": "Steps.CreateModel.ModelName"},
        "TransformInput": source,
        "TransformOutput": {"S3OutputPath": uri("Score", "predictions"), "Accept": "text/plain"},
        "MaxPayloadInMB": {"Get": "Parameters.MaxPayloadInMB"},
        "MaxConcurrentTransforms": 2,
    }
    raw = {"raw": {"Get": "Parameters.ProductionData"}}
    steps = [
        processing("Prepare", "processing", raw, ["features"], environment=FINGERPRINT),
        {"Name": "CreateModel", "Type": "Model", "Arguments": {"PrimaryContainer": container}},
        {"Name": "Score", "Type": "Transform", "Arguments": transform},
    ]
    declared = parameters(ProductionData=None, DataFingerprint=None, Model=None)
    return {"Version": "2020-12-01", "Parameters": declared, "Steps": steps}


def parameters(**needed: Any) -> list[dict[str, Any]]:
    """Declarations; a None has no default."""
    images = {f"{name}Image": "r/x:1" for name in ("Processing", "Algorithm", "Monitoring", "Explainability")}
    texts = {"ArtifactsPrefix": "s3://bucket/runs", "Auc": "0.9", "Rounds": "3", "GitCommit": "?", "ChampionModel": "?"}
    texts |= {"ChampionPreprocessor": "?", "ApprovalStatus": "Approved", **images, **needed}
    declared: list[dict[str, Any]] = [{"Name": name, "Type": "String"} for name in texts]
    for entry in declared:
        if texts[entry["Name"]] is not None:
            entry["DefaultValue"] = texts[entry["Name"]]
    return [
        *declared,
        {"Name": "Minimum", "Type": "Float", "DefaultValue": 0.8},
        {"Name": "MaxPayloadInMB", "Type": "Integer", "DefaultValue": 1},
    ]


@dataclass(frozen=True)
class Miniature:
    """A rendered repository's stand-in at `root`."""

    root: Path

    def write(self, name: str, text: str) -> None:
        (self.root / name).parent.mkdir(parents=True, exist_ok=True)
        (self.root / name).write_text(text, encoding="utf-8")

    def definitions(self, takes: str = "0") -> None:
        """What its pipelines compile to."""
        self.write("pipelines/training.json", json.dumps(training(takes)))
        self.write("pipelines/inference.json", json.dumps(inference()))

    def start(self, *words: str) -> "subprocess.Popen[str]":
        """The command, started as a user's shell would."""
        environment = {"COMPONENTS_PYTHON": sys.executable, **os.environ, "AWS_SECRET_ACCESS_KEY": "secret"}
        command = [sys.executable, "-m", "batchloop", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.root, env=environment, stdout=pipe, stderr=pipe, text=True)

    def run(self, *words: str, code: int = 0) -> str:
        """What the command said, stdout and stderr, after it ended with this code."""
        process = self.start(*words)
        out, err = process.communicate(timeout=240)
        assert process.returncode == code, out + err
        return out + err

    def states(self) -> dict[str, str]:
        """The newest run's steps."""
        file = sorted(self.root.glob("local/runs/*/run.json"))[-1]
        return {name: step["state"] for name, step in json.loads(file.read_text())["steps"].items()}

    def newest(self) -> str:
        """The newest run's execution id."""
        return sorted(self.root.glob("local/runs/*/run.json"))[-1].parent.name

    def parameters(self) -> dict[str, Any]:
        """The newest run's parameters."""
        file = sorted(self.root.glob("local/runs/*/run.json"))[-1]
        return dict(json.loads(file.read_text())["parameters"])

    def stored(self, pattern: str) -> list[Path]:
        return sorted((self.root / "local" / "storage").glob(pattern))

    def release(self) -> dict[str, Any]:
        return dict(json.loads((self.root / "local" / "release.json").read_text()))


def build(root: Path) -> Miniature:
    """A miniature whose training and inference pipelines run in a second."""
    mini = Miniature(root)
    root.mkdir(parents=True)
    ignored = shutil.ignore_patterns("__pycache__", "adopt*")
    shutil.copytree(ROOT / "batchloop", root / "batchloop", ignore=ignored)
    mini.write("components/__init__.py", "")
    sources = {"processing": PROCESSING, "monitoring": LEARNER, "explainability": LEARNER, "algorithm": ALGORITHM}
    for name, source in sources.items():
        mini.write(f"components/{name}/train.py", source + "\ntrain = serve = lambda settings: None\n")
        mini.write(f"components/{name}/serve.py", f"from components.{name}.train import serve\n")
    mini.write("batchloop/container/hyperparameters.py", "")  # takes all hyperparameters
    mini.write("usecase.toml", USECASE)
    mini.write("environments/dev.toml", (ROOT / "environments" / "dev.toml").read_text(encoding="utf-8"))
    mini.write("pipelines/__init__.py", "")
    mini.write("batchloop/pipelines/compile.py", COMPILER)
    mini.definitions()
    mini.write("data/sample/train/rows.txt", "row\n")
    mini.write("data/sample/production/rows.txt", "new\n")
    return mini


def until(holds: Callable[[], Any], seconds: float = 20.0) -> Any:
    """What `holds` gives as soon as it is true."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := holds():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def processes_of(folder: Path) -> list[int]:
    """Running processes whose ML_ROOT lies in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
                zombie = (entry / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
            except OSError:
                continue
            if f"ML_ROOT={folder}".encode() in environment and not zombie:
                found.append(int(entry.name))
    return found


def copied(root: Path, folders: Sequence[str], **settings: int) -> None:
    """This repository elsewhere, under another name, with other numbers of keys in usecase.toml."""
    ignored = shutil.ignore_patterns("__pycache__", "train", "production", "validation", "later", "window")
    for folder in folders:
        skipped = None if folder == "components" else ignored
        shutil.copytree(ROOT / folder, root / folder, ignore=skipped)
    text = (ROOT / "usecase.toml").read_text(encoding="utf-8")
    text = re.sub(r'^(name|namespace) = "[^"]*"', r'\1 = "case"', text, flags=re.MULTILINE)
    for key, value in settings.items():
        text = re.sub(rf"^{key} = \d+", f"{key} = {value}", text, flags=re.MULTILINE)
    (root / "usecase.toml").write_text(text, encoding="utf-8")
    for file in (root / "environments").glob("*.toml"):
        region = re.sub(r'^region = "[^"]*"', 'region = "eu-central-1"', file.read_text(), flags=re.MULTILINE)
        file.write_text(region, encoding="utf-8")

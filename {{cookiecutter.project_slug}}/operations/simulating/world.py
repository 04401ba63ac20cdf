"""The simulated account: clients for the functions, names, and an engine that carries executions out."""

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from functions import release, storage
from functions.clients import Aws
from functions.memory import Settings
from functions.places import COMPONENTS, Places
from operations import backends, compiling, fingerprints, parameters, settings
from operations.engine import running
from operations.engine.running import Finished, Order
from operations.engine.selecting import Selection
from operations.options import PROCESSES
from operations.simulating.options import Options, Simulated
from operations.simulating.s3 import S3
from operations.simulating.sagemaker import EXECUTING, FAILED, SUCCEEDED, SageMaker
from operations.simulating.services import CloudWatch, Ecr, Sns, Ssm
from operations.simulating.state import State
from pipelines.environment import Environment
from runtime.usecase import UseCase

TAKES = {"inference": timedelta(minutes=10), "training": timedelta(minutes=30)}  # of the simulated clock
Definition = Mapping[str, Any]


@dataclass(frozen=True)
class World:
    """`definitions` are the compiled pipelines, by "training" and "inference"."""

    repository: Simulated
    case: UseCase
    places: Places
    aws: Aws
    state: State
    definitions: Mapping[str, Definition]

    @property
    def now(self) -> datetime:
        return datetime.fromisoformat(self.state["now"])

    def report(self, arn: str) -> dict[str, Any]:
        """The drift report of an inference execution, or of the one that measured it last; {} where it left none."""
        again = [other for other, run in self.state["executions"].items() if run.get("source") == arn]
        arn = next((other for other in again[::-1] if self.state["executions"][other]["status"] == SUCCEEDED), arn)
        place = f"{self.places.runs('inference')}/{arn.rpartition('/')[2]}/DetectDrift/drift/drift.json"
        return storage.read_json(self.aws, place) or {}

    def releases(self) -> list[dict[str, Any]]:
        """Every release so far, the oldest first."""
        return release.history(self.aws, self.places)[::-1]

    def carry_out(self, arn: str) -> None:
        """Run what was started, with the local engine, and record its end."""
        run = self.state["executions"][arn]
        kind = "training" if run["pipeline"] == self.places.pipeline("training") else "inference"
        selection = None
        if run.get("selected"):
            selection = Selection(tuple(run["selected"]), run["source"].rpartition("/")[2])
        order = Order(
            self.definitions[kind], run["pipeline"], run["parameters"], arn.rpartition("/")[2], True, selection
        )
        finished = self.run(order)
        why = "; ".join(step.message for step in finished.failed.values())
        ended = (datetime.fromisoformat(run["started"]) + TAKES[kind]).isoformat()
        run |= {"status": FAILED if finished.failed else SUCCEEDED, "why": why[:1024], "ended": ended}
        self.state["now"] = ended
        self.state.save()

    def run(self, order: Order) -> Finished:
        """An order, here and now; of an attempt that was killed the finished steps are reused."""
        shutil.rmtree(self.repository.local / "runs" / order.identity, ignore_errors=True)
        every = parameters.values(order.definition, order.parameters, ())
        order = replace(order, parameters=every)
        return running.run(self.repository, order, backends.make(self.repository, PROCESSES))

    def executing(self) -> list[str]:
        """Executions that wait to be carried out, the oldest first."""
        return [arn for arn, run in self.state["executions"].items() if run["status"] == EXECUTING]


def open_world(repository: Simulated, options: Options) -> World:
    """The account as it was left, or as `make bootstrap` and `make push` leave a new one. Raises Failure."""
    case, where = settings.read(repository, options.environment)
    places = _places(repository, options, where)
    state = State(repository.local / "state.json")
    compiled = {name: compiling.definition(repository, options.environment, name) for name in compiling.NAMES}
    known = {places.pipeline(name): definition for name, definition in compiled.items()}
    account = f"arn:aws:sagemaker:{where.region}:{where.account}"
    digests = {f"{where.namespace}/{where.slug}/{name}": digest(repository, name) for name in COMPONENTS}
    aws = Aws(
        cloudwatch=CloudWatch(repository.local / "metrics.jsonl"),
        ecr=Ecr(digests),
        s3=S3(running.storage(repository)),
        sagemaker=SageMaker(state, running.registry(repository), known, account),
        sns=Sns(state, repository.local / "notices.jsonl"),
        ssm=Ssm(state),
    )
    world = World(repository, case, places, aws, state, compiled)
    if not state["parameters"]:
        furnish(world, {name: f"{where.image(name)}@{digest(repository, name)}" for name in COMPONENTS})
    return world


def digest(repository: Simulated, component: str) -> str:
    """What stands for an image's digest: it changes with the image's content."""
    content = fingerprints.component(repository, component)
    return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"


def _places(repository: Simulated, options: Options, where: Environment) -> Places:
    settings = Settings.of(repository.tables())
    return Places(
        namespace=where.namespace,
        usecase=where.slug,
        environment=where.name,
        bucket=where.bucket,
        topic=f"arn:aws:sns:{where.region}:{where.account}:{where.prefix}-notices",
        settings=settings if options.decision else replace(settings, enabled=False),
        given_validation=repository.tables().get("split", {}).get("method") == "given",
    )


def furnish(world: World, images: Mapping[str, str]) -> None:
    """What a new account has: the empty artifact, and the parameters, `none` but for the images that were pushed."""
    none, stored = f"{world.places.storage}/none", running.storage(world.repository)
    stored.write_json(f"{none}/manifest.json", {"component": "none"})
    stored.write_json(f"{none}/earlier.manifest", [{"prefix": f"{none}/"}, "manifest.json"])
    values = {"release": "none", "retraining": "none"}
    values |= {f"components/{name}/artifact": "none" for name in COMPONENTS}
    values |= {f"components/{name}/image": image for name, image in images.items()}
    for name, value in values.items():
        world.state["parameters"][world.places.parameter(name)] = [value]
    world.state.save()

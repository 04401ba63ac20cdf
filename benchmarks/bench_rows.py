"""What is measured: each row's subjects side by side, its goals, and whether they did equal work."""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import bench_serving as serving
from bench_measure import Command, Failed, Goal, Plan, Subject, Values, calibrate, run
from bench_places import BIN, PLAIN, TEMPLATE, Contract, Job, Places, plain

ROWS, SMALL = 1_000_000, 200_000  # of a full run, of a quick one
PAYLOAD = 6 * 2**20  # bytes of a transform request
BODY = int(4.5 * 2**20)
COMPONENT, PEER, COPY = "component", "pandas", "copy"
Check = Callable[[], str]


@dataclass(frozen=True)
class Row:
    """A row as it is measured: who, what is asked of them, how often, and what was equal, in words."""

    title: str
    subjects: Mapping[str, Subject]
    goals: tuple[Goal, ...]
    check: Check = lambda: ""
    plan: Plan = field(default_factory=Plan)


def rows(places: Places) -> int:
    return SMALL if places.quick else ROWS


def equal(places: Places, ours: Path, others: Mapping[str, Path]) -> str:
    """Compare what processing wrote with a peer's and a copy's. Raises Failed where it is not the same work."""
    words = []
    for name, folder in others.items():
        found = places.ask("same_tables", ours, folder)
        if found["rows"][0] != found["rows"][1] or found["absent"] or found["apart"] > 1e-4:
            raise Failed(f"{name} did not do the same work: {found}")
        words.append(
            f"{name}: the same {found['rows'][0]:,} rows and columns, sums of {found['numbers']} numbers equal"
        )
    return "; ".join(words)


def processing_train(places: Places, kind: str, contract: Contract = PLAIN) -> Row:
    raw = places.table(f"raw.{kind}", "--rows", rows(places))
    job = Job("processing", "train", {"raw": raw, "champion": places.absent()}, contract)
    peer, copy = places.root / "jobs" / "peer-train", places.root / "jobs" / "copy-train"

    def check() -> str:
        together = places.root / "jobs" / "together"
        shutil.rmtree(together, ignore_errors=True)
        for part in ("train", "validation", "test"):
            shutil.copytree(places.output(job, part), together / part)
        said = equal(places, together, {PEER: peer, COPY: copy})
        return (
            f"{said}. The parts are drawn differently, and so vocabularies learned on other rows; the peer checks no "
            "contract and writes codes as numbers, the copy writes 64 bit numbers"
        )

    subjects = {
        COMPONENT: places.component(job),
        PEER: places.program(places.peer("frames"), "bench_peers.py", "prepare_train", raw, peer, target=peer),
        COPY: places.limit("copy", raw, copy, target=copy),
    }
    goals = {
        "parquet": (Goal(COMPONENT, COPY, "wall", 1.4, quick=6.0), Goal(PEER, COMPONENT, "wall", 4.8, True, quick=1.2)),
        "csv": (Goal(COMPONENT, COPY, "wall", 1.6, quick=6.0), Goal(PEER, COMPONENT, "wall", 3.0, True, quick=1.0)),
    }
    name = {"parquet": "Parquet", "csv": "CSV"}[kind]
    return Row(f"processing, {name}, train", subjects, goals[kind], check)


def processing_serve(places: Places, kind: str) -> Row:
    learned = places.release()
    raw = places.table(f"raw.{kind}", "--rows", rows(places), "--no-label", "--seed", 8)
    inputs = {"raw": raw, "preprocessor": learned["preprocessor"]}
    job = Job("processing", "serve", inputs, arguments=("--max_payload_mb", "6"))
    peer, copy = places.root / "jobs" / "peer-serve", places.root / "jobs" / "copy-serve"
    fitted = places.root / "jobs" / "peer-fitted"
    python = places.peer("frames")
    if not (fitted / "preprocessor.pickle").exists():
        small = places.table("learned.parquet", "--rows", 50000)
        places.program(python, "bench_peers.py", "prepare_train", small, fitted)()

    def check() -> str:
        said = equal(places, places.output(job, "features"), {PEER: peer, COPY: copy})
        return f"{said}. The peer checks no contract, gives no reasons and writes one file"

    words = ("prepare_serve", raw, fitted / "preprocessor.pickle", peer)
    subjects = {
        COMPONENT: places.component(job),
        PEER: places.program(python, "bench_peers.py", *words, target=peer),
        COPY: places.limit("copy", raw, copy, target=copy),
    }
    goals = {
        "parquet": (Goal(COMPONENT, COPY, "wall", 1.15, quick=4.0),),
        "csv": (Goal(COMPONENT, COPY, "wall", 1.6, quick=5.0), Goal(PEER, COMPONENT, "wall", 3.0, True, quick=1.0)),
    }
    name = {"parquet": "Parquet", "csv": "CSV"}[kind]
    return Row(f"processing, {name}, serve", subjects, goals[kind], check)


def grown(places: Places, title: str, job: Callable[[int], Job]) -> Row:
    """The same mode on twice the rows: its peak is bounded by the machine, not by the table."""
    small, large = (100_000, 200_000) if places.quick else (5_000_000, 10_000_000)
    subjects = {f"{count:,} rows": places.component(job(count)) for count in (small, large)}
    one, two = subjects
    goals = (Goal(two, one, "memory", 1.1, quick=1.6), Goal(two, "", "memory", 1024, quick=1024))
    return Row(title, subjects, goals, plan=Plan(3, 3))


def memory_processing_train(places: Places) -> Row:
    def job(count: int) -> Job:
        inputs = {"raw": places.table("raw.parquet", "--rows", count), "champion": places.absent()}
        return Job("processing", "train", inputs, name=f"grown-{count}")

    return grown(places, "processing, memory, train", job)


def memory_processing_serve(places: Places) -> Row:
    def job(count: int) -> Job:
        raw = places.table("raw.parquet", "--rows", count)  # the label is a column that nobody looks at
        inputs = {"raw": raw, "preprocessor": places.release()["preprocessor"]}
        return Job("processing", "serve", inputs, arguments=("--max_payload_mb", "6"), name=f"grown-{count}")

    return grown(places, "processing, memory, serve", job)


def memory_monitoring_train(places: Places) -> Row:
    def job(count: int) -> Job:
        return monitored(places, places.table("raw.parquet", "--rows", count), f"grown-{count}")[0]

    return grown(places, "monitoring, memory, train", job)


def memory_monitoring_serve(places: Places) -> Row:
    def job(count: int) -> Job:
        raw = places.table("raw.parquet", "--rows", count)
        return serve_monitoring(places, raw, places.release()["baseline"], f"grown-{count}")

    return grown(places, "monitoring, memory, serve", job)


def monitored(places: Places, raw: Path, name: str) -> tuple[Job, Path]:
    """Learning from a table beside the small release's evaluation, and where the baseline will be."""
    evaluation = places.release()["model"].parent / "evaluation"
    job = Job("monitoring", "train", {"raw": raw, "evaluation": evaluation}, name=name)
    return job, places.output(job, "baseline")


def serve_monitoring(places: Places, raw: Path, baseline: Path, name: str) -> Job:
    """A batch with answers that were drawn for its ids."""
    answers = raw.parent / "answers"
    if not answers.is_dir():
        partial = raw.parent / "partial-answers"
        places.ask("predictions", raw, partial, 7)
        partial.rename(answers)
    given = {"explainer": places.release()["explainer"], "labels": places.absent()}
    return Job("monitoring", "serve", {"raw": raw, "predictions": answers, "baseline": baseline} | given, name=name)


def monitoring(places: Places, beside_peer: bool) -> Row:
    """Both modes together: learn from one table, judge another."""
    count = rows(places)
    before = places.table("raw.parquet", "--rows", count)
    now = places.table("raw.parquet", "--rows", count, "--no-label", "--seed", 8)
    learn, baseline = monitored(places, before, "monitoring-train")
    judge = serve_monitoring(places, now, baseline, "monitoring-serve")
    subjects = {COMPONENT: places.component(learn, judge)}
    if not beside_peer:
        subjects["reading"] = places.limit("read", before, now)
        goal = Goal(COMPONENT, "reading", "wall", 3.5, quick=12.0)
        return Row("monitoring, both modes", subjects, (goal,), lambda: "the limit reads both files whole, and no more")
    shape = ("--rows", count, "--no-id", "--no-label")
    tables = [places.table("raw.parquet", *shape, "--seed", seed) for seed in (7, 8)]
    subjects["evidently"] = places.program(places.peer("evidently"), "drift_peer.py", *tables)

    def check() -> str:
        report = json.loads((places.output(judge, "drift") / "drift.json").read_text(encoding="utf-8"))
        ours = [column["name"] for column in report["columns"]]
        drifted = sum(bool(column["drifted"]) for column in report["columns"])
        log = places.script(Path("python"), "drift_peer.py", *tables).log
        peer = json.loads(log.read_text(encoding="utf-8").splitlines()[-1])["batches"][0]["drifted"]
        return (
            f"both judge the same 28 columns of the same rows ({drifted} and {len(peer)} drifted); ours judges "
            f"{len(ours) - 28} scores more, learns a baseline first and writes two reports, evidently writes none"
        )

    goal = Goal("evidently", COMPONENT, "wall", 60, True)
    return Row("monitoring beside evidently", subjects, (goal,), check, Plan(only={"evidently": 2}))


def algorithm_train(places: Places) -> Row:
    count, trees = (60_000, 50) if places.quick else (1_143_000, 200)
    settings = {**PLAIN.settings, "hyperparameters.num_iterations": trees}
    contract = Contract(settings=settings)
    raw = places.table("raw.parquet", "--rows", count)
    prepare = Job("processing", "train", {"raw": raw, "champion": places.absent()}, contract, name="fit-processing")
    data = places.folder(prepare) / "processing" / "output"
    if not (data / "features-of").is_file() or (data / "features-of").read_text() != str(raw):
        places.component(prepare)()
        (data / "features-of").write_text(str(raw))
    inputs = {part: data / part for part in ("train", "validation", "test", "champion_test")}
    job = Job("algorithm", "train", inputs | {"champion": places.absent()}, contract)
    target = places.root / "jobs" / "bare-lightgbm"
    given = {"learning_rate": 0.05, "num_iterations": trees, "num_leaves": 31, "min_data_in_leaf": 20, "seed": 7}
    given |= {"feature_fraction": 0.9, "bagging_fraction": 0.9, "bagging_freq": 1, "lambda_l2": 1.0}

    def check() -> str:
        report = json.loads((places.output(job, "data") / "evaluation.json").read_text(encoding="utf-8"))
        bare = float((target / "auc.json").read_text(encoding="utf-8"))
        ours = float(report["test"]["auc"])
        if abs(ours - bare) > 1e-6:
            raise Failed(f"the models differ: AUC {ours} and {bare}")
        same = f"the same {trees} trees: AUC on test {ours:.6f} and {bare:.6f}"
        return f"{same}; the component also writes predictions, measures, and looks for leaks"

    subjects = {
        COMPONENT: places.component(job),
        "LightGBM": places.limit("fit", data, json.dumps(given), target, target=target),
    }
    goals = (
        Goal(COMPONENT, "LightGBM", "wall", 1.05, quick=2.5),
        Goal(COMPONENT, "LightGBM", "memory", 1.1, quick=2.0),
    )
    return Row("algorithm, train", subjects, goals, check)


def features_of(places: Places, count: int) -> Path:
    """Rows as processing writes them for scoring, in one file."""
    raw = places.table("raw.parquet", "--rows", count, "--no-label", "--seed", 9)
    learned = places.release()
    job = Job("processing", "serve", {"raw": raw, "preprocessor": learned["preprocessor"]}, name=f"features-{count}")
    folder = places.output(job, "features")
    if not folder.is_dir() or len(list(folder.glob("*.parquet"))) != 1:
        places.component(Job(job.component, job.mode, job.inputs, PLAIN, ("--max_payload_mb", "2000"), job.name))()
    [file] = folder.glob("*.parquet")
    return file


def algorithm_serve(places: Places, kind: str) -> Row:
    model = places.release()["model"]
    body = places.root / "data" / f"body.{kind}"
    count = places.ask("body", features_of(places, 100_000), body, BODY // (3 if places.quick else 1))
    load = serving.Load(body, count, 6 if places.quick else 16)
    job = Job("algorithm", "serve", {})
    subjects = {
        COMPONENT: serving.component(places, job, model, load),
        "flask": serving.flask(places, model, load),
        "in process": serving.in_process(places, model, load),
    }
    goals = (
        Goal(COMPONENT, "in process", "rate", 0.95, True, quick=0.5),
        Goal(COMPONENT, "flask", "memory", 0.4, quick=0.8),
        Goal(COMPONENT, "flask", "start", 0.3, quick=0.8),
    )

    def check() -> str:
        ours, theirs = places.folder(job) / "log", places.root / "logs" / "bench_peers-application.log"
        apart = places.ask("same_scores", *(log.with_suffix(f".{kind}") for log in (ours, theirs)), model, body)
        if apart > 1e-9:
            raise Failed(f"the scores differ by {apart}")
        return f"the same {count:,} scores a request, to {apart:.0e}; the component checks each cell and gives reasons"

    name = {"parquet": "Parquet", "csv": "CSV"}[kind]
    size = body.stat().st_size / 2**20
    return Row(f"algorithm, serve, {name} of {size:.1f} MiB, 2 at once", subjects, goals, check)


def explainability(places: Places) -> Row:
    count = 2_000 if places.quick else 8_000
    learned, file = places.release(), features_of(places, count)
    contract = Contract(settings={**PLAIN.settings, "explanation.rows": 0})
    inputs = {"features": file.parent, "model": learned["model"], "explainer": learned["explainer"]}
    job = Job("explainability", "serve", inputs, contract)
    jobs = places.root / "jobs"
    places.ask("save_matrix", learned["model"], file, jobs / "matrix.npy")
    subjects = {
        COMPONENT: places.component(job),
        "pred_contrib": places.limit(
            "contributions", learned["model"], file, count, jobs / "bare", target=jobs / "bare"
        ),
    }
    if not places.quick:
        words = ("contributions", learned["model"], jobs / "matrix.npy", count, jobs / "shap")
        subjects["shap"] = places.program(places.peer("shap"), "bench_peers.py", *words, target=jobs / "shap")

    def check() -> str:
        table = places.output(job, "explanations") / "explanations.parquet"
        others = [jobs / name / "contributions.npy" for name in ("bare", "shap") if (jobs / name).is_dir()]
        apart = max(places.ask("same_reasons", table, other, 28) for other in others)
        if apart > 1e-6:
            raise Failed(f"the attributions differ by {apart}")
        same = f"the same strongest attributions of {count:,} rows, to {apart:.0e}"
        return f"{same}; the component also names reasons and writes a report"

    goals = (Goal("pred_contrib", COMPONENT, "wall", 0.95, True, quick=0.3), Goal("shap", COMPONENT, "wall", 1.0, True))
    return Row("explainability, serve", subjects, goals if not places.quick else goals[:1], check)


def payload(places: Places) -> Row:
    """How full the files are that processing writes for scoring."""
    inputs = {"raw": places.table("raw.parquet", "--rows", rows(places), "--no-label", "--seed", 8)}
    inputs["preprocessor"] = places.release()["preprocessor"]
    job = Job("processing", "serve", inputs, arguments=("--max_payload_mb", "6"), name="payload")

    def subject() -> Values:
        values = places.component(job)()
        sizes = sorted(file.stat().st_size for file in places.output(job, "features").glob("*.parquet"))
        full = sizes[1:] or sizes  # the smallest holds what was left over
        return values | {"fill": sum(full) / len(full) / PAYLOAD, "files": len(sizes)}

    goal = Goal(COMPONENT, "", "fill", 0.8, True, quick=0.3)
    return Row("files a scoring job sends, of 6 MiB", {COMPONENT: subject}, (goal,), plan=Plan(1, 1))


def many_files(places: Places, kind: str) -> Row:
    """The same rows in one file and in a hundred."""
    count = 50_000 if places.quick else SMALL
    learned, jobs = places.release(), {}
    for number in (1, 100):
        folder = places.table("raw", "--rows", count, "--no-label", "--files", number, "--kind", kind)
        inputs = {"raw": folder, "preprocessor": learned["preprocessor"]}
        jobs[f"{number} files"] = places.component(Job("processing", "serve", inputs, name=f"files-{number}"))
    goals = (Goal("100 files", "1 files", "memory", 1.5, quick=2.5), Goal("100 files", "1 files", "cpu", 3, quick=5))
    return Row(f"processing, {kind}, serve, {count:,} rows in 100 files", jobs, goals, plan=Plan(3, 6))


def workspace(places: Places, name: str) -> Path:
    """A repository as rendered a moment ago, its tools installed."""
    folder = places.root / "jobs" / name
    shutil.rmtree(folder, ignore_errors=True)
    left_out = shutil.ignore_patterns(".venv*", "local", "__pycache__", "sample", ".git")
    shutil.copytree(places.repository, folder, ignore=left_out)
    for environment in (".venv", ".venv-components"):
        (folder / environment).symlink_to(places.repository / environment)
    return folder


def made(places: Places, target: str, folder: str) -> Subject:
    """`make <target>` in a fresh repository."""

    def subject() -> Values:
        place = workspace(places, folder)
        log = places.root / "logs" / f"make-{target}.log"
        return run(Command(("make", target), plain() | {"PYTHONDONTWRITEBYTECODE": "1"}, log, place))

    return subject


def calibration() -> Values:
    """What the machine takes for a fixed work, as a subject."""
    return {"wall": calibrate()}


def first_compile(places: Places) -> Row:
    subjects = {"make compile": made(places, "compile", "compiled"), "calibration": calibration}
    goals = (
        Goal("make compile", "", "wall", 3.0),
        Goal("make compile", "calibration", "wall", 25, quick=60),
    )
    return Row("first compile, tools installed", subjects, goals)


def first_train(places: Places) -> Row:
    subjects = {"make train": made(places, "train", "trained")}
    return Row("first make train, tools installed", subjects, (Goal("make train", "", "wall", 5.0),))


def render(places: Places) -> Row:
    """With hooks, the plan printed; beside a template of the size of cookiecutter-pypackage."""
    ours, peer = places.template(), stand_in(places.root / "stand-in")

    def rendered(template: Path, name: str) -> Subject:
        def subject() -> Values:
            target = places.root / "jobs" / name
            shutil.rmtree(target, ignore_errors=True)
            words = (str(BIN / "cookiecutter"), str(template), "--no-input", "--output-dir", str(target))
            return run(Command(words, plain(), places.root / "logs" / f"{name}.log", places.root))

        return subject

    subjects = {COMPONENT: rendered(ours, "rendered"), "32 files": rendered(peer, "stand-in")}
    goal = Goal(COMPONENT, "32 files", "wall", 1.1, quick=3.0)
    count = sum(1 for file in (ours / TEMPLATE.name).rglob("*") if file.is_file())
    said = f"{count} files and two hooks against a made-up template of 32 files and two, cookiecutter-pypackage's size"
    return Row("render with hooks", subjects, (goal,), lambda: said)


def stand_in(folder: Path) -> Path:
    """A template of 32 files of 40 lines that each use an answer, and two hooks in Python."""
    inside = folder / "{{cookiecutter.slug}}" / "package"
    inside.mkdir(parents=True, exist_ok=True)
    answers = {"name": "A package", "slug": "a-package", "author": "Somebody", "version": "0.1.0", "year": "2026"}
    (folder / "cookiecutter.json").write_text(json.dumps(answers), encoding="utf-8")
    line = "# {{ cookiecutter.name }} {{ cookiecutter.version }}, a line like those that a package has\n"
    for number in range(32):
        (inside / f"module_{number}.txt").write_text(line * 40, encoding="utf-8")
    (folder / "hooks").mkdir(exist_ok=True)
    check = "import re, sys\nsys.exit(not re.fullmatch('[a-z][a-z0-9-]*', '{{ cookiecutter.slug }}'))\n"
    (folder / "hooks" / "pre_gen_project.py").write_text(check, encoding="utf-8")
    (folder / "hooks" / "post_gen_project.py").write_text("from pathlib import Path\nPath.cwd()\n", encoding="utf-8")
    return folder


def imports(places: Places) -> Row:
    """What starting costs before a component looks at its input, and the packages it needs."""
    variables = {"PYTHONPATH": str(places.repository)}

    def starting(name: str, modules: str) -> Subject:
        log = places.root / "logs" / f"import-{name}.log"
        command = places.script(places.python, "bench_limits.py", "", **variables)
        words = (str(places.python), "-c", f"import {modules}")
        return lambda: run(Command(words, command.environment, log, places.root))

    parts = ("processing", "algorithm", "monitoring", "explainability")
    subjects = {name: starting(name, f"components.{name}.train, components.{name}.serve") for name in parts}
    subjects["polars"] = starting("polars", "polars")

    def check() -> str:
        locks = places.repository / "locks"
        sizes = {name: places.ask("packages", locks / f"{name}.txt") for name in parts}
        return "MiB of packages: " + ", ".join(f"{name} {size:.0f}" for name, size in sizes.items())

    goals = tuple(
        Goal(name, "polars", "cpu", limit, quick=limit) for name, limit in zip(parts, (2, 6, 4, 6), strict=True)
    )
    return Row("imports", subjects, goals, check)


KINDS = ("parquet", "csv")
ALL: dict[str, Callable[[Places], Row]] = {
    "processing-parquet-train": lambda places: processing_train(places, "parquet"),
    "processing-parquet-serve": lambda places: processing_serve(places, "parquet"),
    "processing-ranges-train": lambda places: processing_train(places, "parquet", Contract(ranges=True)),
    "processing-csv-train": lambda places: processing_train(places, "csv"),
    "processing-csv-serve": lambda places: processing_serve(places, "csv"),
    "files-csv": lambda places: many_files(places, "csv"),
    "files-parquet": lambda places: many_files(places, "parquet"),
    "payload": payload,
    "memory-processing-train": memory_processing_train,
    "memory-processing-serve": memory_processing_serve,
    "monitoring": lambda places: monitoring(places, beside_peer=False),
    "monitoring-evidently": lambda places: monitoring(places, beside_peer=True),
    "memory-monitoring-train": memory_monitoring_train,
    "memory-monitoring-serve": memory_monitoring_serve,
    "algorithm-train": algorithm_train,
    "algorithm-serve-parquet": lambda places: algorithm_serve(places, "parquet"),
    "algorithm-serve-csv": lambda places: algorithm_serve(places, "csv"),
    "explainability": explainability,
    "first-compile": first_compile,
    "first-train": first_train,
    "render": render,
    "imports": imports,
}
# what CI runs: each component, and what a peer's environment of few packages is enough for
QUICK = (
    *("processing-parquet-train", "processing-parquet-serve", "processing-csv-train", "processing-csv-serve"),
    *("files-csv", "files-parquet", "payload", "monitoring", "algorithm-train", "algorithm-serve-parquet"),
    *("explainability", "first-compile", "render", "imports"),
)

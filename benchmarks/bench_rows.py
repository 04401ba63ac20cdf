"""What is measured: each row's subjects side by side, its goals, and whether they did equal work."""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import bench_serving as serving
from bench_making import first_compile, first_train, imports, render, warm_score
from bench_measure import Failed, Goal, Plan, Row, Values
from bench_places import PLAIN, SPLITS, Contract, Job, Places

ROWS, SMALL = 1_000_000, 200_000  # of a full run, of a quick one
PAYLOAD = 6 * 2**20  # bytes of a transform request
BODY = int(4.5 * 2**20)
COMPONENT, PEER, COPY = "component", "pandas", "copy"
NAMES = {"parquet": "Parquet", "csv": "CSV"}


def rows(places: Places) -> int:
    return SMALL if places.quick else ROWS


def table(places: Places, count: int, kind: str = "parquet", seed: int = 7) -> Path:
    """To learn from; that of another seed has no label."""
    return places.table(f"raw.{kind}", "--rows", count, *(() if seed == 7 else ("--no-label", "--seed", seed)))


def prepare(places: Places, raw: Path, name: str = "", contract: Contract = PLAIN) -> Job:
    """Processing, train."""
    return Job("processing", "train", {"raw": raw, "champion": places.absent()}, contract, name=name)


def apply(places: Places, raw: Path, name: str = "", payload: int = 6) -> Job:
    """Processing, serve."""
    inputs = {"raw": raw, "preprocessor": places.release()["preprocessor"]}
    return Job("processing", "serve", inputs, arguments=("--max_payload_mb", str(payload)), name=name)


def learn(places: Places, raw: Path, name: str = "") -> Job:
    """Monitoring, train, beside the small release's evaluation."""
    evaluation = places.release()["model"].parent / "evaluation"
    return Job("monitoring", "train", {"raw": raw, "evaluation": evaluation}, name=name)


def judge(places: Places, raw: Path, name: str = "", baseline: Path | None = None) -> Job:
    """Monitoring, serve, of a batch with answers that were drawn for its ids."""
    answers, release = raw.parent / "answers", places.release()
    if not answers.is_dir():
        partial = raw.parent / "partial-answers"
        places.ask("predictions", raw, partial, 7)
        partial.rename(answers)
    inputs = {"raw": raw, "predictions": answers, "baseline": baseline or release["baseline"]}
    return Job(
        "monitoring", "serve", inputs | {"explainer": release["explainer"], "labels": places.absent()}, name=name
    )


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


def once(places: Places) -> Plan:
    """In a quick run the peer runs in one round: it takes most of the time."""
    return Plan(only={PEER: 1, "flask": 1} if places.quick else {})


def processing_train(places: Places, kind: str, contract: Contract = PLAIN) -> Row:
    raw = table(places, rows(places), kind)
    job, jobs = prepare(places, raw, contract=contract), places.root / "jobs"
    peer, copy = jobs / "peer-train", jobs / "copy-train"

    def check() -> str:
        together = jobs / "together"
        shutil.rmtree(together, ignore_errors=True)
        for part in SPLITS[:3]:
            shutil.copytree(places.output(job, part), together / part)
        said = equal(places, together, {PEER: peer, COPY: copy})
        return (
            f"{said}. The parts are drawn differently, and so vocabularies learned on other rows; the peer checks no "
            "contract and writes codes as numbers, the copy writes 64 bit numbers"
        )

    subjects = {
        COMPONENT: places.component(job),
        PEER: places.program(places.peer("usual"), "bench_peers.py", "prepare_train", raw, peer, target=peer),
        COPY: places.limit("copy", raw, copy, target=copy),
    }
    goals = {
        "parquet": (Goal(COMPONENT, COPY, "wall", 1.4, quick=3.0), Goal(PEER, COMPONENT, "wall", 4.8, True, quick=2.0)),
        "csv": (Goal(COMPONENT, COPY, "wall", 1.6, quick=3.2), Goal(PEER, COMPONENT, "wall", 3.0, True, quick=1.5)),
    }
    ranges = ", ranges in the contract" if contract.ranges else ""
    return Row(f"processing, {NAMES[kind]}, train{ranges}", subjects, goals[kind], check, once(places))


def processing_serve(places: Places, kind: str) -> Row:
    raw = table(places, rows(places), kind, 8)
    job, jobs = apply(places, raw), places.root / "jobs"
    peer, copy, fitted, python = jobs / "peer-serve", jobs / "copy-serve", jobs / "peer-fitted", places.peer("usual")
    if not (fitted / "preprocessor.pickle").exists():
        places.program(python, "bench_peers.py", "prepare_train", table(places, 50_000), fitted)()

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
        "parquet": (
            Goal(COMPONENT, COPY, "wall", 1.15, quick=2.5),
            Goal(PEER, COMPONENT, "wall", 3.0, True, quick=1.5),
        ),
        "csv": (Goal(COMPONENT, COPY, "wall", 1.6, quick=3.2), Goal(PEER, COMPONENT, "wall", 3.0, True, quick=1.5)),
    }
    return Row(f"processing, {NAMES[kind]}, serve", subjects, goals[kind], check, once(places))


def memory(places: Places, job: Callable[[Places, Path, str], Job]) -> Row:
    """The same mode on twice the rows: its peak is bounded by the machine, not by the table."""
    small, large = (100_000, 200_000) if places.quick else (5_000_000, 10_000_000)
    jobs = {f"{count:,} rows": job(places, table(places, count), f"memory-{count}") for count in (small, large)}
    one, two = jobs
    goals = (Goal(two, one, "memory", 1.1, quick=1.6), Goal(two, "", "memory", 1024, quick=1024))
    title = f"{jobs[two].component}, memory, {jobs[two].mode}"
    return Row(title, {name: places.component(each) for name, each in jobs.items()}, goals, plan=Plan(3, 3))


def monitoring(places: Places) -> Row:
    """Both modes together: learn from one table, judge another."""
    before, now = table(places, rows(places)), table(places, rows(places), seed=8)
    learned = learn(places, before)
    judged = judge(places, now, baseline=places.output(learned, "baseline"))
    subjects = {COMPONENT: places.component(learned, judged), "reading": places.limit("read", before, now)}
    goal = Goal(COMPONENT, "reading", "wall", 3.5, quick=10.0)
    return Row("monitoring, both modes", subjects, (goal,), lambda: "the limit reads both tables whole, and no more")


def evidently(places: Places) -> Row:
    """Both modes together beside the peer that most would take."""
    learned = learn(places, table(places, rows(places)))
    judged = judge(places, table(places, rows(places), seed=8), baseline=places.output(learned, "baseline"))
    shape = ("--rows", rows(places), "--no-id", "--no-label")
    tables = [places.table("raw.parquet", *shape, "--seed", seed) for seed in (7, 8)]
    peer = places.program(places.peer("evidently"), "drift_peer.py", *tables)

    def check() -> str:
        report = json.loads((places.output(judged, "drift") / "drift.json").read_text(encoding="utf-8"))
        drifted = [column["name"] for column in report["columns"] if column["drifted"]]
        log = places.script(Path(), "drift_peer.py", *tables).log.read_text(encoding="utf-8")
        theirs = json.loads(log.splitlines()[-1])["batches"][0]["drifted"]
        return (
            f"both judge the same 28 columns of the same rows ({len(drifted)} and {len(theirs)} drifted); ours judges "
            "the scores too, learns a baseline first and writes two reports, evidently writes none"
        )

    goals = (Goal("evidently", COMPONENT, "wall", 60, True),)
    subjects = {COMPONENT: places.component(learned, judged), "evidently": peer}
    return Row("monitoring, both modes, beside evidently", subjects, goals, check, Plan(only={"evidently": 2}))


def algorithm_train(places: Places) -> Row:
    count, trees = (60_000, 50) if places.quick else (1_143_000, 200)
    contract = Contract(settings={**PLAIN.settings, "hyperparameters.num_iterations": trees})
    prepared = prepare(places, table(places, count), "fit-processing", contract)
    places.component(prepared)()
    data = places.folder(prepared) / "processing" / "output"
    inputs = {part: data / part for part in SPLITS}
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
        Goal(COMPONENT, "LightGBM", "wall", 1.05, quick=2.0),
        Goal(COMPONENT, "LightGBM", "memory", 1.1, quick=1.6),
    )
    return Row("algorithm, train", subjects, goals, check)


def features_of(places: Places, count: int) -> Path:
    """Rows as processing writes them for scoring, in one file."""
    job = apply(places, table(places, count, seed=9), f"features-{count}", payload=2000)
    places.component(job)()
    [file] = places.output(job, "features").glob("*.parquet")
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
        Goal(COMPONENT, "flask", "memory", 0.4, quick=0.7),
        Goal(COMPONENT, "flask", "start", 0.3, quick=0.8),
    )

    def check() -> str:
        ours, theirs = places.folder(job) / "log", places.root / "logs" / "bench_peers-application.log"
        apart = places.ask("same_scores", *(log.with_suffix(f".{kind}") for log in (ours, theirs)), model, body)
        if apart > 1e-9:
            raise Failed(f"the scores differ by {apart}")
        return f"the same {count:,} scores a request, to {apart:.0e}; the component checks each cell and gives reasons"

    size = body.stat().st_size / 2**20
    return Row(f"algorithm, serve, {NAMES[kind]} of {size:.1f} MiB, 2 at once", subjects, goals, check, once(places))


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
        others = [jobs / name / "contributions.npy" for name in ("bare", "shap")[: len(subjects) - 1]]
        apart = max(places.ask("same_reasons", table, other, 28) for other in others)
        if apart > 1e-6:
            raise Failed(f"the attributions differ by {apart}")
        same = f"the same strongest attributions of {count:,} rows, to {apart:.0e}"
        return f"{same}; the component also names reasons and writes a report"

    goals = (Goal("pred_contrib", COMPONENT, "wall", 0.95, True, quick=0.5), Goal("shap", COMPONENT, "wall", 1.0, True))
    return Row("explainability, serve", subjects, goals if not places.quick else goals[:1], check)


def payload(places: Places) -> Row:
    """How full the files are that processing writes for scoring."""
    job = apply(places, table(places, rows(places), seed=8), "payload")

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
    shape = ("--rows", count, "--no-label", "--kind", kind, "--files")
    folders = {number: places.table("raw", *shape, number) for number in (1, 100)}
    jobs = {f"{number} files": apply(places, folder, f"files-{number}") for number, folder in folders.items()}
    one, many = jobs
    goals = (Goal(many, one, "memory", 1.5, quick=2.5), Goal(many, one, "cpu", 3, quick=5))
    title = f"processing, {NAMES[kind]}, serve, {count:,} rows in 100 files"
    return Row(title, {name: places.component(job) for name, job in jobs.items()}, goals, plan=Plan(3, 6))


ALL: dict[str, Callable[[Places], Row]] = {
    "processing-parquet-train": lambda places: processing_train(places, "parquet"),
    "processing-parquet-serve": lambda places: processing_serve(places, "parquet"),
    "processing-ranges-train": lambda places: processing_train(places, "parquet", Contract(ranges=True)),
    "processing-csv-train": lambda places: processing_train(places, "csv"),
    "processing-csv-serve": lambda places: processing_serve(places, "csv"),
    "files-csv": lambda places: many_files(places, "csv"),
    "files-parquet": lambda places: many_files(places, "parquet"),
    "payload": payload,
    "memory-processing-train": lambda places: memory(places, prepare),
    "memory-processing-serve": lambda places: memory(places, apply),
    "monitoring": monitoring,
    "monitoring-evidently": evidently,
    "memory-monitoring-train": lambda places: memory(places, learn),
    "memory-monitoring-serve": lambda places: memory(places, judge),
    "algorithm-train": algorithm_train,
    "algorithm-serve-parquet": lambda places: algorithm_serve(places, "parquet"),
    "algorithm-serve-csv": lambda places: algorithm_serve(places, "csv"),
    "explainability": explainability,
    "first-compile": first_compile,
    "first-train": first_train,
    "warm-score": warm_score,
    "render": render,
    "imports": imports,
}
# what CI runs: each component, and what a peer's environment of few packages is enough for
QUICK = (
    *("processing-parquet-train", "processing-parquet-serve", "processing-csv-train", "processing-csv-serve"),
    *("files-csv", "files-parquet", "payload", "monitoring", "algorithm-train", "algorithm-serve-parquet"),
    *("explainability", "first-compile", "render", "imports"),
)

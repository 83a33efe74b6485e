"""Write the record: a benchmark's run, and the run of each of its cells."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from operator import itemgetter
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from safetensors.numpy import save

from tasks import documents, sqlite
from tasks.core.design.grid import Batch, digest
from tasks.core.design.initializers import Backend
from tasks.core.design.own import ArrayFile, Loaded
from tasks.core.design.settings import CsvFile, Data, short, source
from tasks.core.design.study import Study
from tasks.core.training import datasets, files
from tasks.core.training.outcome import Outcome, Trained, epochs_to_target, first_line
from tasks.tracking import lease, local, parts, runs, store, view
from tasks.tracking.parts import Kept
from tasks.tracking.runs import Point, Run
from tasks.tracking.store import (
    AS_BUILT,
    BENCHMARK,
    DATA,
    DIGEST,
    GROUPED,
    HEALTH,
    KEY,
    MACHINES,
    PARENT,
    QUESTION,
    REASON,
    REVOKED,
    SEEDS,
    SETTINGS,
    STATUS,
    Benchmark,
    RecordError,
)
from tasks.tracking.turns import Turns

KIND = "mlflow.experimentKind"  # without this tag MLflow's page opens with traces of language models
RULES = "rules"  # of a network of one's own: a mapping that is one param
POINTS = 1000  # metrics in one request, which is the most that MLflow takes
TAG = 8000  # letters of a tag, which is the most that MLflow takes
WHOLE = ("initializers", "seeds", "factors", "checks")  # too long for a param: study.yaml has them

SHARED = (PARENT, "mlflow.note.content", view.GROUP, "initbench.framework", "initbench.device")
"""Tags of a cell that the run of its group has, too."""
GROUP_STATUS = "group"  # the status that the run of a group has in place of a cell's

NO_QUESTION = ("margins", "reported", "checks", "controls", "record", "max_tasks", "audit", "runner")
"""Settings that do not change what is trained; with others the question is the same."""


@contextmanager
def _failures_told() -> Iterator[None]:
    """Turn what goes wrong with the store or its disk into one kind of error.

    Raises:
        RecordError: if something does.
    """
    try:
        yield
    except (MlflowException, OSError) as error:
        words = f"the record cannot be kept; the cells that it holds will be reused: {first_line(error)}"
        raise RecordError(words) from error


@contextmanager
def benchmark(study: Study, environment: Mapping[str, object], tags: Mapping[str, str]) -> Iterator[Benchmark]:
    """Open the run of a benchmark, with its study, environment and data; end the run as FINISHED, FAILED or KILLED.

    Raises:
        StoreError: if the store cannot be used.
        RecordError: if the store fails during the benchmark.
    """
    client = store.client(store.uri())
    with _failures_told():
        experiment = made_experiment(client, study.name)
        _tag(client, experiment, view.TAG, view.saved_view([*map(short, study.factors)]))
        lease.close_dead(client)
        labels = {**tags, **lease.tags(), BENCHMARK: "yes", **_looked(study)}
        labels |= {GROUPED: "yes"} if study.record == "group" else {}
        run_id = client.create_run(experiment, tags=labels, run_name=study.summary).info.run_id
        try:
            _log_study(client, run_id, study, environment)
            with lease.renewed(client, run_id, _turns.writing):
                yield Benchmark(store.uri(), experiment, run_id)
        except BaseException as error:
            with suppress(MlflowException):  # if this fails as well, the next benchmark ends the run
                client.set_terminated(run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
            raise
        client.set_terminated(run_id, "FINISHED")


def _log_study(client: MlflowClient, run_id: str, study: Study, environment: Mapping[str, object]) -> None:
    settings = _params(study.spelled_out.model_dump(mode="json", exclude=set(WHOLE)))
    client.log_batch(run_id, params=[Param(name, value) for name, value in settings.items()])
    client.log_text(run_id, documents.write(study.model_dump(mode="json")), "study.yaml")
    client.log_text(run_id, json.dumps(environment, indent=2), "environment.json")
    client.log_inputs(run_id, [_dataset_input(dataset) for dataset in study.datasets])


def _looked(study: Study) -> dict[str, str]:
    """Return the tags by which later benchmarks know that this one looked at the same question, and at which seeds."""
    asked = study.spelled_out.model_dump(mode="json", exclude={"seeds", *NO_QUESTION})
    return {QUESTION: digest(asked), SEEDS: digest(sorted(study.seed_list))}


def _dataset_input(asked: Data) -> DatasetInput:
    data = datasets.load(asked)
    rows, features = len(data.x), data.x[0].size
    file = asked if isinstance(asked, CsvFile | ArrayFile) else None
    loaded = asked.load if isinstance(asked, Loaded) else f"sklearn.datasets.load_{data.name}"
    origin = {"uri": file.path} if file else {"tags": {"source": loaded}}
    dataset = Dataset(
        name=data.name,
        digest=data.checksum,
        source_type="local" if file else "code",
        source=json.dumps(origin),
        profile=json.dumps({"num_rows": rows, "num_features": features, "num_classes": data.classes}),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training and test")])


def _flat(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested settings as one level of dotted names.

    >>> _flat({"recipe": {"epochs": 20}, "weights": "native"})
    {'recipe.epochs': 20, 'weights': 'native'}
    """
    flat: dict[str, object] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and name != RULES:  # MLflow takes no patterns as names
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def _params(settings: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in _flat(settings).items()}


@dataclass(frozen=True)
class _Request:
    """Outcomes of a batch that wait to be recorded, and the tags that name the Prefect run which has them.

    Outcomes are taken one by one when they are written, which may be the last moment to find that the run has ended.
    """

    benchmark: Benchmark
    batch: Batch
    outcomes: Iterable[Outcome]
    tags: Mapping[str, str]

    @cached_property
    def shared(self) -> dict[str, str]:
        """The params that all cells of the batch share."""
        return _params({**self.batch.settings.model_dump(), "target": self.batch.target})

    @property
    def grouped(self) -> bool:
        """Whether cells get no runs of their own."""
        return self.batch.record == "group"


@_failures_told()
def record(benchmark: Benchmark, batch: Batch, outcomes: Iterable[Outcome], tags: Mapping[str, str]) -> dict[str, str]:
    """Record each outcome of a batch as `record` says, in a run nested under the benchmark's run or in its parts.

    Return by cell key the ids of the runs, or the addresses of cells without a run. Outcomes that other threads record
    at the same time are written together with these.

    Raises:
        RecordError: if the store fails.
    """
    return _turns.write(_Request(benchmark, batch, outcomes, tags))


def _record_together(requests: Sequence[_Request]) -> list[dict[str, str] | Exception]:
    """Record what waits, as few runs and files as can be; return the ids by cell key of each request, or its error."""
    found: list[dict[str, str]] = [{} for _ in requests]
    errors: dict[int, Exception] = {}
    for benchmark, grouped in dict.fromkeys((each.benchmark, each.grouped) for each in requests):
        own = [at for at, each in enumerate(requests) if (each.benchmark, each.grouped) == (benchmark, grouped)]
        cells = [(at, _kept(requests[at], outcome)) for at in own for outcome in requests[at].outcomes]
        ids = _keep(benchmark, [each for _, each in cells], grouped=grouped)
        for (at, each), run_id in zip(cells, ids, strict=True):
            if isinstance(run_id, Exception):
                errors[at] = run_id
            else:
                found[at][each.key] = run_id
    return [errors.get(at, each) for at, each in enumerate(found)]


_turns = Turns(_record_together)  # SQLite takes one writer at a time, and a turn costs as much as some cells


def _keep(benchmark: Benchmark, cells: Sequence[Kept], *, grouped: bool) -> list[str | Exception]:
    """Record cells of a benchmark, and return their ids; a cell that the store refuses has an error in place of one."""
    ids: list[str | Exception] = [parts.address(benchmark.run_id, each.key) for each in cells]
    if not grouped:
        ids = runs.write(benchmark.uri, benchmark.experiment_id, [each.run for each in cells])
    kept = [replace(cell, run_id=each) for cell, each in zip(cells, ids, strict=True) if isinstance(each, str)]
    if kept:
        parts.put(benchmark.uri, benchmark.run_id, kept, whole=grouped)
    return ids


def _kept(request: _Request, outcome: Outcome) -> Kept:
    batch, trained, ended = request.batch, outcome.trained, int(time.time() * 1000)
    run = Run(
        name=str(outcome.cell),
        status="FAILED" if outcome.status == "failed" else "FINISHED",
        started=ended - int(1000 * trained.seconds) if trained else ended,
        ended=ended,
        tags={PARENT: request.benchmark.run_id, **_labels(batch, outcome), **request.tags},
        params={**request.shared, **_point(outcome)},
        points=_points(trained, batch) if trained else [],
        files=_files(trained) if trained and not request.grouped else {},
    )
    return Kept(batch.keys[outcome.cell], run, outcome)


def _point(outcome: Outcome) -> dict[str, str]:
    """Return the params that say which cell it is, and on how many test rows it was measured."""
    cell = outcome.cell
    levels = {f"factor.{short(factor)}": level for factor, level in cell.levels}
    rows = {"test_rows": len(outcome.trained.predictions.rows)} if outcome.trained else {}
    return _params({"initializer": cell.initializer, "seed": cell.seed, **levels, **rows})


def _labels(batch: Batch, outcome: Outcome) -> dict[str, str]:
    """Return the tags of a cell: for finding it by key, for grouping it in MLflow's page, and for the comparison."""
    name = str(outcome.cell).rpartition(" · seed ")[0]
    found = {HEALTH: outcome.trained.health, DIGEST: outcome.trained.bits.whole} if outcome.trained else {}
    described = outcome.trained.described if outcome.trained else None
    as_built = {AS_BUILT: ", ".join(described.left)[:TAG]} if described and described.left else {}
    return {
        view.GROUP: f"{name} · {batch.key[:4]}",
        KEY: batch.keys[outcome.cell],
        SETTINGS: batch.key,
        STATUS: outcome.status,
        REASON: outcome.reason,
        "initbench.framework": batch.platform.frameworks[batch.backend],
        "initbench.device": batch.platform.device,
        DATA: batch.platform.data[source(batch.settings.dataset)],
        **found,
        **as_built,
    }


def _points(trained: Trained, batch: Batch) -> list[Point]:
    points = [
        (name, epoch, value) for name, values in trained.curves.items() for epoch, value in enumerate(values.tolist())
    ]
    if batch.record == "full":
        points += trained.signals.by_layer()
    points += [(name, 0, value) for name, value in trained.scalars.items() if not np.isnan(value)]
    reached = epochs_to_target(trained.curves.test_accuracy, batch.target)
    return points if reached is None else [*points, ("epochs_to_target", 0, float(reached))]


def _files(trained: Trained) -> dict[str, bytes]:
    """Return the files of a cell's run, `store.FILES`: their contents by name."""
    tables = {
        "history.csv": files.history(trained),
        "layers.csv": files.layers(trained.signals, trained.described),
        "predictions.csv": files.predictions(trained.predictions),
    }
    return {
        "weights.safetensors": save(trained.weights),
        **{name: files.csv(table).encode() for name, table in tables.items()},
    }


@_failures_told()
def groups(benchmark: Benchmark, study: Study) -> None:
    """Show the cells that a benchmark has recorded without runs: in a run for each group, with the seed as step."""
    if study.record != "group":
        return
    cells = parts.rows(benchmark.uri, benchmark.run_id, ["key", "tags", "params", "metrics"])
    read = cells[["tags", "params", "metrics"]].map(json.loads)
    shown = [_shown(group) for _, group in read.groupby(read["tags"].map(itemgetter(view.GROUP)), sort=False)]
    runs.written(benchmark.uri, benchmark.experiment_id, shown)


def _shown(cells: pd.DataFrame) -> Run:
    """Return the run that shows cells which differ in their seed alone; cells: their tags, params and metrics."""
    first, now = cells.iloc[0], int(time.time() * 1000)
    shared = {name: first["tags"][name] for name in SHARED if name in first["tags"]}
    return Run(
        name=first["tags"][view.GROUP].rpartition(" · ")[0],
        status="FINISHED",
        started=now,
        ended=now,
        tags={**shared, STATUS: GROUP_STATUS},
        params={name: value for name, value in first["params"].items() if name not in ("seed", "test_rows")},
        points=[
            (name, int(params["seed"]), value)
            for params, metrics in zip(cells["params"], cells["metrics"], strict=True)
            for name, value in metrics.items()
        ],
    )


@_failures_told()
def publish(benchmark: Benchmark, folder: Path, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
    """Store the files of a folder, summary metrics and tags in the benchmark's run."""
    client, now = store.client(benchmark.uri), int(time.time() * 1000)
    points = [Metric(name, value, now, 0) for name, value in metrics.items()]
    for at in range(0, len(points), POINTS):
        client.log_batch(benchmark.run_id, points[at : at + POINTS])
    client.log_batch(benchmark.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    client.log_artifacts(benchmark.run_id, str(folder))


@_failures_told()
def attach(benchmark: Benchmark, folder: Path, name: str) -> None:
    """Store the files of a folder in the benchmark's run, in a folder of this name."""
    store.client(benchmark.uri).log_artifacts(benchmark.run_id, str(folder), name)


@_failures_told()
def revoke(benchmark: Benchmark, reason: str) -> None:
    """Mark the cells that a benchmark has recorded as failed, so that no later benchmark takes them as its own."""
    client = store.client(benchmark.uri)
    client.set_tag(benchmark.run_id, REVOKED, reason)
    tags = [RunTag(STATUS, "failed"), RunTag(REASON, reason)]
    query = f"tags.`{PARENT}` = '{benchmark.run_id}' AND tags.`{KEY}` != ''"
    for run in store.search(client, [benchmark.experiment_id], query):
        client.log_batch(run.info.run_id, tags=tags)


@_failures_told()
def tell_machine(benchmark: Benchmark, backend: Backend, machine: Mapping[str, object]) -> None:
    """Store the description of a worker's machine in the benchmark's run; `benchmarks.environment` reads it."""
    name = f"{backend}-{digest(machine)[:8]}.json"
    store.client(benchmark.uri).log_dict(benchmark.run_id, dict(machine), f"{MACHINES}/{name}")


@_failures_told()
def hand_over(benchmark: Benchmark, name: str, result: object) -> None:
    """Store a worker's result as JSON in the benchmark's run; `benchmarks.handed_over` reads it."""
    store.client(benchmark.uri).log_dict(benchmark.run_id, {"result": result}, f"workers/{name}.json")


def _tag(client: MlflowClient, experiment: str, name: str, value: str) -> None:
    try:
        client.set_experiment_tag(experiment, name, value)
    except MlflowException:  # another benchmark has added the tag at the same time
        client.set_experiment_tag(experiment, name, value)


def made_experiment(client: MlflowClient, study: str) -> str:
    """Return the id of the experiment of a study, which is made if it is not there.

    Raises:
        StoreError: if the experiment is deleted, or its files cannot be written to.
    """
    found = store.active_experiment(client, study)
    experiment = str(found.experiment_id) if found else _new_experiment(client, store.experiment_name(study))
    _tag(client, experiment, KIND, "custom_model_development")
    return experiment


def _new_experiment(client: MlflowClient, name: str) -> str:
    file = sqlite.file_of(client.tracking_uri)
    try:
        return str(client.create_experiment(name, local.artifacts(file).as_uri() if file else None))
    except MlflowException:  # another benchmark has made it since
        return str(client.get_experiment_by_name(name).experiment_id)

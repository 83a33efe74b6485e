"""Write the record: a benchmark's run, and the run of each of its cells."""

import json
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from safetensors.numpy import save_file

from tasks import documents
from tasks.core.design.grid import Batch, digest
from tasks.core.design.own import ArrayFile, Loaded
from tasks.core.design.settings import CsvFile, Data, short, source
from tasks.core.design.study import Study
from tasks.core.training import datasets, files
from tasks.core.training.outcome import Outcome, Trained, epochs_to_target, first_line
from tasks.tracking import lease, local, store, view
from tasks.tracking.store import BENCHMARK, DATA, QUESTION, SEEDS, Benchmark, RecordError

KIND = "mlflow.experimentKind"  # without this tag MLflow's page opens with traces of language models
RULES = "rules"  # of a network of one's own: a mapping that is one param
POINTS = 1000  # metrics in one request, which is the most that MLflow takes
WHOLE = ("initializers", "seeds", "factors", "checks")  # too long for a param: study.yaml has them

NO_QUESTION = ("margins", "reported", "checks", "controls", "record", "max_tasks", "runner")
"""Settings that do not change what is trained; with others the question is the same."""

_writing = threading.Lock()  # SQLite takes one writer at a time, and MLflow fails if several wait


@contextmanager
def benchmark(study: Study, environment: Mapping[str, object], tags: Mapping[str, str]) -> Iterator[Benchmark]:
    """Open the run of a benchmark, with its study, environment and data; end the run as FINISHED, FAILED or KILLED.

    Raises:
        StoreError: if the store cannot be used.
        RecordError: if the store fails during the benchmark.
    """
    client = store.client(store.uri())
    experiment = _experiment(client, study)
    client.set_experiment_tag(experiment, KIND, "custom_model_development")
    client.set_experiment_tag(experiment, view.TAG, view.saved_view([*map(short, study.factors)]))
    lease.close_dead(client)
    labels = {**tags, **lease.tags(), BENCHMARK: "yes", **_looked(study)}
    run_id = client.create_run(experiment, tags=labels, run_name=study.summary).info.run_id
    try:
        client.log_batch(
            run_id,
            params=_params(_flat(study.spelled_out.model_dump(mode="json", exclude=set(WHOLE)))),
        )
        client.log_text(run_id, documents.write(study.model_dump(mode="json")), "study.yaml")
        client.log_text(run_id, json.dumps(environment, indent=2), "environment.json")
        client.log_inputs(run_id, [_dataset_input(dataset) for dataset in study.datasets])
        with lease.renewed(client, run_id, _writing):
            yield Benchmark(store.uri(), experiment, run_id)
    except MlflowException as error:
        with suppress(MlflowException):
            client.set_terminated(run_id, "FAILED")
        words = f"MLflow failed during the benchmark; the cells that it holds will be reused: {first_line(error)}"
        raise RecordError(words) from error
    except BaseException as error:
        client.set_terminated(run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    client.set_terminated(run_id, "FINISHED")


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


def _params(settings: Mapping[str, object]) -> list[Param]:
    return [Param(name, str(value)) for name, value in settings.items()]


def record(benchmark: Benchmark, batch: Batch, outcomes: Iterable[Outcome], tags: Mapping[str, str]) -> dict[str, str]:
    """Record each outcome of a batch as a run nested under the benchmark's run; return the run ids by cell key."""
    shared = _params(_flat({**batch.settings.model_dump(), "target": batch.target}))
    return {batch.keys[each.cell]: _record(benchmark, batch, shared, each, tags) for each in outcomes}


def _record(benchmark: Benchmark, batch: Batch, shared: list[Param], outcome: Outcome, tags: Mapping[str, str]) -> str:
    client, cell = store.client(benchmark.uri), outcome.cell
    ended = int(time.time() * 1000)
    started = ended - int(1000 * outcome.trained.seconds) if outcome.trained else ended
    labels = {"mlflow.parentRunId": benchmark.run_id, **_labels(batch, outcome), **tags}
    params = [*shared, *_point(outcome)]
    with _writing:
        run = client.create_run(benchmark.experiment_id, started, labels, run_name=str(cell))
        status = "FAILED"
        try:
            if outcome.trained:
                client.log_batch(run.info.run_id, _metrics(outcome.trained, batch, ended), params)
                _log_artifacts(run, benchmark.uri, outcome.trained)
            else:
                client.log_batch(run.info.run_id, params=params)
            status = "FAILED" if outcome.status == "failed" else "FINISHED"
        finally:
            client.set_terminated(run.info.run_id, status, ended)
    return str(run.info.run_id)


def _point(outcome: Outcome) -> list[Param]:
    """Return the params that say which cell it is, and on how many test rows it was measured."""
    cell = outcome.cell
    levels = {f"factor.{short(factor)}": level for factor, level in cell.levels}
    rows = {"test_rows": len(outcome.trained.predictions.rows)} if outcome.trained else {}
    return _params({"initializer": cell.initializer, "seed": cell.seed, **levels, **rows})


def _labels(batch: Batch, outcome: Outcome) -> dict[str, str]:
    """Return the tags of a cell: for finding it by key, for grouping it in MLflow's page, and for the comparison."""
    name = str(outcome.cell).rpartition(" · seed ")[0]
    health = {"initbench.health": outcome.trained.health} if outcome.trained else {}
    return {
        view.GROUP: f"{name} · {batch.key[:4]}",
        "initbench.cell": batch.keys[outcome.cell],
        "initbench.settings": batch.key,
        "initbench.status": outcome.status,
        "initbench.reason": outcome.reason,
        "initbench.framework": batch.platform.frameworks[batch.backend],
        "initbench.device": batch.platform.device,
        DATA: batch.platform.data[source(batch.settings.dataset)],
        **health,
    }


def _metrics(trained: Trained, batch: Batch, timestamp: int) -> list[Metric]:
    metrics = [
        Metric(name, float(value), timestamp, epoch)
        for name, values in trained.curves.items()
        for epoch, value in enumerate(values)
    ]
    if batch.record == "full":
        metrics += [Metric(name, value, timestamp, epoch) for name, epoch, value in trained.signals.by_layer()]
    metrics += [Metric(name, value, timestamp, 0) for name, value in trained.scalars.items() if not np.isnan(value)]
    reached = epochs_to_target(trained.curves.test_accuracy, batch.target)
    if reached is not None:
        metrics.append(Metric("epochs_to_target", reached, timestamp, 0))
    return metrics


def _log_artifacts(run: Run, uri: str, trained: Trained) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_file(trained.weights, Path(folder, "weights.safetensors"))
        files.history(trained).to_csv(Path(folder, "history.csv"), index=False)
        files.layers(trained.signals, trained.described).to_csv(Path(folder, "layers.csv"), index=False)
        files.predictions(trained.predictions).to_csv(Path(folder, "predictions.csv"), index=False)
        # MlflowClient.log_artifacts would read the run back first, and take twice as long
        get_artifact_repository(run.info.artifact_uri, tracking_uri=uri).log_artifacts(folder)


def publish(benchmark: Benchmark, folder: Path, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
    """Store the files of a folder, summary metrics and tags in the benchmark's run."""
    client, now = store.client(benchmark.uri), int(time.time() * 1000)
    points = [Metric(name, value, now, 0) for name, value in metrics.items()]
    for at in range(0, len(points), POINTS):
        client.log_batch(benchmark.run_id, points[at : at + POINTS])
    client.log_batch(benchmark.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    client.log_artifacts(benchmark.run_id, str(folder))


def revoke(benchmark: Benchmark, reason: str) -> None:
    """Mark the cells that a benchmark has recorded as failed, so that no later benchmark takes them as its own."""
    client = store.client(benchmark.uri)
    tags = [RunTag("initbench.status", "failed"), RunTag("initbench.reason", reason)]
    query = f"tags.`mlflow.parentRunId` = '{benchmark.run_id}' AND tags.`initbench.cell` != ''"
    for run in store.search(client, [benchmark.experiment_id], query):
        client.log_batch(run.info.run_id, tags=tags)


def hand_over(benchmark: Benchmark, name: str, result: object) -> None:
    """Store a worker's result as JSON in the benchmark's run; `reading.handed_over` reads it."""
    store.client(benchmark.uri).log_dict(benchmark.run_id, {"result": result}, f"workers/{name}.json")


def _experiment(client: MlflowClient, study: Study) -> str:
    found = store.active_experiment(client, study.name)
    if found:
        return str(found.experiment_id)
    name, file = f"initbench/{study.name}", local.file_of(client.tracking_uri)
    try:
        return str(client.create_experiment(name, local.artifacts(file).as_uri() if file else None))
    except MlflowException:  # another benchmark has made it since
        return str(client.get_experiment_by_name(name).experiment_id)

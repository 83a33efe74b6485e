"""The record: the only importer of mlflow.

A benchmark is a run of the experiment `initbench/<study>`; its cells are runs nested under it. Runs are always named
by their id, never taken from MLflow's ambient state, which does not reach the threads that tasks run in.
"""

import importlib
import json
import os
import re
import sqlite3
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from io import StringIO
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
import yaml
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.types import Schema, TensorSpec
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.numpy import load_file, save_file
from sqlalchemy.exc import SQLAlchemyError

from tasks.core.training import datasets
from tasks.tracking import view
from tasks.core.design.initializers import Backend
from tasks.core.statistics.measures import CELL_COLUMNS, columns, factors
from tasks.core.training.outcome import Outcome, Trained, epochs_to_target
from tasks.core.training.signals import named
from tasks.core.design.study import Cell, CsvFile, Platform, Study, short

UI = "http://127.0.0.1:5000"  # where `initbench ui` serves a store that has no server of its own
KIND = "mlflow.experimentKind"  # without it the page opens on traces of language models
PAGE = 1000  # runs of one search
IDS = 200  # run ids of one filter
WHOLE = ("initializers", "seeds", "factors", "checks")  # in study.yaml alone, for they are longer than a param may be
CHAMPION = "champion"
MODEL_ARGUMENTS: dict[Backend, str] = {"pytorch": "pytorch_model", "keras": "model"}
BENCHMARK = "initbench.benchmark"  # tag of a benchmark's run
NIGHTLY = "initbench.nightly"  # tag of the runs of a nightly, in Prefect as well
CELLS = "cells.csv"
REUSABLE = ("finished", "diverged")

_writing = threading.Lock()  # SQLite takes one writer at a time; MLflow's connection pool gives up on a queue


class StoreError(ValueError):
    """The tracking store cannot be used."""


class RecordError(RuntimeError):
    """The tracking store failed while a benchmark ran."""


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's run in the store; fresh: it takes no cell from earlier ones."""

    uri: str
    experiment_id: str
    run_id: str
    fresh: bool = False

    @property
    def link(self) -> str:
        """Return where the MLflow UI shows it."""
        return self.link_to(self.run_id)

    def link_to(self, run_id: str) -> str:
        """Return where the MLflow UI shows a run of the same experiment."""
        return f"{self._ui}/#/experiments/{self.experiment_id}/runs/{run_id}"

    @property
    def cells_link(self) -> str:
        """Return where the MLflow UI shows the cells of all benchmarks of the study, by initializer."""
        view = f"viewStateShareKey={mlflow_view.KEY}&compareRunsMode=CHART"
        return f"{self._ui}/#/experiments/{self.experiment_id}/runs?{view}"

    def file_link(self, name: str) -> str:
        """Return where a browser gets a file that was published with it."""
        return f"{self._ui}/get-artifact?path={name}&run_uuid={self.run_id}"

    @property
    def _ui(self) -> str:
        served = re.sub("//[^/@]*@", "//", self.uri.rstrip("/")) if self.uri.startswith("http") else UI  # no password
        return os.environ.get("INITBENCH_MLFLOW_UI", served).rstrip("/")


def local_store() -> Path:
    """Return where the SQLite store of the current folder is or would be; its artifacts are in `mlruns` beside it."""
    return Path.cwd() / "mlflow.db"


def uri() -> str:
    """Return MLFLOW_TRACKING_URI, or the SQLite store of the current folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or local_uri()


def local_uri() -> str:
    return f"sqlite:///{local_store()}"


def local_artifacts() -> str:
    return Path.cwd().joinpath("mlruns").as_uri()


def served() -> bool:
    """Tell whether the store has a server, which others reach as well."""
    return uri().startswith("http")


def _unmade(uri: str) -> bool:
    """Tell whether this is the current folder's store, and not made yet."""
    return uri == local_uri() and not local_store().exists()


@cache
def _client(uri: str) -> MlflowClient:
    """Return a client of the store, made if it is the current folder's and not there.

    Raises:
        StoreError: if the store cannot be used.
    """
    if uri.startswith("http") and not _answers(uri):
        raise StoreError(f"MLFLOW_TRACKING_URI must be the address of a running MLflow server; {uri} is not")
    fresh = _unmade(uri)
    try:
        client = MlflowClient(uri)
        client.search_experiments(max_results=1)  # makes the tables where there are none
    except (MlflowException, SQLAlchemyError, ImportError) as error:
        first, *_ = str(error).splitlines()
        raise StoreError(
            f"MLFLOW_TRACKING_URI must be a store that MLflow can use; of {uri} it says: {first}"
        ) from None
    if fresh:
        with closing(sqlite3.connect(local_store())) as connection:
            connection.execute("PRAGMA journal_mode=WAL")  # a run then costs a fifth
    return client


def _answers(uri: str) -> bool:
    try:
        return httpx.get(f"{uri.rstrip('/')}/health").is_success
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def open_store(at: str | None = None) -> None:
    """Make a store ready for use, by default the configured one.

    Raises:
        StoreError: if it cannot be.
    """
    _client(at or uri())


def check_files(benchmark: Benchmark) -> None:
    """Refuse a benchmark whose files lie on the disk of another machine.

    Raises:
        StoreError: if they do.
    """
    location = _client(benchmark.uri).get_run(benchmark.run_id).info.artifact_uri
    if is_local_uri(location) and not Path(local_file_uri_to_path(location), "study.yaml").exists():
        raise StoreError(
            f"the benchmark's files must be reached by way of MLflow's server, for they are on another machine; they "
            f"are in {location}. Workers elsewhere need `initbench up --postgres`, or another name for the study"
        )


def _experiment(client: MlflowClient, study: Study) -> str:
    name = f"initbench/{study.name}"
    found = client.get_experiment_by_name(name)
    if found and found.lifecycle_stage != "active":
        raise StoreError(f"experiment {name} is deleted; restore it in MLflow, or give the study another name")
    if found:
        return str(found.experiment_id)
    local = client.tracking_uri.startswith("sqlite:")
    try:
        return str(client.create_experiment(name, local_artifacts() if local else None))
    except MlflowException:  # another benchmark made it meanwhile
        return str(client.get_experiment_by_name(name).experiment_id)


@contextmanager
def benchmark(
    study: Study, environment: Mapping[str, object], tags: Mapping[str, str], *, fresh: bool = False
) -> Iterator[Benchmark]:
    """Open the run of a benchmark with its study, environment and data; end it as FINISHED, or FAILED on an error.

    Raises:
        StoreError: if the store cannot be used.
        RecordError: if it fails on the way.
    """
    client = _client(uri())
    experiment = _experiment(client, study)
    client.set_experiment_tag(experiment, KIND, "custom_model_development")
    client.set_experiment_tag(experiment, mlflow_view.TAG, mlflow_view.saved_view([*map(short, study.factors)]))
    run_id = client.create_run(experiment, tags={**tags, BENCHMARK: "yes"}, run_name=study.summary).info.run_id
    try:
        client.log_batch(
            run_id,
            params=_params(_flat(study.spelled_out.model_dump(mode="json", exclude=set(WHOLE)))),
        )
        client.log_text(run_id, yaml.safe_dump(study.model_dump(mode="json"), sort_keys=False), "study.yaml")
        client.log_text(run_id, json.dumps(environment, indent=2), "environment.json")
        client.log_inputs(run_id, [_dataset_input(dataset) for dataset in study.datasets])
        yield Benchmark(uri(), experiment, run_id, fresh)
    except MlflowException as error:
        with suppress(MlflowException):
            client.set_terminated(run_id, "FAILED")
        first, *_ = str(error).splitlines()
        raise RecordError(f"MLflow failed on the way, and what it holds will be reused: {first}") from error
    except BaseException as error:
        client.set_terminated(run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    client.set_terminated(run_id, "FINISHED")


def _dataset_input(asked: str | CsvFile) -> DatasetInput:
    data = datasets.load(asked)
    rows, features = data.x.shape
    file = asked if isinstance(asked, CsvFile) else None
    source = {"uri": file.path} if file else {"tags": {"source": f"sklearn.datasets.load_{data.name}"}}
    dataset = Dataset(
        name=data.name,
        digest=data.checksum,
        source_type="local" if file else "code",
        source=json.dumps(source),
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
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat


def _params(settings: Mapping[str, object]) -> list[Param]:
    return [Param(name, str(value)) for name, value in settings.items()]


def record(
    benchmark: Benchmark, study: Study, platform: Platform, outcomes: Iterable[Outcome], tags: Mapping[str, str]
) -> dict[Cell, str]:
    """Record each outcome as a run nested under the benchmark's; return each cell's run id."""
    return {outcome.cell: _record(benchmark, study, platform, outcome, tags) for outcome in outcomes}


def _record(benchmark: Benchmark, study: Study, platform: Platform, outcome: Outcome, tags: Mapping[str, str]) -> str:
    client, cell = _client(benchmark.uri), outcome.cell
    settings = {**study.settings(cell.backend, cell.levels), "target": study.target}
    settings_key = study.settings_key(cell.backend, cell.levels, platform)
    point = {"initializer": cell.initializer, "seed": cell.seed}
    levels = {f"factor.{short(factor)}": level for factor, level in cell.levels}
    rows = {"test_rows": len(outcome.trained.predictions.rows)} if outcome.trained else {}
    params = _params({**point, **levels, **rows, **_flat(settings)})
    labels = {
        "mlflow.parentRunId": benchmark.run_id,
        mlflow_view.GROUP: f"{str(cell).rpartition(' · seed ')[0]} · {settings_key[:4]}",
        "initbench.cell": study.cell_key(cell, platform),
        "initbench.settings": settings_key,
        "initbench.status": outcome.status,
        "initbench.reason": outcome.reason,
        "initbench.framework": platform.frameworks[cell.backend],
        "initbench.device": platform.device,
        **({"initbench.verdict": outcome.trained.verdict} if outcome.trained else {}),
        **tags,
    }
    ended = int(time.time() * 1000)
    started = ended - int(1000 * outcome.trained.seconds) if outcome.trained else ended
    with _writing:
        run = client.create_run(benchmark.experiment_id, started, labels, run_name=str(cell))
        status = "FAILED"
        try:
            if outcome.trained:
                client.log_batch(run.info.run_id, _metrics(outcome.trained, study.target, ended), params)
                _log_artifacts(run, benchmark.uri, outcome.trained)
            else:
                client.log_batch(run.info.run_id, params=params)
            status = "FAILED" if outcome.status == "failed" else "FINISHED"
        finally:
            client.set_terminated(run.info.run_id, status, ended)
    return str(run.info.run_id)


def _metrics(trained: Trained, target: float, timestamp: int) -> list[Metric]:
    metrics = [
        Metric(name, float(value), timestamp, epoch)
        for name, values in trained.curves.items()
        for epoch, value in enumerate(values)
    ]
    metrics += [Metric(name, value, timestamp, epoch) for name, epoch, value in trained.signals.by_layer()]
    metrics += [Metric(name, value, timestamp, 0) for name, value in trained.scalars.items() if not np.isnan(value)]
    reached = epochs_to_target(trained.curves.test_accuracy, target)
    if reached is not None:
        metrics.append(Metric("epochs_to_target", reached, timestamp, 0))
    return metrics


def _log_artifacts(run: Run, uri: str, trained: Trained) -> None:
    signals = trained.signals
    history = pd.DataFrame(dict(trained.curves.items())).rename_axis("epoch")
    for name, values in signals.curves().items():
        columns = [named(name, layer) for layer in range(1, values.shape[1] + 1)]
        history = history.join(pd.DataFrame(values, history.index[-len(values) :], columns))
    layers = pd.DataFrame(signals.start, range(1, len(signals.theory.forward) + 1)).rename_axis("layer")
    layers["theory_forward"] = signals.theory.forward
    layers["theory_backward"] = pd.Series(signals.theory.backward, range(1, signals.hidden + 1))
    layers["theory_chi"] = pd.Series(signals.theory.chi, range(1, signals.hidden + 1))
    predictions = trained.predictions
    logits = {f"logit_{at}": column for at, column in enumerate(predictions.logits.T)}
    samples = pd.DataFrame({"row": predictions.rows, "label": predictions.labels, **logits})
    with tempfile.TemporaryDirectory() as folder:
        save_file(trained.weights, Path(folder, "weights.safetensors"))
        history.to_csv(Path(folder, "history.csv"))
        layers.to_csv(Path(folder, "layers.csv"))
        samples.to_csv(Path(folder, "predictions.csv"), index=False)
        # the client's own log_artifacts first reads the run back, at twice the cost
        get_artifact_repository(run.info.artifact_uri, tracking_uri=uri).log_artifacts(folder)


def find(study: Study, platform: Platform, parent: str | None = None) -> dict[Cell, str]:
    """Return the run id of each of the study's cells that has finished or diverged before; the newest of several.

    parent: take only those of the benchmark with this run id.
    """
    if _unmade(uri()):
        return {}
    client = _client(uri())
    experiment = client.get_experiment_by_name(f"initbench/{study.name}")
    if experiment is None:
        return {}
    wanted: dict[str, list[Cell]] = {}
    for cell, key in study.cell_keys(platform).items():  # levels that change nothing are cells of one key
        wanted.setdefault(key, []).append(cell)
    found: dict[Cell, str] = {}
    grid = product(study.backends, study.levels())
    own = f" AND tags.`mlflow.parentRunId` = '{parent}'" if parent else ""
    for key in {study.settings_key(backend, levels, platform) for backend, levels in grid}:
        for run in _search(client, experiment.experiment_id, f"tags.`initbench.settings` = '{key}'{own}"):
            if run.data.tags["initbench.status"] in REUSABLE and run.info.status == "FINISHED":
                for cell in wanted.get(run.data.tags["initbench.cell"], []):
                    found.setdefault(cell, run.info.run_id)
    return found


def _search(client: MlflowClient, experiment_id: str, query: str) -> Iterator[Run]:
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], query, max_results=PAGE, order_by=["attributes.start_time DESC"], page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def read(benchmark: Benchmark, study: Study, run_ids: Mapping[Cell, str]) -> pd.DataFrame:
    """Return cells read back from the store, one row each, in the given order; see `measures.columns`.

    Raises:
        StoreError: if the run of one is gone.
    """
    client = _client(benchmark.uri)
    runs = _runs(client, benchmark, list(run_ids.values()))
    gone = [run_id for run_id in run_ids.values() if run_id not in runs]
    if gone:
        raise StoreError(f"{len(gone)} of {len(run_ids)} cells' runs must be in {benchmark.uri}; gone is {gone[0]}")
    rows = [_row(client, cell, runs[run_id], study) for cell, run_id in run_ids.items()]
    return pd.DataFrame(rows, columns=list(columns(study)))


def _runs(client: MlflowClient, benchmark: Benchmark, run_ids: Sequence[str]) -> dict[str, Run]:
    runs: dict[str, Run] = {}
    for at in range(0, len(run_ids), IDS):
        quoted = ", ".join(f"'{run_id}'" for run_id in run_ids[at : at + IDS])
        query = f"attributes.run_id IN ({quoted})"
        runs |= {run.info.run_id: run for run in _search(client, benchmark.experiment_id, query)}
    return runs


def _row(client: MlflowClient, cell: Cell, run: Run, study: Study) -> dict[str, object]:
    metrics, params, tags = run.data.metrics, run.data.params, run.data.tags
    reached = metrics.get("epochs_to_target")
    if float(params["target"]) != study.target and "test_accuracy" in metrics:  # it was recorded for another target
        history = client.get_metric_history(run.info.run_id, "test_accuracy")
        curve = np.array([point.value for point in sorted(history, key=lambda point: point.step)], np.float32)
        reached = epochs_to_target(curve, study.target)
    measures = {name: metrics.get(name, np.nan) for name in CELL_COLUMNS}
    largest = np.finfo(np.float64).max  # SQL stores keep infinity so
    return {name: np.inf if value >= largest else value for name, value in measures.items()} | {
        "study": study.name,
        "backend": cell.backend,
        **{short(factor): level for factor, level in cell.levels},
        "initializer": cell.initializer,
        "seed": cell.seed,
        "status": tags["initbench.status"],
        "verdict": tags.get("initbench.verdict", ""),
        "epochs_to_target": np.nan if reached is None else reached,
        "horizon": int(params["recipe.epochs"]),
        "test_rows": float(params.get("test_rows", np.nan)),
        "run_id": run.info.run_id,
        "reason": tags["initbench.reason"],
    }


def read_files(benchmark: Benchmark, cells: pd.DataFrame, *names: str) -> list[pd.DataFrame]:
    """Return, for each name, the rows of that file of every trained cell, with the cell's columns.

    Names are `history.csv` and `layers.csv`; where no cell was trained the rows are none.
    """
    trained = cells[cells["status"].isin(REUSABLE)]
    runs = _runs(_client(benchmark.uri), benchmark, trained["run_id"].tolist())
    stores = [
        get_artifact_repository(runs[run_id].info.artifact_uri, tracking_uri=benchmark.uri)
        for run_id in trained["run_id"]
    ]
    if not stores:
        return [pd.DataFrame() for _ in names]
    about = cells[[*factors(cells), "backend", "initializer", "seed", "status"]]
    files = (pd.concat([_csv(store, name) for store in stores], keys=trained.index) for name in names)
    return [rows.reset_index(level=1, drop=True).join(about).reset_index(drop=True) for rows in files]


def _csv(store: ArtifactRepository, name: str) -> pd.DataFrame:
    """Read a file of a run where it lies, or download it for the while."""
    if isinstance(store, LocalArtifactRepository):
        return pd.read_csv(store.download_artifacts(name))
    with tempfile.TemporaryDirectory() as folder:
        return pd.read_csv(store.download_artifacts(name, folder))


def publish(benchmark: Benchmark, folder: Path, metrics: Mapping[str, float], tags: Mapping[str, str]) -> None:
    """Store the files of a folder, summary metrics and tags in the benchmark's run."""
    client, now = _client(benchmark.uri), int(time.time() * 1000)
    points = [Metric(name, value, now, 0) for name, value in metrics.items()]
    for at in range(0, len(points), PAGE):
        client.log_batch(benchmark.run_id, points[at : at + PAGE])
    client.log_batch(benchmark.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    client.log_artifacts(benchmark.run_id, str(folder))


def opened(run_id: str) -> tuple[Benchmark, Study]:
    """Return a benchmark by its run's id, `latest` being the newest that has been compared, and its study.

    Raises:
        StoreError: if there is no such benchmark.
    """
    if _unmade(uri()):
        raise StoreError(f"{uri()} must hold a benchmark that was compared; it is not there")
    client = _client(uri())
    try:
        found = _latest(client) if run_id == "latest" else client.get_run(run_id)
        if not {CELLS, "study.yaml"} <= _files(client, found.info.run_id):
            raise StoreError(
                f"{run_id} must be the run of a benchmark that was compared; it is {found.info.run_name!r}"
            )
        study = Study.model_validate(yaml.safe_load(_text(client, found.info.run_id, "study.yaml")))
    except MlflowException as error:
        first, *_ = str(error).splitlines()
        raise StoreError(f"no run {run_id!r} in {uri()}; MLflow says: {first}") from None
    except ValidationError as error:
        raise StoreError(
            f"{run_id} was recorded by another release, whose study this one cannot read: {error}"
        ) from None
    return Benchmark(uri(), found.info.experiment_id, found.info.run_id), study


def _latest(client: MlflowClient) -> Run:
    experiments = client.search_experiments(filter_string="name LIKE 'initbench/%'")
    found = _published(client, [experiment.experiment_id for experiment in experiments], f"tags.{BENCHMARK} = 'yes'")
    if found is None:
        raise StoreError(f"{uri()} must hold a benchmark that was compared; it holds none")
    return found


def _published(client: MlflowClient, experiment_ids: Sequence[str], query: str) -> Run | None:
    """Return the newest of the runs that were compared, or None."""
    order = ["attributes.start_time DESC"]
    runs = client.search_runs([*experiment_ids], query, order_by=order) if experiment_ids else []
    return next((run for run in runs if CELLS in _files(client, run.info.run_id)), None)


def last_nightly(study: str) -> Benchmark | None:
    """Return the newest benchmark of a study that a nightly made and that was compared, or None."""
    client = _client(uri())
    experiment = client.get_experiment_by_name(f"initbench/{study}")
    query = f"tags.{BENCHMARK} = 'yes' AND tags.`{NIGHTLY}` = 'yes'"
    found = _published(client, [experiment.experiment_id], query) if experiment else None
    return Benchmark(uri(), experiment.experiment_id, found.info.run_id) if found else None


def _files(client: MlflowClient, run_id: str) -> set[str]:
    return {file.path for file in client.list_artifacts(run_id)}


def _text(client: MlflowClient, run_id: str, name: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, name, folder)).read_text()


def environment(benchmark: Benchmark) -> dict[str, Any]:
    """Return what was recorded of the machine that a benchmark ran on."""
    found: dict[str, Any] = json.loads(_text(_client(benchmark.uri), benchmark.run_id, "environment.json"))
    return found


def table(benchmark: Benchmark, name: str) -> pd.DataFrame:
    """Return a table that was published with a benchmark."""
    return pd.read_csv(StringIO(_text(_client(benchmark.uri), benchmark.run_id, name)))


def hand_over(benchmark: Benchmark, name: str, result: object) -> None:
    """Leave what a worker found, as JSON, in the benchmark's run, from which `handed_over` takes it."""
    _client(benchmark.uri).log_dict(benchmark.run_id, {"result": result}, f"workers/{name}.json")


def handed_over(benchmark: Benchmark, name: str) -> Any:
    """Return what a worker has left."""
    return json.loads(_text(_client(benchmark.uri), benchmark.run_id, f"workers/{name}.json"))["result"]


def export(run_id: str, names: Sequence[str], folder: Path) -> list[str]:
    """Copy those files that a benchmark's run has into a folder, made if it is not there; return their names."""
    folder.mkdir(parents=True, exist_ok=True)
    client = _client(uri())
    there = _files(client, run_id)
    found = [name for name in names if name in there]
    for name in found:
        client.download_artifacts(run_id, name, str(folder))
    return found


def weights(benchmark: Benchmark, run_id: str) -> dict[str, NDArray[np.float32]]:
    """Return the trained variables of a cell, under the names of its framework's own model."""
    with tempfile.TemporaryDirectory() as folder:
        return dict(load_file(_client(benchmark.uri).download_artifacts(run_id, "weights.safetensors", folder)))


def version_of(benchmark: Benchmark, model: str, run_id: str) -> str | None:
    """Return the version under which a cell's model is registered already, or None."""
    found = _client(benchmark.uri).search_model_versions(f"name = '{model}' AND run_id = '{run_id}'")
    return str(found[0].version) if found else None


def log_model(
    benchmark: Benchmark,
    backend: Backend,
    model: Any,
    name: str,
    run_id: str,
    *,
    example: NDArray[np.float64],
    classes: int,
    step: int,
    requirements: Sequence[str],
    metadata: Mapping[str, object],
) -> str:
    """Log a framework's model with a cell's run and register it; return its version.

    It takes features (rows, features) as in `example` and gives logits (rows, classes); `step` is the epoch whose
    metrics are the model's. MLflow keeps PyTorch's as an exported program and Keras's as `.keras`: neither is a pickle.
    It knows both backends by our names.
    """
    mlflow.set_tracking_uri(benchmark.uri)  # of this process, a trainer's: flavors know no client
    features = TensorSpec(np.dtype(np.float64), (-1, example.shape[1]))
    signature = ModelSignature(Schema([features]), Schema([TensorSpec(np.dtype(np.float32), (-1, classes))]))
    logged = Model.log(
        None,
        _flavor(backend),
        name="model",
        run_id=run_id,
        registered_model_name=name,
        metadata=dict(metadata),
        step=step,
        signature=signature,
        input_example=example,
        pip_requirements=list(requirements),
        validate_serving_input=False,  # which loads it all again
        **{MODEL_ARGUMENTS[backend]: model},
    )
    return str(logged.registered_model_version)


def _flavor(backend: Backend) -> Any:
    """Return how MLflow saves a backend's models."""
    flavor = importlib.import_module(f"mlflow.{backend}")

    def save_model(path: str, **options: Any) -> None:
        options.pop("validate_serving_input", None)
        Path(path).mkdir(exist_ok=True)  # MLflow 3.17 writes Keras's input example before it makes the folder for it
        flavor.save_model(path=path, **options)

    return SimpleNamespace(__name__=flavor.__name__, save_model=save_model)


def crown(benchmark: Benchmark, model: str, version: str, words: str) -> None:
    """Say what a registered model's version is, and give it the alias `champion` unless a better one has it."""
    client = _client(benchmark.uri)
    client.update_model_version(model, version, words)
    holder = client.get_registered_model(model).aliases.get(CHAMPION)
    if holder is None or _quality(client, model, version) >= _quality(client, model, holder):
        client.set_registered_model_alias(model, CHAMPION, version)


def _quality(client: MlflowClient, model: str, version: str) -> tuple[float, float]:
    """Return test accuracy and negative test loss of the cell behind a version; of one that is gone, the least."""
    try:
        metrics = client.get_run(client.get_model_version(model, version).run_id).data.metrics
    except MlflowException:
        return -np.inf, -np.inf
    return metrics["test_accuracy"], -metrics["test_loss"]

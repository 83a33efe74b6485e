"""Read the record back: cells to reuse, the rows of a comparison, and the files of a benchmark."""

import json
import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Experiment, Run
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.numpy import load_file

from tasks import documents
from tasks.core.design import columns
from tasks.core.design.faults import faults
from tasks.core.design.grid import Batch, Cell
from tasks.core.design.settings import short
from tasks.core.design.study import Study
from tasks.core.statistics.measures import factors
from tasks.core.training.outcome import epochs_to_target, first_line
from tasks.tracking import parts, runs, store
from tasks.tracking.runs import IDS, Held, Seen
from tasks.tracking.store import (
    BENCHMARK,
    CELLS,
    DATA,
    GROUPED,
    HEALTH,
    NIGHTLY,
    PARENT,
    QUESTION,
    REASON,
    REVOKED,
    SEEDS,
    STATUS,
    Benchmark,
    StoreError,
)

ID_LENGTH = 32  # hexadecimal digits of a run id
LISTED = 4  # benchmarks that are named where the start of an id means several
EXPORTED = (".html", ".md", ".tex", ".csv")
REUSABLE = ("finished", "diverged")


@dataclass(frozen=True)
class Found:
    """Cells of earlier benchmarks: the run id of each by the cell's key, and the keys of cells whose files are gone."""

    run_ids: dict[str, str]
    bare: frozenset[str]


def find(study: str, batches: Iterable[Batch], parent: str | None = None) -> Found:
    """Find cells that have finished or diverged before; of each cell its newest run that has all its files.

    study: the name of the study, whose experiment is searched. parent: the run id of a benchmark; only cells of this
    benchmark are taken.
    """
    nothing = Found({}, frozenset())
    wanted: dict[str, set[str]] = {}
    for batch in batches:
        wanted.setdefault(batch.key, set()).update(batch.keys.values())
    if store.unmade(store.uri()) or not wanted:
        return nothing
    client = store.client(store.uri())
    experiment = client.get_experiment_by_name(store.experiment_name(study))
    if experiment is None:
        return nothing
    whole = _whole_runs(experiment)
    found: dict[str, str] = {}
    bare: set[str] = set()
    for settings, keys in wanted.items():
        for run in runs.seen(store.uri(), experiment.experiment_id, settings, parent):
            if run.key in keys and run.key not in found and run.finished and run.outcome in REUSABLE:
                if whole(run):
                    found[run.key] = run.run_id
                else:
                    bare.add(run.key)
    found = _in_parts(client, experiment, set().union(*wanted.values()), parent) | found
    return Found(found, frozenset(bare - found.keys()))


def _in_parts(client: MlflowClient, experiment: Experiment, keys: set[str], parent: str | None) -> dict[str, str]:
    """Return the addresses of cells that have no run of their own, by key: those in the newest benchmark."""
    found: dict[str, str] = {}
    query = f"tags.`{GROUPED}` = 'yes'" + (f" AND attributes.run_id = '{parent}'" if parent else "")
    for run in [*store.search(client, [experiment.experiment_id], query)][::-1]:
        if REVOKED not in run.data.tags:
            cells = parts.rows(store.uri(), run.info.run_id, ["key", "run_id", "status"])
            there = cells[cells["key"].isin(keys) & cells["status"].isin(REUSABLE)]
            found |= dict(zip(there["key"], there["run_id"], strict=True))
    return {key: address for key, address in found.items() if parts.has_no_run(address)}


def newest(study: str, backend: str) -> dict[str, str]:
    """Return the settings of the newest recorded cell of a study and backend that has a network of one's own.

    Settings have dotted names. Under DATA there is the checksum of the cell's data. Without any such cell the result is
    empty.
    """
    if store.unmade(store.uri()):
        return {}
    client = store.client(store.uri())
    experiment = client.get_experiment_by_name(store.experiment_name(study))
    query = f"params.`network.code.{backend}` != '' AND tags.`{DATA}` != ''"
    order = ["attributes.start_time DESC"]
    found = client.search_runs([experiment.experiment_id], query, max_results=1, order_by=order) if experiment else []
    return {**found[0].data.params, DATA: found[0].data.tags[DATA]} if found else {}


def _whole_runs(experiment: Experiment) -> Callable[[Seen], bool]:
    """Return a function that tells whether a cell's run has its files.

    On this machine it looks for each file. On a server it looks only for the run's folder, because a request for each
    cell would take minutes: the folders of all runs are asked for at once.
    """
    if is_local_uri(experiment.artifact_location):
        return lambda run: _has(Path(local_file_uri_to_path(run.location)), store.FILES)
    folders = get_artifact_repository(experiment.artifact_location, tracking_uri=store.uri()).list_artifacts()
    there = {Path(folder.path).name for folder in folders}
    return lambda run: run.run_id in there


def _has(folder: Path, names: Iterable[str]) -> bool:
    return folder.is_dir() and {each.name for each in folder.iterdir()}.issuperset(names)


def experiment(study: Study) -> Benchmark:
    """Return where the cells of a study are kept, as a benchmark without a run; some are there already."""
    found = store.client(store.uri()).get_experiment_by_name(store.experiment_name(study.name))
    return Benchmark(store.uri(), found.experiment_id, "")


def read(benchmark: Benchmark, study: Study, run_ids: Mapping[Cell, str]) -> pd.DataFrame:
    """Return cells as the store holds them, one row each, in the given order; `columns.CELLS` has the columns.

    Raises:
        StoreError: if the run of a cell was deleted.
    """
    recorded = _recorded(benchmark, list(run_ids.values()))
    gone = [run_id for run_id in run_ids.values() if run_id not in recorded]
    if gone:
        raise StoreError(f"{len(gone)} of {len(run_ids)} cells' runs must be in {benchmark.uri}; gone is {gone[0]}")
    other = {run_id for run_id, each in recorded.items() if _aimed_elsewhere(each, study)}
    curves = _curves(benchmark, other)
    rows = [_row(cell, run_id, recorded[run_id], study, curves.get(run_id)) for cell, run_id in run_ids.items()]
    return pd.DataFrame(rows, columns=columns.cell_columns(map(short, study.factors), validation=study.validates))


def _recorded(benchmark: Benchmark, run_ids: Sequence[str]) -> dict[str, Held]:
    """Return what there is of each of these runs and addresses, by run id and address."""
    own = [each for each in run_ids if not parts.has_no_run(each)]
    found = runs.held(benchmark.uri, benchmark.experiment_id, own)
    addresses = {each for each in run_ids if parts.has_no_run(each)}
    for parent in dict.fromkeys(map(parts.run_of, addresses)):
        cells = parts.rows(benchmark.uri, parent, ["key", "run_id", "tags", "params", "metrics"])
        for row in cells[cells["run_id"].isin(addresses)].to_dict("records"):
            tags, params, metrics = (json.loads(row[name]) for name in ("tags", "params", "metrics"))
            found[row["run_id"]] = Held(tags | params, metrics)
    return found


def _aimed_elsewhere(recorded: Held, study: Study) -> bool:
    """Tell whether a trained cell was recorded for another target than the study's."""
    return float(recorded.about["target"]) != study.target and "test_accuracy" in recorded.metrics


def _curves(benchmark: Benchmark, run_ids: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """Return the test accuracy of each of these cells, at the start and after each epoch, by run id or address."""
    client = store.client(benchmark.uri)
    found = {}
    for run_id in (each for each in run_ids if not parts.has_no_run(each)):
        history = sorted(client.get_metric_history(run_id, "test_accuracy"), key=lambda point: point.step)
        found[run_id] = np.array([point.value for point in history], np.float32)
    kept = _from_parts(benchmark, {each for each in run_ids if parts.has_no_run(each)}, "history")
    return found | {str(each): rows["test_accuracy"].to_numpy(np.float32) for each, rows in kept.groupby("run_id")}


def _from_parts(benchmark: Benchmark, run_ids: Collection[str], table: str) -> pd.DataFrame:
    """Return the rows of a table of those cells that are in the parts of a benchmark, with a column `run_id`.

    Cells with a run of their own are looked for in the parts of this benchmark, then in those of their own ones.
    """
    found = [pd.DataFrame({"run_id": []})]
    left = {*run_ids}
    parents = dict.fromkeys([benchmark.run_id, *(parts.run_of(each) for each in left if parts.has_no_run(each))])
    while parents:
        for parent in filter(None, parents):
            found.append(parts.tables(benchmark.uri, parent, left, table))
            left -= {*found[-1]["run_id"]}
        own = [each for each in left if not parts.has_no_run(each)]
        held = runs.held(benchmark.uri, benchmark.experiment_id, own)
        others = (each.about.get(PARENT, "") for each in held.values())
        parents = dict.fromkeys(each for each in others if each not in parents)
    return pd.concat(found, ignore_index=True)


def _runs(client: MlflowClient, benchmark: Benchmark, run_ids: Sequence[str]) -> dict[str, Run]:
    runs: dict[str, Run] = {}
    for at in range(0, len(run_ids), IDS):
        quoted = ", ".join(f"'{run_id}'" for run_id in run_ids[at : at + IDS])
        query = f"attributes.run_id IN ({quoted})"
        runs |= {run.info.run_id: run for run in store.search(client, [benchmark.experiment_id], query)}
    return runs


def _row(cell: Cell, run_id: str, recorded: Held, study: Study, curve: NDArray[np.float32] | None) -> dict[str, object]:
    """Return the row of a cell; curve: its test accuracy, if it was recorded for another target than the study's."""
    metrics, about = recorded.metrics, recorded.about
    reached = metrics.get("epochs_to_target") if curve is None else epochs_to_target(curve, study.target)
    measures = {name: metrics.get(name, np.nan) for name in columns.CELLS}
    return measures | {
        "study": study.name,
        "backend": cell.backend,
        **{short(factor): level for factor, level in cell.levels},
        "initializer": cell.initializer,
        "seed": cell.seed,
        "status": about[STATUS],
        "health": about.get(HEALTH, ""),
        "epochs_to_target": np.nan if reached is None else reached,
        "horizon": int(about["recipe.epochs"]),
        "test_rows": float(about.get("test_rows", np.nan)),
        "run_id": run_id,
        "reason": about[REASON],
    }


def read_files(benchmark: Benchmark, cells: pd.DataFrame, *names: str) -> list[pd.DataFrame]:
    """Return a table for each name: the rows of this file of every trained cell, with columns that name the cell.

    The names are `history.csv` and `layers.csv`. If no cell was trained, the tables are empty. The rows come from the
    parts of benchmarks; only for cells that are in none, such as those of earlier releases, their own files are read.

    Raises:
        StoreError: if a cell's files are gone.
    """
    trained = cells[cells["status"].isin(REUSABLE)]
    if not len(trained):
        return [pd.DataFrame() for _ in names]
    return [_rows_of(benchmark, trained, name) for name in names]


def _rows_of(benchmark: Benchmark, trained: pd.DataFrame, name: str) -> pd.DataFrame:
    kept = _from_parts(benchmark, {*trained["run_id"]}, name.removesuffix(".csv"))
    left = trained[~trained["run_id"].isin(kept["run_id"])]
    rows = pd.concat([kept, _from_files(benchmark, left["run_id"].tolist(), name)], ignore_index=True)
    about = trained[["run_id", *factors(trained), "backend", "initializer", "seed", "status"]]
    about = about.reset_index(names="place")  # two cells can have one key, and so one run
    rows = rows.merge(about, on="run_id").sort_values("place", kind="stable", ignore_index=True)
    return rows.drop(columns=["run_id", "place"])


def _from_files(benchmark: Benchmark, run_ids: Sequence[str], name: str) -> pd.DataFrame:
    """Return the rows of this file of these cells' own runs, with a column `run_id`."""
    runs = _runs(store.client(benchmark.uri), benchmark, run_ids)
    stores = {
        run_id: get_artifact_repository(run.info.artifact_uri, tracking_uri=benchmark.uri)
        for run_id, run in runs.items()
    }
    here = [Path(each.artifact_dir) for each in stores.values() if isinstance(each, LocalArtifactRepository)]
    gone = [folder for folder in here if not _has(folder, [name])]
    lost = [each for each in run_ids if each not in runs]
    if gone or lost:
        raise StoreError(
            f"{len(gone) + len(lost)} of {len(run_ids)} cells' files are gone, such as those in {[*gone, *lost][0]}; "
            "run the study again: it trains these cells anew"
        )
    try:
        found = [_csv(each, name).assign(run_id=run_id) for run_id, each in stores.items()]
    except MlflowException as error:  # MLflow's server has lost the files
        raise StoreError(f"the files of all cells must be in {benchmark.uri}; it says: {first_line(error)}") from None
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame({"run_id": []})


def _csv(files: ArtifactRepository, name: str) -> pd.DataFrame:
    """Read a file of a run: from its place if it is on this machine, else from a temporary download."""
    if isinstance(files, LocalArtifactRepository):
        return pd.read_csv(files.download_artifacts(name))
    with tempfile.TemporaryDirectory() as folder:
        return pd.read_csv(files.download_artifacts(name, folder))


def opened(run_id: str) -> tuple[Benchmark, Study]:
    """Return a compared benchmark and its study, by the id of its run or the start of the id.

    `latest` means the newest benchmark.

    Raises:
        StoreError: if there is no such benchmark, or several ids start so.
    """
    if store.unmade(store.uri()):
        raise StoreError(f"{store.uri()} must hold a benchmark that was compared; it is not there")
    client = store.client(store.uri())
    try:
        found = _latest(client) if run_id == "latest" else client.get_run(_whole(client, run_id))
        if not {CELLS, "study.yaml"} <= _files_of_benchmark(client, found):
            raise StoreError(
                f"{run_id} must be the run of a benchmark that was compared; it is {found.info.run_name!r}"
            )
        kept = documents.read(_text(client, found.info.run_id, "study.yaml"))
        study = Study.model_validate(kept)
    except MlflowException as error:
        raise StoreError(f"no run {run_id!r} in {store.uri()}; MLflow says: {first_line(error)}") from None
    except ValidationError as error:
        words = faults(error, kept, Study)[0]
        raise StoreError(
            f"{run_id} was recorded by another release, whose study this one cannot read: {words}"
        ) from None
    return Benchmark(store.uri(), found.info.experiment_id, found.info.run_id), study


def _whole(client: MlflowClient, start: str) -> str:
    """Return the id of the one benchmark whose id starts so; an id that is whole is returned as it is.

    Raises:
        StoreError: if no benchmark's id starts so, or several do.
    """
    if len(start) == ID_LENGTH or not re.fullmatch("[0-9a-f]+", start):
        return start
    query = f"tags.{BENCHMARK} = 'yes' AND attributes.run_id LIKE '{start}%'"
    runs = [*store.search(client, store.experiments(client), query)]
    if len(runs) == 1:
        return str(runs[0].info.run_id)
    if not runs:
        raise StoreError(f"no benchmark in {store.uri()} has a run id that starts with {start!r}")
    listed = ", ".join(f"{run.info.run_id} ({run.info.run_name})" for run in runs[:LISTED])
    raise StoreError(f"a run id must be that of one benchmark; {start!r} is the start of {len(runs)}: {listed}")


def _latest(client: MlflowClient) -> Run:
    experiments, query = store.experiments(client), f"tags.{BENCHMARK} = 'yes'"
    if found := _published(client, experiments, query):
        return found
    for run in store.search(client, experiments, query):
        _files_of_benchmark(client, run)
    raise StoreError(f"{store.uri()} must hold a benchmark that was compared; it holds none")


def _files_of_benchmark(client: MlflowClient, run: Run) -> set[str]:
    """Return the names of a run's files.

    Raises:
        StoreError: if it is a benchmark's run that has none: every benchmark begins with files.
    """
    files = _files(client, run.info.run_id)
    if BENCHMARK in run.data.tags and not files:
        raise StoreError(f"the files of {run.info.run_id} must be in {run.info.artifact_uri}; they are gone")
    return files


def _published(client: MlflowClient, experiment_ids: Sequence[str], query: str) -> Run | None:
    """Return the newest run that matches the query and holds a comparison, or None."""
    order = ["attributes.start_time DESC"]
    runs = client.search_runs([*experiment_ids], query, order_by=order) if experiment_ids else []
    return next((run for run in runs if CELLS in _files(client, run.info.run_id)), None)


def last_nightly(study: str) -> Benchmark | None:
    """Return the newest compared benchmark of a study that a nightly made, or None."""
    client = store.client(store.uri())
    experiment = client.get_experiment_by_name(store.experiment_name(study))
    query = f"tags.{BENCHMARK} = 'yes' AND tags.`{NIGHTLY}` = 'yes'"
    found = _published(client, [experiment.experiment_id], query) if experiment else None
    return Benchmark(store.uri(), experiment.experiment_id, found.info.run_id) if found else None


def look(benchmark: Benchmark) -> int:
    """Return which look at its study's question a benchmark is: 1 for the first benchmark of the question.

    A question is a study without its seeds. Each later benchmark with other seeds is one more look. A benchmark with
    the seeds of an earlier one is the same look.
    """
    client = store.client(benchmark.uri)
    own = client.get_run(benchmark.run_id)
    question = own.data.tags.get(QUESTION)
    query = f"tags.{BENCHMARK} = 'yes' AND tags.`{QUESTION}` = '{question}'"
    runs = [run for run in store.search(client, [benchmark.experiment_id], query) if run.info.status == "FINISHED"]
    before = [run for run in runs if run.info.start_time <= own.info.start_time and run.info.run_id != own.info.run_id]
    seeds = [run.data.tags[SEEDS] for run in sorted(before, key=lambda run: run.info.start_time)]
    return list(dict.fromkeys([*seeds, own.data.tags.get(SEEDS)])).index(own.data.tags.get(SEEDS)) + 1


def _files(client: MlflowClient, run_id: str) -> set[str]:
    return {file.path for file in client.list_artifacts(run_id)}


def _text(client: MlflowClient, run_id: str, name: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, name, folder)).read_text()


def environment(benchmark: Benchmark) -> dict[str, Any]:
    """Return the recorded description of the machine that a benchmark ran on."""
    found: dict[str, Any] = json.loads(_text(store.client(benchmark.uri), benchmark.run_id, "environment.json"))
    return found


def table(benchmark: Benchmark, name: str) -> pd.DataFrame:
    """Return a table that was published with a benchmark."""
    return pd.read_csv(StringIO(_text(store.client(benchmark.uri), benchmark.run_id, name)))


def handed_over(benchmark: Benchmark, name: str) -> Any:
    """Return the result that a worker stored with `recording.hand_over`."""
    return json.loads(_text(store.client(benchmark.uri), benchmark.run_id, f"workers/{name}.json"))["result"]


def export(run_id: str, folder: Path) -> list[str]:
    """Copy the report of a benchmark, as a page and as text, and its tables into a folder; return the files' names."""
    folder.mkdir(parents=True, exist_ok=True)
    client = store.client(store.uri())
    found = sorted((name for name in _files(client, run_id) if Path(name).suffix in EXPORTED), key=_reports_first)
    for name in found:
        client.download_artifacts(run_id, name, str(folder))
    return found


def _reports_first(name: str) -> tuple[int, str]:
    return EXPORTED.index(Path(name).suffix), name


def weights(benchmark: Benchmark, run_id: str) -> dict[str, NDArray[np.float32]]:
    """Return the trained variables of a cell, by their names in the framework's own model."""
    if parts.has_no_run(run_id):
        return parts.weights(benchmark.uri, run_id)
    with tempfile.TemporaryDirectory() as folder:
        return dict(load_file(store.client(benchmark.uri).download_artifacts(run_id, "weights.safetensors", folder)))

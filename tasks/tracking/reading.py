"""Cells, read back: a row of each for a comparison, the rows of their files, and their weights."""

import json
import tempfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from numpy.typing import NDArray
from safetensors.numpy import load_file

from tasks.core.design import columns
from tasks.core.design.grid import Cell
from tasks.core.design.settings import short
from tasks.core.design.study import Study
from tasks.core.statistics.measures import factors
from tasks.core.training.outcome import epochs_to_target, first_line
from tasks.core.watch import pace
from tasks.tracking import parts, places, runs, store
from tasks.tracking.runs import Held
from tasks.tracking.store import DIGEST, HEALTH, PARENT, REASON, REUSABLE, STATUS, Benchmark, StoreError, StudyRecord


def read(record: StudyRecord, study: Study, run_ids: Mapping[Cell, str]) -> pd.DataFrame:
    """Return cells as the store holds them, one row each, in the given order; `columns.CELLS` has the columns.

    Raises:
        StoreError: if the run of a cell was deleted.
    """
    recorded = _recorded(record, list(run_ids.values()))
    gone = [run_id for run_id in run_ids.values() if run_id not in recorded]
    if gone:
        raise StoreError(f"{len(gone)} of {len(run_ids)} cells' runs must be in {record.uri}; gone is {gone[0]}")
    other = {run_id for run_id, each in recorded.items() if _aimed_elsewhere(each, study)}
    curves = _curves(record, other)
    rows = [_row(cell, run_id, recorded[run_id], study, curves.get(run_id)) for cell, run_id in run_ids.items()]
    return pd.DataFrame(rows, columns=columns.cell_columns(map(short, study.factors), validation=study.validates))


def _recorded(record: StudyRecord, run_ids: Sequence[str]) -> dict[str, Held]:
    """Return what there is of each of these runs and addresses, by run id and address."""
    own = [each for each in run_ids if not parts.has_no_run(each)]
    found = runs.held(record.uri, record.experiment_id, own)
    addresses = {each for each in run_ids if parts.has_no_run(each)}
    for parent in dict.fromkeys(map(parts.run_of, addresses)):
        cells = parts.rows(record.uri, parent, ["key", "run_id", "tags", "params", "metrics"])
        for row in cells[cells["run_id"].isin(addresses)].to_dict("records"):
            tags, params, metrics = (json.loads(row[name]) for name in ("tags", "params", "metrics"))
            found[row["run_id"]] = Held(tags | params, metrics)
    return found


def _aimed_elsewhere(recorded: Held, study: Study) -> bool:
    """Tell whether a trained cell was recorded for another target than the study's."""
    return float(recorded.about["target"]) != study.target and "test_accuracy" in recorded.metrics


def _curves(record: StudyRecord, run_ids: Collection[str]) -> dict[str, NDArray[np.float32]]:
    """Return the test accuracy of each of these cells, at the start and after each epoch, by run id or address."""
    client = store.client(record.uri)
    found = {}
    for run_id in (each for each in run_ids if not parts.has_no_run(each)):
        history = sorted(client.get_metric_history(run_id, "test_accuracy"), key=lambda point: point.step)
        found[run_id] = np.array([point.value for point in history], np.float32)
    kept = _from_parts(record, {each for each in run_ids if parts.has_no_run(each)}, "history")
    return found | {str(each): rows["test_accuracy"].to_numpy(np.float32) for each, rows in kept.groupby("run_id")}


def _from_parts(record: StudyRecord, run_ids: Collection[str], table: str, *first: str) -> pd.DataFrame:
    """Return the rows of a table of those cells that are in the parts of benchmarks, with a column `run_id`.

    Cells with a run of their own are looked for in the parts of the benchmarks with the run ids `first`, then in those
    of the benchmarks that trained them.
    """
    found = [pd.DataFrame({"run_id": []})]
    left = {*run_ids}
    parents = dict.fromkeys([*first, *(parts.run_of(each) for each in left if parts.has_no_run(each))])
    while parents:
        for parent in filter(None, parents):
            found.append(parts.tables(record.uri, parent, left, table))
            left -= {*found[-1]["run_id"]}
        own = [each for each in left if not parts.has_no_run(each)]
        held = runs.held(record.uri, record.experiment_id, own)
        others = (each.about.get(PARENT, "") for each in held.values())
        parents = dict.fromkeys(each for each in others if each not in parents)
    return pd.concat(found, ignore_index=True)


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
        "digest": about.get(DIGEST, ""),
        "run_id": run_id,
        "reason": about[REASON],
    }


def paced(benchmark: Benchmark) -> pd.DataFrame:
    """Return the cells that a benchmark has trained itself, one row each: `pace.PACED` has the columns."""
    rows = parts.rows(benchmark.uri, benchmark.run_id, ["key", "params", "metrics", "ended"])
    told = [
        {"backend": json.loads(row["params"])["backend"], "ended": row["ended"] / 1000, **json.loads(row["metrics"])}
        for row in rows.to_dict("records")
    ]
    return pd.DataFrame(told, columns=[*pace.PACED]).dropna()


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
    return [_named(_rows_of(benchmark, trained, name), trained) for name in names]


def read_bits(benchmark: Benchmark, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the rows `columns.BITS` of every trained cell, with columns that name the cell.

    Cells that an earlier release recorded may have no rows.
    """
    trained = cells[cells["status"].isin(REUSABLE)]
    kept = _from_parts(benchmark, {*trained["run_id"]}, "bits", benchmark.run_id)
    return _named(kept.reindex(columns=["run_id", *columns.BITS]), trained)


def _rows_of(benchmark: Benchmark, trained: pd.DataFrame, name: str) -> pd.DataFrame:
    """Return the rows of this file of these cells, with a column `run_id`."""
    kept = _from_parts(benchmark, {*trained["run_id"]}, name.removesuffix(".csv"), benchmark.run_id)
    left = trained[~trained["run_id"].isin(kept["run_id"])]
    return pd.concat([kept, _from_files(benchmark, left["run_id"].tolist(), name)], ignore_index=True)


def _named(rows: pd.DataFrame, trained: pd.DataFrame) -> pd.DataFrame:
    """Return rows in the order of their cells, with columns that name the cell in place of `run_id`."""
    about = trained[["run_id", *factors(trained), "backend", "initializer", "seed", "status"]]
    about = about.reset_index(names="place")  # two cells can have one key, and so one run
    rows = rows.merge(about, on="run_id").sort_values("place", kind="stable", ignore_index=True)
    return rows.drop(columns=["run_id", "place"])


def _from_files(benchmark: Benchmark, run_ids: Sequence[str], name: str) -> pd.DataFrame:
    """Return the rows of this file of these cells' own runs, with a column `run_id`."""
    held = runs.held(benchmark.uri, benchmark.experiment_id, run_ids)
    stores = {
        run_id: get_artifact_repository(each.location, tracking_uri=benchmark.uri) for run_id, each in held.items()
    }
    here = [Path(each.artifact_dir) for each in stores.values() if isinstance(each, LocalArtifactRepository)]
    gone = [folder for folder in here if not places.has(folder, [name])]
    lost = [each for each in run_ids if each not in held]
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


def weights(benchmark: Benchmark, run_id: str) -> dict[str, NDArray[np.float32]]:
    """Return the trained variables of a cell, by their names in the framework's own model."""
    if parts.has_no_run(run_id):
        return parts.weights(benchmark.uri, run_id)
    with tempfile.TemporaryDirectory() as folder:
        return dict(load_file(store.client(benchmark.uri).download_artifacts(run_id, "weights.safetensors", folder)))

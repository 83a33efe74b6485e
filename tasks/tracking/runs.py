"""Runs of cells, many at a time: in one transaction where the store is a database, else in several requests at once.

MLflow's client makes a run in three calls, and reads the run back and compares it in each of them. A cell's run is
written once and never again, so its rows can be put into MLflow's tables as they are, and read without an object for
each. `test_runs.py` holds that they are the very rows that the client writes, and that reading returns what the client
returns.
"""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from math import inf, isnan, nan
from typing import Any
from uuid import uuid4

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.uri import append_to_uri_path
from sqlalchemy import Table, select, text
from sqlalchemy.orm import Session, aliased

from tasks.tracking import places, store

IDS = 200  # run ids in one filter
REQUESTS = 4  # at once, to MLflow's server
BUSY_SECONDS = 120  # for which a database that others write to is waited for
LARGEST = 1.7976931348623157e308  # which MLflow's tables hold in place of infinity

Point = tuple[str, int, float]
"""The name of a metric, its step and its value."""


@dataclass(frozen=True)
class Run:
    """A run that has ended, with all that it holds; times are milliseconds since 1970, files are contents by name."""

    name: str
    status: str
    started: int
    ended: int
    tags: Mapping[str, str]
    params: Mapping[str, str]
    points: Sequence[Point]
    files: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    """A cell's run as a search for cells sees it; location: the place of its files."""

    run_id: str
    finished: bool
    location: str
    key: str
    outcome: str


@dataclass(frozen=True)
class Held:
    """What a run holds beside its files: tags and params by name, and the last value of each metric."""

    about: Mapping[str, str]
    metrics: Mapping[str, float]


def write(uri: str, experiment_id: str, runs: Sequence[Run]) -> list[str | Exception]:
    """Write runs into an experiment and return their ids.

    In a database, either all of the runs are written or none. A server may refuse some of them: these have an error in
    place of an id.
    """
    client = store.client(uri)
    database = _database(client)
    if database is None:
        with ThreadPoolExecutor(REQUESTS) as threads:
            return list(threads.map(partial(_by_requests, client, experiment_id), runs))
    ids = [uuid4().hex for _ in runs]
    experiment = client.get_experiment(experiment_id)
    if experiment.lifecycle_stage != "active":
        raise MlflowException(f"experiment {experiment.name} must be active; it was deleted")
    root = experiment.artifact_location
    locations = [append_to_uri_path(root, run_id, SqlAlchemyStore.ARTIFACTS_FOLDER_NAME) for run_id in ids]
    for run, location in zip(runs, locations, strict=True):
        places.put(location, uri, run.files)
    with database.ManagedSessionMaker(read_only=False) as session:
        if database.db_type == "sqlite":
            session.execute(text(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS}"))
        for table, rows in _rows(experiment_id, runs, ids, locations).items():
            if rows:
                session.execute(table.insert(), rows)
    return [*ids]


def _database(client: MlflowClient) -> Any:
    """Return MLflow's store of a client if it is a database, else None."""
    found = client._tracking_client.store
    return found if isinstance(found, SqlAlchemyStore) else None


def _rows(
    experiment_id: str, runs: Sequence[Run], ids: Sequence[str], locations: Sequence[str]
) -> dict[Table, list[dict[str, object]]]:
    """Return the rows of runs by table, those first to which others refer."""
    found: dict[Table, list[dict[str, object]]] = {
        model.__table__: [] for model in (SqlRun, SqlTag, SqlParam, SqlMetric, SqlLatestMetric)
    }
    run_rows, tags, params, metrics, latest = found.values()
    for run, run_id, location in zip(runs, ids, locations, strict=True):
        run_rows.append(_run_row(run, run_id, location, experiment_id))
        labels = {**run.tags, "mlflow.runName": run.name}
        tags += ({"key": key, "value": value, "run_uuid": run_id} for key, value in labels.items())
        params += ({"key": key, "value": value, "run_uuid": run_id} for key, value in run.params.items())
        points = [*_points(run, run_id)]
        metrics += points
        latest += {row["key"]: row for row in sorted(points, key=lambda row: row["step"])}.values()
    return found


def _run_row(run: Run, run_id: str, location: str, experiment_id: str) -> dict[str, object]:
    return {
        "run_uuid": run_id,
        "name": run.name,
        "source_type": "UNKNOWN",
        "source_name": "",
        "entry_point_name": "",
        "user_id": "unknown",
        "status": run.status,
        "start_time": run.started,
        "end_time": run.ended,
        "deleted_time": None,
        "source_version": "",
        "lifecycle_stage": "active",
        "artifact_uri": location,
        "experiment_id": int(experiment_id),
    }


def _points(run: Run, run_id: str) -> Iterator[dict[str, Any]]:
    for name, step, value in run.points:
        finite = 0.0 if isnan(value) else min(max(value, -LARGEST), LARGEST)
        yield {
            "key": name,
            "value": finite,
            "timestamp": run.ended,
            "step": step,
            "is_nan": isnan(value),
            "run_uuid": run_id,
        }


def seen(uri: str, experiment_id: str, settings: str, parent: str | None) -> list[Seen]:
    """Return the runs of cells with these settings, by their hash, the newest first; parent: only this benchmark's."""
    client = store.client(uri)
    database = _database(client)
    labels = {store.SETTINGS: settings, **({store.PARENT: parent} if parent else {})}
    if database is None:
        query = " AND ".join(f"tags.`{name}` = '{value}'" for name, value in labels.items())
        return [
            Seen(
                run.info.run_id,
                run.info.status == "FINISHED",
                run.info.artifact_uri,
                run.data.tags[store.KEY],
                run.data.tags[store.STATUS],
            )
            for run in store.search(client, [experiment_id], query)
        ]
    key, outcome = aliased(SqlTag), aliased(SqlTag)
    asked = select(SqlRun.run_uuid, SqlRun.status, SqlRun.artifact_uri, key.value, outcome.value)
    asked = asked.join(key, (key.run_uuid == SqlRun.run_uuid) & (key.key == store.KEY))
    asked = asked.join(outcome, (outcome.run_uuid == SqlRun.run_uuid) & (outcome.key == store.STATUS))
    for name, value in labels.items():
        label = aliased(SqlTag)
        asked = asked.join(label, (label.run_uuid == SqlRun.run_uuid) & (label.key == name) & (label.value == value))
    asked = asked.where(*_active(experiment_id)).order_by(SqlRun.start_time.desc(), SqlRun.run_uuid)
    with database.ManagedSessionMaker() as session:
        return [Seen(found[0], found[1] == "FINISHED", *found[2:]) for found in session.execute(asked)]


def _active(experiment_id: str) -> tuple[Any, Any]:
    return SqlRun.experiment_id == int(experiment_id), SqlRun.lifecycle_stage == "active"


def held(uri: str, experiment_id: str, ids: Sequence[str]) -> dict[str, Held]:
    """Return what these runs hold, by id; a run that was deleted is left out."""
    client = store.client(uri)
    database = _database(client)
    found: dict[str, Held] = {}
    for at in range(0, len(ids), IDS):
        some = ids[at : at + IDS]
        if database is None:
            quoted = ", ".join(f"'{run_id}'" for run_id in some)
            for run in store.search(client, [experiment_id], f"attributes.run_id IN ({quoted})"):
                about = {**run.data.tags, **run.data.params}
                metrics = {name: inf if value >= LARGEST else value for name, value in run.data.metrics.items()}
                found[run.info.run_id] = Held(about, metrics)
        else:
            with database.ManagedSessionMaker() as session:
                found |= _held(session, experiment_id, some)
    return found


def _held(session: Session, experiment_id: str, ids: Sequence[str]) -> dict[str, Held]:
    there = session.execute(select(SqlRun.run_uuid).where(SqlRun.run_uuid.in_(ids), *_active(experiment_id)))
    found: dict[str, tuple[dict[str, str], dict[str, float]]] = {run_id: ({}, {}) for (run_id,) in there}
    for model in (SqlTag, SqlParam):
        words = session.execute(select(model.run_uuid, model.key, model.value).where(model.run_uuid.in_([*found])))
        for run_id, name, word in words:
            found[run_id][0][name] = word
    metric = SqlLatestMetric
    asked = select(metric.run_uuid, metric.key, metric.value, metric.is_nan).where(metric.run_uuid.in_([*found]))
    for run_id, name, value, is_nan in session.execute(asked):
        found[run_id][1][name] = nan if is_nan else inf if value >= LARGEST else value
    return {run_id: Held(*each) for run_id, each in found.items()}


def _by_requests(client: MlflowClient, experiment_id: str, run: Run) -> str | Exception:
    try:
        created = client.create_run(experiment_id, run.started, dict(run.tags), run_name=run.name)
        run_id, status = str(created.info.run_id), "FAILED"
        try:
            points = [Metric(name, value, run.ended, step) for name, step, value in run.points]
            client.log_batch(run_id, points, [Param(name, value) for name, value in run.params.items()])
            places.put(created.info.artifact_uri, client.tracking_uri, run.files)
            status = run.status
        finally:
            client.set_terminated(run_id, status, run.ended)
    except MlflowException as error:
        refused: Exception = error
        return refused
    return run_id

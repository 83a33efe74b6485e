"""Runs of cells, many at a time: in one transaction where the store is a database, else in several requests at once."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import TYPE_CHECKING

from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from tasks.tracking import places, store

if TYPE_CHECKING:
    from tasks.tracking.tables import Tables

IDS = 200  # run ids in one filter
REQUESTS = 4  # at once, to MLflow's server
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
    """What a run holds: tags and params by name, the last value of each metric, and the place of its files."""

    about: Mapping[str, str]
    metrics: Mapping[str, float]
    location: str = ""


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
    return database.write(experiment_id, runs)


def written(uri: str, experiment_id: str, runs: Sequence[Run]) -> list[str]:
    """Write runs into an experiment and return their ids.

    Raises:
        MlflowException: if a server refuses one of them; the others are written.
    """
    found = write(uri, experiment_id, runs)
    for each in found:
        if isinstance(each, Exception):
            raise each
    return [str(each) for each in found]


def _database(client: MlflowClient) -> "Tables | None":
    """Return the tables of a client's store if it is a database, else None.

    Only then is imported what they need, which takes as long as the rest of MLflow's client.
    """
    if client.tracking_uri.startswith("http"):
        return None
    from tasks.tracking.tables import Tables

    return Tables.of(client)


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
    return database.seen(experiment_id, labels)


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
                found[run.info.run_id] = Held(about, metrics, run.info.artifact_uri)
        else:
            found |= database.held(experiment_id, some)
    return found


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

"""MLflow's tables, where the store is a database: runs of cells written and read as rows, many in one transaction.

MLflow's client makes a run in three calls, and reads the run back and compares it in each of them. A cell's run is
written once and never again, so its rows can be put into MLflow's tables as they are, and read without an object for
each. `test_runs.py` holds that they are the very rows that the client writes, and that reading returns what the client
returns.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan, nan
from typing import Any, Self
from uuid import uuid4

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.dbmodels.models import SqlLatestMetric, SqlMetric, SqlParam, SqlRun, SqlTag
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.uri import append_to_uri_path
from sqlalchemy import Table, select, text
from sqlalchemy.orm import aliased

from tasks.tracking import places, store
from tasks.tracking.runs import LARGEST, Held, Run, Seen

BUSY_SECONDS = 120  # for which a database that others write to is waited for


@dataclass(frozen=True)
class Tables:
    """The tables of a client's store."""

    client: MlflowClient
    database: SqlAlchemyStore

    @classmethod
    def of(cls, client: MlflowClient) -> Self | None:
        """Return the tables of a client's store, or None if the store is no database."""
        found = client._tracking_client.store
        return cls(client, found) if isinstance(found, SqlAlchemyStore) else None

    def write(self, experiment_id: str, runs: Sequence[Run]) -> list[str | Exception]:
        """Write all runs into an experiment, or none, and return their ids."""
        ids = [uuid4().hex for _ in runs]
        experiment = self.client.get_experiment(experiment_id)
        if experiment.lifecycle_stage != "active":
            raise MlflowException(f"experiment {experiment.name} must be active; it was deleted")
        root = experiment.artifact_location
        locations = [append_to_uri_path(root, run_id, SqlAlchemyStore.ARTIFACTS_FOLDER_NAME) for run_id in ids]
        for run, location in zip(runs, locations, strict=True):
            places.put(location, self.client.tracking_uri, run.files)
        with self.database.ManagedSessionMaker(read_only=False) as session:
            if self.database.db_type == "sqlite":
                session.execute(text(f"PRAGMA busy_timeout = {1000 * BUSY_SECONDS}"))
            for table, rows in _rows(experiment_id, runs, ids, locations).items():
                if rows:
                    session.execute(table.insert(), rows)
        return [*ids]

    def seen(self, experiment_id: str, labels: Mapping[str, str]) -> list[Seen]:
        """Return the runs of cells in an experiment that have these tags, the newest first."""
        key, outcome = aliased(SqlTag), aliased(SqlTag)
        asked = select(SqlRun.run_uuid, SqlRun.status, SqlRun.artifact_uri, key.value, outcome.value)
        asked = asked.join(key, (key.run_uuid == SqlRun.run_uuid) & (key.key == store.KEY))
        asked = asked.join(outcome, (outcome.run_uuid == SqlRun.run_uuid) & (outcome.key == store.STATUS))
        for name, value in labels.items():
            label = aliased(SqlTag)
            asked = asked.join(
                label, (label.run_uuid == SqlRun.run_uuid) & (label.key == name) & (label.value == value)
            )
        asked = asked.where(*_active(experiment_id)).order_by(SqlRun.start_time.desc(), SqlRun.run_uuid)
        with self.database.ManagedSessionMaker() as session:
            return [Seen(found[0], found[1] == "FINISHED", *found[2:]) for found in session.execute(asked)]

    def held(self, experiment_id: str, ids: Sequence[str]) -> dict[str, Held]:
        """Return what these runs of an experiment hold, by id; a run that was deleted is left out."""
        with self.database.ManagedSessionMaker() as session:
            there = select(SqlRun.run_uuid, SqlRun.artifact_uri).where(
                SqlRun.run_uuid.in_(ids), *_active(experiment_id)
            )
            locations = dict(session.execute(there).tuples().all())
            found: dict[str, tuple[dict[str, str], dict[str, float]]] = {run_id: ({}, {}) for run_id in locations}
            for model in (SqlTag, SqlParam):
                asked = select(model.run_uuid, model.key, model.value).where(model.run_uuid.in_([*found]))
                for run_id, name, word in session.execute(asked):
                    found[run_id][0][name] = word
            metric = SqlLatestMetric
            numbers = select(metric.run_uuid, metric.key, metric.value, metric.is_nan)
            for run_id, name, value, is_nan in session.execute(numbers.where(metric.run_uuid.in_([*found]))):
                found[run_id][1][name] = nan if is_nan else inf if value >= LARGEST else value
        return {run_id: Held(*each, locations[run_id]) for run_id, each in found.items()}


def _active(experiment_id: str) -> tuple[Any, Any]:
    return SqlRun.experiment_id == int(experiment_id), SqlRun.lifecycle_stage == "active"


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

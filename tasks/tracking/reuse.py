"""Cells of earlier benchmarks that need not be trained again."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from tasks.core.design.grid import Batch
from tasks.tracking import parts, places, runs, store
from tasks.tracking.runs import Seen
from tasks.tracking.store import DATA, GROUPED, PRUNED, REUSABLE, REVOKED


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
        if not {REVOKED, PRUNED} & run.data.tags.keys():
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
        return lambda run: places.has(Path(local_file_uri_to_path(run.location)), store.FILES)
    folders = get_artifact_repository(experiment.artifact_location, tracking_uri=store.uri()).list_artifacts()
    there = {Path(folder.path).name for folder in folders}
    return lambda run: run.run_id in there

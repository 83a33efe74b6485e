"""Old nights are thinned: what their cells left in files goes, and all that was found of them stays.

A night keeps its report, its tables with the digest of every cell, and its page for ever. The files of cells (weights,
predictions, curves and signals) are kept of the newest nights, of every night that was flagged or accepted, of the
baselines, and of the champions.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from tasks.core.watch.night import Night
from tasks.tracking import nights, parts, store
from tasks.tracking.nights import Kept
from tasks.tracking.registry import CHAMPION
from tasks.tracking.store import BENCHMARK, PARENT

FOLDERS = (parts.CELLS, parts.MODELS)  # of a benchmark's run: what holds cells
PRUNED = "initbench.pruned"  # tag of a benchmark whose cells have no files any more


@dataclass(frozen=True)
class Old:
    """A study of an old night whose cells' files can go. places: the folders of files; size: their bytes."""

    night: str
    study: str
    run_id: str
    places: tuple[str, ...]
    size: int


def old(keep: int) -> list[Old]:
    """Return what is old, the oldest night first; keep: how many of the newest nights keep all files."""
    client, kept = store.client(store.uri()), nights.nights()
    told, _ = nights.book()
    spared = _champions(client) | {run for each in kept for run in _spared(each, kept, told)}
    found = [
        (each.name, study, entry.run_id)
        for each in reversed(kept[keep:])
        for study, entry in each.studies.items()
        if entry.run_id not in spared
    ]
    models = {each.run_id for each in client.search_model_versions()}
    listed = ((*each, _places(client, each[-1], models)) for each in found)
    return [
        Old(night, study, run_id, tuple(sizes), sum(sizes.values())) for night, study, run_id, sizes in listed if sizes
    ]


def prune(asked: Sequence[Old]) -> None:
    """Delete the files of old cells, and mark their benchmarks."""
    client = store.client(store.uri())
    for each in asked:
        client.set_tag(each.run_id, PRUNED, "yes")
        for place in each.places:
            get_artifact_repository(place, tracking_uri=client.tracking_uri).delete_artifacts()


def _spared(night: Kept, kept: Sequence[Kept], told: Sequence[Night]) -> Iterator[str]:
    """Yield the benchmarks of a night that keep their files: flagged, accepted, or the first of comparable nights."""
    verdicts = {each.study: each for one in told if one.name == night.name for each in one.watched}
    for study, entry in night.studies.items():
        chain = [each for each in kept if study in each.studies and each.studies[study].identity == entry.identity]
        flagged = study in verdicts and bool(verdicts[study].flags)
        if flagged or study in night.accepted or chain[-1] is night:
            yield entry.run_id


def _champions(client: MlflowClient) -> set[str]:
    """Return the benchmarks that made the models which have the alias `champion`."""
    found = set()
    for model in client.search_registered_models():
        if version := model.aliases.get(CHAMPION):
            found.add(client.get_model_version(model.name, str(version)).tags.get(BENCHMARK, ""))
    return found


def _places(client: MlflowClient, run_id: str, models: Container[str]) -> Mapping[str, int]:
    """Return the size of each folder of files that the cells of a benchmark have, by its address.

    models: the runs of registered models, which keep their files.
    """
    run = client.get_run(run_id)
    cells = store.search(client, [run.info.experiment_id], f"tags.`{PARENT}` = '{run_id}'")
    own = [str(cell.info.artifact_uri) for cell in cells if cell.info.run_id not in models]
    roots = [*(f"{run.info.artifact_uri}/{name}" for name in FOLDERS), *own]
    sizes = {root: _size(client, root) for root in roots}
    return {root: size for root, size in sizes.items() if size}


def _size(client: MlflowClient, root: str) -> int:
    """Return how many bytes the files in a folder of a store take."""
    listed = get_artifact_repository(root, tracking_uri=client.tracking_uri).list_artifacts()
    return sum(each.file_size or 0 for each in listed if not each.is_dir)

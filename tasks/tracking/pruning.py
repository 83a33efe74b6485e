"""Old nights are thinned: weights and predictions of their cells go, and all that was found of them stays.

A night keeps its page, its report, its tables, and every number and digest of its cells for ever. The files of cells
are kept of the newest nights, of every night that was flagged or accepted, of the baselines, and of the champions.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from tasks.core.watch.night import Night
from tasks.tracking import nights, parts, store
from tasks.tracking.nights import Kept
from tasks.tracking.registry import CELL, CHAMPION
from tasks.tracking.store import BENCHMARK, PARENT, PRUNED


@dataclass(frozen=True)
class Old:
    """A study of an old night whose cells' files can go. places: the folders of files; size: their bytes."""

    night: str
    study: str
    run_id: str
    places: tuple[str, ...]
    size: int


def old(keep: int) -> list[Old]:
    """Return what is old, the oldest night first; keep: how many of a study's newest nights keep all files."""
    client, kept = store.client(store.uri()), nights.nights()
    told, _ = nights.book()
    spared = _champions(client) | _baselines(kept) | _flagged(kept, told)
    models = {each.run_id for each in store.pages(client.search_model_versions)}
    found = []
    for study in dict.fromkeys(name for each in kept for name in each.studies):
        own = [each for each in kept if study in each.studies]
        asked = [(each.name, each.studies[study].run_id) for each in own[keep:]]
        found += [(name, study, run_id) for name, run_id in asked if run_id not in spared]
    listed = [(*each, _places(client, each[-1], models)) for each in sorted(found)]
    return [Old(night, study, run, tuple(sizes), sum(sizes.values())) for night, study, run, sizes in listed if sizes]


def prune(asked: Sequence[Old]) -> None:
    """Delete the files of old cells, and mark their benchmarks, whose cells are used by no later one then."""
    client = store.client(store.uri())
    for each in asked:
        client.set_tag(each.run_id, PRUNED, "yes")
        for place in each.places:
            get_artifact_repository(place, tracking_uri=client.tracking_uri).delete_artifacts()


def _flagged(kept: Sequence[Kept], told: Sequence[Night]) -> set[str]:
    """Return the benchmarks of nights that had a flag or were accepted."""
    flags = {(night.name, each.study) for night in told for each in night.watched if each.flags}
    every = ((night, study, entry.run_id) for night in kept for study, entry in night.studies.items())
    return {run for night, study, run in every if (night.name, study) in flags or study in night.accepted}


def _baselines(kept: Sequence[Kept]) -> set[str]:
    """Return the benchmarks of the nights that the next night of a study is held against first."""
    found = set()
    for study in {name for each in kept for name in each.studies}:
        newest = next(each for each in kept if study in each.studies)
        chain = nights.comparable(study, newest.studies[study].identity, kept)
        found.add(chain[nights.age(study, chain) - 1].studies[study].run_id)
    return found


def _champions(client: MlflowClient) -> set[str]:
    """Return the benchmarks of the models that have the alias `champion`: which crowned it, and which has its cell."""
    found = set()
    for model in store.pages(client.search_registered_models):
        if version := model.aliases.get(CHAMPION):
            tags = client.get_model_version(model.name, str(version)).tags
            found |= {tags.get(BENCHMARK, ""), parts.run_of(tags.get(CELL, ""))}
    return found


def _places(client: MlflowClient, run_id: str, models: Container[str]) -> Mapping[str, int]:
    """Return the size of each folder of files that the cells of a benchmark have, by its address.

    models: the runs of registered models, which keep their files.
    """
    try:
        run = client.get_run(run_id)
    except MlflowException:  # somebody has deleted it
        return {}
    cells = store.search(client, [run.info.experiment_id], f"tags.`{PARENT}` = '{run_id}'")
    own = [str(cell.info.artifact_uri) for cell in cells if cell.info.run_id not in models]
    roots = [f"{run.info.artifact_uri}/{parts.MODELS}", *own]
    sizes = {root: _size(client, root) for root in roots}
    return {root: size for root, size in sizes.items() if size}


def _size(client: MlflowClient, root: str) -> int:
    """Return how many bytes the files in a folder of a store take."""
    listed = get_artifact_repository(root, tracking_uri=client.tracking_uri).list_artifacts()
    return sum(each.file_size or 0 for each in listed if not each.is_dir)

"""Nights of the watch, kept for ever: each is a run of the experiment `initbench/watch`.

A night's run says which benchmark of each study belongs to it, and holds the night's page. One more run, the book,
holds what all nights so far have said: every night with its flags, the history of every group's means, and the feed.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import takewhile

import pandas as pd
from mlflow import MlflowClient
from pydantic import ConfigDict, TypeAdapter

from tasks.core.watch.night import Night
from tasks.core.watch.values import COLUMNS
from tasks.tracking import benchmarks, places, recording, runs, store
from tasks.tracking.store import NIGHTLY, Recorded, StoreError

WATCH = "watch"  # name of the experiment, after `initbench/`
NIGHT = "initbench.night"  # tag of a night's run: the night's name
BOOK = "initbench.book"  # tag of the run that holds all nights
STUDY = "initbench.study."  # tag of a night's run, with a study's name: its benchmark, and its identity, as JSON
ACCEPTED = "initbench.accepted."  # tag of a night's run, with a study's name: why the study's baseline is this night
PAGE, FEED, NIGHTS, HISTORY = "watch.html", "watch.xml", "nights.json", "history.parquet"
LISTED = 7  # nights that are named where a night is not on record

_nights = TypeAdapter(tuple[Night, ...], config=ConfigDict(ser_json_inf_nan="constants"))


@dataclass(frozen=True)
class Entry:
    """A study in a night: the run of its benchmark, and a hash of all that comparable nights have alike."""

    run_id: str
    identity: str


@dataclass(frozen=True)
class Kept:
    """A night on record. studies: those with a result; accepted: why it is the baseline of each study that says so."""

    name: str
    recorded: Recorded
    studies: Mapping[str, Entry]
    accepted: Mapping[str, str]


def nights() -> list[Kept]:
    """Return all nights on record, the newest first."""
    client = store.client(store.uri())
    experiment = store.active_experiment(client, WATCH)
    ids = [experiment.experiment_id] if experiment else []
    return [
        Kept(
            run.data.tags[NIGHT],
            Recorded(client.tracking_uri, run.info.experiment_id, run.info.run_id),
            {name: Entry(**json.loads(value)) for name, value in _tags(run.data.tags, STUDY).items()},
            _tags(run.data.tags, ACCEPTED),
        )
        for run in store.search(client, ids, f"tags.`{NIGHT}` != ''")
    ]


def _tags(tags: Mapping[str, str], start: str) -> dict[str, str]:
    """Return the tags that start so, without the start of their names."""
    return {name.removeprefix(start): value for name, value in tags.items() if name.startswith(start)}


def comparable(study: str, identity: str, past: Sequence[Kept]) -> list[Kept]:
    """Return the nights of a study with this identity, newest first, up to the first night with another one."""
    own = (each for each in past if study in each.studies)
    return [*takewhile(lambda each: each.studies[study].identity == identity, own)]


def age(study: str, chain: Sequence[Kept]) -> int:
    """Return how many nights ago the baseline of a study was, in a chain of comparable nights, newest first.

    The baseline is the night that was accepted or, before any is, the first one.
    """
    return next((at for at, each in enumerate(chain, 1) if study in each.accepted), len(chain))


def book() -> tuple[tuple[Night, ...], pd.DataFrame]:
    """Return what all nights so far have said, oldest first, and their history, with the columns COLUMNS."""
    client = store.client(store.uri())
    run_id = _book(client)
    if run_id is None or NIGHTS not in {file.path for file in client.list_artifacts(run_id)}:
        return (), pd.DataFrame(columns=COLUMNS)  # the first night was not kept to its end
    history = pd.read_parquet(BytesIO(benchmarks.content(client, run_id, HISTORY)))
    return _nights.validate_json(benchmarks.content(client, run_id, NIGHTS)), history


def _book(client: MlflowClient) -> str | None:
    """Return the id of the run that holds all nights, if there is one."""
    experiment = store.active_experiment(client, WATCH)
    ids = [experiment.experiment_id] if experiment else []
    return next((str(run.info.run_id) for run in store.search(client, ids, f"tags.`{BOOK}` = 'yes'")), None)


def opened(tags: Mapping[str, str]) -> tuple[Recorded, Recorded]:
    """Return a new run for a night, with these tags, and the run of the book, which is made if it is not there.

    The night counts as one when `keep` has named it.
    """
    client, now = store.client(store.uri()), int(time.time() * 1000)
    experiment = recording.made_experiment(client, WATCH)
    asked = [("a night", dict(tags))]
    known = _book(client)
    if known is None:
        asked.append(("all nights", {BOOK: "yes"}))
    made = [
        runs.Run(name=name, status="FINISHED", started=now, ended=now, tags=tags, params={}, points=[], files={})
        for name, tags in asked
    ]
    found = runs.written(client.tracking_uri, experiment, made)
    night, shared = (Recorded(client.tracking_uri, experiment, each) for each in (found[0], known or found[-1]))
    return night, shared


def keep(
    run: Recorded,
    shared: Recorded,
    told: Sequence[Night],
    studies: Mapping[str, Entry],
    *,
    page: str,
    feed: bytes,
    history: pd.DataFrame,
) -> None:
    """Keep the last of these nights in its run, and all of them in the book; studies: its benchmarks by study."""
    client = store.client(run.uri)
    tonight = told[-1]
    held = BytesIO()
    history.to_parquet(held, index=False)
    own = {PAGE: page.encode()}
    # the history first, then the nights: a book that holds nights is whole
    files = {HISTORY: held.getvalue(), FEED: feed, **own, NIGHTS: _nights.dump_json(tuple(told))}
    for each, contents in ((run, own), (shared, files)):
        places.put(client.get_run(each.run_id).info.artifact_uri, run.uri, contents)
    for study, entry in studies.items():
        client.set_tag(run.run_id, f"{STUDY}{study}", json.dumps({"run_id": entry.run_id, "identity": entry.identity}))
    client.set_tag(run.run_id, "initbench.verdict", tonight.verdict)
    client.update_run(run.run_id, name=tonight.name)
    client.set_tag(run.run_id, NIGHTLY, "yes")
    client.set_tag(run.run_id, NIGHT, tonight.name)


def accept(name: str, studies: Sequence[str], why: str) -> tuple[str, list[str]]:
    """Make a night the baseline of studies, of all that it has if none is named; return its name and theirs.

    Nights that were accepted before are it no longer.

    Raises:
        StoreError: if there is no such night, or it has no result of a study.
    """
    known = nights()
    found = next((each for each in known if name in (each.name, "latest")), None)
    if found is None:
        listed = ", ".join(each.name for each in known[:LISTED]) or "none"
        raise StoreError(f"a night is the name of one on record, or `latest`; the newest are {listed}; got {name!r}")
    for study in studies:
        if study not in found.studies:
            has = ", ".join(sorted(found.studies)) or "no study"
            raise StoreError(f"{found.name} has results of {has}; got {study!r}")
    chosen = list(studies) or sorted(found.studies)
    client = store.client(found.recorded.uri)
    for study in chosen:
        for each in known:
            if study in each.accepted:
                client.delete_tag(each.recorded.run_id, f"{ACCEPTED}{study}")
        client.set_tag(found.recorded.run_id, f"{ACCEPTED}{study}", why)
    return found.name, chosen

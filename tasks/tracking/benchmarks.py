"""The runs of benchmarks, read back: which there are, their studies, and the files that belong to a whole benchmark."""

import json
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from pydantic import ValidationError

from tasks import documents
from tasks.core.audit.audit import Audit
from tasks.core.design.faults import faults
from tasks.core.design.grid import ABSENT
from tasks.core.design.study import Study
from tasks.core.training.outcome import first_line
from tasks.tracking import store
from tasks.tracking.store import (
    AUDITS,
    BENCHMARK,
    CELLS,
    MACHINES,
    NIGHTLY,
    QUESTION,
    SEEDS,
    Benchmark,
    StoreError,
)

ID_LENGTH = 32  # hexadecimal digits of a run id
LISTED = 4  # benchmarks that are named where the start of an id means several
EXPORTED = (".html", ".md", ".tex", ".csv")


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
        kept = documents.read(text(client, found.info.run_id, "study.yaml"))
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


def text(client: MlflowClient, run_id: str, name: str) -> str:
    """Return the text in a file of a run."""
    return content(client, run_id, name).decode()


def content(client: MlflowClient, run_id: str, name: str) -> bytes:
    """Return what is in a file of a run."""
    with tempfile.TemporaryDirectory() as folder:
        return Path(client.download_artifacts(run_id, name, folder)).read_bytes()


def environment(benchmark: Benchmark) -> dict[str, Any]:
    """Return the recorded description of the machine that trained a benchmark's cells, and of its data.

    If workers trained them, it is that of their machines, joined; `mixed` lists the backends whose workers' machines
    are not alike, so that chance decides which of them trains a cell.
    """
    client = store.client(benchmark.uri)
    found: dict[str, Any] = json.loads(text(client, benchmark.run_id, "environment.json"))
    files = [file.path for file in client.list_artifacts(benchmark.run_id, MACHINES)]
    backends = Counter(Path(file).name.rpartition("-")[0] for file in files)
    mixed = sorted(backend for backend, count in backends.items() if count > 1)
    told = joined([json.loads(text(client, benchmark.run_id, file)) for file in files])
    return found | told | ({"mixed": mixed} if mixed else {})


def joined(machines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one description of several machines: an entry that is not the same on all has all values that there are.

    >>> machines = {"packages": {"torch": "2.13", "keras": ABSENT}}, {"packages": {"torch": "2.14", "keras": "3.15"}}
    >>> joined(machines)
    {'packages': {'torch': '2.13 and 2.14', 'keras': '3.15'}}
    """
    names = dict.fromkeys(name for each in machines for name in each)
    return {name: _joined([each[name] for each in machines if name in each]) for name in names}


def _joined(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Mapping):
        return joined(values)
    if isinstance(values[0], list):
        return [entry for each in values for entry in each]
    known = [each for each in values if each not in (ABSENT, "")] or values
    alike = all(each == known[0] for each in known)
    return known[0] if alike else " and ".join(sorted({str(each) for each in known}))


def metrics(benchmark: Benchmark) -> dict[str, float]:
    """Return the metrics of a benchmark's run."""
    found: dict[str, float] = store.client(benchmark.uri).get_run(benchmark.run_id).data.metrics
    return found


def table(benchmark: Benchmark, name: str) -> pd.DataFrame:
    """Return a table that was published with a benchmark."""
    return pd.read_csv(StringIO(text(store.client(benchmark.uri), benchmark.run_id, name)))


def audits(benchmark: Benchmark) -> dict[str, Audit]:
    """Return the audits of a benchmark's networks, by the names of their files in its folder AUDITS.

    Raises:
        ValueError: if another release recorded them, whose audits this one cannot read.
    """
    client = store.client(benchmark.uri)
    files = sorted(file.path for file in client.list_artifacts(benchmark.run_id, AUDITS))
    names = [Path(file).stem for file in files if file.endswith(".json")]
    return {
        name: Audit.from_json(text(client, benchmark.run_id, f"{AUDITS}/{name}.json"), f"{AUDITS}/{name}.json")
        for name in names
    }


def handed_over(benchmark: Benchmark, name: str) -> Any:
    """Return the result that a worker stored with `recording.hand_over`."""
    return json.loads(text(store.client(benchmark.uri), benchmark.run_id, f"workers/{name}.json"))["result"]


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

"""The parts of a benchmark's record: files in its run that hold many cells each, one row a cell.

A report needs something of every cell, so it reads these few files in place of every cell's own. Under `record: group`
they are all that there is of a cell, whose address is then the id of the benchmark's run and the cell's key.

A cell's tables (`training/files.py`) are columns of lists, such as `history/test_loss`. A column that some cells lack,
because their networks have fewer layers, is empty for these.
"""

import json
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from uuid import uuid4

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri
from numpy.typing import NDArray
from safetensors.numpy import load, save

from tasks.core.training import files
from tasks.core.training.files import Columns
from tasks.core.training.outcome import Outcome
from tasks.tracking import places, store
from tasks.tracking.runs import Run
from tasks.tracking.store import MARK

CELLS, MODELS = "cells", "models"  # folders in the benchmark's run: the parts, and what a report does not need of them


@dataclass(frozen=True)
class Kept:
    """A cell that is kept, with its key; run_id is the id of its run, or its address if its run is not written."""

    key: str
    run: Run
    outcome: Outcome
    run_id: str = ""


def address(run_id: str, key: str) -> str:
    """Return the address of a cell without a run of its own, from the run id of its benchmark and its key.

    >>> address("f00d", "c0ffee")
    'f00d#c0ffee'
    """
    return f"{run_id}{MARK}{key}"


def run_of(address: str) -> str:
    """Return the id of the run that holds a cell: its own, or that of its benchmark.

    >>> run_of("f00d"), run_of("f00d#c0ffee")
    ('f00d', 'f00d')
    """
    return address.partition(MARK)[0]


def has_no_run(address: str) -> bool:
    """Tell whether this is the address of a cell without a run of its own."""
    return MARK in address


def put(uri: str, run_id: str, cells: Sequence[Kept], *, whole: bool) -> None:
    """Keep cells as one more part of a benchmark; whole: with their predictions and weights, too."""
    name = f"{time.time_ns()}-{uuid4().hex}.parquet"  # names sort by age
    parts = {f"{MODELS}/{name}": _models(cells)} if whole else {}  # first, so that cells that are found have them
    places.put(_location(uri, run_id), uri, parts)
    places.put(_location(uri, run_id), uri, {f"{CELLS}/{name}": _cells(cells)})


@cache
def _location(uri: str, run_id: str) -> str:
    return str(store.client(uri).get_run(run_id).info.artifact_uri)


def _cells(cells: Sequence[Kept]) -> bytes:
    trained = [each.outcome.trained for each in cells]
    columns: dict[str, object] = {
        "key": [each.key for each in cells],
        "run_id": [each.run_id for each in cells],
        "status": [each.outcome.status for each in cells],
        "ended": [each.run.ended for each in cells],
        "tags": [json.dumps(dict(each.run.tags)) for each in cells],
        "params": [json.dumps(dict(each.run.params)) for each in cells],
        "metrics": [json.dumps({name: value for name, _, value in each.run.points}) for each in cells],
    }
    columns |= _lists("history", [files.history(each) if each else {} for each in trained])
    columns |= _lists("layers", [files.layers(each.signals, each.described) if each else {} for each in trained])
    columns |= _lists("bits", [files.bits(each.bits) if each else {} for each in trained])
    return _parquet(columns)


def _models(cells: Sequence[Kept]) -> bytes:
    trained = [each.outcome.trained for each in cells]
    columns: dict[str, object] = {
        "key": [each.key for each in cells],
        "weights": [save(each.weights) if each else None for each in trained],
    }
    columns |= _lists("predictions", [files.predictions(each.predictions) if each else {} for each in trained])
    return _parquet(columns)


def _lists(name: str, tables: Sequence[Columns]) -> dict[str, object]:
    """Return the columns of many cells' tables as columns of lists; a cell without a column has none there."""
    names = dict.fromkeys(column for table in tables for column in table)
    return {f"{name}/{column}": [table.get(column) for table in tables] for column in names}


def _parquet(columns: Mapping[str, object]) -> bytes:
    content = BytesIO()
    pq.write_table(pa.table(dict(columns)), content, compression="zstd")
    return content.getvalue()


def rows(uri: str, run_id: str, columns: Sequence[str]) -> pd.DataFrame:
    """Return these columns of all cells in a benchmark's parts; of a cell that is there twice, the last row.

    The table is empty if the benchmark has no parts.
    """
    found = [table.select(columns).to_pandas() for table in _read(uri, run_id, CELLS, lambda name: name in columns)]
    table = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(columns))
    return table.drop_duplicates(columns[0], keep="last")


def tables(uri: str, run_id: str, ids: Collection[str], name: str) -> pd.DataFrame:
    """Return the rows of this table of many cells, those with these run ids or addresses, with a column `run_id`.

    Of a cell that is there twice, the rows are those of the newest part.
    """
    left, found = {*ids}, []
    parts = [*_read(uri, run_id, CELLS, lambda column: column == "run_id" or column.startswith(f"{name}/"))]
    for part in parts[::-1]:
        chosen = part.filter(pc.is_in(part["run_id"], pa.array([*left], pa.string())))
        left -= {*chosen["run_id"].to_pylist()}
        found += [_long(chosen, f"{name}/")] if len(chosen) else []
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["run_id"])


def _long(part: pa.Table, prefix: str) -> pd.DataFrame:
    """Return columns of lists as a long table: a row for each entry of a cell's lists."""
    lists = {name: part[name].combine_chunks() for name in part.column_names if name.startswith(prefix)}
    if not lists:
        return pd.DataFrame({"run_id": []})
    lengths = np.max([pc.fill_null(pc.list_value_length(each), 0).to_numpy() for each in lists.values()], axis=0)
    found = {"run_id": np.repeat(part["run_id"].to_numpy(), lengths)}
    for name, each in lists.items():
        found[name.removeprefix(prefix)] = _flat(each, lengths)
    return pd.DataFrame(found)


def _flat(lists: pa.Array, lengths: NDArray[np.int32]) -> NDArray[np.generic]:
    """Return the entries of lists of these lengths one after another; NaN where a list is missing."""
    there = lists.is_valid().to_numpy(zero_copy_only=False)
    values = lists.flatten().to_numpy(zero_copy_only=False)
    if there.all():
        return np.asarray(values)
    found = np.full(int(lengths.sum()), np.nan, object if values.dtype == object else np.float64)
    found[np.repeat(there, lengths)] = values
    return found


def weights(uri: str, address: str) -> dict[str, NDArray[np.float32]]:
    """Return the trained variables of a cell without a run of its own, by their names in the framework's own model."""
    run_id, _, key = address.partition(MARK)
    for part in _read(uri, run_id, MODELS, lambda name: name in ("key", "weights")):
        found = part.filter(pc.equal(part["key"], key))
        if len(found):
            return dict(load(found["weights"][0].as_py()))
    raise store.StoreError(f"the weights of {address} must be in its benchmark's run; they are gone")


def _read(uri: str, run_id: str, folder: str, wanted: Callable[[str], bool]) -> Iterator[pa.Table]:
    """Yield the wanted columns of each part of a benchmark, the oldest first."""
    location = _location(uri, run_id)
    if is_local_uri(location):
        yield from _tables(Path(local_file_uri_to_path(location), folder), wanted)
        return
    with tempfile.TemporaryDirectory() as name:
        try:
            place = get_artifact_repository(location, tracking_uri=uri).download_artifacts(folder, name)
        except MlflowException:  # there are none
            return
        yield from _tables(Path(place), wanted)


def _tables(folder: Path, wanted: Callable[[str], bool]) -> Iterator[pa.Table]:
    for file in sorted(folder.glob("[!.]*.parquet")):
        opened = pq.ParquetFile(file)
        yield opened.read([name for name in opened.schema_arrow.names if wanted(name)])

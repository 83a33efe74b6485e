"""A store that is one SQLite file: what can be wrong with it, how it is made, and how it finds its files when moved.

The files of runs lie in `mlruns` beside it. MLflow records their places as absolute paths. What SQL needs takes a
second to import, so it is imported where there is such a store.
"""

import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path

from mlflow.utils.file_utils import local_file_uri_to_path
from mlflow.utils.uri import is_local_uri

from tasks import folders, sqlite

ARTIFACTS = "mlruns"
PATHS = {  # columns with the place of files, by table
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}


def artifacts(file: Path) -> Path:
    """Return the folder in which runs of a store keep their files."""
    return file.parent / ARTIFACTS


def fault(file: Path) -> str:
    """Return in words, with a remedy, why a store cannot be used, made or not; empty if it can. Make no file."""
    words = folders.fault(file.parent) or folders.fault(artifacts(file))
    if words or not file.exists():
        return words
    return sqlite.fault(file) or _half_made(file)


def _half_made(file: Path) -> str:
    left = sqlite.half_made(file)
    if left is None:
        return ""
    if not _holds_runs(file):
        return f"{file} is only half made, and holds no run; unless a process is making it now, delete it: rm '{file}'*"
    drop = "; ".join(f"DROP TABLE {name}" for name in left)
    mend = f"sqlite3 '{file}' '{drop}'; mlflow db upgrade 'sqlite:///{file}'"
    return f"{file} was being changed by another release of MLflow, to no end; restore a copy of it, or try: {mend}"


def _holds_runs(file: Path) -> bool:
    with closing(sqlite.looked_at(file)) as database:
        return _has(database, "runs") and bool(database.execute("SELECT 1 FROM runs LIMIT 1").fetchall())


def _has(database: sqlite3.Connection, table: str) -> bool:
    return bool(database.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchall())


def deleted(file: Path) -> list[str]:
    """Return the names of the experiments in a store, made or not, that were deleted in MLflow's page."""
    if not file.exists():
        return []
    with closing(sqlite.looked_at(file)) as database:
        query = "SELECT name FROM experiments WHERE lifecycle_stage = 'deleted' AND name LIKE 'initbench/%'"
        return [name for (name,) in database.execute(query)] if _has(database, "experiments") else []


def make(file: Path) -> None:
    """Make a store that holds nothing if there is none. The caller holds the lock of the folder."""
    sqlite.make(file, _fill)


def _fill(file: Path) -> None:
    from mlflow.store.db.utils import _initialize_tables
    from sqlalchemy import NullPool, create_engine

    engine = create_engine(f"sqlite:///{file}", poolclass=NullPool)  # leaves no connection open
    _initialize_tables(engine)  # as MLflow does when it opens an empty database


@cache
def followed(file: Path) -> str:
    """Have a store find its files beside it again, after both were moved or copied; return in words what was done.

    Each experiment keeps its files in a folder `mlruns`. If that is not the one beside the store, and files of runs or
    models are in the one beside the store, the paths of these files are changed. If it is nowhere, new runs get the one
    beside the store, and the paths of earlier runs stay: their disk may come back. The caller holds the lock of the
    folder.
    """
    with closing(sqlite3.connect(file)) as database, database:
        others = {
            root for (place,) in database.execute("SELECT artifact_location FROM experiments") if (root := _root(place))
        }
        moved = {_follow(database, root, artifacts(file)) for root in others}  # MLflow spells one folder in two ways
    return "; ".join(sorted(moved - {""}))


def _root(place: str) -> str:
    """Return the start of a place up to its folder `mlruns`, or nothing if it has none on this machine.

    >>> _root("file:///home/me/mlruns/2"), _root("s3://bucket/mlruns/2"), _root("/elsewhere/2")
    ('file:///home/me/mlruns', '', '')
    """
    start, found, _ = f"{place}/".rpartition(f"/{ARTIFACTS}/")
    return f"{start}/{ARTIFACTS}" if found and is_local_uri(place) else ""


def _follow(database: sqlite3.Connection, root: str, beside: Path) -> str:
    before, after = Path(local_file_uri_to_path(root)), beside.as_uri() if root.startswith("file:") else str(beside)
    if before.resolve() == beside.resolve():
        return ""
    places = database.execute("SELECT artifact_uri FROM runs UNION ALL SELECT artifact_location FROM logged_models")
    ends = (place.removeprefix(root) for (place,) in places if place.startswith(f"{root}/"))
    here = any(Path(local_file_uri_to_path(after + end)).exists() for end in ends)
    if not here and before.exists():
        return ""
    for table, names in PATHS.items() if here else [("experiments", PATHS["experiments"])]:
        for name in names:
            database.execute(
                f"UPDATE {table} SET {name} = ? || substr({name}, ?) WHERE {name} = ? OR substr({name}, 1, ?) = ?",  # noqa: S608  # names of this module
                (after, len(root) + 1, root, len(root) + 1, f"{root}/"),
            )
    return f"the files of {before} are now in {beside}; the store has their new paths" if here else ""

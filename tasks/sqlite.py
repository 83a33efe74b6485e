"""SQLite databases that several processes share: how one is made, looked at without a trace, and found half made."""

import os
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

LOGS = ("-wal", "-shm", "-journal")  # ends of the names of what SQLite may leave beside a database
BROKEN_OFF = "_alembic_tmp_"  # start of the names of tables that exist only while Alembic changes other tables


def file_of(uri: str) -> Path | None:
    """Return the file of an SQLite database, made or not; None if the database is of another kind, or in memory.

    >>> file_of("sqlite:////data/mlflow.db"), file_of("http://127.0.0.1:5000"), file_of("sqlite://")
    (PosixPath('/data/mlflow.db'), None, None)
    """
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(uri)
    except ArgumentError:
        return None
    held = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    return Path(str(url.database)).absolute() if held else None


def make(file: Path, fill: Callable[[Path], None]) -> None:
    """Make a database in WAL mode if there is none; `fill` makes its tables, in a file that has another name meanwhile.

    If the process is killed, there is still no database. The caller holds the lock of the folder.
    """
    if file.exists():
        return
    part = file.with_name(f"{file.name}.part")
    _remove([part, *_logs(part)])
    fill(part)
    with closing(sqlite3.connect(part)) as database:
        database.execute("PRAGMA journal_mode=WAL")  # recording a cell then takes a fifth of the time
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    _remove(_logs(file))  # the log of a database that was deleted would be read into the new one
    part.rename(file)


def _logs(file: Path) -> list[Path]:
    return [file.with_name(file.name + end) for end in LOGS]


def _remove(files: Iterable[Path]) -> None:
    for each in files:
        each.unlink(missing_ok=True)


def looked_at(file: Path) -> sqlite3.Connection:
    """Return a connection for reading that makes no file."""
    in_use = file.with_name(f"{file.name}-wal").exists()  # or left by a process that was killed
    return sqlite3.connect(f"{file.as_uri()}?{'mode=ro' if in_use else 'immutable=1'}", uri=True)


def fault(file: Path) -> str:
    """Return in words why a database cannot be used; empty if it can, or is half made. Make no file."""
    try:
        os.close(os.open(file, os.O_RDWR))
        with closing(looked_at(file)) as database:
            database.execute("SELECT 1 FROM sqlite_master").fetchall()
    except OSError as error:
        return f"{file} cannot be written to: {error.strerror}"
    except sqlite3.Error as error:
        return f"{file} must be an SQLite database; SQLite says: {error}"
    return ""


def half_made(file: Path) -> list[str] | None:
    """Return None if Alembic has made a database to its end, or not begun; else the tables that it left over.

    Raises:
        sqlite3.Error: if it is no database.
    """
    with closing(looked_at(file)) as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        left = [name for name in tables if name.startswith(BROKEN_OFF)]
        made = "alembic_version" in tables and database.execute("SELECT 1 FROM alembic_version").fetchall()
        return None if not left and (made or not tables) else left

"""PostgreSQL databases that several processes share: a lock for making tables, and how half-made ones are found.

What SQL needs takes a second to import, so it is imported where there is such a database.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg import Connection
    from sqlalchemy.engine import URL

MAKING = 0x6D616B65  # the number of the advisory lock under which tables are made; it spells make
CONNECT_SECONDS = 10
POLL_SECONDS = 0.1
VERSION = "alembic_version"


def url_of(given: str) -> "URL | None":
    """Return the URL of a PostgreSQL database as `psycopg.connect` takes it; None if the URL is of another kind.

    >>> url_of("postgresql+asyncpg://me@host/prefect?ssl=require"), url_of("sqlite:///mlflow.db")
    (postgresql://me@host/prefect?sslmode=require, None)
    """
    if not given.startswith("postgresql"):
        return None
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(given)
    except ArgumentError:
        return None
    if url.get_backend_name() != "postgresql":
        return None
    if url.get_driver_name() == "asyncpg":  # has names of its own for options, and of these only one has a counterpart
        url = url.set(query={"sslmode": url.query["ssl"]} if "ssl" in url.query else {})
    return url.set(drivername="postgresql")


@contextmanager
def alone(url: "URL") -> Iterator[None]:
    """Hold the lock under which a database's tables are made, once other processes have released it.

    The lock ends with the process, too. It is asked for again and again: a process that waits inside PostgreSQL would
    hold up the making of indexes, and so the process that it waits for.

    Raises:
        OSError: if the database cannot be reached.
    """
    with _connected(url) as connection:
        while connection.execute("SELECT pg_try_advisory_lock(%s)", [MAKING]).fetchone() != (True,):
            time.sleep(POLL_SECONDS)
        yield


@contextmanager
def _connected(url: "URL") -> Iterator["Connection"]:
    import psycopg

    address = url.render_as_string(hide_password=False)
    try:
        connection = psycopg.connect(address, autocommit=True, connect_timeout=CONNECT_SECONDS)
    except psycopg.Error as error:
        raise ConnectionError(" ".join(str(error).split())) from None
    with connection:
        yield connection


def half_made(url: "URL") -> bool:
    """Tell whether a database has tables of which Alembic does not know, so that it would make them again, and fail.

    Raises:
        OSError: if the database cannot be reached.
    """
    with _connected(url) as connection:
        query = "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()"
        tables = {name for (name,) in connection.execute(query)}
        known = VERSION in tables and connection.execute(f"SELECT 1 FROM {VERSION}").fetchone()  # noqa: S608  # a constant
        return bool(tables) and not known


def remedy(url: "URL") -> str:
    """Return in words what a half-made database is, and what to do."""
    return (
        f"{url!r} is only half made; unless a process is making it now, make it anew, or use another one: "
        f"dropdb {url.database}; createdb {url.database}"
    )

"""The databases of the servers that `initbench up` runs, and the secrets that the servers ask for."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from dotenv import dotenv_values
from psycopg import sql
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from tasks.tracking import store

LEASE = 0x696E6974  # the number of the advisory lock that `up` holds; it spells init
SERVERS = ("prefect", "mlflow")  # each has a database of its own
SECRETS = (  # in .initbench/secrets.env: for Prefect's clients and server, then for MLflow's clients and server
    "PREFECT_API_AUTH_STRING",
    "PREFECT_SERVER_API_AUTH_STRING",
    "MLFLOW_TRACKING_USERNAME",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_AUTH_ADMIN_PASSWORD",
    "MLFLOW_FLASK_SERVER_SECRET_KEY",
)


def on_sqlite(state: Path) -> dict[str, str]:
    """Return the variables that make the servers keep their data in SQLite, in the current folder.

    MLflow's data are where a run without a server keeps them, so that both find the same cells.
    """
    store.open_store(store.local_uri())  # makes the store, in WAL mode
    return {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{state / 'prefect' / 'prefect.db'}",
        "MLFLOW_BACKEND_STORE_URI": store.local_uri(),
        "MLFLOW_DEFAULT_ARTIFACT_ROOT": store.local_artifacts(),
    }


def on_postgres(given: str) -> dict[str, str]:
    """Return the variables that make the servers keep their data in PostgreSQL; make the databases if needed.

    Raises:
        ValueError: if the URL is not that of a PostgreSQL server, or the server cannot be used.
    """
    example = "postgresql://user:password@host:5432/initbench"
    try:
        url = make_url(given)
    except ArgumentError:
        raise ValueError(f"--postgres must be a URL like {example}") from None
    if url.get_backend_name() != "postgresql":
        raise ValueError(f"--postgres must be a URL like {example}; got one of {url.drivername}")
    names = {each: f"{url.database or 'initbench'}_{each}" for each in SERVERS}
    try:
        with psycopg.connect(_url(url, "postgresql", "postgres"), autocommit=True, connect_timeout=10) as connection:
            there = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
            for name in sorted({*names.values()} - there):
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    except psycopg.Error as error:
        said = " ".join(str(error).split())
        raise ValueError(f"--postgres must be a server whose user may create databases; {url!r} says: {said}") from None
    asynchronous = {"ssl" if name == "sslmode" else name: value for name, value in url.query.items()}  # asyncpg's name
    return {
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": _url(
            url.set(query=asynchronous), "postgresql+asyncpg", names["prefect"]
        ),
        "MLFLOW_BACKEND_STORE_URI": _url(url, "postgresql+psycopg", names["mlflow"]),
    }


@contextmanager
def leased(given: str) -> Iterator[None]:
    """Hold the databases of a PostgreSQL URL for one `initbench up`: two would end each other's runs.

    PostgreSQL ends the lease when the connection ends, which it does with this process.

    Raises:
        ValueError: if another `up`, on any machine, holds them, or the URL or the server cannot be used.
    """
    url = make_url(on_postgres(given)["MLFLOW_BACKEND_STORE_URI"])
    address = url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as connection:
        if connection.execute("SELECT pg_try_advisory_lock(%s)", [LEASE]).fetchone() != (True,):
            raise ValueError(
                f"databases can be used by one `initbench up` at a time; those of {make_url(given)!r} are in use"
            )
        yield


def _url(url: URL, driver: str, database: str) -> str:
    return url.set(drivername=driver, database=database).render_as_string(hide_password=False)


def secrets_of(file: Path) -> dict[str, str]:
    """Return the secrets in a file; make the file with new secrets if needed, readable by its owner alone.

    Raises:
        ValueError: if the file lacks a secret: without it, a server would not ask for a password.
    """
    if not file.exists():
        prefect, mlflow, cookies = (secrets.token_urlsafe(24) for _ in range(3))
        made = zip(SECRETS, (f"admin:{prefect}", f"admin:{prefect}", "admin", mlflow, mlflow, cookies), strict=True)
        unfinished = file.with_suffix(".part")
        unfinished.unlink(missing_ok=True)
        unfinished.touch(mode=0o600)
        unfinished.write_text("".join(f"{name}={secret}\n" for name, secret in made))
        unfinished.replace(file)
    kept = {name: value for name, value in dotenv_values(file).items() if value}
    lacking = [name for name in SECRETS if name not in kept]
    if lacking:
        raise ValueError(f"{file} must set {', '.join(SECRETS)}; it lacks {', '.join(lacking)}")
    return kept

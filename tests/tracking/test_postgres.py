"""Stores in PostgreSQL: made by several processes together, half made, and out of reach."""

import subprocess
import sys

import psycopg
import pytest
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from prefect.settings import (
    PREFECT_API_DATABASE_CONNECTION_URL,
    PREFECT_API_URL,
    PREFECT_HOME,
    temporary_settings,
)

from flows.serving import databases, doctor
from flows.serving.server import ServerError, check_home
from tasks import postgres as shared
from tasks.tracking import store
from tests.shared.postgres import free_port, postgres  # noqa: F401  # a fixture
from tests.shared.running import own_environment

PROCESS = """
import sys
from tasks import postgres
from tasks.tracking import store

store.client(sys.argv[1])
print("store", flush=True)
from flows.serving import private

private.make_on_postgres(postgres.url_of(sys.argv[2]))
print("home", flush=True)
"""


@pytest.fixture
def made(postgres, request):  # noqa: F811  # a fixture
    """Return the URLs of a new database for MLflow, and of one for Prefect."""
    found = databases.on_postgres(f"{postgres}_{request.node.name}".lower())
    yield found["MLFLOW_BACKEND_STORE_URI"], found["PREFECT_SERVER_DATABASE_CONNECTION_URL"]
    for engine in SqlAlchemyStore._engine_map.values():
        engine.dispose()  # MLflow keeps its connections


def answers(uri, query):
    address = shared.url_of(uri).render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as connection:
        done = connection.execute(query)
        return done.fetchall() if done.description else []


def test_first_processes_together(folder, made, eventually):
    """A process is killed while it makes the store. Of two others one goes on, and the other waits for it."""
    mlflow, prefect = made
    environment = own_environment(folder) | {"PYTHONPATH": ":".join(sys.path), PREFECT: prefect}

    def start():
        return subprocess.Popen(
            [sys.executable, "-c", PROCESS, mlflow, prefect],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    killed = start()
    eventually(lambda: answers(mlflow, "SELECT 1 FROM pg_tables WHERE tablename = 'runs'"))
    killed.kill()
    killed.communicate()
    assert shared.half_made(shared.url_of(mlflow))
    for each in [start(), start()]:
        said, errors = each.communicate()
        assert said == "store\nhome\n", errors
    for uri in made:
        assert len(answers(uri, "SELECT * FROM alembic_version")) == 1
    assert answers(mlflow, "SELECT name FROM experiments") == [("Default",)]


PREFECT = PREFECT_API_DATABASE_CONNECTION_URL.name


def test_half_made(folder, made, monkeypatch):
    """Tables that are not of the making are told in one line with a remedy, by run and doctor."""
    mlflow, prefect = made
    for uri, table in ((mlflow, "runs"), (prefect, "flow")):
        answers(uri, f"CREATE TABLE {table} (id int)")
    with pytest.raises(store.StoreError, match=r"only half made; .* dropdb .*_mlflow; createdb .*_mlflow$"):
        store.client(mlflow)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow)
    changes = {PREFECT_HOME: folder, PREFECT_API_DATABASE_CONNECTION_URL: prefect}
    with temporary_settings(changes, restore_defaults={PREFECT_API_URL}):
        with pytest.raises(ServerError, match=r"only half made; .* createdb .*_prefect$"):
            check_home()
        for line in (*doctor.mlflow_server(), *doctor.prefect_database()):
            assert "is only half made" in line.found
            assert "createdb" in line.remedy
            assert "password@" not in line.found


def test_out_of_reach(folder):
    """A database that does not answer is told at once, without its password."""
    there = f"postgresql+psycopg://me:secret@127.0.0.1:{free_port()}/x"
    with pytest.raises(store.StoreError, match="Connection refused") as error:
        store.client(there)
    assert "secret" not in str(error.value)
    changes = {PREFECT_HOME: folder, PREFECT_API_DATABASE_CONNECTION_URL: there.replace("psycopg", "asyncpg")}
    with (
        temporary_settings(changes, restore_defaults={PREFECT_API_URL}),
        pytest.raises(ServerError, match="Connection refused"),
    ):
        check_home()

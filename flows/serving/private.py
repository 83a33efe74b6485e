"""The private Prefect server as a program, for a database that is not made yet, or is in PostgreSQL.

It makes the database and then becomes the server. If several processes start with one database, one makes it and the
others wait for it. An SQLite file is there whole or not at all; in PostgreSQL each process goes on from the last step
of Prefect's migrations that was done.
"""

import asyncio
import os
import sys
from pathlib import Path

from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL as DATABASE
from prefect.settings import temporary_settings
from sqlalchemy.engine import URL, make_url

from tasks import folders, postgres, sqlite


def make(file: Path) -> None:
    """Make Prefect's database if there is none. If the process is killed meanwhile, there is still none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with folders.alone(file.parent):
        sqlite.make(file, lambda part: asyncio.run(_migrate(f"sqlite+aiosqlite:///{part}")))


def make_on_postgres(url: URL) -> None:
    """Make the tables of the configured database, which has this URL, or what is left to make of them."""
    with postgres.alone(url):
        asyncio.run(_migrate(str(DATABASE.value())))


async def _migrate(url: str) -> None:
    with temporary_settings({DATABASE: url}):
        from prefect.server.database.dependencies import provide_database_interface

        database = provide_database_interface()
        await database.create_db()
        await (await database.engine()).dispose()


if __name__ == "__main__":
    if url := postgres.url_of(str(DATABASE.value())):
        make_on_postgres(url)
    else:
        make(Path(str(make_url(str(DATABASE.value())).database)))
    os.execv(sys.executable, [sys.executable, "-m", "prefect", "server", "start", *sys.argv[1:]])  # noqa: S606  # no shell is meant

"""The private Prefect server as a program, for a home of Prefect's that has no database yet.

It makes the database, whole or not at all, and then becomes the server. If several processes start in one empty home,
one makes the database and the others wait for it.
"""

import asyncio
import os
import sys
from pathlib import Path

from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL as DATABASE
from prefect.settings import temporary_settings

from tasks import folders, sqlite


def make(file: Path) -> None:
    """Make Prefect's database if there is none. If the process is killed meanwhile, there is still none."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with folders.alone(file.parent):
        sqlite.make(file, lambda part: asyncio.run(_migrate(f"sqlite+aiosqlite:///{part}")))


async def _migrate(url: str) -> None:
    with temporary_settings({DATABASE: url}):
        from prefect.server.database.dependencies import provide_database_interface

        database = provide_database_interface()
        await database.create_db()
        await (await database.engine()).dispose()


if __name__ == "__main__":
    make(Path(sys.argv[1]))
    os.execv(sys.executable, [sys.executable, "-m", "prefect", "server", "start", *sys.argv[2:]])  # noqa: S606  # no shell is meant

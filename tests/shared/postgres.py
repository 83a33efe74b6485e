"""A PostgreSQL server for tests: `from tests.shared.postgres import postgres` makes the fixture known to a module."""

import os
import shutil
import socket
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

PROGRAMS = Path("/usr/lib/postgresql/15/bin")  # where Debian keeps them; not on PATH


@pytest.fixture(scope="session")
def postgres():
    """Yield what `served` yields."""
    with served() as url:
        yield url


@contextmanager
def served():
    """Yield the URL of a new server, whose user owns it all; its database `initbench` is not there yet."""
    folder = Path(tempfile.mkdtemp(prefix="postgres-", dir="/tmp"))  # the path of its socket may have 107 characters
    as_user = []
    if os.getuid() == 0:  # as which it refuses to run
        shutil.chown(folder, "postgres")
        as_user = ["runuser", "--user", "postgres", "--"]
    (folder / "password").write_text("password")
    (folder / "password").chmod(0o644)
    data, port = folder / "data", free_port()
    settings = f"-p {port} -k {folder} -h 127.0.0.1 -c fsync=off -c full_page_writes=off -c synchronous_commit=off"
    initialize = [*as_user, PROGRAMS / "initdb", "--pgdata", data, "--username=user", f"--pwfile={folder / 'password'}"]
    control = [*as_user, PROGRAMS / "pg_ctl", "--pgdata", data, "--silent", "--wait"]
    try:
        subprocess.run(
            [*initialize, "--auth=scram-sha-256", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        subprocess.run([*control, "--log", data / "log", "--options", settings, "start"], cwd=folder, check=True)
        try:
            yield f"postgresql://user:password@127.0.0.1:{port}/initbench"
        finally:
            subprocess.run([*control, "--mode=immediate", "stop"], cwd=folder, check=True)
    finally:
        shutil.rmtree(folder)


def free_port():
    """Return a port of the loopback address on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

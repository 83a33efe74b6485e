"""`initbench up` as tests run it: in a folder of its own, on free ports, with a home of Prefect's own."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from dotenv import dotenv_values

from tests.shared.postgres import free_port

INITBENCH = Path(sys.executable).with_name("initbench")
PROXIES = {"HTTP_PROXY": "http://127.0.0.1:9", "ALL_PROXY": "socks5://127.0.0.1:9"}
START_SECONDS = 300
STOP_SECONDS = 150
ANSWER_SECONDS = 60  # a server answers within 10 s when SQLite and both processors are busy; httpx waits 5 s by default


@dataclass
class Running:
    """What runs, and what it has said."""

    process: subprocess.Popen[str]
    folder: Path
    prefect: str
    mlflow: str
    environment: dict[str, str]
    said: list[str]
    client: httpx.Client

    @property
    def secrets(self) -> dict[str, str]:
        return dict(dotenv_values(self.folder / ".initbench" / "secrets.env"))

    def get(self, path: str) -> httpx.Response:
        """Ask Prefect's API for what is at a path."""
        return self._ask("GET", path)

    def post(self, path: str, **json: object) -> httpx.Response:
        """Send JSON to a path of Prefect's API."""
        return self._ask("POST", path, json=json)

    def patch(self, path: str, **json: object) -> httpx.Response:
        """Change what is at a path of Prefect's API."""
        return self._ask("PATCH", path, json=json)

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Ask Prefect's API with the password, if there is one, until its database is not busy: as its client does."""
        credentials = self.secrets.get("PREFECT_API_AUTH_STRING")
        auth = httpx.BasicAuth(*credentials.split(":")) if credentials else None
        url = f"{self.prefect}/api/{path}"
        while True:
            answer = self.client.request(method, url, auth=auth, **options)
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return answer
            time.sleep(0.5)

    def stop(self) -> int:
        """Interrupt it as Ctrl-C does; return its exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_SECONDS)


def own_environment(folder: Path) -> dict[str, str]:
    """Return the environment of a user who has configured nothing but proxies, and whose home this folder is.

    The proxies lead nowhere, so that whatever asks one of them for an address of this machine fails.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_", "TF_"))}
    return {**kept, **PROXIES, "PREFECT_HOME": str(folder / "prefect")}


def descendants(process):
    """Return the ids of all processes below one."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    parents = dict(map(int, line.split()) for line in listed.splitlines())
    found = {process}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {process}


@contextmanager
def up(folder: Path, *options: str) -> Iterator[Running]:
    """Run `initbench up` until it is ready, and stop it in the end."""
    ports = free_port(), free_port()
    environment = own_environment(folder)
    process = subprocess.Popen(
        [INITBENCH, "up", "--prefect-port", str(ports[0]), "--mlflow-port", str(ports[1]), *options],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(process.stdout))
    reader.start()
    try:
        deadline = time.monotonic() + START_SECONDS
        while not any(line.startswith("Ready") for line in said):
            assert process.poll() is None and time.monotonic() < deadline, "".join(said)  # noqa: PT018  # one reason
            time.sleep(0.1)
        addresses = [f"http://127.0.0.1:{port}" for port in ports]
        alone = httpx.Limits(max_keepalive_connections=0)  # a server closes a connection that nobody uses
        with httpx.Client(timeout=ANSWER_SECONDS, limits=alone) as client:
            yield Running(process, folder, *addresses, environment, said, client)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(STOP_SECONDS)
        reader.join()
        process.stdout.close()

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

from dotenv import dotenv_values

from tests.shared.postgres import free_port

INITBENCH = Path(sys.executable).with_name("initbench")
START_SECONDS = 300
STOP_SECONDS = 150


@dataclass
class Running:
    """What runs, and what it has said."""

    process: subprocess.Popen[str]
    folder: Path
    prefect: str
    mlflow: str
    environment: dict[str, str]
    said: list[str]

    @property
    def secrets(self) -> dict[str, str]:
        return dict(dotenv_values(self.folder / ".initbench" / "secrets.env"))

    def stop(self) -> int:
        """Interrupt it as Ctrl-C does; return its exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_SECONDS)


def own_environment(folder: Path) -> dict[str, str]:
    """Return the environment of a user who has configured nothing, and whose home this folder is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "MLFLOW_", "TF_"))}
    return {**kept, "PREFECT_HOME": str(folder / "prefect")}


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
        yield Running(process, folder, *addresses, environment, said)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(STOP_SECONDS)
        reader.join()
        process.stdout.close()

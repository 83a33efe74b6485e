"""What Prefect offers to run: the deployments of infra/prefect.yaml and the pools that they run in."""

import subprocess
import sys
from collections.abc import Mapping
from zoneinfo import available_timezones

from flows.server import INFRA


class DeploymentError(RuntimeError):
    """The deployments could not be registered."""


def check_timezone(name: str) -> None:
    """Refuse a timezone that there is not.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in available_timezones():
        raise ValueError(f"--timezone must be one of the IANA names, like Europe/Paris; got {name!r}")


def register(environment: Mapping[str, str], timezone: str) -> None:
    """Register pools and deployments on the server that the environment names; again changes nothing.

    Raises:
        DeploymentError: if the server refuses.
    """
    for arguments in (
        ["work-pool", "create", "initbench", "--type", "process", "--overwrite"],
        ["deploy", "--all", "--prefect-file", str(INFRA / "prefect.yaml")],
    ):
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        done = subprocess.run(
            command, env={**environment, "INITBENCH_TIMEZONE": timezone}, capture_output=True, text=True, cwd=INFRA
        )
        if done.returncode:
            raise DeploymentError(f"prefect {' '.join(arguments)} failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")

"""What Prefect offers to run: the deployments of infra/prefect.yaml, their work pools, and who misses a dead worker."""

import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from zoneinfo import available_timezones

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectAlreadyExists
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.server import INFRA
from tasks import remote
from tasks.core.initializers import BACKENDS

POOLS = ("initbench", *BACKENDS)
HEARTBEAT = "heartbeat"  # the event of a flow run that lives; infra/prefect.yaml has one sent every 30 s
TAKEN = {
    "Pending",
    "Submitting",
    "InfrastructurePending",
}  # the states between a worker's taking a flow run and its start
ENDED = {"Completed", "Failed", "Cancelled", "Crashed"}
SILENCE = timedelta(seconds=90)  # longer than a restart of the server, at which heartbeats are lost
START = timedelta(seconds=120)


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
    """Register pools, deployments and automations on the server that the environment names; again changes nothing.

    Raises:
        DeploymentError: if the server refuses.
    """
    names = {"PREFECT_API_URL": PREFECT_API_URL, "PREFECT_API_AUTH_STRING": PREFECT_API_AUTH_STRING}
    with (
        temporary_settings({setting: environment.get(name) for name, setting in names.items()}),
        get_client(sync_client=True) as client,
    ):
        for pool in POOLS:
            with suppress(ObjectAlreadyExists):  # of whatever type its owner has made it
                client.create_work_pool(WorkPoolCreate(name=pool, type="process"))
        for automation in (
            _crash("Its process or machine died: no heartbeat", after={HEARTBEAT}, unless={HEARTBEAT}, within=SILENCE),
            _crash("A worker took it and never started it", after=TAKEN, unless={"Running"}, within=START),
        ):
            found = client.read_automations_by_name(automation.name)
            if found:
                client.update_automation(found[0].id, automation)
            else:
                client.create_automation(automation)
    arguments = ["deploy", "--all", "--prefect-file", str(INFRA / "prefect.yaml")]
    done = subprocess.run(
        [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
        env={**environment, "INITBENCH_TIMEZONE": timezone},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise DeploymentError(f"prefect {' '.join(arguments)} failed: {done.stdout[-1000:]}{done.stderr[-1000:]}")


def _crash(name: str, *, after: set[str], unless: set[str], within: timedelta) -> AutomationCore:
    """Return what crashes a part of a benchmark that, after an event, has none of others for so long.

    Prefect itself never misses a flow run whose machine is gone. Only parts are crashed so: they are run again.
    """
    expected = unless | ENDED
    return AutomationCore(
        name=f"initbench: {name}",
        trigger=EventTrigger(
            after={f"prefect.flow-run.{event}" for event in after},
            expect={f"prefect.flow-run.{event}" for event in expected},
            match=ResourceSpecification({"prefect.resource.id": ["prefect.flow-run.*"]}),
            match_related=ResourceSpecification(
                {"prefect.resource.role": ["flow"], "prefect.resource.name": [remote.FLOW]}
            ),
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[ChangeFlowRunState(state=StateType.CRASHED, message=name, force=True)],
    )
